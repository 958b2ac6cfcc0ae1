"""Fireflies.ai, as far as its GraphQL queries for meetings go."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connectors.fireflies import Fireflies
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

SCHEMA = {
    *("id", "title", "date", "dateString", "duration", "host_email", "organizer_email", "participants", "is_live"),
    *("meeting_attendees", "displayName", "email", "phoneNumber", "name", "location", "speakers", "sentences"),
    *("index", "speaker_name", "speaker_id", "text", "raw_text", "start_time", "end_time", "meeting_info"),
    *("silent_meeting", "summary_status", "fred_joined", "transcript_url", "meeting_link", "calendar_id", "privacy"),
}
"""The fields there are, of a meeting and of what it holds."""

VARIABLES = {"fromDate": str, "toDate": str, "limit": int, "skip": int, "transcriptId": str, "words": bool}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

SAID = (
    ("Mia Ortiz", "The export ends early.", 0.24),
    ("Mia Ortiz", "Every time.", 2.5),
    (None, "We will look into it.", 3.75),
)


def id_of(number: int) -> str:
    """The id of the meeting with that number."""
    return f"01KX{number:022}"


def sentences(*said: tuple[str | None, str, float]) -> list[dict[str, Any]]:
    """What was said, as the API has it."""
    return [
        {"index": index, "speaker_name": speaker, "speaker_id": index, "text": text, "start_time": at, "end_time": at}
        for index, (speaker, text, at) in enumerate(said)
    ]


def meeting(number: int, *, at: datetime | None = None, status: str | None = "processed", **more: Any) -> Any:
    """A meeting that is ready, an hour after the one numbered before it."""
    return {
        "id": id_of(number),
        "title": f"Globex review {number}",
        "date": ((at or NOW - timedelta(hours=100 - number)) - datetime.fromtimestamp(0, UTC))
        / timedelta(milliseconds=1),
        "duration": 41.7200012207,
        "host_email": "Sam@acme.test",
        "organizer_email": "sam@acme.test",
        "participants": ["sam@acme.test", "mia@globex.test", "lee@globex.test"],
        "meeting_attendees": [{"displayName": "Mia Ortiz", "email": "mia@globex.test", "name": None}],
        "speakers": [{"name": "Mia Ortiz"}, {"name": "Sam"}],
        "is_live": False,
        "meeting_info": {"silent_meeting": False, "summary_status": status},
        "transcript_url": f"https://app.fireflies.ai/view/{id_of(number)}",
        "sentences": sentences(*SAID),
    } | more


class FakeFireflies(Vendor):
    """An account with these meetings. `circles`: it shows its first page whatever is skipped."""

    def __init__(self, meetings: Sequence[dict[str, Any]], *, circles: bool = False) -> None:
        super().__init__()
        self.meetings = list(meetings)
        self.circles = circles

    @property
    def variables(self) -> list[dict[str, Any]]:
        """Those of every question so far."""
        return [json.loads(request.content)["variables"] for request in self.asked]

    def answer(self, request: httpx.Request) -> httpx.Response:
        if (request.method, request.url.path) != ("POST", "/graphql"):
            return httpx.Response(404, text="Cannot GET")
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return refused("auth_failed", "The provided API key is invalid", http=500)
        asked = json.loads(request.content)
        query, variables = asked["query"], asked["variables"]
        declared = dict(re.findall(r"\$(\w+): (\w+!?)", query))
        if not variables.keys() <= declared.keys() or any(
            not isinstance(value, VARIABLES[name]) for name, value in variables.items()
        ):
            return refused("invalid_arguments", f"the variables are not those declared: {sorted(variables)}")
        fields = set(re.findall(r"\w+", re.sub(r"\(.*?\)|@\w+|\.{3}\w+|(query|fragment) \w+( on \w+)?", "", query)))
        if unknown := fields - SCHEMA - {"transcripts", "transcript"}:
            return refused("GRAPHQL_VALIDATION_FAILED", f"Cannot query field {unknown} on type Transcript", http=400)
        shown = [name for name in SCHEMA & fields if name != "sentences" or variables["words"]]
        if "transcriptId" in variables:
            found = [each for each in self.meetings if each["id"] == variables["transcriptId"]]
            if not found:
                return refused("object_not_found", "Transcript not found", objectType="transcript")
            return httpx.Response(200, json={"data": {"transcript": _cut(found[0], shown)}})
        return self._listed(variables, shown)

    def _listed(self, variables: dict[str, Any], shown: list[str]) -> httpx.Response:
        dates = [variables.get("fromDate"), variables.get("toDate")]
        if any(date is not None and not ISO.fullmatch(date) for date in dates):
            return refused("invalid_arguments", "fromDate must be a Date instance")
        limit, skip = variables["limit"], variables["skip"]
        if not 0 < limit <= 50 or skip < 0:
            return refused("invalid_arguments", "limit is 50 at most")
        first, last = (datetime.fromisoformat(date).timestamp() * 1000 if date else None for date in dates)
        span = [
            each
            for each in sorted(self.meetings, key=lambda each: -_date(each))
            if (first is None or _date(each) >= first) and (last is None or _date(each) <= last)
        ]
        skip = 0 if self.circles else skip
        page = [_cut(each, shown) for each in span[skip : skip + limit]]
        return httpx.Response(200, json={"data": {"transcripts": page}}, headers=quota(52))


def quota(left: int, reset: str = "40") -> dict[str, str]:
    """The headers that tell how many calls are left."""
    return {"x-ratelimit-limit-api": "60", "x-ratelimit-remaining-api": str(left), "x-ratelimit-reset-api": reset}


def refused(code: str, message: str, *, http: int = 200, status: int | None = None, **metadata: Any) -> httpx.Response:
    """An error, under a status that says little."""
    extensions = {"code": code, "status": status, "metadata": metadata, "helpUrls": [], "correlationId": "c-1"}
    error = {"message": message, "code": code, "friendly": True, "extensions": extensions}
    return httpx.Response(http, json={"errors": [error], "data": None})


def _date(each: dict[str, Any]) -> float:
    return each["date"] if isinstance(each["date"], float) else 1.7e12


def _cut(each: dict[str, Any], shown: list[str]) -> dict[str, Any]:
    return {name: value for name, value in each.items() if name in shown}


def fireflies(**more: Any) -> Fireflies:
    """The connector of that account."""
    return Fireflies(**({"api_key": SECRET} | more))


BARE = dict.fromkeys(
    (
        *("title", "duration", "host_email", "organizer_email", "participants", "meeting_attendees", "speakers"),
        *("is_live", "meeting_info", "transcript_url"),
    )
)
NOBODY = {
    "index": None,
    "speaker_name": None,
    "speaker_id": None,
    "text": STRANGE,
    "start_time": None,
    "end_time": None,
}

CASE = Case(
    connector=fireflies(),
    full=lambda: FakeFireflies([meeting(number) for number in range(1, 56)]),
    ids=frozenset(map(id_of, range(1, 56))),
    empty=lambda: FakeFireflies([]),
    strange=lambda: FakeFireflies(
        [
            meeting(
                1, title=STRANGE, speakers=[{"name": STRANGE}, {"name": None}], participants=[None, "mia@globex.test"]
            ),
            meeting(2, **BARE, sentences=[NOBODY, NOBODY | {"text": None}]),
        ]
    ),
    broken=(lambda: FakeFireflies([meeting(1), meeting(2, date="the other day"), meeting(3)]), id_of(2)),
    required="date",
    circling=lambda: FakeFireflies([meeting(number) for number in range(1, 56)], circles=True),
    forged=fireflies(api_key="wrong"),
    is_detail=lambda request: json.loads(request.content)["variables"]["words"],
    later=[
        (
            lambda: FakeFireflies([meeting(1)]),
            lambda: FakeFireflies([meeting(1), meeting(2, at=NOW - timedelta(hours=1))]),
            id_of(2),
        ),
        (
            lambda: FakeFireflies([meeting(1, status="processing", sentences=None)]),
            lambda: FakeFireflies([meeting(1)]),
            id_of(1),
        ),
        (lambda: FakeFireflies([meeting(2)]), lambda: FakeFireflies([meeting(1), meeting(2)]), id_of(1)),
    ],
    now=NOW,
)
