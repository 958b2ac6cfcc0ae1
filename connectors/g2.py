"""G2: the reviews of a product, from the G2 API v2.

- `GET /api/v2/products/{product}/reviews?filter[updated_at_gt]=...&include=user`: the reviews that changed since, page
  after page along `links.next`.

There is no order to ask for, none is documented, and the time that the filter goes by is not in the answer. So what
is kept is when the last complete reading began, less an overlap, and a window is read to its end before that moves.

Documented limits: 100 calls a second from one address; whoever exceeds them is shut out for 60 seconds, without a
Retry-After. A token does not expire.

UNCONFIRMED: that a review keeps its id when it is edited, and that publishing or editing one moves the time that the
filter goes by. How long a cursor is good for is not said either: one that is refused, or older than an hour, is
dropped, and its window read again from the start.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

import httpx
from pydantic import BeforeValidator, Field, SecretStr

from syncd.connector import Checkpoint, Json, Limit, Link, Organisation, Page, Person, Record, Window
from syncd.kit.api import Api
from syncd.kit.conversation import review
from syncd.kit.paging import Trail, moment
from syncd.kit.shapes import Instant, Items, Many, Shape, Tray, Words, present, read, readable
from syncd.kit.tokens import Bearer

OVERLAP = timedelta(minutes=10)
"""For clocks that differ, and for reviews that take a moment to be found."""

CURSOR_IS_GOOD_FOR = timedelta(hours=1)
SHUT_OUT = timedelta(seconds=60)

FIRST_ASKED = ("love", "hate", "recommendations", "benefits")
"""The questions of every survey, in its order; others follow by name, so that the text is the same each time."""

Answers = Annotated[dict[str, Any], BeforeValidator(lambda value: value or {})]
"""What was answered, under keys that G2 chooses by product and survey."""


class Attributes(Shape):
    submitted_at: Instant | None
    published_at: Instant | None = None
    title: Words = ""
    star_rating: float | None = None
    answers: Answers = Field(default_factory=dict)
    url: str | None = None
    product_name: str | None = None
    country_name: str | None = None
    regions: Many[str] = ()
    source: str | None = None
    review_incentive: bool | None = None
    verified_current_user: bool | None = None
    is_public: bool | None = None


class Reference(Shape):
    id: str


class Related(Shape):
    data: Reference | None = None


class Relationships(Shape):
    user: Related | None = None


class Review(Shape):
    id: str
    attributes: Attributes
    relationships: Relationships | None = None

    @property
    def user_id(self) -> str | None:
        """Who wrote it, as far as G2 tells."""
        user = self.relationships and self.relationships.user
        return user.data.id if user and user.data else None


class Profile(Shape):
    name: str | None = None
    title: str | None = None
    company: str | None = None
    industry: str | None = None
    company_segment: str | None = None


class User(Shape):
    id: str
    attributes: Profile = Profile()


class Links(Shape):
    next: str | None = None


class Listing(Shape):
    data: Items
    included: Items = ()
    links: Links


class G2(Api):
    """The reviews of a product on G2."""

    provider: ClassVar[str] = "g2"

    product: str = Field(
        pattern=r"^[A-Za-z0-9][\w.-]*$",
        description="The product: the acme in g2.com/products/acme/reviews, or its UUID.",
    )
    api_token: SecretStr = Field(description="An API token with the scope products.reviews.read (my.g2.com).")
    scheme: Literal["Bearer", "Token"] = Field(
        "Bearer", description="How the token is shown: Bearer, or Token for those of the older API."
    )

    def home(self) -> str:
        return "https://data.g2.com"

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the product outlasts the entry's name
        return f"g2:{self.product}"

    def auth(self) -> httpx.Auth:
        if self.scheme == "Token":
            return Bearer(SecretStr(f"token={self.api_token.get_secret_value()}"), "Token")
        return Bearer(self.api_token)

    def limits(self) -> Sequence[Limit]:
        return (Limit(100, timedelta(seconds=1)),)

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:  # noqa: ARG002 - it says no time
        return SHUT_OUT if answer.status_code == 429 and "Retry-After" not in answer.headers else None

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 401:
                return (
                    "G2 does not know this token. Make one at my.g2.com > Integrations > API Tokens; a token of the "
                    "older API wants scheme: Token"
                )
            case 403 if "current plan" in answer.text:
                return (
                    f"The token is good, but your G2 licence does not include the reviews of {self.product} over the "
                    "API: ask your G2 representative for it"
                )
            case 403:
                return (
                    f"This token may not read {self.product}. Is product one of your own or licensed for you, and has "
                    "the token the scope products.reviews.read"
                )
            case 404:
                return f"G2 knows no product {self.product}: it is what follows /products/ in its address on g2.com"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        answer = await http.get(self._address(), params={"page[size]": 1})
        names = [item.attributes.product_name or self.product for item in readable(read(answer, Listing).data, Review)]
        return f"the reviews of {names[0]} can be read" if names else f"{self.product} can be read, and has no review"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        since = moment(checkpoint, "since") if checkpoint else window.since and window.since - OVERLAP
        begun, after = moment(checkpoint, "begun"), checkpoint.get("after")
        if begun is None or window.now - begun > CURSOR_IS_GOOD_FOR:
            begun, after = window.now, None
        trail = Trail()
        try:
            listing = await self._listing(http, since, after)
        except httpx.HTTPStatusError as error:
            if not after or error.response.status_code != 400:
                raise
            begun, after = window.now, None  # G2 does not know that cursor any more
            listing = await self._listing(http, since, after)
        while following := trail.follow(listing.links.next):
            after = httpx.URL(following).params.get("page[after]")
            yield _page(listing, {"since": _iso(since), "begun": _iso(begun), "after": after})
            listing = read(await http.get(self.url(following)), Listing)
        yield _page(listing, {"since": _iso(begun - OVERLAP)})

    def _address(self) -> str:
        return self.url(f"/api/v2/products/{self.product}/reviews")

    async def _listing(self, http: httpx.AsyncClient, since: datetime | None, after: Json) -> Listing:
        """The first page of a window, or the one at a cursor in it: a cursor belongs to the filter it was given for."""
        params: dict[str, str | int] = {"page[size]": 100, "include": "user"}
        if since:
            params["filter[updated_at_gt]"] = str(_iso(since))
        if after:
            params["page[after]"] = str(after)
        return read(await http.get(self._address(), params=params), Listing)


def _page(listing: Listing, checkpoint: Checkpoint) -> Page:
    tray = Tray("G2 review")
    reviews = tray.read(listing.data, Review)
    users = {user.id: user.attributes for user in readable(listing.included, User)}
    public = [each for each in reviews if each.attributes.is_public is not False]
    records = [tray.record(_record, each, users.get(each.user_id or "", Profile())) for each in public]
    return Page(
        records=[record for record in records if record],
        set_aside=tray.aside,
        filtered=len(reviews) - len(public),
        checkpoint=checkpoint,
    )


def _record(written: Review, author: Profile) -> Record:
    said = written.attributes
    rating = f"{said.star_rating:g} out of 5" if said.star_rating is not None else None
    return Record(
        id=written.id,
        kind="review",
        title=said.title or "G2 review" + (f" ({rating})" if rating else ""),
        text=review(said.title, rating, _sections(said.answers)),
        occurred_at=said.submitted_at or said.published_at,
        links=(Link(said.url, "Open G2 review", "review", primary=True),) if said.url else (),
        people=(Person(author.name, role="customer"),) if author.name else (),
        organisation=Organisation(author.company) if author.company else None,
        attributes=present(
            rating=said.star_rating,
            product=said.product_name,
            country=said.country_name,
            regions=said.regions,
            source=said.source and said.source.split(". ")[0].rstrip("."),
            incentivised=said.review_incentive,
            verifiedCurrentUser=said.verified_current_user,
            jobTitle=author.title,
            industry=author.industry,
            companySegment=author.company_segment,
        ),
    )


def _sections(answers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each question with its answer; those that were left blank are dropped by whoever writes them down."""
    known = {key: place for place, key in enumerate(FIRST_ASKED)}
    for key in sorted(answers, key=lambda key: (known.get(key, len(known)), key)):
        match answers[key]:
            case {"value": value, **more}:
                yield str(more.get("text") or key.replace("_", " ").capitalize()), _said(value)
            case value:
                yield key.replace("_", " ").capitalize(), _said(value)


def _said(value: object) -> str:
    """An answer in words: some questions are answered with a number, a yes or a choice of several."""
    match value:
        case str():
            return value
        case bool():
            return "Yes" if value else "No"
        case int() | float():
            return str(value)
        case list():
            return ", ".join(filter(None, map(_said, value)))
        case _:
            return ""


def _iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at else None
