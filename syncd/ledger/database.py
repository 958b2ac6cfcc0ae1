"""Opening the ledger's database: settings that make a commit last, migrations, and errors in plain words."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from syncd.errors import LedgerError, LedgerUnusable
from syncd.ledger.presence import FilePresence, Presence, SessionPresence

SCHEMA = "0002"
"""The newest migration this code knows; a test holds it to the folder."""

T = TypeVar("T")

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = 0x73796E63  # the advisory lock that PostgreSQL sessions migrate under, one after the other
_BUSY_SECONDS = 30
_TRIES = 4
_PAGES_AT_ONCE = 5000
_UNDONE_FOR_ANOTHER = ("40P01", "40001")
"""SQLSTATEs of a transaction that PostgreSQL undid so that another could go on: a deadlock, or a failure to
serialize."""
_IDLE_SECONDS = 15
"""A session that does nothing for so long in the middle of a transaction is that of a frozen process: the server ends
it, and frees the rows that others wait for."""


class Database:
    """One ledger's database, SQLite or PostgreSQL, open and of the right schema.

    A SQLite file is created readable by its owner only.
    """

    def __init__(self, url: str, *, create: bool = True) -> None:
        """Open it and bring its schema up to date; raises `LedgerUnusable`, without `create` also where none is."""
        try:
            self._url = sa.make_url(url)
            self._engine = sa.create_engine(self._url, **self._engine_options())
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise LedgerUnusable(
                f"ledger: {url.partition('://')[0]}:// cannot be used ({error}). Write sqlite:///syncd.db, or "
                "postgresql+psycopg://user@host/database with the package syncd[postgresql] installed."
            ) from error
        self.place = self._url.render_as_string(hide_password=True)
        if self._is_sqlite:
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
            self._create_private_file()
        self._migrate(create)

    @property
    def engine(self) -> sa.Engine:
        """For those who watch commits from outside."""
        return self._engine

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is stored when the block ends, or nothing. Raises `LedgerError`."""
        with self.in_words(" Nothing of this step was stored."), self._engine.begin() as connection:
            yield connection

    def change(self, work: Callable[[sa.Connection], T]) -> T:
        """Do this in one transaction, and from its beginning again, a few times, when the database undid it in favour
        of another one: so it must do nothing but work on the connection. Raises `LedgerError`.
        """
        for _ in range(_TRIES - 1):
            try:
                with self.write() as connection:
                    return work(connection)
            except LedgerError as error:
                undone = error.__cause__
                if not isinstance(undone, DBAPIError) or _sqlstate(undone) not in _UNDONE_FOR_ANOTHER:
                    raise
        with self.write() as connection:
            return work(connection)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view that holds no writer up. Raises `LedgerError`."""
        with self.in_words(), self._engine.connect().execution_options(**self._reading) as connection:
            yield connection

    @contextmanager
    def in_words(self, assurance: str = "") -> Iterator[None]:
        """Turn what this database complains of into a `LedgerError` that names it and says what to do."""
        try:
            yield
        except DBAPIError as error:
            raise LedgerError(f"ledger {self.place}: {_in_words(error)}{assurance}") from error

    @staticmethod
    def open_existing(url: str) -> Database | None:
        """Open a ledger to read from it; None when there is none there yet. Nothing is created."""
        address = sa.make_url(url)
        if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
            return None
        try:
            return Database(url, create=False)
        except _Empty:
            return None

    def presence(self) -> Presence:
        """The locks that show which runs on this ledger are alive."""
        if self._is_sqlite:
            return FilePresence(Path(self._url.database or "").resolve())
        return SessionPresence(self._engine)

    def give_space_back(self) -> None:
        """Give the file system back what deleted rows took, a little at a time. PostgreSQL does so by itself."""
        if not self._is_sqlite:
            return
        raw = self._engine.raw_connection()
        try:
            cursor = raw.cursor()
            free = -1
            while free != (free := cursor.execute("PRAGMA freelist_count").fetchone()[0]):  # a file of old keeps them
                cursor.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
        finally:
            raw.close()

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def _reading(self) -> dict[str, Any]:
        if self._is_sqlite:
            return {"syncd_read": True}
        return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

    def _engine_options(self) -> dict[str, Any]:
        if self._is_sqlite:
            return {"connect_args": {"timeout": _BUSY_SECONDS, "check_same_thread": False}}
        waits = {"lock_timeout": _BUSY_SECONDS, "idle_in_transaction_session_timeout": _IDLE_SECONDS}
        options = " ".join(f"-c {name}={seconds}s" for name, seconds in waits.items())
        keepalives = {"keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 3}
        return {"pool_pre_ping": True, "connect_args": {"options": options, **keepalives}}

    def _create_private_file(self) -> None:
        path = Path(self._url.database or "")
        why = None
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            # It is not opened here: closing it would undo the locks of whoever has it open in this process.
            if path.is_dir():
                why = "it is a folder"
            elif not os.access(path, os.R_OK | os.W_OK):
                why = "permission denied"
        except OSError as error:
            why = error.strerror
        if why:
            raise LedgerUnusable(
                f"ledger {path}: cannot be opened for writing: {why}. Give `ledger:` a path that this user may write, "
                "or make the folder."
            )

    def _migrate(self, create: bool) -> None:
        try:
            with self.read() as connection:
                found = _schema_of(connection)
            if found is None and not create:
                raise _Empty(f"ledger {self.place}: there is none yet.")
            if found != SCHEMA:
                self._upgrade(found)
        except LedgerUnusable:
            self.close()
            raise
        except LedgerError as error:
            self.close()
            raise LedgerUnusable(str(error)) from error

    def _upgrade(self, found: str | None) -> None:
        # Imported late: nine starts of ten find the schema up to date and need none of this.
        from alembic import command
        from alembic.config import Config
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            raise LedgerUnusable(
                f"ledger {self.place}: was made by a newer syncd (schema {found}; this one knows up to {SCHEMA}). "
                "Upgrade syncd, or name another ledger. Nothing was changed."
            )
        with self.write() as connection:
            if not self._is_sqlite:  # SQLite lets one process write at a time anyway
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATING)))
            if _schema_of(connection) != SCHEMA:  # another process may have been quicker
                config.attributes["connection"] = connection
                command.upgrade(config, "head")


class _Empty(LedgerUnusable):
    """The database is there, and nothing in it yet."""


def _schema_of(connection: sa.Connection) -> str | None:
    """The migration a database stands at; None when it is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        if sa.inspect(connection).get_table_names():
            raise LedgerUnusable(
                f"ledger {connection.engine.url.render_as_string(hide_password=True)}: this database holds something "
                "else (it has tables, none of them syncd's). Name another one."
            )
        return None
    version = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return None if version is None else str(version)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not guessed by the driver
    cursor = connection.cursor()
    for setting in ("synchronous = FULL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.execute("SELECT count(*) = 0, sum(name = 'alembic_version') FROM sqlite_master")
    is_empty, is_ours = cursor.fetchone()
    if is_empty:
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")  # heeded while there is nothing in it
    if is_empty or is_ours:  # somebody else's database is left as it was found
        _keep_a_log(cursor)
    cursor.close()


def _keep_a_log(cursor: sqlite3.Cursor) -> None:
    """Switch to write-ahead logging. SQLite does not wait for others with that, as it does with all else."""
    patient_until = time.monotonic() + _BUSY_SECONDS
    while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > patient_until:
                raise
            time.sleep(0.01)  # another process is just doing the same


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer says so at once: one that begins as a reader may find no way to become a writer.
    reads = connection.get_execution_options().get("syncd_read", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's code for what went wrong; SQLite has none."""
    return getattr(error.orig, "sqlstate", None)


def _in_words(error: DBAPIError) -> str:
    said = " ".join(str(error.orig).split()).rstrip(".?")
    match said:
        case "database or disk is full" | "disk I/O error":
            advice = "Free some space on its disk and start again."
        case "database is locked":
            advice = f"Another process has kept it for {_BUSY_SECONDS} s; see which one, or try again."
        case "attempt to write a readonly database" | "unable to open database file":
            advice = "Make the file and its folder writable for this user."
        case "file is not a database" | "database disk image is malformed":
            advice = "It is damaged, or not a syncd ledger: restore it from a copy, or name another one."
        case _:
            advice = "See that the database is up and that its address and user in `ledger:` are right."
    return f"{said}. {advice}"
