"""Google Play: seven days of reviews and the gap after a longer rest, tokens, titles, translations and quotas."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.google_play import GooglePlay
from syncd.connector import CredentialsRefused, Link, Person, RateLimited, Record
from syncd.promises import Vendor, read
from syncd.signals import compose
from tests.connectors.vendors.google_play import (
    ACCOUNT,
    APP,
    CASE,
    NOW,
    FakePlay,
    google_error,
    google_play,
    review,
    seconds,
    service_account,
)


async def _only(vendor: Vendor, **more: Any) -> Record:
    given = await read(CASE, vendor, connector=google_play(**more))
    assert given.error is None, given.error
    assert given.set_aside == []
    [record] = given.records
    return record


async def test_a_review_becomes_what_a_person_would_read() -> None:
    """Everything explained: title, rating, words, date, device and version are Google's own."""
    record = await _only(FakePlay([review(1, reply="Fixed in 7.3, sorry!")]))
    assert record.text == (
        "Loses my list no. 1\n\nRating: 2 out of 5\n\nEvery second launch starts with an empty shopping list."
    )
    assert record.title == "Loses my list no. 1"
    assert record.context == "The developer replied: Fixed in 7.3, sorry!"
    assert record.occurred_at == datetime(2026, 11, 1, 21, 0, tzinfo=UTC)
    assert record.people == (Person("Tobi K.", role="reviewer"),)
    assert record.attributes == {
        "rating": 2,
        "language": "de",
        "version": "7.2.0",
        "versionCode": 7020,
        "device": "husky",
        "androidVersion": 35,
    }
    address = f"https://play.google.com/store/apps/details?id={APP}&reviewId=gp%3AAOqpTO001"
    assert record.links == (Link(address, "Open the review on Google Play", "review", primary=True),)
    assert record.place == "Google Play review gp:AOqpTO001"
    body = json.loads(compose(record, CASE.source).body)
    assert body["externalId"] == f"google_play:{APP}:gp:AOqpTO001"
    assert (body["signalType"], body["providerType"]) == ("review", "google_play")
    assert body["occurredAt"] == "2026-11-01T21:00:00Z"


@pytest.mark.parametrize(
    ("given", "title", "text"),
    [
        ("Empty list\tIt forgets.", "Empty list", "Empty list\n\nRating: 2 out of 5\n\nIt forgets."),
        ("\tIt forgets.", "Google Play review (2 out of 5)", "Rating: 2 out of 5\n\nIt forgets."),
        ("It forgets.", "Google Play review (2 out of 5)", "Rating: 2 out of 5\n\nIt forgets."),
        ("Empty list\t", "Empty list", "Empty list\n\nRating: 2 out of 5"),
        ("Two\tor\tmore", "Two", "Two\n\nRating: 2 out of 5\n\nor\tmore"),
    ],
)
async def test_a_tab_parts_the_title_from_the_words(given: str, title: str, text: str) -> None:
    """The text a person would read: Google joins title and body by a tab, where there is a title at all."""
    record = await _only(FakePlay([review(1, text=given)]))
    assert (record.title, record.text) == (title, text)


async def test_the_words_before_a_translation_are_kept() -> None:
    """Nothing is lost: with a translation, what the customer wrote stands beside it."""
    vendor = FakePlay([review(1, text="Liste leer\tSie ist weg.", reply="Danke!")])
    record = await _only(vendor, translation_language="en")
    assert record.text == "[en] Liste leer\n\nRating: 2 out of 5\n\nSie ist weg."
    assert record.context == "Before translation: Liste leer\n\nSie ist weg.\n\nThe developer replied: Danke!"
    assert (await _only(vendor)).context == "The developer replied: Danke!"


async def test_what_others_clicked_does_not_change_a_review() -> None:
    """Nothing is doubled: thumbs move by themselves, and are not what the customer said."""
    before, after = [await _only(FakePlay([review(1, thumbsUpCount=count)])) for count in (3, 90)]
    assert compose(before, CASE.source) == compose(after, CASE.source)


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Works again.", "lastModified": seconds(NOW - timedelta(minutes=5))},
        {"reply": "Thank you!"},
    ],
)
async def test_an_edit_or_a_reply_is_noticed(change: dict[str, Any]) -> None:
    """Edited records are noticed: the same id has another fingerprint at the next reading."""
    first = await read(CASE, FakePlay([review(1), review(2)]))
    second = await read(CASE, FakePlay([review(1), review(2, **change)]), first.checkpoint)
    before, after = [{each.id: compose(each, CASE.source).fingerprint for each in g.records} for g in (first, second)]
    assert [id_ for id_ in before if before[id_] != after[id_]] == [review(2)["reviewId"]]


async def test_a_review_without_words_of_the_customer_is_set_aside() -> None:
    """Bad input: a reply alone is no evidence, and the page goes on."""
    alone = {"reviewId": "gp:alone", "comments": [{"developerComment": {"text": "Hello?"}}]}
    given = await read(CASE, FakePlay([alone, review(1)]))
    assert given.error is None, given.error
    [aside] = given.set_aside
    assert (aside.place, aside.reason) == ("Google Play review gp:alone", "it has no words of the customer")
    assert given.ids == {review(1)["reviewId"]}


async def test_only_what_can_have_changed_is_read_again() -> None:
    """Quotas are for what is new: a walk ends at the first page that lies wholly before `reread`."""
    vendor = FakePlay([review(number) for number in range(1, 14)])
    first = await read(CASE, vendor)
    assert len(first.calls) == 6
    assert first.checkpoint == {"read_at": "2026-11-02T09:00:00+00:00", "newest": "2026-11-01T21:00:00+00:00"}
    assert len((await read(CASE, vendor, first.checkpoint)).calls) == 3
    assert len((await read(CASE, vendor, first.checkpoint, connector=google_play(reread="3d"))).calls) == 5
    assert len((await read(CASE, vendor, since=NOW - timedelta(days=2))).calls) == 4


async def test_a_page_with_one_review_of_interest_does_not_end_the_walk() -> None:
    """A gap is lost for good: a date that is missing, or lies to come, makes no other review old."""
    first = await read(CASE, FakePlay([review(number) for number in range(5, 14)]))
    wild = [review(2, lastModified=None), review(3, lastModified=seconds(NOW + timedelta(days=900)))]
    again = await read(CASE, FakePlay([*wild, *[review(n) for n in range(4, 14)]], page=2), first.checkpoint)
    assert {review(number)["reviewId"] for number in (2, 3, 4)} <= again.ids
    assert again.checkpoint["newest"] == "2026-10-31T09:00:00+00:00"


async def test_a_review_at_the_very_edge_is_asked_for_again() -> None:
    """Ties are asked again: a page that holds a review of the very instant up to which is re-read is not passed by."""
    tied = [review(1), *[review(n, lastModified=seconds(NOW - timedelta(hours=13))) for n in range(2, 9)]]
    first = await read(CASE, FakePlay([review(1)]))
    assert (await read(CASE, FakePlay(tied), first.checkpoint)).ids == {each["reviewId"] for each in tied}


async def test_a_fresh_reply_counts_as_a_change() -> None:
    """Nothing is lost: should a reply bring an old review up, the walk does not end at it."""
    first = await read(CASE, FakePlay([review(1)]))
    answered = review(4, reply="Fixed!")
    answered["comments"][1]["developerComment"]["lastModified"] = seconds(NOW - timedelta(minutes=5))
    again = await read(CASE, FakePlay([review(1), answered, review(5)], page=1), first.checkpoint)
    assert again.ids == {review(number)["reviewId"] for number in (1, 4, 5)}
    assert again.checkpoint["newest"] == "2026-11-02T08:55:00+00:00"


async def test_the_checkpoint_moves_when_the_walk_is_done() -> None:
    """Newest first: until the oldest page is in the ledger, the old checkpoint is what to go on from."""
    given = await read(CASE, FakePlay([review(number) for number in range(1, 9)]))
    assert [bool(page.checkpoint) for page in given.pages] == [False, False, True]


async def test_a_rest_of_more_than_seven_days_is_told_once() -> None:
    """Everything explained: what Google no longer serves is said to be missing, from when to when, and only once."""
    first = await read(CASE, FakePlay([review(1)]))
    later = NOW + timedelta(days=10)
    fresh = [review(n, lastModified=seconds(later - timedelta(hours=n))) for n in range(1, 6)]
    vendor = FakePlay(fresh, now=later)
    begun = await read(CASE, _down_after(vendor, 1), first.checkpoint, now=later)
    assert (len(begun.ids), begun.set_aside) == (3, [])
    second = await read(CASE, vendor, begun.checkpoint, now=later)
    [aside] = second.set_aside
    assert aside.place == "Google Play reviews from 2026-11-02 09:00 UTC to 2026-11-05 09:00 UTC"
    assert "monthly CSV files" in aside.reason
    third = await read(CASE, vendor, second.checkpoint, now=later + timedelta(days=7))
    assert third.set_aside == []


async def test_a_first_reading_misses_nothing_it_knew_of() -> None:
    """A first reading, and one after a quiet week with readings in it, tell of no gap."""
    assert (await read(CASE, FakePlay([]))).set_aside == []
    quiet = {"read_at": (NOW - timedelta(days=6)).isoformat(), "newest": (NOW - timedelta(days=300)).isoformat()}
    assert (await read(CASE, FakePlay([review(1)]), quiet)).set_aside == []


async def test_a_missing_page_token_is_the_end() -> None:
    """`tokenPagination` is often left out, and totals are no truth: neither is an error."""

    def answer(request: httpx.Request) -> httpx.Response:
        said = vendor(request)
        if request.method == "POST":
            return said
        return httpx.Response(200, json={"reviews": said.json()["reviews"], "pageInfo": {"totalResults": 57}})

    vendor = FakePlay([review(number) for number in range(1, 9)])
    given = await read(CASE, answer)
    assert (given.error, len(given.ids)) == (None, 3)


async def test_one_token_is_fetched_and_renewed_when_it_is_refused() -> None:
    """Polite: a token serves all calls while it is good; a 401 costs another token, and no record."""
    vendor, refusals = FakePlay([review(number) for number in range(1, 9)]), 1

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal refusals
        if request.method == "GET" and "token" in request.url.params and refusals:
            refusals -= 1
            return google_error(401, "UNAUTHENTICATED", "authError")
        return vendor(request)

    assert (await read(CASE, vendor)).ids == CASE.ids
    assert vendor.granted == 1
    assert (await read(CASE, answer)).ids == CASE.ids
    assert vendor.granted == 3


async def test_tokens_and_reviews_are_asked_for_where_the_settings_say() -> None:
    """`base_url` and `token_url` hold for every call; the token is still meant for Google (`aud`)."""
    elsewhere = google_play(base_url="https://proxy.acme.test", token_url="https://proxy.acme.test:8443/token")
    given = await read(CASE, CASE.full(), connector=elsewhere)
    assert given.ids == CASE.ids
    assert {request.url.netloc for _, request in given.calls} == {b"proxy.acme.test", b"proxy.acme.test:8443"}
    assert CASE.connector.hosts() == {"androidpublisher.googleapis.com", "oauth2.googleapis.com"}


@pytest.mark.parametrize(
    ("status", "reason"),
    [("PERMISSION_DENIED", "quotaExceeded"), ("PERMISSION_DENIED", "rateLimitExceeded"), ("RESOURCE_EXHAUSTED", "x")],
)
async def test_a_used_up_quota_is_no_refusal(status: str, reason: str) -> None:
    """Polite: Google says 403 to a used-up quota as well; it is waited out, in minutes, and not taken for a wrong
    key."""
    vendor = FakePlay([review(1)])
    given = await read(CASE, _once(vendor, google_error(403, status, reason)))
    assert given.ids == {review(1)["reviewId"]}
    assert given.waited == timedelta(minutes=5).total_seconds()
    over = await read(CASE, lambda r: vendor(r) if r.method == "POST" else google_error(403, status, reason))
    assert isinstance(over.error, RateLimited)


async def test_a_time_that_google_names_is_kept() -> None:
    """Polite, and no slower than that: Retry-After counts where there is one."""
    vendor = FakePlay([review(1)])
    given = await read(CASE, _once(vendor, httpx.Response(429, headers={"Retry-After": "7"})))
    assert (given.ids, given.waited) == ({review(1)["reviewId"]}, 7)


def _disabled() -> httpx.Response:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "SERVICE_DISABLED"}]
    return httpx.Response(403, json={"error": {"code": 403, "status": "PERMISSION_DENIED", "details": details}})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (google_error(401, "UNAUTHENTICATED", "permissionDenied"), f"invite {ACCOUNT}"),
        (google_error(403, "PERMISSION_DENIED", "insufficientPermissions"), f"reply to reviews of {APP}"),
        (google_error(403, "PERMISSION_DENIED", "accessNotConfigured"), "is not switched on in the Google Cloud"),
        (_disabled(), "is not switched on in the Google Cloud"),
        (httpx.Response(403, text="<html>no</html>"), f"invite {ACCOUNT}"),
        (httpx.Response(403, json=["no"]), f"invite {ACCOUNT}"),
        (google_error(404, "NOT_FOUND", "applicationNotFound"), f"no app {APP} on Google Play"),
    ],
)
async def test_what_is_wrong_is_said_in_googles_terms(said: httpx.Response, words: str) -> None:
    """Everything explained: a permission that is missing, an API that is switched off, an app that is not there."""
    vendor = FakePlay([])
    given = await read(CASE, lambda request: vendor(request) if request.method == "POST" else said)
    assert words in str(given.error)


async def test_a_key_that_google_does_not_take_is_explained() -> None:
    """Everything explained: a refused grant is about the key, not about permissions; and no part of it is shown."""
    given = await read(CASE, FakePlay([]), connector=CASE.forged)
    assert isinstance(given.error, CredentialsRefused)
    assert f"does not take the key of {ACCOUNT}" in str(given.error)
    broken = google_play(service_account=service_account(private_key="-----BEGIN PRIVATE KEY-----\nMIIEv"))
    given = await read(CASE, FakePlay([]), connector=broken)
    assert isinstance(given.error, CredentialsRefused)
    assert "the private key cannot sign (RS256)" in str(given.error)
    assert "MIIEv" not in str(given.error)


@pytest.mark.parametrize("given", ["", "{}", "[]", "/run/secrets/key.json", '{"client_email": "a@b", "x": "hush-77"}'])
async def test_what_is_no_key_is_told_before_anything_is_asked(given: str) -> None:
    """Everything explained: what stands in place of a key is told, and never shown."""
    refused = await read(CASE, FakePlay([]), connector=google_play(service_account=given))
    assert isinstance(refused.error, CredentialsRefused)
    assert "is not the key of a service account" in str(refused.error)
    assert "hush-77" not in str(refused.error)
    assert refused.calls == []


def test_the_key_can_stand_in_a_file(tmp_path: Any) -> None:
    """Secrets need not be in the configuration: the JSON file that Google gives is named instead."""
    (tmp_path / "key.json").write_text(service_account() + "\n")
    given = GooglePlay(package_name=APP, service_account_file=str(tmp_path / "key.json"))  # type: ignore[call-arg]
    assert given.service_account.get_secret_value() == service_account()
    assert "PRIVATE KEY" not in repr(given)


def test_settings_that_google_cannot_meet_are_refused() -> None:
    """What is no package, or asks for more than the seven days, is told when the configuration is read."""
    assert google_play(reread="7d").default_namespace("android") == f"google_play:{APP}"
    wrongs: list[dict[str, Any]] = [{"package_name": "basket"}, {"package_name": "com.acme/../x"}, {"reread": "8d"}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            google_play(**wrong)


_WILD = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=2))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.fixed_dictionaries({"comments": st.one_of(_WILD, st.lists(_WILD, max_size=3))}),
        st.dictionaries(
            st.sampled_from(["text", "lastModified", "starRating", "device", "appVersionCode"]),
            st.one_of(_WILD, st.fixed_dictionaries({"seconds": _WILD, "nanos": _WILD})),
        ).map(lambda said: {"comments": [{"userComment": said}]}),
    )
)
async def test_no_review_stops_the_others(wild: dict[str, Any]) -> None:
    """Bad input: whatever one review holds, it comes or is set aside under its id, and the page goes on."""
    given = await read(CASE, FakePlay([review(1), review(2) | wild, review(3)]))
    assert given.error is None, given.error
    assert {review(1)["reviewId"], review(3)["reviewId"]} <= given.ids
    odd = review(2)["reviewId"]
    assert odd in given.ids or any(odd in item.place for item in given.set_aside)


def _down_after(vendor: Vendor, pages: int) -> Any:
    """The vendor, which is down after so many pages."""

    def answer(request: httpx.Request) -> httpx.Response:
        shown = [each for each in vendor.asked if each.method == "GET"]
        return httpx.Response(503) if len(shown) >= pages and request.method == "GET" else vendor(request)

    return answer


def _once(vendor: Vendor, said: httpx.Response) -> Any:
    """The vendor, which says this when it is asked for reviews first."""
    left = [said]
    return lambda request: left.pop() if left and request.method == "GET" else vendor(request)
