"""Rerun: queue rejected signals anew, and have failed ones processed anew by Zentrik, never created a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from syncd.fates import Accepted, Gone, Refused
from syncd.ledger import Ledger, State, report
from syncd.zentrik import Troubled, Zentrik

_TOGETHER = 8  # calls under way at once

_SEARCHABLE = "its answer was lost: `syncd reconcile` looks whether Zentrik has it, and queues it if not"


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
    for state in (State.REJECTED, State.UNKNOWN):
        ids = [row.id for row in rows if row.state is state and not _stays(row)]
        done.queued += await ledger.requeue(ids, state, run, clock())
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
                    done.left.append((row.external_id, "Zentrik no longer has it"))
                case Refused(reason):
                    done.left.append((row.external_id, reason))
                case Troubled(reason):
                    trouble = answer
                    done.left.append((row.external_id, reason))
        done.processing += await ledger.reprocess(jobs, run, clock())


def _stays(row: report.SignalRow) -> str | None:
    """Why a signal is left where it stands, if it is."""
    match row.state:
        case State.REJECTED | State.FAILED:
            return None
        case State.UNKNOWN:
            return _SEARCHABLE if row.due_at else None
        case state:
            return f"it is {state}; only failed, rejected and unknown ones are tried again"
