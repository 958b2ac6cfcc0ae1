"""Release: what was held for an account is posted with it once it is there, and neither lost nor posted twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from syncd.connector import Organisation, Record, Source
from syncd.directory import MISSING_LASTS, TRIES, Directory, Kept
from syncd.fates import Accepted
from syncd.ledger import Answer, Ledger, State, erasure, holds, report, subjects, tables
from syncd.mapping import Mapping
from syncd.pull import Pulled, pull
from syncd.redaction import Redaction
from syncd.release import Releaser
from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.faults import SCOPES
from syncd.subjects import of_account
from syncd.workspace import Workspace
from tests.conftest import Clock, Listed, at, record, rows, source

HOUR = timedelta(hours=1).total_seconds()
WAYS = {"external_id": "{{ record.organisation.id }}"}, {"domain": True}


def of(company: str, number: int = 1, text: str = "The export takes too long.", **more: Any) -> Record:
    """A record from that company."""
    organisation = Organisation(domain=f"{company}.test", id=f"crm-{company}")
    return record(number, text, organisation=organisation, url="https://a.test/1", attributes={"stars": 2}, **more)


class Desk:
    """A source that is read, a ledger, and a sandbox whose accounts are asked for. `rule` is `on_missing`."""

    def __init__(self, ledger: Ledger, sandbox: Sandbox, directory: Directory, clock: Clock) -> None:
        self.ledger, self.sandbox, self.directory, self.clock = ledger, sandbox, directory, clock
        self.run = 0
        self.rule = "hold"
        self.redaction: Redaction | None = None

    def source(self, *page: Record) -> Source:
        first, last = WAYS
        mapping = Mapping(account=(first, {**last, "on_missing": self.rule}))
        return replace(source(page), mapping=mapping, redaction=self.redaction)

    async def read(self, *page: Record) -> Pulled:
        """The source shows its first page."""
        self.run = self.run or await self.ledger.start_run("test", self.clock())
        return await self._pull(self.source(*page))

    async def read_again(self, *page: Record) -> Pulled:
        """The source shows a page behind the first ones."""
        before = (await self.ledger.ask(report.connector_rows))["reviews"].checkpoint["pages"]
        assert isinstance(before, int)
        entry = self.source()
        return await self._pull(replace(entry, connector=Listed(pages=((),) * before + (page,))))

    async def _pull(self, entry: Source) -> Pulled:
        async with httpx.AsyncClient() as http:
            pulled = await pull(entry, self.ledger, http, self.run, self.clock, directory=self.directory)
        assert pulled.error is None
        return pulled

    def releaser(self) -> Releaser:
        return Releaser(self.ledger, self.directory, {"reviews": self.source()}, self.run, self.clock)

    async def release(self, after: float = HOUR) -> None:
        """A round of another run, so many seconds later."""
        self.clock.move(after)
        await self.releaser().release()

    async def bodies(self) -> list[dict[str, Any]]:
        """What is posted now."""
        claimed = (await self.ledger.exchange([], 10, self.run, self.clock())).claimed
        return [json.loads(each.body) for each in sorted(claimed, key=lambda each: each.id)]

    async def history(self, which: int = 0) -> list[tuple[str, str | None]]:
        """What happened to a signal after it was queued."""
        row = (await rows(self.ledger))[which]
        return [(each.event, each.detail) for each in (await self.ledger.ask(report.history, row))[1:]]

    def account(self, **fields: str) -> str:
        return str(self.sandbox.accounts.create({"name": "Acme", **fields})["id"])

    @property
    def looks(self) -> int:
        return self.sandbox.calls.count("GET", "/accounts")


@pytest.fixture
async def desk(ledger: Ledger, clock: Clock) -> AsyncIterator[Desk]:
    sandbox = Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        yield Desk(ledger, sandbox, Directory(Workspace(zentrik), Kept(ledger), clock, sleep=clock.sleep), clock)


HELD = ("held", "no account for externalId crm-acme or domain acme.test")


async def test_it_waits_and_is_posted_with_its_account(desk: Desk) -> None:
    """A record whose account is missing is posted when it is there, byte for byte as if it had been there from the
    start; erasure by that account finds it."""
    await desk.read(of("acme"))
    assert await desk.bodies() == []
    assert await desk.history() == [HELD]
    await desk.release(HOUR - 1)
    assert await desk.bodies() == []
    desk.account(domain="acme.test", externalId="crm-1")
    await desk.release(1)
    [row] = await rows(desk.ledger)
    assert await desk.history() == [HELD, ("released", "account crm-1")]
    assert (row.state, row.due_at) == (State.QUEUED, desk.clock())
    assert await desk.ledger.ask(holds.of_signal, row.id) is None
    assert await desk.ledger.ask(subjects.speaking_of, [of_account("crm-1")]) == {row.id}
    released = await desk.ledger.ask(report.body, row)
    again = await desk.read_again(of("acme"))
    assert (again.changed, again.unchanged) == (0, 1)
    assert await desk.ledger.ask(report.body, row) == released, "the record composed anew is no other"
    [body] = await desk.bodies()
    assert (body["accountExternalId"], "accountId" in body) == ("crm-1", False)
    assert list(body)[-3:] == ["accountExternalId", "sourceLinks", "sourceExternalData"]


async def test_an_account_without_an_external_id_is_named_by_zentriks(desk: Desk) -> None:
    """Whichever id the account has, the body carries it under the field that is meant for it."""
    await desk.read(of("acme"))
    id_ = desk.account(domain="acme.test")
    await desk.release()
    [body] = await desk.bodies()
    assert (body["accountId"], "accountExternalId" in body) == (id_, False)


async def test_it_is_asked_for_every_hour_and_no_more(desk: Desk) -> None:
    """Waiting is cheap: a hundred records of one company cost its questions once an hour, and no line of history."""
    await desk.read(*(of("acme", number) for number in range(100)))
    assert desk.looks == 2
    for _ in range(4):
        await desk.release(HOUR / 4)
    assert desk.looks == 4
    assert await desk.history(99) == [HELD]
    assert await desk.ledger.ask(holds.next_due) == desk.clock() + MISSING_LASTS
    assert await desk.ledger.ask(holds.counts) == {"reviews": 100}


async def test_of_several_accounts_none_is_taken(desk: Desk) -> None:
    """Where nobody can say which account it is, waiting on helps nobody: the record goes out without."""
    await desk.read(of("acme"))
    desk.account(domain="acme.test")
    desk.account(domain="acme.test")
    await desk.release()
    [body] = await desk.bodies()
    assert not {"accountId", "accountExternalId"} & body.keys()
    assert (await desk.history())[-1] == ("released", "without an account: several fit")


async def test_who_gives_up_sets_leave(desk: Desk) -> None:
    """An account that never comes holds nothing back for longer than the operator wants; Zentrik is not even asked."""
    await desk.read(of("acme"))
    looks = desk.looks
    desk.rule = "leave"
    await desk.release(0)
    [body] = await desk.bodies()
    assert not {"accountId", "accountExternalId"} & body.keys()
    assert (await desk.history())[-1] == ("released", "without an account: on_missing is leave")
    assert desk.looks == looks


async def test_who_wants_it_created_sets_create(desk: Desk) -> None:
    """What is held goes by the rule as it is now: one account is created, for all that wait for it."""
    await desk.read(of("acme", 1), of("acme", 2))
    desk.rule = "create"
    await desk.release()
    assert [body["accountExternalId"] for body in await desk.bodies()] == ["crm-acme"] * 2
    assert len(desk.sandbox.accounts) == 1


async def test_what_cannot_be_created_goes_out_without(desk: Desk) -> None:
    """A key that may not create accounts holds no record back for ever."""
    await desk.read(of("acme"))
    desk.rule = "create"
    desk.sandbox.faults = Faults(scopes=tuple(scope for scope in SCOPES if scope != "accounts:write"))
    await desk.release()
    assert len(await desk.bodies()) == 1
    assert (await desk.history())[-1] == ("released", "without an account: it could not be created")


async def test_a_lost_scope_costs_no_account(desk: Desk) -> None:
    """What was to wait waits until the key may ask again; what is read meanwhile goes out without."""
    await desk.read(of("acme"))
    desk.sandbox.faults = Faults(scopes=tuple(scope for scope in SCOPES if scope != "accounts:read"))
    await desk.release()
    await desk.read_again(of("beta", 2))
    assert [body["externalId"] for body in await desk.bodies()] == ["listed:reviews:r-2"]
    desk.sandbox.faults = Faults()
    desk.account(externalId="crm-acme")
    await desk.release()
    [body] = await desk.bodies()
    assert body["accountExternalId"] == "crm-acme"


async def test_trouble_puts_it_off_by_a_minute(desk: Desk) -> None:
    """While Zentrik cannot answer nothing is released and nothing lost, and one line says so."""
    await desk.read(of("acme", 1), of("beta", 2))
    desk.account(externalId="crm-acme")
    desk.sandbox.faults = Faults(next_lookups=("503",) * TRIES * 2)
    with capture_logs() as logs:
        await desk.release()
    assert [line["log_level"] for line in logs].count("warning") == 1
    assert await desk.bodies() == []
    assert await desk.ledger.ask(holds.next_due) == desk.clock() + timedelta(minutes=1)
    desk.sandbox.faults = Faults()
    await desk.release(60)
    assert [body["externalId"] for body in await desk.bodies()] == ["listed:reviews:r-1"]


async def test_it_is_released_once(desk: Desk) -> None:
    """Two syncds that found the same account, or one that died in between, post the record once, as it is now."""
    await desk.read(of("acme"))
    [row] = await rows(desk.ledger)
    hold = await desk.ledger.ask(holds.of_signal, row.id)
    assert hold is not None
    both = [holds.Release(hold, ("accountId", id_)) for id_ in ("a-1", "a-2")]
    done = [await desk.ledger.change(holds.release, [each], desk.run, desk.clock()) for each in both]
    assert done == [1, 0]
    [body] = await desk.bodies()
    assert body["accountId"] == "a-1"
    await desk.release()
    assert await desk.bodies() == []


async def test_a_round_takes_all_in_batches(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, one round asks for all that are due, and a missing one keeps no other from its turn."""
    monkeypatch.setattr("syncd.release._BATCH", 2)
    await desk.read(*(of(f"c{number}", number) for number in range(7)))
    for number in (1, 4, 6):
        desk.account(externalId=f"crm-c{number}")
    await desk.release()
    assert [body["accountExternalId"] for body in await desk.bodies()] == ["crm-c1", "crm-c4", "crm-c6"]
    assert await desk.ledger.ask(holds.counts) == {"reviews": 4}


class TestTheRecordMovesOn:
    """What the newest record says counts."""

    async def test_a_change_keeps_waiting_and_keeps_its_turn(self, desk: Desk) -> None:
        """A record that keeps changing is asked for as often as any other, and what is posted is the newest."""
        await desk.read(of("acme"))
        desk.clock.move(HOUR / 2)
        assert (await desk.read_again(of("acme", text="Still slow."))).changed == 1
        assert await desk.bodies() == []
        desk.account(externalId="crm-acme")
        await desk.release(HOUR / 2)
        [body] = await desk.bodies()
        assert (body["text"], body["accountExternalId"]) == ("Still slow.", "crm-acme")

    async def test_it_is_found_with_its_account_meanwhile(self, desk: Desk) -> None:
        """A later reading that finds the account is as good as a release."""
        await desk.read(of("acme"))
        desk.account(externalId="crm-acme")
        desk.clock.move(HOUR)
        assert (await desk.read_again(of("acme"))).unchanged == 1
        [body] = await desk.bodies()
        assert body["accountExternalId"] == "crm-acme"
        assert await desk.ledger.ask(holds.next_due) is None

    async def test_it_belongs_to_another_company_now(self, desk: Desk) -> None:
        """Who asks for what is mended with the record, though not a word of what is posted changes."""
        await desk.read(of("acne"))
        assert (await desk.read_again(of("acme"))).unchanged == 1
        desk.account(externalId="crm-acme")
        await desk.release()
        [body] = await desk.bodies()
        assert body["accountExternalId"] == "crm-acme"

    async def test_what_zentrik_turns_out_to_have_is_not_released(self, desk: Desk) -> None:
        """An answer that comes late ends the hold: the signal is not posted again."""
        desk.rule = "leave"
        await desk.read(of("acme"))
        [claimed] = (await desk.ledger.exchange([], 1, desk.run, desk.clock())).claimed
        await desk.ledger.exchange([], 0, desk.run, desk.clock(), unposted=[claimed])
        desk.rule = "hold"
        await desk.read_again(of("acme", text="Slower."))
        assert await desk.ledger.ask(holds.counts) == {"reviews": 1}
        late = replace(claimed, attempt=0)
        await desk.ledger.exchange([Answer(late, Accepted("SIGNAL-1", "j"), desk.clock())], 0, desk.run, desk.clock())
        assert [row.state for row in await rows(desk.ledger)] == [State.PROCESSING]
        desk.account(externalId="crm-acme")
        await desk.release()
        assert [row.state for row in await rows(desk.ledger)] == [State.PROCESSING]
        assert await desk.ledger.ask(holds.counts) == {}

    async def test_what_is_forgotten_waits_for_nothing(self, desk: Desk) -> None:
        """Erasure leaves no question by which somebody's company could be read."""
        await desk.read(of("acme"))
        [row] = await rows(desk.ledger)
        await desk.ledger.change(erasure.erase, [row.id], desk.run, desk.clock())
        assert await desk.ledger.ask(lambda db: db.scalar(tables.holds.select())) is None
        await desk.release()
        assert await desk.bodies() == []


async def test_an_id_that_redaction_forbids_is_left_out(desk: Desk) -> None:
    """No way around redaction leads through an account's id."""
    desk.redaction = Redaction()
    await desk.read(of("acme"))
    desk.account(domain="acme.test", externalId="jane@example.org")
    await desk.release()
    [body] = await desk.bodies()
    assert "jane" not in json.dumps(body)
    [*_, (event, detail)] = await desk.history()
    assert event == "released"
    assert detail is not None
    assert detail.startswith("without an account: its accountExternalId holds")


async def test_a_clock_set_back_holds_nothing_up(desk: Desk) -> None:
    """A time that lies far ahead since the clock was set back is not waited for."""
    await desk.read(of("acme"))
    desk.clock.move(-50 * HOUR)
    run = await desk.ledger.start_run("test", desk.clock())
    assert await desk.ledger.mend_clock(run, desk.clock(), timedelta(seconds=1)) is not None
    assert await desk.ledger.ask(holds.next_due) == desk.clock()
    assert await desk.bodies() == [], "a held one is not posted for that"


async def test_it_holds_nothing_else_up(desk: Desk) -> None:
    """A record that waits for its account counts neither as lag nor as due."""
    await desk.read(of("acme"))
    assert await desk.ledger.ask(report.undelivered) == (None, None)
    assert await desk.ledger.ask(report.waiting_since) == {}
