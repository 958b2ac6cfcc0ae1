"""The page on a real socket."""

from __future__ import annotations

import asyncio
import signal

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from syncd.errors import ConfigError
from syncd.web.serving import serve


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", hello)])


async def test_it_answers_where_it_says() -> None:
    """The address in the log can be opened."""
    async with serve(APP, "127.0.0.1", 0) as address, httpx.AsyncClient() as client:
        answer = await client.get(address)
    assert answer.text == "hello"
    assert "server" not in answer.headers


async def test_it_leaves_nothing_behind() -> None:
    """A configuration that is read again gets the same port, also when a browser still holds a connection."""
    async with httpx.AsyncClient() as client:
        async with serve(APP, "127.0.0.1", 0) as address:
            await client.get(address)
        with pytest.raises(httpx.TransportError):
            await client.get(address)
        async with serve(APP, "127.0.0.1", int(address.rpartition(":")[2])) as again:
            assert again == address
            assert (await client.get(again)).text == "hello"


async def test_an_answer_under_way_is_finished() -> None:
    """Whoever pressed a button as the daemon stopped still hears what came of it."""
    begun = asyncio.Event()

    async def slow(request: Request) -> PlainTextResponse:
        begun.set()
        await asyncio.sleep(0.1)
        return PlainTextResponse("done")

    async with httpx.AsyncClient() as client:
        async with serve(Starlette(routes=[Route("/", slow)]), "127.0.0.1", 0) as address:
            asked = asyncio.create_task(client.get(address))
            await begun.wait()
        assert (await asked).text == "done"


async def test_a_port_that_is_taken_is_told_in_words() -> None:
    """A second syncd on one machine says what is in its way, and what to set."""
    async with serve(APP, "127.0.0.1", 0) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use. Choose"):
            async with serve(APP, "127.0.0.1", port):
                pass


async def test_a_host_that_is_not_ours_is_told_in_words() -> None:
    """An address of another machine is a slip in the configuration, not a crash."""
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0"):
        async with serve(APP, "192.0.2.1", 0):
            pass


async def test_signals_stay_with_the_daemon() -> None:
    """A SIGTERM reaches whoever drains the ledger's work, not the web server."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serve(APP, "127.0.0.1", 0):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
