"""How long to wait. No I/O, no sleeping, no clock of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_LONGEST = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: a wait drawn evenly from 0 to min(`cap`, `first` * 2^(n-1)) before try n + 1."""

    first: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=5)

    def ceiling(self, failures: int) -> timedelta:
        """The longest wait after that many failures in a row (1 or more)."""
        doublings = min(max(failures, 1) - 1, 1000)  # a float holds 2^1000; any cap has long been reached
        return timedelta(seconds=min(self.cap.total_seconds(), self.first.total_seconds() * 2.0**doublings))

    def wait(self, failures: int, draw: Callable[[], float]) -> timedelta:
        """The wait itself; `draw` gives a number in [0, 1)."""
        return self.ceiling(failures) * draw()


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """What a Retry-After header asks for, or None when it asks for nothing: in either form of RFC 9110 (10.2.3), or
    as an ISO 8601 time, as some vendors have it.

    Never negative; never shortened: a server that says an hour is given an hour. What lies beyond a year is taken as
    a year, so that the instant it names can always be computed.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text)
    except ValueError:
        return _until(text, now)
    if not math.isfinite(seconds):
        return None
    return timedelta(seconds=min(max(0.0, seconds), _LONGEST.total_seconds()))


def _until(date: str, now: datetime) -> timedelta | None:
    try:
        at = datetime.fromisoformat(date) if date[:4].isdigit() else parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(timedelta(0), at - now), _LONGEST)
