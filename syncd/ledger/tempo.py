"""The pace that Zentrik allows, shared by all who post from this ledger: one row, once it found somebody too fast."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from syncd.ledger.statements import insert
from syncd.ledger.tables import signals, tempo
from syncd.logs import get_logger
from syncd.pacing import Tempo

log = get_logger()

_SHORTLY = timedelta(seconds=5)
"""After a rest: what is refused by then, is refused again."""

_PLENTY = 1_000_000_000
"""More posts need not be counted: by then nothing is spaced out, and the column holds no more than twice as many."""


_LATEST, _ENOUGH = 2000, 10
"""The pace is judged by so many posts, and at least by so many in one stretch."""

_STRETCH_SECONDS = 10
_STRETCH = _STRETCH_SECONDS * 1_000_000


class TooFast(NamedTuple):
    """Zentrik refused posts because there were too many: when first, and for how long it is left alone now. `posted`
    is what it had let through before in `took`, of this syncd's alone."""

    at: datetime
    rest: timedelta
    posted: int
    took: timedelta


class Turns(NamedTuple):
    """When posts may be made, one after the other, and when the turn after them comes."""

    at: list[datetime]
    next_at: datetime


def count(db: sa.Connection, posted: int) -> None:
    """So many posts were let through."""
    if posted:
        db.execute(
            sa.update(tempo)
            .where(tempo.c.rate.is_not(None), tempo.c.posted < _PLENTY)
            .values(posted=tempo.c.posted + posted)
        )


def slow_down(db: sa.Connection, too_fast: TooFast, syncds: int) -> None:
    """Learn from a refusal. So many syncds were posting then; that each of them hears of it is one piece of news."""
    db.execute(insert(db, tempo).values(id=1, posted=0, early=0).on_conflict_do_nothing())
    row = db.execute(_ROW).one()
    if row.slowed_at is not None and too_fast.at < row.slowed_at + row.rest:
        return
    if row.rate is None:
        again = row.slowed_at is not None and too_fast.at < row.slowed_at + row.rest + _SHORTLY
        learned = Tempo.first(too_fast.posted * syncds, too_fast.took, too_fast.rest, again)
    else:
        learned = _tempo(row).refused(too_fast.rest)
    if learned is not None:
        log.info("Zentrik wants fewer posts; they are spaced out", a_second=round(learned.rate, 1))
    db.execute(
        sa.update(tempo).values(
            rate=learned and learned.rate,
            rest=too_fast.rest,
            posted=0,
            early=learned.early if learned else 0,
            slowed_at=too_fast.at,
            next_at=too_fast.at,
        )
    )


def turns(db: sa.Connection, most: int, now: datetime) -> Turns | None:
    """The turns of up to so many posts, kept from others while this transaction lasts; None while nothing is known of
    a pace."""
    row = db.execute(_ROW.where(tempo.c.rate.is_not(None))).one_or_none()
    if row is None:
        return None
    return Turns(*_tempo(row).turns(most, row.next_at, now))


def take(db: sa.Connection, turns: Turns, number: int) -> None:
    """Take the first so many of these turns; the others are left to whoever comes next."""
    if number:
        db.execute(sa.update(tempo).values(next_at=[*turns.at, turns.next_at][number]))


def posts_a_second(db: sa.Connection) -> float | None:
    """The pace that is known: the one that was learned, or else the fastest ten seconds among the last posts; None when
    too few were made to tell."""
    learned = db.scalar(sa.select(tempo.c.rate))
    if learned is not None:
        return float(learned)
    latest = (
        sa.select(sa.cast(signals.c.accepted_at, sa.BigInteger).label("at"))
        .where(signals.c.accepted_at.is_not(None))
        .order_by(signals.c.id.desc())
        .limit(_LATEST)
        .subquery()
    )
    counts = sa.select(sa.func.count()).group_by(latest.c.at // _STRETCH).order_by(sa.func.count().desc()).limit(1)
    most = db.scalar(counts.select_from(latest)) or 0
    return most / _STRETCH_SECONDS if most >= _ENOUGH else None


def forget(db: sa.Connection) -> None:
    """Begin anew, as fast as can be."""
    db.execute(sa.delete(tempo))


_ROW = sa.select(tempo).with_for_update()


def _tempo(row: sa.Row[Any]) -> Tempo:
    return Tempo(row.rate, row.rest, row.posted, row.early)
