"""Track: outcomes become known in few calls, whatever order Zentrik lists in, and nothing is concluded from trouble."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import syncd.track
from syncd.errors import KeyRefused
from syncd.fates import Accepted
from syncd.ledger import Answer, Ledger, State, report
from syncd.pacing import LookSchedule
from syncd.rerun import rerun_failed
from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.bodies import creation
from syncd.sandbox.books import Order
from syncd.signals import Signal
from syncd.track import track
from syncd.zentrik import Troubled, Zentrik
from tests.conftest import Clock, at, longest, rows, signal, source

ORDERS: tuple[Order, ...] = ("newest_first", "oldest_first", "creation", "shuffled")
TAKES = timedelta(seconds=5)


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the database."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def looks() -> LookSchedule:
    return LookSchedule()


def workspace(clock: Clock, order: Order = "newest_first", takes: timedelta = TAKES) -> Sandbox:
    return Sandbox(now=clock, order=order, processing_takes=takes)


def others(sandbox: Sandbox, count: int) -> None:
    """Signals that somebody else sent to the workspace."""
    draft = creation({"name": "Other", "text": "Something else.", "signalType": "review"})
    for _ in range(count):
        sandbox.books._enter(draft)  # checked once: a crowd is made ten times a second


async def accepted(
    ledger: Ledger, sandbox: Sandbox, clock: Clock, looks: LookSchedule, page: Sequence[Signal], name: str = "reviews"
) -> int:
    """A run that has posted these signals, and all were accepted."""
    run = await ledger.start_run("test", clock())
    origin = source(name=name)
    await ledger.start_pull(origin, run, clock())
    await ledger.record_page(origin, page, [], {}, run, clock())
    await ledger.finish_pull(origin, run, None, clock())
    answers = []
    for taken in (await ledger.exchange([], len(page), run, clock())).claimed:
        told = sandbox.books.create(json.loads(taken.body))
        verdict = Accepted(told["publicId"], told["jobId"])
        answers.append(Answer(taken, verdict, clock(), looks.first_look(clock())))
    await ledger.exchange(answers, 0, run, clock())
    return run


def some(count: int, start: int = 0) -> list[Signal]:
    return [signal(number) for number in range(start, start + count)]


async def states(ledger: Ledger) -> dict[State, int]:
    return dict(Counter(row.state for row in await rows(ledger)))


async def queued_and_accepted(ledger: Ledger, clock: Clock) -> int:
    """A run one of whose signals Zentrik answered with SIGNAL-1 and job-1."""
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(source(), run, clock())
    await ledger.record_page(source(), some(1), [], {}, run, clock())
    [taken] = (await ledger.exchange([], 1, run, clock())).claimed
    await ledger.exchange([Answer(taken, Accepted("SIGNAL-1", "job-1"), clock(), clock())], 0, run, clock())
    return run


def json_of(shown: Any) -> httpx.Response:
    """The answer that shows that; a list is asked for by its limit."""
    return httpx.Response(200, json=shown)


async def follow(ledger: Ledger, zentrik: Zentrik, looks: LookSchedule, run: int, clock: Clock) -> int:
    """Rounds as the daemon makes them, at least a second apart, until every outcome is known; how many it took."""
    second = timedelta(seconds=1)
    for number in range(200):
        due = await ledger.ask(report.next_due, [State.PROCESSING])
        if due is None:
            return number
        clock.now = max(due, clock() + second)
        horizon = max(second, (looks.learned or timedelta(0)) / 4)
        await track(ledger, zentrik, looks, run, clock, longest, horizon=horizon)
    raise AssertionError("not settled after 200 rounds")


class TestCalls:
    @pytest.mark.parametrize(
        ("order", "crowd"),
        [
            *((order, (2500, 2500)) for order in ORDERS),
            ("newest_first", (0, 5000)),
            ("oldest_first", (5000, 0)),
        ],
        ids=str,
    )
    async def test_a_thousand_outcomes_in_few_calls(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, order: Order, crowd: tuple[int, int]
    ) -> None:
        """A thousand signals settle within 150 read calls, wherever they stand among 5,000 of other people's."""
        sandbox = workspace(clock, order)
        others(sandbox, crowd[0])
        clock.move(1)
        run = await accepted(ledger, sandbox, clock, looks, some(1000))
        clock.move(1)
        others(sandbox, crowd[1])
        async with at(sandbox, clock) as zentrik:
            await follow(ledger, zentrik, looks, run, clock)
            assert zentrik.calls.reads <= 150
        assert await states(ledger) == {State.PROCESSED: 1000}

    @pytest.mark.parametrize(
        ("order", "crowd", "takes", "most"),
        [
            ("newest_first", 0, 1000, 100),
            ("oldest_first", 5000, 30, 100),
            ("shuffled", 5000, 30, 250),
        ],
    )
    async def test_a_thousand_accepted_one_after_the_other(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, order: Order, crowd: int, takes: int, most: int
    ) -> None:
        """The calls stay few when signals fall due in the course of an import, and grow little with Zentrik's time."""
        sandbox = workspace(clock, order, timedelta(seconds=takes))
        others(sandbox, crowd)
        clock.move(1)
        async with at(sandbox, clock) as zentrik:
            for second in range(10):
                run = await accepted(ledger, sandbox, clock, looks, some(100, second * 100))
                clock.move(1)
                await track(ledger, zentrik, looks, run, clock, longest, horizon=timedelta(seconds=1))
            await follow(ledger, zentrik, looks, run, clock)
            assert zentrik.calls.reads <= most
        assert await states(ledger) == {State.PROCESSED: 1000}

    async def test_two_are_asked_for_by_name(self, ledger: Ledger, clock: Clock, looks: LookSchedule) -> None:
        """A workspace is not paged through for a handful of signals."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(2))
        clock.move(60)
        async with at(sandbox, clock) as zentrik:
            assert (await track(ledger, zentrik, looks, run, clock, longest)).processed == 2
        assert (sandbox.calls.count("GET", "/signals"), sandbox.calls.count("GET", "/signals/:publicId")) == (0, 2)

    @pytest.mark.parametrize("order", ORDERS)
    async def test_a_few_lost_in_a_crowd_are_asked_for_by_name(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, order: Order
    ) -> None:
        """Where pages show too little they are left: twenty signals among 5,000 cost two pages more at most."""
        sandbox = workspace(clock, order)
        others(sandbox, 2500)
        clock.move(1)
        run = await accepted(ledger, sandbox, clock, looks, some(20))
        clock.move(60)
        others(sandbox, 2500)
        async with at(sandbox, clock) as zentrik:
            assert (await track(ledger, zentrik, looks, run, clock, longest)).processed == 20
            assert zentrik.calls.reads <= 22

    async def test_one_that_is_stuck_does_not_keep_the_others_waiting(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """A job that never ends at Zentrik delays nobody else's outcome for long."""
        sandbox = workspace(clock, takes=timedelta(days=1))
        await accepted(ledger, sandbox, clock, looks, some(1))
        sandbox.books._processing_takes = TAKES
        run = await accepted(ledger, sandbox, clock, looks, some(300, 1))
        async with at(sandbox, clock) as zentrik:
            while (await ledger.ask(report.run_counts, run)).signals[State.PROCESSED] < 300:
                assert clock() < Clock()() + timedelta(seconds=15)
                await track(ledger, zentrik, looks, run, clock, longest, horizon=timedelta(seconds=1))
                clock.move(1)

    async def test_outcomes_seen_by_the_way_are_kept(self, ledger: Ledger, clock: Clock, looks: LookSchedule) -> None:
        """A page that shows a settled signal before its time is not asked for again for it."""
        sandbox = workspace(clock, takes=timedelta(seconds=1))
        run = await accepted(ledger, sandbox, clock, looks, some(40))
        clock.move(1.5)
        await accepted(ledger, sandbox, clock, looks, some(40, 40))
        clock.move(1)
        async with at(sandbox, clock) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
            assert (tracked.asked, tracked.processed, zentrik.calls.reads) == (40, 80, 1)

    async def test_nothing_due_asks_nothing(self, ledger: Ledger, clock: Clock, looks: LookSchedule) -> None:
        """Zentrik is not called for signals whose time has not come."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(50))
        async with at(sandbox, clock) as zentrik:
            assert (await track(ledger, zentrik, looks, run, clock, longest)).asked == 0
            assert zentrik.calls.reads == 0
            assert (await track(ledger, zentrik, looks, run, clock, longest, horizon=looks.first)).asked == 50

    async def test_a_round_is_bounded_and_the_next_goes_on(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A ledger with any number of awaited signals is worked through round by round."""
        monkeypatch.setattr(syncd.track, "BATCH", 40)
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(100))
        clock.move(60)
        async with at(sandbox, clock) as zentrik:
            settled = [(await track(ledger, zentrik, looks, run, clock, longest)).settled for _ in range(4)]
        assert settled == [40, 40, 20, 0]

    async def test_a_list_that_says_nothing_of_its_length_is_enough(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """Without the paging headers outcomes are still found, and no page is asked for without end."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(250))
        clock.move(60)

        async def answer(request: httpx.Request) -> httpx.Response:
            path, asked = request.url.path, request.url.params
            if path.endswith("/signals"):
                return httpx.Response(200, json=sandbox.books.page(int(asked["limit"]), int(asked["offset"])))
            return httpx.Response(200, json=sandbox.books.get(path.rpartition("/")[2]))

        wire = httpx.MockTransport(answer)
        async with Zentrik("http://zentrik.test/api", "k", clock=clock, transport=wire) as zentrik:
            assert (await track(ledger, zentrik, looks, run, clock, longest)).processed == 250
            assert zentrik.calls.reads <= 6


class TestOutcomes:
    async def test_what_zentrik_drew_is_kept(self, ledger: Ledger, clock: Clock, looks: LookSchedule) -> None:
        """The ledger ends with the very insights, job and times that Zentrik shows."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(5))
        started = clock()
        clock.move(60)
        async with at(sandbox, clock) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
        assert (tracked.asked, tracked.processed, tracked.failed, tracked.settled) == (5, 5, 0, 5)
        for row in await rows(ledger):
            remote = sandbox.books.get(str(row.public_id))
            assert (row.state, row.due_at) == (State.PROCESSED, None)
            assert list(row.insight_ids) == remote["insightIds"]
            assert row.job_id == remote["processing"]["lastJobId"]
            assert (row.processing_started_at, row.settled_at) == (started, started + TAKES)

    @pytest.mark.parametrize("count", [1, 5])
    async def test_a_failure_is_told_in_zentriks_words(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, count: int
    ) -> None:
        """Of a signal that could not be processed its sender learns why; the others are none the worse."""
        sandbox = workspace(clock)
        page = [signal(0, "[sandbox: fail]"), *some(count - 1, 1)]
        run = await accepted(ledger, sandbox, clock, looks, page)
        clock.move(60)
        async with at(sandbox, clock) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
        assert (tracked.processed, tracked.failed) == (count - 1, 1)
        failed, *_ = await rows(ledger)
        assert failed.state is State.FAILED
        assert failed.last_error == "No insights could be drawn from this signal: the processor gave up."

    @pytest.mark.parametrize("count", [1, 30])
    async def test_one_deleted_at_zentrik_is_told_as_that(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, count: int
    ) -> None:
        """A signal somebody deleted is not waited for for ever, and not called a failure of its own."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(count))
        clock.move(60)
        sandbox.books.delete(str((await rows(ledger))[0].public_id))
        async with at(sandbox, clock) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
        assert (tracked.processed, tracked.failed, tracked.deleted) == (count - 1, 0, 1)
        gone, *_ = await rows(ledger)
        assert (gone.state, gone.due_at) == (State.DELETED, None)
        assert "somebody deleted it" in str(gone.last_error)

    async def test_one_not_shown_yet_is_not_called_deleted(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """A 404 of a signal created a moment ago may be news that has not spread yet: it is asked for again."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(1))
        [row] = await rows(ledger)
        sandbox.books.delete(str(row.public_id))
        async with at(sandbox, clock) as zentrik:
            clock.move(20)
            assert (await track(ledger, zentrik, looks, run, clock, longest)).deleted == 0
            assert await states(ledger) == {State.PROCESSING: 1}
            clock.move(20)
            assert (await track(ledger, zentrik, looks, run, clock, longest)).deleted == 1

    async def test_one_that_takes_too_long_is_told_of_and_asked_about_for_ever(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """Overdue is not failed: a signal that takes two days is asked about ever less often, and found."""
        sandbox = workspace(clock, takes=timedelta(days=2))
        run = await accepted(ledger, sandbox, clock, looks, some(1))
        overdue, calls = 0, 0
        async with at(sandbox, clock) as zentrik:
            while await states(ledger) == {State.PROCESSING: 1}:
                tracked = await track(ledger, zentrik, looks, run, clock, longest)
                overdue, calls = overdue + tracked.overdue, calls + 1
                clock.now = (await rows(ledger))[0].due_at or clock.now
        assert await states(ledger) == {State.PROCESSED: 1}
        assert overdue > 40
        assert calls < 100

    async def test_old_news_of_a_failure_is_not_believed(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """A Zentrik that still shows the failure before the one being run again does not use the budget up."""
        shown: dict[str, Any] = {"publicId": "SIGNAL-1", "status": "failed"}
        old = {"lastJobId": "job-1", "lastError": "The model was busy.", "failedAt": "2026-11-02T09:00:01Z"}
        shown["processing"] = old

        async def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(201, json={"jobId": "job-2"}) if request.method == "POST" else json_of(shown)

        run = await queued_and_accepted(ledger, clock)
        async with Zentrik(
            "http://zentrik.test/api", "k", clock=clock, transport=httpx.MockTransport(answer)
        ) as zentrik:
            clock.move(10)
            assert (await track(ledger, zentrik, looks, run, clock, longest)).failed == 1
            clock.move(10)
            assert await rerun_failed(ledger, zentrik, run, clock) is None
            clock.move(10)
            assert (await track(ledger, zentrik, looks, run, clock, longest)).failed == 0
            shown["processing"] = old | {"lastJobId": "job-2"}
            clock.move(60)
            assert (await track(ledger, zentrik, looks, run, clock, longest)).failed == 1

    async def test_a_second_failure_of_the_same_job_is_believed(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """A Zentrik that runs the same job again is not waited for for ever when that fails once more."""
        shown: dict[str, Any] = {"publicId": "SIGNAL-1", "status": "failed"}
        told = {"lastJobId": "job-1", "lastError": "The model was busy.", "failedAt": "2026-11-02T09:00:01Z"}
        shown["processing"] = told
        processed: list[str] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            if request.method == "GET":
                return json_of(shown)
            processed.append(request.url.path)
            return httpx.Response(201, json={"jobId": "job-1"})

        run = await queued_and_accepted(ledger, clock)
        async with Zentrik(
            "http://zentrik.test/api", "k", clock=clock, transport=httpx.MockTransport(answer)
        ) as zentrik:
            clock.move(10)
            await track(ledger, zentrik, looks, run, clock, longest)
            clock.move(600)
            await rerun_failed(ledger, zentrik, run, clock)
            clock.move(60)
            assert (await track(ledger, zentrik, looks, run, clock, longest)).failed == 0, "the failure of before"
            shown["processing"] = told | {"failedAt": "2026-11-02T09:11:00Z"}
            clock.move(60)
            assert (await track(ledger, zentrik, looks, run, clock, longest)).failed == 1
            shown["processing"] = told | {"failedAt": "2026-11-02T09:30:00Z"}
            clock.move(3600)
            await rerun_failed(ledger, zentrik, run, clock)
            assert await states(ledger) == {State.PROCESSING: 1}, "somebody had it run since: that is looked at first"
        assert len(processed) == 1

    @pytest.mark.parametrize("count", [1, 12])
    async def test_a_gateways_404_deletes_nothing(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, count: int
    ) -> None:
        """A gateway that knows no route to Zentrik for a minute does not make signals deleted for good."""
        sandbox = workspace(clock, takes=timedelta(days=1))
        run = await accepted(ledger, sandbox, clock, looks, some(count))
        clock.move(600)
        shown: list[str] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            shown.append(request.url.path)
            is_list = request.url.path.endswith("/signals")
            if is_list and request.url.params["limit"] != "1":
                return json_of([])  # the gateway falters while the round goes on
            return httpx.Response(404, json={"message": "no route matched"})

        async with Zentrik(
            "http://zentrik.test/api", "k", clock=clock, transport=httpx.MockTransport(answer)
        ) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
        assert (tracked.deleted, await states(ledger)) == (0, {State.PROCESSING: count})
        assert tracked.trouble is not None
        assert tracked.calls == len(shown) <= count + 3

    async def test_what_is_gone_costs_one_more_call_a_round(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """However many were deleted at Zentrik, that it was Zentrik who said so is asked once."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(20))
        for row in await rows(ledger):
            sandbox.books.delete(str(row.public_id))
        clock.move(600)
        async with at(sandbox, clock) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
        assert (tracked.deleted, tracked.trouble) == (20, None)
        assert tracked.calls == 20 + 2

    async def test_deletions_between_two_pages_hide_nothing(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """Signals that slip from one page to another unseen are asked for by name in the same round."""
        sandbox = workspace(clock, "creation")
        others(sandbox, 50)
        run = await accepted(ledger, sandbox, clock, looks, some(150))
        clock.move(60)

        def delete_some(call: int) -> None:
            if call == 5:
                for number in range(1, 31):
                    sandbox.books.delete(f"SIGNAL-{number}")

        async with at(sandbox, clock, delete_some) as zentrik:
            assert (await track(ledger, zentrik, looks, run, clock, longest)).processed == 150

    async def test_one_still_being_processed_is_looked_at_again_later(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """The longer Zentrik takes, the less often it is asked; the outcome is found all the same."""
        sandbox = workspace(clock, takes=timedelta(hours=1))
        run = await accepted(ledger, sandbox, clock, looks, some(1))
        begun, waits = clock(), []
        async with at(sandbox, clock) as zentrik:
            while (row := (await rows(ledger))[0]).state is State.PROCESSING:
                assert row.due_at is not None
                waits.append((row.due_at - clock()).total_seconds())
                clock.now = row.due_at
                await track(ledger, zentrik, looks, run, clock, longest)
        assert waits[1:] == sorted(waits[1:])
        assert max(waits) == 300
        assert len(waits) < 30
        assert clock() - begun < timedelta(hours=1, minutes=5)

    async def test_only_the_connectors_asked_for(self, ledger: Ledger, clock: Clock, looks: LookSchedule) -> None:
        """`run-once NAME` waits for its own signals."""
        sandbox = workspace(clock)
        await accepted(ledger, sandbox, clock, looks, some(3))
        run = await accepted(ledger, sandbox, clock, looks, some(3, 10), "tickets")
        clock.move(60)
        async with at(sandbox, clock) as zentrik:
            assert (await track(ledger, zentrik, looks, run, clock, longest, only=["tickets"])).processed == 3
        assert [row.state for row in await rows(ledger)] == [State.PROCESSING] * 3 + [State.PROCESSED] * 3

    async def test_the_schedule_learns_how_long_zentrik_takes(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """After the first outcomes, later signals are asked for when they are about ready, and not before."""
        sandbox = workspace(clock, takes=timedelta(seconds=40))
        run = await accepted(ledger, sandbox, clock, looks, some(10))
        assert looks.first_look(clock()) == clock() + timedelta(seconds=2)
        clock.move(60)
        async with at(sandbox, clock) as zentrik:
            await track(ledger, zentrik, looks, run, clock, longest)
            assert looks.learned == timedelta(seconds=40)
            run = await accepted(ledger, sandbox, clock, looks, some(10, 100))
            before = zentrik.calls.reads
            assert await follow(ledger, zentrik, looks, run, clock) == 1
            assert zentrik.calls.reads - before == 1


class TestTrouble:
    @pytest.mark.parametrize("count", [1, 50], ids=["by name", "in pages"])
    @pytest.mark.parametrize(
        ("mishap", "after"),
        [("429", 30), ("429_bare", None), ("503", None), ("cut_before", None), ("garbled", None), ("html_404", None)],
    )
    async def test_trouble_ends_the_round_and_concludes_nothing(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, count: int, mishap: str, after: int | None
    ) -> None:
        """When Zentrik cannot be asked, no signal is called failed or gone, and the wait it asks for is passed on."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(count))
        clock.move(60)
        before = await rows(ledger)
        sandbox.faults = Faults.model_validate({"next_reads": [mishap], "retry_after_seconds": 30})
        async with at(sandbox, clock) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
            assert (tracked.settled, zentrik.calls.reads) == (0, 1)
            assert tracked.trouble is not None
            assert tracked.trouble.after == (None if after is None else timedelta(seconds=after))
            assert await rows(ledger) == before
            assert (await track(ledger, zentrik, looks, run, clock, longest)).processed == count

    async def test_what_was_seen_before_the_trouble_is_kept(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """A round cut short is no round lost: the first page's outcomes are stored, the others stay due."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(250))
        clock.move(60)

        def overload(call: int) -> None:
            if call == 5:  # three are asked for by name, to see whether pages are worth it; then comes a page
                sandbox.faults = Faults(next_reads=("429",), retry_after_seconds=7)

        async with at(sandbox, clock, overload) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
            assert tracked.trouble == Troubled("429: too many requests", timedelta(seconds=7))
            assert tracked.processed >= 100
            left = 250 - tracked.processed
            assert len(await ledger.awaited(1000, clock())) == left > 0
            assert (await track(ledger, zentrik, looks, run, clock, longest)).processed == left

    async def test_no_answer_in_time_is_trouble(self, ledger: Ledger, clock: Clock, looks: LookSchedule) -> None:
        """A read that hangs does not hold the round for ever."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(3))
        clock.move(60)

        async def hang(request: httpx.Request) -> httpx.Response:
            raise httpx.ReadTimeout("", request=request)

        wire = httpx.MockTransport(hang)
        async with Zentrik("http://zentrik.test/api", "k", clock=clock, transport=wire) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
        assert tracked.trouble == Troubled("no answer in time")

    async def test_the_cause_of_a_break_is_told(self, ledger: Ledger, clock: Clock, looks: LookSchedule) -> None:
        """A connection that broke off without a word of its own is still told in words."""
        run = await accepted(ledger, workspace(clock), clock, looks, some(1))
        clock.move(60)

        async def broken(request: httpx.Request) -> httpx.Response:
            raise httpx.ReadError("", request=request)

        wire = httpx.MockTransport(broken)
        async with Zentrik("http://zentrik.test/api", "k", clock=clock, transport=wire) as zentrik:
            tracked = await track(ledger, zentrik, looks, run, clock, longest)
        assert tracked.trouble == Troubled("the connection broke off (ReadError)")

    @pytest.mark.parametrize("count", [2, 50], ids=["by name", "in pages"])
    async def test_a_refused_key_is_raised_and_nothing_is_concluded(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule, count: int
    ) -> None:
        """A revoked key makes no signal failed or gone; all are asked for again under the next one."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(count))
        clock.move(60)
        async with at(sandbox, clock, key="revoked") as zentrik:
            with pytest.raises(KeyRefused, match="ZENTRIK_API_KEY"):
                await track(ledger, zentrik, looks, run, clock, longest)
        assert await states(ledger) == {State.PROCESSING: count}
        async with at(sandbox, clock) as zentrik:
            assert (await track(ledger, zentrik, looks, run, clock, longest)).processed == count

    async def test_hostile_words_are_kept_readable(self, ledger: Ledger, clock: Clock, looks: LookSchedule) -> None:
        """A reason that no database can keep as it is (NUL, half a character) does not stop the engine."""
        run = await accepted(ledger, workspace(clock), clock, looks, some(1))
        clock.move(60)
        reason = '{"publicId":"SIGNAL-1","status":"failed","processing":{"lastError":"Broken \\ud83d here\\u0000."}}'

        async def answer(_request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, text=reason)

        wire = httpx.MockTransport(answer)
        async with Zentrik("http://zentrik.test/api", "k", clock=clock, transport=wire) as zentrik:
            assert (await track(ledger, zentrik, looks, run, clock, longest)).failed == 1
        assert (await rows(ledger))[0].last_error == "Broken ? here."

    async def test_an_answer_that_comes_too_late_changes_nothing(
        self, ledger: Ledger, clock: Clock, looks: LookSchedule
    ) -> None:
        """Two rounds over the same signals at once (a daemon and a run beside it) store each outcome once."""
        sandbox = workspace(clock)
        run = await accepted(ledger, sandbox, clock, looks, some(20))
        clock.move(60)
        async with at(sandbox, clock) as zentrik:
            await asyncio.gather(*(track(ledger, zentrik, looks, run, clock, longest) for _ in range(2)))
        assert await states(ledger) == {State.PROCESSED: 20}
