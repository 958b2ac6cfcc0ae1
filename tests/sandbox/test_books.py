"""The workspace, with a clock set by hand."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from syncd.sandbox import Books
from syncd.sandbox.books import UnknownSignal

BOOKED = {"text": "Hello", "signalType": "transcript"}


@pytest.fixture
def books(clock: Any) -> Books:
    return Books(now=clock, random=random.Random(1))


def test_a_created_signal_answers_as_the_reference_shows(books: Books, review: dict[str, Any]) -> None:
    """A client written against the documented answer finds every field of it, so spelt and so filled."""
    signal = books.create(review)
    link = review["sourceLinks"][0]
    account = signal["accountId"]
    assert signal == {
        "id": signal["id"],
        "name": "Review - 3/11/25, 2:30 PM",
        "publicId": "SIGNAL-1",
        "workspaceId": books.workspace_id,
        "status": "processing",
        "context": None,
        "signalType": "review",
        "processorType": "manual-text",
        "providerType": "g2",
        "evidenceKind": "review",
        "analysisProfile": "survey_response",
        "provenance": {"providerType": "g2", "evidenceKind": "review", "analysisProfile": "survey_response"},
        "sourceFacet": "g2:review",
        "sourceLabel": "G2 Review",
        "sourceLinks": [link],
        "source": {"type": "manual-text", "external_data": {**review["sourceExternalData"], "links": [link]}},
        "data": {
            "s3Key": f"signals/manual-text/{books.workspace_id}/{signal['id']}.txt",
            "productIds": ["product-uuid-1"],
            "accountId": account,
            "accountExternalId": "crm-example-account",
            "additionalContext": review["additionalContext"],
            "uploadedAt": "2025-03-21T10:00:00Z",
        },
        "insightIds": [],
        "accountIds": [account],
        "accountId": account,
        "accountExternalId": "crm-example-account",
        "externalId": "g2-review:review-row-1",
        "createdAt": "2025-03-11T14:30:00Z",
        "updatedAt": "2025-03-21T10:00:00Z",
        "jobId": signal["processing"]["lastJobId"],
        "processing": {
            "lastJobId": signal["jobId"],
            "startedAt": "2025-03-21T10:00:00Z",
            "processedAt": None,
            "failedAt": None,
            "lastError": None,
        },
    }
    assert books.text("SIGNAL-1") == review["text"]


def test_a_raw_signal_keeps_its_source_and_data(books: Books, ticket: dict[str, Any]) -> None:
    """A raw body comes back as it was sent, with nothing of the typed flow mixed in."""
    signal = books.create(ticket)
    assert signal["source"] == ticket["source"]
    assert signal["data"] == ticket["data"]
    assert signal["name"] == ticket["name"]
    assert signal["jobId"]


@pytest.mark.parametrize(
    ("hour", "name"),
    [("00:05", "Transcript - 12/1/25, 12:05 AM"), ("12:00", "Transcript - 12/1/25, 12:00 PM")],
)
def test_a_nameless_signal_is_named_after_type_and_time(books: Books, hour: str, name: str) -> None:
    """The name Zentrik generates is readable, noon and midnight included."""
    assert books.create({**BOOKED, "occurredAt": f"2025-12-01T{hour}:00Z"})["name"] == name


def test_processing_ends_when_its_time_has_come(books: Books, clock: Any) -> None:
    """A tracker sees processing, then processed with insights, and jobId only in the creating answer."""
    created = [books.create(BOOKED)["publicId"] for _ in range(20)]
    clock.goes_on(seconds=1.999)
    assert {books.get(one)["status"] for one in created} == {"processing"}
    assert all(not books.get(one)["insightIds"] for one in created)
    clock.goes_on(seconds=0.001)
    done = [books.get(one) for one in created]
    assert {one["status"] for one in done} == {"processed"}
    assert {len(one["insightIds"]) for one in done} == {0, 1, 2, 3}
    assert all(one["processing"]["processedAt"] == "2025-03-21T10:00:02Z" for one in done)
    assert all(one["updatedAt"] == "2025-03-21T10:00:02Z" for one in done)
    assert all("jobId" not in one for one in done)
    assert books.statuses() == {"processed": 20}


def test_processing_fails_when_its_fate_says_so(clock: Any) -> None:
    """A failed signal says when and why, and a second run may turn out well."""
    outcomes = iter([True, False])
    books = Books(now=clock, random=random.Random(1), fails=lambda _text: next(outcomes))
    public_id = books.create(BOOKED)["publicId"]
    clock.goes_on(seconds=2)
    failed = books.get(public_id)
    assert failed["status"] == "failed"
    assert failed["processing"]["failedAt"] == "2025-03-21T10:00:02Z"
    assert failed["processing"]["processedAt"] is None
    assert "gave up" in failed["processing"]["lastError"]

    clock.goes_on(hours=1)
    job = books.process(public_id)
    again = books.get(public_id)
    assert again["status"] == "processing"
    assert again["processing"]["lastJobId"] == job != failed["processing"]["lastJobId"]
    assert again["processing"]["lastError"] is None
    assert again["data"]["uploadedAt"] == "2025-03-21T10:00:00Z"
    clock.goes_on(seconds=2)
    assert books.get(public_id)["status"] == "processed"


def test_public_ids_rise_and_are_never_given_twice(books: Books) -> None:
    """A deleted signal's publicId never comes to mean another signal."""
    for _ in range(3):
        books.create(BOOKED)
    books.delete("SIGNAL-3")
    assert books.create(BOOKED)["publicId"] == "SIGNAL-4"
    assert (len(books), books.created) == (3, 4)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("newest_first", [3, 1, 4, 2]),
        ("oldest_first", [2, 4, 1, 3]),
        ("creation", [1, 2, 3, 4]),
    ],
)
def test_the_list_is_in_the_order_asked_for(clock: Any, order: Any, expected: list[int]) -> None:
    """Whoever pages a list by createdAt finds backdated signals where Zentrik would show them."""
    books = Books(now=clock, random=random.Random(1), order=order)
    for day in (10, 5, 20, 7):
        books.create({**BOOKED, "occurredAt": f"2025-01-{day:02}"})
    assert [one["publicId"] for one in books.page(10, 0)] == [f"SIGNAL-{number}" for number in expected]
    assert [one["publicId"] for one in books.page(2, 1)] == [f"SIGNAL-{number}" for number in expected[1:3]]


def test_on_a_tie_the_later_created_is_newer(books: Books) -> None:
    """Signals of one instant have one order, so that pages neither repeat nor skip them."""
    for _ in range(3):
        books.create(BOOKED)
    assert [one["publicId"] for one in books.page(10, 0)] == ["SIGNAL-3", "SIGNAL-2", "SIGNAL-1"]


def test_a_shuffled_list_stays_as_it_is_shuffled(clock: Any) -> None:
    """A client that leans on an order the API never promised is found out, reproducibly."""
    books = Books(now=clock, random=random.Random(1), order="shuffled")
    for _ in range(50):
        books.create(BOOKED)
    first = [one["publicId"] for one in books.page(50, 0)]
    assert first == [one["publicId"] for one in books.page(50, 0)]
    assert first != sorted(first, key=lambda public_id: int(public_id[7:]))
    books.create(BOOKED)
    assert [one["publicId"] for one in books.page(51, 0) if one["publicId"] != "SIGNAL-51"] == first


def test_a_list_by_last_update_moves_what_was_processed(clock: Any) -> None:
    """A client that takes a list to stand still while it reads is found out."""
    books = Books(now=clock, random=random.Random(1), order="last_updated", processing_takes=timedelta(seconds=10))
    for _ in range(3):
        books.create(BOOKED)
        clock.goes_on(seconds=1)
    assert [one["publicId"] for one in books.page(3, 0)] == ["SIGNAL-3", "SIGNAL-2", "SIGNAL-1"]
    clock.goes_on(seconds=7.5)
    assert [one["publicId"] for one in books.page(3, 0)] == ["SIGNAL-1", "SIGNAL-3", "SIGNAL-2"]


def test_a_two_faced_list_is_in_order_at_its_ends_only(clock: Any) -> None:
    """A client that judges the whole list by its first and last page is found out."""
    books = Books(now=clock, random=random.Random(1), order="two_faced")
    for _ in range(300):
        books.create(BOOKED)
    numbers = [int(one["publicId"][7:]) for one in books.page(300, 0)]
    assert (numbers[:100], numbers[200:]) == ([*range(1, 101)], [*range(201, 301)])
    assert numbers[100:200] != sorted(numbers[100:200])
    assert sorted(numbers) == [*range(1, 301)]


def test_deleting_takes_out_that_one_alone(books: Books) -> None:
    """A deleted signal is gone from every view, and no other is."""
    for number in range(5):
        books.create({**BOOKED, "externalId": f"e{number}"})
    books.delete("SIGNAL-3")
    assert [one["publicId"] for one in books.page(10, 0)] == ["SIGNAL-5", "SIGNAL-4", "SIGNAL-2", "SIGNAL-1"]
    assert books.with_external_id("e2") == []
    for act in (books.get, books.delete, books.process, books.text, lambda one: books.patch(one, {})):
        with pytest.raises(UnknownSignal, match="SIGNAL-3"):
            act("SIGNAL-3")


def test_a_repeated_external_id_is_a_second_signal(books: Books, review: dict[str, Any]) -> None:
    """A doubled delivery is seen as the duplicate it would be at an API that does not deduplicate."""
    first, second = books.create(review), books.create(review)
    assert first["publicId"] != second["publicId"]
    assert [one["publicId"] for one in books.with_external_id(review["externalId"])] == ["SIGNAL-1", "SIGNAL-2"]
    assert books.duplicates() == 1


def test_with_dedup_a_repeated_external_id_is_the_same_signal(clock: Any, review: dict[str, Any]) -> None:
    """The other reading of the reference can be developed against too."""
    books = Books(now=clock, random=random.Random(1), dedup=True)
    first, second = books.create(review), books.create(review)
    assert first == second
    assert (len(books), books.duplicates()) == (1, 0)
    books.create(BOOKED)
    books.create(BOOKED)
    assert len(books) == 3


def test_a_patch_changes_what_it_names(books: Books, clock: Any, review: dict[str, Any]) -> None:
    """Every documented field of an update takes effect, and nothing else moves."""
    before = books.create(review)
    clock.goes_on(hours=1)
    same = books.patch("SIGNAL-1", {})
    assert same["externalId"] == before["externalId"]
    after = books.patch(
        "SIGNAL-1",
        {
            "source": {"type": "zendesk", "external_data": {"ticketId": "1"}},
            "data": {"subject": "Export"},
            "insightIds": ["i1"],
            "externalId": "zendesk:1",
            "status": "pending",
            "context": "support_request",
        },
    )
    assert after["source"] == {"type": "zendesk", "external_data": {"ticketId": "1"}}
    assert after["data"] == {"subject": "Export"}
    assert after["insightIds"] == ["i1"]
    assert after["externalId"] == "zendesk:1"
    assert after["status"] == "pending"
    assert after["context"] == "support_request"
    assert after["updatedAt"] == "2025-03-21T11:00:00Z"
    assert after["createdAt"] == before["createdAt"]
    assert books.with_external_id(before["externalId"]) == []
    assert books.with_external_id("zendesk:1") == [after]


def test_processing_again_ends_a_status_set_by_hand(books: Books, clock: Any) -> None:
    """A signal set to pending does not stay so after somebody has had it processed."""
    books.create(BOOKED)
    books.patch("SIGNAL-1", {"status": "pending"})
    books.process("SIGNAL-1")
    assert books.get("SIGNAL-1")["status"] == "processing"
    clock.goes_on(seconds=2)
    assert books.get("SIGNAL-1")["status"] == "processed"


def test_the_same_seed_gives_the_same_ids(clock: Any) -> None:
    """A failing test or demo can be run again with the very same ids."""
    one, other = (Books(now=clock, random=random.Random(7)) for _ in range(2))
    assert [one.create(BOOKED) for _ in range(5)] == [other.create(BOOKED) for _ in range(5)]


def test_the_time_processing_takes_is_a_setting(clock: Any) -> None:
    """A demo can be quick and an outage long."""
    books = Books(now=clock, random=random.Random(1), processing_takes=timedelta(hours=1))
    books.create(BOOKED)
    clock.goes_on(minutes=59)
    assert books.statuses() == {"processing": 1}


def test_a_page_of_a_large_workspace_costs_no_sorting(clock: Any) -> None:
    """Listing stays quick however many signals there are: a page looks at its own signals and at no others."""
    books = Books(now=clock, random=random.Random(1))
    for number in range(2_000):
        books.create({**BOOKED, "occurredAt": f"2025-01-{number % 28 + 1:02}"})
    looks = []
    entries = books._entries

    class Watched(dict[str, Any]):
        def __getitem__(self, public_id: str) -> Any:
            looks.append(public_id)
            return entries[public_id]

    books._entries = Watched()
    assert len(books.page(100, 1_000)) == 100
    assert len(looks) == 100


class TestAbsences:
    """Whether a record's evidence was ever missing."""

    @staticmethod
    def named(name: str) -> dict[str, Any]:
        return {**BOOKED, "externalId": name}

    def test_a_replacement_in_the_right_order_leaves_none(self, books: Books, clock: Any) -> None:
        """Renamed, posted anew, processed, deleted: at every moment something was there."""
        books.create(self.named("x"))
        clock.goes_on(seconds=60)
        books.patch("SIGNAL-1", {"externalId": "x~replaced-1"})
        books.create(self.named("x"))
        clock.goes_on(seconds=60)
        books.delete("SIGNAL-1")
        assert books.absences("x") == []

    def test_one_that_is_deleted_too_early_leaves_a_gap(self, books: Books, clock: Any) -> None:
        """Until the new one is processed there is no evidence: the span is told, to the instant."""
        books.create(self.named("x"))
        clock.goes_on(seconds=60)
        books.create(self.named("x"))
        books.delete("SIGNAL-1")
        deleted = clock()
        clock.goes_on(seconds=60)
        assert books.absences("x") == [(deleted, deleted + timedelta(seconds=2))]

    def test_one_that_is_deleted_for_good_is_absent_from_then_on(self, books: Books, clock: Any) -> None:
        """Of a span that lasts, no end is told; what never was there is not absent."""
        books.create(self.named("x"))
        clock.goes_on(seconds=60)
        books.delete("SIGNAL-1")
        assert books.absences("x") == [(clock(), None)]
        assert books.absences("y") == []
