"""App Store Connect: tokens, a walk through a list that takes no dates, replies, and what Apple says of limits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.app_store import AppStore
from syncd.connector import CredentialsRefused, Link, Person, RateLimited, Record
from syncd.promises import Read, read
from syncd.signals import compose
from tests.connectors.vendors.app_store import APP, CASE, KEY, NOW, FakeAppStore, app_store, p8, review


def _only(given: Read) -> Record:
    assert given.error is None, given.error
    [record] = given.records
    return record


async def test_a_review_becomes_what_a_person_would_read() -> None:
    """Everything explained: title, rating, words, date with its zone, and who wrote it, are Apple's own."""
    record = _only(await read(CASE, FakeAppStore([review(1, reply="Fixed in 7.3, sorry!")])))
    assert record.text == (
        "Loses my list no. 1\n\nRating: 2 out of 5\n\nEvery second launch starts with an empty shopping list."
    )
    assert record.title == "Loses my list no. 1"
    assert record.context == "The developer replied: Fixed in 7.3, sorry!"
    assert record.occurred_at == datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
    assert record.people == (Person("tobi_k", role="reviewer"),)
    assert record.attributes == {"rating": 2, "territory": "DEU"}
    assert record.links == (
        Link(f"https://apps.apple.com/app/id{APP}?see-all=reviews", "Open the app's reviews", "review", primary=True),
    )
    assert record.place == "App Store review 00000001-5d2e-4c77-b1a0-99e4c0ffee00"
    body = json.loads(compose(record, CASE.source).body)
    assert body["externalId"] == f"app_store:{APP}:00000001-5d2e-4c77-b1a0-99e4c0ffee00"
    assert (body["signalType"], body["providerType"]) == ("review", "app_store")
    assert body["occurredAt"] == "2026-11-01T09:00:00Z"


async def test_a_review_without_a_title_is_named_by_its_rating() -> None:
    """A signal has a name that tells something, whatever Apple leaves out."""
    record = _only(await read(CASE, FakeAppStore([review(1, title=None)])))
    assert record.title == "App Store review (2 out of 5)"
    assert record.text == "Rating: 2 out of 5\n\nEvery second launch starts with an empty shopping list."
    assert _only(await read(CASE, FakeAppStore([review(1, title="", rating=None)]))).title == "App Store review"


async def test_a_reply_that_is_not_public_yet_is_left_out() -> None:
    """Only what is public is imported: a reply waits until Apple has published it."""
    waiting = FakeAppStore([review(1, reply="Fixed in 7.3", state="PENDING_PUBLISH")])
    assert _only(await read(CASE, waiting)).context is None


async def test_each_reply_goes_with_its_own_review() -> None:
    """Nothing is mixed up: a reply is found by the id that the review names."""
    given = await read(CASE, FakeAppStore([review(1, reply="To one"), review(2), review(3, reply="To three")]))
    said = [record.context and record.context.removeprefix("The developer replied: ") for record in given.records]
    assert said == ["To one", None, "To three"]


@pytest.mark.parametrize("change", [{"body": "Works again."}, {"rating": 5}, {"reply": "Thank you!"}])
async def test_an_edit_or_a_late_reply_is_noticed(change: dict[str, Any]) -> None:
    """Edited records are noticed: what changed within `reread` has another fingerprint at the next reading."""
    first = await read(CASE, FakeAppStore([review(1), review(2)]))
    second = await read(CASE, FakeAppStore([review(1), review(2, **change)]), first.checkpoint)
    before, after = [{each.id: compose(each, CASE.source).fingerprint for each in g.records} for g in (first, second)]
    assert [id_ for id_ in before if before[id_] != after[id_]] == [review(2)["id"]]


async def test_only_what_can_have_changed_is_read_again() -> None:
    """Quotas are for what is new: a walk ends at the first page that lies wholly before `reread`."""
    vendor = FakeAppStore([review(number) for number in range(1, 31)])
    first = await read(CASE, vendor)
    assert (len(first.calls), first.checkpoint) == (10, {"newest": "2026-11-01T09:00:00+00:00"})
    again = await read(CASE, vendor, first.checkpoint)
    assert (len(again.calls), again.checkpoint) == (2, first.checkpoint)
    weeks = await read(CASE, vendor, first.checkpoint, connector=app_store(reread="14d"))
    assert len(weeks.calls) == 6


async def test_a_page_with_one_review_of_interest_does_not_end_the_walk() -> None:
    """A gap is lost for good: order within a page is not relied on, and a review without a date is no old one."""
    reviews = [review(number) for number in range(2, 14)]
    first = await read(CASE, FakeAppStore(reviews))
    vendor = FakeAppStore([*reviews, review(1), review(20, createdDate=None)])
    again = await read(CASE, vendor, first.checkpoint)
    assert {review(1)["id"], review(20)["id"]} <= again.ids
    assert again.checkpoint == {"newest": "2026-11-01T09:00:00+00:00"}


async def test_a_review_at_the_very_edge_is_asked_for_again() -> None:
    """Ties are asked again: a page that holds a review of the very instant up to which is re-read is not passed by."""
    tied = [review(1), *[review(n, createdDate=(NOW - timedelta(days=2)).isoformat()) for n in range(2, 9)]]
    first = await read(CASE, FakeAppStore([review(1)]))
    assert (await read(CASE, FakeAppStore(tied), first.checkpoint)).ids == {each["id"] for each in tied}


async def test_the_checkpoint_moves_when_the_walk_is_done() -> None:
    """Newest first: until the oldest page is in the ledger, the old checkpoint is what to go on from."""
    given = await read(CASE, FakeAppStore([review(number) for number in range(1, 9)]))
    assert [page.checkpoint for page in given.pages] == [{}, {}, {"newest": "2026-11-01T09:00:00+00:00"}]


async def test_a_date_to_come_hides_nothing() -> None:
    """A gap is lost for good: one review dated in the future does not make all others old."""
    future = review(1, createdDate="2031-01-01T00:00:00Z")
    first = await read(CASE, FakeAppStore([future, *[review(number) for number in range(5, 9)]]))
    assert first.checkpoint == {"newest": "2026-10-28T09:00:00+00:00"}
    second = await read(CASE, FakeAppStore([future, *[review(number) for number in range(1, 9)]]), first.checkpoint)
    assert {review(number)["id"] for number in range(2, 5)} <= second.ids


async def test_a_first_reading_goes_back_to_since() -> None:
    """`since` bounds what is asked for, not only what is kept."""
    vendor = FakeAppStore([review(number) for number in range(1, 31)])
    given = await read(CASE, vendor, since=NOW - timedelta(days=5))
    assert len(given.calls) == 3
    assert given.checkpoint == {"newest": "2026-11-01T09:00:00+00:00"}


async def test_the_pages_lead_on_through_a_proxy() -> None:
    """`base_url` holds for every call: Apple's own address in `links.next` is asked for there as well."""
    given = await read(
        CASE,
        FakeAppStore([review(number) for number in range(1, 9)]),
        connector=app_store(base_url="https://proxy.acme.test"),
    )
    assert given.ids == CASE.ids
    assert {request.url.host for _, request in given.calls} == {"proxy.acme.test"}


async def test_a_link_that_leads_elsewhere_is_not_followed() -> None:
    """Credentials go to Apple alone, wherever an answer points."""

    class Elsewhere(FakeAppStore):
        def answer(self, request: httpx.Request) -> httpx.Response:
            said = super().answer(request).json()
            return httpx.Response(200, json=said | {"links": {"next": "https://api.elsewhere.test/v1/reviews"}})

    given = await read(CASE, Elsewhere([review(1)]))
    assert "api.elsewhere.test is not asked" in str(given.error)
    assert len(given.calls) == 1


async def test_the_key_of_one_person_names_no_issuer() -> None:
    """What Apple wants of such a key: `sub` in place of `iss`."""
    given = await read(CASE, FakeAppStore([review(1)], person=True), connector=app_store(issuer_id=None))
    assert given.error is None, given.error
    refused = await read(CASE, FakeAppStore([review(1)], person=True))
    assert isinstance(refused.error, CredentialsRefused)


async def test_a_key_that_cannot_sign_is_explained_before_anything_is_asked() -> None:
    """Everything explained: a key that was not copied whole is said to be so, and is not shown."""
    half = p8(KEY)[: len(p8(KEY)) // 2]
    given = await read(CASE, FakeAppStore([review(1)]), connector=app_store(private_key=half))
    assert isinstance(given.error, CredentialsRefused)
    assert "the private key cannot sign (ES256)" in str(given.error)
    assert half.splitlines()[1] not in str(given.error)
    assert given.calls == []


async def test_it_rests_when_the_calls_of_the_hour_are_used_up() -> None:
    """Polite: where `X-Rate-Limit` says that none is left, the next call is made some minutes later."""
    given = await read(CASE, FakeAppStore([review(number) for number in range(1, 9)], left=0))
    assert given.ids == CASE.ids
    assert given.waited == timedelta(minutes=10).total_seconds()
    with_some_left = await read(CASE, FakeAppStore([review(number) for number in range(1, 9)], left=500))
    assert with_some_left.waited == 0


async def test_a_429_is_waited_out_in_minutes() -> None:
    """Polite: Apple names no time to come again, so seconds would only be refused again."""
    vendor, refusals = FakeAppStore([review(1)]), 2

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal refusals
        refusals -= 1
        return httpx.Response(429, json={"errors": []}) if refusals >= 0 else vendor(request)

    given = await read(CASE, answer)
    assert given.ids == {review(1)["id"]}
    assert given.waited == timedelta(minutes=10).total_seconds()
    refused = await read(CASE, lambda _: httpx.Response(429, json={"errors": [{"code": "RATE_LIMIT_EXCEEDED"}]}))
    assert isinstance(refused.error, RateLimited)
    said = [httpx.Response(429, headers={"Retry-After": "7"})]
    named = await read(CASE, lambda request: said.pop() if said else vendor(request))
    assert named.waited == 7


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "issuer_id, key_id and private_key"), (403, "the role Customer Support"), (404, f"has no app {APP}")],
)
async def test_what_is_wrong_is_said_in_apples_terms(status: int, words: str) -> None:
    """Everything explained: a wrong key, a role too small, another company's app."""
    given = await read(CASE, lambda _: httpx.Response(status, json={"errors": []}))
    assert words in str(given.error)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["rating", "title", "body", "reviewerNickname", "createdDate", "territory"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=2)),
    ),
    st.one_of(st.none(), st.text(max_size=60)),
)
async def test_no_review_stops_the_others(wild: dict[str, Any], left: str | None) -> None:
    """Bad input: whatever one review holds, it comes or is set aside under its id, and the page goes on."""
    odd = review(2) | {"attributes": wild}
    headers = {"X-Rate-Limit": left.encode("ascii", "ignore").decode()} if left and left.isprintable() else {}

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=headers, json={"data": [odd, review(3)], "links": {}})

    given = await read(CASE, answer)
    assert given.error is None, given.error
    assert review(3)["id"] in given.ids
    assert review(2)["id"] in given.ids or any(review(2)["id"] in item.place for item in given.set_aside)


def test_the_settings_are_taken_as_people_write_them() -> None:
    """An app's number needs no quotes in YAML, and what is no number is refused before anything is asked."""
    assert app_store(app_id=6448311069).app_id == APP
    assert app_store(app_id=6448311069).default_namespace("ios") == f"app_store:{APP}"
    for wrong in ({"app_id": "id6448311069"}, {"reread": "1h"}, {"issuer_id": ""}, {"key_id": ""}):
        with pytest.raises(ValidationError):
            app_store(**wrong)


def test_the_key_can_stand_in_a_file(tmp_path: Any) -> None:
    """Secrets need not be in the configuration: the .p8 file that Apple gives is named instead."""
    (tmp_path / "AuthKey.p8").write_text(p8(KEY))
    given = AppStore(app_id=APP, key_id="K", private_key_file=str(tmp_path / "AuthKey.p8"))  # type: ignore[call-arg]
    assert given.private_key.get_secret_value() == p8(KEY).rstrip("\n")
