"""How fast to go. No I/O, no sleeping, no clock of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from syncd.retry import Backoff

DOUBTS = 8
"""So many lost answers in a row close the gate, so that an outage does not cost every record its certainty."""

_SLOWEST = timedelta(hours=1)
_CAUTION = 0.98
_EARLY = 25.0  # seconds; a limit that stands is met again after some fifty
_SAMPLE = 5
_QUOTA = timedelta(minutes=1)
_SLOWEST_PACE = 0.1  # posts a second
_SOON = timedelta(milliseconds=250)  # so far ahead posts are given their turns
_MADE_UP = timedelta(milliseconds=100)  # so much of a delay is caught up with


@dataclass(slots=True)
class Gate:
    """Whether Zentrik may be posted to: parked for as long as it asked, or by a backoff while it is unwell.

    A circuit breaker. While `suspects`, Zentrik itself was in trouble, and is to be asked how it is (`/readyz`) before
    the next record is sent.
    """

    backoff: Backoff = field(default_factory=lambda: Backoff(first=timedelta(seconds=1), cap=timedelta(seconds=30)))
    parked_until: datetime | None = None
    reason: str | None = None
    failures: int = 0
    unwell_since: datetime | None = None
    doubts: int = 0
    suspects: bool = False

    def park(self, reason: str, after: timedelta | None, now: datetime, *, suspects: bool = False) -> None:
        """Close until `after` has passed; of several the longest wait counts. An `after` of zero names no time."""
        self.suspects = self.suspects or suspects
        already = self.parked_until is not None and self.parked_until > now
        if not already:  # answers to posts that were under way together are one piece of news
            self.failures += 1
        self.unwell_since = self.unwell_since or now
        until = now + (after or self.backoff.ceiling(self.failures))
        if self.parked_until is None or until >= self.parked_until:
            self.parked_until, self.reason = until, reason

    def doubt(self, reason: str, now: datetime) -> None:
        """An answer was lost, or was a server error. Several in a row, and the trouble is not the record's."""
        self.doubts += 1
        if self.doubts >= DOUBTS:
            self.park(reason, None, now, suspects=True)

    def clear(self) -> None:
        """Zentrik took something: it is well."""
        self.failures, self.doubts, self.unwell_since, self.suspects = 0, 0, None, False
        self.reason = None

    def is_open(self, now: datetime) -> bool:
        """Whether records may be sent."""
        return not self.suspects and not self.opens_in(now)

    def opens_in(self, now: datetime) -> timedelta:
        """How long it stays closed; zero when it is open."""
        return max(timedelta(0), self.parked_until - now) if self.parked_until else timedelta(0)


@dataclass(frozen=True, slots=True)
class Tempo:
    """How fast Zentrik lets us post, learned from its refusals to take more; shared by all who post to it.

    After a refusal, posts are spaced out at `rate` a second: a little less than what got through before, the rest that
    was asked for included. From then on the pace rises with every post that is `posted`, at first slowly: the limit is
    where it was, and touched as rarely as may be; then faster: it may have been lifted. A pace that is refused `early`
    twice running is not what Zentrik minds, or far from what it takes now: it is given up, and learned anew from what
    gets through at full speed. So refusals that come at random slow nobody down for long.
    """

    rate: float
    rest: timedelta
    posted: int = 0
    early: int = 0

    @classmethod
    def first(cls, posted: int, took: timedelta, rest: timedelta, again: bool = False) -> Tempo | None:
        """Nothing was known before; so many got through in that time. None when that teaches nothing: too few, unless
        it is so `again` right after the rest before, or a rest so long that a quota is used up.

        A server that counts lets a burst through first, and wants a rest for it.
        """
        if posted < (1 if again else _SAMPLE) or rest > _QUOTA:
            return None
        return cls(max(_CAUTION * posted / max(1.0, (took + rest).total_seconds()), _SLOWEST_PACE), rest)

    @property
    def now(self) -> float:
        """Posts a second, by now."""
        worth = self.posted / self.rate  # the seconds they took at least: time in which nobody posted teaches nothing
        return self.rate * (1 + worth / 1000 + (worth / 200) ** 3)

    def refused(self, rest: timedelta) -> Tempo | None:
        """The pace after another refusal; None when going slower has not helped."""
        is_early = self.posted / self.rate < _EARLY
        if (is_early and self.early) or rest > _QUOTA:
            return None
        average = (self.rate + self.now) / 2
        through = self.posted / (self.posted / average + max(self.rest.total_seconds(), 0.001))
        rate = _CAUTION * min(self.now, max(through, self.now / 2))
        return Tempo(max(rate, _SLOWEST_PACE), rest, 0, int(is_early))

    def turns(self, most: int, next_at: datetime, now: datetime) -> tuple[list[datetime], datetime]:
        """The turns of the next posts, at most so many and as far as they come soon, and the turn after them."""
        gap = max(timedelta.resolution, timedelta(seconds=1 / self.now))  # it rises until nothing is spaced out
        first = max(next_at, now - _MADE_UP)
        soon = max(0, ceil((now + _SOON - first) / gap))
        number = min(most, soon)
        return [first + gap * n for n in range(number)], first + gap * number


@dataclass(frozen=True, slots=True)
class NackWindow:
    """When a connector's records are refused too often to go on: `refused` of the last `of`."""

    refused: int = 30
    of: int = 40

    def extended(self, verdicts: str, taken: Iterable[bool]) -> str:
        """The last verdicts, with these after them: `a` for accepted, `r` for refused."""
        return (verdicts + "".join("a" if each else "r" for each in taken))[-self.of :]

    def is_exceeded(self, verdicts: str) -> bool:
        """Whether so many were refused that posting must stop."""
        return verdicts.count("r") >= self.refused


@dataclass(slots=True)
class LookSchedule:
    """When to ask for outcomes: first when most are known to be ready, then less and less often.

    Learns from each outcome how long Zentrik takes. The first look comes at that time (at `first` until it is known),
    each one after it after a wait half as long as the signal's age, at most `cap`. A signal that is overdue is asked
    about for ever, after waits that grow with its age to an hour.
    """

    first: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(minutes=5)
    overdue: timedelta = timedelta(hours=1)
    learned: timedelta | None = None

    def learn(self, took: timedelta) -> None:
        """An outcome was ready that long after its signal was accepted."""
        took = max(timedelta(0), took)
        if self.learned is None:
            self.learned = took
        else:  # quick to rise and slow to fall: looking a little late is cheaper than looking twice
            weight = 0.3 if took > self.learned else 0.05
            self.learned += (took - self.learned) * weight

    def first_look(self, accepted_at: datetime) -> datetime:
        """When to look at a signal just accepted."""
        wait = self.first if self.learned is None else max(self.first / 4, min(self.learned * 1.25, self.cap))
        return accepted_at + wait

    def next_look(self, accepted_at: datetime, now: datetime) -> datetime:
        """When to look again at one that had not settled: when it should have by what is known, else ever later."""
        age = max(now - accepted_at, self.first / 2)
        expected = self.first_look(accepted_at)
        if self.learned is not None and accepted_at <= now < expected:
            return max(expected, now + self.first / 4)
        if not self.is_overdue(accepted_at, now):
            return now + min(max(age / 2, self.first / 4), self.cap)
        return now + min(max(age / 12, min(age / 2, self.cap)), _SLOWEST)

    def is_overdue(self, accepted_at: datetime, now: datetime) -> bool:
        """Whether its outcome should have come long ago."""
        return now - accepted_at >= self.overdue


@dataclass(frozen=True, slots=True)
class ProcessingBudget:
    """How often a signal is processed in all before it stays failed, and the waits in between."""

    attempts: int = 3
    backoff: Backoff = field(default_factory=lambda: Backoff(first=timedelta(seconds=2)))

    def again_at(self, reruns: int, now: datetime, draw: Callable[[], float]) -> datetime | None:
        """When to ask for it after a failure, given the times it was asked for; None when the budget is spent."""
        return now + self.backoff.wait(reruns + 1, draw) if reruns + 1 < self.attempts else None


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `calls` in any span of `per`, for the addresses whose path begins with `path`."""

    calls: int
    per: timedelta
    path: str = ""


@dataclass(slots=True)
class Pace:
    """Keeps a limit: each call is told when its turn is. It remembers as many calls as the limit allows."""

    limit: Limit
    turns: deque[datetime] = field(init=False)

    def __post_init__(self) -> None:
        self.turns = deque(maxlen=self.limit.calls)

    def turn(self, now: datetime) -> datetime:
        """When the next call may be made; it is taken to be made then."""
        is_full = len(self.turns) == self.limit.calls
        at = max(now, self.turns[0] + self.limit.per) if is_full else now
        self.turns.append(at)
        return at
