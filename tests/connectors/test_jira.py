"""Jira in particular: what an issue becomes, times in JQL, when it goes out, and what Jira answers instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.jira import _minute
from syncd.connector import Link, Organisation, Person, SourceError
from syncd.errors import CredentialsRefused, RateLimited
from syncd.promises import Vendor, _check, read
from syncd.signals import compose
from tests.connectors.vendors.jira import (
    CASE,
    JQL,
    KIM,
    NOW,
    OPEN,
    ORGANIZATIONS,
    PIA,
    THREAD,
    FakeJira,
    comment,
    document,
    issue,
    jira,
)

TEXT = """Report 1 stays blank

Pia Lind (customer), 2026-09-22 09:00 UTC:
The page is blank after I sign in.

Kim (agent), 2026-09-23 10:00 UTC:
Which browser is that in?

Pia Lind (customer), 2026-09-23 12:00 UTC:
Firefox 140."""


async def test_an_issue_becomes_one_signal_with_all_that_zentrik_wants() -> None:
    """Every field of a signal comes from where a person would look for it."""
    [record] = (await read(CASE, FakeJira([issue(1)]))).records
    assert record.id == "10401"
    assert record.kind == "support_ticket"
    assert record.title == "Report 1 stays blank"
    assert record.text == TEXT
    assert record.occurred_at == datetime(2026, 9, 22, 9, 0, tzinfo=UTC)
    assert record.links == (
        Link("https://acme.atlassian.net/browse/SUP-1", "Open Jira issue", "support_ticket", primary=True),
    )
    assert record.people == (Person("Pia Lind", "pia@initech.test", "customer"),)
    assert record.organisation == Organisation("Initech", None, "jira-org:31")
    assert record.attributes == {
        "key": "SUP-1",
        "status": "Resolved",
        "priority": "High",
        "labels": ("reports",),
        "issueType": "Service Request",
        "project": "Support",
    }
    assert compose(record, CASE.source).external_id == "jira:acme:10401"


async def test_notes_for_a_few_are_never_read_out() -> None:
    """What the customer cannot see is not imported: internal notes, and comments for one role."""
    [record] = (await read(CASE, FakeJira([issue(1)]))).records
    assert "proxy" not in record.text
    assert "escalation" not in record.text


async def test_a_comment_outside_of_service_management_is_public() -> None:
    """A software project has no internal notes, and says nothing of them."""
    plain = {key: value for key, value in comment(1, "Seen on Linux as well.").items() if key != "jsdPublic"}
    [record] = (await read(CASE, FakeJira([issue(1, comments=[plain])]))).records
    assert "Seen on Linux as well." in record.text


async def test_the_reporter_is_the_customer_whatever_their_account() -> None:
    """Who is who does not depend on the licence: an employee who reports an issue speaks as its customer."""
    answers = [comment(1, "Any news?", by=KIM), comment(2, "It is fixed.", by=KIM | {"accountId": "712020:lea"})]
    [record] = (await read(CASE, FakeJira([issue(1, reporter=KIM, comments=answers)]))).records
    assert "Kim (customer), 2026-09-23 10:00 UTC:\nAny news?" in record.text
    assert "Kim (agent), 2026-09-23 11:00 UTC:\nIt is fixed." in record.text


async def test_comments_stand_in_the_order_of_time() -> None:
    """A conversation reads from its beginning, in whatever order the search gives its comments."""
    [record] = (await read(CASE, FakeJira([issue(1, comments=tuple(reversed(THREAD)))]))).records
    assert record.text == TEXT


async def test_a_summary_alone_may_be_the_whole_request() -> None:
    """Nothing is lost of an issue that was written in one line."""
    [record] = (await read(CASE, FakeJira([issue(1, summary="Dark mode", description=None, comments=())]))).records
    assert record.text == "Dark mode"


async def test_documents_are_read_where_nothing_is_rendered() -> None:
    """The text does not depend on Jira rendering it."""
    [record] = (await read(CASE, FakeJira([issue(1)], renders=False))).records
    assert record.text == TEXT
    [record] = (await read(CASE, FakeJira([issue(1)], renders=False, shown=1))).records
    assert record.text == TEXT


async def test_a_document_that_is_nested_past_all_reason_stops_nothing() -> None:
    """A customer can write a list in a list in a list: that issue comes as Jira renders it, and so do the others."""
    deep: dict[str, Any] = {"type": "text", "text": "words"}
    for _ in range(200):
        deep = {"type": "bulletList", "content": [deep]}

    class Deep(FakeJira):
        def _given(self, each: dict[str, Any], question: dict[str, Any]) -> dict[str, Any]:
            given = super()._given(each, question)
            return given | {"fields": given["fields"] | {"description": {"type": "doc", "content": [deep]}}}

    done = await read(CASE, Deep([issue(1), issue(2)]))
    assert done.error is None, done.error
    assert [record.id for record in done.records] == ["10401", "10402"]
    assert done.records[0].text == TEXT
    done = await read(CASE, Deep([issue(1), issue(2)], renders=False))
    assert [record.id for record in done.records] == ["10401", "10402"]


async def test_all_comments_are_fetched_where_the_search_leaves_some_out() -> None:
    """A long conversation is not cut, and costs calls only when it is new to the ledger."""
    comments = [comment(number, f"Message {number}.", by=PIA) for number in range(1, 8)]
    vendor = FakeJira([issue(1, comments=comments), issue(2)], shown=5)
    first = await read(CASE, vendor)
    record = next(record for record in first.records if record.id == "10401")
    assert [f"Message {number}." in record.text for number in range(1, 8)] == [True] * 7
    assert len([call for _, call in first.calls if CASE.is_detail(call)]) == 4  # the server gives two at a time
    again = await read(CASE, vendor, known={"10401": record.version})
    assert [call for _, call in again.calls if CASE.is_detail(call)] == []
    assert again.ids == {"10402"}
    assert sum(page.unchanged for page in again.pages) == 1


@pytest.mark.parametrize("shown", [1, 20])
async def test_a_broken_comment_sets_its_issue_aside_and_no_other(shown: int) -> None:
    """Whether it came with the search or was asked for: the issue is told of with its id, and the reading goes on."""
    broken = [comment(1, "First."), comment(2, "Second.", created="the other day")]
    done = await read(CASE, FakeJira([issue(1, comments=broken), issue(2)], shown=shown))
    assert done.error is None, done.error
    assert done.ids == {"10402"}
    [aside] = done.set_aside
    assert aside.place == "Jira issue 10401"
    assert "comments.1.created: 'the other day' is not a date" in aside.reason


async def test_an_issue_that_goes_away_meanwhile_is_passed_over() -> None:
    """An issue deleted between the search and the question for its comments is no error, and no signal."""

    class Deleting(FakeJira):
        def answer(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(404) if CASE.is_detail(request) else super().answer(request)

    done = await read(CASE, Deleting([issue(1), issue(2, comments=())], shown=1))
    assert (done.error, done.ids, done.set_aside) == (None, {"10402"}, [])
    assert sum(page.filtered for page in done.pages) == 1


async def test_an_edit_is_noticed() -> None:
    """A later comment changes the version, and the body that is compared by its fingerprint."""
    [before] = (await read(CASE, FakeJira([issue(1)]))).records
    later = issue(1, comments=[*THREAD, comment(9, "Thanks, solved.", by=PIA)], updated=NOW - timedelta(days=1))
    [after] = (await read(CASE, FakeJira([later]))).records
    assert before.version != after.version
    assert compose(before, CASE.source).fingerprint != compose(after, CASE.source).fingerprint


async def test_an_issue_that_moves_to_another_project_stays_the_same_signal() -> None:
    """Keys change, ids do not: nothing is doubled."""
    moved = await read(CASE, FakeJira([issue(1) | {"key": "HELP-90"}]))
    assert moved.ids == {"10401"}
    assert moved.records[0].links[0].url.endswith("/browse/HELP-90")


# Times


def transition(zone: str) -> datetime:
    """When the clocks of a zone went back in 2026."""
    return {
        "Europe/Berlin": datetime(2026, 10, 25, 1, 0, tzinfo=UTC),
        "America/New_York": datetime(2026, 11, 1, 6, 0, tzinfo=UTC),
        "Australia/Lord_Howe": datetime(2026, 4, 4, 15, 0, tzinfo=UTC),  # by half an hour
    }[zone]


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
ANY_TIME = st.datetimes(datetime(2000, 1, 2), datetime(2037, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.sampled_from(ZONES), st.data())
def test_a_bound_is_never_later_than_the_time_it_stands_for(zone: str, data: st.DataObject) -> None:
    """No issue is passed over, whichever of two equal hours Jira takes a local time for, and little is read twice."""
    near = st.timedeltas(timedelta(hours=-4), timedelta(hours=4)).map(lambda away: transition(zone) + away)
    at = data.draw(ANY_TIME | near)
    local = datetime.strptime(_minute(at, ZoneInfo(zone)), "%Y-%m-%d %H:%M")  # noqa: DTZ007 - read in both ways below
    for fold in (0, 1):
        meant = local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)
        assert at - timedelta(hours=2, minutes=1) < meant <= at


def test_a_bound_is_exact_but_for_its_seconds() -> None:
    """Nothing is read again for the sake of clocks that stand still."""
    at = datetime(2026, 7, 1, 9, 30, 59, tzinfo=UTC)
    assert [_minute(at, ZoneInfo(zone)) for zone in ("UTC", *ZONES)] == [
        "2026-07-01 09:30",
        "2026-07-01 11:30",
        "2026-07-01 05:30",
        "2026-07-01 20:00",
    ]


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("zone", ZONES)
async def test_nothing_is_lost_in_the_hour_that_comes_twice(zone: str, fold: int) -> None:
    """Readings that follow each other through the change of clocks find every issue, done or quiet."""
    begun = transition(zone) - timedelta(hours=3)
    quiet = timedelta(hours=1)
    made = [
        issue(number, updated=begun + timedelta(minutes=7 * number), **({"status": OPEN} if number % 2 else {}))
        for number in range(60)
    ]
    seen: set[str] = set()
    checkpoint: Mapping[str, Any] = {}
    for minutes in range(0, 10 * 60, 20):
        now = begun + timedelta(minutes=minutes)
        there = [each for each in made if datetime.fromisoformat(each["fields"]["updated"]) <= now]
        vendor = FakeJira(there, page=100, zone=zone, fold=fold)
        done = await read(CASE, vendor, checkpoint, connector=jira(quiet_for=quiet, overlap="0s"), now=now)
        assert done.error is None, done.error
        seen |= done.ids
        checkpoint = done.checkpoint
    assert seen == {each["id"] for each in made}


async def test_an_issue_that_the_search_shows_late_is_found_by_the_next_reading() -> None:
    """The index is behind the issues: whatever appears within the overlap is read."""
    late = issue(1, updated=NOW - timedelta(minutes=50))
    others = [issue(2, updated=NOW - timedelta(minutes=25))]
    first = await read(CASE, FakeJira(others))
    second = await read(CASE, FakeJira([late, *others]), first.checkpoint)
    assert second.ids == {"10401", "10402"}
    without = await read(CASE, FakeJira([late, *others]), first.checkpoint, connector=jira(overlap="10m"))
    assert without.ids == {"10402"}


async def test_once_a_day_it_is_read_from_further_back() -> None:
    """What the search showed later than the overlap allows is read a day later, whatever the time between readings."""
    late = issue(1, updated=NOW - timedelta(hours=11))
    others = [issue(2, updated=NOW - timedelta(minutes=5))]
    first = await read(CASE, FakeJira(others))
    soon = await read(CASE, FakeJira([late, *others]), first.checkpoint, now=NOW + timedelta(hours=23))
    assert soon.ids == {"10402"}
    daily = await read(CASE, FakeJira([late, *others]), soon.checkpoint, now=NOW + timedelta(hours=25))
    assert daily.ids == {"10401", "10402"}
    after = await read(CASE, FakeJira([late, *others]), daily.checkpoint, now=NOW + timedelta(hours=26))
    assert after.ids == {"10402"}


async def test_a_daily_reading_that_breaks_off_is_made_again() -> None:
    """The day counts as read only when it was read to its end."""
    issues = [issue(number, updated=NOW - timedelta(minutes=60 - number)) for number in range(1, 9)]
    first = await read(CASE, FakeJira(issues))
    later = NOW + timedelta(days=2)
    broken_off = await read(CASE, FakeJira(issues), first.checkpoint, pages=1, now=later)
    assert broken_off.checkpoint == first.checkpoint
    again = await read(CASE, FakeJira(issues), broken_off.checkpoint, now=later)
    assert again.ids == {each["id"] for each in issues}


async def test_a_reading_that_broke_off_goes_on_where_it_was() -> None:
    """A first import of years is not begun anew, and no page token is kept, for they expire."""
    begun = await read(CASE, CASE.full(), pages=2)
    assert begun.checkpoint == {"updated": "2026-10-09T09:00:00+00:00", "quiet": "2026-10-26T09:00:00+00:00"}
    vendor = FakeJira([issue(number) for number in range(1, 9)])
    rest = await read(CASE, vendor, begun.checkpoint)
    assert vendor.searches[0] == f'({JQL}) AND updated >= "2026-10-09 10:30" ORDER BY updated ASC, key ASC'
    assert rest.ids == {"10406", "10407", "10408"}


async def test_a_change_in_the_future_does_not_hide_what_comes_before_it() -> None:
    """A vendor whose clock is wrong for a moment does not stop the import."""
    first = await read(CASE, FakeJira([issue(1, updated=NOW + timedelta(days=400))]))
    second = await read(CASE, FakeJira([issue(2, updated=NOW + timedelta(minutes=5))]), first.checkpoint)
    assert second.ids == {"10402"}


async def test_a_time_zone_that_is_not_known_is_said_so() -> None:
    """A bound in the wrong zone would lose issues, so none is guessed."""
    for zone in ("Mars/Olympus_Mons", "../../etc/passwd", "Europe"):
        vendor = FakeJira([issue(1)])
        vendor.zone = zone
        done = await read(CASE, vendor)
        assert isinstance(done.error, SourceError)
        assert zone in str(done.error)


# When an issue goes out


async def test_an_open_issue_goes_out_when_it_has_become_quiet() -> None:
    """Ten replies are one signal: while people still write, nothing goes out."""
    waiting = issue(1, updated=NOW - timedelta(days=2), status=OPEN)
    vendor = FakeJira([waiting, issue(2, updated=NOW - timedelta(days=1))])
    first = await read(CASE, vendor)
    assert first.ids == {"10402"}
    assert sum(page.filtered for page in first.pages) == 1
    not_yet = await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(days=4))
    assert "10401" not in not_yet.ids
    now_quiet = await read(CASE, vendor, not_yet.checkpoint, now=NOW + timedelta(days=5, hours=1))
    assert "10401" in now_quiet.ids
    assert vendor.searches[-1].startswith(f"({JQL}) AND statusCategory != Done AND updated >= ")
    over = await read(CASE, vendor, now_quiet.checkpoint, now=NOW + timedelta(days=5, hours=3))
    assert "10401" not in over.ids


async def test_a_first_reading_takes_what_is_quiet_already() -> None:
    """Open issues of years ago are evidence too."""
    done = await read(CASE, FakeJira([issue(1, updated=NOW - timedelta(days=900), status=OPEN)]))
    assert done.ids == {"10401"}


async def test_quiet_issues_may_be_left_alone_and_wanted_later() -> None:
    """With `quiet_for: null` only what is done goes out; an operator who changes their mind gets the others."""
    vendor = FakeJira([issue(1, updated=NOW - timedelta(days=900), status=OPEN), issue(2)])
    done_only = await read(CASE, vendor, connector=jira(quiet_for=None))
    assert done_only.ids == {"10402"}
    again = await read(CASE, vendor, done_only.checkpoint, connector=jira(quiet_for=None), now=NOW + timedelta(days=3))
    assert again.ids == {"10402"}
    changed = await read(CASE, vendor, again.checkpoint, connector=jira(), now=NOW + timedelta(days=4))
    assert "10401" in changed.ids


async def test_a_search_for_quiet_issues_that_breaks_off_goes_on() -> None:
    """Many issues may have become quiet at once; each page of them is kept."""
    waiting = [issue(number, updated=NOW - timedelta(days=2, minutes=-number), status=OPEN) for number in range(1, 8)]
    account = [*waiting, issue(8, updated=NOW - timedelta(hours=1))]
    first = await read(CASE, FakeJira(account))
    later = NOW + timedelta(days=6)
    assert first.ids == {"10408"}
    begun = await read(CASE, FakeJira(account), first.checkpoint, pages=3, now=later)
    assert begun.ids == {"10408", *(each["id"] for each in waiting[:6])}
    rest = await read(CASE, FakeJira(account), begun.checkpoint, now=later)
    assert rest.ids == {"10406", "10407", "10408"}


async def test_nobody_is_asked_for_quiet_issues_all_the_time() -> None:
    """A connector that runs every ten minutes searches twice only once an hour."""
    vendor = FakeJira([issue(1)])
    first = await read(CASE, vendor)
    await read(CASE, vendor, first.checkpoint, now=NOW + timedelta(minutes=59))
    assert not [jql for jql in vendor.searches if "statusCategory" in jql]


# What Jira answers instead


class Says(Vendor):
    """A site that answers every search in one way."""

    def __init__(self, status: int, **how: Any) -> None:
        super().__init__()
        self.status = status
        self.how = how
        self.site = FakeJira([issue(1)])

    def answer(self, request: httpx.Request) -> httpx.Response:
        return self.site(request) if request.method == "GET" else httpx.Response(self.status, **self.how)


async def test_a_key_that_is_not_valid_is_no_empty_account() -> None:
    """Jira searches for guests too, and finds nothing for them: nobody takes that for «nothing new»."""
    done = await read(CASE, FakeJira([issue(1)]), connector=jira(api_token="wrong"))
    assert isinstance(done.error, CredentialsRefused)
    assert "does not know this e-mail address and API token" in str(done.error)
    guest = Says(200, json={"issues": [], "isLast": True}, headers={"X-Seraph-Loginreason": "AUTHENTICATED_FAILED"})
    done = await read(CASE, guest)
    assert isinstance(done.error, CredentialsRefused)
    assert done.pages == []


async def test_a_key_that_ends_in_the_middle_makes_no_issue_disappear() -> None:
    """To a guest every issue is «not found»: that is no reason to pass over it."""

    class Expiring(FakeJira):
        def answer(self, request: httpx.Request) -> httpx.Response:
            guest = {"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}
            return httpx.Response(404, headers=guest) if CASE.is_detail(request) else super().answer(request)

    done = await read(CASE, Expiring([issue(1)], shown=1))
    assert isinstance(done.error, CredentialsRefused)
    assert done.pages == []


async def test_what_jira_has_against_the_jql_is_told_in_its_words() -> None:
    """A misspelt project is not an empty one: the operator reads what Jira says."""
    done = await read(CASE, FakeJira([issue(1)]), connector=jira(jql="project = GONE"))
    assert isinstance(done.error, httpx.HTTPStatusError)
    assert "The value 'GONE' does not exist for the field 'project'." in str(done.error)
    assert "Try this connector's jql" in str(done.error)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "read:jira-work"),
        (404, "Is there a Jira Cloud site acme.atlassian.net?"),
        (410, "Only Jira Cloud is read"),
    ],
)
async def test_other_refusals_are_explained(status: int, words: str) -> None:
    """Each says what to look at, in Jira's terms."""
    done = await read(CASE, Says(status, json={"errorMessages": ["no"]}))
    assert words in str(done.error)


async def test_the_end_of_a_wait_may_stand_in_a_header_of_its_own() -> None:
    """Without Retry-After, the time that Jira names is waited for all the same."""
    again = (NOW + timedelta(minutes=3)).strftime("%Y-%m-%dT%H:%MZ")
    calls = iter([httpx.Response(429, headers={"X-RateLimit-Reset": again}, text="jira-burst-based")])
    vendor = FakeJira([issue(1)])
    done = await read(CASE, lambda request: next(calls, None) or vendor(request))
    assert done.ids == {"10401"}
    assert done.waited >= 180
    far = (NOW + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%MZ")
    done = await read(CASE, Says(429, headers={"X-RateLimit-Reset": far}))
    assert isinstance(done.error, RateLimited)
    assert done.error.until >= NOW + timedelta(hours=3)
    unreadable = Says(429, headers={"X-RateLimit-Reset": "soon"})
    assert isinstance((await read(CASE, unreadable)).error, RateLimited)


async def test_check_says_who_it_is_and_whether_the_jql_finds_anything() -> None:
    """A key may be good and see no issue: the operator is told before they wait for signals."""
    assert await _check(CASE, jira()) == "acme.atlassian.net knows Kim; the jql finds issues"
    with pytest.raises(httpx.HTTPStatusError, match="does not exist for the field"):
        await _check(CASE, jira(jql="project = GONE"))


# Settings


async def test_every_search_names_its_fields() -> None:
    """Without them Jira would give ids alone; the operator's field comes along."""
    vendor = FakeJira([issue(1)])
    await read(CASE, vendor)
    question = json.loads(next(request for request in vendor.asked if request.method == "POST").content)
    assert question["fields"][-1] == ORGANIZATIONS
    assert {"summary", "description", "comment", "status", "created", "updated"} <= set(question["fields"])
    assert question["expand"] == "renderedFields"
    without = FakeJira([issue(1)])
    [record] = (await read(CASE, without, connector=jira())).records
    assert record.organisation is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"id": 4, "name": "Globex"}, {"id": 5, "name": "Initech"}], Organisation("Globex", None, "jira-org:4")),
        ([{"id": 4}, {"name": "Initech"}], Organisation("Initech")),
        ({"id": "4", "name": "Globex"}, Organisation("Globex", None, "jira-org:4")),
        ([], None),
        (None, None),
        ("Globex", None),
    ],
)
async def test_the_customers_organisation_may_stand_there_in_any_form(
    value: object, expected: Organisation | None
) -> None:
    """A field that the operator names wrongly costs the organisation, and no issue."""
    [record] = (await read(CASE, FakeJira([issue(1, **{ORGANIZATIONS: value})]))).records
    assert record.organisation == expected


@pytest.mark.parametrize("site", ["acme", "acme.atlassian.net", "https://acme.atlassian.net/", " ACME "])
def test_a_site_is_taken_in_any_of_its_forms(site: str) -> None:
    """What an operator copies from a browser is good."""
    assert jira(site=site).home() == "https://acme.atlassian.net"


@pytest.mark.parametrize("site", ["", "acme.example", "https://jira.acme.example", "acme/evil", "-", 7])
def test_a_site_elsewhere_is_refused(site: object) -> None:
    """Credentials of Jira Cloud go nowhere else by mistake."""
    with pytest.raises(ValidationError):
        jira(site=site)


async def test_a_key_with_scopes_is_used_at_the_address_it_is_good_for() -> None:
    """Behind `base_url` everything is asked there; links still lead to the site."""
    base = "https://api.atlassian.com/ex/jira/0f1c"
    vendor = FakeJira([issue(1)])

    def gateway(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "api.atlassian.com"
        path = request.url.path.removeprefix("/ex/jira/0f1c")
        return vendor(
            httpx.Request(request.method, f"https://x{path}", headers=request.headers, content=request.content)
        )

    done = await read(CASE, gateway, connector=jira(base_url=base))
    assert done.error is None, done.error
    assert done.records[0].links[0].url == "https://acme.atlassian.net/browse/SUP-1"


@pytest.mark.parametrize(
    "jql",
    [
        "project = SUP",
        'summary ~ "order by (" AND status = Done',
        "labels = 'it\\'s (' OR project in (A, B)",
        "key = A-1",
    ],
)
def test_any_restriction_is_taken(jql: str) -> None:
    """What stands between quotation marks is not JQL."""
    assert jira(jql=f" {jql} ").jql == jql


@pytest.mark.parametrize("order", ["ORDER BY created", "order  by rank ASC, key DESC", 'Order By "my (field"'])
def test_an_order_that_was_copied_along_does_not_count(order: str) -> None:
    """A search is copied as it stands in Jira; issues are read in the order of their changes."""
    assert jira(jql=f'summary ~ "order by x" {order}').jql == 'summary ~ "order by x"'


@pytest.mark.parametrize(
    ("jql", "words"),
    [
        ("ORDER BY created", "has to restrict"),
        ("project = A) OR (project = B", "not in pairs"),
        ("(project = A", "not in pairs"),
        ('summary ~ "open', "not closed"),
        ("", "at least 1"),
        ("   ", "at least 1"),
    ],
)
def test_what_would_not_stay_within_its_parentheses_is_refused(jql: str, words: str) -> None:
    """The operator's words cannot undo the bounds that keep a reading incremental."""
    with pytest.raises(ValidationError, match=words):
        jira(jql=jql)


async def test_a_restriction_stands_in_parentheses() -> None:
    """An OR of the operator's does not let issues in that were not asked for."""
    vendor = FakeJira([issue(1)])
    await read(CASE, vendor)
    assert vendor.searches == [f'({JQL}) AND updated >= "2000-01-01 01:00" ORDER BY updated ASC, key ASC']


async def test_mail_in_a_comment_comes_without_what_it_quotes() -> None:
    """Service desks file mails as comments: the history below a reply is not said again."""
    mail = "Works now, thanks.\n\nOn Mon, Oct 5, 2026 at 10:00 AM Kim <kim@acme.test> wrote:\n> Which browser?"
    thread = [comment(1, mail, by=PIA)]
    [record] = (
        await read(CASE, FakeJira([issue(1, comments=thread, description=document("Blank."))], renders=False))
    ).records
    assert record.text.endswith("Works now, thanks.")
