"""Audit: the ledger and Zentrik laid side by side, what differs, and a plan that makes them agree again.

Zentrik is read first and the ledger after it, so what was accepted meanwhile looks as if it were missing, and what
was settled meanwhile as if it differed. Both are known by their history, and left to the next audit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import chain
from sys import intern

from syncd.fates import Blocked, Gone, Processed, Refused
from syncd.inventory import Inventory, claimant
from syncd.ledger import Ledger, State, erasure, matching, posts
from syncd.ledger.events import tell
from syncd.ledger.matching import Entry, Find, Here, There
from syncd.logs import get_logger
from syncd.rebuild import BATCH, PATIENCE, batched
from syncd.records import Json
from syncd.sweep import Patience, sweep
from syncd.zentrik import Remote, Troubled, Zentrik

log = get_logger()

_TOGETHER = 8  # calls under way at once
_MOVED = "it has moved on since; the next audit sees how it stands"


class Kind(StrEnum):
    """How ledger and Zentrik can differ about a signal."""

    MISSING = "missing"
    """The ledger has its publicId, and Zentrik has it no longer."""

    UNKNOWN_HERE = "unknown_here"
    """Zentrik has it under a namespace of ours, and the ledger has not."""

    DOUBLED = "doubled"
    """Zentrik has another one with the same externalId."""

    CHANGED = "changed"
    """Both have it, and say different things of it."""

    FORGOTTEN = "forgotten"
    """It was to be erased on request, and Zentrik has it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: which signal at Zentrik it is about, and what differs, in words.

    `here` is how it stood in the ledger, if it did. `whose` is the connector an unknown one belongs to; of a doubled
    one `kept` is the publicId of the one that stays.
    """

    kind: Kind
    external_id: str
    public_id: str
    words: str
    here: Here | None = None
    whose: str = ""
    kept: str = ""

    @property
    def plan(self) -> str:
        """What applying does about it."""
        match self.kind:
            case Kind.MISSING:
                return f"mark it deleted; `syncd retry {self.external_id}` posts it again"
            case Kind.UNKNOWN_HERE:
                return f"enter it as one of {self.whose}"
            case Kind.DOUBLED:
                return f"delete it at Zentrik, keep {self.kept}"
            case Kind.CHANGED:
                return "take over what Zentrik says"
            case Kind.FORGOTTEN:
                return "delete it at Zentrik"

    def as_json(self) -> dict[str, Json]:
        """One of the list that `audit --json` prints."""
        return {
            "kind": self.kind,
            "externalId": self.external_id,
            "publicId": self.public_id,
            "difference": self.words,
            "plan": self.plan,
        }


@dataclass(slots=True)
class Audit:
    """What was compared, and what differs. `trouble` says why Zentrik could not be read to the end.

    `moved` counts what differed and had moved on in the ledger while Zentrik was read.
    """

    there: int = 0
    here: int = 0
    nameless: int = 0
    moved: int = 0
    differences: list[Difference] = field(default_factory=list)
    trouble: Troubled | None = None
    inventory: Inventory = field(default_factory=Inventory, repr=False)

    @property
    def counts(self) -> dict[Kind, int]:
        """How many differences there are of each kind."""
        found = Counter(difference.kind for difference in self.differences)
        return {kind: found[kind] for kind in Kind if kind is not Kind.FORGOTTEN or found[kind]}

    def of(self, kind: Kind) -> Iterator[Difference]:
        """The differences of that kind."""
        return (difference for difference in self.differences if difference.kind is kind)

    def as_json(self) -> dict[str, Json]:
        """The object that `audit --json` prints."""
        return {
            "signals": {"zentrik": self.there, "ledger": self.here, "withoutExternalId": self.nameless},
            "counts": {str(kind): number for kind, number in self.counts.items()},
            "movedMeanwhile": self.moved,
            "differences": [difference.as_json() for difference in self.differences],
            "error": self.trouble.reason if self.trouble else None,
        }


@dataclass(slots=True)
class Applied:
    """What came of a plan. `left` says of each difference that stays, why."""

    done: Counter[Kind] = field(default_factory=Counter)
    left: list[tuple[Difference, str]] = field(default_factory=list)

    def note(self, came: Iterable[tuple[Difference, str | None]]) -> None:
        """Count differences that are made good, and keep those that are left, with the reason."""
        for difference, why in came:
            if why is None:
                self.done[difference.kind] += 1
            else:
                self.left.append((difference, why))

    def as_json(self) -> dict[str, Json]:
        """What `audit --apply --json` prints under `applied`."""
        return {
            "done": {str(kind): self.done[kind] for kind in Kind if kind is not Kind.FORGOTTEN or self.done[kind]},
            "left": [{**difference.as_json(), "why": why} for difference, why in self.left],
        }


async def audit(
    ledger: Ledger,
    zentrik: Zentrik,
    namespaces: Mapping[str, str],
    clock: Callable[[], datetime],
    patience: Patience = PATIENCE,
) -> Audit:
    """Compare everything, and change nothing; `namespaces` says which connector each belongs to.

    Raises `KeyRefused`.
    """
    found = Audit()
    inventory = found.inventory
    began = clock()
    found.trouble = await sweep(zentrik, inventory.see, patience=patience)
    found.there, found.nameless = len(inventory), inventory.nameless
    if found.trouble:
        return found
    alive = await ledger.living_runs()
    comparison = await ledger.ask(lambda db: _Comparison(inventory, alive).of(matching.every_row(db)))
    found.here = comparison.rows
    suspects = [row.id for row in comparison.absent]
    suspects += [difference.here.id for difference in comparison.differences if difference.here]
    moved = await ledger.ask(matching.moved_since, suspects, began)
    found.moved = len(moved)
    absent = [row for row in comparison.absent if row.id not in moved]
    found.differences, found.trouble = await _missing(zentrik, absent, patience)
    found.differences += await _unknown_here(ledger, inventory, comparison.matched, namespaces)
    found.differences += [each for each in comparison.differences if not each.here or each.here.id not in moved]
    log.info("audited", zentrik=found.there, ledger=found.here, differences=len(found.differences))
    return found


class _Comparison:
    """The ledger, row by row, against the inventory; what agrees is dropped from it."""

    def __init__(self, inventory: Inventory, alive: Collection[int]) -> None:
        self.rows = 0
        self.absent: list[Here] = []
        self.differences: list[Difference] = []
        self.matched: set[str] = set()
        self._inventory = inventory
        self._alive = alive

    def of(self, rows: Iterable[Here]) -> _Comparison:
        for row in rows:
            self.rows += 1
            held = self._inventory.held(row.external_id, row.public_id)
            if held:
                self._compare(row, held)
            elif row.public_id and row.state not in (State.DELETED, State.FORGOTTEN):
                self.absent.append(row)
        return self

    def _compare(self, row: Here, held: Sequence[There]) -> None:
        if row.state is State.FORGOTTEN:
            self.differences += _forgotten(row.external_id, held, row)
            self._inventory.drop(row.external_id)
            return
        is_being_posted = row.state in (State.SENDING, State.UNKNOWN) and row.run_id in self._alive
        kept = next((there for there in held if there.public_id == row.public_id), held[0])
        words = None if is_being_posted else _how_it_differs(row, kept)
        if words:
            self.differences.append(Difference(Kind.CHANGED, row.external_id, kept.public_id, words, row))
        if not is_being_posted:
            self.differences += _doubles(row.external_id, held, kept, row)
        if words or len(held) > 1:
            self.matched.add(row.external_id)
        else:
            self._inventory.drop(row.external_id)


def _how_it_differs(here: Here, there: There) -> str | None:
    """What Zentrik says otherwise, in words. One that is processing here is about to be asked for anyway."""
    if here.public_id and here.public_id != there.public_id:
        return f"{here.public_id} and {here.state} here, {there.public_id} and {there.state} there"
    if here.state is State.PROCESSING:
        return None
    if here.state is not there.state:
        return f"{here.state} here, {there.state} there"
    if isinstance(there.outcome, Processed) and set(there.outcome.insight_ids) != set(here.insight_ids):
        return f"{len(here.insight_ids)} insights here, {len(there.outcome.insight_ids)} there, not the same ones"
    if there.job_id and there.job_id != here.job_id:
        return f"{here.state} by another job here than there"
    return None


def _forgotten(external_id: str, held: Sequence[There], here: Here | None) -> list[Difference]:
    words = "forgotten here, there at Zentrik"
    return [Difference(Kind.FORGOTTEN, external_id, there.public_id, words, here) for there in held]


def _doubles(external_id: str, held: Sequence[There], kept: There, here: Here | None) -> list[Difference]:
    return [
        Difference(
            Kind.DOUBLED,
            external_id,
            there.public_id,
            f"{len(held)} signals have this externalId",
            here,
            kept=kept.public_id,
        )
        for there in held
        if there is not kept
    ]


async def _missing(
    zentrik: Zentrik, absent: Sequence[Here], patience: Patience
) -> tuple[list[Difference], Troubled | None]:
    """Those that Zentrik, asked for each, says it does not have; none while that may not be its own word."""
    missing: list[Difference] = []
    trouble: Troubled | None = None
    for rows in batched(absent, _TOGETHER):
        if trouble:
            break
        answers = await asyncio.gather(*(patience.ask(partial(zentrik.get, row.public_id or "")) for row in rows))
        for row, answer in zip(rows, answers, strict=True):
            match answer:
                case Gone():
                    words = f"{row.state} here, gone there"
                    missing.append(Difference(Kind.MISSING, row.external_id, row.public_id or "", words, row))
                case Troubled():
                    trouble = answer
    doubt = await patience.ask(zentrik.doubt) if missing else None
    return ([], trouble or doubt) if doubt else (missing, trouble)


async def _unknown_here(
    ledger: Ledger, inventory: Inventory, matched: Collection[str], namespaces: Mapping[str, str]
) -> list[Difference]:
    """What is left of the inventory under our namespaces, and is not in the ledger under another name."""
    ours = (
        (name, whose) for name in inventory.names() if (whose := claimant(name, namespaces)) and name not in matched
    )
    unknown: list[Difference] = []
    for some in batched(ours, BATCH):
        held = {name: inventory.held(name) for name, _ in some}
        forgotten = await ledger.ask(erasure.tombstones, list(held))
        renamed = await ledger.ask(posts.ours_of, [there.public_id for all_ in held.values() for there in all_])
        for name, whose in some:
            first = held[name][0]
            if name in forgotten:
                unknown += _forgotten(name, held[name], None)
                continue
            if any(there.public_id in renamed for there in held[name]):
                continue
            words = intern(f"{first.state} there, unknown here")  # one text for what may be a million
            unknown.append(Difference(Kind.UNKNOWN_HERE, name, first.public_id, words, whose=whose))
            unknown += _doubles(name, held[name], first, None)
    return unknown


async def apply(
    found: Audit,
    ledger: Ledger,
    zentrik: Zentrik,
    run: int,
    clock: Callable[[], datetime],
    patience: Patience = PATIENCE,
) -> Applied:
    """Carry the plan out. What has moved on since the audit is left as it is. Raises `KeyRefused`."""
    applied = Applied()
    for kind in (Kind.MISSING, Kind.CHANGED, Kind.UNKNOWN_HERE):
        for some in batched(found.of(kind), BATCH):
            done = await _write(ledger, found.inventory, kind, some, run, clock())
            applied.note([(each, None if each.external_id in done else _MOVED) for each in some])
    stop: str | None = None
    for some in batched(chain(found.of(Kind.DOUBLED), found.of(Kind.FORGOTTEN)), _TOGETHER):
        if stop is not None:
            applied.note([(each, stop) for each in some])
            continue
        answers = await asyncio.gather(*(_delete(ledger, zentrik, each, clock, patience) for each in some))
        applied.note([(each, _left(answer)) for each, answer in zip(some, answers, strict=True)])
        stop = next((each.reason for each in answers if isinstance(each, Blocked | Troubled)), None)
    log.info("applied", done=applied.done.total(), left=len(applied.left))
    return applied


async def _write(
    ledger: Ledger, inventory: Inventory, kind: Kind, some: Sequence[Difference], run: int, now: datetime
) -> set[str]:
    """Do to the ledger what is planned for differences of one kind; the externalIds of those it was done to."""
    if kind is Kind.UNKNOWN_HERE:
        finds = [Find(each.external_id, _there(inventory, each), each.whose) for each in some]
        entries = await ledger.change(matching.enter, finds, run, now)
        return {name for name, entry in entries.items() if entry is not Entry.KNOWN}
    rows = [(each.here, each) for each in some if each.here]
    if kind is Kind.MISSING:
        return await ledger.change(matching.mark_deleted, [here for here, _ in rows], run, now)
    changed = [(here, _there(inventory, each)) for here, each in rows]
    return await ledger.change(matching.take_over, changed, run, now)


def _there(inventory: Inventory, difference: Difference) -> There:
    held = inventory.held(difference.external_id, difference.public_id)
    return next(there for there in held if there.public_id == difference.public_id)


async def _delete(
    ledger: Ledger, zentrik: Zentrik, double: Difference, clock: Callable[[], datetime], patience: Patience
) -> Gone | Blocked | Refused | Troubled | None:
    """Delete a double, if by now the one to keep is still there and the ledger's; None when it is not. One that was to
    be forgotten is deleted as long as it is there."""
    name = double.external_id
    here = (await ledger.ask(matching.find_rows, [name])).get(name)
    if double.kind is Kind.FORGOTTEN:
        gone: Gone | Blocked | Refused | Troubled = await patience.ask(partial(zentrik.delete, double.public_id))
        if here is not None and isinstance(gone, Gone):
            await ledger.change(erasure.conclude, {here.id: double.public_id}, clock())
        return gone
    if here is None or here.public_id != double.kept:
        return None
    for public_id in (double.kept, double.public_id):
        match await patience.ask(partial(zentrik.get, public_id)):
            case Troubled() as trouble:
                return trouble
            case Remote(external_id=shown) if shown == name:
                continue
            case Gone() if public_id == double.public_id:
                return Gone()
            case _:
                return None
    answer: Gone | Blocked | Refused | Troubled = await patience.ask(partial(zentrik.delete, double.public_id))
    if isinstance(answer, Gone):
        detail = f"{double.public_id} was deleted at Zentrik; {double.kept} stays"
        await ledger.change(tell, [(here.id, clock(), "double deleted", detail)])
    return answer


def _left(answer: Gone | Blocked | Refused | Troubled | None) -> str | None:
    match answer:
        case Gone():
            return None
        case None:
            return _MOVED
        case _:
            return answer.reason
