"""When each connector is read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.scheduler import Scheduler, Timetable, spread

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def starts(cron: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """The starts between the two, each asked for from the one before, as the next run's plan is."""
    timetable, found = Timetable(None, cron, zone), [begin - timedelta(seconds=1)]
    while (start := timetable.next_start(found[-1], found[-1])) < end:
        found.append(start)
    return found[1:]


def fired(cron: str, zone: str, begin: datetime, end: datetime) -> list[datetime]:
    """The same from APScheduler's side: the trigger asked a moment after each start."""
    trigger: Any = Timetable(None, cron, zone).trigger()
    found: list[datetime] = []
    start = trigger.get_next_fire_time(None, begin)
    while start is not None and start < end:
        found.append(start.astimezone(UTC))
        start = trigger.get_next_fire_time(start, found[-1] + timedelta(milliseconds=3))
    return found


def local_day(year: int, month: int, day: int, zone: str) -> tuple[datetime, datetime]:
    """A day's beginning and end in a zone, in UTC: 23, 23.5, 24, 24.5 or 25 hours apart."""
    midnight = datetime(year, month, day, tzinfo=ZoneInfo(zone))
    return midnight.astimezone(UTC), (midnight + DAY).astimezone(UTC)


class TestNextStart:
    @pytest.mark.parametrize("timetable", [Timetable(HOUR, None), Timetable(None, "0 6 * * *")])
    def test_what_never_ran_starts_now(self, timetable: Timetable) -> None:
        """A new connector shows its first records at once, not tomorrow at six."""
        assert timetable.next_start(None, NOW) == NOW

    @pytest.mark.parametrize(
        ("timetable", "last", "expected"),
        [
            (Timetable(HOUR, None), NOW - timedelta(minutes=20), NOW + timedelta(minutes=40)),
            (Timetable(HOUR, None), NOW - HOUR, NOW),
            (Timetable(HOUR, None), NOW - 30 * DAY, NOW),
            (Timetable(None, "0 * * * *"), NOW - timedelta(minutes=1), NOW),
            (Timetable(None, "0 * * * *"), NOW, NOW + HOUR),
            (Timetable(None, "30 6 * * *"), NOW - timedelta(hours=1), NOW + timedelta(hours=21, minutes=30)),
            (Timetable(None, "30 6 * * *"), NOW - timedelta(hours=4), NOW),
            (Timetable(None, "30 6 * * *"), NOW - 30 * DAY, NOW),
            (Timetable(None, "30 6 * * *", "America/New_York"), NOW - HOUR, NOW + timedelta(hours=2, minutes=30)),
            (Timetable(None, "30 6 * * *", "Asia/Kolkata"), NOW - HOUR, NOW + timedelta(hours=16)),
        ],
    )
    def test_the_next_start_follows_the_last(self, timetable: Timetable, last: datetime, expected: datetime) -> None:
        """After a stop of any length the daemon makes up for what it missed with one run, now, and then keeps time."""
        assert timetable.next_start(last, NOW) == expected

    @given(
        st.timedeltas(timedelta(0), timedelta(days=3650)).map(lambda span: NOW + span),
        st.timedeltas(timedelta(0), timedelta(days=40)),
        st.sampled_from(["0 2 * * *", "*/15 * * * *", "30 1 * * sun", "0 12 13 * fri", "59 23 31 12 *"]),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    )
    def test_it_is_never_past_and_fits_the_expression(
        self, last: datetime, passed: timedelta, cron: str, zone: str
    ) -> None:
        """Whenever it is asked, the next start is now (one was missed) or lies ahead, and moves on from the last."""
        now = last + passed
        timetable = Timetable(None, cron, zone)
        start = timetable.next_start(last, now)
        assert start >= now
        due = timetable.next_start(last, last)
        assert due > last
        assert start == max(due, now)

    @pytest.mark.parametrize(
        ("cron", "weekday"),
        [("0 9 * * 0", 6), ("0 9 * * 7", 6), ("0 9 * * 1", 0), ("0 9 * * 6", 5), ("0 9 * * sat", 5)],
    )
    def test_weekdays_are_numbered_as_in_crontab(self, cron: str, weekday: int) -> None:
        """A job for Monday runs on Monday: Sunday is 0 and 7, whatever the library beneath counts from."""
        assert {start.weekday() for start in starts(cron, "UTC", NOW, NOW + 60 * DAY)} == {weekday}

    def test_a_day_or_a_weekday_is_enough_when_both_are_named(self) -> None:
        """«The 13th, and every Friday» runs on both, as crontab has it, and not only on Friday the 13th."""
        days = [start.date() for start in starts("0 9 13 * fri", "UTC", NOW, NOW + 60 * DAY)]
        assert days == sorted(set(days))
        assert {(day.day == 13) or (day.weekday() == 4) for day in days} == {True}
        assert [day.day for day in days if day.month == 12 and day.day < 20] == [4, 11, 13, 18]


CHANGES = [
    ("Europe/Berlin", (2026, 3, 29), 23),
    ("Europe/Berlin", (2026, 10, 25), 25),
    ("America/New_York", (2026, 3, 8), 23),
    ("America/New_York", (2026, 11, 1), 25),
    ("Australia/Lord_Howe", (2026, 10, 4), 23.5),
    ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
]
"""The days in 2026 on which the clocks change, and how many hours they have. Lord Howe moves by half an hour."""


@pytest.mark.parametrize(("zone", "day", "hours"), CHANGES)
class TestClockChanges:
    @pytest.mark.parametrize("minute", [0, 15, 30, 45])
    @pytest.mark.parametrize("hour", [0, 1, 2, 3, 12, 23])
    def test_a_daily_run_comes_once(
        self, zone: str, day: tuple[int, int, int], hours: float, hour: int, minute: int
    ) -> None:
        """On the day the clocks change a daily connector is read once: not twice, and not skipped."""
        begin, end = local_day(*day, zone)
        assert end - begin == hours * HOUR
        cron = f"{minute} {hour} * * *"
        [start] = starts(cron, zone, begin, end)
        assert fired(cron, zone, begin, end) == [start]
        wall = start.astimezone(ZoneInfo(zone))
        assert timedelta(0) <= timedelta(hours=wall.hour - hour, minutes=wall.minute - minute) <= HOUR
        assert wall.fold == 0

    def test_it_comes_once_on_the_days_around_too(self, zone: str, day: tuple[int, int, int], hours: float) -> None:
        """The change of the clocks costs no run of the days before and after it."""
        begin, end = local_day(*day, zone)
        found = starts("30 2 * * *", zone, begin - 3 * DAY, end + 3 * DAY)
        assert len({start.astimezone(ZoneInfo(zone)).date() for start in found}) == len(found) == 7
        assert fired("30 2 * * *", zone, begin - 3 * DAY, end + 3 * DAY) == found

    def test_a_weekly_run_that_names_a_day_as_well_comes_once(
        self, zone: str, day: tuple[int, int, int], hours: float
    ) -> None:
        """The either-or rule for days and weekdays, both of which fit here, does not double the run."""
        begin, end = local_day(*day, zone)
        cron = f"45 1 {day[2]} * sun"
        assert len(starts(cron, zone, begin, end)) == len(fired(cron, zone, begin, end)) == 1

    @pytest.mark.parametrize("minute", ["0", "30", "*/15"])
    def test_an_hourly_run_keeps_coming(self, zone: str, day: tuple[int, int, int], hours: float, minute: str) -> None:
        """What is read every hour, or oftener, is read on through the change, without a gap and without a repeat."""
        begin, end = local_day(*day, zone)
        found = starts(f"{minute} * * * *", zone, begin, end)
        assert fired(f"{minute} * * * *", zone, begin, end) == found
        often = {"0": HOUR, "30": HOUR, "*/15": HOUR / 4}[minute]
        gaps = {later - earlier for earlier, later in pairwise(found)}
        assert gaps <= {often, HOUR / 2, HOUR * 1.5}, "an hour may be half or one and a half long on Lord Howe"
        assert abs(len(found) - hours * (HOUR / often)) < 1


class Read:
    """A connector's reading: remembers when it began, and takes as long as it is told to."""

    def __init__(self, takes: float = 0) -> None:
        self.takes = takes
        self.began: list[datetime] = []
        self.under_way = self.most = 0
        self.news = asyncio.Event()

    async def __call__(self, name: str) -> None:
        assert name == "reviews"
        self.began.append(datetime.now(UTC))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.news.set()
        await asyncio.sleep(self.takes)
        self.under_way -= 1

    async def times(self, number: int) -> None:
        """Wait until it was begun so often."""
        async with asyncio.timeout(5):
            while len(self.began) < number:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    scheduler = Scheduler()
    scheduler.start()
    yield scheduler
    scheduler.stop()


def soon(milliseconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(milliseconds=milliseconds)


class TestScheduler:
    async def test_a_reading_begins_at_its_time_and_again(self, scheduler: Scheduler) -> None:
        """A connector is read when its turn comes, not before, and so on from then."""
        read, first = Read(), soon(60)
        scheduler.add("reviews", read, Timetable(timedelta(milliseconds=50), None), first)
        await read.times(3)
        for number, began in enumerate(read.began[:3]):
            assert began >= first + number * timedelta(milliseconds=50)

    @pytest.mark.parametrize("timetable", [Timetable(HOUR, None), Timetable(None, "* * * * *")])
    async def test_starts_missed_for_days_are_one_start_now(self, scheduler: Scheduler, timetable: Timetable) -> None:
        """After a machine slept, its connectors are read once, at once, and not once for every hour of sleep."""
        read = Read()
        scheduler.add("reviews", read, timetable, soon(0) - timedelta(hours=30))
        await read.times(1)
        await asyncio.sleep(0.05)
        assert len(read.began) == 1

    async def test_a_reading_that_goes_on_is_not_begun_again(
        self, scheduler: Scheduler, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A slow source is never read twice at the same time, and is read again once it has ended."""
        caplog.set_level(logging.ERROR, "apscheduler")
        read = Read(takes=0.12)
        scheduler.add("reviews", read, Timetable(timedelta(milliseconds=20), None), soon(0))
        await read.times(2)
        assert read.most == 1
        assert read.began[1] - read.began[0] >= timedelta(milliseconds=115)

    async def test_again_at_brings_the_next_start_forward(self, scheduler: Scheduler) -> None:
        """A file that was still being written is read when it is whole, not an hour later."""
        read = Read()
        scheduler.add("reviews", read, Timetable(HOUR, None), soon(0))
        await read.times(1)
        moment = soon(150)
        scheduler.again_at("reviews", moment)
        await read.times(2)
        assert read.began[1] >= moment

    async def test_again_at_never_puts_a_start_off(self, scheduler: Scheduler) -> None:
        """A source that asks for another look next week is still read at its own time."""
        read = Read()
        scheduler.add("reviews", read, Timetable(HOUR, None), soon(50))
        scheduler.again_at("reviews", soon(0) + 7 * DAY)
        await read.times(1)

    @pytest.mark.parametrize("milliseconds", [-3_600_000, 0, 1])
    async def test_a_reading_may_ask_for_another_right_after_it(
        self, scheduler: Scheduler, milliseconds: float
    ) -> None:
        """Another look that is due before the reading that asked for it has ended is not lost."""
        read = Read()

        async def start(name: str) -> None:
            await read(name)
            if len(read.began) == 1:
                scheduler.again_at(name, soon(milliseconds))

        scheduler.add("reviews", start, Timetable(HOUR, None), soon(0))
        await read.times(2)

    async def test_a_connector_it_does_not_know_is_no_matter(self, scheduler: Scheduler) -> None:
        """A connector that was taken out meanwhile stops nobody."""
        scheduler.again_at("gone", soon(0))

    async def test_after_stop_nothing_begins(self, scheduler: Scheduler) -> None:
        """A daemon that is told to stop takes on nothing new."""
        read, other = Read(), Scheduler()
        other.start()
        other.add("reviews", read, Timetable(timedelta(milliseconds=20), None), soon(30))
        other.stop()
        await asyncio.sleep(0.08)
        assert read.began == []


class TestSpread:
    @given(st.sets(st.text(min_size=1, max_size=8), max_size=12))
    def test_what_is_due_at_once_starts_one_after_the_other(self, names: set[str]) -> None:
        """After a night's stop fifteen connectors do not begin in one instant, and the first does not wait."""
        waits = sorted(spread(names).values())
        assert waits == [timedelta(seconds=2) * number for number in range(len(names))]

    def test_the_order_is_always_the_same(self) -> None:
        """It hangs on the names alone: two processes, and two days, agree on it."""
        assert spread(["reviews", "tickets", "calls"]) == spread(["calls", "reviews", "tickets"])
