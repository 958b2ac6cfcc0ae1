"""Copying a ledger into another database: all of it arrives as it was, or nothing does and it is told why."""

from __future__ import annotations

import asyncio
import signal as signals_of_processes
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.errors import LedgerError, LedgerUnusable
from syncd.fates import Accepted
from syncd.ledger import Answer, Database, Ledger, State
from syncd.ledger.copy import CopyRefused, copy
from syncd.ledger.tables import bodies, events, metadata, runs, set_aside, signals
from syncd.records import SetAside
from tests.conftest import Clock, dies, rows, signal, source

ROOT = Path(__file__).parents[2]
SOURCE = source()
NOW = Clock()()

NewLedger = Callable[[str, str], str]

KILLED = """
import os, signal, sys
from syncd.ledger import Database
from syncd.ledger.copy import copy

def watch(step, rows):
    if step == "copying " + sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

copy(Database.open_existing(sys.argv[1]), sys.argv[2], watch)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def to(request: pytest.FixtureRequest, empty_ledger: NewLedger) -> str:
    """The address of an empty database to copy into: with `ledger_url`, every direction there is."""
    return empty_ledger(request.param, "copy.db")


@pytest.fixture
def here(ledger_url: str) -> Iterator[Database]:
    """The ledger that is copied, empty yet."""
    with closing(Database(ledger_url)) as opened:
        yield opened


def held(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table as the driver gives it, sorted."""
    with database.read() as db:
        return {
            name: sorted((tuple(row) for row in db.exec_driver_sql(f"SELECT * FROM {name}")), key=repr)
            for name in metadata.tables
        }


def held_at(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with closing(Database(url)) as database:
        return held(database)


def is_empty(url: str) -> bool:
    """Whether there is nothing there: no ledger, or one without a row."""
    database = Database.open_existing(url)
    if database is None:
        return True
    with closing(database):
        return not any(held(database).values())


def enter(database: Database, *values: dict[str, Any]) -> None:
    """Enter signals, past the types that would keep odd content out."""
    plain = {
        "connector": "reviews", "state": "queued", "fingerprint": b"\0", "first_seen_at": 1,
        "attempts": 0, "failures": 0, "looks": 0, "reruns": 0,
    }  # fmt: skip
    names = {name for value in values for name in value} | plain.keys()
    table = sa.table("signals", *(sa.column(name) for name in names))
    with database.write() as db:
        for value in values:
            db.execute(sa.insert(table).values(plain | value))


def numbered(count: int) -> Iterator[dict[str, Any]]:
    """So many signals."""
    return ({"id": number, "external_id": f"r-{number}"} for number in range(1, count + 1))


MEDDLING = {
    "sqlite": {
        "change": "UPDATE signals SET name = 'other' WHERE id = NEW.id",
        "drop": "DELETE FROM signals WHERE id = NEW.id",
        "refuse": "SELECT RAISE(ABORT, 'not in here')",
    },
    "postgresql": {
        "change": "NEW.name = 'other'; RETURN NEW",
        "drop": "RETURN NULL",
        "refuse": "RAISE EXCEPTION 'not in here'",
    },
}


@pytest.fixture
def meddle(to: str) -> Callable[[str], None]:
    """Have the target do something with every signal it is given: `change`, `drop` or `refuse` it."""

    def prepare(what: str) -> None:
        with closing(Database(to)) as target, target.write() as db:
            action = MEDDLING[db.dialect.name][what]
            if db.dialect.name == "sqlite":
                db.exec_driver_sql(f"CREATE TRIGGER meddle AFTER INSERT ON signals BEGIN {action}; END")
            else:
                does = f"$$ BEGIN {action}; END $$ LANGUAGE plpgsql"
                db.exec_driver_sql(f"CREATE FUNCTION meddle() RETURNS trigger AS {does}")
                on = "BEFORE INSERT ON signals FOR EACH ROW EXECUTE FUNCTION meddle()"
                db.exec_driver_sql(f"CREATE TRIGGER meddle {on}")

    return prepare


# Content


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
BIG = st.integers(-(2**63), 2**63 - 1)
STORED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (sa.Text, TEXT),
    (sa.BigInteger, BIG),
    (sa.Integer, st.integers(-(2**31), 2**31 - 1)),
    (sa.Float, st.floats(allow_nan=False).map(lambda number: number + 0.0)),  # SQLite keeps no minus before a zero
    (sa.LargeBinary, st.binary(max_size=20)),
]
"""What may stand in a column of each type, in the form it is stored in."""


def stored(column: sa.Column[Any]) -> st.SearchStrategy[Any]:
    """Whatever the column may hold."""
    kind = getattr(column.type, "impl_instance", column.type)
    if column is column.table.autoincrement_column:
        return st.integers(1, 2**40)
    [values, *_] = [values for type_, values in STORED if isinstance(kind, type_)]
    return st.none() | values if column.nullable else values


@st.composite
def contents(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """Rows for every table there is, also for those yet to come: unique keys, and parents that are there."""
    drawn: dict[str, list[dict[str, Any]]] = {}
    for table in metadata.sorted_tables:
        columns: dict[str, st.SearchStrategy[Any]] = {}
        for column in table.columns:
            parents = [row[key.column.name] for key in column.foreign_keys for row in drawn[key.column.table.name]]
            columns[column.name] = st.sampled_from(parents) if parents else stored(column)
        is_orphan = any(not drawn[key.column.table.name] for key in table.foreign_keys)
        unique = [[column.name for column in table.primary_key]]
        unique += [
            [column.name for column in constraint.columns]
            for constraint in table.constraints
            if isinstance(constraint, sa.UniqueConstraint)
        ]
        drawn[table.name] = draw(
            st.lists(
                st.fixed_dictionaries(columns),
                max_size=0 if is_orphan else 4,
                unique_by=tuple(lambda row, names=names: tuple(row[name] for name in names) for names in unique),
            )
        )
    return drawn


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(contents())
def test_everything_arrives_as_it_is_stored(here: Database, to: str, content: dict[str, list[dict[str, Any]]]) -> None:
    """Whatever stands in whichever table, odd characters, bytes, gaps and extremes, stands in the copy just so."""
    with closing(Database(to)) as there:
        for database in (here, there):
            with database.write() as db:
                for table in reversed(metadata.sorted_tables):
                    db.execute(sa.delete(table))
    with here.write() as db:
        for name, values in content.items():
            for row in values:
                db.execute(sa.insert(sa.table(name, *map(sa.column, row))).values(row))
    before = held(here)
    done = copy(here, to)
    assert done.differing == []
    assert {name: found.rows for name, found in done.found.items()} == {name: len(of) for name, of in content.items()}
    assert held_at(to) == before == held(here)


async def test_a_copy_goes_on_where_the_ledger_stood(ledger: Ledger, clock: Clock, to: str) -> None:
    """Known records are known, checkpoints stand, new rows get new numbers; and what a run had in its hands when it
    died is free, as it would have been in the old ledger."""
    run = await ledger.start_run("run", clock())
    await ledger.start_pull(SOURCE, run, clock())
    page = [signal(1), signal(2), signal(3)]
    await ledger.record_page(SOURCE, page, [SetAside("r.csv:4", "no text")], {"page": 7}, run, clock())
    taken = (await ledger.exchange([], 2, run, clock())).claimed
    await ledger.exchange([Answer(taken[0], Accepted("SIGNAL-1", "job-1"), clock(), clock())], 0, run, clock())
    dies(ledger)
    done = copy(ledger.database, to)
    assert done.as_json()["same"] is True
    assert done.sent["signals"].rows == 3

    moved = Ledger(Database(to))
    assert await rows(moved) == await rows(ledger)
    new = await moved.start_run("run", clock())
    assert new == run + 1
    assert await moved.suspect_unfinished(clock()) == 1
    assert await moved.start_pull(SOURCE, new, clock()) == {"page": 7}
    again = [signal(1), signal(2), signal(3, "Mended."), signal(4)]
    tally = await moved.record_page(SOURCE, again, [], {"page": 8}, new, clock())
    assert (tally.new, tally.changed, tally.unchanged) == (1, 1, 2)
    assert {row.external_id: row.state for row in await rows(moved)} == {
        "listed:reviews:r-1": State.PROCESSING,
        "listed:reviews:r-2": State.UNKNOWN,
        "listed:reviews:r-3": State.QUEUED,
        "listed:reviews:r-4": State.QUEUED,
    }
    moved.close()


def test_another_alphabet_makes_no_difference(empty_ledger: NewLedger) -> None:
    """A PostgreSQL that sorts as people do, and a SQLite that does not, are compared in one order."""
    # The server that the tests have sorts by bytes whatever it is asked, so what it is asked is looked at.
    asked: list[str] = []
    with closing(Database(empty_ledger("postgresql", ""))) as here:
        sa.event.listen(here.engine, "before_cursor_execute", lambda *call: asked.append(" ".join(call[2].split())))
        assert copy(here, empty_ledger("sqlite", "copy.db")).differing == []
    for table, order in (
        ("connectors", 'connectors.name COLLATE "C"'),
        ("set_aside", 'set_aside.connector COLLATE "C", set_aside.place COLLATE "C"'),
        ("signals", "signals.id"),
    ):
        assert len([sql for sql in asked if sql.endswith(f"FROM {table} ORDER BY {order}")]) == 1


def test_an_empty_ledger_can_be_copied(here: Database, to: str) -> None:
    """One that was only opened yet is moved like any other."""
    assert set(copy(here, to).sent) == set(metadata.tables)
    assert is_empty(to)
    with closing(Database(to)) as moved, moved.write() as db:
        number = db.execute(sa.insert(runs).values(command="run", started_at=NOW).returning(runs.c.id))
        assert number.scalar_one() == 1


def test_memory_does_not_grow_with_the_ledger(here: Database, to: str) -> None:
    """A ledger of any size is copied: what is in memory is a few rows."""
    enter(here, *numbered(1500))
    with here.write() as db:
        for number in range(1, 1501):
            db.execute(sa.insert(bodies).values(signal_id=number, body=b"x" * 30_000))
    tracemalloc.start()
    try:
        done = copy(here, to)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.found["bodies"].rows == 1500
    assert most < 20_000_000, "of 45 MB"


# Refusals


@pytest.mark.parametrize("spelling", ["same", "other"])
def test_a_ledger_is_not_copied_into_itself(here: Database, ledger_url: str, tmp_path: Path, spelling: str) -> None:
    """An address that leads back to the ledger, however it is written, is seen."""
    to = ledger_url
    if spelling == "other" and ledger_url.startswith("sqlite"):
        (tmp_path / "link").symlink_to(tmp_path)
        to = f"sqlite:///{tmp_path}/link/ledger.db"
    elif spelling == "other":
        to = sa.make_url(ledger_url).update_query_dict({"application_name": "mover"}).render_as_string(False)
    with pytest.raises(CopyRefused, match="this is the ledger that is to be copied") as refused:
        copy(here, to)
    assert refused.value.exit_code == 2


def test_a_ledger_is_never_written_into_another(here: Database, to: str) -> None:
    """A target that is in use keeps what it has."""
    enter(here, *numbered(3))
    with closing(Database(to)) as there:
        enter(there, {"id": 9, "external_id": "theirs"})
    before = held_at(to)
    with pytest.raises(
        CopyRefused, match=r"holds a ledger already .rows in signals: 1.*new, empty database"
    ) as refused:
        copy(here, to)
    assert refused.value.exit_code == 2
    assert held_at(to) == before


def test_somebody_elses_database_is_left_alone(here: Database, to: str) -> None:
    """A wrong address costs nobody their data."""
    engine = sa.create_engine(to)
    with engine.begin() as db:
        db.execute(sa.text("CREATE TABLE notes (id INTEGER)"))
    with pytest.raises(LedgerUnusable, match="holds something else"):
        copy(here, to)
    assert sa.inspect(engine).get_table_names() == ["notes"]
    engine.dispose()


async def test_nothing_is_copied_from_under_a_running_syncd(ledger: Ledger, clock: Clock, to: str) -> None:
    """What a daemon stores meanwhile would be lost: it is to be stopped first, and not so much as a table is made."""
    run = await ledger.start_run("run", clock())
    with pytest.raises(CopyRefused, match=rf"another syncd is at work here .run {run}.\. Stop it") as refused:
        copy(ledger.database, to)
    assert refused.value.exit_code == 2
    assert Database.open_existing(to) is None
    dies(ledger)
    assert copy(ledger.database, to).differing == []


@pytest.mark.parametrize("where", ["here", "there"])
def test_nobody_writes_behind_its_back(here: Database, ledger_url: str, to: str, where: str) -> None:
    """A syncd that starts on the old or the new ledger while it is copied waits until that is done."""
    enter(here, *numbered(3))

    def begin() -> None:
        ledger = Ledger(Database(ledger_url if where == "here" else to))
        asyncio.run(ledger.start_run("run", NOW))
        ledger.close()

    other = Thread(target=begin)
    waited: list[bool] = []

    def watch(step: str, _: int) -> None:
        if step == "copying signals":
            other.start()
            other.join(0.3)
            waited.append(other.is_alive())

    done = copy(here, to, watch)
    other.join(30)
    assert waited == [True]
    assert done.sent["runs"].rows == 0
    assert len(held_at(ledger_url if where == "here" else to)["runs"]) == 1


@pytest.mark.parametrize("column", ["external_id", "name"])
def test_what_postgresql_cannot_keep_is_named(empty_ledger: NewLedger, column: str) -> None:
    """A text with NUL, which only SQLite keeps, is neither changed in silence nor met half way: the row is named, the
    target stays empty, and takes the copy once the row is mended."""
    to = empty_ledger("postgresql", "")
    with closing(Database(empty_ledger("sqlite", "ledger.db"))) as here:
        enter(here, *numbered(250), {"id": 300, "external_id": "odd", column: "a\0b"})
        before = held(here)
        with pytest.raises(CopyRefused) as refused:
            copy(here, to)
        assert refused.value.exit_code == 2
        assert f"its {column} holds the character NUL. Nothing was copied" in str(refused.value)
        assert "the row of signals with id 300" in str(refused.value)
        assert ("'odd'" if column == "name" else r"'a\x00b'") in str(refused.value)
        assert held(here) == before
        assert is_empty(to)
        with here.write() as db:
            db.execute(sa.update(signals).where(signals.c.id == 300).values({column: "ab"}))
        assert copy(here, to).differing == []


# Trouble


@pytest.mark.parametrize("table", ["signals", "events", "set_aside"])
def test_a_copy_that_is_killed_leaves_nothing(here: Database, ledger_url: str, to: str, table: str) -> None:
    """Killed half way, it leaves the target empty, and is simply said again."""
    enter(here, *numbered(250))
    with here.write() as db:
        db.execute(sa.insert(events).values(signal_id=1, at=NOW, event="accepted"))
        db.execute(sa.insert(set_aside).values(connector="reviews", place="r.csv:1", reason="no text", seen_at=NOW))
    killed = subprocess.run([sys.executable, "-c", KILLED, ledger_url, to, table], cwd=ROOT, timeout=60)
    assert killed.returncode == -signals_of_processes.SIGKILL
    assert is_empty(to)
    assert copy(here, to).differing == []
    assert held_at(to) == held(here)


@pytest.mark.parametrize("what", ["change", "drop"])
def test_a_difference_is_told(here: Database, to: str, meddle: Callable[[str], None], what: str) -> None:
    """What did not arrive, or not as it was, is found by reading it back, and the table is named."""
    enter(here, *numbered(3))
    meddle(what)
    done = copy(here, to)
    assert done.differing == ["signals"]
    assert done.found["signals"].rows == (3 if what == "change" else 0)
    told = done.as_json()
    assert told["same"] is False
    assert isinstance(told["tables"], dict)
    assert told["tables"]["signals"] == {"rows": 3, "found": done.found["signals"].rows, "same": False}
    assert told["tables"]["runs"] == {"rows": 0, "found": 0, "same": True}


def test_what_would_turn_into_something_else_is_told(empty_ledger: NewLedger) -> None:
    """SQLite keeps bytes in a column of texts, PostgreSQL makes a text of them: that is a difference."""
    with closing(Database(empty_ledger("sqlite", "ledger.db"))) as here:
        enter(here, {"id": 1, "external_id": "r-1", "name": b"abc"})
        assert copy(here, empty_ledger("postgresql", "")).differing == ["signals"]


def test_the_targets_trouble_is_told_as_the_targets(here: Database, to: str, meddle: Callable[[str], None]) -> None:
    """A target that breaks off is named in the error with its own words, and stays empty."""
    enter(here, *numbered(250))
    meddle("refuse")
    with pytest.raises(LedgerError, match=r"not in here.*Nothing of this step was stored") as broken:
        copy(here, to)
    assert str(broken.value).startswith(f"ledger {sa.make_url(to).render_as_string(hide_password=True)}: ")
    assert is_empty(to)


def test_the_ledgers_trouble_is_told_as_the_ledgers(empty_ledger: NewLedger, to: str) -> None:
    """A ledger that cannot be read to its end is named in the error, and not the target."""
    with closing(Database(empty_ledger("sqlite", "ledger.db"))) as here:
        enter(here, *numbered(250))
        with here.write() as db:
            db.execute(sa.text("UPDATE signals SET name = CAST(x'61ff62' AS TEXT) WHERE id = 240"))
        with pytest.raises(LedgerError, match="UTF-8") as broken:
            copy(here, to)
        assert str(broken.value).startswith(f"ledger {here.place}: ")
        assert is_empty(to)
