"""What people and their scripts are told of the ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from syncd.connector import Source
from syncd.fates import Accepted, Failed, Later, Processed, Refused, Unknown, Verdict
from syncd.ledger import Answer, Ledger, Look, State, report
from syncd.records import Link, SetAside
from syncd.signals import Signal, compose
from tests.conftest import Clock, record, source

REVIEWS = source(name="reviews")
TICKETS = source(name="tickets")


class Books:
    """A ledger that is filled step by step, a second apart."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock

    async def page(self, origin: Source, *numbers: int, aside: Sequence[SetAside] = ()) -> int:
        """A run that read these records."""
        self.clock.move(1)
        run = await self.ledger.start_run("run-once", self.clock())
        await self.ledger.start_pull(origin, run, self.clock())
        page = [compose(record(number), origin) for number in numbers]
        await self.ledger.record_page(origin, page, aside, {"page": 1}, run, self.clock())
        await self.ledger.finish_pull(origin, run, None, self.clock())
        return run

    async def answer(self, run: int, *verdicts: Verdict, after: float | None = None) -> None:
        """Claim as many signals as there are verdicts, and a second later store these."""
        claimed = (await self.ledger.exchange([], len(verdicts), run, self.clock())).claimed
        self.clock.move(1)
        due_at = None if after is None else self.clock() + timedelta(seconds=after)
        answers = [Answer(*pair, self.clock(), due_at) for pair in zip(claimed, verdicts, strict=True)]
        await self.ledger.exchange(answers, 0, run, self.clock())

    async def ids(self, **filters: object) -> list[str]:
        """The externalIds that `find` gives, less what all of them begin with."""
        rows = await self.ledger.ask(lambda db: list(report.find(db, **filters)))  # type: ignore[arg-type]
        return [row.external_id.removeprefix("listed:") for row in rows]

    async def named(self, name: str) -> report.SignalRow:
        row = await self.ledger.ask(report.named, name)
        assert row is not None
        return row


@pytest.fixture
def books(ledger: Ledger, clock: Clock) -> Books:
    return Books(ledger, clock)


class TestFind:
    async def test_signals_come_newest_first(self, books: Books) -> None:
        """What came in last is what an operator looks for first."""
        await books.page(REVIEWS, 1, 2)
        await books.page(TICKETS, 1)
        assert await books.ids() == ["tickets:r-1", "reviews:r-2", "reviews:r-1"]
        assert await books.ids(limit=2) == ["tickets:r-1", "reviews:r-2"]

    async def test_each_filter_narrows_down(self, books: Books) -> None:
        """`syncd signals` shows what was asked for, and filters that are given together all hold."""
        first = await books.page(REVIEWS, 1, 2, 3)
        await books.answer(first, Accepted("SIGNAL-1"), Refused("422"))
        second = await books.page(TICKETS, 1)
        assert await books.ids(states=[State.REJECTED]) == ["reviews:r-2"]
        assert await books.ids(states=[State.QUEUED, State.PROCESSING]) == ["tickets:r-1", "reviews:r-3", "reviews:r-1"]
        assert await books.ids(connector="tickets") == ["tickets:r-1"]
        assert await books.ids(connector="nobody") == []
        assert await books.ids(run=second) == ["tickets:r-1"]
        assert await books.ids(external_ids=["listed:reviews:r-2", "listed:tickets:r-1", "x"]) == [
            *("tickets:r-1", "reviews:r-2"),
        ]
        assert await books.ids(states=[State.QUEUED], connector="reviews", run=first, limit=5) == ["reviews:r-3"]

    async def test_more_than_one_batch_comes_whole_and_in_order(self, books: Books) -> None:
        """A listing of a long ledger, fetched in batches, leaves no row out."""
        await books.page(REVIEWS, *range(1203))
        assert await books.ids() == [f"reviews:r-{number}" for number in reversed(range(1203))]

    async def test_a_reader_that_stops_early_spoils_nothing(self, books: Books) -> None:
        """A listing that is cut short leaves the connection fit for the next question."""
        await books.page(REVIEWS, *range(600))

        def cut_short(db: sa.Connection) -> tuple[str, dict[str, dict[State, int]]]:
            return next(report.find(db)).external_id, report.counts(db)

        assert await books.ledger.ask(cut_short) == ("listed:reviews:r-599", {"reviews": {State.QUEUED: 600}})


class TestNamed:
    async def test_a_signal_is_found_by_either_of_its_names(self, books: Books) -> None:
        """`syncd show` takes what the operator has at hand: our externalId, or Zentrik's publicId."""
        run = await books.page(REVIEWS, 1, 2)
        await books.answer(run, Accepted("SIGNAL-1"))
        assert (await books.named("SIGNAL-1")).external_id == "listed:reviews:r-1"
        assert (await books.named("listed:reviews:r-1")).public_id == "SIGNAL-1"
        assert await books.ledger.ask(report.named, "SIGNAL-2") is None

    async def test_our_own_name_goes_first(self, books: Books) -> None:
        """A publicId that looks like another signal's externalId does not hide that signal."""
        run = await books.page(REVIEWS, 1, 2)
        await books.answer(run, Accepted("listed:reviews:r-2"))
        assert (await books.named("listed:reviews:r-2")).external_id == "listed:reviews:r-2"

    async def test_many_are_known_at_once(self, books: Books) -> None:
        """A dry run over a large source asks in a few questions, and loses no name between them."""
        await books.page(REVIEWS, *range(1100))
        names = [f"listed:reviews:r-{number}" for number in range(1200)]
        assert set(await books.ledger.ask(report.known, names)) == set(names[:1100])
        assert await books.ledger.ask(report.known, []) == {}
        assert await books.ledger.ask(report.versions, names) == dict.fromkeys(names[:1100])


class TestOneSignal:
    async def test_its_json_has_exactly_the_keys_of_the_contract(self, books: Books) -> None:
        """A script that reads `signals --json` finds each key, under its name, with a value of its kind."""
        full = compose(
            record(
                1,
                title="Exports",
                occurred_at=datetime(2026, 11, 1, 8, 30, tzinfo=UTC),
                links=(Link("https://g2.example/1"),),
                place="g2.csv line 7",
            ),
            REVIEWS,
        )
        ledger, clock = books.ledger, books.clock
        run = await ledger.start_run("run-once", clock())
        await ledger.start_pull(REVIEWS, run, clock())
        await ledger.record_page(REVIEWS, [full], [], {}, run, clock())
        bare = (await books.named(full.external_id)).as_json()
        assert bare == {
            "externalId": "listed:reviews:r-1",
            "connector": "reviews",
            "state": "queued",
            "signalType": "review",
            "name": "Exports",
            "publicId": None,
            "jobId": None,
            "insightIds": [],
            "attempts": 0,
            "lastError": None,
            "occurredAt": "2026-11-01T08:30:00Z",
            "sourceUrl": "https://g2.example/1",
        }
        await books.answer(run, Accepted("SIGNAL-1", "job-1"), after=0)
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, Processed(("i-1", "i-2")), clock())], run)
        done = (await books.named("SIGNAL-1")).as_json()
        changed = {"state": "processed", "publicId": "SIGNAL-1", "jobId": "job-1", "insightIds": ["i-1", "i-2"]}
        assert done == {**bare, **changed, "attempts": 1}
        assert json.loads(json.dumps(done)) == done

    async def test_its_history_is_told_in_order(self, books: Books) -> None:
        """What happened to a record can be read from top to bottom, from the file it came from to its end."""
        ledger, clock = books.ledger, books.clock
        seen = clock()
        run = await ledger.start_run("run-once", clock())
        await ledger.start_pull(REVIEWS, run, clock())
        placed = compose(record(1, place="g2.csv line 7"), REVIEWS)
        await ledger.record_page(REVIEWS, [placed], [], {}, run, clock())
        await books.answer(run, Later("429: too many requests", parks=True), after=0)
        await books.answer(run, Accepted("SIGNAL-1"), after=0)
        [waiting] = await ledger.awaited(10, clock())
        await ledger.record_looks([Look(waiting, Failed("no speech found"), clock())], run)
        row = await books.named("SIGNAL-1")
        assert await ledger.ask(report.history, row) == [
            report.Event(seen, "queued", "from g2.csv line 7"),
            report.Event(seen + timedelta(seconds=1), "postponed", "429: too many requests"),
            report.Event(seen + timedelta(seconds=2), "accepted", "SIGNAL-1"),
            report.Event(seen + timedelta(seconds=2), "failed", "no speech found"),
        ]
        assert await ledger.ask(report.body, row) == placed.body

    async def test_words_no_database_keeps_are_kept_as_far_as_they_can_be(self, books: Books) -> None:
        """An error text with broken characters, from any vendor, never stops the engine."""
        aside = [SetAside("half\ud800.csv\0:2", "bad\0 row \udcff")]
        run = await books.page(REVIEWS, 1, aside=aside)
        await books.answer(run, Refused("422: \ud800\0no"))
        row = await books.named("listed:reviews:r-1")
        assert row.last_error == "422: ?no"
        assert (await books.ledger.ask(report.history, row))[-1].detail == "422: ?no"
        [told] = await books.ledger.ask(lambda db: list(report.aside(db)))
        assert (told.place, told.reason) == ("half?.csv:2", "bad row ?")
        mended = Signal("listed:reviews:r-9", b"{}", b"f", place="half?.csv:2")
        await books.ledger.start_pull(REVIEWS, run, books.clock())
        await books.ledger.record_page(REVIEWS, [mended], [], {}, run, books.clock())
        assert await books.ledger.ask(report.aside_counts) == {}


class TestCounts:
    async def test_signals_are_counted_by_connector_and_state(self, books: Books) -> None:
        """The figures an operator sees are those of the rows."""
        run = await books.page(REVIEWS, 1, 2, 3)
        await books.answer(run, Accepted("SIGNAL-1"), Refused("422"))
        other = await books.page(TICKETS, 1)
        assert await books.ledger.ask(report.counts) == {
            "reviews": {State.PROCESSING: 1, State.REJECTED: 1, State.QUEUED: 1},
            "tickets": {State.QUEUED: 1},
        }
        assert (await books.ledger.ask(report.run_counts, other)).signals == dict.fromkeys(State, 0) | {State.QUEUED: 1}
        assert (await books.ledger.ask(report.run_counts, 999)).signals == dict.fromkeys(State, 0)

    async def test_an_empty_ledger_is_an_answer_too(self, books: Books) -> None:
        """Before the first run every question is answered, with nothing."""
        ask = books.ledger.ask
        assert await ask(report.counts) == {}
        assert await ask(report.waiting_since) == {}
        assert await ask(report.connector_rows) == {}
        assert await ask(report.last_runs) == []
        assert await ask(report.next_due, list(State)) is None
        assert await books.ids() == []

    async def test_the_next_due_is_the_soonest_of_what_was_asked_for(self, books: Books) -> None:
        """The daemon wakes when there is something to do, and sleeps till then."""
        run = await books.page(REVIEWS, 1, 2)
        seen = books.clock()
        await books.answer(run, Accepted("SIGNAL-1"), after=60)
        await books.answer(run, Unknown("reset"), after=30)
        ask, looked = books.ledger.ask, books.clock() + timedelta(seconds=30)
        assert await ask(report.next_due, [State.PROCESSING]) == seen + timedelta(seconds=61)
        assert await ask(report.next_due, [State.UNKNOWN, State.PROCESSING]) == looked
        assert await ask(report.next_due, [State.UNKNOWN], ["reviews"]) == looked
        assert await ask(report.next_due, [State.UNKNOWN], ["tickets"]) is None
        assert await ask(report.next_due, [State.UNKNOWN], []) is None
        assert await ask(report.next_due, [State.QUEUED]) is None

    async def test_how_long_a_connector_has_waited_is_its_oldest_signals_wait(self, books: Books) -> None:
        """A lag that grows shows that something is stuck; what Zentrik has, or refused, waits no more."""
        run = await books.page(REVIEWS, 1, 2)
        await books.page(REVIEWS, 3)
        seen = books.clock() - timedelta(seconds=1)
        assert await books.ledger.ask(report.waiting_since) == {"reviews": seen}
        await books.answer(run, Accepted("SIGNAL-1"), Refused("422"))
        assert await books.ledger.ask(report.waiting_since) == {"reviews": seen + timedelta(seconds=1)}
        await books.answer(run, Unknown("reset"))
        assert await books.ledger.ask(report.waiting_since) == {"reviews": seen + timedelta(seconds=1)}


class TestReadings:
    async def test_how_each_connector_stands_is_known_by_name(self, books: Books) -> None:
        """Its last run, its last good one, its error and its place in the source are there after a restart."""
        ledger, clock = books.ledger, books.clock
        run = await books.page(TICKETS)
        good = clock()
        clock.move(60)
        await ledger.start_pull(TICKETS, run, clock())
        started = clock()
        clock.move(5)
        await ledger.finish_pull(TICKETS, run, ("credentials_refused", "the token\0 expired"), clock())
        await books.page(REVIEWS)
        rows = await ledger.ask(report.connector_rows)
        assert list(rows) == ["reviews", "tickets"]
        assert rows["tickets"] == report.ConnectorRow(
            name="tickets",
            type="listed",
            namespace="listed:tickets",
            checkpoint={"page": 1},
            run_id=None,
            started_at=started,
            finished_at=started + timedelta(seconds=5),
            succeeded_at=good,
            error_code="credentials_refused",
            error_message="the token expired",
            failures=1,
            paused_at=None,
            rests_until=None,
        )

    async def test_what_was_set_aside_comes_newest_first(self, books: Books) -> None:
        """Rows to mend are listed with their place and reason, those of the latest run on top."""
        first = await books.page(REVIEWS, aside=[SetAside("b.csv:2", "no text"), SetAside("a.csv:3", "no date")])
        await books.page(TICKETS, aside=[SetAside("c.csv:9", "no id")])

        async def places(**filters: object) -> list[str]:
            return [row.place for row in await books.ledger.ask(lambda db: list(report.aside(db, **filters)))]  # type: ignore[arg-type]

        assert await places() == ["c.csv:9", "a.csv:3", "b.csv:2"]
        assert await places(connector="reviews") == await places(run=first) == ["a.csv:3", "b.csv:2"]
        assert await books.ledger.ask(report.aside_counts) == {"reviews": 2, "tickets": 1}

    async def test_the_latest_runs_come_with_their_figures(self, books: Books) -> None:
        """What each night's run did can be looked up the next morning; one that died has no figures."""
        run = await books.page(REVIEWS)
        await books.ledger.finish_run(run, {"posted": 3, "connectors": {}}, books.clock())
        died = await books.page(REVIEWS)
        newest, oldest = await books.ledger.ask(report.last_runs)
        assert (newest.id, newest.finished_at, newest.figures) == (died, None, None)
        assert (oldest.command, oldest.figures) == ("run-once", {"posted": 3, "connectors": {}})
        assert len(await books.ledger.ask(report.last_runs, 1)) == 1


def test_instants_are_written_in_utc() -> None:
    """A script can compare times as texts, and none is taken for local time."""
    assert report.iso(datetime(2026, 11, 2, 9, 0, 0, 250_000, tzinfo=UTC)) == "2026-11-02T09:00:00.250000Z"
    assert report.iso(None) is None


class TestDaily:
    async def test_each_day_has_its_own_figures(self, books: Books, clock: Clock) -> None:
        """The chart counts a signal on the day it was accepted, and on the day its outcome came."""
        run = await books.page(REVIEWS, 1, 2, 3)
        await books.answer(run, Accepted("SIGNAL-1", "job"), Accepted("SIGNAL-2", "job"), Refused("no"), after=0)
        first = clock().date()
        clock.move(86_400)
        for waiting, outcome in zip(
            await books.ledger.awaited(10, clock()),
            (Processed((), "job", None, clock()), Failed("no insights", "job", None, clock())),
            strict=True,
        ):
            await books.ledger.record_looks([Look(waiting, outcome, clock(), None)], run)
        clock.move(86_400)
        days = await books.ledger.ask(report.daily, 3, clock())
        assert days == [
            report.Day(first, accepted=2),
            report.Day(first + timedelta(days=1), processed=1, failed=1),
            report.Day(first + timedelta(days=2)),
        ]
        assert await books.ledger.ask(report.daily, 1, clock()) == days[-1:]

    async def test_an_outcome_by_a_clock_ahead_of_ours_is_todays(self, books: Books, clock: Clock) -> None:
        """A Zentrik whose clock is fast makes no day that has not come."""
        run = await books.page(REVIEWS, 1)
        await books.answer(run, Accepted("SIGNAL-1", "job"), after=0)
        [waiting] = await books.ledger.awaited(10, clock())
        ahead = clock() + timedelta(days=1)
        await books.ledger.record_looks([Look(waiting, Processed((), "job", None, ahead), clock(), None)], run)
        assert (await books.ledger.ask(report.daily, 2, clock()))[-1].processed == 1


class TestSteps:
    async def test_each_is_told_once_with_how_long_it_took(self, books: Books, clock: Clock) -> None:
        """What is asked for from the last one on adds up to everything that happened, and nothing twice."""
        run = await books.page(REVIEWS, 1, 2)
        before = await books.ledger.ask(report.last_step)
        await books.answer(run, Accepted("SIGNAL-1", "job"), Refused("no"), after=0)
        first = await books.ledger.ask(report.steps, before)
        assert [(step.event, step.connector) for step in first] == [("accepted", "reviews"), ("rejected", "reviews")]
        assert first[0].took == timedelta(seconds=1)
        assert first[1].took is None
        [waiting] = await books.ledger.awaited(10, clock())
        done = Processed((), "job", None, clock() + timedelta(seconds=5))
        await books.ledger.record_looks([Look(waiting, done, clock(), None)], run)
        [second] = await books.ledger.ask(report.steps, first[-1].id)
        assert (second.event, second.took, second.run) == ("processed", timedelta(seconds=5), run)
        assert await books.ledger.ask(report.steps, second.id) == []
        assert len(await books.ledger.ask(report.steps, before, 2)) == 2
