"""Dispatch: post every signal that is due, and store what Zentrik answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from syncd.errors import KeyRefused
from syncd.fates import Accepted, Blocked, Later, Refused, Unknown, Verdict
from syncd.ledger import Answer, Claimed, Closed, Ledger
from syncd.logs import get_logger
from syncd.pacing import Gate, LookSchedule, NackWindow
from syncd.retry import Backoff
from syncd.zentrik import Zentrik

log = get_logger()


@dataclass(frozen=True, slots=True)
class Delivery:
    """The rules signals are posted by.

    `backoff` spaces the tries of one record. One that Zentrik did not take in (408, 425) `max_attempts` times in a row
    is rejected. An `unknown` one is looked for after `look_after`, and where its POST may still have been under way,
    only a look begun `absent_after` it can conclude that Zentrik does not have it. One whose answer is lost time and
    again is looked for later and later, for each look that does not find it is followed by a POST. `window` says when
    a connector's records are refused too often to go on.
    """

    concurrency: int = 16
    max_attempts: int = 8
    backoff: Backoff = field(default_factory=Backoff)
    look_after: timedelta = timedelta(seconds=2)
    absent_after: timedelta = timedelta(seconds=10)
    window: NackWindow = field(default_factory=NackWindow)


@dataclass(slots=True)
class Dispatched:
    """What one round did: POSTs made, signals accepted, and answers lost."""

    posted: int = 0
    accepted: int = 0
    lost: int = field(default=0, compare=False)


async def dispatch(
    ledger: Ledger,
    zentrik: Zentrik,
    gate: Gate,
    looks: LookSchedule,
    run: int,
    clock: Callable[[], datetime],
    draw: Callable[[], float],
    delivery: Delivery = Delivery(),
    *,
    only: Sequence[str] | None = None,
    stopping: Callable[[], bool] = lambda: False,
    on_answers: Callable[[Dispatched], None] = lambda _: None,
) -> Dispatched:
    """Post until nothing is due, Zentrik asks to be left alone (`gate`), or `stopping`; what is under way is finished.

    Each turn of the loop stores the verdicts that have come in and claims as many signals as there is room for, in one
    commit; no signal is posted before the commit that says so. After trouble of Zentrik's own, its `/readyz` is asked
    first. Raises `KeyRefused` when Zentrik refuses the key.
    """
    done = Dispatched()
    await _reopen(zentrik, gate, clock)
    under_way: set[asyncio.Task[tuple[Claimed, Verdict]]] = set()
    answers: list[Answer] = []
    blocked: Blocked | None = None
    try:
        while True:
            is_open = not blocked and not stopping() and gate.is_open(clock())
            room = delivery.concurrency - len(under_way) if is_open else 0
            if answers or room:
                asked = _asked(answers)
                exchanged = await ledger.exchange(answers, room, run, clock(), only, delivery.window, asked)
                claimed, answers = exchanged.claimed, []
                done.accepted += exchanged.accepted
                if exchanged.closed:  # another syncd was asked to wait, or the run before this one
                    gate.park(exchanged.closed.reason, exchanged.closed.until - clock(), clock())
                on_answers(done)
                under_way |= {asyncio.create_task(_post(zentrik, signal, clock)) for signal in claimed}
            if not under_way:
                break
            finished, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                claimed_signal, verdict = task.result()
                done.posted += 1
                done.lost += isinstance(verdict, Unknown)
                blocked = verdict if isinstance(verdict, Blocked) else blocked
                answers.append(_judge(claimed_signal, verdict, gate, looks, clock(), draw, delivery))
    finally:
        for task in under_way:  # after an error or a cancellation: their signals stay `sending`, and are looked for
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
    if blocked:
        raise KeyRefused(f"{blocked.reason}. Every record is kept; the next run goes on from here.")
    return done


def _asked(answers: Sequence[Answer]) -> Closed | None:
    """The longest wait that Zentrik asked for in these answers, for all that goes to it."""
    waits = []
    for answer in answers:
        match answer.verdict:
            case Later(reason, timedelta() as after, parks=True) | Unknown(reason, timedelta() as after, parks=True):
                if after:
                    waits.append(Closed(answer.at + after, reason))
    return max(waits, default=None)


async def _reopen(zentrik: Zentrik, gate: Gate, clock: Callable[[], datetime]) -> None:
    """After trouble of its own, ask Zentrik how it is: no record is spent on finding out."""
    if gate.suspects and not gate.opens_in(clock()):
        trouble = await zentrik.ready()
        if trouble is None:
            gate.suspects = False
        else:
            gate.park(trouble.reason, trouble.after, clock())


async def _post(zentrik: Zentrik, signal: Claimed, clock: Callable[[], datetime]) -> tuple[Claimed, Verdict]:
    """Post it while it is ours: begun in the first half of its lease, and over before the lease is.

    A process that was frozen in between may find that it is another's by now.
    """
    left = signal.until - clock()
    if left < signal.lease / 2:
        return signal, Later("syncd froze before it could be posted")
    try:
        async with asyncio.timeout(left.total_seconds()):
            return signal, await zentrik.post(signal.body)
    except TimeoutError:
        return signal, Unknown("no answer in time", may_arrive=True)


def _judge(
    signal: Claimed,
    verdict: Verdict,
    gate: Gate,
    looks: LookSchedule,
    now: datetime,
    draw: Callable[[], float],
    delivery: Delivery,
) -> Answer:
    """The answer to store: the verdict, and when its signal is due again."""
    failures = signal.failures + 1
    match verdict:
        case Accepted(public_id):
            gate.clear()
            log.debug("accepted", connector=signal.connector, external_id=signal.external_id, public_id=public_id)
            return Answer(signal, verdict, now, looks.first_look(now))
        case Later(reason, after, parks) if parks:
            gate.park(reason, after, now, suspects=after is None)
            return Answer(signal, verdict, now, now + gate.opens_in(now))
        case Later(reason) if failures >= delivery.max_attempts:
            return Answer(signal, Refused(f"given up after {failures} tries: {reason}"), now)
        case Later(_, after):
            return Answer(signal, verdict, now, now + (after or delivery.backoff.wait(failures, draw)))
        case Unknown(cause, after, parks, may_arrive):
            if parks:
                gate.park(cause, after, now, suspects=True)
            else:
                gate.doubt(cause, now)
            log.info("no certain answer", connector=signal.connector, external_id=signal.external_id, cause=cause)
            look_at = now + max(delivery.look_after, delivery.backoff.wait(failures, draw))
            return Answer(signal, verdict, now, look_at, now + delivery.absent_after if may_arrive else now)
        case Refused(reason):
            gate.clear()
            log.warning("rejected", connector=signal.connector, external_id=signal.external_id, reason=reason)
            return Answer(signal, verdict, now)
        case Blocked():
            return Answer(signal, verdict, now, now)
