"""Every walk through pages ends, every span is covered once, and questions side by side stay within their number."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.connector import CursorStuck, UnreadableDate, Window
from syncd.kit.paging import NewestFirst, Trail, batches, each, moment, spans

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_trail_ends_where_there_is_no_cursor() -> None:
    """Missing, null and empty cursors all mean the end; others are followed."""
    trail = Trail()
    assert [trail.follow(cursor) for cursor in ("a", "b", None, "")] == ["a", "b", None, None]


@pytest.mark.parametrize("cursors", ["aa", "aba", "abcb"])
def test_a_trail_does_not_go_round_in_circles(cursors: str) -> None:
    """A cursor that was followed before would never lead to the end, however long the way round."""
    trail = Trail()
    for cursor in cursors[:-1]:
        trail.follow(cursor)
    with pytest.raises(CursorStuck, match="the same cursor twice"):
        trail.follow(cursors[-1])


def test_every_walk_has_a_trail_of_its_own() -> None:
    """A cursor of another walk is no repetition."""
    assert [Trail().follow("a"), Trail().follow("a")] == ["a", "a"]


class TestNewestFirst:
    def test_a_walk_without_a_mark_goes_to_the_end(self) -> None:
        """Nothing is known yet, however old it is; `since` alone may say how far."""
        walk = NewestFirst(None, HOUR, Window(now=NOON))
        assert (walk.horizon, walk.is_over([NOON - 9999 * HOUR])) == (None, False)
        walk = NewestFirst(None, HOUR, Window(now=NOON, since=NOON - 3 * HOUR))
        assert (walk.is_over([NOON - 3 * HOUR]), walk.is_over([NOON - 4 * HOUR])) == (False, True)

    def test_a_walk_goes_beyond_the_mark_by_the_overlap(self) -> None:
        """Up to it and with it: what has the very time of the horizon may have company."""
        walk = NewestFirst(NOON - 5 * HOUR, 2 * HOUR, Window(now=NOON))
        assert (walk.is_over([NOON - 7 * HOUR]), walk.is_over([NOON - 8 * HOUR])) == (False, True)

    def test_nothing_before_since_is_wanted(self) -> None:
        """The overlap does not lead further back than the operator wants to go."""
        window = Window(now=NOON, since=NOON - HOUR)
        assert NewestFirst(NOON, 24 * HOUR, window).horizon == NOON - HOUR

    @pytest.mark.parametrize("times", [[], [None], [NOON - 9 * HOUR, None], [NOON - 9 * HOUR, NOON]])
    def test_a_page_that_is_not_wholly_past_is_no_end(self, times: list[datetime | None]) -> None:
        """It is empty, holds something younger, or something of which nobody knows how old it is."""
        assert not NewestFirst(NOON, HOUR, Window(now=NOON)).is_over(times)

    def test_the_mark_is_the_newest_time_of_all_walks(self) -> None:
        """On whatever page it stood, and though this walk saw older ones only."""
        walk = NewestFirst(NOON - 3 * HOUR, HOUR, Window(now=NOON))
        walk.is_over([NOON - 9 * HOUR, None])
        assert walk.mark == (NOON - 3 * HOUR).isoformat()
        walk.is_over([NOON - 2 * HOUR])
        walk.is_over([NOON - 4 * HOUR])
        assert walk.mark == (NOON - 2 * HOUR).isoformat()
        assert walk.horizon == NOON - 4 * HOUR
        assert moment({"newest": walk.mark}, "newest") == walk.newest

    def test_the_mark_is_never_in_the_future(self) -> None:
        """One wrong date would hide all that is written until then."""
        walk = NewestFirst(None, HOUR, Window(now=NOON))
        assert (walk.is_over([NOON + HOUR]), walk.mark) == (False, None)
        walk.is_over([NOON])
        assert walk.mark == NOON.isoformat()

    def test_an_overlap_may_be_longer_than_time(self) -> None:
        """That is how an operator says: always all."""
        assert NewestFirst(NOON, timedelta.max, Window(now=NOON)).horizon == datetime(1970, 1, 1, tzinfo=UTC)


@given(
    st.timedeltas(timedelta(days=-3), timedelta(days=300)),
    st.timedeltas(timedelta(hours=1), timedelta(days=90)),
)
def test_spans_cover_a_time_once_without_a_gap(length: timedelta, longest: timedelta) -> None:
    """What lies between two times is in exactly one span, oldest first; where there is nothing there are none."""
    pieces = list(spans(NOON, NOON + length, longest))
    if length <= timedelta(0):
        assert pieces == []
        return
    assert (pieces[0][0], pieces[-1][1]) == (NOON, NOON + length)
    assert all(before[1] == after[0] for before, after in pairwise(pieces))
    assert all(timedelta(0) < end - begin <= longest for begin, end in pieces)


@given(st.lists(st.integers()), st.integers(1, 7))
def test_batches_keep_every_item_in_its_order(items: list[int], size: int) -> None:
    """Nothing is lost between two batches, and none is too large or empty."""
    some = list(batches(items, size))
    assert [item for batch in some for item in batch] == items
    assert all(0 < len(batch) <= size for batch in some)


async def test_answers_are_in_the_order_of_their_questions() -> None:
    """The quick do not overtake the slow."""

    async def slowly(number: int) -> int:
        await asyncio.sleep((5 - number) / 1000)
        return number * 10

    assert await each(range(5), slowly) == [0, 10, 20, 30, 40]
    assert await each([], slowly) == []


async def test_no_more_questions_are_open_than_allowed() -> None:
    """A vendor is asked some things at once, and not all."""
    open_now = most = 0

    async def ask(_: int) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.001)
        open_now -= 1

    await each(range(20), ask, at_once=3)
    assert most == 3


async def test_the_first_error_ends_the_others() -> None:
    """When one question fails none goes on in the background, and its error is the one that is told."""
    running: set[int] = set()

    async def ask(number: int) -> None:
        running.add(number)
        try:
            await asyncio.sleep(0.001 if number == 1 else 60)
            raise ValueError("no answer")
        finally:
            running.discard(number)

    with pytest.raises(ValueError, match="no answer"):
        await each(range(50), ask)
    assert running == set()


async def test_whoever_is_stopped_leaves_no_question_open() -> None:
    """A run that is stopped in the middle stops what it had asked."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def ask(_: int) -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    task = asyncio.create_task(each([1], ask))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


def test_a_moment_of_a_checkpoint_is_what_was_written_there() -> None:
    """Times survive the ledger, with their fractions; what is not there is not made up."""
    at = NOON + timedelta(microseconds=123_456)
    assert moment({"at": at.isoformat()}, "at") == at
    assert moment({}, "at") is None
    assert moment({"at": None}, "at") is None
    with pytest.raises(UnreadableDate):
        moment({"at": "soon"}, "at")
