"""What comparing with Zentrik does to the ledger: what it has there is entered here, and taken over where they differ.

Every move names how the row stood when it was compared; one that has moved on since is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from syncd.fates import Failed, Outcome, Processed
from syncd.ledger import erasure
from syncd.ledger.events import Told, tell
from syncd.ledger.outcomes import GONE
from syncd.ledger.pages import UNSEEN
from syncd.ledger.statements import insert, portions
from syncd.ledger.tables import State, events, remembered, signals

_IN_BATCHES = {"yield_per": 2000}
_OPEN = (State.QUEUED, State.UNKNOWN, State.REJECTED)
"""States of signals that Zentrik, as far as the ledger knows, does not have."""


@dataclass(frozen=True, slots=True)
class There:
    """A signal as Zentrik has it."""

    public_id: str
    job_id: str | None
    outcome: Outcome

    @property
    def state(self) -> State:
        """Where it would stand in the ledger."""
        match self.outcome:
            case Processed():
                return State.PROCESSED
            case Failed():
                return State.FAILED
            case _:
                return State.PROCESSING


@dataclass(frozen=True, slots=True)
class Here:
    """A signal as the ledger has it. `run_id` is the run that last touched it."""

    id: int
    external_id: str
    state: State
    public_id: str | None
    job_id: str | None
    insight_ids: tuple[str, ...]
    attempts: int
    run_id: int | None


@dataclass(frozen=True, slots=True)
class Find:
    """A signal at Zentrik and the connector it belongs to; None when no connector's namespace claims its name."""

    external_id: str
    there: There
    connector: str | None


class Entry(StrEnum):
    """What entering a find came to."""

    ENTERED = "entered"
    """It is a row of its connector now."""

    REMEMBERED = "remembered"
    """No connector claims it; a record that turns up under its name is taken as delivered."""

    ACCEPTED = "accepted"
    """It stood here as not delivered, and is now as Zentrik says."""

    KNOWN = "known"
    """It stood here already, and was left alone."""


def enter(db: sa.Connection, finds: Sequence[Find], run: int, now: datetime) -> dict[str, Entry]:
    """Enter what Zentrik has and the ledger has not; by externalId, what it came to."""
    named = {find.external_id: find for find in finds}
    known = find_rows(db, list(named))
    open_ones = [(row, named[name].there) for name, row in known.items() if row.state in _OPEN]
    accepted = take_over(db, open_ones, run, now, "found")
    entries = {name: Entry.ACCEPTED if name in accepted else Entry.KNOWN for name, row in known.items()}
    fresh = [find for name, find in named.items() if name not in known]
    claimed = [find for find in fresh if find.connector is not None]
    entered = _insert(db, claimed, now)
    entries |= {find.external_id: Entry.ENTERED if find.external_id in entered else Entry.KNOWN for find in claimed}
    unclaimed = [find for find in fresh if find.connector is None]
    _remember(db, unclaimed, now)
    entries |= {find.external_id: Entry.REMEMBERED for find in unclaimed}
    _forget(db, [name for name, entry in entries.items() if entry is not Entry.REMEMBERED])
    return entries


def take_over(
    db: sa.Connection, moves: Sequence[tuple[Here, There]], run: int, now: datetime, event: str = "taken over"
) -> set[str]:
    """Make rows as Zentrik says, unless they have moved on since; the externalIds of those that were made so."""
    told: dict[str, Told] = {}
    for here, there in moves:
        values = _as_there(there, now)
        if here.public_id == there.public_id:
            if there.state is not State.PROCESSING:  # how long that lasts is counted from now
                del values["accepted_at"]
            if there.job_id is None:
                del values["job_id"]
        if here.public_id is None:
            values["accepted_run"] = run
        values |= {"failures": 0, "looks": 0, "absent_from": None, "run_id": run}
        if db.execute(sa.update(signals).where(*_stands_as(here)).values(values)).rowcount == 1:
            detail = f"{there.public_id} is {there.state} at Zentrik; it was {here.state} here"
            told[here.external_id] = (here.id, now, event, detail)
    tell(db, told.values())
    return set(told)


def mark_deleted(db: sa.Connection, rows: Iterable[Here], run: int, now: datetime) -> set[str]:
    """Note that Zentrik no longer has these, unless they have moved on since; the externalIds it was noted of."""
    told: dict[str, Told] = {}
    for here in rows:
        gone = {"state": State.DELETED, "last_error": GONE, "due_at": None, "settled_at": now, "run_id": run}
        if db.execute(sa.update(signals).where(*_stands_as(here)).values(gone)).rowcount == 1:
            told[here.external_id] = (here.id, now, State.DELETED, GONE)
    tell(db, told.values())
    return set(told)


def forget_unseen(db: sa.Connection, now: datetime) -> int:
    """Forget what was remembered before `now`: Zentrik did not show it again. How many were forgotten."""
    return db.execute(sa.delete(remembered).where(remembered.c.seen_at != now)).rowcount


def every_row(db: sa.Connection) -> Iterator[Here]:
    """Every signal of the ledger, in the order it was queued, a batch at a time."""
    with db.execute(sa.select(*_HERE).order_by(signals.c.id), execution_options=_IN_BATCHES) as rows:
        for row in rows:
            yield _here(row)


def find_rows(db: sa.Connection, external_ids: Sequence[str]) -> dict[str, Here]:
    """Those of the externalIds that the ledger has, or had until they were forgotten."""
    found: dict[str, Here] = {}
    for some in portions(external_ids):
        rows = db.execute(sa.select(*_HERE).where(signals.c.external_id.in_(some)))
        found |= {row.external_id: _here(row) for row in rows}
    forgotten = erasure.tombstones(db, [name for name in external_ids if name not in found])
    for some in portions(forgotten):
        stones = {forgotten[name]: name for name in some}
        rows = db.execute(sa.select(*_HERE).where(signals.c.external_id.in_(stones)))
        found |= {stones[row.external_id]: _here(row) for row in rows}
    return found


def moved_since(db: sa.Connection, ids: Sequence[int], moment: datetime) -> set[int]:
    """Those of the signals to which something has happened from that moment on."""
    moved: set[int] = set()
    for some in portions(ids):
        moved |= set(
            db.scalars(sa.select(events.c.signal_id).where(events.c.signal_id.in_(some), events.c.at >= moment))
        )
    return moved


def _insert(db: sa.Connection, finds: Sequence[Find], now: datetime) -> set[str]:
    if not finds:
        return set()
    rows = db.execute(
        insert(db, signals).on_conflict_do_nothing().returning(signals.c.id, signals.c.external_id),
        [
            {
                "external_id": find.external_id,
                "connector": find.connector,
                "fingerprint": UNSEEN,
                "first_seen_at": now,
                "attempts": 0,
                "failures": 0,
                "looks": 0,
                **_as_there(find.there, now),
            }
            for find in finds
        ],
    ).all()
    names = {find.external_id: find.there for find in finds}
    tell(db, [(row.id, now, "found", f"{names[row.external_id].public_id} at Zentrik") for row in sorted(rows)])
    return {row.external_id for row in rows}


def _remember(db: sa.Connection, finds: Sequence[Find], now: datetime) -> None:
    """Keep the names. What came of one is asked for when its record turns up: its insights may take much room."""
    if not finds:
        return
    upsert = insert(db, remembered)
    db.execute(
        upsert.on_conflict_do_update(
            index_elements=[remembered.c.external_id],
            set_={name: upsert.excluded[name] for name in ("public_id", "job_id", "state", "seen_at")},
        ),
        [
            {
                "external_id": find.external_id,
                "public_id": find.there.public_id,
                "job_id": find.there.job_id,
                "state": State.FAILED if find.there.state is State.FAILED else State.PROCESSING,
                "seen_at": now,
            }
            for find in finds
        ],
    )


def _forget(db: sa.Connection, external_ids: Sequence[str]) -> None:
    """The ledger has these as rows of its own, or has them now."""
    for some in portions(external_ids):
        db.execute(sa.delete(remembered).where(remembered.c.external_id.in_(some)))


def _as_there(there: There, now: datetime) -> dict[str, Any]:
    """The columns that say where a signal stands, as Zentrik says; a failed one is left to an operator."""
    values: dict[str, Any] = {
        "state": there.state,
        "public_id": there.public_id,
        "job_id": there.job_id,
        "insight_ids": None,
        "accepted_at": now,
        "processing_started_at": None,
        "settled_at": None,
        "due_at": None,
        "last_error": None,
        "failed_as": None,
    }
    match there.outcome:
        case Processed(insight_ids, _, started_at, ended_at):
            values |= {"insight_ids": list(insight_ids), "accepted_at": started_at or now}
            values |= {"processing_started_at": started_at, "settled_at": ended_at or now}
        case Failed(reason, _, started_at, ended_at) as failed:
            values |= {"last_error": reason, "failed_as": failed.mark, "accepted_at": started_at or now}
            values |= {"processing_started_at": started_at, "settled_at": ended_at or now}
        case _:
            values["due_at"] = now
    return values


def _stands_as(here: Here) -> Sequence[sa.ColumnElement[bool]]:
    return (
        signals.c.id == here.id,
        signals.c.state == here.state,
        signals.c.attempts == here.attempts,
        signals.c.public_id.is_not_distinct_from(here.public_id),
        signals.c.job_id.is_not_distinct_from(here.job_id),
    )


def _here(row: sa.Row[Any]) -> Here:
    values = row._asdict()
    values["state"] = State(values["state"])
    values["insight_ids"] = tuple(values["insight_ids"] or ())
    return Here(**values)


_HERE = [signals.c[name] for name in Here.__slots__]
