"""Dispatch: what is posted, how often, when, and what is made of each answer."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from syncd.dispatch import Delivery, Dispatched, _Desk, dispatch
from syncd.errors import KeyRefused, LedgerError
from syncd.ledger import Answer, Database, Exchanged, Ledger, Sighting, State, TooFast, report
from syncd.ledger.tables import Lane, signals, tempo
from syncd.mirror import Mirror
from syncd.pacing import Gate, LookSchedule, NackWindow
from syncd.reconcile import reconcile
from syncd.sandbox import Faults, Sandbox
from syncd.signals import Signal
from syncd.zentrik import Zentrik
from tests.conftest import Clock, OnSQLite, at, at_once, dies, rows, signal, source

Handler = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


@dataclass
class Sender:
    """A dispatch with everything it needs: called once, it does one round. Waits are drawn at their longest."""

    ledger: Ledger
    zentrik: Zentrik
    clock: Clock
    run: int
    delivery: Delivery = field(default_factory=Delivery)
    gate: Gate = field(default_factory=Gate)
    looks: LookSchedule = field(default_factory=LookSchedule)

    async def __call__(
        self,
        *,
        only: list[str] | None = None,
        stopping: Callable[[], bool] = lambda: False,
        on_answers: Callable[[Dispatched], None] = lambda _: None,
    ) -> Dispatched:
        async with asyncio.timeout(20):
            return await dispatch(
                self.ledger,
                self.zentrik,
                self.gate,
                self.looks,
                self.run,
                self.clock,
                lambda: 1.0,
                self.delivery,
                only=only,
                stopping=stopping,
                on_answers=on_answers,
                sleep=self.clock.sleep,
            )

    @property
    def closed_for(self) -> float:
        """Seconds until the gate opens."""
        return self.gate.opens_in(self.clock()).total_seconds()


async def queued(ledger: Ledger, clock: Clock, *page: Signal, connector: str = "reviews") -> int:
    """A run that has queued these signals."""
    run = await ledger.start_run("test", clock())
    origin = source(name=connector)
    await ledger.start_pull(origin, run, clock())
    await ledger.record_page(origin, page, [], {}, run, clock())
    await ledger.finish_pull(origin, run, None, clock())
    return run


async def states(ledger: Ledger) -> dict[State, int]:
    return dict(Counter(row.state for row in await rows(ledger)))


def answering(handler: Handler, clock: Clock) -> Zentrik:
    """A client whose every post is answered by the handler."""
    return Zentrik("http://zentrik.test/api", "k", clock=clock, transport=httpx.MockTransport(handler))


def created(request: httpx.Request) -> httpx.Response:
    """What Zentrik answers to a signal it takes."""
    name = json.loads(request.content)["externalId"]
    return httpx.Response(201, json={"publicId": f"SIGNAL-{name[-1]}", "jobId": "job"})


def refused_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class TestPosting:
    async def test_everything_due_is_posted_once_and_accepted(self, ledger: Ledger, clock: Clock) -> None:
        """Each record arrives at Zentrik once, and the ledger knows under which publicId and job."""
        run = await queued(ledger, clock, *(signal(number) for number in range(120)))
        sandbox = Sandbox(now=clock)
        async with at(sandbox, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run)
            assert await send() == Dispatched(posted=120, accepted=120)
            assert await send() == Dispatched()
        assert sandbox.calls.by_status() == {"201": 120}
        assert (len(sandbox.books), sandbox.books.duplicates()) == (120, 0)
        for row in await rows(ledger):
            [remote] = sandbox.books.with_external_id(row.external_id)
            assert (row.state, row.attempts) == (State.PROCESSING, 1)
            assert (row.public_id, row.job_id) == (remote["publicId"], remote["processing"]["lastJobId"])
            assert (row.accepted_at, row.due_at) == (clock(), clock() + send.looks.first)

    async def test_two_at_once_on_one_ledger_post_nothing_twice(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """A daemon and a run beside it share the work; neither repeats the other's."""
        run = await queued(ledger, clock, *(signal(number) for number in range(60)))
        other = Ledger(Database(ledger_url))
        sandbox = Sandbox(now=clock)
        async with at(sandbox, clock) as zentrik:
            done = await asyncio.gather(
                Sender(ledger, zentrik, clock, run)(),
                Sender(other, zentrik, clock, await other.start_run("test", clock()))(),
            )
        other.close()
        assert sum(each.posted for each in done) == len(sandbox.books) == 60
        assert sandbox.books.duplicates() == 0

    async def test_no_signal_is_posted_before_the_commit_that_says_so(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """A power cut during a post leaves a trace: the row already says `sending`, for everybody to see."""
        run = await queued(ledger, clock, *(signal(number) for number in range(9)))
        bystander = Database(ledger_url)
        seen: list[tuple[State, int]] = []

        async def look(request: httpx.Request) -> httpx.Response:
            with bystander.read() as db:
                row = report.named(db, json.loads(request.content)["externalId"])
            assert row is not None
            seen.append((row.state, row.attempts))
            return created(request)

        async with answering(look, clock) as zentrik:
            await Sender(ledger, zentrik, clock, run, Delivery(concurrency=4))()
        bystander.close()
        assert seen == [(State.SENDING, 1)] * 9


class TestPace(OnSQLite):
    async def test_no_more_than_so_many_are_under_way(self, ledger: Ledger, clock: Clock) -> None:
        """Zentrik never gets more calls at once than the operator allows, and as many as that."""
        run = await queued(ledger, clock, *(signal(number) for number in range(30)))
        under_way, most, done = 0, 0, 0
        halfway = asyncio.Event()

        async def count(request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most, done
            under_way += 1
            most = max(most, under_way)
            if under_way <= 2 and done < 15:  # two take long, while others come and go
                await halfway.wait()
            await asyncio.sleep(0)
            under_way -= 1
            done += 1
            if done == 15:
                halfway.set()
            return created(request)

        async with answering(count, clock) as zentrik:
            assert (await Sender(ledger, zentrik, clock, run, Delivery(concurrency=4))()).accepted == 30
        assert most == 4

    async def test_one_slow_answer_holds_nobody_up(self, ledger: Ledger, clock: Clock) -> None:
        """While Zentrik thinks long about one record, all the others are delivered."""
        run = await queued(ledger, clock, *(signal(number) for number in range(20)))
        done = 0
        others_done = asyncio.Event()

        async def answer(request: httpx.Request) -> httpx.Response:
            nonlocal done
            if json.loads(request.content)["externalId"].endswith("r-0"):
                await others_done.wait()
            done += 1
            if done == 19:
                others_done.set()
            return created(request)

        async with answering(answer, clock) as zentrik:
            assert (await Sender(ledger, zentrik, clock, run, Delivery(concurrency=2))()).accepted == 20

    async def test_what_is_not_due_waits(self, ledger: Ledger, clock: Clock) -> None:
        """A record that is to be posted later is not posted sooner because others are."""
        early = Clock()
        early.move(60)
        run = await queued(ledger, early, signal(1))
        await queued(ledger, clock, signal(2))
        sandbox = Sandbox(now=clock)
        async with at(sandbox, clock) as zentrik:
            assert (await Sender(ledger, zentrik, clock, run)()).posted == 1
        assert [row.state for row in await rows(ledger)] == [State.QUEUED, State.PROCESSING]

    async def test_only_the_connectors_asked_for(self, ledger: Ledger, clock: Clock) -> None:
        """`run-once NAME` delivers nothing of the others."""
        await queued(ledger, clock, signal(1))
        run = await queued(
            ledger, clock, Signal("tickets:1", b'{"text":"x","signalType":"review"}', b"f"), connector="t"
        )
        sandbox = Sandbox(now=clock)
        async with at(sandbox, clock) as zentrik:
            assert (await Sender(ledger, zentrik, clock, run)(only=["t"])).posted == 1
        assert [row.state for row in await rows(ledger)] == [State.QUEUED, State.PROCESSING]

    async def test_a_stop_lets_what_is_under_way_finish(self, ledger: Ledger, clock: Clock) -> None:
        """Ctrl-C loses no answer: what was being posted is stored, and nothing more is taken."""
        run = await queued(ledger, clock, *(signal(number) for number in range(10)))
        stop = asyncio.Event()
        under_way = asyncio.Barrier(3)

        async def answer(request: httpx.Request) -> httpx.Response:
            await under_way.wait()
            stop.set()
            return created(request)

        async with answering(answer, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=3))
            assert await send(stopping=stop.is_set) == Dispatched(3, 3)
        assert await states(ledger) == {State.PROCESSING: 3, State.QUEUED: 7}

    async def test_cut_off_in_the_middle_it_forgets_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """A shutdown that cannot wait leaves `sending` rows, which the next start looks for and does not post again."""
        run = await queued(ledger, clock, *(signal(number) for number in range(5)))
        asked, ended = asyncio.Event(), asyncio.Event()

        async def hang(_request: httpx.Request) -> httpx.Response:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

        async with answering(hang, clock) as zentrik:
            sending = asyncio.create_task(Sender(ledger, zentrik, clock, run, Delivery(concurrency=2))())
            await asked.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        assert ended.is_set()
        assert await states(ledger) == {State.SENDING: 4, State.QUEUED: 1}  # one more was ready for each connection
        dies(ledger)
        assert await ledger.suspect_unfinished(clock()) == 4

    async def test_progress_is_told_as_it_is_made(self, ledger: Ledger, clock: Clock) -> None:
        """Who watches sees the figures grow to those of the end."""
        run = await queued(ledger, clock, *(signal(number) for number in range(7)))
        told: list[int] = []
        async with at(Sandbox(now=clock), clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=2))
            await send(on_answers=lambda done: told.append(done.accepted))
        assert told == sorted(told)
        assert told[-1] == 7


def watched(ledger: Ledger) -> list[tuple[int, int, int]]:
    """Fills with what each exchange of this ledger stored, took back and claimed."""
    exchange, seen = ledger.exchange, list[tuple[int, int, int]]()

    async def exchanging(answers: Sequence[Answer], *args: Any, **more: Any) -> Exchanged:
        exchanged = await exchange(answers, *args, **more)
        seen.append((len(answers), len(more["unposted"]), len(exchanged.claimed)))
        return exchanged

    ledger.exchange = exchanging  # type: ignore[method-assign]
    return seen


class TestClaimedAhead(OnSQLite):
    @pytest.mark.parametrize("why", ["asked to wait", "no connection", "stop", "key refused", "halted"])
    async def test_what_is_not_posted_after_all_is_given_back(self, ledger: Ledger, clock: Clock, why: str) -> None:
        """Whatever ends a round, what was only claimed stands in the queue as before, and is posted once later."""
        run = await queued(ledger, clock, *(signal(number) for number in range(10)))
        seen = watched(ledger)
        stop = asyncio.Event()
        both = asyncio.Barrier(2)
        posts = Counter[str]()

        async def end(request: httpx.Request) -> httpx.Response:
            await both.wait()
            match why:
                case "asked to wait":
                    return httpx.Response(429, headers={"Retry-After": "60"})
                case "no connection":
                    raise httpx.ConnectError("refused")
                case "key refused":
                    return httpx.Response(401)
                case "halted":
                    return httpx.Response(422)
            stop.set()
            posts[json.loads(request.content)["externalId"]] += 1
            return created(request)

        async def take(request: httpx.Request) -> httpx.Response:
            posts[json.loads(request.content)["externalId"]] += 1
            return created(request)

        delivery = Delivery(concurrency=2, window=NackWindow(2, 2))
        async with answering(end, clock) as zentrik:
            with pytest.raises(KeyRefused) if why == "key refused" else nullcontext():
                await Sender(ledger, zentrik, clock, run, delivery)(stopping=stop.is_set)
        assert sum(unposted for _, unposted, _ in seen) > 0
        assert sum(claimed for *_, claimed in seen) == sum(stored + unposted for stored, unposted, _ in seen)
        table = await rows(ledger)
        assert [(row.state, row.attempts) for row in table[2:]] == [(State.QUEUED, 0)] * 8
        clock.move(60)
        if why == "halted":
            await ledger.requeue([row.id for row in table[:2]], State.REJECTED, run, clock())
        async with answering(take, clock) as zentrik:
            await Sender(ledger, zentrik, clock, run)()
        assert [row.state for row in await rows(ledger)] == [State.PROCESSING] * 10
        assert sorted(posts.values()) == [1] * 10

    async def test_no_more_than_so_many_are_claimed_ahead(self, ledger: Ledger, clock: Clock) -> None:
        """However fast Zentrik is, a crash leaves at most some hundred records to be looked for."""
        run = await queued(ledger, clock, *(signal(number) for number in range(2000)))
        exchange, in_hand, most = ledger.exchange, 0, 0

        async def count(answers: Sequence[Answer], *args: Any, **more: Any) -> Exchanged:
            nonlocal in_hand, most
            exchanged = await exchange(answers, *args, **more)
            in_hand += len(exchanged.claimed) - len(answers) - len(more["unposted"])
            most = max(most, in_hand)
            return exchanged

        async def answer(request: httpx.Request) -> httpx.Response:
            return created(request)

        ledger.exchange = count  # type: ignore[method-assign]
        async with answering(answer, clock) as zentrik:
            assert (await Sender(ledger, zentrik, clock, run, Delivery(concurrency=8))()).accepted == 2000
        assert 8 < most <= 8 + 400
        assert in_hand == 0

    async def test_a_defect_ends_it_at_once_and_leaves_nothing_behind(self, ledger: Ledger, clock: Clock) -> None:
        """An error that nobody foresaw is not swallowed: dispatch ends with just that, and so do its connections."""
        run = await queued(ledger, clock, *(signal(number) for number in range(9)))
        all_asked, ended = asyncio.Barrier(3), Counter[str]()

        async def answer(request: httpx.Request) -> httpx.Response:
            name = json.loads(request.content)["externalId"]
            try:
                await all_asked.wait()
                if name.endswith("r-1"):
                    raise ZeroDivisionError("a defect")
                await asyncio.Event().wait()
            finally:
                ended[name] += 1
            raise AssertionError

        before = asyncio.all_tasks()
        async with answering(answer, clock) as zentrik:
            with pytest.raises(ZeroDivisionError, match="a defect"):
                await Sender(ledger, zentrik, clock, run, Delivery(concurrency=3))()
        assert ended.total() == 3
        assert asyncio.all_tasks() == before
        dies(ledger)
        await ledger.suspect_unfinished(clock())
        assert (await states(ledger)).keys() == {State.UNKNOWN, State.QUEUED}, "nothing is posted again unseen"

    async def test_a_ledger_that_fails_ends_it_with_that_error(self, ledger: Ledger, clock: Clock) -> None:
        """A full disk is told as what it is, and what is under way is broken off."""
        run = await queued(ledger, clock, *(signal(number) for number in range(9)))
        exchange = ledger.exchange

        async def fail(answers: Sequence[Answer], *args: Any, **more: Any) -> Exchanged:
            if answers:
                raise LedgerError("the disk is full")
            return await exchange(answers, *args, **more)

        async def answer(request: httpx.Request) -> httpx.Response:
            return created(request)

        ledger.exchange = fail  # type: ignore[method-assign]
        before = asyncio.all_tasks()
        async with answering(answer, clock) as zentrik:
            with pytest.raises(LedgerError, match="the disk is full"):
                await Sender(ledger, zentrik, clock, run, Delivery(concurrency=3))()
        assert asyncio.all_tasks() == before


class TestLanes(OnSQLite):
    async def posted(self, ledger: Ledger, clock: Clock, concurrency: int, news: int, backlog: int) -> list[int]:
        """The numbers of the signals in the order they were posted; those of the backlog come first."""
        run = await queued(ledger, clock, *(signal(number) for number in range(backlog)))
        await ledger.change(lambda db: db.execute(sa.update(signals).values(lane=Lane.BACKLOG)).rowcount)
        clock.move(1)
        await queued(ledger, clock, *(signal(backlog + number) for number in range(news)))
        order: list[int] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            order.append(int(json.loads(request.content)["externalId"].rpartition("-")[2]))
            await asyncio.sleep(0.001)
            return created(request)

        async with answering(answer, clock) as zentrik:
            await Sender(ledger, zentrik, clock, run, Delivery(concurrency=concurrency))()
        assert sorted(order) == list(range(news + backlog))
        return order

    async def test_news_pass_what_was_claimed_before_them(self, ledger: Ledger, clock: Clock) -> None:
        """A record that comes in while hundreds are ready for posting is posted before all of those."""
        run = await queued(ledger, clock, *(signal(number) for number in range(9)))
        claimed = (await ledger.exchange([], 9, run, clock())).claimed
        desk = _Desk()
        desk.lay_out([replace(each, lane=Lane.BACKLOG) for each in claimed[:7]], 9, ())
        desk.lay_out(claimed[7:], 9, ())
        assert [(await desk.take()).id for _ in claimed] == [each.id for each in (*claimed[7:], *claimed[:7])]

    async def test_what_is_ready_for_posting_has_its_turn_though_news_keep_coming(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """However many news come in meanwhile, the backlog on the desk is not left there until its lease is over."""
        run = await queued(ledger, clock, *(signal(number) for number in range(100)))
        claimed = (await ledger.exchange([], 100, run, clock())).claimed
        backlog, news = [replace(each, lane=Lane.BACKLOG) for each in claimed[:10]], claimed[10:]
        desk = _Desk()
        desk.lay_out(backlog, 100, ())
        taken = []
        while news:
            desk.lay_out([news.pop(0)], 0, ())
            taken.append((await desk.take()).lane)
        assert taken.count(Lane.BACKLOG) >= 9
        assert taken[:8] == [Lane.NEWS] * 8

    @pytest.mark.parametrize("concurrency", [1, 4, 16])
    async def test_news_pass_a_backlog(self, ledger: Ledger, clock: Clock, concurrency: int) -> None:
        """While a thousand old records are delivered, what just happened is posted as if they were not there."""
        order = await self.posted(ledger, clock, concurrency, news=24, backlog=1000)
        last = max(place for place, number in enumerate(order) if number >= 1000)
        assert last < 24 * 8 / 7 + 2 * concurrency

    @pytest.mark.parametrize("concurrency", [1, 4, 16])
    async def test_a_backlog_gets_on_while_news_keep_coming(
        self, ledger: Ledger, clock: Clock, concurrency: int
    ) -> None:
        """A source that never falls silent does not keep a backfill from its end."""
        order = await self.posted(ledger, clock, concurrency, news=800, backlog=200)
        early = sum(number < 200 for number in order[:600])
        assert early >= 600 / 8 / 2  # of its share, some still lie on the desk


class TestTurns(OnSQLite):
    async def slowed(self, ledger: Ledger, clock: Clock, number: int, posted: int) -> int:
        """A run that has queued so many signals, and was told that so many posts a second are too many."""
        run = await queued(ledger, clock, *(signal(each) for each in range(number)))
        news = TooFast(clock(), timedelta(seconds=1), posted, timedelta(0))
        await ledger.exchange([], 0, run, clock(), too_fast=news)
        clock.move(1)
        return run

    async def test_each_post_is_made_at_its_turn(self, ledger: Ledger, clock: Clock) -> None:
        """Told that it is too fast, syncd spaces its posts evenly and goes on until everything is delivered."""
        run = await self.slowed(ledger, clock, 60, posted=20)
        times: list[float] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            times.append(clock().timestamp())
            return created(request)

        async with answering(answer, clock) as zentrik:
            assert (await Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))()).accepted == 60
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert all(gap >= 0.045 for gap in gaps[3:])  # the first few make up for a tenth of a second
        assert times[-1] - times[0] == pytest.approx(60 / 20, rel=0.15)

    async def test_a_limit_is_learned_by_being_refused(self, ledger: Ledger, clock: Clock) -> None:
        """After the first «too many» the posts of the next round are spaced out, by what got through before it."""
        run = await queued(ledger, clock, *(signal(number) for number in range(100)))
        times: list[float] = []

        async def answer(request: httpx.Request) -> httpx.Response:
            times.append(clock().timestamp())
            clock.move(0.01)
            return httpx.Response(429, headers={"Retry-After": "1"}) if len(times) == 21 else created(request)

        async with answering(answer, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))
            assert await send() == Dispatched(21, 20)
            clock.move(1)
            assert (await send()).accepted == 80
        assert times[-1] - times[21] == pytest.approx(79 / (0.98 * 20 / 1.2), rel=0.15)

    async def test_a_stop_is_not_kept_waiting_for_a_turn(self, ledger: Ledger, clock: Clock) -> None:
        """Where the next turn is ten seconds away, Ctrl-C is heard all the same."""
        run = await self.slowed(ledger, clock, 3, posted=5)
        await ledger.change(lambda db: db.execute(sa.update(tempo).values(rate=0.1)).rowcount)
        first: datetime | None = None

        async def answer(request: httpx.Request) -> httpx.Response:
            nonlocal first
            first = clock()
            return created(request)

        async with answering(answer, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))
            assert await send(stopping=lambda: first is not None and clock() > first) == Dispatched(1, 1)
        assert first is not None
        assert clock() - first < timedelta(seconds=1)


class TestAskedToWait(OnSQLite):
    @pytest.mark.parametrize("form", ["seconds", "date"])
    async def test_retry_after_is_kept_to_the_second(self, ledger: Ledger, clock: Clock, form: str) -> None:
        """Told to come back in 37 s, syncd posts nothing at all for 37 s, and everything then."""
        run = await queued(ledger, clock, *(signal(number) for number in range(5)))
        faults = Faults.model_validate({"next_posts": ["429"], "retry_after": form, "retry_after_seconds": 37})
        sandbox = Sandbox(now=clock, faults=faults)
        async with at(sandbox, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))
            assert (await send()).posted == 1
            first, *others = await rows(ledger)
            assert (first.state, first.due_at) == (State.QUEUED, clock() + timedelta(seconds=37))
            assert {row.state for row in others} == {State.QUEUED}
            clock.move(36.9)
            assert (await send()).posted == 0
            clock.move(0.1)
            assert await send() == Dispatched(5, 5)
        assert sandbox.books.duplicates() == 0

    async def test_the_longest_of_several_waits_counts(self, ledger: Ledger, clock: Clock) -> None:
        """Calls under way together may be told different times; none is undercut."""
        run = await queued(ledger, clock, *(signal(number) for number in range(8)))
        waits = iter([5, 50, 10, 1])
        all_asked = asyncio.Barrier(4)

        async def refuse(_request: httpx.Request) -> httpx.Response:
            wait = next(waits)
            await all_asked.wait()
            return httpx.Response(429, headers={"Retry-After": str(wait)})

        async with answering(refuse, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=4))
            assert (await send()).posted == 4
            assert send.closed_for == 50
            clock.move(49.9)
            assert (await send()).posted == 0

    async def test_without_a_time_the_waits_grow(self, ledger: Ledger, clock: Clock) -> None:
        """A Zentrik that only says «too many» is asked less and less often, until it takes something."""
        run = await queued(ledger, clock, signal(1), signal(2))
        sandbox = Sandbox(now=clock, faults=Faults(next_posts=("429_bare",) * 7))
        waits: list[float] = []
        async with at(sandbox, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))
            for _ in range(7):
                assert (await send()).posted == 1
                waits.append(send.closed_for)
                clock.move(send.closed_for)
            assert waits == [1, 2, 4, 8, 16, 30, 30]
            assert (await send()).accepted == 2
            assert (send.gate.failures, send.gate.unwell_since) == (0, None)

    async def test_asked_to_wait_no_time_it_does_not_post_in_a_frenzy(self, ledger: Ledger, clock: Clock) -> None:
        """«Retry-After: 0» (or a date just gone by) on every answer does not make syncd post in a circle."""
        run = await queued(ledger, clock, signal(1), signal(2))
        faults = Faults(share_of_posts={"429": 1}, retry_after_seconds=0)
        async with at(Sandbox(now=clock, faults=faults), clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))
            assert (await send()).posted == 1
            assert send.closed_for == 1

    async def test_a_record_is_not_blamed_for_it(self, ledger: Ledger, clock: Clock) -> None:
        """However often Zentrik asks to wait, no record is given up for it."""
        run = await queued(ledger, clock, signal(1))
        sandbox = Sandbox(now=clock, faults=Faults(next_posts=("429",) * 12))
        async with at(sandbox, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(max_attempts=3))
            for _ in range(12):
                await send()
                clock.move(1)
            assert (await send()).accepted == 1

    async def test_answers_that_come_after_the_gate_closed_are_kept(self, ledger: Ledger, clock: Clock) -> None:
        """What Zentrik accepted while it told another call to wait stays accepted, and opens nothing."""
        run = await queued(ledger, clock, *(signal(number) for number in range(6)))
        sent_away = asyncio.Event()
        under_way = asyncio.Barrier(3)

        async def answer(request: httpx.Request) -> httpx.Response:
            await under_way.wait()
            if not sent_away.is_set():
                sent_away.set()
                return httpx.Response(429, headers={"Retry-After": "9"})
            for _ in range(20):
                await asyncio.sleep(0)
            return created(request)

        async with answering(answer, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=3))
            assert await send() == Dispatched(3, 2)
            assert send.closed_for == 9
        assert await states(ledger) == {State.PROCESSING: 2, State.QUEUED: 4}


class TestUnreachable(OnSQLite):
    async def test_records_wait_until_zentrik_can_be_reached(self, ledger: Ledger, clock: Clock) -> None:
        """With Zentrik down nothing is lost, nothing is given up, and the tries come at growing distances."""
        run = await queued(ledger, clock, *(signal(number) for number in range(6)))
        port = refused_port()
        sandbox = Sandbox(now=clock)
        wire = httpx.AsyncHTTPTransport(verify=False)
        async with Zentrik(f"http://127.0.0.1:{port}/api", "sandbox-key", clock=clock, transport=wire) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=2, max_attempts=2))
            waits: list[float] = []
            posted: list[int] = []
            for _ in range(7):
                posted.append((await send()).posted)
                waits.append(send.closed_for)
                clock.move(send.closed_for)
            assert waits == [1, 2, 4, 8, 16, 30, 30]
            assert posted == [2, 0, 0, 0, 0, 0, 0], "Zentrik is asked how it is; no record is spent on that"
            assert await states(ledger) == {State.QUEUED: 6}
            assert "cannot be reached" in str((await rows(ledger))[0].last_error)
            async with sandbox.serve(port):
                assert (await send()).accepted == 6
        assert sandbox.books.duplicates() == 0


class TestRecordsOwnTrouble(OnSQLite):
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b'{"text": "broken off', "400: the body is not JSON"),
            (b'{"text":"%s","signalType":"review"}' % (b"x" * 10_500_000), "413: the body is larger than"),
            (b'{"text":"Fine.","signalType":"rumour"}', "422: signalType"),
        ],
        ids=["400", "413", "422"],
    )
    async def test_a_refused_record_holds_nobody_up(
        self, ledger: Ledger, clock: Clock, body: bytes, words: str
    ) -> None:
        """One record Zentrik does not want is kept with Zentrik's words for it; all the others are delivered."""
        run = await queued(ledger, clock, signal(1), Signal("bad", body, b"f"), signal(2))
        sandbox = Sandbox(now=clock)
        async with at(sandbox, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))
            assert await send() == Dispatched(3, 2)
            clock.move(1e6)
            assert (await send()).posted == 0
        first, bad, last = await rows(ledger)
        assert (first.state, last.state) == (State.PROCESSING, State.PROCESSING)
        assert (bad.state, bad.due_at) == (State.REJECTED, None)
        assert str(bad.last_error).startswith(words)

    async def test_one_never_taken_is_given_up(self, ledger: Ledger, clock: Clock) -> None:
        """A record that times out at Zentrik again and again ends as rejected, with the reason, and not in a circle."""
        run = await queued(ledger, clock, signal(1), signal(2))

        async def answer(request: httpx.Request) -> httpx.Response:
            is_first = json.loads(request.content)["externalId"].endswith("r-1")
            return httpx.Response(408, json={"message": "too slow"}) if is_first else created(request)

        async with answering(answer, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(max_attempts=4))
            assert await send() == Dispatched(2, 1)
            for wait in (1, 2, 4):
                [row, _] = await rows(ledger)
                assert (row.state, row.due_at) == (State.QUEUED, clock() + timedelta(seconds=wait))
                clock.move(wait)
                assert (await send()).posted == 1
        [row, _] = await rows(ledger)
        assert (row.state, row.attempts) == (State.REJECTED, 4)
        assert row.last_error == "given up after 4 tries: 408: too slow"

    async def test_a_wait_for_one_record_is_kept_and_closes_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """Told to try one record again in an hour, syncd does just that, and goes on with the others."""
        run = await queued(ledger, clock, *(signal(number) for number in range(3)))
        answers = iter([425, 201, 201])

        async def answer(request: httpx.Request) -> httpx.Response:
            status = next(answers)
            return created(request) if status == 201 else httpx.Response(status, headers={"Retry-After": "3600"})

        async with answering(answer, clock) as zentrik:
            assert await Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))() == Dispatched(3, 2)
        [first, *_] = await rows(ledger)
        assert first.due_at == clock() + timedelta(hours=1)


class TestBlocked(OnSQLite):
    @pytest.mark.parametrize(
        ("key", "faults", "words"),
        [
            ("mistyped", Faults(), "refused the key.*401"),
            ("sandbox-key", Faults(scopes=("signals:read",)), "refused the key.*signals:write"),
            ("sandbox-key", Faults(share_of_posts={"html_404": 1}), "no Signals API at this address.*api_base"),
        ],
        ids=["401", "403", "404 page"],
    )
    async def test_every_record_is_kept_until_a_person_mends_it(
        self, ledger: Ledger, clock: Clock, key: str, faults: Faults, words: str
    ) -> None:
        """A wrong key or address costs no record: it is said at once, and all are delivered once it is mended."""
        run = await queued(ledger, clock, *(signal(number) for number in range(9)))
        sandbox = Sandbox(now=clock, faults=faults)
        async with at(sandbox, clock, key=key) as zentrik:
            with pytest.raises(KeyRefused, match=words):
                await Sender(ledger, zentrik, clock, run, Delivery(concurrency=2, max_attempts=1))()
        assert sandbox.calls.count("POST") == 2
        assert await states(ledger) == {State.QUEUED: 9}
        sandbox.faults = Faults()
        async with at(sandbox, clock) as zentrik:
            assert (await Sender(ledger, zentrik, clock, run)()).accepted == 9

    async def test_answers_under_way_are_stored_before_it_is_said(self, ledger: Ledger, clock: Clock) -> None:
        """A key revoked in the middle of a run takes nothing back that was accepted."""
        run = await queued(ledger, clock, *(signal(number) for number in range(5)))
        all_asked = asyncio.Barrier(3)
        statuses = iter([401, 201, 201])

        async def answer(request: httpx.Request) -> httpx.Response:
            status = next(statuses)
            await all_asked.wait()
            if status == 401:
                return httpx.Response(status)
            for _ in range(20):
                await asyncio.sleep(0)
            return created(request)

        async with answering(answer, clock) as zentrik:
            with pytest.raises(KeyRefused, match="Every record is kept"):
                await Sender(ledger, zentrik, clock, run, Delivery(concurrency=3))()
        assert await states(ledger) == {State.PROCESSING: 2, State.QUEUED: 3}


class TestLostAnswers(OnSQLite):
    @pytest.mark.parametrize("mishap", ["500", "502", "503", "504", "cut_before", "cut_after", "torn", "garbled"])
    async def test_no_certain_answer_means_no_second_post(self, ledger: Ledger, clock: Clock, mishap: str) -> None:
        """Whether Zentrik has it or not, a signal whose answer was lost is not posted again before somebody looked."""
        run = await queued(ledger, clock, signal(1))
        sandbox = Sandbox(now=clock, faults=Faults.model_validate({"next_posts": [mishap]}))
        async with at(sandbox, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run)
            assert await send() == Dispatched(1, 0)
            [row] = await rows(ledger)
            assert (row.state, row.due_at) == (State.UNKNOWN, clock() + send.delivery.look_after)
            assert row.last_error
            clock.move(1e6)
            assert (await send()).posted == 0
        assert sandbox.calls.count("POST") == 1

    async def test_a_timeout_is_no_answer(self, ledger: Ledger, clock: Clock) -> None:
        """A post that takes too long may have arrived: it is looked for, not repeated."""
        run = await queued(ledger, clock, signal(1))
        sandbox = Sandbox(now=clock, faults=Faults(next_posts=("hold",)))
        async with at(sandbox, clock, patience=timedelta(milliseconds=100)) as zentrik:
            await Sender(ledger, zentrik, clock, run)()
        [row] = await rows(ledger)
        assert (row.state, row.last_error) == (State.UNKNOWN, "no answer in time")
        assert len(sandbox.books) == 1

    async def test_a_conflict_is_looked_into(self, ledger: Ledger, clock: Clock) -> None:
        """«It exists already» is no refusal: the signal is followed once it is found."""
        run = await queued(ledger, clock, signal(1))

        async def answer(_request: httpx.Request) -> httpx.Response:
            return httpx.Response(409, json={"message": "externalId exists"})

        async with answering(answer, clock) as zentrik:
            await Sender(ledger, zentrik, clock, run)()
        [row] = await rows(ledger)
        assert (row.state, row.last_error) == (State.UNKNOWN, "409: externalId exists")

    async def test_the_others_go_on(self, ledger: Ledger, clock: Clock) -> None:
        """One broken connection costs one signal a detour, and the others nothing."""
        run = await queued(ledger, clock, *(signal(number) for number in range(5)))
        sandbox = Sandbox(now=clock, faults=Faults(next_posts=("cut_after",)))
        async with at(sandbox, clock) as zentrik:
            assert await Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))() == Dispatched(5, 4)
        assert await states(ledger) == {State.UNKNOWN: 1, State.PROCESSING: 4}

    async def test_an_overloaded_zentrik_is_left_alone(self, ledger: Ledger, clock: Clock) -> None:
        """503 with a time closes the gate for all until then."""
        run = await queued(ledger, clock, *(signal(number) for number in range(5)))

        async def answer(_request: httpx.Request) -> httpx.Response:
            return httpx.Response(503, headers={"Retry-After": "120"})

        async with answering(answer, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))
            assert (await send()).posted == 1
            assert send.closed_for == 120
        assert await states(ledger) == {State.UNKNOWN: 1, State.QUEUED: 4}

    async def test_an_outage_does_not_cost_every_record_its_certainty(self, ledger: Ledger, clock: Clock) -> None:
        """When Zentrik answers nothing but errors, a few posts find out, and the others keep waiting in the queue."""
        run = await queued(ledger, clock, *(signal(number) for number in range(40)))
        async with at(Sandbox(now=clock, faults=Faults(share_of_posts={"500": 1})), clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=4))
            assert (await send()).posted <= 12
            assert send.closed_for == 1
        assert (await states(ledger))[State.QUEUED] >= 28

    async def test_one_lost_time_and_again_is_tried_less_and_less_often(self, ledger: Ledger, clock: Clock) -> None:
        """A record on which Zentrik breaks every time does not keep it (and the list) busy for ever."""
        run = await queued(ledger, clock, signal(1))
        waits: list[float] = []
        async with at(Sandbox(now=clock, faults=Faults(share_of_posts={"500": 1})), clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run)
            for _ in range(11):
                assert (await send()).posted == 1
                send.gate.clear()  # others are taken meanwhile
                [row] = await rows(ledger)
                assert row.due_at is not None
                waits.append((row.due_at - clock()).total_seconds())
                await ledger.settle_unknowns([Sighting(row.id, row.attempts, None, clock())], run, clock())
        assert waits == [2, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


class TestFencing:
    """What is in the hands of a process that was frozen. Frozen here means: the clock moved while nothing happened."""

    async def test_a_record_claimed_before_the_freeze_is_not_posted_after_it(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """A process that wakes up with a claimed record does not post it: by now it may be another's."""
        run = await queued(ledger, clock, signal(1))
        exchange = ledger.exchange
        freezes = iter([0.6])

        async def exchange_and_freeze(*args: Any, **more: Any) -> Exchanged:
            exchanged = await exchange(*args, **more)
            if exchanged.claimed:
                clock.move(ledger.leases.post.total_seconds() * next(freezes, 0))
                assert sandbox.books.created == 0
            return exchanged

        ledger.exchange = exchange_and_freeze  # type: ignore[method-assign]
        sandbox = Sandbox(now=clock)
        async with at(sandbox, clock) as zentrik:
            assert await Sender(ledger, zentrik, clock, run)() == Dispatched(1, 1)
        assert next(freezes, None) is None
        assert [(row.state, row.attempts) for row in await rows(ledger)] == [(State.PROCESSING, 1)]

    async def test_what_was_taken_over_meanwhile_is_not_given_back(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """A process that wakes up after its lease leaves alone what another one is looking for by now."""
        run = await queued(ledger, clock, signal(1))
        other = Ledger(Database(ledger_url))
        await other.start_run("test", clock())
        [claimed] = (await ledger.exchange([], 1, run, clock())).claimed
        clock.move(ledger.leases.post.total_seconds() + 1)
        assert await other.suspect_unfinished(clock()) == 1
        await ledger.exchange([], 0, run, clock(), unposted=[claimed])
        other.close()
        assert [(row.state, row.attempts) for row in await rows(ledger)] == [(State.UNKNOWN, 1)]

    async def test_an_answer_that_comes_after_the_lease_changes_nothing(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """While one process is frozen over an answer another one settles the record; the answer is refused."""
        run = await queued(ledger, clock, signal(1))
        sandbox = Sandbox(now=clock)
        other = Ledger(Database(ledger_url))
        theirs = await other.start_run("test", clock())
        async with at(sandbox, clock) as zentrik:

            async def thaw(request: httpx.Request) -> httpx.Response:
                response = created(request)
                await zentrik.post(request.content)
                clock.move(ledger.leases.post.total_seconds())
                assert await other.suspect_unfinished(clock()) == 1
                found = await reconcile(other, zentrik, theirs, clock, mirror=Mirror(), pause=at_once)
                assert found.found == 1
                return response

            async with answering(thaw, clock) as frozen:
                done = await Sender(ledger, frozen, clock, run)()
        assert (done.posted, done.accepted) == (1, 0)
        [row] = await rows(ledger)
        assert (row.state, row.public_id) == (State.PROCESSING, "SIGNAL-1")
        assert sandbox.books.created == 1
        other.close()


class TestBreaker(OnSQLite):
    async def test_after_an_outage_zentrik_is_asked_before_any_record_is_sent(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """While /readyz says no, not one customer's record is spent on finding out."""
        run = await queued(ledger, clock, *(signal(number) for number in range(20)))
        sandbox = Sandbox(now=clock, faults=Faults(share_of_posts={"503": 1}))
        async with at(sandbox, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=4))
            await send()
            sandbox.faults = Faults(ready=False)
            posted = sandbox.calls.count("POST", "/signals")
            for _ in range(5):
                clock.move(send.closed_for)
                assert (await send()).posted == 0
            assert sandbox.calls.count("POST", "/signals") == posted
            assert sandbox.calls.count("GET", "/readyz") == 5
            sandbox.faults = Faults()
            clock.move(send.closed_for)
            assert (await send()).accepted == 20 - posted

    async def test_too_many_requests_is_no_illness(self, ledger: Ledger, clock: Clock) -> None:
        """A Retry-After names the time; nobody needs to be asked after it."""
        run = await queued(ledger, clock, *(signal(number) for number in range(4)))
        sandbox = Sandbox(now=clock, faults=Faults(next_posts=("429",), retry_after_seconds=9))
        async with at(sandbox, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))
            await send()
            clock.move(9)
            await send()
        assert sandbox.calls.count("GET", "/readyz") == 0
        assert sandbox.books.created == 4


class TestAskedOfAll:
    async def test_a_wait_asked_of_one_is_kept_by_all(self, ledger: Ledger, ledger_url: str, clock: Clock) -> None:
        """Told to come back in an hour, neither the process beside us nor the run after us knocks before that."""
        run = await queued(ledger, clock, *(signal(number) for number in range(4)))
        sandbox = Sandbox(now=clock, faults=Faults(next_posts=("429",), retry_after_seconds=3600))
        other = Ledger(Database(ledger_url))
        async with at(sandbox, clock) as zentrik:
            await Sender(ledger, zentrik, clock, run, Delivery(concurrency=1))()
            beside = Sender(other, zentrik, clock, await other.start_run("test", clock()))
            clock.move(3599)
            assert (await beside()).posted == 0
            assert beside.closed_for == 1
            assert "429" in str(beside.gate.reason)
            clock.move(1)
            assert (await beside()).accepted == 4
        other.close()


class TestHalting(OnSQLite):
    async def test_what_waits_for_its_turn_is_not_posted_any_more(self, ledger: Ledger, clock: Clock) -> None:
        """Where posts are spaced out, one that waits for its turn while its connector is halted is given back."""
        run = await queued(ledger, clock, *(signal(number) for number in range(8)))
        news = TooFast(clock(), timedelta(seconds=1), 5, timedelta(0))
        await ledger.exchange([], 0, run, clock(), too_fast=news)
        clock.move(1)
        exchange, asleep, halted = ledger.exchange, asyncio.Event(), asyncio.Event()

        async def exchanging(*args: Any, **more: Any) -> Exchanged:
            exchanged = await exchange(*args, **more)
            if exchanged.halted:
                halted.set()
            return exchanged

        async def sleep(seconds: float) -> None:
            asleep.set()
            await halted.wait()
            clock.move(seconds)

        async def refuse(_request: httpx.Request) -> httpx.Response:
            await asleep.wait()
            return httpx.Response(422)

        ledger.exchange = exchanging  # type: ignore[method-assign]
        clock.sleep = sleep  # type: ignore[method-assign]
        delivery = Delivery(concurrency=2, window=NackWindow(refused=1, of=1))
        async with answering(refuse, clock) as zentrik:
            assert (await Sender(ledger, zentrik, clock, run, delivery)()).posted == 1
        assert await states(ledger) == {State.REJECTED: 1, State.QUEUED: 7}

    @pytest.mark.parametrize("spaced_out", [False, True])
    @pytest.mark.parametrize("seed", range(8))
    async def test_nothing_is_posted_before_a_refusal_is_weighed(
        self, ledger: Ledger, clock: Clock, seed: int, spaced_out: bool
    ) -> None:
        """In whatever order answers come in, no post follows the refusal that halts a connector."""
        run = await queued(ledger, clock, *(signal(number) for number in range(60)))
        if spaced_out:
            news = TooFast(clock(), timedelta(seconds=1), 20, timedelta(0))
            await ledger.exchange([], 0, run, clock(), too_fast=news)
            clock.move(1)
        random = Random(seed)
        exchange = ledger.exchange

        async def take_long(*args: Any, **more: Any) -> Exchanged:
            exchanged = await exchange(*args, **more)
            await ticks(random.choice([0, 30]))
            return exchanged

        async def ticks(number: int) -> None:
            for _ in range(number):
                await asyncio.sleep(0)

        async def refuse(_request: httpx.Request) -> httpx.Response:
            await ticks(random.choice([0, 5, 20, 60]))
            return httpx.Response(422)

        ledger.exchange = take_long  # type: ignore[method-assign]
        delivery = Delivery(concurrency=4, window=NackWindow(refused=10, of=12))
        async with answering(refuse, clock) as zentrik:
            posted = (await Sender(ledger, zentrik, clock, run, delivery)()).posted
        assert 10 <= posted <= 9 + 4
        assert await states(ledger) == {State.REJECTED: posted, State.QUEUED: 60 - posted}
        assert {row.attempts for row in await rows(ledger) if row.state is State.QUEUED} == {0}

    async def test_a_lane_is_stopped_before_it_burns_its_data(self, ledger: Ledger, clock: Clock) -> None:
        """With every record of a connector refused, at most the window and what was under way are spent."""
        run = await queued(ledger, clock, *(signal(number) for number in range(200)))

        async def refuse(request: httpx.Request) -> httpx.Response:
            return httpx.Response(422, json={"message": "signalType is not known"})

        delivery = Delivery(concurrency=4, window=NackWindow(refused=10, of=12))
        async with answering(refuse, clock) as zentrik:
            send = Sender(ledger, zentrik, clock, run, delivery)
            assert 10 <= (await send()).posted <= 14
            assert (await send()).posted == 0
        assert (await states(ledger))[State.QUEUED] >= 186
