"""Backfills: windows of a source's past, in slices that are each read from a checkpoint of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import sqlalchemy as sa

from syncd.connector import Source
from syncd.ledger.tables import backfills, slices
from syncd.mapping import NOTHING
from syncd.records import Checkpoint, Json

Cut: TypeAlias = Callable[[datetime | None, datetime], Sequence[tuple[datetime | None, datetime]]]
"""Cuts a window into slices, the oldest first."""

IsAlive: TypeAlias = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a backfill's window, `since` included (None: from the source's beginning) and `until` not; and where
    reading goes on in it."""

    id: int
    since: datetime | None
    until: datetime
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Backfill:
    """A window of a connector that somebody asked for, and how many of its slices are read to their end.

    `asked_until` is None when nobody said until when: it ends when it was begun, at `until`.
    """

    id: int
    connector: str
    since: datetime | None
    until: datetime
    asked_until: datetime | None
    started_at: datetime
    finished_at: datetime | None
    slices: int
    read: int

    def as_json(self) -> dict[str, Json]:
        """As `run-once --json` and `status --json` print it."""
        return {
            "since": self.since.isoformat() if self.since else None,
            "until": self.until.isoformat(),
            "slices": self.slices,
            "read": self.read,
            "startedAt": self.started_at.isoformat(),
            "finishedAt": self.finished_at.isoformat() if self.finished_at else None,
        }


def digest(source: Source) -> str:
    """The settings of a connector, such that a change of them is seen. A new secret is no change."""
    said = repr(source.connector)
    if source.mapping != NOTHING:
        said += repr(source.mapping)
    if source.redaction is not None:
        said += source.redaction.digest
    return hashlib.sha256(said.encode(errors="surrogatepass")).hexdigest()


# Questions


def unfinished(db: sa.Connection) -> list[Backfill]:
    """The backfills that are not read to their end, the oldest first."""
    return _found(db, backfills.c.finished_at.is_(None))


def begun(db: sa.Connection, source: Source, since: datetime | None, until: datetime | None) -> Backfill | None:
    """The backfill that goes on when this window is asked for, begun with these settings; None when it begins anew."""
    return next((row for row in _unread(db, source, since, until) if _settings(db, row) == digest(source)), None)


def named(db: sa.Connection, id_: int) -> Backfill | None:
    """The backfill of that number, unless it was begun anew since."""
    return next(iter(_found(db, backfills.c.id == id_)), None)


def left(db: sa.Connection, backfill: int) -> list[Slice]:
    """What is not read to its end of a backfill, the oldest first."""
    rows = sa.select(slices.c.id, slices.c.since, slices.c.until, slices.c.checkpoint)
    unread = rows.where(slices.c.backfill_id == backfill, slices.c.finished_at.is_(None))
    return [Slice(*row) for row in db.execute(unread.order_by(slices.c.id))]


# Changes


def begin(
    db: sa.Connection,
    source: Source,
    since: datetime | None,
    until: datetime | None,
    cut: Cut,
    now: datetime,
    is_alive: IsAlive,
) -> Backfill:
    """Begin a backfill, or go on with it.

    One that was begun with other settings is begun anew, unless a run is at it.
    """
    going_on = _unread(db, source, since, until)
    for row in going_on:
        if _settings(db, row) == digest(source) or _is_being_read(db, row, now, is_alive):
            return row
    end = until or next((row.until for row in going_on), now)
    db.execute(sa.delete(backfills).where(_is(source.name, since, until)))
    about = {"since": since, "until": end, "asked_until": until, "settings": digest(source), "started_at": now}
    made = sa.insert(backfills).values(connector=source.name, **about).returning(backfills.c.id)
    id_: int = db.execute(made).scalar_one()
    parts: list[dict[str, Any]] = [
        {"backfill_id": id_, "since": first, "until": last, "checkpoint": {}} for first, last in cut(since, end)
    ]
    db.execute(sa.insert(slices), parts)
    [row] = _found(db, backfills.c.id == id_)
    return row


def take(
    db: sa.Connection, backfill: int, after: int, run: int, now: datetime, lease: datetime, is_alive: IsAlive
) -> Slice | None:
    """Take the first slice behind `after` that is not read to its end, and that no living run has."""
    db.execute(sa.select(backfills.c.id).where(backfills.c.id == backfill).with_for_update())
    unread = sa.select(slices).where(
        slices.c.backfill_id == backfill, slices.c.id > after, slices.c.finished_at.is_(None)
    )
    for row in db.execute(unread.order_by(slices.c.id)).all():
        if not _is_taken(row, now, is_alive):
            db.execute(sa.update(slices).where(slices.c.id == row.id).values(run_id=run, lease_until=lease))
            return Slice(row.id, row.since, row.until, row.checkpoint)
    return None


def keep(db: sa.Connection, taken: Slice, checkpoint: Checkpoint | None, run: int, lease: datetime) -> bool:
    """Move on in a slice (None: stay), and renew its lease; whether the run still has it."""
    kept: dict[str, object] = {"lease_until": lease}
    if checkpoint is not None:
        kept["checkpoint"] = checkpoint
    return db.execute(_mine(taken, run).values(kept)).rowcount == 1


def give_back(db: sa.Connection, taken: Slice, run: int, now: datetime, *, is_whole: bool) -> None:
    """Let go of a slice. With the last one the backfill is finished."""
    ended: dict[str, object] = {"run_id": None, "lease_until": None}
    if is_whole:
        ended["finished_at"] = now
    if db.execute(_mine(taken, run).values(ended)).rowcount != 1 or not is_whole:
        return
    backfill = sa.select(slices.c.backfill_id).where(slices.c.id == taken.id).scalar_subquery()
    others = sa.exists().where(slices.c.backfill_id == backfills.c.id, slices.c.finished_at.is_(None))
    db.execute(sa.update(backfills).where(backfills.c.id == backfill, ~others).values(finished_at=now))


def shorten_leases(db: sa.Connection, lease: datetime) -> None:
    """The clock was set back: no slice is kept from others for longer than that."""
    db.execute(sa.update(slices).where(slices.c.lease_until > lease).values(lease_until=lease))


def drop_finished(db: sa.Connection, before: datetime) -> None:
    """Forget the backfills that were finished before then."""
    db.execute(sa.delete(backfills).where(backfills.c.finished_at < before))


def _found(db: sa.Connection, condition: sa.ColumnElement[bool]) -> list[Backfill]:
    parts = (
        sa.select(
            slices.c.backfill_id, sa.func.count().label("slices"), sa.func.count(slices.c.finished_at).label("read")
        )
        .group_by(slices.c.backfill_id)
        .subquery()
    )
    columns = [column for column in backfills.c if column.name in Backfill.__slots__]
    rows = sa.select(*columns, parts.c.slices, parts.c.read).join(parts, parts.c.backfill_id == backfills.c.id)
    return [Backfill(**row._asdict()) for row in db.execute(rows.where(condition).order_by(backfills.c.id))]


def _is(connector: str, since: datetime | None, until: datetime | None) -> sa.ColumnElement[bool]:
    return sa.and_(
        backfills.c.connector == connector,
        backfills.c.since.is_not_distinct_from(since),
        backfills.c.asked_until.is_not_distinct_from(until),
    )


def _unread(db: sa.Connection, source: Source, since: datetime | None, until: datetime | None) -> list[Backfill]:
    return _found(db, sa.and_(_is(source.name, since, until), backfills.c.finished_at.is_(None)))


def _settings(db: sa.Connection, row: Backfill) -> str | None:
    return db.scalar(sa.select(backfills.c.settings).where(backfills.c.id == row.id))


def _is_being_read(db: sa.Connection, row: Backfill, now: datetime, is_alive: IsAlive) -> bool:
    held = sa.select(slices).where(slices.c.backfill_id == row.id, slices.c.run_id.is_not(None))
    return any(_is_taken(each, now, is_alive) for each in db.execute(held).all())


def _is_taken(row: sa.Row[Any], now: datetime, is_alive: IsAlive) -> bool:
    return row.run_id is not None and row.lease_until > now and is_alive(row.run_id)


def _mine(taken: Slice, run: int) -> sa.Update:
    return sa.update(slices).where(slices.c.id == taken.id, slices.c.run_id == run, slices.c.finished_at.is_(None))
