"""A destination that costs as little as it can, so that what is measured is who posts to it.

It speaks just enough of the Signals API to be delivered to and asked for outcomes, answers each call after a latency,
and keeps count of everything. It runs in a process of its own: `with destination(latency=0.05) as there: ...`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from multiprocessing.connection import Connection
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httptools
import uvloop

_SIGNALS = "/api/external/v1/signals"
_LATE = 0.0005
_JSON = b"Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Terms:
    """How the destination behaves: seconds before each answer, posts a second before it says 429 (and those it can
    answer at all before they queue up), seconds until a signal is processed."""

    latency: float = 0.0
    limit: float | None = None
    capacity: float | None = None
    processing: float = 2.0
    certificate: str | None = None


@dataclass(slots=True)
class Count:
    """What it has seen. Times are seconds of the loop's clock, from one post to the next."""

    posts: int = 0
    accepted: int = 0
    doubled: int = 0
    refused: int = 0
    reads: int = 0
    first: float = 0.0
    last: float = 0.0
    seconds: list[int] = field(default_factory=list)  # accepted in each second since the first
    refusals: list[int] = field(default_factory=list)  # and refused


class Workspace:
    """The signals of the destination, in the order they came."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.count = Count()
        self._names: list[tuple[str | None, float]] = []
        self._seen: set[str] = set()
        self._tokens = terms.limit or 0.0
        self._filled = 0.0
        self._busy_until = 0.0

    def answer(self, method: bytes, target: str, body: bytes, now: float, wall: float) -> tuple[int, bytes, bytes]:
        """Status, further headers and content of the answer to a call."""
        split = urlsplit(target)
        if method == b"POST" and split.path == _SIGNALS:
            return self._take(body, now, wall)
        if split.path == "/figures":
            return 200, _JSON, json.dumps(asdict(self.count)).encode()
        if split.path == "/items":
            return 200, _JSON, _items(int(parse_qs(split.query)["after"][0]))
        self.count.reads += 1
        if split.path == "/api/readyz":
            return 200, _JSON, b'{"checks":{"database":"ok","workspaceQueue":"ok"}}'
        if split.path == _SIGNALS:
            return self._list(parse_qs(split.query), wall)
        number = split.path.rpartition("SIGNAL-")[2]
        if number.isdigit() and 0 < int(number) <= len(self._names):
            return 200, _JSON, json.dumps(self._signal(int(number), wall)).encode()
        return 404, _JSON, b'{"message":"there is no such signal"}'

    def delay(self, method: bytes, now: float) -> float:
        """Seconds until a call that came now is answered: the latency, after what the capacity makes it wait."""
        if method != b"POST" or not self.terms.capacity:
            return self.terms.latency
        self._busy_until = max(self._busy_until, now) + 1 / self.terms.capacity
        return self._busy_until - now + self.terms.latency

    def _take(self, body: bytes, now: float, wall: float) -> tuple[int, bytes, bytes]:
        count = self.count
        count.posts += 1
        count.first = count.first or now
        count.last = now
        second = int(now - count.first)
        while len(count.seconds) <= second:
            count.seconds.append(0)
            count.refusals.append(0)
        if self.terms.limit is not None:
            self._tokens = min(self.terms.limit, self._tokens + (now - self._filled) * self.terms.limit)
            self._filled = now
            if self._tokens < 1:
                count.refused += 1
                count.refusals[second] += 1
                return 429, _JSON + b"Retry-After: 1\r\n", b'{"message":"too many requests"}'
            self._tokens -= 1
        name = json.loads(body).get("externalId")
        if name in self._seen:
            count.doubled += 1
        self._seen.add(name)
        self._names.append((name, wall))
        count.accepted += 1
        count.seconds[second] += 1
        number = len(self._names)
        return 201, _JSON, b'{"publicId":"SIGNAL-%d","jobId":"job-%d","status":"pending"}' % (number, number)

    def _list(self, query: dict[str, list[str]], wall: float) -> tuple[int, bytes, bytes]:
        limit, offset = (int(query.get(name, [default])[0]) for name, default in (("limit", "50"), ("offset", "0")))
        newest = len(self._names) - offset
        shown = [self._signal(number, wall) for number in range(newest, max(0, newest - min(limit, 100)), -1)]
        more = b"true" if newest - len(shown) > 0 else b"false"
        headers = _JSON + b"X-Total-Count: %d\r\nX-Has-More: %s\r\n" % (len(self._names), more)
        return 200, headers, json.dumps(shown).encode()

    def _signal(self, number: int, wall: float) -> dict[str, Any]:
        name, at = self._names[number - 1]
        done_at = at + self.terms.processing
        shown: dict[str, Any] = {"publicId": f"SIGNAL-{number}", "externalId": name, "createdAt": _iso(at)}
        if done_at > wall:
            return shown | {"status": "pending", "processing": {"lastJobId": f"job-{number}"}}
        told = {"lastJobId": f"job-{number}", "startedAt": _iso(at), "processedAt": _iso(done_at)}
        return shown | {"status": "processed", "insightIds": [f"INSIGHT-{number}"], "processing": told}


PAGE = 500
"""Items on a page of the source."""


@cache
def _items(after: int) -> bytes:
    """A page of the source: items of about 1 kB."""
    numbers = range(after, after + PAGE)
    text = "The export takes too long. " * 32
    made = "2026-11-02T09:00:00Z"
    items = [{"id": n, "created_at": made, "title": f"Ticket {n}", "text": f"{n} {text}", "stars": 3} for n in numbers]
    return json.dumps({"items": items}).encode()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


class _Conversation(asyncio.Protocol):
    """One connection; calls are answered one after the other."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._target = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = []
        self._target = ""

    def on_url(self, url: bytes) -> None:
        self._target += url.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        method, target, body = self._parser.get_method(), self._target, b"".join(self._body)
        delay = 0.0 if target == "/figures" else self._workspace.delay(method, self._loop.time())
        if delay:  # timers go off late rather than early, by half a millisecond on average
            self._loop.call_later(delay - _LATE, self._answer, method, target, body)
        else:
            self._answer(method, target, body)

    def _answer(self, method: bytes, target: str, body: bytes) -> None:
        now, wall = self._loop.time(), datetime.now(UTC).timestamp()
        status, headers, content = self._workspace.answer(method, target, body, now, wall)
        head = b"HTTP/1.1 %d -\r\n%sContent-Length: %d\r\n\r\n" % (status, headers, len(content))
        if not self._transport.is_closing():
            self._transport.write(head + content)


async def _serve(terms: Terms, tell: Connection) -> None:
    context = None
    if terms.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(terms.certificate)
    loop, workspace = asyncio.get_running_loop(), Workspace(terms)
    server = await loop.create_server(
        lambda: _Conversation(workspace),
        "127.0.0.1",
        0,
        ssl=context,
        backlog=1024,
        ssl_handshake_timeout=60 if context else None,
    )
    tell.send(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def _main(terms: Terms, tell: Connection) -> None:
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(terms, tell))


@dataclass(frozen=True, slots=True)
class There:
    """A destination that is running, to be given as `api_base`."""

    address: str
    trust: str | None

    @property
    def api_base(self) -> str:
        """Where its API is."""
        return f"{self.address}/api"

    def count(self) -> Count:
        """What it has seen until now."""
        trusted = ssl.create_default_context(cafile=self.trust) if self.trust else None
        with urllib.request.urlopen(f"{self.address}/figures", context=trusted) as answer:
            return Count(**json.load(answer))


@contextmanager
def destination(*, trust: str | None = None, **terms: Any) -> Iterator[There]:
    """A destination in a process of its own, for as long as the block lasts."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_main, args=(Terms(**terms), there), daemon=True)
    process.start()
    try:
        if not here.poll(30):
            raise RuntimeError("the destination did not start")
        scheme = "https" if terms.get("certificate") else "http"
        yield There(f"{scheme}://127.0.0.1:{here.recv()}", trust)
    finally:
        process.terminate()
        process.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, default=0.0)
    with destination(latency=parser.parse_args().latency) as running, suppress(KeyboardInterrupt):
        print(running.api_base, flush=True)
        asyncio.run(asyncio.Event().wait())
