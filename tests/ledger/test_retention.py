"""Retention: what has long settled is cut down to what keeps it from being sent again, and nothing else is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from syncd.fates import Accepted, Processed
from syncd.ledger import Answer, Ledger, Look, State, report
from syncd.ledger import retention as keeping
from syncd.signals import Signal, compose
from tests.conftest import Clock, record, rows, source

YEAR = timedelta(days=400)


def written(number: int) -> Signal:
    """A signal with a name and a link."""
    return compose(record(number, title="Slow", url="https://example.com/r"), source())


async def settled(ledger: Ledger, clock: Clock, *numbers: int) -> int:
    """These were posted and processed; the run that did it."""
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(source(), run, clock())
    await ledger.record_page(source(), [written(number) for number in numbers], [], {}, run, clock())
    claimed = (await ledger.exchange([], len(numbers), run, clock())).claimed
    answers = [Answer(each, Accepted(f"SIGNAL-{each.id}", "job-1"), clock(), clock()) for each in claimed]
    await ledger.exchange(answers, 0, run, clock())
    looks = [Look(each, Processed(("i-1",), ended_at=clock()), clock()) for each in await ledger.awaited(99, clock())]
    await ledger.record_looks(looks, run)
    return run


async def test_what_settled_long_ago_is_cut_down_and_not_sent_again(ledger: Ledger, clock: Clock) -> None:
    """Names, links and history go after their time; the record is known as it was, and so are its insights."""
    run = await settled(ledger, clock, 1)
    await ledger.clear_away(run, timedelta(0), clock(), YEAR)
    [row] = await rows(ledger)
    assert (row.name, len(await ledger.ask(report.history, row))) == ("Slow", 3)
    clock.move(YEAR.total_seconds() + 1)
    await ledger.clear_away(run, timedelta(0), clock(), YEAR)
    [row] = await rows(ledger)
    assert (row.state, row.public_id, row.insight_ids) == (State.PROCESSED, f"SIGNAL-{row.id}", ("i-1",))
    assert (row.name, row.source_url, row.job_id) == (None, None, None)
    assert [each.event for each in await ledger.ask(report.history, row)] == ["queued"]
    await ledger.start_pull(source(), run, clock())
    assert (await ledger.record_page(source(), [written(1)], [], {}, run, clock())).unchanged == 1


async def test_by_default_everything_is_kept(ledger: Ledger, clock: Clock) -> None:
    """Nothing is cut down unless the operator says so."""
    run = await settled(ledger, clock, 1)
    clock.move(10 * YEAR.total_seconds())
    await ledger.clear_away(run, timedelta(0), clock())
    assert [row.name for row in await rows(ledger)] == ["Slow"]


async def test_what_waits_for_somebody_is_kept_whole(ledger: Ledger, clock: Clock) -> None:
    """A signal that has not settled, or that an operator may look into, loses nothing, however old it is."""
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(source(), run, clock())
    await ledger.record_page(source(), [written(1)], [], {}, run, clock())
    clock.move(10 * YEAR.total_seconds())
    await ledger.clear_away(run, timedelta(0), clock(), YEAR)
    assert [row.name for row in await rows(ledger)] == ["Slow"]


async def test_it_is_done_a_stretch_at_a_time(ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of millions is gone through without anybody waiting long, each signal once."""
    monkeypatch.setattr(keeping, "_AT_ONCE", 2)
    await settled(ledger, clock, 1, 2, 3, 4, 5)
    clock.move(YEAR.total_seconds() + 1)
    assert await keeping.cut_down(ledger.change, clock(), YEAR) == 5
    assert await keeping.cut_down(ledger.change, clock(), YEAR) == 0
