"""Preview: what a run would post, body for body, without storing or sending anything."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

import httpx

from syncd.backfill import plan
from syncd.connector import Source
from syncd.directory import Directory
from syncd.errors import RecordError
from syncd.ledger import Database, State, holds, report
from syncd.pull import PATIENCE, Pulled, Reading, Span, explain, read
from syncd.records import Checkpoint
from syncd.signals import Signal, redact_anew


@dataclass(frozen=True, slots=True)
class Preview:
    """One body a run would post, and how much was taken out of it."""

    connector: str
    external_id: str
    body: bytes
    redacted: Mapping[str, int] = field(default_factory=dict)


async def preview(
    source: Source,
    http: httpx.AsyncClient,
    ledger: Database | None,
    clock: Callable[[], datetime],
    span: Span,
    pulled: Pulled,
    *,
    directory: Directory | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncGenerator[Preview, None]:
    """What reading this source now would have posted, and then what is queued from before.

    `ledger` None means that there is none yet. How the reading went is added up in `pulled`; what would be held for an
    account is counted there and not given.
    """
    checkpoint = _checkpoint(source, ledger)
    spans = plan(ledger, source, span, clock()) if span.is_look_back else [span]
    patient_until = clock() + PATIENCE

    async def known(external_ids: Sequence[str]) -> dict[str, str | None]:
        return {external_id: row.version for external_id, row in _known(ledger, external_ids).items()}

    with closing(_Notes()) as notes:
        while True:
            revisit_at = None
            try:
                async with aclosing(
                    _readings(source, http, checkpoint, spans, clock, known, pulled, directory)
                ) as readings:
                    async for reading in readings:
                        pulled.shown += reading.shown
                        pulled.skipped += len(reading.set_aside) + reading.filtered
                        pulled.filtered += reading.filtered
                        pulled.unchanged += reading.unchanged
                        pulled.set_aside += reading.set_aside
                        revisit_at = reading.revisit_at or revisit_at
                        for signal in _to_post(reading.signals, ledger, notes, pulled):
                            if not notes.show(signal.external_id):
                                continue
                            if signal.held:
                                pulled.held[holds.words(signal.held)] += 1
                                continue
                            yield Preview(source.name, signal.external_id, signal.body, signal.redacted)
            except Exception as error:  # noqa: BLE001 - whatever a connector does, it is told as a run would tell it
                pulled.error = explain(error, source)
            enough = span.limit is not None and pulled.new >= span.limit
            if revisit_at is None or revisit_at > patient_until or pulled.error or enough:
                break
            # it is read anew from where it was
            pulled.shown = pulled.new = pulled.changed = pulled.unchanged = pulled.skipped = pulled.filtered = 0
            pulled.set_aside.clear()
            pulled.held.clear()
            notes.forget_seen()
            await sleep(max(0.0, (revisit_at - clock()).total_seconds()))
        for queued in _queued(source, ledger, notes, pulled):
            if notes.show(queued.external_id):
                yield queued


async def _readings(
    source: Source,
    http: httpx.AsyncClient,
    checkpoint: Checkpoint,
    spans: Sequence[Span],
    clock: Callable[[], datetime],
    known: Callable[[Sequence[str]], Awaitable[Mapping[str, str | None]]],
    pulled: Pulled,
    directory: Directory | None,
) -> AsyncGenerator[Reading, None]:
    """What the spans hold, one after the other; the limit counts over them all."""
    for span in spans:
        place = span.slice.checkpoint if span.slice else checkpoint
        left = None if span.limit is None else span.limit - pulled.new
        if left is not None and left <= 0:
            return
        rest = replace(span, limit=left)
        async with aclosing(read(source, http, place, rest, clock(), known, directory)) as readings:
            async for reading in readings:
                yield reading


def _checkpoint(source: Source, ledger: Database | None) -> Checkpoint:
    if ledger is None:
        return {}
    with ledger.read() as db:
        row = report.connector_rows(db).get(source.name)
    return row.checkpoint if row else {}


def _known(ledger: Database | None, external_ids: Sequence[str]) -> dict[str, report.SignalRow]:
    if ledger is None:
        return {}
    with ledger.read() as db:
        return report.known(db, external_ids)


class _Notes:
    """Which records were seen in this reading, and which were shown: as many as a source has, so they stand on disk."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a file without a name, gone with its connection
        self._db.execute("CREATE TABLE notes (id TEXT PRIMARY KEY, seen BLOB, shown INTEGER) WITHOUT ROWID")

    def seen(self, external_id: str) -> bytes | None:
        """The content it was seen with last in this reading."""
        row = self._db.execute("SELECT seen FROM notes WHERE id = ?", (external_id,)).fetchone()
        return row[0] if row else None

    def see(self, external_id: str, content: bytes) -> None:
        """Note that it was seen."""
        insert = "INSERT INTO notes VALUES (?, ?, 0) ON CONFLICT DO UPDATE SET seen = excluded.seen"
        self._db.execute(insert, (external_id, content))

    def show(self, external_id: str) -> bool:
        """Note that it is shown; whether that is for the first time."""
        insert = "INSERT INTO notes VALUES (?, NULL, 1) ON CONFLICT DO UPDATE SET shown = 1 WHERE shown = 0"
        return self._db.execute(insert, (external_id,)).rowcount == 1

    def forget_seen(self) -> None:
        """A new reading begins."""
        self._db.execute("UPDATE notes SET seen = NULL")

    def close(self) -> None:
        """Drop them."""
        self._db.close()


def _to_post(signals: Sequence[Signal], ledger: Database | None, notes: _Notes, pulled: Pulled) -> Iterator[Signal]:
    """The new signals, and the changed ones that take the place of one Zentrik does not have yet.

    Of a record that is twice on a page the last one counts.
    """
    latest: dict[str, Signal] = {}
    for signal in signals:
        earlier = notes.seen(signal.external_id)
        if earlier is not None:
            pulled.unchanged += earlier == signal.content
            pulled.changed += earlier != signal.content
        if earlier is None or signal.external_id in latest:
            latest[signal.external_id] = signal
        notes.see(signal.external_id, signal.content)
    known = _known(ledger, list(latest))
    for signal in latest.values():
        row = known.get(signal.external_id)
        if row is None:
            pulled.new += 1
            yield signal
        elif signal.fingerprint == row.source_fingerprint or row.state is State.FORGOTTEN:
            pulled.unchanged += 1
        else:
            is_changed = row.source_content is None or signal.content != row.source_content
            pulled.changed += is_changed
            pulled.unchanged += not is_changed
            if row.state in (State.QUEUED, State.REJECTED):
                yield signal


def _queued(source: Source, ledger: Database | None, notes: _Notes, pulled: Pulled) -> Iterator[Preview]:
    """What is queued from before, with the redaction that it would go through first. What is held is counted."""
    if ledger is None:
        return
    with ledger.read() as db:
        for row in report.find(db, states=[State.QUEUED], connector=source.name):
            body = report.body(db, row)
            if body is None:
                continue
            if (hold := holds.of_signal(db, row.id)) is not None and source.mapping.on_missing != "leave":
                pulled.held[holds.words(hold.asks)] += notes.show(row.external_id)
                continue
            with suppress(RecordError):
                anew = redact_anew(row.external_id, body, source.redaction) if source.redaction else None
                said = Preview(source.name, row.external_id, body, row.redacted or {})
                yield replace(said, body=anew.body, redacted=anew.redacted) if anew else said
