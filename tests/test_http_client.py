"""What the lent client promises connectors, vendors and whoever owns the credentials."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import respx
import trustme

from syncd import __version__, logs
from syncd.connector import Checkpoint, Connector, Limit, Page, Window
from syncd.errors import CredentialsRefused, RateLimited, SourceError
from syncd.fates import Later
from syncd.http_client import Sorted, lend
from syncd.zentrik import Troubled, Zentrik

START = datetime(2025, 3, 11, 14, 30, tzinfo=UTC)
HOST = "api.vendor.example"
ADDRESS = f"https://{HOST}/tickets"
TOKENS = f"https://{HOST}/token"

Answer = httpx.Response | Exception


class Vendor(Connector):
    """A connector that declares hosts and credentials, and reads nothing."""

    provider = "vendor"
    declared: tuple[str, ...] = (HOST,)
    base_url: str | None = None
    credentials: Any = None

    def hosts(self) -> frozenset[str]:
        return frozenset(self.declared)

    def auth(self) -> httpx.Auth | None:
        return self.credentials  # type: ignore[no-any-return]

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        yield Page()

    async def check(self, http: httpx.AsyncClient) -> str:
        return "read nothing"


class Tokens(httpx.Auth):
    """An auth that asks for a token first, and for a new one when the old is refused."""

    def __init__(self) -> None:
        self._token: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        for _ in range(2):
            if self._token is None:
                answer = yield httpx.Request("POST", TOKENS)
                self._token = answer.headers["X-Token"]
            request.headers["Authorization"] = self._token
            answer = yield request
            if answer.status_code != 401:
                return
            self._token = None


class Clock:
    """A clock that only sleeping moves, and that remembers the sleeps."""

    def __init__(self) -> None:
        self.now = START
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


class Stream(httpx.AsyncByteStream):
    """A body that knows whether it was closed, and may break midway."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self._chunks = chunks
        self.sent = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            self.sent += 1
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


class Network:
    """Answers requests from a list, or by a function, and remembers them."""

    def __init__(self, *answers: Answer, by: Callable[[httpx.Request], Answer] | None = None) -> None:
        self._answers = list(answers)
        self._by = by
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._by(request) if self._by else self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def borrow(clock: Clock) -> Callable[..., httpx.AsyncClient]:
    """Lend a client whose network is imitated."""

    def borrowed(network: Network, connector: Connector | None = None, **terms: Any) -> httpx.AsyncClient:
        terms.setdefault("draw", lambda: 0.5)
        return lend(
            connector or Vendor(),
            clock=clock,
            sleep=clock.sleep,
            transport=httpx.MockTransport(network),
            **terms,
        )

    return borrowed


Borrow = Callable[..., httpx.AsyncClient]


async def test_a_good_answer_is_handed_over(borrow: Borrow, clock: Clock) -> None:
    """Nothing stands between a connector and its vendor when all is well."""
    async with borrow(Network(httpx.Response(200, json={"tickets": [1]}))) as http:
        answer = await http.get(ADDRESS)
    assert answer.json() == {"tickets": [1]}
    assert clock.slept == []


async def test_it_introduces_itself(borrow: Borrow) -> None:
    """A vendor that wonders who is asking finds the name and version, and can write to somebody."""
    network = Network(httpx.Response(200))
    async with borrow(network) as http:
        await http.get(ADDRESS)
    assert network.asked[0].headers["User-Agent"] == f"syncd/{__version__}"


async def test_no_request_waits_for_ever(borrow: Borrow) -> None:
    """A silent vendor, or token endpoint, cannot hang a run."""
    network = Network(httpx.Response(200, headers={"X-Token": "one"}), httpx.Response(200))
    async with borrow(network, Vendor(credentials=Tokens())) as http:
        await http.get(ADDRESS)
    expected = {"connect": 10, "read": 60, "write": 60, "pool": 60}
    assert [request.extensions["timeout"] for request in network.asked] == [expected, expected]


@pytest.mark.parametrize("status", [401, 403])
async def test_refused_credentials_are_told_apart(borrow: Borrow, status: int) -> None:
    """The operator reads who refused and in what words, and never sees the credentials on a screen."""
    network = Network(httpx.Response(status, text="Token  expired\n\x1b[2Jyesterday" + "!" * 5000))
    connector = Vendor(credentials=httpx.BasicAuth("user", "pass-phrase"))
    async with borrow(network, connector) as http:
        with pytest.raises(CredentialsRefused) as caught:
            await http.get(ADDRESS)
    said = str(caught.value)
    assert f"{HOST} answered {status} «Token expired [2Jyesterday!" in said
    assert len(said) < 400
    assert network.asked[0].headers["Authorization"] not in said


async def test_a_vendor_that_echoes_the_key_is_not_quoted_to_the_letter(
    borrow: Borrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that a vendor repeats in its refusal ends up neither in the ledger nor on a screen."""
    monkeypatch.setattr(logs, "_concealed", logs._Concealed())
    logs.conceal(["sk-12345678"])
    async with borrow(Network(httpx.Response(401, text="Incorrect key: sk-12345678"))) as http:
        with pytest.raises(CredentialsRefused, match=r"«Incorrect key: \*\*\*»"):
            await http.get(ADDRESS)


async def test_a_404_can_mean_empty(borrow: Borrow) -> None:
    """A connector whose vendor says 404 for «none yet» can catch it, and see the answer."""
    async with borrow(Network(httpx.Response(404, text="no such survey"))) as http:
        with pytest.raises(httpx.HTTPStatusError, match="404 «no such survey»") as caught:
            await http.get(ADDRESS)
    assert caught.value.response.text == "no such survey"


async def test_an_error_status_is_raised_when_streaming_too(borrow: Borrow) -> None:
    """A connector that streams does not read an error page as data."""
    async with borrow(Network(httpx.Response(410, text="gone"))) as http:
        with pytest.raises(httpx.HTTPStatusError, match="410 «gone»"):
            async with http.stream("GET", ADDRESS):
                pass


async def test_not_modified_is_no_error(borrow: Borrow) -> None:
    """A connector that asks conditionally gets its 304."""
    async with borrow(Network(httpx.Response(304))) as http:
        assert (await http.get(ADDRESS)).status_code == 304


async def test_an_auth_may_renew_its_token(borrow: Borrow) -> None:
    """A token that expires mid-run costs nothing but one more request."""
    tokens = iter(["old", "new"])

    def vendor(request: httpx.Request) -> httpx.Response:
        if str(request.url) == TOKENS:
            return httpx.Response(200, headers={"X-Token": next(tokens)})
        return httpx.Response(200 if request.headers["Authorization"] == "new" else 401)

    async with borrow(Network(by=vendor), Vendor(credentials=Tokens())) as http:
        assert (await http.get(ADDRESS)).status_code == 200


async def test_a_token_outlives_the_client_that_fetched_it(borrow: Borrow) -> None:
    """A connector that is read every ten minutes fetches a token when the old one is over, not every ten minutes."""
    connector = Vendor(credentials=Tokens())
    network = Network(httpx.Response(200, headers={"X-Token": "t-1"}), httpx.Response(200), httpx.Response(200))
    auth = Sorted(connector)
    for _ in range(2):
        async with borrow(network, connector, auth=auth) as http:
            await http.get(ADDRESS)
    assert [request.url.path for request in network.asked] == ["/token", "/tickets", "/tickets"]


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_token_request_is_refused_credentials(borrow: Borrow, status: int) -> None:
    """A wrong client secret is reported as such, and not as a crash of the connector."""
    network = Network(httpx.Response(status, json={"error": "invalid_client"}))
    async with borrow(network, Vendor(credentials=Tokens())) as http:
        with pytest.raises(CredentialsRefused, match="invalid_client"):
            await http.get(ADDRESS)


async def test_a_broken_token_endpoint_is_an_error_of_the_source(borrow: Borrow) -> None:
    """An outage of the token endpoint is not taken for wrong credentials."""
    async with borrow(Network(httpx.Response(503)), Vendor(credentials=Tokens())) as http:
        with pytest.raises(httpx.HTTPStatusError, match="503"):
            await http.get(ADDRESS)


@pytest.mark.parametrize("trouble", [httpx.Response(429), httpx.Response(500), httpx.Response(503)])
async def test_passing_trouble_is_waited_out(borrow: Borrow, clock: Clock, trouble: httpx.Response) -> None:
    """A vendor's bad minute does not end a run."""
    async with borrow(Network(trouble, httpx.Response(200))) as http:
        assert (await http.get(ADDRESS)).status_code == 200
    assert clock.slept == [0.5]


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")]
)
async def test_a_broken_connection_is_tried_again(borrow: Borrow, error: Exception) -> None:
    """A hiccup of the network does not end a run."""
    async with borrow(Network(error, httpx.Response(200))) as http:
        assert (await http.get(ADDRESS)).status_code == 200


async def test_a_body_that_breaks_midway_is_asked_again(borrow: Borrow) -> None:
    """Half an answer is never read as a whole one, nor does it end a run."""
    half = Stream(b'{"tickets": [', httpx.ReadError("reset"))
    network = Network(httpx.Response(200, stream=half), httpx.Response(200, json={"tickets": []}))
    async with borrow(network) as http:
        assert (await http.get(ADDRESS)).json() == {"tickets": []}
    assert half.closed


async def test_waits_grow_with_every_failure(borrow: Borrow, clock: Clock) -> None:
    """A vendor in trouble is asked less and less often."""
    async with borrow(Network(*[httpx.Response(500)] * 5, httpx.Response(200))) as http:
        await http.get(ADDRESS)
    assert clock.slept == [0.5, 1, 2, 4, 8]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["120", format_datetime(START + timedelta(seconds=120), usegmt=True)])
async def test_retry_after_is_honoured_in_full(borrow: Borrow, clock: Clock, status: int, form: str) -> None:
    """A vendor that asks for two minutes gets two minutes, so it does not ban the account."""
    busy = httpx.Response(status, headers={"Retry-After": form})
    async with borrow(Network(busy, httpx.Response(200))) as http:
        await http.get(ADDRESS)
    assert clock.slept == [120]


async def test_retry_after_zero_does_not_hammer(borrow: Borrow, clock: Clock) -> None:
    """A vendor that says «now» again and again is still given room."""
    busy = httpx.Response(429, headers={"Retry-After": "0"})
    async with borrow(Network(busy, busy, httpx.Response(200))) as http:
        await http.get(ADDRESS)
    assert clock.slept == [0.5, 1]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_beyond_patience_is_told_with_its_end(borrow: Borrow, clock: Clock, status: int) -> None:
    """A daily quota frees the worker at once, and says from when it is worth asking again."""
    async with borrow(Network(httpx.Response(status, headers={"Retry-After": "7200"}))) as http:
        with pytest.raises(RateLimited, match="until 2025-03-11T16:30:00") as caught:
            await http.get(ADDRESS)
    assert caught.value.code == "rate_limited"
    assert caught.value.until == START + timedelta(hours=2)
    assert clock.slept == []


async def test_patience_has_an_end(borrow: Borrow, clock: Clock) -> None:
    """A vendor that is down for good stops this source within 15 minutes, with its own last words."""
    async with borrow(Network(by=lambda _: httpx.Response(503, text="Maintenance"))) as http:
        with pytest.raises(SourceError, match="503 «Maintenance»") as caught:
            await http.get(ADDRESS)
    assert caught.value.code == "unavailable"
    assert timedelta(minutes=5) < clock.now - START <= timedelta(minutes=15)


async def test_an_unreachable_host_is_named(borrow: Borrow, clock: Clock) -> None:
    """A misspelt subdomain can be told from the message."""
    async with borrow(Network(by=lambda _: httpx.ConnectError("Name not known"))) as http:
        with pytest.raises(SourceError, match=f"{HOST} cannot be reached: Name not known") as caught:
            await http.get(ADDRESS)
    assert caught.value.code == "unreachable"
    assert clock.now - START <= timedelta(minutes=15)


async def test_tries_are_bounded_where_waits_are_not(borrow: Borrow) -> None:
    """Unlucky draws cannot make the client hammer a vendor without end."""
    network = Network(by=lambda _: httpx.Response(500))
    async with borrow(network, draw=lambda: 0.0) as http:
        with pytest.raises(SourceError):
            await http.get(ADDRESS)
    assert len(network.asked) == 50


async def test_without_patience_it_asks_once(borrow: Borrow, clock: Clock) -> None:
    """`syncd check` answers at once."""
    network = Network(httpx.Response(503))
    async with borrow(network, patience=timedelta(0)) as http:
        with pytest.raises(SourceError):
            await http.get(ADDRESS)
    assert clock.slept == []


async def test_an_unmarked_post_is_never_sent_twice(borrow: Borrow) -> None:
    """What changes something at a vendor is not done twice."""
    network = Network(httpx.Response(500), httpx.Response(200))
    async with borrow(network) as http:
        with pytest.raises(httpx.HTTPStatusError, match="500"):
            await http.post(ADDRESS, json={"start": "export"})
    assert len(network.asked) == 1


async def test_a_marked_post_is_sent_again_whole(clock: Clock) -> None:
    """A query sent by POST (GraphQL, a search) is as patient as a GET, and its body is complete each time."""
    sent: list[bytes] = []

    class Wire(httpx.AsyncBaseTransport):
        """Uses a body up as it goes out, as a socket does."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            sent.append(b"".join([chunk async for chunk in request.stream]))
            return httpx.Response(500 if len(sent) == 1 else 200)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"query "
        yield b"{ transcripts }"

    async with lend(Vendor(), clock=clock, sleep=clock.sleep, draw=lambda: 0.5, transport=Wire()) as http:
        await http.post(ADDRESS, content=pieces(), extensions={"idempotent": True})
    assert sent == [b"query { transcripts }"] * 2


async def test_a_request_that_cannot_be_made_is_not_repeated(borrow: Borrow) -> None:
    """A mistake of our own shows at once."""
    network = Network(httpx.LocalProtocolError("illegal header"))
    async with borrow(network) as http:
        with pytest.raises(httpx.LocalProtocolError):
            await http.get(ADDRESS)


async def test_discarded_answers_are_closed(borrow: Borrow) -> None:
    """Waiting out a bad hour does not use up the connections."""
    bodies = [Stream(b"sorry") for _ in range(3)]
    network = Network(*[httpx.Response(503, stream=body) for body in bodies], httpx.Response(200))
    async with borrow(network) as http:
        await http.get(ADDRESS)
    assert all(body.closed for body in bodies)


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/tickets",
        f"https://{HOST}.evil.example/",
        f"https://{HOST}@evil.example/",
        f"https://evil.example/?{HOST}",
        f"ftp://{HOST}/",
        f"http://{HOST}/tickets",
        "/tickets",
    ],
)
async def test_other_addresses_are_not_asked(borrow: Borrow, address: str) -> None:
    """A vendor's answer cannot lead the credentials elsewhere, nor into the clear."""
    network = Network(httpx.Response(200))
    async with borrow(network, Vendor(credentials=httpx.BasicAuth("user", "pass"))) as http:
        with pytest.raises(SourceError) as caught:
            await http.get(address)
    assert caught.value.code == "host_refused"
    assert network.asked == []


async def test_the_refused_host_is_named(borrow: Borrow) -> None:
    """When a vendor moves, the operator reads where to."""
    async with borrow(Network()) as http:
        with pytest.raises(SourceError, match=rf"new\.vendor\.example is not asked.* are {HOST}"):
            await http.get("https://new.vendor.example/")


@pytest.mark.parametrize(
    ("declared", "address", "allowed"),
    [
        ("api.vendor.example", "https://api.vendor.example:8443/", True),
        ("API.vendor.example", "https://api.VENDOR.example/", True),
        ("api.vendor.example:443", "https://api.vendor.example/", True),
        ("api.vendor.example:8443", "https://api.vendor.example:8443/", True),
        ("api.vendor.example:8443", "https://api.vendor.example/", False),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/", True),
        ("localhost", "http://localhost:8080/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("::1", "http://[::1]:8080/", True),
        ("10.0.0.7", "http://10.0.0.7/", False),
    ],
)
async def test_a_host_is_declared_with_or_without_its_port(
    borrow: Borrow, declared: str, address: str, allowed: bool
) -> None:
    """What a connector declares is what may be asked; plain http only on this machine."""
    async with borrow(Network(httpx.Response(200)), Vendor(declared=(declared,))) as http:
        if allowed:
            await http.get(address)
        else:
            with pytest.raises(SourceError):
                await http.get(address)


async def test_plain_http_needs_the_operators_word(borrow: Borrow) -> None:
    """A self-hosted vendor without TLS can be read, because somebody wrote `allow_http` and meant it."""
    connector = Vendor(declared=("desk.lan:8080",), base_url="http://desk.lan:8080/api")
    network = Network(httpx.Response(200))
    async with borrow(network, connector) as http:
        with pytest.raises(SourceError, match="allow_http: true") as caught:
            await http.get("http://desk.lan:8080/api/tickets")
    assert (caught.value.code, network.asked) == ("host_refused", [])
    async with borrow(network, connector, allow_http=True) as http:
        assert (await http.get("http://desk.lan:8080/api/tickets")).status_code == 200


async def test_only_http_and_https_are_spoken(borrow: Borrow) -> None:
    """The operator's word for plain http opens no other door."""
    async with borrow(Network(httpx.Response(200)), Vendor(declared=("desk.lan",)), allow_http=True) as http:
        with pytest.raises(SourceError, match="not asked over ftp"):
            await http.get("ftp://desk.lan/tickets")


async def test_redirects_among_declared_hosts_are_followed(borrow: Borrow) -> None:
    """A vendor that sends us to its download host is followed there."""
    network = Network(
        httpx.Response(302, headers={"Location": "https://files.vendor.example/1"}), httpx.Response(200, text="it")
    )
    async with borrow(network, Vendor(declared=(HOST, "files.vendor.example"))) as http:
        assert (await http.get(ADDRESS)).text == "it"


async def test_redirects_elsewhere_are_not(borrow: Borrow) -> None:
    """An open redirect at a vendor does not hand our credentials to its finder."""
    network = Network(httpx.Response(302, headers={"Location": "https://evil.example/"}))
    async with borrow(network) as http:
        with pytest.raises(SourceError, match=r"evil\.example is not asked"):
            await http.get(ADDRESS)
    assert len(network.asked) == 1


class Everywhere(httpx.Auth):
    """An auth that identifies us in a header of its own, a parameter, a cookie and Authorization."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["X-Api-Key"] = "key-in-header"
        request.headers["Authorization"] = "Bearer key-in-authorization"
        request.headers["Cookie"] = "session=key-in-cookie"
        request.url = request.url.copy_merge_params({"api_key": "key-in-query"})
        yield request


OTHERS = ("files.vendor.example", f"{HOST}:8443", "localhost:9000")


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_takes_no_credentials_along(borrow: Borrow, other: str, status: int) -> None:
    """A download host sees what the vendor told it about us, and nothing that could be used in our name."""
    location = f"https://{other}/1?signature=theirs&api_key=key-in-query"
    network = Network(httpx.Response(status, headers={"Location": location}), httpx.Response(200, text="it"))
    connector = Vendor(declared=(HOST, *OTHERS), credentials=Everywhere())
    async with borrow(network, connector) as http:
        http.headers["X-Session"] = "key-of-the-client"
        await http.get(ADDRESS, headers={"X-Token": "key-of-the-request", "Range": "bytes=0-9"})
    first, second = network.asked
    assert {"key-in-header", "key-of-the-client", "key-of-the-request"} <= set(first.headers.values())
    assert str(second.url) == f"https://{other}/1?signature=theirs"
    assert not [value for value in second.headers.values() if "key-" in value]
    assert second.headers["Range"] == "bytes=0-9"
    assert second.headers["User-Agent"] == f"syncd/{__version__}"


async def test_a_redirect_at_the_same_origin_stays_authenticated(borrow: Borrow) -> None:
    """A vendor that moved a path is still read."""
    network = Network(httpx.Response(308, headers={"Location": "/2?api_key=key-in-query"}), httpx.Response(200))
    async with borrow(network, Vendor(credentials=Everywhere())) as http:
        await http.get(ADDRESS)
    assert network.asked[1].headers["X-Api-Key"] == "key-in-header"
    assert network.asked[1].headers["Authorization"] == "Bearer key-in-authorization"
    assert network.asked[1].url.query == b"api_key=key-in-query"


async def test_credentials_do_not_come_back_by_a_detour(borrow: Borrow) -> None:
    """A redirect there and back is still somebody else's redirect."""
    network = Network(
        httpx.Response(302, headers={"Location": "https://files.vendor.example/1"}),
        httpx.Response(302, headers={"Location": f"https://{HOST}/anything"}),
        httpx.Response(200),
    )
    async with borrow(network, Vendor(declared=(HOST, *OTHERS), credentials=Everywhere())) as http:
        await http.get(ADDRESS)
    assert not [value for value in network.asked[2].headers.values() if "key-" in value]


@pytest.mark.parametrize("status", [307, 308])
async def test_a_body_is_not_sent_on_to_another_origin(borrow: Borrow, status: int) -> None:
    """A token request, with the client's secret in its body, ends where it was meant to go."""
    network = Network(httpx.Response(status, headers={"Location": "https://files.vendor.example/1"}))
    async with borrow(network, Vendor(declared=(HOST, *OTHERS))) as http:
        with pytest.raises(SourceError, match="is not sent what was meant for") as caught:
            await http.post(TOKENS, data={"client_secret": "key-in-body"})
    assert caught.value.code == "host_refused"
    assert len(network.asked) == 1


async def test_a_token_that_was_fetched_is_kept_out_of_every_message(
    borrow: Borrow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor that repeats the token of the hour does not get it onto a screen."""
    monkeypatch.setattr(logs, "_concealed", logs._Concealed())
    network = Network(
        httpx.Response(200, headers={"X-Token": "Bearer ya29.fetched-just-now"}),
        httpx.Response(403, text="no scope: ya29.fetched-just-now"),
    )
    async with borrow(network, Vendor(credentials=Tokens())) as http:
        with pytest.raises(CredentialsRefused, match=r"no scope: \*\*\*»"):
            await http.get(ADDRESS)


@pytest.fixture
def impostor() -> Iterator[str]:
    """A server on this machine whose certificate nobody vouches for, as its address."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(str(self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - as above

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """The handshakes that are broken off are the point."""

    with Quiet(("127.0.0.1", 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        serving.join()
    assert asked == []


async def test_a_vendor_with_a_forged_certificate_is_not_spoken_to(clock: Clock, impostor: str) -> None:
    """Whoever stands between us and a vendor sees neither the credentials nor a request."""
    connector = Vendor(declared=("localhost",), credentials=httpx.BasicAuth("user", "pass"))
    async with lend(connector, clock=clock, sleep=clock.sleep, draw=lambda: 0.5, patience=timedelta(0)) as http:
        with pytest.raises(SourceError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await http.get(f"{impostor}/tickets")
    assert caught.value.code == "unreachable"


async def test_a_zentrik_with_a_forged_certificate_is_not_spoken_to(impostor: str) -> None:
    """Whoever stands between us and Zentrik sees neither the key nor a record, and none is counted as sent."""
    async with Zentrik(f"{impostor}/api", "sandbox-key") as zentrik:
        answer = await zentrik.post(b"{}")
        assert isinstance(answer, Later)
        assert "CERTIFICATE_VERIFY_FAILED" in answer.reason
        assert isinstance(await zentrik.list(), Troubled)


async def test_redirects_never_leave_https(borrow: Borrow) -> None:
    """Not even where plain http would have been allowed to begin with."""
    network = Network(httpx.Response(302, headers={"Location": "http://localhost/2"}))
    async with borrow(network, Vendor(declared=("localhost",))) as http:
        with pytest.raises(SourceError, match="not asked over http,"):
            await http.get("https://localhost/1")
    assert len(network.asked) == 1


@pytest.mark.parametrize(("redirects", "arrives"), [(5, True), (6, False)])
async def test_redirects_end(borrow: Borrow, redirects: int, arrives: bool) -> None:
    """A vendor that sends us in circles does not keep us."""
    onward = [httpx.Response(302, headers={"Location": f"/{n}"}) for n in range(redirects)]
    async with borrow(Network(*onward, httpx.Response(200))) as http:
        if arrives:
            assert (await http.get(ADDRESS)).status_code == 200
        else:
            with pytest.raises(httpx.TooManyRedirects):
                await http.get(ADDRESS)


async def test_a_compressed_answer_is_opened(borrow: Borrow) -> None:
    """Compression is the transport's business: connectors see the content, and headers that fit it."""
    squeezed = gzip.compress(b'{"a": 1}')
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(squeezed)), "X-Next": "2"}
    async with borrow(Network(httpx.Response(200, headers=headers, stream=Stream(squeezed)))) as http:
        answer = await http.get(ADDRESS)
    assert answer.json() == {"a": 1}
    assert answer.headers["X-Next"] == "2"
    assert "Content-Encoding" not in answer.headers


async def test_too_large_an_answer_is_left_unread(borrow: Borrow) -> None:
    """An endless answer cannot fill the memory."""
    endless = Stream(*[b"x" * 100] * 100)
    async with borrow(Network(httpx.Response(200, stream=endless)), largest=1000) as http:
        with pytest.raises(SourceError, match=f"{HOST} sent more than 1000 bytes") as caught:
            await http.get(ADDRESS)
    assert caught.value.code == "too_large"
    assert endless.sent == 11
    assert endless.closed


async def test_an_answer_is_measured_once_opened(borrow: Borrow) -> None:
    """A small compressed answer that unfolds without end is stopped as well."""
    bomb = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=Stream(gzip.compress(b"0" * 100_000)))
    async with borrow(Network(bomb), largest=1000) as http:
        with pytest.raises(SourceError, match="more than 1000 bytes"):
            await http.get(ADDRESS)


async def test_a_doubly_compressed_answer_is_not_opened(borrow: Borrow) -> None:
    """A bomb inside a bomb would unfold before it could be measured."""
    nested = Stream(gzip.compress(gzip.compress(b"0" * 100_000)))
    answer = httpx.Response(200, headers={"Content-Encoding": "gzip, gzip"}, stream=nested)
    async with borrow(Network(answer)) as http:
        with pytest.raises(SourceError, match="compressed its answer more than once"):
            await http.get(ADDRESS)
    assert nested.sent == 0


class Particular(Vendor):
    """A vendor with ways of its own: limits, errors under a 200, its own words for «wait», and advice on a refusal."""

    allowed: tuple[Limit, ...] = ()

    def limits(self) -> tuple[Limit, ...]:
        return self.allowed

    def status_of(self, answer: httpx.Response) -> int:
        return int(answer.headers.get("X-True-Status", answer.status_code))

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:
        seconds = answer.headers.get("X-Wait")
        return timedelta(seconds=float(seconds)) if seconds else None

    def advice(self, answer: httpx.Response) -> str | None:
        return "The token needs the scope tickets:read" if answer.status_code == 403 else None


async def test_a_documented_limit_is_kept_before_it_is_enforced(borrow: Borrow, clock: Clock) -> None:
    """A vendor that allows three calls a minute never sees a fourth, nor do calls it does not count wait."""
    minute = timedelta(minutes=1)
    network = Network(by=lambda _: httpx.Response(200))
    at: list[datetime] = []
    async with borrow(network, Particular(allowed=(Limit(3, minute, "/tickets"),))) as http:
        for number in range(7):
            await http.get(f"{ADDRESS}?page={number}")
            at.append(clock.now)
        assert all(later - earlier >= minute for earlier, later in zip(at, at[3:], strict=False))
        slept = len(clock.slept)
        await http.get(f"https://{HOST}/users")
        assert len(clock.slept) == slept == 2


async def test_requests_side_by_side_share_a_limit(borrow: Borrow, clock: Clock) -> None:
    """Concurrent calls do not slip through together."""
    at: list[datetime] = []

    def answer(request: httpx.Request) -> httpx.Response:
        at.append(clock.now)
        return httpx.Response(200)

    span = timedelta(seconds=10)
    async with borrow(Network(by=answer), Particular(allowed=(Limit(2, span),))) as http:
        await asyncio.gather(*(http.get(ADDRESS) for _ in range(6)))
    assert all(later - earlier >= span for earlier, later in zip(at, at[2:], strict=False))
    assert at[-1] - at[0] == 2 * span


async def test_an_error_under_a_200_is_an_error(borrow: Borrow) -> None:
    """A vendor that says 200 to everything gets no refusal taken for data."""
    network = Network(httpx.Response(200, headers={"X-True-Status": "401"}))
    async with borrow(network, Particular()) as http:
        with pytest.raises(CredentialsRefused):
            await http.get(ADDRESS)


async def test_a_vendors_own_words_for_waiting_are_heeded(borrow: Borrow, clock: Clock) -> None:
    """A wait that stands in a header or body of the vendor's own is as good as a Retry-After."""
    refused = httpx.Response(200, headers={"X-True-Status": "429", "X-Wait": "40"})
    network = Network(refused, httpx.Response(200))
    async with borrow(network, Particular()) as http:
        await http.get(ADDRESS)
    assert clock.slept == [40]


async def test_a_good_answer_may_ask_for_a_rest(borrow: Borrow, clock: Clock) -> None:
    """When the vendor says that no call is left, the next one comes when there is one again, and no sooner."""
    network = Network(httpx.Response(200, headers={"X-Wait": "25"}), httpx.Response(200), httpx.Response(200))
    async with borrow(network, Particular()) as http:
        for _ in range(3):
            await http.get(ADDRESS)
    assert clock.slept == [25]


async def test_a_rest_of_hours_ends_the_reading_with_its_end(borrow: Borrow, clock: Clock) -> None:
    """Nothing waits all day for a quota: it is told when to come again."""
    network = Network(httpx.Response(200, headers={"X-Wait": "7200"}))
    async with borrow(network, Particular()) as http:
        await http.get(ADDRESS)
        with pytest.raises(RateLimited) as limited:
            await http.get(ADDRESS)
    assert limited.value.until == START + timedelta(hours=2)
    assert clock.slept == []


async def test_a_refusal_is_explained_in_the_vendors_terms(borrow: Borrow) -> None:
    """Whoever reads that a key was refused learns what to change."""
    network = Network(httpx.Response(403))
    async with borrow(network, Particular()) as http:
        with pytest.raises(CredentialsRefused, match="The token needs the scope tickets:read") as refused:
            await http.get(ADDRESS)
    assert refused.value.status == 403


async def test_certificates_are_verified(clock: Clock) -> None:
    """Nobody between us and a vendor reads along."""
    async with lend(Vendor(), clock=clock, sleep=clock.sleep, draw=lambda: 0.5) as http:
        pool = http._transport.inner._transport._pool  # type: ignore[attr-defined]
    assert pool._ssl_context.verify_mode.name == "CERT_REQUIRED"
    assert pool._ssl_context.check_hostname


@respx.mock
async def test_it_speaks_over_the_real_transport(clock: Clock) -> None:
    """The client works as it is lent, with nothing of its own imitated."""
    route = respx.get(ADDRESS).mock(side_effect=[httpx.Response(502), httpx.Response(200, json=[1])])
    async with lend(Vendor(), clock=clock, sleep=clock.sleep, draw=lambda: 0.25) as http:
        assert (await http.get(ADDRESS)).json() == [1]
    assert route.call_count == 2
    assert clock.slept == [0.25]
