"""What Freshdesk has in its own way: pages that move and end at the 300th, private notes, merged tickets, chats."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.freshdesk import Freshdesk
from syncd.connector import CredentialsRefused, CursorStuck, Link, Organisation, Person
from syncd.promises import Read, _check, read
from syncd.signals import compose
from tests.connectors.vendors import iso
from tests.connectors.vendors.freshdesk import CASE, NOW, STARK, FakeFreshdesk, freshdesk, reply, ticket

WEEK = timedelta(days=7)


async def reading(*tickets: dict[str, Any], threads: dict[int, Any] | None = None, **more: Any) -> Read:
    """One reading of an account with these tickets."""
    given = await read(CASE, FakeFreshdesk(tickets, threads=threads), **more)
    assert given.error is None, given.error
    return given


def lists(given: Read) -> list[dict[str, str]]:
    """How the list was asked for."""
    return [dict(request.url.params) for _, request in given.calls if request.url.path == "/api/v2/tickets"]


def details(given: Read) -> list[str]:
    """The tickets whose conversation was asked for."""
    return [request.url.path.split("/")[4] for _, request in given.calls if CASE.is_detail(request)]


def skipped(given: Read) -> int:
    """How many were passed over on purpose."""
    return sum(page.filtered for page in given.pages)


async def test_a_ticket_as_it_goes_out() -> None:
    """Text, people, organisation, link, time, version and what is kept beside it are these, to the letter."""
    (record,) = (await reading(ticket(1))).records
    assert record.id == "1"
    assert record.kind == "support_ticket"
    assert record.title == "Invoice 1 without VAT"
    assert record.text == (
        "Invoice 1 without VAT\n\n"
        "Lena Ruiz (customer), 2026-10-04 06:00 UTC:\nThe VAT line is missing.\n\n"
        "Acme Billing (agent), 2026-10-04 07:01 UTC:\nCorrected and sent again.\n\n"
        "Lena Ruiz (customer), 2026-10-04 07:03 UTC:\nThank you, that is right now."
    )
    assert record.occurred_at == datetime(2026, 10, 4, 6, tzinfo=UTC)
    assert record.people == (Person("Lena Ruiz", "lena@stark.test", "customer"),)
    assert record.organisation == Organisation("Stark", None, "freshdesk-company:7100")
    url = "https://acme.freshdesk.com/a/tickets/1"
    assert record.links == (Link(url, "Open Freshdesk ticket", "support_ticket", primary=True),)
    assert record.attributes == {
        "ticketId": "1",
        "status": "resolved",
        "priority": "high",
        "channel": "email",
        "type": "Problem",
        "tags": ("billing",),
    }
    assert record.version == "2026-10-04T09:00:00+00:00 4"
    body = json.loads(compose(record, CASE.source).body)
    assert (body["providerType"], body["externalId"]) == ("freshdesk", "freshdesk:acme:1")


@pytest.mark.parametrize("domain", ["acme", "acme.freshdesk.com", "ACME.freshdesk.com"])
def test_the_account(domain: str) -> None:
    """The account may be written with or without the rest of its address, and its externalIds are the same."""
    connector = freshdesk(domain=domain)
    assert connector.home() == "https://acme.freshdesk.com"
    assert connector.hosts() == {"acme.freshdesk.com"}
    assert connector.default_namespace("anything") == "freshdesk:acme"


@pytest.mark.parametrize(
    "domain", ["", "https://acme.freshdesk.com", "support.acme.test", "acme.freshdesk.com/x", "-a"]
)
def test_what_is_no_account(domain: str) -> None:
    """An address that is not Freshdesk's would get the key: it is refused."""
    with pytest.raises(ValidationError):
        freshdesk(domain=domain)


async def test_private_notes_are_left_out() -> None:
    """Nothing of a private note is imported, whoever wrote it; a public note of an agent is."""
    thread = [
        reply(1, "a secret note", private=True),
        reply(2, "a secret forwarded mail", private=True, incoming=True),
        reply(3, "a public note", source=2),
    ]
    (record,) = (await reading(ticket(1), threads={1: thread})).records
    assert "secret" not in record.text
    assert record.text.endswith("Acme Billing (agent), 2026-10-04 07:03 UTC:\na public note")


async def test_a_reply_that_does_not_say_whether_it_is_private() -> None:
    """It is never taken for public: its ticket is set aside, and the others come."""
    given = await reading(ticket(1), ticket(2), threads={1: [reply(1, "a secret", private=None)]})
    assert given.ids == {"2"}
    (aside,) = given.set_aside
    assert aside.place == "Freshdesk ticket 1"
    assert "private" in aside.reason


@pytest.mark.parametrize(
    "said",
    [
        {"body_text": "Not yet.\n\nOn Sun, Oct 4, 2026 at 7:01 AM Acme <billing@acme.test> wrote:\n> Corrected."},
        {
            "body_text": "Not yet. On 4 Oct Acme Billing wrote: Corrected.",
            "body": '<div>Not yet.</div><div class="freshdesk_quote"><blockquote>Corrected.</blockquote></div>',
        },
        {"body_text": None, "body": "<p>Not yet.</p>"},
        {"body_text": " ", "body": "<p>Not yet.</p>"},
    ],
)
async def test_own_words(said: dict[str, Any]) -> None:
    """A reply says its own words: without the mail it quotes, and without HTML."""
    (record,) = (await reading(ticket(1), threads={1: [reply(4, "", incoming=True) | said]})).records
    assert record.text.endswith("07:04 UTC:\nNot yet.")


async def test_who_said_it() -> None:
    """A customer other than the requester goes by their address, and somebody without one by their role."""
    thread = [
        reply(1, "one", incoming=True, user_id=602, from_email="max@stark.test"),
        reply(2, "two", incoming=True, user_id=None, from_email=None),
        reply(3, "three", from_email="billing@acme.test"),
        reply(4, "four", from_email=None, user_id=None),
    ]
    (record,) = (await reading(ticket(1), threads={1: thread})).records
    heads = [line.partition(",")[0] for line in record.text.splitlines() if line.endswith("UTC:")]
    assert heads == [
        "Lena Ruiz (customer)",
        "max@stark.test (customer)",
        "Customer",
        "billing@acme.test (agent)",
        "Agent",
    ]


async def test_nobody_is_taken_for_the_requester() -> None:
    """A reply by nobody is not the requester's because their number is not told either."""
    thread = [reply(1, "Hello", incoming=True, user_id=None, from_email=None)]
    (record,) = (await reading(ticket(1, requester_id=None), threads={1: thread})).records
    assert "\n\nCustomer, 2026-10-04 07:01 UTC:\nHello" in record.text


async def test_replies_come_in_their_order() -> None:
    """Replies are told in the order in which they were written, however they are listed."""
    (record,) = (
        await reading(ticket(1), threads={1: [reply(3, "third"), reply(1, "first"), reply(2, "second")]})
    ).records
    assert record.text.index("first") < record.text.index("second") < record.text.index("third")


async def test_what_a_chat_says_twice() -> None:
    """A chat repeats the description as its first reply: it is told once."""
    thread = [reply(1, "The VAT line is missing.", incoming=True), reply(2, "Corrected.")]
    (record,) = (await reading(ticket(1, source=15), threads={1: thread})).records
    assert record.text.count("The VAT line is missing.") == 1
    assert record.text.endswith("Corrected.")


async def test_long_conversations() -> None:
    """A conversation of several pages is read to its end."""
    thread = [reply(number, f"word {number}.") for number in range(1, 8)]
    (record,) = (await reading(ticket(1), threads={1: thread})).records
    assert [f"word {number}." in record.text for number in range(1, 8)] == [True] * 7


async def test_tickets_that_are_never_imported() -> None:
    """Spam, deleted and merged tickets stay out, and so does what the team wrote and nobody answered."""
    merged = [reply(1, "This ticket is closed and merged into ticket 9", private=True)]
    given = await reading(
        ticket(1, spam=True),
        ticket(2, deleted=True),
        ticket(3, status=5),
        ticket(4, source=10),
        ticket(5),
        threads={3: merged, 4: [reply(1, "Any news?"), reply(2, "a private answer", incoming=True, private=True)]},
    )
    assert (given.ids, given.set_aside, skipped(given)) == ({"5"}, [], 2)


@pytest.mark.parametrize("mark", ["spam", "deleted"])
async def test_should_the_list_show_them_all_the_same(mark: str) -> None:
    """A ticket that the list marks as spam or as deleted is skipped, and costs no call of its own."""
    vendor = FakeFreshdesk([ticket(1), ticket(2)])

    def marked(request: httpx.Request) -> httpx.Response:
        answer = vendor(request)
        if CASE.is_detail(request):
            return answer
        return httpx.Response(200, json=[each | {mark: each["id"] == 1} for each in answer.json()])

    given = await read(CASE, marked)
    assert (given.ids, set(details(given)), skipped(given)) == ({"2"}, {"2"}, 1)
    told = [id_ for page in given.pages for id_ in page.deleted]
    assert told == (["1"] if mark == "deleted" else [])


@pytest.mark.parametrize(
    "said",
    [
        reply(1, "Should it be merged into ticket 9?", private=True),
        reply(1, "This ticket is closed and merged into ticket 9, it says. Why?", incoming=True),
    ],
)
async def test_a_ticket_that_only_speaks_of_merging(said: dict[str, Any]) -> None:
    """What somebody wrote about merging is no sign of it."""
    assert (await reading(ticket(1), threads={1: [said]})).ids == {"1"}


async def test_a_mail_of_the_team_that_was_answered() -> None:
    """The answer makes it evidence; what it answers is the agent's."""
    (record,) = (await reading(ticket(1, source=10), threads={1: [reply(1, "Yes please.", incoming=True)]})).records
    assert "Agent, 2026-10-04 06:00 UTC:\nThe VAT line is missing." in record.text
    assert record.attributes["channel"] == "outbound email"


async def test_a_ticket_without_text() -> None:
    """It cannot be posted, and compose says so."""
    given = await reading(ticket(1, description=None, description_text=""), threads={1: []})
    assert [record.text for record in given.records] == [""]


async def test_the_question() -> None:
    """The first list begins with the first second there is, not thirty days ago; a later one goes back five minutes."""
    vendor = FakeFreshdesk([ticket(number) for number in range(1, 3)])
    first = await read(CASE, vendor)
    again = await read(CASE, vendor, first.checkpoint)
    assert lists(first) == [
        {
            "updated_since": "1970-01-01T00:00:00Z",
            "order_by": "updated_at",
            "order_type": "asc",
            "include": "description,requester,company",
            "per_page": "3",
            "page": "1",
        }
    ]
    assert lists(again)[0]["updated_since"] == "2026-10-05T08:54:59Z"


async def test_pages_of_the_size_that_freshdesk_allows() -> None:
    """An account of 250 tickets is read whole in pages of a hundred, and none comes twice in one reading."""
    tickets = [ticket(number, changed=NOW - timedelta(days=20) + timedelta(minutes=number)) for number in range(1, 251)]
    given = await read(CASE, FakeFreshdesk(tickets), connector=freshdesk(Freshdesk))
    assert given.error is None
    assert sorted(int(record.id) for record in given.records) == list(range(1, 251))
    assert {(asked["per_page"], asked["page"]) for asked in lists(given)} == {("100", "1")}


class Restless(FakeFreshdesk):
    """A ticket of the first page changes before the second one is asked for."""

    def _list(self, request: httpx.Request, params: dict[str, str]) -> httpx.Response:
        answer = super()._list(request, params)
        self.tickets[0] = ticket(1, changed=NOW - timedelta(minutes=1))
        return answer


async def test_tickets_that_move_up_while_they_are_read() -> None:
    """A ticket that changes meanwhile moves all others up by one: none is passed over."""
    given = await read(CASE, Restless([ticket(number) for number in range(1, 9)]))
    assert given.ids == CASE.ids


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("together", [3, 4, 7, 8])
async def test_ties(together: int, inclusive: bool) -> None:
    """Of tickets that changed in one second none is lost, wherever the reading breaks off, and whether the list holds
    the second it begins with or not."""
    same = [ticket(number, changed=NOW - WEEK) for number in range(1, together + 1)]
    rest = [ticket(number) for number in range(together + 1, 9)]
    whole = await read(CASE, FakeFreshdesk(same + rest, inclusive=inclusive))
    assert (whole.error, whole.ids) == (None, CASE.ids)
    for stop in range(1, len(whole.pages) + 1):
        vendor = FakeFreshdesk(same + rest, inclusive=inclusive)
        begun = await read(CASE, vendor, pages=stop)
        assert begun.ids | (await read(CASE, vendor, begun.checkpoint)).ids == CASE.ids, stop


class OneAPage(Freshdesk):
    """The connector with pages of one ticket, so that 300 are soon full."""

    per_page: ClassVar[int] = 1


async def test_the_300th_page() -> None:
    """Reading goes past what 300 pages hold; only one second that fills them all ends it, with the reason."""
    spread = [ticket(number, changed=NOW - WEEK + timedelta(minutes=number), status=2) for number in range(1, 311)]
    whole = await read(CASE, FakeFreshdesk(spread), connector=freshdesk(OneAPage))
    assert (whole.error, skipped(whole)) == (None, 310)
    at_once = [ticket(number, changed=NOW - WEEK, status=2) for number in range(301)]
    given = await read(CASE, FakeFreshdesk(at_once), connector=freshdesk(OneAPage, quiet_for=None))
    assert isinstance(given.error, CursorStuck)
    assert "300 pages" in str(given.error)
    assert "2026-10-26T09:00:00" in str(given.error)


async def test_large_pages_are_handed_over_in_parts() -> None:
    """A call for each ticket takes its time: what is read is soon kept, and nothing is lost in between."""
    vendor = FakeFreshdesk([ticket(number, changed=NOW - WEEK) for number in range(1, 61)])
    whole = await read(CASE, vendor, connector=freshdesk(Freshdesk))
    assert [len(page.records) for page in whole.pages] == [25, 25, 10, 0]
    begun = await read(CASE, vendor, connector=freshdesk(Freshdesk), pages=1)
    rest = await read(CASE, vendor, begun.checkpoint, connector=freshdesk(Freshdesk))
    assert begun.ids | rest.ids == whole.ids == {str(number) for number in range(1, 61)}


async def test_a_change_within_the_last_minutes() -> None:
    """A ticket that shows up late is found by the next reading."""
    seen = ticket(2, changed=NOW - timedelta(minutes=1))
    first = await reading(seen)
    late = await reading(ticket(1, changed=NOW - timedelta(minutes=6)), seen, checkpoint=first.checkpoint)
    assert late.ids >= {"1"}


async def test_a_change_in_the_future() -> None:
    """One ticket with an impossible time does not lead the reading past all that comes later."""
    first = await reading(ticket(1, changed=NOW + timedelta(days=3000)))
    later = await read(CASE, FakeFreshdesk([ticket(2, changed=NOW + WEEK)]), first.checkpoint, now=NOW + WEEK)
    assert (first.ids, later.ids) == ({"1"}, {"2"})


@pytest.mark.parametrize("status", [2, 3, 6, 17])
async def test_an_open_ticket_waits_until_it_is_quiet(status: int) -> None:
    """Open, pending and the account's own statuses: it goes out when nothing happened for a week, and once."""
    vendor = FakeFreshdesk([ticket(1, changed=NOW, status=status)])
    first = await read(CASE, vendor)
    assert (first.ids, details(first), skipped(first)) == (set(), [], 1)
    assert (await read(CASE, vendor, first.checkpoint, now=NOW + WEEK - timedelta(seconds=1))).ids == set()
    due = await read(CASE, vendor, first.checkpoint, now=NOW + WEEK)
    assert due.ids == {"1"}
    known = {"1": due.records[0].version}
    later = await read(CASE, vendor, due.checkpoint, now=NOW + WEEK + timedelta(days=1), known=known)
    assert (later.ids, details(later)) == (set(), [])


async def test_the_second_reading_ends_where_tickets_are_not_quiet() -> None:
    """It stops at the first ticket that is too young, breaks off anywhere, and goes on from there."""
    tickets = [ticket(number, changed=NOW - timedelta(hours=9 - number), status=2) for number in range(1, 9)]
    young = [ticket(number, changed=NOW + timedelta(days=1, minutes=number), status=2) for number in range(9, 30)]
    first = await reading(*tickets)
    whole = await reading(*tickets, *young, checkpoint=first.checkpoint, now=NOW + WEEK)
    assert (whole.ids, skipped(whole)) == (CASE.ids, len(young))
    asked = [each["updated_since"] for each in lists(whole)]
    again = asked[asked.index("2026-10-26T08:59:59Z") :]
    assert len(again) == 4
    for stop in range(1, len(whole.pages) + 1):
        begun = await reading(*tickets, *young, checkpoint=first.checkpoint, now=NOW + WEEK, pages=stop)
        rest = await reading(*tickets, *young, checkpoint=begun.checkpoint, now=NOW + WEEK + timedelta(hours=2))
        assert begun.ids | rest.ids == CASE.ids, stop


async def test_open_tickets_are_not_wanted() -> None:
    """With quiet_for null an open ticket never goes out; when it is set afterwards, none is forgotten."""
    vendor = FakeFreshdesk([ticket(1, status=2), ticket(2)])
    never = freshdesk(quiet_for=None)
    first = await read(CASE, vendor, connector=never)
    second = await read(CASE, vendor, first.checkpoint, connector=never, now=NOW + 10 * WEEK)
    assert first.ids | second.ids == {"2"}
    assert (await read(CASE, vendor, second.checkpoint)).ids >= {"1"}


async def test_what_is_known_is_counted() -> None:
    """A ticket that the ledger has as it is costs no call, and is told as unchanged."""
    first = await reading(ticket(1), ticket(2))
    known = {record.id: record.version for record in first.records} | {"2": "an older one"}
    again = await reading(ticket(1), ticket(2), known=known)
    assert (set(details(again)), sum(page.unchanged for page in again.pages)) == ({"2"}, 1)


async def test_what_is_quiet_is_read_once_an_hour() -> None:
    """Readings every few minutes do not cost a second list each."""
    vendor = FakeFreshdesk([ticket(1)])
    first = await read(CASE, vendor)
    assert len(lists(await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(minutes=59)))) == 1
    second = await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(minutes=60))
    assert len(lists(second)) == 2
    assert len(lists(await read(CASE, vendor, second.checkpoint, now=NOW + timedelta(minutes=119)))) == 1


async def test_an_edit_is_noticed() -> None:
    """A ticket that went on after it went out has another version, and another fingerprint."""
    (before,) = (await reading(ticket(1))).records
    (after,) = (await reading(ticket(1, changed=NOW), threads={1: [reply(9, "Wrong again.", incoming=True)]})).records
    assert before.version != after.version
    assert compose(before, CASE.source).fingerprint != compose(after, CASE.source).fingerprint


class Forgetful(FakeFreshdesk):
    """A ticket is deleted as soon as it was listed."""

    def _list(self, request: httpx.Request, params: dict[str, str]) -> httpx.Response:
        answer = super()._list(request, params)
        self.tickets = [each for each in self.tickets if each["id"] != 2]
        return answer


async def test_a_ticket_that_is_deleted_meanwhile() -> None:
    """It is skipped and counted; the others come."""
    given = await read(CASE, Forgetful([ticket(1), ticket(2), ticket(3)]))
    assert (given.error, given.ids, given.set_aside, skipped(given)) == (None, {"1", "3"}, [], 1)


async def test_of_before_the_beginning_nothing_is_asked() -> None:
    """The list begins at `since`, and a ticket made before costs no call of its own, even if it changed after it."""
    vendor = FakeFreshdesk([ticket(1, created_at=iso(NOW - timedelta(days=90))), ticket(2)])
    given = await read(CASE, vendor, since=NOW - timedelta(days=60))
    assert ([record.id for record in given.records], given.waited) == (["2"], 0)
    assert {request.url.path for request in vendor.asked[1:]} == {"/api/v2/tickets/2/conversations"}
    assert vendor.asked[0].url.params["updated_since"] == iso(NOW - timedelta(days=60, seconds=1))


@pytest.mark.parametrize(
    ("more", "organisation"),
    [
        ({}, Organisation("Stark", None, "freshdesk-company:7100")),
        ({"company": None}, Organisation(None, None, "freshdesk-company:7100")),
        ({"company": STARK | {"name": None}}, Organisation(None, None, "freshdesk-company:7100")),
        ({"company_id": None, "company": {}}, None),
    ],
)
async def test_the_company(more: dict[str, Any], organisation: Organisation | None) -> None:
    """The company is known by its number, and by its name where the list tells it."""
    (record,) = (await reading(ticket(1, **more))).records
    assert record.organisation == organisation


def answered(status: int) -> httpx.Response:
    """An answer of that status."""
    return httpx.Response(status, request=httpx.Request("GET", "https://acme.freshdesk.com/api/v2/tickets"))


@pytest.mark.parametrize(
    ("status", "words"), [(401, "profile settings"), (403, "free one"), (404, "acme.freshdesk.com"), (400, None)]
)
def test_what_an_error_means(status: int, words: str | None) -> None:
    """A refusal is explained in Freshdesk's terms: the key, the agent, the plan, the account."""
    advice = freshdesk().advice(answered(status))
    assert (words in advice) if words else advice is None


async def test_check_says_what_it_saw_and_what_is_wrong() -> None:
    """The check makes one call for one ticket."""
    assert await _check(CASE, freshdesk()) == "acme.freshdesk.com shows its tickets"
    with pytest.raises(CredentialsRefused, match="does not know this API key"):
        await _check(CASE, freshdesk(api_key="wrong"))


def test_the_limit_is_the_plan_s() -> None:
    """Calls are made no faster than the operator says that their plan allows."""
    (limit,) = freshdesk(calls_per_minute=50).limits()
    assert (limit.calls, limit.per, limit.path) == (50, timedelta(minutes=1), "")
    assert Freshdesk.model_fields["calls_per_minute"].default == 100


async def test_retry_after_is_heeded() -> None:
    """A list that was asked for too often is left alone for as long as Freshdesk says."""
    vendor, refusals = FakeFreshdesk([ticket(1)]), [httpx.Response(429, headers={"Retry-After": "37"})]
    given = await read(CASE, lambda request: refusals.pop() if refusals else vendor(request))
    assert (given.error, given.ids) == (None, {"1"})
    assert given.waited >= 37


async def test_base_url() -> None:
    """Behind a proxy everything is asked there, and people are sent to Freshdesk still."""
    given = await read(CASE, FakeFreshdesk([ticket(1)]), connector=freshdesk(base_url="https://proxy.acme.test"))
    assert {request.url.host for _, request in given.calls} == {"proxy.acme.test"}
    assert given.records[0].links[0].url == "https://acme.freshdesk.com/a/tickets/1"


@pytest.mark.parametrize(
    ("wrong", "thread"),
    [
        ({"id": "two"}, None),
        ({"updated_at": "yesterday"}, None),
        ({"status": None}, None),
        ({}, [reply(1, "Hello", created_at=None)]),
        ({}, [reply(1, "Hello", incoming="who knows")]),
        ({}, ["Hello"]),
    ],
    ids=str,
)
async def test_a_ticket_that_makes_no_sense(wrong: dict[str, Any], thread: list[Any] | None) -> None:
    """It is set aside with a reason, whether the list or its conversation shows it; the others come."""
    broken = ticket(2) | {key: value for key, value in wrong.items() if key != "updated_at"}
    vendor = FakeFreshdesk([ticket(1), broken, ticket(3)], threads={2: thread} if thread else None)

    def changed(request: httpx.Request) -> httpx.Response:
        answer = vendor(request)
        if "updated_at" not in wrong or CASE.is_detail(request):
            return answer
        return httpx.Response(200, json=[each | (wrong if each["id"] == 2 else {}) for each in answer.json()])

    given = await read(CASE, changed)
    assert (given.error, given.ids) == (None, {"1", "3"})
    assert given.set_aside
    assert all(aside.reason for aside in given.set_aside)


@given(said=st.text(max_size=200), name=st.none() | st.text(max_size=40), sender=st.none() | st.text(max_size=60))
async def test_whatever_people_write(said: str, name: str | None, sender: str | None) -> None:
    """No text, name or sender stops a reading, and a word that was said comes whole."""
    thread = [reply(1, "Hello", incoming=True, body=said, body_text=said, user_id=None, from_email=sender)]
    given = await read(CASE, FakeFreshdesk([ticket(1, requester={"name": name})], threads={1: thread}))
    assert (given.error, given.ids) == (None, {"1"})
    if len(said.split()) == 1 and "freshdesk_quote" not in said:
        assert said.strip() in given.records[0].text
