"""Pull: read a source from its checkpoint on, and store each page with the checkpoint after it in one commit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import httpx

from syncd.connector import Source
from syncd.errors import LedgerError, RecordError, SourceError
from syncd.ledger import Ledger, report
from syncd.logs import get_logger
from syncd.records import Checkpoint, Page, SetAside, Window
from syncd.signals import Signal, compose

log = get_logger()


@dataclass(frozen=True, slots=True)
class Span:
    """What part of a source is asked for. With `since` or `until` it is a look back that leaves the checkpoint alone.

    `limit` is the most records to take that the ledger does not know; those beyond it are left for another run.
    """

    since: datetime | None = None
    until: datetime | None = None
    limit: int | None = None

    @property
    def is_look_back(self) -> bool:
        """Whether it starts from the beginning rather than from the checkpoint."""
        return self.since is not None or self.until is not None

    def window(self, source: Source, now: datetime) -> Window:
        """The window to hand to a source."""
        return Window(now, self.since or source.since, self.until)


@dataclass(slots=True)
class Pulled:
    """How one reading of a source went. `fetched` is the sum of the four that follow it."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    error: tuple[str, str] | None = None
    revisit_at: datetime | None = None

    @property
    def fetched(self) -> int:
        """Everything the source showed."""
        return self.new + self.changed + self.unchanged + self.skipped


@dataclass(frozen=True, slots=True)
class Reading:
    """A page turned into signals, what could not be, and the checkpoint to store (None: leave the stored one)."""

    signals: Sequence[Signal]
    set_aside: Sequence[SetAside]
    filtered: int
    checkpoint: Checkpoint | None
    revisit_at: datetime | None


PATIENCE = timedelta(minutes=5)
"""How long one run waits for what a source says will be ready soon (a file still being written)."""

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
    stopping: Callable[[], bool] = lambda: False,
    on_page: Callable[[Pulled], None] = lambda _: None,
) -> Pulled:
    """Read what a source has to give. Its errors end up in the result; only the ledger's are raised."""
    pulled = Pulled()
    try:
        checkpoint = await ledger.start_pull(source, run, clock())

        async def known(external_ids: Sequence[str]) -> Container[str]:
            return await ledger.ask(report.known, external_ids)

        async with aclosing(read(source, http, checkpoint, span, clock(), known)) as readings:
            async for reading in readings:
                tally = await ledger.record_page(
                    source, reading.signals, reading.set_aside, reading.checkpoint, run, clock()
                )
                pulled.new += tally.new
                pulled.changed += tally.changed
                pulled.unchanged += tally.unchanged
                pulled.skipped += len(reading.set_aside) + reading.filtered
                pulled.set_aside += reading.set_aside[: max(0, SHOWN_ASIDE - len(pulled.set_aside))]
                pulled.revisit_at = reading.revisit_at or pulled.revisit_at
                on_page(pulled)
                if stopping():
                    break
    except Exception as error:  # noqa: BLE001 - whatever a connector does, the others go on
        pulled.error = explain(error, source)
        log.warning("pull stopped", connector=source.name, code=pulled.error[0], reason=pulled.error[1])
    await ledger.finish_pull(source, run, pulled.error, clock())
    return pulled


async def read(
    source: Source,
    http: httpx.AsyncClient,
    checkpoint: Checkpoint,
    span: Span,
    now: datetime,
    known: Callable[[Sequence[str]], Awaitable[Container[str]]],
) -> AsyncGenerator[Reading, None]:
    """The pages of a source as signals, from its checkpoint on. The source goes on once a reading is taken in.

    `known` says which of some externalIds are in the ledger: those do not count towards the span's limit.
    """
    window = span.window(source, now)
    left = span.limit
    pages = source.connector.fetch(http, {} if span.is_look_back else checkpoint, window)
    async with aclosing(pages):
        async for page in pages:
            reading = _compose(source, page, window, keeps_checkpoint=span.is_look_back)
            if left is None:
                yield reading
                continue
            old = await known([signal.external_id for signal in reading.signals])
            reading, fresh = _cut(reading, left, old)
            left -= fresh
            yield reading
            if left <= 0:
                return


def explain(error: Exception, source: Source) -> tuple[str, str]:
    """The code and message of what stopped a source. What is the ledger's doing is raised again."""
    match error:
        case SourceError():
            return error.code, str(error)
        case LedgerError():
            raise error
        case httpx.HTTPStatusError():
            asked = error.request.url.copy_with(query=None, userinfo=b"")
            return f"http_{error.response.status_code}", f"{asked} answered {error.response.status_code}"
        case httpx.RequestError():
            told = str(error) or type(error).__name__
            return "unreachable", f"{source.type}: the source cannot be reached: {told}"
        case _:
            log.error("a connector failed", connector=source.name, exc_info=error)
            return (
                "connector_error",
                f"the {source.type} connector failed on something it does not know: {type(error).__name__}: {error}",
            )


def _cut(reading: Reading, limit: int, old: Container[str]) -> tuple[Reading, int]:
    """The reading up to its `limit`-th new signal, and how many new ones that is. If cut, it moves no checkpoint."""
    fresh: set[str] = set()
    for place, signal in enumerate(reading.signals):
        if signal.external_id in old or signal.external_id in fresh:
            continue
        if len(fresh) == limit:
            return replace(reading, signals=reading.signals[:place], checkpoint=None), limit
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
    return Reading(signals, aside, filtered, None if keeps_checkpoint else page.checkpoint, page.revisit_at)
