"""Gong, as far as its calls and their transcripts go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connectors.gong import Gong
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, basic

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
KEY = "AK-77"
HOST = "us-777.api.gong.io"


def began(number: int) -> datetime:
    """When the call of that number began: the thirtieth an hour ago, each a day before the next."""
    return NOW - timedelta(days=30 - number, hours=1)


def call(number: int, **more: Any) -> dict[str, Any]:
    """A call with its parties, and with what was said in it under `transcript`."""
    meta = {
        "id": str(7400000000000000000 + number),
        "url": f"https://us-777.app.gong.io/call?id={7400000000000000000 + number}",
        "title": f"Renewal, round {number}",
        "scheduled": None,
        "started": (began(number)).astimezone(ZONE).isoformat(timespec="milliseconds"),
        "duration": 1805,
        "primaryUserId": "11",
        "direction": "Conference",
        "system": "Zoom",
        "scope": "External",
        "media": "Video",
        "language": "eng",
        "workspaceId": "42",
        "purpose": None,
        "isPrivate": False,
    }
    parties = [
        party("501", "Ines", "ines@acme.test", "Internal"),
        party("502", "Tom", "Tom@Globex.test", "External"),
    ]
    return {
        "metaData": meta | {name: value for name, value in more.items() if name in meta},
        "parties": more.get("parties", parties),
        "transcript": more.get(
            "transcript",
            [said("501", 1200, "Hello Tom."), said("502", 4000, "The export fails.", "On large files.")],
        ),
    }


ZONE = datetime.fromisoformat("2026-01-01T00:00:00-08:00").tzinfo


def party(speaker: str | None, name: str | None, email: str | None, affiliation: str | None) -> dict[str, Any]:
    """Somebody who took part."""
    return {
        "id": f"p-{speaker}",
        "speakerId": speaker,
        "name": name,
        "emailAddress": email,
        "affiliation": affiliation,
        "userId": None,
        "title": None,
    }


def said(speaker: str | None, start: int, *sentences: str) -> dict[str, Any]:
    """What somebody said, from so many milliseconds after the start."""
    return {
        "speakerId": speaker,
        "topic": None,
        "sentences": [
            {"start": start + 900 * number, "end": start + 900 * number + 800, "text": text}
            for number, text in enumerate(sentences)
        ],
    }


class FakeGong(Vendor):
    """A company with these calls. A call whose transcript is None has none yet. No span may be over `longest`."""

    def __init__(
        self,
        calls: Sequence[dict[str, Any]],
        *,
        page: int = 3,
        circles: bool = False,
        longest: timedelta = timedelta.max,
    ) -> None:
        super().__init__()
        self.calls = list(calls)
        self.page, self.circles, self.longest = page, circles, longest

    @property
    def bodies(self) -> list[tuple[str, dict[str, Any]]]:
        """What was asked: the last word of each path, and the body."""
        return [(request.url.path.rpartition("/")[2], json.loads(request.content)) for request in self.asked]

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != basic(KEY, SECRET):
            return _refused(401, "The access key or its secret is wrong")
        if request.url.path not in ("/v2/calls/extensive", "/v2/calls/transcript"):
            return _refused(404, "Not found")
        if request.method != "POST":
            return _refused(405, "Method not allowed")
        assert not request.url.query, "a POST has no parameters: they would be passed over"
        body = json.loads(request.content)
        is_list = request.url.path.endswith("/extensive")
        assert body.keys() <= {"filter", "cursor"} | ({"contentSelector"} if is_list else set())
        chosen = body["filter"]
        assert chosen.keys() <= {"fromDateTime", "toDateTime", "workspaceId", "callIds"}
        if chosen.get("callIds") == []:
            return _refused(400, "callIds must not be empty")
        assert len(chosen.get("callIds", ())) <= 100
        if "fromDateTime" in chosen and _time(chosen["toDateTime"]) - _time(chosen["fromDateTime"]) > self.longest:
            return _refused(400, "the span of time is too long")
        found = [each for each in self.calls if self._matches(each["metaData"], chosen)]
        if not is_list:
            found = [each for each in found if each["transcript"] is not None]
        if not found:
            return _refused(404, "No calls found corresponding to the provided filters")
        parties = body.get("contentSelector", {}).get("exposedFields", {}).get("parties", False)
        return self._paged(found, chosen, body.get("cursor"), is_list, parties)

    def _matches(self, meta: dict[str, Any], chosen: dict[str, Any]) -> bool:
        if "callIds" in chosen and str(meta["id"]) not in chosen["callIds"]:
            return False
        if "workspaceId" in chosen and meta["workspaceId"] != chosen["workspaceId"]:
            return False
        try:
            started = datetime.fromisoformat(meta["started"])
        except (KeyError, ValueError):
            return True
        start = _time(chosen.get("fromDateTime", "1970-01-01T00:00:00Z"))
        end = _time(chosen.get("toDateTime", "2970-01-01T00:00:00Z"))
        return start <= started < end

    def _paged(
        self, found: Sequence[dict[str, Any]], chosen: dict[str, Any], cursor: str | None, is_list: bool, parties: bool
    ) -> httpx.Response:
        start = 0
        if cursor:
            place, _, its_filter = cursor.partition("|")
            if its_filter != json.dumps(chosen, sort_keys=True):
                return _refused(400, "the filter changed while paging")
            start = int(place)
        shown = found[start : start + self.page]
        records: dict[str, Any] = {
            "totalRecords": len(found),
            "currentPageSize": len(shown),
            "currentPageNumber": start // self.page,
        }
        if self.circles or start + self.page < len(found):
            at = 0 if self.circles else start + self.page
            records["cursor"] = f"{at}|{json.dumps(chosen, sort_keys=True)}"
        if is_list:
            names = ("metaData", "parties") if parties else ("metaData",)
            given = {"calls": [{name: each[name] for name in names if name in each} for each in shown]}
        else:
            given = {
                "callTranscripts": [
                    {"callId": each["metaData"]["id"], "transcript": each["transcript"]} for each in shown
                ]
            }
        return httpx.Response(200, json={"requestId": "r-1", "records": records, **given})


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _refused(status: int, why: str) -> httpx.Response:
    return httpx.Response(status, json={"requestId": "r-0", "errors": [why]})


def gong(**more: Any) -> Gong:
    """The connector of that company."""
    given = {"access_key": KEY, "access_key_secret": SECRET, "base_url": f"https://{HOST}"}
    return Gong(**(given | more))


def number_of(id_: str) -> int:
    """Which call an id is of."""
    return int(id_) - 7400000000000000000


def ids(*numbers: int) -> set[str]:
    """The ids of calls."""
    return {str(7400000000000000000 + number) for number in numbers}


BARE = dict.fromkeys(("url", "title", "duration", "direction", "system", "language", "purpose", "isPrivate"))

CASE = Case(
    connector=gong(),
    full=lambda: FakeGong([call(-900), call(-800), *(call(number) for number in range(20, 30))]),
    ids=frozenset(ids(-900, -800, *range(20, 30))),
    empty=lambda: FakeGong([]),
    strange=lambda: FakeGong(
        [
            call(
                1,
                title=STRANGE,
                parties=[party("501", STRANGE, None, None), party(None, None, None, None)],
                transcript=[said("501", 0, STRANGE), said(None, 9000, STRANGE)],
            ),
            call(2, parties=None, transcript=[said("9", 0, STRANGE), {"speakerId": None, "sentences": None}], **BARE),
        ]
    ),
    broken=(lambda: FakeGong([call(1), call(2, started="the other day"), call(3)]), "7400000000000000002"),
    required="started",
    circling=lambda: FakeGong([call(1)], circles=True),
    forged=gong(access_key_secret="wrong"),
    is_detail=lambda request: request.url.path.endswith("/transcript"),
    later=[
        (lambda: FakeGong([call(20)]), lambda: FakeGong([call(20), call(30)]), "7400000000000000030"),
        (lambda: FakeGong([call(20)]), lambda: FakeGong([call(20), call(19)]), "7400000000000000019"),
        (lambda: FakeGong([call(29, transcript=None)]), lambda: FakeGong([call(29)]), "7400000000000000029"),
    ],
    now=NOW,
)
