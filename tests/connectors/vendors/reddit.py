"""Reddit, as far as its listings of new posts and comments and its search go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx

from connectors.reddit import Reddit
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, basic, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
APP = "Zq8_made-up-app"
TOKEN = "fetched-token-77aa"

Things = Sequence[dict[str, Any]]


def post(number: int, *, hours_ago: float | None = None, **more: Any) -> dict[str, Any]:
    """A post of text, an hour older than the one before."""
    id_ = f"1ab{number:04}"
    created = NOW - timedelta(hours=number if hours_ago is None else hours_ago)
    return {
        "id": id_,
        "name": f"t3_{id_}",
        "title": f"Sync stops at file {number}",
        "selftext": "It worked *before* 4.2.",
        "is_self": True,
        "author": "quiet_otter",
        "author_fullname": "t2_9xyz",
        "subreddit": "acme",
        "created_utc": created.timestamp(),
        "edited": False,
        "score": 3,
        "num_comments": 2,
        "link_flair_text": "Bug",
        "removed_by_category": None,
        "permalink": f"/r/acme/comments/{id_}/sync_stops/",
        "url": f"https://www.reddit.com/r/acme/comments/{id_}/sync_stops/",
    } | more


def remark(number: int, *, hours_ago: float | None = None, **more: Any) -> dict[str, Any]:
    """A comment on a post."""
    id_ = f"k7c{number:04}"
    created = NOW - timedelta(hours=number if hours_ago is None else hours_ago)
    return {
        "id": id_,
        "name": f"t1_{id_}",
        "body": "Same here, since Monday.",
        "author": "loud_heron",
        "subreddit": "acme",
        "is_submitter": False,
        "link_id": "t3_1ab0001",
        "link_title": "Sync stops at file 1",
        "link_permalink": "https://www.reddit.com/r/acme/comments/1ab0001/sync_stops/",
        "parent_id": "t3_1ab0001",
        "created_utc": created.timestamp(),
        "edited": False,
        "score": 1,
        "replies": "",
        "permalink": f"/r/acme/comments/1ab0001/sync_stops/{id_}/",
    } | more


class FakeReddit(Vendor):
    """Subreddits with these posts and comments. A list ends after `most` items; a `shut` one answers as it says."""

    def __init__(
        self,
        posts: Mapping[str, Things],
        comments: Mapping[str, Things] | None = None,
        *,
        page: int = 100,
        most: int = 1000,
        shut: Mapping[str, httpx.Response] | None = None,
        circles: bool = False,
    ) -> None:
        super().__init__()
        self.posts = posts
        self.comments = comments or {}
        self.page = page
        self.most = most
        self.shut = shut or {}
        self.circles = circles
        self.headers = {"x-ratelimit-used": "3", "x-ratelimit-remaining": "997.0", "x-ratelimit-reset": "247"}

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["User-Agent"].startswith("python:syncd."), "other names are slowed down"
        if request.url.host == "www.reddit.com":
            return self._token(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return httpx.Response(401, json={"message": "Unauthorized", "error": 401})
        match request.url.path.strip("/").split("/"):
            case ["search"]:
                return self._found([each for posts in self.posts.values() for each in posts], request, "restrict_sr")
            case ["r", name, _] if name in self.shut:
                return self.shut[name]
            case ["r", name, _] if name not in self.posts:
                return httpx.Response(302, headers={"Location": f"/subreddits/search?q={name}"})
            case ["r", name, "new"]:
                return self._listed(self.posts[name], only(request, "limit", "after", "raw_json"))
            case ["r", name, "comments"]:
                return self._listed(self.comments.get(name, ()), only(request, "limit", "after", "raw_json"))
            case ["r", name, "search"]:
                return self._found(self.posts[name], request)
        return httpx.Response(404, json={"message": "Not Found", "error": 404})

    def _token(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/api/v1/access_token")
        if request.headers.get("Authorization") != basic(APP, SECRET):
            return httpx.Response(401, json={"message": "Unauthorized", "error": 401})
        if parse_qs(request.content.decode()) != {"grant_type": ["client_credentials"]}:
            return httpx.Response(200, json={"error": "unsupported_grant_type"})
        given = {"access_token": TOKEN, "token_type": "bearer", "expires_in": 86400, "scope": "*"}
        return httpx.Response(200, json=given)

    def _found(self, posts: Things, request: httpx.Request, unwanted: str | None = None) -> httpx.Response:
        params = only(request, "q", "sort", "t", "type", "restrict_sr", "limit", "after", "raw_json")
        assert params["sort"] == "new"
        assert ("restrict_sr" in params) == (unwanted is None), "a search that is not restricted is one of everything"
        return self._listed([each for each in posts if params["q"] in each["title"]], params)

    def _listed(self, things: Things, params: dict[str, str]) -> httpx.Response:
        assert params.get("raw_json") == "1", "texts would come with &amp; in them"
        newest_first = sorted(things, key=lambda each: str(each["created_utc"]), reverse=True)[: self.most]
        names = [each["name"] for each in newest_first]
        start = names.index(params["after"]) + 1 if params.get("after") and not self.circles else 0
        end = start + min(int(params.get("limit", "25")), 100, self.page)
        children = [{"kind": each["name"][:2], "data": each} for each in newest_first[start:end]]
        after = names[end - 1] if end < len(names) or self.circles else None
        data = {"after": after, "before": None, "dist": len(children), "modhash": "", "children": children}
        return httpx.Response(200, json={"kind": "Listing", "data": data}, headers=self.headers)


def reddit(**more: Any) -> Reddit:
    """The connector of one subreddit."""
    return Reddit(**({"client_id": APP, "client_secret": SECRET, "subreddits": ["acme"]} | more))


BARE = dict.fromkeys(("author", "selftext", "link_flair_text", "is_self", "url", "subreddit", "removed_by_category"))
BARE_REMARK = dict.fromkeys(("author", "subreddit", "link_id", "link_title", "permalink"))


def _subreddit(*posts: dict[str, Any]) -> Callable[[], FakeReddit]:
    return lambda: FakeReddit({"acme": posts, "acmehelp": []})


CASE = Case(
    connector=reddit(subreddits=["acme", "acmehelp"], comments=True),
    full=lambda: FakeReddit(
        {"acme": [*map(post, range(1, 6)), post(9, selftext="[removed]")], "acmehelp": [post(20), post(21)]},
        {"acme": [*map(remark, range(1, 5))]},
        page=2,
    ),
    ids=frozenset(
        [*(post(number)["name"] for number in (1, 2, 3, 4, 5, 20, 21)), *(remark(n)["name"] for n in range(1, 5))]
    ),
    empty=lambda: FakeReddit({"acme": [], "acmehelp": []}),
    strange=lambda: FakeReddit(
        {"acme": [post(1, title=STRANGE, selftext=STRANGE, author=STRANGE), post(2, **BARE)], "acmehelp": []},
        {"acme": [remark(3, body=STRANGE, **BARE_REMARK)]},
    ),
    broken=(
        lambda: FakeReddit({"acme": [post(1), post(2, created_utc="the other day"), post(3)], "acmehelp": []}),
        post(2)["name"],
    ),
    required="created_utc",
    circling=lambda: FakeReddit({"acme": [post(1)], "acmehelp": []}, page=1, circles=True),
    forged=reddit(client_secret="wrong"),
    later=[
        (_subreddit(post(2)), _subreddit(post(0), post(2)), post(0)["name"]),
        (_subreddit(post(2)), _subreddit(post(2, selftext="Edited", edited=NOW.timestamp())), post(2)["name"]),
    ],
    now=NOW,
)
