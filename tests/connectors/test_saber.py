"""Saber: the exact text and fields of an answer of every make, and two lists that are read each in its own way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.saber import _answer
from syncd.connector import CredentialsRefused, CursorStuck, Link, Organisation, RateLimited
from syncd.promises import Read, read
from tests.connectors.vendors import iso
from tests.connectors.vendors.saber import (
    CASE,
    NOW,
    FakeSaber,
    on_contact,
    research,
    saber,
    under_way,
    uuid,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def one(**more: Any) -> Read:
    """What becomes of a single piece of research on a company."""
    return await read(CASE, FakeSaber([research(7, **more)]))


def asked(given: Read, path: str) -> list[dict[str, str]]:
    """The parameters of the calls to a path."""
    return [dict(request.url.params) for _, request in given.calls if request.url.path == path]


class TestRecord:
    async def test_research_reads_as_question_answer_reasoning_and_sources(self) -> None:
        """The text has all that was found, and says of whom."""
        [record] = (await one()).records
        assert record.text == (
            "Does the company sell abroad?\n\n"
            "Company: globex7.test\n\n"
            "Answer\nYes, in 7 countries.\n\n"
            "Reasoning\nIts shop lists them.\n\n"
            "Sources\n- Shop: https://globex7.test/shop"
        )

    async def test_every_field_stands_where_zentrik_wants_it(self) -> None:
        """The report can be found, grouped and mapped to its account."""
        [record] = (await one()).records
        assert (record.id, record.kind) == (uuid(7), "discovery_report")
        assert record.title == "globex7.test: Does the company sell abroad?"
        assert record.occurred_at == NOW - 5 * DAY + timedelta(minutes=7)
        assert record.organisation == Organisation(domain="globex7.test")
        assert record.attributes == {
            "subject": "company",
            "domain": "globex7.test",
            "answerType": "open_text",
            "confidence": 0.8,
            "verificationMode": "strict",
        }
        assert saber().provider == "saber"

    async def test_research_on_a_contact_says_so(self) -> None:
        """What was found about a person is told apart from what was found about a company."""
        given = await read(CASE, FakeSaber([], [on_contact(7, domain="globex.test")]))
        [record] = given.records
        assert "Contact: https://linkedin.test/in/mia-7" in record.text
        assert record.attributes["subject"] == "contact"
        assert record.attributes["contactProfileUrl"] == "https://linkedin.test/in/mia-7"
        assert record.organisation == Organisation(domain="globex.test")

    async def test_a_signal_in_both_lists_is_one_record(self) -> None:
        """A list of companies that shows contacts too doubles nothing, and changes nothing."""
        given = await read(CASE, FakeSaber([on_contact(7)], [on_contact(7)]))
        first, second = given.records
        assert first == second

    async def test_the_first_source_is_where_a_person_looks_first(self) -> None:
        """The links are the sources, each once and in their order; what is no web address is none."""
        sources = [
            {"title": "Annual report", "url": "https://a.test/report", "snippet": "p. 4"},
            {"title": "Notes", "url": "internal notes"},
            {"title": None, "url": "https://b.test"},
            {"title": "Again", "url": "https://a.test/report"},
        ]
        [record] = (await one(sources=sources)).records
        assert record.links == (
            Link("https://a.test/report", "Annual report", "source", primary=True),
            Link("https://b.test", None, "source"),
        )
        assert "- Notes: internal notes\n- https://b.test\n" in record.text

    async def test_without_sources_the_subject_itself_is_linked(self) -> None:
        """A person can always look at something: the company's site, or the contact's profile."""
        given = await read(CASE, FakeSaber([research(1, sources=[])], [on_contact(2)]))
        assert [record.links for record in given.records] == [
            (Link("https://globex1.test", "Open globex1.test", "company", primary=True),),
            (Link("https://linkedin.test/in/mia-2", "Open contact profile", "contact", primary=True),),
        ]

    async def test_a_question_of_many_lines_has_a_title_of_one(self) -> None:
        """A prompt of a page is no name."""
        [record] = (await one(question="Which tools?\n\n" + "Look at job posts. " * 30)).records
        assert record.title
        assert record.title.startswith("globex7.test: Which tools? Look at")
        assert len(record.title) <= 200


class TestAnswers:
    @pytest.mark.parametrize(
        ("envelope", "words"),
        [
            ({"type": "open_text", "openText": {"value": " Two plants. "}}, "Two plants."),
            ({"type": "number", "number": {"value": 1200000}}, "1200000"),
            ({"type": "number", "number": {"value": 1200000.0}}, "1200000"),
            ({"type": "number", "number": {"value": 2.5}}, "2.5"),
            ({"type": "boolean", "boolean": {"value": False}}, "No"),
            ({"type": "list", "list": {"value": ["Go", "Rust"]}}, "- Go\n- Rust"),
            ({"type": "list", "list": {"value": []}}, "None"),
            ({"type": "percentage", "percentage": {"value": 42}}, "42%"),
            ({"type": "percentage", "percentage": {"value": "42 %"}}, "42 %"),
            ({"type": "currency", "currency": {"value": "5000000"}}, "5000000"),
            ({"type": "currency", "currency": {"value": 5e6, "currency": "EUR"}}, "5000000 EUR"),
            ({"type": "url", "url": {"value": "https://globex.test/jobs"}}, "https://globex.test/jobs"),
            (
                {"type": "json_schema", "jsonSchema": {"value": 3, "raised": True, "rounds": ["A", "B"]}},
                "value: 3\nraised: Yes\nrounds: A, B",
            ),
            (
                {"type": "contacts", "contacts": {"value": [{"name": "Ana", "title": "CTO"}, {"name": "Bo"}]}},
                "- name: Ana; title: CTO\n- name: Bo",
            ),
            ({"type": "mood", "mood": "sunny", "openText": None}, "sunny"),
            ({"type": "range", "from": 1, "to": 5}, "from: 1\nto: 5"),
            ({"type": "number", "number": {"value": None}}, ""),
            ("just words", "just words"),
            (None, ""),
        ],
    )
    def test_every_make_of_answer_reads_as_words(self, envelope: object, words: str) -> None:
        """A person reads an answer, not its wrapping, and a make that is new is read by its form."""
        assert _answer(envelope) == words

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "value", "list", "url"]), inner),
        )
    )
    def test_no_answer_is_too_wild(self, envelope: object) -> None:
        """Whatever a vendor puts there, it is read as some text."""
        assert isinstance(_answer(envelope), str)

    async def test_an_answer_the_list_leaves_out_is_fetched(self) -> None:
        """Nothing is lost where the list is only an overview: of a company's and of a contact's each at its place."""
        vendor = FakeSaber([research(1)], [on_contact(2)], bare=[uuid(1), uuid(2)])
        given = await read(CASE, vendor)
        whole = await read(CASE, FakeSaber([research(1)], [on_contact(2)]))
        assert given.records == whole.records
        assert [request.url.path for _, request in given.calls if CASE.is_detail(request)] == [
            f"/v1/companies/signals/{uuid(1)}",
            f"/v1/contacts/signals/{uuid(2)}",
        ]

    async def test_one_that_is_gone_when_it_is_fetched_is_passed_over(self) -> None:
        """A signal that vanished between two calls stops nothing."""
        vendor = FakeSaber([research(1), research(2)], bare=[uuid(1)])

        def answer(request: httpx.Request) -> httpx.Response:
            gone = request.url.path.endswith(uuid(1))
            return httpx.Response(404, json={}) if gone else vendor(request)

        given = await read(CASE, answer)
        assert (given.error, given.ids) == (None, {uuid(2)})
        assert sum(page.filtered for page in given.pages) == 1

    async def test_one_without_any_finding_is_set_aside(self) -> None:
        """A question alone is no evidence; that is said, not passed over in silence."""
        given = await one(answer=None, reasoning=None)
        assert given.records == []
        [aside] = given.set_aside
        assert aside.place == f"Saber signal {uuid(7)}"
        assert aside.reason == "it is completed, but has neither an answer nor a reasoning"


class TestCompanies:
    async def test_a_walk_asks_for_a_frozen_span_of_completion(self) -> None:
        """Offsets do not shift while they are walked: every page of a walk has the same ends."""
        vendor = FakeSaber([*map(research, range(1, 60))])
        given = await read(CASE, vendor)
        assert len(given.ids) == 59
        assert asked(given, "/v1/companies/signals") == [
            {"status": "completed", "toDate": "2026-11-02T09:00:00Z", "limit": "25", "offset": offset}
            for offset in ("0", "25", "50")
        ]

    async def test_the_next_walk_begins_an_hour_before_the_last_ended(self) -> None:
        """What shows a little after its time of completion is not lost."""
        vendor = FakeSaber([research(1)])
        first = await read(CASE, vendor)
        vendor.companies.append(research(2, completedAt=iso(NOW - HOUR / 2), createdAt=iso(NOW - 3 * DAY)))
        second = await read(CASE, vendor, first.checkpoint, now=NOW + HOUR)
        assert second.ids == {uuid(2)}
        [params] = asked(second, "/v1/companies/signals")
        assert (params["fromDate"], params["toDate"]) == ("2026-11-02T08:00:00Z", "2026-11-02T10:00:00Z")

    async def test_a_first_walk_goes_back_as_far_as_it_is_told(self) -> None:
        """`since` is asked of the vendor, its instant included."""
        completed = NOW - 5 * DAY + timedelta(minutes=3)
        given = await read(CASE, FakeSaber([*map(research, range(1, 6))]), since=completed)
        assert given.ids == {uuid(3), uuid(4), uuid(5)}

    async def test_an_old_question_answered_late_is_read(self) -> None:
        """The list is sorted by creation and filtered by completion: what took a week is read when it is done."""
        late = research(9, createdAt=iso(NOW - 30 * DAY), completedAt=iso(NOW + HOUR))
        vendor = FakeSaber([*map(research, range(1, 60))])
        first = await read(CASE, vendor)
        vendor.companies.append(late)
        second = await read(CASE, vendor, first.checkpoint, now=NOW + 2 * HOUR)
        assert second.ids == {uuid(9)}

    async def test_what_is_completed_within_the_last_second_is_not_behind_the_mark(self) -> None:
        """Saber is asked in whole seconds, and no more than that counts as read."""
        given = await read(CASE, FakeSaber([research(1)]), now=NOW + timedelta(seconds=1.7))
        assert asked(given, "/v1/companies/signals")[0]["toDate"] == "2026-11-02T09:00:01Z"
        assert given.checkpoint["companies"] == "2026-11-02T09:00:01+00:00"

    async def test_a_walk_that_breaks_off_begins_again(self) -> None:
        """Newest come first, so nothing counts as read before the last page is."""
        vendor = FakeSaber([*map(research, range(1, 60))])
        begun = await read(CASE, vendor, pages=2)
        assert begun.checkpoint == {}

    async def test_what_is_not_completed_is_passed_over_though_the_vendor_shows_it(self) -> None:
        """A server that does not know the filter by status imports no half answers."""
        signals = [research(1), under_way(research(2)), research(3, status="failed", errorCode="NO_DATA")]
        given = await read(CASE, FakeSaber(signals, heeds_status=False))
        assert (given.ids, given.set_aside) == ({uuid(1)}, [])
        assert sum(page.filtered for page in given.pages) == 2

    async def test_it_can_be_narrowed_to_a_company_or_a_subscription(self) -> None:
        """The filters are the vendor's own, and contacts, which have none, are left out unless asked for."""
        subscription = "c0ffee00-0000-4000-8000-000000000001"
        signals = [research(1, subscriptionId=subscription), research(2)]
        by_domain = await read(CASE, FakeSaber(signals, [on_contact(3)]), connector=saber(domain="globex2.test"))
        assert by_domain.ids == {uuid(2)}
        narrowed = saber(subscription_id=subscription)
        assert (await read(CASE, FakeSaber(signals, [on_contact(3)]), connector=narrowed)).ids == {uuid(1)}
        both = saber(subscription_id=subscription, contacts=True)
        assert (await read(CASE, FakeSaber(signals, [on_contact(3)]), connector=both)).ids == {uuid(1), uuid(3)}
        neither = await read(CASE, FakeSaber(signals, [on_contact(3)]), connector=saber(contacts=False))
        assert asked(neither, "/v1/contacts/signals") == []

    async def test_a_list_that_does_not_say_how_long_it_is_ends_with_an_empty_page(self) -> None:
        """The total is optional; without it nothing is lost, and nothing is asked for ever."""
        vendor = FakeSaber([*map(research, range(1, 30))], [*map(on_contact, range(31, 60))], tells_total=False)
        given = await read(CASE, vendor)
        assert (given.error, len(given.ids)) == (None, 58)

    async def test_offsets_that_lead_nowhere_end_the_reading_before_it_counts(self) -> None:
        """A server that shows its first page again, when another was due, has the rest unread and not forgotten."""
        vendor = FakeSaber([*map(research, range(1, 31))])

        def first_page(request: httpx.Request) -> httpx.Response:
            return vendor(httpx.Request("GET", request.url.copy_set_param("offset", "0"), headers=request.headers))

        given = await read(CASE, first_page)
        assert isinstance(given.error, CursorStuck)
        assert given.checkpoint == {}


class TestContacts:
    async def test_a_walk_ends_with_a_page_of_what_was_read_before(self) -> None:
        """The list has no filter by time: it is read down to where the last reading began, and not to its end."""
        vendor = FakeSaber([], [*map(on_contact, range(1, 100))])
        first = await read(CASE, vendor)
        vendor.contacts.append(on_contact(200, days_ago=-0.1))
        second = await read(CASE, vendor, first.checkpoint, now=NOW + DAY)
        assert uuid(200) in second.ids
        assert second.checkpoint["contacts"] == (NOW + DAY).isoformat()
        assert len(asked(first, "/v1/contacts/signals")) == 4
        assert len(asked(second, "/v1/contacts/signals")) == 2

    async def test_research_under_way_is_read_once_it_is_completed(self) -> None:
        """One that was asked for before the last reading, and answered after it, is not behind the mark."""
        slow = on_contact(50, days_ago=0.5)
        newer = [on_contact(number, days_ago=0.4) for number in range(51, 150)]
        vendor = FakeSaber([], [under_way(slow), *newer])
        first = await read(CASE, vendor)
        assert first.checkpoint["contacts"] == instant_of(slow["createdAt"])
        vendor.contacts = [slow, *newer]
        second = await read(CASE, vendor, first.checkpoint, now=NOW + 10 * HOUR)
        assert uuid(50) in second.ids
        assert second.checkpoint["contacts"] == (NOW + 10 * HOUR).isoformat()

    async def test_research_that_never_ends_is_given_up_after_a_day(self) -> None:
        """The mark does not stay behind for ever, and what it leaves behind is told."""
        stuck = under_way(on_contact(50, days_ago=1.5))
        given = await read(CASE, FakeSaber([], [stuck, on_contact(51)]))
        [aside] = given.set_aside
        assert (aside.place, aside.reason) == (
            f"Saber signal {uuid(50)}",
            "it was still processing a day after it was asked for",
        )
        assert given.checkpoint["contacts"] == NOW.isoformat()

    async def test_a_first_walk_with_since_looks_a_day_further_back(self) -> None:
        """`since` is about completion, the list about creation: one created before and completed after belongs."""
        created_before = on_contact(1, createdAt=iso(NOW - 5 * DAY - HOUR), completedAt=iso(NOW - 5 * DAY + HOUR))
        older = [on_contact(number, days_ago=20) for number in range(2, 80)]
        given = await read(CASE, FakeSaber([], [created_before, *older]), since=NOW - 5 * DAY)
        assert uuid(1) in given.ids
        assert len(asked(given, "/v1/contacts/signals")) == 2

    async def test_a_page_that_cannot_be_read_does_not_end_the_walk(self) -> None:
        """Items that are set aside say nothing about how old the rest is."""
        broken = [on_contact(number, status=["?"], createdAt=iso(NOW - HOUR)) for number in range(1, 26)]
        vendor = FakeSaber([], [*broken, on_contact(90)])
        given = await read(CASE, vendor, {"contacts": (NOW - 6 * DAY).isoformat()})
        assert given.ids == {uuid(90)}
        assert len(given.set_aside) == 25


class TestWays:
    async def test_nothing_but_reading_is_done(self) -> None:
        """No call costs a credit: all are GET, and none goes to a `sync` endpoint."""
        given = await read(CASE, CASE.full())
        assert {request.method for _, request in given.calls} == {"GET"}
        assert not [request for _, request in given.calls if "sync" in request.url.path]

    async def test_the_wait_in_the_body_of_a_429_is_kept(self) -> None:
        """Saber says how long in the body, where no header is."""
        told = {"statusCode": 429, "message": "Rate limit exceeded", "error": "Too Many Requests", "retryAfter": 90}
        given = await read(CASE, refusing(httpx.Response(429, json=told)))
        assert given.error is None
        assert given.waited == 90

    async def test_a_429_in_the_other_form_is_waited_out_until_the_reset(self) -> None:
        """The errors of single endpoints are objects, and name no seconds: the header does."""
        told = {"error": {"type": "rate_limit", "code": "too_many", "message": "Slow down", "requestId": "r"}}
        reset = str(int((NOW + timedelta(seconds=45)).timestamp()))
        given = await read(CASE, refusing(httpx.Response(429, json=told, headers={"X-Ratelimit-Reset": reset})))
        assert (given.error, given.waited) == (None, 45)

    async def test_a_long_rest_ends_the_reading_with_its_time(self) -> None:
        """A quota that is used up is told with the time to come again."""
        given = await read(CASE, lambda _: httpx.Response(429, json={"error": "Too Many Requests", "retryAfter": 7200}))
        assert isinstance(given.error, RateLimited)
        assert given.error.until == NOW + 2 * HOUR

    @pytest.mark.parametrize("wild", ["-5", "1e400", "[]", "null", '"soon"', "1e300"])
    def test_a_wild_wait_is_none(self, wild: str) -> None:
        """A number nobody could mean is not obeyed."""
        answer = httpx.Response(429, text=f'{{"retryAfter": {wild}}}')
        assert saber().asks_to_wait(answer, NOW) is None

    def test_the_last_call_of_a_span_is_followed_by_a_rest(self) -> None:
        """No call is made to be refused."""
        reset = {"X-Ratelimit-Reset": str(int((NOW + timedelta(seconds=20)).timestamp()))}
        used_up = httpx.Response(200, headers={"X-Ratelimit-Remaining": "0"} | reset)
        some_left = httpx.Response(200, headers={"X-Ratelimit-Remaining": "7"} | reset)
        assert saber().asks_to_wait(used_up, NOW) == timedelta(seconds=20)
        assert saber().asks_to_wait(some_left, NOW) is None

    @pytest.mark.parametrize(
        ("status", "words"), [(401, "begins with sk_live_"), (403, "may not read the organisation's research")]
    )
    async def test_a_refusal_is_explained_in_sabers_terms(self, status: int, words: str) -> None:
        """The operator learns where to get a key that works."""
        given = await read(CASE, lambda _: httpx.Response(status, json={"error": {"message": "no"}}))
        assert isinstance(given.error, CredentialsRefused)
        assert words in str(given.error)

    def test_a_refused_filter_is_explained(self) -> None:
        """A domain written as an address is the likely mistake."""
        answer = httpx.Response(400)
        assert "bare domain" in (saber(domain="https://globex.test").advice(answer) or "")
        assert saber().advice(answer) is None

    async def test_it_reads_from_a_server_of_ones_own(self) -> None:
        """`base_url` moves every call."""
        given = await read(CASE, CASE.full(), connector=saber(base_url="https://proxy.test/saber"))
        assert {request.url.host for _, request in given.calls} == {"proxy.test"}
        assert all(request.url.path.startswith("/saber/v1/") for _, request in given.calls)


def instant_of(text: str) -> str:
    """A vendor's time as a checkpoint has it."""
    return text.replace("Z", "+00:00")


def refusing(answer: httpx.Response) -> Any:
    """The full account, whose first answer is a refusal."""
    vendor = CASE.full()

    def answers(request: httpx.Request) -> httpx.Response:
        if vendor.asked:
            return vendor(request)
        vendor.asked.append(request)
        return answer

    return answers
