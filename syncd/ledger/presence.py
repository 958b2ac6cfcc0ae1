"""Which runs are alive: each holds a lock that the operating system or the database frees the moment it dies.

A row says which run is posting it, and a connector which run is reading it. When that run's lock is free, the run is
dead, whatever the row says: its work can be taken over at once, with no lease to wait for.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from syncd.errors import LedgerError, LedgerUnusable

try:
    import fcntl
except ImportError as missing:  # pragma: no cover - Windows
    raise LedgerUnusable("syncd runs on Linux and macOS: it needs their file locks") from missing

_MOMENT = 2  # seconds
_SPACE = 0x73796E63  # «sync»: keeps our advisory locks apart from those of other users of the database


class Presence(ABC):
    """The locks of runs on one ledger."""

    @abstractmethod
    def hold(self, run: int) -> None:
        """Show that this run is alive until `release`, or until this process dies. Several may be held."""

    @abstractmethod
    def confirm(self) -> None:
        """Raise `LedgerError` when a lock was lost: then others take us for dead, and may take over what we hold."""

    @abstractmethod
    def hold_again(self) -> None:
        """Take every lock anew. Only for a run that has nothing in its hands. Raises `LedgerError`."""

    @abstractmethod
    def is_alive(self, run: int) -> bool:
        """Whether some process holds this run's lock."""

    @abstractmethod
    def alive(self) -> set[int]:
        """The runs whose locks are held, ours among them, and those of runs that no ledger knows any more."""

    @abstractmethod
    def release(self) -> None:
        """Let go of all that is held."""


class FilePresence(Presence):
    """For SQLite: a locked file beside the database for each run. (Not for network file systems, as SQLite is not.)"""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._held: list[tuple[int, Path]] = []

    def hold(self, run: int) -> None:
        """Lock this run's file. Raises `LedgerError`."""
        path = self._path(run)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            _lock(descriptor)
        except BlockingIOError as error:
            os.close(descriptor)
            raise LedgerError(
                f"ledger {self._database}: a syncd that was started when another ledger stood here is still running "
                f"(run {run}). Stop it first: its books are gone."
            ) from error
        except OSError as error:
            raise LedgerError(
                f"ledger {path}: cannot be locked: {error.strerror}. The folder must be on a disk of this machine, "
                "writable for this user, with some space left."
            ) from error
        self._held.append((descriptor, path))

    def confirm(self) -> None:
        """See that the locked files still stand beside the ledger."""
        for descriptor, path in self._held:
            if not os.fstat(descriptor).st_nlink:
                raise LedgerError(
                    f"ledger {path}: this file showed that syncd is at work, and somebody removed it. syncd ends here, "
                    "so that nobody does its work a second time beside it; start it again."
                )

    def hold_again(self) -> None:
        """Make the files anew that were removed."""
        held, self._held = self._held, []
        for descriptor, path in held:
            if os.fstat(descriptor).st_nlink:
                self._held.append((descriptor, path))
            else:
                os.close(descriptor)
                self.hold(int(path.name.rpartition("-")[2]))

    def is_alive(self, run: int) -> bool:
        """Try the lock, shared, so that two who look at once both see; the file of a dead run is cleared away."""
        return _is_locked(self._path(run), clear_away=True)

    def alive(self) -> set[int]:
        """Try every lock; nothing is cleared away, for a run that is just beginning has its file before its lock."""
        prefix = f"{self._database.name}-run-"
        beside = (path for path in self._database.parent.iterdir() if path.name.startswith(prefix))
        numbers = [(path.name.removeprefix(prefix), path) for path in beside]
        return {int(number) for number, path in numbers if number.isdecimal() and _is_locked(path)}

    def release(self) -> None:
        """Unlock and clear away the files."""
        while self._held:
            descriptor, path = self._held.pop()
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _path(self, run: int) -> Path:
        return self._database.with_name(f"{self._database.name}-run-{run}")


def _lock(descriptor: int) -> None:
    """Waits a moment for those who only look whether it is locked. Raises `BlockingIOError` when it stays so."""
    patient_until = time.monotonic() + _MOMENT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patient_until:
                raise
            time.sleep(0.01)
        else:
            return


def _is_locked(path: Path, *, clear_away: bool = False) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        if clear_away:
            path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)


class SessionPresence(Presence):
    """For PostgreSQL: an advisory lock on a connection of its own, freed when the connection ends."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._session: sa.Connection | None = None
        self._runs: list[int] = []

    def hold(self, run: int) -> None:
        """Take this run's advisory lock for as long as the connection lives."""
        if self._session is None:
            self._session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._session.execute(sa.select(sa.func.pg_advisory_lock(_SPACE, run)))
        self._runs.append(run)

    def confirm(self) -> None:
        """See that the connection still stands."""
        if not self._runs:
            return
        try:
            if self._session is not None:
                self._session.execute(sa.select(1))
                return
        except DBAPIError:
            self._drop()  # SQLAlchemy would connect it anew, without the locks
        raise LedgerError(
            f"ledger {self._engine.url.render_as_string(hide_password=True)}: the database ended the connection that "
            "shows that syncd is at work. syncd ends here, so that nobody does its work a second time beside it; start "
            "it again."
        )

    def hold_again(self) -> None:
        """Take the locks on a new connection."""
        runs, self._runs = self._runs, []
        for run in runs:
            self.hold(run)

    def is_alive(self, run: int) -> bool:
        """Try the lock, shared, so that two who look at once both see, and give it back."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            free = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock_shared(_SPACE, run))))
            if free:
                connection.execute(sa.select(sa.func.pg_advisory_unlock_shared(_SPACE, run)))
            return not free

    def alive(self) -> set[int]:
        """Look through the database's own list of locks."""
        held = sa.text(
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock' AND "
            "objsubid = 2 AND classid = :space AND database = (SELECT oid FROM pg_database WHERE datname = "
            "current_database())"
        )
        with self._engine.connect() as connection:
            return set(connection.scalars(held, {"space": _SPACE}))

    def release(self) -> None:
        """Let go of the locks, and end the connection; the server may take a moment to notice that."""
        self._runs.clear()
        if self._session is not None:
            with suppress(DBAPIError):
                self._session.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        self._drop()

    def _drop(self) -> None:
        if self._session is not None:
            self._session.invalidate()  # closed for good, not handed to the pool with the lock on it
            self._session.close()
            self._session = None
