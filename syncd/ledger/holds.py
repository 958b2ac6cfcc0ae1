"""Signals that wait for an account which Zentrik does not have yet: queued, due at no time, until it is there.

A row of `holds` counts only while its signal stands so. Whatever else becomes of the signal ends the hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from syncd.errors import RecordError
from syncd.ledger import subjects
from syncd.ledger.events import Told, tell
from syncd.ledger.statements import held, insert, portions
from syncd.ledger.tables import IS_QUEUED, State, bodies, holds, signals
from syncd.redaction import Redaction
from syncd.signals import Asks, with_account
from syncd.subjects import of_account

ASKED_AGAIN = timedelta(hours=1)
"""How long it is until Zentrik is asked again. What it said before is not believed for longer either."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A signal that waits: what its account is asked by, the first that finds one being the one, and when it is asked
    for next."""

    signal_id: int
    connector: str
    asks: Asks
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """The end of a hold: the field of the body that names the account and its id, or None and why there is none.
    `redaction` is that of the connector, which an id must not offend either."""

    hold: Hold
    account: tuple[str, str] | None
    why: str = ""
    redaction: Redaction | None = None


def words(asks: Asks) -> str:
    """What is waited for: `domain acme.com`."""
    return " or ".join(f"{field} {value}" for field, value in asks)


def place(db: sa.Connection, whose: Mapping[int, Asks], now: datetime) -> None:
    """Let queued signals wait. One that waits for the same already is asked for when it was to be."""
    known = _asks(db, whose)
    differing = {id_: asks for id_, asks in whose.items() if known.get(id_) != asks}
    for some in portions(sorted(whose)):
        db.execute(sa.update(signals).where(signals.c.id.in_(some), IS_QUEUED).values(due_at=None))
    if differing:
        due_at = now + ASKED_AGAIN
        upsert = insert(db, holds)
        db.execute(
            upsert.on_conflict_do_update(
                index_elements=[holds.c.signal_id],
                set_={name: upsert.excluded[name] for name in ("asks", "due_at")},
            ),
            [{"signal_id": id_, "asks": asks, "due_at": due_at} for id_, asks in sorted(differing.items())],
        )
        tell(db, [(id_, now, "held", f"no account for {words(asks)}") for id_, asks in sorted(differing.items())])


def renew(db: sa.Connection, whose: Mapping[int, Asks], now: datetime) -> None:
    """Those of the signals that wait wait for this from now on."""
    known = _asks(db, whose)
    place(db, {id_: asks for id_, asks in whose.items() if id_ in known}, now)


def follow(db: sa.Connection, id_: int, asks: Asks, now: datetime) -> None:
    """A queued signal waits as its newest record says, or does not."""
    if asks:
        place(db, {id_: asks}, now)
    elif db.execute(sa.delete(holds).where(holds.c.signal_id == id_)).rowcount:
        db.execute(sa.update(signals).where(signals.c.id == id_, *_IS_HELD).values(due_at=now))


def due(db: sa.Connection, now: datetime, limit: int, only: Collection[str] | None = None) -> list[Hold]:
    """The signals whose accounts it is time to ask for, longest due first."""
    return _found(db, _of(only).where(holds.c.due_at <= now).order_by(holds.c.due_at, holds.c.signal_id).limit(limit))


def of_connectors(db: sa.Connection, names: Collection[str], limit: int) -> list[Hold]:
    """Signals of these connectors that wait, due or not."""
    return _found(db, _of(names).order_by(holds.c.signal_id).limit(limit)) if names else []


def of_signal(db: sa.Connection, id_: int) -> Hold | None:
    """What a signal waits for, if it does."""
    return next(iter(_found(db, _of(None).where(holds.c.signal_id == id_))), None)


def next_due(db: sa.Connection, only: Collection[str] | None = None) -> datetime | None:
    """When the next account is to be asked for; None when nothing waits for one."""
    return next((each.due_at for each in _found(db, _of(only).order_by(holds.c.due_at).limit(1))), None)


def counts(db: sa.Connection) -> dict[str, int]:
    """By connector, how many signals wait for an account."""
    number = sa.select(signals.c.connector, sa.func.count()).join(holds, holds.c.signal_id == signals.c.id)
    return {row[0]: row[1] for row in db.execute(number.where(*_IS_HELD).group_by(signals.c.connector))}


def put_off(db: sa.Connection, ids: Iterable[int], until: datetime) -> None:
    """Ask for the accounts of these then."""
    for some in portions(sorted(ids)):
        db.execute(sa.update(holds).where(holds.c.signal_id.in_(some)).values(due_at=until))


def put_off_due(db: sa.Connection, now: datetime, until: datetime) -> int:
    """Ask for all that are due now then; how many that are."""
    return db.execute(sa.update(holds).where(holds.c.due_at <= now).values(due_at=until)).rowcount


def hasten(db: sa.Connection, now: datetime) -> None:
    """The clock was set back: nothing waits for the old time."""
    db.execute(sa.update(holds).where(holds.c.due_at > now + ASKED_AGAIN).values(due_at=now))


def drop(db: sa.Connection, ids: Iterable[int]) -> None:
    """Drop the holds of these signals, and leave the signals as they are."""
    for some in portions(ids):
        db.execute(sa.delete(holds).where(holds.c.signal_id.in_(some)))


def drop_ended(db: sa.Connection) -> None:
    """Drop the holds of signals that stand otherwise by now."""
    waiting = sa.select(signals.c.id).where(signals.c.id == holds.c.signal_id, *_IS_HELD)
    db.execute(sa.delete(holds).where(~waiting.exists()))


def release(db: sa.Connection, releases: Sequence[Release], run: int, now: datetime) -> int:
    """Have signals posted that still wait as they were found, with the account where there is one; how many.

    Whose id may not be posted as it is goes out without its account.
    """
    by_id = {each.hold.signal_id: each for each in releases}
    told: list[Told] = []
    for row in list(held(db, _STANDING, by_id)):
        each = by_id[row.id]
        if (row.state, row.due_at) != (State.QUEUED, None) or _asks(db, [row.id]).get(row.id) != each.hold.asks:
            continue
        columns: dict[str, Any] = {"due_at": now, "run_id": run}
        told_of = f"without an account: {each.why}"
        if each.account is not None:
            try:
                columns |= _name(db, row.id, each.account, each.redaction)
                told_of = f"account {each.account[1]}"
            except RecordError as error:
                told_of = f"without an account: {error}"
        db.execute(sa.update(signals).where(signals.c.id == row.id).values(columns))
        told.append((row.id, now, "released", told_of))
    drop(db, [id_ for id_, *_ in told])
    tell(db, told)
    return len(told)


def _name(db: sa.Connection, id_: int, account: tuple[str, str], redaction: Redaction | None) -> dict[str, Any]:
    """Write the account into a signal's body; the columns that change with it. Raises `RecordError`."""
    mine = bodies.c.signal_id == id_
    body = db.execute(sa.select(bodies.c.body).where(mine)).scalar_one()
    named = with_account(body, *account, redaction)
    db.execute(sa.update(bodies).where(mine).values(body=named))
    subjects.note(db, {id_: [of_account(account[1])]})
    return {"fingerprint": hashlib.sha256(named).digest(), "account": account[1]}


def _asks(db: sa.Connection, ids: Iterable[int]) -> dict[int, Asks]:
    """What those of the signals wait for that do."""
    found: dict[int, Asks] = {}
    for some in portions(ids):
        rows = db.execute(sa.select(holds.c.signal_id, holds.c.asks).where(holds.c.signal_id.in_(some)))
        found |= {row.signal_id: _read(row.asks) for row in rows}
    return found


def _of(names: Collection[str] | None) -> sa.Select[Any]:
    chosen = (
        sa.select(holds.c.signal_id, signals.c.connector, holds.c.asks, holds.c.due_at)
        .join(signals, signals.c.id == holds.c.signal_id)
        .where(*_IS_HELD)
    )
    return chosen if names is None else chosen.where(signals.c.connector.in_(names))


def _found(db: sa.Connection, chosen: sa.Select[Any]) -> list[Hold]:
    return [Hold(row.signal_id, row.connector, _read(row.asks), row.due_at) for row in db.execute(chosen)]


def _read(asks: Iterable[Sequence[str]]) -> Asks:
    return tuple((field, value) for field, value in asks)


_IS_HELD = (IS_QUEUED, signals.c.due_at.is_(None))
_STANDING = sa.select(signals.c.id, signals.c.state, signals.c.due_at)
