"""MeetGeek, as far as its lists of meetings, their details and their transcripts go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx

from connectors.meetgeek import MeetGeek
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, iso, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def begins(number: int) -> datetime:
    """When the meeting of that number began: a day apart from the next, the fortieth a quarter of an hour ago."""
    return NOW - timedelta(days=40 - number, minutes=15)


def meeting(number: int | str, *, start: datetime | None = None, **more: Any) -> dict[str, Any]:
    """A meeting with its details, and with what was said in it under `sentences`."""
    start = start or begins(int(number))
    return {
        "meeting_id": f"m-{number}",
        "title": f"Onboarding, part {number}",
        "host_email": "Noor@acme.test",
        "participant_emails": ["noor@acme.test", "kim@acme.test", "lea@globex.test"],
        "language": "en-GB",
        "source": "zoom",
        "join_link": "https://zoom.us/j/555",
        "timestamp_start_utc": iso(start),
        "timestamp_end_utc": iso(start + timedelta(minutes=31)),
        "timezone": "Europe/Zurich",
        "template": {"id": 3, "name": "Customer call"},
        "team_ids": [],
        "event_id": None,
        "sentences": [
            sentence(start, 5, "Noor", "How is the import going?"),
            sentence(start, 9, "Lea", "It stops at 90 %."),
            sentence(start, 14, "Lea", "Every time."),
        ],
    } | more


def sentence(start: datetime, after: int, speaker: str | None, words: str) -> dict[str, Any]:
    """What somebody said so many seconds after the start."""
    return {
        "id": after,
        "speaker": speaker,
        "timestamp": iso(start + timedelta(seconds=after)),
        "transcript": words,
    }


class FakeMeetGeek(Vendor):
    """An account with these meetings, newest first, and the meetings that teams share with it."""

    def __init__(
        self,
        meetings: Sequence[dict[str, Any]],
        *,
        teams: Mapping[int, Sequence[dict[str, Any]]] | None = None,
        private: frozenset[str] = frozenset(),
        gone: frozenset[str] = frozenset(),
        page: int = 4,
        is_sorted: bool = True,
        end: Any = "",
        circles: bool = False,
    ) -> None:
        super().__init__()
        self.own = list(meetings)
        self.teams = dict(teams or {})
        self.private, self.gone = private, gone
        self.page, self.is_sorted, self.end, self.circles = page, is_sorted, end, circles

    @property
    def all(self) -> dict[str, dict[str, Any]]:
        """Every meeting there is."""
        lists = [*self.teams.values(), self.own]
        return {each["meeting_id"]: each for some in lists for each in some}

    def paths(self, *ends: str) -> list[str]:
        """The paths that were asked for, of those that end so."""
        return [request.url.path for request in self.asked if request.url.path.endswith(ends)]

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return httpx.Response(401, json={"message": "unauthorized"})
        assert request.method == "GET"
        match [unquote(part) for part in request.url.raw_path.decode().partition("?")[0].strip("/").split("/")]:
            case ["v1", "meetings"]:
                return self._list(self.own, only(request, "limit", "cursor"))
            case ["v1", "teams", team, "meetings"] if int(team) in self.teams:
                return self._list(self.teams[int(team)], only(request, "limit", "cursor"))
            case ["v1", "teams", _, "meetings"]:
                return httpx.Response(403, json={"message": "you do not have access to this team"})
            case ["v1", "meetings", id_, *rest] if rest in ([], ["transcript"]):
                return self._one(id_, bool(rest), request)
        return httpx.Response(404, json={"message": "not found"})

    def _list(self, meetings: Sequence[dict[str, Any]], params: dict[str, str]) -> httpx.Response:
        if self.is_sorted:
            meetings = sorted(meetings, key=lambda each: str(each["timestamp_start_utc"]), reverse=True)
        shown, cursor = self._paged(meetings, params)
        names = ("meeting_id", "timestamp_start_utc", "timestamp_end_utc")
        listed = [{name: each[name] for name in names if name in each} for each in shown]
        return httpx.Response(200, json={"meetings": listed, "pagination": cursor})

    def _one(self, id_: str, is_transcript: bool, request: httpx.Request) -> httpx.Response:
        if id_ in self.gone:
            return httpx.Response(410, json={"message": "meeting deleted"})
        if id_ in self.private:
            return httpx.Response(403, json={"message": "you do not have access to view this meeting"})
        if id_ not in self.all:
            return httpx.Response(404, json={"message": "meeting not found"})
        about = {name: value for name, value in self.all[id_].items() if name != "sentences"}
        if not is_transcript:
            only(request)
            return httpx.Response(200, json=about)
        sentences = self.all[id_]["sentences"]
        if sentences is None:
            return httpx.Response(404, json={"message": "transcript not found"})
        shown, cursor = self._paged(sentences, only(request, "limit", "cursor"), 2)
        return httpx.Response(200, json={"meeting_id": id_, "sentences": shown, "pagination": cursor})

    def _paged(
        self, items: Sequence[Any], params: dict[str, str], page: int | None = None
    ) -> tuple[Sequence[Any], Any]:
        """A page of a list, and what is said of the next one."""
        size = min(int(params.get("limit", "50")), page or self.page)
        assert int(params.get("limit", "50")) <= 500
        start = int(params.get("cursor", "at:0").removeprefix("at:"))
        more = start + size < len(items)
        if not more and self.end is Ellipsis:
            return items[start:], None
        last = "at:0" if self.circles else self.end
        return items[start : start + size], {
            "next_cursor": f"at:{start + size}" if more else last,
            "previous_cursor": f"at:{max(start - size, 0)}" if start else "",
        }


def meetgeek(**more: Any) -> MeetGeek:
    """The connector of that account."""
    return MeetGeek(**({"api_key": SECRET, "teams": [12]} | more))


BARE = dict.fromkeys(
    ("title", "host_email", "participant_emails", "language", "source", "template", "timezone", "timestamp_end_utc")
)


def _account(*meetings: dict[str, Any]) -> Callable[[], FakeMeetGeek]:
    return lambda: FakeMeetGeek(meetings, teams={12: []})


CASE = Case(
    connector=meetgeek(),
    full=lambda: FakeMeetGeek(
        [meeting(number) for number in range(30, 38)],
        teams={12: [meeting(number) for number in range(35, 41)]},
    ),
    ids=frozenset(f"m-{number}" for number in range(30, 41)),
    empty=lambda: FakeMeetGeek([], teams={12: []}),
    strange=lambda: FakeMeetGeek(
        [
            meeting(1, title=STRANGE, sentences=[sentence(begins(1), 1, STRANGE, STRANGE)]),
            meeting(2, **BARE, sentences=[sentence(begins(2), 1, None, STRANGE) | {"timestamp": None}]),
        ],
        teams={12: []},
        end=None,
    ),
    broken=(
        lambda: FakeMeetGeek([meeting(1), meeting(2) | {"participant_emails": {"a": 1}}, meeting(3)], teams={12: []}),
        "m-2",
    ),
    required="meeting_id",
    circling=lambda: FakeMeetGeek([meeting(1)], teams={12: []}, circles=True),
    forged=meetgeek(api_key="wrong"),
    is_detail=lambda request: request.url.path.startswith("/v1/meetings/"),
    later=[
        (_account(meeting(30)), _account(meeting(30), meeting(40)), "m-40"),
        (_account(meeting(30)), _account(meeting(30), meeting(25)), "m-25"),
        (_account(meeting(40, sentences=[])), _account(meeting(40)), "m-40"),
    ],
    now=NOW,
)
