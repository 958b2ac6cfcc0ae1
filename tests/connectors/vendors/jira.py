"""Jira Cloud, as far as its search by JQL, its comments and its profile go."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from connectors.jira import Jira
from syncd.promises import Case, Vendor
from tests.connectors.vendors import SECRET, STRANGE, basic, only

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
EMAIL = "sync@acme.test"
JQL = 'project in ("SUP", "HELP")'
ORGANIZATIONS = "customfield_10002"

PIA = {
    "accountId": "qm:7c40:pia",
    "accountType": "customer",
    "displayName": "Pia Lind",
    "emailAddress": "pia@initech.test",
}
KIM = {"accountId": "712020:kim", "accountType": "atlassian", "displayName": "Kim", "emailAddress": "kim@acme.test"}

DONE = {"id": "5", "name": "Resolved", "statusCategory": {"id": 3, "key": "done", "name": "Done"}}
OPEN = {"id": "3", "name": "Waiting", "statusCategory": {"id": 4, "key": "indeterminate", "name": "In Progress"}}

_QUESTION = re.compile(
    r"\((?P<own>.+)\) AND (?P<open>statusCategory != Done AND )?"
    r'updated >= "(?P<since>\d{4}-\d\d-\d\d \d\d:\d\d)"(?: AND updated < "(?P<until>\d{4}-\d\d-\d\d \d\d:\d\d)")?'
    r" ORDER BY updated ASC, key ASC"
)


def jira_time(at: datetime, zone: str = "Europe/Berlin") -> str:
    """A time as Jira writes it: in the zone of the profile, with milliseconds and an offset without a colon."""
    local = at.astimezone(ZoneInfo(zone))
    return f"{local:%Y-%m-%dT%H:%M:%S}.{local.microsecond // 1000:03}{local:%z}"


def document(*paragraphs: str) -> dict[str, Any]:
    """A text in the Atlassian Document Format."""
    content = [{"type": "paragraph", "content": [{"type": "text", "text": text}]} for text in paragraphs]
    return {"type": "doc", "version": 1, "content": content}


def comment(number: int, text: str, *, by: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A comment, an hour after the one before; public unless told otherwise."""
    at = jira_time(NOW - timedelta(days=40) + timedelta(hours=number))
    return {
        "id": str(20_000 + number),
        "author": by or KIM,
        "body": document(text),
        "created": at,
        "updated": at,
        "jsdPublic": True,
    } | more


THREAD = (
    comment(1, "Which browser is that in?"),
    comment(2, "Smells like the proxy again.", jsdPublic=False),
    comment(3, "Firefox 140.", by=PIA),
    comment(4, "Only for the escalation team.", visibility={"type": "role", "value": "Administrators"}),
)


def issue(
    number: int, *, updated: datetime | None = None, comments: Sequence[dict[str, Any]] = THREAD, **fields: Any
) -> dict[str, Any]:
    """A solved issue as Jira keeps it, a day apart from the next. The HTML is made when it is asked for."""
    updated = updated or NOW - timedelta(days=30 - number)
    return {
        "id": str(10_400 + number),
        "key": f"SUP-{number}",
        "fields": {
            "summary": f"Report {number} stays blank",
            "description": document("The page is blank after I sign in."),
            "status": DONE,
            "priority": {"id": "2", "name": "High"},
            "labels": ["reports"],
            "issuetype": {"id": "10010", "name": "Service Request"},
            "project": {"id": "10001", "key": "SUP", "name": "Support"},
            "reporter": PIA,
            "created": jira_time(updated - timedelta(days=12)),
            "updated": jira_time(updated),
            "comment": {"comments": list(comments)},
            ORGANIZATIONS: [{"id": "31", "name": "Initech", "_links": {"self": "…"}}],
        }
        | fields,
    }


def _html(body: Any) -> str:
    """What Jira renders of the documents made above."""
    if not isinstance(body, dict):
        return ""
    texts = [part["text"] for paragraph in body["content"] for part in paragraph["content"]]
    return "".join(f"<p>{_escaped(text)}</p>" for text in texts)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class FakeJira(Vendor):
    """A site with these issues, found so many a page.

    `zone` is that of the profile, in which an hour that comes twice is read as the one of `fold`. With `renders` false
    there is no HTML. The search gives the first `shown` comments of an issue.
    """

    def __init__(
        self,
        issues: Sequence[dict[str, Any]],
        *,
        page: int = 3,
        shown: int = 20,
        zone: str = "Europe/Berlin",
        fold: int = 1,
        renders: bool = True,
        circles: bool = False,
    ) -> None:
        super().__init__()
        self.issues = sorted(issues, key=_position)
        self.page = page
        self.shown = shown
        self.zone = zone
        self.fold = fold
        self.renders = renders
        self.circles = circles

    @property
    def searches(self) -> list[str]:
        """The JQL of each search that was made."""
        return [json.loads(request.content)["jql"] for request in self.asked if request.method == "POST"]

    def answer(self, request: httpx.Request) -> httpx.Response:
        is_known = request.headers.get("Authorization") == basic(EMAIL, SECRET)
        match request.method, request.url.path.strip("/").split("/")[2:]:
            case "GET", ["3", "myself"]:
                if not is_known:
                    return httpx.Response(401, text="Client must be authenticated to access this resource.")
                only(request)
                return httpx.Response(200, json=KIM | {"timeZone": self.zone, "locale": "en_US", "active": True})
            case "POST", ["3", "search", "jql"]:
                question = json.loads(request.content)
                return self._search(question) if is_known else httpx.Response(200, json={"issues": [], "isLast": True})
            case "GET", ["3", "issue", id_, "comment"] if is_known:
                return self._comments(id_, only(request, "startAt", "maxResults", "orderBy", "expand"))
            case _, ["2" | "3", "search"]:
                return _refused(410, "The requested API has been removed. Use /rest/api/3/search/jql.")
        return _refused(404, "Issue does not exist or you do not have permission to see it.")

    def _search(self, question: dict[str, Any]) -> httpx.Response:
        assert question.keys() <= {"jql", "fields", "expand", "maxResults", "nextPageToken"}, question
        asked = _QUESTION.fullmatch(question["jql"])
        if asked is None:
            return _refused(400, f"Error in the JQL Query: '{question['jql']}' is not understood.")
        if asked["own"] != JQL:
            return _refused(400, "The value 'GONE' does not exist for the field 'project'.")
        if not 0 < question.get("maxResults", 50) <= 5000:
            return _refused(400, "maxResults is out of range.")
        found = [each for each in self.issues if self._matches(each, asked)]
        start = 0
        if "nextPageToken" in question:
            token, _, of = question["nextPageToken"].partition("|")
            if of != question["jql"]:
                return _refused(400, "The provided next page token is invalid or expired.")
            start = int(token)
        size = min(self.page, question["maxResults"])  # full fields: fewer are given than asked for
        shown = found[start : start + size]
        answer: dict[str, Any] = {"issues": [self._given(each, question) for each in shown], "isLast": True}
        if self.circles or start + size < len(found):
            answer |= {"nextPageToken": f"{0 if self.circles else start + size}|{question['jql']}", "isLast": False}
        return httpx.Response(200, json=answer)

    def _matches(self, each: dict[str, Any], asked: re.Match[str]) -> bool:
        at = datetime.fromisoformat(each["fields"]["updated"])
        if asked["open"] and each["fields"]["status"]["statusCategory"]["key"] == "done":
            return False
        return self._meant(asked["since"]) <= at and (asked["until"] is None or at < self._meant(asked["until"]))

    def _meant(self, text: str) -> datetime:
        local = datetime.strptime(text, "%Y-%m-%d %H:%M")  # noqa: DTZ007 - the zone stands in the profile
        return local.replace(tzinfo=ZoneInfo(self.zone), fold=self.fold).astimezone(UTC)

    def _given(self, each: dict[str, Any], question: dict[str, Any]) -> dict[str, Any]:
        """An issue with the fields that were asked for, and their HTML if that was."""
        fields = {name: each["fields"][name] for name in question.get("fields", []) if name in each["fields"]}
        given: dict[str, Any] = {"id": each["id"], "key": each["key"], "fields": fields}
        thread = fields.get("comment")
        if thread is not None:
            some = thread["comments"][: self.shown]
            total = len(thread["comments"])
            fields["comment"] = {"comments": some, "maxResults": len(some), "total": total, "startAt": 0}
        if self.renders and "renderedFields" in question.get("expand", "").split(","):
            given["renderedFields"] = {
                "description": _html(fields.get("description")),
                "created": "21/Oct/26 9:12 AM",
                "comment": {
                    "comments": [
                        {"id": one["id"], "body": _html(one["body"]), "created": "Yesterday 9:12 AM"}
                        for one in (fields.get("comment") or {"comments": ()})["comments"]
                    ]
                },
            }
        return given

    def _comments(self, id_: str, params: dict[str, str]) -> httpx.Response:
        [found] = [each for each in self.issues if each["id"] == id_] or [None]
        if found is None:
            return _refused(404, "Issue does not exist or you do not have permission to see it.")
        thread = (found["fields"]["comment"] or {"comments": ()})["comments"]
        start = int(params.get("startAt", "0"))
        size = min(int(params.get("maxResults", "100")), 2)  # the server may give fewer than asked for
        some = [
            one | ({"renderedBody": _html(one["body"])} if self.renders and params.get("expand") else {})
            for one in thread[start : start + size]
        ]
        answer = {"comments": some, "startAt": start, "maxResults": size, "total": len(thread)}
        return httpx.Response(200, json=answer)


def _position(each: dict[str, Any]) -> tuple[datetime, str]:
    return datetime.fromisoformat(each["fields"]["updated"]), each["key"]


def _refused(status: int, why: str) -> httpx.Response:
    return httpx.Response(status, json={"errorMessages": [why], "errors": {}})


def jira(**more: Any) -> Jira:
    """The connector of that site."""
    return Jira(**({"site": "acme", "email": EMAIL, "api_token": SECRET, "jql": JQL} | more))


BARE = dict.fromkeys(("description", "priority", "labels", "reporter", "issuetype", "project", "comment"))

STILL_OPEN = issue(9, updated=NOW - timedelta(days=7) + timedelta(minutes=30), status=OPEN)
"""An issue that will have been quiet for a week in half an hour."""

CASE = Case(
    connector=jira(organization_field=ORGANIZATIONS),
    full=lambda: FakeJira([issue(number) for number in range(1, 9)], shown=1),
    ids=frozenset(str(10_400 + number) for number in range(1, 9)),
    empty=lambda: FakeJira([]),
    strange=lambda: FakeJira(
        [
            issue(1, summary=STRANGE, description=document(STRANGE), **{ORGANIZATIONS: None}),
            issue(2, **BARE, **{ORGANIZATIONS: "not a list"}),
            issue(3, comments=[comment(1, STRANGE, author=None, jsdPublic=None), comment(2, "", body=None)]),
        ],
    ),
    broken=(lambda: FakeJira([issue(1), issue(2, created="the other day"), issue(3)]), "10402"),
    required="updated",
    circling=lambda: FakeJira([issue(1)], circles=True),
    forged=jira(api_token="wrong"),
    later=[
        (lambda: FakeJira([issue(1)]), lambda: FakeJira([issue(1), issue(2, updated=NOW)]), "10402"),
        (lambda: FakeJira([issue(1)]), lambda: FakeJira([issue(1, updated=NOW, summary="Edited")]), "10401"),
        (lambda: FakeJira([STILL_OPEN]), lambda: FakeJira([STILL_OPEN]), "10409"),
    ],
    is_detail=lambda request: request.url.path.endswith("/comment"),
    now=NOW,
)
