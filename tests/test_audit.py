"""Audit: every way in which ledger and Zentrik can differ is found, told, and made good on request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpx
import pytest

from syncd.audit import Applied, Audit, Difference, Kind, apply, audit
from syncd.dispatch import Delivery, dispatch
from syncd.errors import KeyRefused
from syncd.fates import Accepted, Failed, Unknown
from syncd.ledger import Answer, Database, Ledger, Look, State, matching, report
from syncd.pacing import Gate, LookSchedule
from syncd.sandbox import Faults, Sandbox
from syncd.signals import Signal
from syncd.sweep import Patience
from syncd.track import track
from syncd.zentrik import Zentrik
from tests.conftest import Clock, at, rows, signal, source

NAMESPACES = {"listed:reviews": "reviews"}
FAIL = "[sandbox: fail]"


async def _at_once(*_: object) -> None:
    """Waits for nothing: the sandbox minds no hurry."""


PATIENCE = Patience(pause=_at_once)


def name_of(number: int) -> str:
    return f"listed:reviews:r-{number}"


class Desk:
    """A ledger, a workspace, and a run that works on both."""

    def __init__(self, ledger: Ledger, clock: Clock, **more: Any) -> None:
        self.ledger = ledger
        self.clock = clock
        self.sandbox = Sandbox(now=clock, **more)
        self.run = 0

    async def queue(self, *page: Signal) -> None:
        """Record these, to be posted."""
        self.run = self.run or await self.ledger.start_run("run-once", self.clock())
        await self.ledger.start_pull(source(), self.run, self.clock())
        await self.ledger.record_page(source(), page, [], {}, self.run, self.clock())
        await self.ledger.finish_pull(source(), self.run, None, self.clock())

    async def deliver(self, *page: Signal) -> None:
        """Record these, post them, and follow them to their outcomes."""
        await self.queue(*page)
        looks = LookSchedule()
        async with at(self.sandbox, self.clock) as zentrik:
            await dispatch(
                self.ledger, zentrik, Gate(), looks, self.run, self.clock, lambda: 0.5, Delivery(concurrency=1)
            )
            self.clock.move(60)
            await track(self.ledger, zentrik, looks, self.run, self.clock, lambda: 0.5)
        self.clock.move(60)

    def put(self, *names: str | None, text: str = "Fine.") -> None:
        """Somebody creates signals under these externalIds at Zentrik; they are processed by now."""
        for name in names:
            self.sandbox.books.create({"text": text, "signalType": "review"} | ({"externalId": name} if name else {}))
        self.clock.move(60)

    async def mend(self, *numbers: int) -> None:
        """Zentrik processes anew what failed, and this time it succeeds; nobody told the ledger."""
        self.sandbox.faults = Faults(failing_marker=None)
        for number in numbers:
            self.sandbox.books.process(str((await self.row(number)).public_id))
        self.clock.move(60)

    async def await_again(self, number: int) -> None:
        """The ledger awaits the outcome of a failed signal anew."""
        assert await self.ledger.reprocess({(await self.row(number)).id: None}, self.run, self.clock()) == 1

    async def audit(self, patience: Patience = PATIENCE) -> Audit:
        """What an audit finds."""
        async with at(self.sandbox, self.clock) as zentrik:
            return await audit(self.ledger, zentrik, NAMESPACES, self.clock, patience)

    async def apply(self, found: Audit) -> Applied:
        """Carry its plan out."""
        async with at(self.sandbox, self.clock) as zentrik:
            return await apply(found, self.ledger, zentrik, self.run, self.clock, PATIENCE)

    async def row(self, number: int = 1) -> report.SignalRow:
        """The signal with that number."""
        row = await self.ledger.ask(report.named, name_of(number))
        assert row is not None
        return row

    async def told(self, number: int = 1) -> report.Event:
        """The last thing that happened to the signal with that number."""
        return (await self.ledger.ask(report.history, await self.row(number)))[-1]


@pytest.fixture
def desk(ledger: Ledger, clock: Clock) -> Desk:
    return Desk(ledger, clock)


def some(count: int, text: str = "Fine.") -> Sequence[Signal]:
    """The signals with the numbers 1 to `count`."""
    return [signal(number, text) for number in range(1, count + 1)]


def kinds(found: Audit) -> dict[str, tuple[Kind, str]]:
    """By publicId, what differs."""
    return {each.public_id: (each.kind, each.words) for each in found.differences}


class TestComparing:
    async def test_what_agrees_is_no_difference(self, desk: Desk) -> None:
        """Processed and failed, foreign and nameless signals: where all is well nothing is reported or changed."""
        await desk.deliver(*some(150), signal(200, FAIL))
        desk.put("somebody-elses", "somebody-elses", None)
        before = await rows(desk.ledger)
        found = await desk.audit()
        assert (found.here, found.there, found.nameless, found.differences) == (151, 154, 1, [])
        assert await desk.apply(found) == Applied()
        assert await rows(desk.ledger) == before

    async def test_what_is_still_under_way_is_no_difference(self, desk: Desk) -> None:
        """Queued, being posted, looked for by a living run, awaited: a daemon will see to all of these itself."""
        await desk.deliver(signal(1, FAIL))
        await desk.await_again(1)
        await desk.mend(1)
        await desk.queue(signal(2), signal(3), signal(4))
        posted = (await desk.ledger.exchange([], 2, desk.run, desk.clock())).claimed
        desk.put(*(each.external_id for each in posted))
        await desk.ledger.exchange([Answer(posted[0], Unknown("reset"), desk.clock(), None)], 0, desk.run, desk.clock())
        assert [(await desk.row(n)).state for n in (1, 2, 3, 4)] == ["processing", "unknown", "sending", "queued"]
        assert (await desk.audit()).differences == []

    async def test_each_difference_is_found_and_nothing_is_changed(self, desk: Desk) -> None:
        """Missing, unknown, doubled, changed: each is told with what is planned; looking alters neither side."""
        await desk.deliver(*some(5))
        books = desk.sandbox.books
        books.delete("SIGNAL-1")
        desk.put(name_of(2), name_of(9), name_of(9))
        books.process("SIGNAL-3")
        books.patch("SIGNAL-4", {"insightIds": ["5a3c0ff3-7b54-4cb2-b2f5-1d3a8b0e2f11"]})
        before, calls = await rows(desk.ledger), desk.sandbox.calls
        found = await desk.audit()
        assert {public_id: kind for public_id, (kind, _) in kinds(found).items()} == {
            "SIGNAL-1": Kind.MISSING,
            "SIGNAL-6": Kind.DOUBLED,
            "SIGNAL-7": Kind.UNKNOWN_HERE,
            "SIGNAL-8": Kind.DOUBLED,
            "SIGNAL-3": Kind.CHANGED,
            "SIGNAL-4": Kind.CHANGED,
        }
        assert found.counts == {Kind.MISSING: 1, Kind.UNKNOWN_HERE: 1, Kind.DOUBLED: 2, Kind.CHANGED: 2}
        plans = {each.public_id: each.plan for each in found.differences}
        assert f"`syncd retry {name_of(1)}`" in plans["SIGNAL-1"]
        assert "reviews" in plans["SIGNAL-7"]
        assert (plans["SIGNAL-6"], plans["SIGNAL-8"]) == (
            "delete it at Zentrik, keep SIGNAL-2",
            "delete it at Zentrik, keep SIGNAL-7",
        )
        assert await rows(desk.ledger) == before
        assert (calls.count("DELETE", "/signals/:publicId"), calls.count("GET", "/signals/:publicId")) == (0, 1)
        told = json.loads(json.dumps(found.as_json()))
        assert told["counts"] == {"missing": 1, "unknown_here": 1, "doubled": 2, "changed": 2}
        assert {each["publicId"] for each in told["differences"]} == set(plans)

    async def test_a_gateways_404_is_no_difference(self, desk: Desk, clock: Clock) -> None:
        """Where a gateway loses its way to Zentrik after the list was read, nothing is called missing."""
        await desk.deliver(*some(12))
        listed: list[int] = []

        def answer(request: httpx.Request) -> httpx.Response:
            listed.append(request.url.path.endswith("/signals"))
            if len(listed) > 1:
                return httpx.Response(404, json={"message": "no route matched"})
            return httpx.Response(200, json=[], headers={"X-Total-Count": "0", "X-Has-More": "false"})

        wire = httpx.MockTransport(answer)
        async with Zentrik("http://zentrik.test/api", "k", clock=clock, transport=wire) as zentrik:
            found = await audit(desk.ledger, zentrik, NAMESPACES, clock, Patience(pause=_at_once, tries=1))
        assert found.differences == []
        assert found.trouble is not None
        assert sum(listed) == 2

    @pytest.mark.parametrize("state", ["queued", "unknown", "rejected"])
    async def test_what_is_there_and_not_known_to_be_is_a_change(self, desk: Desk, ledger_url: str, state: str) -> None:
        """A signal the ledger thinks undelivered, and Zentrik has, is about to be doubled: it is found."""
        match state:
            case "queued":
                await desk.queue(signal(1))
            case "rejected":
                await desk.deliver(Signal(name_of(1), b'{"text":"Fine.","signalType":"rumour"}', b"f"))
            case "unknown":
                await desk.queue(signal(1))
                dead = Ledger(Database(ledger_url))
                run = await dead.start_run("run-once", desk.clock())
                [posted] = (await dead.exchange([], 1, run, desk.clock())).claimed
                await dead.exchange([Answer(posted, Unknown("reset"), desk.clock(), None)], 0, run, desk.clock())
                dead.close()
        desk.put(name_of(1))
        found = await desk.audit()
        assert kinds(found) == {"SIGNAL-1": (Kind.CHANGED, f"{state} here, processed there")}
        assert (await desk.apply(found)).done == {Kind.CHANGED: 1}
        assert ((await desk.row()).state, (await desk.row()).public_id) == (State.PROCESSED, "SIGNAL-1")

    async def test_a_signal_without_its_external_id_is_known_by_its_public_id(self, desk: Desk) -> None:
        """What was posted without an externalId is neither missing nor unknown."""
        await desk.deliver(Signal("listed:reviews:hash", b'{"text":"Fine.","signalType":"review"}', b"f"))
        found = await desk.audit()
        assert (found.nameless, found.differences) == (1, [])

    async def test_one_known_under_another_name_is_not_unknown(self, desk: Desk) -> None:
        """A signal that was given another externalId at Zentrik is not entered a second time."""
        await desk.deliver(signal(1))
        desk.sandbox.books.patch("SIGNAL-1", {"externalId": name_of(7)})
        assert (await desk.audit()).differences == []

    async def test_what_moves_meanwhile_is_left_out(self, desk: Desk) -> None:
        """Beside a daemon that posts and follows there are no false alarms: what moved is left to the next audit."""
        await desk.deliver(signal(1), signal(2, FAIL), signal(3, FAIL))
        await desk.mend(2, 3)

        class Meanwhile(Patience):
            """While a page is read, a daemon has a failed signal processed anew, and takes it for failed again."""

            async def ask(self, call: Any) -> Any:
                answer = await super().ask(call)
                await desk.await_again(2)
                [waiting] = await desk.ledger.awaited(10, desk.clock())
                await desk.ledger.record_looks([Look(waiting, Failed("late"), desk.clock())], desk.run)
                return answer

        found = await desk.audit(Meanwhile(pause=_at_once))
        assert kinds(found) == {"SIGNAL-3": (Kind.CHANGED, "failed here, processed there")}
        assert found.moved == 1
        desk.clock.move(60)
        assert len((await desk.audit()).differences) == 2

    async def test_what_is_accepted_meanwhile_is_not_missing(self, desk: Desk) -> None:
        """A signal posted after its page was read is not called missing, nor even asked for."""
        await desk.queue(signal(1))

        async def post() -> None:
            [posted] = (await desk.ledger.exchange([], 1, desk.run, desk.clock())).claimed
            answer = Answer(posted, Accepted("SIGNAL-1"), desk.clock(), desk.clock())
            await desk.ledger.exchange([answer], 0, desk.run, desk.clock())

        class Meanwhile(Patience):
            async def ask(self, call: Any) -> Any:
                answer = await super().ask(call)
                await post()
                return answer

        found = await desk.audit(Meanwhile(pause=_at_once))
        assert (found.differences, found.moved) == ([], 1)
        assert desk.sandbox.calls.count("GET", "/signals/:publicId") == 0

    async def test_half_of_zentrik_is_compared_with_nothing(self, desk: Desk) -> None:
        """When Zentrik cannot be read to the end, nothing is called missing."""
        await desk.deliver(*some(3))
        desk.sandbox.faults = Faults(share_of_reads={"503": 1})
        found = await desk.audit()
        assert found.trouble is not None
        assert (found.differences, found.as_json()["error"]) == ([], found.trouble.reason)

    async def test_trouble_is_waited_out(self, desk: Desk) -> None:
        """A rate limit in the middle costs time, not the audit."""
        await desk.deliver(*some(12))
        for number in range(1, 11):
            desk.sandbox.books.delete(f"SIGNAL-{number}")
        desk.sandbox.faults = Faults(next_reads=("502", "cut_before"), rate_limit=3)

        async def wait(time: timedelta) -> None:
            desk.clock.move(time.total_seconds())

        found = await desk.audit(Patience(pause=wait))
        assert desk.sandbox.calls.by_status()["429"] > 0
        assert (found.trouble, found.counts[Kind.MISSING]) == (None, 10)

    async def test_a_refused_key_is_raised(self, desk: Desk) -> None:
        """With a wrong key nothing is compared, and what to do is said."""
        async with at(desk.sandbox, desk.clock, key="revoked") as zentrik:
            with pytest.raises(KeyRefused, match="ZENTRIK_API_KEY"):
                await audit(desk.ledger, zentrik, NAMESPACES, desk.clock, PATIENCE)


class TestApplying:
    async def test_afterwards_both_agree(self, desk: Desk) -> None:
        """Whatever differed, one `--apply` makes it good: a second audit finds nothing, and nothing was posted."""
        await desk.deliver(*some(6))
        books, calls = desk.sandbox.books, desk.sandbox.calls
        posts = calls.count("POST", "/signals")
        books.delete("SIGNAL-1")
        desk.put(name_of(2), name_of(2), name_of(9), name_of(9))
        books.patch("SIGNAL-4", {"insightIds": []})
        books.delete("SIGNAL-5")
        desk.put(name_of(5))
        books.process("SIGNAL-3")
        found = await desk.audit()
        applied = await desk.apply(found)
        assert applied.left == []
        assert applied.done == {Kind.MISSING: 1, Kind.UNKNOWN_HERE: 1, Kind.DOUBLED: 3, Kind.CHANGED: 3}
        assert (await desk.audit()).differences == []
        assert (books.duplicates(), calls.count("POST", "/signals")) == (0, posts)
        states = {row.external_id: (row.state, row.public_id) for row in await rows(desk.ledger)}
        assert states == {
            name_of(1): (State.DELETED, "SIGNAL-1"),
            name_of(2): (State.PROCESSED, "SIGNAL-2"),
            name_of(3): (State.PROCESSING, "SIGNAL-3"),
            name_of(4): (State.PROCESSED, "SIGNAL-4"),
            name_of(5): (State.PROCESSED, "SIGNAL-11"),
            name_of(6): (State.PROCESSED, "SIGNAL-6"),
            name_of(9): (State.PROCESSED, "SIGNAL-9"),
        }
        assert (await desk.told(2)).event == "double deleted"
        assert (await desk.told(5)).event == "taken over"

    async def test_a_deleted_one_that_is_back_is_taken_over(self, desk: Desk) -> None:
        """Marked deleted once, created again by somebody: the ledger follows."""
        await desk.deliver(signal(1))
        desk.sandbox.books.delete("SIGNAL-1")
        assert (await desk.apply(await desk.audit())).done == {Kind.MISSING: 1}
        desk.put(name_of(1))
        assert (await desk.apply(await desk.audit())).done == {Kind.CHANGED: 1}
        assert ((await desk.row()).state, (await desk.row()).public_id) == (State.PROCESSED, "SIGNAL-2")

    async def test_what_moved_on_since_is_left(self, desk: Desk) -> None:
        """A plan is never carried out against a ledger or a Zentrik that has changed since it was made."""
        await desk.deliver(*some(3, FAIL), signal(4))
        books = desk.sandbox.books
        await desk.mend(1, 2)
        books.delete("SIGNAL-3")
        desk.put(name_of(4), name_of(9))
        found = await desk.audit()
        assert [each.external_id for each in found.differences] == [name_of(number) for number in (3, 9, 1, 2, 4)]
        await desk.await_again(1)
        await desk.await_again(3)
        books.delete("SIGNAL-4")
        await desk.queue(signal(9))
        await desk.ledger.exchange([], 1, desk.run, desk.clock())
        before = {row.external_id: row for row in await rows(desk.ledger)}
        applied = await desk.apply(found)
        assert applied.done == {Kind.CHANGED: 1}
        assert {each.external_id for each, why in applied.left if "moved on" in why} == {
            name_of(number) for number in (1, 3, 4, 9)
        }
        assert len(books.with_external_id(name_of(4))) == 1  # the last signal of a name is never deleted
        after = {row.external_id: row for row in await rows(desk.ledger)}
        assert {name for name, row in after.items() if row != before[name]} == {name_of(2)}

    async def test_without_the_scope_doubled_ones_are_told_and_nothing_breaks(self, desk: Desk) -> None:
        """A key that may not delete makes good all else; each double says which scope is missing."""
        await desk.deliver(*some(2))
        desk.put(*[name_of(1)] * 20)
        desk.sandbox.books.delete("SIGNAL-2")
        desk.sandbox.faults = Faults(scopes=("signals:read", "signals:write"))
        applied = await desk.apply(await desk.audit())
        assert applied.done == {Kind.MISSING: 1}
        assert [each.kind for each, why in applied.left if "signals:delete" in why] == [Kind.DOUBLED] * 20
        assert desk.sandbox.calls.count("DELETE", "/signals/:publicId") < 20  # told once, it does not go on asking
        desk.sandbox.faults = Faults()
        assert (await desk.apply(await desk.audit())).done == {Kind.DOUBLED: 20}

    async def test_one_that_is_gone_already_is_as_good_as_deleted(self, desk: Desk) -> None:
        """Somebody who cleared a double away meanwhile has done our work."""
        await desk.deliver(signal(1))
        desk.put(name_of(1))
        found = await desk.audit()
        desk.sandbox.books.delete("SIGNAL-2")
        assert (await desk.apply(found)).done == {Kind.DOUBLED: 1}

    async def test_the_one_the_ledger_follows_by_now_is_not_deleted(self, desk: Desk) -> None:
        """When the ledger has come to know a signal by the publicId that was to go, it stays."""
        await desk.deliver(signal(1))
        desk.put(name_of(1))
        found = await desk.audit()
        [here] = await desk.ledger.ask(lambda db: list(matching.every_row(db)))
        other = found.inventory.held(name_of(1))[1]
        await desk.ledger.change(matching.take_over, [(here, other)], desk.run, desk.clock())
        applied = await desk.apply(found)
        assert (applied.done, len(applied.left), len(desk.sandbox.books)) == ({}, 1, 2)

    async def test_many_are_made_good_in_batches(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """More differences than one transaction takes are all made good."""
        monkeypatch.setattr("syncd.audit.BATCH", 10)
        await desk.deliver(*some(25))
        for number in range(1, 26):
            desk.sandbox.books.delete(f"SIGNAL-{number}")
        desk.put(*(name_of(number) for number in range(101, 126)))
        applied = await desk.apply(await desk.audit())
        assert applied.done == {Kind.MISSING: 25, Kind.UNKNOWN_HERE: 25}
        assert (await desk.audit()).differences == []


def test_a_plan_tells_how_a_deleted_one_is_posted_again() -> None:
    """Somebody may have erased it on purpose: it is for a person to decide, and they are told how."""
    missing = Difference(Kind.MISSING, "a:1", "SIGNAL-1", "processed here, gone there")
    assert missing.plan == "mark it deleted; `syncd retry a:1` posts it again"
