"""Ways through a vendor's pages: cursors that must lead on, spans of time, several questions at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from syncd.connector import Checkpoint, CursorStuck, instant

T = TypeVar("T")
R = TypeVar("R")


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
