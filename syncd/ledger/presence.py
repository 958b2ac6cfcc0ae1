"""Which runs are alive: each holds a lock that the operating system or the database frees the moment it dies.

A row says which run is posting it, and a connector which run is reading it. When that run's lock is free, the run is
dead, whatever the row says: its work can be taken over at once, with no lease to wait for.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import sqlalchemy as sa

from syncd.errors import LedgerError, LedgerUnusable

try:
    import fcntl
except ImportError as missing:  # pragma: no cover - Windows
    raise LedgerUnusable("syncd runs on Linux and macOS: it needs their file locks") from missing

_SPACE = 0x73796E63  # «sync»: keeps our advisory locks apart from those of other users of the database


class Presence(ABC):
    """The locks of runs on one ledger."""

    @abstractmethod
    def hold(self, run: int) -> None:
        """Show that this run is alive until `release`, or until this process dies. Several may be held."""

    @abstractmethod
    def is_alive(self, run: int) -> bool:
        """Whether some process holds this run's lock."""

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
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise LedgerError(
                f"ledger {path}: cannot be locked: {error.strerror}. The folder must be on a disk of this machine, "
                "writable for this user, with some space left."
            ) from error
        self._held.append((descriptor, path))

    def is_alive(self, run: int) -> bool:
        """Try the lock, shared, so that two who look at once both see; the file of a dead run is cleared away."""
        path = self._path(run)
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Unlock and clear away the files."""
        while self._held:
            descriptor, path = self._held.pop()
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def _path(self, run: int) -> Path:
        return self._database.with_name(f"{self._database.name}-run-{run}")


class SessionPresence(Presence):
    """For PostgreSQL: an advisory lock on a connection of its own, freed when the connection ends."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._session: sa.Connection | None = None

    def hold(self, run: int) -> None:
        """Take this run's advisory lock for as long as the connection lives."""
        if self._session is None:
            self._session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self._session.execute(sa.select(sa.func.pg_advisory_lock(_SPACE, run)))

    def is_alive(self, run: int) -> bool:
        """Try the lock, shared, so that two who look at once both see, and give it back."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            free = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock_shared(_SPACE, run))))
            if free:
                connection.execute(sa.select(sa.func.pg_advisory_unlock_shared(_SPACE, run)))
            return not free

    def release(self) -> None:
        """End the connection, and the lock with it."""
        if self._session is not None:
            self._session.invalidate()  # closed for good, not handed to the pool with the lock on it
            self._session.close()
            self._session = None
