"""Who may see the page, and whose forms are obeyed.

On loopback no token is needed, and only requests that were addressed to this machine by name or number are answered:
the page of a stranger, whose name was made to lead here, gets nothing. With a token, a browser logs in with it and gets
a session; a machine sends it along. A form is obeyed when it carries the mark that only our own pages have.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import SecretStr
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from syncd.fields import is_loopback

COOKIE = "syncd_session"
OPEN = frozenset({"/healthz", "/readyz", "/login"})
"""What is answered to anybody."""

_SESSION = timedelta(hours=12)
_SESSIONS = 100  # of so many browsers at once the oldest is asked to log in again
_LARGEST_FORM = 16 * 1024


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever asks. `nonce` marks the script and the style of the one answer; `mark` goes into every form, and is None
    for a machine, which has no browser that others could make send a form."""

    nonce: str
    mark: str | None


class Doorkeeper:
    """The token and the sessions."""

    def __init__(self, token: SecretStr | None, clock: Callable[[], datetime]) -> None:
        self._token = token
        self._clock = clock
        self._key = secrets.token_bytes()
        self._sessions: dict[str, datetime] = {}

    @property
    def asks(self) -> bool:
        """Whether a token is asked for."""
        return self._token is not None

    def knows(self, token: str) -> bool:
        """Whether that is the token."""
        given, own = token.encode("utf-8", "replace"), (self._token or SecretStr("")).get_secret_value().encode()
        return self.asks and hmac.compare_digest(given, own)

    def admit(self) -> str:
        """A new session."""
        session = secrets.token_urlsafe()
        self._sessions[session] = self._clock() + _SESSION
        while len(self._sessions) > _SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def dismiss(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(session, None)

    def is_admitted(self, session: str) -> bool:
        """Whether a session was begun and is not over."""
        ends = self._sessions.get(session)
        return ends is not None and self._clock() < ends

    def mark(self, session: str) -> str:
        """What a form of that session carries."""
        return hmac.new(self._key, session.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


class Access:
    """Lets in who may, and puts the headers on every answer, errors included."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper, host: str) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._is_local = is_loopback(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        nonce = secrets.token_urlsafe(16)
        response, session, visitor = self._met(HTTPConnection(scope), nonce)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _headers(nonce).items():
                    headers[name] = value
                if session is not None:
                    headers.append("Set-Cookie", cookie(session))
            await send(message)

        scope.setdefault("state", {})["visitor"] = visitor
        await (response or self._app)(scope, receive, send_with_headers)

    def _met(self, request: HTTPConnection, nonce: str) -> tuple[Response | None, str | None, Visitor]:
        """The answer if it is settled here, the session to begin if one is begun, and who asks."""
        keeper = self._doorkeeper
        if self._is_local and not is_local_name(request.headers.get("host", "")):
            words = "This page answers only when it is asked for as localhost or 127.0.0.1.\n"
            return PlainTextResponse(words, 421), None, Visitor(nonce, None)
        session = request.cookies.get(COOKIE, "")
        if not keeper.asks:
            begun = None if session else secrets.token_urlsafe()
            return None, begun, Visitor(nonce, keeper.mark(session or begun or ""))
        if keeper.is_admitted(session):
            return None, None, Visitor(nonce, keeper.mark(session))
        path = request.scope["path"]  # not that of `request.url`, which begins with whatever Host says
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if (scheme.lower() == "bearer" and keeper.knows(token.strip())) or path in OPEN:
            return None, None, Visitor(nonce, None)
        if "text/html" in request.headers.get("accept", ""):
            onward = quote(path, safe="/") if request.scope["method"] == "GET" else "/"
            return RedirectResponse(f"/login?next={onward}", 303), None, Visitor(nonce, None)
        words = "Send the token (web.token in the configuration): Authorization: Bearer ...\n"
        return PlainTextResponse(words, 401, {"WWW-Authenticate": "Bearer"}), None, Visitor(nonce, None)


def cookie(session: str, lasts: timedelta = _SESSION) -> str:
    """The header that keeps a session in a browser; none of a script's business, and sent from our pages only."""
    return f"{COOKIE}={session}; Path=/; Max-Age={lasts.total_seconds():.0f}; HttpOnly; SameSite=Strict"


def is_local_name(authority: str) -> bool:
    """Whether a Host header names this machine in a way that nobody else can give a meaning to.

    The port is not looked at: a tunnel often ends at another one.
    """
    try:
        return is_loopback((urlsplit(f"//{authority}").hostname or "").removesuffix("."))
    except ValueError:
        return False


async def form(request: Request, *, by_anybody: bool = False) -> dict[str, str]:
    """The fields of a form that was sent. Raises `HTTPException` when it is not one of our own pages' (403), unless
    `by_anybody`, or too large (413)."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_FORM:
            raise HTTPException(413, "This form is larger than any of ours.")
    fields = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    mark = visitor_of(request).mark
    if mark is not None and not by_anybody and not hmac.compare_digest(fields.get("mark", "").encode(), mark.encode()):
        raise HTTPException(
            403, "This form was not sent from a page of this syncd, or the page is out of date. Load it and try again."
        )
    return fields


def visitor_of(request: Request) -> Visitor:
    """Who sent a request."""
    visitor: Visitor = request.state.visitor
    return visitor


def _headers(nonce: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
