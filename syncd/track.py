"""Track: ask Zentrik what became of the signals it accepted, in as few calls as it takes.

A list call shows 100 signals and a single call one, so several are looked for in pages, and the few that pages do not
show, by name. Nothing is assumed of the order of the list: both of its ends are tried, and the walk goes on where it
finds something. Whatever else a page shows of ours is taken along. Where many are due, a few of them are asked for
first: as long as none of those has settled, the pages can wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from syncd.fates import Failed, Gone, Outcome, Processed, Unsettled
from syncd.ledger import Ledger, Look, Waiting
from syncd.logs import get_logger
from syncd.mirror import Mirror
from syncd.pacing import LookSchedule, ProcessingBudget
from syncd.zentrik import PAGE_SIZE, SHOWN_AFTER, Listing, Troubled, Zentrik

log = get_logger()

BATCH = 10_000
"""How many awaited signals one round takes on."""

_WORTHWHILE = 2  # signals a page must show to be worth more than single calls
_SHARES = 0.25  # of its age: by so much a look may come early, to share its calls
_SAMPLE = (0.0, 0.5, 1.0)  # of many that are due, those that are asked for first: by how far behind the first
_READ = 500  # signals read at once
_STORED = 100  # and stored: whoever posts needs the ledger in between
_ALL = timedelta(days=365)  # no look lies further ahead
_BUDGET = ProcessingBudget()


@dataclass(slots=True)
class Tracked:
    """What one round saw, and in how many calls. `trouble` says why it had to stop early, and for how long."""

    asked: int = 0
    calls: int = 0
    processed: int = 0
    failed: int = 0
    deleted: int = 0
    overdue: int = 0
    trouble: Troubled | None = None

    @property
    def settled(self) -> int:
        """Signals whose outcome became known."""
        return self.processed + self.failed + self.deleted


async def track(
    ledger: Ledger,
    zentrik: Zentrik,
    looks: LookSchedule,
    run: int,
    clock: Callable[[], datetime],
    draw: Callable[[], float],
    budget: ProcessingBudget = _BUDGET,
    *,
    only: Sequence[str] | None = None,
    horizon: timedelta = timedelta(0),
    mirror: Mirror | None = None,
) -> Tracked:
    """Look once at every signal whose outcome is due within `horizon`, and store what was seen.

    One that failed is to be processed again as long as its `budget` lasts; `rerun` does that. Whatever the list shows
    is noted in the `mirror`. Raises `KeyRefused`.
    """
    mirror = Mirror() if mirror is None else mirror
    due, along = await _awaited(ledger, clock(), horizon, only)
    tracked = Tracked(asked=len(due))
    if not due:
        return tracked
    calls_before = zentrik.calls.reads
    seen, tracked.trouble = await _look(zentrik, due, along, mirror, clock)
    gone = [name for name, outcome in seen.items() if isinstance(outcome, Gone)]
    if gone:
        tracked.trouble = tracked.trouble or await zentrik.doubt()
        if tracked.trouble:
            seen |= dict.fromkeys(gone, Unsettled())
    tracked.calls = zentrik.calls.reads - calls_before
    now = clock()
    for waiting in due:
        match seen.get(waiting.public_id):
            case Processed(_, _, started_at, ended_at):
                looks.learn((ended_at - started_at) if started_at and ended_at else now - waiting.accepted_at)
    results: list[Look] = []
    settled = [waiting for waiting in along if not isinstance(seen.get(waiting.public_id), Unsettled)]
    for waiting in (*due, *settled):
        outcome = seen.get(waiting.public_id)
        if outcome is None:  # no page showed it, or the round was cut short before its turn: it keeps its time
            continue
        outcome = _believed(outcome, waiting, now)
        again_at: datetime | None = looks.next_look(waiting.accepted_at, now)
        match outcome:
            case Processed():
                tracked.processed += 1
            case Failed(reason):
                tracked.failed += 1
                again_at = budget.again_at(waiting.reruns, now, draw)
                log.warning("failed at Zentrik", external_id=waiting.external_id, reason=reason, again_at=again_at)
            case Gone():
                tracked.deleted += 1
                log.warning("deleted at Zentrik", external_id=waiting.external_id, public_id=waiting.public_id)
            case Unsettled():
                tracked.overdue += looks.is_overdue(waiting.accepted_at, now)
        results.append(Look(waiting, outcome, now, again_at))
    for start in range(0, len(results), _STORED):
        await ledger.record_looks(results[start : start + _STORED], run)
    return tracked


def _believed(outcome: Outcome, waiting: Waiting, now: datetime) -> Outcome:
    """The outcome, unless it is old news: the failure before the one it is processed again for, or a signal just
    created that Zentrik does not show everywhere yet."""
    match outcome:
        case Failed() if outcome.mark is not None and outcome.mark == waiting.failed_as:
            return Unsettled()
        case Gone() if now - waiting.accepted_at < SHOWN_AFTER:
            return Unsettled()
        case _:
            return outcome


async def _awaited(
    ledger: Ledger, now: datetime, horizon: timedelta, only: Sequence[str] | None
) -> tuple[list[Waiting], list[Waiting]]:
    """The signals to look for, and those to take along where pages show them.

    The longer a signal has been waited for, the less it matters when exactly it is looked for: what is due within a
    fraction of the age of all that is due shares its calls.
    """
    due = await _by(ledger, now + horizon, only)
    if len(due) <= _WORTHWHILE:
        return list(due.values()), []
    soon = min(now - waiting.accepted_at for waiting in due.values()) * _SHARES
    if soon > horizon:
        due |= await _by(ledger, now + soon, only, len(due))
    later = await _by(ledger, now + _ALL, only, len(due))
    return list(due.values()), [waiting for id_, waiting in later.items() if id_ not in due]


async def _by(ledger: Ledger, moment: datetime, only: Sequence[str] | None, start: int = 0) -> dict[int, Waiting]:
    """What is due by then, by its id, from the `start`-th on up to a batch in all. It is read a portion at a time:
    whoever posts needs the ledger in between."""
    found: dict[int, Waiting] = {}
    for offset in range(start, BATCH, _READ):
        some = await ledger.awaited(min(_READ, BATCH - offset), moment, only, offset)
        found |= {waiting.id: waiting for waiting in some}
        if len(some) < _READ:
            break
    return found


async def _look(
    zentrik: Zentrik,
    due: Sequence[Waiting],
    along: Sequence[Waiting],
    mirror: Mirror,
    clock: Callable[[], datetime],
) -> tuple[dict[str, Outcome], Troubled | None]:
    """The outcome of each that is due, by publicId, as far as Zentrik could be asked; and of others by the way."""
    seen: dict[str, Outcome] = {}
    missing = {waiting.public_id for waiting in due}
    if len(due) > PAGE_SIZE:
        sample = {due[int(place * (len(due) - 1))].public_id for place in _SAMPLE}
        trouble = await _look_one_by_one(zentrik, sample, seen)
        if trouble:
            return seen, trouble
        if all(isinstance(outcome, Unsettled) for outcome in seen.values()):
            return dict.fromkeys(missing, Unsettled()), None
        missing -= seen.keys()
    if len(missing) > _WORTHWHILE:
        others = {waiting.public_id for waiting in along}
        trouble = await _look_in_pages(zentrik, missing, others, seen, mirror, clock)
        if trouble:
            return seen, trouble
    return seen, await _look_one_by_one(zentrik, missing, seen)


async def _look_in_pages(
    zentrik: Zentrik,
    missing: set[str],
    along: set[str],
    seen: dict[str, Outcome],
    mirror: Mirror,
    clock: Callable[[], datetime],
) -> Troubled | None:
    """Walk the list from its head and from its tail while that finds more than single calls would.

    A page is also worth its call when it shows others of ours: those that are missing will stand nearby.
    """
    head, tail = 0, None
    total: int | None = None
    side = "head"
    worth = {"head": True, "tail": True}
    while missing:
        end = tail if tail is not None else total
        left = None if end is None else end - head
        if left is not None and left <= 0:
            break
        certain = left is not None and -(-left // PAGE_SIZE) <= len(missing) // _WORTHWHILE
        if not (worth[side] or certain):
            break
        offset, limit = head, PAGE_SIZE
        if side == "tail":
            if end is None:
                break
            offset = max(head, end - PAGE_SIZE)
            limit = end - offset
        listing = await zentrik.list(offset, limit)
        if not isinstance(listing, Listing):
            return listing
        mirror.note(listing.signals, clock(), listing.total)
        shown = {remote.public_id: remote.outcome for remote in listing.signals}
        found, ours = missing & shown.keys(), (missing | along) & shown.keys()
        seen.update((public_id, shown[public_id]) for public_id in ours)
        missing -= ours
        along -= ours
        is_near = len(ours) >= _WORTHWHILE and -(-len(along) // PAGE_SIZE) <= len(missing) // _WORTHWHILE
        worth[side] = is_near or len(found) >= _WORTHWHILE
        total = listing.total if listing.total is not None else total
        if side == "head":
            head += PAGE_SIZE
            if not listing.has_more:
                break
        else:
            tail = offset
        if not worth[side]:
            side = "tail" if side == "head" else "head"
    return None


async def _look_one_by_one(zentrik: Zentrik, missing: set[str], seen: dict[str, Outcome]) -> Troubled | None:
    """Ask for each by name, a few at a time."""
    names = sorted(missing)
    for start in range(0, len(names), _TOGETHER):
        some = names[start : start + _TOGETHER]
        for name, answer in zip(some, await asyncio.gather(*(zentrik.get(name) for name in some)), strict=True):
            match answer:
                case Troubled():
                    return answer
                case Gone():
                    seen[name] = answer
                case _:
                    seen[name] = answer.outcome
    return None


_TOGETHER = 8
