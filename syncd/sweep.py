"""Sweep: show all that Zentrik has, so that what was not shown is not there.

The list has no filter and no documented order, and it changes while it is read. Two things make a reading whole:

- Its pages overlap. As long as each shows something that was shown before it, nothing that keeps its place can have
  slipped past between two of them, whatever was created or deleted. A page that does not is gone back from.
- It has shown as many signals as Zentrik counts. A list ordered by its last change can move a signal from the part
  that is yet to be read to the part that has been, and only the count tells. Deleted signals must not stand in for
  such a one: when the count falls, so many more must be shown, or the list is read a second time.

Zentrik counts items that cannot be read, too, such as one without a publicId. Each is known again by what it says, and
counts as shown; those that are alike count once, so that they never make up for a signal that was not.

Where Zentrik gives no count, the list is read twice. Nothing is assumed of its order, only that a page is what it holds
from that offset on. Between the same two pages, a signal created that is yet to be shown can make up for one deleted
that was; then the count cannot tell that a third has moved past.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import TypeAlias, TypeVar

from syncd.logs import get_logger
from syncd.retry import Backoff
from syncd.zentrik import PAGE_SIZE, Listing, Remote, Troubled, Unreadable, Zentrik, number_of

log = get_logger()

T = TypeVar("T")

Pause: TypeAlias = Callable[[timedelta], Awaitable[None]]
"""Waits that long, in full."""

See: TypeAlias = Callable[[Sequence[Remote]], bool]
"""Is given the signals of a page; true when it has seen all it wants. A signal may be shown several times."""

Leaning: TypeAlias = Callable[[Sequence[Remote], Sequence[Remote]], bool]
"""Says, given the first and the last page, whether what is sought stands nearer to the last."""

MOST = 20_000_000
"""A list that shows more signals than this is taken to have no end."""

_LAPS = 4  # readings of a list that keeps changing
_STALLS = 6  # pages in a row that may show nothing new
_SPRINT = 12  # pages read at full speed
_PACE = timedelta(milliseconds=100)  # after that, before each


async def _sleep(wait: timedelta) -> None:
    await asyncio.sleep(wait.total_seconds())


@dataclass(frozen=True, slots=True)
class Patience:
    """How long trouble is put up with: `tries` in a row, and no wait longer than `longest`.

    What Zentrik asks for is waited out in full; where it asks for nothing, the `backoff`'s ceilings are.
    """

    pause: Pause = _sleep
    tries: int = 6
    longest: timedelta = timedelta(minutes=5)
    backoff: Backoff = field(default_factory=lambda: Backoff(first=timedelta(seconds=1), cap=timedelta(seconds=30)))

    async def ask(self, call: Callable[[], Awaitable[T | Troubled]]) -> T | Troubled:
        """The call's answer; trouble only when patience has run out, with the wait that is still asked for."""
        for failures in count(1):
            answer = await call()
            if not isinstance(answer, Troubled):
                break
            wait = answer.after or self.backoff.ceiling(failures)
            if failures >= self.tries or wait > self.longest:
                break
            await self.pause(wait)
        return answer


async def sweep(
    zentrik: Zentrik,
    see: See,
    *,
    patience: Patience = Patience(),
    leaning: Leaning | None = None,
    most: int = MOST,
    obscure: set[str] | None = None,
) -> Troubled | None:
    """Show `see` every signal of the workspace, page by page. None: all of them were shown, or it had enough.

    The first dozen pages are read as fast as they come, the others at most ten a second. With `leaning` both ends are
    looked at first, and the reading begins at the one it names. The externalIds of items that cannot be read are put
    into `obscure`: these are there, whatever their signals are called. Raises `KeyRefused`.
    """
    reading = _Reading(zentrik, see, patience, most)
    try:
        return await _sweep(reading, leaning)
    finally:
        if reading.unreadable:
            log.warning("the list of signals has items that cannot be read", items=len(reading.unreadable))
        if obscure is not None:
            obscure.update(item.external_id for item in reading.unreadable if item.external_id)


async def _sweep(reading: _Reading, leaning: Leaning | None) -> Troubled | None:
    first = await reading.page(0)
    if isinstance(first, Troubled) or reading.is_enough:
        return first if isinstance(first, Troubled) else None
    begin: tuple[int, Listing] | None = (0, first)
    from_tail = False
    if leaning and first.has_more and first.total is not None and first.total > 2 * PAGE_SIZE:
        offset = first.total - PAGE_SIZE + _overlap(PAGE_SIZE)
        last = await reading.page(offset)
        if isinstance(last, Troubled) or reading.is_enough:
            return last if isinstance(last, Troubled) else None
        if _is_tail(last) and leaning(first.signals, last.signals):
            begin, from_tail = (offset, last), True
    for _ in range(_LAPS):
        trouble = await reading.lap(from_tail, begin)
        if trouble or reading.is_enough or reading.is_whole:
            return trouble
        begin = None
    return Troubled(f"the list of signals never added up, however often it was read: {reading.figures}")


def _is_tail(page: Listing) -> bool:
    """Whether the list ends with this page. A full one is not believed to be the last: the count may be out of date."""
    return not page.has_more and page.size < PAGE_SIZE


def _overlap(size: int) -> int:
    """How many signals of a page of that size the next one shows again; so many may be deleted between the two."""
    return max(1, size // 10)


class _Reading:
    """A list being read, lap after lap, and what it has shown so far."""

    def __init__(self, zentrik: Zentrik, see: See, patience: Patience, most: int) -> None:
        self.is_enough = False
        self.unreadable: set[Unreadable] = set()
        self._zentrik = zentrik
        self._see = see
        self._patience = patience
        self._most = most
        self._calls = 0
        self._laps = 0
        self._shown = _PublicIds()
        self._total = 0
        self._is_counted = False
        self._reach = 0  # the list has been that long
        self._fallen = 0  # by how much the total has fallen, in all: so many signals at least were deleted

    @property
    def is_whole(self) -> bool:
        """Whether nothing that was there when the reading began can have escaped it."""
        unseen = self._total - len(self._shown) - len(self.unreadable)
        match self._laps:
            case 0:
                return False
            case 1:
                return self._is_counted and unseen + self._fallen <= 0
            case _:
                return unseen <= 0 or not self._is_counted

    @property
    def figures(self) -> str:
        """How far it came, for people."""
        counted = f"Zentrik counts {self._total}" if self._is_counted else "Zentrik gives no count"
        shown = f"{len(self._shown)} were shown in {self._calls} pages"
        return f"{counted}, and {shown}" + (f"; {len(self.unreadable)} cannot be read" if self.unreadable else "")

    async def page(self, offset: int) -> Listing | Troubled:
        """Read a page, and have it seen."""
        if self._calls >= _SPRINT:
            await self._patience.pause(_PACE)
        self._calls += 1
        listing = await self._patience.ask(lambda: self._zentrik.list(offset))
        if isinstance(listing, Listing):
            self._is_counted = listing.total is not None
            self._reach = max(self._reach, offset + listing.size)
            if listing.total is not None:
                self._fallen += max(0, self._total - listing.total)
                self._total = listing.total
            for remote in listing.signals:
                self._shown.add(remote.public_id)
            self.unreadable.update(listing.unreadable)
            self.is_enough = self._see(listing.signals)
        return listing

    async def lap(self, from_tail: bool, begin: tuple[int, Listing] | None) -> Troubled | None:
        """Read the list from one end to the other, or until all is shown; `begin` is a page just read where it starts.

        Distances are counted from there: from the head of the list, or from its tail.
        """
        joined = _PublicIds()
        broken: set[Unreadable] = set()
        distance = -_overlap(PAGE_SIZE)
        size, leap, stalls = 0, 0, 0
        while True:
            if begin is None:
                offset = max(0, self._total - distance - PAGE_SIZE if from_tail else distance)
                listing = await self.page(offset)
                if isinstance(listing, Troubled):
                    return listing
            else:
                (offset, listing), begin = begin, None
            if self.is_enough or self.is_whole:
                return None
            page = [remote.public_id for remote in listing.signals]
            head, tail = offset == 0, _is_tail(listing)
            starts, ends = (tail, head) if from_tail else (head, tail)
            if starts or any(public_id in joined for public_id in page):
                news = sum([joined.add(public_id) for public_id in page]) + len(set(listing.unreadable) - broken)
                broken.update(listing.unreadable)
                is_remainder = not (from_tail or news) and listing.size <= _overlap(size) < size
                if ends or is_remainder:
                    self._laps += 1
                    return None
                # Nothing new: so much was created before it since the last page that it shows what that did. Leap.
                leap, stalls = (0, 0) if news else (max(PAGE_SIZE, 2 * leap), stalls + 1)
                size = listing.size
                distance = (self._total - offset if from_tail else offset + size) - _overlap(size) + leap
            else:  # so much was deleted before it that something may have slipped past. Go back.
                distance, leap = distance - (listing.size or PAGE_SIZE), 0
            if stalls > _STALLS:
                return Troubled(f"the list of signals shows the same at every offset: {self.figures}")
            if self._is_endless():
                return Troubled(f"the list of signals does not come to an end: {self.figures}")

    def _is_endless(self) -> bool:
        """Whether more was read than the longest list, or one that changes all the time, could account for."""
        length = self._total if self._is_counted else self._reach
        return self._calls > 100 + length // 8 or len(self._shown) + len(self.unreadable) > self._most


class _PublicIds:
    """A set of publicIds. SIGNAL numbers take a bit each, for there may be millions."""

    _DENSE = 1 << 27  # numbers beyond it are rare: 16 MB are enough

    def __init__(self) -> None:
        self._bits = bytearray()
        self._others: set[str] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, public_id: str) -> bool:
        number = number_of(public_id)
        if number is None or number >= self._DENSE:
            return public_id in self._others
        byte, bit = divmod(number, 8)
        return byte < len(self._bits) and bool(self._bits[byte] & 1 << bit)

    def add(self, public_id: str) -> bool:
        """Take it in; whether it is new."""
        if public_id in self:
            return False
        number = number_of(public_id)
        if number is None or number >= self._DENSE:
            self._others.add(public_id)
        else:
            byte, bit = divmod(number, 8)
            self._bits.extend(bytes(max(0, byte + 1 - len(self._bits))))
            self._bits[byte] |= 1 << bit
        self._count += 1
        return True
