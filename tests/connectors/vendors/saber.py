"""Saber, as far as its lists of completed research go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from connectors.saber import Saber
from syncd.dates import instant
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, iso, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


def uuid(number: int) -> str:
    """The id of a signal."""
    return f"5b1f0c22-7a40-4e0b-9d3a-{number:012}"


def research(number: int, *, days_ago: float = 5, **more: Any) -> dict[str, Any]:
    """Completed research on a company, ready four minutes after it was asked for."""
    completed = NOW - timedelta(days=days_ago) + timedelta(minutes=number)
    return {
        "id": uuid(number),
        "signalType": "company",
        "status": "completed",
        "domain": f"globex{number}.test",
        "question": "Does the company sell abroad?",
        "answerType": "open_text",
        "answer": {"type": "open_text", "openText": {"value": f"Yes, in {number} countries."}},
        "confidence": 0.8,
        "reasoning": "Its shop lists them.",
        "sources": [{"title": "Shop", "url": f"https://globex{number}.test/shop"}],
        "createdAt": iso(completed - timedelta(minutes=4)),
        "completedAt": iso(completed),
        "verificationMode": "strict",
    } | more


def on_contact(number: int, **more: Any) -> dict[str, Any]:
    """Completed research on a person."""
    profile = f"https://linkedin.test/in/mia-{number}"
    return research(
        number, **({"signalType": "contact", "domain": None, "contactProfileUrl": profile, "sources": None} | more)
    )


def under_way(signal: dict[str, Any]) -> dict[str, Any]:
    """The same before it was completed."""
    late = ("answer", "confidence", "reasoning", "sources", "completedAt")
    return {name: value for name, value in signal.items() if name not in late} | {"status": "processing"}


class FakeSaber(Vendor):
    """An organisation with this research; `bare` are the ids whose answers the lists leave out."""

    def __init__(
        self,
        companies: Sequence[dict[str, Any]],
        contacts: Sequence[dict[str, Any]] = (),
        *,
        bare: Sequence[str] = (),
        page: int = 25,
        heeds_status: bool = True,
        tells_total: bool = True,
        circles: bool = False,
    ) -> None:
        super().__init__()
        self.companies = list(companies)
        self.contacts = list(contacts)
        self.bare = bare
        self.page = page
        self.heeds_status = heeds_status
        self.tells_total = tells_total
        self.circles = circles

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return _refused(401, "unauthorized", "Invalid API key")
        assert request.method == "GET", "anything but GET starts research, which costs credits"
        match request.url.path.strip("/").split("/"):
            case ["v1", "credits"]:
                return httpx.Response(200, json={"remainingCredits": 58})
            case ["v1", "companies", "signals"]:
                allowed = ("limit", "offset", "status", "fromDate", "toDate", "domain", "subscriptionId")
                params = only(request, *allowed)
                return self._listed([each for each in self.companies if self._is_asked_for(each, params)], params)
            case ["v1", "contacts", "signals"]:
                return self._listed(self.contacts, only(request, "limit", "offset"))
            case ["v1", "companies" | "contacts" as whose, "signals", id_]:
                assert id_ != "sync", "this endpoint starts research, which costs credits"
                signals = self.companies if whose == "companies" else self.contacts
                found = [each for each in signals if each["id"] == id_]
                return httpx.Response(200, json=found[0]) if found else _refused(404, "not_found", "No such signal")
        return _refused(404, "not_found", "No such route")

    def _is_asked_for(self, signal: dict[str, Any], params: dict[str, str]) -> bool:
        if self.heeds_status and signal["status"] != params.get("status", signal["status"]):
            return False
        if any(signal.get(name) != params[name] for name in ("domain", "subscriptionId") if name in params):
            return False
        try:
            completed = instant(signal.get("completedAt") or iso(NOW))
        except ValueError:
            return True
        return instant(params.get("fromDate", "2000-01-01")) <= completed <= instant(params["toDate"])

    def _listed(self, signals: Sequence[dict[str, Any]], params: dict[str, str]) -> httpx.Response:
        limit, offset = int(params.get("limit", "25")), int(params.get("offset", "0"))
        if not 1 <= limit <= 25:
            return _refused(400, "invalid_request", "limit must be between 1 and 25")
        newest_first = sorted(signals, key=lambda each: str(each["createdAt"]), reverse=True)
        start = 0 if self.circles else offset
        shown = [self._shown(each) for each in newest_first[start : start + min(limit, self.page)]]
        about = {"limit": limit, "offset": offset, "count": len(shown)}
        total = {"total": len(signals) + 100 * self.circles} if self.tells_total else {}
        return httpx.Response(200, json={"results": shown} | about | total)

    def _shown(self, signal: dict[str, Any]) -> dict[str, Any]:
        if signal["id"] not in self.bare:
            return signal
        return {name: value for name, value in signal.items() if name not in ("answer", "reasoning", "sources")}


def _refused(status: int, code: str, message: str) -> httpx.Response:
    error = {"type": "api_error", "code": code, "message": message, "requestId": "req_7"}
    return httpx.Response(status, json={"error": error})


def saber(**more: Any) -> Saber:
    """The connector of that organisation."""
    return Saber(**({"api_key": SECRET} | more))


BARE = dict.fromkeys(
    ("domain", "answerType", "confidence", "reasoning", "sources", "question", "verificationMode", "error", "errorCode")
)

TODAY, TODAYS = research(16, days_ago=0), on_contact(17, days_ago=0)

CASE = Case(
    connector=saber(),
    full=lambda: FakeSaber(
        [*map(research, range(1, 6)), research(6, status="failed", answer=None, error="no data")],
        [*map(on_contact, range(11, 15))],
        bare=[uuid(2), uuid(13)],
        page=2,
    ),
    ids=frozenset(map(uuid, (1, 2, 3, 4, 5, 11, 12, 13, 14))),
    empty=lambda: FakeSaber([]),
    strange=lambda: FakeSaber(
        [
            research(1, question=STRANGE, reasoning=STRANGE, sources=[{"title": STRANGE, "url": None}]),
            research(2, **BARE),
        ],
        [on_contact(3, **BARE, answer={"type": "open_text", "openText": {"value": STRANGE}})],
    ),
    broken=(lambda: FakeSaber([research(1), research(2, createdAt="the other day"), research(3)]), uuid(2)),
    required="createdAt",
    circling=lambda: FakeSaber([research(1)], circles=True),
    forged=saber(api_key="wrong"),
    later=[
        (lambda: FakeSaber([under_way(TODAY)]), lambda: FakeSaber([TODAY]), TODAY["id"]),
        (lambda: FakeSaber([], [under_way(TODAYS)]), lambda: FakeSaber([], [TODAYS]), TODAYS["id"]),
    ],
    is_detail=lambda request: request.url.path.count("/") > 3,
    now=NOW,
)
