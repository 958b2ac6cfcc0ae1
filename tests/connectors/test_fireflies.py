"""Fireflies.ai: what exactly is made of its meetings, and what its API has of its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from syncd.connector import CredentialsRefused, Link, Organisation, Person, RateLimited, ShapeChanged, Window
from syncd.promises import read
from syncd.signals import compose
from tests.connectors.vendors.fireflies import (
    CASE,
    NOW,
    FakeFireflies,
    fireflies,
    id_of,
    meeting,
    quota,
    refused,
    sentences,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def body(record: Any) -> bytes:
    """What is posted of a record."""
    return compose(record, CASE.source).body


def instead(
    vendor: FakeFireflies, answer: httpx.Response, *, call: int = 1
) -> Callable[[httpx.Request], httpx.Response]:
    """The vendor, with this answer to one of its calls."""

    def answers(request: httpx.Request) -> httpx.Response:
        given = vendor(request)
        return answer if len(vendor.asked) == call else given

    return answers


def answered(json: Any, status: int = 200, **headers: str) -> httpx.Response:
    """An answer as a connector is shown it."""
    request = httpx.Request("POST", "https://api.fireflies.ai/graphql")
    return httpx.Response(status, json=json, headers=headers, request=request)


async def test_a_record_says_everything_once() -> None:
    """A meeting becomes exactly this: who said what, who was there, where it can be opened, and when it began."""
    at = datetime(2026, 10, 30, 14, 0, 12, tzinfo=UTC)
    [record] = (await read(CASE, FakeFireflies([meeting(7, at=at)]))).records
    assert (record.id, record.kind, record.title, record.occurred_at) == (
        "01KX0000000000000000000007",
        "transcript",
        "Globex review 7",
        at,
    )
    assert record.text == ("Mia Ortiz: The export ends early. Every time.\n\nUnknown speaker: We will look into it.")
    assert record.links == (
        Link(
            "https://app.fireflies.ai/view/01KX0000000000000000000007",
            "Open Fireflies meeting",
            "transcript",
            primary=True,
        ),
    )
    assert record.people == (
        Person(None, "sam@acme.test", "host"),
        Person("Mia Ortiz", "mia@globex.test", "customer"),
        Person(None, "lee@globex.test", "customer"),
        Person("Sam", None, "participant"),
    )
    assert record.organisation == Organisation(domain="globex.test")
    assert record.attributes == {"host": "sam@acme.test", "minutes": 42}
    assert CASE.connector.provider == "fireflies"
    assert CASE.connector.default_namespace("calls") is None


async def test_a_meeting_without_an_address_is_linked_all_the_same() -> None:
    """A link is always there to open: Fireflies may leave its own out, but it is made of the id alone."""
    vendor = FakeFireflies([meeting(1, transcript_url=None, title=None)])
    [record] = (await read(CASE, vendor)).records
    assert record.links[0].url == f"https://app.fireflies.ai/view/{id_of(1)}"
    assert record.title == f"Fireflies meeting {id_of(1)}"


async def test_half_an_emoji_costs_no_record() -> None:
    """A title that was cut off inside an emoji stops nothing: the meeting comes, and its neighbours as well."""
    vendor = FakeFireflies([meeting(1, title="Launch HALF"), meeting(2, title="Launch 🚀")])

    def answers(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=vendor(request).content.replace(b"HALF", rb"\ud83d"))

    done = await read(CASE, answers)
    assert done.error is None
    assert {record.title for record in done.records} == {"Launch ?", "Launch 🚀"}


async def test_the_list_is_walked_with_one_end() -> None:
    """Offset paging loses nothing: `toDate` is the instant of asking in every call, and what begins later is left for
    the next reading."""
    vendor = FakeFireflies([*(meeting(number) for number in range(1, 56)), meeting(99, at=NOW + HOUR)])
    done = await read(CASE, vendor)
    assert done.ids == CASE.ids
    assert {each.get("toDate") for each in vendor.variables} == {"2026-11-02T09:00:00.000Z"}
    listed = [(each["skip"], each["limit"]) for each in vendor.variables if not each["words"]]
    assert listed == [(0, 50), (50, 50)]
    later = await read(CASE, vendor, done.checkpoint, now=NOW + 2 * HOUR)
    assert id_of(99) in later.ids


async def test_the_checkpoint_moves_when_the_walk_is_over() -> None:
    """A walk that broke off begins anew: the newest come first, so only its last page may move the checkpoint."""
    done = await read(CASE, CASE.full())
    assert [page.checkpoint["read_until"] for page in done.pages[:-1]] == [None] * (len(done.pages) - 1)
    assert done.checkpoint == {"read_until": "2026-11-02T09:00:00+00:00", "pending": {}, "wordless": {}}


async def test_each_reading_goes_back() -> None:
    """A transcript that came days after its meeting is not lost: the next reading goes back by `overlap`."""
    vendor = CASE.full()
    first = await read(CASE, vendor)
    vendor.meetings.append(meeting(70, at=NOW - 7 * DAY))  # type: ignore[attr-defined]
    vendor.meetings.append(meeting(71, at=NOW - 7 * DAY - timedelta(seconds=1)))  # type: ignore[attr-defined]
    again = await read(CASE, vendor, first.checkpoint, now=NOW + HOUR)
    assert again.ids - CASE.ids == {id_of(70)}


async def test_a_window_is_asked_for_and_no_more() -> None:
    """`since` and `until` bound what is asked: what lies outside of them costs no call."""
    vendor = CASE.full()
    window = Window(NOW, since=datetime(2026, 10, 30, tzinfo=UTC), until=datetime(2026, 10, 31, tzinfo=UTC))
    async with httpx.AsyncClient(transport=httpx.MockTransport(vendor), auth=CASE.connector.auth()) as http:
        pages = [page async for page in CASE.connector.fetch(http, {}, window)]
    assert {(each["fromDate"], each["toDate"]) for each in vendor.variables} == {  # type: ignore[attr-defined]
        ("2026-10-30T00:00:00.000Z", "2026-10-31T00:00:00.000Z")
    }
    assert sum(len(page.records) for page in pages) == 25  # an hour apart, both ends included


async def test_sentences_are_asked_for_where_something_is_new() -> None:
    """A call with sentences is dear: with two new meetings far apart, it is made for two parts of the list."""
    vendor = FakeFireflies([meeting(number) for number in range(1, 56)])
    first = await read(CASE, vendor)
    versions: dict[str, str | None] = {record.id: record.version for record in first.records}
    del versions[id_of(55)], versions[id_of(20)]
    vendor.asked.clear()
    again = await read(CASE, vendor, known=versions)
    assert [(each["skip"], each["limit"]) for each in vendor.variables if each["words"]] == [(0, 10), (35, 10)]
    assert again.ids == {id_of(55), id_of(20)}
    assert sum(page.unchanged for page in again.pages) == 53


async def test_another_name_for_a_speaker_is_noticed() -> None:
    """An edit is noticed: a meeting whose speakers were named since has another version and another body."""
    vendor = FakeFireflies(
        [meeting(1, speakers=[{"name": "Speaker 1"}], sentences=sentences(("Speaker 1", "Hi.", 1.0)))]
    )
    before = await read(CASE, vendor)
    vendor.meetings = [meeting(1, speakers=[{"name": "Mia"}], sentences=sentences(("Mia", "Hi.", 1.0)))]
    known: dict[str, str | None] = {record.id: record.version for record in before.records}
    after = await read(CASE, vendor, before.checkpoint, known=known, now=NOW + HOUR)
    assert [record.text for record in after.records] == ["Mia: Hi."]
    assert body(before.records[0]) != body(after.records[0])


@pytest.mark.parametrize(
    "unready",
    [
        {"is_live": True},
        {"sentences": None, "status": "processing"},
        {"sentences": [], "status": "processing"},
    ],
)
async def test_a_meeting_that_is_not_ready_is_waited_for(unready: dict[str, Any]) -> None:
    """A late transcript is not lost: a meeting that runs, or is being transcribed, stays pending, and is asked for by
    its id when the list does not show it any more."""
    vendor = FakeFireflies([meeting(1, at=NOW - HOUR, **unready), meeting(2)])
    first = await read(CASE, vendor)
    assert first.ids == {id_of(2)}
    assert first.checkpoint["pending"] == {id_of(1): "2026-11-02T09:00:00+00:00"}
    assert first.set_aside == []
    vendor.meetings = [meeting(1, at=NOW - 30 * DAY), meeting(2)]
    vendor.asked.clear()
    then = await read(CASE, vendor, first.checkpoint, now=NOW + DAY)
    assert id_of(1) in then.ids
    assert [each["transcriptId"] for each in vendor.variables if "transcriptId" in each] == [id_of(1)]
    assert then.checkpoint["pending"] == {}


async def test_a_live_meeting_costs_no_call_for_its_captions() -> None:
    """What would be thrown away is not asked for: the sentences of a meeting that still runs."""
    vendor = FakeFireflies([meeting(1, is_live=True)])
    await read(CASE, vendor)
    assert not any(each["words"] for each in vendor.variables)


async def test_a_pending_meeting_is_asked_for_once_a_reading() -> None:
    """One that the list still shows costs no call of its own."""
    vendor = FakeFireflies([meeting(1, at=NOW - HOUR, is_live=True)])
    first = await read(CASE, vendor)
    vendor.meetings = [meeting(1, at=NOW - HOUR)]
    vendor.asked.clear()
    then = await read(CASE, vendor, first.checkpoint, now=NOW + HOUR)
    assert then.ids == {id_of(1)}
    assert not any("transcriptId" in each for each in vendor.variables)
    assert then.checkpoint["pending"] == {}


async def test_a_transcript_that_never_comes_is_given_up() -> None:
    """Nobody waits for ever: after `overlap` the meeting is set aside with the reason, and not asked for again."""
    vendor = FakeFireflies([meeting(1, at=NOW - HOUR, is_live=True)])
    done = await read(CASE, vendor)
    still = await read(CASE, vendor, done.checkpoint, now=NOW + 6 * DAY)
    assert (still.set_aside, list(still.checkpoint["pending"])) == ([], [id_of(1)])  # type: ignore[arg-type]
    over = await read(CASE, vendor, still.checkpoint, now=NOW + 7 * DAY)
    [aside] = over.set_aside
    assert aside.place == f"Fireflies meeting {id_of(1)}"
    assert "given up" in aside.reason
    vendor.asked.clear()
    gone = await read(CASE, vendor, over.checkpoint, now=NOW + 8 * DAY)
    assert (gone.set_aside, gone.checkpoint["pending"], len(vendor.asked)) == ([], {}, 1)


async def test_a_deleted_meeting_is_waited_for_no_more() -> None:
    """A pending meeting that was deleted is forgotten: `object_not_found` is no error of the reading."""
    vendor = FakeFireflies([meeting(1, at=NOW - HOUR, is_live=True)])
    first = await read(CASE, vendor)
    vendor.meetings = []
    then = await read(CASE, vendor, first.checkpoint, now=NOW + HOUR)
    assert (then.error, then.ids, then.checkpoint["pending"]) == (None, set(), {})


async def test_a_silent_meeting_is_passed_over() -> None:
    """A meeting in which nothing was said is no evidence, and no trouble: it counts as skipped and costs no call."""
    silent = {"silent_meeting": True, "summary_status": "skipped"}
    vendor = FakeFireflies([meeting(1, meeting_info=silent, sentences=[])])
    done = await read(CASE, vendor)
    assert (done.ids, done.set_aside, done.checkpoint["pending"]) == (set(), [], {})
    assert sum(page.filtered for page in done.pages) == 1
    assert [asked["words"] for asked in vendor.variables] == [False]


async def test_a_meeting_without_a_summary_may_have_words() -> None:
    """Fireflies skips the summary of a silent meeting, and of others too, on some plans: it is looked at."""
    vendor = FakeFireflies([meeting(1, status="skipped", sentences=[]), meeting(2, status="skipped")])
    done = await read(CASE, vendor)
    assert (done.ids, done.set_aside, done.checkpoint["pending"]) == ({id_of(2)}, [], {})
    assert sum(page.filtered for page in done.pages) == 1


@pytest.mark.parametrize("status", ["processed", "failed", "default", None])
async def test_a_meeting_without_words_is_set_aside(status: str | None) -> None:
    """Everything is explained: a finished meeting without sentences is set aside, and comes when it has some."""
    vendor = FakeFireflies([meeting(1, at=NOW - HOUR, status=status, sentences=None), meeting(2)])
    first = await read(CASE, vendor)
    assert first.ids == {id_of(2)}
    [aside] = first.set_aside
    assert id_of(1) in aside.place
    assert str(status or "nothing") in aside.reason
    vendor.meetings = [meeting(1, at=NOW - HOUR)]
    assert (await read(CASE, vendor, first.checkpoint, now=NOW + 6 * HOUR)).ids == {id_of(1)}


@pytest.mark.parametrize("status", ["processed", "skipped"])
async def test_a_meeting_without_words_costs_a_call_once_in_six_hours(status: str) -> None:
    """Where a plan has 50 calls a day, meetings that have nothing to say must not take them all."""
    vendor = FakeFireflies([meeting(1, status=status, sentences=[])])
    done = await read(CASE, vendor)
    for hours, words in ((2, [False]), (5, [False]), (6, [False, True]), (11, [False]), (12, [False, True])):
        vendor.asked.clear()
        done = await read(CASE, vendor, done.checkpoint, now=NOW + hours * HOUR)
        assert [asked["words"] for asked in vendor.variables] == words, hours
        assert sum(page.filtered for page in done.pages) + len(done.set_aside) == 1


async def test_only_what_is_listed_again_is_remembered() -> None:
    """A first reading of many wordless meetings leaves a small checkpoint."""
    old = [meeting(number, at=NOW - 8 * DAY, sentences=[]) for number in range(1, 40)]
    done = await read(CASE, FakeFireflies([*old, meeting(50, sentences=[])]))
    assert len(done.set_aside) == 40
    assert list(done.checkpoint["wordless"]) == [id_of(50)]


async def test_what_moves_between_two_calls_is_asked_for_by_its_id() -> None:
    """Offsets shift when a meeting is deleted: one that slipped out of the call for sentences comes all the same."""
    vendor = FakeFireflies([meeting(number) for number in range(1, 21)])

    def answers(request: httpx.Request) -> httpx.Response:
        if len(vendor.asked) == 1:  # between the list and the first sentences
            vendor.meetings = [each for each in vendor.meetings if each["id"] != id_of(20)]
        return vendor(request)

    done = await read(CASE, answers)
    assert done.error is None
    assert done.ids == {id_of(number) for number in range(1, 20)}
    assert done.checkpoint["pending"] == {}


@pytest.mark.parametrize(
    ("code", "status", "means"),
    [
        ("auth_failed", None, 401),
        ("paid_required", 403, 403),
        ("account_cancelled", None, 403),
        ("not_in_team", None, 403),
        ("object_not_found", 404, 404),
        ("invalid_arguments", 400, 400),
        ("request_timeout", 408, 504),
        ("too_many_requests", 429, 429),
        ("something_new", 418, 418),
        ("something_new", 200, 400),
        ("something_new", None, 400),
    ],
)
@pytest.mark.parametrize("http", [200, 500])
def test_errors_are_known_by_their_code(http: int, code: str, status: int | None, means: int) -> None:
    """The status is not trusted: an error under 200 or 500 is what its code says."""
    answer = refused(code, "No", http=http, status=status)
    unknown = (code, http) == ("something_new", 500) and status != 418
    assert CASE.connector.status_of(answer) == (500 if unknown else means)


def test_the_code_may_stand_in_the_extensions_alone() -> None:
    """An error without a code of its own is known by that of its extensions."""
    answer = answered({"errors": [{"message": "No", "extensions": {"code": "auth_failed"}}]})
    assert CASE.connector.status_of(answer) == 401


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda more: st.lists(more, max_size=3)))
def test_no_error_is_too_strange(thing: Any) -> None:
    """Whatever stands in an error, its answer has some status and asks for no impossible wait."""
    for errors in (thing, [thing], [{"code": thing}], [{"extensions": thing}], [{"extensions": {"metadata": thing}}]):
        answer = answered({"errors": errors})
        assert 200 <= CASE.connector.status_of(answer) < 600
        assert CASE.connector.asks_to_wait(answer, NOW) is None
        CASE.connector.advice(answer)
    answer = answered({"errors": [{"extensions": {"metadata": {"retryAfter": thing}}}]})
    assert (CASE.connector.asks_to_wait(answer, NOW) or timedelta(0)) >= timedelta(0)


async def test_an_answer_without_data_is_no_empty_account() -> None:
    """A 2xx without data moves no checkpoint: the reading stops and names what is missing."""
    for strange in ({"data": None}, {"data": {}}, {"data": {"transcripts": None}}, {}):
        done = await read(CASE, lambda _, strange=strange: httpx.Response(200, json=strange))
        assert isinstance(done.error, ShapeChanged)
        assert "data" in str(done.error)
        assert done.pages == []


async def test_a_used_up_quota_says_when_it_is_full_again() -> None:
    """The vendor's own word is kept: `retryAfter` is an instant in milliseconds, and ends the reading until then."""
    until = datetime(2026, 11, 3, 0, 0, tzinfo=UTC)
    used_up = refused("too_many_requests", "Too many requests", retryAfter=int(until.timestamp() * 1000))
    done = await read(CASE, lambda _: used_up)
    assert isinstance(done.error, RateLimited)
    assert done.error.until == until
    assert "every: 2h" in str(done.error)


async def test_a_short_wait_is_waited_out() -> None:
    """A 429 under HTTP 200 in the middle costs its wait, and no record."""
    soon = refused("too_many_requests", "Slowly", retryAfter=int((NOW + timedelta(seconds=40)).timestamp() * 1000))
    done = await read(CASE, instead(FakeFireflies([meeting(1)]), soon))
    assert (done.error, done.ids) == (None, {id_of(1)})
    assert done.waited == pytest.approx(40)


async def test_the_last_call_of_a_minute_is_followed_by_a_rest() -> None:
    """None left: the next call waits until `x-ratelimit-reset-api`, so that it is not refused."""
    vendor = FakeFireflies([meeting(1)])

    def answers(request: httpx.Request) -> httpx.Response:
        given = vendor(request)
        given.headers.update(quota(0 if len(vendor.asked) == 1 else 59, "17"))
        return given

    done = await read(CASE, answers)
    assert (done.error, done.ids, done.waited) == (None, {id_of(1)}, 17)


@pytest.mark.parametrize(("left", "reset"), [(1, "17"), (0, "1793610000"), (0, "soon")])
def test_an_unknown_reset_is_no_rest(left: int, reset: str) -> None:
    """What the header means is not documented: only a few digits are read as seconds, and only when none is left."""
    answer = httpx.Response(200, json={"data": {}}, headers=quota(left, reset))
    assert CASE.connector.asks_to_wait(answer, NOW) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("auth_failed", "does not know this key"),
        ("paid_required", "plan"),
        ("account_cancelled", "cancelled"),
        ("not_in_team", "team"),
    ],
)
async def test_a_refusal_is_explained(code: str, words: str) -> None:
    """What is wrong is said in the vendor's terms, though it comes under HTTP 200 or 500."""
    done = await read(CASE, lambda _: refused(code, "No", http=500))
    assert isinstance(done.error, CredentialsRefused)
    assert words in str(done.error)


async def test_a_proxy_is_asked_instead() -> None:
    """`base_url` is the only place that is asked, and the only one that sees the key."""
    connector = fireflies(base_url="http://127.0.0.1:9/fireflies")
    assert connector.hosts() == {"127.0.0.1:9"}
    asked: list[str] = []

    def answers(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json={"data": {"transcripts": []}})

    await read(CASE, answers, connector=connector)
    assert asked == ["http://127.0.0.1:9/fireflies/graphql"]


@pytest.mark.parametrize("wrong", [{}, {"api_key": "x", "calls_per_minute": 0}, {"api_key": "x", "overlap": "-1d"}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    """A setting that cannot work is refused before anything is asked."""
    with pytest.raises(ValidationError):
        type(CASE.connector)(**wrong)


@given(st.text(min_size=1), st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False))
async def test_whatever_is_said_becomes_a_record_or_is_explained(name: str, words: str, at: float) -> None:
    """Hostile words, names and times stop nothing: a meeting comes, or is set aside with its reason."""
    said = sentences((name, words, at))
    done = await read(CASE, FakeFireflies([meeting(1, title=name, sentences=said), meeting(2)]))
    assert done.error is None
    assert id_of(2) in done.ids
    assert (id_of(1) in done.ids) != any(id_of(1) in item.place for item in done.set_aside)
