"""Revise: one round of what edits and deletions at the sources call for. `begin` does what comes before a post, and
`finish` what comes after one.

A change replaces a signal without its evidence ever being absent at Zentrik, or there twice for good: the signal there
is renamed, the new text posted under its name, and only when that is processed the former one deleted. Every step is in
the ledger before Zentrik is asked, and may be taken twice: it is looked at first how things stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from syncd.edits import Edits
from syncd.fates import Blocked, Gone, Processed, Refused
from syncd.ledger import Ledger, State, revisions
from syncd.ledger.revisions import AFTERWARDS, Revision, Step
from syncd.logs import get_logger
from syncd.mirror import Mirror
from syncd.zentrik import Remote, Troubled, Zentrik

log = get_logger()

BATCH = 100
"""How many changes one round takes in hand."""

_TOGETHER = 8  # under way at once
_LEASE = timedelta(minutes=5)
_MARGIN = timedelta(minutes=2)  # before the lease is over, in which no call is begun: one may last a minute
_PATIENCE = timedelta(seconds=15)  # with a Zentrik in trouble that names no time
_RARELY = timedelta(hours=1)  # between two looks whether what a person has to mend is mended


@dataclass(slots=True)
class Reviser:
    """What the rounds have in common. `edits` says of each connector what is done; `allowed` are those whose deletions
    are believed however many there are."""

    ledger: Ledger
    zentrik: Zentrik
    run: int
    clock: Callable[[], datetime]
    edits: Mapping[str, Edits]
    mirror: Mirror = field(default_factory=Mirror)
    allowed: Collection[str] = ()
    forbidden_until: datetime | None = None
    is_told: bool = False

    @property
    def acting(self) -> list[str]:
        """The connectors of which something is to be done when a record changes or is deleted."""
        return [name for name, each in self.edits.items() if each.on_change != "ignore" or each.on_delete != "keep"]

    async def begin(self, only: Sequence[str] | None = None) -> None:
        """Queue what changed and has stood, make room for what is to be replaced, and delete what was deleted.

        Raises `KeyRefused` when the key may not even read.
        """
        if await self.ledger.ask(revisions.is_quiet):
            return
        now = self.clock()
        await self.ledger.change(revisions.drop_settling, self._who("ignore", only))
        for each in await self.ledger.change(revisions.weigh, self._of(only), now, allowed=self.allowed):
            log.warning(
                "too many records were deleted at the source; their signals stay until a person says otherwise",
                connector=each.connector,
                deleted=each.deletions,
                records=each.records,
                to_delete_them=f"syncd run-once {each.connector} --allow-deletes",
            )
        ready = await self.ledger.ask(revisions.settled, self._who("append", only), now, BATCH)
        if ready:
            appended = await self.ledger.change(revisions.append, ready, self.run, now)
            log.info("appended", signals=appended)
        ready = await self.ledger.ask(revisions.settled, self._who("replace", only), now, BATCH)
        if ready and await self._may_delete(ready):
            await self.ledger.change(revisions.start_replacing, ready, self.clock())
        await self._take((Step.RENAMING, Step.ERASING), only)

    async def finish(self, only: Sequence[str] | None = None) -> None:
        """Delete what has been replaced, and put back what could not be. Raises `KeyRefused`."""
        if await self.ledger.ask(revisions.is_quiet):
            return
        await self.ledger.change(revisions.judge, only, self.clock())
        await self._take(AFTERWARDS, only)

    def _of(self, only: Sequence[str] | None) -> dict[str, Edits]:
        return {name: each for name, each in self.edits.items() if only is None or name in only}

    def _who(self, on_change: str, only: Sequence[str] | None) -> list[str]:
        return [name for name, each in self._of(only).items() if each.on_change == on_change]

    async def _may_delete(self, ready: Sequence[int]) -> bool:
        """Whether the key may delete: asked before anything is begun that ends with it."""
        now = self.clock()
        if self.forbidden_until is None or self.forbidden_until <= now:
            match await self.zentrik.may_delete():
                case Blocked(reason):
                    self._forbid(reason)
                case Troubled(reason, after):
                    await self.ledger.change(revisions.put_off, ready, now + (after or _PATIENCE), reason)
                    return False
                case None:
                    self.forbidden_until, self.is_told = None, False
        if self.forbidden_until is not None:
            why = "the key lacks the scope signals:delete"
            await self.ledger.change(revisions.put_off, ready, self.forbidden_until, why)
        return self.forbidden_until is None

    def _forbid(self, reason: str) -> None:
        self.forbidden_until = self.clock() + _RARELY
        if not self.is_told:
            log.warning("records that changed or were deleted stay at Zentrik as they are", reason=reason)
        self.is_told = True

    async def _take(self, steps: Sequence[Step], only: Sequence[str] | None) -> None:
        """Take what is due at these steps, one step further each, until none is."""
        others = await self.ledger.ask(revisions.others, self.run)
        if others and (dead := others - await self.ledger.living_runs()):
            await self.ledger.change(revisions.free, dead, self.clock())
        while due := await self.ledger.change(revisions.claim, steps, BATCH, self.run, self.clock(), _LEASE, only):
            for start in range(0, len(due), _TOGETHER):
                came = await asyncio.gather(*map(self._step, due[start : start + _TOGETHER]), return_exceptions=True)
                for error in came:
                    if isinstance(error, BaseException):
                        raise error

    async def _step(self, revision: Revision) -> None:
        if self.clock() > revision.until - _MARGIN:  # somebody else may have it in hand before we are through
            return
        match revision.step:
            case Step.RENAMING:
                await self._rename(revision)
            case Step.DELETING:
                await self._delete(revision)
            case Step.WITHDRAWING:
                await self._withdraw(revision)
            case Step.RESTORING:
                await self._restore(revision)
            case Step.ERASING:
                await self._erase(revision)

    async def _rename(self, revision: Revision) -> None:
        match await self._named(revision, revision.external_id, revision.former_name):
            case Remote():
                await self.ledger.change(revisions.hand_over, revision, self.run, self.clock())
            case Gone():
                await self._drop(revision, f"{revision.former_id} is not at Zentrik any more")
            case Refused(reason):
                log.warning("a changed record is not replaced", external_id=revision.external_id, reason=reason)
                await self._drop(revision, f"Zentrik would not rename {revision.former_id}: {reason}")
            case Blocked() | Troubled() as answer:
                await self._again(revision, answer)

    async def _delete(self, revision: Revision) -> None:
        """Delete the former one, if the new one is there to be seen, and the former one still is ours."""
        new = await self._seen(revision.public_id)
        match new:
            case Remote(external_id=revision.external_id, outcome=Processed()):
                pass
            case Remote():
                await self._again(revision, Troubled(f"{revision.public_id} is not processed, or is called otherwise"))
                return
            case Gone():
                await self._go_on(revision, Step.RESTORING, f"{revision.public_id} is not at Zentrik any more")
                return
            case Troubled():
                await self._again(revision, new)
                return
        match await self._seen(revision.former_id):
            case Remote(external_id=revision.former_name):
                answer = await self.zentrik.delete(revision.former_id or "")
            case Remote(external_id=name):
                await self._complete(revision, f"somebody calls {revision.former_id} {name}: it stays")
                return
            case other:
                answer = other
        match answer:
            case Gone():
                await self._complete(revision, f"{revision.public_id} took the place of {revision.former_id}")
            case _:
                await self._again(revision, answer)

    async def _withdraw(self, revision: Revision) -> None:
        """Delete the new one, which Zentrik could not process, if the former one is still there to take its place."""
        match await self._seen(revision.former_id):
            case Remote():
                answer = await self.zentrik.delete(revision.public_id or "")
            case Gone():
                await self._drop(revision, f"{revision.former_id} is not at Zentrik any more")
                return
            case Troubled() as trouble:
                answer = trouble
        match answer:
            case Gone():
                await self._go_on(revision, Step.RESTORING, "Zentrik could not process it")
            case _:
                await self._again(revision, answer)

    async def _restore(self, revision: Revision) -> None:
        match await self._named(revision, revision.former_name, revision.external_id):
            case Remote():
                edits = self.edits.get(revision.connector, Edits())
                await self.ledger.change(revisions.restore, revision, edits, self.run, self.clock())
            case Gone():
                await self._drop(revision, f"{revision.former_id} is not at Zentrik any more")
            case answer:
                await self._again(revision, answer)

    async def _erase(self, revision: Revision) -> None:
        if await self.ledger.ask(revisions.is_changing, revision.signal_id):
            await self._go_on(revision, Step.ERASING, "it is being replaced", _PATIENCE)
            return
        answer: Gone | Blocked | Refused | Troubled = Gone()
        if revision.public_id is not None and revision.state is not State.DELETED:
            answer = await self.zentrik.delete(revision.public_id)
        match answer:
            case Gone():
                await self.ledger.change(revisions.erase, revision, self.run, self.clock())
            case _:
                await self._again(revision, answer)

    async def _named(self, revision: Revision, before: str, after: str) -> Remote | Gone | Refused | Blocked | Troubled:
        """Have the former signal called `after`, if it is not, and still is called `before`."""
        seen: Remote | Gone | Refused | Blocked | Troubled = await self._seen(revision.former_id)
        match seen:
            case Remote(external_id=name) if name == before:
                seen = await self.zentrik.rename(seen.public_id, after)
            case Remote(external_id=name) if name != after:
                seen = Refused(f"somebody calls it {name}")
        if isinstance(seen, Remote):
            if seen.external_id != after:
                return Troubled(f"{seen.public_id} is called {seen.external_id}, not {after}, although it was renamed")
            self.mirror.note([seen], self.clock())
        return seen

    async def _seen(self, public_id: str | None) -> Remote | Gone | Troubled:
        """A signal as it stands; gone only if that may be believed."""
        seen = await self.zentrik.get(public_id or "")
        if isinstance(seen, Gone):
            return await self.zentrik.doubt() or seen
        return seen

    # What came of a step

    async def _go_on(self, revision: Revision, step: Step, why: str, after: timedelta = timedelta(0)) -> None:
        await self.ledger.change(revisions.advance, revision, step, self.clock() + after, why)

    async def _again(self, revision: Revision, answer: Gone | Refused | Blocked | Troubled | Remote) -> None:
        """The same step, when whatever is in its way may be over."""
        match answer:
            case Blocked(reason):
                self._forbid(reason)
                await self._go_on(revision, revision.step, reason, _RARELY)
            case Refused(reason):
                log.warning("Zentrik refused what a changed record calls for", reason=reason, step=revision.step)
                await self._go_on(revision, revision.step, reason, _RARELY)
            case Troubled(reason, after):
                await self._go_on(revision, revision.step, reason, after or _PATIENCE)
            case _:
                await self._go_on(revision, revision.step, "it is not as it should be", _RARELY)

    async def _complete(self, revision: Revision, detail: str) -> None:
        edits = self.edits.get(revision.connector, Edits())
        await self.ledger.change(revisions.complete, revision, detail, edits, self.clock())
        log.info("replaced", external_id=revision.external_id, public_id=revision.public_id)

    async def _drop(self, revision: Revision, why: str) -> None:
        await self.ledger.change(revisions.drop, revision, why, self.clock())
