"""Which runs are alive, told by locks that die with their process; on SQLite and on PostgreSQL."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from syncd.errors import LedgerError
from syncd.ledger import Database
from syncd.ledger.presence import Presence

HOLD = """
import sys
from syncd.ledger import Database
presence = Database(sys.argv[1]).presence()
for run in sys.argv[2:]:
    presence.hold(int(run))
print("held", flush=True)
sys.stdin.readline()
presence.release()
print("released", flush=True)
sys.stdin.readline()
"""


class Holder:
    """Another process that holds the locks of some runs."""

    def __init__(self, url: str, *runs: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, url, *map(str, runs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.said() == "held\n"

    def said(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def release(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.said() == "released\n"

    def end(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=10)


@pytest.fixture
def database(ledger_url: str) -> Iterator[Database]:
    opened = Database(ledger_url)
    yield opened
    opened.close()


@pytest.fixture
def presence(database: Database) -> Iterator[Presence]:
    presence = database.presence()
    yield presence
    presence.release()


def dies(presence: Presence, run: int) -> bool:
    """Whether the run counts as dead by the time a server has seen its connection close: within five seconds."""
    for _ in range(500):
        if not presence.is_alive(run):
            return True
        time.sleep(0.01)
    return False


def test_a_killed_process_is_dead_at_once_and_a_living_one_alive(ledger_url: str, presence: Presence) -> None:
    """After kill -9 the next start takes over without waiting for a lease, and never from a run that is still going."""
    living, killed = Holder(ledger_url, 1), Holder(ledger_url, 2, 3)
    try:
        assert [presence.is_alive(run) for run in (1, 2, 3, 4)] == [True, True, True, False]
        killed.end()
        assert dies(presence, 2)
        assert dies(presence, 3)
        assert presence.is_alive(1)
        living.release()
        assert dies(presence, 1)
    finally:
        living.end()
        killed.end()


def test_a_run_sees_itself_alive(database: Database, presence: Presence) -> None:
    """A daemon does not take its own posts for those of a dead run."""
    presence.hold(7)
    assert presence.is_alive(7)
    assert database.presence().is_alive(7)
    presence.release()
    assert dies(presence, 7)


def test_a_run_notices_that_it_looks_dead(database: Database, presence: Presence, tmp_path: Path) -> None:
    """A server that ended our session, or a hand that removed our file, does not make two syncds do the same work."""
    presence.hold(7)
    presence.confirm()
    if database.engine.dialect.name == "sqlite":
        (tmp_path / "ledger.db-run-7").unlink()
    else:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as administrator:
            ours = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7"
            administrator.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM ({ours}) AS holders"))
    assert dies(presence, 7)
    with pytest.raises(LedgerError, match="start it again"):
        presence.confirm()


def test_looking_does_not_take_the_lock(database: Database, presence: Presence) -> None:
    """A run that was looked for while it did not exist can begin, and is alive then."""
    assert not presence.is_alive(7)
    presence.hold(7)
    assert database.presence().is_alive(7)


def test_two_who_look_at_once_both_see_that_a_run_is_dead(
    database: Database, presence: Presence, tmp_path: Path
) -> None:
    """Two daemons that start after a crash do not take each other's look for the dead run's life."""
    if database.engine.dialect.name == "sqlite":
        with (tmp_path / "ledger.db-run-7").open("w") as other:
            fcntl.flock(other, fcntl.LOCK_SH)
            assert not presence.is_alive(7)
        return
    with database.engine.connect() as other_session:
        other_session.execute(sa.select(sa.func.pg_advisory_lock_shared(0x73796E63, 7)))
        assert not presence.is_alive(7)


def test_the_files_of_runs_are_private_and_do_not_pile_up(tmp_path: Path) -> None:
    """A year of runs, crashed ones included, leaves no litter beside the ledger."""
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    presence = database.presence()
    presence.hold(1)
    [file] = tmp_path.glob("*-run-*")
    assert file.stat().st_mode & 0o777 == 0o600
    presence.release()
    (tmp_path / "ledger.db-run-2").touch()
    assert not presence.is_alive(2)
    database.close()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]


def test_a_lock_that_cannot_be_had_is_told_in_words(tmp_path: Path) -> None:
    """A folder that takes no lock files ends the start with a message, not with a traceback."""
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    (tmp_path / "ledger.db-run-1").mkdir()
    with pytest.raises(LedgerError, match=r"ledger\.db-run-1: cannot be locked: .*writable for this user"):
        database.presence().hold(1)
    database.close()


def test_all_that_are_alive_are_known(presence: Presence, ledger_url: str) -> None:
    """Also runs of which no ledger knows any more are seen, our own among them; looking ends none of them."""
    assert presence.alive() == set()
    holder = Holder(ledger_url, 3, 4)
    presence.hold(7)
    for _ in range(2):
        assert presence.alive() == {3, 4, 7}
    holder.end()
    assert dies(presence, 3)
    assert dies(presence, 4)
    presence.release()
    assert presence.alive() == set()


def test_a_run_of_a_ledger_that_was_removed_keeps_its_number(tmp_path: Path) -> None:
    """Who begins a new ledger beside a living syncd, whose own was deleted under it, is told so and does not hang."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    holder = Holder(url, 1)
    for path in tmp_path.glob("ledger.db*"):
        if "-run-" not in path.name:
            path.unlink()
    database = Database(url)
    fresh = database.presence()
    with pytest.raises(LedgerError, match=r"still running \(run 1\)"):
        fresh.hold(1)
    holder.end()
    fresh.hold(1)
    fresh.release()
    database.close()


def test_somebody_who_only_looks_is_waited_for(tmp_path: Path) -> None:
    """A glance at a run's lock, at the moment that it begins, does not keep it from beginning."""
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    presence = database.presence()
    with (tmp_path / "ledger.db-run-1").open("w") as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (looked_at, fcntl.LOCK_UN)).start()
        presence.hold(1)
    assert presence.is_alive(1)
    presence.release()
    database.close()
