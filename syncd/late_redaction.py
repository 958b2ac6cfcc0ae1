"""Late redaction: what was queued before `redact` was set as it is now goes through it before anything is posted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from syncd.connector import Source
from syncd.errors import RecordError
from syncd.ledger import Ledger, unsent
from syncd.ledger.unsent import Kept, Unsent
from syncd.logs import get_logger
from syncd.redaction import Redaction
from syncd.signals import Signal, redact_anew

log = get_logger()

_BATCH = 100


async def redact_unsent(ledger: Ledger, sources: Iterable[Source], clock: Callable[[], datetime]) -> None:
    """Redact the bodies that wait to be posted, of those sources whose redaction is another than when they were kept.

    What was done is done for good, and is not done again after a crash. Raises `LedgerError`.
    """
    gone_through = await ledger.ask(unsent.redactions)
    for source in sources:
        digest = source.redaction.digest if source.redaction else None
        if digest == gone_through.get(source.name):
            continue
        if source.redaction is not None:
            await _redact(ledger, source, source.redaction, clock)
        await ledger.change(unsent.note, source, digest)


async def _redact(ledger: Ledger, source: Source, redaction: Redaction, clock: Callable[[], datetime]) -> None:
    after = changed = 0
    while batch := await ledger.ask(unsent.find, source, after, _BATCH):
        after = batch[-1].id
        redacted = [(each, instead) for each in batch if (instead := _instead(each, redaction)) is not None]
        if redacted:
            await ledger.change(unsent.exchange, redacted, clock())
            changed += len(redacted)
    kept = await ledger.ask(unsent.kept, source)
    beside = [(each, instead) for each in kept if (instead := _instead(each, redaction)) is not None]
    if beside:
        await ledger.change(unsent.exchange_kept, beside, clock())
        changed += len(beside)
    if changed:
        log.info("redacted what waited to be posted", connector=source.name, signals=changed)


def _instead(waiting: Unsent | Kept, redaction: Redaction) -> Signal | str | None:
    """What is to be posted instead, or why nothing can be; None when it may be posted as it is."""
    try:
        return redact_anew(waiting.external_id, waiting.body, redaction)
    except RecordError as error:
        return str(error)
