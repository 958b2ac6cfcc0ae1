"""Apple's App Store: the newest customer reviews of any app, by country, from the public feed.

- `GET /{country}/rss/customerreviews/page={n}/id={app}/sortby=mostrecent/json`: newest first, at most 50 a page and ten
  pages, so the 500 newest of each storefront. No key is needed, and replies are not shown.

Apple does not document the feed; what is known of it is tolerated:
- `entry` is a list, one object when there is a single review, and missing when there is none. Older feeds put the app
  itself first, without a rating.
- `updated` is the only date, and may be missing. Whether it moves with an edit is not known; so pages are read again as
  far back as `reread`, and an edit is noticed by its words.
- A storefront that answers 4xx does not sell the app, which is an error only if all do so; past the last page too, 400
  is the end and no error.
- The feed comes from a cache, whose pages may be hours old and disagree: by `reread` they overlap.

Review ids count through all storefronts, as far as they were ever seen, so a record is known by its id alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, ClassVar

import httpx
from pydantic import AfterValidator, BeforeValidator, Field

from syncd.connector import (
    Checkpoint,
    CredentialsRefused,
    Duration,
    Link,
    Page,
    Person,
    Record,
    SourceError,
    Window,
    lasting,
)
from syncd.kit.api import Api
from syncd.kit.conversation import review
from syncd.kit.paging import NewestFirst, moment
from syncd.kit.shapes import Instant, Items, Shape, Tray, Words, present, read

LAST_PAGE = 10


def _label(value: object) -> object:
    """The feed wraps each value: `{"label": "4.2"}`."""
    return value.get("label") if isinstance(value, dict) else value


def _entries(value: object) -> object:
    return [value] if isinstance(value, dict) else value


Label = BeforeValidator(_label)


class Author(Shape):
    name: Annotated[Words, Label] = ""


class Entry(Shape):
    """A review."""

    id: Annotated[str, Label]
    rating: Annotated[int, Label] = Field(alias="im:rating")
    version: Annotated[Words, Label] = Field("", alias="im:version")
    title: Annotated[Words, Label] = ""
    content: Annotated[Words, Label] = ""
    updated: Annotated[Instant | None, Label] = None
    author: Author | None = None


class Feed(Shape):
    entry: Annotated[Items, BeforeValidator(_entries)] = ()

    @property
    def reviews(self) -> tuple[Any, ...]:
        """The entries but for the app itself, which older feeds put first."""
        is_app = bool(self.entry) and isinstance(self.entry[0], dict) and "im:rating" not in self.entry[0]
        return self.entry[1:] if is_app else self.entry


class Answer(Shape):
    feed: Feed


def _distinct(countries: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(countries))


Country = Annotated[str, BeforeValidator(lambda code: code.lower() if isinstance(code, str) else code)]


class AppStoreRss(Api):
    """The newest reviews of any app in Apple's App Store, from the public feeds of some countries."""

    provider: ClassVar[str] = "app_store"

    app_id: Annotated[str, Field(pattern=r"^[0-9]+$", coerce_numbers_to_str=True)] = Field(
        description="The app's number: what follows id in its address at apps.apple.com."
    )
    countries: Annotated[
        tuple[Annotated[Country, Field(pattern="^[a-z]{2}$")], ...], Field(min_length=1), AfterValidator(_distinct)
    ] = Field(("us",), description="The storefronts to read, as two-letter country codes: [us, gb, de].")
    reread: Annotated[Duration, lasting(timedelta(days=1))] = Field(
        timedelta(days=30),
        description="How far back reviews are read again, to notice that one was edited or shown late. At least 1d.",
    )

    def home(self) -> str:
        return "https://itunes.apple.com"

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the app outlasts the entry's name
        return f"app_store_rss:{self.app_id}"

    def advice(self, answer: httpx.Response) -> str | None:
        if answer.status_code in (401, 403):
            return (
                "The feed is public, so it is this machine's address that Apple turns away: read less often, or from "
                "elsewhere (base_url)"
            )
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        for country in self.countries:
            if feed := await self._feed(http, country, 1):
                shown = len(feed.reviews)
                seen = f"shows {shown} of the newest reviews" if shown else "is empty; if that is wrong, so is app_id"
                return f"the feed of app {self.app_id} in {country} can be read, and {seen}"
        raise self._not_sold()

    def out_of_reach(self, since: datetime | None, now: datetime) -> str | None:  # noqa: ARG002 - it counts reviews
        return "the public feed shows the 500 newest reviews of each country only, however old they are"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        marks = {country: checkpoint[country] for country in self.countries if country in checkpoint}
        shut: list[SourceError] = []
        for country in self.countries:
            walk = NewestFirst(moment(checkpoint, country), self.reread, window)
            for number in range(1, LAST_PAGE + 1):
                try:
                    feed = await self._feed(http, country, number)
                except CredentialsRefused as error:
                    shut.append(error)
                    break
                if feed is None and number == 1:
                    shut.append(self._not_sold())
                listed = feed.reviews if feed else ()
                if not listed and number == 1:
                    break
                tray = Tray("App Store review")
                reviews = tray.read(listed, Entry, key="id.label")
                is_over = walk.is_over(each.updated for each in reviews)
                is_last = not listed or is_over or number == LAST_PAGE
                if is_last:
                    marks[country] = walk.mark
                yield Page(
                    records=tray.records(reviews, partial(self._record, country)),
                    set_aside=tray.aside,
                    checkpoint=dict(marks),
                )
                if is_last:
                    break
        if len(shut) == len(self.countries):  # one storefront may be closed; if all are, something is wrong
            raise shut[0]

    def _not_sold(self) -> SourceError:
        return SourceError(
            f"Apple sells no app {self.app_id} in {', '.join(self.countries)}: app_id is the number after id in the "
            "app's address at apps.apple.com, and countries are those of its storefronts"
        )

    async def _feed(self, http: httpx.AsyncClient, country: str, number: int) -> Feed | None:
        """A page of a storefront; None where there is no such page, or no such app."""
        path = f"/{country}/rss/customerreviews/page={number}/id={self.app_id}/sortby=mostrecent/json"
        try:
            return read(await http.get(self.url(path)), Answer).feed
        except httpx.HTTPStatusError as error:
            if error.response.is_client_error:
                return None
            raise

    def _record(self, country: str, item: Entry) -> Record:
        rating = f"{item.rating} out of 5"
        return Record(
            id=item.id,
            kind="review",
            title=item.title or f"App Store review ({rating})",
            text=review(item.title, rating, [(None, item.content)]),
            occurred_at=item.updated,
            links=(
                Link(
                    f"https://apps.apple.com/{country}/app/id{self.app_id}?see-all=reviews",
                    "Open the app's reviews",
                    "review",
                    primary=True,
                ),
            ),
            people=(Person(item.author.name, role="reviewer"),) if item.author and item.author.name else (),
            attributes=present(rating=item.rating, version=item.version, country=country),
        )
