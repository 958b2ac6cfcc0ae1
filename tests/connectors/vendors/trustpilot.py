"""Trustpilot, as far as tokens and the reviews of a business unit go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connectors.trustpilot import TOKEN, Trustpilot
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, basic, iso, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
UNIT = "5a3f09c17be2d4460188f0aa"
KEY = "made-up-key-77b0"
ACCESS = "made-up-access-token-2e9d"


def review(number: int, *, at: datetime | None = None, **more: Any) -> dict[str, Any]:
    """A review as the business itself sees it, an hour apart from the next."""
    created = at or NOW - timedelta(hours=400 - number)
    return {
        "id": f"6711{number:020x}",
        "stars": 2,
        "title": f"Parcel {number} came late",
        "text": "The tracking page said delivered, the door said otherwise.",
        "language": "en",
        "createdAt": iso(created),
        "updatedAt": None,
        "experiencedAt": iso(created.replace(hour=0)),
        "isVerified": True,
        "reviewVerificationLevel": "invited",
        "numberOfLikes": number,
        "status": "active",
        "consumer": {
            "id": "60aa",
            "displayName": "Otis B.",
            "displayLocation": "Lyon, FR",
            "numberOfReviews": number,
            "links": [],
        },
        "businessUnit": {"id": UNIT, "identifyingName": "acme.test", "displayName": "Acme Parcels"},
        "location": {"id": "l-1", "name": "Depot South", "urlFormattedName": "DepotSouth"},
        "companyReply": None,
        "reportData": None,
        "complianceLabels": [],
        "countsTowardsTrustScore": True,
        "countsTowardsLocationTrustScore": False,
        "invitation": {"businessUnitId": UNIT},
        "businessUnitHistory": [],
        "links": [],
        "referralEmail": "otis@globex.test",
        "referenceId": f"A-{number}",
        "source": "InvitationApi",
        "tags": [{"group": "plan", "value": "express"}],
        "findReviewer": None,
    } | more


def id_of(number: int) -> str:
    """The id of that review."""
    return str(review(number)["id"])


PRIVATE = ("referralEmail", "referenceId", "source", "tags", "findReviewer")
"""What the public endpoint keeps to itself."""


class FakeTrustpilot(Vendor):
    """A business unit with these reviews. `expires_in` is a text, as Trustpilot has it."""

    def __init__(self, reviews: Sequence[dict[str, Any]], *, expires_in: str = "359999") -> None:
        super().__init__()
        self.reviews = list(reviews)
        self.expires_in = expires_in

    def answer(self, request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path:
            case "POST", path if path == TOKEN:
                return self._token(request)
            case "GET", path if path == f"/v1/private/business-units/{UNIT}/reviews":
                if request.headers.get("Authorization") != f"Bearer {ACCESS}":
                    return refused(401, "Unauthorized")
                return self._reviews(only(request, "orderBy", "page", "perPage", "startDateTime"), self.reviews)
            case "GET", path if path == f"/v1/business-units/{UNIT}/reviews":
                if request.headers.get("apikey") != KEY or "Authorization" in request.headers:
                    return refused(401, "Invalid ApiKey")
                shown = [{name: each[name] for name in each if name not in PRIVATE} for each in self.reviews]
                return self._reviews(only(request, "orderBy", "page", "perPage"), shown)
        return refused(404, "Business unit not found")

    def _token(self, request: httpx.Request) -> httpx.Response:
        if request.content != b"grant_type=client_credentials":
            return refused(400, "invalid_request")
        if request.headers.get("Authorization") != basic(KEY, SECRET):
            return refused(401, "invalid_client")
        return httpx.Response(200, json={"access_token": ACCESS, "expires_in": self.expires_in, "token_type": "Bearer"})

    def _reviews(self, params: dict[str, str], reviews: Sequence[dict[str, Any]]) -> httpx.Response:
        order = params.get("orderBy", "createdat.desc")
        page, size = int(params.get("page", "1")), int(params.get("perPage", "20"))
        start = params.get("startDateTime", "2000-01-01T00:00:00")
        if order not in ("createdat.asc", "createdat.desc") or page < 1 or not 1 <= size <= 100:
            return refused(400, "Invalid parameter")
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", start):
            return refused(400, "startDateTime is not a date")
        found = sorted(
            (each for each in reviews if str(each["createdAt"]) >= start),
            key=lambda each: (str(each["createdAt"]), str(each["id"])),
            reverse=order.endswith("desc"),
        )
        return httpx.Response(200, json={"links": [], "reviews": found[(page - 1) * size : page * size]})


def refused(status: int, why: str) -> httpx.Response:
    """An error as Trustpilot writes it."""
    return httpx.Response(status, json={"message": why, "errorCode": status})


def trustpilot(**more: Any) -> Trustpilot:
    """The connector of that business unit, with all that the business may see."""
    return Trustpilot(**({"business_unit_id": UNIT, "api_key": KEY, "api_secret": SECRET} | more))


BARE = dict.fromkeys(name for name in review(1) if name not in ("id", "createdAt", "text", "title"))

CASE = Case(
    connector=trustpilot(),
    full=lambda: FakeTrustpilot([review(number) for number in range(1, 251)]),
    ids=frozenset(map(id_of, range(1, 251))),
    empty=lambda: FakeTrustpilot([]),
    strange=lambda: FakeTrustpilot(
        [
            review(1, title=STRANGE, text=None, companyReply={"text": STRANGE, "createdAt": None}),
            review(2, **(BARE | {"text": STRANGE, "title": None, "tags": [None, {"group": None, "value": None}]})),
            review(3, consumer={"displayName": STRANGE, "displayLocation": None}, text=None, location={"name": None}),
        ]
    ),
    broken=(lambda: FakeTrustpilot([review(1), review(2, createdAt="the other day"), review(3)]), id_of(2)),
    required="createdAt",
    circling=None,
    forged=trustpilot(api_secret="wrong"),
    later=[
        (lambda: FakeTrustpilot([review(1)]), lambda: FakeTrustpilot([review(1), review(2, at=NOW)]), id_of(2)),
        (lambda: FakeTrustpilot([]), lambda: FakeTrustpilot([review(1)]), id_of(1)),
    ],
    now=NOW,
)
