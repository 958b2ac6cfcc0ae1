"""Google Play: the reviews of your own apps, with your replies (Android Publisher API v3).

- `GET /androidpublisher/v3/applications/{package}/reviews`: reviews that were written or edited within the last seven
  days, the last changed first. There is no filter by date, and nothing older is served: what was not read in time can
  only be had from the monthly CSV files of the Play Console, and the reading after such a gap says so. Ratings without
  words are never shown.
- `POST` to the token address: a JWT that we sign with the service account's key (RS256), against a bearer token.

Documented limits: 200 calls an hour for each app. A quota that is used up is told with 403 as well as 429.

Read tolerantly: an app with nothing new answers `{}`, `tokenPagination` is often missing though there should be more,
and `maxResults` may be ignored. Of dates there is only that of the last change, in seconds as a text. Not documented is
whether a reply brings a review to the top again; pages are read again as far back as `reread`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

import httpx
from pydantic import Field, SecretStr, ValidationError

from syncd.connector import (
    Checkpoint,
    CredentialsRefused,
    Duration,
    Limit,
    Link,
    Page,
    Person,
    Record,
    RecordError,
    SetAside,
    WebAddress,
    Window,
    lasting,
)
from syncd.kit.api import Api
from syncd.kit.conversation import reply, review
from syncd.kit.paging import NewestFirst, Trail, moment
from syncd.kit.shapes import CamelShape, Instant, Items, Many, Shape, Tray, Words, present, read
from syncd.kit.tokens import Fetched, signed, token_request

SCOPE = "https://www.googleapis.com/auth/androidpublisher"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SERVED = timedelta(days=7)
"""How long Google shows a review after it was written or edited."""

A_WHILE = timedelta(minutes=5)
"""How long to leave Google alone when a quota is used up and it does not say until when."""

QUOTAS = {"rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded", "RESOURCE_EXHAUSTED"}


class ServiceAccount(Shape):
    """The key of a service account, as Google Cloud gives it out."""

    client_email: str = Field(min_length=1)
    private_key: SecretStr
    private_key_id: str | None = None
    token_uri: WebAddress = "https://oauth2.googleapis.com/token"  # noqa: S105 - it is an address


class When(Shape):
    seconds: Instant | None = None


class UserComment(CamelShape):
    """What the customer wrote. With a translation, `original_text` is what they wrote themselves."""

    text: Words = ""
    original_text: Words = ""
    last_modified: When | None = None
    star_rating: int | None = None
    reviewer_language: str | None = None
    device: str | None = None
    android_os_version: int | None = None
    app_version_code: int | None = None
    app_version_name: str | None = None


class DeveloperComment(CamelShape):
    text: Words = ""
    last_modified: When | None = None


class Comment(CamelShape):
    """One of both."""

    user_comment: UserComment | None = None
    developer_comment: DeveloperComment | None = None


class Review(CamelShape):
    id: str = Field(alias="reviewId")
    author_name: Words = ""
    comments: Many[Comment]

    @property
    def changed(self) -> datetime | None:
        """When something was written last, by either side."""
        said = [part for each in self.comments for part in (each.user_comment, each.developer_comment) if part]
        return max(filter(None, [_at(part.last_modified) for part in said]), default=None)


class Paging(CamelShape):
    next_page_token: str | None = None


class Reviews(CamelShape):
    """A page of reviews. Where there are none, nothing at all is said."""

    reviews: Items = ()
    token_pagination: Paging | None = None


class GooglePlay(Api):
    """Reviews of an app of your own on Google Play."""

    provider: ClassVar[str] = "google_play"

    package_name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+$",
        description="The app's package: com.acme.shopping.",
    )
    service_account: SecretStr = Field(
        description="The service account's key, the text of the JSON file that Google Cloud gives out."
    )
    translation_language: str | None = Field(
        None, min_length=2, description="A language that Google translates the reviews into (en); null: as written."
    )
    reread: Annotated[Duration, lasting(timedelta(hours=1), SERVED)] = Field(
        timedelta(days=2),
        description="How far back reviews are read again, to notice that one was answered or shown late; 1h to 7d.",
    )
    token_url: WebAddress | None = Field(
        None, description="Where tokens are fetched, when not at the address that the key names."
    )

    @property
    def _account(self) -> ServiceAccount:
        try:
            return ServiceAccount.model_validate_json(self.service_account.get_secret_value())
        except ValidationError:
            raise CredentialsRefused(
                "service_account is not the key of a service account: give the whole text of its JSON file, with "
                "client_email and private_key, or name the file as service_account_file"
            ) from None

    def home(self) -> str:
        return "https://androidpublisher.googleapis.com"

    def token_address(self) -> str:
        return self.token_url or self._account.token_uri

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the app outlasts the entry's name
        return f"google_play:{self.package_name}"

    def auth(self) -> httpx.Auth:
        return Fetched(self._ask_for_token)

    def _ask_for_token(self) -> httpx.Request:
        account, now = self._account, int(time.time())
        claims = {"iss": account.client_email, "scope": SCOPE, "aud": account.token_uri, "iat": now, "exp": now + 3600}
        assertion = signed(claims, account.private_key, "RS256", key_id=account.private_key_id)
        return token_request(self.token_address(), {"grant_type": GRANT, "assertion": assertion})

    def out_of_reach(self, since: datetime | None, now: datetime) -> str | None:
        if since is not None and since >= now - SERVED:
            return None
        return f"Google Play shows reviews of the last {SERVED.days} days only, and none before {now - SERVED:%Y-%m-%d}"

    def limits(self) -> Sequence[Limit]:
        return (Limit(200, timedelta(hours=1)),)

    def status_of(self, answer: httpx.Response) -> int:
        return 429 if answer.status_code == 403 and _reasons(answer) & QUOTAS else answer.status_code

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:  # noqa: ARG002 - no time is told
        return A_WHILE if answer.status_code == 429 and "Retry-After" not in answer.headers else None

    def advice(self, answer: httpx.Response) -> str | None:
        account = self._account.client_email
        match answer.status_code:
            case 400 | 401 | 403 if answer.request.method == "POST":  # for a token
                return (
                    f"Google does not take the key of {account}: was it deleted or switched off, and is this machine's "
                    "clock right"
                )
            case 401 | 403 if _reasons(answer) & {"accessNotConfigured", "SERVICE_DISABLED"}:
                return (
                    "The Google Play Android Developer API is not switched on in the Google Cloud project of "
                    f"{account}; switch it on there, and try again some minutes later"
                )
            case 401 | 403:
                return (
                    f"In the Play Console under Users and permissions, invite {account} and let it reply to reviews of "
                    f"{self.package_name}; a new permission may take two days to count"
                )
            case 404:
                return f"There is no app {self.package_name} on Google Play, or it was never published"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        read(await http.get(self.url(self._path), params={"maxResults": 1}), Reviews)
        return f"the reviews of {self.package_name} can be read, as Google serves them: those of the last seven days"

    @property
    def _path(self) -> str:
        return f"/androidpublisher/v3/applications/{self.package_name}/reviews"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        walk, trail = NewestFirst(moment(checkpoint, "newest"), self.reread, window), Trail()
        params: dict[str, str | int] = {"maxResults": 100}
        if self.translation_language:
            params["translationLanguage"] = self.translation_language
        while True:
            listed = read(await http.get(self.url(self._path), params=params), Reviews)
            tray = Tray("Google Play review")
            reviews = tray.read(listed.reviews, Review, key="reviewId")
            records = tray.records(reviews, self._record)
            is_over = walk.is_over(each.changed for each in reviews)
            token = trail.follow(listed.token_pagination.next_page_token if listed.token_pagination else None)
            if not token or is_over:
                break
            yield Page(records=records, set_aside=tray.aside, checkpoint=checkpoint)
            params["token"] = token
        yield Page(
            records=records,
            set_aside=[*tray.aside, *_missed(moment(checkpoint, "read_at"), window.now)],
            checkpoint={"read_at": window.now.isoformat(timespec="seconds"), "newest": walk.mark},
        )

    def _record(self, item: Review) -> Record:
        said = next((each.user_comment for each in item.comments if each.user_comment), None)
        if said is None:
            raise RecordError("it has no words of the customer")
        answered = next((each.developer_comment.text for each in item.comments if each.developer_comment), None)
        rating = f"{said.star_rating} out of 5" if said.star_rating else None
        title, text = _parts(said.text)
        original = "\n\n".join(filter(None, _parts(said.original_text)))
        link = f"https://play.google.com/store/apps/details?id={self.package_name}&reviewId={quote(item.id, safe='')}"
        return Record(
            id=item.id,
            kind="review",
            title=title or "Google Play review" + (f" ({rating})" if rating else ""),
            text=review(title, rating, [(None, text)]),
            context="\n\n".join(filter(None, [original and f"Before translation: {original}", reply(answered)]))
            or None,
            occurred_at=_at(said.last_modified),
            links=(Link(link, "Open the review on Google Play", "review", primary=True),),
            people=(Person(item.author_name, role="reviewer"),) if item.author_name else (),
            attributes=present(
                rating=said.star_rating,
                language=said.reviewer_language,
                version=said.app_version_name,
                versionCode=said.app_version_code,
                device=said.device,
                androidVersion=said.android_os_version,
            ),
        )


def _at(when: When | None) -> datetime | None:
    return when.seconds if when else None


def _parts(text: str) -> tuple[str, str]:
    """The title, if there is one, and the body: Google joins them by a tab."""
    title, tab, body = text.partition("\t")
    return (title.strip(), body.strip()) if tab else ("", text.strip())


def _missed(read_at: datetime | None, now: datetime) -> Sequence[SetAside]:
    """What was written while nobody read, and Google does not serve any more."""
    if read_at is None or now - read_at <= SERVED:
        return ()
    since, until = (f"{at:%Y-%m-%d %H:%M} UTC" for at in (read_at, now - SERVED))
    reason = (
        "Google serves the reviews of the last seven days only, and syncd did not read in that time; what was written "
        "then is in the monthly CSV files (Play Console > Download reports > Reviews), which the type csv imports"
    )
    return (SetAside(f"Google Play reviews from {since} to {until}", reason),)


def _reasons(answer: httpx.Response) -> set[str]:
    """The words that Google has for an error."""
    try:
        error: Any = answer.json()["error"]
        told = [*(error.get("errors") or ()), *(error.get("details") or ())]
        words = [error.get("status"), *(each.get("reason") for each in told)]
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()
    return {each for each in words if isinstance(each, str)}
