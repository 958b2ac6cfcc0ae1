"""The ledger's writes, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from syncd.errors import LedgerError
from syncd.fates import Accepted, Blocked, Failed, Gone, Later, Processed, Refused, Unknown, Unsettled, Verdict
from syncd.ledger import Answer, Claimed, Database, Exchanged, Ledger, Look, Sighting, State, report
from syncd.ledger.ledger import AlreadyReading
from syncd.ledger.outcomes import GONE
from syncd.ledger.tables import Lane, signals
from syncd.pacing import NackWindow
from syncd.records import SetAside
from syncd.signals import Signal, compose
from tests.conftest import Clock, dies, record, rows, signal, source

SOURCE = source()
FINGERPRINT = sa.select(signals.c.fingerprint)


async def begun(ledger: Ledger, clock: Clock) -> int:
    """A run that is reading SOURCE."""
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(SOURCE, run, clock())
    return run


async def stored(ledger: Ledger, clock: Clock, *page: Signal) -> int:
    """A run that has stored that page."""
    run = await begun(ledger, clock)
    await ledger.record_page(SOURCE, page, [], {"page": 1}, run, clock())
    return run


async def claimed(ledger: Ledger, clock: Clock, *page: Signal) -> tuple[int, list[Claimed]]:
    """A run that has stored that page and is posting all of it."""
    run = await stored(ledger, clock, *page)
    return run, (await ledger.exchange([], 100, run, clock())).claimed


async def answered(ledger: Ledger, clock: Clock, verdict: Verdict, after: float | None = 0) -> report.SignalRow:
    """The one signal of a ledger after that verdict, due again `after` seconds."""
    run, [taken] = await claimed(ledger, clock, signal(1))
    due_at = None if after is None else clock() + timedelta(seconds=after)
    await ledger.exchange([Answer(taken, verdict, clock(), due_at)], 0, run, clock())
    await ledger.finish_pull(SOURCE, run, None, clock())
    return await the_row(ledger)


async def the_row(ledger: Ledger, number: int = 1) -> report.SignalRow:
    row = await ledger.ask(report.named, f"listed:reviews:r-{number}")
    assert row is not None
    return row


async def told(ledger: Ledger, number: int = 1) -> list[str]:
    """The history of a signal, as the names of its events."""
    row = await the_row(ledger, number)
    return [event.event for event in await ledger.ask(report.history, row)]


class TestRecordPage:
    async def test_a_page_is_queued_together_with_its_checkpoint(self, ledger: Ledger, clock: Clock) -> None:
        """A page is in the ledger with the checkpoint after it, so reading goes on from there and nowhere else."""
        run = await begun(ledger, clock)
        tally = await ledger.record_page(SOURCE, [signal(1), signal(2)], [], {"page": 1}, run, clock())
        assert (tally.new, tally.changed, tally.unchanged) == (2, 0, 0)
        assert await ledger.start_pull(SOURCE, run, clock()) == {"page": 1}
        assert (await ledger.ask(report.run_counts, run)).signals == dict.fromkeys(State, 0) | {State.QUEUED: 2}

    async def test_a_page_that_cannot_be_stored_leaves_its_checkpoint_where_it_was(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """A page whose commit fails is asked for again: neither a row nor the checkpoint of it was kept."""
        run = await stored(ledger, clock, signal(1))
        nameless = replace(signal(3), fingerprint=None)  # type: ignore[arg-type] - what the database refuses
        with pytest.raises(LedgerError, match="Nothing of this step was stored"):
            await ledger.record_page(SOURCE, [signal(2), nameless], [], {"page": 2}, run, clock())
        assert await ledger.start_pull(SOURCE, run, clock()) == {"page": 1}
        assert await ledger.ask(report.named, "listed:reviews:r-2") is None

    async def test_a_record_seen_before_is_unchanged(self, ledger: Ledger, clock: Clock) -> None:
        """An overlap between two readings queues nothing a second time."""
        run = await stored(ledger, clock, signal(1), signal(2))
        tally = await ledger.record_page(SOURCE, [signal(2), signal(3)], [], {"page": 2}, run, clock())
        assert (tally.new, tally.unchanged) == (1, 1)
        assert len(await ledger.ask(lambda db: list(report.find(db)))) == 3

    async def test_a_record_twice_on_a_page_is_one_signal(self, ledger: Ledger, clock: Clock) -> None:
        """A source that repeats itself within a page is counted truly and posted once."""
        run = await begun(ledger, clock)
        tally = await ledger.record_page(SOURCE, [signal(1), signal(1), signal(1, "Other")], [], {}, run, clock())
        assert (tally.new, tally.changed, tally.unchanged) == (1, 1, 1)
        assert len((await ledger.exchange([], 10, run, clock())).claimed) == 1

    async def test_more_records_than_one_question_can_name_are_all_recognised(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """A page larger than the databases' limits on one statement is stored, and known again, whole."""
        page = [signal(number) for number in range(1203)]
        run = await stored(ledger, clock, *page)
        tally = await ledger.record_page(SOURCE, page, [], {}, run, clock())
        assert (tally.new, tally.unchanged) == (0, 1203)

    async def test_a_changed_record_replaces_one_that_was_not_sent_yet(self, ledger: Ledger, clock: Clock) -> None:
        """Zentrik gets the latest text of a record that was edited while it waited."""
        run = await stored(ledger, clock, signal(1))
        tally = await ledger.record_page(SOURCE, [signal(1, "Mended.")], [], {}, run, clock())
        assert tally.changed == 1
        [taken] = (await ledger.exchange([], 10, run, clock())).claimed
        assert taken.body == signal(1, "Mended.").body

    async def test_a_changed_record_brings_a_rejected_one_back(self, ledger: Ledger, clock: Clock) -> None:
        """A record mended at its source after a refusal is posted without anybody asking."""
        assert (await answered(ledger, clock, Refused("422: text is too long"), None)).state is State.REJECTED
        run = await stored(ledger, clock, signal(1, "Short."))
        [taken] = (await ledger.exchange([], 10, run, clock())).claimed
        assert (taken.body, taken.attempt) == (signal(1, "Short.").body, 2)

    async def test_a_change_to_a_sent_record_is_counted_once(self, ledger: Ledger, clock: Clock) -> None:
        """A record edited after it was sent is noted in its history, and neither posted nor counted again and again."""
        await answered(ledger, clock, Accepted("SIGNAL-1"))
        run = await stored(ledger, clock, signal(1, "Edited."))
        again = await ledger.record_page(SOURCE, [signal(1, "Edited.")], [], {}, run, clock())
        assert (again.changed, again.unchanged) == (0, 1)
        back = await ledger.record_page(SOURCE, [signal(1)], [], {}, run, clock())
        assert back.changed == 1
        assert (await the_row(ledger)).state is State.PROCESSING
        assert (await told(ledger)).count("changed") == 2

    async def test_what_is_posted_is_what_the_ledger_says(self, ledger: Ledger, ledger_url: str, clock: Clock) -> None:
        """A record that changes at the very moment another syncd begins to post it is not taken for posted as changed:
        the ledger knows which text went out, and keeps the other."""
        run = await stored(ledger, clock, signal(1))
        other = Ledger(Database(ledger_url))
        theirs: list[Exchanged] = []
        posting = Thread(target=lambda: theirs.append(asyncio.run(other.exchange([], 1, run, clock()))))

        def claim_meanwhile(_connection: sa.Connection, _cursor: object, statement: str, *_: Any) -> None:
            if statement.startswith("SELECT signals.id") and not posting.ident:
                posting.start()
                posting.join(0.5 if ledger_url.startswith("sqlite") else 30)  # SQLite makes it wait for the page

        sa.event.listen(ledger.database.engine, "after_cursor_execute", claim_meanwhile)
        await ledger.record_page(SOURCE, [signal(1, "Mended.")], [], {}, run, clock())
        posting.join()
        [taken] = theirs[0].claimed
        row = await the_row(ledger)
        assert row.state is State.SENDING
        assert await ledger.ask(lambda db: db.scalar(FINGERPRINT)) == hashlib.sha256(taken.body).digest()
        assert await ledger.ask(report.body, row) == taken.body
        await ledger.exchange([Answer(taken, Refused("422"), clock())], 0, run, clock())
        assert await ledger.ask(report.body, await the_row(ledger)) == signal(1, "Mended.").body
        other.close()

    async def test_what_was_set_aside_leaves_the_list_when_it_is_mended(self, ledger: Ledger, clock: Clock) -> None:
        """The list of rows to mend shrinks as they are mended."""
        run = await begun(ledger, clock)
        broken = [SetAside("nps.csv:2", "no text"), SetAside("nps.csv:3", "no text"), SetAside("nps.csv:3", "no date")]
        await ledger.record_page(SOURCE, [], broken, {}, run, clock())
        assert {row.reason for row in await ledger.ask(lambda db: list(report.aside(db)))} == {"no text", "no date"}
        mended = Signal("listed:reviews:r-9", b"{}", b"f", place="nps.csv:2")
        await ledger.record_page(SOURCE, [mended], [], {}, run, clock())
        [left] = await ledger.ask(lambda db: list(report.aside(db)))
        assert (left.place, left.reason) == ("nps.csv:3", "no date")


class TestChangedInFlight:
    """A record that changes while nobody knows whether Zentrik has it."""

    MENDED = replace(
        signal(1, "Mended."), name="Mended", occurred_at=datetime(2026, 3, 29, 1, 30, 0, 5, UTC), place="nps.csv:2"
    )

    async def changed(self, ledger: Ledger, clock: Clock) -> tuple[int, Claimed]:
        """A run that posts a record which has changed meanwhile."""
        run, [taken] = await claimed(ledger, clock, signal(1))
        tally = await ledger.record_page(SOURCE, [self.MENDED], [], {}, run, clock())
        assert tally.changed == 1
        return run, taken

    async def is_queued(self, ledger: Ledger, clock: Clock, run: int, attempt: int = 2) -> None:
        """The new record is posted now, under its own name, and is the one the ledger knows."""
        row = await the_row(ledger)
        assert (row.state, row.due_at, row.last_error) == (State.QUEUED, clock(), None)
        assert (row.name, row.occurred_at, row.place) == (self.MENDED.name, self.MENDED.occurred_at, self.MENDED.place)
        assert (await told(ledger))[-1] == "changed"
        [taken] = (await ledger.exchange([], 10, run, clock())).claimed
        assert (taken.body, taken.attempt, taken.failures) == (self.MENDED.body, attempt, 0)
        await ledger.exchange([Answer(taken, Refused("422"), clock())], 0, run, clock())
        assert (await the_row(ledger)).state is State.REJECTED, "it took the place once"
        assert (await ledger.record_page(SOURCE, [self.MENDED], [], {}, run, clock())).unchanged == 1

    @pytest.mark.parametrize("verdict", [Refused("422: no text"), Later("408"), Blocked("401")])
    async def test_it_takes_the_place_of_what_zentrik_did_not_take(
        self, ledger: Ledger, clock: Clock, verdict: Verdict
    ) -> None:
        """A record that is mended while its first version is being refused is delivered, without anybody asking."""
        run, taken = await self.changed(ledger, clock)
        due_at = None if isinstance(verdict, Refused) else clock() + timedelta(hours=1)
        await ledger.exchange([Answer(taken, verdict, clock(), due_at)], 0, run, clock())
        await self.is_queued(ledger, clock, run)

    async def test_it_takes_the_place_of_what_was_given_back(self, ledger: Ledger, clock: Clock) -> None:
        """A record that changes between being claimed and being given back is posted as it is now."""
        run, taken = await self.changed(ledger, clock)
        await ledger.exchange([], 0, run, clock(), unposted=[taken])
        await self.is_queued(ledger, clock, run, attempt=1)

    @pytest.mark.parametrize("late", [False, True])
    async def test_it_takes_the_place_of_what_was_lost(self, ledger: Ledger, clock: Clock, late: bool) -> None:
        """Of a record whose POST never arrived, the latest version is posted, whenever it changed."""
        run, [taken] = await claimed(ledger, clock, signal(1))
        if not late:
            await ledger.record_page(SOURCE, [self.MENDED], [], {}, run, clock())
        await ledger.exchange([Answer(taken, Unknown("reset"), clock(), clock())], 0, run, clock())
        if late:
            await ledger.record_page(SOURCE, [self.MENDED], [], {}, run, clock())
        [lost] = await ledger.unknowns(10, clock())
        assert lost.body == signal(1).body, "what is looked for is what was posted"
        await ledger.settle_unknowns([Sighting(lost.id, lost.attempt, None, clock())], run, clock())
        await self.is_queued(ledger, clock, run)

    async def test_it_takes_the_place_of_what_an_operator_retries(self, ledger: Ledger, clock: Clock) -> None:
        """`syncd retry` of a record nobody could look for posts what the source says now."""
        run, taken = await self.changed(ledger, clock)
        await ledger.exchange([Answer(taken, Unknown("reset"), clock())], 0, run, clock())
        await ledger.requeue([taken.id], State.UNKNOWN, run, clock())
        await self.is_queued(ledger, clock, run)

    @pytest.mark.parametrize("found", [False, True])
    async def test_what_zentrik_has_is_kept(self, ledger: Ledger, clock: Clock, found: bool) -> None:
        """A record that was accepted after all is not posted a second time for having changed, then or later."""
        run, taken = await self.changed(ledger, clock)
        verdict = Unknown("reset") if found else Accepted("SIGNAL-1")
        await ledger.exchange([Answer(taken, verdict, clock(), clock())], 0, run, clock())
        if found:
            await ledger.settle_unknowns(
                [Sighting(taken.id, taken.attempt, Accepted("SIGNAL-1"), clock())], run, clock()
            )
        row = await the_row(ledger)
        assert (row.state, row.public_id) == (State.PROCESSING, "SIGNAL-1")
        assert await ledger.ask(report.body, row) == signal(1).body
        assert (await ledger.record_page(SOURCE, [self.MENDED], [], {}, run, clock())).unchanged == 1
        await ledger.note_deleted([taken.id], run, clock())
        await ledger.requeue([taken.id], State.DELETED, run, clock())
        [again] = (await ledger.exchange([], 1, run, clock())).claimed
        assert again.body == signal(1).body

    async def test_a_change_that_is_taken_back_is_none(self, ledger: Ledger, clock: Clock) -> None:
        """A record that is its old self again when its POST is refused stays refused."""
        run, taken = await self.changed(ledger, clock)
        await ledger.record_page(SOURCE, [signal(1)], [], {}, run, clock())
        await ledger.exchange([Answer(taken, Refused("422"), clock())], 0, run, clock())
        assert (await the_row(ledger)).state is State.REJECTED


class TestTwoAtOnce:
    """Two syncds on one ledger never wait for each other in a ring, and none dies of the other's work."""

    async def test_verdicts_in_any_order(self, ledger: Ledger, ledger_url: str, clock: Clock) -> None:
        """Two syncds that store verdicts on the same connectors, each in its own order, both get through: no lock is
        taken in the order of arrival."""
        run = await ledger.start_run("test", clock())
        for name in ("alpha", "beta"):
            here = source(name=name)
            await ledger.start_pull(here, run, clock())
            page = [compose(record(number), here) for number in range(40)]
            await ledger.record_page(here, page, [], {}, run, clock())
        other = Ledger(Database(ledger_url))
        undone = watch(ledger), watch(other)

        async def post(at: Ledger, names: tuple[str, ...]) -> int:
            done = 0
            while True:
                lot = [taken for name in names for taken in (await at.exchange([], 1, run, clock(), [name])).claimed]
                if not lot:
                    return done
                answers = [Answer(taken, Refused("422"), clock()) for taken in lot]
                await at.exchange(answers, 0, run, clock(), window=NackWindow(99, 200))
                done += len(lot)

        assert sum(await asyncio.gather(post(ledger, ("alpha", "beta")), post(other, ("beta", "alpha")))) == 80
        assert undone == ([], [])
        other.close()

    async def test_looks_in_any_order(self, ledger: Ledger, ledger_url: str, clock: Clock) -> None:
        """Two syncds that store what they saw of the same signals, in different orders, both get through."""
        run = await stored(ledger, clock, *(signal(number) for number in range(1200)))  # more than one IN (...) names
        lot = (await ledger.exchange([], 1200, run, clock())).claimed
        answers = [Answer(taken, Accepted(f"SIGNAL-{taken.id}"), clock(), clock()) for taken in lot]
        await ledger.exchange(answers, 0, run, clock())
        looks = [Look(each, Unsettled(), clock(), clock()) for each in await ledger.awaited(1200, clock())]
        other = Ledger(Database(ledger_url))
        undone = watch(ledger), watch(other)

        async def look(at: Ledger, seen: list[Look]) -> None:
            for _ in range(3):
                await at.record_looks(seen, run)

        await asyncio.gather(look(ledger, looks), look(other, looks[::-1]))
        assert undone == ([], [])
        assert {waiting.looks for waiting in await ledger.awaited(1200, clock())} == {6}
        other.close()

    async def test_nobody_waits_for_a_connector_that_is_well(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """Once a connector's records are all taken, storing one more verdict on it holds nobody up."""
        run, lot = await claimed(ledger, clock, *(signal(number) for number in range(41)))
        answers = [Answer(taken, Accepted(f"SIGNAL-{taken.id}"), clock(), clock()) for taken in lot]
        await ledger.exchange(answers[:40], 0, run, clock())
        asked: list[str] = []
        listen(ledger, lambda statement: asked.append(statement))
        await ledger.exchange(answers[40:], 0, run, clock())
        assert any("connectors" in statement for statement in asked)
        assert not [each for each in asked if "connectors" in each and ("FOR UPDATE" in each or "UPDATE conn" in each)]


def listen(ledger: Ledger, heard: Callable[[str], None]) -> None:
    """Hear every statement of this ledger's."""

    def hear(_connection: sa.Connection, _cursor: object, statement: str, *_: Any) -> None:
        heard(statement)

    sa.event.listen(ledger.database.engine, "before_cursor_execute", hear)


def watch(ledger: Ledger) -> list[BaseException]:
    """What the database has refused this ledger from now on."""
    refused: list[BaseException] = []
    sa.event.listen(ledger.database.engine, "handle_error", lambda context: refused.append(context.original_exception))
    return refused


class TestReading:
    async def test_two_runs_do_not_read_one_connector_at_once(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """While one syncd reads a connector, another one is told so instead of doing the same work."""
        await begun(ledger, clock)
        other = Ledger(Database(ledger_url))
        run = await other.start_run("test", clock())
        with pytest.raises(AlreadyReading):
            await other.start_pull(SOURCE, run, clock())
        other.close()

    async def test_a_dead_run_is_taken_over_from_and_cannot_store_any_more(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """A killed syncd blocks nobody, and if it was only frozen, its late page does not move the checkpoint back."""
        frozen = await stored(ledger, clock, signal(1))
        dies(ledger)
        other = Ledger(Database(ledger_url))
        run = await other.start_run("test", clock())
        assert await other.start_pull(SOURCE, run, clock()) == {"page": 1}
        with pytest.raises(AlreadyReading):
            await ledger.record_page(SOURCE, [signal(2)], [], {"page": 9}, frozen, clock())
        assert await other.ask(report.named, "listed:reviews:r-2") is None
        other.close()


class TestExchange:
    async def test_a_claimed_signal_is_sending_before_it_is_handed_out(self, ledger: Ledger, clock: Clock) -> None:
        """No socket opens for a signal that the ledger does not know to be under way."""
        _, [taken] = await claimed(ledger, clock, signal(1))
        row = await the_row(ledger)
        assert (row.state, row.attempts, taken.attempt) == (State.SENDING, 1, 1)
        assert taken.body == signal(1).body

    async def test_a_signal_is_claimed_once(self, ledger: Ledger, ledger_url: str, clock: Clock) -> None:
        """Two processes on one ledger never post the same signal."""
        run = await stored(ledger, clock, *(signal(number) for number in range(40)))
        other = Ledger(Database(ledger_url))
        lots = await asyncio.gather(
            *(each.exchange([], 7, run, clock()) for each in (ledger, other, ledger, other, ledger, other))
        )
        ids = [taken.id for lot in lots for taken in lot.claimed]
        assert len(ids) == len(set(ids)) == 40
        other.close()

    async def test_signals_are_claimed_in_the_order_they_came(self, ledger: Ledger, clock: Clock) -> None:
        """What was read first is posted first."""
        _, lot = await claimed(ledger, clock, *(signal(number) for number in range(5)))
        assert [taken.external_id[-1] for taken in lot] == ["0", "1", "2", "3", "4"]

    async def test_only_the_connectors_asked_for_are_claimed(self, ledger: Ledger, clock: Clock) -> None:
        """`run-once NAME` posts nothing of another connector."""
        run = await stored(ledger, clock, signal(1))
        assert (await ledger.exchange([], 10, run, clock(), ["tickets"])).claimed == []
        assert len((await ledger.exchange([], 10, run, clock(), ["reviews"])).claimed) == 1

    @pytest.mark.parametrize(
        ("verdict", "state", "error"),
        [
            (Accepted("SIGNAL-7", "job-1"), State.PROCESSING, None),
            (Later("429: slow down", parks=True), State.QUEUED, "429: slow down"),
            (Refused("422: no text"), State.REJECTED, "422: no text"),
            (Unknown("no answer in time"), State.UNKNOWN, "no answer in time"),
            (Blocked("401: no such key"), State.QUEUED, "401: no such key"),
        ],
    )
    async def test_each_verdict_moves_the_signal_where_it_says(
        self, ledger: Ledger, clock: Clock, verdict: Verdict, state: State, error: str | None
    ) -> None:
        """What Zentrik answered decides where a signal stands, and its reason is kept in words."""
        row = await answered(ledger, clock, verdict)
        assert (row.state, row.last_error) == (state, error)
        if isinstance(verdict, Accepted):
            assert (row.public_id, row.job_id, row.accepted_at) == ("SIGNAL-7", "job-1", clock())

    async def test_a_postponed_signal_is_not_claimed_before_its_time(self, ledger: Ledger, clock: Clock) -> None:
        """Retry-After is kept to the second."""
        await answered(ledger, clock, Later("503", timedelta(seconds=60)), after=60)
        run = await ledger.start_run("test", clock())
        clock.move(59.9)
        assert (await ledger.exchange([], 10, run, clock())).claimed == []
        clock.move(0.1)
        assert len((await ledger.exchange([], 10, run, clock())).claimed) == 1

    async def test_a_verdict_on_an_earlier_attempt_changes_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """An answer that comes after its signal was claimed anew cannot overwrite where it stands now."""
        run, [first] = await claimed(ledger, clock, signal(1))
        await ledger.exchange([Answer(first, Later("408"), clock(), clock())], 0, run, clock())
        [second] = (await ledger.exchange([], 1, run, clock())).claimed
        await ledger.exchange([Answer(first, Refused("late"), clock())], 0, run, clock())
        assert (await the_row(ledger)).state is State.SENDING
        assert second.attempt == 2

    async def test_failures_count_what_is_the_records_own(self, ledger: Ledger, clock: Clock) -> None:
        """A record is not given up on for Zentrik's own trouble, and starts afresh once it was taken."""
        run, [taken] = await claimed(ledger, clock, signal(1))
        for verdict, failures in (
            (Later("429", parks=True), 0),
            (Later("408"), 1),
            (Blocked("401"), 1),
            (Unknown("x"), 2),
        ):
            await ledger.exchange([Answer(taken, verdict, clock(), clock())], 0, run, clock())
            if isinstance(verdict, Unknown):
                await ledger.settle_unknowns([Sighting(taken.id, taken.attempt, None, clock())], run, clock())
            [taken] = (await ledger.exchange([], 1, run, clock())).claimed
            assert taken.failures == failures

    async def test_a_frozen_run_keeps_its_connector_until_its_lease_is_over(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """A run that is alive and gets nowhere is left alone for its lease, and then taken over from: nothing of what
        it brings after that is stored."""
        frozen = await stored(ledger, clock, signal(1))
        other = Ledger(Database(ledger_url))
        run = await other.start_run("test", clock())
        clock.move(ledger.leases.pull.total_seconds() - 1)
        with pytest.raises(AlreadyReading):
            await other.start_pull(SOURCE, run, clock())
        clock.move(1)
        assert await other.start_pull(SOURCE, run, clock()) == {"page": 1}
        with pytest.raises(AlreadyReading):
            await ledger.record_page(SOURCE, [signal(2)], [], {"page": 2}, frozen, clock())
        await ledger.finish_pull(SOURCE, frozen, ("late", "news"), clock())
        assert await other.ask(report.named, "listed:reviews:r-2") is None
        assert (await other.ask(report.connector_rows))[SOURCE.name].run_id == run
        other.close()

    async def test_a_lease_lives_by_progress(self, ledger: Ledger, ledger_url: str, clock: Clock) -> None:
        """A reading that takes hours is nobody else's as long as pages keep coming."""
        reading = await begun(ledger, clock)
        other = Ledger(Database(ledger_url))
        run = await other.start_run("test", clock())
        for number in range(10):
            clock.move(ledger.leases.pull.total_seconds() - 1)
            await ledger.record_page(SOURCE, [signal(number)], [], {"page": number}, reading, clock())
            with pytest.raises(AlreadyReading):
                await other.start_pull(SOURCE, run, clock())
        other.close()

    async def test_a_reading_that_was_broken_off_is_no_success_and_no_error(self, ledger: Ledger, clock: Clock) -> None:
        """After a stop midway the connector is free, and its last success is still the one before."""
        run = await begun(ledger, clock)
        await ledger.finish_pull(SOURCE, run, None, clock(), is_whole=False)
        row = (await ledger.ask(report.connector_rows))[SOURCE.name]
        assert (row.run_id, row.finished_at, row.succeeded_at, row.error_code) == (None, clock(), None, None)


class TestGivenBack:
    async def test_a_try_that_never_was_does_not_count(self, ledger: Ledger, clock: Clock) -> None:
        """What was claimed and not posted stands in the queue as before, and is claimed once more, not twice."""
        run, taken = await claimed(ledger, clock, *(signal(number) for number in range(3)))
        clock.move(5)
        await ledger.exchange([], 0, run, clock(), unposted=taken)
        for number in range(3):
            row = await the_row(ledger, number)
            assert (row.state, row.attempts, row.due_at) == (State.QUEUED, 0, clock())
        again = (await ledger.exchange([], 10, run, clock())).claimed
        assert [(each.id, each.attempt, each.failures, each.body) for each in again] == [
            (each.id, 1, 0, each.body) for each in taken
        ]

    async def test_it_is_given_back_once(self, ledger: Ledger, ledger_url: str, clock: Clock) -> None:
        """Who gives back what is another's by now, or what is posted anew already, changes nothing."""
        run, [taken] = await claimed(ledger, clock, signal(1))
        await ledger.exchange([], 0, run, clock(), unposted=[taken])
        other = Ledger(Database(ledger_url))
        theirs = await other.start_run("test", clock())
        [again] = (await other.exchange([], 1, theirs, clock())).claimed
        assert again.attempt == taken.attempt
        await ledger.exchange([], 0, run, clock(), unposted=[taken])
        row = await the_row(ledger)
        assert (row.state, row.attempts) == (State.SENDING, 1)
        other.close()


class TestLanes:
    async def filled(self, ledger: Ledger, clock: Clock, news: int, backlog: int) -> int:
        """A run that has queued a backlog, and then news."""
        run = await stored(ledger, clock, *(signal(number) for number in range(backlog)))
        await ledger.change(lambda db: db.execute(sa.update(signals).values(lane=Lane.BACKLOG)).rowcount)
        clock.move(1)
        await ledger.record_page(SOURCE, [signal(5000 + number) for number in range(news)], [], {}, run, clock())
        return run

    async def test_news_pass_a_backlog(self, ledger: Ledger, clock: Clock) -> None:
        """What just happened does not wait for the thousand records of a backfill."""
        run = await self.filled(ledger, clock, news=10, backlog=1000)
        taken = (await ledger.exchange([], 16, run, clock())).claimed
        assert Counter(each.lane for each in taken) == {Lane.NEWS: 10, Lane.BACKLOG: 6}

    async def test_news_are_claimed_though_enough_is_at_hand(self, ledger: Ledger, clock: Clock) -> None:
        """What just happened does not wait until the signals claimed ahead of it are fewer."""
        run = await self.filled(ledger, clock, news=10, backlog=1000)
        taken = (await ledger.exchange([], 0, run, clock(), news=4)).claimed
        assert [each.lane for each in taken] == [Lane.NEWS] * 4
        taken = (await ledger.exchange([], 2, run, clock(), news=4)).claimed
        assert [each.lane for each in taken] == [Lane.NEWS] * 4
        taken = (await ledger.exchange([], 16, run, clock(), news=4)).claimed
        assert Counter(each.lane for each in taken) == {Lane.NEWS: 2, Lane.BACKLOG: 14}

    @pytest.mark.parametrize("portion", [1, 3, 7, 8, 50])
    async def test_a_backlog_gets_its_share(self, ledger: Ledger, clock: Clock, portion: int) -> None:
        """However much happens, and in however small portions it is claimed, one in eight is of the backlog."""
        run = await self.filled(ledger, clock, news=400, backlog=400)
        lanes = Counter[Lane]()
        while lanes.total() < 200:
            lanes.update(Lane(each.lane) for each in (await ledger.exchange([], portion, run, clock())).claimed)
        assert abs(lanes[Lane.BACKLOG] - lanes.total() / 8) <= 1

    @pytest.mark.parametrize(("news", "backlog"), [(20, 0), (0, 20), (19, 1), (1, 19)])
    async def test_no_place_stays_empty(self, ledger: Ledger, clock: Clock, news: int, backlog: int) -> None:
        """What one lane does not use the other gets: as long as something is due, as much as asked for is claimed."""
        run = await self.filled(ledger, clock, news, backlog)
        assert len((await ledger.exchange([], 20, run, clock())).claimed) == 20


class TestHalting:
    async def refuse(self, ledger: Ledger, clock: Clock, run: int, number: int, *, accept: bool = False) -> None:
        """Have so many signals answered the same."""
        verdict: Verdict = Accepted("SIGNAL-1") if accept else Refused("422: no text")
        for taken in (await ledger.exchange([], number, run, clock())).claimed:
            await ledger.exchange([Answer(taken, verdict, clock())], 0, run, clock())

    async def test_a_connector_whose_records_are_refused_is_stopped(self, ledger: Ledger, clock: Clock) -> None:
        """A mistake in a mapping costs 30 records a retry, and not a hundred thousand; the other connectors go on."""
        run = await stored(ledger, clock, *(signal(number) for number in range(60)))
        other = source(record(1), name="tickets")
        await ledger.start_pull(other, run, clock())
        await ledger.record_page(other, [compose(record(1), other)], [], {}, run, clock())
        await self.refuse(ledger, clock, run, 10, accept=True)
        for _ in range(50):
            await self.refuse(ledger, clock, run, 1)
        counts = await ledger.ask(report.counts)
        assert counts["reviews"] == {State.PROCESSING: 10, State.REJECTED: 30, State.QUEUED: 20}
        assert counts["tickets"] == {State.REJECTED: 1}
        assert await ledger.ask(report.halts) == {"reviews": "Zentrik refused 30 of the last 40 records"}
        assert await ledger.ask(report.next_due, [State.QUEUED]) is None

    async def test_a_few_refusals_among_many_stop_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """One bad record in two is a nuisance; the good ones are delivered."""
        run = await stored(ledger, clock, *(signal(number) for number in range(200)))
        for number in range(200):
            await self.refuse(ledger, clock, run, 1, accept=number % 2 == 0)
        assert await ledger.ask(report.counts) == {"reviews": {State.PROCESSING: 100, State.REJECTED: 100}}

    async def test_it_is_remembered_from_run_to_run(self, ledger: Ledger, clock: Clock) -> None:
        """A job that posts ten records every hour is stopped after thirty as well, and stays so."""
        for start in range(0, 60, 10):
            run = await begun(ledger, clock)
            page = [signal(number) for number in range(start, start + 10)]
            await ledger.record_page(SOURCE, page, [], {}, run, clock())
            await self.refuse(ledger, clock, run, 10)
            await ledger.finish_pull(SOURCE, run, None, clock())
        assert await ledger.ask(report.counts) == {"reviews": {State.REJECTED: 30, State.QUEUED: 30}}

    @pytest.mark.parametrize("mended", [True, False])
    async def test_it_goes_on_when_somebody_has_seen_to_it(self, ledger: Ledger, clock: Clock, mended: bool) -> None:
        """Changed settings, or `syncd retry`, are an operator's word that it may be tried again."""
        run = await stored(ledger, clock, *(signal(number) for number in range(40)))
        for _ in range(40):
            await self.refuse(ledger, clock, run, 1)
        rejected = [row.id for row in await ledger.ask(lambda db: list(report.find(db, states=[State.REJECTED])))]
        assert await ledger.ask(report.halts) != {}
        await ledger.start_pull(SOURCE, run, clock())
        assert await ledger.ask(report.halts) != {}, "nothing has changed"
        if mended:
            await ledger.start_pull(source((record(99),)), run, clock())
        else:
            assert len(await ledger.requeue(rejected, State.REJECTED, run, clock())) == len(rejected)
        assert await ledger.ask(report.halts) == {}
        assert len((await ledger.exchange([], 5, run, clock())).claimed) == 5


class TestSeenAlive:
    async def test_a_run_that_looks_dead_claims_nothing_more(self, ledger: Ledger, clock: Clock) -> None:
        """What it has in its hands is stored, nothing is taken up, and then it says why and ends."""
        run = await stored(ledger, clock, signal(1), signal(2))
        [taken] = (await ledger.exchange([], 1, run, clock())).claimed

        def lost() -> None:
            raise LedgerError("nobody sees us")

        ledger._presence.confirm = lost  # type: ignore[method-assign]
        answer = Answer(taken, Accepted("SIGNAL-1"), clock(), clock())
        assert await ledger.exchange([answer], 5, run, clock()) == Exchanged([], 1)
        with pytest.raises(LedgerError, match="nobody sees us"):
            await ledger.exchange([], 5, run, clock())
        assert await ledger.ask(report.counts) == {"reviews": {State.PROCESSING: 1, State.QUEUED: 1}}


class TestSuspectUnfinished:
    async def test_what_a_frozen_run_was_posting_becomes_unknown(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """A process that hangs with a record in its hands does not keep it for ever, and its late refusal changes
        nothing."""
        run, [taken] = await claimed(ledger, clock, signal(1))
        other = Ledger(Database(ledger_url))
        await other.start_run("test", clock())
        clock.move(ledger.leases.post.total_seconds() - 1)
        assert await other.suspect_unfinished(clock()) == 0
        clock.move(1)
        assert await other.suspect_unfinished(clock()) == 1
        await ledger.exchange([Answer(taken, Refused("422"), clock(), clock())], 0, run, clock())
        assert (await the_row(ledger)).state is State.UNKNOWN
        assert await told(ledger) == ["queued", "unknown"]
        other.close()

    async def test_what_a_dead_run_was_posting_becomes_unknown(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """After a crash nothing is posted again that Zentrik may already have."""
        await claimed(ledger, clock, signal(1), signal(2))
        dies(ledger)
        other = Ledger(Database(ledger_url))
        assert await other.suspect_unfinished(clock()) == 2
        assert {row.state for row in await other.ask(lambda db: list(report.find(db)))} == {State.UNKNOWN}
        other.close()

    async def test_what_was_sent_last_is_given_time_to_arrive(self, ledger: Ledger, clock: Clock) -> None:
        """A record that a dying run sent and Zentrik stores a moment later is not declared absent before that."""
        await claimed(ledger, clock, signal(1))
        dies(ledger)
        await ledger.suspect_unfinished(clock(), timedelta(seconds=2))
        assert await ledger.unknowns(10, clock()) == []
        clock.move(2)
        assert len(await ledger.unknowns(10, clock())) == 1

    async def test_what_a_living_run_is_posting_is_left_to_it(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """A second syncd that starts while the first one posts takes nothing out of its hands."""
        await claimed(ledger, clock, signal(1))
        other = Ledger(Database(ledger_url))
        await other.start_run("test", clock())
        assert await other.suspect_unfinished(clock()) == 0
        other.close()


class TestLateAnswer:
    """Zentrik's word that it took a record, brought by a run that others have taken for dead."""

    async def given_up(self, ledger: Ledger, clock: Clock) -> tuple[int, Claimed]:
        """A run whose lease is over, with a record in its hands that is unknown by now."""
        run, [taken] = await claimed(ledger, clock, signal(1))
        dies(ledger)
        assert await ledger.suspect_unfinished(clock()) == 1
        return run, taken

    async def bring(self, ledger: Ledger, clock: Clock, run: int, taken: Claimed, public_id: str) -> int:
        """Store the late answer; how many it has accepted."""
        answer = Answer(taken, Accepted(public_id, "job-1"), clock(), clock())
        return (await ledger.exchange([answer], 0, run, clock())).accepted

    @pytest.mark.parametrize("queued", [False, True])
    async def test_it_counts_while_nobody_has_posted_anew(self, ledger: Ledger, clock: Clock, queued: bool) -> None:
        """An answer that comes before the record is posted again settles it, so it is not posted again."""
        run, taken = await self.given_up(ledger, clock)
        if queued:
            await ledger.settle_unknowns([Sighting(taken.id, taken.attempt, None, clock())], run, clock())
        assert await self.bring(ledger, clock, run, taken, "SIGNAL-9") == 1
        row = await the_row(ledger)
        assert (row.state, row.public_id, row.job_id) == (State.PROCESSING, "SIGNAL-9", "job-1")
        assert (row.accepted_at, row.due_at, row.last_error) == (clock(), clock(), None)
        assert (await told(ledger))[-1] == "accepted"
        assert (await ledger.exchange([], 1, run, clock())).claimed == []

    async def test_it_is_of_the_text_that_was_posted(self, ledger: Ledger, clock: Clock) -> None:
        """When the record changed after it was queued again, the ledger knows that Zentrik has the first text."""
        run, taken = await self.given_up(ledger, clock)
        await ledger.settle_unknowns([Sighting(taken.id, taken.attempt, None, clock())], run, clock())
        await ledger.record_page(SOURCE, [signal(1, "Mended.")], [], {}, run, clock())
        assert await self.bring(ledger, clock, run, taken, "SIGNAL-9") == 1
        assert await ledger.ask(report.body, await the_row(ledger)) == signal(1).body
        assert await ledger.ask(lambda db: db.scalar(FINGERPRINT)) == signal(1).fingerprint
        again = await ledger.record_page(SOURCE, [signal(1, "Mended.")], [], {}, run, clock())
        back = await ledger.record_page(SOURCE, [signal(1)], [], {}, run, clock())
        assert (again.unchanged, back.changed) == (1, 1)

    @pytest.mark.parametrize("verdict", [None, Unknown("reset"), Accepted("SIGNAL-10"), Later("408"), Refused("422")])
    async def test_a_double_is_told(self, ledger: Ledger, clock: Clock, verdict: Verdict | None) -> None:
        """When the record was posted again meanwhile, that Zentrik has it from the first try too is in its history and
        in the log; where it stands is not touched."""
        run, taken = await self.given_up(ledger, clock)
        await ledger.settle_unknowns([Sighting(taken.id, taken.attempt, None, clock())], run, clock())
        [second] = (await ledger.exchange([], 1, run, clock())).claimed
        if verdict is not None:
            await ledger.exchange([Answer(second, verdict, clock(), clock())], 0, run, clock())
        before = await the_row(ledger)
        with capture_logs() as logged:
            assert await self.bring(ledger, clock, run, taken, "SIGNAL-9") == 0
        assert await the_row(ledger) == before
        [*_, last] = await ledger.ask(report.history, before)
        assert (last.event, last.detail) == (
            "late answer",
            "Zentrik also has it as SIGNAL-9 (try 1); `syncd audit` finds doubles",
        )
        assert [(line["log_level"], line["public_id"]) for line in logged] == [("warning", "SIGNAL-9")]

    async def test_what_is_known_already_is_not_told_again(self, ledger: Ledger, clock: Clock) -> None:
        """A record that was looked for and found is no double when its own answer comes at last."""
        run, taken = await self.given_up(ledger, clock)
        found = Sighting(taken.id, taken.attempt, Accepted("SIGNAL-9"), clock())
        await ledger.settle_unknowns([found], run, clock())
        history = await told(ledger)
        assert await self.bring(ledger, clock, run, taken, "SIGNAL-9") == 0
        assert await told(ledger) == history


class TestUnknown:
    @pytest.mark.parametrize(
        ("found", "state", "event"),
        [(Accepted("SIGNAL-3", "job-3"), State.PROCESSING, "found"), (None, State.QUEUED, "not found")],
    )
    async def test_looking_settles_it(
        self, ledger: Ledger, clock: Clock, found: Accepted | None, state: State, event: str
    ) -> None:
        """A signal found at Zentrik is followed to its outcome; one that is not there is posted again."""
        await answered(ledger, clock, Unknown("reset"))
        [lost] = await ledger.unknowns(10, clock())
        assert (lost.external_id, lost.body, lost.sent_at) == ("listed:reviews:r-1", signal(1).body, clock())
        sighting = Sighting(lost.id, lost.attempt, found, clock())
        assert await ledger.settle_unknowns([sighting, sighting], None, clock()) == (found is not None)
        row = await the_row(ledger)
        assert (row.state, row.public_id) == (state, found and found.public_id)
        assert event in await told(ledger)

    async def test_one_that_cannot_be_looked_for_rests(self, ledger: Ledger, clock: Clock) -> None:
        """A body without an externalId is left for a person, with the reason, and asked about no more."""
        row = await answered(ledger, clock, Unknown("reset"))
        await ledger.look_again({row.id: None}, "no name")
        clock.move(1e6)
        assert await ledger.unknowns(10, clock()) == []
        assert (await the_row(ledger)).last_error == "no name"


class TestClock:
    async def test_a_clock_that_was_set_back_keeps_nothing_waiting(self, ledger: Ledger, clock: Clock) -> None:
        """After a wrong clock was put right, what was to wait ten minutes does not wait for a month."""
        clock.move(30 * 86_400)
        run, [one, other, *_] = await claimed(ledger, clock, *(signal(number) for number in range(3)))
        soon = clock() + timedelta(minutes=10)
        answers = [
            Answer(one, Later("408"), clock(), soon),
            Answer(other, Unknown("reset", may_arrive=True), clock(), soon, soon),
        ]
        await ledger.exchange(answers, 0, run, clock())
        clock.move(-30 * 86_400)
        run = await ledger.start_run("test", clock())
        back = await ledger.mend_clock(run, clock(), timedelta(seconds=10))
        assert back == timedelta(days=30)
        assert len((await ledger.exchange([], 10, run, clock())).claimed) == 1
        [lost] = await ledger.unknowns(10, clock())
        assert lost.absent_from == clock() + timedelta(seconds=10)
        clock.move(ledger.leases.post.total_seconds())
        dies(ledger)
        assert await ledger.suspect_unfinished(clock()) == 2
        assert (await ledger.ask(report.connector_rows))[SOURCE.name].started_at == clock() - ledger.leases.post

    async def test_clocks_that_differ_a_little_are_no_trouble(self, ledger: Ledger, clock: Clock) -> None:
        """Two machines on one ledger, a few seconds apart, disturb nobody's waits."""
        await answered(ledger, clock, Later("408"), after=600)
        clock.move(-30)
        run = await ledger.start_run("test", clock())
        assert await ledger.mend_clock(run, clock(), timedelta(seconds=10)) is None
        assert (await ledger.exchange([], 10, run, clock())).claimed == []


class TestReruns:
    async def test_each_try_is_counted_before_it_is_made(self, ledger: Ledger, clock: Clock) -> None:
        """A signal that kills every syncd that has it processed again is not processed again for ever."""
        await answered(ledger, clock, Accepted("SIGNAL-1", "job-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, Failed("Busy.", "job-1"), clock(), clock())], run)
        [again] = await ledger.claim_reruns(10, clock())
        assert (again.reruns, again.failed_as) == (0, "job-1")
        assert await ledger.claim_reruns(10, clock()) == []
        clock.move(ledger.leases.post.total_seconds())
        [again] = await ledger.claim_reruns(10, clock())
        assert again.reruns == 1
        await ledger.postpone_reruns([again.id], clock())
        [again] = await ledger.claim_reruns(10, clock())
        assert again.reruns == 1, "a try that could not be made does not count"
        assert await ledger.await_again({again.id: "job-2"}, run, clock()) == 1
        [waiting] = await ledger.awaited(10, clock())
        assert (waiting.reruns, waiting.failed_as) == (2, "job-1")
        assert (await the_row(ledger)).job_id == "job-2"

    async def test_a_deleted_signal_is_at_its_end(self, ledger: Ledger, clock: Clock) -> None:
        """What somebody deleted at Zentrik is not asked about, not posted, and not processed again."""
        row = await answered(ledger, clock, Accepted("SIGNAL-1", "job-1"))
        run = await ledger.start_run("test", clock())
        await ledger.note_deleted([row.id, row.id], run, clock())
        assert (await the_row(ledger)).state is State.DELETED
        assert await told(ledger) == ["queued", "accepted", "deleted"]
        clock.move(1e7)
        assert await ledger.awaited(10, clock()) == await ledger.claim_reruns(10, clock()) == []
        assert (await ledger.exchange([], 10, run, clock())).claimed == []
        assert await ledger.requeue([row.id], State.DELETED, run, clock()) == {row.id}
        assert len((await ledger.exchange([], 10, run, clock())).claimed) == 1


class TestLooks:
    async def test_an_outcome_is_kept_with_its_insights_and_times(self, ledger: Ledger, clock: Clock) -> None:
        """What Zentrik made of a record can be read from the ledger alone."""
        await answered(ledger, clock, Accepted("SIGNAL-1", "job-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        ended = clock() + timedelta(seconds=3)
        outcome = Processed(("i-1", "i-2"), "job-2", clock(), ended)
        await ledger.record_looks([Look(waiting, outcome, clock())], run)
        row = await the_row(ledger)
        assert (row.state, row.insight_ids, row.job_id) == (State.PROCESSED, ("i-1", "i-2"), "job-2")
        assert (row.processing_started_at, row.settled_at, row.due_at) == (clock(), ended, None)
        assert (await ledger.ask(report.run_counts, run)).signals == dict.fromkeys(State, 0) | {State.PROCESSED: 1}

    @pytest.mark.parametrize("outcome", [Failed("The text is empty."), Gone()])
    async def test_a_failure_is_kept_in_zentriks_words(
        self, ledger: Ledger, clock: Clock, outcome: Failed | Gone
    ) -> None:
        """Why processing failed is known without asking again; the job that failed is not forgotten."""
        await answered(ledger, clock, Accepted("SIGNAL-1", "job-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, outcome, clock())], run)
        row = await the_row(ledger)
        state, words = (State.FAILED, "The text is empty.") if isinstance(outcome, Failed) else (State.DELETED, GONE)
        assert (row.state, row.job_id, row.insight_ids) == (state, "job-1", ())
        assert row.last_error == words

    async def test_an_unsettled_one_is_asked_about_again_when_due(self, ledger: Ledger, clock: Clock) -> None:
        """A signal still being processed is not forgotten, and not asked about too soon."""
        await answered(ledger, clock, Accepted("SIGNAL-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, Unsettled(), clock(), clock() + timedelta(seconds=5))], run)
        assert await ledger.awaited(10, clock()) == []
        clock.move(5)
        [again] = await ledger.awaited(10, clock())
        assert again.looks == 1

    async def test_old_news_does_not_undo_a_retry(self, ledger: Ledger, clock: Clock) -> None:
        """A look begun before a signal was processed anew says nothing about the new processing."""
        row = await answered(ledger, clock, Accepted("SIGNAL-1", "job-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        look = Look(waiting, Failed("out of memory", "job-1"), clock())
        await ledger.record_looks([look], run)
        clock.move(1)
        await ledger.reprocess({row.id: "job-2"}, run, clock())
        await ledger.record_looks([look], run)
        assert (await the_row(ledger)).state is State.PROCESSING
        [again] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(again, Processed(), clock())], run)
        assert (await the_row(ledger)).state is State.PROCESSED


class TestOperators:
    async def test_a_rejected_signal_is_queued_again(self, ledger: Ledger, clock: Clock) -> None:
        """`syncd retry` posts a rejected record once more, its tries counted afresh."""
        row = await answered(ledger, clock, Refused("422"), None)
        run = await ledger.start_run("test", clock())
        assert await ledger.requeue([row.id], State.REJECTED, run, clock()) == {row.id}
        [taken] = (await ledger.exchange([], 10, run, clock())).claimed
        assert (taken.attempt, taken.failures) == (2, 0)

    async def test_a_deleted_signal_begins_anew(self, ledger: Ledger, clock: Clock) -> None:
        """What is posted again after it was deleted at Zentrik is a new signal there: it has its whole budget, and
        nothing of the old one's job, failures and insights."""
        row = await answered(ledger, clock, Accepted("SIGNAL-1", "job-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, Failed("Busy.", "job-1"), clock(), clock())], run)
        await ledger.claim_reruns(10, clock())
        await ledger.await_again({row.id: "job-2"}, run, clock())
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, Processed(("i-1",)), clock())], run)
        await ledger.note_deleted([row.id], run, clock())
        await ledger.requeue([row.id], State.DELETED, run, clock())
        row = await the_row(ledger)
        assert (row.state, row.public_id, row.job_id, row.insight_ids) == (State.QUEUED, None, None, ())
        assert (row.accepted_at, row.settled_at, row.processing_started_at) == (None, None, None)
        [taken] = (await ledger.exchange([], 1, run, clock())).claimed
        await ledger.exchange([Answer(taken, Accepted("SIGNAL-2"), clock(), clock())], 0, run, clock())
        [waiting] = await ledger.awaited(10, clock())
        assert (waiting.public_id, waiting.looks, waiting.reruns, waiting.failed_as) == ("SIGNAL-2", 0, 0, None)

    async def test_a_delivered_signal_is_never_queued_again(self, ledger: Ledger, clock: Clock) -> None:
        """No command can post a record a second time that Zentrik has."""
        row = await answered(ledger, clock, Accepted("SIGNAL-1"))
        run = await ledger.start_run("test", clock())
        assert await ledger.requeue([row.id], State.REJECTED, run, clock()) == set()
        assert (await ledger.exchange([], 10, run, clock())).claimed == []

    async def test_a_failed_signal_is_awaited_again_under_its_new_job(self, ledger: Ledger, clock: Clock) -> None:
        """A failed processing that is run again keeps its publicId and its history."""
        row = await answered(ledger, clock, Accepted("SIGNAL-1", "job-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, Failed("out of memory"), clock())], run)
        assert await ledger.reprocess({row.id: "job-2"}, run, clock()) == 1
        row = await the_row(ledger)
        assert (row.state, row.public_id, row.job_id, row.last_error) == (State.PROCESSING, "SIGNAL-1", "job-2", None)
        assert await told(ledger) == ["queued", "accepted", "failed", "retried"]

    async def test_clearing_away_is_done_once_a_day(self, ledger: Ledger, clock: Clock) -> None:
        """A cron job that runs every minute does not search a large ledger for old texts every minute."""
        await answered(ledger, clock, Accepted("SIGNAL-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        await ledger.clear_away(run, timedelta(0), clock())
        await ledger.record_looks([Look(waiting, Processed(ended_at=clock()), clock())], run)
        clock.move(3600)
        assert await ledger.clear_away(run, timedelta(0), clock()) == 0
        clock.move(24 * 3600)
        assert await ledger.clear_away(run, timedelta(0), clock()) == 1

    async def test_texts_are_dropped_after_their_time_and_rows_stay(self, ledger: Ledger, clock: Clock) -> None:
        """Customers' words leave this machine when the operator says so, and are still not imported again."""
        await answered(ledger, clock, Accepted("SIGNAL-1"))
        run = await ledger.start_run("test", clock())
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, Processed(ended_at=clock()), clock())], run)
        month = timedelta(days=30)
        assert await ledger.clear_away(run, month, clock()) == 0
        clock.move(month.total_seconds() + 1)
        assert await ledger.clear_away(run, month, clock()) == 1
        assert await ledger.ask(report.body, await the_row(ledger)) is None
        await ledger.start_pull(SOURCE, run, clock())
        assert (await ledger.record_page(SOURCE, [signal(1)], [], {}, run, clock())).unchanged == 1

    async def test_what_is_dropped_gives_its_space_back(self, tmp_path: Path, clock: Clock) -> None:
        """A file on a small disk shrinks by itself once its texts have had their time, however many there are."""
        ledger = Ledger(Database(f"sqlite:///{tmp_path / 'ledger.db'}"))
        page = [signal(number, f"{number} " + "The export takes too long. " * 40) for number in range(2500)]
        run, taken = await claimed(ledger, clock, *page)
        answers = [Answer(each, Accepted(f"SIGNAL-{each.id}"), clock(), clock()) for each in taken]
        while answers:
            more = (await ledger.exchange(answers, 1000, run, clock())).claimed
            answers = [Answer(each, Accepted(f"SIGNAL-{each.id}"), clock(), clock()) for each in more]
        looks = [Look(each, Processed(ended_at=clock()), clock()) for each in await ledger.awaited(3000, clock())]
        await ledger.record_looks(looks, run)
        full = await ledger.ask(pages_of_the_file)
        clock.move(24 * 3600)
        assert await ledger.clear_away(run, timedelta(hours=1), clock()) == 2500
        assert await ledger.ask(pages_of_the_file) < full / 2
        assert Counter(row.state for row in await rows(ledger)) == {State.PROCESSED: 2500}
        ledger.close()


def pages_of_the_file(db: sa.Connection) -> int:
    """How large an SQLite file is, in its pages."""
    return int(db.exec_driver_sql("PRAGMA page_count").scalar_one())
