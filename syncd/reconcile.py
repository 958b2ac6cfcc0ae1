"""Reconcile: settle signals whose answer was lost by looking for them at Zentrik, never by posting again blindly.

Three ways to find one, cheapest first:

1. The mirror: what Zentrik has shown since, to whoever was looking.
2. The gap: signals are numbered, and as far as anybody knows in the order they are created. A lost one that arrived has
   a number that nothing known of has, not far above the highest that was accepted before it was sent.
3. The sweep: everything Zentrik has. All that are looked for share one.

Each of them can show that a signal is there. That it is not there only a whole sweep can, and only one begun when its
POST can no longer have been under way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count, islice, pairwise
from typing import Any

from syncd.fates import Accepted
from syncd.ledger import Ledger, Lost, Sighting, posts
from syncd.logs import get_logger
from syncd.mirror import Mirror, seniority
from syncd.sweep import Patience, Pause, sweep
from syncd.zentrik import PAGE_SIZE, Remote, Troubled, Zentrik, number_of

log = get_logger()

BATCH = 10_000
"""How many unknown signals one round looks for."""

NAMELESS = "its body has no externalId to find it by: look at Zentrik; if it is not there, `syncd retry` posts it again"

_GETS = 64  # numbers of the gap asked for in one round, at most
_SHARE = 4  # ... and at most one for so many pages of the list: a page shows a hundred signals, a number one
_MARGIN = 3  # numbers above the highest known that are worth asking for: the last signal posted may be the lost one
_REACH = 2000  # numbers above the lowest it may have that are looked through
_ENDS = 2  # pages that are looked at for those that it is too early to call absent
_REST = timedelta(seconds=30)  # after trouble, at least


@dataclass(slots=True)
class Reconciled:
    """What one round settled. `waiting` were not found, and it is too early to call them absent. `trouble` says why the
    round could not finish; what it had not settled stays unknown."""

    found: int = 0
    requeued: int = 0
    unsearchable: int = 0
    waiting: int = 0
    trouble: Troubled | None = None


async def reconcile(
    ledger: Ledger,
    zentrik: Zentrik,
    run: int | None,
    clock: Callable[[], datetime],
    *,
    mirror: Mirror,
    pause: Pause,
    horizon: timedelta = timedelta(0),
) -> Reconciled:
    """Look for every unknown signal that is due within `horizon`, and settle in the ledger what is certain.

    What is not certain yet is due again when it can be, and after trouble when that may be over. In a large workspace a
    round can take many minutes; `pause` waits between its calls. Raises `KeyRefused`.
    """
    started = clock()
    done = Reconciled()
    lost, nameless = _by_name(await ledger.unknowns(BATCH, started + horizon))
    if nameless:
        await ledger.look_again(dict.fromkeys(nameless), NAMELESS)
        done.unsearchable = len(nameless)
    if not lost:
        return done
    search, patience = _Search(lost, mirror, clock), Patience(pause)
    done.trouble = await _look_in_the_gap(ledger, zentrik, search, patience)
    began = clock()
    ripe = {name for name, each in search.missing.items() if each.absent_from is None or each.absent_from <= began}
    obscure: set[str] = set()
    if done.trouble is None and search.missing:
        done.trouble = await _look_in_the_list(zentrik, search, ripe, patience, obscure)
    ripe -= obscure  # it is there, and nobody can say as what
    now = clock()
    absent = [] if done.trouble else [each for name, each in search.missing.items() if name in ripe]
    sightings = [Sighting(each.id, each.attempt, accepted, now) for each, accepted in search.finds()]
    sightings += [Sighting(each.id, each.attempt, None, now) for each in absent]
    done.found = await ledger.settle_unknowns(sightings, run, now)
    done.requeued = len(absent)
    done.waiting = len(search.missing.keys() - ripe)
    # Trouble is given as long to pass as it was put up with, so that a list that is never whole is not read for ever.
    asked = done.trouble.after if done.trouble else None
    rest = max(asked or _REST, _REST, now - started) if done.trouble or obscure else timedelta(0)
    left = [each for name, each in search.missing.items() if done.trouble or name not in ripe]
    if left:
        await ledger.look_again({each.id: max(each.absent_from or now, now + rest) for each in left})
    log.info(
        "reconciled",
        found=done.found,
        requeued=done.requeued,
        waiting=done.waiting,
        left=len(left) - done.waiting,
        unsearchable=done.unsearchable,
    )
    return done


def _by_name(lost: Iterable[Lost]) -> tuple[dict[str, Lost], list[int]]:
    """The lost ones by externalId; and the ids of those that Zentrik was not told it of: they cannot be found again."""
    named: dict[str, Lost] = {}
    nameless: list[int] = []
    for each in lost:
        if json.loads(each.body).get("externalId") == each.external_id:
            named[each.external_id] = replace(each, body=b"")
        else:
            nameless.append(each.id)
    return named, nameless


class _Search:
    """What is looked for in one round: what is still `missing`, by externalId, and what was found."""

    def __init__(self, lost: Mapping[str, Lost], mirror: Mirror, clock: Callable[[], datetime]) -> None:
        self.mirror = mirror
        self._clock = clock
        self._lost = lost
        self._found: dict[str, Accepted] = {}
        for name, each in lost.items():
            if each.sent_at and (accepted := mirror.find(name, each.sent_at, but=each.former)):
                self._found[name] = accepted
        self.missing = {name: each for name, each in lost.items() if name not in self._found}

    def see(self, remotes: Sequence[Remote]) -> None:
        """Take in what Zentrik shows. Of one that it has twice, the first created counts."""
        self.mirror.note(remotes, self._clock())
        for remote in remotes:
            name = remote.external_id
            if name is not None and name in self._lost and remote.public_id != self._lost[name].former:
                accepted = Accepted(remote.public_id, remote.job_id)
                self._found[name] = min(self._found.get(name, accepted), accepted, key=seniority)
                self.missing.pop(name, None)

    def finds(self) -> Iterator[tuple[Lost, Accepted]]:
        """Each that was found, and as what."""
        return ((self._lost[name], accepted) for name, accepted in self._found.items())


async def _look_in_the_gap(ledger: Ledger, zentrik: Zentrik, search: _Search, patience: Patience) -> Troubled | None:
    """Ask for the numbers that the missing ones may have, the lowest first, where that is cheaper than the list."""
    mirror = search.mirror
    if len(search.missing) > _GETS:
        return None
    lows: list[int] = []
    highest = mirror.highest
    for each in search.missing.values():
        if each.sent_at:
            near = await ledger.ask(posts.numbered_near, each.id, each.sent_at)
            before, others = ([number for name in names if (number := number_of(name))] for names in near)
            highest = max([highest, *before, *others])
            lows += [max(before)] if before else []
    total = highest if mirror.total is None else mirror.total
    allowed = min(_GETS, total // PAGE_SIZE // _SHARE)
    if len(search.missing) > allowed:
        return None
    gap = {number for low in lows for number in range(low + 1, min(highest + _MARGIN, low + _REACH) + 1)}
    names = [f"SIGNAL-{number}" for number in sorted(gap)]
    ours = await ledger.ask(posts.ours_of, names)
    for name in islice((name for name in names if name not in ours and name not in mirror), allowed):
        answer = await patience.ask(partial(zentrik.get, name))
        match answer:
            case Troubled():
                return answer
            case Remote():
                search.see([answer])
        if not search.missing:
            break
    return None


async def _look_in_the_list(
    zentrik: Zentrik, search: _Search, ripe: Collection[str], patience: Patience, obscure: set[str]
) -> Troubled | None:
    """Sweep it until none of the ripe ones is missing; when there is none, look at both of its ends.

    Without trouble, a ripe one that is still missing is not there, unless it is `obscure`: shown without a publicId.
    """
    pages = count(1)

    def see(remotes: Sequence[Remote]) -> bool:
        search.see(remotes)
        is_enough = next(pages) >= _ENDS and search.missing.keys().isdisjoint(ripe)
        return is_enough or not search.missing

    return await sweep(zentrik, see, patience=patience, leaning=_rises, obscure=obscure)


def _rises(first: Sequence[Remote], last: Sequence[Remote]) -> bool:
    """Whether the list seems to end with what was created last, by its numbers or by its times. It may not be so."""
    numbers = [remote.number for remote in (*first, *last)]
    times = [remote.created_at for remote in (*first, *last)]
    return _is_sorted(numbers) or (_is_sorted(times) and not _is_sorted(numbers[::-1]))


def _is_sorted(values: Sequence[Any]) -> bool:
    return None not in values and all(one <= other for one, other in pairwise(values))
