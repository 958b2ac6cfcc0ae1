"""Edits and deletions in the ledger: who has a step in hand, and what a late result may do. tests/test_revise.py tells
the whole stories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from syncd.connector import Source
from syncd.edits import Edits
from syncd.ledger import Ledger, State, revisions
from syncd.ledger.revisions import Revision, Step
from tests.conftest import Clock, rows, signal, source

LEASE = timedelta(minutes=5)
NOW_AT_ONCE = Edits(on_change="replace", settle=timedelta(0))


def changing() -> Source:
    return replace(source(), edits=NOW_AT_ONCE)


async def renaming(ledger: Ledger, clock: Clock) -> int:
    """A run with a processed signal that is about to be replaced."""
    run = await ledger.start_run("test", clock())
    for text in ("It is slow.", "It is slow on Mondays."):
        await ledger.start_pull(changing(), run, clock())
        await ledger.record_page(changing(), [signal(1, text)], [], {}, run, clock())
        await ledger.finish_pull(changing(), run, None, clock())
        await ledger.change(lambda db: db.exec_driver_sql("UPDATE signals SET state='processed', public_id='SIGNAL-1'"))
    ready = await ledger.ask(revisions.settled, ["reviews"], clock(), 10)
    await ledger.change(revisions.start_replacing, ready, clock())
    return run


async def claim(ledger: Ledger, clock: Clock, run: int) -> list[Revision]:
    return await ledger.change(revisions.claim, list(Step), 10, run, clock(), LEASE)


async def steps(ledger: Ledger) -> list[Step]:
    [row] = await rows(ledger)
    return [step for step, *_ in await ledger.ask(revisions.under_way, row.id)]


async def test_nobody_else_takes_what_is_in_hand(ledger: Ledger, clock: Clock) -> None:
    """Two syncds on one ledger do not replace the same signal at once; a frozen one is taken over from."""
    run = await renaming(ledger, clock)
    [mine] = await claim(ledger, clock, run)
    assert (mine.former_id, mine.former_name) == ("SIGNAL-1", "listed:reviews:r-1~replaced-1")
    assert await claim(ledger, clock, run + 1) == []
    clock.move(301)
    [theirs] = await claim(ledger, clock, run + 1)
    assert theirs.tries == mine.tries + 1


async def test_what_a_dead_run_had_in_hand_is_free_at_once(ledger: Ledger, clock: Clock) -> None:
    """After a crash nobody waits for the lease to end."""
    run = await renaming(ledger, clock)
    await claim(ledger, clock, run)
    assert await ledger.ask(revisions.others, run + 1) == {run}
    assert await ledger.ask(revisions.others, run) == set()
    await ledger.change(revisions.free, {run}, clock())
    assert len(await claim(ledger, clock, run + 1)) == 1


async def test_a_result_that_comes_too_late_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    """Whoever wakes up after his work passed to another moves neither the step nor the signal."""
    run = await renaming(ledger, clock)
    [stale] = await claim(ledger, clock, run)
    clock.move(301)
    [fresh] = await claim(ledger, clock, run + 1)
    await ledger.change(revisions.advance, stale, Step.RESTORING, clock())
    await ledger.change(revisions.hand_over, stale, run, clock())
    await ledger.change(revisions.drop, stale, "too late", clock())
    assert await steps(ledger) == [Step.RENAMING]
    assert [row.state for row in await rows(ledger)] == [State.PROCESSED]
    await ledger.change(revisions.hand_over, fresh, run + 1, clock())
    assert await steps(ledger) == [Step.POSTING]
    [row] = await rows(ledger)
    assert (row.state, row.public_id) == (State.QUEUED, None)


async def test_one_that_was_posted_again_meanwhile_is_not_put_back(ledger: Ledger, clock: Clock) -> None:
    """An operator who retries a refused text while the old one is coming back decides for the new one."""
    run = await renaming(ledger, clock)
    [taken] = await claim(ledger, clock, run)
    await ledger.change(revisions.hand_over, taken, run, clock())
    await ledger.change(lambda db: db.exec_driver_sql("UPDATE signals SET state = 'rejected'"))
    assert await ledger.ask(revisions.next_outcome, clock(), None) == clock()
    await ledger.change(revisions.judge, None, clock())
    [restoring] = await claim(ledger, clock, run)
    assert restoring.step is Step.RESTORING
    await ledger.change(lambda db: db.exec_driver_sql("UPDATE signals SET state = 'queued'"))
    await ledger.change(revisions.restore, restoring, NOW_AT_ONCE, run, clock())
    assert await steps(ledger) == [Step.POSTING]


async def test_a_ledger_where_nothing_is_under_way_says_so(ledger: Ledger, clock: Clock) -> None:
    """Rounds cost one question as long as no record ever changes."""
    assert await ledger.ask(revisions.is_quiet)
    await renaming(ledger, clock)
    assert not await ledger.ask(revisions.is_quiet)
