"""Preview: what a run would post, body for body, without storing or sending anything."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import datetime

import httpx

from syncd.connector import Source
from syncd.ledger import Database, State, report
from syncd.pull import PATIENCE, Pulled, Span, explain, read
from syncd.records import Checkpoint
from syncd.signals import Signal


@dataclass(frozen=True, slots=True)
class Preview:
    """One body a run would post."""

    connector: str
    external_id: str
    body: bytes


async def preview(
    source: Source,
    http: httpx.AsyncClient,
    ledger: Database | None,
    clock: Callable[[], datetime],
    span: Span,
    pulled: Pulled,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncGenerator[Preview, None]:
    """What reading this source now would have posted, and then what is queued from before.

    `ledger` None means that there is none yet. How the reading went is added up in `pulled`.
    """
    checkpoint = _checkpoint(source, ledger)
    patient_until = clock() + PATIENCE

    async def known(external_ids: Sequence[str]) -> dict[str, str | None]:
        return {external_id: row.version for external_id, row in _known(ledger, external_ids).items()}

    with closing(_Notes()) as notes:
        while True:
            revisit_at = None
            try:
                async with aclosing(read(source, http, checkpoint, span, clock(), known)) as readings:
                    async for reading in readings:
                        pulled.shown += reading.shown
                        pulled.skipped += len(reading.set_aside) + reading.filtered
                        pulled.unchanged += reading.unchanged
                        pulled.set_aside += reading.set_aside
                        revisit_at = reading.revisit_at or revisit_at
                        for signal in _to_post(reading.signals, ledger, notes, pulled):
                            if notes.show(signal.external_id):
                                yield Preview(source.name, signal.external_id, signal.body)
            except Exception as error:  # noqa: BLE001 - whatever a connector does, it is told as a run would tell it
                pulled.error = explain(error, source)
            enough = span.limit is not None and pulled.new >= span.limit
            if revisit_at is None or revisit_at > patient_until or pulled.error or enough:
                break
            # it is read anew from where it was
            pulled.shown = pulled.new = pulled.changed = pulled.unchanged = pulled.skipped = 0
            pulled.set_aside.clear()
            notes.forget_seen()
            await sleep(max(0.0, (revisit_at - clock()).total_seconds()))
        for name, body in _queued(source, ledger):
            if notes.show(name):
                yield Preview(source.name, name, body)


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
        """The fingerprint it was seen with last in this reading."""
        row = self._db.execute("SELECT seen FROM notes WHERE id = ?", (external_id,)).fetchone()
        return row[0] if row else None

    def see(self, external_id: str, fingerprint: bytes) -> None:
        """Note that it was seen."""
        insert = "INSERT INTO notes VALUES (?, ?, 0) ON CONFLICT DO UPDATE SET seen = excluded.seen"
        self._db.execute(insert, (external_id, fingerprint))

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
            pulled.unchanged += earlier == signal.fingerprint
            pulled.changed += earlier != signal.fingerprint
        if earlier is None or signal.external_id in latest:
            latest[signal.external_id] = signal
        notes.see(signal.external_id, signal.fingerprint)
    known = _known(ledger, list(latest))
    for signal in latest.values():
        row = known.get(signal.external_id)
        if row is None:
            pulled.new += 1
            yield signal
        elif signal.fingerprint == row.source_fingerprint or row.state is State.FORGOTTEN:
            pulled.unchanged += 1
        else:
            pulled.changed += 1
            if row.state in (State.QUEUED, State.REJECTED):
                yield signal


def _queued(source: Source, ledger: Database | None) -> Iterator[tuple[str, bytes]]:
    if ledger is None:
        return
    with ledger.read() as db:
        for row in report.find(db, states=[State.QUEUED], connector=source.name):
            body = report.body(db, row)
            if body is not None:
                yield row.external_id, body
