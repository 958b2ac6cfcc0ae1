"""Jira Cloud and Jira Service Management: issues with their public conversation.

- `POST /rest/api/3/search/jql`: the issues of the operator's JQL, in the order in which they changed. A page may be
  shorter than asked for; the last is the one without `nextPageToken`. Without `fields` it would give ids only.
- `GET /rest/api/3/myself`: once in each reading. JQL takes times to the minute, without an offset, in the time zone of
  the user's profile; and to a key that is not valid the search says «no issues», this call «401».
- `GET /rest/api/3/issue/{id}/comment`: only for an issue with more comments than the search gives (20 or so), and not
  for one that the ledger has as it is.

The search shows a change seconds or minutes after it was made, and now and then later: every reading begins `overlap`
before the last change seen, and once a day one begins half a day before the last such reading. A search of its own
finds the open issues on which nothing happened for `quiet_for`.

Text comes as rendered HTML; where that is missing, the document itself (ADF) is read.

No rate limits are documented in numbers for API tokens; a 429 says when to come again. UNCONFIRMED: from which number
of comments on the search leaves some out (the total is compared), and whether it ever leaves out the whole field (then
the comments are asked for). Jira Server and Data Center have another search, and are not read.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import accumulate
from typing import Annotated, Any, ClassVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
from pydantic import AliasPath, BeforeValidator, Field, SecretStr, StringConstraints, field_validator

from syncd.connector import (
    Checkpoint,
    Duration,
    Link,
    Organisation,
    Page,
    Person,
    Record,
    SourceError,
    UnreadableDate,
    Window,
    instant,
)
from syncd.kit.adf import written
from syncd.kit.conversation import Message, conversation
from syncd.kit.markup import own_words, plain
from syncd.kit.paging import Trail, each, moment
from syncd.kit.shapes import CamelShape, Instant, Items, Many, Shape, Tray, Words, present, read, readable
from syncd.kit.tickets import LOOK_AGAIN, Tickets

MYSELF = "/rest/api/3/myself"
SEARCH = "/rest/api/3/search/jql"
FIELDS = (
    *("summary", "description", "comment", "reporter", "created", "updated"),
    *("status", "priority", "labels", "issuetype", "project"),
)
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
"""Before the first Jira."""

REREAD_EVERY = timedelta(days=1)
REREAD_FROM = timedelta(hours=12)
"""The daily reading begins so long before the last one: whatever the search showed too late is seen at that age."""


class Myself(CamelShape):
    display_name: str | None = None
    time_zone: str


class Search(CamelShape):
    issues: Items
    next_page_token: str | None = None


class User(CamelShape):
    account_id: str | None = None
    account_type: str | None = None
    display_name: str | None = None
    email_address: str | None = None


class Comment(CamelShape):
    id: str
    author: User | None = None
    body: Any = None
    rendered_body: str | None = None
    created: Instant
    jsd_public: bool | None = None
    visibility: Any = None

    @property
    def is_public(self) -> bool:
        """Whether the customer sees it: it is no internal note, nor for one group or role only."""
        return self.jsd_public is not False and not self.visibility


class Thread(CamelShape):
    """The comments of an issue, or some of them."""

    comments: Items = ()
    total: int | None = None


def _at(*path: str) -> AliasPath:
    return AliasPath("fields", *path)


class Rendered(Shape):
    """A comment as HTML. The times beside it are written for people («2 hours ago»), and are not read."""

    id: str
    body: str | None = None


class Issue(CamelShape):
    id: Annotated[str, Field(pattern=r"^\d+$")]
    key: str
    fields: dict[str, Any]
    summary: Words = Field("", validation_alias=_at("summary"))
    description: Any = Field(None, validation_alias=_at("description"))
    html: Words = Field("", validation_alias=AliasPath("renderedFields", "description"))
    thread: Thread | None = Field(None, validation_alias=_at("comment"))
    rendered: Many[Rendered] = Field((), validation_alias=AliasPath("renderedFields", "comment", "comments"))
    reporter: User | None = Field(None, validation_alias=_at("reporter"))
    created: Instant = Field(validation_alias=_at("created"))
    updated: Instant = Field(validation_alias=_at("updated"))
    status: str = Field(validation_alias=_at("status", "name"))
    status_category: str | None = Field(None, validation_alias=_at("status", "statusCategory", "key"))
    priority: str | None = Field(None, validation_alias=_at("priority", "name"))
    labels: Many[str] = Field((), validation_alias=_at("labels"))
    type: str | None = Field(None, validation_alias=_at("issuetype", "name"))
    project: str | None = Field(None, validation_alias=_at("project", "name"))

    @property
    def version(self) -> str:
        return self.updated.isoformat()

    @property
    def comments(self) -> Sequence[Any] | None:
        """The comments that came with the issue; None unless they are all."""
        return self.thread.comments if self.thread and (self.thread.total or 0) <= len(self.thread.comments) else None


class Talk(Shape):
    """All comments of an issue."""

    id: str
    comments: Many[Comment]


class Customer(Shape):
    """An organisation of Jira Service Management."""

    id: str | None = None
    name: str


def _subdomain(value: object) -> object:
    """The acme of `acme.atlassian.net`, or of that site's address in a browser."""
    if not isinstance(value, str):
        return value
    return value.strip().lower().removeprefix("https://").rstrip("/").removesuffix(".atlassian.net")


_QUOTED = re.compile(r"""(["'])(?:\\.|(?!\1)[^\\])*\1""", re.DOTALL)


class Jira(Tickets):
    """Issues of a Jira Cloud site, requests of Jira Service Management among them."""

    provider: ClassVar[str] = "jira"

    site: Annotated[str, BeforeValidator(_subdomain)] = Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$", description="The site: acme, or acme.atlassian.net."
    )
    email: str = Field(description="The e-mail address of the account whose API token it is.")
    api_token: SecretStr = Field(description="An API token of that account (id.atlassian.com).")
    jql: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] = Field(
        description="Which issues, in Jira's own words: project in (SUP). An ORDER BY at its end does not count."
    )
    overlap: Duration = Field(
        timedelta(minutes=30),
        description="How long before the last change seen each reading begins, because the search finds changes late.",
    )
    organization_field: str | None = Field(
        None,
        pattern=r"^customfield_\d+$",
        description="The id of the field that holds the customer's organizations, like customfield_10002.",
    )

    @field_validator("jql")
    @classmethod
    def _stands_in_parentheses(cls, jql: str) -> str:
        bare = _QUOTED.sub(lambda quoted: " " * len(quoted[0]), jql)
        if order := re.search(r"\border\s+by\b", bare, re.IGNORECASE):  # as copied from Jira's search; ours counts
            bare, jql = bare[: order.start()], jql[: order.start()].rstrip()
        if '"' in bare or "'" in bare:
            raise ValueError("a quotation mark is not closed")
        if not bare.strip():
            raise ValueError("it has to restrict which issues are read, like project in (SUP)")
        depths = list(accumulate((sign == "(") - (sign == ")") for sign in bare))
        if min(depths) < 0 or depths[-1] != 0:
            raise ValueError("its parentheses are not in pairs")
        return jql

    def home(self) -> str:
        return f"https://{self.site}.atlassian.net"

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the site outlasts the entry's name
        return f"jira:{self.site}"

    def auth(self) -> httpx.Auth:
        return httpx.BasicAuth(self.email, self.api_token.get_secret_value())

    def status_of(self, answer: httpx.Response) -> int:
        """Jira takes whoever it does not know for a guest, to whom there is nothing (200, 404); a header tells."""
        is_guest = answer.headers.get("X-Seraph-LoginReason", "").upper() == "AUTHENTICATED_FAILED"
        return 401 if is_guest else answer.status_code

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:
        """Retry-After may be missing where the end of the wait stands in a header of Jira's own."""
        reset = answer.headers.get("X-RateLimit-Reset")
        if reset and not answer.is_success:
            with suppress(UnreadableDate):
                return max(instant(reset) - now, timedelta(0))
        return None

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 400:
                return "Try this connector's jql in Jira's own issue search"
            case 401:
                return (
                    "Jira does not know this e-mail address and API token. Is email that of the token's owner, and has "
                    "the token not expired? A token with scopes needs base_url: "
                    "https://api.atlassian.com/ex/jira/<cloud id>"
                )
            case 403:
                return (
                    f"The account of this token may not use Jira at {self.site}.atlassian.net, or the token lacks the "
                    "scopes read:jira-work and read:jira-user"
                )
            case 404:
                return f"Is there a Jira Cloud site {self.site}.atlassian.net? Server and Data Center are not read"
            case 410:
                return f"This Jira has no {SEARCH} (any more). Is it a Data Center? Only Jira Cloud is read"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        myself = await self._myself(http)
        found = await self._search(http, f'updated >= "{_minute(BEGINNING, _zone(myself))}"', None, most=1)
        what = "finds issues" if found.issues else "finds no issue that this account may see"
        return f"{self.site}.atlassian.net knows {myself.display_name or self.email}; the jql {what}"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        zone = _zone(await self._myself(http))
        place = {name: at for name in ("updated", "reread", "quiet") if (at := moment(checkpoint, name))}
        beginning = window.since or BEGINNING
        start = place["updated"] - self.overlap if "updated" in place else beginning
        is_daily = "reread" not in place or window.now - place["reread"] >= REREAD_EVERY
        if is_daily and "reread" in place:
            start = min(start, place["reread"] - REREAD_FROM)
        quiet_before = window.now - (self.quiet_for or timedelta(0))
        if self.quiet_for is not None and not checkpoint:
            place["quiet"] = quiet_before  # a first reading sees to all that is quiet by now
        async for page, latest in self._walk(http, f'updated >= "{_minute(start, zone)}"', window):
            place |= _reached(place, "updated", latest, window.now)
            yield replace(page, checkpoint=_kept(place))
        if is_daily:
            place["reread"] = window.now
        if self.quiet_for is not None and ("quiet" not in place or quiet_before - place["quiet"] >= LOOK_AGAIN):
            # the next search begins with the very words that this one ends with, whatever the clocks do meanwhile
            since, until = _minute(place.get("quiet", beginning), zone), _minute(quiet_before, zone)
            quiet = f'statusCategory != Done AND updated >= "{since}" AND updated < "{until}"'
            async for page, latest in self._walk(http, quiet, window):
                place |= _reached(place, "quiet", latest, quiet_before)
                yield replace(page, checkpoint=_kept(place))
            place["quiet"] = quiet_before
        yield Page(checkpoint=_kept(place))

    async def _myself(self, http: httpx.AsyncClient) -> Myself:
        return read(await http.get(self.url(MYSELF)), Myself)

    async def _search(self, http: httpx.AsyncClient, restriction: str, token: str | None, most: int = 100) -> Search:
        question = {
            "jql": f"({self.jql}) AND {restriction} ORDER BY updated ASC, key ASC",
            "fields": [*FIELDS, *([self.organization_field] if self.organization_field else [])],
            "expand": "renderedFields",
            "maxResults": most,
        }
        if token:
            question["nextPageToken"] = token
        return read(await http.post(self.url(SEARCH), json=question, extensions={"idempotent": True}), Search)

    async def _walk(
        self, http: httpx.AsyncClient, restriction: str, window: Window
    ) -> AsyncGenerator[tuple[Page, datetime | None], None]:
        """What goes out of the issues under a restriction, a page at a time, each with its latest change."""
        trail, found = Trail(), None
        while found is None or trail.follow(found.next_page_token):
            found = await self._search(http, restriction, found.next_page_token if found else None)
            tray = Tray("Jira issue")
            issues = tray.read(found.issues, Issue)
            latest = max((issue.updated for issue in issues), default=None)
            yield await self._page(http, tray, issues, window), latest

    async def _page(self, http: httpx.AsyncClient, tray: Tray, issues: Sequence[Issue], window: Window) -> Page:
        ready = [
            issue
            for issue in issues
            if self.goes_out(is_done=issue.status_category == "done", touched=issue.updated, now=window.now)
        ]
        known = await window.known({issue.id: issue.version for issue in ready if issue.comments is None})
        fresh = [issue for issue in ready if issue.id not in known]
        threads = await each(fresh, lambda issue: self._comments(http, issue))
        given = [
            {"id": issue.id, "comments": thread}
            for issue, thread in zip(fresh, threads, strict=True)
            if thread is not None
        ]
        talks = {talk.id: talk.comments for talk in tray.read(given, Talk)}
        told = [tray.record(self._record, issue, talks[issue.id]) for issue in fresh if issue.id in talks]
        return Page(
            records=list(filter(None, told)),
            set_aside=tray.aside,
            filtered=len(issues) - len(ready) + threads.count(None),
            unchanged=len(ready) - len(fresh),
        )

    async def _comments(self, http: httpx.AsyncClient, issue: Issue) -> Sequence[Any] | None:
        """All comments of an issue; None when it is gone."""
        if issue.comments is not None:
            return issue.comments
        comments: list[Any] = []
        how = {"maxResults": 100, "orderBy": "created", "expand": "renderedBody"}
        while True:
            url = httpx.URL(self.url(f"/rest/api/3/issue/{issue.id}/comment"), params=how | {"startAt": len(comments)})
            try:
                answer = await http.get(url)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 404:
                    return None
                raise
            some = read(answer, Thread)
            comments += some.comments
            if not some.comments or some.total is None or len(comments) >= some.total:
                return comments

    def _record(self, issue: Issue, comments: Sequence[Comment]) -> Record:
        reporter = issue.reporter
        html = {one.id: one.body for one in issue.rendered}
        opening = Message(
            author=reporter.display_name if reporter else None,
            role="customer",
            at=issue.created,
            text=_text(issue.html, issue.description, is_reply=False),
        )
        answers = [
            Message(
                author=comment.author.display_name if comment.author else None,
                role="customer" if _is_customer(comment.author, reporter) else "agent",
                at=comment.created,
                text=_text(comment.rendered_body or html.get(comment.id), comment.body, is_reply=True),
            )
            for comment in sorted(comments, key=lambda comment: comment.created)
            if comment.is_public
        ]
        page = Link(f"{self.home()}/browse/{quote(issue.key)}", "Open Jira issue", "support_ticket", primary=True)
        return Record(
            id=issue.id,
            kind="support_ticket",
            title=issue.summary or f"Jira issue {issue.key}",
            text=conversation(issue.summary, [opening, *answers]) or issue.summary,  # which may be the whole request
            occurred_at=issue.created,
            links=(page,),
            people=(Person(reporter.display_name, reporter.email_address, "customer"),) if reporter else (),
            organisation=self._organisation(issue),
            attributes=present(
                key=issue.key,
                status=issue.status,
                priority=issue.priority,
                labels=issue.labels,
                issueType=issue.type,
                project=issue.project,
            ),
            version=issue.version,
        )

    def _organisation(self, issue: Issue) -> Organisation | None:
        """The first organisation in the operator's field, if there is one in it."""
        value = issue.fields.get(self.organization_field or "")
        for customer in readable(value if isinstance(value, list) else [value], Customer):
            return Organisation(customer.name, None, f"jira-org:{customer.id}" if customer.id else None)
        return None


def _zone(myself: Myself) -> ZoneInfo:
    try:
        return ZoneInfo(myself.time_zone)
    except (LookupError, ValueError, OSError) as error:
        raise SourceError(
            f"the Jira profile of this token's account has the time zone {myself.time_zone[:60]!r}, which is not known "
            "here, so that no time can be written in it. Choose another one in that profile"
        ) from error


def _minute(at: datetime, zone: tzinfo) -> str:
    """A time as JQL has it: to the minute, in the zone of the profile.

    It is never read as later than `at`: an hour that comes twice, as clocks go back, is written as the one before.
    """
    local = at.astimezone(zone)
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return f"{(at - (second - first)).astimezone(zone):%Y-%m-%d %H:%M}"


def _reached(place: Mapping[str, datetime], name: str, latest: datetime | None, now: datetime) -> dict[str, datetime]:
    """How far a search has come. A change that lies in the future counts as now: nothing before it shall be passed
    over."""
    known = [at for at in (place.get(name), latest) if at]
    return {name: min(max(known), now)} if known else {}


def _kept(place: Mapping[str, datetime]) -> Checkpoint:
    return {name: at.isoformat() for name, at in place.items()}


def _is_customer(author: User | None, reporter: User | None) -> bool:
    if author is None:
        return False
    is_reporter = author.account_id is not None and reporter is not None and author.account_id == reporter.account_id
    return is_reporter or author.account_type == "customer"


def _text(html: str | None, document: object, *, is_reply: bool) -> str:
    """What was written, from HTML, or else from the document itself."""
    text = plain(html or "", is_reply=is_reply) or written(document).strip()
    return own_words(text, is_reply=is_reply)
