"""G2: what a review becomes, and that no order is relied on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from syncd import http_client
from syncd.connector import Link, Organisation, Person, SourceError, Window
from syncd.promises import Read, Vendor, read
from syncd.signals import compose
from tests.connectors.vendors import SECRET
from tests.connectors.vendors.g2 import CASE, HOME, NOW, REVIEWS, FakeG2, answered, g2, refused, review

Wild = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def filters(given: Read) -> list[str | None]:
    """The `filter[updated_at_gt]` of each call."""
    return [request.url.params.get("filter[updated_at_gt]") for _, request in given.calls]


async def only_record(**more: Any) -> Any:
    """What the only review of a product becomes."""
    given = await read(CASE, FakeG2([review(1, **more)]))
    assert (given.error, given.set_aside) == (None, [])
    (record,) = given.records
    return record


async def test_a_review_is_its_title_its_rating_and_its_answers() -> None:
    """Signals: the text is what a person would read, under the questions that were asked."""
    record = await only_record(
        answers=answered(
            benefits="One place for every request.",
            hate="Exports stop at 50k rows.\nTwice a week.",
            love="Macros are quick to build.",
        )
    )
    assert record.text == (
        "Good, but export 1 is slow\n\n"
        "Rating: 3.5 out of 5\n\n"
        "What do you like best about Acme Desk?\nMacros are quick to build.\n\n"
        "What do you dislike about Acme Desk?\nExports stop at 50k rows.\nTwice a week.\n\n"
        "What problems is Acme Desk solving?\nOne place for every request."
    )
    assert (record.id, record.kind, record.title) == ("r-1", "review", "Good, but export 1 is slow")
    assert record.occurred_at == NOW - timedelta(days=29)
    assert record.links == (
        Link(
            "https://www.g2.com/products/acme-desk/reviews/acme-desk-review-1", "Open G2 review", "review", primary=True
        ),
    )
    assert record.people == (Person("Ines P.", None, "customer"),)
    assert record.organisation == Organisation("Globex")
    assert record.attributes == {
        "rating": 3.5,
        "product": "Acme Desk",
        "country": "Portugal",
        "regions": ("EMEA",),
        "source": "Organic review",
        "incentivised": False,
        "verifiedCurrentUser": True,
        "jobTitle": "Head of Support",
        "industry": "Logistics",
        "companySegment": "Mid-Market",
    }
    signal = compose(record, CASE.source)
    assert signal.external_id == "g2:acme-desk:r-1"
    assert b'"providerType":"g2"' in signal.body


@pytest.mark.parametrize(
    ("answers", "sections"),
    [
        ({"zeal": {"text": "How keen?", "value": 9}, "love": {"text": None, "value": "All"}}, "Love\nAll|How keen?\n9"),
        ({"used_with": {"text": "Used with?", "value": ["Mail", None, "Chat"]}}, "Used with?\nMail, Chat"),
        ({"a": {"text": "Again?", "value": True}, "b": {"text": "Why?", "value": False}}, "Again?\nYes|Why?\nNo"),
        ({"main_gain": "Speed", "hate": {"text": "Dislikes?", "value": None}, "x": None, "y": {}}, "Main gain\nSpeed"),
    ],
)
async def test_whatever_was_asked_is_shown_and_blanks_are_not(answers: dict[str, Any], sections: str) -> None:
    """Signals: G2 has no fixed questions, so every key is taken as it comes."""
    record = await only_record(answers=answers, title="T")
    assert record.text == "\n\n".join(["T", "Rating: 3.5 out of 5", *sections.split("|")])


async def test_the_text_does_not_depend_on_the_order_of_the_keys() -> None:
    """Nothing doubled: the same answers in another order are the same review."""
    answers = answered(love="a", benefits="b", zeal="c", recommendations="d", about="e", hate="f")
    forth = await only_record(answers=answers)
    back = await only_record(answers=dict(reversed(answers.items())))
    assert compose(forth, CASE.source).fingerprint == compose(back, CASE.source).fingerprint


async def test_what_moves_by_itself_changes_nothing() -> None:
    """Nothing doubled: sort scores, comments and the vendor's answers are no edit of the review."""
    before = await only_record()
    after = await only_record(
        default_sort=9.9, comments_present=True, official_response_present=True, user_updated_at="2026-11-01T00:00:00Z"
    )
    assert before == after


@given(st.dictionaries(st.text(max_size=8), Wild, max_size=4) | Wild)
async def test_no_answer_stops_a_page(answers: Any) -> None:
    """Bad input: whatever the answers hold, each review comes or is set aside, and the others come."""
    given = await read(CASE, FakeG2([review(1, answers=answers), review(2)]))
    assert given.error is None
    assert "r-2" in given.ids
    assert "r-1" in given.ids or "G2 review r-1" in [item.place for item in given.set_aside]


async def test_a_review_without_a_title_is_named_by_its_rating() -> None:
    """Signals: a name tells something, whatever G2 leaves out."""
    assert (await only_record(title=None)).title == "G2 review (3.5 out of 5)"
    assert (await only_record(title="", star_rating=None)).title == "G2 review"


async def test_it_takes_the_day_of_publication_where_none_of_submission_is_known() -> None:
    """Signals: occurredAt is as good as G2 knows it."""
    record = await only_record(submitted_at=None, published_at="2026-10-02T23:30:00.000-05:00")
    assert record.occurred_at.isoformat() == "2026-10-03T04:30:00+00:00"


async def test_a_review_that_is_not_public_is_not_imported() -> None:
    """Nothing private: it counts as passed over, until it is published and so comes again."""
    vendor = FakeG2([review(1, is_public=False), review(2)])
    begun = await read(CASE, vendor)
    assert begun.ids == {"r-2"}
    assert sum(page.filtered for page in begun.pages) == 1
    vendor.reviews = [review(1, changed=NOW + timedelta(hours=1)), review(2)]
    later = await read(CASE, vendor, begun.checkpoint, now=NOW + timedelta(hours=2))
    assert later.ids == {"r-1"}


async def test_the_next_reading_asks_from_when_the_last_whole_one_began() -> None:
    """Nothing lost: what changes while a window is read is in the next one, which begins ten minutes before that."""
    vendor = FakeG2([review(number) for number in range(1, 9)])
    first = await read(CASE, vendor)
    assert filters(first) == [None, None, None]
    assert first.checkpoint == {"since": "2026-11-02T08:50:00Z"}
    vendor.reviews = [
        *vendor.reviews,
        review(20, changed=NOW - timedelta(minutes=9)),
        review(21, changed=NOW + timedelta(minutes=1)),
    ]
    second = await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(hours=1))
    assert filters(second) == ["2026-11-02T08:50:00Z"]
    assert second.ids == {"r-20", "r-21"}
    assert second.checkpoint == {"since": "2026-11-02T09:50:00Z"}


async def test_an_edited_review_comes_again_with_another_body() -> None:
    """Everything noticed: by its fingerprint the ledger sees the edit."""
    vendor = FakeG2([review(1), review(2)])
    first = await read(CASE, vendor)
    edited = review(1, changed=NOW + timedelta(hours=1), title="Exports are fast now", star_rating=5)
    vendor.reviews = [edited, review(2)]
    second = await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(hours=2))
    assert second.ids == {"r-1"}
    before, after = (
        next(compose(record, CASE.source) for record in reading.records if record.id == "r-1")
        for reading in (first, second)
    )
    assert before.external_id == after.external_id
    assert before.fingerprint != after.fingerprint
    assert "Rating: 5 out of 5" in second.records[0].text


async def test_a_window_that_broke_off_goes_on_at_its_place_with_its_own_filter() -> None:
    """Nothing lost, nothing asked twice: a cursor is used with the filter it was given for, and the watermark waits."""
    vendor = FakeG2([review(number, changed=NOW) for number in range(1, 9)])
    begun = await read(CASE, vendor, {"since": "2026-11-02T08:50:00Z"}, pages=1)
    assert begun.checkpoint == {
        "since": "2026-11-02T08:50:00Z",
        "begun": "2026-11-02T09:00:00Z",
        "after": "r-3@2026-11-02T08:50:00Z",
    }
    rest = await read(CASE, vendor, begun.checkpoint, now=NOW + timedelta(minutes=30))
    assert len(rest.calls) == 2
    assert set(filters(rest)) == {"2026-11-02T08:50:00Z"}
    assert begun.ids | rest.ids == CASE.ids
    assert begun.ids & rest.ids == set()
    assert rest.checkpoint == {"since": "2026-11-02T08:50:00Z"}, "the time the window was begun, less the overlap"


async def test_a_place_in_an_unknown_order_is_not_trusted_for_long() -> None:
    """Nothing lost: after an hour a window that broke off is read again from its start."""
    vendor = FakeG2([review(number) for number in range(1, 9)])
    begun = await read(CASE, vendor, pages=2)
    rest = await read(CASE, vendor, begun.checkpoint, now=NOW + timedelta(minutes=61))
    assert rest.ids == CASE.ids
    assert rest.checkpoint == {"since": "2026-11-02T09:51:00Z"}


async def test_a_cursor_that_is_refused_costs_a_window_and_no_more() -> None:
    """Resumable: a cursor that G2 forgot is dropped, rather than asked for until the end of days."""
    vendor = FakeG2([review(number) for number in range(1, 4)])
    checkpoint = {"since": None, "begun": "2026-11-02T08:50:00Z", "after": "r-1@None"}
    vendor.forgotten = True
    given = await read(CASE, vendor, checkpoint)
    assert given.error is None
    assert given.ids == {"r-1", "r-2", "r-3"}
    assert given.checkpoint == {"since": "2026-11-02T08:50:00Z"}, "the window was begun anew"


async def test_any_other_refusal_of_a_cursor_is_told() -> None:
    """Everything explained: only a 400 speaks of the cursor, and without one it is an error as any other."""
    checkpoint = {"since": None, "begun": "2026-11-02T08:50:00Z", "after": "r-1@None"}
    for place, status in ((checkpoint, 404), ({}, 400)):
        given = await read(CASE, lambda _, status=status: refused(status, "no"), place)
        assert isinstance(given.error, httpx.HTTPStatusError)
        assert len(given.calls) == 1


async def test_links_without_a_cursor_are_followed_and_not_kept() -> None:
    """Resumable: where a link says its place otherwise, the pages come all the same, and a broken one starts over."""

    def by_number(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params.get("page[number]", "1"))
        following = f"{HOME}{REVIEWS}?page%5Bnumber%5D={number + 1}" if number < 3 else None
        shown = {name: value for name, value in review(number).items() if name != "changed"}
        return httpx.Response(200, json={"data": [shown], "links": {"next": following}})

    whole = await read(CASE, by_number)
    assert [record.id for record in whole.records] == ["r-1", "r-2", "r-3"]
    broken = await read(CASE, by_number, pages=2)
    assert broken.checkpoint["after"] is None
    assert (await read(CASE, by_number, broken.checkpoint)).ids == {"r-1", "r-2", "r-3"}


async def test_it_starts_at_the_operators_date() -> None:
    """Since: what was written since then has changed since then, so the filter may ask for that and ten minutes."""
    connector = g2()
    vendor = FakeG2([review(number) for number in range(1, 9)])
    async with lent(connector, vendor) as http:
        pages = [page async for page in connector.fetch(http, {}, Window(NOW, NOW - timedelta(days=25)))]
    assert {record.id for page in pages for record in page.records} >= {"r-5", "r-6", "r-7", "r-8"}
    assert vendor.asked[0].url.params["filter[updated_at_gt]"] == "2026-10-08T08:50:00Z"


async def test_links_lead_through_the_proxy() -> None:
    """Hosts: G2 writes its own address into its links, and they are asked for at base_url all the same."""
    connector = g2(base_url="https://proxy.acme.test")
    given = await read(CASE, FakeG2([review(number) for number in range(1, 9)]), connector=connector)
    assert given.ids == CASE.ids
    assert {request.url.host for _, request in given.calls} == {"proxy.acme.test"}


async def test_a_link_to_somebody_else_is_not_followed() -> None:
    """Secrets: the token goes to G2 alone, and what was read before the link is kept."""
    given = await read(CASE, FakeG2([review(number) for number in range(1, 9)], links="https://evil.test"))
    assert isinstance(given.error, SourceError)
    assert "evil.test" in str(given.error)
    assert {request.url.host for _, request in given.calls} == {"data.g2.com"}


async def test_it_shows_an_older_token_in_the_older_way() -> None:
    """Settings: `scheme: Token` is what keys of the first API want."""
    vendor = FakeG2([review(1)], authorization=f"Token token={SECRET}")
    assert (await read(CASE, vendor, connector=g2(scheme="Token"))).ids == {"r-1"}
    assert (await read(CASE, vendor)).error is not None


@pytest.mark.parametrize(("headers", "waited"), [({}, 60), ({"Retry-After": "5"}, 5)])
async def test_it_keeps_away_for_a_minute_when_shut_out(headers: dict[str, str], waited: int) -> None:
    """Polite: G2 names no time with its 429, and its documentation does."""
    vendor = FakeG2([review(1)])
    answers = iter([httpx.Response(429, headers=headers)])
    given = await read(CASE, lambda request: next(answers, None) or vendor(request))
    assert given.ids == {"r-1"}
    assert given.waited == waited


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refused(401, "Invalid token"), "my.g2.com"),
        (refused(403, "You do not have access to that resource"), "may not read acme-desk"),
        (refused(403, "Your current plan does not provide access to this resource."), "licence does not include"),
        (refused(404, "Not Found"), "no product acme-desk"),
    ],
)
async def test_it_explains_a_refusal_in_g2s_terms(answer: httpx.Response, words: str) -> None:
    """Explained: a token, a product and a licence are three different things to mend."""
    given = await read(CASE, lambda _: httpx.Response(answer.status_code, content=answer.content))
    assert words in str(given.error)
    assert len(given.calls) == 1


async def test_check_says_what_can_be_read() -> None:
    """Explained: `syncd check` names the product as G2 does, after one call for one review."""
    vendor = FakeG2([review(1), review(2)])
    async with lent(g2(), vendor) as http:
        assert await g2().check(http) == "the reviews of Acme Desk can be read"
    async with lent(g2(), FakeG2([])) as http:
        assert await g2().check(http) == "acme-desk can be read, and has no review"
    assert [request.url.params["page[size]"] for request in vendor.asked] == ["1"]


@pytest.mark.parametrize("product", ["", "../categories", "a/b", "a?b"])
def test_a_product_is_one_part_of_an_address(product: str) -> None:
    """Settings: a slug or a UUID, and nothing that leads to another endpoint."""
    with pytest.raises(ValidationError):
        g2(product=product)


def lent(connector: Any, vendor: Vendor) -> httpx.AsyncClient:
    """The house's client for this vendor."""

    async def sleep(_: float) -> None:
        raise AssertionError("nothing was to be waited for")

    return http_client.lend(
        connector, clock=lambda: NOW, sleep=sleep, draw=lambda: 0.5, transport=httpx.MockTransport(vendor)
    )
