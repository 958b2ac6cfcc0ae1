"""The pages over a real ledger and the imitation of Zentrik: what they show, what their buttons do, whom they obey."""

from __future__ import annotations

import html
import json
import re
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path

import httpx
import pytest

from syncd.ledger import State, report
from syncd.sandbox import Faults
from syncd.scheduler import Scheduler
from syncd.status import status
from syncd.web.actions import Actions
from tests.web.conftest import HOSTILE, TOKEN, Scene, mark_in, staged

BROKEN = "csv:survey:broken"
STRANGE = "csv:survey:a/../b?c#d%2F"
STRANGE_PATH = "/signals/csv%3Asurvey%3Aa%2F..%2Fb%3Fc%23d%252F"

PAGES = ("/", "/connectors/survey", "/connectors/lost", "/signals", "/signals?state=failed", STRANGE_PATH)
FORMS = ("/do/retry", "/do/run", "/do/pause", "/do/resume", "/logout")


async def state_of(scene: Scene, external_id: str) -> State:
    row = await scene.house.ledger.ask(report.named, external_id)
    assert row is not None
    return row.state


async def row_of(scene: Scene, name: str) -> report.ConnectorRow:
    return (await scene.house.ledger.ask(report.connector_rows))[name]


async def press(client: httpx.AsyncClient, action: str, **fields: str) -> httpx.Response:
    """Press a button of a page that was opened just before."""
    return await client.post(f"/do/{action}", data={"mark": mark_in(await client.get("/")), **fields})


class TestPages:
    async def test_the_overview_shows_how_it_goes(self, scene: Scene) -> None:
        """A person who glances at it knows which connector works, which stopped, why, and what to do."""
        async with scene.client() as client:
            page = (await client.get("/")).text
        for name in ("survey", "lost", "resting"):
            assert f'href="/connectors/{name}"' in page
        for words in ("2 processed", "1 failed", "1 set aside", "[no_such_folder]", "create the folder, or mend"):
            assert words in page, words
        assert (
            page.count('class="pill ok"') == page.count('class="pill stopped"') == page.count('class="pill off"') == 1
        )
        today = scene.house.clock().date()
        assert f"{today}: 3 accepted, 2 processed, 1 failed" in page

    async def test_a_connector_has_a_page(self, scene: Scene) -> None:
        """What could not be used is listed with its place and the reason."""
        async with scene.client() as client:
            page = (await client.get("/connectors/survey")).text
            assert "nps.csv:5" in page
            assert "3 new, 0 changed, 0 unchanged, 1 set aside" in page
            assert (await client.get("/connectors/nobody")).status_code == 404

    async def test_signals_can_be_narrowed_down(self, scene: Scene) -> None:
        """From a count on the overview one gets to exactly the signals it counts."""
        async with scene.client() as client:
            failed = (await client.get("/signals?state=failed&connector=survey")).text
            assert BROKEN in failed
            assert "csv:survey:1" not in failed
            assert "There are none" in (await client.get("/signals?connector=lost")).text
            for query in ("state=lost", "page=0", "page=x", "page=99999999999", "page=²"):
                answer = await client.get(f"/signals?{query}")
                assert answer.status_code == 400, query

    async def test_a_long_list_is_turned_page_by_page(self, tmp_path: Path) -> None:
        """Every signal stands on exactly one page."""
        rows = "id,title,comment,link\n" + "".join(f"n{number:03},,Row {number}.,\n" for number in range(120))
        async with staged(tmp_path, rows) as scene, scene.client() as client:
            await scene.deliver()
            seen: list[str] = []
            address: str | None = "/signals?connector=survey"
            while address:
                page = (await client.get(address)).text
                seen += re.findall(r">(csv:survey:n\d+)</a>", page)
                older = re.search(r'href="([^"]+)">Older', page)
                address = html.unescape(older[1]) if older else None
        assert sorted(seen) == [f"csv:survey:n{number:03}" for number in range(120)]

    async def test_a_signal_tells_its_history(self, scene: Scene) -> None:
        """Everything explained: each step with its time, the original, and what it is called at Zentrik."""
        async with scene.client() as client:
            page = (await client.get("/signals/csv:survey:1")).text
            for event in ("queued", "accepted", "processed"):
                assert f"<td>{event}</td>" in page
            assert '<a href="https://acme.example/tickets/1" rel="noopener noreferrer">' in page
            row = await scene.house.ledger.ask(report.named, "csv:survey:1")
            assert row is not None
            assert row.public_id is not None
            assert row.public_id in page
            assert f'href="{scene.house.zentrik.api_base.removesuffix("/api")}/"' in page
            assert ">Retry</button>" not in page
            broken = (await client.get(f"/signals/{BROKEN}")).text
            assert ">Retry</button>" in broken
            assert f"it moves again by `syncd retry {BROKEN}`." in broken
            assert (await client.get("/signals/csv:survey:none")).status_code == 404

    async def test_what_lives_in_a_page_can_be_had_alone(self, scene: Scene) -> None:
        """The refresh fetches what changes, and nothing that a browser would have to forbid."""
        async with scene.client() as client:
            for path in PAGES:
                whole, alone = await client.get(path), await client.get(path, headers={"X-Only": "live"})
                assert alone.text.strip().startswith('<div id="live">')
                assert alone.text.strip() in whole.text
                assert "<style" not in alone.text

    async def test_a_new_ledger_has_a_page(self, tmp_path: Path) -> None:
        """The first glance, before anything was read, is no error."""
        async with staged(tmp_path) as scene, scene.client() as client:
            assert (await client.get("/")).status_code == 200
            assert (await client.get("/signals")).status_code == 200

    async def test_machines_are_told_what_the_command_prints(self, scene: Scene) -> None:
        """A script can ask over HTTP what it asked `syncd status --json`."""
        async with scene.client() as client:
            answer = (await client.get("/api/status")).json()
        house = scene.house
        said = json.loads(json.dumps(status(house.config, house.ledger.database, house.clock()).as_json()))
        assert answer["connectors"].keys() == said["connectors"].keys()
        assert answer["signals"] == said["signals"]
        assert answer["connectors"]["lost"] == said["connectors"]["lost"]

    async def test_a_refused_configuration_is_told_on_every_page(self, scene: Scene) -> None:
        """A slip in the file is seen, and that the old one stays in force."""
        async with scene.client() as client:
            for path in PAGES:
                assert "cannot be used" not in (await client.get(path)).text
            scene.refused = "config.yaml:3: unknown <setting>"
            for path in PAGES:
                assert "config.yaml:3: unknown &lt;setting&gt;" in (await client.get(path)).text

    async def test_a_refused_key_is_told(self, scene: Scene) -> None:
        """Nobody has to read a log to see why nothing arrives."""
        scene.house.gate.park("Zentrik answered 401", timedelta(minutes=1), scene.house.clock())
        async with scene.client() as client:
            assert "Nothing is posted for another 60 s" in (await client.get("/")).text
            scene.house.is_refused = True
            page = (await client.get("/")).text
        assert "Zentrik refuses the key, so nothing is posted" in page
        assert "Zentrik answered 401" in page

    async def test_what_there_is_not_is_told_in_words(self, scene: Scene) -> None:
        """A wrong address leads back to the overview."""
        async with scene.client() as client:
            answer = await client.get("/nowhere")
        assert answer.status_code == 404
        assert 'href="/"' in answer.text

    async def test_a_ledger_that_cannot_be_read_is_told_in_words(self, scene: Scene) -> None:
        """The page of a daemon in trouble says what the trouble is."""
        ledger = scene.folder / "syncd.db"
        async with scene.client() as client:
            await client.get("/")
            scene.house.ledger.database.engine.dispose()
            moved = ledger.rename(ledger.with_suffix(".moved"))
            try:
                ledger.mkdir()
                answer = await client.get("/signals")
            finally:
                ledger.rmdir()
                moved.rename(ledger)
        assert answer.status_code == 503
        assert "unable to open database file" in answer.text


class TestEscaping:
    async def test_nothing_from_outside_is_obeyed(self, scene: Scene) -> None:
        """Titles, ids, errors and addresses of pages are shown as text, wherever they stand."""
        scene.refused = HOSTILE
        survey = scene.house.config.connectors["survey"].source
        now = scene.house.clock()
        await scene.house.ledger.start_pull(survey, scene.house.run, now)
        await scene.house.ledger.finish_pull(survey, scene.house.run, (HOSTILE, HOSTILE), now)
        paths = (*PAGES, f"/connectors/{HOSTILE}", f"/signals?state={HOSTILE}", f"/signals?connector={HOSTILE}")
        async with scene.client() as client:
            for path in (*paths, f"/signals/{HOSTILE}", f"/?{HOSTILE}"):
                answer = await client.get(path)
                assert HOSTILE not in answer.text, path
                assert answer.text.count("<script") <= 1, path
                assert "javascript:" not in re.sub(r">[^<]*<", "><", answer.text), path
            assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in (await client.get("/signals")).text

    async def test_what_turns_a_line_round_is_shown_as_a_sign(self, scene: Scene) -> None:
        """A name cannot pass itself off as another one by characters that nobody sees."""
        scene.refused = "gnp.\u202etxt\u0007"
        async with scene.client() as client:
            page = (await client.get("/")).text
        assert "gnp.�txt�" in page

    async def test_a_strange_id_leads_to_its_signal_and_its_retry(self, tmp_path: Path) -> None:
        """An id with slashes, dots and signs of addresses in it is one signal like any other."""
        rows = "id,title,comment,link\na/../b?c#d%2F,,It broke. [sandbox: fail],\n"
        async with staged(tmp_path, rows) as scene, scene.client() as client:
            await scene.deliver()
            assert f'href="{STRANGE_PATH}"' in (await client.get("/signals")).text
            page = await client.get(STRANGE_PATH)
            assert html.escape(STRANGE) in page.text
            fields = dict(re.findall(r'name="(mark|back|signal)" value="([^"]*)"', page.text))
            answer = await client.post("/do/retry", data=fields)
            assert (answer.status_code, answer.headers["location"]) == (303, STRANGE_PATH)
            assert await state_of(scene, STRANGE) is State.PROCESSING


class TestButtons:
    async def test_retry_has_a_failed_signal_processed(self, scene: Scene) -> None:
        """One press, and what failed at Zentrik is being processed again, under the same publicId."""
        posts = len(scene.sandbox.books)
        async with scene.client() as client:
            page = await client.get(f"/signals/{BROKEN}")
            fields = dict(re.findall(r'name="(mark|back|signal)" value="([^"]*)"', page.text))
            answer = await client.post("/do/retry", data=fields)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/signals/{BROKEN}")
            assert await state_of(scene, BROKEN) is State.PROCESSING
            await scene.deliver()
            assert await state_of(scene, BROKEN) is State.PROCESSED
        assert len(scene.sandbox.books) == posts

    async def test_retry_says_why_it_did_nothing(self, scene: Scene) -> None:
        """A press that cannot be obeyed is answered with the reason, not with silence."""
        async with scene.client() as client:
            assert (await press(client, "retry", signal="csv:survey:1")).status_code == 409
            assert (await press(client, "retry")).status_code == 400
            unknown = await press(client, "retry", signal="nothing")
            assert "the ledger knows no such signal" in unknown.text
            scene.sandbox.faults = Faults(scopes=())
            refused = await press(client, "retry", signal=BROKEN)
        assert refused.status_code == 409
        assert await state_of(scene, BROKEN) is State.FAILED

    async def test_pause_and_resume(self, scene: Scene) -> None:
        """What `syncd pause` does a press does too, and the page shows it."""
        async with scene.client() as client:
            answer = await press(client, "pause", connector="survey", back="/connectors/survey")
            assert (answer.status_code, answer.headers["location"]) == (303, "/connectors/survey")
            assert (await row_of(scene, "survey")).paused_at is not None
            page = (await client.get("/connectors/survey")).text
            assert 'class="pill paused"' in page
            assert ">Resume</button>" in page
            refused = await press(client, "run", connector="survey")
            assert refused.status_code == 409
            assert "resume it first" in refused.text
            await press(client, "resume", connector="survey")
        assert (await row_of(scene, "survey")).paused_at is None

    async def test_run_now_brings_the_next_run_forward(self, scene: Scene) -> None:
        """A connector is read when somebody asks for it, not only at its time."""
        started: list[str] = []

        class Watched(Scheduler):
            def again_at(self, name: str, moment: datetime) -> None:
                started.append(name)

        scene.house.scheduler = Watched()
        async with scene.client() as client:
            assert (await press(client, "run", connector="survey")).status_code == 303
            assert (await press(client, "run", connector="nobody")).status_code == 404
            assert "switched off" in (await press(client, "run", connector="resting")).text
        assert started == ["survey"]

    async def test_run_now_respects_a_vendor_that_wants_rest(self, scene: Scene) -> None:
        """No press on a page makes syncd break its word to a vendor; it is told until when."""
        survey, now = scene.house.config.connectors["survey"].source, scene.house.clock()
        await scene.house.ledger.start_pull(survey, scene.house.run, now)
        await scene.house.ledger.finish_pull(
            survey, scene.house.run, ("rate_limited", "429"), now, rests_until=now + timedelta(hours=1)
        )
        async with scene.client() as client:
            answer = await press(client, "run", connector="survey")
        assert answer.status_code == 409
        assert "is left alone until" in answer.text

    async def test_they_lead_back_to_our_own_pages_alone(self, scene: Scene) -> None:
        """A form cannot be used to send somebody elsewhere."""
        async with scene.client() as client:
            for back in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:1", ""):
                answer = await press(client, "pause", connector="survey", back=back)
                assert answer.headers["location"] == "/connectors/survey", back


class TestForms:
    async def test_one_that_is_not_ours_is_refused(self, scene: Scene) -> None:
        """A page of a stranger that sends a form to us changes nothing."""
        async with scene.client() as client:
            await client.get("/")
            for path, mark in product(FORMS, (None, "", "0" * 64, "\N{SNOWMAN}")):
                data = {"connector": "survey", "signal": BROKEN} | ({} if mark is None else {"mark": mark})
                assert (await client.post(path, data=data)).status_code == 403, (path, mark)
        assert await state_of(scene, BROKEN) is State.FAILED
        assert (await row_of(scene, "survey")).paused_at is None

    async def test_a_mark_counts_for_its_own_session(self, scene: Scene) -> None:
        """What one browser was shown is of no use to another."""
        async with scene.client() as one:
            mark = mark_in(await one.get("/"))
            assert one.cookies
            one.cookies.clear()
            await one.get("/")
            assert (await one.post("/do/pause", data={"mark": mark, "connector": "survey"})).status_code == 403

    async def test_every_form_is_among_those_tried(self, scene: Scene) -> None:
        """No button is added whose form goes unchecked."""
        async with scene.client() as client:
            for path in ("/do/retry", "/do/run", "/do/pause", "/do/resume", "/logout"):
                assert (await client.get(path)).status_code in (404, 405)
        assert {route.path for route in Actions(scene.house).routes()} | {"/logout"} == set(FORMS)

    async def test_a_huge_one_is_refused(self, scene: Scene) -> None:
        """Nobody fills the daemon's memory through a form."""
        async with scene.client() as client:
            answer = await client.post("/do/pause", content=b"connector=" + b"x" * 100_000)
        assert answer.status_code == 413


class TestHost:
    async def test_this_machine_is_answered(self, scene: Scene) -> None:
        """Through a tunnel too, which ends at another port."""
        async with scene.client() as client:
            for host in ("127.0.0.1:8787", "localhost:9000", "LOCALHOST", "[::1]:8787", "127.0.0.9", "localhost."):
                assert (await client.get("/", headers={"Host": host})).status_code == 200, host

    async def test_a_strangers_name_is_not(self, scene: Scene) -> None:
        """A web site that has its own name lead to 127.0.0.1 learns nothing through somebody's browser."""
        hosts = ("evil.example:8787", "localhost.evil.example", "10.0.0.1", "[::1", "", "a@b:c")
        async with scene.client() as client:
            for path, host in product(("/", "/metrics", "/api/status", "/healthz", "/login"), hosts):
                answer = await client.get(path, headers={"Host": host})
                assert answer.status_code == 421, (path, host)
                assert "survey" not in answer.text

    async def test_beyond_loopback_it_may_have_any_name(self, scene: Scene) -> None:
        """Behind a proxy, or in a cluster, it goes by a name of the operator's choice; the token guards it."""
        async with scene.client(TOKEN, host="0.0.0.0", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert (await client.get("/", headers={"Host": "syncd.acme.example"})).status_code == 200


class TestLogin:
    async def test_without_the_token_nothing_is_shown(self, scene: Scene) -> None:
        """Every path but the probes and the login itself is closed, for browsers and for machines."""
        async with scene.client(TOKEN, host="0.0.0.0") as client:
            for path in (*PAGES, "/metrics", "/api/status", "/nowhere"):
                answer = await client.get(path)
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
                in_browser = await client.get(path, headers={"Accept": "text/html,*/*"})
                assert in_browser.status_code == 303
                assert in_browser.headers["location"].startswith("/login?next=/")
            for path in FORMS:
                assert (await client.post(path, data={"connector": "survey"})).status_code == 401

    async def test_no_host_header_opens_it(self, scene: Scene) -> None:
        """What is open to all is told by the path that was asked for, not by what a client calls us."""
        async with scene.client(TOKEN, host="0.0.0.0") as client:
            for host in ("x/healthz?", "x/healthz#", "x/login?", "127.0.0.1/readyz?a=", "@/healthz?"):
                for path in ("/api/status", "/signals", "/metrics"):
                    answer = await client.get(path, headers={"Host": host})
                    assert answer.status_code == 401, (host, path)

    async def test_another_token_is_no_token(self, scene: Scene) -> None:
        """Close is not enough."""
        async with scene.client(TOKEN, host="0.0.0.0") as client:
            for given in ("Bearer wrong", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff"):
                answer = await client.get("/api/status", headers={b"Authorization": given.encode("latin-1")})
                assert answer.status_code == 401, given

    async def test_a_machine_sends_it_along(self, scene: Scene) -> None:
        """A script with the token may read, and press buttons."""
        async with scene.client(TOKEN, host="0.0.0.0", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert (await client.get("/api/status")).status_code == 200
            assert (await client.post("/do/pause", data={"connector": "survey"})).status_code == 303
        assert (await row_of(scene, "survey")).paused_at is not None

    async def test_a_person_logs_in_and_out(self, scene: Scene) -> None:
        """The token is shown once; then a cookie that no script can read, and that no other site can use, stands in."""
        async with scene.client(TOKEN, host="0.0.0.0", headers={"Accept": "text/html"}) as client:
            assert (await client.get("/login?next=/signals")).status_code == 200
            wrong = await client.post("/login", data={"token": "wrong", "next": "/signals"})
            assert wrong.status_code == 403
            assert not client.cookies
            right = await client.post("/login", data={"token": TOKEN, "next": "/signals"})
            assert (right.status_code, right.headers["location"]) == (303, "/signals")
            assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(right.headers["set-cookie"].split("; "))
            assert TOKEN not in right.headers["set-cookie"]
            page = await client.get("/")
            assert page.status_code == 200
            assert (await press(client, "pause", connector="survey")).status_code == 303
            session = dict(client.cookies)
            await client.post("/logout", data={"mark": mark_in(page)})
            assert (await client.get("/")).status_code == 303
            client.cookies.update(session)
            assert (await client.get("/")).status_code == 303

    async def test_a_session_ends_by_itself(self, scene: Scene) -> None:
        """A browser that was forgotten somewhere is not let in for ever."""
        async with scene.client(TOKEN, host="0.0.0.0", headers={"Accept": "text/html"}) as client:
            await client.post("/login", data={"token": TOKEN})
            assert (await client.get("/")).status_code == 200
            later = scene.house.clock() + timedelta(hours=13)
            scene.house.clock = lambda: later
        async with scene.client(TOKEN, host="0.0.0.0", headers={"Accept": "text/html"}) as client:
            client.cookies.set("syncd_session", "made-up")
            assert (await client.get("/")).status_code == 303

    async def test_no_login_leads_elsewhere(self, scene: Scene) -> None:
        """A link to our login page cannot be made to end at a stranger's."""
        async with scene.client(TOKEN, host="0.0.0.0") as client:
            page = await client.get("/login?next=//evil.example")
            assert "evil" not in page.text
            answer = await client.post("/login", data={"token": TOKEN, "next": "https://evil.example"})
        assert answer.headers["location"] == "/"

    async def test_the_token_is_in_no_page_and_no_log(self, scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
        """Whoever sees the page, or the log, cannot log in with what they saw."""
        async with scene.client(TOKEN, host="0.0.0.0", headers={"Accept": "text/html"}) as client:
            await client.post("/login", data={"token": TOKEN})
            for path in (*PAGES, "/metrics", "/api/status", "/login", "/nowhere"):
                assert TOKEN not in (await client.get(path)).text
        assert TOKEN not in caplog.text


class TestHeaders:
    async def test_they_stand_on_every_answer(self, scene: Scene) -> None:
        """No page can be framed, cached, or made to load or run anything that is not its own."""
        async with scene.client() as client:
            for path in (*PAGES, "/metrics", "/healthz", "/api/status", "/nowhere"):
                self._holds(await client.get(path))

    def _holds(self, answer: httpx.Response) -> None:
        headers = answer.headers
        assert (headers["x-frame-options"], headers["x-content-type-options"]) == ("DENY", "nosniff")
        assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        [nonce] = set(re.findall(r"'nonce-([^']+)'", policy))
        assert set(re.findall(r'nonce="([^"]+)"', answer.text)) <= {nonce}
        assert re.findall(r"<(?:script|style)(?! nonce=)", answer.text) == []
        assert re.findall(r'\s(?:style|on\w+)="', answer.text) == []

    async def test_a_nonce_is_used_once(self, scene: Scene) -> None:
        """What one page allowed says nothing about the next."""
        async with scene.client() as client:
            seen = {(await client.get("/")).headers["content-security-policy"] for _ in range(3)}
        assert len(seen) == 3
