"""The learned pace in the ledger, on SQLite and on PostgreSQL: one line of turns for all who post."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.fates import Accepted, Later
from syncd.ledger import Answer, Claimed, Database, Exchanged, Ledger, State, TooFast
from syncd.ledger.tables import signals, tempo
from syncd.ledger.tempo import posts_a_second
from tests.conftest import Clock, rows, signal, source

TOO_MANY = Later("429: too many requests", timedelta(seconds=1), parks=True, too_fast=True)


@pytest.fixture
def other(ledger: Ledger, ledger_url: str) -> Iterator[Ledger]:
    """Another syncd on the same database."""
    opened = Ledger(Database(ledger_url))
    yield opened
    opened.close()


async def queued(ledger: Ledger, clock: Clock, number: int = 400) -> int:
    """A run that has queued so many signals."""
    run = await ledger.start_run("test", clock())
    origin = source()
    await ledger.start_pull(origin, run, clock())
    await ledger.record_page(origin, [signal(each) for each in range(number)], [], {}, run, clock())
    await ledger.finish_pull(origin, run, None, clock())
    return run


def refused(clock: Clock, posted: int = 100, rest: float = 1, took: float = 0.1) -> TooFast:
    """The news that Zentrik let so many through in that time, and then wants a rest."""
    return TooFast(clock(), timedelta(seconds=rest), posted, timedelta(seconds=took))


async def hears(ledger: Ledger, clock: Clock, run: int, news: TooFast | None = None) -> None:
    """Post one signal, and be told that it was one too many."""
    [one] = (await ledger.exchange([], 1, run, clock())).claimed
    answers = [Answer(one, TOO_MANY, clock(), clock())]
    await ledger.exchange(answers, 0, run, clock(), too_fast=news or refused(clock))


async def claims(ledger: Ledger, clock: Clock, run: int, most: int = 10) -> Exchanged:
    return await ledger.exchange([], most, run, clock())


def turns(claimed: list[Claimed]) -> list[float]:
    """When these may be posted, in seconds."""
    assert all(each.not_before is not None for each in claimed)
    return [each.not_before.timestamp() for each in claimed if each.not_before]


async def pace(ledger: Ledger) -> sa.Row[Any] | None:
    return await ledger.ask(lambda db: db.execute(sa.select(tempo)).one_or_none())


async def test_nothing_is_spaced_out_before_the_first_refusal(ledger: Ledger, clock: Clock) -> None:
    """A Zentrik that never minds is posted to as fast as can be."""
    run = await queued(ledger, clock)
    exchanged = await claims(ledger, clock, run, 300)
    assert [each.not_before for each in exchanged.claimed] == [None] * 300
    answers = [Answer(each, Accepted(f"SIGNAL-{each.id}", "job"), clock(), clock()) for each in exchanged.claimed]
    await ledger.exchange(answers, 0, run, clock())
    assert await pace(ledger) is None


async def test_after_it_turns_come_one_after_the_other(ledger: Ledger, clock: Clock) -> None:
    """After a refusal each post has a turn of its own, at the pace that was learned, and none long ahead."""
    run = await queued(ledger, clock)
    await hears(ledger, clock, run)
    clock.move(1)
    exchanged = await claims(ledger, clock, run, 300)
    times = turns(exchanged.claimed)
    gap = 1.1 / 98  # 100 let through in 1.1 seconds, and a little less than that
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([gap] * (len(times) - 1), abs=2e-6)
    assert times[-1] < clock().timestamp() + 0.25
    assert exchanged.turn_at is not None
    assert exchanged.turn_at.timestamp() == pytest.approx(times[-1] + gap, abs=2e-6)
    again = await claims(ledger, clock, run, 300)
    assert (again.claimed, again.turn_at) == ([], exchanged.turn_at)


async def test_two_syncds_stand_in_one_line(ledger: Ledger, other: Ledger, clock: Clock) -> None:
    """However many post to Zentrik, together they keep its pace: no two posts are made within one gap."""
    run = await queued(ledger, clock)
    theirs = await other.start_run("test", clock())
    await hears(ledger, clock, run)
    clock.move(1)
    times: list[float] = []
    for _ in range(10):
        both = await asyncio.gather(claims(ledger, clock, run), claims(other, clock, theirs))
        times += turns([*both[0].claimed, *both[1].claimed])
        clock.move(0.05)
    assert len(times) > 50
    assert min(later - earlier for earlier, later in pairwise(sorted(times))) >= 0.011


async def test_the_share_of_each_counts(ledger: Ledger, other: Ledger, clock: Clock) -> None:
    """Two syncds that post together are let through twice what one of them sees; nobody slows down to half of it."""
    run = await queued(ledger, clock)
    theirs = await other.start_run("test", clock())
    assert len((await claims(other, clock, theirs)).claimed) == 10
    await hears(ledger, clock, run)
    row = await pace(ledger)
    assert row is not None
    assert row.rate == pytest.approx(0.98 * 200 / 1.1)


async def test_who_has_nothing_left_in_hand_counts_too(ledger: Ledger, clock: Clock) -> None:
    """The syncd that tells of the refusal was posting, even if that was the last it had."""
    run = await queued(ledger, clock, 1)
    await hears(ledger, clock, run)
    row = await pace(ledger)
    assert row is not None
    assert row.rate == pytest.approx(0.98 * 100 / 1.1)


async def test_one_refusal_heard_by_two_is_one_piece_of_news(ledger: Ledger, other: Ledger, clock: Clock) -> None:
    """Two syncds that are refused together slow down once; what is refused after the rest is news again."""
    run = await queued(ledger, clock)
    theirs = await other.start_run("test", clock())
    ours_in_hand, in_hand = await claims(ledger, clock, run, 1), await claims(other, clock, theirs, 1)
    await ledger.exchange(
        [Answer(ours_in_hand.claimed[0], TOO_MANY, clock(), clock())], 0, run, clock(), too_fast=refused(clock)
    )
    learned = await pace(ledger)
    assert learned is not None
    clock.move(0.9)
    late = refused(clock)
    await other.exchange([Answer(in_hand.claimed[0], TOO_MANY, clock(), clock())], 0, theirs, clock(), too_fast=late)
    assert await pace(ledger) == learned
    clock.move(0.2)
    await ledger.exchange([], 0, run, clock(), too_fast=refused(clock))
    slower = await pace(ledger)
    assert slower is not None
    assert slower.rate < learned.rate


async def test_posts_let_through_raise_it(ledger: Ledger, clock: Clock) -> None:
    """What Zentrik takes without a word is counted, and the pace rises with it."""
    run = await queued(ledger, clock)
    await hears(ledger, clock, run)
    clock.move(1)
    taken = (await claims(ledger, clock, run, 20)).claimed
    answers = [Answer(each, Accepted(f"SIGNAL-{each.id}", "job"), clock(), clock()) for each in taken]
    await ledger.exchange(answers, 0, run, clock())
    row = await pace(ledger)
    assert row is not None
    assert row.posted == 20


async def test_it_survives_a_restart(ledger: Ledger, ledger_url: str, clock: Clock) -> None:
    """The next run does not begin with a burst that is refused: it knows the pace, and goes on in the same line."""
    run = await queued(ledger, clock)
    await hears(ledger, clock, run)
    clock.move(1)
    last = turns((await claims(ledger, clock, run)).claimed)[-1]
    ledger.close()
    reopened = Ledger(Database(ledger_url))
    run = await reopened.start_run("test", clock())
    first = turns((await claims(reopened, clock, run)).claimed)[0]
    reopened.close()
    assert first == pytest.approx(last + 1.1 / 98, abs=2e-6)


async def test_a_clock_set_back_forgets_it(ledger: Ledger, clock: Clock) -> None:
    """Turns of a time to come would hold all records up until then: posting begins anew instead."""
    run = await queued(ledger, clock)
    await hears(ledger, clock, run)
    await ledger.finish_run(run, {}, clock())
    clock.move(-3600)
    run = await ledger.start_run("test", clock())
    assert await ledger.mend_clock(run, clock(), timedelta(seconds=10)) is not None
    assert await pace(ledger) is None
    exchanged = await claims(ledger, clock, run)
    assert [each.not_before for each in exchanged.claimed] == [None] * 10


async def test_a_turn_nobody_needs_is_left_to_the_next(ledger: Ledger, clock: Clock) -> None:
    """Who asks for turns and has less to post keeps none of the rest: the next record does not wait for them."""
    run = await queued(ledger, clock, 5)
    await hears(ledger, clock, run)
    clock.move(1)
    times = turns((await claims(ledger, clock, run, 300)).claimed)
    assert len(times) == 5
    for _ in range(3):
        assert (await claims(ledger, clock, run, 300)).claimed == []
    row = await pace(ledger)
    assert row is not None
    assert row.next_at.timestamp() == pytest.approx(times[-1] + 1.1 / 98, abs=2e-6)


async def test_a_pace_that_does_not_help_is_given_up(ledger: Ledger, clock: Clock) -> None:
    """Refused as soon at half the pace, syncd posts as fast as can be again, and learns anew from what gets through."""
    run = await queued(ledger, clock)
    await hears(ledger, clock, run)
    for _ in range(2):
        clock.move(2)
        await ledger.exchange([], 0, run, clock(), too_fast=refused(clock))
    row = await pace(ledger)
    assert row is not None
    assert row.rate is None
    clock.move(2)
    assert [each.not_before for each in (await claims(ledger, clock, run)).claimed] == [None] * 10
    await ledger.exchange([], 0, run, clock(), too_fast=refused(clock, posted=2))
    row = await pace(ledger)
    assert row is not None
    assert row.rate == pytest.approx(0.98 * 2 * 1 / 1.1)


async def test_a_pace_beyond_all_measure_harms_nothing(ledger: Ledger, clock: Clock) -> None:
    """After months without a refusal nothing is spaced out any more, and nothing overflows."""
    run = await queued(ledger, clock)
    await hears(ledger, clock, run)
    await ledger.change(lambda db: db.execute(sa.update(tempo).values(posted=2_000_000_000)).rowcount)
    clock.move(1)
    taken = (await claims(ledger, clock, run, 300)).claimed
    times = turns(taken)
    assert len(times) == 300
    assert times[-1] - times[0] < 0.001
    answers = [Answer(each, Accepted(f"SIGNAL-{each.id}", "job"), clock(), clock()) for each in taken]
    for _ in range(2):
        await ledger.exchange(answers * 1, 0, run, clock())
    assert {row.state for row in await rows(ledger)} == {State.PROCESSING, State.QUEUED}


async def test_news_from_two_at_the_same_moment_harms_nobody(ledger: Ledger, other: Ledger, clock: Clock) -> None:
    """Whoever stores the first refusal first, both go on, and there is one pace."""
    run = await queued(ledger, clock)
    theirs = await other.start_run("test", clock())
    for _ in range(20):
        await ledger.change(lambda db: db.execute(sa.delete(tempo)).rowcount)
        await asyncio.gather(
            ledger.exchange([], 0, run, clock(), too_fast=refused(clock)),
            other.exchange([], 0, theirs, clock(), too_fast=refused(clock)),
        )
        row = await pace(ledger)
        assert row is not None
        assert row.slowed_at == clock()


class TestPostsASecond:
    """The pace that an estimate is made with."""

    async def test_it_is_the_fastest_stretch_seen_lately(self, ledger: Ledger, clock: Clock) -> None:
        """Pauses between two runs do not make Zentrik look slow; a handful of posts says nothing."""
        assert await ledger.ask(posts_a_second) is None
        await queued(ledger, clock, 60)
        noon = clock().replace(hour=12, minute=0, second=0)

        def accept(db: sa.Connection, seconds: float, number: int) -> None:
            ids = db.scalars(sa.select(signals.c.id).where(signals.c.accepted_at.is_(None)).limit(number)).all()
            at = noon + timedelta(seconds=seconds)
            db.execute(sa.update(signals).where(signals.c.id.in_(ids)).values(accepted_at=at))

        await ledger.change(accept, 1, 5)
        assert await ledger.ask(posts_a_second) is None
        await ledger.change(accept, 3, 35)
        await ledger.change(accept, 3600, 20)
        assert await ledger.ask(posts_a_second) == 4.0

    async def test_what_was_learned_from_zentrik_goes_before(self, ledger: Ledger, clock: Clock) -> None:
        """Where Zentrik said how fast it lets us post, that is the pace."""
        run = await queued(ledger, clock)
        await hears(ledger, clock, run)
        clock.move(2)
        await hears(ledger, clock, run)
        learned = await ledger.ask(lambda db: db.scalar(sa.select(tempo.c.rate)))
        assert learned is not None
        assert await ledger.ask(posts_a_second) == learned
