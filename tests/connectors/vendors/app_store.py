"""Apple's App Store Connect API, as far as customer reviews go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.app_store import AppStore
from syncd.promises import Case, Vendor
from tests.connectors.vendors import STRANGE, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
HOME = "https://api.appstoreconnect.apple.com"
APP = "6448311069"
ISSUER = "8a1f2c60-91b5-4f0e-9b58-7c3df9aa0b11"
KEY_ID = "7QK4XN2M9B"
FIELDS = {"rating", "title", "body", "reviewerNickname", "createdDate", "territory", "response"}
RESPONSE_FIELDS = {"responseBody", "lastModifiedDate", "state", "review"}


def p8(key: ec.EllipticCurvePrivateKey) -> str:
    """A key as Apple gives it out."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def review(number: int, *, reply: str | None = None, state: str = "PUBLISHED", **attributes: Any) -> dict[str, Any]:
    """A review as the API has it, a day older than the one before; under `reply`, the answer that goes with it."""
    created = (NOW - timedelta(days=number)).astimezone(datetime.strptime("-0700", "%z").tzinfo)
    id_ = f"00000{number:03}-5d2e-4c77-b1a0-99e4c0ffee00"
    answered = {"type": "customerReviewResponses", "id": f"r-{number}"}
    return {
        "type": "customerReviews",
        "id": id_,
        "attributes": {
            "rating": 2,
            "title": f"Loses my list no. {number}",
            "body": "Every second launch starts with an empty shopping list.",
            "reviewerNickname": "tobi_k",
            "createdDate": created.isoformat(),
            "territory": "DEU",
        }
        | attributes,
        "relationships": {"response": {"data": answered if reply else None, "links": {}}},
        "links": {"self": f"{HOME}/v1/customerReviews/{id_}"},
        "_reply": answered
        | {"attributes": {"responseBody": reply, "lastModifiedDate": created.isoformat(), "state": state}}
        if reply
        else None,
    }


class FakeAppStore(Vendor):
    """The account of one app with these reviews, newest first, so many a page."""

    def __init__(
        self,
        reviews: Sequence[dict[str, Any]],
        *,
        page: int = 3,
        left: int = 3000,
        circles: bool = False,
        person: bool = False,
    ) -> None:
        super().__init__()
        self.reviews = reviews
        self.page = page
        self.left = left
        self.circles = circles
        self.person = person

    def answer(self, request: httpx.Request) -> httpx.Response:
        if why := self._distrusts(request.headers.get("Authorization", "")):
            return _errors(401, "NOT_AUTHORIZED", why)
        if request.url.path != f"/v1/apps/{APP}/customerReviews":
            return _errors(404, "NOT_FOUND", "There is no resource of that type with the given id")
        return self._list(
            only(
                request,
                *("sort", "limit", "include", "cursor"),
                *("fields[customerReviews]", "fields[customerReviewResponses]"),
            )
        )

    def _distrusts(self, header: str) -> str | None:
        scheme, _, token = header.partition(" ")
        try:
            assert scheme == "Bearer"
            assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": KEY_ID, "typ": "JWT"}
            claims = jwt.decode(token, KEY.public_key(), ["ES256"], audience="appstoreconnect-v1")
            assert claims["exp"] - claims["iat"] <= 20 * 60, "it is valid for more than 20 minutes"
            whose = {"sub": "user"} if self.person else {"iss": ISSUER}
            assert claims == {**whose, **{name: claims[name] for name in ("iat", "exp", "aud")}}
        except (jwt.PyJWTError, AssertionError, KeyError) as error:
            return f"Provide a properly configured and signed bearer token: {error}"
        return None

    def _list(self, params: dict[str, str]) -> httpx.Response:
        if not 1 <= int(params.get("limit", "50")) <= 200:
            return _errors(400, "PARAMETER_ERROR.INVALID", "limit is 200 at most")
        if params.get("sort", "-createdDate") != "-createdDate" or params.get("include", "response") != "response":
            return _errors(400, "PARAMETER_ERROR.INVALID", "sort or include is none of the possible values")
        wanted = set(params.get("fields[customerReviews]", ",".join(FIELDS)).split(","))
        told = set(params.get("fields[customerReviewResponses]", ",".join(RESPONSE_FIELDS)).split(","))
        if not (wanted <= FIELDS and told <= RESPONSE_FIELDS):
            return _errors(400, "PARAMETER_ERROR.INVALID", "there is no such field")
        newest_first = sorted(self.reviews, key=lambda each: str(each["attributes"].get("createdDate")), reverse=True)
        start = int(params.get("cursor", "c0")[1:])
        shown = newest_first[start : start + self.page]
        replies = [each["_reply"] for each in shown if each["_reply"]] if "include" in params else []
        links = {"self": f"{HOME}/v1/apps/{APP}/customerReviews"}
        if self.circles or start + self.page < len(newest_first):
            onward = params | {"cursor": "c3" if self.circles else f"c{start + self.page}"}
            links["next"] = str(httpx.URL(links["self"], params=onward))
        return httpx.Response(
            200,
            headers={"X-Rate-Limit": f"user-hour-lim:3500;user-hour-rem:{self.left};"},
            json={
                "data": [_with(each, wanted) for each in shown],
                **({"included": replies} if replies else {}),
                "links": links,
                "meta": {"paging": {"total": len(self.reviews), "limit": int(params.get("limit", "50"))}},
            },
        )


def _with(item: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    """A review as it is shown to one who asks for these fields."""
    shown = {name: value for name, value in item.items() if name != "_reply"}
    attributes = item["attributes"]
    shown["attributes"] = {name: value for name, value in attributes.items() if name in wanted}
    if "response" not in wanted:
        del shown["relationships"]
    return shown


def _errors(status: int, code: str, detail: str) -> httpx.Response:
    return httpx.Response(
        status, json={"errors": [{"status": str(status), "code": code, "title": code.lower(), "detail": detail}]}
    )


def app_store(**more: Any) -> AppStore:
    """The connector of that account."""
    return AppStore(
        **({"app_id": APP, "issuer_id": ISSUER, "key_id": KEY_ID, "private_key": p8(KEY), "reread": "1d"} | more)
    )


BARE = {"title": None, "body": STRANGE, "rating": None, "reviewerNickname": None, "territory": None}

CASE = Case(
    connector=app_store(),
    full=lambda: FakeAppStore([review(number) for number in range(1, 9)]),
    ids=frozenset(review(number)["id"] for number in range(1, 9)),
    empty=lambda: FakeAppStore([]),
    strange=lambda: FakeAppStore(
        [
            review(1, title=STRANGE, body=STRANGE, reviewerNickname=STRANGE, reply=STRANGE),
            review(2, **BARE) | {"relationships": {"response": None}},
            review(3, **BARE, createdDate=None) | {"relationships": None},
        ]
    ),
    broken=(lambda: FakeAppStore([review(1), review(2, createdDate="last spring"), review(3)]), review(2)["id"]),
    required="id",
    circling=lambda: FakeAppStore([review(number) for number in range(1, 4)], circles=True),
    forged=app_store(private_key=p8(OTHER_KEY)),
    later=[
        (lambda: FakeAppStore([review(2)]), lambda: FakeAppStore([review(0), review(2)]), review(0)["id"]),
        (lambda: FakeAppStore([review(2)]), lambda: FakeAppStore([review(2, body="Edited")]), review(2)["id"]),
    ],
    now=NOW,
)
