"""Zendesk Support: tickets with their public conversation.

- `GET /api/v2/incremental/tickets/cursor.json`: every ticket that changed, in the order of `generated_timestamp`. It
  moves on silent changes too, so `updated_at` is neither filtered by nor kept as a checkpoint. The last minute is not
  served, `start_time` stands in the first request only, and the end is `end_of_stream`, not an empty page.
- `GET /api/v2/tickets/{id}/comments.json`: one call per ticket that goes out, none for one the ledger has as it is.

A second reading of the export, `quiet_for` behind the first, finds the open tickets on which nothing happened since.

Documented limits: 10 calls a minute on incremental exports, and by plan 200 (Team) to 2,500 a minute on everything.
The export is for admins only. Whether its cursor ever expires is not documented; it never was seen to.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

import httpx
from pydantic import AfterValidator, Field, SecretStr, model_validator

from syncd.connector import Checkpoint, Json, Limit, Link, Organisation, Page, Person, Record, Window
from syncd.kit.conversation import Message, conversation
from syncd.kit.details import in_detail, unless_gone
from syncd.kit.markup import own_words, plain
from syncd.kit.paging import Trail, moment
from syncd.kit.shapes import Instant, Items, Many, Shape, Tray, Words, present, read, readable
from syncd.kit.tickets import BEGINNING, LOOK_AGAIN, Tickets
from syncd.kit.tokens import Bearer

EXPORT = "/api/v2/incremental/tickets/cursor.json"
NOT_YET = timedelta(seconds=61)
"""A `start_time` within the last minute is refused."""

SETTLED = ("solved", "closed")
DELETED = "deleted"
"""The status a deleted ticket stays in the export with; it comes again a month later, when its words are scrubbed."""
UNWANTED = {"closed_by_merge", "spam"}
"""Tags of tickets whose conversation lives on elsewhere, or is none."""


class Export(Shape):
    """A page of the export. The people and organisations are those of its tickets."""

    tickets: Items
    users: Items = ()
    organizations: Items = ()
    after_cursor: str | None = None
    end_of_stream: bool


class Changed(Shape):
    generated_timestamp: Instant


class Ticket(Changed):
    id: int
    status: str
    created_at: Instant
    updated_at: Instant
    subject: Words = ""
    priority: str | None = None
    type: str | None = None
    tags: Many[str] = ()
    requester_id: int | None = None
    organization_id: int | None = None

    @property
    def version(self) -> str:
        return f"{self.updated_at.isoformat()} {self.status}"


class User(Shape):
    id: int
    name: str | None = None
    email: str | None = None
    role: str | None = None


class Company(Shape):
    id: int
    name: str | None = None
    external_id: str | None = None
    domain_names: Many[str] = ()


class Comment(Shape):
    public: bool
    author_id: int | None = None
    plain_body: Words = ""
    html_body: Words = ""
    body: Words = ""
    created_at: Instant

    @property
    def text(self) -> str:
        """The comment without markup. Zendesk leaves some blanks escaped in its plain text."""
        return self.plain_body.replace("&nbsp;", " ") or plain(self.html_body) or self.body


class Meta(Shape):
    has_more: bool = False
    after_cursor: str | None = None


class Comments(Shape):
    """A page of the comments of a ticket, with their authors."""

    comments: Items
    users: Items = ()
    meta: Meta = Meta()


class Thread(Shape):
    """All the comments of a ticket, the private ones among them, and their authors."""

    id: int
    comments: Many[Comment]
    users: Items

    @property
    def public(self) -> Sequence[Comment]:
        return [comment for comment in self.comments if comment.public]


def _subdomain(text: str) -> str:
    """The name alone, also from the whole address."""
    name = text.strip().lower().removeprefix("https://").rstrip("/").removesuffix(".zendesk.com")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise ValueError("is no subdomain of Zendesk; write the acme of acme.zendesk.com")
    return name


class Zendesk(Tickets):
    """Tickets of a Zendesk Support account."""

    provider: ClassVar[str] = "zendesk"

    subdomain: Annotated[str, AfterValidator(_subdomain)] = Field(description="The acme in acme.zendesk.com.")
    email: str | None = Field(None, description="The e-mail address of the admin whose API token it is.")
    api_token: SecretStr | None = Field(None, description="An API token (Admin Center > Apps and integrations).")
    oauth_token: SecretStr | None = Field(None, description="An OAuth access token instead; the scope read is enough.")
    calls_per_minute: Annotated[int, Field(ge=10, le=10_000)] = Field(
        200,
        description="How many calls a minute your plan allows: Team 200, Growth and Professional 400, Enterprise 700.",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Zendesk:
        if bool(self.oauth_token) == bool(self.email and self.api_token):
            raise ValueError("give either email and api_token, or oauth_token")
        return self

    def home(self) -> str:
        return f"https://{self.subdomain}.zendesk.com"

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the account outlasts the entry's name
        return f"zendesk:{self.subdomain}"

    def auth(self) -> httpx.Auth:
        if self.oauth_token:
            return Bearer(self.oauth_token)
        assert self.api_token  # noqa: S101 - `_one_way_in` saw to it
        return httpx.BasicAuth(f"{self.email}/token", self.api_token.get_secret_value())

    def limits(self) -> Sequence[Limit]:
        minute = timedelta(minutes=1)
        return Limit(10, minute, "/api/v2/incremental/"), Limit(self.calls_per_minute, minute)

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 401 if self.oauth_token:
                return (
                    "Zendesk does not know this OAuth token. They expire: make a new one, or take an API token instead"
                )
            case 401:
                return (
                    "Zendesk does not know this token. Is token access switched on under Admin Center > Apps and "
                    "integrations > Zendesk API, and is email that of the token's owner"
                )
            case 403:
                return (
                    "Zendesk gives its incremental export to admins only: the token has to be an admin's, and an OAuth "
                    "token needs the scope read"
                )
            case 404:
                return f"Is there an account {self.subdomain}.zendesk.com"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        read(await http.get(self.url(EXPORT), params={"start_time": 0, "per_page": 1}), Export)
        return f"{self.subdomain}.zendesk.com lets its tickets be exported"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        cursor = checkpoint.get("cursor")
        quiet_before = window.now - self.quiet_for if self.quiet_for is not None else None
        # a first reading sees to all that is quiet by now
        quiet_until = moment(checkpoint, "quiet_until") or quiet_before or window.since or BEGINNING
        trail = Trail()
        while True:
            export = await self._export(http, window, window.since, cursor)
            before, cursor = cursor, export.after_cursor or cursor
            async for page in self._pages(
                http, export, window, _place(before, quiet_until), _place(cursor, quiet_until)
            ):
                yield page
            if export.end_of_stream or trail.follow(export.after_cursor) is None:
                break
        if quiet_before and quiet_before - quiet_until >= LOOK_AGAIN:
            async for page in self._quiet(http, window, cursor, quiet_until, quiet_before):
                yield page

    async def _quiet(
        self, http: httpx.AsyncClient, window: Window, live: Json, since: datetime, until: datetime
    ) -> AsyncGenerator[Page, None]:
        """The tickets that last changed between these two times: where the export has them, nothing happened since."""
        cursor: str | None = None
        trail = Trail()
        while since < until:
            export = await self._export(http, window, since, cursor)
            cursor = None if export.end_of_stream else trail.follow(export.after_cursor)
            times = [(ticket, at) for ticket in export.tickets if (at := _changed(ticket))]
            latest = max((at for _, at in times), default=since)
            reached = latest if cursor and latest < until else until
            due = export.model_copy(update={"tickets": [ticket for ticket, at in times if at <= until]})
            async for page in self._pages(http, due, window, _place(live, since), _place(live, reached)):
                yield page
            since = reached

    async def _export(self, http: httpx.AsyncClient, window: Window, since: datetime | None, cursor: Json) -> Export:
        params: dict[str, str | int] = {"include": "users,organizations", "per_page": 1000}
        if cursor:
            params["cursor"] = str(cursor)
        else:
            params["start_time"] = int(min(since or BEGINNING, window.now - NOT_YET).timestamp())
        return read(await http.get(self.url(EXPORT), params=params), Export)

    def _pages(
        self, http: httpx.AsyncClient, export: Export, window: Window, before: Checkpoint, after: Checkpoint
    ) -> AsyncGenerator[Page, None]:
        """What goes out of a page of the export, each ticket with its conversation, some at a time."""
        tray = Tray("Zendesk ticket")
        tickets = tray.read(export.tickets, Ticket)
        people = {user.id: user for user in readable(export.users, User)}
        companies = {company.id: company for company in readable(export.organizations, Company)}
        ready = [ticket for ticket in tickets if self._is_ready(ticket, window)]
        return in_detail(
            window,
            tray,
            ready,
            lambda ticket: self._thread(http, ticket.id),
            Thread,
            lambda thread, ticket: self._record(ticket, thread, people, companies),
            is_evidence=lambda thread, _: bool(thread.public),
            before=before,
            after=after,
            filtered=len(tickets) - len(ready),
            deleted=[str(ticket.id) for ticket in tickets if ticket.status == DELETED],
        )

    def _is_ready(self, ticket: Ticket, window: Window) -> bool:
        if ticket.status == DELETED or set(ticket.tags) & UNWANTED or not window.holds(ticket.created_at):
            return False
        return self.goes_out(is_done=ticket.status in SETTLED, touched=ticket.updated_at, now=window.now)

    async def _thread(self, http: httpx.AsyncClient, id_: int) -> dict[str, Any] | None:
        """The comments of a ticket, oldest first, and their authors; None when it is gone."""
        comments: list[Any] = []
        users: list[Any] = []
        trail = Trail()
        params: dict[str, str | int] = {"include": "users", "page[size]": 100}
        while True:
            answer = await unless_gone(http.get(self.url(f"/api/v2/tickets/{id_}/comments.json"), params=params))
            if answer is None:
                return None
            some = read(answer, Comments)
            comments += some.comments
            users += some.users
            cursor = trail.follow(some.meta.after_cursor) if some.meta.has_more else None
            if cursor is None:
                return {"id": id_, "comments": comments, "users": users}
            params["page[after]"] = cursor

    def _record(
        self, ticket: Ticket, thread: Thread, people: Mapping[int, User], companies: Mapping[int, Company]
    ) -> Record:
        people = {**people, **{user.id: user for user in readable(thread.users, User)}}
        requester = people.get(ticket.requester_id or 0)
        messages = [
            Message(
                author=author.name if (author := people.get(comment.author_id or 0)) else None,
                role="customer" if _is_customer(comment, ticket, author) else "agent",
                at=comment.created_at,
                text=own_words(comment.text, is_reply=number > 0),
            )
            for number, comment in enumerate(thread.public)
        ]
        return Record(
            id=str(ticket.id),
            kind="support_ticket",
            title=ticket.subject or f"Zendesk ticket {ticket.id}",
            text=conversation(ticket.subject, messages),
            occurred_at=ticket.created_at,
            links=(
                Link(f"{self.home()}/agent/tickets/{ticket.id}", "Open Zendesk ticket", "support_ticket", primary=True),
            ),
            people=(Person(requester.name, requester.email, "customer"),) if requester else (),
            organisation=_organisation(companies.get(ticket.organization_id or 0)),
            attributes=present(
                ticketId=str(ticket.id),
                status=ticket.status,
                priority=ticket.priority,
                type=ticket.type,
                tags=ticket.tags,
            ),
            version=ticket.version,
        )


def _place(cursor: Json, quiet_until: datetime) -> Checkpoint:
    return {"cursor": cursor, "quiet_until": quiet_until.isoformat(timespec="seconds")}


def _changed(ticket: object) -> datetime | None:
    """When an item of the export changed, if it says so."""
    known = readable([ticket], Changed)
    return known[0].generated_timestamp if known else None


def _is_customer(comment: Comment, ticket: Ticket, author: User | None) -> bool:
    return comment.author_id == ticket.requester_id or bool(author and author.role == "end-user")


def _organisation(company: Company | None) -> Organisation | None:
    if company is None:
        return None
    domain = company.domain_names[0] if company.domain_names else None
    return Organisation(company.name, domain, company.external_id or f"zendesk-org:{company.id}")
