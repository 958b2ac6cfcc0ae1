"""What people read. Everything shown comes from outside or may hold something that does: templates escape it all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from syncd.app import House
from syncd.ledger import State, holds, report, tracing
from syncd.logs import printable, redact
from syncd.spans import ago, grouped, span
from syncd.status import ConnectorStatus, Status, status
from syncd.waiting import waits_for
from syncd.web.access import COOKIE, Doorkeeper, cookie, form, visitor_of
from syncd.web.actions import local
from syncd.web.chart import Chart, chart

T = TypeVar("T")

_DAYS = 30
_CHART_FOR = timedelta(minutes=1)  # it reads the whole ledger, and a day's bar does not grow by the second
_PER_PAGE = 50
_FEW = 10

_REMEDIES = {
    "credentials_refused": "Mend its credentials in the configuration, send the daemon a SIGHUP, and run it.",
    "rate_limited": "Nothing is to be done: it is read again when its vendor allows.",
    "cursor_stuck": "Nothing is lost. It is tried again at its next run; if that does not help, report it.",
    "shape_changed": "Nothing is lost. Look for a newer syncd, whose connector knows the vendor's new answer.",
    "interrupted": "Nothing is to be done: the next run goes on from its checkpoint.",
    "already_reading": "Nothing is to be done: another syncd on this ledger is reading it.",
    "unreachable": "It is tried again at its next run. If it stays so, see whether this machine can reach the vendor.",
}
"""What to do about an error, where its own words do not say it."""

_MEANINGS = {
    State.QUEUED: "It is posted when it is due.",
    State.SENDING: "It is being posted.",
    State.UNKNOWN: "The answer to its post was lost; it is looked for at Zentrik before anything else is done.",
    State.PROCESSING: "Zentrik has it and is working on it.",
    State.PROCESSED: "Zentrik is done with it.",
    State.FAILED: "Zentrik could not process it. Retry has it processed once more; it is not created a second time.",
    State.REJECTED: "Zentrik refused the record. It is posted again when it changes at its source, or by Retry.",
    State.DELETED: "It was deleted at Zentrik. Retry creates it there anew.",
    State.FORGOTTEN: "It was erased on request; its record does not come in again.",
}


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of signals."""

    rows: Sequence[report.SignalRow]
    number: int
    has_more: bool
    state: str
    connector: str

    def address(self, number: int) -> str:
        """Of another page of the same listing."""
        wanted = {"state": self.state, "connector": self.connector, "page": str(number) if number > 1 else ""}
        query = urlencode({name: value for name, value in wanted.items() if value})
        return f"/signals?{query}" if query else "/signals"


class Pages:
    """The pages of one house."""

    def __init__(self, house: House, refused: Callable[[], str | None], doorkeeper: Doorkeeper) -> None:
        self._house = house
        self._refused = refused
        self._doorkeeper = doorkeeper
        self._chart: tuple[datetime, Chart] | None = None
        self._templates = Environment(
            loader=PackageLoader("syncd.web"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_visible,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"path": _path, "grouped": grouped, "span": span, "web_address": _web_address}
        self._templates.globals |= {"State": State, "remedies": _REMEDIES, "meanings": _MEANINGS}
        parts = files("syncd.web") / "templates"
        self._files = {
            name: Markup((parts / name).read_text(encoding="utf-8"))  # noqa: S704 - our own, in every package
            for name in ("page.css", "refresh.js")
        }

    async def overview(self, request: Request) -> Response:
        """Every connector, what was delivered, and what is wrong."""
        shown = await self.status()
        now = self._house.clock()
        if self._chart is None or not timedelta(0) <= now - self._chart[0] < _CHART_FOR:
            self._chart = now, chart(await self._ask(report.daily, _DAYS, now))
        return self._page(request, "overview.html", status=shown, chart=self._chart[1])

    async def connector(self, request: Request) -> Response:
        """One connector, how its readings went, and what could not be used."""
        name = request.path_params["name"]
        shown = next((each for each in (await self.status()).connectors if each.name == name), None)
        if shown is None:
            raise HTTPException(404, f"There is no connector {name}, in the configuration or in the ledger.")

        aside, newest, row = await self._ask(
            lambda db: (
                list(islice(report.aside(db, name), _FEW)),
                list(report.find(db, connector=name, limit=_FEW)),
                report.connector_rows(db).get(name),
            )
        )
        return self._page(
            request,
            "connector.html",
            connector=shown,
            aside=aside,
            newest=newest,
            row=row,
            pulled=self._house.figures.connectors.get(name),
            entry=self._house.config.connectors.get(name),
        )

    async def signals(self, request: Request) -> Response:
        """Signals, newest first, a page at a time."""
        asked = request.query_params
        state, connector, number = asked.get("state", ""), asked.get("connector", ""), asked.get("page", "1")
        if state and state not in set(State):
            raise HTTPException(400, f"There is no state {state}; there are {', '.join(State)}.")
        if not (number.isascii() and number.isdecimal() and len(number) < 9 and int(number) > 0):
            raise HTTPException(400, "A page has a number from 1 on.")
        rows = await self._ask(
            lambda db: list(
                report.find(
                    db,
                    states=[State(state)] if state else [],
                    connector=connector or None,
                    limit=_PER_PAGE + 1,
                    offset=(int(number) - 1) * _PER_PAGE,
                )
            )
        )
        listing = Listing(rows[:_PER_PAGE], int(number), len(rows) > _PER_PAGE, state, connector)
        names = [each.name for each in (await self.status()).connectors]
        return self._page(request, "signals.html", listing=listing, connectors=names)

    async def signal(self, request: Request) -> Response:
        """Everything known of one signal but its text."""
        name = request.path_params["external_id"]

        row = await self._ask(report.named, name)
        if row is None:
            raise HTTPException(404, f"The ledger knows no signal {name}.")
        history = await self._ask(report.history, row)
        now = self._house.clock()
        standing = await self._ask(tracing.standing, row, self._house.config.budgets, now)
        can_retry = row.state in (State.FAILED, State.REJECTED, State.DELETED) or (
            row.state is State.UNKNOWN and row.due_at is None
        )
        parts = urlsplit(self._house.zentrik.api_base)
        return self._page(
            request,
            "signal.html",
            row=row,
            history=history,
            waits=waits_for(row, *standing, now, await self._ask(holds.of_signal, row.id)),
            can_retry=can_retry,
            zentrik=f"{parts.scheme}://{parts.netloc}/",
        )

    async def login(self, request: Request) -> Response:
        """Where a browser shows the token, and gets a session for it."""
        if not self._doorkeeper.asks:
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return self._page(request, "login.html", next=local(request.query_params.get("next", "")), is_wrong=False)
        fields = await form(request, by_anybody=True)
        onward = local(fields.get("next", ""))
        if not self._doorkeeper.knows(fields.get("token", "").strip()):
            return self._page(request, "login.html", status_code=403, next=onward, is_wrong=True)
        answer = RedirectResponse(onward, 303)
        answer.headers.append("Set-Cookie", cookie(self._doorkeeper.admit()))
        return answer

    async def logout(self, request: Request) -> Response:
        """The end of a session."""
        await form(request)
        self._doorkeeper.dismiss(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/login", 303)
        answer.headers.append("Set-Cookie", cookie("", timedelta(0)))
        return answer

    def problem(self, request: Request, status_code: int, words: str) -> Response:
        """What is said when something cannot be shown or done."""
        return self._page(request, "problem.html", status_code=status_code, words=redact(words))

    async def status(self) -> Status:
        """The state of everything, looked up beside the ledger's own thread."""
        house = self._house
        return await asyncio.to_thread(status, house.config, house.ledger.database, house.clock())

    async def _ask(self, question: Callable[..., T], *args: object) -> T:
        """Put a question to the ledger beside its own thread, so that no look at the page holds up what is written."""

        def run() -> T:
            with self._house.ledger.database.read() as db:
                return question(db, *args)

        return await asyncio.to_thread(run)

    def _page(self, request: Request, template: str, *, status_code: int = 200, **values: Any) -> HTMLResponse:
        house, now = self._house, self._house.clock()
        visitor = visitor_of(request)
        text = self._templates.get_template(template).render(
            **values,
            layout="live.html" if request.headers.get("x-only") == "live" else "base.html",
            now=now,
            ago=lambda moment: ago(moment, now),
            house=house,
            wait=house.gate.opens_in(now),
            refused=self._refused(),
            nonce=visitor.nonce,
            mark=visitor.mark or "",
            here=_here(request),
            has_session=self._doorkeeper.asks and visitor.mark is not None,
            runnable=_runnable,
            css=self._files["page.css"],
            script=self._files["refresh.js"],
        )
        return HTMLResponse(text, status_code)


def _here(request: Request) -> str:
    """The address of the page that is shown, from its path on."""
    path, query = request.scope["raw_path"].decode("latin-1"), request.scope["query_string"].decode("latin-1")
    return local(f"{path}?{query}" if query else path)


def _runnable(connector: ConnectorStatus) -> bool:
    return connector.state not in ("running", "paused", "off", "gone")


def _visible(value: object) -> object:
    """Every text that a template puts in, without what could not be seen, or would turn the rest of the line round."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, keep="\n\t")
    return value


def _path(name: str) -> str:
    """A name as one step of an address."""
    return quote(name, safe="", errors="replace")


def _web_address(text: str | None) -> str | None:
    """The address, if it is one that can be followed without harm: a record's link may be anything."""
    try:
        parts = urlsplit(text or "")
    except ValueError:
        return None
    return text if parts.scheme in ("http", "https") and parts.netloc else None
