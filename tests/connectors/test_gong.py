"""Gong: calls found by their start alone, transcripts that come hours later, and a 404 that means nothing found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import gong as module
from connectors.gong import Gong
from syncd.connector import CredentialsRefused, Link, Organisation, Person, RateLimited, Window
from syncd.promises import Read, read
from tests.connectors.vendors import SECRET, after, lent
from tests.connectors.vendors.gong import CASE, HOST, KEY, NOW, FakeGong, began, call, gong, ids, party, said

DAY = timedelta(days=1)
ONE = "7400000000000000029"


def silent(number: int) -> dict[str, Any]:
    """A call whose transcript is not made yet."""
    return call(number, transcript=None)


async def test_a_call_becomes_a_record_with_what_was_said_by_whom() -> None:
    """The record is exact: speakers by name, the time of the start in UTC, the customer told apart from the house."""
    done = await read(CASE, FakeGong([call(29)]))
    (record,) = done.records
    assert record.id == ONE
    assert record.kind == "transcript"
    assert record.title == "Renewal, round 29"
    assert record.text == "Ines: Hello Tom.\n\nTom: The export fails. On large files."
    assert record.occurred_at == began(29)
    assert record.links == (
        Link(f"https://us-777.app.gong.io/call?id={ONE}", "Open Gong call", "transcript", primary=True),
    )
    assert record.people == (
        Person("Ines", "ines@acme.test", "colleague"),
        Person("Tom", "Tom@Globex.test", "customer"),
    )
    assert record.organisation == Organisation(domain="globex.test")
    assert record.attributes == {
        "callId": ONE,
        "durationSeconds": 1805,
        "direction": "Conference",
        "system": "Zoom",
        "language": "eng",
    }
    assert CASE.connector.provider == "gong"


async def test_a_call_without_address_or_title_has_them_from_its_id() -> None:
    """What Gong leaves out is made up for by what it always has."""
    done = await read(CASE, FakeGong([call(29, url=None, title=None)]))
    assert done.records[0].links[0].url == f"https://app.gong.io/call?id={ONE}"
    assert done.records[0].title == f"Gong call {ONE}"


async def test_an_id_of_twenty_digits_stays_what_it_is() -> None:
    """An id is a text, also where a vendor writes it as a number: no digit of it is lost."""
    odd = call(29)
    odd["metaData"]["id"] = 18446744073709551557
    done = await read(CASE, lambda request: _with_number(FakeGong([odd])(request)))
    assert done.ids == {"18446744073709551557"}


async def test_times_are_milliseconds_from_the_start() -> None:
    """A long call is marked every five minutes, with the time that Gong gives in milliseconds."""
    late = [said("501", 0, "Hello."), said("502", 305_000, "Still here."), said("501", 2_400_000, "Bye.")]
    done = await read(CASE, FakeGong([call(29, transcript=late)]))
    assert done.records[0].text == "Ines: Hello.\n\n[0:05:05]\n\nTom: Still here.\n\n[0:40:00]\n\nInes: Bye."


async def test_speakers_that_nobody_knows_are_told_apart() -> None:
    """Two voices without a name are two; one without even a number is unknown; an address stands in for a name."""
    words = [said("1", 0, "A"), said("2", 1, "B"), said("1", 2, "C"), said(None, 3, "D"), said("3", 4, "E")]
    parties = [party("1", None, None, "Unknown"), party("3", None, "x@globex.test", "External")]
    done = await read(CASE, FakeGong([call(29, transcript=words, parties=parties)]))
    assert done.records[0].text.split("\n\n") == [
        "Speaker 1: A",
        "Speaker 2: B",
        "Speaker 1: C",
        "Unknown speaker: D",
        "x@globex.test: E",
    ]
    assert done.records[0].people == (Person(None, "x@globex.test", "customer"),)


@pytest.mark.parametrize(
    ("externals", "organisation"),
    [
        (["a@globex.test", "B@GLOBEX.test"], Organisation(domain="globex.test")),
        (["a@globex.test", "b@initech.test"], None),
        (["a@globex.test", "b@gmail.com"], Organisation(domain="globex.test")),
        ([None, "by phone"], None),
        ([], None),
    ],
)
async def test_the_customer_is_whoever_is_from_one_other_company(
    externals: list[str | None], organisation: Organisation | None
) -> None:
    """The company is named when one alone took part from outside."""
    parties = [party("501", "Ines", "ines@acme.test", "Internal"), party("7", "?", "who@where.test", "Unknown")]
    parties += [party(None, None, email, "External") for email in externals]
    done = await read(CASE, FakeGong([call(29, parties=parties)]))
    assert done.records[0].organisation == organisation


async def test_private_calls_are_imported_only_when_asked_for() -> None:
    """A call that somebody marked private is passed over, and its transcript is not even asked for."""
    vendor = FakeGong([call(28, isPrivate=True), call(29)])
    done = await read(CASE, vendor)
    assert done.ids == ids(29)
    assert sum(page.filtered for page in done.pages) == 1
    assert _asked_transcripts(vendor) == [sorted(ids(29))]
    everything = await read(replace(CASE, connector=gong(include_private=True)), vendor)
    assert everything.ids == ids(28, 29)


async def test_a_call_that_is_made_private_while_it_waits_is_not_imported() -> None:
    """Whether a call is private is looked at when it goes out, not when it was first seen."""
    first = await read(CASE, FakeGong([silent(1)]))
    assert _pending(first) == ids(1)
    second = await read(CASE, FakeGong([call(1, isPrivate=True)]), first.checkpoint)
    assert (second.ids, second.set_aside, _pending(second)) == (set(), [], set())


@pytest.mark.parametrize("workspace", ["43", 43])
async def test_one_workspace_is_read_where_it_is_named(workspace: str | int) -> None:
    """The calls of other workspaces are not asked for; its id may stand in the configuration as a number."""
    vendor = FakeGong([call(28), call(29, workspaceId="43")])
    done = await read(replace(CASE, connector=gong(workspace_id=workspace)), vendor)
    assert done.ids == ids(29)


async def test_a_first_reading_goes_by_spans_from_the_beginning() -> None:
    """Spans follow one another without a gap, none longer than it may be, up to just now; each is a checkpoint."""
    vendor = FakeGong([call(29)])
    done = await read(replace(CASE, connector=gong(span="90d")), vendor)
    spans = [_span(body) for kind, body in vendor.bodies if kind == "extensive"]
    assert spans[0][0] == datetime(2015, 1, 1, tzinfo=UTC)
    assert spans[-1][1] == NOW - timedelta(minutes=5)
    assert all(end - start <= 90 * DAY for start, end in spans)
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert [page.checkpoint["until"] for page in done.pages if not page.records] == [
        end.isoformat() for _, end in spans
    ]


async def test_a_first_reading_of_an_empty_company_takes_seconds() -> None:
    """More than ten years are a dozen calls."""
    vendor = FakeGong([])
    await read(replace(CASE, connector=Gong(access_key=KEY, access_key_secret=SECRET)), vendor)
    assert len(vendor.asked) == 12


async def test_a_span_that_is_too_long_is_asked_for_in_shorter_ones() -> None:
    """Should Gong take 90 days at most, nothing but one call is lost by having asked for more."""
    vendor = FakeGong([call(-300), call(29)], longest=90 * DAY)
    done = await read(CASE, vendor, {"until": (NOW - 400 * DAY).isoformat()})
    assert (done.error, done.ids) == (None, ids(-300, 29))
    spans = [_span(body) for kind, body in vendor.bodies if kind == "extensive"]
    assert [end - start > 90 * DAY for start, end in spans] == [True, *[False] * 5]


async def test_a_refusal_of_a_short_span_is_an_error() -> None:
    """What is wrong with it is something else, and asking again would not help."""
    refusal = httpx.Response(400, json={"requestId": "r", "errors": ["no"]})
    for since, asked in ((90, 1), (200, 2)):
        vendor = FakeGong([])
        start = {"until": (NOW - since * DAY + 14 * DAY - timedelta(minutes=5)).isoformat()}
        done = await read(CASE, after(0, vendor, refusal), start)
        assert isinstance(done.error, httpx.HTTPStatusError)
        assert len(done.calls) == asked


async def test_the_next_reading_goes_back_behind_the_one_before() -> None:
    """A call that is there only later, under an older start, is found up to the overlap exactly; the rest costs one
    call."""
    vendor = FakeGong([call(20)])
    first = await read(CASE, vendor)
    edge = NOW - timedelta(minutes=5) - 14 * DAY
    vendor.calls += [
        call(1, started=edge.isoformat()),
        call(2, started=(edge - timedelta(seconds=1)).isoformat()),
    ]
    vendor.asked.clear()
    second = await read(CASE, vendor, first.checkpoint, known=dict.fromkeys(ids(20)))
    assert second.ids == ids(1)
    assert [kind for kind, _ in vendor.bodies] == ["extensive", "transcript"]


async def test_since_and_until_bound_what_is_asked() -> None:
    """A look back asks for its span and for no more; nothing is asked before the operator's beginning."""
    vendor = FakeGong([call(number) for number in range(1, 30)])
    async with lent(CASE.connector, vendor, NOW) as http:
        window = Window(NOW, since=began(10), until=began(13))
        pages = [page async for page in CASE.connector.fetch(http, {}, window)]
    assert {record.id for page in pages for record in page.records} == ids(10, 11, 12)
    assert _span(vendor.bodies[0][1]) == (began(10), began(13))


async def test_the_cursor_stands_in_the_body_under_the_same_filter() -> None:
    """Where the cursor stands elsewhere, Gong gives page one for ever; where the filter moves, the pages do not fit."""
    vendor = FakeGong([call(number) for number in range(20, 30)])
    done = await read(CASE, vendor, {"until": (NOW - DAY).isoformat()})
    assert len(done.ids) == 10
    lists = [body for kind, body in vendor.bodies if kind == "extensive"]
    assert ["cursor" in body for body in lists] == [False, True, True, True]
    assert len({json.dumps(body["filter"]) for body in lists}) == 1


async def test_transcripts_are_asked_for_in_batches() -> None:
    """A hundred calls cost one call for their transcripts, and never more than a hundred are asked for at once."""
    vendor = FakeGong([_renumbered(number) for number in range(250)], page=1000)
    done = await read(CASE, vendor, {"until": NOW.isoformat()})
    assert len(done.ids) == 250
    assert [len(some) for some in _asked_transcripts(vendor)] == [100, 100, 50]


async def test_what_is_known_is_told_of_without_a_page_of_its_own() -> None:
    """Many pages without anything new are one word to the ledger, and nothing that looks like going in circles."""
    vendor = FakeGong([_renumbered(number) for number in range(330)])
    known = {each["metaData"]["id"]: None for each in vendor.calls}
    done = await read(CASE, vendor, {"until": NOW.isoformat()}, known=known)
    assert done.error is None
    assert [page.unchanged for page in done.pages] == [330]


async def test_what_waits_is_told_of_without_a_page_of_its_own() -> None:
    """Nor do calls that still have no transcript make a page each time, when they did once."""
    vendor = FakeGong([silent(number) for number in range(20, 30)])
    first = await read(CASE, vendor, {"until": (NOW - DAY).isoformat()})
    second = await read(CASE, vendor, first.checkpoint)
    assert [(page.records, page.checkpoint) for page in second.pages] == [((), first.checkpoint)]


async def test_a_bad_call_among_known_ones_is_set_aside() -> None:
    """A page without anything new may still have something to say."""
    vendor = FakeGong([call(28), call(29, started="soon")])
    done = await read(CASE, vendor, {"until": NOW.isoformat()}, known=dict.fromkeys(ids(28)))
    assert [item.place for item in done.set_aside] == [f"Gong call {ONE}"]


@pytest.mark.parametrize("transcript", [None, [], [{"speakerId": "501"}], [said("501", 0, " ")]])
@pytest.mark.parametrize("number", [29, 3], ids=["within the overlap", "long before it"])
async def test_a_transcript_that_is_not_made_yet_is_asked_for_again(transcript: Any, number: int) -> None:
    """A call without words is pending, and comes when they are there, also when no list shows it any more."""
    first = await read(CASE, FakeGong([call(28), call(number, transcript=transcript)]))
    assert (first.ids, first.set_aside, _pending(first)) == (ids(28), [], ids(number))
    second = await read(CASE, FakeGong([call(28), call(number)]), first.checkpoint, known=dict.fromkeys(ids(28)))
    assert second.ids == ids(number)
    assert second.records[0].title == f"Renewal, round {number}"
    assert _pending(second) == set()


async def test_a_transcript_before_its_call_is_no_error() -> None:
    """Gong may serve a transcript before it lists the call: the call waits until both are there."""
    first = await read(CASE, FakeGong([silent(3)]))
    hidden = FakeGong([call(3)])
    second = await read(CASE, _without_lists(hidden), first.checkpoint)
    assert (second.error, second.ids, _pending(second)) == (None, set(), ids(3))
    third = await read(CASE, hidden, second.checkpoint)
    assert third.ids == ids(3)


@pytest.mark.parametrize("number", [29, 3])
async def test_a_call_without_words_is_given_up_after_a_while(number: int) -> None:
    """Nothing is waited for for ever: the call is set aside with the day of its first asking, and forgotten."""
    vendor = FakeGong([silent(number)])
    first = await read(CASE, vendor)
    patient = await read(CASE, vendor, first.checkpoint, now=NOW + 14 * DAY - timedelta(seconds=1))
    assert (patient.set_aside, _pending(patient)) == ([], ids(number))
    last = await read(CASE, vendor, patient.checkpoint, now=NOW + 14 * DAY)
    assert [(item.place, item.reason) for item in last.set_aside] == [
        (f"Gong call {ids(number).pop()}", "Gong had no transcript of it since 2026-11-02")
    ]
    assert _pending(last) == set()


async def test_no_more_calls_wait_than_a_checkpoint_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A company with thousands of silent calls keeps a small checkpoint: what finds no room is set aside."""
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    first = await read(CASE, FakeGong([silent(number) for number in range(26, 30)]))
    assert len(_pending(first)) == 2
    assert [item.reason for item in first.set_aside] == [
        "Gong has no transcript of it, and 2 other calls are waited for"
    ] * 2
    again = await read(CASE, FakeGong([silent(number) for number in range(26, 30)]), first.checkpoint)
    assert (again.set_aside, again.checkpoint) == (first.set_aside, first.checkpoint)
    last = await read(CASE, FakeGong([call(number) for number in range(26, 30)]), again.checkpoint)
    assert last.ids == ids(26, 27, 28, 29)  # within the overlap nothing is lost by it


async def test_a_pending_call_that_is_known_by_now_costs_no_call() -> None:
    """What the ledger has is not asked for, whatever the checkpoint of a reading that broke off says."""
    first = await read(CASE, FakeGong([silent(3)]))
    vendor = FakeGong([call(3)])
    done = await read(CASE, vendor, first.checkpoint, known=dict.fromkeys(ids(3)))
    assert _asked_transcripts(vendor) == []
    assert _pending(done) == set()
    assert sum(page.unchanged for page in done.pages) == 1


async def test_a_404_in_other_words_is_an_error() -> None:
    """Only the one sentence means that nothing was found: a wrong address must not look like an empty company."""
    for body in (
        b'{"errors": ["Not found"]}',
        b"<html>No calls found corresponding</html>",
        b"[]",
        b'{"errors": null}',
    ):
        done = await read(CASE, lambda _, body=body: httpx.Response(404, content=body))
        assert isinstance(done.error, httpx.HTTPStatusError), body
        assert "base_url" in str(done.error)


async def test_an_expired_cursor_is_an_error_after_which_the_span_is_read_again() -> None:
    """A list that took longer than an hour is begun anew by the next run; what was read of it is kept."""
    vendor = FakeGong([call(number) for number in range(20, 30)])
    expired = httpx.Response(400, json={"requestId": "r", "errors": ["cursor has expired"]})
    start = {"until": (NOW - DAY).isoformat()}
    begun = await read(CASE, after(4, vendor, expired), start)
    assert isinstance(begun.error, httpx.HTTPStatusError)
    assert "reads that span of time again" in str(begun.error)
    assert begun.checkpoint["until"] == start["until"]
    assert len(begun.ids) == 6
    rest = await read(CASE, vendor, begun.checkpoint, known=dict.fromkeys(begun.ids))
    assert rest.ids | begun.ids == ids(*range(20, 30))


async def test_three_calls_a_second_are_made_at_most() -> None:
    """The limit is kept before Gong has to say so: it is the whole company's."""
    done = await read(CASE, FakeGong([call(number) for number in range(20, 30)], page=1))
    at = [when for when, _ in done.calls]
    assert len(at) > 20
    assert all(later - earlier >= timedelta(seconds=1) for earlier, later in zip(at, at[3:], strict=False))
    assert [(limit.calls, limit.per) for limit in CASE.connector.limits()] == [(3, timedelta(seconds=1)), (10_000, DAY)]


async def test_a_used_up_day_is_explained() -> None:
    """The calls of the day belong to all of a company's integrations: the message says who may have used them."""
    refusal = httpx.Response(429, headers={"Retry-After": "36000"}, json={"requestId": "r", "errors": ["too many"]})
    done = await read(CASE, lambda _: refusal)
    assert isinstance(done.error, RateLimited)
    assert done.error.until == NOW + timedelta(hours=10)
    assert "10,000 calls a day" in str(done.error)


@pytest.mark.parametrize(("status", "words"), [(401, HOST), (403, "api:calls:read:transcript")])
async def test_a_refused_key_is_explained(status: int, words: str) -> None:
    """A key at another company's address reads like a revoked one; a missing scope and a closed door are a 403."""
    refusal = httpx.Response(status, json={"requestId": "r", "errors": ["no"]})
    done = await read(CASE, lambda _: refusal)
    assert isinstance(done.error, CredentialsRefused)
    assert words in str(done.error)
    assert (status == 401) == ("base_url" in str(done.error))


async def test_the_check_is_one_call_for_a_call_that_there_is_not() -> None:
    """The key is tried without reading anything: nothing found is a good answer."""
    for vendor in (FakeGong([]), FakeGong([call(29)])):
        async with lent(CASE.connector, vendor, NOW) as http:
            assert await CASE.connector.check(http) == f"the calls can be read at {HOST}"
        assert len(vendor.asked) == 1


def test_a_company_is_asked_at_its_own_address() -> None:
    """Each company has its own host; without one it is the common address."""
    assert Gong(access_key="a", access_key_secret=SECRET).hosts() == {"api.gong.io"}
    assert CASE.connector.hosts() == {HOST}


@pytest.mark.parametrize("settings", [{"access_key": ""}, {"span": "0s"}, {"span": "1m"}, {"overlap": "-1d"}])
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    """A span of nothing would never get anywhere."""
    with pytest.raises(ValueError, match=r"should|cannot|duration|too short"):
        gong(**settings)


WILD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
META = sorted(call(29)["metaData"].keys() - {"id", "started"})
SENTENCES = st.lists(st.fixed_dictionaries({"text": WILD, "start": WILD}), max_size=2)
MONOLOGUES = st.lists(WILD | st.fixed_dictionaries({"speakerId": WILD, "sentences": SENTENCES | WILD}), max_size=3)


@given(st.dictionaries(st.sampled_from(META), WILD), WILD | st.lists(WILD), WILD | MONOLOGUES)
async def test_whatever_stands_in_a_call_the_others_come(odd: dict[str, Any], parties: Any, transcript: Any) -> None:
    """One call of any shape is read, set aside or pending; it ends no reading and costs no other record."""
    vendor = FakeGong([call(29), call(28, parties=parties, transcript=transcript, **odd)])
    done = await read(CASE, vendor, {"until": NOW.isoformat()})
    assert done.error is None
    assert done.ids >= ids(29)
    aside = {item.place.split()[-1] for item in done.set_aside}
    private = {id_ for id_ in ids(28) if any(page.filtered for page in done.pages)}
    assert done.ids | aside | private | _pending(done) >= ids(28)


def _pending(done: Read) -> set[str]:
    pending = done.checkpoint["pending"]
    assert isinstance(pending, dict)
    return set(pending)


def _asked_transcripts(vendor: FakeGong) -> list[list[str]]:
    """The ids whose transcripts were asked for, first pages alone."""
    bodies = [body for kind, body in vendor.bodies if kind == "transcript" and "cursor" not in body]
    return [sorted(body["filter"]["callIds"]) for body in bodies]


def _span(body: dict[str, Any]) -> tuple[datetime, datetime]:
    chosen = body["filter"]
    return datetime.fromisoformat(chosen["fromDateTime"]), datetime.fromisoformat(chosen["toDateTime"])


def _renumbered(number: int) -> dict[str, Any]:
    """One of many calls of the same day."""
    return call(number, started=began(29).isoformat())


def _with_number(answer: httpx.Response) -> httpx.Response:
    """The same answer, with ids that are numbers."""
    return httpx.Response(
        answer.status_code, content=answer.content.replace(b'"18446744073709551557"', b"18446744073709551557")
    )


def _without_lists(vendor: FakeGong) -> Callable[[httpx.Request], httpx.Response]:
    """A vendor that lists no call yet."""

    def answer(request: httpx.Request) -> httpx.Response:
        is_list = request.url.path.endswith("/extensive")
        return FakeGong([])(request) if is_list else vendor(request)

    return answer
