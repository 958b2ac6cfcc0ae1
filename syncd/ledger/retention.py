"""Retention: signals that have long settled are cut down to what keeps them from being sent again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from syncd.ledger.tables import State, events, signals
from syncd.logs import get_logger

log = get_logger()

_AT_ONCE = 5000

_SETTLED = (State.PROCESSED, State.DELETED)
"""States that nothing leads out of by itself. A rejected one waits for somebody who reads why; it is kept whole."""

_READ_BY_PEOPLE = ("name", "source_url", "place", "last_error", "job_id", "failed_as", "processing_started_at")


class Cut(NamedTuple):
    """How many signals a step cut down, and the id up to which it looked; None at the end of the ledger."""

    signals: int
    upto: int | None


async def cut_down(change: Callable[..., Awaitable[Cut]], now: datetime, settled_after: timedelta) -> int:
    """Go through the ledger, a stretch of it in each transaction, and cut down what settled longer ago than that; how
    many signals it was."""
    total, upto = 0, 0
    while True:
        cut = await change(cut_some, upto, now - settled_after, now)
        total += cut.signals
        if cut.upto is None:
            break
        upto = cut.upto
    if total:
        log.info("cut down", signals=total, settled_before=(now - settled_after).isoformat(timespec="seconds"))
    return total


def cut_some(db: sa.Connection, after: int, before: datetime, now: datetime) -> Cut:
    """Of the next signals after that id, cut down those that settled before then: names, links and history go, what
    they are known by stays, and so do publicId and insights."""
    stretch = sa.select(signals.c.id).where(signals.c.id > after).order_by(signals.c.id).limit(_AT_ONCE).subquery()
    upto = db.scalar(sa.select(sa.func.max(stretch.c.id)))
    if upto is None:
        return Cut(0, None)
    chosen = (
        signals.c.id.between(after + 1, upto),
        signals.c.state.in_(_SETTLED),
        signals.c.settled_at < before,
        signals.c.cut_at.is_(None),
    )
    db.execute(sa.delete(events).where(events.c.signal_id.in_(sa.select(signals.c.id).where(*chosen))))
    cut = db.execute(sa.update(signals).where(*chosen).values(dict.fromkeys(_READ_BY_PEOPLE) | {"cut_at": now}))
    return Cut(cut.rowcount, upto)
