"""The App Store's public feed: its three shapes, its ten pages, its storefronts, and dates that may be missing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from syncd import http_client
from syncd.connector import Connector, CredentialsRefused, Link, Person, Record, ShapeChanged, SourceError
from syncd.promises import Vendor, read
from syncd.signals import compose
from tests.connectors.vendors.app_store_rss import APP, CASE, NOW, THE_APP, FakeFeeds, app_store_rss, entry, feed

HERE = app_store_rss(countries=["us"])


def _id(number: int) -> str:
    label: str = entry(number)["id"]["label"]
    return label


async def _only(vendor: Vendor) -> Record:
    given = await read(CASE, vendor, connector=HERE)
    assert given.error is None, given.error
    [record] = given.records
    return record


async def _checked(vendor: Vendor, connector: Connector = CASE.connector) -> str:
    async with http_client.lend(
        connector,
        clock=lambda: NOW,
        sleep=lambda _: pytest.fail("a check waits for nothing"),
        draw=lambda: 0.5,
        transport=httpx.MockTransport(vendor),
    ) as http:
        return await connector.check(http)


async def test_a_review_becomes_what_a_person_would_read() -> None:
    """Everything explained: title, rating, words, date with its zone, version and country are the feed's own."""
    record = await _only(FakeFeeds({"us": [entry(1)]}))
    assert record.text == (
        "Loses my list no. 1\n\nRating: 2 out of 5\n\nEvery second launch starts with an empty shopping list."
    )
    assert record.title == "Loses my list no. 1"
    assert record.context is None
    assert record.occurred_at == datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
    assert record.people == (Person("tobi_k", role="reviewer"),)
    assert record.attributes == {"rating": 2, "version": "7.2.0", "country": "us"}
    assert record.links == (
        Link(
            f"https://apps.apple.com/us/app/id{APP}?see-all=reviews", "Open the app's reviews", "review", primary=True
        ),
    )
    assert record.place == "App Store review 13599999999"
    body = json.loads(compose(record, CASE.source).body)
    assert body["externalId"] == f"app_store_rss:{APP}:13599999999"
    assert (body["signalType"], body["providerType"]) == ("review", "app_store")


async def test_votes_do_not_change_a_review() -> None:
    """Nothing is doubled: what others clicked is not what the customer said."""
    before, after = [await _only(FakeFeeds({"us": [entry(1, **{"im:voteSum": sum_})]})) for sum_ in ("1", "90")]
    assert compose(before, CASE.source) == compose(after, CASE.source)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("first", [None, THE_APP])
async def test_all_shapes_of_a_page_are_read(count: int, first: dict[str, Any] | None) -> None:
    """None, one or many: no entry, an object, or a list; with the app itself before them, or without."""
    given = await read(CASE, FakeFeeds({"us": [entry(n) for n in range(count)]}, first=first), connector=HERE)
    assert (given.error, given.set_aside) == (None, [])
    assert given.ids == {_id(number) for number in range(count)}
    assert len(given.calls) == min(count, 1) + 1


async def test_reviews_without_ratings_are_no_apps() -> None:
    """A changed shape is told: only the first entry can be the app, and the others are not passed over in silence."""
    bare = [{name: value for name, value in entry(n).items() if name != "im:rating"} for n in range(3)]
    given = await read(CASE, lambda _: feed(bare), connector=HERE)
    assert isinstance(given.error, ShapeChanged)
    assert "im:rating" in str(given.error)
    one = await read(CASE, lambda _: feed([entry(5), bare[0]]), connector=HERE, pages=1)
    assert [item.place for item in one.set_aside] == [f"App Store review {_id(0)}"]


@pytest.mark.parametrize("end", [200, 400, 404])
async def test_the_end_of_the_pages_is_no_error(end: int) -> None:
    """Nothing is lost at the end: past the last page stands an empty one, or an error."""
    given = await read(CASE, FakeFeeds({"us": [entry(n) for n in range(6)]}, end=end), connector=HERE)
    assert given.error is None, given.error
    assert len(given.ids) == 6
    assert given.checkpoint == {"us": "2026-11-02T09:00:00+00:00"}


async def test_ten_pages_are_asked_for_and_no_eleventh() -> None:
    """What Apple serves is what there is: five hundred reviews, and 400 beyond them."""
    given = await read(CASE, FakeFeeds({"us": [entry(n) for n in range(40)]}), connector=HERE)
    assert given.error is None, given.error
    assert (len(given.calls), len(given.ids)) == (10, 30)


async def test_each_storefront_has_a_mark_of_its_own() -> None:
    """A gap is lost for good: how far one storefront was read says nothing of the others."""
    vendor = FakeFeeds({"us": [entry(n) for n in range(1, 9)], "de": [entry(n, id=f"9{n}") for n in range(20, 29)]})
    first = await read(CASE, vendor)
    assert first.checkpoint == {"us": "2026-11-01T09:00:00+00:00", "de": "2026-10-13T09:00:00+00:00"}
    again = await read(CASE, vendor, first.checkpoint)
    assert [(r.url.path[1:3], r.url.path.split("page=")[1][0]) for _, r in again.calls] == [
        *[("us", "1"), ("us", "2")],
        *[("de", "1"), ("de", "2")],
    ]
    late = await read(CASE, vendor, {"us": first.checkpoint["us"]})
    assert {f"9{n}" for n in range(20, 29)} <= late.ids


async def test_the_mark_moves_when_a_storefront_is_read() -> None:
    """Newest first: a page before the last one leaves the mark where it was."""
    given = await read(CASE, CASE.full())
    us, de = "2026-11-01T09:00:00+00:00", "2026-10-31T09:00:00+00:00"
    done = [{}, {}, {}, {"us": us}, {"us": us}, {"us": us}, {"us": us, "de": de}]
    assert [page.checkpoint for page in given.pages] == done


async def test_a_storefront_that_is_taken_off_the_list_is_forgotten() -> None:
    """Small checkpoints: what is not read any more is not remembered."""
    first = await read(CASE, CASE.full())
    assert (await read(CASE, CASE.full(), first.checkpoint, connector=HERE)).checkpoint.keys() == {"us"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_storefront_that_does_not_sell_the_app_is_empty(status: int) -> None:
    """The others go on: 4xx for one storefront is an empty one, and its mark stays where it was."""
    there = FakeFeeds({"de": [entry(1)]})

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status) if request.url.path.startswith("/us/") else there(request)

    given = await read(CASE, answer, {"us": "2026-10-01T00:00:00+00:00"})
    assert (given.error, given.set_aside, given.ids) == (None, [], {_id(1)})
    assert given.checkpoint == {"us": "2026-10-01T00:00:00+00:00", "de": "2026-11-01T09:00:00+00:00"}


async def test_many_empty_storefronts_are_not_taken_for_circles() -> None:
    """An app that is sold in few countries is read in all: a storefront with nothing in it gives no page, of which the
    house would see a hundred alike."""
    codes = [first + second for first in "abcdefgh" for second in "abcdefghijklmnopqrstuvwxyz"]
    given = await read(CASE, FakeFeeds({"hz": [entry(1)], "aa": []}), connector=app_store_rss(countries=codes))
    assert (given.error, given.ids, len(given.calls)) == (None, {_id(1)}, len(codes) + 1)
    assert len(given.pages) == 2


async def test_a_refusal_by_all_storefronts_is_told() -> None:
    """Everything explained: where all are closed, it is this machine that Apple turns away."""
    given = await read(CASE, lambda _: httpx.Response(403))
    assert isinstance(given.error, CredentialsRefused)
    assert "The feed is public" in str(given.error)
    assert len(given.calls) == 2


async def test_an_app_that_is_sold_nowhere_is_told() -> None:
    """Everything explained: a mistyped app_id does not pass for an app without reviews."""
    given = await read(CASE, FakeFeeds({}), {"us": "2026-10-01T00:00:00+00:00"})
    assert isinstance(given.error, SourceError)
    assert f"sells no app {APP} in us, de" in str(given.error)
    assert given.pages == []


async def test_a_refusal_in_the_middle_of_a_storefront_does_not_move_its_mark() -> None:
    """A gap is lost for good: what could not be read is asked for again."""
    vendor = FakeFeeds({"us": [entry(n) for n in range(8)], "de": []})

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403) if "page=2" in request.url.path else vendor(request)

    begun = await read(CASE, answer)
    assert (begun.error, len(begun.ids)) == (None, 3)
    assert "us" not in begun.checkpoint
    assert len((await read(CASE, vendor, begun.checkpoint)).ids) == 8


async def test_an_edit_is_noticed_while_it_can_be_seen() -> None:
    """Edited records are noticed: other words under the same id have another fingerprint."""
    first = await read(CASE, FakeFeeds({"us": [entry(1), entry(2)]}), connector=HERE)
    edited = FakeFeeds({"us": [entry(1), entry(2, content="Works again.")]})
    second = await read(CASE, edited, first.checkpoint, connector=HERE)
    before, after = [{each.id: compose(each, CASE.source).fingerprint for each in g.records} for g in (first, second)]
    assert [id_ for id_ in before if before[id_] != after[id_]] == [_id(2)]


async def test_a_review_without_a_date_is_no_old_one() -> None:
    """`updated` may be missing: such a review comes without a time, and does not end the walk."""
    undated = [{k: v for k, v in entry(n).items() if k != "updated"} for n in range(20, 29)]
    given = await read(CASE, FakeFeeds({"us": undated}), {"us": "2026-11-01T09:00:00+00:00"}, connector=HERE)
    assert (given.error, given.set_aside, len(given.ids)) == (None, [], 9)
    assert {record.occurred_at for record in given.records} == {None}
    assert given.checkpoint == {"us": "2026-11-01T09:00:00+00:00"}


async def test_a_review_at_the_very_edge_is_asked_for_again() -> None:
    """Ties are asked again: a page that holds a review of the very instant up to which is re-read is not passed by."""
    tied = [entry(1), *[entry(n, updated=(NOW - timedelta(days=2)).isoformat()) for n in range(2, 9)]]
    first = await read(CASE, FakeFeeds({"us": [entry(1)]}), connector=HERE)
    assert len((await read(CASE, FakeFeeds({"us": tied}), first.checkpoint, connector=HERE)).ids) == 8


async def test_a_date_to_come_hides_nothing() -> None:
    """A gap is lost for good: one review dated in the future does not make all others old."""
    future = entry(1, updated="2031-01-01T00:00:00Z")
    given = await read(CASE, FakeFeeds({"us": [future, entry(5)]}), connector=HERE)
    assert given.checkpoint == {"us": "2026-10-28T09:00:00+00:00"}


async def test_a_first_reading_goes_back_to_since() -> None:
    """`since` bounds what is asked for, not only what is kept."""
    vendor = FakeFeeds({"us": [entry(n) for n in range(1, 25)]})
    given = await read(CASE, vendor, connector=HERE, since=NOW - timedelta(days=5))
    assert len(given.calls) == 3


async def test_check_says_what_the_feed_shows() -> None:
    """`syncd check` explains: what can be read, and that an app may be sold nowhere at all."""
    seen = await _checked(FakeFeeds({"de": [entry(1), entry(2)]}))
    assert seen == f"the feed of app {APP} in de can be read, and shows 2 of the newest reviews"
    assert "is empty; if that is wrong, so is app_id" in await _checked(FakeFeeds({"us": []}))
    with pytest.raises(SourceError, match=f"sells no app {APP} in us, de"):
        await _checked(FakeFeeds({}))


async def test_the_feed_is_asked_through_base_url() -> None:
    """`base_url` holds for every call."""
    given = await read(CASE, CASE.full(), connector=app_store_rss(base_url="https://proxy.acme.test"))
    assert given.ids == CASE.ids
    assert {request.url.host for _, request in given.calls} == {"proxy.acme.test"}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["author", "updated", "im:rating", "im:version", "title", "content"]),
        st.one_of(
            st.none(),
            st.text(max_size=20),
            st.integers(),
            st.dictionaries(st.sampled_from(["label", "name"]), st.one_of(st.none(), st.text(), st.booleans())),
        ),
    )
)
async def test_no_review_stops_the_others(wild: dict[str, Any]) -> None:
    """Bad input: whatever one review holds, it comes or is set aside under its id, and the page goes on."""
    given = await read(CASE, FakeFeeds({"us": [entry(1), entry(2) | wild, entry(3)]}), connector=HERE)
    assert given.error is None, given.error
    assert {_id(1), _id(3)} <= given.ids
    assert _id(2) in given.ids or any(_id(2) in item.place for item in given.set_aside)


def test_the_settings_are_taken_as_people_write_them() -> None:
    """An app's number needs no quotes, countries may be shouted or repeated, and what is none is refused."""
    connector = app_store_rss(app_id=6448311069, countries=["US", "de", "us"])
    assert (connector.app_id, connector.countries) == (APP, ("us", "de"))
    assert connector.default_namespace("rivals") == f"app_store_rss:{APP}"
    wrongs: list[dict[str, Any]] = [{"app_id": "basket"}, {"countries": []}, {"countries": ["usa"]}, {"reread": "1h"}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            app_store_rss(**wrong)
