"""How fast to go. No I/O, no sleeping, no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from syncd.retry import Backoff

DOUBTS = 8
"""So many lost answers in a row close the gate, so that an outage does not cost every record its certainty."""


@dataclass(slots=True)
class Gate:
    """Whether Zentrik may be posted to: parked for as long as it asked, or by a backoff while it is unwell."""

    backoff: Backoff = field(default_factory=lambda: Backoff(first=timedelta(seconds=1), cap=timedelta(seconds=30)))
    parked_until: datetime | None = None
    reason: str | None = None
    failures: int = 0
    unwell_since: datetime | None = None
    doubts: int = 0

    def park(self, reason: str, after: timedelta | None, now: datetime) -> None:
        """Close until `after` has passed; of several the longest wait counts. An `after` of zero names no time."""
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
            self.park(reason, None, now)

    def clear(self) -> None:
        """Zentrik took something: it is well."""
        self.failures, self.doubts, self.unwell_since = 0, 0, None
        self.reason = None

    def opens_in(self, now: datetime) -> timedelta:
        """How long it stays closed; zero when it is open."""
        return max(timedelta(0), self.parked_until - now) if self.parked_until else timedelta(0)


@dataclass(slots=True)
class LookSchedule:
    """When to ask for outcomes: first when most are known to be ready, then less and less often.

    Learns from each outcome how long Zentrik takes. The first look comes at that time (at `first` until it is known),
    each next one after a wait half as long again as the signal's age, at most `cap`.
    """

    first: timedelta = timedelta(seconds=2)
    cap: timedelta = timedelta(minutes=5)
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
        """When to look again at one that had not settled."""
        age = max(now - accepted_at, self.first / 2)
        return now + min(age / 2, self.cap)
