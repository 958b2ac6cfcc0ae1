"""Apple's public feed of customer reviews."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx

from connectors.app_store_rss import AppStoreRss
from syncd.promises import Case, Vendor
from tests.connectors.vendors import STRANGE, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
APP = "6448311069"
PATH = re.compile(r"/([a-z]{2})/rss/customerreviews/page=(\d+)/id=(\d+)/sortby=mostrecent/json")

THE_APP = {
    "im:name": {"label": "Basket"},
    "rights": {"label": "© Basket GmbH"},
    "id": {"label": f"https://apps.apple.com/us/app/basket/id{APP}?uo=2", "attributes": {"im:id": APP}},
    "title": {"label": "Basket - Basket GmbH"},
}
"""The entry that older feeds put first."""


def entry(number: int, **more: Any) -> dict[str, Any]:
    """A review as the feed has it, a day older than the one before; values are given without their wrapping."""
    updated = (NOW - timedelta(days=number)).astimezone(timezone(timedelta(hours=-7)))
    values = {
        "author": {"uri": {"label": "https://itunes.apple.com/us/reviews/id700"}, "name": {"label": "tobi_k"}},
        "updated": updated.isoformat(),
        "im:rating": "2",
        "im:version": "7.2.0",
        "id": str(13_600_000_000 - number),
        "title": f"Loses my list no. {number}",
        "content": "Every second launch starts with an empty shopping list.",
        "im:voteSum": "1",
        "im:voteCount": "4",
    } | more
    return {
        name: value if isinstance(value, dict) or value is None else {"label": value} for name, value in values.items()
    } | {"link": {"attributes": {"rel": "related", "href": f"https://itunes.apple.com/us/review?id={APP}"}}}


class FakeFeeds(Vendor):
    """Storefronts with these reviews each, newest first; the other storefronts do not sell the app.

    `end` is what Apple says to a page past the last one: 200, or an error.
    """

    def __init__(
        self,
        storefronts: Mapping[str, Sequence[dict[str, Any]]],
        *,
        page: int = 3,
        end: int = 200,
        first: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.storefronts = storefronts
        self.page = page
        self.end = end
        self.first = first

    def answer(self, request: httpx.Request) -> httpx.Response:
        only(request)
        if request.headers.get("Authorization"):
            return httpx.Response(400, text="what is that for?")
        asked = PATH.fullmatch(request.url.path)
        if asked is None or not 1 <= int(asked[2]) <= 10:
            return httpx.Response(400, text="CustomerReviews RSS page depth is limited to 10")
        if asked[3] != APP or asked[1] not in self.storefronts:
            return httpx.Response(404, text="")
        start = (int(asked[2]) - 1) * self.page
        shown = list(self.storefronts[asked[1]][start : start + self.page])
        if not shown and start and self.end != 200:
            return httpx.Response(self.end, text="")
        return feed([*([self.first] if self.first else []), *shown])


def feed(entries: Sequence[dict[str, Any]]) -> httpx.Response:
    """A page of the feed: no `entry` for none, an object for one, and a list for more."""
    holds = {0: {}, 1: {"entry": entries[0] if entries else None}}.get(len(entries), {"entry": list(entries)})
    said = {"feed": {"author": {"name": {"label": "iTunes Store"}}, **holds, "title": {"label": "Customer Reviews"}}}
    return httpx.Response(200, headers={"Content-Type": "text/javascript; charset=utf-8"}, content=json.dumps(said))


def app_store_rss(**more: Any) -> AppStoreRss:
    """The connector of that app."""
    return AppStoreRss(**({"app_id": APP, "countries": ["us", "de"], "reread": "1d"} | more))


HERE = [entry(number) for number in range(1, 9)]
THERE = [entry(number, id=str(13_700_000_000 - number)) for number in range(2, 7)]

CASE = Case(
    connector=app_store_rss(),
    full=lambda: FakeFeeds({"us": HERE, "de": THERE}),
    ids=frozenset(each["id"]["label"] for each in [*HERE, *THERE]),
    empty=lambda: FakeFeeds({"us": [], "de": []}),
    strange=lambda: FakeFeeds(
        {
            "us": [
                entry(1, title=STRANGE, content=STRANGE, author={"name": {"label": STRANGE}}),
                entry(2, title={"label": None}, content=STRANGE, updated={"label": None}),
                entry(3, content=STRANGE, **dict.fromkeys(("title", "updated", "author", "im:version"))),
            ]
        }
    ),
    broken=(
        lambda: FakeFeeds({"us": [entry(1), entry(2, updated="last spring"), entry(3)]}),
        entry(2)["id"]["label"],
    ),
    required="im:rating",
    circling=None,  # pages have numbers, and there are ten
    forged=None,  # the feed is public
    later=[
        (lambda: FakeFeeds({"us": HERE}), lambda: FakeFeeds({"us": [entry(0), *HERE]}), entry(0)["id"]["label"]),
        (
            lambda: FakeFeeds({"us": [entry(1), entry(2)]}),
            lambda: FakeFeeds({"us": [entry(1), entry(2, content="Edited")]}),
            entry(2)["id"]["label"],
        ),
    ],
    now=NOW,
)
