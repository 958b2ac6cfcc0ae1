"""Intercom: conversations with what was said to the customer and by them.

- `POST /conversations/search`: the conversations that changed since, oldest change first. Its cursor is a place in that
  order, so one that changes meanwhile leaves the window and comes in the next. The index may lag: a few minutes are
  searched again each time.
- `GET /conversations/{id}?display_as=plaintext`: one call for each conversation that goes out, none for one the ledger
  has as it is. At most the last 500 parts of a conversation are given.
- `GET /me`: the workspace's code, for links into the inbox.

A second search, `quiet_for` behind the first, finds the open conversations on which nothing happened since.

Documented limits: 10,000 calls a minute for an app, counted in windows of ten seconds whose end is told by
X-RateLimit-Reset. Unconfirmed: `sort` is missing in the reference of the search, though it works; a page that is out of
order does not move the checkpoint. `company` may be an object or an id.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import httpx
from pydantic import AliasPath, Field, SecretStr

from syncd.connector import Checkpoint, CredentialsRefused, Limit, Link, Organisation, Page, Person, Record, Window
from syncd.kit.conversation import Message, conversation
from syncd.kit.details import in_detail, unless_gone
from syncd.kit.markup import own_words, plain
from syncd.kit.paging import Trail
from syncd.kit.shapes import Instant, Item, Items, Many, Shape, Tray, Words, present, read, readable
from syncd.kit.tickets import BEGINNING, Tickets
from syncd.kit.tokens import Bearer

HEADERS = {"Accept": "application/json", "Intercom-Version": "2.15"}
"""Without it every workspace answers as its app was set up. 2.15 is the first to name a conversation's company."""

SPOKEN = {"comment", "quick_reply", "open", "close", "assignment"}
"""The parts whose body the customer can see; a `note` is for the team alone."""

CUSTOMERS = {"user", "lead", "contact"}
MOST_PARTS = 500
CUT_OFF = "Intercom gives the last 500 parts of a conversation; between its first message and these, some are missing."
DOMAINS = {"us": "intercom", "eu": "eu.intercom", "au": "au.intercom"}
FAR = 1e11
"""No time in seconds is that large."""

LAG = timedelta(minutes=10)
"""How late a change may come up in the search."""


class Me(Shape):
    id_code: Any = Field(None, validation_alias=AliasPath("app", "id_code"))


class Next(Shape):
    starting_after: str


class Found(Shape):
    """A page of the search."""

    conversations: Items
    next: Next | None = Field(None, validation_alias=AliasPath("pages", "next"))
    total_count: int | None = None


class Author(Shape):
    type: str | None = None
    name: str | None = None
    email: str | None = None
    from_ai_agent: bool | None = None

    @property
    def role(self) -> str:
        if self.type == "bot" or self.from_ai_agent:
            return "bot"
        return "customer" if self.type in CUSTOMERS else "agent"


class Said(Shape):
    """The first message, or a part of the conversation."""

    part_type: str = "comment"
    type: str | None = None
    subject: Words = ""
    body: Words = ""
    created_at: Instant | None = None
    author: Author | None = None
    redacted: bool | None = None


class Tag(Shape):
    name: str


class Company(Shape):
    id: str | None = None
    company_id: str | None = None
    name: str | None = None


class Conversation(Shape):
    """A conversation as the search has it, with the first message and no other."""

    id: Annotated[str, Field(pattern=r"^[\w-]+$")]
    state: str
    created_at: Instant
    updated_at: Instant
    title: Words = ""
    priority: str | None = None
    source: Said | None = None
    first_contact_reply: Any = True  # null says that no customer answered; left out, it says nothing
    tags: Items = Field((), validation_alias=AliasPath("tags", "tags"))
    rating: int | None = Field(None, validation_alias=AliasPath("conversation_rating", "rating"))
    remark: str | None = Field(None, validation_alias=AliasPath("conversation_rating", "remark"))
    company: Any = None

    @property
    def version(self) -> str:
        return f"{self.updated_at.isoformat()} {self.state}"

    @property
    def is_unanswered(self) -> bool:
        """Whether the team wrote, and nobody answered: a campaign is no evidence."""
        author = self.source.author if self.source else None
        return self.first_contact_reply is None and author is not None and author.role != "customer"


class Detail(Conversation):
    """A conversation with its parts, and how many there are by two counts."""

    parts: Many[Said] = Field(validation_alias=AliasPath("conversation_parts", "conversation_parts"))
    total: int | None = Field(None, validation_alias=AliasPath("conversation_parts", "total_count"))
    counted: int | None = Field(None, validation_alias=AliasPath("statistics", "count_conversation_parts"))

    @property
    def is_cut_off(self) -> bool:
        return len(self.parts) >= MOST_PARTS and max(self.total or 0, self.counted or 0) > len(self.parts)


class Intercom(Tickets):
    """Conversations of an Intercom workspace."""

    provider: ClassVar[str] = "intercom"

    access_token: SecretStr = Field(description="The access token of your app (Developer Hub > Authentication).")
    region: Literal["us", "eu", "au"] = Field("us", description="Where the workspace is hosted.")
    include_bots: bool = Field(False, description="Whether what bots said, Fin for one, stands in the text.")

    def home(self) -> str:
        return f"https://api.{DOMAINS[self.region]}.io"

    def auth(self) -> httpx.Auth:
        return Bearer(self.access_token)

    def limits(self) -> Sequence[Limit]:
        return (Limit(1_666, timedelta(seconds=10)),)

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:
        if answer.status_code != 429 and answer.headers.get("X-RateLimit-Remaining") != "0":
            return None
        try:
            rest = datetime.fromtimestamp(int(answer.headers["X-RateLimit-Reset"]), UTC) - now
        except (KeyError, ValueError, OverflowError, OSError):
            return None
        return rest if rest > timedelta(0) else None

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 401:
                return (
                    f"Intercom does not know this access token in the region {self.region}. Was it copied whole, and "
                    "is that where the workspace is hosted (us, eu or au)"
                )
            case 403:
                return (
                    "The app of this token lacks the permission «Read conversations» (Developer Hub > your app > "
                    "Configure > Authentication)"
                )
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        found = await self._search(http, BEGINNING, None, None, per_page=1)
        return f"{found.total_count or 0} conversations can be read (region {self.region})"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        inbox = await self._inbox(http)
        pages = self.by_change(
            checkpoint, window, partial(self._walk, http, window.now), partial(self._pages, http, window, inbox), LAG
        )
        async for page in pages:
            yield page

    async def _inbox(self, http: httpx.AsyncClient) -> str | None:
        """Where a person finds the conversations, if Intercom tells the workspace's code."""
        try:
            me = read(await http.get(self.url("/me"), headers=HEADERS), Me)
        except (httpx.HTTPStatusError, CredentialsRefused):  # whether the token is good, the search will tell
            return None
        if not isinstance(me.id_code, str):
            return None
        return f"https://app.{DOMAINS[self.region]}.com/a/inbox/{me.id_code}/inbox/conversation"

    async def _walk(
        self, http: httpx.AsyncClient, now: datetime, since: datetime, until: datetime | None
    ) -> AsyncGenerator[tuple[Sequence[Any], datetime], None]:
        """The conversations that changed last between these two times, and up to when none is missing."""
        trail = Trail()
        cursor: str | None = None
        latest = BEGINNING
        in_order = True
        while True:
            found = await self._search(http, since, until or now, cursor)
            times = [latest, *filter(None, map(_changed, found.conversations))]
            in_order = in_order and times == sorted(times)
            latest = max(times)
            cursor = trail.follow(found.next.starting_after if found.next else None)
            yield found.conversations, latest if in_order or cursor is None else BEGINNING
            if cursor is None:
                return

    async def _search(
        self, http: httpx.AsyncClient, since: datetime, until: datetime | None, cursor: str | None, per_page: int = 150
    ) -> Found:
        """Those that changed from `since` on. Whether `>` takes in its value is told both ways."""
        bounds = [{"field": "updated_at", "operator": ">", "value": max(0, int(since.timestamp()) - 1)}]
        if until:
            bounds.append({"field": "updated_at", "operator": "<=", "value": int(until.timestamp())})
        question = {
            "query": {"operator": "AND", "value": bounds},
            "sort": {"field": "updated_at", "order": "ascending"},
            "pagination": {"per_page": per_page, **({"starting_after": cursor} if cursor else {})},
        }
        answer = await http.post(
            self.url("/conversations/search"), json=question, headers=HEADERS, extensions={"idempotent": True}
        )
        return read(answer, Found)

    def _pages(
        self,
        http: httpx.AsyncClient,
        window: Window,
        inbox: str | None,
        found: Sequence[Any],
        before: Checkpoint,
        after: Checkpoint,
    ) -> AsyncGenerator[Page, None]:
        """What goes out of a page of the search, each conversation with its parts, some at a time."""
        tray = Tray("Intercom conversation")
        seen = tray.read(found, Conversation)
        ready = [one for one in seen if self._is_ready(one, window)]
        return in_detail(
            window,
            tray,
            ready,
            lambda one: self._detail(http, one),
            Detail,
            lambda detail, _: self._record(detail, self._messages(detail), inbox),
            is_evidence=lambda detail, _: bool(self._messages(detail)),
            before=before,
            after=after,
            filtered=len(seen) - len(ready),
        )

    def _is_ready(self, one: Conversation, window: Window) -> bool:
        if one.is_unanswered or not window.holds(one.created_at):
            return False
        return self.goes_out(is_done=one.state == "closed", touched=one.updated_at, now=window.now)

    async def _detail(self, http: httpx.AsyncClient, one: Conversation) -> dict[str, Any] | None:
        """The conversation with its parts; None when it was deleted since."""
        url = self.url(f"/conversations/{one.id}")
        answer = await unless_gone(http.get(url, params={"display_as": "plaintext"}, headers=HEADERS))
        return read(answer, Item).root if answer else None

    def _messages(self, detail: Detail) -> Sequence[tuple[Author, Message]]:
        """What was said for the customer to see, oldest first; nothing where no customer said anything."""
        first = [detail.source.model_copy(update={"created_at": detail.created_at})] if detail.source else []
        parts = [part for part in detail.parts if part.part_type in SPOKEN]
        said = [
            (author, Message(author.name or author.email, author.role, part.created_at, text))
            for number, part in enumerate([*first, *parts])
            if (author := part.author or Author()) and (self.include_bots or author.role != "bot")
            if not part.redacted and (text := own_words(part.body, is_reply=number > 0))
        ]
        return said if any(author.role == "customer" for author, _ in said) else ()

    def _record(self, detail: Detail, said: Sequence[tuple[Author, Message]], inbox: str | None) -> Record:
        subject = detail.title.strip() or plain(detail.source.subject if detail.source else "")
        customers = {(author.name, author.email): None for author, _ in said if author.role == "customer"}
        return Record(
            id=detail.id,
            kind="support_ticket",
            title=subject or f"Intercom conversation {detail.id}",
            text=conversation(subject, [message for _, message in said]),
            context=CUT_OFF if detail.is_cut_off else None,
            occurred_at=detail.created_at,
            links=tuple(
                Link(f"{place}/{detail.id}", "Open Intercom conversation", "support_ticket", primary=True)
                for place in filter(None, [inbox])
            ),
            people=tuple(Person(name, email, "customer") for name, email in customers if name or email),
            organisation=_organisation(detail.company),
            attributes=present(
                conversationId=detail.id,
                status=detail.state,
                priority=detail.priority,
                channel=detail.source.type if detail.source else None,
                tags=[tag.name for tag in readable(detail.tags, Tag)],
                rating=detail.rating,
                ratingRemark=detail.remark,
            ),
            version=detail.version,
        )


def _changed(one: object) -> datetime | None:
    """When an item of the search changed last, if it says so."""
    at = one.get("updated_at") if isinstance(one, dict) else None
    return datetime.fromtimestamp(at, UTC) if isinstance(at, int) and 0 <= at < FAR else None


def _organisation(company: object) -> Organisation | None:
    """The company that the conversation is about: an object, or its id."""
    given = company if isinstance(company, dict) else {"id": company}
    for known in readable([given], Company):
        if known.company_id or known.id:
            return Organisation(known.name, None, known.company_id or f"intercom-company:{known.id}")
    return None
