"""Forget: what is known of a person, an account or a record is erased, here and at Zentrik, and stays away.

The tombstone is committed before anything is deleted at Zentrik, so that no reading brings the record back meanwhile;
what Zentrik answered is committed after. Cut off anywhere, the same order given again ends the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from syncd import subjects
from syncd.errors import DestinationError
from syncd.fates import Blocked, Gone, Processed, Refused
from syncd.ledger import Ledger, State, erasure
from syncd.ledger import subjects as noted
from syncd.ledger.erasure import Found, Survey
from syncd.ledger.report import iso
from syncd.logs import get_logger
from syncd.records import Json
from syncd.sweep import Patience
from syncd.zentrik import Remote, Troubled, Zentrik

log = get_logger()

_TOGETHER = 8  # calls under way at once
_AT_ONCE = 500  # signals erased in one transaction

PATIENCE = Patience()
"""With a Zentrik in trouble, while something is to be deleted there."""

UNCERTAIN = "it is being posted or replaced, and nobody knows yet what Zentrik has; run it again in a minute"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be forgotten: signals by externalId, and all that speak of an e-mail address or an account."""

    external_ids: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()

    @property
    def subjects(self) -> dict[str, str]:
        """The addresses and accounts as they were written, each with the subject it is. An email that is no address is
        left out."""
        found = {email: subject for email in self.emails if (subject := subjects.of_address(email))}
        return found | {account: subjects.of_account(account) for account in self.accounts}


@dataclass(frozen=True, slots=True)
class Item:
    """A signal of the order, as it stood, and what became of it. `why` says why it was left, if it was."""

    found: Found
    is_forgotten: bool = False
    why: str | None = None

    @classmethod
    def of(cls, was: Found, now: Found, why: str | None) -> Item:
        """A signal as it stood and as it stands: what Zentrik drew from it may only be known by now."""
        is_forgotten = now.state is State.FORGOTTEN and not now.is_pending
        drawn = tuple(dict.fromkeys([*was.insight_ids, *now.insight_ids]))
        found = replace(was, public_id=now.public_id or was.public_id, insight_ids=drawn)
        return cls(found, is_forgotten, None if is_forgotten else why or UNCERTAIN)

    def as_json(self) -> dict[str, Json]:
        """One of the list that `forget --json` prints."""
        return {
            "externalId": self.found.external_id,
            "connector": self.found.connector or None,
            "was": self.found.state,
            "publicId": self.found.public_id,
            "fate": "forgotten" if self.is_forgotten else "left" if self.why else "found",
            "why": self.why,
            "insightIds": list(self.found.insight_ids),
        }


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was asked, when, and what became of each signal; of a dry run, what was found. `survey` is what the ledger
    had to say of the order before."""

    at: datetime
    order: Order
    survey: Survey
    items: Sequence[Item]
    is_dry: bool = True

    @classmethod
    def of(cls, order: Order, survey: Survey, now: datetime) -> Certificate:
        """What forgetting would be about, without changing anything."""
        return cls(now, order, survey, [Item(each) for each in survey.found])

    @property
    def is_done(self) -> bool:
        """Whether everything that was asked for is forgotten."""
        return not self.is_dry and not self.survey.unknown and all(item.is_forgotten for item in self.items)

    @property
    def insight_ids(self) -> list[str]:
        """The insights that were drawn from these signals: a person reviews them."""
        return list(dict.fromkeys(id_ for item in self.items for id_ in item.found.insight_ids))

    def as_json(self) -> dict[str, Json]:
        """The object that `forget --json` prints."""
        return {
            "at": iso(self.at),
            "dryRun": self.is_dry,
            "done": self.is_done,
            "asked": {
                "externalIds": list(self.order.external_ids),
                "emails": [{"email": each, "digest": self._digest(each)} for each in self.order.emails],
                "accounts": [{"account": each, "digest": self._digest(each)} for each in self.order.accounts],
            },
            "signals": [item.as_json() for item in self.items],
            "insightsForReview": list(self.insight_ids),
            "unknown": list(self.survey.unknown),
            "alreadyForgotten": list(self.survey.already),
            "predating": self.survey.predating,
        }

    def _digest(self, written: str) -> str | None:
        """All that the ledger may have of an address or account, in hexadecimal."""
        digest = self.survey.digests.get(written)
        return None if digest is None else digest.hex()


async def forget(
    ledger: Ledger,
    zentrik: Zentrik,
    order: Order,
    run: int,
    clock: Callable[[], datetime],
    settle: Callable[[], Awaitable[object]],
    patience: Patience = PATIENCE,
) -> Certificate:
    """Erase what the order names, and whatever an earlier order left at Zentrik.

    `settle` finds out what became of signals whose answer was lost; it is called when there are any among them.
    """
    await ledger.change(noted.key)
    survey = await ledger.ask(erasure.look_up, order.external_ids, order.subjects)
    was = {each.id: each for each in survey.found if each.id is not None}
    adopted = await ledger.change(erasure.adopt, order.external_ids, run, clock()) if order.external_ids else {}
    was |= {adopted[each.external_id]: each for each in survey.found if each.external_id in adopted}
    doubtful = await _erase(ledger, was, run, clock)
    if doubtful:
        try:
            await settle()
        except DestinationError as error:
            log.info("not settled", reason=str(error))
        doubtful = await _erase(ledger, doubtful, run, clock)
    pending = await ledger.ask(erasure.pending)
    left = dict.fromkeys(doubtful, UNCERTAIN) | await _delete(ledger, zentrik, pending, clock, patience)
    was |= {each.id: each for each in pending if each.id is not None and each.id not in was}
    stand = await ledger.ask(erasure.stand, list(was))
    items = [Item.of(was[id_], stand[id_], left.get(id_)) for id_ in was]
    log.info("forgotten", signals=sum(item.is_forgotten for item in items), left=len(left))
    return replace(Certificate.of(order, survey, clock()), is_dry=False, items=items)


async def _erase(ledger: Ledger, ids: Iterable[int], run: int, clock: Callable[[], datetime]) -> set[int]:
    """Make tombstones of these; those that were left, because nobody knows whether Zentrik has them."""
    left: set[int] = set()
    chosen = sorted(ids)
    for start in range(0, len(chosen), _AT_ONCE):
        left |= await ledger.change(erasure.erase, chosen[start : start + _AT_ONCE], run, clock())
    return left


async def _delete(
    ledger: Ledger, zentrik: Zentrik, pending: Sequence[Found], clock: Callable[[], datetime], patience: Patience
) -> dict[int, str]:
    """Delete at Zentrik what it still has of these; by id, why any was left. What it drew from them is noted first."""
    left: dict[int, str] = {}
    stop: str | None = None
    stones = {found.id: found.public_id for found in pending if found.id is not None and found.public_id is not None}
    for start in range(0, len(stones), _TOGETHER):
        some = dict(list(stones.items())[start : start + _TOGETHER])
        if stop is not None:
            left |= dict.fromkeys(some, stop)
            continue
        seen = dict(zip(some, await asyncio.gather(*(_look(zentrik, each) for each in some.values())), strict=True))
        drawn = {
            id_: remote.outcome.insight_ids
            for id_, remote in seen.items()
            if remote is not None and isinstance(remote.outcome, Processed)
        }
        await ledger.change(erasure.note_insights, drawn)
        asked = [_ask(zentrik, public_id, patience) for public_id in some.values()]
        answers = dict(zip(some, await asyncio.gather(*asked), strict=True))
        gone = {id_ for id_, answer in answers.items() if isinstance(answer, Gone)}
        if any(seen[id_] is None for id_ in gone):
            stop = await _doubt(zentrik)
            left |= {id_: stop for id_ in gone if stop and seen[id_] is None}
        await ledger.change(erasure.conclude, {id_: some[id_] for id_ in gone - left.keys()}, clock())
        for id_, answer in answers.items():
            match answer:
                case Blocked(reason) | Troubled(reason):
                    left[id_] = stop = reason
                case Refused(reason):
                    left[id_] = reason
    return left


async def _ask(zentrik: Zentrik, public_id: str, patience: Patience) -> Gone | Blocked | Refused | Troubled:
    """What comes of deleting one."""
    return await patience.ask(partial(zentrik.delete, public_id))


async def _look(zentrik: Zentrik, public_id: str) -> Remote | None:
    """The signal as Zentrik shows it; None when it does not, for whatever reason: deleting it will tell."""
    try:
        seen = await zentrik.get(public_id)
    except DestinationError:
        return None
    return seen if isinstance(seen, Remote) else None


async def _doubt(zentrik: Zentrik) -> str | None:
    """Why a signal that nobody saw may be there all the same, though it was said to be gone."""
    try:
        doubt = await zentrik.doubt()
    except DestinationError as error:
        return str(error)
    return doubt.reason if doubt else None
