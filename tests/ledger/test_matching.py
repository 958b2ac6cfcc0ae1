"""Matching: what Zentrik has is entered and taken over, and what has moved on since is left alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.fates import Accepted, Failed, Gone, Outcome, Processed, Refused, Unknown, Unsettled, Verdict
from syncd.ledger import Answer, Ledger, Look, PageTally, State, matching, report
from syncd.ledger.matching import Entry, Find, Here, There
from syncd.ledger.outcomes import GONE
from syncd.ledger.tables import bodies, remembered, signals
from tests.conftest import Clock, rows, signal, source

NAME = "listed:reviews:r-1"
THEN = datetime(2026, 10, 1, 8, 0, tzinfo=UTC)
UNSETTLED = Unsettled()
PROCESSED = Processed(("i-1", "i-2"), "job-1", THEN, THEN + timedelta(seconds=2))
FAILED = Failed("It is empty.", "job-1", THEN, THEN + timedelta(seconds=2))


def find(number: int = 1, outcome: Outcome = PROCESSED, connector: str | None = "reviews") -> Find:
    """What Zentrik has under the name of the record with that number."""
    return Find(f"listed:reviews:r-{number}", There(f"SIGNAL-{number}", f"job-{number}", outcome), connector)


async def run_of(ledger: Ledger, clock: Clock) -> int:
    """A run that is reading its source."""
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(source(), run, clock())
    return run


async def read(ledger: Ledger, clock: Clock, run: int, *numbers: int, text: str = "Fine.") -> PageTally:
    """The source shows the records with these numbers."""
    page = [signal(number, text) for number in numbers]
    return await ledger.record_page(source(), page, [], {"page": 1}, run, clock())


async def posted(ledger: Ledger, clock: Clock, verdict: Verdict, outcome: Outcome = UNSETTLED) -> int:
    """A run that has posted one record with that verdict, and followed it to that outcome."""
    run = await run_of(ledger, clock)
    await read(ledger, clock, run, 1)
    [taken] = (await ledger.exchange([], 1, run, clock())).claimed
    await ledger.exchange([Answer(taken, verdict, clock(), clock())], 0, run, clock())
    if not isinstance(outcome, Unsettled):
        [waiting] = await ledger.awaited(1, clock())
        await ledger.record_looks([Look(waiting, outcome, clock())], run)
    return run


async def enter(ledger: Ledger, clock: Clock, run: int, *finds: Find) -> list[Entry]:
    """Enter these; what became of each."""
    entries = await ledger.change(matching.enter, finds, run, clock())
    return [entries[each.external_id] for each in finds]


async def here(ledger: Ledger) -> Here:
    """The one signal of the ledger."""
    [row] = await ledger.ask(lambda db: list(matching.every_row(db)))
    return row


async def columns(ledger: Ledger, *names: str) -> tuple[Any, ...]:
    """Columns of the one signal of the ledger."""
    return tuple(await ledger.ask(lambda db: db.execute(sa.select(*(signals.c[name] for name in names))).one()))


async def told(ledger: Ledger) -> list[str]:
    """The history of the one signal, as the names of its events."""
    [row] = await rows(ledger)
    return [event.event for event in await ledger.ask(report.history, row)]


class TestEntering:
    @pytest.mark.parametrize(
        ("outcome", "state"),
        [(PROCESSED, State.PROCESSED), (FAILED, State.FAILED), (Unsettled(), State.PROCESSING)],
    )
    async def test_what_is_not_known_becomes_a_row(
        self, ledger: Ledger, clock: Clock, outcome: Outcome, state: State
    ) -> None:
        """A signal that only Zentrik knows of stands in the ledger as it stands there, and can tell how it came in."""
        assert await enter(ledger, clock, 1, find(outcome=outcome)) == [Entry.ENTERED]
        [row] = await rows(ledger)
        assert (row.state, row.connector, row.public_id, row.job_id) == (state, "reviews", "SIGNAL-1", "job-1")
        assert row.insight_ids == (("i-1", "i-2") if state is State.PROCESSED else ())
        assert row.last_error == ("It is empty." if state is State.FAILED else None)
        assert row.settled_at == (None if state is State.PROCESSING else THEN + timedelta(seconds=2))
        assert row.due_at == (clock() if state is State.PROCESSING else None)
        assert await told(ledger) == ["queued", "found"]
        unseen = await columns(ledger, "fingerprint", "attempts", "run_id", "first_run", "accepted_run")
        assert unseen == (b"", 0, None, None, None)
        assert await ledger.ask(lambda db: db.scalar(sa.select(sa.func.count()).select_from(bodies))) == 0

    async def test_one_still_processing_is_followed_like_any_other(self, ledger: Ledger, clock: Clock) -> None:
        """The outcome of a signal that came in by a rebuild is awaited and stored."""
        await enter(ledger, clock, 1, find(outcome=Unsettled()))
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, PROCESSED, clock())], 1)
        assert (await here(ledger)).state is State.PROCESSED

    async def test_the_record_is_recognised_when_its_source_shows_it(self, ledger: Ledger, clock: Clock) -> None:
        """What was entered is never queued; from its first showing on a change of it is noted."""
        await enter(ledger, clock, 1, find())
        run = await run_of(ledger, clock)
        assert await read(ledger, clock, run, 1) == PageTally(unchanged=1)
        assert await read(ledger, clock, run, 1) == PageTally(unchanged=1)
        assert await read(ledger, clock, run, 1, text="Not fine.") == PageTally(changed=1)
        assert (await ledger.exchange([], 10, run, clock())).claimed == []

    async def test_what_no_connector_claims_is_remembered(self, ledger: Ledger, clock: Clock) -> None:
        """A record that carries its own externalId is taken as delivered when it turns up, and only that one."""
        assert await enter(ledger, clock, 1, find(1, connector=None)) == [Entry.REMEMBERED]
        assert await rows(ledger) == []
        run = await run_of(ledger, clock)
        assert await read(ledger, clock, run, 1, 2) == PageTally(new=1, unchanged=1)
        first, second = sorted(await rows(ledger), key=lambda row: row.external_id)
        assert (first.state, first.public_id, second.state) == (State.PROCESSING, "SIGNAL-1", State.QUEUED)
        assert [each.public_id for each in await ledger.awaited(10, clock())] == ["SIGNAL-1"]

    async def test_entering_twice_changes_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """A rebuild can be run again, by chance or after a half-lost ledger."""
        finds = (find(1), find(2, Unsettled()), find(3, connector=None))
        assert await enter(ledger, clock, 1, *finds) == [Entry.ENTERED, Entry.ENTERED, Entry.REMEMBERED]
        before = await rows(ledger)
        clock.move(60)
        assert await enter(ledger, clock, 2, *finds) == [Entry.KNOWN, Entry.KNOWN, Entry.REMEMBERED]
        assert await rows(ledger) == before

    @pytest.mark.parametrize(
        ("verdict", "outcome"),
        [
            (Accepted("SIGNAL-7", "job-7"), Unsettled()),
            (Accepted("SIGNAL-7", "job-7"), PROCESSED),
            (Accepted("SIGNAL-7", "job-7"), FAILED),
            (Accepted("SIGNAL-7", "job-7"), Gone()),
        ],
    )
    async def test_what_the_ledger_knows_is_left_alone(
        self, ledger: Ledger, clock: Clock, verdict: Verdict, outcome: Outcome
    ) -> None:
        """The ledger knows better than a list: its rows that Zentrik once took stay as they are."""
        await posted(ledger, clock, verdict, outcome)
        before = await rows(ledger)
        assert await enter(ledger, clock, 2, find()) == [Entry.KNOWN]
        assert await rows(ledger) == before

    @pytest.mark.parametrize("verdict", [None, Unknown("reset"), Refused("No text.")])
    @pytest.mark.parametrize("connector", ["reviews", None])
    async def test_what_stood_as_not_delivered_is_accepted(
        self, ledger: Ledger, clock: Clock, verdict: Verdict | None, connector: str | None
    ) -> None:
        """Queued, unknown or rejected here, and at Zentrik all the same: it will not be posted, and says why."""
        if verdict:
            run = await posted(ledger, clock, verdict)
        else:
            run = await run_of(ledger, clock)
            await read(ledger, clock, run, 1)
        assert await enter(ledger, clock, run, find(connector=connector)) == [Entry.ACCEPTED]
        [row] = await rows(ledger)
        assert (row.state, row.public_id, row.insight_ids) == (State.PROCESSED, "SIGNAL-1", ("i-1", "i-2"))
        assert (row.last_error, row.due_at) == (None, None)
        assert (await told(ledger))[-1] == "found"
        assert (await ledger.exchange([], 10, run, clock())).claimed == []
        assert await ledger.unknowns(10, clock()) == []

    async def test_one_being_posted_is_left_to_its_verdict(self, ledger: Ledger, clock: Clock) -> None:
        """A POST that is under way ends as it would have."""
        run = await run_of(ledger, clock)
        await read(ledger, clock, run, 1)
        [taken] = (await ledger.exchange([], 1, run, clock())).claimed
        assert await enter(ledger, clock, run, find()) == [Entry.KNOWN]
        await ledger.exchange([Answer(taken, Accepted("SIGNAL-2"), clock())], 0, run, clock())
        assert (await here(ledger)).public_id == "SIGNAL-2"

    async def test_a_name_that_is_claimed_by_now_is_remembered_no_more(self, ledger: Ledger, clock: Clock) -> None:
        """After a connector was added to the configuration a second rebuild enters what the first only remembered."""
        await enter(ledger, clock, 1, find(connector=None))
        assert await enter(ledger, clock, 1, find()) == [Entry.ENTERED]
        assert await ledger.ask(lambda db: db.execute(sa.select(remembered)).all()) == []

    async def test_what_zentrik_shows_no_more_is_forgotten(self, ledger: Ledger, clock: Clock) -> None:
        """A record is taken as delivered only while Zentrik has its signal."""
        await enter(ledger, clock, 1, find(1, connector=None), find(2, connector=None))
        clock.move(60)
        await enter(ledger, clock, 1, find(2, FAILED, connector=None))
        assert await ledger.change(matching.forget_unseen, clock()) == 1
        [left] = await ledger.ask(lambda db: db.execute(sa.select(remembered)).all())
        assert (left.external_id, left.state) == ("listed:reviews:r-2", State.FAILED)

    async def test_a_batch_may_be_larger_than_one_question(self, ledger: Ledger, clock: Clock) -> None:
        """Thousands are entered in one transaction, each once."""
        finds = [find(number, connector="reviews" if number % 2 else None) for number in range(1200)]
        assert (await enter(ledger, clock, 1, *finds)).count(Entry.ENTERED) == 600
        assert (await enter(ledger, clock, 1, *finds)).count(Entry.KNOWN) == 600
        assert len(await ledger.ask(matching.find_rows, [each.external_id for each in finds])) == 600


class TestTakingOver:
    @pytest.mark.parametrize(
        ("there", "state"),
        [
            (There("SIGNAL-1", "job-1", PROCESSED), State.PROCESSED),
            (There("SIGNAL-2", "job-2", FAILED), State.FAILED),
            (There("SIGNAL-1", None, Unsettled()), State.PROCESSING),
        ],
    )
    @pytest.mark.parametrize("outcome", [PROCESSED, FAILED, Gone()])
    async def test_a_row_becomes_what_zentrik_says(
        self, ledger: Ledger, clock: Clock, outcome: Outcome, there: There, state: State
    ) -> None:
        """State, publicId, job and insights are Zentrik's afterwards, and the history tells of it."""
        run = await posted(ledger, clock, Accepted("SIGNAL-1", "job-1"), outcome)
        row = await here(ledger)
        clock.move(60)
        assert await ledger.change(matching.take_over, [(row, there)], run, clock()) == {NAME}
        now = await here(ledger)
        assert (now.state, now.public_id, now.job_id) == (state, there.public_id, there.job_id or row.job_id)
        assert now.insight_ids == (PROCESSED.insight_ids if state is State.PROCESSED else ())
        assert (await told(ledger))[-1] == "taken over"
        assert len(await ledger.awaited(10, clock())) == (state is State.PROCESSING)

    async def test_when_it_was_accepted_is_kept(self, ledger: Ledger, clock: Clock) -> None:
        """What the ledger knows of the same signal and Zentrik does not say, stays."""
        run = await posted(ledger, clock, Accepted("SIGNAL-1", "job-1"), FAILED)
        began = clock()
        clock.move(60)
        await ledger.change(matching.take_over, [(await here(ledger), There("SIGNAL-1", "j", PROCESSED))], run, clock())
        assert await columns(ledger, "accepted_at", "accepted_run", "first_run") == (began, run, run)

    @pytest.mark.parametrize(
        "stale",
        [{"state": State.QUEUED}, {"public_id": None}, {"public_id": "SIGNAL-9"}, {"job_id": None}, {"attempts": 0}],
    )
    async def test_one_that_moved_on_since_is_left_alone(
        self, ledger: Ledger, clock: Clock, stale: dict[str, Any]
    ) -> None:
        """Neither taken over nor marked deleted by news that was overtaken, and nothing is told of it."""
        run = await posted(ledger, clock, Accepted("SIGNAL-1", "job-1"), PROCESSED)
        before, history = await rows(ledger), await told(ledger)
        was = replace(await here(ledger), **stale)
        there = There("SIGNAL-1", "job-1", FAILED)
        assert await ledger.change(matching.take_over, [(was, there)], run, clock()) == set()
        assert await ledger.change(matching.mark_deleted, [was], run, clock()) == set()
        assert (await rows(ledger), await told(ledger)) == (before, history)


class TestLooking:
    @pytest.mark.parametrize("outcome", [Unsettled(), PROCESSED, FAILED])
    async def test_one_that_is_gone_is_marked_deleted_once(
        self, ledger: Ledger, clock: Clock, outcome: Outcome
    ) -> None:
        """It is not asked for again, not posted again by itself, and says what happened."""
        run = await posted(ledger, clock, Accepted("SIGNAL-1", "job-1"), outcome)
        row = await here(ledger)
        assert await ledger.change(matching.mark_deleted, [row], run, clock()) == {NAME}
        assert await ledger.change(matching.mark_deleted, [row], run, clock()) == set()
        [gone] = await rows(ledger)
        assert (gone.state, gone.public_id, gone.last_error, gone.due_at) == (State.DELETED, "SIGNAL-1", GONE, None)
        assert (await told(ledger))[-1] == "deleted"
        assert await read(ledger, clock, run, 1) == PageTally(unchanged=1)

    async def test_what_happened_since_a_moment_is_known(self, ledger: Ledger, clock: Clock) -> None:
        """A comparison can tell what moved while it was made."""
        before = clock()
        clock.move(60)
        await posted(ledger, clock, Accepted("SIGNAL-1"))
        row = await here(ledger)
        for moment, moved in ((before, {row.id}), (clock(), {row.id}), (clock() + timedelta(seconds=1), set())):
            assert await ledger.ask(matching.moved_since, [row.id, row.id + 1], moment) == moved
