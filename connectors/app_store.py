"""Apple's App Store: the customer reviews of your own apps, with your replies (App Store Connect API).

- `GET /v1/apps/{id}/customerReviews?sort=-createdDate&include=response`: newest first, at most 200 a page. There is no
  filter by date, and no time of change. So each reading goes back `reread` beyond the newest review it knows: by that
  it sees what was edited, answered or shown late. `links.next` leads on; the last page has none.

Requests carry a JWT that we sign (ES256) for 15 minutes; Apple takes at most 20.

Documented limits: 3,500 calls an hour for each key. Every answer says in `X-Rate-Limit` how many are left, and a 429
does not say when to come again: it is then asked after some minutes.

Not documented, and read tolerantly: keys of one person instead of a team (`sub: user` in place of an issuer), whether
an edited review keeps its date, and whether an app's first reviews are still served. Almost any field may be missing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, ClassVar

import httpx
from pydantic import Field, SecretStr

from syncd.connector import Checkpoint, Duration, Limit, Link, Page, Person, Record, Window, lasting
from syncd.kit.api import Api
from syncd.kit.conversation import reply, review
from syncd.kit.paging import NewestFirst, Trail, moment
from syncd.kit.shapes import CamelShape, Instant, Items, Shape, Tray, Words, present, read, readable
from syncd.kit.tokens import Signed, signed

AUDIENCE = "appstoreconnect-v1"
LASTS = timedelta(minutes=15)
A_WHILE = timedelta(minutes=5)
"""How long to leave Apple alone when the calls of the last hour are used up: they come back one by one."""

_USED_UP = re.compile(r"user-hour-rem:\s*0+\s*(?:;|$)")


class Relation(Shape):
    """What a review is related to: the id of its response, if it has one."""

    class Target(Shape):
        id: str

    data: Target | None = None


class Relationships(Shape):
    response: Relation | None = None


class Review(Shape):
    """A review, as JSON:API has it."""

    class Attributes(CamelShape):
        created_date: Instant | None = None
        rating: int | None = None
        title: Words = ""
        body: Words = ""
        reviewer_nickname: str | None = None
        territory: str | None = None

    id: str
    attributes: Attributes
    relationships: Relationships | None = None

    @property
    def response_id(self) -> str | None:
        """The id of the reply, which stands elsewhere in the answer."""
        response = self.relationships and self.relationships.response
        return response.data.id if response and response.data else None


class Response(Shape):
    """A reply to a review."""

    class Attributes(CamelShape):
        response_body: Words = ""
        state: str | None = None

    id: str
    attributes: Attributes

    @property
    def text(self) -> str:
        """What everybody can read of it: nothing before Apple has published it."""
        return "" if self.attributes.state == "PENDING_PUBLISH" else self.attributes.response_body


class Links(Shape):
    next: str | None = None


class Reviews(Shape):
    """A page of reviews; the replies to them are included."""

    data: Items
    included: Items = ()
    links: Links | None = None


class AppStore(Api):
    """Reviews of an app of your own in Apple's App Store, from all countries."""

    provider: ClassVar[str] = "app_store"

    app_id: Annotated[str, Field(pattern=r"^[0-9]+$", coerce_numbers_to_str=True)] = Field(
        description="The app's Apple ID, a number (App Store Connect > App Information)."
    )
    issuer_id: str | None = Field(
        None, min_length=1, description="The issuer of your team's keys; left out for the key of one person."
    )
    key_id: str = Field(min_length=1, description="The id of the API key (App Store Connect > Users and Access).")
    private_key: SecretStr = Field(description="The API key itself: what stands in AuthKey_<key_id>.p8.")
    reread: Annotated[Duration, lasting(timedelta(days=1))] = Field(
        timedelta(days=30),
        description="How far back reviews are read again, to notice that one was edited or answered. At least 1d.",
    )

    def home(self) -> str:
        return "https://api.appstoreconnect.apple.com"

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the app outlasts the entry's name
        return f"app_store:{self.app_id}"

    def auth(self) -> httpx.Auth:
        return Signed(self._token, LASTS)

    def _token(self, now: int) -> str:
        whose = {"iss": self.issuer_id} if self.issuer_id else {"sub": "user"}
        claims = {**whose, "iat": now, "exp": now + int(LASTS.total_seconds()), "aud": AUDIENCE}
        return signed(claims, self.private_key, "ES256", key_id=self.key_id)

    def limits(self) -> Sequence[Limit]:
        return (Limit(3500, timedelta(hours=1)),)

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:  # noqa: ARG002 - a header counts
        if answer.status_code == 429:
            return A_WHILE if "Retry-After" not in answer.headers else None
        is_used_up = _USED_UP.search(answer.headers.get("X-Rate-Limit", "")) is not None
        return A_WHILE if answer.is_success and is_used_up else None

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 401:
                return (
                    "Apple does not take this key. Do issuer_id, key_id and private_key belong together, was the key "
                    "revoked, and is this machine's clock right? The key of one person goes without issuer_id"
                )
            case 403:
                return (
                    "The key may not read customer reviews: give it the role Customer Support, Developer, App Manager "
                    "or Admin. Apple says 403 as well while an agreement waits for the account holder's signature"
                )
            case 404:
                return f"The account of this key has no app {self.app_id}; other companies' apps: type app_store_rss"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        read(await http.get(self.url(self._path), params={"limit": 1, "fields[customerReviews]": "rating"}), Reviews)
        return f"the reviews of app {self.app_id} can be read"

    @property
    def _path(self) -> str:
        return f"/v1/apps/{self.app_id}/customerReviews"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        walk, trail = NewestFirst(moment(checkpoint, "newest"), self.reread, window), Trail()
        params: Mapping[str, str | int] | None = {
            "sort": "-createdDate",
            "limit": 200,
            "include": "response",
            "fields[customerReviews]": "rating,title,body,reviewerNickname,createdDate,territory,response",
            "fields[customerReviewResponses]": "responseBody,state",
        }
        url: str | None = self.url(self._path)
        while url:
            listed = read(await http.get(url, params=params), Reviews)
            tray = Tray("App Store review")
            reviews = tray.read(listed.data, Review)
            replies = {response.id: response for response in readable(listed.included, Response)}
            is_over = walk.is_over(each.attributes.created_date for each in reviews)
            link = trail.follow(listed.links.next if listed.links else None)
            url, params = self.url(link) if link and not is_over else None, None
            yield Page(
                records=tray.records(reviews, partial(self._record, replies)),
                set_aside=tray.aside,
                checkpoint=checkpoint if url else {"newest": walk.mark},
            )

    def _record(self, replies: Mapping[str, Response], item: Review) -> Record:
        said = item.attributes
        rating = f"{said.rating} out of 5" if said.rating else None
        response = replies.get(item.response_id or "")
        return Record(
            id=item.id,
            kind="review",
            title=said.title or "App Store review" + (f" ({rating})" if rating else ""),
            text=review(said.title, rating, [(None, said.body)]),
            context=reply(response.text) if response else None,
            occurred_at=said.created_date,
            links=(
                Link(
                    f"https://apps.apple.com/app/id{self.app_id}?see-all=reviews",
                    "Open the app's reviews",
                    "review",
                    primary=True,
                ),
            ),
            people=(Person(said.reviewer_nickname, role="reviewer"),) if said.reviewer_nickname else (),
            attributes=present(rating=said.rating, territory=said.territory),
        )
