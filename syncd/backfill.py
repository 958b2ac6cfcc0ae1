"""Backfill: read a window of a source's past, slice by slice, apart from its live reading, which it never moves.

Each slice has a checkpoint of its own in the ledger, stored with its pages. So a window that was broken off goes on
where it was when it is asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import httpx

from syncd.connector import Source
from syncd.directory import Directory
from syncd.errors import RateLimited
from syncd.kit.paging import spans
from syncd.ledger import Backfill, Database, Ledger, Slice
from syncd.ledger.backfills import begun, left, named
from syncd.ledger.ledger import AlreadyReading
from syncd.pull import Pulled, Span, pull

AT_ONCE = 4
"""So many slices of a window are read at the same time, within the limits of the connector's client."""

LENGTH = timedelta(days=30)
"""How long a slice is, unless somebody says otherwise."""

MOST_SLICES = 5_000
"""A window that would have more is cut into longer ones."""


def cut(since: datetime | None, until: datetime, length: timedelta | None) -> list[tuple[datetime | None, datetime]]:
    """A window in slices of that length, the oldest first: none overlaps another, and nothing lies between them.

    Without a `length`, or a beginning to count from, it is one slice.
    """
    if since is None or length is None or since >= until:
        return [(since, until)]
    return [*spans(since, until, max(length, (until - since) / MOST_SLICES))]


def slice_length(source: Source, span: Span) -> timedelta | None:
    """How long the slices of this source are; None for one that shows the whole of its past each time."""
    return span.length or LENGTH if source.connector.windowed else None


async def backfill(
    source: Source,
    ledger: Ledger,
    http: httpx.AsyncClient,
    run: int,
    clock: Callable[[], datetime],
    span: Span,
    *,
    directory: Directory | None = None,
    stopping: Callable[[], bool] = lambda: False,
    on_page: Callable[[Pulled], None] = lambda _: None,
) -> Pulled:
    """Read what is not read yet of a window. Its errors end up in the result; only the ledger's are raised.

    It can be cancelled at any point, as `pull` can.
    """
    length = slice_length(source, span)
    try:
        whole = await ledger.start_backfill(
            source, span.since or source.since, span.until, lambda since, until: cut(since, until, length), clock()
        )
    except RateLimited as error:
        return Pulled(error=(error.code, str(error)))
    parts: dict[int, Pulled] = {}
    reached = 0

    def total() -> Pulled:
        summed = sum(parts.values(), Pulled())
        summed.error = next((part.error for part in parts.values() if part.error), None)
        summed.revisit_at = min((part.revisit_at for part in parts.values() if part.revisit_at), default=None)
        summed.backfill = whole
        return summed

    def is_enough() -> bool:
        if stopping() or any(part.error for part in parts.values()):
            return True
        return span.limit is not None and sum(part.new for part in parts.values()) >= span.limit

    async def read_slices() -> None:
        nonlocal reached, whole
        while not is_enough():
            taken = await ledger.take_slice(whole.id, reached, run, clock())
            if taken is None:
                return
            reached = max(reached, taken.id)

            def show(pulled: Pulled, number: int = taken.id) -> None:
                parts[number] = pulled
                on_page(total())

            more = None if span.limit is None else span.limit - sum(part.new for part in parts.values())
            piece = Span(taken.since, taken.until, more, slice=taken)
            parts[taken.id] = await pull(
                source, ledger, http, run, clock, piece, directory=directory, stopping=stopping, on_page=show
            )
            stands: Backfill | None = await ledger.ask(named, whole.id)
            whole = stands or whole
            on_page(total())

    in_turn = length is None or span.limit is not None  # a limit counts over all slices
    async with asyncio.TaskGroup() as tasks:
        for _ in range(1 if in_turn else min(AT_ONCE, whole.slices - whole.read)):
            tasks.create_task(read_slices())
    done = total()
    if not parts and not stopping():
        words = f"another syncd is reading this window of {source.name} right now"
        done.error = AlreadyReading.code, words
    return done


def plan(ledger: Database | None, source: Source, span: Span, now: datetime) -> list[Span]:
    """What a backfill of this window would read now, slice by slice; `ledger` None means that there is none yet."""
    since = span.since or source.since
    if ledger is not None:
        with ledger.read() as db:
            going_on = begun(db, source, since, span.until)
            if going_on is not None:
                return [Span(part.since, part.until, span.limit, slice=part) for part in left(db, going_on.id)]
    parts = enumerate(cut(since, span.until or now, slice_length(source, span)))
    slices = [Slice(number, first, last, {}) for number, (first, last) in parts]
    return [Span(part.since, part.until, span.limit, slice=part) for part in slices]


async def unread(ledger: Ledger, sources: Iterable[Source], span: Span) -> list[Backfill]:
    """The backfills of this window that are begun and not read to their end."""
    found = [await ledger.ask(begun, source, span.since or source.since, span.until) for source in sources]
    return [each for each in found if each is not None]
