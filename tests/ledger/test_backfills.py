"""Backfills in the ledger: a window's slices, who reads them, and what is kept of them; on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from syncd.connector import Source
from syncd.errors import RateLimited
from syncd.ledger import Backfill, Database, Lane, Ledger, Slice, report
from syncd.ledger.backfills import begun, left, named, unfinished
from syncd.ledger.ledger import AlreadyReading
from syncd.ledger.tables import slices
from tests.conftest import Clock, dies, rows, signal, source

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SOURCE = source()


def in_days(since: datetime | None, until: datetime) -> Sequence[tuple[datetime | None, datetime]]:
    """A slice for each day of a window that has a beginning."""
    if since is None:
        return [(None, until)]
    return [(since + day * DAY, since + (day + 1) * DAY) for day in range((until - since).days)]


async def begin(ledger: Ledger, clock: Clock, days: int = 2, of: Source = SOURCE, *, is_open: bool = False) -> Backfill:
    until = None if is_open else JANUARY + days * DAY
    return await ledger.start_backfill(of, JANUARY, until, in_days, clock())


async def taken(ledger: Ledger, clock: Clock, backfill: Backfill, run: int, after: int = 0) -> Slice:
    found = await ledger.take_slice(backfill.id, after, run, clock())
    assert found is not None
    return found


class TestBegin:
    async def test_a_window_that_was_broken_off_goes_on_where_it_was(self, ledger: Ledger, clock: Clock) -> None:
        """Each slice keeps its own checkpoint, stored with its page; asked for again, the window is not begun anew."""
        run = await ledger.start_run("test", clock())
        backfill = await begin(ledger, clock)
        first = await taken(ledger, clock, backfill, run)
        assert (first.since, first.until, first.checkpoint) == (JANUARY, JANUARY + DAY, {})
        page = [signal(1)]
        tally = await ledger.record_page(SOURCE, page, [], {"page": 1}, run, clock(), Lane.BACKLOG, taken=first)
        assert tally.new == 1
        await ledger.finish_slice(SOURCE, first, run, clock(), is_whole=False)
        assert await begin(ledger, clock) == backfill
        again = await taken(ledger, clock, backfill, run)
        assert (again.id, again.checkpoint) == (first.id, {"page": 1})

    async def test_it_never_moves_the_live_checkpoint(self, ledger: Ledger, clock: Clock) -> None:
        """What the live reading goes on from is the same before, during and after a backfill."""
        run = await ledger.start_run("test", clock())
        await ledger.start_pull(SOURCE, run, clock())
        await ledger.record_page(SOURCE, [], [], {"live": 7}, run, clock())
        before = (await ledger.ask(report.connector_rows))["reviews"]
        part = await taken(ledger, clock, await begin(ledger, clock, 1), run)
        await ledger.record_page(SOURCE, [signal(1)], [], {"page": 1}, run, clock(), taken=part)
        await ledger.finish_slice(SOURCE, part, run, clock(), is_whole=True)
        assert (await ledger.ask(report.connector_rows))["reviews"] == before

    async def test_a_finished_window_is_read_again_from_its_beginning(self, ledger: Ledger, clock: Clock) -> None:
        """Records that arrived late in a window that was read are found by asking for it again."""
        run = await ledger.start_run("test", clock())
        backfill = await begin(ledger, clock, 1)
        part = await taken(ledger, clock, backfill, run)
        await ledger.record_page(SOURCE, [], [], {"page": 9}, run, clock(), taken=part)
        await ledger.finish_slice(SOURCE, part, run, clock(), is_whole=True)
        done = await ledger.ask(named, backfill.id)
        assert done is not None
        assert (done.finished_at, done.slices, done.read) == (clock(), 1, 1)
        assert await ledger.take_slice(backfill.id, 0, run, clock()) is None
        anew = await begin(ledger, clock, 1)
        assert (anew.finished_at, anew.read) == (None, 0)
        assert (await taken(ledger, clock, anew, run)).checkpoint == {}

    async def test_left_open_it_ends_when_it_was_begun(self, ledger: Ledger, clock: Clock) -> None:
        """Without --until a window that is resumed a day later is the same window, so that it comes to an end."""
        began = clock()
        backfill = await begin(ledger, clock, is_open=True)
        clock.move(86_400)
        again = await begin(ledger, clock, is_open=True)
        assert (again.id, again.until) == (backfill.id, began)

    async def test_windows_that_differ_are_apart(self, ledger: Ledger, clock: Clock) -> None:
        """Two windows of one connector, and one window of two, each have their own slices."""
        one, other = await begin(ledger, clock, 1), await begin(ledger, clock, 2)
        third = await begin(ledger, clock, 1, source(name="others"))
        whole = await ledger.start_backfill(SOURCE, None, JANUARY, in_days, clock())
        assert len({one.id, other.id, third.id, whole.id}) == 4
        assert await ledger.ask(unfinished) == [one, other, third, whole]
        assert (await ledger.start_backfill(SOURCE, None, JANUARY, in_days, clock())).id == whole.id

    async def test_with_other_settings_it_is_begun_anew(self, ledger: Ledger, clock: Clock) -> None:
        """What was read of another product or folder is no reason to leave out this one's."""
        run = await ledger.start_run("test", clock())
        backfill = await begin(ledger, clock, 1)
        part = await taken(ledger, clock, backfill, run)
        await ledger.record_page(SOURCE, [], [], {"page": 1}, run, clock(), taken=part)
        changed = source((), ())
        assert await ledger.ask(begun, changed, JANUARY, JANUARY + DAY) is None
        assert (await begin(ledger, clock, 1, changed)).id == backfill.id  # a living run is at it
        await ledger.finish_slice(SOURCE, part, run, clock(), is_whole=False)
        anew = await begin(ledger, clock, 1, changed)
        assert [slice_.checkpoint for slice_ in await ledger.ask(left, anew.id)] == [{}]
        assert await ledger.ask(unfinished) == [anew]

    async def test_a_vendor_that_wants_to_be_left_alone_is(self, ledger: Ledger, clock: Clock) -> None:
        """What one reading was told holds for the next, whether it is of the past or of the present."""
        run = await ledger.start_run("test", clock())
        part = await taken(ledger, clock, await begin(ledger, clock, 1), run)
        until = clock() + timedelta(hours=1)
        await ledger.finish_slice(SOURCE, part, run, clock(), is_whole=False, rests_until=until)
        with pytest.raises(RateLimited):
            await begin(ledger, clock, 1)
        with pytest.raises(RateLimited):
            await ledger.start_pull(SOURCE, run, clock())
        clock.move(3601)
        await begin(ledger, clock, 1)


class TestTake:
    async def test_two_runs_never_read_the_same_slice(self, ledger: Ledger, ledger_url: str, clock: Clock) -> None:
        """Two processes on one window share its slices; what a dead one had is free at once."""
        other = Ledger(Database(ledger_url))
        try:
            here, there = await ledger.start_run("one", clock()), await other.start_run("other", clock())
            backfill = await begin(ledger, clock, 3)
            assert await begin(other, clock, 3) == backfill
            mine, theirs = await taken(ledger, clock, backfill, here), await taken(other, clock, backfill, there)
            third = await taken(ledger, clock, backfill, here, mine.id)
            assert len({mine.id, theirs.id, third.id}) == 3
            assert await other.take_slice(backfill.id, 0, there, clock()) is None
            dies(other)
            freed = await taken(ledger, clock, backfill, here)
            assert freed.id == theirs.id
            with pytest.raises(AlreadyReading):
                await other.record_page(SOURCE, [signal(1)], [], {"page": 1}, there, clock(), taken=theirs)
            assert await rows(ledger) == []
        finally:
            other.close()

    async def test_the_live_reading_and_a_backfill_do_not_wait_for_each_other(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """A backfill in one process holds up no news in another, nor they it."""
        other = Ledger(Database(ledger_url))
        try:
            here, there = await ledger.start_run("one", clock()), await other.start_run("other", clock())
            await ledger.start_pull(SOURCE, here, clock())
            part = await taken(other, clock, await begin(other, clock, 1), there)
            await other.record_page(SOURCE, [signal(1)], [], {"page": 1}, there, clock(), Lane.BACKLOG, taken=part)
            await ledger.record_page(SOURCE, [signal(2)], [], {"live": 1}, here, clock())
            assert len(await rows(ledger)) == 2
        finally:
            other.close()

    async def test_a_run_that_froze_is_taken_over_from(self, ledger: Ledger, clock: Clock) -> None:
        """A slice whose reader stores nothing for as long as its lease goes to whoever asks, and comes back to none."""
        frozen, awake = await ledger.start_run("one", clock()), await ledger.start_run("other", clock())
        backfill = await begin(ledger, clock, 1)
        part = await taken(ledger, clock, backfill, frozen)
        assert await ledger.take_slice(backfill.id, 0, awake, clock()) is None
        clock.move(ledger.leases.pull.total_seconds() + 1)
        assert (await taken(ledger, clock, backfill, awake)).id == part.id
        await ledger.finish_slice(SOURCE, part, frozen, clock(), is_whole=True)
        assert [each.read for each in await ledger.ask(unfinished)] == [0]

    async def test_a_clock_that_was_set_back_shortens_its_leases(self, ledger: Ledger, clock: Clock) -> None:
        """A slice taken by the clock of next year is not kept from others until then."""
        clock.move(400 * 86_400)
        ahead = await ledger.start_run("one", clock())
        backfill = await begin(ledger, clock, 1)
        await taken(ledger, clock, backfill, ahead)
        clock.move(-400 * 86_400)
        run = await ledger.start_run("other", clock())
        assert await ledger.mend_clock(run, clock(), timedelta(seconds=10)) is not None
        clock.move(ledger.leases.pull.total_seconds() + 1)
        assert await ledger.take_slice(backfill.id, 0, run, clock()) is not None


async def test_finished_backfills_are_forgotten_after_ninety_days(ledger: Ledger, clock: Clock) -> None:
    """The ledger does not grow with every window that was ever read; one that is not finished stays."""
    run = await ledger.start_run("test", clock())
    kept = await begin(ledger, clock, 2)
    gone = await begin(ledger, clock, 1)
    part = await taken(ledger, clock, gone, run)
    await ledger.finish_slice(SOURCE, part, run, clock(), is_whole=True)
    clock.move(91 * 86_400)
    await ledger.clear_away(run, timedelta(days=30), clock())
    assert await ledger.ask(named, gone.id) is None
    assert await ledger.ask(unfinished) == [kept]
    number = await ledger.ask(lambda db: db.scalar(sa.select(sa.func.count()).select_from(slices)))
    assert number == 2
