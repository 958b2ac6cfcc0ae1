"""The HTTP paths: the Signals API under /api, and /sandbox, where the imitation is watched and set."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import NoReturn

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from syncd.sandbox.bodies import Invalid
from syncd.sandbox.books import Books, UnknownSignal
from syncd.sandbox.calls import CUT, Calls
from syncd.sandbox.faults import Faults, Mischief, Mishap
from syncd.sandbox.registers import Register, Taken, Unlisted
from syncd.sandbox.replies import Cut, Json, garbled, pause, refusal, web_page

MAX_BODY = 10 * 1024 * 1024
MAX_LIMIT = 100
_EXTERNAL = "/api/external/v1"
_SIGNALS = f"{_EXTERNAL}/signals"
_FILTERS = {"accounts": ("q", "name", "domain", "externalId"), "products": ("q", "name", "externalId")}

Answer = Callable[[Request, bytes], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


class _Unreadable(ValueError):
    """The request itself is at fault: its JSON, or its paging."""


class SignalsApi:
    """The paths of the API over one workspace."""

    def __init__(
        self,
        *,
        key: str,
        books: Books,
        registers: Mapping[str, Register],
        mischief: Mischief,
        calls: Calls,
        now: Callable[[], datetime],
    ) -> None:
        self._key = key
        self._books = books
        self._registers = registers
        self._mischief = mischief
        self._calls = calls
        self._now = now

    def app(self) -> Starlette:
        """The ASGI application."""
        one, again = f"{_SIGNALS}/{{public_id}}", f"{_SIGNALS}/{{public_id}}/process"
        read, write, delete = "signals:read", "signals:write", "signals:delete"
        reads, posts = self._mischief.to_read, self._mischief.to_post
        app = Starlette(
            routes=[
                Route(_SIGNALS, self._guarded("/signals", write, self._create, posts), methods=["POST"]),
                Route(_SIGNALS, self._guarded("/signals", read, self._list, reads), methods=["GET"]),
                Route(one, self._guarded("/signals/:publicId", read, self._get, reads), methods=["GET"]),
                Route(one, self._guarded("/signals/:publicId", write, self._patch), methods=["PATCH"]),
                Route(one, self._guarded("/signals/:publicId", delete, self._delete), methods=["DELETE"]),
                Route(again, self._guarded("/signals/:publicId/process", write, self._process), methods=["POST"]),
                *(route for name, register in self._registers.items() for route in self._routes(name, register)),
                Route("/api/readyz", self._readyz, methods=["GET"]),
                Route("/sandbox/books", self._show_books, methods=["GET"]),
                Route("/sandbox/signals", self._show_signals, methods=["GET"]),
                Route("/sandbox/faults", self._set_faults, methods=["PUT"]),
            ],
            exception_handlers={HTTPException: self._no_such_path},
        )
        app.router.redirect_slashes = False
        return app

    def _routes(self, name: str, register: Register) -> Iterator[Route]:
        """The paths of the accounts or the products."""
        path, read, write = f"{_EXTERNAL}/{name}", f"{name}:read", f"{name}:write"

        def found(request: Request, _body: bytes) -> Response:
            limit = _number(request, "limit", default=20, least=1, most=MAX_LIMIT)
            offset = _number(request, "offset", default=0, least=0)
            wanted = {field: text for field in _FILTERS[name] if (text := request.query_params.get(field))}
            return Json(register.find(wanted)[offset : offset + limit])

        def one(request: Request, _body: bytes) -> Response:
            return Json(register.get(request.path_params["id"]))

        def created(_request: Request, body: bytes) -> Response:
            return Json(register.create(_parsed(body)), status_code=201)

        lookups, creations = self._mischief.to_lookup, self._mischief.to_account
        yield Route(path, self._guarded(f"/{name}", read, found, lookups), methods=["GET"])
        yield Route(f"{path}/{{id}}", self._guarded(f"/{name}/:id", read, one, lookups), methods=["GET"])
        yield Route(path, self._guarded(f"/{name}", write, created, creations), methods=["POST"])

    def _guarded(
        self, route: str, scope: str, answer: Answer, mishaps: Callable[[], Mishap | None] | None = None
    ) -> Endpoint:
        """An endpoint behind what all share: the wait, the key, the rate limit, the mishaps, the tally."""

        async def endpoint(request: Request) -> Response:
            reply = await self._reply(request, scope, answer, mishaps)
            self._calls.note(request.method, route, CUT if isinstance(reply, Cut) else reply.status_code)
            return reply

        return endpoint

    async def _reply(
        self, request: Request, scope: str, answer: Answer, mishaps: Callable[[], Mishap | None] | None
    ) -> Response:
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Cut()
        if wait := self._mischief.latency():
            await pause(request.scope, wait)
        if stop := self._turned_away(request, scope, body):
            return stop
        match mishaps() if mishaps else None:
            case "429":
                return self._too_many()
            case "429_bare":
                return refusal(429, "too_many_requests", "too many requests")
            case "500" | "502" | "503" as status:
                return _server_error(int(status))
            case "html_404":
                return web_page()
            case "cut_before":
                return Cut()
            case "cut_after":
                self._answered(answer, request, body)
                return Cut()
            case "torn":
                return Cut(self._answered(answer, request, body))
            case "garbled":
                return garbled(self._answered(answer, request, body))
            case "504":
                self._answered(answer, request, body)
                return _server_error(504)
            case "hold":
                reply = self._answered(answer, request, body)
                await pause(request.scope, self._mischief.faults.hold_for)
                return reply
            case None:
                return self._answered(answer, request, body)

    def _turned_away(self, request: Request, scope: str, body: bytes) -> Response | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self._key.encode()):
            return refusal(401, "unauthorized", "the API key is missing or not known")
        if scope not in self._mischief.faults.scopes:
            return refusal(403, "forbidden", f"the API key lacks the scope {scope}")
        if self._mischief.too_fast():
            return self._too_many()
        if len(body) > MAX_BODY:
            return refusal(413, "payload_too_large", f"the body is larger than {MAX_BODY} bytes")
        return None

    def _answered(self, answer: Answer, request: Request, body: bytes) -> Response:
        try:
            return answer(request, body)
        except _Unreadable as error:
            return refusal(400, "bad_request", str(error))
        except Invalid as error:
            return refusal(422, "validation_failed", str(error))
        except Taken as error:
            return refusal(409, "conflict", str(error))
        except (UnknownSignal, Unlisted) as error:
            return refusal(404, "not_found", str(error))

    def _too_many(self) -> Response:
        faults = self._mischief.faults
        match faults.retry_after:
            case "seconds":
                headers = {"Retry-After": str(faults.retry_after_seconds)}
            case "date":
                at = self._now() + timedelta(seconds=faults.retry_after_seconds)
                headers = {"Retry-After": format_datetime(at.astimezone(UTC), usegmt=True)}
            case "none":
                headers = {}
        return refusal(429, "too_many_requests", "too many requests", headers)

    def _create(self, _request: Request, body: bytes) -> Response:
        return Json(self._books.create(_parsed(body)), status_code=201)

    def _list(self, request: Request, _body: bytes) -> Response:
        limit = _number(request, "limit", default=20, least=1, most=MAX_LIMIT)
        offset = _number(request, "offset", default=0, least=0)
        total = len(self._books)
        headers = {
            "X-Total-Count": str(total),
            "X-Limit": str(limit),
            "X-Offset": str(offset),
            "X-Has-More": "true" if offset + limit < total else "false",
        }
        return Json(self._books.page(limit, offset), headers=headers)

    def _get(self, request: Request, _body: bytes) -> Response:
        return Json(self._books.get(request.path_params["public_id"]))

    def _patch(self, request: Request, body: bytes) -> Response:
        return Json(self._books.patch(request.path_params["public_id"], _parsed(body)))

    def _delete(self, request: Request, _body: bytes) -> Response:
        self._books.delete(request.path_params["public_id"])
        return Json({"message": "Deleted"})

    def _process(self, request: Request, _body: bytes) -> Response:
        return Json({"jobId": self._books.process(request.path_params["public_id"])}, status_code=201)

    async def _readyz(self, request: Request) -> Response:
        ready = self._mischief.faults.ready
        queue = "ok" if ready else "unavailable"
        checks = {"database": "ok", "workspaceQueue": queue}
        reply = Json({"status": "ok" if ready else "error", "checks": checks}, status_code=200 if ready else 503)
        self._calls.note(request.method, "/readyz", reply.status_code)
        return reply

    async def _no_such_path(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        reply = web_page() if status == 404 else refusal(status, "not_allowed", f"no {request.method} here")
        self._calls.note(request.method, "*", status)
        return reply

    async def _show_books(self, _request: Request) -> Response:
        calls = self._calls
        return Json(
            {
                "posts": calls.count("POST", "/signals"),
                "created": self._books.created,
                "signals": len(self._books),
                "statuses": self._books.statuses(),
                "duplicates": self._books.duplicates(),
                "listCalls": calls.count("GET", "/signals"),
                "getCalls": calls.count("GET", "/signals/:publicId"),
                "callsByStatus": calls.by_status(),
            }
        )

    async def _show_signals(self, request: Request) -> Response:
        return Json(self._books.with_external_id(request.query_params.get("externalId", "")))

    async def _set_faults(self, request: Request) -> Response:
        try:
            self._mischief.faults = Faults.model_validate_json(await request.body())
        except ValidationError as error:
            return refusal(422, "validation_failed", str(error))
        return Json(self._mischief.faults.model_dump(mode="json"))


async def _body(request: Request) -> bytes:
    """The whole body, or its beginning when it is longer than the API takes. Raises `ClientDisconnect`."""
    if request.method not in ("POST", "PATCH"):
        return b""
    body = bytearray()
    async for chunk in request.stream():
        if len(body) <= MAX_BODY:
            body += chunk
    return bytes(body)


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"the body is not JSON: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _number(request: Request, name: str, *, default: int, least: int, most: int | None = None) -> int:
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise _Unreadable(f"{name}: {given[:40]!r} is not a number from {least} on")
    number = int(given)
    if number < least:
        raise _Unreadable(f"{name}: the least is {least}")
    if most is not None and number > most:
        raise _Unreadable(f"{name}: the most is {most}")
    return number


def _server_error(status: int) -> Response:
    return refusal(status, "server_error", "something went wrong on the server's side")
