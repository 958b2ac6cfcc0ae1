"""Backfill: a window of the past is read whole, slice by slice, however often it is broken off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from syncd.backfill import AT_ONCE, MOST_SLICES, backfill, cut, unread
from syncd.connector import Checkpoint, Connector, Page, Source, SourceError, Window
from syncd.errors import LedgerError
from syncd.ledger import Database, Lane, Ledger, report
from syncd.pull import Pulled, Span, pull
from tests.conftest import Clock, OnSQLite, dies, record

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MOMENTS = st.datetimes(datetime(1991, 1, 1), datetime(2099, 12, 31), timezones=st.timezones())  # noqa: DTZ001


class Dated(Connector):
    """A source of one record a day, served two to a page, oldest first, from the window's beginning to its end."""

    provider = "external_api"
    days: int = Field(20, repr=False)  # what is not shown is no setting
    breaks_at: Any = Field(None, repr=False)
    ready_at: Any = Field(None, repr=False)
    diary: Any = Field(None, repr=False)

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        done = checkpoint.get("done", 0)
        assert isinstance(done, int)
        if self.diary is not None:
            self.diary.append((window.since, window.until, dict(checkpoint)))
        numbers = [number for number in range(self.days) if self.is_asked_for(window, JANUARY + number * DAY)]
        for start in range(done, len(numbers), 2):
            some = numbers[start : start + 2]
            if self.breaks_at in some:
                raise SourceError("the wire broke")
            waits = self.ready_at if self.ready_at and self.ready_at > window.now else None
            records = [record(number, occurred_at=JANUARY + number * DAY) for number in some]
            yield Page(records=records, checkpoint={"done": start + len(some)}, revisit_at=waits)
            await asyncio.sleep(0)

    def is_asked_for(self, window: Window, at: datetime) -> bool:
        """This vendor shows everything, whatever is asked for."""
        return True

    async def check(self, http: httpx.AsyncClient) -> str:
        return "readable"


class Windowed(Dated):
    """One that shows what lies in the window, and no more."""

    windowed: ClassVar[bool] = True

    def is_asked_for(self, window: Window, at: datetime) -> bool:
        return window.holds(at)


def dated(**more: Any) -> Source:
    return Source("reviews", "dated", "dated:reviews", Dated(**more))


def windowed(**more: Any) -> Source:
    return Source("reviews", "windowed", "dated:reviews", Windowed(**more))


TEN_DAYS = Span(JANUARY + 2 * DAY, JANUARY + 12 * DAY, length=2 * DAY)
IN_IT = {f"r-{number}" for number in range(2, 12)}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client for connectors that ask nobody."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))) as client:
        yield client


async def look_back(
    ledger: Ledger,
    http: httpx.AsyncClient,
    source: Source,
    clock: Clock,
    span: Span = TEN_DAYS,
    *,
    stopping: Callable[[], bool] = lambda: False,
    on_page: Callable[[Pulled], None] = lambda _: None,
) -> Pulled:
    run = await ledger.start_run("test", clock())
    return await backfill(source, ledger, http, run, clock, span, stopping=stopping, on_page=on_page)


async def names(ledger: Ledger) -> set[str]:
    """The records in the ledger."""
    found = await ledger.ask(lambda db: list(report.find(db)))
    return {row.external_id.rpartition(":")[2] for row in found}


class TestCut:
    @settings(max_examples=40)
    @given(MOMENTS, MOMENTS, st.timedeltas(timedelta(hours=1), timedelta(days=400)))
    def test_slices_cover_the_window_without_gap_or_overlap(
        self, since: datetime, until: datetime, length: timedelta
    ) -> None:
        """Every instant of the window lies in one slice, across every change of the clocks, and none outside of it."""
        since, until = sorted((since.astimezone(UTC), until.astimezone(UTC)))
        slices = cut(since, until, length)
        assert (slices[0][0], slices[-1][1]) == (since, until)
        assert [last for _, last in slices[:-1]] == [first for first, _ in slices[1:]]
        assert since == until or all(first is not None and first < last for first, last in slices)
        assert len(slices) <= MOST_SLICES + 1

    @given(MOMENTS, st.timedeltas(timedelta(hours=1), timedelta(days=400)))
    def test_without_a_beginning_it_is_one(self, until: datetime, length: timedelta) -> None:
        """From the beginning of a source nobody can count; that is read in one piece."""
        assert cut(None, until, length) == [(None, until)]

    def test_each_is_as_long_as_was_said(self) -> None:
        """`--slice 7d` makes slices of a week, the last one shorter."""
        lengths = [last - first for first, last in cut(JANUARY, JANUARY + 16 * DAY, 7 * DAY) if first]
        assert lengths == [7 * DAY, 7 * DAY, 2 * DAY]


class TestBackfill(OnSQLite):
    @pytest.mark.parametrize("source", [dated(), windowed()], ids=["one piece", "slices"])
    async def test_all_of_a_window_is_read_and_nothing_else(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, source: Source
    ) -> None:
        """What lies in the window is queued behind the news; the live checkpoint stays where it was."""
        pulled = await look_back(ledger, http, source, clock)
        assert await names(ledger) == IN_IT
        assert (pulled.new, pulled.error) == (10, None)
        assert pulled.fetched == pulled.shown
        assert pulled.backfill is not None
        assert pulled.backfill.finished_at == clock()
        assert (await ledger.ask(report.connector_rows))["reviews"].checkpoint == {}
        lanes = await ledger.ask(lambda db: db.exec_driver_sql("SELECT DISTINCT lane FROM signals").scalars().all())
        assert lanes == [Lane.BACKLOG]

    async def test_the_same_window_again_finds_nothing_new(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Asked for twice, a window is read twice and posted once; a record that came late is found."""
        await look_back(ledger, http, windowed(days=11), clock)
        again = await look_back(ledger, http, windowed(days=11), clock)
        assert (again.new, again.unchanged, again.error) == (0, 9, None)
        late = await look_back(ledger, http, windowed(days=12), clock)
        assert (late.new, await names(ledger)) == (1, IN_IT)

    async def test_a_vendor_that_takes_windows_is_asked_for_no_more_than_each_slice(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Such a window is read slice by slice; one that shows everything each time is read once."""
        diary: list[Any] = []
        await look_back(ledger, http, windowed(diary=diary), clock)
        edges = [JANUARY + day * DAY for day in range(2, 13, 2)]
        assert sorted(diary) == [(first, last, {}) for first, last in pairwise(edges)]
        diary.clear()
        await look_back(
            ledger, http, dated(diary=diary), clock, Span(JANUARY, JANUARY + DAY, length=timedelta(hours=1))
        )
        assert diary == [(JANUARY, JANUARY + DAY, {})]

    async def test_slices_are_read_side_by_side_and_never_too_many(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """A long window takes a fourth of the time, and asks the vendor no more than four things at once."""
        reading, most = 0, 0

        class Counting(Windowed):
            async def fetch(
                self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
            ) -> AsyncGenerator[Page, None]:
                nonlocal reading, most
                reading += 1
                most = max(most, reading)
                await asyncio.sleep(0.01)
                async for page in super().fetch(http, checkpoint, window):
                    yield page
                reading -= 1

        source = Source("reviews", "counting", "dated:reviews", Counting())
        span = Span(JANUARY, JANUARY + 12 * DAY, length=DAY)
        await look_back(ledger, http, source, clock, span)
        assert most == AT_ONCE
        assert len(await names(ledger)) == 12

    @pytest.mark.parametrize("make", [dated, windowed], ids=["one piece", "slices"])
    async def test_broken_off_it_goes_on_where_it_was(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, make: Callable[..., Source]
    ) -> None:
        """An error of the source ends the reading, not what was read: the next run asks for the rest alone."""
        broken = await look_back(ledger, http, make(breaks_at=7), clock)
        assert broken.error == ("source_error", "the wire broke")
        assert "r-7" not in await names(ledger)
        assert len(await unread(ledger, [make()], TEN_DAYS)) == 1
        rest = await look_back(ledger, http, make(), clock)
        assert rest.error is None
        assert rest.fetched < broken.fetched + rest.fetched <= 20
        assert await names(ledger) == IN_IT
        assert await unread(ledger, [make()], TEN_DAYS) == []

    async def test_stopped_it_goes_on_where_it_was(self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock) -> None:
        """After Ctrl-C the same command reads what is left, and asks for no page a second time."""
        diary: list[Any] = []
        pages: list[int] = []

        def stopping() -> bool:
            return len(pages) >= 2

        await look_back(
            ledger, http, dated(diary=diary), clock, stopping=stopping, on_page=lambda now: pages.append(now.new)
        )
        assert [each.read for each in await unread(ledger, [dated()], TEN_DAYS)] == [0]
        rest = await look_back(ledger, http, dated(diary=diary), clock)
        assert [checkpoint for _, _, checkpoint in diary] == [{}, {"done": 4}]
        assert rest.fetched == 16
        assert await names(ledger) == IN_IT
        assert await unread(ledger, [dated()], TEN_DAYS) == []

    async def test_cancelled_at_any_page_nothing_is_lost(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Cut off at each page in turn, a window comes to its end all the same, and no record is counted twice."""
        new = 0
        for _ in range(20):
            began, told = asyncio.Event(), Pulled()

            def tell(pulled: Pulled, began: asyncio.Event = began) -> None:
                nonlocal told
                told = pulled
                began.set()

            work = asyncio.create_task(look_back(ledger, http, windowed(), clock, on_page=tell))
            first = asyncio.create_task(began.wait())
            await asyncio.wait({work, first}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()
            first.cancel()
            await asyncio.wait({work, first})
            new += told.new
            if not await unread(ledger, [windowed()], TEN_DAYS):
                break
        assert await names(ledger) == IN_IT
        assert new == 10

    async def test_a_dead_process_leaves_its_slices_to_the_next(
        self, ledger: Ledger, ledger_url: str, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """A slice that a killed process was reading is read on from its last stored page, by whoever comes next."""

        class Dying(Ledger):
            """The ledger of a process that is killed after three pages: nothing is given back."""

            pages = 0

            async def record_page(self, *args: Any, **kwargs: Any) -> Any:
                if self.pages == 3:
                    raise LedgerError("killed")
                self.pages += 1
                return await super().record_page(*args, **kwargs)

            async def finish_slice(self, *_: Any, **__: Any) -> None:
                """It cannot."""

        first = Dying(Database(ledger_url))
        try:
            with pytest.raises(ExceptionGroup):
                await look_back(first, http, dated(), clock)
            dies(first)
        finally:
            first.close()
        rest = await look_back(ledger, http, dated(), clock)
        assert rest.fetched == 20 - 6
        assert await names(ledger) == IN_IT

    async def test_a_limit_sends_a_small_batch_first(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """`--limit` counts over all slices and moves no checkpoint past what it left: the run without it sends the
        rest, once."""
        small = await look_back(ledger, http, windowed(), clock, Span(JANUARY, JANUARY + 12 * DAY, 3, 2 * DAY))
        assert (small.new, await names(ledger)) == (3, {"r-0", "r-1", "r-2"})
        rest = await look_back(ledger, http, windowed(), clock, Span(JANUARY, JANUARY + 12 * DAY, length=2 * DAY))
        assert (rest.new, rest.error) == (9, None)
        assert len(await names(ledger)) == 12

    async def test_what_is_not_ready_keeps_its_slice_open(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """A window is finished only when its source has nothing more to wait for."""
        source = dated(ready_at=clock() + timedelta(minutes=1))
        pulled = await look_back(ledger, http, source, clock)
        assert pulled.revisit_at == clock() + timedelta(minutes=1)
        assert len(await unread(ledger, [source], TEN_DAYS)) == 1

    async def test_another_syncd_at_the_window_is_said(
        self, ledger: Ledger, ledger_url: str, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Whoever finds every slice in other hands says so instead of reporting a window of nothing."""
        other = Ledger(Database(ledger_url))
        try:
            run = await other.start_run("other", clock())
            whole = await other.start_backfill(
                dated(), TEN_DAYS.since, TEN_DAYS.until, lambda *_: [(JANUARY, JANUARY + DAY)], clock()
            )
            await other.take_slice(whole.id, 0, run, clock())
            pulled = await look_back(ledger, http, dated(), clock)
            assert pulled.error is not None
            assert pulled.error[0] == "already_reading"
        finally:
            other.close()

    async def test_the_live_reading_goes_on_beside_it(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """While a window is read, the same connector's news come in; neither takes the other's place."""
        run = await ledger.start_run("test", clock())
        live, past = await asyncio.gather(
            pull(dated(), ledger, http, run, clock), look_back(ledger, http, dated(), clock)
        )
        assert (live.error, past.error) == (None, None)
        assert live.new + past.new == 20
        assert len(await names(ledger)) == 20
        assert (await ledger.ask(report.connector_rows))["reviews"].checkpoint == {"done": 20}
