"""Every write to the ledger. Each method is one transaction, run on the ledger's own thread and awaited.

Moves of a signal's state name the state (and the attempt) they start from, so an answer that comes too late changes
nothing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial, wraps
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from syncd.connector import Source
from syncd.errors import SourceError
from syncd.fates import (
    Accepted,
    Blocked,
    Failed,
    Gone,
    Later,
    Outcome,
    Processed,
    Refused,
    Unknown,
    Unsettled,
    Verdict,
)
from syncd.ledger.database import Database
from syncd.ledger.tables import State, bodies, connectors, events, runs, set_aside, signals
from syncd.records import Checkpoint, Json, SetAside
from syncd.signals import Signal

P = ParamSpec("P")
T = TypeVar("T")

_DAY = timedelta(days=1)
_RUNS_KEPT = timedelta(days=90)
_IN_LIST = 500  # names in one IN (...): well under every database's limit


class AlreadyReading(SourceError):
    """Another run is reading this connector; two would only do the same work."""

    code = "already_reading"


@dataclass(frozen=True, slots=True)
class PageTally:
    """What a page's records were to the ledger."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """A signal taken for posting. `attempt` numbers this POST: a verdict counts only while it is the latest."""

    id: int
    external_id: str
    connector: str
    attempt: int
    failures: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict on a claimed signal, when it came, and when to go on with it (None: not by time)."""

    claimed: Claimed
    verdict: Verdict
    at: datetime
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A signal whose outcome is awaited."""

    id: int
    external_id: str
    public_id: str
    accepted_at: datetime
    looks: int


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at an awaited signal showed, and when to look again if it has not settled."""

    waiting: Waiting
    outcome: Outcome
    at: datetime
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """What looking for an `unknown` signal found: its publicId and job at Zentrik, or that it is not there."""

    id: int
    attempt: int
    found: Accepted | None
    at: datetime


def _write(
    method: Callable[Concatenate[Ledger, sa.Connection, P], T],
) -> Callable[Concatenate[Ledger, P], Coroutine[Any, Any, T]]:
    """Make a method that works on a connection one that runs in a transaction on the ledger's thread."""

    @wraps(method)
    async def transaction(self: Ledger, /, *args: P.args, **kwargs: P.kwargs) -> T:
        def run() -> T:
            with self.database.write() as connection:
                return method(self, connection, *args, **kwargs)

        return await self.on_thread(run)

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

    def __init__(self, database: Database) -> None:
        self.database = database
        self._presence = database.presence()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")

    async def on_thread(self, work: Callable[[], T]) -> T:
        """Do blocking work on the ledger's thread, after what it is doing now."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def ask(self, question: Callable[Concatenate[sa.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Put one of the questions of `report` to the ledger."""

        def run() -> T:
            with self.database.read() as connection:
                return question(connection, *args, **kwargs)

        return await self.on_thread(run)

    def close(self) -> None:
        """Finish the write under way and close the database."""
        self._thread.shutdown(wait=True)
        self._presence.release()
        self.database.close()

    # Runs

    @_write
    def start_run(self, db: sa.Connection, command: str, now: datetime) -> int:
        """Open a run; its number marks every signal it touches. It counts as alive until the ledger is closed."""
        opened = sa.insert(runs).values(command=command, started_at=now).returning(runs.c.id)
        run: int = db.execute(opened).scalar_one()
        self._presence.hold(run)
        return run

    @_write
    def finish_run(self, db: sa.Connection, run: int, figures: Mapping[str, Json], now: datetime) -> None:
        """Close a run with the figures it printed."""
        db.execute(sa.update(runs).where(runs.c.id == run).values(finished_at=now, figures=figures))

    # Pull

    @_write
    def start_pull(self, db: sa.Connection, source: Source, run: int, now: datetime) -> Checkpoint:
        """Take a connector for reading, and say where to go on from.

        Raises `AlreadyReading` when another run that is alive is at it.
        """
        about = {"type": source.type, "namespace": source.namespace}
        db.execute(
            _insert(db, connectors)
            .values(name=source.name, checkpoint={}, **about)
            .on_conflict_do_update(index_elements=[connectors.c.name], set_=about)
        )
        row = db.execute(
            sa.select(connectors.c.checkpoint, connectors.c.run_id)
            .where(connectors.c.name == source.name)
            .with_for_update()
        ).one()
        if row.run_id not in (None, run) and self._presence.is_alive(row.run_id):
            raise AlreadyReading(f"run {row.run_id} of another syncd is reading {source.name} right now")
        db.execute(sa.update(connectors).where(connectors.c.name == source.name).values(run_id=run, started_at=now))
        checkpoint: Checkpoint = row.checkpoint
        return checkpoint

    @_write
    def finish_pull(
        self, db: sa.Connection, source: Source, run: int, error: tuple[str, str] | None, now: datetime
    ) -> None:
        """Give a connector back, and note how its reading ended; an error is its code and message."""
        code, message = error or (None, None)
        ended: dict[str, object] = {"run_id": None, "finished_at": now, "error_code": code, "error_message": message}
        if error is None:
            ended["succeeded_at"] = now
        db.execute(
            sa.update(connectors).where(connectors.c.name == source.name, connectors.c.run_id == run).values(ended)
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
    ) -> PageTally:
        """Store a page: its new signals queued, its changed ones noted, and the checkpoint after them, all or nothing.

        A changed record takes the place of one that Zentrik does not have yet (queued or rejected); for any other only
        the change is noted. `checkpoint` None leaves the stored one alone.
        """
        tally: Counter[str] = Counter()
        latest: dict[str, Signal] = {}
        for signal in page:
            earlier = latest.get(signal.external_id)
            if earlier is not None:
                tally["unchanged" if earlier.fingerprint == signal.fingerprint else "changed"] += 1
            latest[signal.external_id] = signal

        known = _known(db, latest)
        fresh = [signal for external_id, signal in latest.items() if external_id not in known]
        tally["new"] += _queue(db, source, fresh, run, now)
        for external_id, row in known.items():
            signal = latest[external_id]
            if signal.fingerprint == (row.source_fingerprint or row.fingerprint):
                tally["unchanged"] += 1
                continue
            tally["changed"] += 1
            _note_change(db, row, signal, run, now)
        _keep_aside(db, source, latest.values(), aside, run, now)
        kept = {} if checkpoint is None else {"checkpoint": checkpoint, "checkpoint_at": now}
        mine = db.execute(
            sa.update(connectors)
            .where(connectors.c.name == source.name, connectors.c.run_id == run)
            .values({"run_id": run, **kept})
        )
        if mine.rowcount != 1:
            raise AlreadyReading(f"another syncd has taken over the reading of {source.name}")
        return PageTally(tally["new"], tally["changed"], tally["unchanged"])

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
    ) -> list[Claimed]:
        """Store the verdicts that have come in, and claim up to `limit` due signals, in one commit.

        A claimed signal is `sending` before anybody opens a socket for it. `only` names the connectors to claim for.
        """
        _settle(db, answers)
        return _claim(db, limit, run, now, only) if limit > 0 else []

    @_write
    def suspect_unfinished(self, db: sa.Connection, now: datetime, look_after: timedelta = timedelta(0)) -> int:
        """Turn the `sending` signals of dead runs into `unknown` ones: nobody will bring their verdict any more.

        They are looked for after `look_after`: what a dying run sent last may still be on its way into Zentrik.
        """
        posting = db.scalars(sa.select(signals.c.run_id).where(signals.c.state == State.SENDING).distinct()).all()
        dead = [run for run in posting if not self._presence.is_alive(run)]
        if not dead:
            return 0
        why = "syncd stopped while it was being posted"
        found = db.scalars(
            sa.update(signals)
            .where(signals.c.state == State.SENDING, signals.c.run_id.in_(dead))
            .values(state=State.UNKNOWN, due_at=now + look_after, last_error=why)
            .returning(signals.c.id)
        ).all()
        _tell(db, [(id_, now, State.UNKNOWN, why) for id_ in found])
        return len(found)

    # Reconcile

    @_read
    def unknowns(self, db: sa.Connection, limit: int, now: datetime) -> list[tuple[int, str, int, bytes]]:
        """Signals to look for at Zentrik: id, externalId, latest attempt, and the body that was posted."""
        rows = db.execute(
            sa.select(signals.c.id, signals.c.external_id, signals.c.attempts, bodies.c.body)
            .join(bodies, bodies.c.signal_id == signals.c.id)
            .where(signals.c.state == State.UNKNOWN, signals.c.due_at <= now)
            .order_by(signals.c.due_at, signals.c.id)
            .limit(limit)
        )
        return [(row.id, row.external_id, row.attempts, row.body) for row in rows]

    @_write
    def settle_unknowns(self, db: sa.Connection, sightings: Sequence[Sighting], run: int | None, now: datetime) -> None:
        """Found at Zentrik: its outcome is awaited from now. Not there: it is queued again."""
        moves: list[dict[str, object]] = []
        told: list[tuple[int, datetime, str, str | None]] = []
        for sighting in sightings:
            found = sighting.found
            moves.append(
                {
                    "id_": sighting.id,
                    "attempt": sighting.attempt,
                    "state_": State.PROCESSING if found else State.QUEUED,
                    "public_id_": found.public_id if found else None,
                    "job_id_": found.job_id if found else None,
                    "accepted_at_": sighting.at if found else None,
                }
            )
            told.append(
                (sighting.id, sighting.at, "found", found.public_id)
                if found
                else (sighting.id, sighting.at, "not found", "Zentrik does not have it; queued again")
            )
        if moves:
            db.execute(
                sa.update(signals)
                .where(
                    signals.c.id == sa.bindparam("id_"),
                    signals.c.state == State.UNKNOWN,
                    signals.c.attempts == sa.bindparam("attempt"),
                )
                .values(
                    state=sa.bindparam("state_"),
                    public_id=sa.bindparam("public_id_"),
                    job_id=sa.bindparam("job_id_"),
                    accepted_at=sa.bindparam("accepted_at_"),
                    due_at=now,
                    run_id=run,
                ),
                moves,
            )
            _tell(db, told)

    @_write
    def leave_unknown(self, db: sa.Connection, ids: Sequence[int], why: str) -> None:
        """These cannot be looked for: they rest as they are until an operator decides."""
        db.execute(
            sa.update(signals)
            .where(signals.c.id.in_(ids), signals.c.state == State.UNKNOWN)
            .values(due_at=None, last_error=why)
        )

    # Track

    @_read
    def awaited(self, db: sa.Connection, limit: int, now: datetime, only: Sequence[str] | None = None) -> list[Waiting]:
        """Signals whose outcome it is time to ask for, longest due first."""
        due = sa.select(
            signals.c.id, signals.c.external_id, signals.c.public_id, signals.c.accepted_at, signals.c.looks
        ).where(signals.c.state == State.PROCESSING, signals.c.due_at <= now)
        if only is not None:
            due = due.where(signals.c.connector.in_(only))
        rows = db.execute(due.order_by(signals.c.due_at, signals.c.id).limit(limit))
        return [Waiting(row.id, row.external_id, row.public_id, row.accepted_at, row.looks) for row in rows]

    @_write
    def record_looks(self, db: sa.Connection, looks: Sequence[Look], run: int) -> None:
        """Store what a round of looking showed: outcomes, and when to look again at the rest."""
        settled: list[dict[str, object]] = []
        again: list[dict[str, object]] = []
        told: list[tuple[int, datetime, str, str | None]] = []
        for look in looks:
            row: dict[str, object] = {"id_": look.waiting.id, "public_id_": look.waiting.public_id}
            match look.outcome:
                case Processed(insight_ids, job_id, started_at, ended_at):
                    count = len(insight_ids)
                    told.append((look.waiting.id, look.at, State.PROCESSED, f"{count} insight{'s'[: count != 1]}"))
                    row |= {"state_": State.PROCESSED, "insights": list(insight_ids), "error": None}
                case Failed(reason, job_id, started_at, ended_at):
                    told.append((look.waiting.id, look.at, State.FAILED, reason))
                    row |= {"state_": State.FAILED, "insights": [], "error": reason}
                case Gone():
                    reason, job_id, started_at, ended_at = (
                        "Zentrik no longer has this signal (404)",
                        None,
                        None,
                        None,
                    )
                    told.append((look.waiting.id, look.at, State.FAILED, reason))
                    row |= {"state_": State.FAILED, "insights": [], "error": reason}
                case Unsettled():
                    again.append(row | {"due": look.due_at})
                    continue
            settled.append(row | {"job": job_id, "started": started_at, "ended": ended_at or look.at})
        mine = sa.and_(
            signals.c.id == sa.bindparam("id_"),
            signals.c.state == State.PROCESSING,
            signals.c.public_id == sa.bindparam("public_id_"),
        )
        if settled:
            db.execute(
                sa.update(signals)
                .where(mine)
                .values(
                    state=sa.bindparam("state_"),
                    insight_ids=sa.bindparam("insights", type_=signals.c.insight_ids.type),
                    last_error=sa.bindparam("error"),
                    job_id=sa.func.coalesce(sa.bindparam("job", type_=sa.Text), signals.c.job_id),
                    processing_started_at=sa.bindparam("started"),
                    settled_at=sa.bindparam("ended"),
                    due_at=None,
                    looks=signals.c.looks + 1,
                    run_id=run,
                ),
                settled,
            )
        if again:
            db.execute(
                sa.update(signals)
                .where(mine)
                .values(due_at=sa.bindparam("due"), looks=signals.c.looks + 1, run_id=run),
                again,
            )
        _tell(db, told)

    # Operators

    @_write
    def requeue(self, db: sa.Connection, ids: Sequence[int], origin: State, run: int, now: datetime) -> int:
        """Queue signals in that state (rejected, or unknown on an operator's word) again; how many there were."""
        changes = {"state": State.QUEUED, "failures": 0, "run_id": run}
        return _move_back(db, ids, origin, now, changes, "queued by `syncd retry`")

    @_write
    def reprocess(self, db: sa.Connection, jobs: Mapping[int, str | None], run: int, now: datetime) -> int:
        """Await again the outcome of failed signals that Zentrik was asked to process anew; how many there were."""
        moved = 0
        for id_, job_id in jobs.items():
            changes = {"state": State.PROCESSING, "job_id": job_id, "looks": 0, "accepted_at": now, "run_id": run}
            changes |= {"settled_at": None, "processing_started_at": None}
            moved += _move_back(db, [id_], State.FAILED, now, changes, f"processed again by `syncd retry` ({job_id})")
        return moved

    # Upkeep

    @_write
    def clear_away(self, db: sa.Connection, run: int, bodies_after: timedelta, now: datetime) -> int:
        """Once a day, drop the texts of signals processed longer ago than `bodies_after`, and the oldest runs.

        The signals themselves stay, so nothing is imported again. How many texts were dropped.
        """
        last = db.scalar(sa.select(sa.func.max(runs.c.cleared_at, type_=runs.c.cleared_at.type)))
        if last is not None and now - last < _DAY:
            return 0
        old = sa.select(signals.c.id).where(
            signals.c.state == State.PROCESSED, signals.c.settled_at < now - bodies_after
        )
        dropped = db.execute(sa.delete(bodies).where(bodies.c.signal_id.in_(old))).rowcount
        db.execute(sa.delete(runs).where(runs.c.finished_at < now - _RUNS_KEPT))
        db.execute(sa.update(runs).where(runs.c.id == run).values(cleared_at=now))
        return dropped


def _insert(db: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT with ON CONFLICT, which both databases have in their own dialects."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def _known(db: sa.Connection, external_ids: Iterable[str]) -> dict[str, sa.Row[Any]]:
    found: dict[str, sa.Row[Any]] = {}
    names = iter(external_ids)
    while some := list(islice(names, _IN_LIST)):
        rows = db.execute(
            sa.select(
                signals.c.id,
                signals.c.external_id,
                signals.c.state,
                signals.c.fingerprint,
                signals.c.source_fingerprint,
            ).where(signals.c.external_id.in_(some))
        )
        found |= {row.external_id: row for row in rows}
    return found


def _queue(db: sa.Connection, source: Source, fresh: Sequence[Signal], run: int, now: datetime) -> int:
    if not fresh:
        return 0
    rows = db.execute(
        _insert(db, signals).on_conflict_do_nothing().returning(signals.c.id, signals.c.external_id),
        [
            {
                "external_id": signal.external_id,
                "connector": source.name,
                "state": State.QUEUED,
                "fingerprint": signal.fingerprint,
                "signal_type": signal.signal_type,
                "name": signal.name,
                "occurred_at": signal.occurred_at,
                "source_url": signal.source_url,
                "place": signal.place,
                "first_seen_at": now,
                "due_at": now,
                "attempts": 0,
                "failures": 0,
                "looks": 0,
                "run_id": run,
            }
            for signal in fresh
        ],
    ).all()
    body = {signal.external_id: signal.body for signal in fresh}
    if rows:
        db.execute(sa.insert(bodies), [{"signal_id": row.id, "body": body[row.external_id]} for row in sorted(rows)])
    return len(rows)


def _note_change(db: sa.Connection, row: sa.Row[Any], signal: Signal, run: int, now: datetime) -> None:
    if row.state in (State.QUEUED, State.REJECTED):
        db.execute(
            sa.update(signals)
            .where(signals.c.id == row.id, signals.c.state == row.state)
            .values(
                state=State.QUEUED,
                fingerprint=signal.fingerprint,
                source_fingerprint=None,
                signal_type=signal.signal_type,
                name=signal.name,
                occurred_at=signal.occurred_at,
                source_url=signal.source_url,
                place=signal.place,
                due_at=now,
                failures=0,
                last_error=None,
                run_id=run,
            )
        )
        db.execute(sa.update(bodies).where(bodies.c.signal_id == row.id).values(body=signal.body))
        _tell(db, [(row.id, now, "changed", "the record changed at its source; the new one is queued")])
        return
    back = signal.fingerprint == row.fingerprint
    db.execute(
        sa.update(signals).where(signals.c.id == row.id).values(source_fingerprint=None if back else signal.fingerprint)
    )
    _tell(db, [(row.id, now, "changed", "the record changed at its source; Zentrik keeps the first one")])


def _keep_aside(
    db: sa.Connection,
    source: Source,
    good: Iterable[Signal],
    aside: Sequence[SetAside],
    run: int,
    now: datetime,
) -> None:
    mended = [signal.place for signal in good if signal.place]
    if mended and db.scalar(sa.select(sa.exists().where(set_aside.c.connector == source.name))):
        for start in range(0, len(mended), _IN_LIST):
            some = mended[start : start + _IN_LIST]
            db.execute(sa.delete(set_aside).where(set_aside.c.connector == source.name, set_aside.c.place.in_(some)))
    if aside:
        upsert = _insert(db, set_aside)
        db.execute(
            upsert.on_conflict_do_update(
                index_elements=[set_aside.c.connector, set_aside.c.place],
                set_={name: upsert.excluded[name] for name in ("reason", "seen_at", "run_id")},
            ),
            [
                {
                    "connector": source.name,
                    "place": item.place,
                    "reason": item.reason,
                    "seen_at": now,
                    "run_id": run,
                }
                for item in {item.place: item for item in aside}.values()
            ],
        )


def _settle(db: sa.Connection, answers: Sequence[Answer]) -> None:
    if not answers:
        return
    moves: list[dict[str, object]] = []
    told: list[tuple[int, datetime, str, str | None]] = []
    for answer in answers:
        move: dict[str, object] = {"public": None, "job": None, "accepted": None, "error": None, "failed": 1}
        match answer.verdict:
            case Accepted(public_id, job_id):
                move |= {
                    "state_": State.PROCESSING,
                    "public": public_id,
                    "job": job_id,
                    "accepted": answer.at,
                }
                move["failed"] = -answer.claimed.failures
                event = ("accepted", public_id)
            case Later(reason, _, parks):
                move |= {"state_": State.QUEUED, "error": reason, "failed": int(not parks)}
                event = ("postponed", reason)
            case Refused(reason):
                move |= {"state_": State.REJECTED, "error": reason}
                event = (State.REJECTED, reason)
            case Unknown(cause, _, parks):
                move |= {"state_": State.UNKNOWN, "error": cause, "failed": int(not parks)}
                event = (State.UNKNOWN, cause)
            case Blocked(reason):
                move |= {"state_": State.QUEUED, "error": reason, "failed": 0}
                event = ("blocked", reason)
        moves.append(move | {"id_": answer.claimed.id, "attempt": answer.claimed.attempt, "due": answer.due_at})
        told.append((answer.claimed.id, answer.at, *event))
    db.execute(
        sa.update(signals)
        .where(
            signals.c.id == sa.bindparam("id_"),
            signals.c.state == State.SENDING,
            signals.c.attempts == sa.bindparam("attempt"),
        )
        .values(
            state=sa.bindparam("state_"),
            due_at=sa.bindparam("due"),
            last_error=sa.bindparam("error"),
            public_id=sa.bindparam("public"),
            job_id=sa.bindparam("job"),
            accepted_at=sa.bindparam("accepted"),
            failures=signals.c.failures + sa.bindparam("failed", type_=sa.Integer),
        ),
        moves,
    )
    _tell(db, told)


def _claim(db: sa.Connection, limit: int, run: int, now: datetime, only: Sequence[str] | None) -> list[Claimed]:
    due = sa.select(signals.c.id).where(signals.c.state == State.QUEUED, signals.c.due_at <= now)
    if only is not None:
        due = due.where(signals.c.connector.in_(only))
    due = due.order_by(signals.c.due_at, signals.c.id).limit(limit).with_for_update(skip_locked=True)
    claimed = db.execute(
        sa.update(signals)
        .where(signals.c.id.in_(due))
        .values(state=State.SENDING, attempts=signals.c.attempts + 1, run_id=run)
        .returning(signals.c.id, signals.c.external_id, signals.c.connector, signals.c.attempts, signals.c.failures)
    ).all()
    if not claimed:
        return []
    body = {
        row.signal_id: row.body
        for row in db.execute(sa.select(bodies).where(bodies.c.signal_id.in_([row.id for row in claimed])))
    }
    return [
        Claimed(row.id, row.external_id, row.connector, row.attempts, row.failures, body[row.id])
        for row in sorted(claimed)
    ]


def _move_back(
    db: sa.Connection,
    ids: Sequence[int],
    origin: State,
    now: datetime,
    changes: Mapping[str, object],
    why: str,
) -> int:
    moved: list[int] = []
    for start in range(0, len(ids), _IN_LIST):
        moved += db.scalars(
            sa.update(signals)
            .where(signals.c.id.in_(ids[start : start + _IN_LIST]), signals.c.state == origin)
            .values({**changes, "due_at": now, "last_error": None})
            .returning(signals.c.id)
        ).all()
    _tell(db, [(id_, now, "retried", why) for id_ in moved])
    return len(moved)


def _tell(db: sa.Connection, told: Sequence[tuple[int, datetime, str, str | None]]) -> None:
    if told:
        db.execute(
            sa.insert(events),
            [{"signal_id": id_, "at": at, "event": str(event), "detail": detail} for id_, at, event, detail in told],
        )
