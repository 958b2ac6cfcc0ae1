"""What Intercom has in its own way: a search in seconds, notes among the parts, bots, campaigns, and what moves."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.connector import CredentialsRefused, Link, Organisation, Person
from syncd.promises import Read, _check, read
from syncd.signals import compose
from tests.connectors.vendors.intercom import CASE, FIN, NOW, PIA, SAM, FakeIntercom, chat, intercom, part, seconds

WEEK = timedelta(days=7)


async def reading(*chats: dict[str, Any], **more: Any) -> Read:
    """One reading of a workspace with these conversations."""
    given = await read(CASE, FakeIntercom(chats), **more)
    assert given.error is None, given.error
    return given


def searches(given: Read) -> list[dict[str, Any]]:
    """What was searched for."""
    return [json.loads(request.content) for _, request in given.calls if request.method == "POST"]


def details(given: Read) -> list[str]:
    """The conversations that were asked for alone."""
    return [request.url.path.rpartition("/")[2] for _, request in given.calls if CASE.is_detail(request)]


async def test_a_conversation_as_it_goes_out() -> None:
    """Text, people, link, time, version and what is kept beside it are these, to the letter."""
    (record,) = (await reading(chat(1, conversation_rating={"rating": 2, "remark": "Slow"}))).records
    assert record.id == "1"
    assert record.kind == "support_ticket"
    assert record.title == "Import 1 doubles rows"
    assert record.text == (
        "Import 1 doubles rows\n\n"
        "Pia Holm (customer), 2026-10-05 07:00 UTC:\nThe import shows rows twice.\n\n"
        "Pia Holm (customer), 2026-10-04 10:01 UTC:\nEvery row twice, since Monday.\n\n"
        "Sam (agent), 2026-10-04 10:03 UTC:\nA fix is on its way."
    )
    assert record.context is None
    assert record.occurred_at == datetime(2026, 10, 5, 7, tzinfo=UTC)
    assert record.people == (Person("Pia Holm", "pia@hooli.test", "customer"),)
    assert record.organisation is None
    url = "https://app.intercom.com/a/inbox/ws1/inbox/conversation/1"
    assert record.links == (Link(url, "Open Intercom conversation", "support_ticket", primary=True),)
    assert record.attributes == {
        "conversationId": "1",
        "status": "closed",
        "priority": "not_priority",
        "channel": "email",
        "tags": ["import"],
        "rating": 2,
        "ratingRemark": "Slow",
    }
    assert record.version == "2026-10-05T09:00:00+00:00 closed"
    body = json.loads(compose(record, CASE.source).body)
    assert (body["providerType"], body["externalId"]) == ("intercom", "case:case:1")


@pytest.mark.parametrize(
    ("title", "subject", "name"),
    [
        ("Rows <twice>", "<p>Other</p>", "Rows <twice>"),
        (None, "<p>Rows &amp; twice</p>", "Rows & twice"),
        (" ", "", "Intercom conversation 1"),
        (None, None, "Intercom conversation 1"),
    ],
)
async def test_its_name(title: str | None, subject: str | None, name: str) -> None:
    """A conversation is called by its title, else by the subject of the mail without its HTML, else by its number."""
    one = chat(1, title=title)
    one["source"]["subject"] = subject
    (record,) = (await reading(one)).records
    assert record.title == name
    assert record.text.startswith(name if subject or title == "Rows <twice>" else "Pia Holm")


async def test_only_what_the_customer_could_see() -> None:
    """Notes, events, redacted messages and bots are left out, whatever they say."""
    hidden = [
        part(2, "a secret note", SAM, part_type="note"),
        part(3, "taken back", redacted=True),
        part(4, "I am Fin", FIN),
        part(5, "an answer by Fin in its owner's name", SAM | {"from_ai_agent": True}),
        part(6, "moved to the archive", SAM, part_type="conversation_attribute_updated_by_admin"),
        part(7, None, SAM, part_type="snoozed"),
    ]
    seen = [
        part(8, f"seen {kind}", part_type=kind) for kind in ("comment", "quick_reply", "open", "close", "assignment")
    ]
    (record,) = (await reading(chat(1, parts=hidden + seen))).records
    assert not [one["body"] for one in hidden if one["body"] and one["body"] in record.text]
    assert [one["body"] for one in seen if one["body"] not in record.text] == []


async def test_bots_where_they_are_wanted() -> None:
    """With include_bots their words stand in the text, under their role."""
    chats = FakeIntercom([chat(1, parts=[part(4, "Restart the import", FIN)])])
    (record,) = (await read(CASE, chats, connector=intercom(include_bots=True))).records
    assert "Fin (bot), 2026-10-04 10:04 UTC:\nRestart the import" in record.text


async def test_quoted_history_is_left_out() -> None:
    """A mail that quotes what it answers says its own words only."""
    quoting = "Still twice.\n\nOn Sun, Oct 4, 2026 at 10:03 AM Sam <sam@acme.test> wrote:\n> A fix is on its way."
    (record,) = (await reading(chat(1, parts=[part(9, quoting)]))).records
    assert record.text.endswith(":\nStill twice.")


async def test_forwarded_mail() -> None:
    """What a customer forwards is kept in their first message; in a reply it is what the reply answers."""
    forwarded = "See below.\n\n---------- Forwarded message ---------\nFrom: Ben <ben@hooli.test>\n\nIt fails here too."
    one = chat(1, parts=[part(1, forwarded.replace("here", "there"))])
    one["source"]["body"] = forwarded
    (record,) = (await reading(one)).records
    assert "It fails here too." in record.text
    assert "It fails there too." not in record.text


def campaign(number: int, **more: Any) -> dict[str, Any]:
    """A message that the team sent out of its own accord."""
    one = chat(number, **({"parts": [], "first_contact_reply": None} | more))
    return one | {"source": one["source"] | {"delivered_as": "automated", "author": SAM}}


async def test_a_campaign_that_nobody_answered() -> None:
    """It is no evidence: not imported, counted as skipped, and not even asked for in detail."""
    given = await reading(campaign(1), chat(2))
    assert given.ids == {"2"}
    assert details(given) == ["2"]
    assert sum(page.filtered for page in given.pages) == 1


async def test_a_campaign_that_somebody_answered() -> None:
    """The answer makes it evidence, and what it answers stands before it."""
    (record,) = (
        await reading(campaign(1, parts=[part(1, "Where is it?")], first_contact_reply={"type": "email"}))
    ).records
    assert record.text.index("Sam (agent)") < record.text.index("Where is it?")


async def test_a_conversation_without_a_word_of_a_customer() -> None:
    """It is skipped and counted, even where the search could not tell."""
    given = await reading(campaign(1, parts=[part(1, "ping", SAM)], first_contact_reply={"type": "email"}))
    assert (given.ids, given.set_aside) == (set(), [])
    assert sum(page.filtered for page in given.pages) == 1


async def test_the_question() -> None:
    """Every search is sorted, bounded on both sides, and of the largest size; a later one goes back ten minutes."""
    vendor = FakeIntercom([chat(number) for number in range(1, 5)])
    first = await read(CASE, vendor)
    again = await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(minutes=5))
    asked = searches(first)[0]
    assert asked["query"]["value"] == [
        {"field": "updated_at", "operator": ">", "value": 0},
        {"field": "updated_at", "operator": "<=", "value": seconds(NOW)},
    ]
    assert asked["pagination"] == {"per_page": 150}
    (bound, _) = searches(again)[0]["query"]["value"]
    assert bound["value"] == seconds(NOW - timedelta(days=25, minutes=10)) - 1


async def test_what_the_index_shows_late() -> None:
    """A change that comes up in the search only after later ones is found by the next reading."""
    late = chat(1, changed=NOW - timedelta(minutes=9))
    first = await reading(chat(2, changed=NOW - timedelta(minutes=1)))
    second = await reading(late, chat(2, changed=NOW - timedelta(minutes=1)), checkpoint=first.checkpoint)
    assert second.ids >= {"1"}


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5, 6])
async def test_ties(stop: int) -> None:
    """Of many conversations that changed in one second none is lost, wherever the reading breaks off."""
    vendor = FakeIntercom([chat(number, changed=NOW - WEEK) for number in range(1, 9)])
    begun = await read(CASE, vendor, pages=stop)
    rest = await read(CASE, vendor, begun.checkpoint)
    assert begun.ids | rest.ids == CASE.ids


class Restless(FakeIntercom):
    """One conversation changes between two pages of the search."""

    def _search(self, asked: dict[str, Any]) -> httpx.Response:
        if asked["pagination"].get("starting_after"):
            self.chats[4] = chat(5, changed=NOW + timedelta(minutes=1))
        return super()._search(asked)


async def test_a_conversation_that_moves_while_it_is_looked_for() -> None:
    """It leaves this search and comes in the next; no other is lost by that."""
    vendor = Restless([chat(number) for number in range(1, 9)])
    first = await read(CASE, vendor)
    assert first.ids == CASE.ids - {"5"}
    assert (await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(minutes=2))).ids >= {"5"}


async def test_a_search_out_of_order() -> None:
    """Should the sort ever be ignored, the checkpoint stays until the last page: nothing older is passed over."""
    first = await read(CASE, FakeIntercom([chat(number) for number in range(1, 9)], sorts=False))
    marks = {str(page.checkpoint["updated_until"]) for page in first.pages[:-1]}
    assert (marks, first.ids) == ({"1970-01-01T00:00:00+00:00"}, CASE.ids)
    assert first.checkpoint["updated_until"] == (NOW - timedelta(days=21)).isoformat()


async def test_an_open_conversation_waits_until_it_is_quiet() -> None:
    """Ten answers are one signal: it goes out when nothing happened on it for a week, and once."""
    vendor = FakeIntercom([chat(1, changed=NOW, state="open"), chat(2, changed=NOW, state="snoozed")])
    first = await read(CASE, vendor)
    assert (first.ids, details(first)) == (set(), [])
    soon = await read(CASE, vendor, first.checkpoint, now=NOW + WEEK - timedelta(seconds=1))
    assert soon.ids == set()
    due = await read(CASE, vendor, first.checkpoint, now=NOW + WEEK)
    assert due.ids == {"1", "2"}
    known = {record.id: record.version for record in due.records}
    later = await read(CASE, vendor, due.checkpoint, now=NOW + WEEK + timedelta(days=1), known=known)
    assert (later.ids, details(later)) == (set(), [])


async def test_the_second_search_breaks_off() -> None:
    """What became quiet is found from the page on where the last reading stopped."""
    chats = [chat(number, changed=NOW - timedelta(hours=9 - number), state="open") for number in range(1, 9)]
    first = await read(CASE, FakeIntercom(chats))
    whole = await read(CASE, FakeIntercom(chats), first.checkpoint, now=NOW + WEEK)
    assert whole.ids == CASE.ids
    for stop in range(1, len(whole.pages) + 1):
        begun = await read(CASE, FakeIntercom(chats), first.checkpoint, now=NOW + WEEK, pages=stop)
        rest = await read(CASE, FakeIntercom(chats), begun.checkpoint, now=NOW + WEEK + timedelta(hours=2))
        assert begun.ids | rest.ids == CASE.ids, stop


async def test_what_is_quiet_is_searched_for_once_an_hour() -> None:
    """Readings every few minutes do not cost a second search each."""
    vendor = FakeIntercom([chat(1)])
    first = await read(CASE, vendor)
    assert len(searches(await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(minutes=59)))) == 1
    second = await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(minutes=60))
    assert len(searches(second)) == 2
    assert len(searches(await read(CASE, vendor, second.checkpoint, now=NOW + timedelta(minutes=119)))) == 1


async def test_open_conversations_are_not_wanted() -> None:
    """With quiet_for null an open one never goes out; when it is set afterwards, none is forgotten."""
    vendor = FakeIntercom([chat(1, state="open"), chat(2)])
    never = intercom(quiet_for=None)
    first = await read(CASE, vendor, connector=never)
    second = await read(CASE, vendor, first.checkpoint, connector=never, now=NOW + 10 * WEEK)
    assert first.ids | second.ids == {"2"}
    assert (await read(CASE, vendor, second.checkpoint)).ids >= {"1"}


async def test_an_edit_is_noticed() -> None:
    """A conversation that went on after it went out has another version, and another fingerprint."""
    (before,) = (await reading(chat(1))).records
    more = chat(1, changed=NOW - timedelta(hours=1), parts=[part(1, "It is back."), part(2, "So it is.", SAM)])
    (after,) = (await reading(more)).records
    assert before.version != after.version
    assert compose(before, CASE.source).fingerprint != compose(after, CASE.source).fingerprint
    (reopened,) = (await reading(chat(1, state="open"))).records
    assert before.version != reopened.version


class Forgetful(FakeIntercom):
    """One conversation is deleted as soon as the search has shown it."""

    def _search(self, asked: dict[str, Any]) -> httpx.Response:
        answer = super()._search(asked)
        self.gone = {"2"}
        return answer


async def test_a_conversation_that_is_deleted_meanwhile() -> None:
    """It is skipped and counted; the others come."""
    given = await read(CASE, Forgetful([chat(1), chat(2), chat(3)]))
    assert (given.error, given.ids, given.set_aside) == (None, {"1", "3"}, [])
    assert sum(page.filtered for page in given.pages) == 1


@pytest.mark.parametrize("state", ["closed", "open"])
async def test_large_pages_are_handed_over_in_parts(state: str) -> None:
    """Progress is kept every 25 conversations, and none is lost where a reading breaks off between them."""
    chats = [chat(1, changed=NOW, state=state) | {"id": str(number)} for number in range(1, 61)]
    vendor = FakeIntercom(chats, page=150)
    first = await read(CASE, FakeIntercom([]))
    whole = await read(CASE, vendor, first.checkpoint, now=NOW + WEEK)
    sizes = [len(page.records) for page in whole.pages]
    assert sizes[:4] == [25, 25, 10, 0]
    begun = await read(CASE, vendor, first.checkpoint, now=NOW + WEEK, pages=1)
    rest = await read(CASE, vendor, begun.checkpoint, now=NOW + WEEK + timedelta(hours=2))
    assert begun.ids | rest.ids == whole.ids == {str(number) for number in range(1, 61)}


async def test_large_pages_of_what_became_quiet() -> None:
    """The second search keeps its progress in the same way."""
    chats = [chat(number, changed=NOW - timedelta(seconds=10 * number), state="open") for number in range(1, 151)]
    vendor = FakeIntercom(chats, page=150)
    first = await read(CASE, vendor)
    late = NOW - timedelta(minutes=30) + WEEK
    vendor.chats.append(chat(200, changed=late))  # the first search begins past the others from now on
    before = await read(CASE, vendor, first.checkpoint, now=late)
    assert before.ids == {"200"}
    begun = await read(CASE, vendor, before.checkpoint, now=late + timedelta(hours=2), pages=3)
    assert len(begun.ids) == 26
    rest = await read(CASE, vendor, begun.checkpoint, now=late + timedelta(hours=2))
    assert len(begun.ids | rest.ids) == 151


async def test_what_is_known_is_counted() -> None:
    """A conversation that the ledger has as it is costs no call, and is told as unchanged."""
    first = await reading(chat(1), chat(2))
    known = {record.id: record.version for record in first.records} | {"2": "an older one"}
    again = await reading(chat(1), chat(2), known=known)
    assert (details(again), sum(page.unchanged for page in again.pages)) == (["2"], 1)


async def test_the_beginning_is_cut_off() -> None:
    """Of a conversation of more than 500 parts the context says that some are missing; of one of 500 it does not."""
    parts = [part(number, f"word {number}") for number in range(501)]
    (long,) = (await reading(chat(1, parts=parts))).records
    (whole,) = (await reading(chat(1, parts=parts[1:]))).records
    assert long.context is not None
    assert "500 parts" in long.context
    assert whole.context is None
    assert whole.text == long.text
    (short,) = (await reading(chat(1, statistics={"count_conversation_parts": 40}))).records
    assert short.context is None


@pytest.mark.parametrize(
    ("company", "organisation"),
    [
        ({"id": "c1", "company_id": "crm-7", "name": "Hooli"}, Organisation("Hooli", None, "crm-7")),
        ({"id": "c1", "name": "Hooli"}, Organisation("Hooli", None, "intercom-company:c1")),
        ("c1", Organisation(None, None, "intercom-company:c1")),
        ({"id": None}, None),
        (["c1"], None),
        (None, None),
    ],
)
async def test_the_company(company: Any, organisation: Organisation | None) -> None:
    """The customer's company is taken in the forms it may have; what is none costs nothing."""
    (record,) = (await reading(chat(1, company=company))).records
    assert record.organisation == organisation


@pytest.mark.parametrize(
    "me",
    [
        httpx.Response(403, json={"errors": [{"code": "forbidden"}]}),
        httpx.Response(404),
        httpx.Response(200, json={"app": {"id_code": 7}}),
        httpx.Response(200, json={}),
    ],
)
async def test_no_link_can_be_made(me: httpx.Response) -> None:
    """Without the workspace's code there is no link, and everything else."""
    given = await read(CASE, FakeIntercom([chat(1)], me=me))
    assert (given.error, given.ids, given.records[0].links) == (None, {"1"}, ())


async def test_of_before_the_beginning_nothing_is_asked() -> None:
    """A conversation begun before `since` costs no call of its own, even if it changed after it."""
    vendor = FakeIntercom([chat(1, created_at=seconds(NOW - timedelta(days=90))), chat(2)])
    given = await read(CASE, vendor, since=NOW - timedelta(days=60))
    assert ([record.id for record in given.records], given.waited) == (["2"], 0)
    assert [request.url.path for request in vendor.asked if CASE.is_detail(request)] == ["/conversations/2"]
    (bound, _) = json.loads(vendor.asked[1].content)["query"]["value"]
    assert bound["value"] == seconds(NOW - timedelta(days=60)) - 1


def answered(status: int, **headers: str) -> httpx.Response:
    """An answer with these headers."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=names, request=httpx.Request("GET", "https://api.intercom.io/me"))


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (answered(429, X_RateLimit_Reset=str(seconds(NOW) + 7)), 7),
        (answered(200, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(seconds(NOW) + 4)), 4),
        (answered(200, X_RateLimit_Remaining="80", X_RateLimit_Reset=str(seconds(NOW) + 4)), None),
        (answered(429, X_RateLimit_Reset=str(seconds(NOW) - 1)), None),
        (answered(429, X_RateLimit_Reset="soon"), None),
        (answered(429, X_RateLimit_Reset="9" * 30), None),
        (answered(429), None),
    ],
)
def test_the_end_of_a_window_is_waited_for(answer: httpx.Response, wait: int | None) -> None:
    """Intercom says by X-RateLimit-Reset when its window ends, and may say it while calls are left."""
    asked = intercom().asks_to_wait(answer, NOW)
    assert (asked and asked.total_seconds()) == wait


def test_the_limit() -> None:
    """10,000 calls a minute are counted in windows of ten seconds."""
    (limit,) = intercom().limits()
    assert (limit.calls, limit.per, limit.path) == (1666, timedelta(seconds=10), "")


@pytest.mark.parametrize(("status", "words"), [(401, "region us"), (403, "Read conversations"), (404, None)])
def test_what_an_error_means(status: int, words: str | None) -> None:
    """A refusal is explained in Intercom's terms: the region, the permission."""
    advice = intercom().advice(answered(status))
    assert (words in advice) if words else advice is None


async def test_check_says_what_it_saw_and_what_is_wrong() -> None:
    """The check counts the conversations; of a bad token it asks for the region."""
    assert await _check(CASE, intercom()) == "8 conversations can be read (region us)"
    with pytest.raises(CredentialsRefused, match="region eu"):
        await _check(CASE, intercom(access_token="wrong", region="eu"))


@pytest.mark.parametrize(
    ("region", "api", "app"),
    [
        ("us", "api.intercom.io", "app.intercom.com"),
        ("eu", "api.eu.intercom.io", "app.eu.intercom.com"),
        ("au", "api.au.intercom.io", "app.au.intercom.com"),
    ],
)
async def test_regions(region: str, api: str, app: str) -> None:
    """Each region has a host of its own for the API and one for people."""
    given = await read(CASE, FakeIntercom([chat(1)]), connector=intercom(region=region))
    assert {request.url.host for _, request in given.calls} == {api}
    assert given.records[0].links[0].url.startswith(f"https://{app}/a/inbox/")


async def test_base_url() -> None:
    """Behind a proxy everything is asked there, and people are sent to Intercom still."""
    connector = intercom(base_url="https://proxy.acme.test/intercom")
    given = await read(CASE, lambda request: FakeIntercom([chat(1)])(_without_prefix(request)), connector=connector)
    assert (given.error, given.ids) == (None, {"1"})
    assert {request.url.host for _, request in given.calls} == {"proxy.acme.test"}
    assert given.records[0].links[0].url.startswith("https://app.intercom.com/")


def _without_prefix(request: httpx.Request) -> httpx.Request:
    url = request.url.copy_with(path=request.url.path.removeprefix("/intercom"))
    return httpx.Request(request.method, url, headers=request.headers, content=request.content)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "../me"},
        {"id": None},
        {"created_at": None},
        {"parts": [part(1, "Hello", created_at="yesterday")]},
        {"parts": [{"part_type": 7}, {"part_type": []}]},
        {"parts": [part(1, "Hello", author="Pia")]},
    ],
    ids=lambda wrong: str(wrong)[:40],
)
async def test_a_conversation_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    """It is set aside with a reason, whether the search or its details show it; the others come."""
    given = await reading(chat(1), chat(2, **wrong), chat(3))
    assert given.ids == {"1", "3"}
    (aside,) = given.set_aside
    assert aside.reason
    assert [request.url.path for _, request in given.calls].count("/me") == 1


@given(
    body=st.text(max_size=200),
    name=st.none() | st.text(max_size=40),
    number=st.none() | st.integers() | st.text(max_size=5),
)
async def test_whatever_people_write(body: str, name: str | None, number: Any) -> None:
    """No text, name or rating of a customer stops a reading, and what was said comes whole."""
    one = chat(1, parts=[part(1, body, PIA | {"name": name})], conversation_rating={"rating": number})
    given = await read(CASE, FakeIntercom([one]))
    assert given.error is None
    assert given.ids == {"1"} or given.set_aside
    for record in given.records:
        if len(body.split()) == 1:
            assert body.strip() in record.text
