"""What Zentrik answers about accounts and products, taken for what it is and for no more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.fates import Blocked, Refused
from syncd.workspace import Entity, Workspace
from syncd.zentrik import Troubled, Zentrik

Answer = Callable[[httpx.Request], httpx.Response]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[Workspace]:
    transport = httpx.MockTransport(answer)
    async with Zentrik("http://127.0.0.1:1/api", "key", transport=transport) as zentrik:
        yield Workspace(zentrik)


async def found(answer: Answer, field: str = "domain", value: str = "acme.test") -> Any:
    async with answering(answer) as workspace:
        return await workspace.find("accounts", field, value)


def items(*these: Any) -> Answer:
    return lambda _: httpx.Response(200, json=list(these))


async def test_what_is_asked() -> None:
    """The filter of the reference carries the value, whatever is in it, and the key goes along."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=[])

    assert await found(answer, "name", "A&B = ü") == ()
    [request] = asked
    assert (request.url.path, request.url.params["name"]) == ("/api/external/v1/accounts", "A&B = ü")
    assert request.headers["Authorization"] == "Bearer key"


@pytest.mark.parametrize(
    ("item", "is_it"),
    [
        ({"id": "a", "domain": "Acme.test", "externalId": "crm"}, True),
        ({"id": "a", "website": "https://www.acme.test/home", "externalId": "crm"}, True),
        ({"id": "a", "domain": "notacme.test", "externalId": "crm"}, False),
        ({"id": "", "domain": "acme.test"}, False),
        ({"id": "a\n", "domain": "acme.test"}, False),
        ({"id": 7, "domain": "acme.test"}, False),
        ("acme.test", False),
    ],
)
async def test_only_what_fits_is_taken(item: Any, is_it: bool) -> None:
    """A server that does not know the filter answers with everybody: evidence hangs on none of those."""
    assert await found(items(item)) == ((Entity("a", "crm"),) if is_it else ())


async def test_an_unusable_external_id_is_not_used() -> None:
    """An account whose externalId cannot be posted again is named by its own id."""
    assert await found(items({"id": "a", "domain": "acme.test", "externalId": "x" * 600})) == (Entity("a"),)


@pytest.mark.parametrize(
    ("status", "content", "fate"),
    [
        (401, b"{}", Blocked),
        (403, b'{"message": "no"}', Blocked),
        (404, b"{}", Troubled),
        (404, b"<html>", Troubled),
        (429, b"{}", Troubled),
        (500, b"", Troubled),
        (301, b"", Troubled),
        (200, b"<html>", Troubled),
        (200, b"{}", Troubled),
        (400, b"{}", tuple),
        (422, b"{}", tuple),
    ],
)
async def test_what_an_answer_means(status: int, content: bytes, fate: type) -> None:
    """No scope, trouble, and a question Zentrik will not take are three things; only the last means there is none."""
    assert isinstance(await found(lambda _: httpx.Response(status, content=content)), fate)


@pytest.mark.parametrize(
    ("status", "content", "fate"),
    [
        (201, b'{"id": "a", "externalId": null}', Entity),
        (201, b'{"id": null}', Troubled),
        (201, b"[]", Troubled),
        (409, b"{}", Refused),
        (403, b"{}", Blocked),
        (502, b"", Troubled),
    ],
)
async def test_what_becomes_of_a_creation(status: int, content: bytes, fate: type) -> None:
    """Created, refused, forbidden, or not known: whoever reads `Troubled` looks before anything else."""
    async with answering(lambda _: httpx.Response(status, content=content)) as workspace:
        assert isinstance(await workspace.create_account({"name": "Acme"}), fate)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "domain", "website", "externalId", "x"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(answer=VALUES)
async def test_any_answer_is_taken_somehow(answer: Any) -> None:
    """Whatever JSON comes back is a list of accounts or trouble, and never a defect of ours."""
    outcome = await found(lambda _: httpx.Response(200, content=json.dumps(answer)))
    assert isinstance(outcome, tuple | Troubled)
