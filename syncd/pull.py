"""Pull: read a source from its checkpoint on, and store each page with the checkpoint after it in one commit."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count

import httpx

from syncd.connector import Source
from syncd.directory import Directory
from syncd.errors import CursorStuck, LedgerError, RateLimited, RecordError, SourceError
from syncd.ledger import Backfill, Lane, Ledger, Slice, report
from syncd.logs import get_logger, holds_secret, redact
from syncd.records import Checkpoint, Page, SetAside, Window
from syncd.shape import shape
from syncd.signals import Signal, compose

log = get_logger()


@dataclass(frozen=True, slots=True)
class Span:
    """What part of a source is asked for. With `since` or `until` it is a look back that leaves the checkpoint alone.

    `limit` is the most records to take that the ledger does not know; those beyond it are left for another run. A
    look back may be cut into slices of a certain `length`; a span with a `slice` is one of these, and goes on from its
    checkpoint.
    """

    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None
    length: timedelta | None = None
    slice: Slice | None = None

    @property
    def is_look_back(self) -> bool:
        """Whether it leaves the connector's own checkpoint alone."""
        return self.since is not None or self.until is not None

    @property
    def keeps_no_place(self) -> bool:
        """Whether it starts from the beginning, and nobody remembers how far it came."""
        return self.is_look_back and self.slice is None

    def window(self, source: Source, now: datetime) -> Window:
        """The window to hand to a source."""
        return Window(now, self.since or source.since, self.until)


@dataclass(slots=True)
class Pulled:
    """How one reading of a source went. `shown` counts what its pages held, before anything was made of it; `fetched`
    is the sum of what was. Of a look back, `backfill` says how far it is."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    error: tuple[str, str] | None = None
    revisit_at: datetime | None = None
    shown: int = 0
    filtered: int = 0  # those of the skipped that were passed over on purpose
    backfill: Backfill | None = None
    held: Counter[str] = field(default_factory=Counter)  # in a dry run: for which accounts how many are held

    @property
    def fetched(self) -> int:
        """Everything the source showed."""
        return self.new + self.changed + self.unchanged + self.skipped

    def __add__(self, other: Pulled) -> Pulled:
        """The counts of both; how the reading stands is said by the `other`, the later one."""
        return replace(
            other,
            new=self.new + other.new,
            changed=self.changed + other.changed,
            unchanged=self.unchanged + other.unchanged,
            skipped=self.skipped + other.skipped,
            set_aside=[*self.set_aside, *other.set_aside][:SHOWN_ASIDE],
            shown=self.shown + other.shown,
            filtered=self.filtered + other.filtered,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A page turned into signals, what could not be, and the checkpoint to store (None: leave the stored one).

    `unchanged` counts records the source passed over because the ledger has them, and `unchanged_at` says where they
    stand; `shown` is how many items of the page it covers. `deleted` are the externalIds of records that were deleted
    at the source.
    """

    signals: Sequence[Signal]
    set_aside: Sequence[SetAside]
    filtered: int
    checkpoint: Checkpoint | None
    revisit_at: datetime | None
    shown: int
    unchanged: int = 0
    unchanged_at: Sequence[str] = ()
    is_cut: bool = False  # the limit is reached with it: the source is not read on
    deleted: Sequence[str] = ()


class SecretInCheckpoint(SourceError):
    """A connector wants to remember a secret, which would stand readable in the ledger."""

    code = "secret_in_checkpoint"


PATIENCE = timedelta(minutes=5)
"""How long one run waits for what a source says will be ready soon (a file still being written)."""

MOST_REPEATS = 100
"""So many pages in a row may repeat earlier ones: a source may have long stretches with nothing in them."""

MOST_UNCHANGED = 10_000
"""So many, where they tell of nothing but records the ledger has: an account may have that many pages of them."""

FLOOD = 500
"""What one reading finds new beyond that many waits behind the news of all connectors."""

SHOWN_ASIDE = 20
"""How many set-aside items a run remembers to show; the ledger has them all."""


async def pull(
    source: Source,
    ledger: Ledger,
    http: httpx.AsyncClient,
    run: int,
    clock: Callable[[], datetime],
    span: Span = Span(),
    *,
    directory: Directory | None = None,
    stopping: Callable[[], bool] = lambda: False,
    on_page: Callable[[Pulled], None] = lambda _: None,
) -> Pulled:
    """Read what a source has to give. Its errors end up in the result; only the ledger's are raised.

    `directory` is asked for accounts and products; without one they are left out.
    It can be cancelled at any point: a page that is being stored is stored and counted first.
    """
    pulled = Pulled()

    async def known(external_ids: Sequence[str]) -> Mapping[str, str | None]:
        return await ledger.ask(report.versions, external_ids)

    numbers = count(1)

    async def take_in(reading: Reading) -> None:
        lane = Lane.BACKLOG if is_backlog or pulled.new >= FLOOD else Lane.NEWS
        tally = await ledger.record_page(
            source,
            reading.signals,
            reading.set_aside,
            reading.checkpoint,
            run,
            clock(),
            lane,
            reading.unchanged_at,
            span.slice,
            next(numbers),
            reading.deleted,
        )
        pulled.shown += reading.shown
        pulled.new += tally.new
        pulled.changed += tally.changed
        pulled.unchanged += tally.unchanged + reading.unchanged
        pulled.skipped += len(reading.set_aside) + reading.filtered
        pulled.filtered += reading.filtered
        pulled.set_aside += reading.set_aside[: max(0, SHOWN_ASIDE - len(pulled.set_aside))]
        pulled.revisit_at = reading.revisit_at or pulled.revisit_at
        on_page(pulled)

    async def finish(*, is_whole: bool, rests_until: datetime | None = None) -> None:
        if span.slice is None:
            error, whole = pulled.error, is_whole
            await ledger.finish_pull(source, run, error, clock(), is_whole=whole, rests_until=rests_until)
        else:
            whole = is_whole and not is_cut and pulled.revisit_at is None
            await ledger.finish_slice(source, span.slice, run, clock(), is_whole=whole, rests_until=rests_until)

    is_whole, is_cut, rests_until = False, False, None
    try:
        checkpoint = span.slice.checkpoint if span.slice else await ledger.start_pull(source, run, clock())
        is_backlog = span.is_look_back or not checkpoint
        async with aclosing(read(source, http, checkpoint, span, clock(), known, directory)) as readings:
            async for reading in readings:
                await _whole(take_in(reading))
                is_cut = reading.is_cut
                if stopping():
                    break
            else:
                is_whole = True
    except asyncio.CancelledError:
        await finish(is_whole=False)
        raise
    except Exception as error:  # noqa: BLE001 - whatever a connector does, the others go on
        pulled.error = explain(error, source)
        rests_until = error.until if isinstance(error, RateLimited) else None
        log.warning("pull stopped", connector=source.name, code=pulled.error[0], reason=pulled.error[1])
    await finish(is_whole=is_whole, rests_until=rests_until)
    return pulled


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Await work that is finished once it is begun; a cancellation comes after it."""
    begun = asyncio.ensure_future(work)
    try:
        await asyncio.shield(begun)
    except asyncio.CancelledError:
        await begun
        raise


async def read(
    source: Source,
    http: httpx.AsyncClient,
    checkpoint: Checkpoint,
    span: Span,
    now: datetime,
    known: Callable[[Sequence[str]], Awaitable[Mapping[str, str | None]]],
    directory: Directory | None = None,
) -> AsyncGenerator[Reading, None]:
    """The pages of a source as signals, from its checkpoint on. The source goes on once a reading is taken in.

    `known` gives those of some externalIds that are in the ledger, with the version of each: they do not count towards
    the span's limit.
    """

    async def has(versions: Mapping[str, str | None]) -> Container[str]:
        named = {f"{source.namespace}:{id_}": id_ for id_ in versions}
        found = await known(list(named))
        there = ((named[external_id], version) for external_id, version in found.items())
        return {id_ for id_, version in there if versions[id_] in (None, version)}

    window = replace(span.window(source, now), known=has)
    circles = _Circles(source)
    left = span.limit
    pages = source.connector.fetch(http, {} if span.keeps_no_place else checkpoint, window)
    async with aclosing(pages):
        async for page in pages:
            circles.watch(page)
            page, shaped = shape(source, page)
            if directory is not None:
                page = replace(page, records=await directory.place(source, shaped))
            reading = _compose(source, page, window, keeps_checkpoint=span.keeps_no_place)
            if left is None:
                yield reading
                continue
            old = await known([signal.external_id for signal in reading.signals])
            reading, fresh = _cut(reading, left, old)
            left -= fresh
            yield replace(reading, is_cut=left <= 0)
            if left <= 0:
                return


def explain(error: Exception, source: Source) -> tuple[str, str]:
    """The code and message of what stopped a source. What is the ledger's doing is raised again."""
    code, message = _explain(error, source)
    return code, redact(message)


def _explain(error: Exception, source: Source) -> tuple[str, str]:
    match error:
        case SourceError():
            return error.code, str(error)
        case LedgerError():
            raise error
        case httpx.HTTPStatusError():
            asked = error.request.url.copy_with(query=None, userinfo=b"")
            told = str(error) or f"{asked} answered {error.response.status_code}"
            return f"http_{error.response.status_code}", told
        case httpx.RequestError():
            told = str(error) or type(error).__name__
            return "unreachable", f"{source.type}: the source cannot be reached: {told}"
        case _:
            log.error("a connector failed", connector=source.name, exc_info=error)
            return (
                "connector_error",
                f"the {source.type} connector failed on something it does not know: {type(error).__name__}: {error}",
            )


@dataclass(slots=True)
class _Circles:
    """Notices when a source shows the same pages over and over.

    The checkpoint alone does not tell: a source that serves newest first repeats the old one on every page but the
    last, and shows other records each time. Nor do records the ledger knows: after a reading that broke off they come
    again, page after page.
    """

    source: Source
    shown: set[int] = field(default_factory=set)
    repeats: int = 0

    def watch(self, page: Page) -> None:
        """Take a page down. Raises `CursorStuck` when one too many in a row brought nothing new to this reading."""
        ids = [record.id for record in page.records]
        sight = hash(
            (json.dumps(page.checkpoint, sort_keys=True), *ids, *page.deleted, *(item.place for item in page.set_aside))
        )
        self.repeats = self.repeats + 1 if sight in self.shown else 0
        self.shown.add(sight)
        if self.repeats > (MOST_UNCHANGED if page.unchanged else MOST_REPEATS):
            raise CursorStuck(
                f"{self.source.type}: the last {self.repeats} pages showed nothing but what pages before them had "
                "shown, and led no further; reading was ended there. What was read is kept; the next run asks again "
                "from the same checkpoint"
            )


def _cut(reading: Reading, limit: int, old: Container[str]) -> tuple[Reading, int]:
    """The reading up to its `limit`-th new signal, and how many new ones that is. If cut, it moves no checkpoint."""
    fresh: set[str] = set()
    for place, signal in enumerate(reading.signals):
        if signal.external_id in old or signal.external_id in fresh:
            continue
        if len(fresh) == limit:
            shown = reading.shown - len(reading.signals) + place
            return replace(reading, signals=reading.signals[:place], checkpoint=None, shown=shown), limit
        fresh.add(signal.external_id)
    return reading, len(fresh)


def _compose(source: Source, page: Page, window: Window, *, keeps_checkpoint: bool) -> Reading:
    signals: list[Signal] = []
    aside = list(page.set_aside)
    filtered = page.filtered
    for record in page.records:
        try:
            signal = compose(record, source)
        except RecordError as error:
            aside.append(SetAside(record.place or record.id or "a record without id", str(error)))
            continue
        if window.holds(signal.occurred_at):
            signals.append(signal)
        else:
            filtered += 1
    if holds_secret(json.dumps(page.checkpoint)):
        raise SecretInCheckpoint(
            f"the {source.type} connector wants to remember a secret in its checkpoint, which would stand readable in "
            "the ledger; this page was not taken in. It is the connector that has to be mended: of an address, it may "
            "keep the cursor only"
        )
    told = [SetAside(redact(item.place), redact(item.reason)) for item in aside]
    shown = len(page.records) + len(page.set_aside) + page.filtered + page.unchanged
    kept = None if keeps_checkpoint else page.checkpoint
    deleted = [f"{source.namespace}:{id_}" for id_ in page.deleted]
    return Reading(
        signals,
        told,
        filtered,
        kept,
        page.revisit_at,
        shown,
        page.unchanged,
        page.unchanged_at,
        deleted=deleted,
    )
