"""A budget's day and share."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.budgets import Budget

MOMENTS = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu", "Pacific/Chatham", "Africa/Cairo"])


class TestDay:
    @given(MOMENTS, ZONES)
    def test_every_moment_falls_in_one_day(self, now: datetime, zone: str) -> None:
        """No moment is without a budget, and none has two: where one day ends the next begins."""
        budget = Budget(1, timezone=zone)
        begins, ends = budget.day(now)
        assert begins <= now < ends
        assert budget.day(ends)[0] == ends
        assert timedelta(hours=22) <= ends - begins <= timedelta(hours=26)

    @pytest.mark.parametrize(("month", "day", "hours"), [(3, 29, 23), (10, 25, 25), (11, 2, 24)])
    def test_it_is_the_day_of_the_operators_own_zone(self, month: int, day: int, hours: int) -> None:
        """A budget begins anew at the operator's midnight, on the days on which the clocks change too."""
        berlin = ZoneInfo("Europe/Berlin")
        begins, ends = Budget(1, timezone="Europe/Berlin").day(datetime(2026, month, day, 12, tzinfo=UTC))
        assert begins.astimezone(berlin).time() == ends.astimezone(berlin).time() == time()
        assert ends - begins == timedelta(hours=hours)


class TestShare:
    @pytest.mark.parametrize(
        ("budget", "share"),
        [
            (Budget(signals=10), 0.5),
            (Budget(characters=1000), 0.9),
            (Budget(10, 1000), 0.9),
            (Budget(5, 1000), 1.0),
            (Budget(), 0.0),
        ],
    )
    def test_the_limit_that_is_nearer_counts(self, budget: Budget, share: float) -> None:
        """Whichever of the two limits is reached first ends the day; one that is not set ends none."""
        assert budget.share(5, 900) == share
