"""The sandbox's accounts and products: asked for and created as the reference says, with a key that may."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.faults import SCOPES


@pytest.fixture
def sandbox(clock: Any) -> Sandbox:
    return Sandbox(now=clock)


async def test_accounts_are_found_by_what_the_reference_names(served: Any, sandbox: Sandbox) -> None:
    """A filter gives those that match exactly, and only those; a page is a page."""
    async with served(sandbox) as http:
        made = await http.post("/accounts", json={"name": "Acme", "externalId": "crm-1", "domain": "acme.test"})
        for number in range(30):
            await http.post("/accounts", json={"name": f"Other {number}", "website": f"https://o{number}.test/about"})

        async def found(**wanted: Any) -> list[str]:
            return [one["name"] for one in (await http.get("/accounts", params=wanted)).json()]

        assert made.status_code == 201
        assert (await http.get(f"/accounts/{made.json()['id']}")).json() == made.json()
        assert (
            await found(externalId="crm-1") == await found(domain="ACME.test") == await found(name="acme") == ["Acme"]
        )
        assert await found(domain="o7.test") == ["Other 7"]
        assert await found(externalId="CRM-1") == await found(name="Acm") == await found(domain="test") == []
        assert await found(q="cme") == ["Acme"]
        assert len(await found()) == 20
        assert await found(limit=1, offset=30) == ["Other 29"]
        assert (await http.get("/accounts/nobody")).status_code == 404
        assert (await http.post("/accounts", json={"domain": "x.test"})).status_code == 422


async def test_a_second_one_with_an_externalid(served: Any, sandbox: Sandbox) -> None:
    """Products refuse it, as the reference says; of accounts it says nothing, so they are imitated at their worst."""
    async with served(sandbox) as http:
        for path, status in (("/accounts", 201), ("/products", 409)):
            await http.post(path, json={"name": "One", "externalId": "x"})
            assert (await http.post(path, json={"name": "Two", "externalId": "x"})).status_code == status
    assert (len(sandbox.accounts), len(sandbox.products)) == (2, 1)


@pytest.mark.parametrize("missing", ["accounts:read", "accounts:write", "products:read", "products:write"])
async def test_a_missing_scope_is_named(served: Any, clock: Any, missing: str) -> None:
    """A key that may not look, or not create, is told which scope it lacks, and may all else."""
    sandbox = Sandbox(now=clock, faults=Faults(scopes=tuple(scope for scope in SCOPES if scope != missing)))
    async with served(sandbox) as http:
        answers = {
            f"{kind}:{verb}": await (
                http.get(f"/{kind}") if verb == "read" else http.post(f"/{kind}", json={"name": "A"})
            )
            for kind in ("accounts", "products")
            for verb in ("read", "write")
        }
    assert [name for name, answer in answers.items() if answer.status_code == 403] == [missing]
    assert missing in answers[missing].json()["message"]


async def test_faults_can_be_ordered_for_them(served: Any, sandbox: Sandbox) -> None:
    """A lost answer of a creation is imitated: it is stored, and nobody hears of it."""
    sandbox.faults = Faults(next_accounts=("504",), next_lookups=("503",))
    async with served(sandbox) as http:
        assert (await http.post("/accounts", json={"name": "A"})).status_code == 504
        assert (await http.get("/accounts")).status_code == 503
        assert len((await http.get("/accounts")).json()) == 1
