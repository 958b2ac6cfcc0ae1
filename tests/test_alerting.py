"""Alerts on their way out, over real sockets: webhook, mail, the sign of life, and what a restart finds."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import Message
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult
from pydantic import SecretStr

from syncd.alerting import Mail, Ping, Undelivered, Watch, Webhook, try_out, watch_over, ways
from syncd.alerts import Alert, Change, Kind
from syncd.app import House, open_house
from syncd.config import Config, ConnectorSettings, ZentrikSettings
from syncd.errors import LedgerError
from syncd.ledger import report
from syncd.sandbox import Faults, Sandbox
from syncd.settings import AlertSettings, EmailSettings
from tests.conftest import Clock, Listed, OnSQLite, signal, source

ALERT = Alert(Change.FIRING, Kind.STOPPED, "reviews", Clock()(), "reviews cannot be read: é <ö>.")


# Those who are told


@dataclass
class Receiver:
    """A web server that notes what it is sent, and answers with these statuses, then with 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    calls: list[tuple[str, str, bytes]] = field(default_factory=list)

    @property
    def states(self) -> list[tuple[str, str]]:
        """The state and the kind of each alert."""
        bodies = [json.loads(body) for _, _, body in self.calls]
        return [(body["state"], body["kind"]) for body in bodies]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """One that listens on loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.calls.append((self.command, self.path, body))
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - named by the standard library

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hook/made-up-t0ken"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


@dataclass
class Mailbox:
    """What a mail server does with what it is given: it keeps it, except for those it does not know."""

    port: int = 0
    mails: list[tuple[list[str], Message]] = field(default_factory=list)
    refuses: str | None = None

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if address.startswith("nobody"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refuses:
            return self.refuses
        self.mails.append((envelope.rcpt_tos, BytesParser(policy=default).parsebytes(envelope.content)))
        return "250 OK"


@asynccontextmanager
async def mailing(tls: ssl.SSLContext | None = None, **how: Any) -> AsyncIterator[Mailbox]:
    """A mail server on loopback, encrypted throughout with `tls`."""
    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box, **how), "127.0.0.1", 0, ssl=tls)
    async with server:
        box.port = server.sockets[0].getsockname()[1]
        yield box


def authority() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server shows, and what trusts it."""
    ca = trustme.CA()
    shows, trusts = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    ca.issue_cert("127.0.0.1").configure_cert(shows)
    ca.configure_trust(trusts)
    return shows, trusts


def mail(box: Mailbox, trust: ssl.SSLContext | None = None, **more: Any) -> Mail:
    given = {
        "host": "127.0.0.1",
        "port": box.port,
        "tls": "none",
        "sender": "syncd@example.com",
        "to": ["a@example.com"],
    }
    return Mail(EmailSettings(**{**given, **more}), trust)


class TestWebhook:
    async def test_it_gets_each_alert_as_json(self, receiver: Receiver, clock: Clock) -> None:
        """What arrives is what the documentation says, in UTF-8."""
        await Webhook(SecretStr(receiver.url)).send(ALERT, "acme", clock())
        [(method, path, body)] = receiver.calls
        assert (method, path) == ("POST", "/hook/made-up-t0ken")
        assert json.loads(body) == ALERT.as_json("acme")

    @pytest.mark.parametrize(("status", "passing"), [(503, True), (429, True), (404, False), (302, False)])
    async def test_only_a_2xx_is_a_delivery(self, receiver: Receiver, clock: Clock, status: int, passing: bool) -> None:
        """A chat that answers with an error was not told; one that is gone is not asked again and again."""
        receiver.statuses = [status]
        with pytest.raises(Undelivered, match=str(status)) as refused:
            await Webhook(SecretStr(receiver.url)).send(ALERT, "acme", clock())
        assert refused.value.passing is passing

    async def test_nobody_there(self, clock: Clock) -> None:
        """A closed port is said in words."""
        with pytest.raises(Undelivered, match="no answer: ") as refused:
            await Webhook(SecretStr("http://127.0.0.1:1/")).send(ALERT, "acme", clock())
        assert refused.value.passing


class TestMail:
    async def test_everybody_gets_a_mail_that_can_be_read(self, clock: Clock) -> None:
        """Sender, readers, subject, date and text arrive whole; no automatic answer comes back."""
        async with mailing() as box:
            await mail(box, to=["a@example.com", "b@example.com"]).send(ALERT, "acme", clock())
        [(readers, message)] = box.mails
        assert readers == ["a@example.com", "b@example.com"]
        assert message["Subject"] == "[acme] problem: reviews: stopped"
        assert (message["From"], message["Auto-Submitted"]) == ("syncd@example.com", "auto-generated")
        assert message["Date"].datetime == clock()
        assert message.get_content().splitlines()[1] == ALERT.message  # type: ignore[attr-defined]

    @pytest.mark.parametrize("how", ["starttls", "tls"])
    async def test_over_tls_with_a_login(self, clock: Clock, how: str) -> None:
        """The password goes out only once the line is encrypted, and only to a server that proves who it is."""
        shows, trusts = authority()
        seen: list[tuple[bytes, bytes]] = []

        def authenticate(_server: Any, session: Any, _envelope: Any, _mechanism: str, login: Any) -> AuthResult:
            assert known is (session.ssl is not None)
            seen.append((login.login, login.password))
            return AuthResult(success=login.password == b"made-up-pass", handled=False)

        line = {"tls_context": shows, "require_starttls": True} if how == "starttls" else {"tls": shows}
        login = {"tls": how, "username": "ops", "password": "made-up-pass"}
        known = how == "starttls"  # the server does not see that all of its line is encrypted
        async with mailing(authenticator=authenticate, auth_required=known, auth_require_tls=known, **line) as box:
            await mail(box, trusts, **login).send(ALERT, "acme", clock())
            assert len(box.mails) == 1
            with pytest.raises(Undelivered, match="certificate"):
                await mail(box, **login).send(ALERT, "acme", clock())
            with pytest.raises(Undelivered, match="535") as refused:
                await mail(box, trusts, **{**login, "password": "made-up-wrong"}).send(ALERT, "acme", clock())
        assert not refused.value.passing
        assert set(seen) == {(b"ops", b"made-up-pass"), (b"ops", b"made-up-wrong")}

    async def test_a_server_without_tls_gets_nothing(self, clock: Clock) -> None:
        """`starttls` is a condition, not a wish."""
        async with mailing() as box:
            with pytest.raises(Undelivered, match="STARTTLS"):
                await mail(box, tls="starttls").send(ALERT, "acme", clock())
        assert box.mails == []

    async def test_one_unknown_reader_does_not_keep_it_from_the_others(self, clock: Clock) -> None:
        """A colleague who left does not silence the alerts; when nobody is left, that is no delivery."""
        async with mailing() as box:
            await mail(box, to=["nobody@example.com", "a@example.com"]).send(ALERT, "acme", clock())
            with pytest.raises(Undelivered, match="no such mailbox"):
                await mail(box, to=["nobody@example.com"]).send(ALERT, "acme", clock())
        assert [readers for readers, _ in box.mails] == [["a@example.com"]]

    @pytest.mark.parametrize(("answer", "passing"), [("451 later", True), ("554 never", False)])
    async def test_a_refusal_for_now_and_one_for_good(self, clock: Clock, answer: str, passing: bool) -> None:
        """What may pass is tried again, what will not is not."""
        async with mailing() as box:
            box.refuses = answer
            with pytest.raises(Undelivered, match=f"answered {answer[:3]}: {answer[4:]}") as refused:
                await mail(box).send(ALERT, "acme", clock())
        assert refused.value.passing is passing

    async def test_nobody_there(self, clock: Clock) -> None:
        """A mail server that is down is said in words."""
        with pytest.raises(Undelivered, match=r"127\.0\.0\.1: "):
            await mail(Mailbox(port=1)).send(ALERT, "acme", clock())


class TestTryingOut:
    async def test_each_way_says_how_it_went(self, receiver: Receiver, clock: Clock) -> None:
        """`syncd alert-test` shows which way works, and why another one does not."""
        settings = AlertSettings(
            webhook=SecretStr(receiver.url),
            email=EmailSettings(host="127.0.0.1", port=1, tls="none", to=("a@example.com",)),
        )
        (hook, took, _), (mailed, failed, why) = await try_out(settings, clock())
        assert (hook, took, mailed, failed) == ("webhook", True, "email", False)
        assert "127.0.0.1" in why
        assert receiver.states == [("firing", "test")]

    async def test_without_any_way_there_is_none(self) -> None:
        """Who set up nothing is told nothing."""
        assert ways(AlertSettings()) == []


# A house that is watched


@dataclass
class Crier:
    """A way of telling that keeps what it told; it fails the first so many times."""

    fails: int = 0
    passing: bool = True
    title: str = "crier"
    heard: list[str] = field(default_factory=list)
    tries: int = 0

    async def send(self, alert: Alert, name: str, now: datetime) -> None:
        self.tries += 1
        if self.fails:
            self.fails -= 1
            raise Undelivered("out of breath", passing=self.passing)
        self.heard.append(f"{alert.change} {alert.kind}")


class Broken(Crier):
    """A way of telling with a defect."""

    async def send(self, alert: Alert, name: str, now: datetime) -> None:
        raise RuntimeError


class Waits(list[float]):
    """The waits that were asked for; none of them lasts."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
async def config(ledger_url: str, sandbox: Sandbox) -> AsyncIterator[Config]:
    entry = ConnectorSettings(
        type="listed", name="reviews", namespace="listed:reviews", every=timedelta(minutes=10), connector=Listed()
    )
    async with sandbox.serve() as api_base:
        zentrik = ZentrikSettings(api_base=api_base, api_key=SecretStr("sandbox-key"))
        yield Config(ledger=ledger_url, zentrik=zentrik, connectors={"reviews": entry})


@pytest.fixture
async def house(config: Config, clock: Clock) -> AsyncIterator[House]:
    async with open_house(config, "run") as opened:
        opened.clock = clock
        yield opened


async def broken(*_: object) -> None:
    """What a ledger says whose disk is full."""
    raise LedgerError("the disk is full")


def watch(house: House, *crying: Crier, **more: Any) -> Watch:
    return Watch(house, crying, sleep=Waits(), **more)


async def look(watching: Watch) -> list[str]:
    """What is told at one look."""
    [crier] = watching.ways
    assert isinstance(crier, Crier)
    before = len(crier.heard)
    await watching.tell(await watching.see())
    return crier.heard[before:]


async def fails(house: House, clock: Clock, error: tuple[str, str] | None = ("unavailable", "503")) -> None:
    """A reading of reviews that ends now."""
    [entry] = house.config.connectors.values()
    await house.ledger.start_pull(entry.source, house.run, clock())
    await house.ledger.finish_pull(entry.source, house.run, error, clock())


class TestWatch:
    async def test_a_restart_neither_repeats_nor_forgets(self, config: Config, clock: Clock) -> None:
        """On both databases: the daemon that was told to restart goes on where the one before it was, with what is
        told, with how long a trouble lasts that is not told yet, and with what is over."""
        heard = []
        for minutes, error in [(0, True), (10, True), (6, True), (10, True), (5, False), (5, False)]:
            clock.move(minutes * 60)
            async with open_house(config, "run") as house:
                house.clock = clock
                await fails(house, clock, ("unavailable", "503") if error else None)
                heard.append(await look(watch(house, Crier())))
        assert heard == [[], [], ["firing stopped"], [], ["resolved stopped"], []]

    async def test_what_did_not_get_through_is_tried_again_a_few_times_and_later(
        self, house: House, clock: Clock
    ) -> None:
        """A chat that is down is tried three times, then after ever longer waits; the alert is told once it is back."""
        house.beats["posting"] = clock() - timedelta(hours=1)
        crier = Crier(fails=6)
        watching = watch(house, crier)
        assert await look(watching) == []
        assert crier.tries == 3
        assert isinstance(watching.sleep, Waits)
        assert len(watching.sleep) == 2
        assert await look(watching) == []  # too soon
        assert crier.tries == 3
        clock.move(1)
        assert await look(watching) == []
        assert crier.tries == 6
        clock.move(1)
        assert await look(watching) == []
        assert crier.tries == 6
        clock.move(1)
        assert await look(watching) == ["firing stuck"]
        assert await look(watching) == []

    async def test_one_way_that_works_is_enough(self, house: House, clock: Clock) -> None:
        """An alert counts as told when somebody has it: a broken webhook does not have the mail sent for ever."""
        house.beats["posting"] = clock() - timedelta(hours=1)
        gone, broken, works = Crier(fails=99, passing=False), Broken(), Crier()
        watching = watch(house, gone, broken, works)
        for _ in range(3):
            await watching.tell(await watching.see())
        assert (gone.tries, works.heard) == (1, ["firing stuck"])

    async def test_of_several_on_one_ledger_the_first_speaks(self, config: Config, clock: Clock) -> None:
        """Two workers do not send everything twice; when the first is gone, the other one speaks."""
        async with open_house(config, "run") as other:
            other.clock = clock
            async with open_house(config, "run") as first:
                assert first.run > other.run
                first.clock = clock
                second, one = watch(first, Crier()), watch(other, Crier())
                await fails(other, clock)
                clock.move(600)
                await fails(other, clock)
                await look(one)
                clock.move(901)
                assert [await look(second), await look(one)] == [[], ["firing stopped"]]
                await fails(other, clock, None)
                assert [await look(second), await look(one)] == [[], ["resolved stopped"]]

    async def test_a_ledger_that_breaks_keeps_nobody_from_hearing(
        self, house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That nothing moves any more is told while the ledger does not answer, and noted once it does."""

        house.beats["posting"] = clock() - timedelta(hours=1)
        watching = watch(house, Crier())
        with monkeypatch.context() as patch:
            patch.setattr(house.ledger, "ask", broken)
            patch.setattr(house.ledger, "note_troubles", broken)
            assert await look(watching) == ["firing stuck"]
            assert await look(watching) == []
        assert await look(watching) == []
        assert [row.kind for row in await house.ledger.ask(report.troubles)] == ["stuck"]
        house.beats.clear()
        with monkeypatch.context() as patch:
            patch.setattr(house.ledger, "note_troubles", broken)
            assert await look(watching) == ["resolved stuck"]
            assert await look(watching) == []
        assert await look(watching) == []
        assert await house.ledger.ask(report.troubles) == []


class TestHowZentrikIs(OnSQLite):
    async def test_a_key_is_called_taken_when_that_is_proven(
        self, config: Config, sandbox: Sandbox, clock: Clock
    ) -> None:
        """A refused key is told once; a restart proves nothing; that it may read again does neither while something
        waits to be written; when it is taken, that is told."""
        async with open_house(config, "run") as house:
            house.clock = clock
            house.is_refused = True
            assert await look(watch(house, Crier())) == ["firing key_refused"]
        async with open_house(config, "run") as house:
            house.clock = clock
            watching = watch(house, Crier())
            sandbox.faults = Faults(scopes=())
            assert await look(watching) == []
            sandbox.faults = Faults()
            await fails(house, clock, None)
            [entry] = house.config.connectors.values()
            await house.ledger.start_pull(entry.source, house.run, clock())
            await house.ledger.record_page(source(), [signal(1)], [], None, house.run, clock())
            clock.move(61)
            assert await look(watching) == []
            house.figures.accepted = 1
            assert await look(watching) == ["resolved key_refused"]

    async def test_without_anything_to_write_a_question_is_proof(
        self, house: House, sandbox: Sandbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A key that was mended on a quiet day is told as mended, though nothing is posted; Zentrik is asked once a
        minute at most."""
        house.is_refused = True
        watching = watch(house, Crier())
        await look(watching)
        house.is_refused = False
        sandbox.faults = Faults(scopes=())
        for _ in range(5):
            assert await look(watching) == []
        assert sandbox.calls.count("GET", "/signals", 403) == 1
        sandbox.faults = Faults()
        clock.move(61)
        with monkeypatch.context() as patch:
            patch.setattr(house.ledger, "ask", broken)
            assert await look(watching) == []  # nobody knows what waits
        clock.move(61)
        assert await look(watching) == ["resolved key_refused"]

    async def test_an_outage_is_told_when_zentrik_itself_says_so(
        self, house: House, sandbox: Sandbox, clock: Clock
    ) -> None:
        """One that only asks for patience for an hour is not called ill; one that says it is not ready is, until it is
        ready again, also when nothing is posted meanwhile."""
        house.gate.park("429", timedelta(hours=1), clock())
        clock.move(1000)
        watching = watch(house, Crier())
        assert await look(watching) == []
        sandbox.faults = Faults(ready=False)
        clock.move(61)
        assert await look(watching) == ["firing zentrik_unwell"]
        sandbox.faults = Faults()
        clock.move(61)
        assert await look(watching) == ["resolved zentrik_unwell"]


class TestPing(OnSQLite):
    async def test_it_is_called_when_nothing_is_due(self, house: House, receiver: Receiver, clock: Clock) -> None:
        """Proven idleness is a sign of life."""
        await fails(house, clock, None)
        assert await Ping(house, SecretStr(receiver.url)).once()
        assert [(method, body) for method, _, body in receiver.calls] == [("GET", b"")]

    async def test_overdue_work_without_progress_is_no_life(
        self, house: House, receiver: Receiver, clock: Clock
    ) -> None:
        """A daemon that lives and posts nothing, though something waits, keeps silent, and whoever watches hears of it;
        as soon as something moves, or all is done, it is heard again."""
        await fails(house, clock, None)
        [entry] = house.config.connectors.values()
        await house.ledger.start_pull(entry.source, house.run, clock())
        await house.ledger.record_page(entry.source, [signal(1)], [], None, house.run, clock())
        await house.ledger.finish_pull(entry.source, house.run, None, clock())
        ping = Ping(house, SecretStr(receiver.url))
        clock.move(60)
        assert await ping.once()  # it is due just now
        clock.move(241)
        assert not await ping.once()
        assert not await Ping(house, SecretStr(receiver.url)).once()
        assert "none moves" in str(await ping.held_up())
        house.figures.accepted += 1
        assert await ping.once()
        assert not await ping.once()
        assert len(receiver.calls) == 2

    async def test_a_reading_that_does_not_begin_is_no_life(self, house: House, clock: Clock) -> None:
        """A scheduler that stands still is noticed, and so is a reading that never ends; a paused connector is not
        waited for."""
        ping = Ping(house, SecretStr("http://127.0.0.1:1/"))
        [entry] = house.config.connectors.values()
        await fails(house, clock, None)
        clock.move(14 * 60)
        assert await ping.held_up() is None
        clock.move(2 * 60)
        assert "reviews should have been read" in str(await ping.held_up())
        await house.ledger.start_pull(entry.source, house.run, clock())
        clock.move(19 * 60)
        assert await ping.held_up() is None
        clock.move(2 * 60)
        assert "reviews should have been read" in str(await ping.held_up())
        await house.ledger.finish_pull(entry.source, house.run, None, clock())
        clock.move(3600)
        await house.ledger.pause([entry.source], clock())
        assert await ping.held_up() is None

    async def test_loops_that_stand_still_are_no_life(self, house: House, clock: Clock) -> None:
        """Even while figures move, a stuck loop keeps it silent."""
        house.beats["posting"] = clock() - timedelta(hours=1)
        house.figures.accepted += 1
        assert await Ping(house, SecretStr("http://127.0.0.1:1/")).held_up() == "no progress in posting"

    async def test_a_ledger_that_does_not_answer_is_no_life(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without its books syncd does not say that all is well."""

        monkeypatch.setattr(house.ledger, "ask", broken)
        assert "the disk is full" in str(await Ping(house, SecretStr("http://127.0.0.1:1/")).held_up())

    async def test_it_is_called_every_so_often_and_sooner_after_a_miss(self, house: House, receiver: Receiver) -> None:
        """At `ping_every`, and again after half a minute when a call did not get through."""
        receiver.statuses = [200, 500, 200]
        waits: list[float] = []

        async def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await Ping(house, SecretStr(receiver.url), sleep=wait).for_ever()
        assert waits == [300, 30, 300]


async def test_beside_a_house_it_looks_by_itself_and_ends_with_it(
    tmp_path: Path, sandbox: Sandbox, receiver: Receiver
) -> None:
    """Nothing has to be called by anybody: alerts and pings go out, and cancelling it leaves nothing behind."""
    alerts = AlertSettings(webhook=SecretStr(receiver.url), ping=SecretStr(receiver.url + "/ping"))
    async with sandbox.serve() as api_base:
        zentrik = ZentrikSettings(api_base=api_base, api_key=SecretStr("sandbox-key"))
        config = Config(ledger=f"sqlite:///{tmp_path}/l.db", zentrik=zentrik, alerts=alerts)
        async with asyncio.timeout(20), open_house(config, "run") as house:
            watching = asyncio.create_task(watch_over(house, lambda: "config.yaml:1: no such setting"))
            while len(receiver.calls) < 2:  # noqa: ASYNC110 - it happens in a server
                await asyncio.sleep(0.02)
            watching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watching
    paths = {path: body for _, path, body in receiver.calls}
    assert json.loads(paths["/hook/made-up-t0ken"])["kind"] == "config_refused"
    assert paths["/hook/made-up-t0ken/ping"] == b""
    assert [*asyncio.all_tasks()] == [asyncio.current_task()]
