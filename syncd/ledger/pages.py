"""What a page of a source does to the ledger: new signals queued, changed ones noted, the unusable set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any

import sqlalchemy as sa

from syncd.connector import Source
from syncd.ledger import erasure, holds, subjects
from syncd.ledger.events import Told, tell
from syncd.ledger.statements import held, insert, portions
from syncd.ledger.tables import Lane, State, bodies, remembered, revisions, set_aside, signals
from syncd.logs import redact
from syncd.records import SetAside
from syncd.signals import Signal

UNSEEN = b""
"""The fingerprint of a signal that was found at Zentrik, and of which no source has shown the record yet."""


@dataclass(frozen=True, slots=True)
class PageTally:
    """What a page's records were to the ledger. `edited` are the changed ones that Zentrik has, or may have."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    edited: Sequence[tuple[int, Signal]] = field(default=(), compare=False)


def store(
    db: sa.Connection,
    source: Source,
    page: Sequence[Signal],
    run: int,
    now: datetime,
    lane: Lane = Lane.NEWS,
    number: int | None = None,
) -> PageTally:
    """Queue what is new on a page, the `number`-th of its reading, in that lane, and note what changed."""
    tally: Counter[str] = Counter()
    latest: dict[str, Signal] = {}
    for signal in page:
        earlier = latest.get(signal.external_id)
        if earlier is not None:
            tally["unchanged" if earlier.content == signal.content else "changed"] += 1
        latest[signal.external_id] = signal

    known = _known(db, latest)
    differing = {row.id: name for name, row in known.items() if _is_news(row, latest[name])}
    known |= {differing[row.id]: row for row in held(db, _SEEN, differing)}  # nobody begins to post one of these now
    unknown = [external_id for external_id in latest if external_id not in known]
    forgotten = erasure.tombstones(db, unknown)
    tally["unchanged"] += len(forgotten)
    fresh = [latest[external_id] for external_id in unknown if external_id not in forgotten]
    delivered = _recall(db, source, fresh, now)
    undelivered = [signal for signal in fresh if signal.external_id not in delivered]
    queued = _queue(db, source, undelivered, run, now, lane, number)
    tally["new"] += queued
    tally["unchanged"] += len(fresh) - queued
    renamed: list[dict[str, Any]] = []
    waiting = {}
    edited: list[tuple[int, Signal]] = []
    returning = _returning(db, differing)
    for external_id, row in known.items():
        signal = latest[external_id]
        if row.state == State.FORGOTTEN:
            tally["unchanged"] += 1
        elif row.fingerprint == UNSEEN:
            _recognise(db, source, row.id, signal)
            tally["unchanged"] += 1
        elif row.id not in differing or _is_as(row, signal):
            tally["unchanged"] += 1
            if row.version != signal.version:
                renamed.append({"signal": row.id, "now": signal.version})
            if row.content is None and row.source_content is None:
                _learn(db, row, signal)
            if signal.held and row.state == State.QUEUED:
                waiting[row.id] = signal.held
        elif _says_as(row, signal):
            tally["unchanged"] += 1
            _take_newest(db, source, row, signal, run, now)
        else:
            tally["changed"] += 1
            if row.id not in returning:
                _note_change(db, source, row, signal, run, now)
            if row.id in returning or row.state not in (State.QUEUED, State.REJECTED, State.DELETED):
                edited.append((row.id, signal))
    if renamed:
        db.execute(_RENAME, sorted(renamed, key=itemgetter("signal")))
    holds.renew(db, waiting, now)
    return PageTally(tally["new"], tally["changed"], tally["unchanged"], edited)


def keep_aside(
    db: sa.Connection, source: Source, good: Sequence[str], aside: Sequence[SetAside], run: int, now: datetime
) -> None:
    """Remember the items that could not become records, and forget what was set aside where now stands a good one."""
    mended = map(redact, good)  # as it was when it was set aside
    if good and db.scalar(sa.select(sa.exists().where(set_aside.c.connector == source.name))):
        for some in portions(mended):
            db.execute(sa.delete(set_aside).where(set_aside.c.connector == source.name, set_aside.c.place.in_(some)))
    if aside:
        upsert = insert(db, set_aside)
        db.execute(
            upsert.on_conflict_do_update(
                index_elements=[set_aside.c.connector, set_aside.c.place],
                set_={name: upsert.excluded[name] for name in ("reason", "seen_at", "run_id")},
            ),
            [
                {
                    "connector": source.name,
                    "place": item.place,
                    "reason": item.reason,
                    "seen_at": now,
                    "run_id": run,
                }
                for item in {item.place: item for item in aside}.values()
            ],
        )


_SEEN = sa.select(
    signals.c.id,
    signals.c.external_id,
    signals.c.state,
    signals.c.fingerprint,
    signals.c.source_fingerprint,
    signals.c.version,
    signals.c.content,
    signals.c.source_content,
)

_RENAME = (
    sa.update(signals)
    .where(signals.c.id == sa.bindparam("signal"), signals.c.state != State.FORGOTTEN)
    .values(version=sa.bindparam("now"))
)
"""The source calls the same record by another version."""


def _known(db: sa.Connection, external_ids: Iterable[str]) -> dict[str, sa.Row[Any]]:
    found: dict[str, sa.Row[Any]] = {}
    for some in portions(external_ids):
        rows = db.execute(_SEEN.where(signals.c.external_id.in_(some)))
        found |= {row.external_id: row for row in rows.all()}
    return found


def _is_as(row: sa.Row[Any], signal: Signal) -> bool:
    """Whether the record is what it was when it was seen last."""
    return bool(signal.fingerprint == (row.source_fingerprint or row.fingerprint))


def _says_as(row: sa.Row[Any], signal: Signal) -> bool:
    """Whether it says what it said when it was seen last: then what differs, such as a counter, is no change.

    Of a row from before that was kept, only the whole body can tell.
    """
    seen = row.source_content or row.content
    return _is_as(row, signal) if seen is None else bool(seen == signal.content)


def _is_news(row: sa.Row[Any], signal: Signal) -> bool:
    """Whether there is something to do about it: to one that Zentrik has, only what it says matters."""
    is_there = row.state in (State.PROCESSING, State.PROCESSED, State.FAILED, State.DELETED)
    return not (_says_as(row, signal) if is_there else _is_as(row, signal))


def _learn(db: sa.Connection, row: sa.Row[Any], signal: Signal) -> None:
    """A row from before contents were kept is seen again just as it was: from now on only its content counts."""
    which = "content" if row.source_fingerprint is None else "source_content"
    db.execute(sa.update(signals).where(signals.c.id == row.id).values({which: signal.content}))


def _returning(db: sa.Connection, ids: Iterable[int]) -> set[int]:
    """Those of the signals whose former text is about to come back: what is new of them waits for that."""
    found: set[int] = set()
    for some in portions(sorted(ids)):
        going = revisions.c.signal_id.in_(some), revisions.c.step.in_(["withdrawing", "restoring"])
        found |= set(db.scalars(sa.select(revisions.c.signal_id).where(*going)))
    return found


def _recall(db: sa.Connection, source: Source, fresh: Sequence[Signal], now: datetime) -> set[str]:
    """Enter those that a rebuild found at Zentrik under the very names these records have: they were delivered."""
    if not fresh or not db.scalar(sa.select(sa.exists().select_from(remembered))):
        return set()
    named = {signal.external_id: signal for signal in fresh}
    recalled: set[str] = set()
    for some in portions(named):
        for row in db.execute(sa.select(remembered).where(remembered.c.external_id.in_(some))).all():
            signal = named[row.external_id]
            [id_] = db.scalars(
                sa.insert(signals)
                .returning(signals.c.id)
                .values(
                    external_id=row.external_id,
                    connector=source.name,
                    state=row.state,
                    public_id=row.public_id,
                    job_id=row.job_id,
                    due_at=now if row.state == State.PROCESSING else None,
                    accepted_at=row.seen_at,
                    attempts=0,
                    failures=0,
                    looks=0,
                    first_seen_at=now,
                    **_words(signal),
                )
            )
            subjects.note(db, {id_: signal.subjects})
            recalled.add(row.external_id)
        db.execute(sa.delete(remembered).where(remembered.c.external_id.in_(recalled & set(some))))
    return recalled


def _queue(
    db: sa.Connection,
    source: Source,
    fresh: Sequence[Signal],
    run: int,
    now: datetime,
    lane: Lane,
    number: int | None,
) -> int:
    if not fresh:
        return 0
    rows = db.execute(
        insert(db, signals).on_conflict_do_nothing().returning(signals.c.id, signals.c.external_id),
        [
            {
                "external_id": signal.external_id,
                "connector": source.name,
                "state": State.QUEUED,
                "first_seen_at": now,
                "due_at": None if signal.held else now,
                "attempts": 0,
                "failures": 0,
                "looks": 0,
                "first_run": run,
                "first_page": number,
                "run_id": run,
                "lane": lane,
                **_words(signal),
            }
            for signal in fresh
        ],
    ).all()
    body = {signal.external_id: signal.body for signal in fresh}
    if rows:
        db.execute(sa.insert(bodies), [{"signal_id": row.id, "body": body[row.external_id]} for row in sorted(rows)])
        named = {signal.external_id: signal.subjects for signal in fresh}
        subjects.note(db, {row.id: named[row.external_id] for row in rows})
        waits = {signal.external_id: signal.held for signal in fresh if signal.held}
        holds.place(db, {row.id: waits[row.external_id] for row in rows if row.external_id in waits}, now)
    return len(rows)


def _recognise(db: sa.Connection, source: Source, id_: int, signal: Signal) -> None:
    """The record of a signal that was found at Zentrik has turned up: from now on a change to it is seen."""
    db.execute(sa.update(signals).where(signals.c.id == id_).values(connector=source.name, **_words(signal)))
    subjects.note(db, {id_: signal.subjects})


def _take_newest(db: sa.Connection, source: Source, row: sa.Row[Any], signal: Signal, run: int, now: datetime) -> None:
    """The record says what it said, and something about it differs. What is not posted yet is posted as it is now."""
    if row.state == State.QUEUED:
        words = {**_words(signal), "source_fingerprint": None, "source_content": None}
        db.execute(sa.update(signals).where(signals.c.id == row.id).values(words))
        db.execute(sa.update(bodies).where(bodies.c.signal_id == row.id).values(body=signal.body))
        holds.follow(db, row.id, signal.held, now)
    else:
        _note_change(db, source, row, signal, run, now, tells=row.state == State.REJECTED)


def _note_change(
    db: sa.Connection, source: Source, row: sa.Row[Any], signal: Signal, run: int, now: datetime, *, tells: bool = True
) -> None:
    subjects.note(db, {row.id: signal.subjects})  # beside those of the record before it, which Zentrik may have
    if row.state in (State.QUEUED, State.REJECTED):
        db.execute(
            sa.update(signals)
            .where(signals.c.id == row.id, signals.c.state == row.state)
            .values(_anew(_words(signal), run, now))
        )
        db.execute(
            insert(db, bodies)
            .values(signal_id=row.id, body=signal.body)
            .on_conflict_do_update(index_elements=[bodies.c.signal_id], set_={"body": signal.body})
        )
        tell(db, [(row.id, now, "changed", "the record changed at its source; the new one is queued")])
        holds.follow(db, row.id, signal.held, now)
        return
    back = signal.fingerprint == row.fingerprint
    db.execute(
        sa.update(signals)
        .where(signals.c.id == row.id)
        .values(
            source_fingerprint=None if back else signal.fingerprint,
            source_content=None if back or row.content == signal.content else signal.content,
            version=signal.version,
        )
    )
    then = _THEN[source.edits.on_change]
    if row.state in (State.SENDING, State.UNKNOWN):
        then = "the new one is posted if Zentrik does not take the first"
        kept = (None, None) if back else (signal.body, _written(_words(signal)))
        db.execute(
            sa.update(bodies)
            .where(bodies.c.signal_id == row.id)
            .values(dict(zip(("next_body", "next_words"), kept, strict=True)))
        )
    if tells:
        tell(db, [(row.id, now, "changed", f"the record changed at its source; {then}")])


_THEN = {
    "ignore": "Zentrik keeps the first one",
    "append": "once that has stood, it is posted as a signal of its own",
    "replace": "once that has stood, it takes the place of the first one",
}


def _anew(words: Mapping[str, Any], run: int | None, now: datetime) -> dict[str, Any]:
    """The columns of a signal that is queued with another record in the first one's place."""
    return {
        **words,
        "state": State.QUEUED,
        "source_fingerprint": None,
        "source_content": None,
        "due_at": now,
        "absent_from": None,
        "failures": 0,
        "last_error": None,
        "run_id": run,
    }


def replace(db: sa.Connection, ids: Iterable[int], run: int | None, now: datetime) -> None:
    """Of these signals, which Zentrik certainly does not have, queue those that changed while that was not known:
    the new record takes the place of the first."""
    told: list[Told] = []
    for id_, words in _kept(db, ids):
        db.execute(sa.update(signals).where(signals.c.id == id_).values(_anew(_read(words), run, now)))
        db.execute(
            sa.update(bodies)
            .where(bodies.c.signal_id == id_)
            .values(body=bodies.c.next_body, next_body=None, next_words=None)
        )
        db.execute(sa.delete(revisions).where(revisions.c.signal_id == id_, revisions.c.step == "settling"))
        told.append((id_, now, "changed", "Zentrik did not take the first one; the changed one is queued"))
    tell(db, told)


def forget(db: sa.Connection, ids: Iterable[int]) -> None:
    """Of these signals, which Zentrik has, drop the records that were to take their place."""
    for id_, _ in _kept(db, ids):
        db.execute(sa.update(bodies).where(bodies.c.signal_id == id_).values(next_body=None, next_words=None))


def _kept(db: sa.Connection, ids: Iterable[int]) -> list[tuple[int, dict[str, Any]]]:
    """Those of the signals beside which a newer record is kept, with what it says of itself."""
    kept: list[tuple[int, dict[str, Any]]] = []
    for some in portions(sorted(ids)):
        found = sa.select(bodies.c.signal_id, bodies.c.next_words).where(
            bodies.c.signal_id.in_(some), bodies.c.next_body.is_not(None)
        )
        kept += [(row.signal_id, row.next_words) for row in db.execute(found.order_by(bodies.c.signal_id))]
    return kept


def _written(words: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of itself, as JSON."""
    moment: datetime | None = words["occurred_at"]
    digests = {name: words[name].hex() for name in ("fingerprint", "content")}
    return {**words, **digests, "occurred_at": moment and moment.isoformat()}


def _read(words: Mapping[str, Any]) -> dict[str, Any]:
    """What `_written` wrote."""
    moment: str | None = words["occurred_at"]
    return {
        **words,
        "fingerprint": bytes.fromhex(words["fingerprint"]),
        "content": bytes.fromhex(words["content"]) if words.get("content") else None,
        "occurred_at": moment and datetime.fromisoformat(moment),
    }


def as_kept(signal: Signal) -> dict[str, Any]:
    """What a record says of itself, to be kept as JSON until it is queued."""
    return _written(_words(signal))


def as_queued(words: Mapping[str, Any], run: int, now: datetime) -> dict[str, Any]:
    """The columns of a signal that is queued with a record which was kept so."""
    return _anew(_read(words), run, now)


def _words(signal: Signal) -> dict[str, Any]:
    """What a record says of itself."""
    return {
        "fingerprint": signal.fingerprint,
        "content": signal.content,
        "signal_type": signal.signal_type,
        "name": signal.name,
        "occurred_at": signal.occurred_at,
        "source_url": signal.source_url,
        "place": signal.place,
        "version": signal.version,
        "redacted": dict(signal.redacted) or None,
        "account": signal.account,
        "characters": signal.characters,
    }
