"""The client lent to connectors: patient with the vendor, and unable to speak to anybody else.

    Lent (the client)       sorts the last answer: 401, 403 -> CredentialsRefused, other errors -> HTTPStatusError
      Sorted (its auth)     sorts the answers to what the auth asks for itself, such as a token
        Polite (transport)  pins hosts, waits out 429 and 5xx, reads the body and bounds its size

The last answer is sorted after the auth has seen it, so an auth may meet a 401 by fetching a new token. A connector
for which 404 means «empty» catches `httpx.HTTPStatusError`, as with any other httpx client.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from syncd import __version__
from syncd.connector import Connector
from syncd.errors import CredentialsRefused, SourceError
from syncd.logs import get_logger, printable, redact
from syncd.retry import Backoff, retry_after

TIMEOUT = httpx.Timeout(60, connect=10)
USER_AGENT = f"syncd/{__version__}"
PATIENCE = timedelta(minutes=15)
LARGEST = 64 * 1024 * 1024
"""The most bytes one answer may have, decoded."""

_BACKOFF = Backoff()
_REDIRECTS = 5
_TRIES = 50
"""Bounds the asking where the waits drawn are so short that patience would not."""

_PASSING = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
"""Transport errors that asking again may cure."""

log = get_logger()


class RateLimited(SourceError):
    """The source wants to be left alone until `until`, and that is longer than one request may wait."""

    code = "rate_limited"

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


def lend(
    connector: Connector,
    *,
    clock: Callable[[], datetime],
    sleep: Callable[[float], Awaitable[None]],
    draw: Callable[[], float],
    timeout: httpx.Timeout = TIMEOUT,
    user_agent: str = USER_AGENT,
    patience: timedelta = PATIENCE,
    largest: int = LARGEST,
    transport: httpx.AsyncBaseTransport | None = None,
) -> httpx.AsyncClient:
    """A client for this connector alone, to be closed after use: `async with lend(...) as http`.

    `clock` gives the time with its zone, `sleep` waits a number of seconds, `draw` gives a number in [0, 1).
    `patience` bounds what one request may take with all its waits; with zero it is asked once. `transport` stands in
    for the network.

    GET and HEAD are asked again where there is hope, a POST only with `extensions={"idempotent": True}`. What can be
    raised: `CredentialsRefused`, `RateLimited`, `SourceError` with the code `host_refused`, `unavailable`,
    `unreachable` or `too_large`, and httpx's own errors.
    """
    polite = Polite(
        inner=transport or httpx.AsyncHTTPTransport(),
        hosts=frozenset(host.lower() for host in connector.hosts()),
        plain=_plain_origins(connector),
        clock=clock,
        sleep=sleep,
        draw=draw,
        patience=patience,
        largest=largest,
        timeout=timeout,
        user_agent=user_agent,
    )
    return Lent(
        transport=polite,
        auth=Sorted(connector.auth() or httpx.Auth()),
        timeout=timeout,
        headers={"User-Agent": user_agent},
        follow_redirects=True,
        max_redirects=_REDIRECTS,
    )


class Lent(httpx.AsyncClient):
    """An httpx client none of whose requests returns an error status."""

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        response = await super().send(request, **options)
        if response.is_error:
            raise _sorted(response, refusals=(401, 403))
        return response


class Sorted(httpx.Auth):
    """The connector's auth. An error that answers a request of its own, for a token, is sorted at once."""

    def __init__(self, auth: httpx.Auth) -> None:
        self._auth = auth

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        async with aclosing(self._auth.async_auth_flow(request)) as flow:
            asked = await anext(flow)
            while True:
                response = yield asked
                if asked is not request and response.is_error:
                    raise _sorted(response, refusals=(400, 401, 403))  # OAuth says 400 to a wrong secret
                try:
                    asked = await flow.asend(response)
                except StopAsyncIteration:
                    return


@dataclass(frozen=True, kw_only=True, eq=False)
class Polite(httpx.AsyncBaseTransport):
    """A transport that asks only the hosts it was given, and asks again when there is hope."""

    inner: httpx.AsyncBaseTransport
    hosts: frozenset[str]
    plain: frozenset[str]
    clock: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    draw: Callable[[], float]
    patience: timedelta
    largest: int
    timeout: httpx.Timeout
    user_agent: str

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._permit(request)
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
            asked = retry_after(response.headers.get("Retry-After"), now) if response is not None else None
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
            raise RateLimited(f"{host} asks to be left alone until {when}: {_quoted(response)}", until)
        raise _stop("unavailable", f"{host} still answers {_quoted(response)} (asked {failures} times)")

    async def _ask(self, request: httpx.Request) -> httpx.Response:
        """One answer, read to its end here, so that a connection that breaks midway is one more failure to wait out."""
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
        return httpx.Response(answer.status_code, headers=headers, content=bytes(body), extensions=answer.extensions)

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
        elif request.extensions.get("secured") or not (_is_loopback(url.host) or _origin(url) in self.plain):
            raise _stop("host_refused", f"{url.host} is not asked over {url.scheme}, which anybody can read; use https")


def _plain_origins(connector: Connector) -> frozenset[str]:
    """Where the operator asked for plain http by writing it: host and port of each `http://` address they set."""
    given = (getattr(connector, name, None) for name in ("base_url", "token_url"))
    urls = [httpx.URL(str(address)) for address in given if address]
    return frozenset(_origin(url) for url in urls if url.scheme == "http")


def _names(url: httpx.URL) -> set[str]:
    """The ways a connector may have declared this address: its host, with or without the port."""
    return {url.host, url.netloc.decode(), _origin(url)}


def _origin(url: httpx.URL) -> str:
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or {'http': 80, 'https': 443}.get(url.scheme)}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _sorted(response: httpx.Response, refusals: tuple[int, ...]) -> Exception:
    request = response.request
    told = f"{request.url.host} answered {_quoted(response)}"
    if response.status_code in refusals:
        return CredentialsRefused(f"{told}. Check this connector's credentials and what they may read")
    return httpx.HTTPStatusError(told, request=request, response=response)


def _quoted(response: httpx.Response) -> str:
    """The status and the vendor's first words, on one line, harmless on a terminal and without our secrets."""
    text = redact(response.content[:1000].decode(errors="replace"))
    words = " ".join(printable(text, " ").split())
    return f"{response.status_code} «{words[:200] or response.reason_phrase}»"


def _stop(code: str, message: str) -> SourceError:
    error = SourceError(message)
    error.code = code
    return error
