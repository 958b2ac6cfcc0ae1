"""Freshdesk: tickets with their public conversation.

- `GET /api/v2/tickets`: the tickets that changed since, oldest change first; those deleted or marked as spam are not in
  it. Without `updated_since` it would show the last thirty days only. Its pages are counted from its beginning, so that
  a ticket that changes meanwhile moves the others up by one, and there are 300 at most. Therefore the list is begun
  anew after each page, from its last change; where one second fills more than a page, the next page is asked for.
- `GET /api/v2/tickets/{id}/conversations`: a call or more per ticket that goes out, none for one that the ledger has as
  it is.

A second reading, `quiet_for` behind the first, finds the open tickets on which nothing happened since.

Documented limits: by plan 200 (Growth) to 700 calls a minute, and 20 to 200 on the list, told by Retry-After when they
are used up; each piece of `include` counts as two calls more. Unconfirmed: whether the list holds the very second of
`updated_since` (a second before is asked for), and whether every edit of a reply changes its ticket.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from email.utils import parseaddr
from functools import partial
from typing import Annotated, Any, ClassVar

import httpx
from pydantic import Field, RootModel, SecretStr

from syncd.connector import (
    Checkpoint,
    CursorStuck,
    Limit,
    Link,
    Organisation,
    Page,
    Person,
    Record,
    UnreadableDate,
    Window,
    instant,
)
from syncd.kit.conversation import Message, conversation
from syncd.kit.details import in_detail, unless_gone
from syncd.kit.markup import own_words, plain
from syncd.kit.shapes import Instant, Items, Many, Shape, Tray, Words, present, read
from syncd.kit.tickets import BEGINNING, Tickets

STATUSES = {2: "open", 3: "pending", 4: "resolved", 5: "closed"}
DONE = {4, 5}
"""From 6 on they are the account's own, and open."""

PRIORITIES = {1: "low", 2: "medium", 3: "high", 4: "urgent"}
SOURCES = {1: "email", 2: "portal", 3: "phone", 7: "chat", 9: "feedback widget", 10: "outbound email"}
OUTBOUND = 10
MERGED = re.compile(r"\s*this ticket is closed and merged into ticket\b", re.IGNORECASE)
"""The note on a ticket whose conversation lives on in another."""

SECOND = timedelta(seconds=1)
OVERLAP = timedelta(minutes=5)

MOST_PAGES = 300


class Listing(RootModel[Items]):
    """A page of anything: a bare array."""


class Contact(Shape):
    name: str | None = None
    email: str | None = None


class Company(Shape):
    name: str | None = None


class Ticket(Shape):
    id: int
    status: int
    created_at: Instant
    updated_at: Instant
    subject: Words = ""
    description_text: Words = ""
    description: Words = ""
    priority: int | None = None
    source: int | None = None
    type: str | None = None
    tags: Many[str] = ()
    spam: bool | None = None
    deleted: bool | None = None
    requester_id: int | None = None
    requester: Contact | None = None
    company_id: int | None = None
    company: Company | None = None

    @property
    def version(self) -> str:
        return f"{self.updated_at.isoformat()} {self.status}"

    @property
    def text(self) -> str:
        return own_words(self.description_text or plain(self.description), is_reply=False)


class Reply(Shape):
    private: bool
    created_at: Instant
    incoming: bool | None = None
    user_id: int | None = None
    from_email: Words = ""
    body_text: Words = ""
    body: Words = ""

    @property
    def text(self) -> str:
        """The reply without what it quotes, which the HTML marks and the plain text does not."""
        is_marked = "freshdesk_quote" in self.body or not self.body_text.strip()
        return own_words(plain(self.body, is_reply=True) if is_marked else self.body_text, is_reply=True)


class Thread(Shape):
    """The replies to a ticket, with its notes."""

    id: int
    replies: Many[Reply]


class Freshdesk(Tickets):
    """Tickets of a Freshdesk account."""

    provider: ClassVar[str] = "freshdesk"
    per_page: ClassVar[int] = 100

    domain: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*(\.freshdesk\.com)?$", description="The acme in acme.freshdesk.com."
    )
    api_key: SecretStr = Field(description="The API key of an agent who sees all tickets (Profile settings).")
    calls_per_minute: Annotated[int, Field(ge=1, le=10_000)] = Field(
        100, description="How many calls a minute to make. Your plan allows: Growth 200, Pro 400, Enterprise 700."
    )

    @property
    def account(self) -> str:
        return self.domain.lower().removesuffix(".freshdesk.com")

    def home(self) -> str:
        return f"https://{self.account}.freshdesk.com"

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the account outlasts the entry's name
        return f"freshdesk:{self.account}"

    def auth(self) -> httpx.Auth:
        return httpx.BasicAuth(self.api_key.get_secret_value(), "X")

    def limits(self) -> Sequence[Limit]:
        return (Limit(self.calls_per_minute, timedelta(minutes=1)),)

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 401:
                return (
                    f"{self.account}.freshdesk.com does not know this API key. It stands in the profile settings of an "
                    "agent of that account, who has to be active"
                )
            case 403:
                return (
                    "The agent of this API key may not see tickets, or the plan has no API, as the free one has none. "
                    "Take the key of an agent who sees all tickets"
                )
            case 404:
                return f"Is there an account {self.account}.freshdesk.com"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        read(await self._list(http, BEGINNING, 1, 1), Listing)
        return f"{self.account}.freshdesk.com shows its tickets"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        pages = self.by_change(
            checkpoint, window, partial(self._walk, http), partial(self._pages, http, window), OVERLAP
        )
        async for page in pages:
            yield page

    async def _walk(
        self, http: httpx.AsyncClient, since: datetime, until: datetime | None = None
    ) -> AsyncGenerator[tuple[Sequence[Any], datetime], None]:
        """The tickets that changed last between these two times, oldest first, and up to when none is missing."""
        number = 1
        shown: set[tuple[Any, datetime]] = set()
        while True:
            answer = await self._list(http, since, number, self.per_page)
            listed = [(ticket, _changed(ticket)) for ticket in read(answer, Listing).root]
            latest = max((at for _, at in listed if at), default=since)
            fresh = [(ticket, at) for ticket, at in listed if _sight(ticket, at) not in shown]
            reached = max(since, min(latest, until or latest))
            yield [ticket for ticket, at in fresh if not (until and at and at > until)], reached
            if (len(listed) < self.per_page and "next" not in answer.links) or (until and latest > until):
                return
            number = 1 if latest > since else number + 1
            since = max(since, latest)
            shown |= {_sight(ticket, at) for ticket, at in fresh}
            shown = {(id_, at) for id_, at in shown if at >= since - SECOND}

    async def _list(self, http: httpx.AsyncClient, since: datetime, number: int, per_page: int) -> httpx.Response:
        if number > MOST_PAGES:
            raise CursorStuck(
                f"Freshdesk shows no more than {MOST_PAGES} pages of tickets, and those that changed at "
                f"{since.isoformat()} fill them all. What was read is kept; the next run asks again"
            )
        begun = max(BEGINNING, since - SECOND)
        return await http.get(
            self.url("/api/v2/tickets"),
            params={
                "updated_since": f"{begun:%Y-%m-%dT%H:%M:%SZ}",
                "order_by": "updated_at",
                "order_type": "asc",
                "include": "description,requester,company",
                "per_page": per_page,
                "page": number,
            },
        )

    def _pages(
        self, http: httpx.AsyncClient, window: Window, listed: Sequence[Any], before: Checkpoint, after: Checkpoint
    ) -> AsyncGenerator[Page, None]:
        """What goes out of a page of the list, each ticket with its conversation, some at a time."""
        tray = Tray("Freshdesk ticket")
        tickets = tray.read(listed, Ticket)
        ready = [ticket for ticket in tickets if self._is_ready(ticket, window)]
        return in_detail(
            window,
            tray,
            ready,
            lambda ticket: self._thread(http, ticket.id),
            Thread,
            lambda thread, ticket: self._record(ticket, thread),
            is_evidence=lambda thread, ticket: _is_evidence(ticket, thread),
            before=before,
            after=after,
            filtered=len(tickets) - len(ready),
            deleted=[str(ticket.id) for ticket in tickets if ticket.deleted],
        )

    def _is_ready(self, ticket: Ticket, window: Window) -> bool:
        if ticket.spam or ticket.deleted or not window.holds(ticket.created_at):
            return False
        return self.goes_out(is_done=ticket.status in DONE, touched=ticket.updated_at, now=window.now)

    async def _thread(self, http: httpx.AsyncClient, id_: int) -> dict[str, Any] | None:
        """The replies to a ticket and its notes; None when it is gone."""
        replies: list[Any] = []
        for number in range(1, MOST_PAGES + 1):
            params = {"per_page": self.per_page, "page": number}
            answer = await unless_gone(http.get(self.url(f"/api/v2/tickets/{id_}/conversations"), params=params))
            if answer is None:
                return None
            some = read(answer, Listing).root
            replies += some
            if len(some) < self.per_page and "next" not in answer.links:
                break
        return {"id": id_, "replies": replies}

    def _record(self, ticket: Ticket, thread: Thread) -> Record:
        requester = ticket.requester or Contact()
        first = Message(
            requester.name if ticket.source != OUTBOUND else None,
            "customer" if ticket.source != OUTBOUND else "agent",
            ticket.created_at,
            ticket.text,
        )
        replies = [
            Message(_author(ticket, reply), "customer" if reply.incoming else "agent", reply.created_at, reply.text)
            for reply in sorted(thread.replies, key=lambda reply: reply.created_at)
            if not reply.private
        ]
        if replies and (replies[0].role, replies[0].text) == (first.role, first.text):  # chats say it twice
            replies = replies[1:]
        return Record(
            id=str(ticket.id),
            kind="support_ticket",
            title=ticket.subject.strip() or f"Freshdesk ticket {ticket.id}",
            text=conversation(ticket.subject, [first, *replies]),
            occurred_at=ticket.created_at,
            links=(
                Link(f"{self.home()}/a/tickets/{ticket.id}", "Open Freshdesk ticket", "support_ticket", primary=True),
            ),
            people=(Person(requester.name, requester.email, "customer"),) if requester.name or requester.email else (),
            organisation=_organisation(ticket),
            attributes=present(
                ticketId=str(ticket.id),
                status=STATUSES.get(ticket.status, str(ticket.status)),
                priority=PRIORITIES.get(ticket.priority or 0),
                channel=SOURCES.get(ticket.source or 0),
                type=ticket.type,
                tags=ticket.tags,
            ),
            version=ticket.version,
        )


def _changed(ticket: object) -> datetime | None:
    """When an item of the list changed last, if it says so."""
    at = ticket.get("updated_at") if isinstance(ticket, dict) else None
    try:
        return instant(at) if isinstance(at, str) else None
    except UnreadableDate:
        return None


def _sight(ticket: Any, at: datetime | None) -> tuple[str, datetime]:
    """By what a ticket is known when it is shown again."""
    return str(ticket.get("id") if isinstance(ticket, dict) else ticket), at or BEGINNING


def _is_evidence(ticket: Ticket, thread: Thread) -> bool:
    """Whether a customer said something here that is not told in another ticket."""
    if ticket.status in DONE and any(MERGED.match(reply.text) and not reply.incoming for reply in thread.replies):
        return False
    return ticket.source != OUTBOUND or any(reply.incoming and not reply.private for reply in thread.replies)


def _author(ticket: Ticket, reply: Reply) -> str | None:
    """Agents are known by the address they write from; the list gives the name of nobody but the requester."""
    if ticket.requester and ticket.requester.name and reply.user_id and reply.user_id == ticket.requester_id:
        return ticket.requester.name
    name, address = parseaddr(reply.from_email)
    return name or address or None


def _organisation(ticket: Ticket) -> Organisation | None:
    if ticket.company_id is None:
        return None
    return Organisation(ticket.company.name if ticket.company else None, None, f"freshdesk-company:{ticket.company_id}")
