"""Zoom: what exactly is made of its recordings, and what its API has of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from syncd.connector import CredentialsRefused, Link, Organisation, Person, RateLimited, SourceError, Window
from syncd.promises import Read, read
from syncd.signals import compose
from tests.connectors.vendors import SECRET
from tests.connectors.vendors.zoom import CASE, NOW, SAM, TOKEN, VTT, FakeZoom, file, meeting, refused, uuid_of, zoom

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def spoken(words: str, speaker: str = "Mia") -> str:
    """A VTT of one cue."""
    return f"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n{speaker}: {words}\n"


def fresh(number: int = 1, **more: Any) -> dict[str, Any]:
    """A meeting that has just ended."""
    return meeting(number, at=NOW - HOUR, **more)


def instead(vendor: FakeZoom, part: str, answer: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    """The vendor, with this answer to every address that has this in it."""
    return lambda request: answer if part in request.url.path else vendor(request)


def listed(done: Read) -> list[tuple[str, str]]:
    """The spans that recordings were listed for."""
    calls = [request.url.params for _, request in done.calls if request.url.path.endswith("/recordings")]
    return [(each["from"], each["to"]) for each in calls]


async def test_a_record_says_everything_once() -> None:
    """A recording becomes exactly this: who said what and when, the host, where it can be opened, when it began."""
    at = datetime(2026, 10, 28, 14, 0, 12, tzinfo=UTC)
    [record] = (await read(CASE, FakeZoom([meeting(7, at=at)]))).records
    assert (record.id, record.kind, record.title, record.occurred_at) == (
        "Qk3+b/0007dEF12g==",
        "transcript",
        "Globex onboarding 7",
        at,
    )
    assert record.text == ("Mia Ortiz: The export ends early. Every time.\n\n[0:06:00]\n\nSam: We will look into it.")
    assert record.links == (Link("https://zoom.us/rec/share/7", "Open Zoom recording", "transcript", primary=True),)
    assert record.people == (
        Person(None, "sam@acme.test", "host"),
        Person("Mia Ortiz", None, "speaker"),
        Person("Sam", None, "speaker"),
    )
    assert record.attributes == {"meetingNumber": "81234567890", "minutes": 42, "host": "sam@acme.test"}
    assert record.version == file(7)["id"]
    assert compose(record, CASE.source).external_id == "zoom:aBcACME:Qk3+b/0007dEF12g=="
    assert CASE.connector.provider == "zoom"


async def test_a_recording_that_is_not_shared_is_linked_by_its_file() -> None:
    """A link is there to open as long as Zoom gives any."""
    [record] = (await read(CASE, FakeZoom([fresh(share_url=None)]))).records
    assert [link.url for link in record.links] == ["https://zoom.us/rec/play/1"]


async def test_meetings_of_a_series_stay_apart() -> None:
    """The number of a meeting comes again with every meeting of its series; the uuid does not, and is the id."""
    done = await read(CASE, FakeZoom([meeting(8), meeting(9)]))
    assert {record.attributes["meetingNumber"] for record in done.records} == {"81234567890"}
    assert done.ids == {uuid_of(8), uuid_of(9)}


async def test_several_transcripts_are_one_text() -> None:
    """A recording that was stopped and went on is read in the order of its parts, whatever order they are listed in."""
    parts = [
        file(2, recording_start="2026-11-02T08:20:00Z"),
        file(1, recording_start="2026-11-02T08:00:00Z"),
    ]
    vendor = FakeZoom(
        [fresh(recording_files=parts)], files={"1": spoken("First.", "Mia"), "2": spoken("Second.", "Sam")}
    )
    [record] = (await read(CASE, vendor)).records
    assert record.text == "Mia: First.\n\n[0:20:01]\n\nSam: Second."
    assert record.version == f"{file(1)['id']} {file(2)['id']}"


async def test_the_account_is_read_in_spans_of_thirty_days() -> None:
    """Nothing lies between two spans, none is longer than Zoom lets it be, and a first reading goes back 180 days."""
    done = await read(CASE, FakeZoom([]))
    spans = [(date.fromisoformat(first), date.fromisoformat(last)) for first, last in dict.fromkeys(listed(done))]
    assert spans[0][0] == NOW.date() - timedelta(days=180)
    assert spans[-1][1] == NOW.date()
    assert all(last - first < timedelta(days=30) for first, last in spans)
    assert all(later[0] - earlier[1] == DAY for earlier, later in pairwise(spans))
    assert len(listed(done)) == 2 * len(spans)  # for each of the two users


async def test_each_reading_goes_back() -> None:
    """A transcript that was added late is not lost: the next reading lists from `overlap` before the last one on."""
    vendor = CASE.full()
    first = await read(CASE, vendor)
    assert first.checkpoint == {"read_until": "2026-11-02T09:00:00+00:00"}
    again = await read(CASE, vendor, first.checkpoint, now=NOW + DAY)
    assert set(listed(again)) == {("2026-10-26", "2026-11-03")}
    assert again.checkpoint == {"read_until": "2026-11-03T09:00:00+00:00"}


async def test_a_window_is_asked_for_and_no_more() -> None:
    """`since` and `until` bound what is listed."""
    vendor = CASE.full()
    window = Window(NOW, since=datetime(2026, 10, 3, 15, tzinfo=UTC), until=datetime(2026, 10, 13, 12, tzinfo=UTC))
    connector = zoom(users=[SAM])
    async with httpx.AsyncClient(transport=httpx.MockTransport(vendor), auth=connector.auth()) as http:
        pages = [page async for page in connector.fetch(http, {}, window)]
    [path] = vendor.paths("/recordings")  # type: ignore[attr-defined]
    assert "from=2026-10-03&to=2026-10-13" in path
    assert {record.id for page in pages for record in page.records} == {uuid_of(7)}


async def test_the_list_is_read_before_the_files() -> None:
    """A page token lasts 15 minutes: no file is downloaded while a list is half read, nor after it was given away."""
    done = await read(CASE, FakeZoom([meeting(9, uuid=f"u{number}") for number in range(7)], page=1))
    assert done.error is None
    assert len(done.ids) == 7


async def test_the_named_users_alone_are_asked_for() -> None:
    """With `users` nobody else's recordings are read, and the scope to list users is not needed."""
    vendor = CASE.full()
    done = await read(CASE, vendor, connector=zoom(users=["Sam@acme.test"]))
    assert done.ids == {uuid_of(number) for number in range(1, 10) if number % 3 != 2}
    assert vendor.paths("/v2/users?") == []  # type: ignore[attr-defined]
    assert all("/users/Sam%40acme.test/recordings" in path for path in vendor.paths("/recordings"))  # type: ignore[attr-defined]


async def test_a_misspelt_user_is_named() -> None:
    """A user that Zoom does not know stops the reading with their name: nobody is passed over in silence."""
    done = await read(CASE, CASE.full(), connector=zoom(users=["sam@amce.test"]))
    assert isinstance(done.error, SourceError)
    assert "sam@amce.test" in str(done.error)


async def test_a_user_who_left_meanwhile_stops_nothing() -> None:
    """A user of the list who is gone when asked for is passed over."""
    done = await read(CASE, instead(CASE.full(), f"/users/{SAM}/", refused(404, 1001, "User does not exist")))
    assert done.error is None
    assert done.ids == {uuid_of(number) for number in range(1, 10) if number % 3 == 2}


UNREADY = {
    "none yet": [file(1, "M4A")],
    "processing": [file(1, status="processing")],
    "zero bytes": [file(1, file_size=0)],
    "captions only": [file(1, "CC")],
    "one of two parts": [file(1, "M4A"), file(2, "M4A"), file(1)],
    "one of two ready": [file(1), file(2, status="processing")],
}


@pytest.mark.parametrize("files", UNREADY.values(), ids=UNREADY)
async def test_a_transcript_that_is_not_ready_is_waited_for(files: list[dict[str, Any]]) -> None:
    """A meeting shows up before its transcript does: it is passed over, and comes with a later reading."""
    vendor = FakeZoom([fresh(recording_files=files)])
    first = await read(CASE, vendor)
    assert (first.error, first.ids, first.set_aside) == (None, set(), [])
    assert sum(page.filtered for page in first.pages) == 1
    assert vendor.paths("/rec/download/") == []
    vendor.meetings = [fresh()]
    assert (await read(CASE, vendor, first.checkpoint, now=NOW + DAY)).ids == {uuid_of(1)}


async def test_a_file_without_a_byte_is_not_ready() -> None:
    """Zoom serves empty files at times: such a meeting is waited for like one without a transcript."""
    vendor = FakeZoom([fresh()], files={"1": " \n"})
    first = await read(CASE, vendor)
    assert (first.error, first.ids, first.set_aside) == (None, set(), [])
    vendor.files = {}
    assert (await read(CASE, vendor, first.checkpoint, now=NOW + DAY)).ids == {uuid_of(1)}


@pytest.mark.parametrize("kind", ["none yet", "processing", "zero bytes"])
async def test_a_transcript_that_never_comes_is_given_up_once(kind: str) -> None:
    """After `patience` the meeting is set aside with the reason, by one reading; a transcript that comes later still
    is taken, as long as the meeting is listed."""
    vendor = FakeZoom([fresh(recording_files=UNREADY[kind])])
    done = await read(CASE, vendor)
    told = []
    for days in range(1, 7):
        done = await read(CASE, vendor, done.checkpoint, now=NOW + days * DAY)
        told.append([aside.place for aside in done.set_aside])
    assert told == [[], [], [f"Zoom meeting {uuid_of(1)}"], [], [], []]
    vendor.meetings = [fresh()]
    assert (await read(CASE, vendor, done.checkpoint, now=NOW + 7 * DAY)).ids == {uuid_of(1)}


@pytest.mark.parametrize("kind", ["captions only", "one of two parts", "one of two ready"])
async def test_what_there_is_goes_out_after_the_patience(kind: str) -> None:
    """Live captions, or a part of the transcript, are better than nothing, once nothing better is to be hoped for."""
    vendor = FakeZoom([fresh(recording_files=UNREADY[kind])], files={"1": spoken("Live.")})
    first = await read(CASE, vendor)
    then = await read(CASE, vendor, first.checkpoint, now=NOW + 3 * DAY)
    assert [record.text for record in then.records] == ["Mia: Live."]


async def test_a_transcript_goes_before_captions() -> None:
    """Where there are both, the transcript is what is read."""
    vendor = FakeZoom([fresh(recording_files=[file(2, "CC"), file(1)])])
    await read(CASE, vendor)
    assert vendor.paths("/rec/download/") == ["/rec/download/1"]


async def test_another_file_is_another_version() -> None:
    """A transcript that was made anew is noticed by the id of its file, and read again."""
    vendor = FakeZoom([fresh()], files={"2": spoken("Corrected.")})
    first = await read(CASE, vendor)
    vendor.meetings = [fresh(recording_files=[file(2)])]
    known: dict[str, str | None] = {record.id: record.version for record in first.records}
    again = await read(CASE, vendor, first.checkpoint, known=known, now=NOW + DAY)
    assert [record.text for record in again.records] == ["Mia: Corrected."]
    assert compose(first.records[0], CASE.source).body != compose(again.records[0], CASE.source).body


@pytest.mark.parametrize(
    "answer",
    [
        refused(404, 3301, "There is no recording for this meeting."),
        refused(410, 0, "Gone"),
        refused(400, 3301, "There is no recording for this meeting."),
    ],
)
async def test_a_recording_that_was_deleted_is_passed_over(answer: httpx.Response) -> None:
    """Files vanish between the list and the download: that is no error, and never imported."""
    done = await read(CASE, FakeZoom([fresh(1), fresh(2)], files={"1": answer}))
    assert (done.error, done.ids, done.set_aside) == (None, {uuid_of(2)}, [])
    assert sum(page.filtered for page in done.pages) == 1


@pytest.mark.parametrize("text", ["<html>Sign in</html>", "WEBVTT\n\n", "WEBVTT\n\n00:xx --> 00:02.000\nMia: Hi.\n"])
async def test_what_is_no_transcript_is_set_aside(text: str) -> None:
    """A file that says nothing, or is something else, is set aside with its meeting and the reason."""
    done = await read(CASE, FakeZoom([fresh(1), fresh(2)], files={"1": text}))
    assert (done.error, done.ids) == (None, {uuid_of(2)})
    assert [aside.place for aside in done.set_aside] == [f"Zoom meeting {uuid_of(1)}"]


async def test_the_token_goes_to_zoom_alone() -> None:
    """Recordings are on many hosts below zoom.us, which get the token; another host is not even asked."""
    far = fresh(recording_files=[file(1, download_url="https://us02web.zoom.us/rec/download/1")])
    assert (await read(CASE, FakeZoom([far]))).ids == {uuid_of(1)}
    for address in ("https://zoom.us.evil.test/rec/download/1", "https://evilzoom.us/rec/download/1"):
        done = await read(CASE, FakeZoom([fresh(recording_files=[file(1, download_url=address)])]))
        assert isinstance(done.error, SourceError)
        assert done.error.code == "host_refused"
        assert not [request for _, request in done.calls if request.url.host.endswith(("evil.test", "evilzoom.us"))]


async def test_a_redirect_takes_no_token_along() -> None:
    """A download may lead to another host below zoom.us: it is followed, and our token stays behind."""
    elsewhere = "https://ssrweb.zoom.us/replay/1.vtt?Policy=signed"
    vendor = FakeZoom([fresh()], files={"1": httpx.Response(302, headers={"Location": elsewhere})})
    seen: list[httpx.Headers] = []

    def answers(request: httpx.Request) -> httpx.Response:
        if request.url.host != "ssrweb.zoom.us":
            return vendor(request)
        seen.append(request.headers)
        return httpx.Response(200, text=VTT)

    done = await read(CASE, answers)
    assert done.ids == {uuid_of(1)}
    assert ["authorization" in headers for headers in seen] == [False]


async def test_a_token_is_fetched_once_and_anew_when_it_is_refused() -> None:
    """One token serves many requests; a 401 in the middle costs another one, and no record."""
    vendor = CASE.full()
    await read(CASE, vendor)
    assert len(vendor.paths("/oauth/token")) == 1  # type: ignore[attr-defined]
    assert SECRET not in "".join(str(request.url) for request in vendor.asked)
    once = [refused(401, 124, "Access token is expired.")]
    vendor = CASE.full()
    done = await read(CASE, lambda request: once.pop() if once and "/rec/" in request.url.path else vendor(request))
    assert (done.error, done.ids) == (None, CASE.ids)
    assert len(vendor.paths("/oauth/token")) == 2  # type: ignore[attr-defined]


async def test_a_proxy_is_asked_instead() -> None:
    """With `base_url` and `token_url` only their hosts are asked, for the files as well."""
    connector = zoom(base_url="http://127.0.0.1:9/v2", token_url="http://127.0.0.1:10/oauth/token", users=[SAM])
    assert connector.hosts() == {"127.0.0.1:9", "127.0.0.1:10"}
    assert "zoom.us" in zoom(base_url="http://127.0.0.1:9/v2").hosts()  # for its tokens
    asked: set[str] = set()
    files = [file(1, download_url="http://127.0.0.1:9/rec/download/1")]
    vendor = FakeZoom([fresh(recording_files=files)])

    def answers(request: httpx.Request) -> httpx.Response:
        asked.add(f"{request.url.host}:{request.url.port}")
        at = {10: "zoom.us", 9: "zoom.us" if "/rec/" in request.url.path else "api.zoom.us"}[request.url.port or 0]
        return vendor(httpx.Request(request.method, request.url.copy_with(host=at), headers=request.headers))

    done = await read(CASE, answers, connector=connector)
    assert (done.error, done.ids) == (None, {uuid_of(1)})
    assert asked == {"127.0.0.1:9", "127.0.0.1:10"}


PARTICIPANTS = (
    {"id": "1", "name": "Mia Ortiz", "user_email": "Mia@globex.test"},
    {"id": "", "name": "Lee", "user_email": ""},
    {"id": SAM, "name": "Sam", "user_email": "sam@acme.test"},
    {"id": "1", "name": "Mia Ortiz", "user_email": "Mia@globex.test"},  # she came back
    {"id": "2", "name": None, "user_email": None},
)


async def test_participants_are_asked_for_when_they_are_wanted() -> None:
    """With `participants` everybody who was there is named once, with the address where Zoom knows it."""
    vendor = FakeZoom([fresh()], participants=PARTICIPANTS)
    [record] = (await read(CASE, vendor, connector=zoom(participants=True))).records
    assert record.people == (
        Person("Sam", "sam@acme.test", "host"),
        Person("Mia Ortiz", "mia@globex.test", "customer"),
        Person("Lee", None, "participant"),
    )
    assert record.organisation == Organisation(domain="globex.test")
    vendor = FakeZoom([fresh()], participants=PARTICIPANTS)
    await read(CASE, vendor)
    assert vendor.paths("/past_meetings/") == []


@pytest.mark.parametrize(
    ("uuid", "path"),
    [
        ("a+b/c==", "a%2Bb%2Fc%3D%3D"),
        ("/ab/c==", "%252Fab%252Fc%253D%253D"),
        ("ab//c==", "ab%252F%252Fc%253D%253D"),
    ],
)
async def test_a_uuid_is_encoded_as_zoom_wants_it(uuid: str, path: str) -> None:
    """Once, and twice where it begins with a slash or has two in a row: Zoom takes it for another address otherwise."""
    vendor = FakeZoom([fresh(uuid=uuid)], participants=PARTICIPANTS)
    done = await read(CASE, vendor, connector=zoom(participants=True))
    assert done.ids == {uuid}
    assert set(vendor.paths("/past_meetings/")) >= {f"/v2/past_meetings/{path}/participants?page_size=300"}


@pytest.mark.parametrize(
    "answer", [refused(404, 3001, "Meeting does not exist"), refused(400, 12702, "Can not access a meeting a year ago")]
)
async def test_participants_that_are_gone_cost_no_record(answer: httpx.Response) -> None:
    """A meeting whose participants Zoom has forgotten, or tells no more, comes without them."""
    done = await read(CASE, instead(FakeZoom([fresh()]), "/past_meetings/", answer), connector=zoom(participants=True))
    assert done.ids == {uuid_of(1)}


FORBIDDEN = httpx.Response(403, json={"status": False, "errorCode": 300, "errorMessage": "Forbidden"})


@pytest.mark.parametrize("others", [0, 2])
async def test_a_file_that_may_not_be_downloaded_stops_no_other(others: int) -> None:
    """One recording that its host has locked away is set aside, and the connector goes on."""
    meetings = [fresh(number) for number in range(1, 2 + others)]
    done = await read(CASE, FakeZoom(meetings, files={"1": FORBIDDEN}))
    assert (done.error, done.ids) == (None, {uuid_of(number) for number in range(2, 2 + others)})
    assert [item.place for item in done.set_aside] == [f"Zoom meeting {uuid_of(1)}"]


async def test_files_of_which_none_may_be_downloaded_stop_the_reading() -> None:
    """Then it is the app that lacks something, and no recording is passed over for it."""
    done = await read(CASE, FakeZoom([fresh(1), fresh(2)], files={"1": FORBIDDEN, "2": FORBIDDEN}))
    assert isinstance(done.error, CredentialsRefused)
    assert (done.ids, done.set_aside) == (set(), [])


async def test_files_that_stay_locked_stop_no_later_reading() -> None:
    """Where another one was handed out before, it is not the app."""
    vendor = FakeZoom([fresh(1), fresh(2), fresh(3)], files={"1": FORBIDDEN, "2": FORBIDDEN})
    first = await read(CASE, vendor)
    known = {record.id: record.version for record in first.records}
    again = await read(CASE, vendor, first.checkpoint, known=known)
    assert (again.error, len(again.set_aside)) == (None, 2)


REFUSALS = {
    "a wrong secret": (
        httpx.Response(400, json={"reason": "Bad", "error": "invalid_client"}),
        "Server-to-Server OAuth",
    ),
    "a token refused": (refused(401, 124, "Invalid access token."), "deactivated"),
    "no scope": (
        refused(400, 4711, "Invalid access token, does not contain scopes"),
        "cloud_recording:read:list_user_recordings:admin",
    ),
    "no licence": (refused(403, 200, "No permission."), "paid plan"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_is_explained(name: str) -> None:
    """What is wrong is said in Zoom's terms, and stops the connector until its credentials change."""
    answer, words = REFUSALS[name]
    done = await read(CASE, instead(CASE.full(), "/oauth/" if "secret" in name else "/v2/", answer))
    assert isinstance(done.error, CredentialsRefused)
    assert words in str(done.error)


async def test_the_wrong_secret_of_this_vendor_is_explained() -> None:
    """The answer of the token endpoint itself is sorted as a refusal of our credentials."""
    done = await read(CASE, CASE.full(), connector=zoom(client_secret="wrong"))
    assert isinstance(done.error, CredentialsRefused)
    assert "Server-to-Server OAuth" in str(done.error)
    assert TOKEN not in str(done.error)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Retry-After": "2026-11-03T00:00:00Z"}, "Too many"),
        ({}, "You have reached the daily rate limit for this API"),
        ({"X-RateLimit-Type": "Daily-limit"}, "Too many"),
    ],
)
async def test_a_used_up_day_ends_at_midnight(headers: dict[str, str], message: str) -> None:
    """The daily limit ends the reading until midnight UTC, whether Zoom names the time, as ISO 8601, or does not."""
    done = await read(CASE, instead(CASE.full(), "/v2/", refused(429, 429, message, **headers)))
    assert isinstance(done.error, RateLimited)
    assert done.error.until == datetime(2026, 11, 3, tzinfo=UTC)


async def test_a_used_up_second_is_waited_out() -> None:
    """A 429 of the limit per second says no time, and is not taken for the day's."""
    answer = refused(429, 429, "You have reached the maximum per-second rate limit")
    assert CASE.connector.asks_to_wait(answer, NOW) is None


@pytest.mark.parametrize(
    ("users", "seen"),
    [((), "the recordings of Sam@acme.test can be listed"), ((SAM,), f"the recordings of {SAM} can be listed")],
)
async def test_the_check_lists_recordings(users: tuple[str, ...], seen: str) -> None:
    """The check needs every scope that a reading needs, and finds out before it does."""
    vendor = CASE.full()
    connector = zoom(users=users)
    async with httpx.AsyncClient(transport=httpx.MockTransport(vendor), auth=connector.auth()) as http:
        assert await connector.check(http) == seen
    assert len(vendor.paths("/recordings")) == 1  # type: ignore[attr-defined]
    assert bool(vendor.paths("/v2/users?")) == (not users)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "wrong", [{"overlap": "3d"}, {"patience": "7d"}, {"calls_per_second": 0}, {"token_url": "zoom.us"}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    """A setting that would lose records is refused: a meeting has to be listed until it is given up."""
    with pytest.raises(ValidationError):
        zoom(**wrong)


ONE = dataclasses.replace(CASE, connector=zoom(users=[SAM]))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
WILD = st.none() | st.booleans() | st.integers() | FINITE | st.text() | st.lists(st.integers(), max_size=2)


@settings(max_examples=60)
@given(
    st.dictionaries(st.sampled_from(sorted(file(1))), WILD),
    st.dictionaries(st.sampled_from(["id", "topic", "duration", "host_email", "share_url", "recording_files"]), WILD),
    st.text(),
)
async def test_nothing_that_zoom_sends_stops_the_others(files: Any, more: Any, words: str) -> None:
    """Whatever stands in one recording, the others come, and it comes itself or is explained or waited for."""
    files.pop("download_url", None)  # that one is tried above
    odd = fresh(1, **({"recording_files": [file(1) | files]} | more))
    given = FakeZoom([odd, fresh(2)], files={"1": f"WEBVTT\n\n00:01.000 --> 00:02.000\n{words}\n"})
    done = await read(ONE, given, {"read_until": NOW.isoformat()})
    assert done.error is None
    assert uuid_of(2) in done.ids
