"""What statements in every part of the ledger are made of: long lists in portions, locks in one order, upserts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from syncd.ledger.tables import signals

T = TypeVar("T")

_IN_LIST = 500
"""Names in one IN (...): well under every database's limit."""


def portions(names: Iterable[T]) -> Iterator[list[T]]:
    """The names in lists that are short enough for an IN (...)."""
    rest = iter(names)
    while some := list(islice(rest, _IN_LIST)):
        yield some


def held(db: sa.Connection, rows: sa.Select[Any], ids: Iterable[int]) -> Iterator[sa.Row[Any]]:
    """Those of the selected signals that have these ids, as they stand while this transaction lasts."""
    # Everybody locks in the order of the ids: then nobody waits for one who waits for them.
    for some in portions(sorted(ids)):
        yield from db.execute(rows.where(signals.c.id.in_(some)).order_by(signals.c.id).with_for_update()).all()


def insert(db: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT with ON CONFLICT, which both databases have in their own dialects."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)
