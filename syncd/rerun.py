"""Rerun: have failed signals processed anew by Zentrik, never created a second time; by themselves as long as their
budget lasts, and on an operator's word, which also queues rejected ones anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from syncd.errors import KeyRefused
from syncd.fates import Accepted, Failed, Gone, Refused
from syncd.ledger import Ledger, State, Waiting, report
from syncd.logs import get_logger
from syncd.zentrik import Remote, Troubled, Zentrik

T = TypeVar("T")

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
    refusal: KeyRefused | None = None
    for start in range(0, len(due), _TOGETHER):
        some = due[start : start + _TOGETHER]
        if trouble or refusal:
            not_asked += (waiting.id for waiting in some)
            continue
        answers = await asyncio.gather(*(_unless_refused(_again(zentrik, each)) for each in some))
        for waiting, answer in zip(some, answers, strict=True):
            match answer:
                case KeyRefused():
                    refusal = answer
                    not_asked.append(waiting.id)
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
    if due:  # stored at once, whatever else happens: these run already
        await ledger.await_again(jobs, run, clock())
        await ledger.leave_failed(refused)
    if deleted and not (trouble or refusal):
        doubt = await _unless_refused(zentrik.doubt())
        trouble, refusal = (None, doubt) if isinstance(doubt, KeyRefused) else (doubt, None)
    if trouble or refusal:
        again_in = trouble.after if trouble and trouble.after else _PATIENCE
        await ledger.postpone_reruns(not_asked + deleted, clock() + again_in)
        deleted = []
    if due:
        await ledger.note_deleted(deleted, run, clock())
        log.info("processed again", asked=len(due), again=len(jobs), deleted=len(deleted))
    if refusal:
        raise refusal
    return trouble


async def _unless_refused(call: Awaitable[T]) -> T | KeyRefused:
    """What a call answers, or that the key was refused: what the calls beside it came to is not to be forgotten."""
    try:
        return await call
    except KeyRefused as refusal:
        return refusal


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
    deleted: list[report.SignalRow] = []
    for start in range(0, len(failed), _TOGETHER):
        some = failed[start : start + _TOGETHER]
        if trouble:
            done.left += [(row.external_id, trouble.reason) for row in some]
            continue
        answers = await asyncio.gather(*(_unless_refused(zentrik.process(row.public_id or "")) for row in some))
        jobs: dict[int, str | None] = {}
        for row, answer in zip(some, answers, strict=True):
            match answer:
                case Accepted(_, job_id):
                    jobs[row.id] = job_id
                case Gone():
                    deleted.append(row)
                case Refused(reason):
                    done.left.append((row.external_id, reason))
                case Troubled(reason):
                    trouble = answer
                    done.left.append((row.external_id, reason))
        done.processing += await ledger.reprocess(jobs, run, clock())
        for refusal in answers:
            if isinstance(refusal, KeyRefused):
                raise refusal
    if deleted:
        trouble = trouble or await zentrik.doubt()
        if not trouble:
            await ledger.note_deleted([row.id for row in deleted], run, clock())
        why = trouble.reason if trouble else "Zentrik no longer has it: it was deleted there"
        done.left += [(row.external_id, why) for row in deleted]


def _stays(row: report.SignalRow) -> str | None:
    """Why a signal is left where it stands, if it is."""
    match row.state:
        case State.REJECTED | State.FAILED | State.DELETED:
            return None
        case State.UNKNOWN:
            return _SEARCHABLE if row.due_at else None
        case state:
            return f"it is {state}; only failed, rejected, unknown and deleted ones are tried again"
