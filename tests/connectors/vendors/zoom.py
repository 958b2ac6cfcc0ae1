"""Zoom, as far as its users, cloud recordings and their files go."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import httpx

from connectors.zoom import Zoom
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, basic, iso, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
TOKEN = "made-up-token-77d0"
SAM, KIM = "zHostSam0000000000000A", "zHostKim0000000000000A"
EMAILS = {SAM: "Sam@acme.test", KIM: "kim@acme.test"}

VTT = """WEBVTT

1
00:00:05.790 --> 00:00:08.514
Mia Ortiz: The export ends early.

2
00:00:09.010 --> 00:00:11.200
Every time.

3
00:06:00.000 --> 00:06:02.000
Sam: We will look into it.
"""


def uuid_of(number: int) -> str:
    """The uuid of the meeting with that number, with the signs of base64 in it."""
    return f"Qk3+b/{number:04}dEF12g=="


def file(number: int, kind: str = "TRANSCRIPT", **more: Any) -> dict[str, Any]:
    """A file of a recording."""
    return {
        "id": f"f1e2d3c4-0000-4000-8000-{number:012}",
        "meeting_id": uuid_of(number),
        "recording_start": "2026-10-01T14:00:12Z",
        "recording_end": "2026-10-01T14:41:55Z",
        "file_type": kind,
        "file_extension": "VTT",
        "file_size": 48211,
        "play_url": f"https://zoom.us/rec/play/{number}",
        "download_url": f"https://zoom.us/rec/download/{number}",
        "status": "completed",
        "recording_type": "audio_transcript",
    } | more


def meeting(number: int, *, at: datetime | None = None, host: str = SAM, **more: Any) -> dict[str, Any]:
    """A recorded meeting with its transcript; each began ten days after the one numbered before it."""
    return {
        "uuid": uuid_of(number),
        "id": 81234567890,
        "account_id": "aBcACME",
        "host_id": host,
        "host_email": EMAILS[host],
        "topic": f"Globex onboarding {number}",
        "type": 2,
        "start_time": iso(at or NOW - timedelta(days=100 - 10 * number)),
        "timezone": "Europe/Berlin",
        "duration": 42,
        "share_url": f"https://zoom.us/rec/share/{number}",
        "recording_files": [file(number, "MP4"), file(number, "M4A"), file(number), {"file_type": "TIMELINE"}],
    } | more


class FakeZoom(Vendor):
    """An account with these meetings, listed so many a page. `files` are what downloads give, by the end of their
    address; another is the same VTT for all. `circles`: its page token leads to itself."""

    def __init__(
        self,
        meetings: Sequence[dict[str, Any]],
        *,
        files: Mapping[str, str | httpx.Response] | None = None,
        participants: Sequence[dict[str, Any]] = (),
        page: int = 2,
        circles: bool = False,
    ) -> None:
        super().__init__()
        self.meetings = list(meetings)
        self.files = dict(files or {})
        self.participants = participants
        self.page = page
        self.circles = circles
        self.open_lists: set[str] = set()

    def paths(self, part: str) -> list[str]:
        """The addresses that were asked for and have this in them, as they went over the wire."""
        return [path for request in self.asked if part in (path := request.url.raw_path.decode())]

    def answer(self, request: httpx.Request) -> httpx.Response:
        host, path = request.url.host, request.url.raw_path.decode().partition("?")[0]
        if (host, path) == ("zoom.us", "/oauth/token"):
            return self._token(request)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refused(401, 124, "Invalid access token.")
        match path.strip("/").split("/"):
            case ["rec", "download", name] if host == "zoom.us" or host.endswith(".zoom.us"):
                return self._file(name, request)
            case ["v2", "users"] if host == "api.zoom.us":
                only(request, "status", "page_size", "next_page_token")
                users = [{"id": id_, "email": email, "type": 2, "status": "active"} for id_, email in EMAILS.items()]
                return self._page("users", users, "users", request, most=1)
            case ["v2", "users", user, "recordings"] if host == "api.zoom.us":
                return self._recordings(unquote(user), request)
            case ["v2", "past_meetings", uuid, "participants"] if host == "api.zoom.us":
                once = unquote(uuid)
                plain = unquote(once) if "%" in once else once
                if not any(each["uuid"] == plain for each in self.meetings):
                    return refused(404, 3001, "Meeting does not exist.")
                return self._page("participants", self.participants, plain, request, most=1)
        return refused(404, 404, "Not found")

    def _token(self, request: httpx.Request) -> httpx.Response:
        params = only(request, "grant_type", "account_id")
        if request.method != "POST" or request.content or params.get("grant_type") != "account_credentials":
            return httpx.Response(400, json={"reason": "unsupported grant type", "error": "unsupported_grant_type"})
        if request.headers.get("Authorization") != basic("app", SECRET) or params.get("account_id") != "aBcACME":
            return httpx.Response(400, json={"reason": "Invalid client_id or client_secret", "error": "invalid_client"})
        return httpx.Response(200, json={"access_token": TOKEN, "token_type": "bearer", "expires_in": 3600})

    def _recordings(self, user: str, request: httpx.Request) -> httpx.Response:
        params = only(request, "from", "to", "page_size", "next_page_token")
        first, last = date.fromisoformat(params["from"]), date.fromisoformat(params["to"])
        if not timedelta(0) <= last - first < timedelta(days=30):
            return refused(400, 300, "The next page token or the date range is invalid")
        if user not in {*EMAILS, *EMAILS.values()}:
            return refused(404, 1001, f"User does not exist: {user}.")
        shown = [
            each
            for each in self.meetings
            if user in (each["host_id"], EMAILS[each["host_id"]]) and first <= _day(each) <= last
        ]
        shown.sort(key=_day, reverse=True)
        return self._page("meetings", shown, f"{user} {first} {last}", request, most=self.page)

    def _page(
        self, name: str, items: Sequence[dict[str, Any]], about: str, request: httpx.Request, *, most: int
    ) -> httpx.Response:
        """Some of the items; the token of the next page is good for the same question only, and not for long."""
        params = request.url.params
        if not 1 <= int(params.get("page_size", "30")) <= 300:
            return refused(400, 300, "page_size is 300 at most")
        start = 0
        if token := params.get("next_page_token"):
            if not self.circles and token not in self.open_lists:
                return refused(400, 300, "The next page token is invalid or expired.")
            of, _, place = token.rpartition(" ")
            assert of == about, "a token goes on with the question it was given for"
            start = int(place)
        more = start + most < len(items) or self.circles
        token = f"{about} {0 if self.circles else start + most}" if more else ""
        self.open_lists |= {token} - {""}
        return httpx.Response(
            200, json={"page_size": most, "next_page_token": token, name: list(items[start : start + most])}
        )

    def _file(self, name: str, request: httpx.Request) -> httpx.Response:
        self.open_lists.clear()  # a download may take longer than a token lasts
        if request.url.params:
            return refused(400, 300, "Tokens in the address are no longer taken")
        match self.files.get(name, VTT):
            case str(text):
                return httpx.Response(200, text=text, headers={"Content-Type": "text/vtt"})
            case other:
                return other


def refused(status: int, code: int, message: str, **headers: str) -> httpx.Response:
    """An error as the API has it."""
    return httpx.Response(status, json={"code": code, "message": message}, headers=headers)


def _day(each: dict[str, Any]) -> date:
    found = re.match(r"\d{4}-\d\d-\d\d", each["start_time"])
    return date.fromisoformat(found[0]) if found else NOW.date()


def zoom(**more: Any) -> Zoom:
    """The connector of that account."""
    return Zoom(**({"account_id": "aBcACME", "client_id": "app", "client_secret": SECRET} | more))


BARE = dict.fromkeys(("id", "topic", "duration", "host_email", "share_url", "type", "timezone"))
BARE_FILE = dict.fromkeys(("recording_start", "recording_end", "play_url", "file_size", "status", "recording_type"))


def _full() -> FakeZoom:
    return FakeZoom([meeting(number, host=(SAM, SAM, KIM)[number % 3]) for number in range(1, 10)])


def _recent(*numbers: int, **more: Any) -> Callable[[], FakeZoom]:
    """Meetings of yesterday and the days before."""
    return lambda: FakeZoom([meeting(number, at=NOW - timedelta(days=10 - number), **more) for number in numbers])


CASE = Case(
    connector=zoom(),
    full=_full,
    ids=frozenset(map(uuid_of, range(1, 10))),
    empty=lambda: FakeZoom([]),
    strange=lambda: FakeZoom(
        [meeting(8, topic=STRANGE), meeting(9, **BARE, recording_files=[None, file(9, **BARE_FILE)])],
        files={"9": f"WEBVTT\n\n00:01.000 --> 00:02.000\n<v {STRANGE[:20]}>{STRANGE[:20]}</v>\n"},
    ),
    broken=(lambda: FakeZoom([meeting(7), meeting(8, start_time="the other day"), meeting(9)]), uuid_of(8)),
    required="start_time",
    circling=lambda: FakeZoom([meeting(9)], circles=True),
    forged=zoom(client_secret="wrong"),
    is_detail=lambda request: "/rec/download/" in request.url.path or "/past_meetings/" in request.url.path,
    later=[
        (_recent(8), _recent(8, 9), uuid_of(9)),
        (_recent(9, recording_files=[file(9, "MP4")]), _recent(9), uuid_of(9)),
    ],
    now=NOW,
)
