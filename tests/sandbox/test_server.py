"""Serving: starting, stopping, and leaving the process as it was."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import httpx
import pytest

from syncd.errors import ConfigError
from syncd.sandbox import Faults, Sandbox

BODY = {"text": "Hello", "signalType": "review"}
KEY = {"Authorization": "Bearer sandbox-key"}


def process_state() -> tuple[object, ...]:
    """What a server could leave behind: signal handlers, logging, tasks."""
    loggers = [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.access", "uvicorn.error")]
    return (
        [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        [(one.level, one.handlers[:], one.propagate) for one in loggers],
        asyncio.all_tasks(),
    )


def port_of(api_base: str) -> int:
    return httpx.URL(api_base).port or 0


async def test_serving_leaves_no_trace() -> None:
    """No task, socket, signal handler or logging setting of the sandbox outlives it, even with calls under way."""
    before = process_state()
    sandbox = Sandbox(faults=Faults(next_posts=("hold",)))
    async with httpx.AsyncClient(verify=False, trust_env=False, headers=KEY) as http:
        async with sandbox.serve() as api_base:
            assert process_state() == before
            held = asyncio.create_task(http.post(f"{api_base}/external/v1/signals", json=BODY))
            idle, writer = await asyncio.open_connection("127.0.0.1", port_of(api_base))
            async with asyncio.timeout(5):
                while (await http.get(api_base.replace("/api", "/sandbox/books"))).json()["signals"] == 0:
                    pass
        with pytest.raises(httpx.HTTPError):
            await held
        assert await idle.read() == b""
        writer.close()
        await writer.wait_closed()
    assert process_state() == before
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection("127.0.0.1", port_of(api_base))


async def test_a_request_cut_off_by_its_client_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """A client that dies halfway through a post leaves nothing in the books and no traceback in the log."""
    sandbox = Sandbox()
    async with sandbox.serve() as api_base, httpx.AsyncClient(verify=False, trust_env=False) as http:
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(api_base))
        writer.write(b"POST /api/external/v1/signals HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(5):
            while (await http.get(api_base.replace("/api", "/sandbox/books"))).json()["posts"] == 0:
                pass
    assert sandbox.calls.by_status() == {"cut": 1}
    assert len(sandbox.books) == 0
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_a_taken_port_is_a_configuration_error() -> None:
    """Whoever starts a second sandbox on a port is told so and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"{port}.*choose another port"):
            async with Sandbox().serve(port):
                pass
        with pytest.raises(ConfigError, match=str(port)), Sandbox().in_thread(port):
            pass


async def test_it_is_served_until_told_to_stop() -> None:
    """The command serves on the port it was given and ends when asked to."""
    stop, announced = asyncio.Event(), asyncio.Event()
    addresses: list[str] = []

    def started(api_base: str) -> None:
        addresses.append(api_base)
        announced.set()

    serving = asyncio.create_task(Sandbox().serve_forever(stop, started=started))
    await announced.wait()
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        assert (await http.get(f"{addresses[0]}/readyz")).status_code == 200
    stop.set()
    await serving


def test_it_can_be_served_from_a_thread() -> None:
    """Blocking callers and other processes can be tested against it, and the thread ends with the test."""
    threads = threading.active_count()
    sandbox = Sandbox()

    def fail() -> None:
        with sandbox.in_thread() as api_base:
            with urllib.request.urlopen(f"{api_base}/readyz", timeout=5) as answer:
                assert answer.status == 200
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert sandbox.calls.count("GET", "/readyz", 200) == 1
    assert threading.active_count() == threads


async def test_many_at_once_are_all_served() -> None:
    """Concurrent posts, a share of them cut, all end up in the books exactly as their fate says."""
    sandbox = Sandbox(faults=Faults(share_of_posts={"cut_before": 0.1, "cut_after": 0.1}))
    async with (
        sandbox.serve() as api_base,
        httpx.AsyncClient(verify=False, trust_env=False, headers={"Authorization": "Bearer sandbox-key"}) as http,
    ):

        async def post() -> int:
            try:
                return (await http.post(f"{api_base}/external/v1/signals", json=BODY)).status_code
            except (httpx.RemoteProtocolError, httpx.ReadError):
                return 0

        answered = sum(status == 201 for status in await asyncio.gather(*(post() for _ in range(200))))
    cut = sandbox.calls.count("POST", "/signals", "cut")
    assert answered + cut == 200
    assert cut > 10
    assert answered < len(sandbox.books) < 200


def test_importing_the_sandbox_loads_no_web_server() -> None:
    """Every other command starts as fast as if there were no sandbox."""
    code = "import sys, syncd.sandbox; print([m for m in ('starlette', 'uvicorn', 'pydantic') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert run.stdout.strip() == "[]"


def test_the_package_has_no_other_names() -> None:
    """A misspelt import says so."""
    import syncd.sandbox

    with pytest.raises(AttributeError, match="Sandobx"):
        syncd.sandbox.Sandobx  # noqa: B018 - reading it is the test


def test_a_blocking_client_sees_errors_as_errors() -> None:
    """The template's own kind of client works against it."""
    with Sandbox().in_thread() as api_base, pytest.raises(urllib.error.HTTPError, match="401") as refused:
        urllib.request.urlopen(f"{api_base}/external/v1/signals", timeout=5)
    refused.value.close()
