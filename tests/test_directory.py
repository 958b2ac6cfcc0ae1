"""The directory: records find their account and products, with few calls, and no account is created twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from syncd.connector import Organisation, Page, Record, Source
from syncd.directory import (
    CLAIM_LASTS,
    FOUND_LASTS,
    MISSING_LASTS,
    TRIES,
    Directory,
    DirectoryUnavailable,
    Glanced,
    Kept,
)
from syncd.ledger import Ledger, lookups, report
from syncd.ledger.lookups import Question
from syncd.mapping import Mapping
from syncd.pull import pull
from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.faults import SCOPES
from syncd.shape import shape
from syncd.workspace import Workspace
from tests.conftest import Clock, Listed, OnSQLite, at, record, rows, source

BY_DOMAIN = {"domain": True}
CREATING = {"domain": True, "on_missing": "create"}
HOLDING = {"domain": True, "on_missing": "hold"}


def without(*scopes: str) -> Faults:
    return Faults(scopes=tuple(scope for scope in SCOPES if scope not in scopes))


def of(company: str, number: int = 1, **more: Any) -> Record:
    """A record from that company."""
    organisation = Organisation(name=company.title(), domain=f"{company}.test", id=f"crm-{company}")
    return record(number, organisation=organisation, **more)


class Desk:
    """Pages of records placed by a directory over a served sandbox."""

    def __init__(self, sandbox: Sandbox, directory: Directory) -> None:
        self.sandbox, self.directory = sandbox, directory

    async def place(self, *records: Record, **mapping: Any) -> list[Record]:
        entry = replace(source(), mapping=Mapping(**mapping))
        _, shaped = shape(entry, Page(records=records))
        placed = await self.directory.place(entry, shaped)
        return [one for one in placed if isinstance(one, Record)]

    def account(self, **fields: str) -> str:
        """A new account at Zentrik; its id."""
        return str(self.sandbox.accounts.create({"name": "Acme", **fields})["id"])

    def product(self, **fields: str) -> str:
        return str(self.sandbox.products.create(fields)["id"])

    @property
    def looks(self) -> int:
        return self.sandbox.calls.count("GET", "/accounts") + self.sandbox.calls.count("GET", "/products")

    @property
    def creations(self) -> int:
        return self.sandbox.calls.count("POST", "/accounts")


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return Sandbox(now=clock)


@pytest.fixture
async def desk(sandbox: Sandbox, ledger: Ledger, clock: Clock) -> AsyncIterator[Desk]:
    async with desk_at(sandbox, ledger, clock) as found:
        yield found


@asynccontextmanager
async def desk_at(sandbox: Sandbox, ledger: Ledger, clock: Clock) -> AsyncIterator[Desk]:
    async with at(sandbox, clock) as zentrik:
        yield Desk(sandbox, Directory(Workspace(zentrik), Kept(ledger), clock, sleep=clock.sleep))


class TestMemory:
    """What the ledger keeps of answers and claims; on both databases."""

    async def test_answers_are_recalled_as_they_were_given(self, ledger: Ledger, clock: Clock) -> None:
        """An answer, that there is none included, is the same when it is asked for again; later ones replace it."""
        found, missing = Question("accounts", "domain", "acme.test"), Question("accounts", "domain", "no.test")
        memory = Kept(ledger)
        await memory.keep({found: ["a-1", None], missing: None}, clock())
        await memory.keep({found: ["a-2", "crm-2"]}, clock())
        other = Question("products", "domain", "acme.test")
        known = await memory.recall([found, missing, other])
        assert {question: said for question, (said, _) in known.items()} == {found: ["a-2", "crm-2"], missing: None}
        clock.move(FOUND_LASTS.total_seconds() + 1)
        await memory.keep({other: None}, clock())
        assert list(await memory.recall([found, missing, other])) == [other], "what nobody believes any more is dropped"

    async def test_only_one_claims_a_creation(self, ledger: Ledger, clock: Clock) -> None:
        """Of all who want to create an account one may, whichever of its names they come by; a claim ends."""
        mine, theirs = [("domain", "acme.test"), ("externalId", "5")], [("domain", "acme.test"), ("name", "Acme")]
        memory = Kept(ledger)
        assert await memory.claim(mine, clock())
        assert not await memory.claim(theirs, clock())
        assert await memory.claim([("name", "Acme")], clock()), "a claim that failed takes nothing"
        await memory.release([("name", "Acme")])
        await memory.release(mine)
        assert await memory.claim(theirs, clock())
        clock.move(CLAIM_LASTS.total_seconds() + 1)
        assert await memory.claim(mine, clock())


class TestAccounts(OnSQLite):
    """Which account a record comes from."""

    async def test_a_page_costs_a_call_for_each_company_and_the_next_none(self, desk: Desk) -> None:
        """A hundred records of ten companies are ten questions; asked again, by another run too, none."""
        for number in range(0, 10, 2):
            desk.account(domain=f"c{number}.test", externalId=f"crm-{number}")
        page = [of(f"c{number % 10}", number) for number in range(100)]
        placed = await desk.place(*page, account=BY_DOMAIN)
        assert desk.looks == 10
        assert [one.account_external_id for one in placed[:4]] == ["crm-0", None, "crm-2", None]
        assert await desk.place(*page, account=BY_DOMAIN) == placed
        assert desk.looks == 10

    async def test_answers_are_believed_for_a_while(self, desk: Desk, clock: Clock) -> None:
        """An account that somebody makes is found within the hour; one that was found is asked for again in a week."""
        first = await desk.place(of("acme"), account=BY_DOMAIN)
        assert first[0].account_id is None
        id_ = desk.account(website="https://acme.test/")
        clock.move(MISSING_LASTS.total_seconds() - 1)
        await desk.place(of("acme"), account=BY_DOMAIN)
        assert desk.looks == 1
        clock.move(1)
        later = await desk.place(of("acme"), account=BY_DOMAIN)
        assert (later[0].account_id, desk.looks) == (id_, 2)
        clock.move(FOUND_LASTS.total_seconds() - 1)
        await desk.place(of("acme"), account=BY_DOMAIN)
        assert desk.looks == 2
        clock.move(1)
        await desk.place(of("acme"), account=BY_DOMAIN)
        assert desk.looks == 3

    async def test_the_first_way_that_finds_one_counts(self, desk: Desk) -> None:
        """Ways are tried in their order, and no further than needed."""
        ways = [{"external_id": "{{ record.organisation.id }}"}, BY_DOMAIN, {"name": "{{ record.organisation.name }}"}]
        desk.account(externalId="crm-acme")
        by_domain = desk.account(domain="beta.test")
        by_name = desk.account(name="gamma")
        placed = await desk.place(of("acme", 1), of("beta", 2), of("gamma", 3), account=ways)
        assert [one.account_external_id for one in placed] == ["crm-acme", None, None]
        assert [one.account_id for one in placed] == [None, by_domain, by_name]
        assert desk.looks == 3 + 2 + 1

    async def test_only_a_missing_account_is_waited_for(self, desk: Desk) -> None:
        """A record is held when Zentrik has said of each question that there is none; where it has several, or was not
        to be asked, waiting would help nobody."""
        ways = [{"external_id": "{{ record.organisation.id }}"}, HOLDING]
        desk.account(domain="acme.test")
        desk.account(externalId="crm-beta")
        for _ in range(2):
            desk.account(domain="gamma.test")
        placed = await desk.place(of("acme"), of("beta"), of("gamma"), of("delta"), account=ways)
        waits = (("externalId", "crm-delta"), ("domain", "delta.test"))
        assert [one.held for one in placed] == [(), (), (), waits]
        assert desk.creations == 0
        [nobody] = await desk.place(record(5), account=HOLDING)
        assert nobody.held == ()
        desk.sandbox.faults = without("accounts:read")
        [lacking] = await desk.place(of("epsilon"), account=ways)
        assert lacking.held == ()

    async def test_of_several_accounts_none_is_taken(self, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
        """Evidence hangs on the right account or on none; none is created beside them, and it is told once."""
        desk.account(domain="acme.test")
        desk.account(domain="acme.test")
        for _ in range(2):
            [placed] = await desk.place(of("acme"), account=CREATING)
            assert placed.account_id is None
        assert len(desk.sandbox.accounts) == 2
        assert capsys.readouterr().err.count("several accounts fit") <= 1

    async def test_a_key_without_the_scope_posts_without(self, desk: Desk, clock: Clock) -> None:
        """A lacking scope costs the account, not the record, and one call; given the scope, it is found."""
        id_ = desk.account(domain="acme.test")
        desk.sandbox.faults = without("accounts:read")
        for number in range(3):
            placed = await desk.place(of("acme", number), account=CREATING)
            assert placed[0].account_id is None
        assert (desk.looks, desk.creations) == (1, 0)
        desk.sandbox.faults = Faults()
        clock.move(MISSING_LASTS.total_seconds())
        [found] = await desk.place(of("acme"), account=CREATING)
        assert found.account_id == id_

    @pytest.mark.parametrize("mishap", ["503", "cut_before", "429", "garbled", "html_404"])
    async def test_trouble_is_waited_out_or_ends_the_reading(self, desk: Desk, mishap: Any) -> None:
        """A short trouble costs time; a long one ends the reading, and never a record its account."""
        id_ = desk.account(domain="acme.test")
        desk.sandbox.faults = Faults(next_lookups=(mishap,) * (TRIES - 1))
        [placed] = await desk.place(of("acme"), account=BY_DOMAIN)
        assert placed.account_id == id_
        desk.sandbox.faults = Faults(next_lookups=(mishap,) * TRIES)
        with pytest.raises(DirectoryUnavailable, match="Nothing was lost"):
            await desk.place(of("beta"), account=BY_DOMAIN)


class TestCreation(OnSQLite):
    """An account that is missing is created exactly once."""

    async def test_a_missing_account_is_created_once(self, desk: Desk) -> None:
        """All of a company's records hang on the one account that is made for it, however they come to it."""
        ways = [{"external_id": "{{ record.organisation.id }}"}, CREATING]
        nameless = record(3, organisation=Organisation(domain="acme.test"))
        placed = await desk.place(of("acme", 1), of("acme", 2), nameless, account=ways)
        [account] = desk.sandbox.accounts
        assert (account["name"], account["domain"], account["externalId"]) == ("Acme", "acme.test", "crm-acme")
        assert {one.account_external_id for one in placed} == {"crm-acme"}
        await desk.place(of("acme", 4), account=ways)
        assert desk.creations == 1

    async def test_what_was_created_meanwhile_is_found(self, desk: Desk) -> None:
        """An account that somebody made within the hour is not made a second time."""
        await desk.place(of("acme"), account=BY_DOMAIN)
        id_ = desk.account(domain="acme.test")
        [placed] = await desk.place(of("acme"), account=CREATING)
        assert (placed.account_id, desk.creations) == (id_, 0)

    @pytest.mark.parametrize("mishap", ["cut_after", "504", "torn", "garbled"])
    async def test_a_lost_answer_is_looked_for(self, desk: Desk, mishap: Any) -> None:
        """When the answer to the creation is lost, the account is found, not made again."""
        desk.sandbox.faults = Faults(next_accounts=(mishap,))
        [placed] = await desk.place(of("acme"), account=CREATING)
        [account] = desk.sandbox.accounts
        assert (placed.account_id, desk.creations) == (account["id"], 1)

    async def test_one_that_may_still_arrive_is_waited_for(self, desk: Desk, clock: Clock) -> None:
        """While nobody knows whether a creation arrives, nobody creates; after a while, and a look, it is made."""
        desk.sandbox.faults = Faults(next_accounts=("cut_before",))
        with pytest.raises(DirectoryUnavailable, match="not known yet"):
            await desk.place(of("acme"), account=CREATING)
        with pytest.raises(DirectoryUnavailable, match="a moment ago"):
            await desk.place(of("acme"), account=CREATING)
        assert desk.creations == 1
        clock.move(CLAIM_LASTS.total_seconds() + 1)
        await desk.place(of("acme"), account=CREATING)
        assert (desk.creations, len(desk.sandbox.accounts)) == (2, 1)

    async def test_two_workers_make_one_account(self, sandbox: Sandbox, ledger: Ledger, clock: Clock) -> None:
        """Two syncds on a ledger that meet the same new company end up with one account for it."""
        async with desk_at(sandbox, ledger, clock) as one, desk_at(sandbox, ledger, clock) as other:
            results = await asyncio.gather(
                *(desk.place(of("acme"), account=CREATING) for desk in (one, other)), return_exceptions=True
            )
            assert all(isinstance(result, list | DirectoryUnavailable) for result in results)
            [account] = sandbox.accounts
            [placed] = await other.place(of("acme"), account=CREATING)
            assert placed.account_id == account["id"]

    @pytest.mark.parametrize("scope", ["accounts:write", "accounts:read"])
    async def test_without_the_scope_nothing_is_created(self, desk: Desk, scope: str) -> None:
        """A key that may not write, or not look, creates nothing; the record goes out without."""
        desk.sandbox.faults = without(scope)
        for _ in range(2):
            [placed] = await desk.place(of("acme"), account=CREATING)
            assert placed.account_id is None
        assert (len(desk.sandbox.accounts), desk.creations) == (0, 1 if scope == "accounts:write" else 0)

    async def test_a_dry_run_creates_nothing(self, sandbox: Sandbox, ledger: Ledger, clock: Clock) -> None:
        """Who only looks leaves no trace: not at Zentrik, and not in the ledger."""
        async with at(sandbox, clock) as zentrik:
            directory = Directory(Workspace(zentrik), Glanced(ledger.database), clock, creates=False)
            desk = Desk(sandbox, directory)
            known = desk.account(domain="beta.test")
            for _ in range(2):
                placed = await desk.place(of("acme"), of("beta", 2), account=CREATING)
                assert [one.account_id for one in placed] == [None, known]
        assert (desk.looks, desk.creations) == (2, 0)
        question = Question("accounts", "domain", "beta.test")
        assert await ledger.ask(lookups.recall, [question]) == {}


class TestProducts(OnSQLite):
    """Which products a record is about."""

    async def test_a_product_is_found_by_its_id_or_name(self, desk: Desk) -> None:
        """The operator names a product as is convenient; what the connector named stays; what is not there is left."""
        app, web = desk.product(name="Mobile app", externalId="app"), desk.product(name="The web")
        [placed] = await desk.place(record(1, product_ids=("own",)), products=["app", "the web", "toaster"])
        assert placed.product_ids == ("own", app, web)
        looks = desk.looks
        await desk.place(record(2), products=["app", "the web", "toaster"])
        assert desk.looks == looks

    async def test_a_key_without_the_scope_posts_without(self, desk: Desk) -> None:
        """A lacking scope costs the products, not the record, nor its account."""
        id_ = desk.account(domain="acme.test")
        desk.sandbox.faults = without("products:read")
        [placed] = await desk.place(of("acme"), account=BY_DOMAIN, products=["app"])
        assert (placed.product_ids, placed.account_id) == ((), id_)


class TestPull(OnSQLite):
    """The directory on a record's way into the ledger."""

    async def test_no_record_is_mapped_by_half(self, sandbox: Sandbox, ledger: Ledger, clock: Clock) -> None:
        """While Zentrik cannot say which account it is, the page waits: the reading ends and goes on from there."""
        entry = Source(
            "reviews", "listed", "listed:reviews", Listed(pages=((of("acme", 1),), (of("beta", 2),))),
            mapping=Mapping(account=BY_DOMAIN),  # type: ignore[arg-type]
        )  # fmt: skip
        sandbox.accounts.create({"name": "Beta", "domain": "beta.test", "externalId": "crm-beta"})
        sandbox.accounts.create({"name": "Acme", "domain": "acme.test", "externalId": "crm-acme"})
        run = await ledger.start_run("test", clock())
        async with desk_at(sandbox, ledger, clock) as desk, httpx.AsyncClient() as http:

            async def read() -> Any:
                return await pull(entry, ledger, http, run, clock, directory=desk.directory)

            sandbox.faults = Faults(next_lookups=("503",) * TRIES)
            away = await read()
            assert (away.new, away.error and away.error[0]) == (0, "lookup_failed")
            assert await rows(ledger) == []
            back = await read()
        assert (back.new, back.error) == (2, None)
        stored = await rows(ledger)
        assert [row.external_id for row in stored] == ["listed:reviews:r-1", "listed:reviews:r-2"]

    async def test_a_changed_mapping_is_a_changed_setting(self, ledger: Ledger, clock: Clock) -> None:
        """A connector that kept failing, or was halted, begins afresh once its mapping is mended."""
        run = await ledger.start_run("test", clock())

        async def failures(entry: Source) -> int:
            await ledger.start_pull(entry, run, clock())
            await ledger.finish_pull(entry, run, ("lookup_failed", "away"), clock())
            return (await ledger.ask(report.connector_rows))[entry.name].failures

        assert [await failures(source()), await failures(source())] == [1, 2]
        mended = replace(source(), mapping=Mapping(title="{{ record.id }}"))
        assert [await failures(mended), await failures(mended)] == [1, 2]
