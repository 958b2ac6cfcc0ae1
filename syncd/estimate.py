"""Estimate: how much a window of the past is, judged by a small sample of it, before anybody reads all of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

import httpx

from syncd import http_client
from syncd.backfill import plan
from syncd.config import Config
from syncd.connector import Source
from syncd.ledger import Database, report
from syncd.ledger.tempo import posts_a_second
from syncd.pull import Span, explain, read

LARGE = timedelta(days=31)
"""A longer window is not read before somebody was asked."""

SAMPLE = 200
"""So many records are enough to judge by."""

PATIENCE = timedelta(seconds=30)
"""How long a source is asked for them."""

LOOKED_AT_TOGETHER = 100
"""About so many outcomes are learned with one call."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What reading a window of one connector would bring that the ledger does not know.

    `records` and `characters` (of the bodies) are judged by a sample, unless that `is_whole`. None stands for what the
    sample could not tell; `trouble` says why there is none. `rate` is how many records a second can be posted, as far
    as is known.
    """

    connector: str
    records: int | None = None
    characters: int | None = None
    is_whole: bool = False
    rate: float | None = None
    trouble: str | None = None

    @property
    def calls(self) -> int | None:
        """What it takes of Zentrik: a post for each, and looks for their outcomes."""
        return None if self.records is None else self.records + ceil(self.records / LOOKED_AT_TOGETHER)

    @property
    def takes(self) -> timedelta | None:
        """How long posting takes."""
        return timedelta(seconds=self.records / self.rate) if self.records is not None and self.rate else None


def is_large(source: Source, span: Span, now: datetime) -> bool:
    """Whether it is a look back so far that somebody is asked before; a batch with a limit is not."""
    since = span.since or source.since
    return span.is_look_back and span.limit is None and (since is None or (span.until or now) - since > LARGE)


async def estimates(
    config: Config, sources: Sequence[Source], span: Span, clock: Callable[[], datetime]
) -> list[Estimate]:
    """An estimate for each source. Nothing is stored or sent; a source that cannot be read has none."""
    ledger = Database.open_existing(config.ledger)
    found: list[Estimate] = []
    try:
        for source in sources:
            lent = http_client.lend(
                source.connector,
                clock=clock,
                sleep=asyncio.sleep,
                draw=random.random,
                allow_http=source.allow_http,
                patience=PATIENCE,
            )
            async with lent as http:
                found.append(await estimate(source, http, ledger, span, clock))
    finally:
        if ledger is not None:
            ledger.close()
    return found


async def estimate(
    source: Source, http: httpx.AsyncClient, ledger: Database | None, span: Span, clock: Callable[[], datetime]
) -> Estimate:
    """Read some of the part in the middle, where a source is neither young nor unfinished, and reckon from there."""
    parts = plan(ledger, source, span, clock())
    rate = None
    if ledger is not None:
        with ledger.read() as db:
            rate = posts_a_second(db)
    if not parts:
        return Estimate(source.name, 0, 0, is_whole=True, rate=rate)
    part = parts[len(parts) // 2]
    sample = _Sample()
    try:
        await sample.draw(source, http, ledger, part, clock)
    except Exception as error:  # noqa: BLE001 - whatever a connector does, the question is asked all the same
        return Estimate(source.name, rate=rate, trouble=explain(error, source)[1])
    times = _length(parts), (_length([part]) if sample.is_whole else sample.covers)
    if sample.is_whole and len(parts) == 1:
        return Estimate(source.name, sample.records, sample.characters, is_whole=True, rate=rate)
    if times[0] is None or not times[1]:
        return Estimate(source.name, rate=rate, trouble="its first pages do not tell how much there is")
    more = max(1.0, times[0] / times[1])
    return Estimate(source.name, ceil(sample.records * more), ceil(sample.characters * more), rate=rate)


class _Sample:
    """Some of the records of a span: how many the ledger does not know, how long they are, and the time they cover."""

    def __init__(self) -> None:
        self.records = self.characters = 0
        self.is_whole = False
        self._times: list[datetime] = []

    async def draw(
        self,
        source: Source,
        http: httpx.AsyncClient,
        ledger: Database | None,
        span: Span,
        clock: Callable[[], datetime],
    ) -> None:
        """Read until there is enough to judge by, or patience ends."""

        async def known(external_ids: Sequence[str]) -> dict[str, str | None]:
            if ledger is None:
                return {}
            with ledger.read() as db:
                return report.versions(db, external_ids)

        seen = 0
        until = clock() + PATIENCE
        place = span.slice.checkpoint if span.slice else {}
        async with aclosing(read(source, http, place, span, clock(), known)) as readings:
            async for reading in readings:
                old = await known([signal.external_id for signal in reading.signals])
                fresh = [signal for signal in reading.signals if signal.external_id not in old]
                self.records += len(fresh)
                self.characters += sum(len(signal.body.decode()) for signal in fresh)
                self._times += [signal.occurred_at for signal in reading.signals if signal.occurred_at]
                seen += reading.shown
                if seen >= SAMPLE or clock() >= until:
                    return
        self.is_whole = True

    @property
    def covers(self) -> timedelta | None:
        """The time between the oldest and the newest record of it."""
        return max(self._times) - min(self._times) if self._times else None


def _length(parts: Sequence[Span]) -> timedelta | None:
    """How long the parts are together; None when nobody knows where the first begins."""
    total = timedelta(0)
    for part in parts:
        if part.since is None or part.until is None:
            return None
        total += part.until - part.since
    return total
