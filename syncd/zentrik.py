"""The Signals API spoken to: every call syncd makes, and what each answer means.

Source: Zentrik External REST API (Signals). `readyz` is from its import template.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from syncd.errors import KeyRefused, NotReady
from syncd.fates import (
    Accepted,
    Blocked,
    Failed,
    Gone,
    Later,
    Outcome,
    Processed,
    Refused,
    Unknown,
    Unsettled,
    Verdict,
)
from syncd.logs import holds_secret, printable, redact
from syncd.records import Json
from syncd.retry import Backoff, retry_after
from syncd.transport import Connections

PAGE_SIZE = 100
"""The most signals a list call gives."""

SHOWN_AFTER = timedelta(seconds=30)
"""A signal younger than this may not be shown everywhere yet: a 404 for it does not mean that it was deleted."""

LONGEST_ANSWER = 32 * 1024 * 1024
"""The bytes of the longest answer that is read, unpacked: a page of signals as large as Zentrik takes them is less."""

_SIGNALS = "/external/v1/signals"
_NO_SIGNAL = "SIGNAL-0"  # they are numbered from 1
_LONGEST_NAME = 200
_NUMBERED = re.compile(r"SIGNAL-([1-9][0-9]{0,14})", re.ASCII)


class _TooLong(Exception):
    """An answer of more than `LONGEST_ANSWER` bytes; it was not read to its end."""


_NO_ANSWER = (httpx.RequestError, OSError, _TooLong)
"""What ends a request without an answer; a connection whose encryption breaks raises an OSError that httpx lets by, and
`TimeoutError` is one."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A signal as Zentrik shows it."""

    public_id: str
    external_id: str | None
    outcome: Outcome
    job_id: str | None
    created_at: datetime | None = None

    @property
    def number(self) -> int | None:
        """The n of SIGNAL-n; None when it is called otherwise."""
        return number_of(self.public_id)


def number_of(public_id: str) -> int | None:
    """The n of SIGNAL-n; None for any other publicId. Zentrik does not document that they are given in order."""
    found = _NUMBERED.fullmatch(public_id)
    return int(found[1]) if found else None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An item of the list that is no signal, such as one without a publicId. Known again by a digest of all it says."""

    digest: bytes
    external_id: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of the list of signals, and how many there are in all (None when Zentrik does not say)."""

    signals: tuple[Remote, ...]
    total: int | None
    has_more: bool
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def size(self) -> int:
        """How many items the page had, readable or not."""
        return len(self.signals) + len(self.unreadable)


@dataclass(frozen=True, slots=True)
class _Answer:
    """A response, read to its end."""

    status_code: int
    headers: httpx.Headers
    content: bytes


@dataclass(slots=True)
class Calls:
    """How many calls were made, by kind."""

    posts: int = 0
    reads: int = 0


@dataclass(frozen=True, slots=True)
class Troubled:
    """A read that Zentrik could not answer now: why, and how long it asked to be left alone."""

    reason: str
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What Zentrik answered, as JSON; None where it is none."""

    content: Any


class Zentrik:
    """A workspace's Signals API. Speaks only to `api_base`; the key goes nowhere else.

    No call takes longer than `timeout`, however an answer trickles in, and none reads more than `LONGEST_ANSWER`.
    """

    def __init__(
        self,
        api_base: str,
        key: str,
        *,
        concurrency: int = 16,
        timeout: timedelta = timedelta(seconds=60),
        user_agent: str = "syncd",
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.api_base = api_base.rstrip("/")
        self.calls = Calls()
        self._clock = clock
        self._limit = timeout.total_seconds()
        before = min(10.0, self._limit / 2)  # ends first: what was never connected is known not to have arrived
        self._timeout = httpx.Timeout(self._limit, connect=before, pool=self._limit / 4).as_dict()
        self._headers = httpx.Headers(
            {
                "Authorization": f"Bearer {key}",
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": user_agent,
            }
        )
        # What is the same in every POST is parsed once.
        self._address = httpx.URL(self.api_base + _SIGNALS)
        self._posting = httpx.Headers([*self._headers.raw, (b"Content-Type", b"application/json")])
        self._transport = transport or Connections(concurrency + 4)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def post(self, body: bytes, within: timedelta | None = None) -> Verdict:
        """Create a signal; the verdict says what is certain about it, at the latest `within` that time."""
        self.calls.posts += 1
        limit = self._limit if within is None else min(self._limit, within.total_seconds())
        try:
            answer = await self._send("POST", self._address, self._posting, body, limit)
        except _NO_ANSWER as error:
            return _broken_off(error)
        return verdict(answer.status_code, answer.headers, answer.content, self._clock())

    async def get(self, public_id: str) -> Remote | Gone | Troubled:
        """One signal. Raises `KeyRefused`.

        A gateway can answer 404 for a Zentrik it does not reach: before anything is concluded from `Gone`, `doubt`.
        """
        self.calls.reads += 1
        answer = await self._read(f"{_SIGNALS}/{quote(public_id, safe='')}")
        if isinstance(answer, _Answer):
            if answer.status_code == 404:
                return Gone()
            found = _remote(_json(answer.content))
            return found or Troubled("the answer is not a signal")
        return answer

    async def list(self, offset: int = 0, limit: int = PAGE_SIZE) -> Listing | Troubled:
        """A page of the workspace's signals, in an order Zentrik does not document. Raises `KeyRefused`."""
        self.calls.reads += 1
        answer = await self._read(_SIGNALS, params={"limit": limit, "offset": offset})
        if not isinstance(answer, _Answer):
            return answer
        items = _json(answer.content)
        if answer.status_code == 404 or not isinstance(items, list):
            return Troubled(f"{self.api_base}{_SIGNALS} did not answer with a list of signals")
        read = [(item, _remote(item)) for item in items]
        found = tuple(remote for _, remote in read if remote)
        unreadable = tuple(_unreadable(item) for item, remote in read if not remote)
        total, reached = _number(answer.headers.get("X-Total-Count")), offset + len(items)
        said = answer.headers.get("X-Has-More", "").strip().lower()
        has_more = said == "true" or (
            said != "false" and (bool(items) if total is None or reached > total else reached < total)
        )  # where nothing is said, only an empty page is the end: a page may be shorter than was asked for
        if has_more and not items:  # taken as the end, it could hide a signal; taken at its word, there is no end
            return Troubled(f"{self.api_base}{_SIGNALS} shows an empty page and says that there are more")
        return Listing(found, total, has_more, unreadable)

    async def doubt(self) -> Troubled | None:
        """Why a signal that was `Gone` a moment ago may be there all the same; None when it may be believed.

        Who answers with the list of signals is Zentrik, so the 404 was most likely its own. One call serves for all
        the signals of a round. Raises `KeyRefused`.
        """
        listing = await self.list(limit=1)
        return listing if isinstance(listing, Troubled) else None

    async def process(self, public_id: str) -> Accepted | Gone | Refused | Troubled:
        """Have a signal processed anew. Raises `KeyRefused`."""
        answer = await self._ask_for("POST", f"{_SIGNALS}/{quote(public_id, safe='')}/process")
        match answer:
            case _Answer() if answer.status_code in (401, 403):
                raise KeyRefused(_key_refused(answer))
            case _Answer():
                job = _json(answer.content)
                return Accepted(public_id, _name(job.get("jobId")) if isinstance(job, dict) else None)
            case _:
                return answer

    async def delete(self, public_id: str) -> Gone | Refused | Troubled | Blocked:
        """Take a signal out of Zentrik for good; one that was gone before is as good. Needs a scope of its own."""
        answer = await self._ask_for("DELETE", f"{_SIGNALS}/{quote(public_id, safe='')}")
        match answer:
            case _Answer() if answer.status_code in (401, 403):  # all else that the key is for may go on
                words = _words(answer.status_code, answer.content)
                return Blocked(f"the key lacks the scope signals:delete, see Settings → API Keys ({words})")
            case _Answer():
                return Gone()
            case _:
                return answer

    async def may_delete(self) -> Blocked | Troubled | None:
        """Whether the key has the scope for it: it is asked to delete what cannot be there. None when it has."""
        match await self.delete(_NO_SIGNAL):
            case Blocked() | Troubled() as answer:
                return answer
            case _:
                return None

    async def rename(self, public_id: str, external_id: str) -> Remote | Gone | Refused | Troubled | Blocked:
        """Give a signal another externalId, which may be the one it has; the signal afterwards."""
        told = json.dumps({"externalId": external_id}).encode()
        answer = await self._ask_for("PATCH", f"{_SIGNALS}/{quote(public_id, safe='')}", content=told)
        match answer:
            case _Answer() if answer.status_code in (401, 403):
                words = _words(answer.status_code, answer.content)
                return Blocked(f"the key lacks the scope signals:write, see Settings → API Keys ({words})")
            case _Answer():
                return _remote(_json(answer.content)) or Troubled("the answer is not a signal")
            case _:
                return answer

    async def within(
        self,
        scope: str,
        method: str,
        path: str,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, Json] | None = None,
    ) -> Said | Gone | Refused | Troubled | Blocked:
        """Make a call below /external/v1 that needs a scope of its own. What a `Troubled` one did, nobody knows."""
        self.calls.reads += method == "GET"
        content = None if body is None else json.dumps(body).encode()
        answer = await self._ask_for(method, f"/external/v1{path}", params, content)
        match answer:
            case _Answer() if answer.status_code in (401, 403):  # all else that the key is for may go on
                words = _words(answer.status_code, answer.content)
                return Blocked(f"the key lacks the scope {scope}, see Settings → API Keys ({words})")
            case _Answer():
                return Said(_json(answer.content))
            case _:
                return answer

    async def _ask_for(
        self, method: str, path: str, params: Mapping[str, str | int] | None = None, content: bytes | None = None
    ) -> _Answer | Gone | Refused | Troubled:
        """Ask for something to be done to a signal: a response that is 2xx, or 401 or 403; else what came of it."""
        try:
            response = await self._call(method, path, params, content)
        except _NO_ANSWER as error:
            return Troubled(_told(error))
        match response.status_code:
            case status if 200 <= status < 300 or status in (401, 403):
                return response
            case 404 if not _is_html(response.headers, response.content):
                return Gone()
            case 404:
                return Troubled(self._no_api_at(_SIGNALS))
            case status if 300 <= status < 400:
                return Troubled(_redirected(status))
            case 429:
                return Troubled("too many requests", retry_after(response.headers.get("Retry-After"), self._clock()))
            case status if 400 <= status < 500:
                return Refused(_words(status, response.content))
            case status:
                return Troubled(_words(status, response.content))

    async def ready(self) -> Troubled | None:
        """None when Zentrik says that it is ready; else what it says is wrong. Raises `KeyRefused`."""
        answer = await self._read("/readyz")
        if not isinstance(answer, _Answer):
            return answer
        said = _json(answer.content)
        if answer.status_code == 404 or not isinstance(said, dict):
            return Troubled(f"{self.api_base}/readyz is not the Zentrik API's; check api_base (it ends in /api)")
        checks = said.get("checks")
        ill = (
            [f"{name} is {state}" for name, state in checks.items() if state != "ok"]
            if isinstance(checks, dict)
            else []
        )
        return Troubled("; ".join(ill)) if ill else None

    async def wait_until_ready(
        self,
        limit: timedelta,
        *,
        sleep: Callable[[float], Any] = asyncio.sleep,
        backoff: Backoff = Backoff(first=timedelta(milliseconds=500), cap=timedelta(seconds=5)),  # noqa: B008 - frozen
    ) -> None:
        """Ask until Zentrik is ready and takes our key. Raises `NotReady` after `limit`, and `KeyRefused`."""
        deadline = self._clock() + limit
        failures = 0
        while True:
            trouble = await self.ready()
            if trouble is None:
                listing = await self.list(limit=1)
                if isinstance(listing, Listing):
                    return
                trouble = listing
            failures += 1
            wait = trouble.after or backoff.ceiling(failures)
            if self._clock() + wait > deadline:
                raise NotReady(
                    f"Zentrik at {self.api_base} is not ready after {limit.total_seconds():.0f} s: {trouble.reason}. "
                    "Every record is kept; the next run goes on from here."
                )
            await sleep(wait.total_seconds())

    async def _read(self, path: str, params: Mapping[str, int] | None = None) -> _Answer | Troubled:
        """GET: a response that is 2xx, or a 404 in JSON; anything else is trouble, or raises `KeyRefused`."""
        try:
            response = await self._call("GET", path, params)
        except _NO_ANSWER as error:
            return Troubled(_told(error))
        match response.status_code:
            case status if 200 <= status < 300:
                return response
            case 401 | 403:
                raise KeyRefused(_key_refused(response))
            case 404 if not _is_html(response.headers, response.content):
                return response
            case 404:
                return Troubled(self._no_api_at(path))
            case status if 300 <= status < 400:
                return Troubled(_redirected(status))
            case _:
                after = retry_after(response.headers.get("Retry-After"), self._clock())
                return Troubled(_words(response.status_code, response.content), after)

    async def _call(
        self, method: str, path: str, params: Mapping[str, str | int] | None = None, content: bytes | None = None
    ) -> _Answer:
        """Send a request to a path, as `_send` does."""
        headers = self._headers if content is None else self._posting
        return await self._send(method, httpx.URL(self.api_base + path, params=params), headers, content)

    async def _send(
        self,
        method: str,
        url: httpx.URL,
        headers: httpx.Headers,
        content: bytes | None = None,
        limit: float | None = None,
    ) -> _Answer:
        """Send a request and read what is answered. Raises what `_NO_ANSWER` names.

        The limits of the connection count from one byte to the next; `limit` is for the whole call.
        """
        limits = {"timeout": self._timeout}
        request = httpx.Request(method, url, headers=headers, content=content, extensions=limits)
        async with asyncio.timeout(limit or self._limit):
            response = await self._transport.handle_async_request(request)
            try:
                received = bytearray()
                async for some in response.aiter_bytes():
                    received += some
                    if len(received) > LONGEST_ANSWER:
                        raise _TooLong
                return _Answer(response.status_code, response.headers, bytes(received))
            finally:
                await response.aclose()

    def _no_api_at(self, path: str) -> str:
        return f"{self.api_base}{path} answers with a web page; check api_base (it ends in /api)"


def verdict(status: int, headers: Mapping[str, str], content: bytes, now: datetime) -> Verdict:
    """What an answer to a POST means, sorted by what happens next. The one table of failures.

    | answer | verdict | what happens next |
    |---|---|---|
    | 2xx with a publicId | Accepted | record: its outcome is awaited |
    | 2xx without, 409 | Unknown | record: it is looked for; something is there already |
    | 5xx | Unknown | record: it is looked for; 8 lost answers in a row close the destination |
    | 502, 504, 52x | Unknown, may arrive | the same, and for a while not to find it proves nothing |
    | no answer, cut off | Unknown, may arrive | the same |
    | 503 | Unknown, parks | destination: closed for Retry-After, reopened by `/readyz`; the record is looked for |
    | 429 | Later, parks, too fast | destination: closed for Retry-After, and then posted to more slowly |
    | no connection | Later, parks | destination: closed, reopened by `/readyz` |
    | 408, 425 | Later | record: posted again after Retry-After or a backoff, `max_attempts` times |
    | 401, 402, 403, 404, 405, 407, 410, 415, 426, 3xx | Blocked | destination: closed until a person mends it |
    | other 4xx (400, 413, 422) | Refused | record: rejected; lane: halted when its nack window is full |

    Retry-After is kept in full, in seconds or as a date. No answer of Zentrik's stops the engine: only its own ledger
    does (`LedgerError`).
    """
    after = retry_after(headers.get("Retry-After"), now)
    words = _words(status, content)
    match status:
        case status if 200 <= status < 300:
            created = _json(content)
            public_id = _name(created.get("publicId")) if isinstance(created, dict) else None
            if isinstance(created, dict) and public_id:
                return Accepted(public_id, _name(created.get("jobId")))
            return Unknown(f"{status} without a publicId")
        case 401 | 403:
            return Blocked(f"Zentrik refused the key ({words})")
        case 404:
            return Blocked(f"there is no Signals API at this address ({words}); check api_base (it ends in /api)")
        case 402 | 405 | 407 | 410 | 415 | 426:
            return Blocked(f"Zentrik takes no record at all ({words}); check the account, api_base and any proxy")
        case status if 300 <= status < 400:
            return Blocked(_redirected(status))
        case 408 | 425:
            return Later(words, after)
        case 429:
            return Later(words, after, parks=True, too_fast=True)
        case 409:
            return Unknown(words)
        case status if 400 <= status < 500:
            return Refused(words)
        case 503:
            return Unknown(words, after, parks=True)
        case 502 | 504 | 520 | 521 | 522 | 523 | 524:
            return Unknown(words, after, may_arrive=True)
        case _:
            return Unknown(words, after)


def _broken_off(error: Exception) -> Verdict:
    """No answer. Before the connection stood nothing can have arrived; after that nobody knows."""
    told = _told(error)
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout() | httpx.UnsupportedProtocol():
            return Later(told, parks=True)
        case httpx.ProxyError():  # the proxy would not let us through, so nothing went on from there
            return Later(told, parks=True)
        case _:
            return Unknown(told, may_arrive=True)


def _told(error: Exception) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "it cannot be reached (no connection in time)"
        case httpx.TimeoutException() | TimeoutError():
            return "no answer in time"
        case httpx.ConnectError() | httpx.ProxyError():
            return f"it cannot be reached ({error})" if str(error) else "it cannot be reached"
        case _TooLong():
            return f"the answer is longer than {LONGEST_ANSWER // 1024**2} MB"
        case _:
            return f"the connection broke off ({str(error) or type(error).__name__})"


def _redirected(status: int) -> str:
    return f"the address redirects elsewhere ({status}); set api_base to where it leads, with https"


def _key_refused(response: _Answer) -> str:
    if response.status_code == 403:
        return (
            f"Zentrik refused what we asked ({_words(403, response.content)}): the key lacks a scope. "
            "syncd needs signals:read and signals:write; see Settings → API Keys."
        )
    return (
        f"Zentrik refused the API key ({_words(401, response.content)}). "
        "Set ZENTRIK_API_KEY (or zentrik.api_key) to a key from Settings → API Keys."
    )


def _remote(item: object) -> Remote | None:
    """A signal object of the API; None when it is not one."""
    if not isinstance(item, dict) or not (public_id := _name(item.get("publicId"))):
        return None
    processing = item.get("processing")
    told = processing if isinstance(processing, dict) else {}
    job_id = _name(told.get("lastJobId")) or _name(item.get("jobId"))
    started = _instant(told.get("startedAt"))
    match item.get("status"):
        case "processed":
            insights = item.get("insightIds")
            ids = tuple(filter(None, map(_name, insights))) if isinstance(insights, list) else ()
            outcome: Outcome = Processed(ids, job_id, started, _instant(told.get("processedAt")))
        case "failed":
            reason = _text(told.get("lastError")) or "Zentrik gave no reason"
            outcome = Failed(reason, job_id, started, _instant(told.get("failedAt")))
        case _:
            outcome = Unsettled()
    return Remote(public_id, _text(item.get("externalId")), outcome, job_id, _instant(item.get("createdAt")))


def _unreadable(item: object) -> Unreadable:
    try:
        told = json.dumps(item, sort_keys=True)
    except RecursionError:
        told = ""
    external_id = _text(item.get("externalId")) if isinstance(item, dict) else None
    return Unreadable(hashlib.blake2b(told.encode(), digest_size=8).digest(), external_id)


def _words(status: int, content: bytes) -> str:
    """The status and the server's own words for it, short enough for a line."""
    said = _json(content)
    text = ""
    if isinstance(said, dict):
        for key in ("message", "error", "detail", "errors", "checks"):  # the last is what readyz finds wrong
            value = said.get(key)
            if value:
                text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                break
    elif not content.lstrip().startswith(b"<"):
        text = content.decode("utf-8", "replace")
    text = " ".join(printable(redact(text[:10_000])[:1000], " ").split())  # redacted first: half a key is one too
    return f"{status}: {text[:300]}" if text else f"HTTP {status}"


def _is_html(headers: Mapping[str, str], content: bytes) -> bool:
    return "html" in headers.get("Content-Type", "").lower() or content.lstrip().startswith(b"<")


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _name(value: object) -> str | None:
    """An id that can be asked for again and kept: not endless, no control or half characters, none of our secrets."""
    if not isinstance(value, str) or not value.isprintable() or holds_secret(value):
        return None
    return value if 0 < len(value) <= _LONGEST_NAME else None


def _number(value: str | None) -> int | None:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 16 else None


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
