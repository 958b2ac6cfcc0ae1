"""Rebuild: a lost ledger is reconstructed from what Zentrik has, so that the next run posts nothing that is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TypeVar

from syncd.errors import LedgerError
from syncd.inventory import Inventory
from syncd.ledger import Ledger, matching
from syncd.ledger.matching import Entry
from syncd.logs import get_logger
from syncd.records import Json
from syncd.sweep import Patience, sweep
from syncd.zentrik import Troubled, Zentrik

log = get_logger()

T = TypeVar("T")

BATCH = 2000
"""Signals entered in one transaction."""

PATIENCE = Patience()
"""With a Zentrik in trouble, while all of it is read."""


class LedgerInUse(LedgerError):
    """Another run is at work on the ledger that is to be rebuilt."""


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild found at Zentrik, and what it made of it.

    `entered` counts by connector. All figures but `found` add up to it. `trouble` says why Zentrik could not be read
    to the end; then nothing was entered.
    """

    found: int = 0
    entered: Counter[str] = field(default_factory=Counter)
    remembered: int = 0
    accepted: int = 0
    known: int = 0
    doubled: int = 0
    nameless: int = 0
    trouble: Troubled | None = None

    def as_json(self) -> dict[str, Json]:
        """The object that `ledger rebuild --json` prints."""
        return {
            "found": self.found,
            "entered": self.entered.total(),
            "connectors": dict(self.entered),
            "remembered": self.remembered,
            "accepted": self.accepted,
            "known": self.known,
            "doubled": self.doubled,
            "withoutExternalId": self.nameless,
            "error": self.trouble.reason if self.trouble else None,
        }


async def rebuild(
    ledger: Ledger,
    zentrik: Zentrik,
    namespaces: Mapping[str, str],
    run: int,
    clock: Callable[[], datetime],
    patience: Patience = PATIENCE,
) -> Rebuilt:
    """Enter everything Zentrik has in the ledger; `namespaces` says which connector each belongs to.

    What the ledger knows already stays as it is, so this can be done again. Raises `LedgerInUse` while another run is
    alive: it would post what is about to be entered. Raises `KeyRefused`.
    """
    inventory = Inventory()
    await _be_alone(ledger, run)
    if trouble := await sweep(zentrik, inventory.see, patience=patience):
        return Rebuilt(trouble=trouble)
    await _be_alone(ledger, run)
    now = clock()
    done = Rebuilt(found=len(inventory), doubled=inventory.surplus, nameless=inventory.nameless)
    for finds in batched(inventory.finds(namespaces), BATCH):
        entries = await ledger.change(matching.enter, finds, run, now)
        done.entered.update(
            find.connector for find in finds if find.connector and entries[find.external_id] is Entry.ENTERED
        )
        tally = Counter(entries.values())
        done.remembered += tally[Entry.REMEMBERED]
        done.accepted += tally[Entry.ACCEPTED]
        done.known += tally[Entry.KNOWN]
    await ledger.change(matching.forget_unseen, now)
    log.info("rebuilt", found=done.found, entered=done.entered.total(), remembered=done.remembered)
    return done


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


async def _be_alone(ledger: Ledger, run: int) -> None:
    others = await ledger.living_runs() - {run}
    if others:
        raise LedgerInUse(
            f"ledger {ledger.database.place}: another syncd is at work here (run {min(others)}). Stop it, and rebuild "
            "the ledger then: it would post what is only about to be entered. Nothing was changed."
        )
