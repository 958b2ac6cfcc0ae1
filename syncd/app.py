"""The house: builds every part from the configuration, runs them, and closes them in reverse.

`run_once` does one round and ends when every outcome is known; `run` goes on until it is told to stop. Both are the
same three loops: readings fill the ledger, `_deliver` posts what is due, `_follow` asks what became of it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from syncd import __version__, http_client
from syncd.config import Config
from syncd.connector import Source
from syncd.dispatch import Delivery, Dispatched, dispatch
from syncd.errors import NotReady, SyncdError
from syncd.ledger import Database, Ledger, State, report
from syncd.logs import get_logger
from syncd.pacing import Gate, LookSchedule
from syncd.preview import Preview, preview
from syncd.pull import PATIENCE, Pulled, Span, pull
from syncd.reconcile import Reconciled, reconcile
from syncd.records import Json
from syncd.rerun import Rerun, rerun
from syncd.scheduler import Scheduler, Timetable
from syncd.track import Tracked, track
from syncd.zentrik import Zentrik

log = get_logger()

DEFAULT_WAIT = timedelta(minutes=5)
"""How long `run-once` waits for outcomes after the last post."""

_IDLE = timedelta(seconds=30)  # the longest sleep: another process may have queued something meanwhile
_GAP = timedelta(seconds=1)  # between two rounds of looking, so that signals due close together share their calls
_GAP_PER_CALL = timedelta(milliseconds=100)  # the longer, the more calls a round takes


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Figures:
    """What a run did, as it prints and stores it. The parts add up, whatever happened."""

    connectors: dict[str, Pulled] = field(default_factory=dict)
    posted: int = 0
    accepted: int = 0
    signals: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))

    def as_json(self) -> dict[str, Json]:
        """The object that `run-once --json` prints."""
        return {
            "connectors": {
                name: {
                    "fetched": pulled.fetched,
                    "new": pulled.new,
                    "changed": pulled.changed,
                    "unchanged": pulled.unchanged,
                    "skipped": pulled.skipped,
                    "error": {"code": pulled.error[0], "message": pulled.error[1]} if pulled.error else None,
                }
                for name, pulled in self.connectors.items()
            },
            "posted": self.posted,
            "accepted": self.accepted,
            "signals": {str(state): number for state, number in self.signals.items()},
        }

    @property
    def is_clean(self) -> bool:
        """Whether all that was asked for is done: no connector stopped, nothing failed, nothing left unposted."""
        left = (State.FAILED, State.REJECTED, State.QUEUED, State.SENDING, State.UNKNOWN)
        return not any(pulled.error for pulled in self.connectors.values()) and not any(
            self.signals[state] for state in left
        )


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
    looks: LookSchedule = field(default_factory=LookSchedule)
    figures: Figures = field(default_factory=Figures)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)  # there may be something to post
    accepted: asyncio.Event = field(default_factory=asyncio.Event)  # there is an outcome to wait for
    on_change: Callable[[Figures], None] = lambda _: None

    # One round

    async def run_once(self, sources: Sequence[Source], span: Span, wait: timedelta | None, *, only: bool) -> Figures:
        """Read the sources, post what is due, and follow it to its outcomes, or until `wait` is over (None: 5 minutes;
        zero: do not follow).

        `only` keeps to signals of these sources. Raises `DestinationError` and `LedgerError`.
        """
        names = [source.name for source in sources] if only else None
        reading = asyncio.Event()
        posting = asyncio.Event()

        async def read_all() -> None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for source in sources:
                        tasks.create_task(self._read(source, span, waits=True))
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
            await self.ledger.suspect_unfinished(self.clock(), Delivery().look_after)
            async with asyncio.TaskGroup() as tasks:
                for part in (read_all, deliver, follow):
                    tasks.create_task(part())

        try:
            await self._until_stopped(work())
        finally:
            await self._count()
        return self.figures

    # One thing

    async def reconcile_now(self) -> Reconciled:
        """Look at once for every signal whose answer was lost, those of dead runs included. Raises `KeyRefused`."""
        await self.ledger.suspect_unfinished(self.clock())
        return await reconcile(self.ledger, self.zentrik, self.run, self.clock, horizon=timedelta(days=1))

    async def rerun(self, external_ids: Sequence[str], states: Sequence[State], connector: str | None) -> Rerun:
        """Try signals again: those named, those in these states, or both narrowed down. Raises `KeyRefused`."""

        rows = await self.ledger.ask(
            lambda db: list(report.find(db, external_ids=external_ids, states=states, connector=connector))
        )
        done = await rerun(self.ledger, self.zentrik, rows, self.run, self.clock)
        missing = set(external_ids) - {row.external_id for row in rows}
        done.left += [(name, "the ledger knows no such signal") for name in sorted(missing) if not states]
        return done

    # For ever

    async def run_for_ever(self) -> None:
        """The daemon: every connector at its times, until `stop`. Raises `DestinationError` and `LedgerError`."""
        scheduler = Scheduler()
        entries = {name: entry for name, entry in self.config.connectors.items() if entry.enabled}
        reading: set[asyncio.Task[None]] = set()
        failures: asyncio.Queue[Exception] = asyncio.Queue()

        async def start(name: str) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - the scheduler starts it as one
            reading.add(task)
            try:
                pulled = await self._read(entries[name].source, Span(), waits=False)
                if pulled.revisit_at is not None:
                    scheduler.again_at(name, pulled.revisit_at)
            except Exception as error:  # noqa: BLE001 - the scheduler would only log it; it is the engine that failed
                failures.put_nowait(error)
            finally:
                reading.discard(task)

        async def fail() -> None:
            """Ends all the work as soon as a reading fails in a way that is not its source's."""
            raise await failures.get()

        async def work() -> None:
            await self.ledger.suspect_unfinished(self.clock(), Delivery().look_after)
            rows = await self.ledger.ask(report.connector_rows)
            for name, entry in entries.items():
                timetable = Timetable(entry.every, entry.cron, entry.timezone)
                last = rows[name].started_at if name in rows else None
                scheduler.add(name, start, timetable, timetable.next_start(last, self.clock()))
            scheduler.start()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._deliver(None, done=self.stop.is_set, patience=None))
                    tasks.create_task(self._follow(None, done=self.stop, patience=timedelta(0)))
                    tasks.create_task(self._unless_stopped(fail()))
                while reading:
                    await asyncio.wait(reading)
            finally:
                scheduler.stop()

        log.info("started", connectors=len(entries), ledger=self.ledger.database.place, zentrik=self.zentrik.api_base)
        await self._until_stopped(work())
        await self._count()
        log.info("stopped", posted=self.figures.posted, accepted=self.figures.accepted)

    # The loops

    async def _read(self, source: Source, span: Span, *, waits: bool) -> Pulled:
        """Read one source; with `waits`, again when something there is about to be ready."""

        def show(pulled: Pulled) -> None:
            self.figures.connectors[source.name] = replace(_sum(before, pulled), error=pulled.error)
            self.news.set()
            self.on_change(self.figures)

        before = Pulled()
        patient_until = self.clock() + PATIENCE
        while True:
            left = replace(span, limit=None if span.limit is None else span.limit - before.new)
            async with http_client.lend(
                source.connector, clock=self.clock, sleep=asyncio.sleep, draw=self.draw
            ) as http:
                pulled = await pull(
                    source, self.ledger, http, self.run, self.clock, left, stopping=self.stop.is_set, on_page=show
                )
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
            if (span.limit is not None and before.new >= span.limit) or pulled.revisit_at > patient_until:
                return pulled
            await self._sleep_until(pulled.revisit_at, wakes=(self.stop,))

    async def _deliver(
        self, only: Sequence[str] | None, *, done: Callable[[], bool], patience: timedelta | None
    ) -> None:
        """Post what is due and settle what is unknown, until `done` and nothing is left that `patience` reaches.

        `patience` None never gives up on Zentrik; otherwise `NotReady` is raised when it stays unwell.
        """
        delivery = Delivery(self.config.zentrik.concurrency, self.config.zentrik.max_attempts)
        deadline: datetime | None = None
        while not self.stop.is_set():
            self.news.clear()
            last_look = done()
            before = Dispatched(self.figures.posted, self.figures.accepted)

            def show(now_done: Dispatched, before: Dispatched = before) -> None:
                self.figures.posted = before.posted + now_done.posted
                if now_done.accepted:
                    self.accepted.set()
                self.figures.accepted = before.accepted + now_done.accepted
                self.on_change(self.figures)

            sent = await dispatch(
                self.ledger,
                self.zentrik,
                self.gate,
                self.looks,
                self.run,
                self.clock,
                self.draw,
                delivery,
                only=only,
                stopping=self.stop.is_set,
                on_answers=show,
            )
            if sent.posted:
                log.info("posted", posted=sent.posted, accepted=sent.accepted)
            show(sent)
            if patience is not None:
                await self._give_up_on_zentrik()
            if self.gate.opens_in(self.clock()):
                reconciled = Reconciled()
            else:
                reconciled = await reconcile(self.ledger, self.zentrik, self.run, self.clock)
            self.figures.accepted += reconciled.found
            if reconciled.found:
                self.accepted.set()
            if reconciled.trouble:
                self.gate.park(reconciled.trouble.reason, reconciled.trouble.after, self.clock())
            due = await self._next_due((State.QUEUED, State.UNKNOWN), only)
            if due is not None:
                due = max(due, self.clock() + self.gate.opens_in(self.clock()))
            if last_look:
                # Patience is counted from the last success.
                if deadline is None or self.figures.accepted > before.accepted:
                    deadline = self.clock() + (patience or timedelta(0))
                if due is None or due > deadline:
                    return
            await self._sleep_until(due)

    async def _follow(self, only: Sequence[str] | None, *, done: asyncio.Event, patience: timedelta) -> None:
        """Ask for outcomes as they fall due, until `done` and none is open, or `patience` after that."""
        gate = Gate()
        deadline: datetime | None = None
        while True:
            if done.is_set() and deadline is None:
                deadline = self.clock() + patience
            self.accepted.clear()
            horizon = max(_GAP, (self.looks.learned or timedelta(0)) / 4)
            tracked = await track(
                self.ledger, self.zentrik, self.looks, self.run, self.clock, only=only, horizon=horizon
            )
            self._note(tracked, gate)
            due = await self._next_due((State.PROCESSING,), only)
            if self.stop.is_set() or (done.is_set() and due is None):
                return
            if deadline is not None and self.clock() >= deadline:
                return
            if due is None:
                await self._sleep_until(None, wakes=(self.stop, done, self.accepted))
                continue
            gap = max(_GAP, tracked.calls * _GAP_PER_CALL, gate.opens_in(self.clock()))
            wake = max(due, self.clock() + gap)
            if done.is_set():
                await self._sleep_until(min(wake, deadline or wake), wakes=(self.stop,))
            else:
                await self._sleep_until(wake, wakes=(self.stop, done))

    def _note(self, tracked: Tracked, gate: Gate) -> None:
        if tracked.trouble:
            log.info("outcomes cannot be asked for", reason=tracked.trouble.reason)
            gate.park(tracked.trouble.reason, tracked.trouble.after, self.clock())
        elif tracked.asked:
            gate.clear()
        if tracked.settled:
            log.info("outcomes", processed=tracked.processed, failed=tracked.failed)
            self.figures.signals[State.PROCESSED] += tracked.processed
            self.figures.signals[State.FAILED] += tracked.failed
            self.on_change(self.figures)

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

    async def _count(self) -> None:
        self.figures.signals = await self.ledger.ask(report.run_counts, self.run)
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

    async def _unless_stopped(self, work: Awaitable[None]) -> None:
        """Await work that may be dropped at any point: once `stop` is set, it is."""
        working = asyncio.ensure_future(work)
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
        finally:
            working.cancel()
            stopping.cancel()

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
    ledger = Ledger(Database(config.ledger))
    try:
        run = await ledger.start_run(command, utc_now())
        async with Zentrik(
            config.zentrik.api_base,
            key.get_secret_value(),
            concurrency=config.zentrik.concurrency,
            timeout=config.zentrik.timeout,
            user_agent=f"syncd/{__version__}",
        ) as zentrik:
            house = House(config, ledger, zentrik, run, looks=LookSchedule(config.zentrik.poll_interval))
            try:
                yield house
            finally:
                await ledger.clear_away(run, config.retention.bodies, utc_now())
                await ledger.finish_run(run, house.figures.as_json(), utc_now())
    finally:
        ledger.close()


async def preview_all(
    config: Config, sources: Sequence[Source], span: Span, figures: Figures
) -> AsyncIterator[Preview]:
    """Every body that a run of these sources would post now; how the readings went is added to `figures`."""
    ledger = Database.open_existing(config.ledger)
    try:
        for source in sources:
            pulled = figures.connectors[source.name] = Pulled()
            async with (
                http_client.lend(source.connector, clock=utc_now, sleep=asyncio.sleep, draw=random.random) as http,
                aclosing(preview(source, http, ledger, utc_now, span, pulled)) as shown,
            ):
                async for one in shown:
                    yield one
    finally:
        if ledger is not None:
            ledger.close()


def _sum(one: Pulled, other: Pulled) -> Pulled:
    return Pulled(
        one.new + other.new,
        one.changed + other.changed,
        one.unchanged + other.unchanged,
        one.skipped + other.skipped,
        [*one.set_aside, *other.set_aside],
    )


def _to_tell(group: BaseExceptionGroup) -> BaseException:
    """Of the errors that ended the work together, the one to tell: a defect first, else the first that has words."""
    expected, defects = group.split(SyncdError)
    if defects is not None or expected is None:
        return group
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
