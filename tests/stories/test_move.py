"""A ledger moves from one kind of database to the other, and syncd goes on there as if nothing had happened."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.ledger import Database
from syncd.sandbox import Sandbox
from tests.stories.conftest import CONFIG, Operator, moved_in
from tests.stories.test_daemon import until

ROWS = "id,comment\n1,The export takes too long.\n2,Dark mode please.\n3,Onboarding was easy.\n"
PASSWORD = "pg-word-4711-planted"


@pytest.fixture
def operator(tmp_path: Any, sandbox: Sandbox, ledger_url: str) -> Any:
    """An operator whose ledger is on either database."""
    config = CONFIG.replace("sqlite:///{folder}/syncd.db", ledger_url)
    with sandbox.in_thread() as api_base:
        yield moved_in(tmp_path / "home", api_base, config)


@pytest.fixture
def to(ledger_url: str, empty_ledger: Callable[[str, str], str]) -> str:
    """The address of an empty database of the other kind. PostgreSQL asks for no password here, and is given one."""
    if not ledger_url.startswith("sqlite"):
        return empty_ledger("sqlite", "moved.db")
    return sa.make_url(empty_ledger("postgresql", "")).set(password=PASSWORD).render_as_string(hide_password=False)


def settled(operator: Operator) -> list[dict[str, Any]]:
    return sorted(operator.signals(), key=lambda row: row["externalId"])


def test_syncd_goes_on_in_the_other_database(operator: Operator, sandbox: Sandbox, ledger_url: str, to: str) -> None:
    """After the copy and one line of the configuration nothing is posted again, everything can be looked up, and a
    changed and a new row are seen as what they are."""
    operator.drop("october.csv", ROWS + "4,\n")
    assert operator.run_once()["posted"] == 3
    before, history = settled(operator), operator.syncd("show", "csv:survey:1", "--json").stdout

    copied = operator.syncd("ledger", "copy", "--to", to)
    assert copied.returncode == 0, copied.stderr
    assert {"signals 3 same", "set_aside 1 same", "runs 1 same", "alerts · same"} <= {
        " ".join(line.split()) for line in copied.stdout.splitlines()
    }
    place = sa.make_url(to).render_as_string(hide_password=True)
    assert f"set `ledger:` in {operator.folder}/config.yaml (or SYNCD_LEDGER) to {place}" in copied.stdout
    assert PASSWORD not in copied.stdout + copied.stderr

    config = operator.folder / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace(ledger_url, to), encoding="utf-8")
    assert settled(operator) == before
    assert operator.syncd("show", "csv:survey:1", "--json").stdout == history
    assert operator.connector("survey")["signals"]["processed"] == 3
    figures = operator.run_once()
    assert (figures["posted"], figures["connectors"]["survey"]["fetched"]) == (0, 0), "the checkpoint came along"

    operator.drop("october.csv", ROWS.replace("Dark mode", "Light mode") + "5,Prices are fair.\n")
    figures = operator.run_once()
    read = figures["connectors"]["survey"]
    assert (figures["posted"], read["new"], read["changed"], read["unchanged"]) == (1, 1, 1, 2)
    assert (len(sandbox.books), sandbox.books.duplicates()) == (4, 0)


def test_a_copy_is_refused_with_what_to_do(operator: Operator, sandbox: Sandbox, to: str) -> None:
    """Without a ledger, beside a running daemon, or into a database that holds something, nothing is copied; each time
    it is said what to do first. Scripts get their figures alone."""
    lost = operator.syncd("ledger", "copy", "--to", to)
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "there is no ledger yet to copy" in lost.stderr
    operator.drop("october.csv", ROWS)
    with operator.started("run") as daemon:
        until(lambda: len(sandbox.books) == 3, daemon)
        refused = operator.syncd("ledger", "copy", "--to", to)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "another syncd is at work here" in refused.stderr
        assert Database.open_existing(to) is None
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=30)
    copied = operator.syncd("ledger", "copy", "--json", "--to", to)
    assert copied.returncode == 0, copied.stderr
    told = json.loads(copied.stdout)
    assert told["same"] is True
    assert told["tables"]["signals"] == {"rows": 3, "found": 3, "same": True}
    again = operator.syncd("ledger", "copy", "--to", to)
    assert (again.returncode, again.stdout) == (2, "")
    assert "holds a ledger already" in again.stderr
    assert PASSWORD not in copied.stdout + copied.stderr + again.stdout + again.stderr


def test_a_copy_that_is_not_the_same_is_not_to_be_used(operator: Operator, to: str) -> None:
    """A target that does not keep what it is given is found out: an error names the table, and no next step is told."""
    operator.drop("october.csv", ROWS)
    operator.run_once()
    target = Database(to)
    with target.write() as db:
        if to.startswith("sqlite"):
            db.exec_driver_sql("CREATE TRIGGER loss AFTER INSERT ON events BEGIN DELETE FROM events; END")
        else:
            db.exec_driver_sql(
                "CREATE FUNCTION lose() RETURNS trigger AS $$ BEGIN RETURN NULL; END $$ LANGUAGE plpgsql"
            )
            db.exec_driver_sql("CREATE TRIGGER loss BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION lose()")
    target.close()
    copied = operator.syncd("ledger", "copy", "--to", to)
    assert copied.returncode == 1
    assert "the copy is not the same in events. Do not use it" in copied.stderr
    assert "Next:" not in copied.stdout
    assert PASSWORD not in copied.stdout + copied.stderr


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("syncd.db", "is not the address of a ledger"),
        (f"postgres://syncd:{PASSWORD}@host/syncd", "instead of postgres:// write postgresql+psycopg://"),
        (f"postgresql+psycopg://syncd:{PASSWORD}@127.0.0.1:1/syncd", "See that the database is up"),
        (f"postgresql+psycopg://syncd@127.0.0.1:1/syncd?password={PASSWORD}", "See that the database is up"),
    ],
)
def test_an_address_that_cannot_be_used(operator: Operator, ledger_url: str, url: str, words: str) -> None:
    """What is wrong with the new address is said without the password in it."""
    Database(ledger_url).close()
    refused = operator.syncd("ledger", "copy", "--to", url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert words in " ".join(refused.stderr.split())
    assert PASSWORD not in refused.stderr
