"""Reconcile: settle signals whose answer was lost by looking for them at Zentrik, never by posting again blindly.

The list has no filter and no documented order, so it is swept whole. Pages overlap: as long as each shows something
that was shown before, nothing can have slipped past between two of them; when one does not, the sweep begins anew.
Many unknown signals share one sweep.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from syncd.fates import Accepted
from syncd.ledger import Ledger, Sighting
from syncd.logs import get_logger
from syncd.zentrik import Listing, Troubled, Zentrik

log = get_logger()

BATCH = 10_000
"""How many unknown signals one sweep looks for."""

NAMELESS = "its body has no externalId to find it by: look at Zentrik; if it is not there, `syncd retry` posts it again"

_OVERLAP = 10  # signals asked for twice; so many may be deleted between two pages
_SWEEPS = 4  # tries at a list that keeps changing by more than that


@dataclass(slots=True)
class Reconciled:
    """What one round settled. `trouble` says why it could not finish; what it had not settled stays unknown."""

    found: int = 0
    requeued: int = 0
    unsearchable: int = 0
    trouble: Troubled | None = None


async def reconcile(
    ledger: Ledger,
    zentrik: Zentrik,
    run: int | None,
    clock: Callable[[], datetime],
    *,
    horizon: timedelta = timedelta(0),
) -> Reconciled:
    """Look for every unknown signal that is due within `horizon`. Raises `KeyRefused`."""
    unknown = await ledger.unknowns(BATCH, clock() + horizon)
    done = Reconciled()
    if not unknown:
        return done
    sought: dict[str, tuple[int, int]] = {}
    nameless: list[int] = []
    for id_, external_id, attempt, body in unknown:
        if _names(external_id, body):
            sought[external_id] = (id_, attempt)
        else:
            nameless.append(id_)
    if nameless:
        await ledger.leave_unknown(nameless, NAMELESS)
        done.unsearchable = len(nameless)
    found, trouble = await _sweep(zentrik, sought)
    now = clock()
    sightings = [
        Sighting(id_, attempt, found.get(external_id), now)
        for external_id, (id_, attempt) in sought.items()
        if external_id in found or trouble is None
    ]
    await ledger.settle_unknowns(sightings, run, now)
    done.found = len(found)
    done.requeued = len(sightings) - len(found)
    done.trouble = trouble
    log.info(
        "reconciled",
        found=done.found,
        requeued=done.requeued,
        left=len(sought) - len(sightings),
        unsearchable=done.unsearchable,
    )
    return done


def _names(external_id: str, body: bytes) -> bool:
    """Whether Zentrik was told the externalId: without it a signal cannot be found again."""
    return bool(json.loads(body).get("externalId") == external_id)


async def _sweep(
    zentrik: Zentrik, sought: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, Accepted], Troubled | None]:
    """Those of the sought that the list shows. Without trouble, the others are not there."""
    found: dict[str, Accepted] = {}
    for _ in range(_SWEEPS):
        offset, shown, is_whole = 0, set[str](), True
        while sought.keys() - found.keys():
            listing = await zentrik.list(offset)
            if not isinstance(listing, Listing):
                return found, listing
            for remote in listing.signals:
                if remote.external_id in sought:
                    found[str(remote.external_id)] = Accepted(remote.public_id, remote.job_id)
            page = {remote.public_id for remote in listing.signals}
            is_stuck = listing.has_more and page <= shown
            if is_stuck or (offset and not page & shown):
                is_whole = False
            if is_stuck or not listing.has_more:
                break
            shown |= page
            offset += max(1, len(listing.signals) - _OVERLAP)
        if is_whole:
            return found, None
    return found, Troubled("the list of signals kept changing while it was read")
