"""Copy: a ledger is carried into a new database, SQLite or PostgreSQL, and compared with it, row by row.

Values travel as they are stored, past the types of `tables`: nothing is interpreted, redacted or rounded on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from syncd.errors import LedgerError
from syncd.ledger.database import Database
from syncd.ledger.tables import metadata
from syncd.records import Json

_BATCH = 100
"""Rows in memory at once: one may hold a long transcript."""

_PATIENCE = "10min"
"""How long PostgreSQL waits for the one database while the other is at work, before it undoes the copy."""

Watch = Callable[[str, int], None]
"""Told how far it is: what is being done with which table, and how many of its rows that was done with."""


_Batches = Iterable[Sequence[sa.Row[Any]]]


class CopyRefused(LedgerError):
    """This copy is not to be made. Nothing was copied, and the ledger stays as it was."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Content:
    """What a table holds: how many rows, and a digest of all that is in them, in the order of the primary key."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Copied:
    """What was read of each table and written to the copy at `place`, and what was then read back there."""

    place: str
    sent: Mapping[str, Content]
    found: Mapping[str, Content]

    @property
    def differing(self) -> list[str]:
        """The tables that are not the same in the copy: there should be none."""
        return [name for name, content in self.sent.items() if self.found[name] != content]

    def as_json(self) -> dict[str, Json]:
        """The object that `ledger copy --json` prints."""
        return {
            "tables": {
                name: {"rows": content.rows, "found": self.found[name].rows, "same": self.found[name] == content}
                for name, content in self.sent.items()
            },
            "same": not self.differing,
        }


def copy(source: Database, to: str, watch: Watch = lambda *_: None) -> Copied:
    """Carry every row of a ledger into the empty database at the address `to`, whole or not at all, and compare.

    While it is read, nobody writes to the one or the other. Raises `CopyRefused` when another syncd is at work on the
    ledger, when the target is the same ledger or holds something, or cannot keep what is in a row; `LedgerUnusable`
    when the target cannot be opened; `LedgerError`.
    """
    with ExitStack() as stack:
        with source.write() as here:
            _keep_others_out(here)
            _be_alone(source)
            target = Database(to)
            stack.callback(target.close)
            _be_two(source, target)
            with target.write() as there:
                _keep_others_out(there)
                _be_empty(target, there)
                sent = {table.name: _carry(source, here, there, table, watch) for table in metadata.sorted_tables}
        with target.read() as there:
            found = {table.name: _look(target, there, table, watch) for table in metadata.sorted_tables}
    return Copied(target.place, sent, found)


def _keep_others_out(db: sa.Connection) -> None:
    """Let nobody else write until this transaction is over. In SQLite that is so from its beginning."""
    if _is_postgresql(db):
        names = ", ".join(_quoted(db, table.name) for table in metadata.sorted_tables)
        db.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = '{_PATIENCE}'")
        db.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")


def _be_alone(source: Database) -> None:
    # Asked when nobody else can write any more: whoever begins from now on waits before it has done anything.
    if living := source.presence().alive():
        raise CopyRefused(
            f"ledger {source.place}: another syncd is at work here (run {min(living)}). Stop it, and copy the ledger "
            "then: what it does meanwhile would be missing in the copy. Nothing was changed."
        )


def _be_two(source: Database, target: Database) -> None:
    if _identity(source) == _identity(target):
        raise CopyRefused(
            f"ledger {target.place}: this is the ledger that is to be copied. Name a new database. Nothing was changed."
        )


def _identity(database: Database) -> tuple[object, ...]:
    """What tells one ledger from every other, however its address is written."""
    address = database.engine.url
    if address.get_backend_name() == "sqlite":
        file = Path(address.database or "").stat()
        return file.st_dev, file.st_ino
    server = sa.text(
        "SELECT pg_postmaster_start_time(), oid, current_schema() FROM pg_database WHERE datname = current_database()"
    )
    with database.read() as db:
        return tuple(db.execute(server).one())


def _be_empty(target: Database, there: sa.Connection) -> None:
    for table in metadata.sorted_tables:
        if rows := there.scalar(sa.select(sa.func.count()).select_from(table)):
            raise CopyRefused(
                f"ledger {target.place}: it holds a ledger already (rows in {table.name}: {rows}). Name a new, empty "
                "database. Nothing was changed."
            )


class _Rows:
    """The rows of a table as they are stored, in the order of its key; counted and digested as they pass."""

    def __init__(self, database: Database, db: sa.Connection, table: sa.Table, step: str, watch: Watch) -> None:
        self._database, self._db, self._watch = database, db, partial(watch, f"{step} {table.name}")
        stored = _stored(table)
        order = [_in_order(db, column, stored.c[column.name]) for column in table.primary_key]
        self._rows = sa.select(stored).order_by(*order)
        self._digest = hashlib.sha256()
        self._count = 0

    def poured(self, pour: Callable[[_Batches], None]) -> Content:
        """Let all of them pass into something, and say what they were."""
        with closing(self._read()) as batches:
            pour(batches)
        return Content(self._count, self._digest.hexdigest())

    def _read(self) -> Generator[Sequence[sa.Row[Any]], None, None]:
        # The words are those of the database that is read: whatever fails in the other one does not come by here.
        with (
            self._database.in_words(),
            self._db.execute(self._rows, execution_options={"yield_per": _BATCH}) as result,
        ):
            for batch in result.partitions():
                self._count += len(batch)
                self._digest.update("".join([repr(tuple(row)) for row in batch]).encode())
                yield batch
                self._watch(self._count)


def _in_order(db: sa.Connection, column: sa.Column[Any], stored: sa.ColumnClause[Any]) -> sa.ColumnElement[Any]:
    """A key as every database sorts it: a text by its bytes, as SQLite does, and PostgreSQL when it is told to."""
    kind = column.type.impl_instance if isinstance(column.type, sa.TypeDecorator) else column.type
    return sa.collate(stored, "C") if _is_postgresql(db) and isinstance(kind, sa.Text) else stored


def _carry(source: Database, here: sa.Connection, there: sa.Connection, table: sa.Table, watch: Watch) -> Content:
    pour = _pour_into_postgresql if _is_postgresql(there) else _pour_into_sqlite
    return _Rows(source, here, table, "copying", watch).poured(partial(pour, there, table))


def _look(target: Database, there: sa.Connection, table: sa.Table, watch: Watch) -> Content:
    return _Rows(target, there, table, "checking", watch).poured(_pour_away)


def _pour_away(rows: _Batches) -> None:
    for _ in rows:
        pass


def _pour_into_sqlite(db: sa.Connection, table: sa.Table, rows: _Batches) -> None:
    insert = sa.insert(_stored(table))
    for batch in rows:
        db.execute(insert, [row._asdict() for row in batch])


def _pour_into_postgresql(db: sa.Connection, table: sa.Table, rows: _Batches) -> None:
    driver: Any = db.dialect.loaded_dbapi
    session: Any = db.connection.driver_connection
    columns = ", ".join(_quoted(db, column.name) for column in table.columns)
    try:
        with session.cursor() as cursor, cursor.copy(f"COPY {_quoted(db, table.name)} ({columns}) FROM STDIN") as into:
            for batch in rows:
                for row in batch:
                    try:
                        into.write_row(row)
                    except driver.DataError as error:
                        raise CopyRefused(_unkeepable(row, table, error)) from error
    except driver.Error as error:
        raise DBAPIError(f"COPY {table.name}", None, error) from error
    if (number := table.autoincrement_column) is not None:
        sequence = sa.func.pg_get_serial_sequence(_quoted(db, table.name), number.name)
        greatest = sa.select(sa.func.max(number)).scalar_subquery()
        db.execute(sa.select(sa.func.setval(sequence, greatest)))  # NULL, of an empty table, leaves it at its start


def _unkeepable(row: sa.Row[Any], table: sa.Table, error: Exception) -> str:
    """Which value of a row PostgreSQL cannot keep, for a person to find it by."""
    values = row._asdict()
    named = [name for name in (*table.primary_key.columns.keys(), "external_id") if name in values]
    odd = [name for name, value in values.items() if isinstance(value, str) and "\0" in value]
    what = f"its {' and its '.join(odd)} holds the character NUL" if odd else f"{error}"
    return (
        f"the row of {table.name} with {', '.join(f'{name} {values[name]!r}' for name in named)} cannot be kept by "
        f"PostgreSQL: {what}. Nothing was copied; keep this ledger in SQLite, or mend that row."
    )


def _stored(table: sa.Table) -> sa.TableClause:
    """The table without the types that interpret what is in it."""
    return sa.table(table.name, *(sa.column(column.name) for column in table.columns))


def _is_postgresql(db: sa.Connection) -> bool:
    return db.dialect.name == "postgresql"


def _quoted(db: sa.Connection, name: str) -> str:
    return db.dialect.identifier_preparer.quote(name)
