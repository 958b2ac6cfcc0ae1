"""Saber: completed research on companies and contacts, each answer with its reasoning and sources.

- `GET /v1/companies/signals`: newest created first, filtered by when the research was **completed**, both ends
  included. `toDate` is fixed for a walk, so that its offsets do not shift, and is where the next one begins.
- `GET /v1/contacts/signals`: newest created first and without such a filter. It is walked until a whole page is older
  than what was read before; research still under way holds that mark back, so that a late answer is not missed.
- `GET /v1/companies/signals/{id}`, `/v1/contacts/signals/{id}`: only for an item that the list gives without an answer.

The `sync` endpoints, which the vendor's notes recommend for results, are not touched: they start research, and cost.

Documented limits: 100,000 reads a minute and 10,000 at once; 25 items a page. Reading costs no credits.

Unconfirmed: whether every list item carries its answer (fetched if not), whether `status` is heeded (what is not
completed is passed over), the makes of answer beside the documented ones (rendered by their form), and whether the
contacts list says how many there are (else it ends with an empty page).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from textwrap import shorten
from typing import Annotated, Any, ClassVar

import httpx
from pydantic import Field, SecretStr, ValidationError

from syncd.connector import (
    Checkpoint,
    Limit,
    Link,
    Organisation,
    Page,
    Record,
    RecordError,
    UnreadableDate,
    Window,
    instant,
)
from syncd.kit.api import Api
from syncd.kit.details import unless_gone
from syncd.kit.paging import Trail, each, moment
from syncd.kit.shapes import CamelShape, Instant, Item, Items, Shape, Tray, Words, present, read, readable
from syncd.kit.tokens import Bearer

COMPANIES, CONTACTS = "/v1/companies/signals", "/v1/contacts/signals"
OVERLAP = timedelta(hours=1)
"""Read again each time: a vendor's clocks differ, and an answer may show a little after its time of completion."""

PATIENCE = timedelta(days=1)
"""Research takes minutes; what is under way for longer than this will not be completed."""


class Listing(Shape):
    results: Items
    total: int | None = None


class Research(CamelShape):
    """What Saber calls a signal: a question about a company or a contact, and what was found."""

    id: str
    status: str
    created_at: Instant
    completed_at: Instant | None = None
    domain: str | None = None
    contact_profile_url: str | None = None
    question: Words = ""
    answer_type: str | None = None
    answer: Any = None
    confidence: float | None = None
    reasoning: Words = ""
    sources: Items = ()
    verification_mode: str | None = None

    @property
    def version(self) -> str:
        """Completed research does not change: another run of the same question has an id of its own."""
        return self.created_at.isoformat()


class Cited(Shape):
    title: Words = ""
    url: Words = ""


class Credits(CamelShape):
    remaining_credits: int


class Refusal(CamelShape):
    retry_after: Annotated[float, Field(ge=0, le=1e6)]


class Saber(Api):
    """Completed research of a Saber organisation."""

    provider: ClassVar[str] = "saber"

    api_key: SecretStr = Field(description="An API key (ai.saber.app > Settings > API Keys).")
    domain: str | None = Field(None, description="Only research on the company with this domain, like acme.com.")
    subscription_id: str | None = Field(None, description="Only what this subscription had researched; its UUID.")
    contacts: bool | None = Field(
        None,
        description="Whether research on contacts is read as well; left out, it is unless domain or subscription_id "
        "is given, neither of which Saber's list of contacts can be narrowed by.",
    )

    def home(self) -> str:
        return "https://api.saber.app"

    def auth(self) -> httpx.Auth:
        return Bearer(self.api_key)

    def limits(self) -> Sequence[Limit]:
        return (Limit(10_000, timedelta(seconds=6)),)  # 100,000 a minute, of which 10,000 at once

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:
        if answer.status_code == 429:
            try:
                return timedelta(seconds=Refusal.model_validate_json(answer.content).retry_after)
            except ValidationError:
                pass  # the limits of single endpoints are told in another form, which names no time
        elif answer.headers.get("X-Ratelimit-Remaining") != "0":
            return None
        try:
            return max(instant(answer.headers.get("X-Ratelimit-Reset", "")) - now, timedelta(0))
        except UnreadableDate:
            return None

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 400 if self.domain or self.subscription_id:
                return "Is domain a bare domain like acme.com, and subscription_id the UUID of a subscription"
            case 401:
                return (
                    "Saber does not know this API key: it begins with sk_live_ and is shown once, under ai.saber.app > "
                    "Settings > API Keys; make a new one there"
                )
            case 403:
                return "This key may not read the organisation's research: make one as a member who may see it"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        left = read(await http.get(self.url("/v1/credits")), Credits).remaining_credits
        return f"Saber knows this key; {left} credits remain, and reading costs none"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        async for page in self._companies(http, checkpoint, window):
            checkpoint = page.checkpoint
            yield page
        if self.contacts or (self.contacts is None and not (self.domain or self.subscription_id)):
            async for page in self._contacts(http, checkpoint, window):
                yield page

    async def _companies(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        before = moment(checkpoint, "companies")
        since = before - OVERLAP if before else window.since
        until = window.now.replace(microsecond=0)  # as the vendor is asked for it
        asked = {
            "status": "completed",
            "fromDate": _rfc3339(since),
            "toDate": _rfc3339(until),
            "domain": self.domain,
            "subscriptionId": self.subscription_id,
        }
        async for results, is_last in self._walk(http, COMPANIES, asked):
            tray = Tray("Saber signal")
            found = tray.read(results, Research)
            after = {**checkpoint, "companies": until.isoformat()} if is_last else checkpoint
            yield await self._page(http, COMPANIES, tray, found, window, after)

    async def _contacts(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        before = moment(checkpoint, "contacts")
        if before:
            since: datetime | None = before - OVERLAP
        else:  # what is wanted by its completion may have been created some time before
            since = window.since - PATIENCE if window.since else None
        mark = window.now
        async for results, is_last in self._walk(http, CONTACTS, {}):
            tray = Tray("Saber signal")
            found = tray.read(results, Research)
            for research in found:
                if research.status in ("completed", "failed"):
                    continue
                if window.now - research.created_at < PATIENCE:
                    mark = min(mark, research.created_at)
                else:
                    tray.put_aside(research.id, f"it was still {research.status} a day after it was asked for")
            is_known = bool(found) and since is not None and all(research.created_at < since for research in found)
            after = {**checkpoint, "contacts": mark.isoformat()} if is_last or is_known else checkpoint
            yield await self._page(http, CONTACTS, tray, found, window, after)
            if is_known:
                return

    async def _walk(
        self, http: httpx.AsyncClient, path: str, asked: Mapping[str, str | None]
    ) -> AsyncGenerator[tuple[Sequence[Any], bool], None]:
        """The pages of a list, each with whether it is the last."""
        params: dict[str, str | int] = {name: value for name, value in asked.items() if value}
        trail = Trail()
        offset = 0
        while True:
            answer = await http.get(self.url(path), params={**params, "limit": 25, "offset": offset})
            listing = read(answer, Listing)
            offset += len(listing.results)
            is_last = not listing.results or (listing.total is not None and offset >= listing.total)
            trail.follow(f"{hash(repr(listing)):x}")  # the same page again: offsets lead nowhere
            yield listing.results, is_last
            if is_last:
                return

    async def _page(
        self,
        http: httpx.AsyncClient,
        path: str,
        tray: Tray,
        found: Sequence[Research],
        window: Window,
        checkpoint: Checkpoint,
    ) -> Page:
        """The completed ones as records; those without an answer are asked for, unless the ledger has them."""
        completed = [research for research in found if research.status == "completed"]
        bare = [research for research in completed if research.answer is None]
        known = await window.known({research.id: research.version for research in bare})
        fresh = [research for research in bare if research.id not in known]
        details = [
            item for item in await each(fresh, lambda research: self._alone(http, f"{path}/{research.id}")) if item
        ]
        whole = [research for research in completed if research.answer is not None] + tray.read(details, Research)
        return Page(
            records=tray.records(whole, _record),
            set_aside=tray.aside,
            filtered=sum(research.status != "completed" for research in found) + len(fresh) - len(details),
            unchanged=len(bare) - len(fresh),
            checkpoint=checkpoint,
        )

    async def _alone(self, http: httpx.AsyncClient, path: str) -> dict[str, Any] | None:
        """All there is of one piece; None when it is gone."""
        answer = await unless_gone(http.get(self.url(path)))
        return read(answer, Item).root if answer else None


def _rfc3339(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else None


def _record(research: Research) -> Record:
    sources = readable(research.sources, Cited)
    answer = _answer(research.answer)
    if not (answer or research.reasoning.strip()):
        raise RecordError("it is completed, but has neither an answer nor a reasoning")
    about = research.contact_profile_url or research.domain
    subject = "contact" if research.contact_profile_url else "company"
    sections = {
        "Answer": answer,
        "Reasoning": research.reasoning.strip(),
        "Sources": "\n".join(f"- {': '.join(filter(None, (each.title.strip(), each.url)))}" for each in sources),
    }
    text = [
        research.question.strip(),
        f"{subject.capitalize()}: {about}" if about else "",
        *(f"{name}\n{words}" for name, words in sections.items() if words),
    ]
    return Record(
        id=research.id,
        kind="discovery_report",
        title=shorten(": ".join(filter(None, (about, research.question))), 200, placeholder=" ...") or None,
        text="\n\n".join(filter(None, text)),
        occurred_at=research.completed_at or research.created_at,
        links=_links(research, sources),
        organisation=Organisation(domain=research.domain) if research.domain else None,
        attributes=present(
            subject=subject,
            domain=research.domain,
            contactProfileUrl=research.contact_profile_url,
            answerType=research.answer_type,
            confidence=research.confidence,
            verificationMode=research.verification_mode,
        ),
        version=research.version,
    )


def _links(research: Research, sources: Sequence[Cited]) -> tuple[Link, ...]:
    """The sources and the contact's profile, or else the company's site. Saber's own pages have no known addresses."""
    found: dict[str, Link] = {}
    for cited in sources:
        if cited.url.startswith(("https://", "http://")):
            found.setdefault(cited.url, Link(cited.url, cited.title or None, "source"))
    links = list(found.values())
    if research.contact_profile_url:
        links.append(Link(research.contact_profile_url, "Open contact profile", "contact"))
    if not links and research.domain:
        links.append(Link(f"https://{research.domain}", f"Open {research.domain}", "company"))
    return tuple(replace(link, primary=number == 0) for number, link in enumerate(links))


def _answer(envelope: object) -> str:
    """An answer in words: `{"type": "list", "list": {"value": [...]}}` and its like, by its form where the type is
    new."""
    if not isinstance(envelope, dict):
        return _words(envelope)
    inner = {name: value for name, value in envelope.items() if name != "type" and value is not None}
    match inner:
        case {"jsonSchema": shaped}:  # the asker's own object, which may have a field `value`
            return _words(shaped)
        case {"percentage": {"value": int() | float() as share}}:
            return f"{_words(share)}%"
    if len(inner) != 1:
        return _words(inner)
    [value] = inner.values()
    if not (isinstance(value, dict) and "value" in value):
        return _words(value)
    units = [_words(more) for name, more in value.items() if name != "value" and isinstance(more, str)]
    return " ".join(filter(None, (_words(value["value"]), *units)))  # 5000000 USD


def _words(value: object, *, is_nested: bool = False) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "Yes" if value else "No"
        case float() if value.is_integer():
            return str(int(value))
        case []:
            return "None"
        case list():
            items = [_words(each, is_nested=True) for each in value]
            return ", ".join(items) if is_nested else "\n".join(f"- {item}" for item in items)
        case dict():
            fields = [f"{name}: {_words(each, is_nested=True)}" for name, each in value.items()]
            return ("; " if is_nested else "\n").join(fields)
        case _:
            return str(value).strip()
