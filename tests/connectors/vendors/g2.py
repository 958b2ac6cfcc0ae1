"""G2, as far as the reviews of a product go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx

from connectors.g2 import G2
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, iso, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOME = "https://data.g2.com"
REVIEWS = "/api/v2/products/acme-desk/reviews"

USER = {
    "id": "u-1",
    "type": "users",
    "attributes": {
        "name": "Ines P.",
        "first_name": "Ines",
        "last_name": None,
        "title": "Head of Support",
        "company": "Globex",
        "industry": "Logistics",
        "company_segment": "Mid-Market",
        "image": "https://images.g2.test/1.png",
    },
}


def answered(**values: Any) -> dict[str, Any]:
    """Answers, each with its question."""
    questions = {
        "love": "What do you like best about Acme Desk?",
        "hate": "What do you dislike about Acme Desk?",
        "benefits": "What problems is Acme Desk solving?",
        "recommendations": "What would you recommend to others?",
    }
    return {key: {"text": questions.get(key), "value": value} for key, value in values.items()}


def review(number: int, *, changed: datetime | None = None, user: str | None = "u-1", **more: Any) -> dict[str, Any]:
    """A review, a day apart from the next. `changed` is what the filter goes by; it is not shown."""
    written = NOW - timedelta(days=30 - number)
    return {
        "changed": changed or written + timedelta(hours=6),
        "id": f"r-{number}",
        "type": "reviews",
        "attributes": {
            "title": f"Good, but export {number} is slow",
            "star_rating": 3.5,
            "answers": answered(love="Macros are quick to build.", hate="Exports stop at 50k rows."),
            "product_name": "Acme Desk",
            "slug": f"acme-desk-review-{number}",
            "url": f"https://www.g2.com/products/acme-desk/reviews/acme-desk-review-{number}",
            "country_name": "Portugal",
            "regions": ["EMEA"],
            "source": "Organic review. It was written without an invitation.",
            "review_incentive": False,
            "verified_current_user": True,
            "official_response_present": False,
            "comments_present": False,
            "is_public": True,
            "percent_complete": 98.5,
            "default_sort": 0.31 * number,
            "submitted_at": iso(written),
            "published_at": iso(written + timedelta(hours=6)),
            "user_updated_at": iso(written),
        }
        | more,
        "relationships": {"user": {"data": user and {"id": user, "type": "users"}}},
    }


class FakeG2(Vendor):
    """A product with these reviews, given so many a page, in an order of G2's own.

    Its cursors are good for one filter only. `links` is the address that it writes into its links.
    """

    def __init__(
        self,
        reviews: Sequence[dict[str, Any]],
        *,
        page: int = 3,
        circles: bool = False,
        authorization: str = f"Bearer {SECRET}",
        links: str = HOME,
    ) -> None:
        super().__init__()
        self.reviews = sorted(reviews, key=lambda each: str(each["id"])[::-1])
        self.page = page
        self.circles = circles
        self.authorization = authorization
        self.links = links
        self.forgotten = False
        """Whether every cursor so far is refused."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != self.authorization:
            return refused(401, "Invalid token")
        if request.url.path != REVIEWS:
            return refused(404, "Not Found")
        params = only(request, "page[size]", "page[after]", "filter[updated_at_gt]", "include")
        if not 1 <= int(params.get("page[size]", "25")) <= 250:
            return refused(400, 'Invalid parameter: "page[size]" is not between 1 and 250')
        if params.get("include", "user") != "user":
            return refused(400, 'Invalid parameter: "include" contains unknown items')
        since = params.get("filter[updated_at_gt]")
        found = [each for each in self.reviews if since is None or each["changed"] > datetime.fromisoformat(since)]
        start = 0
        if "page[after]" in params:
            last, _, filtered_by = params["page[after]"].partition("@")
            if filtered_by != str(since) or self.forgotten:
                return refused(400, 'Invalid parameter: "page[after]" is not a valid cursor')
            start = 1 + next(place for place, each in enumerate(found) if each["id"] == last)
        shown = found[start : start + min(self.page, int(params.get("page[size]", "25")))]
        return self._page(shown, params, bool(shown) and start + len(shown) < len(found), since)

    def _page(
        self, shown: Sequence[dict[str, Any]], params: dict[str, str], more: bool, since: str | None
    ) -> httpx.Response:
        following = None
        if more or self.circles:
            cursor = f"{'r-1' if self.circles else shown[-1]['id']}@{since}"
            following = f"{self.links}{REVIEWS}?{urlencode(params | {'page[after]': cursor})}"
        return httpx.Response(
            200,
            json={
                "data": [{name: value for name, value in each.items() if name != "changed"} for each in shown],
                "included": [USER] if params.get("include") and shown else [],
                "links": {"self": f"{self.links}{REVIEWS}", "next": following, "prev": None},
                "meta": {"record_count": len(self.reviews)},
            },
            headers={"Content-Type": "application/vnd.api+json"},
        )


def refused(status: int, title: str) -> httpx.Response:
    """An error as G2 writes it."""
    return httpx.Response(status, json={"errors": [{"status": str(status), "title": title}]})


def g2(**more: Any) -> G2:
    """The connector of that product."""
    return G2(**({"product": "acme-desk", "api_token": SECRET} | more))


BARE = dict.fromkeys(name for name in review(1)["attributes"] if name not in ("submitted_at", "answers"))

CASE = Case(
    connector=g2(),
    full=lambda: FakeG2([review(number) for number in range(1, 9)]),
    ids=frozenset(f"r-{number}" for number in range(1, 9)),
    empty=lambda: FakeG2([]),
    strange=lambda: FakeG2(
        [
            review(1, title=STRANGE, answers=answered(love=STRANGE, hate=None) | {"empty": None}),
            review(2, user=None, **(BARE | {"answers": answered(love=STRANGE)})),
            review(3, answers=None, user="u-2"),
        ]
    ),
    broken=(lambda: FakeG2([review(1), review(2, submitted_at="the other day"), review(3)]), "r-2"),
    required="submitted_at",
    circling=lambda: FakeG2([review(1)], circles=True),
    forged=g2(api_token="wrong"),
    later=[
        (lambda: FakeG2([review(1)]), lambda: FakeG2([review(1), review(2, changed=NOW)]), "r-2"),
        (lambda: FakeG2([review(1)]), lambda: FakeG2([review(1, changed=NOW, title="Edited")]), "r-1"),
    ],
    now=NOW,
)
