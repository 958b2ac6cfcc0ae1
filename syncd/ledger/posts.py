"""What posting does to the ledger: signals are claimed, their verdicts stored, and the lost ones found or given up.

Every move names the state and the attempt it starts from, so an answer that comes too late changes nothing and is not
told either. Only that Zentrik took a record is never let go unsaid: it is certain, however late it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple

import sqlalchemy as sa

from syncd.fates import Accepted, Blocked, Later, Refused, Unknown, Verdict
from syncd.ledger import erasure, pages, report, spending
from syncd.ledger.events import Told, tell
from syncd.ledger.spending import Purse, Warned
from syncd.ledger.statements import held, insert, portions
from syncd.ledger.tables import IS_QUEUED, Lane, State, bodies, connectors, destination, revisions, signals
from syncd.logs import get_logger
from syncd.pacing import NackWindow
from syncd.signals import content_of

log = get_logger()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A signal taken for posting. `attempt` numbers this POST: a verdict counts only while it is the latest.

    It is ours until `until`, for the length of `lease`; from then on somebody else may look for it, so by then its POST
    must have ended. Where posts are spaced out, its turn comes at `not_before`.
    """

    id: int
    external_id: str
    connector: str
    attempt: int
    failures: int
    body: bytes
    until: datetime
    lease: timedelta
    lane: Lane = Lane.NEWS
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict on a claimed signal, when it came, and when to go on with it (None: not by time).

    `absent_from` is for a lost answer: a look begun before that cannot prove that Zentrik does not have it.
    """

    claimed: Claimed
    verdict: Verdict
    at: datetime
    due_at: datetime | None = None
    absent_from: datetime | None = None


class Closed(NamedTuple):
    """Until when nothing is to be posted, as Zentrik asked, and in which words."""

    until: datetime
    reason: str


class Exchanged(NamedTuple):
    """What came of storing verdicts and claiming: the claimed, and how many of the verdicts had signals accepted.

    `closed` says until when Zentrik asked whoever uses this ledger to leave it alone, and why; then nothing is claimed.
    `halted` names the connectors of which nothing more may be posted. Where posts are spaced out and more may be due,
    `turn_at` says when the next one may be claimed. `warned` are the budgets that somebody should hear of.
    """

    claimed: list[Claimed]
    accepted: int
    closed: Closed | None = None
    halted: frozenset[str] = frozenset()
    turn_at: datetime | None = None
    warned: tuple[Warned, ...] = ()


class Settled(NamedTuple):
    """How many of the verdicts had signals accepted, and the connectors that were halted because of them."""

    accepted: int = 0
    halted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lost:
    """An `unknown` signal, to be looked for: what was posted, and when. `former` is the publicId of the one it is to
    replace, which had its externalId until then."""

    id: int
    external_id: str
    attempt: int
    body: bytes
    sent_at: datetime | None
    absent_from: datetime | None
    former: str | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """What looking for an `unknown` signal showed: what Zentrik has, or that it has nothing."""

    id: int
    attempt: int
    found: Accepted | None
    at: datetime


def settle(
    db: sa.Connection, answers: Sequence[Answer], run: int, window: NackWindow, purse: Purse | None = None
) -> Settled:
    """Store verdicts, and halt the connectors whose records Zentrik refuses too often. What it certainly does not have
    costs nothing."""
    stand = {row.id: row for row in held(db, _STANDING, [answer.claimed.id for answer in answers])}
    moves: list[dict[str, object]] = []
    told: list[Told] = []
    verdicts: dict[str, list[bool]] = {}
    changed: dict[bool, list[int]] = {True: [], False: []}
    free: list[int] = []
    for answer in answers:
        claimed, row = answer.claimed, stand[answer.claimed.id]
        is_certain = isinstance(answer.verdict, Accepted)
        if row.attempts != claimed.attempt or row.state not in (_ANSWERABLE if is_certain else (State.SENDING,)):
            if isinstance(answer.verdict, Accepted) and answer.verdict.public_id != row.public_id:
                if row.state == State.FORGOTTEN:
                    erasure.note_late(db, claimed.id, answer.verdict.public_id, answer.at)
                told.append(_told_late(answer, answer.verdict))
            continue
        if row.state == State.QUEUED:
            _restore(db, row, claimed.body)
        if row.source_fingerprint is not None and not isinstance(answer.verdict, Unknown):
            changed[is_certain].append(claimed.id)
        move: dict[str, object] = {"public": None, "job": None, "accepted": None, "by": None, "error": None}
        match answer.verdict:
            case Accepted(public_id, job_id):
                move |= {"public": public_id, "job": job_id, "accepted": answer.at, "by": run}
                state, failed, event = State.PROCESSING, -row.failures, ("accepted", public_id)
            case Later(reason, _, parks):
                move["error"] = reason
                state, failed, event = State.QUEUED, int(not parks), ("postponed", reason)
            case Refused(reason):
                move["error"] = reason
                state, failed, event = State.REJECTED, 1, (State.REJECTED, reason)
            case Unknown(cause, _, parks):
                move["error"] = cause
                state, failed, event = State.UNKNOWN, int(not parks), (State.UNKNOWN, cause)
            case Blocked(reason):
                move["error"] = reason
                state, failed, event = State.QUEUED, 0, ("blocked", reason)
        if state in (State.QUEUED, State.REJECTED):
            free.append(claimed.id)
        move |= {"id_": claimed.id, "state_": state, "failed": failed, "due": answer.due_at}
        moves.append(move | {"absent": answer.absent_from})
        told.append((claimed.id, answer.at, *event))
        if isinstance(answer.verdict, Accepted | Refused):
            verdicts.setdefault(claimed.connector, []).append(is_certain)
    tell(db, told)
    if not moves:
        return Settled()
    db.execute(
        sa.update(signals)
        .where(signals.c.id == sa.bindparam("id_"))
        .values(
            state=sa.bindparam("state_"),
            due_at=sa.bindparam("due"),
            absent_from=sa.bindparam("absent"),
            last_error=sa.bindparam("error"),
            public_id=sa.bindparam("public"),
            job_id=sa.bindparam("job"),
            accepted_at=sa.bindparam("accepted"),
            accepted_run=sa.bindparam("by", type_=sa.BigInteger),
            failures=signals.c.failures + sa.bindparam("failed", type_=sa.Integer),
        ),
        moves,
    )
    if purse is not None:
        purse.refund(db, free)
    pages.replace(db, changed[False], run, answers[-1].at)
    pages.forget(db, changed[True])
    halted = [name for name, taken in sorted(verdicts.items()) if _weigh(db, name, taken, window, answers[-1].at)]
    return Settled(sum(map(sum, verdicts.values())), frozenset(halted))


def give_back(
    db: sa.Connection, unposted: Sequence[Claimed], run: int, now: datetime, purse: Purse | None = None
) -> None:
    """Queue again what was claimed and certainly not posted: that try never was. What changed meanwhile is queued as it
    is now."""
    attempt = {claimed.id: claimed.attempt for claimed in unposted}
    ours = [
        row.id
        for row in held(db, _STANDING, attempt)
        if (row.state, row.attempts, row.run_id) == (State.SENDING, attempt[row.id], run)
    ]
    for some in portions(ours):
        back = {"state": State.QUEUED, "attempts": signals.c.attempts - 1, "due_at": now}
        db.execute(sa.update(signals).where(signals.c.id.in_(some)).values(back))
    if purse is not None:
        purse.refund(db, ours)
    pages.replace(db, ours, run, now)


_ANSWERABLE = (State.SENDING, State.UNKNOWN, State.QUEUED)
"""Where a signal may stand when it is heard that Zentrik took it. It leaves SENDING before that when its poster was
taken for dead; as long as nobody has posted it anew, the answer is as good as if it had come in time."""


_STANDING = sa.select(
    signals.c.id,
    signals.c.state,
    signals.c.attempts,
    signals.c.run_id,
    signals.c.failures,
    signals.c.public_id,
    signals.c.fingerprint,
    signals.c.source_fingerprint,
    signals.c.content,
)


def _told_late(answer: Answer, accepted: Accepted) -> Told:
    """The news that Zentrik took a signal that others have posted since, or found under another publicId."""
    claimed = answer.claimed
    log.warning(
        "accepted too late: Zentrik may have it twice; `syncd audit` shows",
        connector=claimed.connector,
        external_id=claimed.external_id,
        public_id=accepted.public_id,
    )
    detail = f"Zentrik also has it as {accepted.public_id} (try {claimed.attempt}); `syncd audit` finds doubles"
    return claimed.id, answer.at, "late answer", detail


def _restore(db: sa.Connection, row: sa.Row[Any], body: bytes) -> None:
    """Zentrik took a signal that is queued again: if its record changed meanwhile, that is a change it keeps out."""
    fingerprint = hashlib.sha256(body).digest()
    if fingerprint != row.fingerprint:
        was = {"fingerprint": fingerprint, "source_fingerprint": row.fingerprint}
        was |= {"content": content_of(body), "source_content": row.content}
        db.execute(sa.update(signals).where(signals.c.id == row.id).values(was))
        db.execute(sa.update(bodies).where(bodies.c.signal_id == row.id).values(body=body))


def _weigh(db: sa.Connection, connector: str, taken: Sequence[bool], window: NackWindow, now: datetime) -> bool:
    """Note whether Zentrik took a connector's last records, and halt it when it took too few: whether it did."""
    known = sa.select(connectors.c.verdicts).where(connectors.c.name == connector)
    before = db.scalar(known) or ""
    if window.extended(before, taken) == before:  # as nearly always: then nobody has to wait for this row
        return False
    before = db.scalar(known.with_for_update()) or ""
    after = window.extended(before, taken)
    changes: dict[str, object] = {"verdicts": after}
    is_halted = window.is_exceeded(after)
    if is_halted:
        changes |= {
            "halted_at": now,
            "halted_why": f"Zentrik refused {after.count('r')} of the last {len(after)} records",
        }
    db.execute(sa.update(connectors).where(connectors.c.name == connector).values(changes))
    return is_halted


def close(db: sa.Connection, asked: Closed) -> None:
    """Note for all who use this ledger that Zentrik asked to be left alone; of several waits the longest counts."""
    note = insert(db, destination).values(id=1, closed_until=asked.until, reason=asked.reason)
    db.execute(
        note.on_conflict_do_update(
            index_elements=[destination.c.id],
            set_={"closed_until": note.excluded.closed_until, "reason": note.excluded.reason},
            where=destination.c.closed_until < note.excluded.closed_until,
        )
    )


def closed(db: sa.Connection, now: datetime) -> Closed | None:
    """Until when Zentrik asked to be left alone, if it did."""
    row = db.execute(
        sa.select(destination.c.closed_until, destination.c.reason).where(destination.c.closed_until > now)
    ).one_or_none()
    return None if row is None else Closed(*row)


def claim(
    db: sa.Connection,
    limit: int,
    run: int,
    now: datetime,
    only: Sequence[str] | None,
    lease: timedelta,
    before: int,
    turns: Sequence[datetime] = (),
    news: int = 0,
    purse: Purse | None = None,
) -> list[Claimed]:
    """Take due signals for posting, news first, and of either the longest due; up to so many `news` even where that is
    more than the limit. Each gets one of the turns, if there are any. `before` counts what was claimed in earlier
    rounds: most of these are small. The `purse` has the budgets, where there are any."""
    reserved = (before + limit) // _RESERVED - before // _RESERVED  # the backlog gets on however much happens
    most = max(limit - reserved, news)
    claimed = _claim(db, Lane.NEWS, most, run, now, only, lease, purse)
    is_more = len(claimed) == most
    if len(claimed) < limit:
        claimed += _claim(db, Lane.BACKLOG, limit - len(claimed), run, now, only, lease, purse)
    if is_more and len(claimed) < limit:
        claimed += _claim(db, Lane.NEWS, limit - len(claimed), run, now, only, lease, purse)
    if not claimed:
        return []
    body = {
        row.signal_id: row.body
        for row in db.execute(
            sa.select(bodies.c.signal_id, bodies.c.body).where(bodies.c.signal_id.in_([row.id for row in claimed]))
        ).all()
    }
    until = now + lease
    return [
        Claimed(
            row.id,
            row.external_id,
            row.connector,
            row.attempts,
            row.failures,
            body[row.id],
            until,
            lease,
            row.lane,
            turn,
        )
        for row, turn in zip_longest(claimed, turns[: len(claimed)])
    ]


_RESERVED = 8
"""One in so many claims is not for news while there is a backlog."""


def _claim(
    db: sa.Connection,
    lane: Lane,
    limit: int,
    run: int,
    now: datetime,
    only: Sequence[str] | None,
    lease: timedelta,
    purse: Purse | None,
) -> list[sa.Row[Any]]:
    if purse is not None:
        chosen = purse.choose(db, lane, limit, now, only)
        taken = {"by": run, "at": now, "until": now + lease}
        rows = [row for some in portions(chosen) for row in db.execute(_CLAIM_THESE, taken | {"these": some}).all()]
        purse.charge(chosen[row.id] for row in rows)
        return sorted(rows)
    given = {"of_lane": lane, "most": limit, "by": run, "at": now, "until": now + lease}
    if only is None:
        return sorted(db.execute(_CLAIM, given).all())
    return sorted(db.execute(_CLAIM_OF, given | {"only": list(only)}).all())


def _claiming(*narrower: sa.ColumnElement[bool]) -> sa.sql.dml.ReturningUpdate[Any]:
    """The statement that claims; it is asked so often that it is put together once."""
    at = sa.bindparam("at", type_=signals.c.due_at.type)
    return _taking(
        sa.select(signals.c.id)
        .where(
            IS_QUEUED,
            signals.c.lane == sa.bindparam("of_lane"),
            signals.c.due_at <= at,
            signals.c.connector.not_in(report.HALTED),
            *narrower,
        )
        .order_by(signals.c.due_at, signals.c.id)
        .limit(sa.bindparam("most", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


def _taking(due: sa.Select[Any]) -> sa.sql.dml.ReturningUpdate[Any]:
    """The statement that claims what is selected."""
    at = sa.bindparam("at", type_=signals.c.due_at.type)
    return (
        sa.update(signals)
        .where(signals.c.id.in_(due))
        .values(
            state=State.SENDING,
            attempts=signals.c.attempts + 1,
            run_id=sa.bindparam("by"),
            sent_at=at,
            due_at=sa.bindparam("until", type_=signals.c.due_at.type),
        )
        .returning(
            signals.c.id,
            signals.c.external_id,
            signals.c.connector,
            signals.c.attempts,
            signals.c.failures,
            signals.c.lane,
        )
    )


_CLAIM = _claiming()
_CLAIM_OF = _claiming(signals.c.connector.in_(sa.bindparam("only", expanding=True)))
_CLAIM_THESE = _taking(
    sa.select(signals.c.id)
    .where(signals.c.id.in_(sa.bindparam("these", expanding=True)), signals.c.state == State.QUEUED)
    .order_by(signals.c.id)
    .with_for_update(skip_locked=True)
)


def suspect(
    db: sa.Connection,
    dead: Collection[int],
    ours: Collection[int],
    now: datetime,
    look_after: timedelta,
    absent_after: tuple[timedelta, timedelta],
) -> int:
    """Turn into `unknown` what dead runs were posting, and what others than `ours` claimed for longer than its lease.

    `absent_after` is for those of the dead and for the others: a run that only hangs, or whose clock differs from ours,
    may still have a request under way.
    """
    is_dead = sa.or_(signals.c.run_id.in_(dead), signals.c.run_id.is_(None))
    hangs = sa.and_(signals.c.due_at <= now, signals.c.run_id.not_in(ours))
    found = db.execute(
        sa.update(signals)
        .where(signals.c.state == State.SENDING, sa.or_(is_dead, hangs))
        .values(
            state=State.UNKNOWN,
            due_at=now + look_after,
            absent_from=sa.case(
                (is_dead, sa.bindparam("soon", now + absent_after[0], signals.c.absent_from.type)),
                else_=sa.bindparam("later", now + absent_after[1], signals.c.absent_from.type),
            ),
            last_error=sa.case(
                (is_dead, "syncd stopped while it was being posted"), else_="syncd froze while it was being posted"
            ),
        )
        .returning(signals.c.id, signals.c.last_error)
    ).all()
    tell(db, [(row.id, now, State.UNKNOWN, row.last_error) for row in found])
    return len(found)


def posting(db: sa.Connection, now: datetime) -> list[tuple[int | None, bool]]:
    """The runs that have claimed something and not brought its verdict, and whether a lease of theirs is over."""
    rows = db.execute(
        sa.select(signals.c.run_id, sa.func.min(signals.c.due_at, type_=signals.c.due_at.type))
        .where(signals.c.state == State.SENDING)
        .group_by(signals.c.run_id)
    )
    return [(run, until is None or until <= now) for run, until in rows]


def hands_full(db: sa.Connection, ours: Collection[int]) -> bool:
    """Whether these runs are posting something, or reading a connector."""
    posting = sa.select(sa.exists().where(signals.c.state == State.SENDING, signals.c.run_id.in_(ours)))
    reading = sa.select(sa.exists().where(connectors.c.run_id.in_(ours)))
    return bool(db.scalar(posting) or db.scalar(reading))


def lost(db: sa.Connection, limit: int, now: datetime) -> list[Lost]:
    """Signals to look for at Zentrik, longest due first."""
    rows = db.execute(
        sa.select(
            signals.c.id,
            signals.c.external_id,
            signals.c.attempts,
            bodies.c.body,
            signals.c.sent_at,
            signals.c.absent_from,
            revisions.c.former_id,
        )
        .join(bodies, bodies.c.signal_id == signals.c.id)
        .outerjoin(revisions, sa.and_(revisions.c.signal_id == signals.c.id, revisions.c.former_id.is_not(None)))
        .where(signals.c.state == State.UNKNOWN, signals.c.due_at <= now)
        .order_by(signals.c.due_at, signals.c.id)
        .limit(limit)
    )
    return [Lost(*row) for row in rows]


def settle_lost(db: sa.Connection, sightings: Sequence[Sighting], run: int | None, now: datetime) -> int:
    """Found at Zentrik: its outcome is awaited from now. Not there: it is queued again. How many were found."""
    told: list[Told] = []
    found: list[int] = []
    absent: list[int] = []
    for sighting in sorted(sightings, key=lambda each: each.id):
        changes: dict[str, object] = {"due_at": now, "absent_from": None, "run_id": run}
        match sighting.found:
            case Accepted(public_id, job_id):
                changes |= {"state": State.PROCESSING, "public_id": public_id, "job_id": job_id}
                changes |= {"accepted_at": sighting.at, "accepted_run": run, "failures": 0, "last_error": None}
                event = ("found", public_id)
            case None:
                changes |= {"state": State.QUEUED}
                event = ("not found", "Zentrik does not have it; queued again")
        stored = db.execute(
            sa.update(signals)
            .where(
                signals.c.id == sighting.id,
                signals.c.state == State.UNKNOWN,
                signals.c.attempts == sighting.attempt,
            )
            .values(changes)
        )
        if stored.rowcount == 1:
            (found if sighting.found else absent).append(sighting.id)
            told.append((sighting.id, sighting.at, *event))
    tell(db, told)
    spending.refund(db, absent)
    pages.replace(db, absent, run, now)
    pages.forget(db, found)
    return len(found)


def look_again(db: sa.Connection, due: Mapping[int, datetime | None], why: str | None = None) -> None:
    """Look for these unknown signals at their times; None leaves one at rest until an operator decides."""
    for id_, due_at in sorted(due.items()):
        changes: dict[str, object] = {"due_at": due_at}
        if why is not None:
            changes["last_error"] = why
        db.execute(sa.update(signals).where(signals.c.id == id_, signals.c.state == State.UNKNOWN).values(changes))


_NEAR = 2000


def numbered_near(db: sa.Connection, lost_id: int, sent_at: datetime) -> tuple[list[str], list[str]]:
    """The publicIds given to signals of ours that were queued near a lost one: of those accepted before it was sent,
    and of all the others."""
    rows = db.execute(
        sa.select(signals.c.public_id, signals.c.accepted_at).where(
            signals.c.id.between(lost_id - _NEAR, lost_id + _NEAR), signals.c.public_id.is_not(None)
        )
    ).all()
    before = [row.public_id for row in rows if row.accepted_at and row.accepted_at <= sent_at]
    after = [row.public_id for row in rows if not row.accepted_at or row.accepted_at > sent_at]
    return before, after


def ours_of(db: sa.Connection, public_ids: Sequence[str]) -> set[str]:
    """Those of the publicIds that signals in the ledger have, or had until they were replaced."""
    found: set[str] = set()
    for some in portions(public_ids):
        found |= set(db.scalars(sa.select(signals.c.public_id).where(signals.c.public_id.in_(some))))
        found |= set(db.scalars(sa.select(revisions.c.former_id).where(revisions.c.former_id.in_(some))))
    return found
