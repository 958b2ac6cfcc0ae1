"""The house: builds every part from the configuration, runs them, and closes them in reverse.

`run_once` does one round and ends when every outcome is known; `run` goes on until it is told to stop. Both are the
same four loops: readings fill the ledger, `_deliver` posts what is due, `_settle` looks for what was lost on the way,
`_follow` asks what became of it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from syncd import __version__, http_client
from syncd.audit import Applied, Audit, apply, audit
from syncd.backfill import backfill
from syncd.config import Config
from syncd.connector import Source
from syncd.directory import Directory, Glanced, Kept
from syncd.dispatch import Delivery, Dispatched, dispatch
from syncd.errors import KeyRefused, NotReady, SyncdError
from syncd.figures import Figures, Moved, halted
from syncd.folders import stirred
from syncd.forget import Certificate, Order, forget
from syncd.late_redaction import redact_unsent
from syncd.ledger import Database, Leases, Ledger, State, holds, report, revisions, spending
from syncd.logs import context, get_logger
from syncd.mirror import Mirror
from syncd.pacing import Gate, LookSchedule, NackWindow, ProcessingBudget
from syncd.preview import Preview, preview
from syncd.pull import PATIENCE, Pulled, Span, pull
from syncd.rebuild import Rebuilt, rebuild
from syncd.reconcile import Reconciled, reconcile
from syncd.release import Releaser
from syncd.rerun import Rerun, rerun, rerun_failed
from syncd.retry import Backoff
from syncd.revise import Reviser
from syncd.scheduler import Scheduler, Timetable, held_until, next_run, spread
from syncd.settings import ConnectorSettings
from syncd.track import Tracked, track
from syncd.waiting import over_budget
from syncd.workspace import Workspace
from syncd.zentrik import Zentrik

T = TypeVar("T")

log = get_logger()

DEFAULT_WAIT = timedelta(minutes=5)
"""How long `run-once` waits for outcomes after the last post."""

_IDLE = timedelta(seconds=30)  # the longest sleep: another process may have queued something meanwhile
_TIDY = timedelta(hours=1)  # between two looks whether the day has come to clear away
_LOOK_AFTER = timedelta(seconds=2)  # how soon a lost answer is looked for, at the latest
_GAP_PER_CALL = timedelta(milliseconds=100)  # the longer, the more calls a round takes
_LONGEST_GAP = timedelta(seconds=2)
_WATCH = timedelta(seconds=5)  # how soon what a dead syncd was posting is looked for
_LEAST_LEASE = timedelta(seconds=10)  # on a signal that is being posted
_TICK = timedelta(seconds=30)  # between two looks whether the clock was set back
_SET_BACK = timedelta(seconds=30)  # by less than this nothing comes too late that matters
_STUCK = timedelta(minutes=10)  # a loop comes round every 30 s; a sweep through a large workspace takes minutes
_REFUSED = timedelta(minutes=1)  # between two looks whether Zentrik takes our key again


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class House:
    """Everything one run of syncd is made of."""

    config: Config
    ledger: Ledger
    zentrik: Zentrik
    run: int
    clock: Callable[[], datetime] = utc_now
    draw: Callable[[], float] = random.random
    gate: Gate = field(default_factory=Gate)
    backoff: Backoff = field(default_factory=Backoff)  # between the tries of one record
    gap: timedelta = timedelta(seconds=1)  # between two rounds of looking: what is due close together shares calls
    looks: LookSchedule = field(default_factory=LookSchedule)
    mirror: Mirror = field(default_factory=Mirror)
    figures: Figures = field(default_factory=Figures)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)  # there may be something to post
    accepted: asyncio.Event = field(default_factory=asyncio.Event)  # there is an outcome to wait for
    lost: asyncio.Event = field(default_factory=asyncio.Event)  # there is a signal to be looked for
    auths: dict[str, http_client.Sorted] = field(default_factory=dict)  # by connector: their tokens outlive a reading
    wanted: set[str] = field(default_factory=set)  # connectors that somebody wants to be read now
    reading: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # what the daemon reads, by connector
    missed: set[str] = field(default_factory=set)  # those of them that have something new since their reading began
    beats: dict[str, datetime] = field(default_factory=dict)  # when each loop came round last
    scheduler: Scheduler = field(default_factory=Scheduler)
    reviser: Reviser = field(init=False)  # of what changes or is deleted at the sources
    endures: bool = False  # whether a refused key is waited out
    is_refused: bool = False  # whether the key was refused last
    on_change: Callable[[Figures], None] = lambda _: None
    directory: Directory = field(init=False)
    releaser: Releaser = field(init=False)  # of what is held until Zentrik has its account

    def __post_init__(self) -> None:
        self.directory = Directory(Workspace(self.zentrik), Kept(self.ledger), self.clock)
        sources = {name: entry.source for name, entry in self.config.connectors.items()}
        self.releaser = Releaser(self.ledger, self.directory, sources, self.run, self.clock)
        edits = {name: entry.edits for name, entry in self.config.connectors.items()}
        self.reviser = Reviser(self.ledger, self.zentrik, self.run, self.clock, edits, self.mirror)

    # One round

    async def run_once(
        self, sources: Sequence[Source], span: Span, wait: timedelta | None, *, only: bool, allow_deletes: bool = False
    ) -> Figures:
        """Read the sources, post what is due, and follow it to its outcomes, or until `wait` is over (None: 5 minutes;
        zero: do not follow).

        `only` keeps to signals of these sources, and reads those that are paused as well. `allow_deletes` has what was
        deleted at these sources deleted at Zentrik, however much it is. Raises `DestinationError` and
        `LedgerError`.
        """
        names = [source.name for source in sources] if only else None
        self.reviser.allowed = [source.name for source in sources] if allow_deletes else ()
        reading = asyncio.Event()
        posting = asyncio.Event()

        async def read_all() -> None:
            try:
                rows = {} if only else await self.ledger.ask(report.connector_rows)
                paused = {name for name, row in rows.items() if row.paused_at is not None}
                async with asyncio.TaskGroup() as tasks:
                    for source in (each for each in sources if each.name not in paused):
                        tasks.create_task(self._unless_stopped(self._read(source, span, waits=True)))
            finally:
                reading.set()
                self.news.set()

        async def deliver() -> None:
            await self._deliver(names, done=reading.is_set, patience=wait or DEFAULT_WAIT)
            posting.set()
            self.news.set()

        async def follow() -> None:
            if wait != timedelta(0):
                await self._follow(names, done=posting, patience=DEFAULT_WAIT if wait is None else wait)

        async def work() -> None:
            await self._unless_stopped(self.zentrik.wait_until_ready(self.config.zentrik.ready_timeout))
            await self._begin()
            async with asyncio.TaskGroup() as tasks:
                for part in (read_all(), deliver(), self._settle(posting), follow()):
                    tasks.create_task(part)

        try:
            await self._until_stopped(work())
        finally:
            await self._count()
        return self.figures

    # One thing

    async def reconcile_now(self) -> Reconciled:
        """Look at once for every signal whose answer was lost, those of dead runs included, until the fate of each is
        certain. Raises `KeyRefused`."""
        await self._suspect()
        total = Reconciled()
        while True:
            done = await self._reconcile(horizon=timedelta(days=1))
            total.found += done.found
            total.requeued += done.requeued
            total.unsearchable += done.unsearchable
            total.trouble = done.trouble
            due = await self._next_due((State.UNKNOWN,), None)
            if done.trouble or due is None:
                return total
            await self._sleep_until(due, wakes=(self.stop,))

    async def rerun(self, external_ids: Sequence[str], states: Sequence[State], connector: str | None) -> Rerun:
        """Try signals again: those named, those in these states, or both narrowed down. Raises `KeyRefused`."""

        await self.ledger.reopen()
        rows = await self.ledger.ask(
            lambda db: list(report.find(db, external_ids=external_ids, states=states, connector=connector))
        )
        done = await rerun(self.ledger, self.zentrik, rows, self.run, self.clock)
        missing = set(external_ids) - {row.external_id for row in rows}
        done.left += [(name, "the ledger knows no such signal") for name in sorted(missing) if not states]
        return done

    async def forget(self, order: Order) -> Certificate:
        """Erase what the order names, here and at Zentrik. What Zentrik does not let us delete is told, not raised."""
        return await forget(self.ledger, self.zentrik, order, self.run, self.clock, self.reconcile_now)

    async def rebuild(self) -> Rebuilt:
        """Enter in the ledger whatever Zentrik has. Raises `LedgerInUse` and `DestinationError`."""
        await self.zentrik.wait_until_ready(self.config.zentrik.ready_timeout)
        return await rebuild(self.ledger, self.zentrik, self._namespaces(), self.run, self.clock)

    async def audit(self, *, applies: bool) -> tuple[Audit, Applied | None]:
        """Compare the ledger with Zentrik, and make good what differs if it `applies`. Raises `DestinationError`."""
        await self.zentrik.wait_until_ready(self.config.zentrik.ready_timeout)
        found = await audit(self.ledger, self.zentrik, self._namespaces(), self.clock)
        if not applies or found.trouble:
            return found, None
        return found, await apply(found, self.ledger, self.zentrik, self.run, self.clock)

    def _namespaces(self) -> dict[str, str]:
        """Which connector each namespace belongs to; no two share one."""
        return {entry.namespace: name for name, entry in self.config.connectors.items()}

    # For ever

    async def run_for_ever(self) -> None:
        """The daemon: every connector at its times, until `stop`. A Zentrik that is away, or refuses the key, is waited
        for.

        Raises `LedgerError`.
        """
        self.endures = True
        scheduler = self.scheduler
        entries = {name: entry for name, entry in self.config.connectors.items() if entry.enabled}
        failures: asyncio.Queue[Exception] = asyncio.Queue()

        async def start(name: str) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - the scheduler starts it as one
            self.reading[name] = task
            self.missed.discard(name)
            try:
                if not await self._may_start(entries[name]):
                    return
                pulled = await self._unless_stopped(self._read(entries[name].source, Span(), waits=False))
                if pulled is not None and pulled.revisit_at is not None:
                    scheduler.again_at(name, pulled.revisit_at)
            except Exception as error:  # noqa: BLE001 - the scheduler would only log it; it is the engine that failed
                failures.put_nowait(error)
            finally:
                del self.reading[name]
                if name in self.missed:
                    self._start_soon(name)

        async def fail() -> None:
            """Ends all the work as soon as a reading fails in a way that is not its source's."""
            raise await failures.get()

        async def work() -> None:
            await self._begin()
            rows, now = await self.ledger.ask(report.connector_rows), self.clock()
            timetables = {name: Timetable.of(entry) for name, entry in entries.items()}
            first = {
                name: timetable.next_start(rows[name].started_at if name in rows else None, now)
                for name, timetable in timetables.items()
            }
            later = spread(name for name, moment in first.items() if moment <= now)
            for name, timetable in timetables.items():
                scheduler.add(name, start, timetable, first[name] + later.get(name, timedelta(0)))
            scheduler.start()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._deliver(None, done=self.stop.is_set, patience=None))
                    tasks.create_task(self._settle(self.stop))
                    tasks.create_task(self._follow(None, done=self.stop, patience=timedelta(0)))
                    tasks.create_task(self._unless_stopped(self._keep_tidy()))
                    tasks.create_task(self._unless_stopped(self._watch_folders(entries.values())))
                    tasks.create_task(self._unless_stopped(self._keep_time(entries)))
                    tasks.create_task(self._unless_stopped(fail()))
                while self.reading:
                    await asyncio.wait(self.reading.values())
            finally:
                scheduler.stop()

        log.info("started", connectors=len(entries), ledger=self.ledger.database.place, zentrik=self.zentrik.api_base)
        await self._until_stopped(work())
        await self._count()
        log.info("stopped", posted=self.figures.posted, accepted=self.figures.accepted)

    async def _watch_folders(self, entries: Iterable[ConnectorSettings]) -> None:
        """Read a connector as soon as something happens in a folder of its own."""
        folders = {entry.name: paths for entry in entries if (paths := entry.connector.watched())}
        if folders:
            async with aclosing(stirred(folders)) as changes:
                async for names in changes:
                    for name in names:
                        self._start_soon(name)

    def _start_soon(self, name: str) -> None:
        """Have the daemon read a connector; if it is being read, again after that: what is new may lie behind it."""
        if name in self.reading:
            self.missed.add(name)
        else:
            self.scheduler.again_at(name, self.clock())

    async def _keep_time(self, entries: Mapping[str, ConnectorSettings]) -> None:
        """Plan anew when the clock is set back: what was planned by the old time would come too late."""
        while True:
            wall, steady = self.clock(), time.monotonic()
            await asyncio.sleep(_TICK.total_seconds())
            expected = wall + timedelta(seconds=time.monotonic() - steady)
            if expected - self.clock() > _SET_BACK:
                await self._begin()
                rows = await self.ledger.ask(report.connector_rows)
                for name, entry in entries.items():
                    if moment := next_run(entry, rows.get(name), self.clock()):
                        self.scheduler.again_at(name, moment)

    def start_now(self, name: str) -> None:
        """Have the daemon read a connector at once, if it is not being read. One that is paused is not; one that is
        tried more rarely because it keeps failing is, for somebody asks for it."""
        self.wanted.add(name)
        self._start_soon(name)

    def stuck(self) -> list[str]:
        """The loops that did not come round for so long that something holds them up, though the process lives."""
        now = self.clock()
        return sorted(name for name, at in self.beats.items() if abs(now - at) > _STUCK)

    def _beat(self, loop: str) -> None:
        self.beats[loop] = self.clock()

    async def _may_start(self, entry: ConnectorSettings) -> bool:
        """Whether a connector whose time has come is read: nobody paused it, and nothing is to be waited for."""
        row = (await self.ledger.ask(report.connector_rows)).get(entry.name)
        if row is not None and row.paused_at is not None:
            log.debug("paused", connector=entry.name)
            return False
        is_wanted = entry.name in self.wanted
        self.wanted.discard(entry.name)
        until = held_until(entry, row)
        if until is not None and until > self.clock() and not is_wanted:
            log.debug("not read yet", connector=entry.name, until=until.isoformat(timespec="seconds"))
            return False
        return True

    # The loops

    async def _read(self, source: Source, span: Span, *, waits: bool) -> Pulled:
        """Read one source; with `waits`, again when something there is about to be ready."""

        def show(pulled: Pulled) -> None:
            self.figures.connectors[source.name] = before + pulled
            self.news.set()
            self.on_change(self.figures)

        before = self.figures.connectors.get(source.name, Pulled())
        taken = 0
        patient_until = self.clock() + PATIENCE
        while True:
            left = replace(span, limit=None if span.limit is None else span.limit - taken)
            async with http_client.lend(
                source.connector,
                clock=self.clock,
                sleep=asyncio.sleep,
                draw=self.draw,
                allow_http=source.allow_http,
                auth=self.auths.setdefault(source.name, http_client.Sorted(source.connector)),
            ) as http:
                with context(connector=source.name):
                    pulled = await (backfill if span.is_look_back else pull)(
                        source,
                        self.ledger,
                        http,
                        self.run,
                        self.clock,
                        left,
                        directory=self.directory,
                        stopping=self.stop.is_set,
                        on_page=show,
                    )
            taken += pulled.new
            show(pulled)
            tell = log.info if pulled.fetched else log.debug
            tell(
                "read",
                connector=source.name,
                new=pulled.new,
                changed=pulled.changed,
                unchanged=pulled.unchanged,
                skipped=pulled.skipped,
            )
            if not waits or pulled.revisit_at is None or pulled.error or self.stop.is_set():
                return pulled
            before = self.figures.connectors[source.name]
            again_at = max(pulled.revisit_at, self.clock() + self.gap)
            if (span.limit is not None and taken >= span.limit) or again_at > patient_until:
                return pulled
            await self._sleep_until(again_at, wakes=(self.stop,))

    async def _deliver(
        self, only: Sequence[str] | None, *, done: Callable[[], bool], patience: timedelta | None
    ) -> None:
        """Post what is due, until `done` and nothing is left to post, to look for, or in another syncd's hands that
        `patience` reaches.

        `patience` None never gives up on Zentrik; otherwise `NotReady` is raised when it stays unwell.
        """
        deadline: datetime | None = None
        while not self.stop.is_set():
            self._beat("posting")
            self.news.clear()
            last_look = done()
            accepted_before = self.figures.accepted
            await self._revise(self.releaser.release, only)
            await self._revise(self.reviser.begin, only)
            await self._post_due(only)
            if patience is not None:
                await self._give_up_on_zentrik()
            queued, elsewhere = await self.ledger.ask(spending.undelivered, only, self.config.budgets, self.clock())
            revised = await self.ledger.ask(revisions.next_due, self.clock(), self.reviser.acting, only)
            queued = min((due for due in (queued, revised) if due), default=None)
            if queued is not None:
                queued = max(queued, self.clock() + self.gate.opens_in(self.clock()))
            if last_look:
                # Patience is counted from the last success.
                if deadline is None or self.figures.accepted > accepted_before:
                    deadline = self.clock() + (patience or timedelta(0))
                if all(due is None or max(due, self.clock()) >= deadline for due in (queued, elsewhere)):
                    return
            held = None if patience is not None else await self.ledger.ask(holds.next_due)
            await self._sleep_until(min((each for each in (queued, deadline, held) if each), default=None))

    async def _post_due(self, only: Sequence[str] | None) -> None:
        """One round of posting."""
        shown = Dispatched()

        def show(now_done: Dispatched) -> None:
            nonlocal shown
            self._beat("posting")
            self.figures.posted += now_done.posted - shown.posted
            self.figures.accepted += now_done.accepted - shown.accepted
            shown = replace(now_done)
            if now_done.accepted:
                self.accepted.set()
            if now_done.lost:
                self.lost.set()
            self.on_change(self.figures)

        try:
            if self.is_refused and not self.gate.opens_in(self.clock()):
                await self.zentrik.list(limit=1)  # a key is tried with a question, not with a record
                self.is_refused = False
            sent = await dispatch(
                self.ledger,
                self.zentrik,
                self.gate,
                self.looks,
                self.run,
                self.clock,
                self.draw,
                self._delivery,
                only=only,
                stopping=self.stop.is_set,
                on_answers=show,
            )
        except KeyRefused as error:
            self._endure(error)
            return
        show(sent)
        if sent.posted:
            log.info("posted", posted=sent.posted, accepted=sent.accepted)

    async def _settle(self, done: asyncio.Event) -> None:
        """Look for the signals whose answer was lost, those of a syncd that died beside us included, until `done`."""
        others: set[str] = set()
        while not (done.is_set() or self.stop.is_set()):
            self._beat("looking for lost answers")
            self.lost.clear()
            await self.ledger.confirm_presence()
            await self._suspect()
            if not self.gate.opens_in(self.clock()):
                try:
                    await self._unless(self._reconcile(), self.stop, done)
                except KeyRefused as error:
                    self._endure(error)
            before, others = others, await self.ledger.ask(report.posted_beside, self.run)
            if before - others:  # another syncd is through with something: whoever waits for it looks again
                self.news.set()
            due = await self._next_due((State.UNKNOWN,), None)
            soon = self.clock() + (self.gap if others else _WATCH)
            if due is not None:
                due = max(due, self.clock() + self.gate.opens_in(self.clock()))
            await self._sleep_until(min(due or soon, soon), wakes=(done, self.stop, self.lost))

    async def _reconcile(self, horizon: timedelta = timedelta(0)) -> Reconciled:
        """One round of looking for what was lost."""
        reconciled = await reconcile(
            self.ledger, self.zentrik, self.run, self.clock, mirror=self.mirror, horizon=horizon, pause=_sleep
        )
        self.figures.accepted += reconciled.found
        if reconciled.found:
            self.accepted.set()
        if reconciled.trouble:
            self.gate.park(reconciled.trouble.reason, reconciled.trouble.after, self.clock(), suspects=True)
        if reconciled.found or reconciled.requeued:
            self.news.set()
            self.on_change(self.figures)
        return reconciled

    async def _follow(self, only: Sequence[str] | None, *, done: asyncio.Event, patience: timedelta) -> None:
        """Ask for outcomes as they fall due and have failed processing run again, until `done` and none is open, or
        `patience` after that."""
        gate = Gate()
        deadline: datetime | None = None
        while True:
            self._beat("following outcomes")
            if done.is_set() and deadline is None:
                deadline = self.clock() + patience
            is_last = deadline is not None and self.clock() >= deadline
            self.accepted.clear()
            calls = 0
            if not gate.opens_in(self.clock()):
                try:  # the last look also takes in what would have had its turn before long
                    calls = await self._look_for_outcomes(only, gate, patience if is_last else timedelta(0))
                except KeyRefused as error:
                    self._endure(error)
                    gate.park(str(error), _REFUSED, self.clock())
            await self._revise(self.reviser.finish, only)
            due = await self._next_due((State.PROCESSING, State.FAILED), only)
            revised = await self.ledger.ask(revisions.next_outcome, self.clock(), only)
            due = min((each for each in (due, revised) if each), default=None)
            if self.stop.is_set() or (done.is_set() and due is None):
                return
            if is_last or (deadline is not None and due is not None and due > deadline + patience):
                return
            if due is None:
                await self._sleep_until(None, wakes=(self.stop, done, self.accepted))
                continue
            gap = max(self.gap, min(calls * _GAP_PER_CALL, _LONGEST_GAP), gate.opens_in(self.clock()))
            wake = max(due, self.clock() + gap)
            if deadline is None:
                await self._sleep_until(wake, wakes=(self.stop, done))
            else:
                await self._sleep_until(min(wake, deadline), wakes=(self.stop,))

    async def _revise(
        self, part: Callable[[Sequence[str] | None], Awaitable[None]], only: Sequence[str] | None
    ) -> None:
        """One round of what was held for an account, changed or was deleted at the sources; while Zentrik is not well,
        none."""
        if not self.gate.opens_in(self.clock()):
            try:
                await self._unless_stopped(part(only))
            except KeyRefused as error:
                self._endure(error)

    async def _look_for_outcomes(self, only: Sequence[str] | None, gate: Gate, horizon: timedelta) -> int:
        """One round of asking for what is due within `horizon`; how many calls it took."""
        horizon = max(horizon, self.gap, (self.looks.learned or timedelta(0)) / 4)
        tracked = await track(
            self.ledger,
            self.zentrik,
            self.looks,
            self.run,
            self.clock,
            self.draw,
            ProcessingBudget(self.config.zentrik.process_attempts),
            only=only,
            horizon=horizon,
            mirror=self.mirror,
        )
        self._note(tracked, gate)
        if tracked.trouble is None:
            trouble = await rerun_failed(self.ledger, self.zentrik, self.run, self.clock, only=only)
            if trouble:
                gate.park(trouble.reason, trouble.after, self.clock())
        return tracked.calls

    def _note(self, tracked: Tracked, gate: Gate) -> None:
        if tracked.trouble:
            log.info("outcomes cannot be asked for", reason=tracked.trouble.reason)
            gate.park(tracked.trouble.reason, tracked.trouble.after, self.clock())
        elif tracked.asked:
            gate.clear()
        if tracked.overdue:
            log.warning(
                "still being processed at Zentrik, long overdue; asked about less often", signals=tracked.overdue
            )
        if tracked.settled:
            log.info("outcomes", processed=tracked.processed, failed=tracked.failed, deleted=tracked.deleted)
            self.figures.signals[State.PROCESSED] += tracked.processed
            self.figures.signals[State.FAILED] += tracked.failed
            self.on_change(self.figures)

    def _endure(self, error: KeyRefused) -> None:
        """The daemon outlives a refused key: every record is kept, and the key is tried again every minute. Whoever
        asked for one round is told at once."""
        if not self.endures:
            raise error
        if not self.is_refused:
            log.error("posting is stopped", reason=str(error), trying_again_every=str(_REFUSED))
        self.is_refused = True
        self.gate.park(str(error), _REFUSED, self.clock(), suspects=True)

    async def _give_up_on_zentrik(self) -> None:
        """Raise `NotReady` when Zentrik has taken nothing for `ready_timeout`, and says of itself that it is not well.

        One that only asks for patience, or fails in some records, is given it.
        """
        since, limit = self.gate.unwell_since, self.config.zentrik.ready_timeout
        if since is None or self.clock() - since < limit:
            return
        trouble = await self.zentrik.ready()
        if trouble is not None:
            unwell = f"{(self.clock() - since).total_seconds():.0f} s"
            raise NotReady(
                f"Zentrik at {self.zentrik.api_base} has not been well for {unwell}: {trouble.reason}. "
                "Every record is kept; the next run goes on from here."
            )
        self.gate.unwell_since = self.clock()

    # Beside the loops

    async def _next_due(self, states: Sequence[State], only: Sequence[str] | None) -> datetime | None:
        return await self.ledger.ask(report.next_due, states, only)

    @property
    def _delivery(self) -> Delivery:
        zentrik = self.config.zentrik
        window = NackWindow(zentrik.nack_window.refused, zentrik.nack_window.of)
        return Delivery(
            zentrik.concurrency,
            zentrik.max_attempts,
            self.backoff,
            look_after=min(_LOOK_AFTER, zentrik.absent_after),
            absent_after=zentrik.absent_after,
            window=window,
            budgets=self.config.budgets,
        )

    async def _begin(self) -> None:
        """Before anything else: what the last syncd left behind, a clock that was set back meanwhile, and bodies that
        have to be redacted since."""
        set_back = await self.ledger.mend_clock(self.run, self.clock(), self.config.zentrik.absent_after)
        if set_back is not None:
            log.warning("the clock was set back; nothing waits for the old time", by=str(set_back))
        await self._suspect()
        await redact_unsent(self.ledger, (each.source for each in self.config.connectors.values()), self.clock)

    async def _keep_tidy(self) -> None:
        """Clear away what is no longer to be kept, as the days go by."""
        while True:
            kept = self.config.retention
            await self.ledger.clear_away(self.run, kept.bodies, self.clock(), kept.settled)
            await asyncio.sleep(_TIDY.total_seconds())

    async def _suspect(self) -> None:
        delivery = self._delivery
        count = await self.ledger.suspect_unfinished(self.clock(), delivery.look_after, delivery.absent_after)
        if count:
            log.info("looking for what a syncd that stopped was posting", signals=count)

    async def _count(self) -> None:
        self.figures.close(await self.ledger.ask(report.run_counts, self.run))
        self.figures.redacted = await self.ledger.ask(report.redacted, self.run)
        self.figures.left = await self.ledger.ask(report.left_by_others, self.run, list(self.figures.connectors))
        for name, why in (await self.ledger.ask(report.halts)).items():
            pulled = self.figures.connectors.get(name)
            if pulled is not None and pulled.error is None:
                pulled.error = ("refused_too_often", halted(name, why))
        spent = await self.ledger.ask(spending.waits, self.config.budgets, self.clock())
        self.figures.waits = {name: over_budget(name, *wait) for name, wait in spent.items()}
        for sum_ in self.figures.imbalances():
            log.error("the figures of this run do not add up; please report it", sum=sum_)
        self.on_change(self.figures)

    async def _sleep_until(self, moment: datetime | None, wakes: Sequence[asyncio.Event] | None = None) -> None:
        """Sleep until then (30 s when None), or until one of `wakes` is set (by default: news, or the stop)."""
        wait = _IDLE if moment is None else min(moment - self.clock(), _IDLE)
        if wait <= timedelta(0):
            await asyncio.sleep(0)
            return
        waits = [asyncio.create_task(event.wait()) for event in (wakes or (self.news, self.stop))]
        try:
            await asyncio.wait(waits, timeout=wait.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def _unless_stopped(self, work: Awaitable[T]) -> T | None:
        """Await work that may be dropped at any point: once `stop` is set, it is."""
        return await self._unless(work, self.stop)

    async def _unless(self, work: Awaitable[T], *events: asyncio.Event) -> T | None:
        """Await work that is dropped as soon as one of the events is set."""
        working = asyncio.ensure_future(work)
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait({working, *waiting}, return_when=asyncio.FIRST_COMPLETED)
            return await working if working.done() else None
        finally:
            working.cancel()
            for task in waiting:
                task.cancel()
            await asyncio.wait({working})

    async def _until_stopped(self, work: Awaitable[None]) -> None:
        """Await the work. Once `stop` is set it has `shutdown_timeout` to finish what is under way; then it is cut off,
        which loses nothing either: what was being posted is looked for at the next start."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await asyncio.wait({working}, timeout=self.config.shutdown_timeout.total_seconds())
                if not working.done():
                    log.warning("cut off what was still under way", after=str(self.config.shutdown_timeout))
                    working.cancel()
            with suppress(asyncio.CancelledError):
                await working
        except BaseExceptionGroup as group:
            raise _to_tell(group) from None
        finally:
            stopping.cancel()


@asynccontextmanager
async def open_house(config: Config, command: str) -> AsyncIterator[House]:
    """Open the ledger and the way to Zentrik, note the run, and close everything in reverse.

    Raises `ConfigError` without a key, and `LedgerUnusable`.
    """
    key = config.zentrik.require_key()
    ledger = Ledger(Database(config.ledger), Leases(config.lease, max(_LEAST_LEASE, config.zentrik.timeout * 2)))
    try:
        run = await ledger.start_run(command, utc_now())
        client = Zentrik(
            config.zentrik.api_base,
            key.get_secret_value(),
            concurrency=config.zentrik.concurrency,
            timeout=config.zentrik.timeout,
            user_agent=f"syncd/{__version__}",
        )
        with context(run=run):  # on every line of the log
            async with client as zentrik:
                looks = LookSchedule(config.zentrik.poll_interval, overdue=config.zentrik.overdue_after)
                house = House(config, ledger, zentrik, run, looks=looks)
                try:
                    yield house
                finally:
                    kept = config.retention
                    await ledger.clear_away(run, kept.bodies, utc_now(), kept.settled)
                    await ledger.finish_run(run, house.figures.as_json(), utc_now())
    finally:
        ledger.close()


async def preview_all(
    config: Config, sources: Sequence[Source], span: Span, figures: Figures
) -> AsyncIterator[Preview]:
    """Every body that a run of these sources would post now; how the readings went is added to `figures`."""
    ledger = Database.open_existing(config.ledger)
    looks_up = any(source.mapping.account or source.mapping.products for source in sources)
    key = config.zentrik.require_key().get_secret_value() if looks_up else ""
    zentrik = Zentrik(
        config.zentrik.api_base, key, timeout=config.zentrik.timeout, user_agent=f"syncd/{__version__}"
    )  # opens no connection unless something is looked up
    directory = Directory(Workspace(zentrik), Glanced(ledger), utc_now, creates=False)
    try:
        for source in sources:
            pulled = figures.connectors[source.name] = Pulled()
            async with (
                http_client.lend(
                    source.connector,
                    clock=utc_now,
                    sleep=asyncio.sleep,
                    draw=random.random,
                    allow_http=source.allow_http,
                ) as http,
                aclosing(preview(source, http, ledger, utc_now, span, pulled, directory=directory)) as shown,
            ):
                async for one in shown:
                    for kind, number in one.redacted.items():
                        figures.redacted[kind] = figures.redacted.get(kind, 0) + number
                    yield one
        figures.passed_on = Moved(figures.new, 0)  # what a run would queue is queued by none
    finally:
        await zentrik.__aexit__(None, None, None)
        if ledger is not None:
            ledger.close()


async def _sleep(wait: timedelta) -> None:
    await asyncio.sleep(wait.total_seconds())


def _to_tell(group: BaseExceptionGroup) -> BaseException:
    """Of the errors that ended the work together, the one to tell: a defect first, else the first that has words."""
    expected, defects = group.split(SyncdError)
    if defects is not None or expected is None:
        return group
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
