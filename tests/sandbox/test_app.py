"""The paths of the API, over real HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from syncd.sandbox import Faults, Sandbox

SIGNALS = "/signals"


@pytest.fixture
def sandbox(clock: Any) -> Sandbox:
    return Sandbox(now=clock)


async def test_a_signal_s_whole_life(served: Any, sandbox: Sandbox, clock: Any, review: dict[str, Any]) -> None:
    """Create, look, list, change, process and delete do what the reference says, with its statuses."""
    async with served(sandbox) as http:
        created = await http.post(SIGNALS, json=review)
        assert created.status_code == 201
        assert created.json()["jobId"]
        clock.goes_on(seconds=2)
        got = await http.get(f"{SIGNALS}/SIGNAL-1")
        assert (got.status_code, got.json()["status"]) == (200, "processed")
        assert (await http.get(SIGNALS)).json() == [got.json()]
        changed = await http.patch(f"{SIGNALS}/SIGNAL-1", json={"context": "feature_feedback"})
        assert (changed.status_code, changed.json()["context"]) == (200, "feature_feedback")
        queued = await http.post(f"{SIGNALS}/SIGNAL-1/process")
        assert (queued.status_code, list(queued.json())) == (201, ["jobId"])
        deleted = await http.delete(f"{SIGNALS}/SIGNAL-1")
        assert (deleted.status_code, deleted.json()) == (200, {"message": "Deleted"})
    assert len(sandbox.books) == 0
    assert sandbox.calls.count() == 6
    assert sandbox.calls.count("GET", "/signals/:publicId", 200) == 1


@pytest.mark.parametrize(
    ("query", "headers", "length"),
    [
        ("", ("45", "20", "0", "true"), 20),
        ("?limit=40", ("45", "40", "0", "true"), 40),
        ("?limit=40&offset=5", ("45", "40", "5", "false"), 40),
        ("?limit=100", ("45", "100", "0", "false"), 45),
        ("?offset=44", ("45", "20", "44", "false"), 1),
        ("?offset=999", ("45", "20", "999", "false"), 0),
    ],
)
async def test_lists_are_paged(
    served: Any, sandbox: Sandbox, query: str, headers: tuple[str, ...], length: int
) -> None:
    """Whoever pages by the documented headers sees every signal and knows when to stop."""
    for _ in range(45):
        sandbox.books.create({"text": "Hello", "signalType": "review"})
    async with served(sandbox) as http:
        page = await http.get(SIGNALS + query)
    assert page.status_code == 200
    names = ("X-Total-Count", "X-Limit", "X-Offset", "X-Has-More")
    assert tuple(page.headers[name] for name in names) == headers
    assert len(page.json()) == length


@pytest.mark.parametrize("query", ["limit=101", "limit=0", "limit=-1", "limit=ten", "offset=-1", "offset=", "limit=٣"])
async def test_a_page_that_cannot_be_is_refused(served: Any, sandbox: Sandbox, query: str) -> None:
    """A client asking for more than the documented maximum learns it, instead of missing signals."""
    async with served(sandbox) as http:
        refused = await http.get(f"{SIGNALS}?{query}")
    assert refused.status_code == 400
    assert refused.json()["message"].startswith(query.partition("=")[0])


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"text": NaN}', b"\xff\xfe\xfd", b"[" * 100_000, b'{"n": ' + b"9" * 5_000 + b"}"],
    ids=["empty", "half", "NaN", "bytes", "deep", "huge number"],
)
async def test_what_is_not_json_is_a_bad_request(served: Any, sandbox: Sandbox, body: bytes) -> None:
    """Garbage is answered in words, whatever garbage it is."""
    async with served(sandbox) as http:
        refused = await http.post(SIGNALS, content=body)
    assert refused.status_code == 400
    assert "not JSON" in refused.json()["message"]


async def test_what_is_not_a_signal_is_unprocessable(served: Any, sandbox: Sandbox) -> None:
    """A body the API cannot take is answered 422 with the fields at fault, and nothing is stored."""
    async with served(sandbox) as http:
        sandbox.books.create({"text": "Hello", "signalType": "review"})
        created = await http.post(SIGNALS, json={"text": "Hello", "signalType": "tweet"})
        changed = await http.patch(f"{SIGNALS}/SIGNAL-1", json={"status": "failed"})
    assert (created.status_code, changed.status_code) == (422, 422)
    assert "signalType" in created.json()["message"]
    assert len(sandbox.books) == 1


async def test_any_text_can_be_answered(served: Any, sandbox: Sandbox) -> None:
    """Text no encoding takes, deep in a record's metadata, does not bring the sandbox down."""
    body = rb'{"text":"\u00e9","signalType":"review","sourceExternalData":{"odd":"\ud800"},"name":"\u2028"}'
    async with served(sandbox) as http:
        created = await http.post(SIGNALS, content=body)
    assert created.status_code == 201
    assert created.json()["source"]["external_data"]["odd"] == "\ud800"


async def test_a_body_above_ten_megabytes_is_too_large(served: Any, sandbox: Sandbox) -> None:
    """A monster of a transcript is refused with 413, and the connection goes on serving."""
    body = {"text": "x" * (10 * 1024 * 1024), "signalType": "transcript"}
    async with served(sandbox) as http:
        refused = await http.post(SIGNALS, json=body)
        body["text"] = body["text"][:-200]
        taken = await http.post(SIGNALS, json=body)
    assert (refused.status_code, taken.status_code) == (413, 201)


async def test_an_unknown_signal_is_not_found_in_json(served: Any, sandbox: Sandbox) -> None:
    """«This signal is gone» can be told from «this is not the API»."""
    async with served(sandbox) as http:
        answers = [
            await http.get(f"{SIGNALS}/SIGNAL-9"),
            await http.patch(f"{SIGNALS}/SIGNAL-9", json={}),
            await http.delete(f"{SIGNALS}/SIGNAL-9"),
            await http.post(f"{SIGNALS}/SIGNAL-9/process"),
        ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert all("SIGNAL-9" in answer.json()["message"] for answer in answers)


@pytest.mark.parametrize("path", ["/", "/external/v1/signals", "/api/external/v2/signals", "/api/external/v1/signals/"])
async def test_a_wrong_address_answers_a_web_page(served: Any, sandbox: Sandbox, path: str) -> None:
    """An api_base without /api is met with the page the real site would show, not with a helpful error."""
    async with served(sandbox) as http:
        page = await http.get(http.base_url.copy_with(raw_path=path.encode()))
    assert page.status_code == 404
    assert page.headers["content-type"].startswith("text/html")
    assert "static/index.html" in page.text
    assert sandbox.calls.count(route="*", status=404) == 1


async def test_a_wrong_method_is_not_allowed(served: Any, sandbox: Sandbox) -> None:
    """PUT is no way to change a signal."""
    async with served(sandbox) as http:
        refused = await http.put(f"{SIGNALS}/SIGNAL-1", json={})
    assert (refused.status_code, refused.json()["error"]) == (405, "not_allowed")


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic sandbox-key", "sandbox-key", "Bearer", "Bearer clé"])
async def test_without_the_key_nothing_is_served(served: Any, sandbox: Sandbox, header: str | None) -> None:
    """A wrong key is refused on every path of the API, and stores nothing."""
    async with served(sandbox) as http:
        del http.headers["Authorization"]
        headers = {} if header is None else {"Authorization": header.encode()}
        posted = await http.post(SIGNALS, json={"text": "Hello", "signalType": "review"}, headers=headers)
        listed = await http.get(SIGNALS, headers=headers)
    assert (posted.status_code, listed.status_code) == (401, 401)
    assert posted.json()["error"] == "unauthorized"
    assert len(sandbox.books) == 0


async def test_the_key_is_a_setting(served: Any, clock: Any) -> None:
    """A test with a key of its own is served under that key alone."""
    async with served(Sandbox(key="another", now=clock)) as http:
        assert (await http.get(SIGNALS)).status_code == 401
        assert (await http.get(SIGNALS, headers={"Authorization": "bearer another"})).status_code == 200


@pytest.mark.parametrize(
    ("missing", "refused"),
    [
        ("signals:read", {"GET list", "GET one"}),
        ("signals:write", {"POST", "PATCH", "process"}),
        ("signals:delete", {"DELETE"}),
    ],
)
async def test_a_missing_scope_forbids_what_it_stands_for(
    served: Any, clock: Any, missing: str, refused: set[str]
) -> None:
    """A key without a scope is refused there and nowhere else, with the scope's name."""
    scopes = tuple(scope for scope in Faults().scopes if scope != missing)
    sandbox = Sandbox(now=clock, faults=Faults(scopes=scopes))
    sandbox.books.create({"text": "Hello", "signalType": "review"})
    async with served(sandbox) as http:
        answers: dict[str, httpx.Response] = {
            "GET list": await http.get(SIGNALS),
            "GET one": await http.get(f"{SIGNALS}/SIGNAL-1"),
            "POST": await http.post(SIGNALS, json={"text": "Hello", "signalType": "review"}),
            "PATCH": await http.patch(f"{SIGNALS}/SIGNAL-1", json={}),
            "process": await http.post(f"{SIGNALS}/SIGNAL-1/process"),
            "DELETE": await http.delete(f"{SIGNALS}/SIGNAL-1"),
        }
    assert {name for name, answer in answers.items() if answer.status_code == 403} == refused
    assert all(missing in answers[name].json()["message"] for name in refused)


async def test_readyz_tells_well_from_unwell(served: Any, sandbox: Sandbox) -> None:
    """The probe needs no key, and says which part is unwell."""
    async with served(sandbox) as http:
        del http.headers["Authorization"]
        readyz = http.base_url.copy_with(raw_path=b"/api/readyz")
        well = await http.get(readyz)
        sandbox.faults = Faults(ready=False)
        unwell = await http.get(readyz)
    assert well.status_code == 200
    assert well.json() == {"status": "ok", "checks": {"database": "ok", "workspaceQueue": "ok"}}
    assert unwell.status_code == 503
    assert unwell.json()["checks"]["workspaceQueue"] != "ok"


async def test_the_books_can_be_read_from_outside(served: Any, sandbox: Sandbox, review: dict[str, Any]) -> None:
    """A check in another process can count what arrived, what was doubled, and how often was asked."""
    async with served(sandbox) as http:
        for _ in range(2):
            await http.post(SIGNALS, json=review)
        await http.post(SIGNALS, json={})
        await http.get(SIGNALS)
        await http.get(f"{SIGNALS}/SIGNAL-1")
        books = await http.get(http.base_url.copy_with(raw_path=b"/sandbox/books"))
        found = await http.get(http.base_url.join("/sandbox/signals"), params={"externalId": review["externalId"]})
        none = await http.get(http.base_url.join("/sandbox/signals"))
    assert books.json() == {
        "posts": 3,
        "created": 2,
        "signals": 2,
        "statuses": {"processing": 2},
        "duplicates": 1,
        "listCalls": 1,
        "getCalls": 1,
        "callsByStatus": {"201": 2, "422": 1, "200": 2},
    }
    assert [one["publicId"] for one in found.json()] == ["SIGNAL-1", "SIGNAL-2"]
    assert none.json() == []


async def test_faults_can_be_set_from_outside(served: Any, sandbox: Sandbox, review: dict[str, Any]) -> None:
    """A check in another process can order faults, and a misspelt order changes nothing."""
    async with served(sandbox) as http:
        faults = http.base_url.join("/sandbox/faults")
        set_ = await http.put(faults, json={"next_posts": ["503"]})
        wrong = await http.put(faults, json={"next_post": ["500"]})
        met = await http.post(SIGNALS, json=review)
        after = await http.post(SIGNALS, json=review)
    assert (set_.status_code, set_.json()["next_posts"]) == (200, ["503"])
    assert wrong.status_code == 422
    assert "next_post" in wrong.json()["message"]
    assert (met.status_code, after.status_code) == (503, 201)
