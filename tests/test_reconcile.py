"""Reconcile: lost answers are settled by looking, and nothing is called absent that may be there."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any, get_args

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.dispatch import Delivery, dispatch
from syncd.errors import KeyRefused
from syncd.fates import Accepted, Unknown
from syncd.ledger import Answer, Database, Ledger, State, report
from syncd.mirror import Mirror
from syncd.pacing import Gate, LookSchedule
from syncd.reconcile import NAMELESS, Reconciled, reconcile
from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.books import Order
from syncd.signals import Signal
from syncd.sweep import Pause
from syncd.zentrik import Listing, Troubled, Zentrik
from tests.conftest import Clock, OnSQLite, at, signal, source

ORDERS: tuple[Order, ...] = get_args(Order)


async def at_once(_: timedelta) -> None:
    """A pause that takes no time."""


async def look(
    ledger: Ledger,
    zentrik: Zentrik,
    run: int,
    clock: Clock,
    mirror: Mirror | None = None,
    pause: Pause = at_once,
    horizon: timedelta = timedelta(0),
) -> Reconciled:
    """One round."""
    seen = Mirror() if mirror is None else mirror
    return await reconcile(ledger, zentrik, run, clock, mirror=seen, pause=pause, horizon=horizon)


def answering(answer: Callable[[int, int], httpx.Response], clock: Clock) -> Zentrik:
    """A client whose list calls are answered by the function, given the limit and the offset."""

    async def handle(request: httpx.Request) -> httpx.Response:
        return answer(int(request.url.params["limit"]), int(request.url.params["offset"]))

    return Zentrik("http://zentrik.test/api", "k", clock=clock, transport=httpx.MockTransport(handle))


def others(sandbox: Sandbox, count: int) -> None:
    """Signals that somebody else sent to the workspace."""
    for _ in range(count):
        sandbox.books.create({"text": "Something else.", "signalType": "review"})


def arrived(sandbox: Sandbox, *signals: Signal) -> None:
    """Zentrik got these, though nobody heard of it."""
    for each in signals:
        sandbox.books.create(json.loads(each.body))


async def lost(ledger: Ledger, clock: Clock, *page: Signal) -> int:
    """A run that has posted these signals and heard nothing of any; they are due to be looked for."""
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(source(), run, clock())
    await ledger.record_page(source(), page, [], {}, run, clock())
    await ledger.finish_pull(source(), run, None, clock())
    taken = (await ledger.exchange([], len(page), run, clock())).claimed
    await ledger.exchange([Answer(each, Unknown("reset"), clock(), clock()) for each in taken], 0, run, clock())
    return run


async def rows(ledger: Ledger) -> dict[str, report.SignalRow]:
    return {row.external_id: row for row in await ledger.ask(lambda db: list(report.find(db)))}


async def states(ledger: Ledger) -> dict[State, int]:
    return dict(Counter(row.state for row in (await rows(ledger)).values()))


def some(count: int) -> list[Signal]:
    return [signal(number) for number in range(count)]


class TestUnreadable:
    async def test_somebody_elses_broken_signal_keeps_nothing_unsettled(self, ledger: Ledger, clock: Clock) -> None:
        """What Zentrik does not have is posted again, though an entry of its list cannot be read."""
        run = await lost(ledger, clock, *some(1))
        shown = [{"publicId": None, "externalId": "somebody:1"}, {"publicId": "SIGNAL-2", "externalId": "somebody:2"}]
        headers = {"X-Total-Count": "2", "X-Has-More": "false"}
        async with answering(lambda *_: httpx.Response(200, json=shown, headers=headers), clock) as zentrik:
            assert await look(ledger, zentrik, run, clock) == Reconciled(requeued=1)

    async def test_one_of_ours_that_cannot_be_read_is_not_posted_again(self, ledger: Ledger, clock: Clock) -> None:
        """A signal that is there without a publicId is not doubled: it is looked for again, and not at once."""
        run = await lost(ledger, clock, *some(2))
        shown = [{"publicId": None, "externalId": some(1)[0].external_id}]
        headers = {"X-Total-Count": "1", "X-Has-More": "false"}
        async with answering(lambda *_: httpx.Response(200, json=shown, headers=headers), clock) as zentrik:
            assert await look(ledger, zentrik, run, clock) == Reconciled(requeued=1, waiting=1)
        row = (await rows(ledger))[some(1)[0].external_id]
        assert (row.state, row.due_at) == (State.UNKNOWN, clock() + timedelta(seconds=30))


class TestLooking:
    async def test_found_is_followed_and_absent_is_queued(self, ledger: Ledger, clock: Clock) -> None:
        """What Zentrik has is not posted again, and what it does not have is not forgotten."""
        run = await lost(ledger, clock, *some(6))
        sandbox = Sandbox(now=clock)
        arrived(sandbox, *some(3))
        clock.move(5)
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, run, clock) == Reconciled(found=3, requeued=3)
        found = await rows(ledger)
        for each in some(3):
            [remote] = sandbox.books.with_external_id(each.external_id)
            row = found.pop(each.external_id)
            assert (row.state, row.public_id) == (State.PROCESSING, remote["publicId"])
            assert (row.job_id, row.accepted_at) == (remote["processing"]["lastJobId"], clock())
        assert {(row.state, row.due_at) for row in found.values()} == {(State.QUEUED, clock())}
        assert len(await ledger.awaited(10, clock())) == 3


class TestWhereverItStands(OnSQLite):
    @pytest.mark.parametrize("order", ORDERS)
    async def test_it_is_found_among_a_thousand_others(self, ledger: Ledger, clock: Clock, order: Order) -> None:
        """In whatever order Zentrik lists, a signal it has is found: first, last, or in the middle."""
        page = some(4)
        run = await lost(ledger, clock, *page)
        sandbox = Sandbox(now=clock, order=order)
        arrived(sandbox, page[0])
        others(sandbox, 500)
        arrived(sandbox, page[1])
        others(sandbox, 500)
        arrived(sandbox, page[2])
        async with at(sandbox, clock) as zentrik:
            done = await look(ledger, zentrik, run, clock)
            assert zentrik.calls.reads <= 13
        assert (done.found, done.requeued, done.trouble) == (3, 1, None)
        assert (await rows(ledger))[page[3].external_id].state is State.QUEUED

    @pytest.mark.parametrize("order", ["newest_first", "creation"])
    async def test_it_begins_at_the_end_where_new_signals_stand(
        self, ledger: Ledger, clock: Clock, order: Order
    ) -> None:
        """Where both ends of a list look as if it were in order, what was sent lately is looked for there first."""
        run = await lost(ledger, clock, *some(3))
        sandbox = Sandbox(now=clock, order=order)
        others(sandbox, 2000)
        arrived(sandbox, *some(3))
        others(sandbox, 150)
        async with at(sandbox, clock) as zentrik:
            assert (await look(ledger, zentrik, run, clock)) == Reconciled(found=3)
            assert zentrik.calls.reads == 3

    async def test_the_search_ends_with_the_last_find(self, ledger: Ledger, clock: Clock) -> None:
        """A large workspace is not read to its end for what stands at its head."""
        run = await lost(ledger, clock, *some(3))
        sandbox = Sandbox(now=clock)
        others(sandbox, 400)
        arrived(sandbox, *some(3))
        async with at(sandbox, clock) as zentrik:
            await look(ledger, zentrik, run, clock)
            assert zentrik.calls.reads == 1

    async def test_many_share_one_sweep(self, ledger: Ledger, clock: Clock) -> None:
        """After an outage hundreds of lost answers cost one walk through the list."""
        run = await lost(ledger, clock, *some(300))
        sandbox = Sandbox(now=clock, order="shuffled")
        arrived(sandbox, *some(150))
        others(sandbox, 700)
        async with at(sandbox, clock) as zentrik:
            done = await look(ledger, zentrik, run, clock)
            assert zentrik.calls.reads <= 11
        assert (done.found, done.requeued) == (150, 150)

    async def test_an_empty_workspace_has_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """The very first post, lost, is posted again."""
        run = await lost(ledger, clock, signal(1))
        async with at(Sandbox(now=clock), clock) as zentrik:
            assert (await look(ledger, zentrik, run, clock)).requeued == 1

    async def test_it_is_looked_for_when_due_and_not_before(self, ledger: Ledger, clock: Clock) -> None:
        """Nobody looks while the post may still be under way; `syncd reconcile` may look at once."""
        clock.move(10)
        run = await lost(ledger, clock, signal(1))
        clock.move(-10)
        async with at(Sandbox(now=clock), clock) as zentrik:
            assert await look(ledger, zentrik, run, clock) == Reconciled()
            assert zentrik.calls.reads == 0
            assert (await look(ledger, zentrik, run, clock, horizon=timedelta(days=1))).requeued == 1

    async def test_one_without_a_name_rests_with_the_reason(self, ledger: Ledger, clock: Clock) -> None:
        """A body that carries no externalId cannot be looked for: a person is told what to do, and nobody guesses."""
        run = await lost(ledger, clock, Signal("listed:reviews:x", b'{"text":"Hm.","signalType":"review"}', b"f"))
        sandbox = Sandbox(now=clock)
        others(sandbox, 3)
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, run, clock) == Reconciled(unsearchable=1)
            clock.move(1e6)
            assert await look(ledger, zentrik, run, clock) == Reconciled()
            assert zentrik.calls.reads == 0
        [row] = (await rows(ledger)).values()
        assert (row.state, row.last_error, row.due_at) == (State.UNKNOWN, NAMELESS, None)


class Posting:
    """A run that posts signals to the workspace one after the other, a second apart, and hears of each or does not."""

    def __init__(self, ledger: Ledger, clock: Clock, sandbox: Sandbox, run: int) -> None:
        self.ledger, self.clock, self.sandbox, self.run = ledger, clock, sandbox, run
        self._posted = 0

    @classmethod
    async def begun(cls, ledger: Ledger, clock: Clock, sandbox: Sandbox) -> Posting:
        run = await ledger.start_run("test", clock())
        await ledger.start_pull(source(), run, clock())
        return cls(ledger, clock, sandbox, run)

    async def post(
        self, count: int = 1, *, arrives: bool = True, answered: bool = True, absent_after: timedelta | None = None
    ) -> list[Signal]:
        """So many more. An answer that is lost is to be looked for at once."""
        posted: list[Signal] = []
        for _ in range(count):
            posted.append(signal(self._posted))
            self._posted += 1
            await self.ledger.record_page(source(), posted[-1:], [], {}, self.run, self.clock())
            [claimed] = (await self.ledger.exchange([], 1, self.run, self.clock())).claimed
            remote = self.sandbox.books.create(json.loads(claimed.body)) if arrives else {}
            self.clock.move(1)
            now = self.clock()
            if answered:
                answer = Answer(claimed, Accepted(remote["publicId"], remote["jobId"]), now, now + timedelta(days=1))
            else:
                answer = Answer(claimed, Unknown("reset"), now, now, absent_after and now + absent_after)
            await self.ledger.exchange([answer], 0, self.run, now)
        return posted


class TestTheGap(OnSQLite):
    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("after", [0, 1, 20])
    async def test_one_lost_answer_costs_a_few_calls_in_a_large_workspace(
        self, ledger: Ledger, clock: Clock, order: Order, after: int
    ) -> None:
        """A lost signal has a number just above those accepted before it was sent, whatever was posted after it."""
        sandbox = Sandbox(now=clock, order=order)
        others(sandbox, 5000)
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(20)
        [one] = await posting.post(answered=False)
        await posting.post(after)
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock) == Reconciled(found=1)
            assert zentrik.calls.reads == 1
        [remote] = sandbox.books.with_external_id(one.external_id)
        assert (await rows(ledger))[one.external_id].public_id == remote["publicId"]

    async def test_several_lost_answers_among_other_senders_are_found_by_number(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """The numbers that others were given meanwhile are asked for too, each only once."""
        sandbox = Sandbox(now=clock, order="shuffled")
        others(sandbox, 5000)
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(5)
        for _ in range(3):
            others(sandbox, 2)
            await posting.post(answered=False)
        await posting.post(5)
        mirror = Mirror()
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock, mirror) == Reconciled(found=3)
            assert zentrik.calls.reads == 9
        assert len(mirror) == 9

    async def test_numbers_that_nobody_has_prove_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """A signal whose number is not where it was expected is found all the same, for the list has it."""
        sandbox = Sandbox(now=clock, order="shuffled")
        arrived(sandbox, signal(20))  # it was given the lowest number of all
        others(sandbox, 5000)
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(20)
        await posting.post(arrives=False, answered=False)
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock) == Reconciled(found=1)

    async def test_absence_takes_the_whole_list(self, ledger: Ledger, clock: Clock) -> None:
        """A gap without it costs a handful of calls, and only the sweep after it has the signal posted again."""
        sandbox = Sandbox(now=clock)
        others(sandbox, 5000)
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(20)
        [one] = await posting.post(arrives=False, answered=False)
        await posting.post(20)
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock) == Reconciled(requeued=1)
            assert 57 <= zentrik.calls.reads <= 57 + 4
        assert (await rows(ledger))[one.external_id].state is State.QUEUED

    async def test_what_may_still_be_under_way_is_looked_for_and_not_called_absent(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """The list is not swept for what a sweep could not prove; when it can, it is."""
        sandbox = Sandbox(now=clock, order="creation")
        others(sandbox, 5000)
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(20)
        [one] = await posting.post(arrives=False, answered=False, absent_after=timedelta(seconds=10))
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock) == Reconciled(waiting=1)
            assert zentrik.calls.reads <= 3 + 2
            row = (await rows(ledger))[one.external_id]
            assert (row.state, row.due_at) == (State.UNKNOWN, clock() + timedelta(seconds=10))
            clock.move(9.9)
            assert await look(ledger, zentrik, posting.run, clock) == Reconciled()
            assert await look(ledger, zentrik, posting.run, clock, horizon=timedelta(days=1)) == Reconciled(waiting=1)
            clock.move(0.1)
            assert await look(ledger, zentrik, posting.run, clock) == Reconciled(requeued=1)

    async def test_a_small_workspace_is_looked_at_at_once(self, ledger: Ledger, clock: Clock) -> None:
        """Where one page shows everything, no numbers are asked for; a lost answer is found before it could be called
        absent."""
        sandbox = Sandbox(now=clock, order="shuffled")
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(40)
        await posting.post(answered=False, absent_after=timedelta(seconds=10))
        await posting.post(40)
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock) == Reconciled(found=1)
            assert zentrik.calls.reads == 1

    async def test_many_lost_answers_share_one_sweep(self, ledger: Ledger, clock: Clock) -> None:
        """Where a hundred on a page are cheaper than a number a call, pages are read."""
        sandbox = Sandbox(now=clock, order="shuffled")
        others(sandbox, 4700)
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(10)
        await posting.post(150, answered=False)
        await posting.post(150, answered=False, arrives=False)
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock) == Reconciled(found=150, requeued=150)
            assert zentrik.calls.reads <= 57

    async def test_being_asked_to_slow_down_stops_no_search(self, ledger: Ledger, clock: Clock) -> None:
        """A 429 to a single question is waited out in full, and the question asked again."""
        sandbox = Sandbox(now=clock, faults=Faults(next_reads=("429",), retry_after_seconds=9))
        others(sandbox, 5000)
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(20)
        await posting.post(answered=False)
        waits: list[timedelta] = []

        async def pause(wait: timedelta) -> None:
            waits.append(wait)

        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock, pause=pause) == Reconciled(found=1)
        assert waits == [timedelta(seconds=9)]


class TestTheMirror(OnSQLite):
    async def shown(self, sandbox: Sandbox, clock: Clock) -> Mirror:
        """A mirror that was told of the first page, as by somebody asking for outcomes."""
        mirror = Mirror()
        async with at(sandbox, clock) as zentrik:
            listing = await zentrik.list()
            assert isinstance(listing, Listing)
            mirror.note(listing.signals, clock(), listing.total)
        return mirror

    async def test_what_was_shown_anyway_costs_no_call(self, ledger: Ledger, clock: Clock) -> None:
        """A lost answer is found in the pages that outcomes were read from."""
        sandbox = Sandbox(now=clock)
        run = await lost(ledger, clock, *some(2))
        arrived(sandbox, signal(1))
        mirror = await self.shown(sandbox, clock)
        async with at(sandbox, clock) as zentrik:
            done = await look(ledger, zentrik, run, clock, mirror)
            assert (done, zentrik.calls.reads) == (Reconciled(found=1, requeued=1), 1)
            assert await look(ledger, zentrik, run, clock, mirror) == Reconciled()
        assert (await rows(ledger))[signal(1).external_id].public_id == "SIGNAL-1"

    async def test_what_was_shown_before_it_was_sent_is_another(self, ledger: Ledger, clock: Clock) -> None:
        """A signal that was deleted at Zentrik and posted again is not taken for the one that is gone."""
        sandbox = Sandbox(now=clock)
        arrived(sandbox, signal(1))
        mirror = await self.shown(sandbox, clock)
        sandbox.books.delete("SIGNAL-1")
        clock.move(1)
        run = await lost(ledger, clock, signal(1))
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, run, clock, mirror) == Reconciled(requeued=1)

    async def test_what_was_shown_is_not_asked_for_by_number(self, ledger: Ledger, clock: Clock) -> None:
        """Other senders' numbers that a page has shown are known not to be ours."""
        sandbox = Sandbox(now=clock)
        others(sandbox, 5000)
        posting = await Posting.begun(ledger, clock, sandbox)
        await posting.post(1)
        others(sandbox, 8)
        mirror = await self.shown(sandbox, clock)
        await posting.post(answered=False)
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, posting.run, clock, mirror) == Reconciled(found=1)
            assert zentrik.calls.reads == 1


class TestDoubled(OnSQLite):
    @pytest.mark.parametrize("order", ORDERS)
    async def test_of_two_the_first_created_is_followed(self, ledger: Ledger, clock: Clock, order: Order) -> None:
        """Where Zentrik has a signal twice already, every look comes to the same one."""
        run = await lost(ledger, clock, *some(2))
        sandbox = Sandbox(now=clock, order=order)
        others(sandbox, 150)
        arrived(sandbox, signal(0))
        others(sandbox, 150)
        arrived(sandbox, signal(0))
        async with at(sandbox, clock) as zentrik:
            assert await look(ledger, zentrik, run, clock) == Reconciled(found=1, requeued=1)
        assert (await rows(ledger))[signal(0).external_id].public_id == "SIGNAL-151"

    @pytest.mark.parametrize("numbers", [(9, 10), (10, 9)])
    async def test_whichever_is_shown_first(self, ledger: Ledger, clock: Clock, numbers: tuple[int, int]) -> None:
        """It does not matter in which order the list shows the two."""
        run = await lost(ledger, clock, *some(2))
        names = [f"SIGNAL-{number}" for number in (*range(900, 700, -2), *range(701, 901, 2))]
        names[20], names[150] = (f"SIGNAL-{number}" for number in numbers)
        external_ids = {names[20]: signal(0).external_id, names[150]: signal(0).external_id}
        body = [{"publicId": name, "externalId": external_ids.get(name)} for name in names]

        def list_page(limit: int, offset: int) -> httpx.Response:
            return httpx.Response(200, json=body[offset : offset + limit], headers={"X-Total-Count": str(len(body))})

        async with answering(list_page, clock) as zentrik:
            assert await look(ledger, zentrik, run, clock) == Reconciled(found=1, requeued=1)
        assert (await rows(ledger))[signal(0).external_id].public_id == "SIGNAL-9"


class TestTrouble(OnSQLite):
    @pytest.mark.parametrize(
        ("mishap", "after"), [("429", 9), ("503", None), ("cut_before", None), ("garbled", None), ("html_404", None)]
    )
    async def test_trouble_midway_leaves_the_rest_unknown(
        self, ledger: Ledger, clock: Clock, mishap: str, after: int | None
    ) -> None:
        """A list that was not read to its end proves nothing absent; what it did show is settled."""
        page = some(20)
        run = await lost(ledger, clock, *page)
        sandbox = Sandbox(now=clock, order="creation")
        arrived(sandbox, *page[:5])
        others(sandbox, 150)
        arrived(sandbox, *page[5:10])
        others(sandbox, 150)

        def break_third(call: int) -> None:
            if call == 3:
                faults = {"next_reads": [mishap] * 6, "retry_after_seconds": 9}
                sandbox.faults = Faults.model_validate(faults)

        async with at(sandbox, clock, break_third) as zentrik:
            done = await look(ledger, zentrik, run, clock)
            assert (done.found, done.requeued) == (5, 0)
            assert done.trouble is not None
            assert done.trouble.after == (None if after is None else timedelta(seconds=after))
            assert await states(ledger) == {State.PROCESSING: 5, State.UNKNOWN: 15}
            clock.move(29)
            assert await look(ledger, zentrik, run, clock) == Reconciled()
            clock.move(1)
            assert await look(ledger, zentrik, run, clock) == Reconciled(found=5, requeued=10)

    async def test_trouble_that_passes_is_waited_out(self, ledger: Ledger, clock: Clock) -> None:
        """A single 429 in the middle costs the wait that was asked for, and nothing is left unknown for it."""
        run = await lost(ledger, clock, *some(2))
        sandbox = Sandbox(now=clock, order="shuffled")
        arrived(sandbox, signal(0))
        others(sandbox, 500)
        waits: list[timedelta] = []

        async def pause(wait: timedelta) -> None:
            waits.append(wait)

        def break_fourth(call: int) -> None:
            if call == 4:
                sandbox.faults = Faults(next_reads=("429",), retry_after_seconds=70)

        async with at(sandbox, clock, break_fourth) as zentrik:
            done = await look(ledger, zentrik, run, clock, pause=pause)
        assert (done, waits) == (Reconciled(found=1, requeued=1), [timedelta(seconds=70)])

    async def test_a_list_that_never_adds_up_is_given_as_long_a_rest_as_it_took(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """Where nothing can be proven, people are told why, and Zentrik is not read without end."""
        run = await lost(ledger, clock, signal(1))

        def list_page(limit: int, offset: int) -> httpx.Response:
            clock.move(10)
            body = [{"publicId": f"SIGNAL-{number}"} for number in range(1, 251)][offset : offset + limit]
            return httpx.Response(200, json=body, headers={"X-Total-Count": "251"})

        async with answering(list_page, clock) as zentrik:
            done = await look(ledger, zentrik, run, clock)
            assert done.trouble is not None
            assert "never added up" in done.trouble.reason
            [row] = (await rows(ledger)).values()
            took = timedelta(seconds=10 * zentrik.calls.reads)
            assert (row.state, row.due_at) == (State.UNKNOWN, clock() + took)

    async def test_a_refused_key_settles_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """With a wrong key nothing is called absent, and all is looked for under the next one."""
        run = await lost(ledger, clock, *some(3))
        sandbox = Sandbox(now=clock)
        arrived(sandbox, *some(3))
        async with at(sandbox, clock, key="revoked") as zentrik:
            with pytest.raises(KeyRefused):
                await look(ledger, zentrik, run, clock)
        async with at(sandbox, clock) as zentrik:
            assert (await look(ledger, zentrik, run, clock)).found == 3

    async def test_one_that_arrives_late_is_not_doubled(
        self, ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A post that Zentrik takes in after its caller gave up is found, because nobody looks too early."""
        run = await lost(ledger, clock)
        await ledger.start_pull(source(), run, clock())
        await ledger.record_page(source(), [signal(1)], [], {}, run, clock())
        sandbox = Sandbox(now=clock, faults=Faults(latency=0.3))
        taken_in, create = asyncio.Event(), sandbox.books.create

        def note(body: object) -> dict[str, Any]:
            taken_in.set()
            return create(body)

        monkeypatch.setattr(sandbox.books, "create", note)
        delivery = Delivery(look_after=timedelta(seconds=2), absent_after=timedelta(seconds=10))
        async with at(sandbox, clock, patience=timedelta(milliseconds=50)) as zentrik:
            await dispatch(ledger, zentrik, Gate(), LookSchedule(), run, clock, lambda: 0.0, delivery)
            assert (len(sandbox.books), await states(ledger)) == (0, {State.UNKNOWN: 1})
            assert await look(ledger, zentrik, run, clock) == Reconciled()
            sandbox.faults = Faults()
            clock.move(2)
            assert await look(ledger, zentrik, run, clock) == Reconciled(waiting=1)
            async with asyncio.timeout(5):
                await taken_in.wait()
            assert await look(ledger, zentrik, run, clock) == Reconciled()
            clock.move(8)
            assert (await look(ledger, zentrik, run, clock)).found == 1
        assert sandbox.books.created == 1


class TestChangingList(OnSQLite):
    async def test_a_signal_that_is_processed_meanwhile_is_not_called_absent(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """In a list by last change, one that leaves the unread part for the part already read is found there."""
        sandbox = Sandbox(now=clock, order="last_updated", processing_takes=timedelta(seconds=60))
        others(sandbox, 150)
        clock.move(100)
        run = await lost(ledger, clock, *some(2))
        arrived(sandbox, signal(1))
        clock.move(30)
        others(sandbox, 400)

        def pass_time(call: int) -> None:
            if call == 3:  # from the middle to the head; and one that was shown goes, so that the count seems right
                sandbox.books.delete("SIGNAL-500")
                clock.move(31)

        async with at(sandbox, clock, pass_time) as zentrik:
            done = await look(ledger, zentrik, run, clock)
        assert done == Reconciled(found=1, requeued=1)

    @pytest.mark.parametrize("order", ["newest_first", "creation"])
    async def test_what_slips_past_between_two_pages_is_not_called_absent(
        self, ledger: Ledger, clock: Clock, order: Order
    ) -> None:
        """Forty deletions and forty inserts between two pages, unseen by the totals, double nothing."""
        run = await lost(ledger, clock, signal(1), signal(2))
        sandbox = Sandbox(now=clock, order=order)
        others(sandbox, 120)
        arrived(sandbox, signal(1))
        others(sandbox, 119)

        def rearrange(call: int) -> None:
            if call == 2:
                for remote in sandbox.books.page(40, 0):
                    sandbox.books.delete(remote["publicId"])
                others(sandbox, 40)

        async with at(sandbox, clock, rearrange) as zentrik:
            done = await look(ledger, zentrik, run, clock)
        assert done == Reconciled(found=1, requeued=1)
        assert (await rows(ledger))[signal(1).external_id].state is State.PROCESSING

    @settings(max_examples=20, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        size=st.sampled_from([0, 60, 101, 250, 450]),
        most=st.sampled_from([0, 3, 15, 60]),
        balanced=st.booleans(),
        side=st.sampled_from(["head", "tail", "anywhere"]),
    )
    async def test_whatever_changes_while_it_looks(
        self, seed: int, size: int, most: int, balanced: bool, side: str
    ) -> None:
        """However a workspace changes between two pages, no signal that is in it is ever posted again."""
        chance = random.Random(seed)
        clock = Clock()
        page = some(20)
        listed = [f"SIGNAL-{number}" for number in range(size)]
        named = {f"here-{number}": each.external_id for number, each in enumerate(page[:-1])}
        for public_id in named:
            listed.insert(chance.randrange(len(listed) + 1), public_id)
        made = 0

        def list_page(limit: int, offset: int) -> httpx.Response:
            nonlocal made
            shown = listed[offset : offset + limit]
            headers = {"X-Total-Count": str(len(listed)), "X-Has-More": str(offset + limit < len(listed)).lower()}
            inserts = chance.randint(0, most)
            deletions = inserts if balanced else chance.randint(0, most)
            for _ in range(inserts):
                made += 1
                place = {"head": 0, "tail": len(listed)}.get(side, chance.randrange(len(listed) + 1))
                listed.insert(place, f"NEW-{made}")
            for _ in range(deletions):
                strangers = [public_id for public_id in listed if public_id not in named]
                if strangers:
                    listed.remove(strangers[0] if side != "anywhere" else chance.choice(strangers))
            body = [{"publicId": public_id, "externalId": named.get(public_id), "status": ""} for public_id in shown]
            return httpx.Response(200, json=body, headers=headers)

        with TemporaryDirectory() as folder:
            ledger = Ledger(Database(f"sqlite:///{folder}/ledger.db"))
            run = await lost(ledger, clock, *page)
            async with answering(list_page, clock) as zentrik:
                done = await look(ledger, zentrik, run, clock)
                assert zentrik.calls.reads < 200
            after = await rows(ledger)
            for each in page[:-1]:
                assert after[each.external_id].state in (State.PROCESSING, State.UNKNOWN)
            if done.trouble is None:
                assert (done.found, done.requeued) == (19, 1)
            ledger.close()

    @pytest.mark.parametrize("headers", [{"X-Has-More": "true"}, {}], ids=["says more", "says nothing"])
    @pytest.mark.parametrize("shown", [0, 100])
    async def test_a_list_that_never_ends_is_trouble(
        self, ledger: Ledger, clock: Clock, headers: dict[str, str], shown: int
    ) -> None:
        """A server that ignores the offset is not read for ever, and a list it cut short proves nothing absent."""
        run = await lost(ledger, clock, signal(1))
        same = [{"publicId": f"SIGNAL-{number}", "externalId": None} for number in range(shown)]
        async with answering(lambda _limit, _offset: httpx.Response(200, json=same, headers=headers), clock) as zentrik:
            done = await look(ledger, zentrik, run, clock)
            assert zentrik.calls.reads <= 8
        if headers or shown:
            assert isinstance(done.trouble, Troubled)
            assert await states(ledger) == {State.UNKNOWN: 1}
        else:
            assert done.requeued == 1

    async def test_pages_shorter_than_asked_for_hide_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """A server that gives fewer signals a page than we ask for is still read without a gap."""
        run = await lost(ledger, clock, signal(1), signal(2))
        listed = [{"publicId": f"SIGNAL-{number}", "externalId": None} for number in range(300)]
        listed[70]["externalId"] = signal(1).external_id

        def list_page(_limit: int, offset: int) -> httpx.Response:
            return httpx.Response(200, json=listed[offset : offset + 50], headers={"X-Total-Count": "300"})

        async with answering(list_page, clock) as zentrik:
            assert await look(ledger, zentrik, run, clock) == Reconciled(found=1, requeued=1)


class TestTheWhole:
    async def test_through_every_kind_of_weather_nothing_is_lost_or_doubled(self, ledger: Ledger, clock: Clock) -> None:
        """With half of all answers going wrong in every way there is, each record is at Zentrik once in the end."""
        page = some(120)
        run = await lost(ledger, clock)
        await ledger.start_pull(source(), run, clock())
        await ledger.record_page(source(), page, [], {}, run, clock())
        each_way = ("429", "500", "503", "504", "cut_before", "cut_after", "torn", "garbled")
        faults = {"share_of_posts": dict.fromkeys(each_way, 0.06), "share_of_reads": {"503": 0.1, "cut_before": 0.1}}
        sandbox = Sandbox(now=clock, faults=Faults.model_validate(faults), order="shuffled")
        gate, looks, mirror, chance = Gate(), LookSchedule(), Mirror(), random.Random(1)
        async with at(sandbox, clock) as zentrik:
            for _ in range(400):
                await dispatch(ledger, zentrik, gate, looks, run, clock, chance.random, sleep=clock.sleep)
                await look(ledger, zentrik, run, clock, mirror)
                if await ledger.ask(report.next_due, [State.QUEUED, State.UNKNOWN, State.SENDING]) is None:
                    break
                clock.move(1)
        assert await states(ledger) == {State.PROCESSING: 120}
        assert (sandbox.books.created, sandbox.books.duplicates()) == (120, 0)
