"""Each fault as a real client sees it over loopback."""

from __future__ import annotations

import asyncio
import json
import logging
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from syncd.sandbox import Faults, Sandbox

BODY = {"text": "Hello", "signalType": "review", "externalId": "e1"}


@pytest.mark.parametrize(
    ("mishap", "status", "stored"),
    [
        ("429", 429, 0),
        ("429_bare", 429, 0),
        ("500", 500, 0),
        ("502", 502, 0),
        ("503", 503, 0),
        ("html_404", 404, 0),
        ("504", 504, 1),
    ],
)
async def test_an_error_stores_what_it_says_it_stores(served: Any, mishap: Any, status: int, stored: int) -> None:
    """A client can be tested against each error with and without the signal behind it."""
    sandbox = Sandbox(faults=Faults(next_posts=(mishap,)))
    async with served(sandbox) as http:
        answer = await http.post("/signals", json=BODY)
        assert (answer.status_code, len(sandbox.books)) == (status, stored)
        assert (await http.post("/signals", json=BODY)).status_code == 201


@pytest.mark.parametrize(("mishap", "stored"), [("cut_before", 0), ("cut_after", 1), ("torn", 1)])
async def test_a_cut_connection_is_really_cut(
    served: Any, caplog: pytest.LogCaptureFixture, mishap: Any, stored: int
) -> None:
    """The reply never arrives, the signal is there or not as ordered, and the server has nothing to say about it."""
    caplog.set_level(logging.INFO)
    sandbox = Sandbox(faults=Faults(next_posts=(mishap,)))
    async with served(sandbox) as http:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await http.post("/signals", json=BODY)
        assert len(sandbox.books.with_external_id("e1")) == stored
        assert sandbox.calls.count("POST", "/signals", "cut") == 1
        assert (await http.post("/signals", json=BODY)).status_code == 201
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_cut_reads_are_cut_too(served: Any) -> None:
    """Following up and reconciling can be tested on a bad line as well."""
    sandbox = Sandbox(faults=Faults(next_reads=("cut_before", "torn", "html_404", "500")))
    sandbox.books.create(BODY)
    async with served(sandbox) as http:
        for path in ("/signals", "/signals/SIGNAL-1"):
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await http.get(path)
        assert "static/index.html" in (await http.get("/signals")).text
        assert (await http.get("/signals")).status_code == 500
        assert (await http.get("/signals")).status_code == 200


async def test_a_garbled_reply_is_complete_but_no_json(served: Any) -> None:
    """A client that trusts a 201 without reading it is found out: the signal is there, its publicId is not."""
    sandbox = Sandbox(faults=Faults(next_posts=("garbled",)))
    async with served(sandbox) as http:
        answer = await http.post("/signals", json=BODY)
    assert answer.status_code == 201
    assert answer.text.startswith('{"id":')
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert len(sandbox.books) == 1


async def test_a_held_reply_outlasts_the_client(served: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A client that times out has stored its signal all the same, and shutting down does not wait for the hold."""
    sandbox = Sandbox(faults=Faults(next_posts=("hold",)))
    async with served(sandbox) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/signals", json=BODY, timeout=0.05)
        assert len(sandbox.books) == 1
    assert caplog.records == []


async def test_a_held_reply_comes_in_the_end(served: Any) -> None:
    """A patient client gets its answer."""
    async with served(Sandbox(faults=Faults(next_posts=("hold",), hold_for=0.01))) as http:
        assert (await http.post("/signals", json=BODY)).status_code == 201


async def test_latency_holds_the_signal_back_not_only_the_reply(served: Any) -> None:
    """A post whose client has given up arrives late all the same: looking at once does not prove it absent."""
    sandbox = Sandbox(faults=Faults(latency=0.25, jitter=0.01))
    async with served(sandbox) as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.post("/signals", json=BODY, timeout=httpx.Timeout(5, read=0.02))
        sandbox.faults = Faults()
        assert (await http.get("/signals")).headers["X-Total-Count"] == "0"
        async with asyncio.timeout(5):
            while (await http.get("/signals")).headers["X-Total-Count"] == "0":
                pass


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
async def test_the_rate_limit_says_when_to_come_back(served: Any, clock: Any, form: Any) -> None:
    """Every form of Retry-After a client must read can be met, and its absence too."""
    faults = Faults(rate_limit=2, retry_after=form, retry_after_seconds=7)
    sandbox = Sandbox(now=clock, faults=faults)
    async with served(sandbox) as http:
        answers = [await http.get("/signals") for _ in range(3)]
        clock.goes_on(seconds=1)
        answers.append(await http.get("/signals"))
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    value = answers[2].headers.get("Retry-After")
    match form:
        case "seconds":
            assert value == "7"
        case "date":
            assert (parsedate_to_datetime(value) - clock()).total_seconds() == 6  # a second has passed since
        case "none":
            assert value is None


async def test_a_429_carries_its_wait_and_a_bare_one_does_not(served: Any) -> None:
    """Both kinds of 429 can be met in one run."""
    async with served(Sandbox(faults=Faults(next_posts=("429", "429_bare")))) as http:
        with_wait, bare = [await http.post("/signals", json=BODY) for _ in range(2)]
    assert with_wait.headers["Retry-After"] == "1"
    assert "Retry-After" not in bare.headers


async def test_processing_fails_for_a_marked_text(served: Any, clock: Any) -> None:
    """A failed signal can be shown on request, typed or raw."""
    sandbox = Sandbox(now=clock)
    async with served(sandbox) as http:
        await http.post("/signals", json={**BODY, "text": "This one [sandbox: fail]."})
        await http.post("/signals", json={"source": {"type": "gong"}, "data": {"transcriptText": "[sandbox: fail]"}})
        await http.post("/signals", json=BODY)
        clock.goes_on(seconds=2)
        statuses = [(await http.get(f"/signals/SIGNAL-{number}")).json()["status"] for number in (1, 2, 3)]
    assert statuses == ["failed", "failed", "processed"]
