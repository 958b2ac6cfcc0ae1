"""Google Play's reviews, and the tokens of a service account."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from connectors.google_play import GooglePlay
from syncd.promises import Case, Vendor
from tests.connectors.vendors import STRANGE, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
APP = "com.acme.basket"
ACCOUNT = "reviews@acme-basket.iam.gserviceaccount.test"
TOKENS = "https://oauth2.googleapis.com/token"
TOKEN = "ya29.made-up-token-7d20"

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def service_account(key: rsa.RSAPrivateKey = KEY, **more: Any) -> str:
    """A key file as Google Cloud gives it out."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "acme-basket",
            "private_key_id": "k-2026",
            "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "client_email": ACCOUNT,
            "token_uri": TOKENS,
        }
        | more
    )


def seconds(at: datetime) -> dict[str, Any]:
    """A time as the API has it."""
    return {"seconds": str(int(at.timestamp())), "nanos": 250_000_000}


def review(number: int, *, reply: str | None = None, **comment: Any) -> dict[str, Any]:
    """A review as the API has it, half a day older than the one before."""
    changed = NOW - timedelta(hours=12 * number)
    said = {
        "text": f"Loses my list no. {number}\tEvery second launch starts with an empty shopping list.",
        "lastModified": seconds(changed),
        "starRating": 2,
        "reviewerLanguage": "de",
        "device": "husky",
        "androidOsVersion": 35,
        "appVersionCode": 7020,
        "appVersionName": "7.2.0",
        "thumbsUpCount": 3,
        "thumbsDownCount": 0,
        "deviceMetadata": {"productName": "husky (Pixel 8 Pro)", "manufacturer": "Google", "ramMb": 12288},
    } | comment
    answered = {"developerComment": {"text": reply, "lastModified": seconds(changed + timedelta(hours=1))}}
    return {
        "reviewId": f"gp:AOqpTO{number:03}",
        "authorName": "Tobi K.",
        "comments": [{"userComment": said}, *([answered] if reply else [])],
    }


class FakePlay(Vendor):
    """An app with these reviews, the last changed first, so many a page; those of the last week at `now` are served."""

    def __init__(
        self, reviews: Sequence[dict[str, Any]], *, page: int = 3, circles: bool = False, now: datetime = NOW
    ) -> None:
        super().__init__()
        self.reviews = reviews
        self.page = page
        self.circles = circles
        self.now = now
        self.granted = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return self._grant(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return google_error(401, "UNAUTHENTICATED", "authError")
        if request.url.path != f"/androidpublisher/v3/applications/{APP}/reviews":
            return google_error(404, "NOT_FOUND", "applicationNotFound")
        return self._list(only(request, "maxResults", "token", "translationLanguage"))

    def _grant(self, request: httpx.Request) -> httpx.Response:
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        try:
            assert request.method == "POST"
            assert form.keys() == {"grant_type", "assertion"}
            assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
            claims = jwt.decode(form["assertion"], KEY.public_key(), ["RS256"], audience=TOKENS)
            assert claims["iss"] == ACCOUNT
            assert claims["scope"] == "https://www.googleapis.com/auth/androidpublisher"
            assert claims["exp"] - claims["iat"] <= 3600
            assert abs(claims["iat"] - time.time()) < 300
        except (jwt.PyJWTError, AssertionError, KeyError) as error:
            return httpx.Response(400, json={"error": "invalid_grant", "error_description": f"Invalid JWT: {error}"})
        self.granted += 1
        return httpx.Response(200, json={"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"})

    def _list(self, params: dict[str, str]) -> httpx.Response:
        if not 1 <= int(params.get("maxResults", "10")) <= 100:
            return google_error(400, "INVALID_ARGUMENT", "invalid")
        served = sorted((each for each in self.reviews if self._is_served(each)), key=_changed, reverse=True)
        start = int(params.get("token", "CAE0")[3:])
        shown = served[start : start + self.page]
        if not shown:
            return httpx.Response(200, json={})
        said: dict[str, Any] = {"reviews": [_translated(each, params.get("translationLanguage")) for each in shown]}
        if self.circles or start + self.page < len(served):
            said["tokenPagination"] = {"nextPageToken": "CAE3" if self.circles else f"CAE{start + self.page}"}
            said["pageInfo"] = {"totalResults": 9999, "resultPerPage": len(shown), "startIndex": start}
        return httpx.Response(200, json=said)

    def _is_served(self, each: dict[str, Any]) -> bool:
        return _changed(each) >= (self.now - timedelta(days=7)).timestamp()


def _changed(each: dict[str, Any]) -> float:
    """When the customer wrote last; what cannot be read counts as new."""
    try:
        at = each["comments"][0]["userComment"]["lastModified"]["seconds"]
    except (LookupError, TypeError):
        at = None
    return float(at) if isinstance(at, str) and at.isdecimal() and at.isascii() and len(at) == 10 else NOW.timestamp()


def _translated(each: dict[str, Any], language: str | None) -> dict[str, Any]:
    if language is None:
        return each
    said = each["comments"][0]["userComment"]
    changed = said | {"text": f"[{language}] {said['text']}", "originalText": said["text"]}
    return each | {"comments": [{"userComment": changed}, *each["comments"][1:]]}


def google_error(code: int, status: str, reason: str) -> httpx.Response:
    """An error as all of Google's older APIs tell it."""
    errors = [{"message": "No.", "domain": "global", "reason": reason}]
    return httpx.Response(code, json={"error": {"code": code, "message": "No.", "status": status, "errors": errors}})


def google_play(**more: Any) -> GooglePlay:
    """The connector of that app."""
    return GooglePlay(**({"package_name": APP, "service_account": service_account(), "reread": "1h"} | more))


BARE = dict.fromkeys(review(1)["comments"][0]["userComment"])
"""A comment of which Google tells nothing."""

CASE = Case(
    connector=google_play(),
    full=lambda: FakePlay([review(number) for number in range(1, 9)]),
    ids=frozenset(review(number)["reviewId"] for number in range(1, 9)),
    empty=lambda: FakePlay([]),
    strange=lambda: FakePlay(
        [
            review(1, text=f"{STRANGE}\t{STRANGE}", reply=STRANGE) | {"authorName": STRANGE},
            review(2, **BARE | {"text": STRANGE}) | {"authorName": None},
            {"reviewId": "gp:bare", "comments": [None, {"userComment": {"text": STRANGE}, "developerComment": None}]},
        ]
    ),
    broken=(
        lambda: FakePlay([review(1), review(2, lastModified={"seconds": "last spring"}), review(3)]),
        review(2)["reviewId"],
    ),
    required="reviewId",
    circling=lambda: FakePlay([review(number) for number in range(1, 5)], circles=True),
    forged=google_play(service_account=service_account(OTHER_KEY)),
    later=[
        (lambda: FakePlay([review(2)]), lambda: FakePlay([review(0), review(2)]), review(0)["reviewId"]),
        (lambda: FakePlay([review(2)]), lambda: FakePlay([review(2, reply="Mended.")]), review(2)["reviewId"]),
    ],
    now=NOW,
)
