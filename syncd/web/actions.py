"""What people press on the page: retry a signal, run, pause and resume a connector. Each leads back to where it was."""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import quote, unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

from syncd.app import House
from syncd.errors import KeyRefused
from syncd.ledger import report
from syncd.logs import get_logger
from syncd.settings import ConnectorSettings
from syncd.web.access import form

log = get_logger()


class Actions:
    """The forms of one house. Every one answers 403 to a form that is not our own, and 409 with the reason when what
    it asks for cannot be done."""

    def __init__(self, house: House) -> None:
        self._house = house

    def routes(self) -> list[Route]:
        """One path for each."""
        return [
            Route(f"/do/{action.__name__}", action, methods=["POST"])
            for action in (self.retry, self.run, self.pause, self.resume)
        ]

    async def retry(self, request: Request) -> RedirectResponse:
        """Try a signal again, as `syncd retry EXTERNAL_ID` does."""
        fields = await form(request)
        external_id = unquote(fields.get("signal", ""))
        if not external_id:
            raise HTTPException(400, "The form names no signal.")
        try:
            done = await self._house.rerun([external_id], [], None)
        except KeyRefused as error:
            _impossible(str(error))
        for _, why in done.left:
            _impossible(f"{external_id} was left as it is: {why}.")
        log.info("retried from the page", external_id=external_id)
        self._house.news.set()
        self._house.accepted.set()
        return _back(fields, f"/signals/{quote(external_id, safe='')}")

    async def run(self, request: Request) -> RedirectResponse:
        """Read a connector at once."""
        entry, fields = await self._entry(request)
        row = (await self._house.ledger.ask(report.connector_rows)).get(entry.name)
        until = row.rests_until if row else None
        if not entry.enabled:
            _impossible(f"{entry.name} is switched off; write enabled: true in the configuration.")
        if row is not None and row.paused_at is not None:
            _impossible(f"{entry.name} is paused; resume it first.")
        if until is not None and until > self._house.clock():
            _impossible(
                f"{entry.name} is left alone until {until:%Y-%m-%d %H:%M:%S} UTC, because its vendor asked for it."
            )
        self._house.start_now(entry.name)
        log.info("started from the page", connector=entry.name)
        return _back(fields, f"/connectors/{entry.name}")

    async def pause(self, request: Request) -> RedirectResponse:
        """Have a connector not read by itself."""
        entry, fields = await self._entry(request)
        await self._house.ledger.pause([entry.source], self._house.clock())
        log.info("paused from the page", connector=entry.name)
        return _back(fields, f"/connectors/{entry.name}")

    async def resume(self, request: Request) -> RedirectResponse:
        """Have it read at its times again."""
        entry, fields = await self._entry(request)
        await self._house.ledger.pause([entry.source], None)
        log.info("resumed from the page", connector=entry.name)
        return _back(fields, f"/connectors/{entry.name}")

    async def _entry(self, request: Request) -> tuple[ConnectorSettings, dict[str, str]]:
        fields = await form(request)
        entry = self._house.config.connectors.get(fields.get("connector", ""))
        if entry is None:
            raise HTTPException(404, "The configuration has no such connector.")
        return entry, fields


def local(path: str, instead: str = "/") -> str:
    """The path, if it can only lead to our own pages."""
    is_ours = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return quote(path, safe="/%?&=:+-._~") if is_ours else instead


def _back(fields: dict[str, str], instead: str) -> RedirectResponse:
    return RedirectResponse(local(fields.get("back", ""), instead), 303)


def _impossible(words: str) -> NoReturn:
    raise HTTPException(409, words)
