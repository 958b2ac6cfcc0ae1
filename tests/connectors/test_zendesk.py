"""Zendesk: the exact text and fields of a ticket, when it goes out, and the traps of its incremental export."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from syncd.connector import Organisation, Person
from syncd.promises import Read, read
from tests.connectors.vendors import SECRET, iso
from tests.connectors.vendors.zendesk import CASE, NOW, FakeZendesk, comment, ticket, zendesk

DAY = timedelta(days=1)


async def one(more: dict[str, Any] | None = None, thread: list[dict[str, Any]] | None = None, **settings: Any) -> Read:
    """What becomes of a single ticket."""
    vendor = FakeZendesk([ticket(7, **(more or {}))], threads={7: thread} if thread is not None else {})
    return await read(CASE, vendor, connector=zendesk(**settings))


class TestText:
    async def test_a_ticket_reads_as_its_public_conversation(self) -> None:
        """Who said what and when, without notes that were never meant for the customer, and without quoted mails."""
        [record] = (await one()).records
        assert record.text == (
            "CSV export stops at 7k rows\n\n"
            "Mia Ortiz (customer), 2026-10-13 09:01 UTC:\nHi, the export ends early.\n\n"
            "Sam (agent), 2026-10-13 09:03 UTC:\nFixed in 4.2."
        )

    async def test_every_field_stands_where_zentrik_wants_it(self) -> None:
        """The ticket can be found, grouped and mapped to its account."""
        [record] = (await one()).records
        assert (record.id, record.kind, record.title) == ("7", "support_ticket", "CSV export stops at 7k rows")
        assert record.occurred_at == NOW - 23 * DAY - timedelta(hours=2)
        [link] = record.links
        assert (link.url, link.primary) == ("https://acme.zendesk.com/agent/tickets/7", True)
        assert record.people == (Person("Mia Ortiz", "mia@globex.test", "customer"),)
        assert record.organisation == Organisation("Globex", "globex.test", "crm-globex")
        assert record.attributes == {
            "ticketId": "7",
            "status": "solved",
            "priority": "high",
            "type": "problem",
            "tags": ("export",),
        }
        assert CASE.source.namespace == "zendesk:acme"
        assert zendesk().provider == "zendesk"

    async def test_a_long_conversation_is_read_to_its_end(self) -> None:
        """No reply is lost because a ticket has more of them than a page."""
        thread = [comment(number, f"Reply {number}.") for number in range(1, 12)]
        [record] = (await one(thread=thread)).records
        assert [f"Reply {number}." in record.text for number in range(1, 12)] == [True] * 11

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({"plain_body": "a&nbsp;b"}, "a b"),
            ({"plain_body": "use List<String> and <div>"}, "use List<String> and <div>"),
            ({"plain_body": None, "html_body": "<p>one</p><p>two</p>"}, "one\n\ntwo"),
            ({"plain_body": "", "html_body": None, "body": "as **typed**"}, "as **typed**"),
        ],
    )
    async def test_the_words_are_the_customers(self, body: dict[str, Any], said: str) -> None:
        """No markup of Zendesk's is left, and none of the customer's own signs is taken away."""
        [record] = (await one(thread=[comment(1, "") | body])).records
        assert record.text.endswith(f"UTC:\n{said}")


class TestGoingOut:
    @pytest.mark.parametrize(
        ("more", "goes"),
        [
            ({"status": "solved"}, True),
            ({"status": "closed"}, True),
            ({"status": "open"}, False),
            ({"status": "pending", "changed": NOW - 8 * DAY}, True),
            ({"status": "deleted"}, False),
            ({"status": "closed", "tags": ["closed_by_merge"]}, False),
            ({"status": "closed", "tags": ["spam"]}, False),
        ],
    )
    async def test_a_ticket_goes_out_when_it_is_done_or_quiet(self, more: dict[str, Any], goes: bool) -> None:
        """Ten replies are one signal; what was deleted, merged or spam is none."""
        given = await one({"changed": NOW - DAY} | more)
        assert [record.id for record in given.records] == (["7"] if goes else [])
        assert sum(page.filtered for page in given.pages) == (0 if goes else 1)

    async def test_a_ticket_with_private_notes_only_is_no_evidence(self) -> None:
        """What no customer ever saw is not imported, and not called an error."""
        given = await one(thread=[comment(1, "internal", public=False)])
        assert (given.records, given.set_aside) == ([], [])
        assert sum(page.filtered for page in given.pages) == 1

    async def test_an_open_ticket_goes_out_once_it_has_become_quiet(self) -> None:
        """A ticket nobody ever closes is not lost: a second, later look at the export finds it."""
        vendor = FakeZendesk([ticket(1, status="open", changed=NOW - DAY), ticket(2, changed=NOW - DAY)])
        first = await read(CASE, vendor)
        assert first.ids == {"2"}
        known = {"2": first.records[0].version}
        early = await read(CASE, vendor, first.checkpoint, known=known, now=NOW + 5 * DAY)
        assert early.ids == set()
        late = await read(CASE, vendor, early.checkpoint, known=known, now=NOW + 7 * DAY)
        assert late.ids == {"1"}
        known |= {record.id: record.version for record in (*first.records, *late.records)}
        assert (await read(CASE, vendor, late.checkpoint, now=NOW + 30 * DAY, known=known)).ids == set()

    async def test_a_ticket_that_was_touched_again_waits_anew(self) -> None:
        """Quiet is counted from the last thing that happened."""
        first = await read(CASE, FakeZendesk([ticket(1, status="open", changed=NOW - DAY)]))
        touched = FakeZendesk([ticket(1, status="open", changed=NOW + 5 * DAY)])
        assert (await read(CASE, touched, first.checkpoint, now=NOW + 7 * DAY)).ids == set()

    async def test_the_second_look_is_for_what_became_quiet_alone(self) -> None:
        """What changed later has been seen to, and is not asked for again every hour because it gave no record."""
        vendor = FakeZendesk(
            [ticket(1, status="open", changed=NOW - DAY), ticket(2, changed=NOW)],
            threads={2: [comment(1, "internal", public=False)]},
        )
        first = await read(CASE, vendor)
        late = await read(CASE, vendor, first.checkpoint, now=NOW + 6.5 * DAY)
        assert late.ids == {"1"}
        assert not any("/tickets/2/" in request.url.path for _, request in late.calls)

    async def test_it_never_goes_out_unsolved_if_so_wished(self) -> None:
        """`quiet_for: null` means solved tickets only."""
        assert (await one({"status": "open", "changed": NOW - 300 * DAY}, quiet_for=None)).ids == set()

    async def test_open_tickets_come_when_they_are_wanted_after_all(self) -> None:
        """Whoever takes `quiet_for: null` back gets the open tickets of the time before as well."""
        vendor = FakeZendesk([ticket(1, status="open", changed=NOW - 300 * DAY)])
        first = await read(CASE, vendor, connector=zendesk(quiet_for=None))
        assert (await read(CASE, vendor, first.checkpoint, now=NOW + DAY)).ids == {"1"}


class TestReading:
    async def test_the_export_is_asked_as_zendesk_wants_it(self) -> None:
        """start_time in the first request only; afterwards the cursor alone, or records are lost."""
        vendor = CASE.full()
        given = await read(CASE, vendor)
        exports = [request.url.params for request in vendor.asked if "incremental" in request.url.path]
        assert [set(params) & {"start_time", "cursor"} for params in exports] == [
            {"start_time"},
            {"cursor"},
            {"cursor"},
        ]
        assert given.checkpoint["cursor"]

    async def test_an_empty_page_is_not_the_end(self) -> None:
        """Only `end_of_stream` ends the export."""
        vendor = CASE.full()
        whole = vendor.answer

        def with_a_hole(request: httpx.Request) -> httpx.Response:
            if request.url.params.get("cursor") == "hole":
                return whole(
                    httpx.Request("GET", f"{request.url.copy_with(query=None)}?start_time=0", headers=request.headers)
                )
            if "start_time" in request.url.params:
                return httpx.Response(200, json={"tickets": [], "after_cursor": "hole", "end_of_stream": False})
            return whole(request)

        assert (await read(CASE, with_a_hole)).ids == CASE.ids

    async def test_a_silent_change_costs_no_call_and_a_real_one_is_seen(self) -> None:
        """The export repeats tickets for reasons of its own; only a ticket that says something new is read again."""
        first = await read(CASE, FakeZendesk([ticket(1)]))
        known = {record.id: record.version for record in first.records}
        silent = FakeZendesk([ticket(1) | {"generated_timestamp": int(NOW.timestamp()) - 600}])
        again = await read(CASE, silent, first.checkpoint, known=known)
        assert (again.records, sum(page.unchanged for page in again.pages)) == ([], 1)
        replied = FakeZendesk([ticket(1, changed=NOW - timedelta(minutes=10))], threads={1: [comment(9, "Not fixed.")]})
        changed = await read(CASE, replied, first.checkpoint, known=known)
        assert [record.text.rpartition("\n")[2] for record in changed.records] == ["Not fixed."]

    async def test_a_deleted_ticket_is_told_of(self) -> None:
        """What Zendesk calls deleted is named as such, on the page that goes past it; nothing else is."""
        vendor = FakeZendesk([ticket(1), ticket(2, status="deleted"), ticket(3, tags=["spam"])])
        given = await read(CASE, vendor)
        assert [list(page.deleted) for page in given.pages if page.deleted] == [["2"]]
        assert given.pages[-1].deleted == ["2"]
        assert not any("/tickets/2/" in request.url.path for _, request in given.calls)

    async def test_a_ticket_deleted_in_between_is_passed_over(self) -> None:
        """Between the export and its comments a ticket may go; the others come."""
        vendor = FakeZendesk([ticket(1), ticket(2)])

        def gone(request: httpx.Request) -> httpx.Response:
            return httpx.Response(404) if "/tickets/1/" in request.url.path else vendor(request)

        given = await read(CASE, gone)
        assert (given.ids, given.error) == ({"2"}, None)

    async def test_a_comment_that_cannot_be_read(self) -> None:
        """Its ticket is set aside with its id, and the others come: what is not surely public is not imported."""
        threads = {1: [comment(1, "Hello.") | {"created_at": None}], 2: [comment(1, "secret") | {"public": None}]}
        given = await read(CASE, FakeZendesk([ticket(1), ticket(2), ticket(3)], threads=threads))
        assert (given.error, given.ids) == (None, {"3"})
        assert [item.place for item in given.set_aside] == ["Zendesk ticket 1", "Zendesk ticket 2"]

    async def test_a_ticket_outside_the_window_costs_no_call(self) -> None:
        """Of tickets that are too old for `since`, the comments are not asked for."""
        old = ticket(1, created_at=iso(NOW - 300 * DAY))
        given = await read(CASE, FakeZendesk([old, ticket(2)]), since=NOW - 100 * DAY)
        assert given.ids == {"2"}
        assert not any("/tickets/1/" in request.url.path for _, request in given.calls)

    async def test_a_time_that_cannot_be(self) -> None:
        """One ticket with an impossible time of change does not end the second look at the export."""
        vendor = FakeZendesk([ticket(1, status="open", changed=NOW - DAY), ticket(2, generated_timestamp=10**17)])
        first = await read(CASE, vendor)
        late = await read(CASE, vendor, first.checkpoint, now=NOW + 7 * DAY)
        assert (late.error, late.ids) == (None, {"1"})

    async def test_large_pages_are_handed_over_in_parts(self) -> None:
        """What is read is soon kept, and nothing is lost where a reading breaks off in between."""
        vendor = FakeZendesk([ticket(number, changed=NOW - DAY) for number in range(1, 61)], page=1000)
        whole = await read(CASE, vendor)
        assert [len(page.records) for page in whole.pages] == [25, 25, 10, 0]
        begun = await read(CASE, vendor, pages=1)
        assert begun.ids | (await read(CASE, vendor, begun.checkpoint)).ids == whole.ids

    async def test_the_export_is_asked_ten_times_a_minute_at_most(self) -> None:
        """Zendesk allows ten calls a minute on its incremental exports."""
        vendor = FakeZendesk([ticket(number) for number in range(1, 25)], page=1)
        given = await read(CASE, vendor)
        assert given.ids == {str(number) for number in range(1, 25)}
        assert 120 <= given.waited < 180

    async def test_base_url_leads_to_another_server_and_nowhere_else(self) -> None:
        """A proxy or a sandbox sees every call; links people follow still lead to Zendesk."""
        given = await one(base_url="http://127.0.0.1:9999")
        assert {request.url.netloc for _, request in given.calls} == {b"127.0.0.1:9999"}
        assert given.records[0].links[0].url.startswith("https://acme.zendesk.com/")


class TestSettings:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"email": None},
            {"api_token": None},
            {"oauth_token": SECRET},
            {"subdomain": "acme.freshdesk.com"},
            {"subdomain": "evil.test/"},
            {"subdomain": ""},
            {"calls_per_minute": 0},
        ],
    )
    def test_what_cannot_work_is_refused_at_the_start(self, wrong: dict[str, Any]) -> None:
        """A configuration that leads nowhere, or elsewhere, is told of before anything is asked."""
        with pytest.raises(ValidationError):
            zendesk(**wrong)

    @pytest.mark.parametrize("written", ["acme", "Acme", "acme.zendesk.com", "https://acme.zendesk.com/"])
    def test_the_whole_address_will_do_for_the_subdomain(self, written: str) -> None:
        """What people copy from their browser is understood, and makes the same externalIds."""
        assert zendesk(subdomain=written).default_namespace("support") == "zendesk:acme"

    async def test_an_oauth_token_is_a_bearer_token(self) -> None:
        """The other way in."""
        given = await one(email=None, api_token=None, oauth_token="oauth-" + SECRET)
        assert given.calls[0][1].headers["Authorization"] == f"Bearer oauth-{SECRET}"

    @pytest.mark.parametrize(
        ("status", "words"), [(401, "token access"), (403, "admins only"), (404, "acme.zendesk.com")]
    )
    async def test_a_refusal_is_explained(self, status: int, words: str) -> None:
        """The operator learns what to change in Zendesk, not only a number."""
        given = await read(CASE, lambda _: httpx.Response(status, text="<html>no</html>"))
        assert words in str(given.error)

    async def test_an_oauth_token_that_expired_is_explained(self) -> None:
        """Such tokens end by themselves: nothing is said of e-mail addresses and switches that have no part in it."""
        connector = zendesk(email=None, api_token=None, oauth_token=SECRET)
        given = await read(CASE, lambda _: httpx.Response(401), connector=connector)
        assert "expire" in str(given.error)
        assert "email" not in str(given.error)
