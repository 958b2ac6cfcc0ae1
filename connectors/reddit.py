"""Reddit: what people say of a product in public, in posts and comments.

- `GET /r/{subreddit}/new`, `/r/{subreddit}/comments`: newest first, without a filter by time. Each is walked until a
  whole page is older than what was read before, with an overlap in which edits are noticed and late approvals found.
- `GET /r/{subreddit}/search` (or `/search`) with `sort=new`, instead of the posts, where a `query` is set.
- `POST https://www.reddit.com/api/v1/access_token`: an app-only token, good for an hour or a day as `expires_in` says.

A listing ends after about 1,000 items, a search often after 250, however many there are. Where that end comes before
what was read before, the span between cannot be had from Reddit, and is set aside in so many words.

Documented limits: 100 calls a minute and client, as `x-ratelimit-remaining` (a decimal) counts down; a User-Agent of
Reddit's own form; access for approved apps only. Scores and counts move by themselves and are not read. That an unknown
subreddit is answered by a redirect to the search for subreddits is not documented, but long seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal

import httpx
from pydantic import Field, SecretStr, model_validator

from syncd.connector import (
    Checkpoint,
    CredentialsRefused,
    Duration,
    Limit,
    Link,
    Page,
    Person,
    Record,
    SetAside,
    SourceError,
    WebAddress,
    Window,
)
from syncd.kit.api import Api
from syncd.kit.conversation import review
from syncd.kit.paging import NewestFirst, Trail, moment
from syncd.kit.shapes import Instant, Items, Shape, Tray, Words, present, read
from syncd.kit.tokens import Fetched, token_request

GONE = {"[deleted]", "[removed]", "[deleted by user]", "[ Removed by Reddit ]"}
"""What stands in place of a text that its author or a moderator took away."""

POST, COMMENT = "t3_", "t1_"
"""How the ids of posts and comments begin, whatever list they come in."""

Subreddit = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{2,30}$")]


class Children(Shape):
    children: Items
    after: str | None = None


class Listing(Shape):
    data: Children


class Thing(Shape):
    """A post or a comment."""

    name: str
    created_utc: Instant
    permalink: Words = ""
    subreddit: Words = ""
    author: Words = ""
    title: Words = ""
    selftext: Words = ""
    body: Words = ""
    url: Words = ""
    is_self: bool | None = None
    link_flair_text: str | None = None
    removed_by_category: str | None = None
    link_id: str | None = None
    link_title: Words = ""

    @property
    def is_wanted(self) -> bool:
        """Whether it is a person's, and still there. One whose author closed their account stays."""
        words = {self.selftext.strip(), self.body.strip()}
        return (
            self.name.startswith((POST, COMMENT))
            and not self.removed_by_category
            and not words & GONE
            and self.author != "AutoModerator"
        )


@dataclass(frozen=True, slots=True)
class Feed:
    """A list that is read. `name` is for people, `key` for the checkpoint, and `most` items or so is where Reddit ends
    it."""

    key: str
    name: str
    path: str
    params: Mapping[str, str]
    most: int


class Shut(SourceError):
    """One subreddit that cannot be read. The others are."""

    code = "subreddit_shut"


class Reddit(Api):
    """Posts and comments of some subreddits, or what a search finds."""

    provider: ClassVar[str] = "reddit"

    client_id: str = Field(pattern=r"^[!-~]+$", description="The id of your Reddit app, below its name.")
    client_secret: SecretStr = Field(description="The secret of the app.")
    subreddits: tuple[Subreddit, ...] = Field((), description="The subreddits to read, without r/: [acme, acmehelp].")
    query: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Only posts that this search finds, in those subreddits or, without any, in all of Reddit.",
    )
    comments: bool = Field(
        False, description="Whether the comments of the subreddits are read as well. They cannot be searched."
    )
    signal_type: Literal["review", "feedback_record"] = Field(
        "review", description="What posts and comments are at Zentrik: review (public opinion) or feedback_record."
    )
    overlap: Duration = Field(
        timedelta(days=2), description="For how long a post is read again, so that an edit of it is noticed."
    )
    username: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]{3,20}$",
        description="Your account at Reddit, without u/. Reddit asks apps to name it in their User-Agent.",
    )
    token_url: WebAddress = Field(
        "https://www.reddit.com/api/v1/access_token", description="Where tokens are fetched, if that is another place."
    )

    @model_validator(mode="after")
    def _something_to_read(self) -> Reddit:
        if not (self.subreddits or self.query):
            raise ValueError("give subreddits, or a query to search all of Reddit for")
        if self.comments and self.query:
            raise ValueError("comments cannot be searched: leave out query or comments, or write two entries")
        return self

    def home(self) -> str:
        return "https://oauth.reddit.com"

    def token_address(self) -> str:
        return self.token_url

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - ids are good in all of Reddit
        return "reddit"  # and a post that two entries find is one signal

    @property
    def agent(self) -> str:
        """The User-Agent in the form that Reddit asks for; others are slowed down."""
        by = f" (by /u/{self.username})" if self.username else ""
        return f"python:syncd.{self.client_id}:v1{by}"

    def auth(self) -> httpx.Auth:
        return Fetched(self._token_request)

    def _token_request(self) -> httpx.Request:
        form = {"grant_type": "client_credentials"}
        request = token_request(self.token_url, form, client=(self.client_id, self.client_secret))
        request.headers["User-Agent"] = self.agent
        return request

    def out_of_reach(self, since: datetime | None, now: datetime) -> str | None:  # noqa: ARG002 - it counts posts
        return "Reddit shows about the 1,000 newest of each list only, and about 250 that match a search"

    def limits(self) -> Sequence[Limit]:
        return (Limit(100, timedelta(minutes=1)),)

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:  # noqa: ARG002 - it is a span
        try:
            left = 0.0 if answer.status_code == 429 else float(answer.headers["x-ratelimit-remaining"])
            reset = float(answer.headers["x-ratelimit-reset"])
        except (KeyError, ValueError):
            return None
        return timedelta(seconds=reset) if left < 1 and 0 < reset <= 86_400 else None

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 401:
                return (
                    "Reddit does not know this app: client_id is the short text below the app's name, client_secret "
                    "its secret, both under reddit.com/prefs/apps"
                )
            case 403:
                return (
                    "The subreddit is private or quarantined, or Reddit has not approved this app: since November 2025 "
                    "it gives access to its API on request only"
                )
            case 404:
                return "The subreddit is banned or does not exist"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        feed = next(self._feeds())
        await self._listing(http, feed, {"limit": 1})
        return f"Reddit lets this app read {feed.name}"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        feeds = list(self._feeds())
        held = checkpoint.get("read_until")
        marks = {feed.key: held[feed.key] for feed in feeds if feed.key in held} if isinstance(held, Mapping) else {}
        shut: list[Shut] = []
        for feed in feeds:
            walk = NewestFirst(moment(marks, feed.key), self.overlap, window)
            try:
                async for page, is_last in self._read(http, feed, walk):
                    if is_last:
                        marks = {**marks, feed.key: walk.mark}
                    yield replace(page, checkpoint={"read_until": marks})
            except Shut as error:
                shut.append(error)
                yield Page(set_aside=[SetAside(f"Reddit: {feed.name}", str(error))], checkpoint={"read_until": marks})
        if len(shut) == len(feeds):
            raise shut[0]

    def _feeds(self) -> Iterator[Feed]:
        """What is read, in its order."""
        if self.query:
            found = hashlib.sha256(self.query.encode()).hexdigest()[:12]
            asked = {"q": self.query, "sort": "new", "t": "all", "type": "link"}
            within = asked | {"restrict_sr": "1"}  # or else all of Reddit is searched
            for name in self.subreddits:
                yield Feed(f"{name} {found}", f"posts found in r/{name}", f"/r/{name}/search", within, 250)
            if not self.subreddits:
                yield Feed(found, "posts found in all of Reddit", "/search", asked, 250)
            return
        for name in self.subreddits:
            yield Feed(name, f"posts of r/{name}", f"/r/{name}/new", {}, 1000)
            if self.comments:
                yield Feed(f"{name} comments", f"comments of r/{name}", f"/r/{name}/comments", {}, 1000)

    async def _read(
        self, http: httpx.AsyncClient, feed: Feed, walk: NewestFirst
    ) -> AsyncGenerator[tuple[Page, bool], None]:
        """The pages of a feed down to what was read before, each with whether it is the last."""
        wanted, reached = walk.newest or walk.window.since, walk.window.now
        trail = Trail()
        shown = 0
        params: dict[str, str | int] = {"limit": 100}
        is_last = False
        while not is_last:
            listing = await self._listing(http, feed, params)
            tray = Tray("Reddit item")
            things = tray.read([_content(child) for child in listing.children], Thing, key="name")
            shown += len(listing.children)
            reached = things[-1].created_utc if things else reached
            after = trail.follow(listing.after)
            is_last = walk.is_over(thing.created_utc for thing in things) or after is None
            told = [thing for thing in things if thing.is_wanted]
            records = tray.records(told, self._record)
            is_full = shown >= feed.most * 9 // 10  # removed ones count, and are not shown
            if after is None and is_full and (wanted is None or wanted < reached):
                tray.aside.append(_gap(feed, wanted, reached))
            yield Page(records=records, set_aside=tray.aside, filtered=len(things) - len(told)), is_last
            params = {"limit": 100, "after": after or ""}

    async def _listing(self, http: httpx.AsyncClient, feed: Feed, params: Mapping[str, str | int]) -> Children:
        """A page of a feed. Raises `Shut` when it is this feed alone that cannot be read."""
        try:
            answer = await http.get(
                self.url(feed.path),
                params={**feed.params, **params, "raw_json": 1},
                headers={"User-Agent": self.agent},
                follow_redirects=False,
            )
        except CredentialsRefused as error:
            if error.status == 403:
                raise Shut(str(error)) from error
            raise
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                raise Shut(str(error)) from error
            raise
        if answer.is_redirect:
            raise Shut("There is no subreddit of that name: Reddit leads to its search for one instead")
        return read(answer, Listing).data

    def _record(self, thing: Thing) -> Record:
        is_post = thing.name.startswith(POST)
        is_link = is_post and thing.is_self is False and thing.url.startswith(("https://", "http://"))
        title = thing.title if is_post else f"Comment on: {thing.link_title}" if thing.link_title else None
        return Record(
            id=thing.name,
            kind=self.signal_type,
            title=title,
            text=review(thing.title, None, [(None, thing.selftext)]) if is_post else thing.body,
            occurred_at=thing.created_utc,
            links=_links(thing.permalink, is_post),
            context=f"A comment on the post: {thing.link_title}" if not is_post and thing.link_title else None,
            people=(Person(thing.author, None, "author"),) if thing.author not in ("", "[deleted]") else (),
            attributes=present(
                subreddit=thing.subreddit,
                type="post" if is_post else "comment",
                flair=thing.link_flair_text,
                linksTo=thing.url if is_link else None,
                postId=thing.link_id,
            ),
        )


def _content(child: object) -> object:
    return child.get("data") if isinstance(child, dict) else child


def _links(permalink: str, is_post: bool) -> tuple[Link, ...]:
    """Only a permalink leads to the thing itself: the `url` of a post may lead anywhere, or be half an address."""
    if not permalink.startswith("/"):
        return ()
    what = "post" if is_post else "comment"
    return (Link(f"https://www.reddit.com{permalink}", f"Open Reddit {what}", what, primary=True),)


def _gap(feed: Feed, wanted: datetime | None, reached: datetime) -> SetAside:
    """The span that was wanted and cannot be had. Its place stays the same for the same span."""
    begin = f"since {_minute(wanted)}" if wanted else "from the beginning"
    return SetAside(
        f"Reddit: {feed.name} {begin}",
        f"those before {_minute(reached)} cannot be had: Reddit shows the newest {feed.most} or so only. Read it more "
        "often, so that fewer come between",
    )


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
