"""The client lent to connectors: patient with the vendor, and unable to speak to anybody else.

It calls no faster than the connector's limits allow, and leaves the vendor alone for as long as it asks.

    Lent (the client)       sorts the last answer: 401, 403 -> CredentialsRefused, other errors -> HTTPStatusError
      Sorted (its auth)     sorts the answers to what the auth asks for itself, such as a token
        Polite (transport)  pins hosts, keeps limits, waits out 429 and 5xx, reads the body and bounds its size

The last answer is sorted after the auth has seen it, so an auth may meet a 401 by fetching a new token. A connector
for which 404 means «empty» catches `httpx.HTTPStatusError`, as with any other httpx client.

A redirect to another origin, even a declared one, takes along nothing that could identify us: of the headers those in
`_TAKEN_ALONG`, no body, and no parameter that the auth had added.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import httpx

from syncd import __version__
from syncd.connector import Connector
from syncd.errors import CredentialsRefused, RateLimited, SourceError
from syncd.fields import is_loopback
from syncd.logs import conceal, get_logger, printable, redact
from syncd.pacing import Pace
from syncd.retry import Backoff, retry_after
from syncd.trust import authorities

TIMEOUT = httpx.Timeout(60, connect=10)
USER_AGENT = f"syncd/{__version__}"
PATIENCE = timedelta(minutes=15)
LARGEST = 64 * 1024 * 1024
"""The most bytes one answer may have, decoded."""

_BACKOFF = Backoff()
_REDIRECTS = 5
_TRIES = 50
"""Bounds the asking where the waits drawn are so short that patience would not."""

_SHORTEST = timedelta(seconds=30)
"""So long is waited for a turn even by one that asks once."""

_PASSING = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
"""Transport errors that asking again may cure."""

_TAKEN_ALONG = {
    *("accept", "accept-encoding", "accept-language", "connection", "host"),
    *("if-modified-since", "if-none-match", "range", "user-agent"),
}
"""The headers that follow a redirect to another origin."""

_TOKEN = re.compile(r"(?:[\w-]+ +)?([\w.~+/=-]{8,})", re.ASCII)
"""What an Authorization header is made of where it holds a token: `Bearer xyz`, or the token alone."""

log = get_logger()


def lend(
    connector: Connector,
    *,
    clock: Callable[[], datetime],
    sleep: Callable[[float], Awaitable[None]],
    draw: Callable[[], float],
    allow_http: bool = False,
    timeout: httpx.Timeout = TIMEOUT,
    user_agent: str = USER_AGENT,
    patience: timedelta = PATIENCE,
    largest: int = LARGEST,
    transport: httpx.AsyncBaseTransport | None = None,
    auth: Sorted | None = None,
) -> httpx.AsyncClient:
    """A client for this connector alone, to be closed after use: `async with lend(...) as http`.

    `clock` gives the time with its zone, `sleep` waits a number of seconds, `draw` gives a number in [0, 1). Without
    `allow_http`, plain http is spoken on this machine only.
    `patience` bounds what one request may take with all its waits; with zero it is asked once. `transport` stands in
    for the network. `auth` is that of an earlier client of the same connector: a token it fetched is still good.

    GET and HEAD are asked again where there is hope, a POST only with `extensions={"idempotent": True}`. What can be
    raised: `CredentialsRefused`, `RateLimited`, `SourceError` with the code `host_refused`, `unavailable`,
    `unreachable` or `too_large`, and httpx's own errors.
    """
    polite = Polite(
        inner=transport or Network(),
        connector=connector,
        allow_http=allow_http,
        clock=clock,
        sleep=sleep,
        draw=draw,
        patience=patience,
        largest=largest,
        timeout=timeout,
        user_agent=user_agent,
    )
    return Lent(
        connector,
        transport=polite,
        auth=auth or Sorted(connector),
        timeout=timeout,
        headers={"User-Agent": user_agent},
        follow_redirects=True,
        max_redirects=_REDIRECTS,
    )


class Network(httpx.AsyncBaseTransport):
    """The network, from the first request on: reading files needs no list of authorities."""

    @cached_property
    def _transport(self) -> httpx.AsyncHTTPTransport:
        return httpx.AsyncHTTPTransport(verify=authorities())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        if "_transport" in vars(self):
            await self._transport.aclose()


class Lent(httpx.AsyncClient):
    """An httpx client none of whose requests returns an error status."""

    def __init__(self, connector: Connector, **options: Any) -> None:
        super().__init__(**options)
        self._connector = connector

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await super().send(request, **options)
        if response.is_error:
            raise _sorted(response, self._connector, refusals=(401, 403))
        return response


class Sorted(httpx.Auth):
    """The connector's auth, asked for when it is needed first: a key that cannot be read is trouble of that reading.

    An error that answers a request of its own, for a token, is sorted at once.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    @cached_property
    def _auth(self) -> httpx.Auth:
        return self._connector.auth() or httpx.Auth()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        async with aclosing(self._auth.async_auth_flow(request)) as flow:
            given = request.url
            asked = await anext(flow)
            while True:
                if asked is request:
                    request.extensions["added"] = _added(given, request.url)
                response = yield asked
                if asked is not request and response.is_error:
                    raise _sorted(response, self._connector, refusals=(400, 401, 403))  # 400: OAuth, to a wrong secret
                try:
                    asked = await flow.asend(response)
                except StopAsyncIteration:
                    return


@dataclass(kw_only=True, eq=False)
class Polite(httpx.AsyncBaseTransport):
    """A transport that asks only the hosts it was given, and asks again when there is hope."""

    inner: httpx.AsyncBaseTransport
    connector: Connector
    allow_http: bool
    clock: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    draw: Callable[[], float]
    patience: timedelta
    largest: int
    timeout: httpx.Timeout
    user_agent: str
    resting_until: datetime | None = None
    """The vendor asked to be left alone until then, though it answered."""

    @cached_property
    def hosts(self) -> frozenset[str]:
        """The hosts that the connector declares."""
        return frozenset(host.lower() for host in self.connector.hosts())

    @cached_property
    def paces(self) -> Sequence[Pace]:
        """The limits that the connector declares, each with the calls that were made under it."""
        return [Pace(limit) for limit in self.connector.limits()]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._permit(request)
        _leave_credentials_behind(request)
        if token := _TOKEN.fullmatch(request.headers.get("Authorization", "")):
            conceal([token[1]], passing=True)  # one that was fetched on the way is as secret as one in the settings
        request.extensions.setdefault("timeout", self.timeout.as_dict())  # what an auth builds itself has neither
        request.headers.setdefault("User-Agent", self.user_agent)
        if request.method not in ("GET", "HEAD") and not request.extensions.get("idempotent"):
            return await self._ask(request)
        await request.aread()  # a body that is kept can be sent again
        return await self._ask_patiently(request)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _ask_patiently(self, request: httpx.Request) -> httpx.Response:
        given_up_at = self.clock() + self.patience
        host = request.url.host
        for failures in range(1, _TRIES + 1):
            response, cause = None, None
            try:
                response = await self._ask(request)
            except _PASSING as error:
                cause = error
            if response is not None and response.status_code != 429 and response.status_code < 500:
                return response
            now = self.clock()
            asked = self._asked_to_wait(response, now) if response is not None else None
            wait = max(asked or timedelta(0), _BACKOFF.wait(failures, self.draw))
            if now + wait >= given_up_at:
                break
            status = response.status_code if response is not None else None
            log.info("waiting for the source", host=host, seconds=round(wait.total_seconds(), 1), status=status)
            await self.sleep(wait.total_seconds())
        if response is None:
            raise _stop("unreachable", f"{host} cannot be reached: {cause or type(cause).__name__}") from cause
        if response.status_code == 429 or asked:
            until = now + wait
            when = until.isoformat(timespec="seconds")
            raise RateLimited(
                f"{host} asks to be left alone until {when}: {_quoted(response)}{_advice(response, self.connector)}",
                until,
            )
        raise _stop(
            "unavailable",
            f"{host} still answers {_quoted(response)} (asked {failures} times){_advice(response, self.connector)}",
        )

    def _asked_to_wait(self, response: httpx.Response, now: datetime) -> timedelta | None:
        waits = retry_after(response.headers.get("Retry-After"), now), self.connector.asks_to_wait(response, now)
        return max((wait for wait in waits if wait is not None), default=None)

    async def _take_turn(self, request: httpx.Request) -> None:
        """Wait until this request may be made: for the limits it falls under, and for a vendor that wants a rest."""
        now = self.clock()
        turns = [pace.turn(now) for pace in self.paces if request.url.path.startswith(pace.limit.path)]
        turn = max((now, *turns, *([self.resting_until] if self.resting_until else [])))
        if turn > now:
            if turn - now >= max(self.patience, _SHORTEST):
                when = turn.isoformat(timespec="seconds")
                raise RateLimited(f"{request.url.host} allows no more calls until {when}", turn)
            await self.sleep((turn - now).total_seconds())

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        """One answer, read to its end here, so that a connection that breaks midway is one more failure to wait out."""
        await self._take_turn(request)
        answer = await self.inner.handle_async_request(request)
        body = bytearray()
        try:
            if len(answer.headers.get_list("Content-Encoding", split_commas=True)) > 1:
                raise _stop("too_large", f"{request.url.host} compressed its answer more than once; it is not opened")
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > self.largest:
                    raise _stop("too_large", f"{request.url.host} sent more than {self.largest} bytes in one answer")
        finally:
            await answer.aclose()
        headers = answer.headers.copy()
        for name in ("Content-Encoding", "Content-Length", "Transfer-Encoding"):  # they spoke of the undecoded body
            headers.pop(name, None)
        response = httpx.Response(
            answer.status_code, headers=headers, content=bytes(body), extensions=answer.extensions, request=request
        )
        response.status_code = self.connector.status_of(response)
        if response.is_success:
            now = self.clock()
            rest = self.connector.asks_to_wait(response, now)
            self.resting_until = now + rest if rest else None
        return response

    def _permit(self, request: httpx.Request) -> None:
        """Refuse a host that was not declared, and http where https was meant. A redirect comes by here too."""
        url = request.url
        if not _names(url) & self.hosts:
            declared = ", ".join(sorted(self.hosts)) or "none"
            raise _stop(
                "host_refused",
                f"{url.host or url} is not asked: the hosts of this connector are {declared}. "
                "If the source has moved, set base_url",
            )
        if url.scheme == "https":
            request.extensions["secured"] = True  # a redirect hands this on
        elif (
            url.scheme != "http" or request.extensions.get("secured") or not (is_loopback(url.host) or self.allow_http)
        ):
            raise _stop(
                "host_refused",
                f"{url.host} is not asked over {url.scheme}, which anybody on the way can read; use https, or write "
                "allow_http: true into this connector's settings",
            )


def _added(before: httpx.URL, after: httpx.URL) -> frozenset[tuple[str, str]]:
    """The parameters that an auth put into an address."""
    return frozenset(after.params.multi_items()) - frozenset(before.params.multi_items())


def _leave_credentials_behind(request: httpx.Request) -> None:
    """Strip a request that was redirected to another origin. What the vendor itself wrote into the address stays."""
    here = f"{request.url.scheme}://{_origin(request.url)}"
    if request.extensions.setdefault("origin", here) == here:  # a redirect hands this on
        return
    if request.method not in ("GET", "HEAD"):
        raise _stop("host_refused", f"{request.url.host} is not sent what was meant for {request.extensions['origin']}")
    for name in request.headers.keys() - _TAKEN_ALONG:
        del request.headers[name]
    added = request.extensions.get("added", frozenset())
    if added & set(request.url.params.multi_items()):
        kept = [item for item in request.url.params.multi_items() if item not in added]
        request.url = request.url.copy_with(params=kept)


def _names(url: httpx.URL) -> set[str]:
    """The ways a connector may have declared this address: its host, with or without the port, or all hosts below
    another (`*.zoom.us`)."""
    labels = url.host.split(".")
    above = {f"*.{'.'.join(labels[number:])}" for number in range(1, len(labels))}
    return {url.host, url.netloc.decode(), _origin(url), *above}


def _origin(url: httpx.URL) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or {'http': 80, 'https': 443}.get(url.scheme)}"


def _sorted(response: httpx.Response, connector: Connector, refusals: tuple[int, ...]) -> Exception:
    request, status = response.request, response.status_code
    told = f"{request.url.host} answered {_quoted(response)}"
    advice = _advice(response, connector)
    if status in refusals:
        known = advice or ". Check this connector's credentials and what they may read"
        return CredentialsRefused(told + known, status)
    return httpx.HTTPStatusError(told + advice, request=request, response=response)


def _advice(response: httpx.Response, connector: Connector) -> str:
    """What the connector knows of this answer, to stand after what was said of it."""
    advice = connector.advice(response)
    return f". {advice}" if advice else ""


def _quoted(response: httpx.Response) -> str:
    """The status and the vendor's first words, on one line, harmless on a terminal and without our secrets."""
    text = redact(response.content[:1000].decode(errors="replace"))
    words = " ".join(printable(text, " ").split())
    return f"{response.status_code} «{words[:200] or response.reason_phrase}»"


def _stop(code: str, message: str) -> SourceError:
    error = SourceError(message)
    error.code = code
    return error
