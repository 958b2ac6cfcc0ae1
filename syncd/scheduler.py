"""When each connector is read. The one home of APScheduler.

Its defaults are not ours: a start that was missed is made up for whatever its age (`misfire_grace_time=None`), several
missed ones count as one (`coalesce`), one that is still running is not started again (`max_instances=1`), and `jitter`
is never given: it can skip a whole day when the clocks change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from syncd import cron
from syncd.ledger.report import ConnectorRow
from syncd.settings import ConnectorSettings

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SOON = timedelta(milliseconds=100)
_APART = timedelta(seconds=2)  # two starts that would fall on one moment
_LONGEST_HOLD = timedelta(hours=6)
_HOLD = timedelta(minutes=10)  # where no `every` says how often it is read


@dataclass(frozen=True, slots=True)
class Timetable:
    """When a connector starts: `every` so often, or at the times a cron expression names in `zone`."""

    every: timedelta | None
    cron: str | None
    zone: str = "UTC"

    @classmethod
    def of(cls, entry: ConnectorSettings) -> Timetable:
        """That of a connector."""
        return cls(entry.every, entry.cron, entry.timezone)

    def next_start(self, last: datetime | None, now: datetime) -> datetime:
        """The start after `last` (None: never yet, so now). One that was missed is now, however many they were.

        A `last` that lies ahead is by a clock that was set back since: it counts as now.
        """
        if last is None:
            return now
        last = min(last, now)
        if self.every is not None:
            return max(now, last + self.every)
        due: datetime | None = self.trigger().get_next_fire_time(None, last + timedelta(microseconds=1))
        return now if due is None else max(now, due.astimezone(UTC))

    def trigger(self, first: datetime | None = None) -> Any:
        """The same as APScheduler's trigger; an interval is counted from `first`."""
        if self.every is not None:
            return IntervalTrigger(seconds=self.every.total_seconds(), start_date=first, timezone=UTC)
        return _cron_trigger(cron.parse(self.cron or ""), ZoneInfo(self.zone))


def next_run(entry: ConnectorSettings, row: ConnectorRow | None, now: datetime) -> datetime | None:
    """When a connector is read next by itself; None when it is switched off or paused."""
    if not entry.enabled or (row is not None and row.paused_at is not None):
        return None
    return max(Timetable.of(entry).next_start(row.started_at if row else None, now), held_until(entry, row) or now)


def held_until(entry: ConnectorSettings, row: ConnectorRow | None) -> datetime | None:
    """Until when a connector is not read, though its time may have come: its vendor wants to be left alone, or it
    failed several times in a row, and is tried ever more rarely."""
    if row is None:
        return None
    hold = None
    if row.failures > 1 and row.started_at is not None:
        doublings = min(row.failures - 1, 20)
        hold = row.started_at + min((entry.every or _HOLD) * 2**doublings, max(_LONGEST_HOLD, entry.every or _HOLD))
    return max(filter(None, (hold, row.rests_until)), default=None)


def spread(names: Iterable[str]) -> dict[str, timedelta]:
    """How much later each of some connectors starts that are all due at once, in an order that stays the same."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: number * _APART for number, name in enumerate(ordered)}


def _cron_trigger(times: cron.Cron, zone: ZoneInfo) -> Any:
    """crontab's meaning: Sunday is 0, and of days and weekdays that are both narrowed either one counts.

    APScheduler counts weekdays from Monday and wants both to fit, so names and two triggers say it instead.
    """
    at = {
        "minute": _list(times.minutes),
        "hour": _list(times.hours),
        "month": _list(times.months),
        "timezone": zone,
    }
    trigger = CronTrigger if len(times.hours) == 24 else _OncePerHour
    days = {"day": _list(times.days)} if len(times.days) < 31 else {}
    weekdays = {"day_of_week": _list(_WEEKDAYS[day] for day in times.weekdays)} if len(times.weekdays) < 7 else {}
    if days and weekdays:
        return OrTrigger([trigger(**at, **days), trigger(**at, **weekdays)])
    return trigger(**at, **days, **weekdays)


def _list(values: Any) -> str:
    return ",".join(map(str, values))


class _OncePerHour(BaseTrigger):  # type: ignore[misc]  # APScheduler has no type hints
    """Hours named on the wall clock: one that the clocks go through twice, when they go back, counts the first time."""

    __slots__ = ("_inner",)

    def __init__(self, **fields: Any) -> None:
        self._inner = CronTrigger(**fields)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """APScheduler's question."""
        moment: datetime | None = self._inner.get_next_fire_time(previous, now)
        while moment is not None and moment.astimezone(UTC).astimezone(moment.tzinfo).fold:
            moment = self._inner.get_next_fire_time(moment, moment)
        return moment


class Scheduler:
    """Starts each connector's reading at its times, within the running event loop."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )

    def add(self, name: str, start: Callable[[str], Awaitable[None]], timetable: Timetable, first: datetime) -> None:
        """Have `start(name)` called at `first`, and at its times from then on."""

        async def begin() -> None:  # APScheduler awaits what was declared with `async def`, and nothing else
            await start(name)

        self._scheduler.add_job(begin, timetable.trigger(first), id=name, name=name, next_run_time=first)

    def again_at(self, name: str, moment: datetime) -> None:
        """Bring a connector's next start forward to that moment, if it is later now.

        A start that asks for this itself must be about to end: while one is running, another is passed over.
        """
        moment = max(moment, datetime.now(UTC) + _SOON)
        job = self._scheduler.get_job(name)
        if job is not None and job.next_run_time is not None and job.next_run_time > moment:
            job.modify(next_run_time=moment)

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def stop(self) -> None:
        """Start nothing more. Wait for what is running first: this would cancel it."""
        self._scheduler.shutdown(wait=False)
