"""What following signals does to the ledger: outcomes stored, the next look set, failed processing run again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from syncd.fates import Failed, Gone, Outcome, Processed, Unsettled
from syncd.ledger.events import Told, tell
from syncd.ledger.statements import held
from syncd.ledger.tables import State, signals

GONE = "Zentrik no longer has this signal (404): somebody deleted it there"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A signal whose outcome is awaited. `failed_as` marks the processing of it that failed before, if one did."""

    id: int
    external_id: str
    public_id: str
    accepted_at: datetime
    looks: int
    reruns: int = 0
    failed_as: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at an awaited signal showed.

    `due_at` is when to look again if it has not settled, and when to have it processed again if it failed (None: not
    by itself).
    """

    waiting: Waiting
    outcome: Outcome
    at: datetime
    due_at: datetime | None = None


def awaited(
    db: sa.Connection,
    limit: int,
    now: datetime,
    only: Sequence[str] | None,
    state: State = State.PROCESSING,
    offset: int = 0,
) -> list[Waiting]:
    """Signals in that state whose time has come, longest due first, from the `offset`-th of them on."""
    due = sa.select(
        signals.c.id,
        signals.c.external_id,
        signals.c.public_id,
        signals.c.accepted_at,
        signals.c.looks,
        signals.c.reruns,
        signals.c.failed_as,
    ).where(signals.c.state == state, signals.c.due_at <= now)
    if only is not None:
        due = due.where(signals.c.connector.in_(only))
    rows = db.execute(due.order_by(signals.c.due_at, signals.c.id).limit(limit).offset(offset))
    return [Waiting(*row) for row in rows.all()]


def store_looks(db: sa.Connection, looks: Sequence[Look], run: int) -> None:
    """Store outcomes, and when to look again at the rest."""
    awaited_as = _still_awaited(db, [look.waiting.id for look in looks])
    told: list[Told] = []
    settled: list[dict[str, object]] = []
    again: list[dict[str, object]] = []
    for look in looks:
        waiting = look.waiting
        if awaited_as.get(waiting.id) != (waiting.public_id, waiting.accepted_at):
            continue
        error, insights, failed_as, due_at = None, list[str](), None, None
        match look.outcome:
            case Processed(insight_ids, job_id, started_at, ended_at):
                state, insights = State.PROCESSED, list(insight_ids)
                told.append((waiting.id, look.at, state, f"{len(insights)} insight{'s'[: len(insights) != 1]}"))
            case Failed(reason, job_id, started_at, ended_at):
                state, error, failed_as, due_at = State.FAILED, reason, look.outcome.mark, look.due_at
                told.append((waiting.id, look.at, state, reason))
            case Gone():
                job_id = started_at = ended_at = None
                state, error = State.DELETED, GONE
                told.append((waiting.id, look.at, state, GONE))
            case Unsettled():
                again.append({"id_": waiting.id, "due": look.due_at})
                continue
        settled.append(
            {
                "id_": waiting.id,
                "state_": state,
                "insights": insights,
                "error": error,
                "job": job_id,
                "started": started_at,
                "ended": ended_at or look.at,
                "due": due_at,
                "mark": failed_as,
            }
        )
    mine = signals.c.id == sa.bindparam("id_")
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
                due_at=sa.bindparam("due"),
                failed_as=sa.bindparam("mark"),
                looks=signals.c.looks + 1,
                run_id=run,
            ),
            settled,
        )
    if again:
        db.execute(
            sa.update(signals).where(mine).values(due_at=sa.bindparam("due"), looks=signals.c.looks + 1, run_id=run),
            again,
        )
    tell(db, told)


def _still_awaited(db: sa.Connection, ids: Iterable[int]) -> dict[int, tuple[str, datetime]]:
    """As what, and since when, those signals are awaited whose outcome still is; that stays so while this transaction
    lasts. A look begun before a signal was processed anew shows the processing before: it is awaited since then."""
    processing = sa.select(signals.c.id, signals.c.public_id, signals.c.accepted_at).where(
        signals.c.state == State.PROCESSING
    )
    return {row.id: (row.public_id, row.accepted_at) for row in held(db, processing, ids)}


def claim_reruns(
    db: sa.Connection, limit: int, now: datetime, only: Sequence[str] | None, busy_until: datetime
) -> list[Waiting]:
    """Take failed signals whose time to be processed again has come; nobody else does before `busy_until`.

    The try is counted before it is made, so that a syncd that dies with it never makes it for ever.
    """
    due = awaited(db, limit, now, only, State.FAILED)
    if due:
        db.execute(
            sa.update(signals)
            .where(
                signals.c.id == sa.bindparam("id_"),
                signals.c.state == State.FAILED,
                signals.c.reruns == sa.bindparam("before"),
            )
            .values(reruns=signals.c.reruns + 1, due_at=busy_until),
            [{"id_": id_, "before": reruns} for id_, reruns in sorted((each.id, each.reruns) for each in due)],
        )
    return due


def await_again(
    db: sa.Connection, jobs: Mapping[int, str | None], run: int, now: datetime, why: str, *, renews: bool
) -> int:
    """Await the outcome of failed signals anew, each under its new job; how many there were.

    `renews` gives each the whole budget of processing runs once more.
    """
    told: list[Told] = []
    for id_, job_id in sorted(jobs.items()):
        changes: dict[str, object] = {"state": State.PROCESSING, "due_at": now, "looks": 0, "last_error": None}
        changes |= {"accepted_at": now, "settled_at": None, "processing_started_at": None, "run_id": run}
        if job_id is not None:
            changes["job_id"] = job_id
        if renews:
            changes["reruns"] = 0
        moved = db.execute(
            sa.update(signals).where(signals.c.id == id_, signals.c.state == State.FAILED).values(changes)
        )
        if moved.rowcount == 1:
            told.append((id_, now, "retried", f"{why} ({job_id or 'no job named'})"))
    tell(db, told)
    return len(told)


def leave_failed(db: sa.Connection, ids: Sequence[int]) -> None:
    """Leave these failed signals to an operator."""
    for id_ in sorted(ids):
        db.execute(sa.update(signals).where(signals.c.id == id_, signals.c.state == State.FAILED).values(due_at=None))


def postpone_reruns(db: sa.Connection, ids: Sequence[int], due_at: datetime) -> None:
    """Zentrik could not be asked to process these again: that try does not count."""
    for id_ in sorted(ids):
        db.execute(
            sa.update(signals)
            .where(signals.c.id == id_, signals.c.state == State.FAILED, signals.c.reruns > 0)
            .values(due_at=due_at, reruns=signals.c.reruns - 1)
        )


def note_deleted(db: sa.Connection, ids: Sequence[int], now: datetime, run: int | None) -> None:
    """Signals that Zentrik had, and answers with a 404 now."""
    told: list[Told] = []
    for id_ in sorted(ids):
        gone = db.execute(
            sa.update(signals)
            .where(
                signals.c.id == id_,
                signals.c.public_id.is_not(None),
                signals.c.state.not_in([State.DELETED, State.FORGOTTEN]),
            )
            .values(state=State.DELETED, last_error=GONE, due_at=None, settled_at=now, run_id=run)
        )
        if gone.rowcount == 1:
            told.append((id_, now, State.DELETED, GONE))
    tell(db, told)
