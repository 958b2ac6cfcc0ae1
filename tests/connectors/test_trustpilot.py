"""Trustpilot: what a review becomes, the two ways to read them, and how an edit is noticed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from syncd import http_client
from syncd.connector import Link, Person, Window
from syncd.promises import PROMISES, Case, Read, read
from syncd.signals import compose
from tests.connectors.vendors import SECRET
from tests.connectors.vendors.trustpilot import (
    CASE,
    KEY,
    NOW,
    UNIT,
    FakeTrustpilot,
    id_of,
    refused,
    review,
    trustpilot,
)

PUBLIC = replace(CASE, connector=trustpilot(api_secret=None), forged=trustpilot(api_secret=None, api_key="wrong"))

Wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def asked(given: Read, name: str) -> list[str | None]:
    """A parameter of each question for reviews."""
    return [request.url.params.get(name) for _, request in given.calls if request.method == "GET"]


async def only_record(case: Case = CASE, **more: Any) -> Any:
    """What the only review becomes."""
    given = await read(case, FakeTrustpilot([review(1, **more)]))
    assert (given.error, given.set_aside) == (None, [])
    (record,) = given.records
    return record


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_public_reviews_keep_the_promises_too(promise: Callable[[Case], Awaitable[None]]) -> None:
    """What syncd builds its guarantee on holds without api_secret as well, newest first."""
    await promise(PUBLIC)


async def test_a_review_becomes_a_signal() -> None:
    """Signals: title, rating and words, what the business knows of it beside, and the company's answer apart."""
    record = await only_record(companyReply={"text": "Sorry, we moved depots.\n", "createdAt": "2026-10-20T10:00:00Z"})
    assert record.text == (
        "Parcel 1 came late\n\nRating: 2 out of 5\n\nThe tracking page said delivered, the door said otherwise."
    )
    assert record.context == "The company replied: Sorry, we moved depots."
    assert (record.id, record.kind, record.title) == (id_of(1), "review", "Parcel 1 came late")
    assert record.occurred_at == NOW - timedelta(hours=399)
    assert record.links == (
        Link(f"https://www.trustpilot.com/reviews/{id_of(1)}", "Open Trustpilot review", "review", primary=True),
    )
    assert record.people == (Person("Otis B.", None, "customer"),)
    assert record.organisation is None
    assert record.attributes == {
        "rating": 2,
        "language": "en",
        "place": "Lyon, FR",
        "experiencedAt": "2026-10-16T00:00:00Z",
        "verified": True,
        "verification": "invited",
        "source": "InvitationApi",
        "referenceId": "A-1",
        "location": "Depot South",
        "tags": ["plan:express"],
    }
    signal = compose(record, CASE.source)
    assert signal.external_id == f"trustpilot:{UNIT}:{id_of(1)}"
    assert b'"providerType":"trustpilot"' in signal.body
    assert b"otis@globex.test" not in signal.body, "the address it was invited by is nobody's business"


async def test_a_review_without_a_title_is_named_by_its_rating() -> None:
    """Signals: a name tells something, whatever Trustpilot leaves out."""
    assert (await only_record(title=None)).title == "Trustpilot review (2 out of 5)"
    assert (await only_record(title="", stars=None)).title == "Trustpilot review"


async def test_what_moves_by_itself_changes_nothing() -> None:
    """Nothing doubled: likes and the reviewer's other reviews are no edit of this one."""
    before = await only_record()
    consumer = review(1)["consumer"] | {"numberOfReviews": 99}
    assert before == await only_record(numberOfLikes=41, consumer=consumer, countsTowardsTrustScore=False)


@given(st.sampled_from(sorted(review(1).keys() - {"id", "createdAt"})), Wild)
async def test_no_field_stops_a_page(name: str, value: Any) -> None:
    """Bad input: whatever a field holds, that review comes, is passed over or is set aside, and the others come."""
    given = await read(CASE, FakeTrustpilot([review(1, **{name: value}), review(2)]))
    assert given.error is None
    assert id_of(2) in given.ids
    set_aside = f"Trustpilot review {id_of(1)}" in [item.place for item in given.set_aside]
    assert (id_of(1) in given.ids) + set_aside + sum(page.filtered for page in given.pages) == 1


@pytest.mark.parametrize("case", [CASE, PUBLIC], ids=["private", "public"])
@pytest.mark.parametrize(
    "hidden",
    [
        {"status": "archived"},
        {"reportData": {"source": "Trustpilot", "reviewVisibility": "hidden"}},
        {"reportData": {"source": "Trustpilot", "reviewVisibility": None}},
    ],
)
async def test_what_is_not_shown_is_not_imported(case: Case, hidden: dict[str, Any]) -> None:
    """Nothing private: a review that was taken down, or is reported and not cleared, counts as passed over."""
    shown = review(3, reportData={"reviewVisibility": "visible"}, status=None)
    given = await read(case, FakeTrustpilot([review(1, **hidden), review(2), shown]))
    assert given.ids == {id_of(2), id_of(3)}
    assert [page.filtered for page in given.pages] == [1]


async def test_only_the_languages_and_tags_that_are_wanted() -> None:
    """Settings: others are passed over, and counted."""
    vendor = FakeTrustpilot(
        [
            review(1),
            review(2, language="de"),
            review(3, language=None, tags=[{"group": "plan", "value": "basic"}, {"group": None, "value": "vip"}]),
        ]
    )
    for settings, wanted in (
        ({"languages": ["de", "fr"]}, {id_of(2)}),
        ({"tags": ["plan:express"]}, {id_of(1), id_of(2)}),
        ({"tags": ["vip"]}, {id_of(3)}),
        ({"tags": ["plan:express"], "languages": ["en"]}, {id_of(1)}),
    ):
        given = await read(CASE, vendor, connector=trustpilot(**settings))
        assert given.ids == wanted
        assert [page.filtered for page in given.pages] == [3 - len(wanted)]


async def test_a_full_page_is_followed_by_what_came_after_its_last() -> None:
    """Nothing lost: the next page is asked for by time, for page numbers shift when a review is deleted meanwhile."""
    vendor = FakeTrustpilot([review(number) for number in range(1, 251)])
    original = vendor.answer

    def deletes(request: httpx.Request) -> httpx.Response:
        answer = original(request)
        if len(vendor.asked) == 2:  # the token, and the first page
            del vendor.reviews[10:20]
        return answer

    vendor.answer = deletes  # type: ignore[method-assign]
    given = await read(CASE, vendor)
    assert given.ids == CASE.ids
    assert asked(given, "page") == ["1", "1", "1"]
    assert asked(given, "orderBy") == ["createdat.asc"] * 3
    assert asked(given, "startDateTime") == [None, "2026-10-20T20:59:59", "2026-10-24T23:59:59"]


async def test_a_second_with_more_than_a_page_is_read_through() -> None:
    """Nothing lost: reviews that were imported at one blow share their time, and pages of one time are counted."""
    at = NOW - timedelta(days=3)
    reviews = [review(1), *(review(number, at=at) for number in range(2, 322)), review(400, at=at + timedelta(days=1))]
    given = await read(CASE, FakeTrustpilot(reviews))
    assert given.error is None
    assert given.ids == {each["id"] for each in reviews}
    assert asked(given, "page") == ["1", "1", "2", "3", "4"]


async def test_a_short_page_with_a_link_is_not_the_last() -> None:
    """Nothing lost: should Trustpilot give fewer than it was asked for, its link to the next page counts."""
    vendor = FakeTrustpilot([review(number) for number in range(1, 8)])

    def stingy(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return vendor(request)
        params = dict(request.url.params) | {"perPage": "3"}
        answer = vendor(httpx.Request("GET", request.url, params=params, headers=request.headers))
        link = {"rel": "next-page", "href": "https://api.trustpilot.com/", "method": "GET"}
        return httpx.Response(200, json=answer.json() | {"links": [None, link]})

    given = await read(CASE, stingy)
    assert given.error is None
    assert given.ids == {id_of(number) for number in range(1, 8)}


@pytest.mark.parametrize("case", [CASE, PUBLIC], ids=["private", "public"])
async def test_the_next_reading_overlaps_by_an_hour(case: Case) -> None:
    """Nothing lost: a review that appeared a little behind the newest one is found, and nothing older asked for."""
    vendor = FakeTrustpilot([review(number, at=NOW - timedelta(hours=260 - number)) for number in range(1, 251)])
    first = await read(case, vendor)
    assert first.checkpoint == {
        "newest": "2026-11-01T23:00:00+00:00",
        "looked_back": "2026-11-02T09:00:00+00:00",
    }
    vendor.reviews += [
        review(300, at=datetime(2026, 11, 1, 22, 0, tzinfo=UTC)),
        review(301, at=NOW + timedelta(minutes=5)),
    ]
    second = await read(case, vendor, first.checkpoint, now=NOW + timedelta(minutes=10))
    assert second.ids >= {id_of(300), id_of(301)}
    assert len(asked(second, "page")) == (1 if case is CASE else 2)
    assert asked(second, "startDateTime")[0] == ("2026-11-01T21:59:59" if case is CASE else None)
    assert second.checkpoint["newest"] == "2026-11-02T09:05:00+00:00"
    assert second.checkpoint["looked_back"] == first.checkpoint["looked_back"]


@pytest.mark.parametrize("case", [CASE, PUBLIC], ids=["private", "public"])
async def test_a_date_to_come_hides_nothing(case: Case) -> None:
    """Nothing lost: one review dated in the future does not make those known that are written until then."""
    vendor = FakeTrustpilot([review(1, at=NOW - timedelta(hours=9)), review(2, at=NOW + timedelta(days=30))])
    first = await read(case, vendor)
    assert first.checkpoint["newest"] == "2026-11-02T00:00:00+00:00"
    vendor.reviews.append(review(3, at=NOW + timedelta(minutes=5)))
    assert id_of(3) in (await read(case, vendor, first.checkpoint, now=NOW + timedelta(hours=1))).ids


async def test_public_reviews_are_read_down_to_what_is_known() -> None:
    """Newest first: the old checkpoint stands until the last page, so a reading that broke off begins at the top."""
    vendor = FakeTrustpilot([review(number) for number in range(1, 251)])
    whole = await read(PUBLIC, vendor)
    assert [page.checkpoint for page in whole.pages[:-1]] == [{}, {}]
    assert asked(whole, "orderBy") == ["createdat.desc"] * 3
    assert asked(whole, "page") == ["1", "2", "3"]
    old = whole.checkpoint
    vendor.reviews += [review(number, at=NOW + timedelta(minutes=number)) for number in range(300, 450)]
    later = NOW + timedelta(hours=8)
    begun = await read(PUBLIC, vendor, old, pages=1, now=later)
    assert begun.checkpoint == old
    rest = await read(PUBLIC, vendor, begun.checkpoint, now=later)
    assert rest.ids >= {id_of(number) for number in range(300, 450)}
    assert len(rest.pages) == 3, "the third page holds nothing but what is known, and is the last to be asked for"


@pytest.mark.parametrize("case", [CASE, PUBLIC], ids=["private", "public"])
async def test_an_edit_is_noticed_within_a_day(case: Case) -> None:
    """Everything noticed: reviews of the last thirty days are read again once a day, and not at every run."""
    old, young = NOW - timedelta(days=29), NOW - timedelta(days=1)
    vendor = FakeTrustpilot([review(1, at=old), review(2, at=young), *_padding(young)])
    first = await read(case, vendor)
    vendor.reviews[0] = review(1, at=old, text="They called and made it good.", updatedAt="2026-11-02T10:00:00Z")
    soon = await read(case, vendor, first.checkpoint, now=NOW + timedelta(hours=23))
    assert case is PUBLIC or id_of(1) not in soon.ids
    assert soon.checkpoint == first.checkpoint
    due = await read(case, vendor, soon.checkpoint, now=NOW + timedelta(hours=24))
    assert id_of(1) in due.ids
    before, after = (
        next(compose(record, case.source) for record in reading.records if record.id == id_of(1))
        for reading in (first, due)
    )
    assert before.fingerprint != after.fingerprint
    assert due.checkpoint["looked_back"] == "2026-11-03T09:00:00+00:00"
    assert due.checkpoint["newest"] == first.checkpoint["newest"]


async def test_a_look_back_that_breaks_off_is_begun_again() -> None:
    """Nothing lost: the pages before the last one move neither the newest time back nor the next look back away."""
    vendor = FakeTrustpilot([review(number) for number in range(1, 251)])
    first = await read(CASE, vendor)
    tomorrow = NOW + timedelta(days=1)
    begun = await read(CASE, vendor, first.checkpoint, pages=1, now=tomorrow)
    assert begun.checkpoint == first.checkpoint
    again = await read(CASE, vendor, begun.checkpoint, now=tomorrow)
    assert again.ids == CASE.ids
    assert again.checkpoint["looked_back"] == "2026-11-03T09:00:00+00:00"


async def test_it_does_not_look_back_when_told_not_to() -> None:
    """Settings: `look_back: 0s` saves the calls."""
    connector = trustpilot(look_back="0s")
    vendor = FakeTrustpilot([review(1), review(2)])
    first = await read(CASE, vendor, connector=connector)
    later = await read(CASE, vendor, first.checkpoint, connector=connector, now=NOW + timedelta(days=9))
    assert asked(later, "startDateTime") == ["2026-10-16T17:59:59"]
    assert later.checkpoint == first.checkpoint


async def test_it_starts_at_the_operators_date() -> None:
    """Since: with api_secret by asking from there on, that second included; without it by stopping there."""
    since = NOW - timedelta(hours=160)
    vendor = FakeTrustpilot([review(number) for number in range(1, 251)])
    for connector, starts in (
        (trustpilot(), ["2026-10-26T16:59:59"]),
        (trustpilot(api_secret=None), [None, None]),
    ):
        vendor.asked.clear()
        async with lent(connector, vendor) as http:
            pages = [page async for page in connector.fetch(http, {}, Window(NOW, since))]
        ids = {record.id for page in pages for record in page.records}
        assert ids >= {id_of(number) for number in range(240, 251)}
        assert [each.url.params.get("startDateTime") for each in vendor.asked if each.method == "GET"] == starts


async def test_a_token_is_fetched_once_and_its_span_may_be_a_text() -> None:
    """Polite: fetching tokens counts as traffic; one lasts for the whole reading."""
    given = await read(CASE, FakeTrustpilot([review(number) for number in range(1, 251)]))
    assert [request.method for _, request in given.calls] == ["POST", "GET", "GET", "GET"]
    short = await read(CASE, FakeTrustpilot([review(number) for number in range(1, 251)], expires_in="30"))
    assert [request.method for _, request in short.calls] == ["POST", "GET"] * 3
    assert short.ids == CASE.ids


async def test_the_key_stands_in_no_address() -> None:
    """Secrets: addresses end up in the logs of others, so keys go into headers and forms only."""
    for case in (CASE, PUBLIC):
        given = await read(case, FakeTrustpilot([review(1)]))
        assert given.ids == {id_of(1)}
        assert not [request.url for _, request in given.calls if KEY in str(request.url) or SECRET in str(request.url)]
    (_, question), *_ = given.calls
    assert question.headers["apikey"] == KEY


async def test_tokens_may_come_from_elsewhere() -> None:
    """Hosts: base_url moves the tokens as well, token_url them alone; no other host is asked."""
    vendor = FakeTrustpilot([review(1)])
    proxied = trustpilot(base_url="https://proxy.acme.test")
    given = await read(CASE, vendor, connector=proxied)
    assert {request.url.host for _, request in given.calls} == {"proxy.acme.test"}
    apart = trustpilot(token_url="https://login.acme.test/v1/oauth/oauth-business-users-for-applications/accesstoken")
    given = await read(CASE, vendor, connector=apart)
    assert [request.url.host for _, request in given.calls] == ["login.acme.test", "api.trustpilot.com"]
    assert given.ids == {id_of(1)}
    assert trustpilot(api_secret=None).hosts() == {"api.trustpilot.com"}


async def test_it_keeps_to_the_calls_that_are_recommended() -> None:
    """Polite: a first reading of a large account takes its time, rather than the account's welcome."""

    def long(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        links = [{"rel": "next-page", "href": "https://api.trustpilot.com/", "method": "GET"}] if page < 840 else []
        return httpx.Response(200, json={"reviews": [review(page)], "links": links})

    given = await read(PUBLIC, long)
    assert given.error is None
    assert len(given.calls) == 840
    assert given.waited == 300


@pytest.mark.parametrize(
    ("connector", "answer", "words"),
    [
        (trustpilot(api_secret="wrong"), None, "no token for this api_key and api_secret"),
        (trustpilot(api_secret=None, api_key="wrong"), None, "does not know this api_key"),
        (trustpilot(api_secret=None), refused(403, "Forbidden"), "same business account"),
        (trustpilot(business_unit_id="123abc"), None, "find?name=example.com"),
    ],
)
async def test_check_explains_what_is_wrong(connector: Any, answer: httpx.Response | None, words: str) -> None:
    """Explained: a wrong secret, a wrong key, somebody else's business and a wrong id are different things to mend."""
    vendor = FakeTrustpilot([review(1)])
    async with lent(connector, lambda request: answer or vendor(request)) as http:
        with pytest.raises(Exception, match="answered 40") as refusal:
            await connector.check(http)
    assert words in str(refusal.value)


async def test_check_names_the_business() -> None:
    """Explained: `syncd check` says which reviews it may read, and whose."""
    vendor = FakeTrustpilot([review(1), review(2)])
    async with lent(trustpilot(), vendor) as http:
        assert await trustpilot().check(http) == "all reviews of Acme Parcels can be read"
    assert vendor.asked[-1].url.params["perPage"] == "1"
    public = trustpilot(api_secret=None)
    async with lent(public, FakeTrustpilot([])) as http:
        assert await public.check(http) == f"the public reviews of {UNIT} can be read"


@pytest.mark.parametrize("wrong", [{"tags": ["plan:vip"], "api_secret": None}, {"business_unit_id": "../search"}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """Settings: public reviews have no tags, and an id is one part of an address."""
    with pytest.raises(ValidationError):
        trustpilot(**wrong)


def _padding(at: datetime) -> list[dict[str, Any]]:
    """Two pages of reviews that stand before and behind others."""
    return [review(1000 + number, at=at + timedelta(seconds=number)) for number in range(200)]


def lent(connector: Any, vendor: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    """The house's client for this vendor."""

    async def sleep(_: float) -> None:
        raise AssertionError("nothing was to be waited for")

    return http_client.lend(
        connector, clock=lambda: NOW, sleep=sleep, draw=lambda: 0.5, transport=httpx.MockTransport(vendor)
    )
