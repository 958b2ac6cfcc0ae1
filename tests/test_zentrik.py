"""The Signals API spoken to: what each answer means, and that no answer can break us."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import KeyRefused, NotReady
from syncd.fates import Accepted, Blocked, Failed, Gone, Later, Outcome, Processed, Refused, Unknown, Unsettled, Verdict
from syncd.retry import Backoff
from syncd.sandbox import Faults, Sandbox
from syncd.zentrik import LONGEST_ANSWER, PAGE_SIZE, Listing, Remote, Troubled, Zentrik, verdict
from tests.conftest import Clock

BASE = "https://zentrik.test/api"
SIGNALS = f"{BASE}/external/v1/signals"
KEY = "sk-workspace-1"
NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
PAGE = b"<!doctype html><html><body>static/index.html</body></html>"
CREATED = b'{"publicId": "SIGNAL-43", "jobId": "job-1", "status": "processing"}'
READY = {"status": "ok", "checks": {"database": "ok", "workspaceQueue": "ok"}}

KEYS = (
    *("publicId", "jobId", "externalId", "status", "insightIds", "processing", "lastJobId", "startedAt", "processedAt"),
    *("failedAt", "lastError", "message", "error", "detail", "errors", "checks"),
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(["processed", "failed", "processing", "SIGNAL-1", "0001-01-01T00:00:00+14:00", "2026-11-02"])
)
ANSWERS = st.binary() | st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner),
    max_leaves=12,
).map(lambda value: json.dumps(value).encode())
"""What a hostile server may answer: any bytes, and JSON that looks like the API's."""


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


IN_90_SECONDS = format_datetime(NOW + seconds(90), usegmt=True)


ADVICE = "check api_base (it ends in /api)"


def at(hour: int, second: int = 0) -> datetime:
    return datetime(2026, 11, 2, hour, 0, second, tzinfo=UTC)


class Endless(httpx.AsyncByteStream):
    """A body that goes on and on."""

    def __init__(self, some: bytes, pause: float = 0) -> None:
        self.some = some
        self.pause = pause
        self.given = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield self.some
            self.given += len(self.some)
            await asyncio.sleep(self.pause)


class Sleeper:
    """Sleeps by moving the clock, and remembers for how long."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.slept: list[float] = []

    async def __call__(self, wait: float) -> None:
        self.slept.append(wait)
        self.clock.move(wait)


@pytest.fixture
def sleep(clock: Clock) -> Sleeper:
    return Sleeper(clock)


@pytest.fixture
async def zentrik(clock: Clock) -> AsyncIterator[Zentrik]:
    wire = httpx.AsyncHTTPTransport()  # where respx listens in
    async with Zentrik(BASE, KEY, user_agent="syncd/test", transport=wire, clock=clock) as opened:
        yield opened


@pytest.fixture
def api(respx_mock: respx.MockRouter) -> respx.MockRouter:
    """The API's address; a call to any other is an error."""
    return respx_mock


def shown(**changes: object) -> dict[str, object]:
    """A signal as the API shows it."""
    return {
        "publicId": "SIGNAL-43",
        "externalId": "g2:1",
        "status": "processed",
        "insightIds": ["i-1", "i-2"],
        "processing": {
            "lastJobId": "job-7",
            "startedAt": "2026-11-02T08:00:00Z",
            "processedAt": "2026-11-02T08:00:09Z",
            "failedAt": None,
            "lastError": None,
        },
        **changes,
    }


NOTHING_TAKEN = "Zentrik takes no record at all ({}); check the account, api_base and any proxy"


class TestVerdict:
    @pytest.mark.parametrize(
        ("status", "headers", "content", "expected"),
        [
            (200, {}, CREATED, Accepted("SIGNAL-43", "job-1")),
            (201, {}, CREATED, Accepted("SIGNAL-43", "job-1")),
            (202, {}, b'{"publicId": "SIGNAL-43"}', Accepted("SIGNAL-43")),
            (207, {}, b'{"publicId": "SIGNAL-43", "jobId": 7}', Accepted("SIGNAL-43")),
            (201, {}, b"", Unknown("201 without a publicId")),
            (201, {}, CREATED[: len(CREATED) // 2], Unknown("201 without a publicId")),
            (201, {}, b"[]", Unknown("201 without a publicId")),
            (201, {}, b'{"publicId": ""}', Unknown("201 without a publicId")),
            (201, {}, b'{"publicId": 43}', Unknown("201 without a publicId")),
            (201, {}, b'{"publicId": "SIGNAL\\u0000"}', Unknown("201 without a publicId")),
            (201, {}, b'{"publicId": "\\ud800"}', Unknown("201 without a publicId")),
            (200, {"Content-Type": "text/html"}, PAGE, Unknown("200 without a publicId")),
            (204, {}, b"", Unknown("204 without a publicId")),
            (299, {}, b"", Unknown("299 without a publicId")),
            (400, {}, b'{"error": "bad_request", "message": "no text"}', Refused("400: no text")),
            (413, {}, PAGE, Refused("HTTP 413")),
            (422, {}, b'{"errors": [{"path": "text"}]}', Refused('422: [{"path": "text"}]')),
            (422, {}, b'{"message": null, "error": "unknown product"}', Refused("422: unknown product")),
            (422, {}, b"\xff\xfe", Refused("422: \ufffd\ufffd")),
            (422, {}, b'{"message": "\\ud800 is no character"}', Refused("422: is no character")),
            (499, {}, b"", Refused("HTTP 499")),
            (408, {}, b"", Later("HTTP 408")),
            (408, {"Retry-After": "7"}, b"", Later("HTTP 408", seconds(7))),
            (425, {}, b'{"message": "too early"}', Later("425: too early")),
            (429, {}, b"", Later("HTTP 429", parks=True, too_fast=True)),
            (429, {"Retry-After": "3600"}, b"", Later("HTTP 429", seconds(3600), parks=True, too_fast=True)),
            (429, {"Retry-After": "soon"}, b"", Later("HTTP 429", parks=True, too_fast=True)),
            (429, {"Retry-After": IN_90_SECONDS}, b"", Later("HTTP 429", seconds(90), parks=True, too_fast=True)),
            *(
                (status, {}, b'{"detail": "no plan"}', Blocked(NOTHING_TAKEN.format(f"{status}: no plan")))
                for status in (402, 405, 407, 410, 415, 426)
            ),
            (409, {}, b'{"message": "duplicate externalId"}', Unknown("409: duplicate externalId")),
            (500, {}, b"", Unknown("HTTP 500")),
            (502, {}, PAGE, Unknown("HTTP 502", may_arrive=True)),
            (504, {"Retry-After": "5"}, b"", Unknown("HTTP 504", seconds(5), may_arrive=True)),
            (524, {}, PAGE, Unknown("HTTP 524", may_arrive=True)),
            (503, {}, b"", Unknown("HTTP 503", parks=True)),
            (503, {"Retry-After": "60"}, b"", Unknown("HTTP 503", seconds(60), parks=True)),
            (599, {}, b"", Unknown("HTTP 599")),
            (101, {}, b"", Unknown("HTTP 101")),
            (999, {}, b"", Unknown("HTTP 999")),
        ],
    )
    def test_each_answer_says_what_is_certain(
        self, status: int, headers: Mapping[str, str], content: bytes, expected: Verdict
    ) -> None:
        """A record is given up, kept for later or looked for according to what Zentrik's answer makes certain."""
        assert verdict(status, headers, content, NOW) == expected

    @pytest.mark.parametrize(
        ("status", "content", "advice"),
        [
            (401, b'{"message": "no such key"}', "refused the key (401: no such key)"),
            (403, b'{"message": "the key lacks signals:write"}', "the key lacks signals:write"),
            (404, PAGE, "check api_base (it ends in /api)"),
            (404, b'{"message": "Cannot POST /external/v1/signals"}', "check api_base (it ends in /api)"),
            (301, b"", "redirects elsewhere (301); set api_base to where it leads"),
            (302, b"", "redirects elsewhere (302)"),
            (307, b"", "redirects elsewhere (307)"),
            (308, b"", "redirects elsewhere (308)"),
        ],
    )
    def test_a_wrong_key_or_address_blames_no_record(self, status: int, content: bytes, advice: str) -> None:
        """A mistake in the configuration costs no record its place, and the message says what to mend."""
        answer = verdict(status, {}, content, NOW)
        assert isinstance(answer, Blocked)
        assert advice in answer.reason

    def test_the_servers_words_fit_on_a_line(self) -> None:
        """A page of error text does not flood the log or the table of rejected records."""
        answer = verdict(400, {}, json.dumps({"message": "line\n" * 500}).encode(), NOW)
        assert isinstance(answer, Refused)
        assert "\n" not in answer.reason
        assert len(answer.reason) <= 310

    @given(
        st.integers(100, 999),
        st.dictionaries(st.sampled_from(["Retry-After", "Content-Type"]), st.text()),
        ANSWERS,
    )
    def test_no_answer_can_crash_us(self, status: int, headers: dict[str, str], content: bytes) -> None:
        """Whatever a broken server or a proxy answers, the run goes on, and what is kept of it can be stored."""
        answer = verdict(status, headers, content, NOW)
        words = {Accepted: "public_id", Unknown: "cause"}.get(type(answer), "reason")
        assert getattr(answer, words).isprintable()
        assert isinstance(answer, Accepted) <= (200 <= status < 300)

    @pytest.mark.parametrize("content", [b"[" * 100_000, b'{"message":' + b"[" * 900 + b"]" * 900 + b"}", b"9" * 5000])
    def test_json_made_to_break_a_reader_breaks_nothing(self, content: bytes) -> None:
        """Endless nesting and endless numbers are answers like any other."""
        assert isinstance(verdict(422, {}, content, NOW), Refused)
        assert isinstance(verdict(201, {}, content, NOW), Unknown)


class TestPost:
    async def test_the_bytes_of_the_ledger_are_posted_as_they_are(
        self, zentrik: Zentrik, api: respx.MockRouter
    ) -> None:
        """What Zentrik gets is what the fingerprint was taken of, with the key and our name."""
        route = api.post(SIGNALS).respond(201, content=CREATED)
        assert await zentrik.post('{"text":"Gr\u00fc\u00dfe"}'.encode()) == Accepted("SIGNAL-43", "job-1")
        sent = route.calls.last.request
        assert sent.content == '{"text":"Gr\u00fc\u00dfe"}'.encode()
        assert sent.headers["Content-Type"] == "application/json"
        assert sent.headers["Authorization"] == f"Bearer {KEY}"
        assert sent.headers["User-Agent"] == "syncd/test"
        assert zentrik.calls.posts == 1

    async def test_retry_after_is_counted_from_our_clock(
        self, zentrik: Zentrik, clock: Clock, api: respx.MockRouter
    ) -> None:
        """A wait given as a date is as long as it was meant."""
        api.post(SIGNALS).respond(429, headers={"Retry-After": IN_90_SECONDS})
        clock.move(30)
        assert await zentrik.post(b"{}") == Later("HTTP 429", seconds(60), parks=True, too_fast=True)

    @pytest.mark.parametrize(
        "error",
        [
            httpx.ConnectError("connection refused"),
            httpx.ConnectError(""),
            httpx.ConnectTimeout("slow"),
            httpx.PoolTimeout("full"),
            httpx.ProxyError("403 Forbidden"),
            httpx.UnsupportedProtocol("ftp://"),
        ],
        ids=repr,
    )
    async def test_before_the_connection_stood_nothing_was_sent(
        self, zentrik: Zentrik, api: respx.MockRouter, error: Exception
    ) -> None:
        """Zentrik out of reach costs no record a search, and none is blamed: all wait until it is back."""
        api.post(SIGNALS).mock(side_effect=error)
        answer = await zentrik.post(b"{}")
        assert isinstance(answer, Later)
        assert (answer.after, answer.parks) == (None, True)

    @pytest.mark.parametrize(
        "error",
        [
            httpx.ReadTimeout("slow"),
            httpx.WriteTimeout("slow"),
            httpx.ReadError("reset"),
            httpx.WriteError("broken pipe"),
            httpx.CloseError(""),
            httpx.RemoteProtocolError("server disconnected"),
            httpx.LocalProtocolError("too little data"),
            httpx.DecodingError("not gzip"),
            ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]"),
            ConnectionResetError(104, "Connection reset by peer"),
        ],
        ids=repr,
    )
    async def test_after_that_nobody_knows(self, zentrik: Zentrik, api: respx.MockRouter, error: Exception) -> None:
        """A record whose answer was lost is looked for before anybody posts it again."""
        api.post(SIGNALS).mock(side_effect=error)
        answer = await zentrik.post(b"{}")
        assert isinstance(answer, Unknown)
        assert answer.cause
        assert not answer.parks

    async def test_an_answer_that_cannot_be_unpacked_is_no_answer(self, clock: Clock) -> None:
        """A proxy that garbles a reply does not end the run."""
        garbled = httpx.MockTransport(
            lambda _: httpx.Response(201, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(CREATED))
        )
        async with Zentrik(BASE, KEY, transport=garbled, clock=clock) as zentrik:
            assert isinstance(await zentrik.post(b"{}"), Unknown)
            assert isinstance(await zentrik.list(), Troubled)

    @pytest.mark.timeout(20)
    async def test_an_answer_that_trickles_in_is_no_answer(self, clock: Clock) -> None:
        """However steadily bytes come, no call takes longer than it may; and a POST may have arrived."""
        wire = httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless(b" ", 0.01)))
        async with Zentrik(BASE, KEY, transport=wire, clock=clock, timeout=seconds(0.1)) as zentrik:
            late = Troubled("no answer in time")
            assert await zentrik.post(b"{}") == Unknown("no answer in time", may_arrive=True)
            assert (await zentrik.get("S"), await zentrik.list(), await zentrik.ready()) == (late, late, late)
            assert (await zentrik.process("S"), await zentrik.delete("S")) == (late, late)

    async def test_an_answer_without_end_is_no_answer(self, clock: Clock) -> None:
        """What answers with more than any page of signals is not read until the memory is full."""
        bodies: list[Endless] = []

        def answer(request: httpx.Request) -> httpx.Response:
            bodies.append(Endless(bytes(1 << 20)))
            return httpx.Response(200, stream=bodies[-1])

        tracemalloc.start()
        async with Zentrik(BASE, KEY, transport=httpx.MockTransport(answer), clock=clock) as zentrik:
            told = "the answer is longer than 32 MB"
            assert await zentrik.list() == await zentrik.process("S") == Troubled(told)
            assert await zentrik.post(b"{}") == Unknown(told, may_arrive=True)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert [body.given for body in bodies] == [LONGEST_ANSWER] * 3
        assert peak < 3 * LONGEST_ANSWER

    async def test_an_answer_of_many_megabytes_is_read(self, zentrik: Zentrik, api: respx.MockRouter) -> None:
        """A page of the longest texts there may be is no trouble."""
        api.get(SIGNALS).respond(200, json=[shown(text="x" * 200_000)] * PAGE_SIZE)
        listing = await zentrik.list()
        assert isinstance(listing, Listing)
        assert len(listing.signals) == PAGE_SIZE

    async def test_no_connection_in_time_is_known_to_be_none(self, clock: Clock) -> None:
        """The limit of the whole call does not hide that nothing was sent: the record may be posted again at once."""
        with ExitStack() as sockets:
            deaf = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            for _ in range(8):  # nobody accepts these, so that the next has to wait
                waiting = sockets.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(deaf.getsockname())
            base = f"http://127.0.0.1:{deaf.getsockname()[1]}/api"
            async with Zentrik(base, KEY, clock=clock, timeout=seconds(1)) as zentrik:
                told = "it cannot be reached (no connection in time)"
                assert await zentrik.post(b"{}") == Later(told, parks=True)

    async def test_over_a_real_connection(self) -> None:
        """What breaks on the wire, and not only in theory, is told apart; what was stored can be found again."""
        sandbox = Sandbox(faults=Faults(next_posts=("cut_before", "cut_after", "torn", "garbled", "504", "hold")))
        async with (
            sandbox.serve() as base,
            Zentrik(base, "sandbox-key") as zentrik,
            Zentrik(base, "sandbox-key", timeout=seconds(0.5)) as hurried,
        ):
            await zentrik.wait_until_ready(seconds(0))
            for number in range(6):
                body = {"text": "Slow.", "signalType": "review", "externalId": f"g2:{number}"}
                poster = zentrik if number < 5 else hurried
                assert isinstance(await poster.post(json.dumps(body).encode()), Unknown)
            listing = await zentrik.list()
            assert isinstance(listing, Listing)
            assert {remote.external_id for remote in listing.signals} == {"g2:1", "g2:2", "g2:3", "g2:4", "g2:5"}
        async with Zentrik(base, "sandbox-key") as zentrik:
            assert isinstance(await zentrik.post(b"{}"), Later), "nobody listens there any more"


class TestTheKey:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_it_does_not_follow_a_redirect(self, zentrik: Zentrik, api: respx.MockRouter, status: int) -> None:
        """Whoever can redirect a request gets neither the key nor a customer's words."""
        elsewhere = api.route(host="elsewhere.test").respond(200, json=READY)
        api.route(host="zentrik.test").respond(status, headers={"Location": "https://elsewhere.test/api"})
        assert isinstance(await zentrik.post(b"{}"), Blocked)
        for answer in (
            await zentrik.get("SIGNAL-43"),
            await zentrik.list(),
            await zentrik.process("SIGNAL-43"),
            await zentrik.ready(),
        ):
            assert isinstance(answer, Troubled)
            assert "set api_base to where it leads" in answer.reason
        assert not elsewhere.called

    @pytest.mark.parametrize("name", ["../../../admin", "//elsewhere.test/x", "a?limit=1#b", "a b%2e", "SIGNAL-\u00e9"])
    async def test_an_id_leads_nowhere_else(self, zentrik: Zentrik, api: respx.MockRouter, name: str) -> None:
        """An id, which Zentrik chose, is one step of a path and cannot choose another address."""
        route = api.route(host="zentrik.test").respond(200, json=shown())
        await zentrik.get(name)
        await zentrik.process(name)
        for call, end in zip(route.calls, ("", "/process"), strict=True):
            path = call.request.url.raw_path.decode()
            assert path == f"/api/external/v1/signals/{quote(name, safe='')}{end}"

    @pytest.mark.parametrize(
        ("status", "words"), [(401, ("no such key", "ZENTRIK_API_KEY")), (403, ("no such key", "signals:write"))]
    )
    async def test_a_refused_key_says_what_to_do(
        self, zentrik: Zentrik, api: respx.MockRouter, status: int, words: tuple[str, ...]
    ) -> None:
        """Whoever has the wrong key, or one without a scope, reads where to get the right one; never the key itself."""
        api.route(host="zentrik.test").respond(status, json={"message": "no such key"})
        for asked in (zentrik.get("S"), zentrik.list(), zentrik.process("S"), zentrik.ready()):
            with pytest.raises(KeyRefused) as refused:
                await asked
            assert all(word in str(refused.value) for word in words)
            assert KEY not in str(refused.value)


class TestGet:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, Processed(("i-1", "i-2"), "job-7", at(8), at(8, 9))),
            ({"processing": None, "jobId": "job-1"}, Processed(("i-1", "i-2"), "job-1")),
            ({"insightIds": None, "processing": {}}, Processed()),
            ({"insightIds": ["i-1", 7, None, ["x"], "\ud800"], "processing": []}, Processed(("i-1",))),
            (
                {"status": "failed", "processing": {"lastError": "no speech found", "failedAt": "2026-11-02T08:00:09"}},
                Failed("no speech found", None, None, at(8, 9)),
            ),
            ({"status": "failed", "processing": None}, Failed("Zentrik gave no reason")),
            ({"status": "processing"}, Unsettled()),
            ({"status": "pending"}, Unsettled()),
            ({"status": "archived"}, Unsettled()),
            ({"status": None}, Unsettled()),
            ({"status": ["processed"]}, Unsettled()),
        ],
    )
    async def test_the_outcome_is_read(
        self, zentrik: Zentrik, api: respx.MockRouter, changes: dict[str, object], expected: Outcome
    ) -> None:
        """What became of a signal is told with its insights, its reason, its job and its times."""
        api.get(f"{SIGNALS}/SIGNAL-43").respond(200, content=json.dumps(shown(**changes)))
        found = await zentrik.get("SIGNAL-43")
        assert isinstance(found, Remote)
        assert (found.public_id, found.external_id, found.outcome) == ("SIGNAL-43", "g2:1", expected)
        assert zentrik.calls.reads == 1

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (httpx.Response(404, json={"message": "no such signal"}), Gone()),
            (httpx.Response(404, content=PAGE), Troubled(f"{SIGNALS}/S answers with a web page; {ADVICE}")),
            (httpx.Response(200, content=PAGE), Troubled("the answer is not a signal")),
            (httpx.Response(200, json=[]), Troubled("the answer is not a signal")),
            (httpx.Response(200, json={"publicId": None}), Troubled("the answer is not a signal")),
            (httpx.Response(200, json=shown(publicId="x" * 201)), Troubled("the answer is not a signal")),
            (httpx.Response(429, headers={"Retry-After": "9"}), Troubled("HTTP 429", seconds(9))),
            (httpx.Response(500, json={"message": "oops"}), Troubled("500: oops")),
            (httpx.Response(400, json={"message": "oops"}), Troubled("400: oops")),
            (httpx.ReadTimeout("slow"), Troubled("no answer in time")),
            (httpx.ConnectTimeout("slow"), Troubled("it cannot be reached (no connection in time)")),
            (httpx.ConnectError("refused"), Troubled("it cannot be reached (refused)")),
            (httpx.ReadError(""), Troubled("the connection broke off (ReadError)")),
            (ssl.SSLError(1, "bad record mac"), Troubled("the connection broke off (bad record mac)")),
        ],
        ids=repr,
    )
    async def test_anything_else_is_gone_or_trouble(
        self, zentrik: Zentrik, api: respx.MockRouter, answer: Any, expected: Gone | Troubled
    ) -> None:
        """Only Zentrik's own word makes a signal gone; whatever else goes wrong is asked again later."""
        api.get(f"{SIGNALS}/S").mock(side_effect=[answer])
        assert await zentrik.get("S") == expected


class TestList:
    @pytest.mark.parametrize(
        ("headers", "items", "offset", "expected"),
        [
            ({"X-Total-Count": "250", "X-Has-More": "true"}, 100, 0, (250, True)),
            ({"X-Total-Count": "250", "X-Has-More": "false"}, 50, 200, (250, False)),
            ({"X-Total-Count": "100", "X-Has-More": " TRUE "}, 100, 0, (100, True)),
            ({"X-Total-Count": "250"}, 100, 100, (250, True)),
            ({"X-Total-Count": "250"}, 50, 200, (250, False)),
            ({"X-Has-More": "true"}, 20, 0, (None, True)),
            ({"X-Has-More": "false"}, 100, 0, (None, False)),
            ({}, 100, 0, (None, True)),
            ({}, 50, 0, (None, True)),
            ({}, 0, 100, (None, False)),
            ({"X-Total-Count": "0", "X-Has-More": "false"}, 0, 0, (0, False)),
            ({"X-Total-Count": "many", "X-Has-More": "maybe"}, 100, 0, (None, True)),
            ({"X-Total-Count": "-1"}, 10, 0, (None, True)),
            ({"X-Total-Count": "20"}, 100, 0, (20, True)),
            ({"X-Total-Count": "20"}, 0, 100, (20, False)),
            ({"X-Total-Count": "20", "X-Has-More": "false"}, 100, 0, (20, False)),
            ({"X-Total-Count": "9" * 5000}, 100, 0, (None, True)),
        ],
    )
    async def test_whether_there_is_more_is_known_without_every_header(
        self,
        zentrik: Zentrik,
        api: respx.MockRouter,
        headers: dict[str, str],
        items: int,
        offset: int,
        expected: tuple[int | None, bool],
    ) -> None:
        """A signal on the last page is not missed because a proxy dropped a header: it would be posted twice."""
        route = api.get(SIGNALS).respond(200, headers=headers, json=[shown()] * items)
        listing = await zentrik.list(offset)
        assert isinstance(listing, Listing)
        assert (listing.total, listing.has_more) == expected
        assert len(listing.signals) == items
        assert dict(route.calls.last.request.url.params) == {"limit": str(PAGE_SIZE), "offset": str(offset)}

    @pytest.mark.parametrize(
        "answer",
        [
            httpx.Response(200, json=[], headers={"X-Has-More": "true"}),
            httpx.Response(200, json=[], headers={"X-Total-Count": "250"}),
            httpx.Response(200, json={"signals": []}),
            httpx.Response(200, content=PAGE),
            httpx.Response(200, content=json.dumps([shown()] * 3).encode()[:-20]),
            httpx.Response(204),
            httpx.Response(404, json=[]),
            httpx.Response(404, content=PAGE),
            httpx.Response(500),
            httpx.RemoteProtocolError("server disconnected"),
        ],
        ids=repr,
    )
    async def test_what_is_no_page_proves_nothing(self, zentrik: Zentrik, api: respx.MockRouter, answer: Any) -> None:
        """A torn page, or one that contradicts itself, is never taken for the end of the list."""
        api.get(SIGNALS).mock(side_effect=[answer])
        assert isinstance(await zentrik.list(), Troubled)

    async def test_what_is_no_signal_is_passed_over(self, zentrik: Zentrik, api: respx.MockRouter) -> None:
        """One broken entry does not hide the others of its page."""
        api.get(SIGNALS).respond(200, json=[None, 7, {}, {"publicId": ""}, shown(externalId=None)])
        listing = await zentrik.list()
        assert isinstance(listing, Listing)
        assert [(remote.public_id, remote.external_id) for remote in listing.signals] == [("SIGNAL-43", None)]
        assert (listing.size, len(set(listing.unreadable))) == (5, 4)

    @pytest.mark.parametrize(
        ("answer", "is_believed"),
        [
            (httpx.Response(200, json=[shown()], headers={"X-Total-Count": "3"}), True),
            (httpx.Response(200, json=[]), True),
            (httpx.Response(404, json={"message": "no route matched"}), False),
            (httpx.Response(502), False),
            (httpx.ReadTimeout("slow"), False),
        ],
        ids=repr,
    )
    async def test_a_404_is_believed_of_whoever_shows_the_list(
        self, zentrik: Zentrik, api: respx.MockRouter, answer: Any, is_believed: bool
    ) -> None:
        """A gateway that answers every path with 404 does not know what Zentrik has."""
        route = api.get(SIGNALS).mock(side_effect=[answer])
        assert (await zentrik.doubt() is None) == is_believed
        assert route.calls.last.request.url.params["limit"] == "1"

    @given(
        st.sampled_from([200, 201, 206, 404, 429, 500, 503]),
        st.lists(st.tuples(st.sampled_from([b"X-Total-Count", b"X-Has-More", b"Retry-After"]), st.binary())),
        ANSWERS,
    )
    async def test_no_answer_can_crash_a_reader(
        self, status: int, headers: list[tuple[bytes, bytes]], content: bytes
    ) -> None:
        """Whatever comes back, reading goes on with what can be used of it, and that can be stored and asked for."""
        answering = httpx.MockTransport(lambda _: httpx.Response(status, headers=headers, content=content))
        async with Zentrik(BASE, KEY, transport=answering, clock=lambda: NOW) as zentrik:
            found: list[Remote] = []
            for answer in (await zentrik.get("S"), await zentrik.list(), await zentrik.process("S")):
                match answer:
                    case Remote():
                        found.append(answer)
                    case Listing():
                        found += answer.signals
                    case Accepted(_, job_id):
                        assert job_id is None or job_id.isprintable()
            await zentrik.ready()
            for remote in found:
                await zentrik.get(remote.public_id)
                if isinstance(remote.outcome, Processed | Failed):
                    times = remote.outcome.started_at, remote.outcome.ended_at
                    assert all(moment.tzinfo is UTC for moment in times if moment)
                if isinstance(remote.outcome, Processed):
                    assert all(insight.isprintable() for insight in remote.outcome.insight_ids)


class TestProcess:
    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (httpx.Response(201, json={"jobId": "job-9"}), Accepted("S", "job-9")),
            (httpx.Response(200, json={}), Accepted("S")),
            (httpx.Response(202, content=b""), Accepted("S")),
            (httpx.Response(201, json=["job-9"]), Accepted("S")),
            (httpx.Response(404, json={"message": "no such signal"}), Gone()),
            (httpx.Response(404, content=PAGE), Troubled(f"{SIGNALS} answers with a web page; {ADVICE}")),
            (httpx.Response(409, json={"message": "it is being processed"}), Refused("409: it is being processed")),
            (httpx.Response(422), Refused("HTTP 422")),
            (httpx.Response(429, headers={"Retry-After": "9"}), Troubled("too many requests", seconds(9))),
            (httpx.Response(503), Troubled("HTTP 503")),
            (httpx.ReadTimeout("slow"), Troubled("no answer in time")),
        ],
        ids=repr,
    )
    async def test_a_signal_is_processed_anew_or_the_reason_told(
        self, zentrik: Zentrik, api: respx.MockRouter, answer: Any, expected: object
    ) -> None:
        """`syncd retry` says of each failed signal what came of it."""
        api.post(f"{SIGNALS}/S/process").mock(side_effect=[answer])
        assert await zentrik.process("S") == expected


class TestDelete:
    @pytest.mark.parametrize(
        ("response", "expected"),
        [
            (httpx.Response(200, json={"message": "Deleted"}), Gone()),
            (httpx.Response(204), Gone()),
            (httpx.Response(404, json={"message": "no such signal"}), Gone()),
            (httpx.Response(409, json={"message": "it is being processed"}), Refused("409: it is being processed")),
            (httpx.Response(429, headers={"Retry-After": "7"}), Troubled("too many requests", seconds(7))),
            (httpx.Response(500), Troubled("HTTP 500")),
        ],
    )
    async def test_a_signal_is_gone_or_the_reason_told(
        self, api: respx.Router, zentrik: Zentrik, response: httpx.Response, expected: object
    ) -> None:
        """Deleted now or long ago is the same; anything else says why it is still there."""
        route = api.delete(f"{SIGNALS}/SIGNAL-43").mock(return_value=response)
        assert await zentrik.delete("SIGNAL-43") == expected
        assert route.called

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_missing_scope_is_named_and_stops_nothing_else(
        self, api: respx.Router, zentrik: Zentrik, status: int
    ) -> None:
        """Few keys may delete: that is no reason to take the key for refused altogether."""
        api.delete(f"{SIGNALS}/S").respond(status, json={"message": "no"})
        answer = await zentrik.delete("S")
        assert isinstance(answer, Blocked)
        assert "signals:delete" in answer.reason

    @pytest.mark.parametrize("status", [301, 404, 502])
    async def test_a_web_page_deletes_nothing(self, api: respx.Router, zentrik: Zentrik, status: int) -> None:
        """An answer that is not the API's leaves it open whether anything was deleted."""
        api.delete(f"{SIGNALS}/S").respond(status, html=PAGE.decode())
        assert isinstance(await zentrik.delete("S"), Troubled)

    async def test_no_answer_is_trouble(self, api: respx.Router, zentrik: Zentrik) -> None:
        """A broken connection is told, and the call can be made again."""
        api.delete(f"{SIGNALS}/S").mock(side_effect=httpx.ReadError("reset"))
        assert isinstance(await zentrik.delete("S"), Troubled)


class TestRename:
    @pytest.mark.parametrize(
        ("response", "expected"),
        [
            (httpx.Response(404, json={"message": "no such signal"}), Gone()),
            (httpx.Response(422, json={"message": "unknown field"}), Refused("422: unknown field")),
            (httpx.Response(429, headers={"Retry-After": "7"}), Troubled("too many requests", seconds(7))),
            (httpx.Response(500), Troubled("HTTP 500")),
            (httpx.Response(200, json={"message": "ok"}), Troubled("the answer is not a signal")),
        ],
    )
    async def test_what_came_of_it_is_told(
        self, api: respx.Router, zentrik: Zentrik, response: httpx.Response, expected: object
    ) -> None:
        """Only an answer that shows the signal counts as a signal renamed."""
        api.patch(f"{SIGNALS}/SIGNAL-43").mock(return_value=response)
        assert await zentrik.rename("SIGNAL-43", "x~replaced-1") == expected

    async def test_nothing_but_the_name_is_sent(self, api: respx.Router, zentrik: Zentrik) -> None:
        """A rename changes the externalId, and leaves insights, status and source alone."""
        route = api.patch(f"{SIGNALS}/SIGNAL-43")
        route.respond(200, json={"publicId": "SIGNAL-43", "externalId": "x~replaced-1", "status": "processed"})
        renamed = await zentrik.rename("SIGNAL-43", "x~replaced-1")
        assert isinstance(renamed, Remote)
        assert renamed.external_id == "x~replaced-1"
        assert json.loads(route.calls.last.request.content) == {"externalId": "x~replaced-1"}

    @pytest.mark.parametrize("status", [401, 403])
    async def test_a_missing_scope_is_named_and_stops_nothing_else(
        self, api: respx.Router, zentrik: Zentrik, status: int
    ) -> None:
        """A key that may not rename may go on posting."""
        api.patch(f"{SIGNALS}/S").respond(status, json={"message": "no"})
        answer = await zentrik.rename("S", "x")
        assert isinstance(answer, Blocked)
        assert "signals:write" in answer.reason


class TestMayDelete:
    @pytest.mark.parametrize(
        ("status", "expected"), [(404, None), (403, Blocked), (401, Blocked), (500, Troubled)], ids=str
    )
    async def test_it_is_asked_with_a_signal_that_cannot_be(
        self, api: respx.Router, zentrik: Zentrik, status: int, expected: type | None
    ) -> None:
        """The scope is known before anything is begun, and nothing is deleted to learn it."""
        route = api.delete(f"{SIGNALS}/SIGNAL-0").respond(status, json={"message": "no"})
        answer = await zentrik.may_delete()
        assert answer is None if expected is None else isinstance(answer, expected)
        assert route.called


class TestReady:
    @pytest.mark.parametrize(
        ("answer", "wrong"),
        [
            (httpx.Response(200, json=READY), None),
            (httpx.Response(200, json={"status": "ok"}), None),
            (httpx.Response(200, json={"checks": "ok"}), None),
            (
                httpx.Response(200, json={"checks": {"database": "ok", "workspaceQueue": "unavailable"}}),
                "workspaceQueue is unavailable",
            ),
            (httpx.Response(200, json={"checks": {"a": "slow", "b": None}}), "a is slow; b is None"),
            (
                httpx.Response(503, json={"status": "error", "checks": {"database": "down"}}),
                '503: {"database": "down"}',
            ),
            (httpx.Response(503), "HTTP 503"),
            (httpx.Response(200, content=PAGE), f"{BASE}/readyz is not the Zentrik API's; {ADVICE}"),
            (httpx.Response(200, json=[]), f"{BASE}/readyz is not the Zentrik API's; {ADVICE}"),
            (httpx.Response(404, json={}), f"{BASE}/readyz is not the Zentrik API's; {ADVICE}"),
            (httpx.Response(404, content=PAGE), f"{BASE}/readyz answers with a web page; {ADVICE}"),
            (httpx.ConnectError("refused"), "it cannot be reached (refused)"),
        ],
        ids=repr,
    )
    async def test_what_is_wrong_is_said(
        self, zentrik: Zentrik, api: respx.MockRouter, answer: Any, wrong: str | None
    ) -> None:
        """An operator who waits for Zentrik reads which part of it is ill, or that the address is wrong."""
        api.get(f"{BASE}/readyz").mock(side_effect=[answer])
        trouble = await zentrik.ready()
        assert (trouble and trouble.reason) == wrong


class TestWaitUntilReady:
    async def test_a_ready_zentrik_is_not_waited_for(
        self, zentrik: Zentrik, sleep: Sleeper, api: respx.MockRouter
    ) -> None:
        """A run starts at once, after one look at readyz and one at what the key may read."""
        api.get(f"{BASE}/readyz").respond(200, json=READY)
        listed = api.get(SIGNALS).respond(200, json=[])
        await zentrik.wait_until_ready(seconds(0), sleep=sleep)
        assert sleep.slept == []
        assert dict(listed.calls.last.request.url.params) == {"limit": "1", "offset": "0"}

    async def test_it_waits_longer_from_look_to_look(
        self, zentrik: Zentrik, sleep: Sleeper, api: respx.MockRouter
    ) -> None:
        """A Zentrik that is just being restarted is not stormed, and the run begins once it is back."""
        ill = httpx.Response(503)
        api.get(f"{BASE}/readyz").mock(
            side_effect=[ill, httpx.ConnectError("refused"), ill, httpx.Response(200, json=READY)]
        )
        api.get(SIGNALS).respond(200, json=[])
        await zentrik.wait_until_ready(seconds(30), sleep=sleep)
        assert sleep.slept == [0.5, 1, 2]

    @pytest.mark.parametrize(("asked", "waited"), [("7", 7), (IN_90_SECONDS, 90), ("0", 0.5), ("nonsense", 0.5)])
    async def test_retry_after_is_kept_in_full(
        self, zentrik: Zentrik, sleep: Sleeper, api: respx.MockRouter, asked: str, waited: float
    ) -> None:
        """Zentrik's own word on how long it needs is kept to the second; zero is no leave to storm it."""
        answers = [httpx.Response(503, headers={"Retry-After": asked}), httpx.Response(200, json=READY)]
        api.get(f"{BASE}/readyz").mock(side_effect=answers)
        api.get(SIGNALS).respond(200, json=[])
        await zentrik.wait_until_ready(seconds(120), sleep=sleep)
        assert sleep.slept == [waited]

    async def test_it_gives_up_when_the_time_is_over(
        self, zentrik: Zentrik, sleep: Sleeper, api: respx.MockRouter
    ) -> None:
        """A cron job ends, with exit code 3 and the reason, instead of hanging while Zentrik is down."""
        api.get(f"{BASE}/readyz").respond(503, json={"message": "maintenance"})
        with pytest.raises(
            NotReady, match=r"not ready after 30 s: 503: maintenance\. Every record is kept"
        ) as given_up:
            await zentrik.wait_until_ready(seconds(30), sleep=sleep)
        assert 20 < sum(sleep.slept) <= 30
        assert BASE in str(given_up.value)
        assert given_up.value.exit_code == 3

    async def test_a_wait_beyond_the_time_given_is_not_begun(
        self, zentrik: Zentrik, sleep: Sleeper, api: respx.MockRouter
    ) -> None:
        """When Zentrik itself says that it will not be back in time, nobody waits in vain."""
        api.get(f"{BASE}/readyz").respond(503, headers={"Retry-After": "3600"})
        with pytest.raises(NotReady):
            await zentrik.wait_until_ready(seconds(30), sleep=sleep)
        assert sleep.slept == []

    async def test_ready_without_its_signals_is_not_ready(
        self, zentrik: Zentrik, sleep: Sleeper, api: respx.MockRouter
    ) -> None:
        """A readyz that says yes while the signals cannot be read starts no run."""
        api.get(f"{BASE}/readyz").respond(200, json=READY)
        api.get(SIGNALS).respond(500, json={"message": "no database"})
        with pytest.raises(NotReady, match="500: no database"):
            await zentrik.wait_until_ready(seconds(2), sleep=sleep, backoff=Backoff(seconds(1), seconds(1)))
        assert sleep.slept == [1, 1]

    async def test_a_refused_key_is_not_waited_out(
        self, zentrik: Zentrik, sleep: Sleeper, api: respx.MockRouter
    ) -> None:
        """A wrong key is told at once."""
        api.get(f"{BASE}/readyz").respond(200, json=READY)
        api.get(SIGNALS).respond(401)
        with pytest.raises(KeyRefused):
            await zentrik.wait_until_ready(seconds(30), sleep=sleep)
        assert sleep.slept == []
