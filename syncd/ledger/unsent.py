"""What Zentrik does not have yet, and which redaction its bodies went through."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from syncd.connector import Source
from syncd.ledger.events import tell
from syncd.ledger.statements import held, insert
from syncd.ledger.tables import State, bodies, connectors, revisions, signals
from syncd.redaction import summary
from syncd.signals import Signal


@dataclass(frozen=True, slots=True)
class Unsent:
    """A signal that is queued, or would be on an operator's word, and the body that would be posted."""

    id: int
    external_id: str
    body: bytes


_STATES = (State.QUEUED, State.REJECTED)
_STANDING = sa.select(signals.c.id, signals.c.state, signals.c.fingerprint, signals.c.source_url)


def redactions(db: sa.Connection) -> dict[str, str]:
    """By connector, the digest of the redaction that all its unsent bodies went through, if they did."""
    rows = db.execute(sa.select(connectors.c.name, connectors.c.redaction).where(connectors.c.redaction.is_not(None)))
    return {row[0]: row[1] for row in rows}


def find(db: sa.Connection, source: Source, after: int, limit: int) -> list[Unsent]:
    """The unsent signals of a connector in the order of their numbers, after that one."""
    rows = db.execute(
        sa.select(signals.c.id, signals.c.external_id, bodies.c.body)
        .join(bodies, bodies.c.signal_id == signals.c.id)
        .where(signals.c.connector == source.name, signals.c.state.in_(_STATES), signals.c.id > after)
        .order_by(signals.c.id)
        .limit(limit)
    )
    return [Unsent(*row) for row in rows]


def exchange(db: sa.Connection, redacted: Sequence[tuple[Unsent, Signal | str]], now: datetime) -> None:
    """Put redacted bodies in the place of those that were found, where these still wait as they were. What cannot be
    posted at all, for the reason given instead, is rejected, and its body dropped: it must never leave."""
    by_id = {unsent.id: (unsent, instead) for unsent, instead in redacted}
    for row in list(held(db, _STANDING, by_id)):
        unsent, instead = by_id[row.id]
        if row.state not in _STATES or row.fingerprint != hashlib.sha256(unsent.body).digest():
            continue
        here = signals.c.id == row.id
        match instead:
            case Signal() as signal:
                words: dict[str, Any] = {
                    "fingerprint": signal.fingerprint,
                    "name": signal.name,
                    "source_url": row.source_url and signal.source_url,
                    "characters": signal.characters,
                    "redacted": dict(signal.redacted),
                    "content": signal.content,
                }
                db.execute(sa.update(signals).where(here).values(words))
                db.execute(sa.update(bodies).where(bodies.c.signal_id == row.id).values(body=signal.body))
                tell(db, [(row.id, now, "redacted", summary(signal.redacted))])
            case reason:
                ended = {"state": State.REJECTED, "due_at": None, "last_error": reason}
                db.execute(sa.update(signals).where(here).values(ended))
                db.execute(sa.delete(bodies).where(bodies.c.signal_id == row.id))
                tell(db, [(row.id, now, State.REJECTED, reason)])


def note(db: sa.Connection, source: Source, digest: str | None) -> None:
    """Note which redaction all unsent bodies of a connector went through (None: none)."""
    about = {"name": source.name, "type": source.type, "namespace": source.namespace, "checkpoint": {}}
    db.execute(
        insert(db, connectors)
        .values(**about, redaction=digest)
        .on_conflict_do_update(index_elements=[connectors.c.name], set_={"redaction": digest})
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """A changed record that waits for its turn beside the one that was posted: its body, and what it says of itself."""

    table: sa.Table
    signal_id: int
    external_id: str
    body: bytes
    words: Mapping[str, Any]


def kept(db: sa.Connection, source: Source) -> list[Kept]:
    """The changed records of a connector that are kept: until the change has stood, or it is known whether Zentrik has
    the first."""
    found: list[Kept] = []
    for table, (body, words) in _BESIDE.items():
        chosen = sa.select(table.c.signal_id, signals.c.external_id, table.c[body], table.c[words])
        rows = chosen.join(signals, signals.c.id == table.c.signal_id).where(
            signals.c.connector == source.name, table.c[body].is_not(None)
        )
        found += [Kept(table, *row) for row in db.execute(rows)]
    return found


def exchange_kept(db: sa.Connection, redacted: Sequence[tuple[Kept, Signal | str]], now: datetime) -> None:
    """The same for changed records that are kept. One that cannot be posted at all is dropped, as its history says."""
    for one, instead in redacted:
        body, words = _BESIDE[one.table]
        mine = one.table.c.signal_id == one.signal_id, one.table.c[body] == one.body
        anew: dict[str, Any] = {body: None, words: None}
        if isinstance(instead, Signal):
            said = {
                "fingerprint": instead.fingerprint.hex(),
                "content": instead.content.hex(),
                "name": instead.name,
                "source_url": one.words.get("source_url") and instead.source_url,
                "characters": instead.characters,
                "redacted": dict(instead.redacted),
            }
            anew = {body: instead.body, words: {**one.words, **said}}
        dropped = 0
        if anew[body] is None and one.table is revisions:  # one that was not begun is none without its text
            dropped = db.execute(sa.delete(revisions).where(*mine, revisions.c.step == "settling")).rowcount
        if db.execute(sa.update(one.table).where(*mine).values(anew)).rowcount or dropped:
            told = summary(instead.redacted) if isinstance(instead, Signal) else f"its change is dropped: {instead}"
            tell(db, [(one.signal_id, now, "redacted", told)])


_BESIDE = {bodies: ("next_body", "next_words"), revisions: ("body", "words")}
