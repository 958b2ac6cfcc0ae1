"""Rerun: what an operator has tried again moves on as its state allows, and is never created twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from syncd.dispatch import Delivery, dispatch
from syncd.errors import KeyRefused
from syncd.ledger import Ledger, State
from syncd.mirror import Mirror
from syncd.pacing import Gate, LookSchedule
from syncd.reconcile import reconcile
from syncd.rerun import Rerun, rerun, rerun_failed
from syncd.sandbox import Faults, Sandbox
from syncd.signals import Signal
from syncd.track import track
from syncd.zentrik import Zentrik
from tests.conftest import Clock, at, at_once, longest, rows, signal, source

FAIL = "[sandbox: fail]"


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the database."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


async def delivered(ledger: Ledger, zentrik: Zentrik, clock: Clock, *page: Signal) -> int:
    """A run that has posted these signals one after the other, and followed them to their outcomes."""
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(source(), run, clock())
    await ledger.record_page(source(), page, [], {}, run, clock())
    await ledger.finish_pull(source(), run, None, clock())
    await send(ledger, zentrik, clock, run)
    return run


async def send(ledger: Ledger, zentrik: Zentrik, clock: Clock, run: int) -> None:
    """Post what is queued, and look at the outcomes a minute later."""
    looks = LookSchedule()
    await dispatch(ledger, zentrik, Gate(), looks, run, clock, lambda: 0.5, Delivery(concurrency=1))
    clock.move(60)
    await track(ledger, zentrik, looks, run, clock, longest)


def failing(count: int) -> Sequence[Signal]:
    return [signal(number, FAIL) for number in range(count)]


async def test_a_rejected_one_is_posted_again(ledger: Ledger, clock: Clock) -> None:
    """What Zentrik refused is tried once more on request, its tries counted afresh."""
    sandbox = Sandbox(now=clock)
    bad = Signal("bad", b'{"text":"Fine.","signalType":"rumour"}', b"f")
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, bad)
        assert await rerun(ledger, zentrik, await rows(ledger), run, clock) == Rerun(queued=1)
        [row] = await rows(ledger)
        assert (row.state, row.due_at, row.last_error) == (State.QUEUED, clock(), None)
        await send(ledger, zentrik, clock, run)
    assert sandbox.calls.count("POST", "/signals", 422) == 2


async def test_a_failed_one_is_processed_anew_and_not_created_anew(ledger: Ledger, clock: Clock) -> None:
    """After Zentrik's trouble is over its failures are made good, without a second copy of any signal."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(20))
        before = await rows(ledger)
        assert {row.state for row in before} == {State.FAILED}
        sandbox.faults = Faults(failing_marker=None)
        assert await rerun(ledger, zentrik, before, run, clock) == Rerun(processing=20)
        for row, was in zip(await rows(ledger), before, strict=True):
            assert (row.state, row.public_id, row.last_error) == (State.PROCESSING, was.public_id, None)
            assert row.job_id == sandbox.books.get(str(row.public_id))["processing"]["lastJobId"] != was.job_id
        await send(ledger, zentrik, clock, run)
    assert {row.state for row in await rows(ledger)} == {State.PROCESSED}
    assert (sandbox.books.created, sandbox.calls.count("POST", "/signals")) == (20, 20)


async def test_one_that_is_gone_is_left_with_the_reason(ledger: Ledger, clock: Clock) -> None:
    """A signal deleted at Zentrik cannot be processed again: that is said, and the others are."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(3))
        first, *_ = before = await rows(ledger)
        sandbox.books.delete(str(first.public_id))
        done = await rerun(ledger, zentrik, before, run, clock)
    assert done == Rerun(processing=2, left=[(first.external_id, "Zentrik no longer has it: it was deleted there")])
    assert (await rows(ledger))[0].state is State.DELETED


async def test_what_is_on_its_way_or_done_is_left_alone(ledger: Ledger, clock: Clock) -> None:
    """Nothing that Zentrik has, or is about to get, is posted or processed a second time."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, signal(1))
        await ledger.start_pull(source(), run, clock())
        await ledger.record_page(source(), [signal(2), signal(3)], [], {}, run, clock())
        await ledger.exchange([], 1, run, clock())
        before, calls = await rows(ledger), sandbox.calls.by_status()
        done = await rerun(ledger, zentrik, before, run, clock)
        assert sandbox.calls.by_status() == calls
    assert await rows(ledger) == before
    assert (done.queued, done.processing) == (0, 0)
    said = {name.rpartition("-")[2]: why.partition(";")[0] for name, why in done.left}
    assert said == {"1": "it is processed", "2": "it is sending", "3": "it is queued"}


async def test_a_lost_one_that_can_be_looked_for_is_not_posted_blindly(ledger: Ledger, clock: Clock) -> None:
    """`syncd retry` on a signal Zentrik may have does not double it: it is looked for first."""
    sandbox = Sandbox(now=clock, faults=Faults(next_posts=("cut_after",)))
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, signal(1))
        before = await rows(ledger)
        assert before[0].state is State.UNKNOWN
        done = await rerun(ledger, zentrik, before, run, clock)
        assert done.queued == 0
        assert "syncd reconcile" in done.left[0][1]
        assert (await reconcile(ledger, zentrik, run, clock, mirror=Mirror(), pause=at_once)).found == 1
    assert sandbox.books.created == 1


async def test_a_lost_one_without_a_name_is_posted_on_the_operators_word(ledger: Ledger, clock: Clock) -> None:
    """Where nobody can look, a person decides, and their word is enough."""
    sandbox = Sandbox(now=clock, faults=Faults(next_posts=("cut_before",)))
    nameless = Signal("listed:reviews:x", b'{"text":"Hm.","signalType":"review"}', b"f")
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, nameless)
        await reconcile(ledger, zentrik, run, clock, mirror=Mirror(), pause=at_once)
        assert await rerun(ledger, zentrik, await rows(ledger), run, clock) == Rerun(queued=1)
        await send(ledger, zentrik, clock, run)
    assert [row.state for row in await rows(ledger)] == [State.PROCESSED]
    assert sandbox.books.created == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_zentrik_in_trouble_is_not_asked_on_and_on(ledger: Ledger, clock: Clock, status: int) -> None:
    """Told «too many», syncd does not go on with the other thousand; all that is left says why and can be retried."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(40))
    asked: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) <= 8:
            return httpx.Response(201, json={"jobId": f"job-{len(asked)}"})
        return httpx.Response(status, json={"message": "not now"})

    wire = httpx.MockTransport(answer)
    async with Zentrik("http://zentrik.test/api", "k", clock=clock, transport=wire) as zentrik:
        done = await rerun(ledger, zentrik, await rows(ledger), run, clock)
    assert len(asked) == 16
    assert (done.processing, len(done.left)) == (8, 32)
    assert len({why for _, why in done.left}) == 1
    assert [row.state for row in await rows(ledger)].count(State.FAILED) == 32


async def test_one_zentrik_will_not_process_is_left_in_its_words(ledger: Ledger, clock: Clock) -> None:
    """A refusal to process is one signal's, and told as Zentrik tells it."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(3))

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("SIGNAL-2/process"):
            return httpx.Response(409, json={"message": "already being processed"})
        return httpx.Response(201, content=json.dumps({"jobId": "job-9"}))

    wire = httpx.MockTransport(answer)
    async with Zentrik("http://zentrik.test/api", "k", clock=clock, transport=wire) as zentrik:
        done = await rerun(ledger, zentrik, await rows(ledger), run, clock)
    assert (done.processing, [why for _, why in done.left]) == (2, ["409: already being processed"])


def answering(clock: Clock, answer: Callable[[httpx.Request], httpx.Response]) -> AbstractAsyncContextManager[Zentrik]:
    """A client that is answered by the function."""
    return Zentrik("http://zentrik.test/api", "k", clock=clock, transport=httpx.MockTransport(answer))


def no_route(_: httpx.Request) -> httpx.Response:
    """What a gateway answers to all when it does not find Zentrik."""
    return httpx.Response(404, json={"message": "no route matched"})


async def test_a_gateways_404_deletes_nothing(ledger: Ledger, clock: Clock) -> None:
    """`syncd retry` while a gateway has lost its way to Zentrik marks nothing deleted, and says why it could not."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(12))
    before = await rows(ledger)
    async with answering(clock, no_route) as zentrik:
        done = await rerun(ledger, zentrik, before, run, clock)
        assert zentrik.calls.reads == 1
    assert (done.processing, len(done.left)) == (0, 12)
    assert {why.endswith("did not answer with a list of signals") for _, why in done.left} == {True}
    assert await rows(ledger) == before


async def test_a_gateways_404_deletes_nothing_by_itself(ledger: Ledger, clock: Clock) -> None:
    """The same for what is tried again without anybody's word; it is tried once more, and that try is not counted."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(12))
        clock.move(3600)
        async with answering(clock, no_route) as gateway:
            trouble = await rerun_failed(ledger, gateway, run, clock)
        assert trouble is not None
        assert {row.state for row in await rows(ledger)} == {State.FAILED}
        clock.move(60)
        assert [waiting.reruns for waiting in await ledger.claim_reruns(20, clock())] == [0] * 12


async def test_by_itself_one_that_is_gone_is_deleted(ledger: Ledger, clock: Clock) -> None:
    """What Zentrik itself says it no longer has is not asked for again."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(3))
        sandbox.books.delete(str((await rows(ledger))[0].public_id))
        clock.move(3600)
        assert await rerun_failed(ledger, zentrik, run, clock) is None
    assert [row.state for row in await rows(ledger)] == [State.DELETED, State.PROCESSING, State.PROCESSING]


@pytest.mark.parametrize("by_itself", [False, True])
async def test_one_refusal_among_many_forgets_no_job(ledger: Ledger, clock: Clock, by_itself: bool) -> None:
    """When Zentrik refuses the key in the middle, the signals it took before run, and the ledger awaits them."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(20))
    clock.move(3600)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        *_, name, last = request.url.path.split("/")
        if last != "process":
            return httpx.Response(200, json=sandbox.books.get(last))
        asked.append(name)
        if name == "SIGNAL-3":
            return httpx.Response(403, json={"message": "rate plan"})
        return httpx.Response(201, json={"jobId": f"again-{name}"})

    async with answering(clock, answer) as zentrik:
        before = await rows(ledger)
        again = rerun_failed(ledger, zentrik, run, clock) if by_itself else rerun(ledger, zentrik, before, run, clock)
        with pytest.raises(KeyRefused, match="rate plan"):
            await again
    assert len(asked) == 8, "those after it are not asked for with a key that was refused"
    after = {str(row.public_id): row for row in await rows(ledger)}
    started = {name for name, row in after.items() if row.state is State.PROCESSING}
    assert started == set(asked) - {"SIGNAL-3"}
    assert {after[name].job_id for name in started} == {f"again-{name}" for name in started}
    if by_itself:
        clock.move(60)
        assert [waiting.reruns for waiting in await ledger.claim_reruns(20, clock())] == [0] * 13


async def test_a_refused_key_is_raised(ledger: Ledger, clock: Clock) -> None:
    """With a wrong key nothing changes, and what to do is said."""
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        run = await delivered(ledger, zentrik, clock, *failing(2))
    before = await rows(ledger)
    async with at(sandbox, clock, key="revoked") as zentrik:
        with pytest.raises(KeyRefused, match="ZENTRIK_API_KEY"):
            await rerun(ledger, zentrik, before, run, clock)
    assert await rows(ledger) == before
