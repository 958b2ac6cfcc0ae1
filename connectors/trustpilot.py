"""Trustpilot: the reviews of a business unit.

With api_secret, all that the business itself may see:

- `POST /v1/oauth/oauth-business-users-for-applications/accesstoken`: a token, good for 100 hours.
- `GET /v1/private/business-units/{id}/reviews?orderBy=createdat.asc&startDateTime=...`: oldest first, from a time on.

Without it, what everybody may see:

- `GET /v1/business-units/{id}/reviews?orderBy=createdat.desc`: newest first, with an `apikey` header. No more than the
  newest 100,000 are said to be given.

Neither can be asked for what was edited since, so once a day the reviews of `look_back` are read again.

Documented limits: 833 calls in 5 minutes and 10,000 in an hour are recommended; a plan has so many calls a year.

UNCONFIRMED: that `startDateTime` goes by `createdAt`, in UTC, and whether that instant is included; readings overlap,
and the oldest-first pages do as well. So is the word for a reported review that stays (`visible` is taken for it).
Null may stand wherever a review can do without the field.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar

import httpx
from pydantic import BeforeValidator, Field, SecretStr, model_validator

from syncd.connector import Checkpoint, Duration, Limit, Link, Page, Person, Record, WebAddress, Window
from syncd.kit.api import Api
from syncd.kit.conversation import reply, review
from syncd.kit.paging import NewestFirst, moment
from syncd.kit.shapes import CamelShape, Instant, Items, Many, Tray, Words, present, read, readable
from syncd.kit.tokens import Fetched, token_request

TOKEN = "/v1/oauth/oauth-business-users-for-applications/accesstoken"  # noqa: S105 - where it is asked for
PER_PAGE = 100

OVERLAP = timedelta(hours=1)
"""Reviews are checked before they are shown, and may appear a little behind others."""

TIES = timedelta(seconds=1)
"""So far before a time it is asked: reviews of one second may stand on both sides of a page's edge."""

LOOK_BACK_EVERY = timedelta(days=1)

OrNothing = BeforeValidator(lambda value: value or {})
"""Null is one that says nothing."""


class Tag(CamelShape):
    group: str | None = None
    value: str | None = None

    @property
    def text(self) -> str:
        """The tag as it is written in the settings: `group:value`."""
        return ":".join(filter(None, (self.group, self.value)))


class Consumer(CamelShape):
    display_name: str | None = None
    display_location: str | None = None


class Place(CamelShape):
    name: str | None = None


class Reply(CamelShape):
    text: str | None = None


class Report(CamelShape):
    review_visibility: str | None = None


class Business(CamelShape):
    display_name: str | None = None


class Review(CamelShape):
    id: str
    created_at: Instant
    stars: int | None = None
    title: Words = ""
    text: Words = ""
    language: str | None = None
    status: str | None = None
    experienced_at: str | None = None
    is_verified: bool | None = None
    review_verification_level: str | None = None
    source: str | None = None
    reference_id: str | None = None
    tags: Many[Tag] = ()
    consumer: Annotated[Consumer, OrNothing] = Consumer()
    business_unit: Annotated[Business, OrNothing] = Business()
    location: Annotated[Place, OrNothing] = Place()
    company_reply: Annotated[Reply, OrNothing] = Reply()
    report_data: Report | None = None

    @property
    def is_shown(self) -> bool:
        """Whether the public sees it: it is active, and no report took it down or is still being looked into."""
        is_hidden = self.report_data is not None and self.report_data.review_visibility != "visible"
        return self.status in (None, "active") and not is_hidden


class Listing(CamelShape):
    reviews: Items
    links: Items = ()

    @property
    def leads_on(self) -> bool:
        """Whether there may be another page: this one is full, or has a link to it."""
        has_link = any(isinstance(link, dict) and link.get("rel") == "next-page" for link in self.links)
        return len(self.reviews) >= PER_PAGE or (has_link and bool(self.reviews))


class Trustpilot(Api):
    """The reviews of a business on Trustpilot."""

    provider: ClassVar[str] = "trustpilot"

    business_unit_id: str = Field(
        pattern=r"^[0-9A-Za-z]+$", description="The id of the business unit, 24 characters of 0-9 and a-f."
    )
    api_key: SecretStr = Field(description="The API key of an application (business app > Integrations > Developers).")
    api_secret: SecretStr | None = Field(
        None,
        description="The secret of that application. With it reviews come with order ids and tags, and are asked for "
        "by date; without it, the public ones are read newest first.",
    )
    token_url: WebAddress | None = Field(None, description="Where tokens are fetched, when not at the API itself.")
    look_back: Duration = Field(
        timedelta(days=30),
        description="Once a day the reviews of so long are read again, for edits and answers; 0s: never.",
    )
    languages: tuple[str, ...] = Field((), description="Only reviews in these languages (en, de); none: all.")
    tags: tuple[str, ...] = Field(
        (), description="Only reviews with one of these tags, written group:value; none: all. Wants api_secret."
    )

    @model_validator(mode="after")
    def _tags_are_private(self) -> Trustpilot:
        if self.tags and not self.api_secret:
            raise ValueError("public reviews have no tags: give api_secret as well, or leave tags out")
        return self

    def home(self) -> str:
        return "https://api.trustpilot.com"

    def token_address(self) -> str | None:
        return (self.token_url or self.url(TOKEN)) if self.api_secret else None

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the business unit outlasts the entry's name
        return f"trustpilot:{self.business_unit_id}"

    def auth(self) -> httpx.Auth | None:
        address, secret = self.token_address(), self.api_secret
        if address is None or secret is None:
            return None  # public reviews want a header only
        client = (self.api_key.get_secret_value(), secret)
        return Fetched(lambda: token_request(address, {"grant_type": "client_credentials"}, client=client))

    def limits(self) -> Sequence[Limit]:
        return Limit(833, timedelta(minutes=5)), Limit(10_000, timedelta(hours=1))

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 400 | 401 | 403 if answer.request.method == "POST":
                return (
                    "Trustpilot gives no token for this api_key and api_secret: both stand under Integrations > "
                    "Developers > APIs in the business app, and belong to one application"
                )
            case 401:
                return "Trustpilot does not know this api_key, or your plan has no API module (any more)"
            case 403:
                return (
                    "This application may not read the reviews of that business unit: it has to belong to the same "
                    "business account, with the API module. Without api_secret the public ones are read"
                )
            case 404:
                return (
                    f"Trustpilot knows no business unit {self.business_unit_id}; "
                    "/v1/business-units/find?name=example.com tells the id of example.com"
                )
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        kind = "all" if self.api_secret else "the public"
        listing = await self._ask(http, page=1, per_page=1)
        names = [each.business_unit.display_name for each in readable(listing.reviews, Review)]
        return f"{kind} reviews of {next(filter(None, names), self.business_unit_id)} can be read"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        looked_back = moment(checkpoint, "looked_back")
        is_due = looked_back is None or (bool(self.look_back) and window.now - looked_back >= LOOK_BACK_EVERY)
        overlap = max(OVERLAP, self.look_back) if is_due else OVERLAP
        walk = NewestFirst(moment(checkpoint, "newest"), overlap, window)  # oldest first, it begins at its horizon
        start, page = walk.horizon, 1
        while True:
            listing = await self._ask(http, page=page, start=start)
            tray = Tray("Trustpilot review")
            reviews = tray.read(listing.reviews, Review)
            is_over = walk.is_over(each.created_at for each in reviews)
            is_last = not listing.leads_on or (is_over and not self.api_secret)
            if is_last:
                place = _place(walk, window.now if is_due else looked_back)
            else:
                place = _place(walk, looked_back) if self.api_secret else checkpoint
            yield self._page(tray, reviews, place)
            if is_last:
                return
            latest = max((each.created_at for each in reviews), default=None)
            if self.api_secret and latest and (start is None or latest > start):
                start, page = latest, 1  # by time, for when a review is deleted meanwhile, the numbers of pages shift
            else:
                page += 1

    async def _ask(
        self, http: httpx.AsyncClient, *, page: int, start: datetime | None = None, per_page: int = PER_PAGE
    ) -> Listing:
        """A page of the reviews, the oldest since `start` first; without api_secret the newest of all."""
        params: dict[str, str | int] = {"page": page, "perPage": per_page, "orderBy": "createdat.desc"}
        reviews = f"business-units/{self.business_unit_id}/reviews"
        if self.api_secret is None:
            headers = {"apikey": self.api_key.get_secret_value()}
            return read(await http.get(self.url(f"/v1/{reviews}"), params=params, headers=headers), Listing)
        params["orderBy"] = "createdat.asc"
        if start:
            params["startDateTime"] = f"{start.astimezone(UTC) - TIES:%Y-%m-%dT%H:%M:%S}"
        return read(await http.get(self.url(f"/v1/private/{reviews}"), params=params), Listing)

    def _page(self, tray: Tray, reviews: Sequence[Review], checkpoint: Checkpoint) -> Page:
        wanted = [each for each in reviews if each.is_shown and self._is_wanted(each)]
        return Page(
            records=tray.records(wanted, _record),
            set_aside=tray.aside,
            filtered=len(reviews) - len(wanted),
            checkpoint=checkpoint,
        )

    def _is_wanted(self, written: Review) -> bool:
        has_language = not self.languages or written.language in self.languages
        return has_language and (not self.tags or any(tag.text in self.tags for tag in written.tags))


def _record(written: Review) -> Record:
    author = written.consumer
    rating = f"{written.stars} out of 5" if written.stars is not None else None
    return Record(
        id=written.id,
        kind="review",
        title=written.title or "Trustpilot review" + (f" ({rating})" if rating else ""),
        text=review(written.title, rating, [(None, written.text)]),
        context=reply(written.company_reply.text, by="The company"),
        occurred_at=written.created_at,
        links=(
            Link(f"https://www.trustpilot.com/reviews/{written.id}", "Open Trustpilot review", "review", primary=True),
        ),
        people=(Person(author.display_name, role="customer"),) if author.display_name else (),
        attributes=present(
            rating=written.stars,
            language=written.language,
            place=author.display_location,
            experiencedAt=written.experienced_at,
            verified=written.is_verified,
            verification=written.review_verification_level,
            source=written.source,
            referenceId=written.reference_id,
            location=written.location.name,
            tags=[tag.text for tag in written.tags if tag.text],
        ),
    )


def _place(walk: NewestFirst, looked_back: datetime | None) -> Checkpoint:
    return {"newest": walk.mark, "looked_back": looked_back.isoformat(timespec="seconds") if looked_back else None}
