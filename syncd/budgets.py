"""How much of a connector is posted in a day, and when the day is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

LOW = 0.8
"""The share of a budget from which on somebody is told that it nears its end."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so many signals, and so many characters of their texts, a day in that time zone; None is no limit.

    It is spent once one of the two is reached: the signal that reaches it is the last of the day, so the characters may
    go beyond theirs by less than one signal.
    """

    signals: int | None = None
    characters: int | None = None
    timezone: str = "UTC"

    def day(self, now: datetime) -> tuple[datetime, datetime]:
        """When the day of `now` began and when the next one begins, in UTC. Where the clocks change it has 23 or 25
        hours."""
        zone = ZoneInfo(self.timezone)
        today = now.astimezone(zone).date()
        begins, ends = (datetime.combine(date, time(), zone) for date in (today, today + timedelta(days=1)))
        return begins.astimezone(UTC), ends.astimezone(UTC)

    def share(self, signals: int, characters: int) -> float:
        """How much of it these are: 1 or more when it is spent."""
        of = ((signals, self.signals), (characters, self.characters))
        return max((spent / limit for spent, limit in of if limit is not None), default=0.0)
