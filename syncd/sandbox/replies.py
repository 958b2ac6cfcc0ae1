"""What goes back over the wire: JSON, errors, the page of a wrong address, replies that break on purpose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

ABORT = "abort"
"""Where the server keeps, in a request's state, the function that aborts its connection."""

STOPPING = "stopping"
"""Where it keeps the `asyncio.Event` that is set when it stops."""

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Zentrik</title></head>
<body><div id="root"></div><noscript>static/index.html needs JavaScript.</noscript></body>
</html>
"""


class Json(JSONResponse):
    """JSON in pure ASCII, so that whatever text was posted can be answered, lone surrogates included."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def refusal(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Json:
    """An error as the API words it."""
    return Json({"error": code, "message": message}, status_code=status, headers=headers)


def web_page() -> HTMLResponse:
    """What the web application answers to an address it does not know: not JSON, and not the API."""
    return HTMLResponse(_PAGE, status_code=404)


def garbled(reply: Response) -> Response:
    """The same reply with half its body, as if that were all."""
    return Response(bytes(reply.body)[: len(reply.body) // 2], reply.status_code, media_type="application/json")


class Cut(Response):
    """No reply: the connection is aborted. Given a reply, half of that goes out first."""

    def __init__(self, reply: Response | None = None) -> None:
        super().__init__()
        self.reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Abort, and return once the server has noticed."""
        if self.reply is not None:
            body = bytes(self.reply.body)
            headers, status = self.reply.raw_headers, self.reply.status_code
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        scope["state"][ABORT]()
        while (await receive())["type"] != "http.disconnect":
            pass


async def pause(scope: Scope, seconds: float) -> None:
    """Let so much time pass, whether or not the caller waits too; less only when the server stops."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await scope["state"][STOPPING].wait()
