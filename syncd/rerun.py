"""Rerun: have failed signals processed anew by Zentrik, never created a second time; by themselves as long as their
budget lasts, and on an operator's word, which also queues rejected ones anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from syncd.fates import Accepted, Failed, Gone, Refused
from syncd.ledger import Ledger, State, Waiting, report
from syncd.logs import get_logger
from syncd.zentrik import Remote, Troubled, Zentrik

log = get_logger()

_TOGETHER = 8  # calls under way at once
_PATIENCE = timedelta(seconds=15)  # with a Zentrik in trouble that names no time

BATCH = 100
"""How many failed signals one round has processed again."""

_NO_TEXT = "its text is no longer kept; a changed record, or a new ledger, is read from its source again"

_SEARCHABLE = "its answer was lost: `syncd reconcile` looks whether Zentrik has it, and queues it if not"


async def rerun_failed(
    ledger: Ledger,
    zentrik: Zentrik,
    run: int,
    clock: Callable[[], datetime],
    *,
    only: Sequence[str] | None = None,
) -> Troubled | None:
    """Have the failed signals whose time has come processed again. Trouble ends the round early. Raises `KeyRefused`.

    Each is looked at first: somebody may have had it processed since, or an earlier try may have gone through after
    all. The try is counted before it is made.
    """
    due = await ledger.claim_reruns(BATCH, clock(), only)
    jobs: dict[int, str | None] = {}
    refused: list[int] = []
    not_asked: list[int] = []
    deleted: list[int] = []
    trouble: Troubled | None = None
    for start in range(0, len(due), _TOGETHER):
        some = due[start : start + _TOGETHER]
        answers = [trouble] * len(some) if trouble else await asyncio.gather(*(_again(zentrik, each) for each in some))
        for waiting, answer in zip(some, answers, strict=True):
            match answer:
                case Accepted(_, job_id):
                    jobs[waiting.id] = job_id
                case Gone():
                    deleted.append(waiting.id)
                case Refused(reason):
                    log.warning("not processed again", external_id=waiting.external_id, reason=reason)
                    refused.append(waiting.id)
                case Troubled():
                    trouble = answer
                    not_asked.append(waiting.id)
    if due:
        await ledger.await_again(jobs, run, clock())
        await ledger.leave_failed(refused)
        await ledger.note_deleted(deleted, run, clock())
        log.info("processed again", asked=len(due), again=len(jobs), deleted=len(deleted))
    if trouble:
        await ledger.postpone_reruns(not_asked, clock() + (trouble.after or _PATIENCE))
    return trouble


async def _again(zentrik: Zentrik, waiting: Waiting) -> Accepted | Gone | Refused | Troubled:
    """Have one processed again, unless it is already."""
    seen = await zentrik.get(waiting.public_id)
    match seen:
        case Remote(outcome=Failed() as failed) if waiting.failed_as in (None, failed.mark):
            return await zentrik.process(waiting.public_id)
        case Remote():
            return Accepted(seen.public_id, seen.job_id)
        case _:
            return seen


@dataclass(slots=True)
class Rerun:
    """What came of it. `left` says of each signal that stayed as it was, why."""

    queued: int = 0
    processing: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)


async def rerun(
    ledger: Ledger, zentrik: Zentrik, rows: Sequence[report.SignalRow], run: int, clock: Callable[[], datetime]
) -> Rerun:
    """Move each of these signals on, as its state allows. Raises `KeyRefused`.

    An unknown one is queued only where nobody can look for it (`reconcile` has left it without a time). When Zentrik
    cannot be asked, those it was not asked about are left too.
    """
    done = Rerun()
    for state in (State.REJECTED, State.UNKNOWN, State.DELETED):
        ids = [row.id for row in rows if row.state is state and not _stays(row)]
        queued = await ledger.requeue(ids, state, run, clock())
        done.queued += len(queued)
        done.left += [(row.external_id, _NO_TEXT) for row in rows if row.id in set(ids) - queued]
    await _process(ledger, zentrik, [row for row in rows if row.state is State.FAILED], run, clock, done)
    done.left += [(row.external_id, why) for row in rows if (why := _stays(row))]
    return done


async def _process(
    ledger: Ledger,
    zentrik: Zentrik,
    failed: Sequence[report.SignalRow],
    run: int,
    clock: Callable[[], datetime],
    done: Rerun,
) -> None:
    """Ask for each to be processed anew, a few at a time, until Zentrik is in trouble."""
    trouble: Troubled | None = None
    for start in range(0, len(failed), _TOGETHER):
        some = failed[start : start + _TOGETHER]
        if trouble:
            done.left += [(row.external_id, trouble.reason) for row in some]
            continue
        answers = await asyncio.gather(*(zentrik.process(row.public_id or "") for row in some))
        jobs: dict[int, str | None] = {}
        for row, answer in zip(some, answers, strict=True):
            match answer:
                case Accepted(_, job_id):
                    jobs[row.id] = job_id
                case Gone():
                    await ledger.note_deleted([row.id], run, clock())
                    done.left.append((row.external_id, "Zentrik no longer has it: it was deleted there"))
                case Refused(reason):
                    done.left.append((row.external_id, reason))
                case Troubled(reason):
                    trouble = answer
                    done.left.append((row.external_id, reason))
        done.processing += await ledger.reprocess(jobs, run, clock())


def _stays(row: report.SignalRow) -> str | None:
    """Why a signal is left where it stands, if it is."""
    match row.state:
        case State.REJECTED | State.FAILED | State.DELETED:
            return None
        case State.UNKNOWN:
            return _SEARCHABLE if row.due_at else None
        case state:
            return f"it is {state}; only failed, rejected, unknown and deleted ones are tried again"
