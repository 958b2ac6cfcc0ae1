"""What forgetting does to the ledger: signals become tombstones, which say nothing and keep their records out.

A tombstone is known by a keyed digest of its externalId, which may name a person itself. While Zentrik still has the
signal, the row keeps its externalId and is due: it blocks the record just as well, and cannot be lost track of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from syncd.ledger import holds
from syncd.ledger import subjects as noted
from syncd.ledger.events import tell
from syncd.ledger.statements import held, portions
from syncd.ledger.tables import State, bodies, events, remembered, revisions, set_aside, signals, subject_key

UNCLAIMED = ""
"""The connector of a tombstone that none claims: Zentrik had it from before this ledger."""

_NOTHING = b"\0"
"""The fingerprint of a tombstone: that of no record."""

_UNSEEN = b""
"""The fingerprint of a signal that was found at Zentrik and whose record no source has shown yet (`pages.UNSEEN`)."""

_UNCERTAIN = (State.SENDING, State.UNKNOWN)
"""States in which nobody knows whether Zentrik has a signal: none of these is made a tombstone."""


@dataclass(frozen=True, slots=True)
class Found:
    """A signal that is to be forgotten, as it stands. Without an id it is one that no connector claims (`remembered`).

    `is_pending`: it is a tombstone already, and Zentrik still has it.
    """

    id: int | None
    external_id: str
    connector: str
    state: State
    public_id: str | None
    insight_ids: tuple[str, ...] = ()
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class Survey:
    """What the ledger has of what is to be forgotten.

    `unknown` are externalIds that it does not have, `already` those that it has forgotten before; `digests` gives the
    keyed digest of each address and account. `predating` counts the signals of which nobody noted whom they speak of;
    it is asked only where that matters.
    """

    found: tuple[Found, ...]
    unknown: tuple[str, ...]
    already: tuple[str, ...]
    digests: Mapping[str, bytes]
    predating: int


def look_up(db: sa.Connection, external_ids: Sequence[str], subjects: Mapping[str, str]) -> Survey:
    """What the ledger has under these externalIds, and of these subjects, each as it was written."""
    found = find(db, external_ids, list(subjects.values()))
    named = {each.external_id for each in found}
    absent = [name for name in external_ids if name not in named]
    already = tombstones(db, absent)
    return Survey(
        tuple(found),
        tuple(name for name in absent if name not in already),
        tuple(already),
        noted.digests(db, subjects),
        predating(db) if subjects else 0,
    )


def stand(db: sa.Connection, ids: Sequence[int]) -> dict[int, Found]:
    """How these signals stand."""
    rows = (row for some in portions(ids) for row in db.execute(sa.select(*_FOUND).where(signals.c.id.in_(some))))
    return {row.id: _found(row) for row in rows}


def tombstones(db: sa.Connection, external_ids: Sequence[str]) -> dict[str, str]:
    """Those of the externalIds that were forgotten, each with the name its tombstone goes by."""
    if not external_ids:
        return {}
    secret = db.scalar(sa.select(subject_key.c.key).where(subject_key.c.erased_at.is_not(None)))
    if secret is None:
        return {}
    stones = {_tombstone(secret, name): name for name in external_ids}
    found: dict[str, str] = {}
    for some in portions(stones):
        for stone in db.scalars(sa.select(signals.c.external_id).where(signals.c.external_id.in_(some))):
            found[stones[stone]] = stone
    return found


def find(db: sa.Connection, external_ids: Sequence[str], subjects: Sequence[str]) -> list[Found]:
    """The signals with these externalIds, and those that speak of any of these subjects; in the order they were queued.

    What is forgotten already is left out, unless Zentrik still has it.
    """
    wanted: list[sa.ColumnElement[bool]] = [signals.c.external_id.in_(some) for some in portions(external_ids)]
    wanted += [signals.c.id.in_(some) for some in portions(sorted(noted.speaking_of(db, subjects)))]
    rows = {row.id: row for each in wanted for row in db.execute(sa.select(*_FOUND).where(each))}
    for some in portions(list(rows)):  # what was posted beside them when their records changed
        rows |= {row.id: row for row in db.execute(sa.select(*_FOUND).where(signals.c.revises.in_(some)))}
    found = [_found(row) for _, row in sorted(rows.items()) if _is_to_be_forgotten(row)]
    for some in portions(external_ids):
        found += [
            Found(None, row.external_id, UNCLAIMED, State(row.state), row.public_id)
            for row in db.execute(sa.select(remembered).where(remembered.c.external_id.in_(some)))
        ]
    return found


def predating(db: sa.Connection) -> int:
    """How many signals may speak of somebody without anybody having noted it: they were queued before that was done, or
    entered from what Zentrik has and not seen at their source since."""
    after = db.scalar(sa.select(subject_key.c.noted_after))
    is_old = sa.true() if after is None else signals.c.id <= after
    unseen = signals.c.fingerprint == _UNSEEN
    chosen = sa.select(sa.func.count()).select_from(signals).where(sa.or_(is_old, unseen))
    number: int = db.execute(chosen.where(signals.c.state != State.FORGOTTEN)).scalar_one()
    return number + (db.scalar(sa.select(sa.func.count()).select_from(remembered)) or 0)


def adopt(db: sa.Connection, external_ids: Sequence[str], run: int, now: datetime) -> dict[str, int]:
    """Make tombstones of what Zentrik has under these names and no connector claims; the id of each."""
    made: dict[str, int] = {}
    for some in portions(external_ids):
        for row in db.execute(sa.select(remembered).where(remembered.c.external_id.in_(some))).all():
            blank = {"fingerprint": _NOTHING, "attempts": 0, "failures": 0, "looks": 0, "first_seen_at": now}
            named = {"external_id": row.external_id, "connector": UNCLAIMED, "public_id": row.public_id}
            stone = sa.insert(signals).values(state=State.FORGOTTEN, due_at=now, run_id=run, **blank, **named)
            made[row.external_id] = db.execute(stone.returning(signals.c.id)).scalar_one()
        db.execute(sa.delete(remembered).where(remembered.c.external_id.in_(some)))
    if made:
        _begin(db, now)
    tell(db, [(id_, now, State.FORGOTTEN, None) for id_ in made.values()])
    return made


def erase(db: sa.Connection, ids: Iterable[int], run: int, now: datetime) -> set[int]:
    """Make tombstones of signals: whatever was kept of them is gone, but for what leads to the signal at Zentrik as
    long as that is there. The ids of those that were left, because nobody knows whether Zentrik has them."""
    _overwrite(db)
    rows = list(held(db, sa.select(*_FOUND, signals.c.place), ids))
    changing = _changing(db, [row.id for row in rows])
    left = {row.id for row in rows if row.state in _UNCERTAIN or row.id in changing}
    chosen = [row for row in rows if row.id not in left and row.state != State.FORGOTTEN]
    if not chosen:
        return left
    _begin(db, now)
    for row in chosen:
        gone: dict[str, object] = dict.fromkeys(_SAID)
        gone |= {"state": State.FORGOTTEN, "fingerprint": _NOTHING, "run_id": run}
        gone |= {"due_at": None if row.public_id is None else now, "settled_at": now if row.public_id is None else None}
        db.execute(sa.update(signals).where(signals.c.id == row.id).values(gone))
        if row.place:
            beside = set_aside.c.connector == row.connector, set_aside.c.place == row.place
            db.execute(sa.delete(set_aside).where(*beside))
    for some in portions([row.id for row in chosen]):
        db.execute(sa.delete(bodies).where(bodies.c.signal_id.in_(some)))
        db.execute(sa.delete(revisions).where(revisions.c.signal_id.in_(some)))
        holds.drop(db, some)
        db.execute(sa.update(events).where(events.c.signal_id.in_(some)).values(detail=None))
    tell(db, [(row.id, now, State.FORGOTTEN, None) for row in chosen])
    _seal(db, [row.id for row in chosen if row.public_id is None])
    return left


def _changing(db: sa.Connection, ids: Sequence[int]) -> set[int]:
    """Those of the signals that are being replaced, so that Zentrik has another one besides: a change that only waits
    is dropped with what is forgotten, one that was begun has to come to its end first."""
    found: set[int] = set()
    begun = revisions.c.kind == "edit", revisions.c.step != "settling"
    for some in portions(ids):
        mine = sa.select(revisions.c.signal_id).where(revisions.c.signal_id.in_(some), *begun)
        found |= set(db.scalars(mine.order_by(revisions.c.signal_id).with_for_update()))
    return found


def pending(db: sa.Connection) -> list[Found]:
    """Every tombstone whose signal Zentrik still has, whoever asked for it, longest due first."""
    due = sa.select(*_FOUND).where(signals.c.state == State.FORGOTTEN, signals.c.due_at.is_not(None))
    return [_found(row) for row in db.execute(due.order_by(signals.c.due_at, signals.c.id))]


def note_insights(db: sa.Connection, seen: Mapping[int, Sequence[str]]) -> None:
    """Note what Zentrik drew from signals that are about to be deleted there: nobody can ask for it afterwards."""
    for id_, insight_ids in sorted(seen.items()):
        mine = signals.c.id == id_, signals.c.state == State.FORGOTTEN
        db.execute(sa.update(signals).where(*mine).values(insight_ids=list(insight_ids)))


def conclude(db: sa.Connection, deleted: Mapping[int, str], now: datetime) -> None:
    """Zentrik has these no longer, each under the publicId it was deleted by: the tombstones lose their names."""
    _overwrite(db)
    gone: list[int] = []
    for id_, public_id in sorted(deleted.items()):
        mine = signals.c.id == id_, signals.c.state == State.FORGOTTEN, signals.c.public_id == public_id
        closed = sa.update(signals).where(*mine, signals.c.due_at.is_not(None)).values(due_at=None, settled_at=now)
        gone += [id_] * db.execute(closed).rowcount
    tell(db, [(id_, now, "deleted at Zentrik", deleted[id_]) for id_ in gone])
    _seal(db, gone)


def note_late(db: sa.Connection, id_: int, public_id: str, now: datetime) -> None:
    """An answer that nobody waited for any more says that Zentrik took a signal that was forgotten meanwhile: it is due
    to be deleted there."""
    mine = signals.c.id == id_, signals.c.state == State.FORGOTTEN
    db.execute(sa.update(signals).where(*mine).values(public_id=public_id, due_at=now, settled_at=None))


def _seal(db: sa.Connection, ids: Sequence[int]) -> None:
    """Nothing more is to be found of these: each takes the name that only its externalId leads to."""
    secret = noted.key(db)
    for some in portions(ids):
        named = sa.select(signals.c.id, signals.c.external_id).where(signals.c.id.in_(some))
        for row in db.execute(named).all():
            if not _IS_TOMBSTONE.fullmatch(row.external_id):
                stone = _tombstone(secret, row.external_id)
                db.execute(sa.update(signals).where(signals.c.id == row.id).values(external_id=stone))
    noted.drop(db, ids)


_PREFIX = "forgotten:"
_IS_TOMBSTONE = re.compile(rf"{_PREFIX}[0-9a-f]{{32}}")


def _tombstone(secret: bytes, external_id: str) -> str:
    return _PREFIX + noted.digest(secret, f"externalId:{external_id}").hex()


def _begin(db: sa.Connection, now: datetime) -> None:
    """From now on there are tombstones to be looked for."""
    noted.key(db)
    db.execute(sa.update(subject_key).where(subject_key.c.erased_at.is_(None)).values(erased_at=now))


def _overwrite(db: sa.Connection) -> None:
    """Have SQLite write zeros over what it deletes; PostgreSQL has its vacuum for that."""
    if db.dialect.name == "sqlite":
        db.exec_driver_sql("PRAGMA secure_delete = ON")


def _is_to_be_forgotten(row: sa.Row[Any]) -> bool:
    return bool(row.state != State.FORGOTTEN or row.due_at is not None)


def _found(row: sa.Row[Any]) -> Found:
    state = State(row.state)
    insights = tuple(row.insight_ids or ())
    is_pending = state is State.FORGOTTEN and row.due_at is not None
    return Found(row.id, row.external_id, row.connector, state, row.public_id, insights, is_pending)


_FOUND = [signals.c[name] for name in ("id", "external_id", "connector", "state", "public_id", "insight_ids", "due_at")]

_SAID = (
    *("source_fingerprint", "signal_type", "name", "occurred_at", "source_url", "place", "version"),
    *("last_error", "job_id", "failed_as", "absent_from", "processing_started_at", "cut_at"),
    *("content", "source_content", "account", "characters", "redacted", "first_page"),
)
"""The columns that say something of a record, or of what became of it."""
