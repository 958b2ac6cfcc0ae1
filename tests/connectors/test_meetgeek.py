"""MeetGeek: lists without dates of change, transcripts that come late, and a quota by the day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.meetgeek import MeetGeek
from syncd.connector import CredentialsRefused, Link, Organisation, Person, RateLimited, Window
from syncd.promises import Read, read
from tests.connectors.vendors import SECRET, after, iso, lent
from tests.connectors.vendors.meetgeek import CASE, NOW, FakeMeetGeek, begins, meetgeek, meeting, sentence

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OWN = replace(CASE, connector=meetgeek(teams=[]))


def silent(number: int, **more: Any) -> dict[str, Any]:
    """A meeting whose transcript is not made yet."""
    return meeting(number, sentences=None) | more


async def test_a_meeting_becomes_a_record_with_what_was_said_by_whom() -> None:
    """The record is exact: speakers in their order, one after the other, the house and the customer told apart."""
    done = await read(OWN, FakeMeetGeek([meeting(39)]))
    (record,) = done.records
    assert record.id == "m-39"
    assert record.kind == "transcript"
    assert record.title == "Onboarding, part 39"
    assert record.text == "Noor: How is the import going?\n\nLea: It stops at 90 %. Every time."
    assert record.occurred_at == begins(39)
    assert record.links == (
        Link("https://app.meetgeek.ai/meeting/m-39", "Open MeetGeek meeting", "transcript", primary=True),
    )
    assert record.people == (
        Person(email="noor@acme.test", role="host"),
        Person(email="kim@acme.test", role="participant"),
        Person(email="lea@globex.test", role="customer"),
    )
    assert record.organisation == Organisation(domain="globex.test")
    assert record.attributes == {
        "meetingId": "m-39",
        "durationSeconds": 31 * 60,
        "language": "en-GB",
        "source": "zoom",
        "template": "Customer call",
    }
    assert OWN.connector.provider == "meetgeek"


async def test_an_american_account_is_asked_and_shown_at_its_own_place() -> None:
    """A key of the US is known by its beginning; requests and links go there."""
    connector = meetgeek(api_key=SECRET, region="us", teams=[])
    done = await read(replace(CASE, connector=connector), FakeMeetGeek([meeting(39)]))
    assert {request.url.host for _, request in done.calls} == {"api-us.meetgeek.ai"}
    assert done.records[0].links[0].url == "https://us.meetgeek.ai/meeting/m-39"


@pytest.mark.parametrize(
    ("settings", "home"),
    [
        ({"api_key": "us-123"}, "https://api-us.meetgeek.ai"),
        ({"api_key": "eu-123"}, "https://api-eu.meetgeek.ai"),
        ({"api_key": "123"}, "https://api-eu.meetgeek.ai"),
        ({"api_key": "us-123", "region": "eu"}, "https://api-eu.meetgeek.ai"),
        ({"api_key": "123", "region": "us"}, "https://api-us.meetgeek.ai"),
        ({"api_key": "us-123", "base_url": "https://proxy.test/mg/"}, "https://proxy.test/mg"),
    ],
)
def test_the_region_is_the_settings_word_or_else_the_keys(settings: dict[str, Any], home: str) -> None:
    """What the operator writes counts for more than what the key looks like."""
    assert MeetGeek(**settings).base == home


async def test_a_long_meeting_is_marked_with_times_from_its_start() -> None:
    """Times are told from the start of the meeting, though MeetGeek gives them by the clock, with a zone or without."""
    start = begins(39)
    late = [
        sentence(start, 3, "Noor", "Welcome."),
        sentence(start, 400, "Lea", "One more thing.") | {"timestamp": f"{start + timedelta(seconds=400):%FT%T}"},
    ]
    done = await read(OWN, FakeMeetGeek([meeting(39, sentences=late)]))
    assert done.records[0].text == "Noor: Welcome.\n\n[0:06:40]\n\nLea: One more thing."


@pytest.mark.parametrize("end", ["", None, ...], ids=["empty", "null", "left out"])
async def test_a_last_page_is_known_however_it_says_so(end: Any) -> None:
    """Lists and transcripts end with an empty cursor, a null one, or none: all three are read, and nothing twice."""
    vendor = FakeMeetGeek([meeting(number) for number in range(30, 40)], end=end)
    done = await read(OWN, vendor)
    assert done.error is None
    assert len(done.ids) == 10
    assert len(vendor.paths("/transcript")) == 2 * 10  # three sentences, two to a page


async def test_meetings_shared_with_teams_come_once() -> None:
    """A meeting that stands in several lists is asked for once, and is one record."""
    shared = [meeting(number) for number in (38, 39)]
    vendor = FakeMeetGeek(shared, teams={12: shared, 13: [meeting(37), *shared]})
    done = await read(replace(CASE, connector=meetgeek(teams=[12, 13, 13])), vendor)
    assert sorted(record.id for record in done.records) == ["m-37", "m-38", "m-39"]
    assert vendor.paths("/m-38") == ["/v1/meetings/m-38"]
    assert vendor.paths("/13/meetings") == ["/v1/teams/13/meetings"]  # named twice, asked once


async def test_a_team_that_is_added_later_is_read_from_its_beginning() -> None:
    """Each list has a place of its own: what a new team has is read, however old it is."""
    vendor = FakeMeetGeek([meeting(39)], teams={12: [meeting(1), meeting(2)]})
    first = await read(OWN, vendor)
    second = await read(CASE, vendor, first.checkpoint, known={"m-39": None})
    assert second.ids == {"m-1", "m-2"}


async def test_a_list_is_left_after_a_whole_page_that_is_too_old() -> None:
    """Not at the first older meeting, for the order is nowhere promised; and not at the end, for that costs calls."""
    vendor = FakeMeetGeek([meeting(number) for number in range(1, 40)])
    first = await read(OWN, vendor)
    known = dict.fromkeys(first.ids)
    vendor.asked.clear()
    vendor.own.append(meeting(40))
    second = await read(OWN, vendor, first.checkpoint, known=known)
    assert second.ids == {"m-40"}
    assert len(vendor.paths("/meetings")) == 4  # 40 to 37, 36 to 33, 32 to 29 (32 is in the overlap), 28 to 25


async def test_a_meeting_that_appears_late_is_found_within_the_overlap() -> None:
    """One that is listed only after newer ones is no gap, up to the overlap exactly."""
    vendor = FakeMeetGeek([meeting(39)])
    first = await read(OWN, vendor)
    edge = begins(39) - timedelta(days=7)
    vendor.own += [meeting("edge", start=edge), meeting("past", start=edge - timedelta(seconds=1))]
    second = await read(OWN, vendor, first.checkpoint, known={"m-39": None})
    assert second.ids == {"m-edge"}


async def test_a_list_in_another_order_is_read_to_its_end() -> None:
    """Where a newer meeting follows an older one, the end of the list may hold the newest."""
    numbers = [*range(1, 39)]
    vendor = FakeMeetGeek([meeting(number) for number in numbers], is_sorted=False)
    first = await read(OWN, vendor)
    assert len(first.ids) == len(numbers)
    vendor.own.append(meeting(39))
    second = await read(OWN, vendor, first.checkpoint, known=dict.fromkeys(first.ids))
    assert second.ids == {"m-39"}


async def test_an_order_that_breaks_between_two_pages_is_noticed() -> None:
    """Each page may be newest first and the list still not: what begins a page is held against what ended the last."""
    pages = [39, 38, 37, 36], [35, 3, 2, 1], [19, 18, 17, 16], [5, 4]
    vendor = FakeMeetGeek([meeting(number) for page in pages for number in page], is_sorted=False)
    first = await read(OWN, vendor)
    vendor.own.append(meeting(34))
    second = await read(OWN, vendor, first.checkpoint, known=dict.fromkeys(first.ids))
    assert second.ids == {"m-34"}


async def test_a_full_scan_finds_what_was_added_under_an_old_date() -> None:
    """A recording of last month that is uploaded today stands far down in the list: only a full scan sees it."""
    vendor = FakeMeetGeek([meeting(number) for number in range(20, 40)])
    first = await read(OWN, vendor)
    vendor.own.append(meeting(2))
    known = dict.fromkeys(first.ids)
    assert (await read(OWN, vendor, first.checkpoint, known=known)).ids == set()
    full = replace(CASE, connector=meetgeek(teams=[], full_scan=True))
    assert (await read(full, vendor, first.checkpoint, known=known)).ids == {"m-2"}


async def test_what_lies_before_since_is_not_asked_for() -> None:
    """A beginning that the operator set spares the calls for all that is older."""
    vendor = FakeMeetGeek([meeting(number) for number in range(1, 40)])
    async with lent(OWN.connector, vendor, NOW) as http:
        window = Window(NOW, since=begins(37), until=begins(39))
        pages = [page async for page in OWN.connector.fetch(http, {}, window)]
    assert {record.id for page in pages for record in page.records} == {"m-37", "m-38"}
    assert len(vendor.paths("/transcript")) == 2 * 2
    assert len(vendor.paths("/meetings")) == 2


async def test_a_meeting_from_the_future_moves_no_mark_beyond_today() -> None:
    """A date that cannot be is no reason to pass over what comes tomorrow."""
    vendor = FakeMeetGeek([meeting("odd", start=datetime(2099, 1, 1, tzinfo=UTC))])
    first = await read(OWN, vendor)
    vendor.own.append(meeting(39))
    second = await read(OWN, vendor, first.checkpoint, known={"m-odd": None})
    assert second.ids == {"m-39"}


async def test_an_answer_without_sentences_is_a_transcript_that_is_not_made_yet() -> None:
    """What MeetGeek says before a meeting is analysed is not documented: whatever it is, the meeting waits."""
    vendor = FakeMeetGeek([meeting(39)])
    early = httpx.Response(200, json={"meeting_id": "m-39"})
    done = await read(OWN, lambda request: early if request.url.path.endswith("/transcript") else vendor(request))
    assert (done.error, done.ids, _pending(done)) == (None, set(), {"m-39"})


@pytest.mark.parametrize("sentences", [None, [], [sentence(begins(39), 1, "Noor", " ")]], ids=["404", "none", "blank"])
async def test_a_transcript_that_is_not_made_yet_is_asked_for_again(sentences: Any) -> None:
    """A meeting without words is pending, through other readings and beyond the overlap, and comes when it is ready."""
    vendor = FakeMeetGeek([meeting(39, sentences=sentences), meeting(38)])
    first = await read(OWN, vendor)
    assert first.ids == {"m-38"}
    assert first.set_aside == []
    later = await read(replace(OWN, now=NOW + HOUR), vendor, first.checkpoint, known={"m-38": None})
    assert later.ids == set()
    vendor.own = [meeting(39), meeting(50, start=NOW + 20 * DAY)]  # far beyond the overlap
    last = await read(
        replace(OWN, connector=meetgeek(teams=[], overlap="1h"), now=NOW + 2 * DAY), vendor, later.checkpoint
    )
    assert "m-39" in last.ids
    assert last.checkpoint["pending"] == {}


async def test_what_waits_is_remembered_on_every_page_of_a_reading() -> None:
    """A reading that breaks off forgets no pending meeting, old or new, though it keeps the old mark of the list."""
    vendor = FakeMeetGeek([silent(40), *(meeting(number) for number in range(30, 40))])
    begun = await read(OWN, vendor, {"newest": {}, "pending": {"m-7": iso(NOW - DAY)}, "asked_at": None}, pages=2)
    assert begun.checkpoint["newest"] == {}
    pending = begun.checkpoint["pending"]
    assert isinstance(pending, dict)
    assert pending.keys() == {"m-7", "m-40"}


async def test_a_meeting_without_words_is_given_up_after_a_while() -> None:
    """Nothing is waited for for ever: the meeting is set aside, and forgotten."""
    vendor = FakeMeetGeek([silent(39)])
    first = await read(OWN, vendor)
    patient = await read(replace(OWN, now=NOW + 7 * DAY - timedelta(seconds=1)), vendor, first.checkpoint)
    assert (patient.set_aside, len(_pending(patient))) == ([], 1)
    last = await read(replace(OWN, now=NOW + 7 * DAY), vendor, patient.checkpoint)
    [aside] = last.set_aside
    assert (aside.place, "no transcript" in aside.reason) == ("MeetGeek meeting m-39", True)
    assert _pending(last) == set()


async def test_a_meeting_that_stays_silent_costs_few_calls() -> None:
    """The quota of the day is for what is new: after some hours a silent meeting is asked for some times a day."""
    vendor = FakeMeetGeek([silent(39)])
    done = await read(OWN, vendor)
    for tens in range(1, 6 * 24 + 1):
        done = await read(OWN, vendor, done.checkpoint, now=NOW + tens * timedelta(minutes=10))
    assert len(vendor.paths("/transcript")) == 36 + 4
    assert vendor.paths("/m-39") == []  # nor is anything else asked of it


@pytest.mark.parametrize(("age", "asked"), [(7 * DAY, 5), (6 * DAY, 36 + 28)])
async def test_an_old_meeting_that_is_silent_costs_still_fewer(age: timedelta, asked: int) -> None:
    """An account may hold thousands that were never analysed: a first reading waits a day for each, and no longer."""
    vendor = FakeMeetGeek([meeting(1, start=NOW - age, sentences=None), meeting(39, start=NOW)])
    case = replace(OWN, connector=meetgeek(teams=[], overlap="1h"))
    done = await read(case, vendor)
    aside = []
    for tens in range(1, 6 * 24 * 8):
        done = await read(case, vendor, done.checkpoint, now=NOW + tens * timedelta(minutes=10), known={"m-39": None})
        aside += done.set_aside
    assert (len(aside), _pending(done)) == (1, set())
    assert len([path for path in vendor.paths("/transcript") if "m-1/" in path]) == asked


async def test_a_pending_meeting_that_is_known_by_now_costs_no_call() -> None:
    """What the ledger has is not asked for, whatever the checkpoint of a reading that broke off says."""
    vendor = FakeMeetGeek([])
    pending = {"pending": {"m-39": iso(NOW - HOUR)}}
    done = await read(OWN, vendor, pending, known={"m-39": None})
    assert vendor.paths("/transcript") == []
    assert _pending(done) == set()
    assert sum(page.unchanged for page in done.pages) == 1


async def test_private_and_deleted_meetings_are_passed_over() -> None:
    """A 403 or a 410 for one meeting is no end: it counts as skipped, and the others come."""
    vendor = FakeMeetGeek(
        [meeting(37), meeting(38), meeting(39)], private=frozenset({"m-38"}), gone=frozenset({"m-37"})
    )
    done = await read(OWN, vendor)
    assert done.error is None
    assert done.ids == {"m-39"}
    assert done.set_aside == []
    assert sum(page.filtered for page in done.pages) == 2


async def test_a_key_that_is_revoked_meanwhile_ends_the_reading() -> None:
    """A 401 is no matter of one meeting: nothing is passed over because of it."""
    vendor = FakeMeetGeek([meeting(39)])
    done = await read(OWN, after(1, vendor, httpx.Response(401, json={"message": "unauthorized"})))
    assert isinstance(done.error, CredentialsRefused)
    assert "own" not in str(done.checkpoint["newest"])


@pytest.mark.parametrize("unit", ["hour", "day", "month"])
async def test_a_used_up_quota_is_tried_again_in_an_hour(unit: str) -> None:
    """When the day begins anew is not documented: the reading ends, what it had is kept, and the next is an hour on."""
    vendor = FakeMeetGeek([meeting(number) for number in range(10, 35)], page=50)
    done = await read(OWN, after(24, vendor, httpx.Response(429, json={"message": "quota", "unit": unit})))
    assert isinstance(done.error, RateLimited)
    assert done.error.until == NOW + HOUR
    assert "quota of MeetGeek's plan" in str(done.error)
    assert len(done.ids) == 4  # to a page, with three calls to a meeting: no more than a page is asked for in vain
    more = await read(OWN, after(40, vendor, httpx.Response(429, json={"unit": unit})))
    assert len(more.ids) == 12
    rest = await read(OWN, vendor, more.checkpoint, known=dict.fromkeys(more.ids))
    assert len(rest.ids) == 13


async def test_a_quota_by_the_minute_is_waited_out() -> None:
    """A short quota costs a minute, and no record."""
    refusals = [httpx.Response(429, json={"message": "quota limit reached", "unit": "minute"})]
    vendor = FakeMeetGeek([meeting(39)])
    done = await read(OWN, lambda request: refusals.pop() if refusals else vendor(request))
    assert done.ids == {"m-39"}
    assert done.waited >= 60


@pytest.mark.parametrize("body", [b"", b"[]", b'{"unit": 7}', b'"day"', b"<html>"])
def test_a_refusal_in_other_words_leaves_the_waiting_to_the_house(body: bytes) -> None:
    """A 429 need not be JSON, nor say what MeetGeek documents."""
    assert meetgeek().asks_to_wait(httpx.Response(429, content=body), NOW) is None
    assert meetgeek().asks_to_wait(httpx.Response(200, json={"unit": "day"}), NOW) is None


@pytest.mark.parametrize(("region", "other"), [("eu", "us"), ("us", "eu")])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_explained_by_the_region(region: str, other: str, status: int) -> None:
    """A key of another region looks like a bad one: both are named."""
    case = replace(CASE, connector=meetgeek(region=region))
    done = await read(case, lambda _: httpx.Response(status, json={"message": "unauthorized"}))
    assert isinstance(done.error, CredentialsRefused)
    assert f"{region.upper()} region" in str(done.error)
    assert f"region: {other}" in str(done.error)


async def test_a_team_of_others_is_explained_as_such() -> None:
    """A refusal for a team is no bad key: the advice speaks of the team."""
    done = await read(replace(CASE, connector=meetgeek(teams=[99])), FakeMeetGeek([meeting(39)]))
    assert isinstance(done.error, CredentialsRefused)
    assert "team" in str(done.error)
    assert "region" not in str(done.error)
    assert done.ids == {"m-39"}


async def test_an_id_cannot_lead_to_another_address() -> None:
    """An id is a part of the path whatever stands in it."""
    odd = meeting(39) | {"meeting_id": "a/../../teams?x=1#y"}
    vendor = FakeMeetGeek([odd])
    done = await read(OWN, vendor)
    assert done.ids == {"a/../../teams?x=1#y"}
    assert done.records[0].links[0].url == "https://app.meetgeek.ai/meeting/a%2F..%2F..%2Fteams%3Fx%3D1%23y"


@pytest.mark.parametrize(
    ("host", "others", "organisation"),
    [
        ("a@acme.test", ["x@globex.test", "Y@GLOBEX.test"], Organisation(domain="globex.test")),
        ("a@acme.test", ["x@globex.test", "y@initech.test"], None),
        ("a@acme.test", ["x@globex.test", "y@gmail.com"], Organisation(domain="globex.test")),
        ("a@acme.test", ["b@acme.test"], None),
        (None, ["x@globex.test"], None),
        ("a@acme.test", ["phone", "", None], None),
    ],
)
async def test_the_customer_is_whoever_is_from_one_other_company(
    host: str | None, others: list[str | None], organisation: Organisation | None
) -> None:
    """The company is named when there is one beside the host's, and left open when there are several or none."""
    done = await read(OWN, FakeMeetGeek([meeting(39, host_email=host, participant_emails=others)]))
    assert done.records[0].organisation == organisation


def sentences_of(wild: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Sentences whose every field may be anything."""
    return st.fixed_dictionaries({"transcript": st.text(), "speaker": wild, "timestamp": wild})


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


FIELDS = sorted(meeting(39).keys() - {"meeting_id", "timestamp_start_utc", "sentences"})


@given(st.dictionaries(st.sampled_from(FIELDS), WILD), st.none() | st.lists(WILD | sentences_of(WILD), max_size=3))
async def test_whatever_stands_in_a_meeting_the_others_come(odd: dict[str, Any], sentences: list[Any] | None) -> None:
    """One meeting of any shape is read, set aside or pending; it ends no reading and costs no other record."""
    done = await read(OWN, FakeMeetGeek([meeting(39), meeting(38) | odd | {"sentences": sentences}]))
    assert done.error is None
    assert "m-39" in done.ids
    assert done.ids | {item.place.split()[-1] for item in done.set_aside} | _pending(done) >= {"m-38"}


async def test_the_check_is_one_call_that_names_the_region() -> None:
    """One cheap look, and a few words on what was seen."""
    vendor = FakeMeetGeek([meeting(39)])
    async with lent(OWN.connector, vendor, NOW) as http:
        assert await OWN.connector.check(http) == "the meetings of the key's owner can be read (region eu)"
    assert len(vendor.asked) == 1


def _pending(done: Read) -> set[str]:
    pending = done.checkpoint["pending"]
    assert isinstance(pending, dict)
    return set(pending)
