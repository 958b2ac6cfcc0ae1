"""Ways through a vendor's pages: cursors that must lead on, lists that are newest first, spans of time, several
questions at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from syncd.connector import Checkpoint, CursorStuck, Window, instant

T = TypeVar("T")
R = TypeVar("R")

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Trail:
    """The cursors of one walk. One that comes again would lead round in circles."""

    seen: set[str] = field(default_factory=set)

    def follow(self, cursor: str | None) -> str | None:
        """The cursor to go on with, or None at the end (missing, null or empty). Raises `CursorStuck` on a repeated
        one."""
        if not cursor:
            return None
        if cursor in self.seen:
            raise CursorStuck(
                "the vendor gave the same cursor twice in one walk, which would never end; reading was stopped there. "
                "What was read is kept; the next run asks again"
            )
        self.seen.add(cursor)
        return cursor


@dataclass(slots=True)
class NewestFirst:
    """A walk through a list that is newest first, from its top down to where an earlier one began.

    `newest` is the time of the newest item that earlier walk saw, `overlap` how far beyond it this one goes: for what
    is edited or shown late. The mark that it leaves counts once the walk is over; until then the checkpoint stays.
    """

    newest: datetime | None
    overlap: timedelta
    window: Window
    horizon: datetime | None = field(init=False)
    """What is older need not be read; without one, everything is."""

    def __post_init__(self) -> None:
        known = self.newest and self.newest - min(self.overlap, self.newest - _BEGINNING)
        self.horizon = max(filter(None, (known, self.window.since)), default=None)

    def is_over(self, times: Iterable[datetime | None]) -> bool:
        """Take in the times of a page's items, and say whether the whole page is past the horizon.

        A single younger one, or one without a time, may have more behind it, and an empty page says nothing. A time
        that is yet to come leaves no mark: what is written until then would be taken for known.
        """
        shown = list(times)
        past = [at for at in shown if at and at <= self.window.now]
        self.newest = max(filter(None, (self.newest, *past)), default=None)
        return bool(shown) and all(at and self.horizon and at < self.horizon for at in shown)

    @property
    def mark(self) -> str | None:
        """The newest time seen, for the checkpoint that the next walk starts from (`moment`)."""
        return self.newest.isoformat() if self.newest else None


def spans(since: datetime, until: datetime, longest: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """The time from `since` to `until`, oldest first, in pieces of at most `longest`; nothing if there is none."""
    while since < until:
        end = min(since + longest, until)
        yield since, end
        since = end


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in their order, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


async def each(items: Iterable[T], ask: Callable[[T], Awaitable[R]], at_once: int = 8) -> list[R]:
    """What `ask` answers for each item, in their order, so many at a time. The first error ends the others and is
    raised."""
    places = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with places:
            return await ask(item)

    tasks = [asyncio.create_task(one(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def moment(checkpoint: Checkpoint, name: str) -> datetime | None:
    """A time that a checkpoint holds (written with `isoformat`), if it does."""
    match checkpoint.get(name):
        case str(text):
            return instant(text)
        case _:
            return None
