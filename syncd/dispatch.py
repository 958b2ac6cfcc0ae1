"""Dispatch: post every signal that is due, and store what Zentrik answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from syncd.budgets import Budget
from syncd.errors import KeyRefused
from syncd.fates import Accepted, Blocked, Later, Refused, Unknown, Verdict
from syncd.ledger import Answer, Claimed, Closed, Lane, Ledger, TooFast
from syncd.ledger.spending import Warned
from syncd.logs import get_logger
from syncd.pacing import Gate, LookSchedule, NackWindow
from syncd.retry import Backoff
from syncd.zentrik import Zentrik

log = get_logger()

_LINGER = 0.02
"""Seconds that an answer waits for others, to be stored in one commit with them."""

_ENOUGH = 200
"""So many answers are stored at once."""

_AHEAD = 400
"""The most signals that are claimed before there is a connection free for them."""

_PASSED = 8
"""So many news pass a signal of the backlog that is ready to be posted; then it has its turn."""

_NEWS = 0.25
"""Seconds between two looks for something new to post while nothing is answered."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The rules signals are posted by.

    `backoff` spaces the tries of one record. One that Zentrik did not take in (408, 425) `max_attempts` times in a row
    is rejected. An `unknown` one is looked for after `look_after`, and where its POST may still have been under way,
    only a look begun `absent_after` it can conclude that Zentrik does not have it. One whose answer is lost time and
    again is looked for later and later, for each look that does not find it is followed by a POST. `window` says when
    a connector's records are refused too often to go on. `budgets` are those of connectors that have one.
    """

    concurrency: int = 16
    max_attempts: int = 8
    backoff: Backoff = field(default_factory=Backoff)
    look_after: timedelta = timedelta(seconds=2)
    absent_after: timedelta = timedelta(seconds=10)
    window: NackWindow = field(default_factory=NackWindow)
    budgets: Mapping[str, Budget] = field(default_factory=dict)


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
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Dispatched:
    """Post until nothing is due, Zentrik asks to be left alone (`gate`), or `stopping`; what is under way is finished.

    Connections post side by side; one exchange with the ledger after the other stores their answers and claims what
    they post next, in one commit. No signal is posted before the commit that says so. A few more are claimed than there
    are connections, so that none waits for the disk; those that are not posted after all are given back. After trouble
    of Zentrik's own, its `/readyz` is asked first. Raises `KeyRefused` when Zentrik refuses the key.
    """
    done = Dispatched()
    desk = _Desk()
    began = clock()
    blocked: Blocked | None = None

    def is_open() -> bool:
        return blocked is None and not stopping() and gate.is_open(clock())

    async def connection() -> None:
        """Post one signal after the other."""
        nonlocal blocked
        while True:
            signal = await desk.take()
            wait = (signal.not_before - clock()).total_seconds() if signal.not_before else 0.0
            if wait > 0:
                await sleep(wait)
            verdict = await _post(zentrik, signal, clock) if await desk.may_go(signal) and is_open() else None
            if verdict is None:
                desk.give_back(signal)
                continue
            done.posted += 1
            done.lost += isinstance(verdict, Unknown)
            blocked = verdict if isinstance(verdict, Blocked) else blocked
            desk.put_down(_judge(signal, verdict, gate, looks, clock(), draw, delivery))

    await _reopen(zentrik, gate, clock)
    try:
        async with asyncio.TaskGroup() as tasks:
            connections: list[asyncio.Task[None]] = []
            while True:
                if not is_open():
                    desk.clear()
                room, news = desk.room(delivery.concurrency) if is_open() else (0, 0)
                answers, unposted = desk.collect()
                turn_at = None
                if room or news or answers or unposted:
                    exchanged = await ledger.exchange(
                        answers,
                        room,
                        run,
                        clock(),
                        only,
                        delivery.window,
                        asked=_asked(answers),
                        too_fast=_too_fast(answers, gate, done, began),
                        unposted=unposted,
                        news=news,
                        budgets=delivery.budgets,
                    )
                    _warn(exchanged.warned)
                    done.accepted += exchanged.accepted
                    turn_at = exchanged.turn_at
                    if exchanged.closed:  # another syncd was asked to wait, or the run before this one
                        gate.park(exchanged.closed.reason, exchanged.closed.until - clock(), clock())
                    desk.lay_out(exchanged.claimed, room, exchanged.halted)
                    on_answers(done)
                while len(connections) < min(delivery.concurrency, desk.in_hand):
                    connections.append(tasks.create_task(connection()))
                if not desk.is_done:
                    await desk.something_to_do()
                elif turn_at is not None and is_open():
                    await sleep(min(_NEWS, max(0.0, (turn_at - clock()).total_seconds())))
                else:
                    break
            for each in connections:
                each.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    if blocked:
        raise KeyRefused(f"{blocked.reason}. Every record is kept; the next run goes on from here.")
    return done


class _Desk:
    """What lies between the ledger and the connections: claimed signals that wait for one, those that are news first;
    answers that are to be stored, and signals that were not posted after all."""

    def __init__(self) -> None:
        self.in_hand = 0  # claimed, and neither answered nor given back
        self._news = 0  # of those that wait
        self._waiting: asyncio.PriorityQueue[tuple[int, int, Claimed]] = asyncio.PriorityQueue()  # by place
        self._place = 0  # what is taken next has about that
        self._last = 0  # place of the backlog
        self._answers: list[Answer] = []
        self._unposted: list[Claimed] = []
        self._halted: set[str] = set()
        self._laid_out = 0
        self._ahead = 0
        self._was_empty = True  # since the last exchange
        self._is_more = True  # whether the last claim got all it asked for, so that there is likely more
        self._stirred = asyncio.Event()
        self._goes_on = asyncio.Event()
        self._goes_on.set()

    # At the connections' side

    async def take(self) -> Claimed:
        """The signal to be posted next."""
        if self._is_more and self._waiting.empty():
            self._was_empty = True
            self._stirred.set()
        place, _, signal = await self._waiting.get()
        is_news = signal.lane == Lane.NEWS
        self._news -= is_news
        self._place = max(self._place, place) + is_news
        return signal

    async def may_go(self, signal: Claimed) -> bool:
        """Whether a signal that was taken may still be posted. While a refusal is not stored yet that is not known: it
        may be one too many."""
        while not self._goes_on.is_set():
            await self._goes_on.wait()
        return signal.connector not in self._halted

    def put_down(self, answer: Answer) -> None:
        """An answer, to be stored together with others."""
        self._answers.append(answer)
        self.in_hand -= 1
        if len(self._answers) == 1:
            asyncio.get_running_loop().call_later(_LINGER, self._stirred.set)
        if isinstance(answer.verdict, Refused):
            self._goes_on.clear()
        if len(self._answers) >= _ENOUGH or not (self.in_hand and self._goes_on.is_set()):
            self._stirred.set()

    def give_back(self, signal: Claimed) -> None:
        """It was not posted."""
        self._unposted.append(signal)
        self.in_hand -= 1
        self._stirred.set()

    # At the ledger's side

    @property
    def is_done(self) -> bool:
        """Whether nothing is under way, and nothing to be stored."""
        return not (self.in_hand or self._answers or self._unposted)

    def room(self, concurrency: int) -> tuple[int, int]:
        """How many signals may be claimed: one for each connection, and beside them so many that none had to wait for
        one while the last exchange was under way. And how many news, though others wait: they go first."""
        self._ahead = min(2 * self._ahead or concurrency, _AHEAD) if self._was_empty else self._ahead * 7 // 8
        self._was_empty = False
        return max(0, concurrency + self._ahead - self.in_hand), max(0, concurrency - self._news)

    def collect(self) -> tuple[list[Answer], list[Claimed]]:
        """What is to be stored."""
        collected = self._answers, self._unposted
        self._answers, self._unposted = [], []
        return collected

    def lay_out(self, claimed: Sequence[Claimed], room: int, halted: Collection[str]) -> None:
        """Signals that may be posted now, and the connectors of which nothing more may."""
        if halted:
            self.clear(halted)
        self._halted = (self._halted | set(halted)) - {signal.connector for signal in claimed}
        for signal in claimed:
            self._laid_out += 1
            if signal.lane == Lane.NEWS:
                self._news += 1
                place = self._place
            else:
                place = self._last = max(self._place, self._last) + _PASSED
            self._waiting.put_nowait((place, self._laid_out, signal))
        self.in_hand += len(claimed)
        if room:
            self._is_more = len(claimed) >= room
        if not any(isinstance(answer.verdict, Refused) for answer in self._answers):
            self._goes_on.set()

    def clear(self, connectors: Collection[str] | None = None) -> None:
        """Give back what waits for a connection: that of these connectors, or everything."""
        kept = []
        while not self._waiting.empty():
            entry = self._waiting.get_nowait()
            if connectors is None or entry[-1].connector in connectors:
                self._news -= entry[-1].lane == Lane.NEWS
                self.give_back(entry[-1])
            else:
                kept.append(entry)
        for entry in kept:
            self._waiting.put_nowait(entry)

    async def something_to_do(self) -> None:
        """Until there are answers enough to be stored, a connection has nothing left to post, or it is time to look
        whether there is news."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_NEWS):
                await self._stirred.wait()
        self._stirred.clear()


def _warn(warned: Sequence[Warned]) -> None:
    """Say which budgets near their end, and what waits for the next day."""
    for connector, spent, waiting in warned:
        facts = {
            "connector": connector,
            "signals": spent.signals,
            "characters": spent.characters,
            "waiting": waiting,
            "until": spent.until.isoformat(timespec="seconds"),
        }
        if spent.is_spent:
            log.warning("the day's budget is spent; what is over it waits", **facts)
        else:
            log.warning("the day's budget is nearly spent", **facts)


def _asked(answers: Sequence[Answer]) -> Closed | None:
    """The longest wait that Zentrik asked for in these answers, for all that goes to it."""
    waits = []
    for answer in answers:
        match answer.verdict:
            case Later(reason, timedelta() as after, parks=True) | Unknown(reason, timedelta() as after, parks=True):
                if after:
                    waits.append(Closed(answer.at + after, reason))
    return max(waits, default=None)


def _too_fast(answers: Sequence[Answer], gate: Gate, done: Dispatched, began: datetime) -> TooFast | None:
    """That Zentrik found us too fast, if it did."""
    refused = [answer.at for answer in answers if isinstance(answer.verdict, Later) and answer.verdict.too_fast]
    if not refused:
        return None
    at = min(refused)
    return TooFast(at, gate.opens_in(at), done.posted - len(refused), at - began)


async def _reopen(zentrik: Zentrik, gate: Gate, clock: Callable[[], datetime]) -> None:
    """After trouble of its own, ask Zentrik how it is: no record is spent on finding out."""
    if gate.suspects and not gate.opens_in(clock()):
        trouble = await zentrik.ready()
        if trouble is None:
            gate.suspects = False
        else:
            gate.park(trouble.reason, trouble.after, clock())


async def _post(zentrik: Zentrik, signal: Claimed, clock: Callable[[], datetime]) -> Verdict | None:
    """Post it while it is ours: begun in the first half of its lease, and over before the lease is. None when it is
    too late to begin.

    A process that was frozen in between may find that it is another's by now.
    """
    left = signal.until - clock()
    return await zentrik.post(signal.body, left) if left >= signal.lease / 2 else None


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
