"""All the paths together: pages, forms, and what machines read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from syncd.app import House
from syncd.errors import LedgerError
from syncd.logs import redact_json
from syncd.status import Status
from syncd.web.access import Access, Doorkeeper
from syncd.web.actions import Actions
from syncd.web.metrics import Metrics
from syncd.web.pages import Pages


def site(house: House, *, host: str, token: SecretStr | None, refused: Callable[[], str | None]) -> ASGIApp:
    """The page of one house, for those who reach it at `host`.

    `token` None asks nobody for one. `refused` says why the configuration that was read last is not the one in force,
    if it is not. Raises `LedgerError`.
    """
    doorkeeper = Doorkeeper(token, house.clock)
    pages = Pages(house, refused, doorkeeper)
    machines = Machines(house, Metrics(house, refused), pages.status)

    async def in_words(request: Request, error: Exception) -> Response:
        match error:
            case HTTPException(status_code=404, detail="Not Found"):
                return pages.problem(request, 404, "There is no such page.")
            case HTTPException():
                return pages.problem(request, error.status_code, error.detail)
            case _:
                return pages.problem(request, 503, str(error))

    app = Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/connectors/{name}", pages.connector),
            Route("/signals", pages.signals),
            Route("/signals/{external_id:path}", pages.signal),
            Route("/login", pages.login, methods=["GET", "POST"]),
            Route("/logout", pages.logout, methods=["POST"]),
            *Actions(house).routes(),
            Route("/healthz", machines.alive),
            Route("/readyz", machines.ready),
            Route("/metrics", machines.metrics),
            Route("/api/status", machines.status),
        ],
        exception_handlers={HTTPException: in_words, LedgerError: in_words},
    )
    app.router.redirect_slashes = False
    return Access(app, doorkeeper, host)


class Machines:
    """What probes and scripts read."""

    def __init__(self, house: House, metrics: Metrics, look: Callable[[], Awaitable[Status]]) -> None:
        self._house = house
        self._metrics = metrics
        self._look = look

    async def alive(self, _: Request) -> Response:
        """200, as long as there is anybody to say it."""
        return PlainTextResponse("alive\n")

    async def ready(self, _: Request) -> Response:
        """200 while the daemon makes progress; 503 with the reason when it does not, though its process lives."""
        if not self._house.beats:
            return PlainTextResponse("not ready: its loops have not begun\n", 503)
        if stuck := self._house.stuck():
            return PlainTextResponse("".join(f"not ready: {loop} is held up\n" for loop in stuck), 503)
        return PlainTextResponse("ready\n")

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        text, content_type = await self._metrics.exposition(request.headers.get("accept", ""))
        return Response(text, headers={"Content-Type": content_type})

    async def status(self, _: Request) -> Response:
        """What `syncd status --json` prints."""
        return JSONResponse(redact_json((await self._look()).as_json()))
