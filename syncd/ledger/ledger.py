"""Every write to the ledger. Each method is one transaction, run on the ledger's own thread and awaited.

What a transaction does stands in `pages` (reading), `posts` (posting) and `outcomes` (following).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from syncd.budgets import Budget
from syncd.connector import Source
from syncd.errors import LedgerError, RateLimited, SourceError
from syncd.ledger import backfills, holds, outcomes, pages, posts, retention, revisions, tempo, tracing
from syncd.ledger.backfills import Backfill, Cut, Slice
from syncd.ledger.database import Database
from syncd.ledger.events import tell
from syncd.ledger.outcomes import Look, Waiting
from syncd.ledger.pages import PageTally
from syncd.ledger.posts import Answer, Claimed, Closed, Exchanged, Lost, Sighting
from syncd.ledger.report import AlertRow
from syncd.ledger.spending import Purse
from syncd.ledger.statements import insert, portions
from syncd.ledger.tables import Lane, State, alerts, bodies, connectors, destination, runs, signals
from syncd.ledger.tempo import TooFast
from syncd.pacing import NackWindow
from syncd.records import Checkpoint, Json, SetAside
from syncd.signals import Signal

P = ParamSpec("P")
T = TypeVar("T")

_DAY = timedelta(days=1)
_RUNS_KEPT = timedelta(days=90)
_DROPPED_AT_ONCE = 2000
_CLOCKS_DIFFER = timedelta(minutes=1)  # between machines that share a ledger; more is a clock that was set back
_DEFAULT_WINDOW = NackWindow()


class AlreadyReading(SourceError):
    """Another run is reading this connector; two would only do the same work."""

    code = "already_reading"


@dataclass(frozen=True, slots=True)
class Leases:
    """How long a run that makes no progress keeps what it has taken: a connector it reads, a signal it posts.

    They matter for a run that is frozen. One that has died keeps nothing: its lock is free (see `presence`).
    """

    pull: timedelta = timedelta(minutes=20)
    post: timedelta = timedelta(minutes=2)


def _write(
    method: Callable[Concatenate[Ledger, sa.Connection, P], T],
) -> Callable[Concatenate[Ledger, P], Coroutine[Any, Any, T]]:
    """Make a method that works on a connection one that runs in a transaction on the ledger's thread."""

    @wraps(method)
    async def transaction(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def work(connection: sa.Connection) -> T:
            return method(self, connection, *args, **kwargs)

        return await self.on_thread(partial(self.database.change, work))

    return transaction


def _read(
    method: Callable[Concatenate[Ledger, sa.Connection, P], T],
) -> Callable[Concatenate[Ledger, P], Coroutine[Any, Any, T]]:
    """The same for a method that only reads: it holds up no other process."""

    @wraps(method)
    async def reading(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.ask(partial(method, self), *args, **kwargs)

    return reading


class Ledger:
    """The books of a running syncd. One thread does all its writing, so only other processes ever wait for a lock."""

    def __init__(self, database: Database, leases: Leases = Leases()) -> None:
        self.database = database
        self.leases = leases
        self._presence = database.presence()
        self._runs: set[int] = set()
        self._claims = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Do blocking work on the ledger's thread, after what it is doing now."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def ask(self, question: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Put a question, such as those of `report`, to the ledger."""

        def run() -> T:
            with self.database.read() as connection:
                return question(connection, *args, **kwargs)

        return await self.on_thread(run)

    async def change(self, change: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a change to the ledger, whole or not at all."""

        def work(connection: sa.Connection) -> T:
            return change(connection, *args, **kwargs)

        return await self.on_thread(partial(self.database.change, work))

    def close(self) -> None:
        """Finish the write under way and close the database."""
        self._thread.shutdown(wait=True)
        self._presence.release()
        self.database.close()

    # Runs

    async def start_run(self, command: str, now: datetime) -> int:
        """Open a run; its number marks every signal it touches. It counts as alive until the ledger is closed."""
        opened = sa.insert(runs).values(command=command, started_at=now).returning(runs.c.id)

        def work() -> int:
            # Not `change`, which may do it twice: the lock is taken once, and before anybody can see the run.
            with self.database.write() as db:
                run: int = db.execute(opened).scalar_one()
                self._presence.hold(run)
            self._runs.add(run)
            return run

        return await self.on_thread(work)

    @_write
    def finish_run(self, db: sa.Connection, run: int, figures: Mapping[str, Json], now: datetime) -> None:
        """Close a run with the figures it printed."""
        db.execute(sa.update(runs).where(runs.c.id == run).values(finished_at=now, figures=figures))

    @_write
    def mend_clock(self, db: sa.Connection, run: int, now: datetime, absent_after: timedelta) -> timedelta | None:
        """When the clock was set back since the last run began, make due now what would wait for the old time.

        By how much it was set back; None when it was not. Waits only pace the work, so cutting one short is safe.
        """
        began = sa.select(sa.func.max(runs.c.started_at, type_=runs.c.started_at.type)).where(runs.c.id != run)
        latest: datetime | None = db.scalar(began)
        if latest is None or latest - now < _CLOCKS_DIFFER:
            return None
        waits = signals.c.state.in_([State.QUEUED, State.UNKNOWN, State.PROCESSING, State.FAILED])
        db.execute(sa.update(signals).where(waits, signals.c.due_at > now).values(due_at=now))
        holds.hasten(db, now)
        late = now + absent_after
        db.execute(sa.update(signals).where(signals.c.absent_from > late).values(absent_from=late))
        lease = now + self.leases.post
        db.execute(
            sa.update(signals).where(signals.c.state == State.SENDING, signals.c.due_at > lease).values(due_at=lease)
        )
        lease = now + self.leases.pull
        db.execute(sa.update(connectors).where(connectors.c.lease_until > lease).values(lease_until=lease))
        backfills.shorten_leases(db, lease)
        db.execute(sa.update(connectors).where(connectors.c.started_at > now).values(started_at=now))
        tempo.forget(db)  # in the order in which `exchange` takes the two
        db.execute(sa.delete(destination))
        return latest - now

    # Backfill

    @_write
    def start_backfill(
        self, db: sa.Connection, source: Source, since: datetime | None, until: datetime | None, cut: Cut, now: datetime
    ) -> Backfill:
        """Begin to read a window of a source, cut into slices, or go on with it; `until` None means until now.

        The live reading of the connector goes on beside it. A window that is finished, or was begun with other
        settings, is begun anew. Raises `RateLimited` while the vendor wants to be left alone.
        """
        changes = _ask_leave(_held_row(db, source), source, now)
        if changes:
            db.execute(sa.update(connectors).where(connectors.c.name == source.name).values(changes))
        return backfills.begin(db, source, since, until, cut, now, self._presence.is_alive)

    @_write
    def take_slice(self, db: sa.Connection, backfill: int, after: int, run: int, now: datetime) -> Slice | None:
        """Take the first slice behind the one numbered `after` that is neither read to its end nor in the hands of a
        run that is alive; None when there is none."""
        return backfills.take(db, backfill, after, run, now, now + self.leases.pull, self._presence.is_alive)

    @_write
    def finish_slice(
        self,
        db: sa.Connection,
        source: Source,
        taken: Slice,
        run: int,
        now: datetime,
        *,
        is_whole: bool,
        rests_until: datetime | None = None,
    ) -> None:
        """Give a slice back, read to its end or not. `rests_until` is when the vendor may be asked again, by the live
        reading too."""
        backfills.give_back(db, taken, run, now, is_whole=is_whole)
        if rests_until is not None:
            db.execute(sa.update(connectors).where(connectors.c.name == source.name).values(rests_until=rests_until))

    # Pull

    @_write
    def start_pull(self, db: sa.Connection, source: Source, run: int, now: datetime) -> Checkpoint:
        """Take a connector for reading, and say where to go on from.

        It stays taken for as long as the run is alive and stores a page before its lease is over. A connector that was
        halted because its records were refused goes on when its settings have changed.

        Raises `AlreadyReading` when another run is at it, and `RateLimited` while its vendor, asked with these very
        settings, wants to be left alone.
        """
        row = _held_row(db, source)
        is_taken = row.run_id not in (None, run) and (row.lease_until is None or row.lease_until > now)
        if is_taken and self._presence.is_alive(row.run_id):
            raise AlreadyReading(f"run {row.run_id} of another syncd is reading {source.name} right now")
        changes = _ask_leave(row, source, now)
        changes |= {"run_id": run, "started_at": now, "lease_until": now + self.leases.pull}
        db.execute(sa.update(connectors).where(connectors.c.name == source.name).values(changes))
        checkpoint: Checkpoint = row.checkpoint
        return checkpoint

    @_write
    def finish_pull(
        self,
        db: sa.Connection,
        source: Source,
        run: int,
        error: tuple[str, str] | None,
        now: datetime,
        *,
        is_whole: bool = True,
        rests_until: datetime | None = None,
    ) -> None:
        """Give a connector back, and note how its reading ended: whole, broken off by us, or with an error (its code
        and message), which may say until when the vendor wants to be left alone."""
        ended: dict[str, object] = {"run_id": None, "finished_at": now, "rests_until": rests_until}
        if error is not None:
            ended |= {"error_code": error[0], "error_message": error[1], "failures": connectors.c.failures + 1}
        elif is_whole:
            ended |= {"succeeded_at": now, "error_code": None, "error_message": None, "failures": 0}
        db.execute(
            sa.update(connectors).where(connectors.c.name == source.name, connectors.c.run_id == run).values(ended)
        )

    @_write
    def pause(self, db: sa.Connection, sources: Iterable[Source], now: datetime | None) -> None:
        """Have connectors not read by themselves from now on, until somebody says so again (`now` None)."""
        for source in sources:
            db.execute(
                insert(db, connectors)
                .values(name=source.name, type=source.type, namespace=source.namespace, checkpoint={}, paused_at=now)
                .on_conflict_do_update(index_elements=[connectors.c.name], set_={"paused_at": now})
            )

    @_write
    def record_page(
        self,
        db: sa.Connection,
        source: Source,
        page: Sequence[Signal],
        aside: Sequence[SetAside],
        checkpoint: Checkpoint | None,
        run: int,
        now: datetime,
        lane: Lane = Lane.NEWS,
        unchanged_at: Sequence[str] = (),
        taken: Slice | None = None,
        number: int | None = None,
        deleted: Sequence[str] = (),
    ) -> PageTally:
        """Store a page: its new signals queued in that lane, its changed ones noted, and the checkpoint after them, all
        or nothing. What was set aside where a good record stands now, or at `unchanged_at`, is forgotten. `number` is
        the page's in its reading, from 1 on.

        A changed record takes the place of one that Zentrik does not have yet (queued or rejected). While nobody knows
        whether it has it (sending or unknown), the new one is kept beside it, and takes its place if it turns out that
        it has not. For any other the change is noted, and acted on as the source's `edits` say; so is that records were
        `deleted` there. `checkpoint` None leaves the stored one alone. The page renews the run's lease; raises
        `AlreadyReading` when another run has taken the reading over since. A page of a `taken` slice moves the
        checkpoint of that slice, and no other.
        """
        tally = pages.store(db, source, page, run, now, lane, number)
        if tally.new or tally.changed:
            tracing.note_reading(db, source.name, run, now)
        revisions.note(db, source, tally.edited, now)
        revisions.unmark(db, [signal.external_id for signal in page])
        revisions.mark(db, source, deleted, now)
        good = [*(signal.place for signal in page if signal.place), *unchanged_at]
        pages.keep_aside(db, source, good, aside, run, now)
        if taken is not None:
            if not backfills.keep(db, taken, checkpoint, run, now + self.leases.pull):
                raise AlreadyReading(f"another syncd has taken over the reading of this part of {source.name}")
            return tally
        kept: dict[str, object] = {"lease_until": now + self.leases.pull}
        if checkpoint is not None:
            kept |= {"checkpoint": checkpoint, "checkpoint_at": now}
        mine = sa.update(connectors).where(connectors.c.name == source.name, connectors.c.run_id == run)
        if db.execute(mine.values(kept)).rowcount != 1:
            raise AlreadyReading(f"another syncd has taken over the reading of {source.name}")
        return tally

    # Dispatch

    @_write
    def exchange(
        self,
        db: sa.Connection,
        answers: Sequence[Answer],
        limit: int,
        run: int,
        now: datetime,
        only: Sequence[str] | None = None,
        window: NackWindow = _DEFAULT_WINDOW,
        *,
        asked: Closed | None = None,
        too_fast: TooFast | None = None,
        unposted: Sequence[Claimed] = (),
        news: int = 0,
        budgets: Mapping[str, Budget] | None = None,
    ) -> Exchanged:
        """Store the verdicts that have come in, and claim up to `limit` due signals, or so many `news`, in one commit.

        A claimed signal is `sending` before anybody opens a socket for it. `only` names the connectors to claim for.
        `unposted` are claimed ones that were not posted after all. `asked` is what Zentrik asked for meanwhile: it
        holds for every syncd on this ledger, and for the next run; so does what is learned where it was `too_fast`.
        `budgets` are those of connectors that have one: what is over them stays queued.
        When nobody can see any more that this run is alive, nothing is claimed; once there is nothing left to store,
        that raises a `LedgerError`.
        """
        syncds = len(posts.posting(db, now)) if too_fast else 0  # we are one of them until our answers are stored
        purse = Purse(db, budgets, now) if budgets else None  # before any signal is locked: all do it in this order
        accepted, halted = posts.settle(db, answers, run, window, purse)
        posts.give_back(db, unposted, run, now, purse)
        if too_fast is not None:
            tempo.slow_down(db, too_fast, max(1, syncds))
        else:
            tempo.count(db, len(answers))
        if asked is not None:
            posts.close(db, asked)
        exchanged = Exchanged([], accepted, halted=halted)
        if limit > 0 or news > 0:
            is_idle = not answers and not unposted
            exchanged = self._claim(db, exchanged, limit, run, now, only, news, purse, is_idle=is_idle)
        return exchanged._replace(warned=purse.put_back(db)) if purse else exchanged

    def _claim(
        self,
        db: sa.Connection,
        exchanged: Exchanged,
        limit: int,
        run: int,
        now: datetime,
        only: Sequence[str] | None,
        news: int,
        purse: Purse | None,
        *,
        is_idle: bool,
    ) -> Exchanged:
        """The second half of an exchange; `is_idle` when the first one had nothing to store."""
        if closed := posts.closed(db, now):
            return exchanged._replace(closed=closed)
        try:
            self._presence.confirm()
        except LedgerError:
            if is_idle:
                raise
            return exchanged
        most = max(limit, news)
        turns = tempo.turns(db, most, now)
        most, at = (most, []) if turns is None else (len(turns.at), turns.at)
        lease, before = self.leases.post, self._claims
        claimed = posts.claim(db, min(limit, most), run, now, only, lease, before, at, min(news, most), purse)
        self._claims += len(claimed)
        if turns is None:
            return exchanged._replace(claimed=claimed)
        tempo.take(db, turns, len(claimed))
        return exchanged._replace(claimed=claimed, turn_at=turns.next_at if len(claimed) == most else None)

    async def suspect_unfinished(
        self, now: datetime, look_after: timedelta = timedelta(0), absent_after: timedelta = timedelta(0)
    ) -> int:
        """Turn the `sending` signals of dead and frozen runs into `unknown` ones: nobody will bring their verdict.

        They are looked for after `look_after`, and can be called absent after `absent_after`: what a dying run sent
        last may still be on its way into Zentrik.
        """

        busy = await self.ask(posts.posting, now)
        others = {run: is_over for run, is_over in busy if run not in self._runs}
        dead = await self.on_thread(
            lambda: [run for run in others if run is not None and not self._presence.is_alive(run)]
        )
        if not dead and None not in others and not any(others.values()):
            return 0
        spans = absent_after, max(absent_after, self.leases.post)
        return await self.change(posts.suspect, dead, self._runs, now, look_after, spans)

    async def confirm_presence(self) -> None:
        """See that others still know us to be alive. Where they do not, and nothing is in our hands that they could
        take for theirs, show it anew; else raise `LedgerError`."""

        def confirm() -> None:
            try:
                self._presence.confirm()
            except LedgerError:
                with self.database.read() as db:
                    if posts.hands_full(db, self._runs):
                        raise
                self._presence.hold_again()

        await self.on_thread(confirm)

    async def living_runs(self) -> set[int]:
        """The runs that are alive at this ledger, in whatever process; ours too."""
        return await self.on_thread(self._presence.alive)

    # Reconcile

    @_read
    def unknowns(self, db: sa.Connection, limit: int, now: datetime) -> list[Lost]:
        """Signals to look for at Zentrik."""
        return posts.lost(db, limit, now)

    @_write
    def settle_unknowns(self, db: sa.Connection, sightings: Sequence[Sighting], run: int | None, now: datetime) -> int:
        """Found at Zentrik: its outcome is awaited from now. Not there: it is queued again. How many were found."""
        return posts.settle_lost(db, sightings, run, now)

    @_write
    def look_again(self, db: sa.Connection, due: Mapping[int, datetime | None], why: str | None = None) -> None:
        """Set when unknown signals are looked for next; None leaves one at rest until an operator decides."""
        posts.look_again(db, due, why)

    # Track

    @_read
    def awaited(
        self, db: sa.Connection, limit: int, now: datetime, only: Sequence[str] | None = None, offset: int = 0
    ) -> list[Waiting]:
        """Signals whose outcome it is time to ask for, longest due first, from the `offset`-th of them on."""
        return outcomes.awaited(db, limit, now, only, offset=offset)

    @_write
    def record_looks(self, db: sa.Connection, looks: Sequence[Look], run: int) -> None:
        """Store what a round of looking showed: outcomes, and when to look again at the rest."""
        outcomes.store_looks(db, looks, run)

    # Rerun

    @_write
    def claim_reruns(
        self, db: sa.Connection, limit: int, now: datetime, only: Sequence[str] | None = None
    ) -> list[Waiting]:
        """Take failed signals whose time to be processed again has come, and count the try."""
        return outcomes.claim_reruns(db, limit, now, only, now + self.leases.post)

    @_write
    def await_again(self, db: sa.Connection, jobs: Mapping[int, str | None], run: int, now: datetime) -> int:
        """Await again the outcome of failed signals that are being processed again, each under its job."""
        return outcomes.await_again(db, jobs, run, now, "processed again", renews=False)

    @_write
    def leave_failed(self, db: sa.Connection, ids: Sequence[int]) -> None:
        """Leave these failed signals to an operator."""
        outcomes.leave_failed(db, ids)

    @_write
    def postpone_reruns(self, db: sa.Connection, ids: Sequence[int], due_at: datetime) -> None:
        """Zentrik could not be asked to process these again: that try does not count, and is made at `due_at`."""
        outcomes.postpone_reruns(db, ids, due_at)

    @_write
    def note_deleted(self, db: sa.Connection, ids: Sequence[int], run: int, now: datetime) -> None:
        """Signals that Zentrik had, and no longer has."""
        outcomes.note_deleted(db, ids, now, run)

    # Operators

    @_write
    def requeue(self, db: sa.Connection, ids: Sequence[int], origin: State, run: int, now: datetime) -> set[int]:
        """Queue signals in that state again on an operator's word, if their text is still kept; the ids of those.

        A connector that was halted because too many of its records were refused goes on.
        """
        moved: list[sa.Row[Any]] = []
        for some in portions(ids):
            moved += db.execute(
                sa.update(signals)
                .where(
                    signals.c.id.in_(some),
                    signals.c.state == origin,
                    signals.c.id.in_(sa.select(bodies.c.signal_id).where(bodies.c.signal_id.in_(some))),
                )
                .values(
                    state=State.QUEUED,
                    failures=0,
                    due_at=now,
                    absent_from=None,
                    last_error=None,
                    public_id=None,
                    job_id=None,
                    insight_ids=None,
                    accepted_at=None,
                    processing_started_at=None,
                    settled_at=None,
                    looks=0,
                    reruns=0,
                    failed_as=None,
                    run_id=run,
                )
                .returning(signals.c.id, signals.c.connector)
            ).all()
        tell(db, [(row.id, now, "retried", "queued by `syncd retry`") for row in moved])
        pages.replace(db, [row.id for row in moved], run, now)
        names = {row.connector for row in moved}
        db.execute(
            sa.update(connectors)
            .where(connectors.c.name.in_(names), connectors.c.halted_at.is_not(None))
            .values(verdicts="", halted_at=None, halted_why=None)
        )
        return {row.id for row in moved}

    @_write
    def reopen(self, db: sa.Connection) -> None:
        """Forget until when Zentrik asked to be left alone: an operator says that it may be tried."""
        db.execute(sa.delete(destination))

    @_write
    def reprocess(self, db: sa.Connection, jobs: Mapping[int, str | None], run: int, now: datetime) -> int:
        """Await again the outcome of failed signals that an operator had processed anew; how many there were."""
        return outcomes.await_again(db, jobs, run, now, "processed again by `syncd retry`", renews=True)

    # Alerts

    @_write
    def note_troubles(self, db: sa.Connection, changes: Mapping[tuple[str, str], AlertRow | None]) -> None:
        """Remember troubles, by kind and connector, as they stand now; None forgets one."""
        for (kind, connector), row in sorted(changes.items(), key=lambda change: change[0]):
            if row is None:
                db.execute(sa.delete(alerts).where(alerts.c.kind == kind, alerts.c.connector == connector))
                continue
            stands = {"since": row.since, "told_at": row.told_at}
            db.execute(
                insert(db, alerts)
                .values(kind=kind, connector=connector, **stands)
                .on_conflict_do_update(index_elements=[alerts.c.kind, alerts.c.connector], set_=stands)
            )

    # Upkeep

    async def clear_away(
        self, run: int, bodies_after: timedelta, now: datetime, settled_after: timedelta | None = None
    ) -> int:
        """Once a day, drop the texts of signals processed longer ago than `bodies_after`, what only people read of
        those settled longer ago than `settled_after`, the oldest runs and finished backfills.

        The signals themselves stay, so nothing is imported again. It is done little by little: nobody waits for it. How
        many texts were dropped.
        """
        if not await self.change(_begin_day, run, now):
            return 0
        total = 0
        while dropped := await self.change(_drop_bodies, now - bodies_after):
            total += dropped
        if settled_after is not None:
            await retention.cut_down(self.change, now, settled_after)
        await self.on_thread(self.database.give_space_back)
        return total


def _held_row(db: sa.Connection, source: Source) -> sa.Row[Any]:
    """The row of a connector, made if there is none, and kept from others while this transaction lasts."""
    about = {"type": source.type, "namespace": source.namespace}
    db.execute(
        insert(db, connectors)
        .values(name=source.name, checkpoint={}, **about)
        .on_conflict_do_update(index_elements=[connectors.c.name], set_=about)
    )
    columns = [connectors.c[name] for name in ("checkpoint", "run_id", "lease_until", "rests_until", "settings")]
    return db.execute(sa.select(*columns).where(connectors.c.name == source.name).with_for_update()).one()


def _ask_leave(row: sa.Row[Any], source: Source, now: datetime) -> dict[str, object]:
    """What changes in a connector's row when it is read with these settings. Raises `RateLimited` while its vendor,
    asked with these very settings, wants to be left alone."""
    settings = backfills.digest(source)
    if settings != row.settings:
        return {"settings": settings, "verdicts": "", "halted_at": None, "halted_why": None, "failures": 0}
    if row.rests_until is not None and row.rests_until > now:
        until = row.rests_until
        raise RateLimited(f"its vendor asked to be left alone until {until.isoformat(timespec='seconds')}", until)
    return {}


def _begin_day(db: sa.Connection, run: int, now: datetime) -> bool:
    """Whether it is a day since somebody cleared away; if so, this run does it now."""
    last = db.scalar(sa.select(sa.func.max(runs.c.cleared_at, type_=runs.c.cleared_at.type)))
    if last is not None and now - last < _DAY:
        return False
    db.execute(sa.delete(runs).where(runs.c.finished_at < now - _RUNS_KEPT))
    backfills.drop_finished(db, now - _RUNS_KEPT)
    db.execute(sa.update(runs).where(runs.c.id == run).values(cleared_at=now))
    return True


def _drop_bodies(db: sa.Connection, before: datetime) -> int:
    """Drop some of the texts of signals processed before then; how many."""
    old = (
        sa.select(bodies.c.signal_id)
        .join(signals, signals.c.id == bodies.c.signal_id)
        .where(signals.c.state == State.PROCESSED, signals.c.settled_at < before)
        .limit(_DROPPED_AT_ONCE)
    )
    return db.execute(sa.delete(bodies).where(bodies.c.signal_id.in_(old))).rowcount
