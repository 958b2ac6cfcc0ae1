"""What edits and deletions at a source do to the ledger: each is under way in steps, and every step is committed before
anything is asked of Zentrik, so that whoever comes after a crash knows what may have been done.

An edit waits until it has stood (`SETTLING`). Appended, it becomes a signal of its own, and that is all. To replace,
the signal at Zentrik is first called otherwise (`RENAMING`), so that it stays there as evidence; then the row itself is
queued with the new text and goes the way of every signal (`POSTING`); when that is processed, the former one is deleted
(`DELETING`). When it is not to be had, whatever there is of it is taken back (`WITHDRAWING`), and the former signal
gets its name and its row again (`RESTORING`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from syncd.connector import Source
from syncd.edits import Edits
from syncd.ledger import pages
from syncd.ledger.events import tell
from syncd.ledger.statements import held, insert, portions
from syncd.ledger.tables import Lane, State, bodies, events, revisions, signals
from syncd.signals import Signal, named

EDIT, DELETION = "edit", "deletion"

ERASED = "deleted at source"
"""The event of a signal that was taken out of Zentrik because its record was deleted at its source."""

_DAY = timedelta(days=1)


class Step(StrEnum):
    """Where an edit or a deletion stands: what is to be done next, and may have been done already."""

    SETTLING = "settling"
    """The record changed; nothing is done until `due_at`, and each further change puts that off."""

    RENAMING = "renaming"
    """The signal at Zentrik is to be called `<externalId>~replaced-<n>`."""

    POSTING = "posting"
    """The row is on its way with the new text; what became of it decides what comes next."""

    DELETING = "deleting"
    """The new one is processed; the former one is to be deleted at Zentrik."""

    WITHDRAWING = "withdrawing"
    """Zentrik could not process the new one, which is to be deleted there."""

    RESTORING = "restoring"
    """The former one is to get its name back."""

    MARKED = "marked"
    """The source says that the record was deleted."""

    HELD = "held"
    """Too many were deleted at once; an operator decides."""

    ERASING = "erasing"
    """The signal is to be deleted at Zentrik."""


@dataclass(frozen=True, slots=True)
class Revision:
    """An edit or deletion taken in hand. `tries` numbers the taking: what comes of it counts while that is the latest.

    It is ours until `until`. `public_id` and `state` are those of the signal as it stands, `former_id` is that of the
    one which is replaced.
    """

    id: int
    signal_id: int
    step: Step
    tries: int
    external_id: str
    connector: str
    state: State
    public_id: str | None
    former_id: str | None
    number: int | None
    until: datetime

    @property
    def former_name(self) -> str:
        """What the replaced signal is called at Zentrik meanwhile."""
        return f"{self.external_id}~replaced-{self.number}"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Deletions of a connector that are too many to be believed: how many, and of how many records."""

    connector: str
    deletions: int
    records: int


# Noted while reading


def note(db: sa.Connection, source: Source, edited: Sequence[tuple[int, Signal]], now: datetime) -> None:
    """Have these changes of signals that Zentrik has, or may have, acted on once they have stood."""
    if source.edits.on_change == "ignore":
        return
    for id_, signal in edited:
        if _stands(db, id_, signal):
            mine = revisions.c.signal_id == id_, revisions.c.kind == EDIT
            db.execute(sa.delete(revisions).where(*mine, revisions.c.step == Step.SETTLING))
            db.execute(sa.update(revisions).where(*mine).values(body=None, words=None))
            continue
        change = {"body": signal.body, "words": pages.as_kept(signal), "changed_at": now}
        due = sa.bindparam("due", now + source.edits.settle, revisions.c.due_at.type)
        db.execute(
            insert(db, revisions)
            .values(signal_id=id_, kind=EDIT, step=Step.SETTLING, due_at=now + source.edits.settle, **change)
            .on_conflict_do_update(
                index_elements=[revisions.c.signal_id, revisions.c.kind],
                set_={**change, "due_at": sa.case((revisions.c.step == Step.SETTLING, due), else_=revisions.c.due_at)},
            )
        )


def _stands(db: sa.Connection, id_: int, signal: Signal) -> bool:
    """Whether the record says again what Zentrik has of it."""
    last = sa.select(signals.c.content, signals.c.fingerprint).where(
        sa.or_(signals.c.id == id_, signals.c.revises == id_)
    )
    row = db.execute(last.order_by(signals.c.revises.is_(None), signals.c.revision.desc()).limit(1)).one()
    return bool(row.fingerprint == signal.fingerprint if row.content is None else row.content == signal.content)


def mark(db: sa.Connection, source: Source, external_ids: Sequence[str], now: datetime) -> None:
    """Note that the source says of these records that they were deleted; what was appended to them goes with them."""
    if source.edits.on_delete == "keep" or not external_ids:
        return
    for some in portions(external_ids):
        mine = (signals.c.connector == source.name, signals.c.state.not_in([State.DELETED, State.FORGOTTEN]))
        first = sa.select(signals.c.id).where(signals.c.external_id.in_(some), *mine)
        ids = list(db.scalars(first))
        ids += db.scalars(sa.select(signals.c.id).where(signals.c.revises.in_(ids), *mine))
        if ids:
            rows = [
                {"signal_id": id_, "kind": DELETION, "step": Step.MARKED, "due_at": now, "changed_at": now}
                for id_ in sorted(ids)
            ]
            db.execute(insert(db, revisions).on_conflict_do_nothing(), rows)


def unmark(db: sa.Connection, external_ids: Iterable[str]) -> None:
    """These are shown again: what their source said of their deletion does not hold any more."""
    waits = revisions.c.kind == DELETION, revisions.c.step.in_([Step.MARKED, Step.HELD])
    if not db.scalar(sa.select(sa.exists().where(*waits))):
        return
    for some in portions(external_ids):
        ids = list(db.scalars(sa.select(signals.c.id).where(signals.c.external_id.in_(some))))
        ids += db.scalars(sa.select(signals.c.id).where(signals.c.revises.in_(ids)))
        db.execute(sa.delete(revisions).where(*waits, revisions.c.signal_id.in_(ids)))


# What is due


def _is_at_rest() -> sa.ColumnElement[bool]:
    """Of signals: nothing is under way that could come between."""
    return sa.or_(
        signals.c.state == State.PROCESSED, sa.and_(signals.c.state == State.FAILED, signals.c.due_at.is_(None))
    )


def _joined(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return sa.select(*columns).select_from(revisions.join(signals, signals.c.id == revisions.c.signal_id))


def _of(names: Collection[str] | None) -> Sequence[sa.ColumnElement[bool]]:
    return () if names is None else (signals.c.connector.in_(names),)


def is_quiet(db: sa.Connection) -> bool:
    """Whether nothing at all is under way, as nearly always."""
    return not db.scalar(sa.select(sa.exists().select_from(revisions)))


def settled(db: sa.Connection, names: Collection[str], now: datetime, limit: int) -> list[int]:
    """The signals of these connectors whose changes have stood, and to which nothing else is happening."""
    due = _joined(revisions.c.signal_id).where(
        revisions.c.step == Step.SETTLING, revisions.c.due_at <= now, _is_at_rest(), *_of(names)
    )
    return sorted(db.scalars(due.order_by(revisions.c.due_at).limit(limit)))


def put_off(db: sa.Connection, ids: Sequence[int], until: datetime, why: str) -> None:
    """Look again at the changes of these signals at that time: nothing can be done about them now."""
    mine = revisions.c.signal_id.in_(ids), revisions.c.step == Step.SETTLING
    db.execute(sa.update(revisions).where(*mine).values(due_at=until, last_error=why))


def next_due(db: sa.Connection, now: datetime, names: Collection[str], only: Sequence[str] | None) -> datetime | None:
    """When the next step before a post is due, changes that have not stood for long enough left out; `names` are the
    connectors whose changes are acted on."""
    if is_quiet(db):
        return None
    first = sa.func.min(revisions.c.due_at, type_=revisions.c.due_at.type)
    going = _joined(first).where(revisions.c.step.in_([Step.RENAMING, Step.ERASING]), *_of(only))
    wanted = set(names) if only is None else set(names) & set(only)
    is_due = revisions.c.due_at <= now
    stood = _joined(first).where(revisions.c.step == Step.SETTLING, is_due, _is_at_rest(), *_of(wanted))
    marked = _joined(first).where(revisions.c.step == Step.MARKED, is_due, *_of(wanted))
    return min((due for each in (going, stood, marked) if (due := db.scalar(each))), default=None)


def next_outcome(db: sa.Connection, now: datetime, only: Sequence[str] | None) -> datetime | None:
    """When the next step after a post is due: at once where the outcome of one is known."""
    if is_quiet(db):
        return None
    judged = _joined(revisions.c.id).where(revisions.c.step == Step.POSTING, _is_decided(), *_of(only))
    if db.scalar(judged.limit(1)) is not None:
        return now
    first = sa.func.min(revisions.c.due_at, type_=revisions.c.due_at.type)
    due: datetime | None = db.scalar(_joined(first).where(revisions.c.step.in_(AFTERWARDS), *_of(only)))
    return due


AFTERWARDS = (Step.DELETING, Step.WITHDRAWING, Step.RESTORING)
"""The steps that follow a post."""


def claim(
    db: sa.Connection,
    steps: Sequence[Step],
    limit: int,
    run: int,
    now: datetime,
    lease: timedelta,
    only: Sequence[str] | None = None,
) -> list[Revision]:
    """Take what is due at these steps in hand; while the run is alive nobody else does before the lease is over."""
    due = (
        _joined(revisions.c.id)
        .where(revisions.c.step.in_(steps), revisions.c.due_at <= now, *_of(only))
        .order_by(revisions.c.due_at)
        .limit(limit)
        .with_for_update(of=revisions, skip_locked=True)
    )
    ids = list(db.scalars(due))
    taken = {"tries": revisions.c.tries + 1, "due_at": now + lease, "run_id": run}
    db.execute(sa.update(revisions).where(revisions.c.id.in_(ids)).values(taken))
    rows = db.execute(
        _joined(
            revisions.c.id,
            revisions.c.signal_id,
            revisions.c.step,
            revisions.c.tries,
            signals.c.external_id,
            signals.c.connector,
            signals.c.state,
            signals.c.public_id,
            revisions.c.former_id,
            revisions.c.number,
        )
        .where(revisions.c.id.in_(ids))
        .order_by(revisions.c.id)
    )
    return [
        Revision(
            id_, signal_id, Step(step), tries, name, whose, State(state), public_id, former_id, number, now + lease
        )
        for id_, signal_id, step, tries, name, whose, state, public_id, former_id, number in rows
    ]


def advance(db: sa.Connection, revision: Revision, step: Step, due_at: datetime | None, why: str | None = None) -> None:
    """Go on to that step, or try the same again later, if it still is in our hands."""
    db.execute(
        sa.update(revisions).where(*_mine(revision)).values(step=step, due_at=due_at, last_error=why, run_id=None)
    )


def others(db: sa.Connection, run: int) -> set[int]:
    """The other runs that have, or had when they died, something in hand."""
    return set(db.scalars(sa.select(revisions.c.run_id).where(revisions.c.run_id != run).distinct()))


def free(db: sa.Connection, dead: Collection[int], now: datetime) -> None:
    """What dead runs had in hand is due: how far they came is seen when it is taken up."""
    db.execute(sa.update(revisions).where(revisions.c.run_id.in_(dead)).values(run_id=None, due_at=now))


def _mine(revision: Revision) -> Sequence[sa.ColumnElement[bool]]:
    return (
        revisions.c.id == revision.id,
        revisions.c.step == revision.step,
        revisions.c.tries == revision.tries,
    )


# Append


def append(db: sa.Connection, ids: Sequence[int], run: int, now: datetime) -> int:
    """Queue the changes of these signals, each as a signal of its own beside them; how many.

    Where the last one that was appended is not at Zentrik yet, the new text takes its place.
    """
    appended = 0
    for row in _settled_ones(db, ids, now):
        change = db.execute(_CHANGE, {"of": row.id}).one_or_none()
        if change is None:
            continue
        last = db.execute(
            sa.select(signals.c.id, signals.c.external_id, signals.c.state, signals.c.revision)
            .where(signals.c.revises == row.id)
            .order_by(signals.c.revision.desc())
            .limit(1)
            .with_for_update()
        ).one_or_none()
        words = pages.as_queued(change.words, run, now)
        if last is not None and last.state in (State.QUEUED, State.REJECTED):
            id_, name = last.id, last.external_id
            db.execute(sa.update(signals).where(signals.c.id == id_).values(words))
            body = {"body": named(change.body, name), "next_body": None, "next_words": None}
            db.execute(sa.update(bodies).where(bodies.c.signal_id == id_).values(body))
        else:
            id_, name = _insert_revision(db, row, words, (last.revision if last else 1) + 1, run, now)
            db.execute(sa.insert(bodies).values(signal_id=id_, body=named(change.body, name)))
        db.execute(sa.delete(revisions).where(revisions.c.signal_id == row.id, revisions.c.kind == EDIT))
        told = [(row.id, now, "appended", f"its changed text is posted as {name}")]
        tell(db, [*told, (id_, now, "queued", f"{row.external_id} changed at its source")])
        appended += 1
    return appended


def _insert_revision(
    db: sa.Connection, row: sa.Row[Any], words: Mapping[str, Any], number: int, run: int, now: datetime
) -> tuple[int, str]:
    """A new row under the first free name from that number on: a lost ledger may have left some at Zentrik."""
    while True:
        name = f"{row.external_id}#{number}"
        values = {**words, "external_id": name, "connector": row.connector, "revises": row.id, "revision": number}
        values |= {"first_seen_at": now, "first_run": run, "attempts": 0, "looks": 0, "lane": Lane.NEWS}
        new = db.scalar(insert(db, signals).values(values).on_conflict_do_nothing().returning(signals.c.id))
        if new is not None:
            return int(new), name
        number += 1


_CHANGE = sa.select(revisions.c.body, revisions.c.words).where(
    revisions.c.signal_id == sa.bindparam("of"), revisions.c.kind == EDIT, revisions.c.step == Step.SETTLING
)


def _settled_ones(db: sa.Connection, ids: Sequence[int], now: datetime) -> list[sa.Row[Any]]:
    """The signals whose changes are still to be acted on, as they stand while this transaction lasts."""
    waits = sa.select(revisions.c.signal_id).where(revisions.c.step == Step.SETTLING, revisions.c.due_at <= now)
    return list(held(db, _WHOLE.where(_is_at_rest(), signals.c.id.in_(waits)), ids))


_WHOLE = sa.select(signals)


# Replace


def start_replacing(db: sa.Connection, ids: Sequence[int], now: datetime) -> None:
    """Begin to replace these signals: what is done from now on may have been done."""
    for row in _settled_ones(db, ids, now):
        begun = {
            "step": Step.RENAMING,
            "due_at": now,
            "number": (row.revision or 0) + 1,
            "former_id": row.public_id,
            "last_error": None,
        }
        db.execute(sa.update(revisions).where(revisions.c.signal_id == row.id, revisions.c.kind == EDIT).values(begun))
        tell(db, [(row.id, now, "replacing", f"its record changed; {row.public_id} stays until the new one is there")])


_KEPT = (
    "fingerprint",
    "content",
    "signal_type",
    "name",
    "occurred_at",
    "source_url",
    "place",
    "version",
    "state",
    "public_id",
    "job_id",
    "insight_ids",
    "accepted_at",
    "processing_started_at",
    "settled_at",
    "failed_as",
    "last_error",
)
"""The columns of a signal that come back when it cannot be replaced."""


def hand_over(db: sa.Connection, revision: Revision, run: int, now: datetime) -> None:
    """The former signal has its other name: queue the row with the new text, and keep what it was."""
    row, change = _held(db, revision)
    if row is None or change is None:
        return
    if row.state == State.DELETED:
        _close(db, revision)
        return
    if change.body is None:  # the record says again what it said before
        advance(db, revision, Step.RESTORING, now)
        return
    if row.public_id != revision.former_id or not (
        row.state == State.PROCESSED or (row.state == State.FAILED and row.due_at is None)
    ):
        advance(db, revision, Step.RENAMING, now + timedelta(seconds=15), "it is being processed again")
        return
    kept = {name: _plain(getattr(row, name)) for name in _KEPT}
    body = db.scalar(sa.select(bodies.c.body).where(bodies.c.signal_id == row.id))
    db.execute(
        sa.update(revisions)
        .where(*_mine(revision))
        .values(step=Step.POSTING, due_at=None, run_id=None, body=None, words=None, former=kept, former_body=body)
    )
    afresh: dict[str, object] = {
        "public_id": None,
        "job_id": None,
        "insight_ids": None,
        "accepted_at": None,
        "settled_at": None,
    }
    afresh |= {"processing_started_at": None, "failed_as": None, "looks": 0, "reruns": 0, "source_content": None}
    afresh |= {"revision": revision.number, "lane": Lane.NEWS}
    queued = {**pages.as_queued(change.words, run, now), **afresh}
    db.execute(sa.update(signals).where(signals.c.id == row.id).values(queued))
    db.execute(
        insert(db, bodies)
        .values(signal_id=row.id, body=change.body)
        .on_conflict_do_update(
            index_elements=[bodies.c.signal_id], set_={"body": change.body, "next_body": None, "next_words": None}
        )
    )
    detail = f"{revision.former_id} is called {revision.former_name} at Zentrik; the new text is queued"
    tell(db, [(row.id, now, "renamed", detail)])


def _is_decided() -> sa.ColumnElement[bool]:
    return sa.or_(_is_at_rest(), signals.c.state.in_([State.REJECTED, State.DELETED]))


def judge(db: sa.Connection, only: Sequence[str] | None, now: datetime) -> int:
    """Decide how those go on whose new text has come to an end; how many there were."""
    ids = list(
        db.scalars(_joined(revisions.c.signal_id).where(revisions.c.step == Step.POSTING, _is_decided(), *_of(only)))
    )
    for row in held(db, _WHOLE.where(_is_decided()), ids):
        mine = revisions.c.signal_id == row.id, revisions.c.step == Step.POSTING
        former_id = db.scalar(sa.select(revisions.c.former_id).where(*mine))
        match State(row.state):
            case _ if row.public_id == former_id:  # Zentrik answered with the signal that it had
                step = Step.RESTORING
            case State.PROCESSED:
                step = Step.DELETING
            case State.FAILED:
                step = Step.WITHDRAWING
            case _:
                step = Step.RESTORING
        why = row.last_error if step is not Step.DELETING else None
        db.execute(sa.update(revisions).where(*mine).values(step=step, due_at=now, last_error=why))
    return len(ids)


def complete(db: sa.Connection, revision: Revision, detail: str, edits: Edits, now: datetime) -> None:
    """The former signal is gone, and the new one in its place."""
    row, change = _held(db, revision)
    if row is None or change is None:
        return
    tell(db, [(row.id, now, "replaced", detail)])
    _go_on(db, revision, row.content, change, edits, now)


def restore(db: sa.Connection, revision: Revision, edits: Edits, run: int, now: datetime) -> None:
    """The former signal has its name again, and the row is again its."""
    row, change = _held(db, revision)
    if row is None or change is None:
        return
    if row.state in _BUSY:  # somebody has it posted again
        advance(db, revision, Step.POSTING, None)
        return
    content = row.content
    if change.former is not None:
        columns = {name: _column(name, change.former[name]) for name in _KEPT}
        seen = {"source_fingerprint": row.fingerprint, "source_content": row.content, "version": row.version}
        content = columns["content"]
        db.execute(
            sa.update(signals).where(signals.c.id == row.id).values({**columns, **seen, "due_at": None, "run_id": run})
        )
        db.execute(sa.delete(bodies).where(bodies.c.signal_id == row.id))
        if change.former_body is not None:
            db.execute(sa.insert(bodies).values(signal_id=row.id, body=change.former_body))
        why = f"the new text came to nothing ({change.last_error or row.state})"
        tell(db, [(row.id, now, "not replaced", f"{why}; {revision.former_id} stays as it was")])
    _go_on(db, revision, content, change, edits, now)


def drop(db: sa.Connection, revision: Revision, why: str, now: datetime) -> None:
    """Leave Zentrik as it is: nothing more comes of this one."""
    if _close(db, revision):
        tell(db, [(revision.signal_id, now, "not replaced", why)])


def drop_settling(db: sa.Connection, names: Collection[str]) -> None:
    """Forget the changes of connectors that leave Zentrik the first text."""
    whose = sa.select(signals.c.id).where(signals.c.connector.in_(names))
    db.execute(sa.delete(revisions).where(revisions.c.step == Step.SETTLING, revisions.c.signal_id.in_(whose)))


_BUSY = (State.QUEUED, State.SENDING, State.UNKNOWN, State.PROCESSING)


def _held(db: sa.Connection, revision: Revision) -> tuple[sa.Row[Any] | None, sa.Row[Any] | None]:
    """The signal and what is under way with it, if it still is in our hands, as they stand in this transaction."""
    row = next(iter(held(db, _WHOLE, [revision.signal_id])), None)
    change = db.execute(sa.select(revisions).where(*_mine(revision)).with_for_update()).one_or_none()
    return row, change


def _close(db: sa.Connection, revision: Revision) -> bool:
    return db.execute(sa.delete(revisions).where(*_mine(revision))).rowcount == 1


def _go_on(
    db: sa.Connection, revision: Revision, content: bytes | None, change: sa.Row[Any], edits: Edits, now: datetime
) -> None:
    """One replacement is over: what changed meanwhile is the next."""
    if change.body is None or change.words["content"] == (content and content.hex()):
        _close(db, revision)
        return
    again = {"step": Step.SETTLING, "due_at": max(now, change.changed_at + edits.settle), "last_error": None}
    again |= {"run_id": None, "former_id": None, "former": None, "former_body": None, "number": None}
    db.execute(sa.update(revisions).where(*_mine(revision)).values(again))


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat()
        case bytes():
            return value.hex()
        case _:
            return value


def _column(name: str, value: Any) -> Any:
    if value is None:
        return None
    match name:
        case "fingerprint" | "content":
            return bytes.fromhex(value)
        case "occurred_at" | "accepted_at" | "processing_started_at" | "settled_at":
            return datetime.fromisoformat(value)
        case _:
            return value


# Delete


def weigh(
    db: sa.Connection, edits: Mapping[str, Edits], now: datetime, *, allowed: Collection[str] = ()
) -> list[HeldBack]:
    """Let deletions go on, connector by connector, or hold them back where they are too many; those that were held.

    Those of the `allowed` connectors go on however many there are.
    """
    if allowed:
        _move(db, allowed, (Step.MARKED, Step.HELD), Step.ERASING, now)
    names = set(
        db.scalars(_joined(signals.c.connector).where(revisions.c.step == Step.MARKED).group_by(signals.c.connector))
    )
    held_back: list[HeldBack] = []
    for name in sorted(names & edits.keys()):
        if edits[name].on_delete == "keep":
            whose = sa.select(signals.c.id).where(signals.c.connector == name)
            waits = revisions.c.kind == DELETION, revisions.c.step.in_([Step.MARKED, Step.HELD])
            db.execute(sa.delete(revisions).where(*waits, revisions.c.signal_id.in_(whose)))
            continue
        one = signals.c.connector == name, signals.c.revises.is_(None)
        waiting = db.scalar(_joined(sa.func.count()).where(revisions.c.kind == DELETION, *one)) or 0
        done = db.scalar(
            sa.select(sa.func.count(sa.distinct(signals.c.id)))
            .join(events, events.c.signal_id == signals.c.id)
            .where(*one, signals.c.state == State.DELETED, events.c.event == ERASED, events.c.at > now - _DAY)
        )
        there = sa.select(sa.func.count()).select_from(signals).where(*one, signals.c.state != State.DELETED)
        deletions, records = waiting + (done or 0), (db.scalar(there) or 0) + (done or 0)
        if edits[name].guard.holds_back(deletions, records):
            _move(db, [name], (Step.MARKED,), Step.HELD, None)
            held_back.append(HeldBack(name, deletions, records))
        else:
            _move(db, [name], (Step.MARKED,), Step.ERASING, now)
    return held_back


def _move(
    db: sa.Connection, names: Collection[str], origin: Sequence[Step], step: Step, due_at: datetime | None
) -> None:
    whose = sa.select(signals.c.id).where(signals.c.connector.in_(names))
    db.execute(
        sa.update(revisions)
        .where(revisions.c.kind == DELETION, revisions.c.step.in_(origin), revisions.c.signal_id.in_(whose))
        .values(step=step, due_at=due_at)
    )


def is_changing(db: sa.Connection, signal_id: int) -> bool:
    """Whether the signal is being replaced, past the point where that can be dropped."""
    mine = revisions.c.signal_id == signal_id, revisions.c.kind == EDIT, revisions.c.step != Step.SETTLING
    return bool(db.scalar(sa.select(sa.exists().where(*mine))))


def erase(db: sa.Connection, revision: Revision, run: int, now: datetime) -> None:
    """Zentrik does not have the signal any more, or never had it: so it stays."""
    row, change = _held(db, revision)
    if row is None or change is None:
        return
    if row.state in (State.SENDING, State.UNKNOWN) or row.public_id != revision.public_id:
        advance(db, revision, Step.ERASING, now + timedelta(seconds=15), "it is being posted")
        return
    why = "its record was deleted at its source"
    gone = {"state": State.DELETED, "last_error": why, "due_at": None, "settled_at": now, "run_id": run}
    db.execute(sa.update(signals).where(signals.c.id == row.id).values(gone))
    db.execute(sa.delete(revisions).where(revisions.c.signal_id == row.id))
    where = f"{row.public_id} was deleted at Zentrik" if row.public_id else "Zentrik never had it"
    tell(db, [(row.id, now, ERASED, f"{why}; {where}")])


# For people


def under_way(db: sa.Connection, signal_id: int) -> list[tuple[Step, datetime | None, str]]:
    """What is under way with a signal, and what it waits for: the step, when it is due, and a sentence."""
    rows = db.execute(sa.select(revisions).where(revisions.c.signal_id == signal_id).order_by(revisions.c.kind.desc()))
    return [(Step(row.step), row.due_at, _sentence(row)) for row in rows]


def _sentence(row: sa.Row[Any]) -> str:
    match Step(row.step):
        case Step.SETTLING:
            told = "the record changed; that is acted on when it has not changed again for a while"
        case Step.RENAMING:
            told = f"the record changed; {row.former_id} is about to make room for the new text"
        case Step.POSTING:
            told = f"the new text is on its way; {row.former_id} stays at Zentrik until that is processed"
        case Step.DELETING:
            told = f"the new text is processed; {row.former_id} is about to be deleted"
        case Step.WITHDRAWING:
            told = f"the new text could not be processed and is taken back; {row.former_id} stays"
        case Step.RESTORING:
            told = f"{row.former_id} stays, and is about to get its externalId back"
        case Step.MARKED | Step.ERASING:
            told = "the record was deleted at its source; so is the signal, shortly"
        case Step.HELD:
            told = "the record was deleted at its source; too many were: `syncd run-once NAME --allow-deletes`"
    return f"{told} ({row.last_error})" if row.last_error else told
