"""Freshdesk, as far as the list of its tickets and their conversations go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx

from connectors.freshdesk import Freshdesk
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, basic, iso, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

LENA = {"id": 601, "name": "Lena Ruiz", "email": "lena@stark.test", "mobile": None, "phone": None}
STARK = {"id": 7100, "name": "Stark"}
LIST = ("updated_since", "order_by", "order_type", "include", "per_page", "page")


def ticket(number: int, *, changed: datetime | None = None, **more: Any) -> dict[str, Any]:
    """A ticket as the list has it, resolved, a day apart from the next."""
    changed = changed or NOW - timedelta(days=30 - number)
    return {
        "id": number,
        "subject": f"Invoice {number} without VAT",
        "description": "<div>The VAT line is missing.</div>",
        "description_text": "The VAT line is missing.",
        "status": 4,
        "priority": 3,
        "source": 1,
        "type": "Problem",
        "tags": ["billing"],
        "spam": False,
        "requester_id": 601,
        "requester": LENA,
        "company_id": 7100,
        "company": STARK,
        "custom_fields": {"cf_plan": "team"},
        "created_at": iso(changed - timedelta(hours=3)),
        "updated_at": iso(changed),
    } | more


def reply(number: int, text: str, *, incoming: bool = False, private: bool = False, **more: Any) -> dict[str, Any]:
    """A reply or note, so many minutes after seven on the fourth of October."""
    return {
        "id": number,
        "body": f"<div>{text}</div>",
        "body_text": text,
        "incoming": incoming,
        "private": private,
        "user_id": 601 if incoming else 44,
        "from_email": '"Lena Ruiz" <lena@stark.test>' if incoming else "Acme Billing <billing@acme.freshdesk.com>",
        "source": 2 if private else 0,
        "created_at": iso(datetime(2026, 10, 4, 7, tzinfo=UTC) + timedelta(minutes=number)),
    } | more


THREAD = (
    reply(1, "Corrected and sent again."),
    reply(2, "Ask finance why.", private=True),
    reply(3, "Thank you, that is right now.", incoming=True),
)


class FakeFreshdesk(Vendor):
    """An account with these tickets, with the same replies on each unless told otherwise."""

    def __init__(
        self,
        tickets: Sequence[dict[str, Any]],
        *,
        threads: dict[int, Sequence[Any]] | None = None,
        circles: bool = False,
        inclusive: bool = True,
    ) -> None:
        super().__init__()
        self.tickets = list(tickets)
        self.threads = threads or {}
        self.circles = circles
        self.inclusive = inclusive

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != basic(SECRET, "X"):
            return httpx.Response(
                401, json={"code": "invalid_credentials", "message": "You have to be logged in to perform this action."}
            )
        match request.url.path.strip("/").split("/"):
            case ["api", "v2", "tickets"]:
                return self._list(request, only(request, *LIST))
            case ["api", "v2", "tickets", number, "conversations"]:
                if not any(each["id"] == int(number) for each in self.tickets):
                    return httpx.Response(404)
                return _page(request, self.threads.get(int(number), THREAD), only(request, "per_page", "page"))
        return httpx.Response(404)

    def _list(self, request: httpx.Request, params: dict[str, str]) -> httpx.Response:
        assert "updated_since" in params, "without it only the last thirty days are listed"
        assert (params.get("order_by"), params.get("order_type")) == ("updated_at", "asc")
        since = datetime.strptime(params["updated_since"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        included = params.get("include", "").split(",")
        if not set(included) <= {"requester", "stats", "description", "company"}:
            return _refused("include", "It should be a list of values from requester, stats, description, company")
        if self.circles:
            return _page(request, self.tickets, params | {"page": "1"}, more=True)
        found = [
            each
            for each in self.tickets
            if not each["spam"] and not each.get("deleted")
            if (at := datetime.fromisoformat(each["updated_at"])) > since or (self.inclusive and at == since)
        ]
        found.sort(key=lambda each: each["updated_at"])
        hidden = {
            "description": ("description", "description_text"),
            "requester": ("requester",),
            "company": ("company",),
        }
        left_out = [key for name, keys in hidden.items() if name not in included for key in keys]
        shown = [{key: value for key, value in each.items() if key not in left_out} for each in found]
        return _page(request, shown, params)


def _page(
    request: httpx.Request, items: Sequence[Any], params: dict[str, str], *, more: bool = False
) -> httpx.Response:
    per_page, number = int(params.get("per_page", "30")), int(params.get("page", "1"))
    if not 1 <= per_page <= 100:
        return _refused("per_page", "It should be a Positive Integer less than or equal to 100")
    if number > 300:
        return _refused(
            "page", "You cannot access tickets beyond the 300th page. Please provide a smaller page number."
        )
    end = number * per_page
    following = str(request.url.copy_set_param("page", str(number + 1)))
    headers = {"Link": f'<{following}>; rel="next"'} if more or len(items) > end else {}
    return httpx.Response(200, headers=headers, json=list(items[end - per_page : end]))


def _refused(name: str, why: str) -> httpx.Response:
    errors = [{"field": name, "message": why, "code": "invalid_value"}]
    return httpx.Response(400, json={"description": "Validation failed", "errors": errors})


class SmallPages(Freshdesk):
    """The connector with pages that a few tickets fill."""

    per_page: ClassVar[int] = 3


def freshdesk(kind: type[Freshdesk] = SmallPages, **more: Any) -> Freshdesk:
    """The connector of that account."""
    return kind(**({"domain": "acme", "api_key": SECRET, "calls_per_minute": 700} | more))


BARE = dict.fromkeys(
    (
        "subject",
        "description",
        "priority",
        "source",
        "type",
        "tags",
        "requester_id",
        "requester",
        "company_id",
        "company",
    )
)

CASE = Case(
    connector=freshdesk(),
    full=lambda: FakeFreshdesk([ticket(number) for number in range(1, 9)]),
    ids=frozenset(map(str, range(1, 9))),
    empty=lambda: FakeFreshdesk([]),
    strange=lambda: FakeFreshdesk(
        [ticket(1, subject=STRANGE, requester=LENA | {"name": STRANGE, "email": None}), ticket(2, **BARE)],
        threads={
            1: [reply(1, STRANGE, incoming=True, from_email=None)],
            2: [
                reply(1, "Hi", body_text=None, body=None),
                reply(2, "Hi", user_id=None, from_email=None, incoming=None),
            ],
        },
    ),
    broken=(lambda: FakeFreshdesk([ticket(1), ticket(2, created_at="the other day"), ticket(3)]), "2"),
    required="updated_at",
    circling=lambda: FakeFreshdesk([ticket(number, changed=NOW) for number in range(1, 4)], circles=True),
    forged=freshdesk(api_key="wrong"),
    is_detail=lambda request: request.url.path.endswith("/conversations"),
    later=[
        (lambda: FakeFreshdesk([ticket(1)]), lambda: FakeFreshdesk([ticket(1), ticket(2, changed=NOW)]), "2"),
        (lambda: FakeFreshdesk([ticket(1)]), lambda: FakeFreshdesk([ticket(1, changed=NOW, subject="Edited")]), "1"),
        (
            lambda: FakeFreshdesk([ticket(1), ticket(2, changed=NOW - timedelta(days=1), status=2)]),
            lambda: FakeFreshdesk([ticket(1), ticket(2, changed=NOW)]),
            "2",
        ),
    ],
    now=NOW,
)
