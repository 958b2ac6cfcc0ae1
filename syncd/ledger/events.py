"""The history of each signal: what happened to it, told beside every move of its state."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

import sqlalchemy as sa

from syncd.ledger.tables import events

Told: TypeAlias = tuple[int, datetime, str, str | None]
"""A signal's id, when, what, and the particulars."""


def tell(db: sa.Connection, told: Iterable[Told]) -> None:
    """Add to the history."""
    lines = [{"signal_id": id_, "at": at, "event": str(event), "detail": detail} for id_, at, event, detail in told]
    if lines:
        db.execute(sa.insert(events), lines)
