"""Intercom, as far as the search of its conversations and a single one with its parts go."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connectors.intercom import Intercom
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

PIA = {"type": "user", "id": "c-31", "name": "Pia Holm", "email": "pia@hooli.test"}
SAM = {"type": "admin", "id": "17", "name": "Sam", "email": "sam@acme.test"}
FIN = {"type": "bot", "id": "18", "name": "Fin", "email": "fin@acme.test", "from_ai_agent": True}


def seconds(at: datetime) -> int:
    """A time as Intercom writes it."""
    return int(at.timestamp())


def part(number: int, body: str | None, author: Mapping[str, Any] = PIA, **more: Any) -> dict[str, Any]:
    """A part of a conversation, so many minutes after ten on the fourth of October."""
    at = seconds(datetime(2026, 10, 4, 10, tzinfo=UTC) + timedelta(minutes=number))
    return {
        "type": "conversation_part",
        "id": f"p{number}",
        "part_type": "comment",
        "body": body,
        "created_at": at,
        "updated_at": at,
        "author": author,
        "attachments": [],
        "redacted": False,
    } | more


PARTS = (
    part(1, "Every row twice, since Monday."),
    part(2, "Seen in the logs; tell product.", SAM, part_type="note"),
    part(3, "A fix is on its way.", SAM),
    part(4, None, SAM, part_type="close"),
)


def chat(number: int, *, changed: datetime | None = None, parts: Sequence[Any] = PARTS, **more: Any) -> dict[str, Any]:
    """A conversation with its parts, closed, a day apart from the next."""
    changed = changed or NOW - timedelta(days=29 - number)
    return {
        "type": "conversation",
        "id": str(number),
        "title": None,
        "created_at": seconds(changed - timedelta(hours=2)),
        "updated_at": seconds(changed),
        "source": {
            "type": "email",
            "id": f"s{number}",
            "delivered_as": "customer_initiated",
            "subject": f"<p>Import {number} doubles rows</p>",
            "body": "The import shows rows twice.",
            "author": PIA,
            "redacted": False,
        },
        "first_contact_reply": {"created_at": seconds(changed), "type": "email", "url": None},
        "contacts": {"type": "contact.list", "contacts": [{"type": "contact", "id": "c-31", "external_id": "u-9"}]},
        "company": None,
        "state": "closed",
        "priority": "not_priority",
        "tags": {"type": "tag.list", "tags": [{"type": "tag", "id": "1", "name": "import"}]},
        "conversation_rating": None,
        "statistics": {"type": "conversation_statistics", "count_conversation_parts": len(parts)},
        "conversation_parts": {
            "type": "conversation_part.list",
            "conversation_parts": list(parts)[-500:],
            "total_count": len(parts),
        },
    } | more


class FakeIntercom(Vendor):
    """A workspace with these conversations, found so many a page."""

    def __init__(
        self,
        chats: Sequence[dict[str, Any]],
        *,
        page: int = 3,
        circles: bool = False,
        sorts: bool = True,
        me: httpx.Response | None = None,
    ) -> None:
        super().__init__()
        self.chats = list(chats)
        self.gone: set[str] = set()
        self.page = page
        self.circles = circles
        self.sorts = sorts
        self.me = me or httpx.Response(
            200, json={"type": "admin", "id": "17", "app": {"id_code": "ws1", "region": "US"}}
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return _refused(401, "unauthorized", "Access Token Invalid")
        if request.headers.get("Intercom-Version") != "2.15":
            return _refused(400, "intercom_version_invalid", "The requested version could not be found")
        match request.method, *request.url.path.strip("/").split("/"):
            case "GET", "me":
                return self.me
            case "POST", "conversations", "search":
                return self._search(json.loads(request.content))
            case "GET", "conversations", id_:
                assert only(request, "display_as") == {"display_as": "plaintext"}
                return self._conversation(id_)
        return _refused(404, "not_found", "Resource Not Found")

    def _search(self, asked: dict[str, Any]) -> httpx.Response:
        assert asked.keys() == {"query", "sort", "pagination"}
        assert asked["sort"] == {"field": "updated_at", "order": "ascending"}
        bounds = asked["query"]
        per_page = asked["pagination"].get("per_page", 20)
        if bounds["operator"] != "AND" or any(bound["field"] != "updated_at" for bound in bounds["value"]):
            return _refused(400, "parameter_invalid", "Search field invalid")
        if not 1 <= per_page <= 150:
            return _refused(400, "parameter_invalid", "per_page must be between 1 and 150")
        found = [each for each in self.chats if each["id"] not in self.gone and _fits(each, bounds["value"])]
        found.sort(key=_position, reverse=not self.sorts)
        total = len(found)
        if after := asked["pagination"].get("starting_after"):
            last = tuple(json.loads(base64.b64decode(after)))
            found = [each for each in found if (_position(each) > last if self.sorts else _position(each) < last)]
        shown = found[: min(per_page, self.page)]
        more = self.circles or len(found) > len(shown)
        cursor = base64.b64encode(json.dumps(_position(shown[-1])).encode()).decode() if shown else None
        if self.circles:
            shown, cursor = self.chats[:1], "WzAsMF0="
        return httpx.Response(
            200,
            json={
                "type": "conversation.list",
                "total_count": total,
                "pages": {
                    "type": "pages",
                    "page": 1,
                    "per_page": per_page,
                    "next": {"per_page": per_page, "starting_after": cursor} if more else None,
                },
                "conversations": [_listed(each) for each in shown],
            },
        )

    def _conversation(self, id_: str) -> httpx.Response:
        for each in self.chats:
            if each["id"] == id_ and id_ not in self.gone:
                return httpx.Response(200, json=each)
        return _refused(404, "not_found", "Resource Not Found")


def _fits(each: dict[str, Any], bounds: Sequence[dict[str, Any]]) -> bool:
    compare = {">": lambda at, value: at > value, "<=": lambda at, value: at <= value}
    assert all(isinstance(bound["value"], int) for bound in bounds)
    return all(compare[bound["operator"]](each["updated_at"], bound["value"]) for bound in bounds)


def _position(each: dict[str, Any]) -> tuple[int, str]:
    return each["updated_at"], str(each["id"])


def _listed(each: dict[str, Any]) -> dict[str, Any]:
    """A conversation as the search has it: without its parts, and with its first message in HTML."""
    first = each.get("source")
    shown = {key: value for key, value in each.items() if key != "conversation_parts"}
    return shown | {"source": first and first | {"body": f"<p>{first['body']}</p>"}}


def _refused(status: int, code: str, why: str) -> httpx.Response:
    return httpx.Response(
        status, json={"type": "error.list", "request_id": "r1", "errors": [{"code": code, "message": why}]}
    )


def intercom(**more: Any) -> Intercom:
    """The connector of that workspace."""
    return Intercom(**({"access_token": SECRET} | more))


BARE = dict.fromkeys(
    ("title", "source", "contacts", "tags", "priority", "statistics", "company", "first_contact_reply")
)

CASE = Case(
    connector=intercom(),
    full=lambda: FakeIntercom([chat(number) for number in range(1, 9)]),
    ids=frozenset(map(str, range(1, 9))),
    empty=lambda: FakeIntercom([]),
    strange=lambda: FakeIntercom(
        [
            chat(1, title=STRANGE, parts=[part(1, STRANGE, PIA | {"name": STRANGE})]),
            chat(
                2,
                parts=[
                    part(1, "Hello", PIA | {"name": None, "email": None}),
                    part(2, "Hi", author=None, redacted=None),
                ],
                **BARE,
            ),
        ],
        me=httpx.Response(200, json={"type": "admin", "app": None}),
    ),
    broken=(lambda: FakeIntercom([chat(1), chat(2, created_at="the other day"), chat(3)]), "2"),
    required="updated_at",
    circling=lambda: FakeIntercom([chat(1)], circles=True),
    forged=intercom(access_token="wrong"),
    is_detail=lambda request: request.method == "GET" and request.url.path.startswith("/conversations/"),
    later=[
        (lambda: FakeIntercom([chat(1)]), lambda: FakeIntercom([chat(1), chat(2, changed=NOW)]), "2"),
        (lambda: FakeIntercom([chat(1)]), lambda: FakeIntercom([chat(1, changed=NOW, title="Edited")]), "1"),
        (
            lambda: FakeIntercom([chat(1), chat(2, changed=NOW - timedelta(days=1), state="open")]),
            lambda: FakeIntercom([chat(1), chat(2, changed=NOW)]),
            "2",
        ),
    ],
    now=NOW,
)
