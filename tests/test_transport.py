"""The connections to Zentrik: what arrives at a real server, and what is said when something goes wrong."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import pytest
import trustme

from syncd.fates import Accepted, Later, Unknown
from syncd.transport import Connections
from syncd.zentrik import Troubled, Zentrik

NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
TAKEN = b'{"publicId": "SIGNAL-7", "jobId": "job-7"}'
RECORD = b'{"externalId": "x:1"}'


@dataclass(frozen=True)
class Heard:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    content: bytes


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A server on this machine that does one thing with each request, and remembers what arrived."""

    answer: Answering
    context: ssl.SSLContext | None = None
    heard: list[Heard] = field(default_factory=list)
    connected: int = 0
    most_connected: int = 0
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.context else 'http'}://localhost:{self.port}"

    @property
    def lines(self) -> list[str]:
        return [heard.line for heard in self.heard]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Server]:
        """Listen until the block ends, and end every connection with it."""
        busy: set[asyncio.Task[None]] = set()

        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            busy.add(task)
            self.connections += 1
            self.connected += 1
            self.most_connected = max(self.most_connected, self.connected)
            try:
                while heard := await _request(reader):
                    self.heard.append(heard)
                    self.asked.set()
                    await self.answer(reader, writer)
            except OSError:
                pass  # the client is gone
            finally:
                self.connected -= 1
                self.left.set()
                writer.transport.abort()
                busy.discard(task)

        server = await asyncio.start_server(connection, "127.0.0.1", 0, ssl=self.context)
        try:
            self.port = server.sockets[0].getsockname()[1]
            yield self
        finally:
            server.close()
            for task in list(busy):
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> Heard | None:
    """The next request of a connection; None when it has ended."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in fields)}
        return Heard(line, headers, await reader.readexactly(int(headers.get("content-length", 0))))
    except (asyncio.IncompleteReadError, OSError):
        return None


def answers(content: bytes = TAKEN, *headers: str, status: str = "200 OK") -> Answering:
    """An answer with that content and, beside its length, those headers."""
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers])
    return says(f"{head}\r\n\r\n".encode() + content)


def says(*portions: bytes) -> Answering:
    """These bytes, and nothing after them."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for some in portions:
            writer.write(some)
            await writer.drain()

    return answer


def closes(after: bytes = b"") -> Answering:
    """These bytes, and then the connection is closed in good order."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(after)(reader, writer)
        writer.close()

    return answer


def resets(after: bytes = b"") -> Answering:
    """These bytes, and then the connection is reset."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(after)(reader, writer)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return answer


async def keeps_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """No answer, until the client has had enough."""
    await reader.read()


def request(
    url: str, method: str = "POST", content: bytes | None = RECORD, *, connect: float = 10, read: float = 10
) -> httpx.Request:
    """A request with limits, as the client of Zentrik makes them."""
    limits = httpx.Timeout(read, connect=connect, pool=10).as_dict()
    return httpx.Request(method, url, content=content if method == "POST" else None, extensions={"timeout": limits})


async def ask(connections: Connections, asked: httpx.Request) -> httpx.Response:
    """The answer, read to its end."""
    async with asyncio.timeout(30):
        response = await connections.handle_async_request(asked)
        try:
            await response.aread()
        finally:
            await response.aclose()
    return response


@asynccontextmanager
async def connected(most: int = 4) -> AsyncIterator[Connections]:
    """The connections of a client, closed at the end."""
    connections = Connections(most)
    try:
        yield connections
    finally:
        await connections.aclose()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def certified(monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """What a server needs for being believed that it is localhost."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with authority.cert_pem.tempfile() as trusted:
        monkeypatch.setenv("SSL_CERT_FILE", trusted)
        yield context


# Ways not to get a connection


@asynccontextmanager
async def refused_port() -> AsyncIterator[str]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@asynccontextmanager
async def no_such_name() -> AsyncIterator[str]:
    yield "http://zentrik.invalid"


@asynccontextmanager
async def forged_certificate() -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with Server(answers(), context).serve() as server:
        yield server.url
        assert not server.heard


@asynccontextmanager
async def other_name(name: str = "elsewhere.test") -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert(name).configure_cert(context)
    with authority.cert_pem.tempfile() as trusted, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", trusted)
        async with Server(answers(), context).serve() as server:
            yield server.url
            assert not server.heard


def greeted(then: Answering) -> Callable[[], AbstractAsyncContextManager[str]]:
    """A server for https that does that with the first words of the handshake."""

    @asynccontextmanager
    async def serve() -> AsyncIterator[str]:
        tasks: set[asyncio.Task[None]] = set()

        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            await reader.read(1)
            try:
                await then(reader, writer)
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        try:
            yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return serve


@asynccontextmanager
async def full_backlog() -> AsyncIterator[str]:
    """A server that accepts nobody: the kernel drops what comes after the first few."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = []
        while True:
            one = socket.socket()
            waiting.append(one)
            one.settimeout(0.1)
            try:
                one.connect(listening.getsockname())
            except TimeoutError:
                break
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            for each in waiting:
                each.close()


NO_TLS = b"HTTP/1.1 400 Bad Request\r\n\r\n"
NO_CONNECTION = [
    pytest.param(refused_port, httpx.ConnectError, "it cannot be reached (", id="refused port"),
    pytest.param(no_such_name, httpx.ConnectError, "it cannot be reached (", id="no such name"),
    pytest.param(forged_certificate, httpx.ConnectError, "certificate verify failed", id="forged certificate"),
    pytest.param(other_name, httpx.ConnectError, "not valid for 'localhost'", id="certificate of another"),
    pytest.param(greeted(closes(NO_TLS)), httpx.ConnectError, "it cannot be reached (", id="plain server behind https"),
    pytest.param(greeted(resets()), httpx.ConnectError, "it cannot be reached", id="reset in the handshake"),
    pytest.param(greeted(closes()), httpx.ConnectError, "it cannot be reached", id="closed in the handshake"),
    pytest.param(greeted(keeps_silent), httpx.ConnectTimeout, "no connection in time", id="silent in the handshake"),
    pytest.param(full_backlog, httpx.ConnectTimeout, "no connection in time", id="full backlog"),
]

Place = Callable[[], AbstractAsyncContextManager[str]]


class TestNoConnection:
    @pytest.mark.parametrize(("place", "error", "_words"), NO_CONNECTION)
    async def test_it_is_said_that_nothing_was_sent(
        self, place: Place, error: type[httpx.RequestError], _words: str
    ) -> None:
        """Where no connection stands, nothing of a request has gone out, and the error says so."""
        async with place() as url, connected() as connections:
            with pytest.raises(NOTHING_SENT) as caught:
                await ask(connections, request(url, connect=0.3))
        assert type(caught.value) is error

    @pytest.mark.parametrize(("place", "_error", "words"), NO_CONNECTION)
    async def test_the_record_is_posted_again_later(
        self, place: Place, _error: type[httpx.RequestError], words: str
    ) -> None:
        """A Zentrik that cannot be reached costs no record its certainty: it waits, and the gate is closed."""
        async with place() as url, Zentrik(url, "k", timeout=timedelta(seconds=0.8)) as zentrik:
            verdict = await zentrik.post(RECORD)
        assert isinstance(verdict, Later)
        assert verdict.parks
        assert words.lower() in verdict.reason.lower().replace("_", " ")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CUT_OFF = [
    pytest.param(resets(), id="reset before any answer"),
    pytest.param(closes(), id="closed before any answer"),
    pytest.param(resets(HEAD), id="reset in the headers"),
    pytest.param(closes(HEAD), id="closed in the headers"),
    pytest.param(closes(b"HTTP/1."), id="closed in the status"),
    pytest.param(resets(HEAD + b"Content-Length: 40\r\n\r\n" + TAKEN[:9]), id="reset in the content"),
    pytest.param(closes(HEAD + b"Content-Length: 99\r\n\r\n" + TAKEN), id="too few bytes"),
    pytest.param(closes(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + TAKEN[:5]), id="closed in a chunk"),
    pytest.param(closes(HEAD + b"Transfer-Encoding: chunked\r\n\r\nlong\r\n" + TAKEN), id="chunk without a size"),
    pytest.param(closes(b"220 mail.example.test ESMTP\r\n"), id="another protocol"),
    pytest.param(closes(bytes(range(256)) * 4), id="garbage"),
    pytest.param(closes(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n"), id="endless header"),
    pytest.param(closes(HEAD + b"Content-Length: -1\r\n\r\n" + TAKEN), id="length below zero"),
    pytest.param(closes(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"), id="not gzip"),
    pytest.param(keeps_silent, id="never answered"),
    pytest.param(says(HEAD + b"Content-Length: 99\r\n\r\n" + TAKEN), id="never ended"),
]


class TestCutOff:
    @pytest.mark.parametrize("answer", CUT_OFF)
    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    async def test_nobody_knows_whether_it_arrived(
        self, answer: Answering, secure: bool, certified: ssl.SSLContext
    ) -> None:
        """Once a request may have gone out no error says that it did not, and it is not sent a second time."""
        async with Server(answer, certified if secure else None).serve() as server, connected() as connections:
            with pytest.raises(httpx.RequestError) as caught:
                await ask(connections, request(f"{server.url}/signals", read=0.3))
            assert not isinstance(caught.value, NOTHING_SENT)
            assert [(heard.line, heard.content) for heard in server.heard] == [("POST /signals HTTP/1.1", RECORD)]

    @pytest.mark.parametrize("answer", CUT_OFF)
    async def test_the_record_is_looked_for(self, answer: Answering) -> None:
        """A lost answer makes a record `unknown`, however it was lost."""
        async with (
            Server(answer).serve() as server,
            Zentrik(server.url, "k", timeout=timedelta(seconds=0.4)) as zentrik,
        ):
            verdict = await zentrik.post(RECORD)
            assert isinstance(verdict, Unknown)
            assert verdict.may_arrive
            assert verdict.cause
            assert len(server.heard) == 1

    async def test_a_read_timeout_is_told_as_one(self) -> None:
        """Who waits for an answer in vain is told just that."""
        async with Server(keeps_silent).serve() as server, connected() as connections:
            with pytest.raises(httpx.ReadTimeout):
                await ask(connections, request(server.url, read=0.2))

    async def test_nothing_is_sent_twice_over_a_connection_that_was_kept(self) -> None:
        """A server that closes an idle connection just as the next post comes does not get that post again."""
        answering = iter([answers(), resets(), answers()])

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await next(answering)(reader, writer)

        async with Server(answer).serve() as server, connected() as connections:
            await ask(connections, request(f"{server.url}/1"))
            with pytest.raises(httpx.ReadError):
                await ask(connections, request(f"{server.url}/2"))
            assert server.connections == 1
            assert (await ask(connections, request(f"{server.url}/3"))).status_code == 200
            assert server.lines == [f"POST /{number} HTTP/1.1" for number in (1, 2, 3)]

    async def test_a_read_may_be_asked_again(self) -> None:
        """The same costs a read nothing: it changes nothing at Zentrik, and is asked anew over a new connection."""
        answering = iter([answers(), closes(), answers()])

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await next(answering)(reader, writer)

        async with Server(answer).serve() as server, connected() as connections:
            for _ in range(2):
                assert (await ask(connections, request(server.url, "GET"))).status_code == 200
            assert (len(server.heard), server.connections) == (3, 2)


class TestAnswers:
    async def test_a_request_arrives_as_it_was_made(self) -> None:
        """Zentrik gets the headers and the bytes that syncd composed, and none that a library adds of its own."""
        async with Server(answers(status="201 Created")).serve() as server:
            async with Zentrik(server.url + "/api", "the-key", user_agent="syncd/1") as zentrik:
                assert await zentrik.post(RECORD) == Accepted("SIGNAL-7", "job-7")
            [heard] = server.heard
        assert (heard.line, heard.content) == ("POST /api/external/v1/signals HTTP/1.1", RECORD)
        assert heard.headers == {
            "host": f"localhost:{server.port}",
            "authorization": "Bearer the-key",
            "accept": "application/json",
            "accept-encoding": "gzip, deflate",
            "user-agent": "syncd/1",
            "content-type": "application/json",
            "content-length": str(len(RECORD)),
        }

    async def test_a_large_record_arrives_whole(self) -> None:
        """A transcript of some megabytes is sent like any other record, without a word of warning."""
        async with Server(answers()).serve() as server, connected() as connections:
            await ask(connections, request(server.url, content=b"long" * 1_000_000))
            [heard] = server.heard
        assert heard.headers["content-length"] == "4000000"
        assert heard.content == b"long" * 1_000_000

    @pytest.mark.parametrize(
        ("public_id", "path"),
        [("SIGNAL-1/..", "SIGNAL-1%2F.."), ("SIGNAL 1?x#y", "SIGNAL%201%3Fx%23y"), ("SIGNAL-ü%", "SIGNAL-%C3%BC%25")],
    )
    async def test_an_address_is_asked_for_exactly_as_it_is_quoted(self, public_id: str, path: str) -> None:
        """An id with a slash in it names that signal and no other place: nobody on the way rewrites the address."""
        async with Server(answers(status="404 Not Found")).serve() as server, Zentrik(server.url, "k") as zentrik:
            await zentrik.get(public_id)
            assert server.lines == [f"GET /external/v1/signals/{path} HTTP/1.1"]

    async def test_no_address_is_tidied(self) -> None:
        """What was quoted without need arrives quoted: a signed or odd address is nobody's to improve."""
        async with Server(answers()).serve() as server, connected() as connections:
            await ask(connections, request(f"{server.url}/%41/%7e?q=%2A%2f"))
            assert server.lines == ["POST /%41/%7e?q=%2A%2f HTTP/1.1"]

    async def test_questions_are_passed_on(self) -> None:
        """What is asked for in the address arrives in it."""
        async with Server(answers(b"[]")).serve() as server, Zentrik(server.url, "k") as zentrik:
            await zentrik.list(200, 50)
            assert server.lines == ["GET /external/v1/signals?limit=50&offset=200 HTTP/1.1"]

    @pytest.mark.parametrize(
        "answer",
        [
            says(
                HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + TAKEN[:5] + b"\r\n",
                b"%x\r\n" % (len(TAKEN) - 5) + TAKEN[5:] + b"\r\n0\r\n\r\n",
            ),
            answers(gzip.compress(TAKEN), "Content-Encoding: gzip"),
            closes(HEAD + b"\r\n" + TAKEN),
            says(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: %d\r\n\r\n" % len(TAKEN), TAKEN),
            answers(TAKEN, "X-Odd: \xff\xfe", "Set-Cookie: \x01=;;;=\xff; expires=never", "Location: http://[/"),
        ],
        ids=["chunked", "gzip", "until it is closed", "continued", "odd headers"],
    )
    async def test_an_answer_is_read_in_every_form_it_may_have(self, answer: Answering) -> None:
        """However a server or a proxy packs an answer, what it says is understood."""
        async with Server(answer).serve() as server, Zentrik(server.url, "k") as zentrik:
            assert await zentrik.post(RECORD) == Accepted("SIGNAL-7", "job-7")

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    async def test_an_answer_without_content_is_one(self, status: str) -> None:
        """Nobody waits for content that never comes, and the connection serves the next request."""
        async with Server(says(f"HTTP/1.1 {status}\r\n\r\n".encode())).serve() as server, connected() as connections:
            for _ in range(2):
                response = await ask(connections, request(server.url, "GET"))
                assert (response.status_code, response.content) == (int(status[:3]), b"")
            assert server.connections == 1

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_no_redirect_is_followed(self, status: int) -> None:
        """The key and the records go to the address the operator gave, and nowhere else."""
        answer = answers(b"", "Location: /elsewhere", status=f"{status} Moved")
        async with Server(answer).serve() as server, connected() as connections:
            response = await ask(connections, request(server.url))
            assert (response.status_code, response.headers["location"]) == (status, "/elsewhere")
            assert len(server.heard) == 1

    async def test_no_cookie_is_kept(self) -> None:
        """One call tells Zentrik nothing of the call before it."""
        async with Server(answers(TAKEN, "Set-Cookie: session=1; Path=/")).serve() as server:
            async with connected() as connections:
                for _ in range(2):
                    await ask(connections, request(server.url))
            assert [heard.headers.get("cookie") for heard in server.heard] == [None, None]


class TestConnections:
    @pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
    async def test_they_are_used_again_and_not_more_than_so_many(self, secure: bool, certified: ssl.SSLContext) -> None:
        """Zentrik sees as many connections as calls were allowed at once, and no new one for each call."""
        both = asyncio.Barrier(2)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await both.wait()
            await answers()(reader, writer)

        async with Server(answer, certified if secure else None).serve() as server, connected(2) as connections:
            responses = await asyncio.gather(*[ask(connections, request(server.url)) for _ in range(10)])
            assert [response.content for response in responses] == [TAKEN] * 10
            assert (server.connections, server.most_connected, len(server.heard)) == (2, 2, 10)

    async def test_who_gets_no_connection_in_time_has_sent_nothing(self) -> None:
        """A call that waits in vain for the others is known not to have gone out."""
        async with Server(keeps_silent).serve() as server, connected(1) as connections:
            first = asyncio.create_task(ask(connections, request(server.url)))
            await server.asked.wait()
            impatient = request(server.url)
            impatient.extensions["timeout"] |= {"connect": 0.1, "pool": 0.1}
            with pytest.raises(httpx.ConnectTimeout):
                await ask(connections, impatient)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert len(server.heard) == 1

    async def test_a_call_that_is_broken_off_closes_its_connection(self) -> None:
        """An answer that comes too late is never taken for that of the next call."""
        async with Server(keeps_silent).serve() as server, connected() as connections:
            call = asyncio.create_task(ask(connections, request(server.url)))
            await server.asked.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            async with asyncio.timeout(10):
                await server.left.wait()
            assert server.connected == 0

    async def test_an_answer_that_is_not_read_to_its_end_closes_its_connection(self) -> None:
        """What is left of an answer nobody wants is not fetched, and not taken for the next one."""
        answer = says(HEAD + b"Content-Length: 99\r\n\r\n" + TAKEN)
        async with Server(answer).serve() as server, connected() as connections:
            response = await connections.handle_async_request(request(server.url))
            await response.aclose()
            async with asyncio.timeout(10):
                await server.left.wait()
            assert server.connected == 0

    async def test_closing_closes_them_all(self) -> None:
        """After a round nothing of it stays open; closing what was never opened is no error."""
        async with Server(answers()).serve() as server:
            async with connected() as connections:
                await ask(connections, request(server.url))
            async with asyncio.timeout(10):
                await server.left.wait()
            assert server.connected == 0
        await Connections(1).aclose()


async def tunnels(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """What a proxy does after CONNECT: carry the bytes of either side to the other."""
    their_reader, their_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while some := await source.read(65536):
            sink.write(some)
            await sink.drain()
        sink.close()

    with closing(their_writer):
        await asyncio.gather(carry(reader, their_writer), carry(their_reader, writer))


class TestProxy:
    @pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    async def test_a_proxy_of_the_environment_is_asked(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """Behind a company's proxy Zentrik is reached through it."""
        async with Server(answers()).serve() as proxy:
            monkeypatch.setenv(name, proxy.url)
            async with Zentrik("http://zentrik.test/api", "k") as zentrik:
                assert await zentrik.post(RECORD) == Accepted("SIGNAL-7", "job-7")
            assert proxy.lines == ["POST http://zentrik.test/api/external/v1/signals HTTP/1.1"]

    async def test_a_proxy_may_be_named_without_a_scheme(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """«localhost:3128» names a proxy, as it does for every other program."""
        async with Server(answers()).serve() as proxy:
            monkeypatch.setenv("HTTP_PROXY", f"localhost:{proxy.port}")
            async with connected() as connections:
                await ask(connections, request("http://zentrik.test/"))
            assert proxy.lines == ["POST http://zentrik.test/ HTTP/1.1"]

    async def test_no_proxy_is_asked_for_a_host_that_needs_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """NO_PROXY is respected."""
        async with Server(answers()).serve() as server, refused_port() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy)
            monkeypatch.setenv("NO_PROXY", "example.test,localhost")
            async with connected() as connections:
                assert (await ask(connections, request(server.url))).status_code == 200

    async def test_https_goes_through_a_tunnel(
        self, monkeypatch: pytest.MonkeyPatch, certified: ssl.SSLContext
    ) -> None:
        """A proxy carries the encrypted bytes and reads nothing of them; its password goes to it alone."""
        async with Server(answers(), certified).serve() as server:

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await tunnels(reader, writer, server.port)

            async with Server(answer).serve() as proxy:
                monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@localhost:{proxy.port}")
                async with Zentrik(server.url, "the-key") as zentrik:
                    for _ in range(2):
                        assert await zentrik.post(RECORD) == Accepted("SIGNAL-7", "job-7")
            assert [heard.content for heard in server.heard] == [RECORD, RECORD]
            assert "proxy-authorization" not in server.heard[0].headers
            [asked] = proxy.heard
            assert asked.line == f"CONNECT localhost:{server.port} HTTP/1.1"
            assert asked.headers["proxy-authorization"] == "Basic dXNlcjpzZWNyZXQ="
            assert "the-key" not in str(asked)

    @pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
    async def test_a_proxy_that_lets_nobody_through_has_sent_nothing(
        self, monkeypatch: pytest.MonkeyPatch, status: str
    ) -> None:
        """A refused tunnel costs no record its certainty, and tells nobody the proxy's password."""
        async with Server(answers(b"<html>", status=status)).serve() as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@localhost:{proxy.port}")
            async with connected() as connections:
                with pytest.raises(httpx.ProxyError, match=f"^the proxy answers {status[:3]}$") as caught:
                    await ask(connections, request("https://zentrik.test/api"))
            assert "secret" not in str(caught.value)
            async with Zentrik("https://zentrik.test/api", "k") as zentrik:
                verdict = await zentrik.post(RECORD)
                assert isinstance(verdict, Later)
                assert verdict.parks
                assert verdict.reason == f"it cannot be reached (the proxy answers {status[:3]})"
                assert isinstance(await zentrik.list(), Troubled)
            assert {line.split()[0] for line in proxy.lines} == {"CONNECT"}

    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_a_proxy_that_is_not_there_has_sent_nothing(
        self, monkeypatch: pytest.MonkeyPatch, scheme: str
    ) -> None:
        """A proxy that is down is trouble of the way, and the records wait."""
        async with refused_port() as proxy:
            monkeypatch.setenv(f"{scheme}_proxy", proxy)
            async with connected() as connections:
                with pytest.raises(httpx.ProxyError):
                    await ask(connections, request(f"{scheme}://zentrik.test/api"))

    async def test_a_proxy_that_breaks_off_after_the_request_may_have_passed_it_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Through a plain proxy a record is sent as soon as there is a connection; then nobody knows."""
        async with Server(resets()).serve() as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            async with Zentrik("http://zentrik.test/api", "k") as zentrik:
                assert isinstance(await zentrik.post(RECORD), Unknown)

    async def test_a_forged_certificate_behind_a_proxy_gets_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A proxy that opens the encryption to read along sees no record and no key."""
        async with forged_certificate() as url:
            port = int(re.sub(r".*:", "", url))

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await tunnels(reader, writer, port)

            async with Server(answer).serve() as proxy:
                monkeypatch.setenv("HTTPS_PROXY", proxy.url)
                async with connected() as connections:
                    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                        await ask(connections, request(url))

    async def test_a_proxy_of_another_kind_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A SOCKS proxy cannot be used, and that is said; nothing goes past it."""
        async with Server(answers()).serve() as server:
            monkeypatch.setenv("ALL_PROXY", "socks5://localhost:1080")
            async with connected() as connections:
                with pytest.raises(httpx.ProxyError, match="socks5"):
                    await ask(connections, request(server.url))
            assert not server.heard
