"""A stage for each try: an operator with a ledger of its own, a Zentrik that misbehaves, and the comparison of books.

What is tried is also counted, and printed as one table of faults:

    python -m pytest -v tests/faults              what runs with every change
    python -m pytest -v -m long tests/faults      the rest
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.ledger import Database, State, report
from syncd.sandbox import Sandbox
from tests.faults import power_cut
from tests.stories import conftest as stories

CONFIG = """
ledger: {ledger}
lease: 2s
zentrik:
{zentrik}
connectors:
  survey:
    type: csv
    path: {folder}/inbox
    id: "{{{{ row.id }}}}"
    text: "{{{{ row.comment }}}}"
    occurred_at: "{{{{ row.at }}}}"
    settle: 0s
    after: {after}
"""


@dataclass
class Operator(stories.Operator):
    """An operator whose ledger may stand anywhere, and whose power may fail. `rows` are the ids of what was dropped."""

    ledger_url: str = ""
    rows: list[int] = field(default_factory=list)

    def drop_rows(self, *files: Collection[int]) -> None:
        """Put files of such rows into the inbox. All rows bear one of seven days, so the list of signals has ties."""
        for number, ids in enumerate(files, 1):
            lines = [f"{id_},2026-10-{id_ * 5 % 7 + 1:02},Row {id_} says something." for id_ in ids]
            self.drop(f"part-{number}.csv", "\n".join(["id,at,comment", *lines]) + "\n")
            self.rows += ids

    def syncd(self, *arguments: str, cut_off: str | None = None, limit: float = 60) -> subprocess.CompletedProcess[str]:
        """Run the command for `limit` seconds at most; with `cut_off` the power fails at that point (power_cut.py)."""
        return power_cut.run(arguments, self.environment, self.folder, cut_off, limit)

    def frozen(self, point: str, *arguments: str) -> AbstractContextManager[power_cut.Thaw]:
        """Run the command until that point, where it hangs."""
        return power_cut.frozen(arguments, self.environment, self.folder, point)

    def ledger(self) -> Database:
        found = Database.open_existing(self.ledger_url)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Balance:
    """How Zentrik's books compare with what the source showed, by externalId, and the ledger with both.

    `lost` was shown and is not at Zentrik; `doubled` is there, named once for each time too many; `astray` is what the
    ledger does not know as processed under a publicId that Zentrik has it under, or Zentrik has and nobody showed.
    """

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    astray: tuple[str, ...]

    @property
    def is_even(self) -> bool:
        """Whether everything is there, once, and known to be."""
        return not (self.lost or self.doubled or self.astray)

    def __str__(self) -> str:
        each = {"lost": self.lost, "doubled": self.doubled, "astray": self.astray}
        return "; ".join(f"{len(names)} {word} {', '.join(names[:5])}" for word, names in each.items() if names)


def balance(operator: Operator, sandbox: Sandbox) -> Balance:
    """Compare the books, once nothing is under way any more."""
    books = sandbox.books
    shown = [f"csv:survey:{row}" for row in operator.rows]
    there = {name: [str(signal["publicId"]) for signal in books.with_external_id(name)] for name in shown}
    with closing(operator.ledger()) as ledger, ledger.read() as db:
        known = {row.external_id: row for row in report.find(db)}
    astray = [
        name
        for name in {*shown, *known}
        if name not in known or known[name].state is not State.PROCESSED or known[name].public_id not in there[name]
    ]
    strangers = len(books) - sum(map(len, there.values()))
    return Balance(
        lost=tuple(name for name, ids in there.items() if not ids),
        doubled=tuple(name for name, ids in there.items() for _ in ids[1:]),
        astray=(*sorted(astray), *["a signal that nobody showed"] * strangers),
    )


@dataclass
class Stage:
    """Where tries take place, each with a folder and a ledger of its own. `ledger` names the kind of database."""

    folder: Path
    ledger: str
    new_ledger: Callable[[Path], str]
    note: Callable[[str, object], None]
    numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def operator(self, sandbox: Sandbox, *, after: str = "keep", **zentrik: str) -> Iterator[Operator]:
        """An operator with an empty inbox and an empty ledger; `zentrik` are more settings of that section."""
        home = self.folder / f"try-{next(self.numbers)}"
        (home / "inbox").mkdir(parents=True)
        settings = {"poll_interval": "100ms", "absent_after": "300ms", **zentrik}
        url = self.new_ledger(home)
        text = CONFIG.format(
            ledger=url,
            folder=home,
            after=after,
            zentrik="\n".join(f"  {name}: {value}" for name, value in settings.items()),
        )
        (home / "config.yaml").write_text(text, encoding="utf-8")
        with sandbox.in_thread() as api_base:
            yield Operator(home, api_base, ledger_url=url)

    def compare(self, fault: str, operator: Operator, sandbox: Sandbox, *, dedup: bool) -> Balance:
        """Compare the books after a try, and note it for the table."""
        found = balance(operator, sandbox)
        self.count(fault, lost=len(found.lost), doubled=len(found.doubled), dedup=dedup)
        return found

    def count(self, fault: str, *, lost: int, doubled: int, dedup: bool) -> None:
        """Note one try for the table."""
        about = {"fault": fault, "ledger": self.ledger, "dedup": dedup}
        self.note("tried", {**about, "lost": lost, "doubled": doubled})


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path: Path, record_property: Callable[[str, object], None]) -> Stage:
    """Every test that asks for it runs on both databases."""
    if request.param == "sqlite":
        return Stage(tmp_path, "SQLite", lambda home: f"sqlite:///{home}/syncd.db", record_property)
    server: sa.URL = request.getfixturevalue("postgresql")

    def new_database(home: Path) -> str:
        name = f"{tmp_path.name}_{home.name}".replace("-", "_").lower()[-60:]
        engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
        engine.dispose()
        return server.set(database=name).render_as_string(hide_password=False)

    return Stage(tmp_path, "PostgreSQL", new_database, record_property)


def on_both(kinds: Collection[str]) -> list[Any]:
    """Parameters for `stage` and the kind of a crash point. What one transaction does is tried on both databases
    elsewhere, so on PostgreSQL these are of the long part."""
    return [
        *(("sqlite", kind) for kind in kinds),
        *(pytest.param("postgresql", kind, marks=pytest.mark.long) for kind in kinds),
    ]


class OnSQLite:
    """For faults that do not reach the ledger: they are tried on one database."""

    @pytest.fixture
    def stage(self, tmp_path: Path, record_property: Callable[[str, object], None]) -> Stage:
        return Stage(tmp_path, "SQLite", lambda home: f"sqlite:///{home}/syncd.db", record_property)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was tried, when it was asked for: by `-v`, or by running the long part."""
    if config.option.verbose < 0 and config.option.markexpr != "long":
        return
    tried: dict[str, list[dict[str, Any]]] = {}
    for outcome in ("passed", "failed"):
        for done in terminalreporter.stats.get(outcome, []):
            for name, one in done.user_properties:
                if name == "tried":
                    tried.setdefault(one["fault"], []).append(one)
    if not tried:
        return
    terminalreporter.section("faults tried")
    terminalreporter.write_line("| fault | ledger | the server deduplicates | tries | lost | doubled |")
    terminalreporter.write_line("|---|---|---|--:|--:|--:|")
    everything = [one for some in tried.values() for one in some]
    for fault, tries in [*sorted(tried.items()), ("**all of them**", everything)]:
        ledgers = ", ".join(sorted({one["ledger"] for one in tries}))
        dedup = ", ".join(sorted({"yes" if one["dedup"] else "no" for one in tries}))
        lost, doubled = (sum(one[name] for one in tries) for name in ("lost", "doubled"))
        terminalreporter.write_line(f"| {fault} | {ledgers} | {dedup} | {len(tries)} | {lost} | {doubled} |")
