"""Rebuild: a lost ledger comes back from what Zentrik has, and nothing is posted twice for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from syncd.errors import KeyRefused
from syncd.ledger import Database, Ledger, PageTally, State
from syncd.rebuild import LedgerInUse, Rebuilt, rebuild
from syncd.sandbox import Faults, Sandbox
from syncd.sweep import Patience
from tests.conftest import Clock, at, rows, signal, source

NAMESPACES = {"listed:reviews": "reviews", "listed:reviews:2026": "recent"}


async def _at_once(*_: object) -> None:
    """Waits for nothing: the sandbox minds no hurry."""


PATIENCE = Patience(pause=_at_once)


def workspace(clock: Clock, **more: Any) -> Sandbox:
    """A workspace that processes in two seconds."""
    return Sandbox(now=clock, **more)


def created(sandbox: Sandbox, *names: str | None, text: str = "Fine.") -> list[str]:
    """Signals under these externalIds; the publicIds they were given."""
    bodies = [{"text": text, "signalType": "review"} | ({"externalId": name} if name else {}) for name in names]
    return [str(sandbox.books.create(body)["publicId"]) for body in bodies]


async def rebuilt(ledger: Ledger, sandbox: Sandbox, clock: Clock, run: int | None = None) -> Rebuilt:
    """What a rebuild of the ledger from that workspace comes to, by that run or a new one."""
    run = run or await ledger.start_run("ledger rebuild", clock())
    async with at(sandbox, clock) as zentrik:
        return await rebuild(ledger, zentrik, NAMESPACES, run, clock, PATIENCE)


async def read(ledger: Ledger, clock: Clock, *numbers: int) -> PageTally:
    """The source shows the records with these numbers."""
    run = await ledger.start_run("run-once", clock())
    await ledger.start_pull(source(), run, clock())
    tally = await ledger.record_page(source(), [signal(number) for number in numbers], [], {}, run, clock())
    await ledger.finish_pull(source(), run, None, clock())
    return tally


async def test_every_kind_of_signal_finds_its_place(ledger: Ledger, clock: Clock) -> None:
    """Processed, failed and processing ones are rows again, foreign names are remembered, the rest is counted; and the
    figures add up to what Zentrik has."""
    sandbox = workspace(clock)
    created(sandbox, "listed:reviews:r-1", "listed:reviews:2026:r-1", "own-name", None, "listed:reviews:r-1")
    created(sandbox, "listed:reviews:r-2", text="[sandbox: fail]")
    clock.move(60)
    created(sandbox, "listed:reviews:r-3")
    done = await rebuilt(ledger, sandbox, clock)
    assert done == Rebuilt(found=7, entered=Counter({"reviews": 3, "recent": 1}), remembered=1, doubled=1, nameless=1)
    found = {row.external_id: row for row in await rows(ledger)}
    assert {name: (row.connector, row.state) for name, row in found.items()} == {
        "listed:reviews:r-1": ("reviews", State.PROCESSED),
        "listed:reviews:r-2": ("reviews", State.FAILED),
        "listed:reviews:r-3": ("reviews", State.PROCESSING),
        "listed:reviews:2026:r-1": ("recent", State.PROCESSED),
    }
    for name, row in found.items():
        shown = sandbox.books.with_external_id(name)[0]
        assert (row.public_id, row.job_id) == (shown["publicId"], shown["processing"]["lastJobId"])
        assert list(row.insight_ids) == shown["insightIds"]
    assert done.as_json()["entered"] == 4


@pytest.mark.parametrize("order", ["newest_first", "oldest_first", "shuffled"])
async def test_pages_and_batches_lose_nothing(
    ledger: Ledger, clock: Clock, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workspace of many pages is entered whole, in whatever order Zentrik lists it, and then nothing is new."""
    monkeypatch.setattr("syncd.rebuild.BATCH", 100)
    sandbox = workspace(clock, order=order)
    created(sandbox, *(f"listed:reviews:r-{number}" for number in range(730)))
    clock.move(60)
    assert await rebuilt(ledger, sandbox, clock) == Rebuilt(found=730, entered=Counter({"reviews": 730}))
    assert await read(ledger, clock, *range(731)) == PageTally(new=1, unchanged=730)


async def test_it_can_be_done_again(ledger: Ledger, clock: Clock) -> None:
    """A second rebuild leaves the rows of the first alone, and enters what has come since."""
    sandbox = workspace(clock)
    created(sandbox, "listed:reviews:r-1", "own-name")
    run = await ledger.start_run("ledger rebuild", clock())
    await rebuilt(ledger, sandbox, clock, run)
    created(sandbox, "listed:reviews:r-2")
    done = await rebuilt(ledger, sandbox, clock, run)
    assert done == Rebuilt(found=3, entered=Counter({"reviews": 1}), remembered=1, known=1)


async def test_what_was_only_remembered_and_is_gone_is_posted(ledger: Ledger, clock: Clock) -> None:
    """A name that a second rebuild no longer finds at Zentrik holds no record back."""
    sandbox = workspace(clock)
    run = await ledger.start_run("ledger rebuild", clock())
    created(sandbox, "r-1", "r-2")
    await rebuilt(ledger, sandbox, clock, run)
    sandbox.books.delete("SIGNAL-1")
    clock.move(60)
    await rebuilt(ledger, sandbox, clock, run)
    own = [replace(signal(number), external_id=f"r-{number}") for number in (1, 2)]
    await ledger.start_pull(source(), run, clock())
    assert await ledger.record_page(source(), own, [], {}, run, clock()) == PageTally(new=1, unchanged=1)


async def test_what_waits_here_and_is_there_is_not_posted(ledger: Ledger, clock: Clock) -> None:
    """After a run that began on a new ledger before anybody thought of rebuilding, the rest of it is not doubled."""
    sandbox = workspace(clock)
    created(sandbox, "listed:reviews:r-1")
    run = await ledger.start_run("run-once", clock())
    await ledger.start_pull(source(), run, clock())
    await ledger.record_page(source(), [signal(1), signal(2)], [], {}, run, clock())
    async with at(sandbox, clock) as zentrik:
        done = await rebuild(ledger, zentrik, NAMESPACES, run, clock, PATIENCE)
    assert done == Rebuilt(found=1, accepted=1)
    assert [each.external_id for each in (await ledger.exchange([], 10, run, clock())).claimed] == [
        "listed:reviews:r-2"
    ]


async def test_another_living_run_is_not_disturbed(ledger: Ledger, ledger_url: str, clock: Clock) -> None:
    """While a daemon is at work the ledger is not rebuilt under it; once it has ended it is."""
    sandbox = workspace(clock)
    created(sandbox, "listed:reviews:r-1")
    other = Ledger(Database(ledger_url))
    number = await other.start_run("run", clock())
    run = await ledger.start_run("ledger rebuild", clock())
    with pytest.raises(LedgerInUse, match=rf"run {number}\b") as refused:
        await rebuilt(ledger, sandbox, clock, run)
    assert refused.value.exit_code == 1
    assert (await rows(ledger), sandbox.calls.count("GET", "/signals")) == ([], 0)
    other.close()
    assert (await rebuilt(ledger, sandbox, clock, run)).found == 1


async def test_a_run_that_began_meanwhile_stops_it(ledger: Ledger, ledger_url: str, clock: Clock) -> None:
    """Nothing is entered beside a daemon that was started while Zentrik was read."""
    sandbox = workspace(clock)
    created(sandbox, "listed:reviews:r-1")
    run = await ledger.start_run("ledger rebuild", clock())
    other = Ledger(Database(ledger_url))
    begun: list[int] = []

    async def start() -> None:
        begun.append(await other.start_run("run", clock()))

    class Begins(Patience):
        async def ask(self, call: Any) -> Any:
            await start()
            return await super().ask(call)

    async with at(sandbox, clock) as zentrik:
        with pytest.raises(LedgerInUse):
            await rebuild(ledger, zentrik, NAMESPACES, run, clock, Begins(pause=_at_once))
    other.close()
    assert begun
    assert await rows(ledger) == []


async def test_half_of_zentrik_is_not_entered(ledger: Ledger, clock: Clock) -> None:
    """When Zentrik cannot be read to the end nothing is entered, so that nobody takes a half for the whole."""
    sandbox = workspace(clock)
    created(sandbox, *(f"listed:reviews:r-{number}" for number in range(150)))
    sandbox.faults = Faults(share_of_reads={"500": 1})
    done = await rebuilt(ledger, sandbox, clock)
    assert done.trouble is not None
    assert done == Rebuilt(trouble=done.trouble)
    assert str(done.as_json()["error"]).startswith("500")
    assert await rows(ledger) == []


async def test_a_refused_key_is_raised(ledger: Ledger, clock: Clock) -> None:
    """With a wrong key nothing happens, and what to do is said."""
    run = await ledger.start_run("ledger rebuild", clock())
    async with at(workspace(clock), clock, key="revoked") as zentrik:
        with pytest.raises(KeyRefused, match="ZENTRIK_API_KEY"):
            await rebuild(ledger, zentrik, NAMESPACES, run, clock, PATIENCE)
