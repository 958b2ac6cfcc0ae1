"""Zendesk Support, as far as its incremental export and its comments go."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connectors.zendesk import Zendesk
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, basic, iso, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
EMAIL = "admin@acme.test"

USERS = {
    901: {"id": 901, "name": "Mia Ortiz", "email": "mia@globex.test", "role": "end-user"},
    77: {"id": 77, "name": "Sam", "email": "sam@acme.test", "role": "agent"},
}
GLOBEX = {"id": 5501, "name": "Globex", "external_id": "crm-globex", "domain_names": ["globex.test"]}


def ticket(number: int, *, changed: datetime | None = None, **more: Any) -> dict[str, Any]:
    """A ticket as the export has it, solved, a day apart from the next."""
    changed = changed or NOW - timedelta(days=30 - number)
    return {
        "url": f"https://acme.zendesk.com/api/v2/tickets/{number}.json",
        "id": number,
        "external_id": None,
        "created_at": iso(changed - timedelta(hours=2)),
        "updated_at": iso(changed),
        "generated_timestamp": int(changed.timestamp()),
        "type": "problem",
        "subject": f"CSV export stops at {number}k rows",
        "description": "Hi, the export ends early.",
        "priority": "high",
        "status": "solved",
        "requester_id": 901,
        "organization_id": 5501,
        "tags": ["export"],
        "is_public": True,
    } | more


def comment(number: int, body: str, *, author: int = 901, public: bool = True) -> dict[str, Any]:
    """A comment of a ticket."""
    return {
        "id": number,
        "type": "Comment",
        "author_id": author,
        "body": body,
        "plain_body": body,
        "public": public,
        "created_at": iso(NOW - timedelta(days=20) + timedelta(minutes=number)),
    }


THREAD = (
    comment(1, "Hi, the export ends early."),
    comment(2, "A known bug; ask product.", author=77, public=False),
    comment(3, "Fixed in 4.2.\n\nOn Mon, Oct 5, 2026 at 10:00 AM Mia <mia@globex.test> wrote:\n> Hi", author=77),
)


class FakeZendesk(Vendor):
    """An account with these tickets, exported so many a page, with the same thread on each unless told otherwise."""

    def __init__(
        self,
        tickets: Sequence[dict[str, Any]],
        *,
        threads: dict[int, Sequence[dict[str, Any]]] | None = None,
        page: int = 3,
        circles: bool = False,
    ) -> None:
        super().__init__()
        self.tickets = sorted(tickets, key=_position)
        self.threads = threads or {}
        self.page = page
        self.circles = circles

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != basic(f"{EMAIL}/token", SECRET):
            return httpx.Response(401, json={"error": "Couldn't authenticate you"})
        match request.url.path.strip("/").split("/"):
            case ["api", "v2", "incremental", "tickets", "cursor.json"]:
                return self._export(only(request, "start_time", "cursor", "per_page", "include"))
            case ["api", "v2", "tickets", number, "comments.json"]:
                return self._comments(int(number), only(request, "page[size]", "page[after]", "include"))
        return httpx.Response(404, json={"error": "InvalidEndpoint", "description": "Not found"})

    def _export(self, params: dict[str, str]) -> httpx.Response:
        if ("start_time" in params) == ("cursor" in params):
            return _refused("start_time belongs into the first request only, and a cursor into all others")
        if int(params.get("per_page", "1000")) > 1000:
            return _refused("per_page is 1000 at most")
        if "cursor" in params:
            at, _, number = base64.b64decode(params["cursor"]).decode().rstrip("|").partition(".0||")
            rest = [each for each in self.tickets if _position(each) > (int(at), int(number))]
        else:
            start = int(params["start_time"])
            if start > (NOW - timedelta(seconds=60)).timestamp():
                return _refused("Too recent start_time. Use a start_time older than 60 seconds")
            rest = [each for each in self.tickets if each["generated_timestamp"] >= start]
        shown = rest[: self.page]
        cursor = base64.b64encode("{}.0||{}|".format(*_position(shown[-1])).encode()).decode() if shown else None
        cursor = "MTc3MC4wfHwxfA==" if self.circles else cursor
        included = params.get("include", "").split(",")
        return httpx.Response(
            200,
            json={
                "tickets": self.tickets[:1] if self.circles else shown,
                "users": list(USERS.values()) if "users" in included else [],
                "organizations": [GLOBEX] if "organizations" in included else [],
                "after_cursor": cursor,
                "after_url": None,
                "end_of_stream": not self.circles and len(rest) <= self.page,
            },
        )

    def _comments(self, number: int, params: dict[str, str]) -> httpx.Response:
        if int(params.get("page[size]", "100")) > 100:
            return _refused("page[size] is 100 at most")
        if not any(each["id"] == number and each["status"] != "deleted" for each in self.tickets):
            return httpx.Response(404, json={"error": "RecordNotFound", "description": "Not found"})
        start = int(params.get("page[after]", "0"))
        thread = self.threads.get(number, THREAD)
        shown = thread[start : start + 2]
        more = start + 2 < len(thread)
        return httpx.Response(
            200,
            json={
                "comments": shown,
                "users": list(USERS.values()) if params.get("include") == "users" else [],
                "meta": {"has_more": more, "after_cursor": str(start + 2) if more else None, "before_cursor": None},
                "links": {"prev": None, "next": None},
            },
        )


def _position(each: dict[str, Any]) -> tuple[int, int]:
    return each["generated_timestamp"], each["id"]


def _refused(why: str) -> httpx.Response:
    return httpx.Response(422, json={"error": "RecordInvalid", "description": why})


def zendesk(**more: Any) -> Zendesk:
    """The connector of that account."""
    return Zendesk(**({"subdomain": "acme", "email": EMAIL, "api_token": SECRET} | more))


BARE = dict.fromkeys(("type", "priority", "requester_id", "organization_id", "subject", "tags", "external_id"))

CASE = Case(
    connector=zendesk(),
    full=lambda: FakeZendesk([ticket(number) for number in range(1, 9)]),
    ids=frozenset(map(str, range(1, 9))),
    empty=lambda: FakeZendesk([]),
    strange=lambda: FakeZendesk(
        [ticket(1, subject=STRANGE), ticket(2, **BARE)],
        threads={
            1: [comment(1, STRANGE)],
            2: [comment(1, STRANGE, author=0) | {"author_id": None, "plain_body": None}],
        },
    ),
    broken=(lambda: FakeZendesk([ticket(1), ticket(2, created_at="the other day"), ticket(3)]), "2"),
    required="generated_timestamp",
    circling=lambda: FakeZendesk([ticket(1)], circles=True),
    forged=zendesk(api_token="wrong"),
    is_detail=lambda request: request.url.path.endswith("/comments.json"),
    later=[
        (lambda: FakeZendesk([ticket(1)]), lambda: FakeZendesk([ticket(1), ticket(2, changed=NOW)]), "2"),
        (lambda: FakeZendesk([ticket(1)]), lambda: FakeZendesk([ticket(1, changed=NOW, subject="Edited")]), "1"),
        (
            lambda: FakeZendesk([ticket(1), ticket(2, changed=NOW - timedelta(days=1), status="open")]),
            lambda: FakeZendesk([ticket(1), ticket(2, changed=NOW)]),
            "2",
        ),
    ],
    now=NOW,
)
