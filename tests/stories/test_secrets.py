"""Secrets, planted wherever one can stand, and everything going wrong that can: none comes out anywhere.

Both ends repeat to us what we sent them, key and all, in every error they answer; the source writes its own token into
records, reasons, links, checkpoints, logs and exceptions. Then every byte that was printed or stored is searched.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import sqlalchemy as sa

from syncd import logs
from syncd.fates import Unknown
from syncd.sandbox import Sandbox
from syncd.zentrik import verdict
from tests.conftest import MOSTLY_ON_SQLITE
from tests.stories.conftest import Operator
from tests.stories.test_daemon import until

MARK = "PLANTED"
"""In every secret, so that half of one is found as well."""

KEY = f"zk-live-{MARK}-4711"
TOKEN = f"vendor {MARK}+token/4711"
PASSWORD = f"pg-{MARK}-word-4711"

CONNECTOR = '''
import asyncio, gc, logging, threading
import httpx
from pydantic import SecretStr
from syncd.connector import Connector, Page, Record, SetAside, SourceError

class Key(httpx.Auth):
    def __init__(self, token):
        self.token = token

    def auth_flow(self, request):
        request.headers["X-Api-Key"] = self.token
        request.url = request.url.copy_merge_params({"api_key": self.token})
        yield request

class Escaped(BaseException):
    """Something that nobody catches."""

class Unraisable:
    def __init__(self, token):
        self.token = token

    def __del__(self):
        raise RuntimeError(f"closing failed with {self.token}")

def failing(token):
    raise RuntimeError(f"a thread failed with {token}")

async def never_awaited(token):
    raise RuntimeError(f"a task failed with {token}")

class Leaky(Connector):
    """A source that betrays its secret in one way."""

    provider = "external_api"
    token: SecretStr
    base_url: str
    how: str

    def hosts(self):
        return frozenset({httpx.URL(self.base_url).netloc.decode()})

    def auth(self):
        return Key(self.token.get_secret_value())

    async def check(self, http):
        return f"seen with {self.token.get_secret_value()}"

    async def fetch(self, http, checkpoint, window):
        token = self.token.get_secret_value()
        link = str(httpx.URL("https://vendor.example/1", params={"api_key": token}))
        match self.how:
            case "refused" | "broken" | "gone":
                await http.get(f"{self.base_url}/{self.how}")
            case "elsewhere":
                await http.get(f"https://elsewhere.example/next?api_key={token}")
            case "redirected":
                await http.get(f"{self.base_url}/redirected")
            case "told":
                raise SourceError(f"the token {token} is out of date")
            case "crashing":
                raise KeyError({"token": token})
            case "several":
                raise ExceptionGroup("several", [RuntimeError(token)])
            case "remembering":
                yield Page(records=[Record(id="1", kind="review", text="a")], checkpoint={"next": link})
            case "writing":
                yield Page(
                    records=[
                        Record(id="1", kind="review", text=f"token {token}.", title=token, url=link, place=token,
                               attributes={"deep": [{token: token}]}),
                        Record(id=token, kind="review", text="its id is one"),
                        Record(id="2", kind=token, text="its kind is one"),
                        Record(id="3", kind="review", text="fine"),
                    ],
                    set_aside=[SetAside(f"line of {token}", f"cannot read {token!r}")],
                )
            case "logging":
                logging.getLogger("leaky").warning("with %s and %r", token, {"token": token})
                logging.getLogger("leaky").warning("%d items", token)
                asyncio.create_task(never_awaited(token))
                await asyncio.sleep(0.05)
                gc.collect()
                thread = threading.Thread(target=failing, args=(token,))
                thread.start()
                thread.join()
                Unraisable(token)
                gc.collect()
                yield Page()
            case "escaping":
                raise Escaped(f"nobody expects {token}")
'''

QUIET = ("refused", "broken", "gone", "elsewhere", "redirected", "told", "crashing", "several", "remembering")
LEAKS = (*QUIET, "writing", "logging")


class Parrot(ThreadingHTTPServer):
    """Zentrik and a vendor in one, repeating in every answer whatever it was sent. `mood` is what becomes of a post."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Words)
        self.mood = "refusing"
        self.posted = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Words(BaseHTTPRequestHandler):
    server: Parrot

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the standard library
        """What was asked is seen in the answers."""

    def do_GET(self) -> None:
        echo = f"you sent {self.headers} to {self.path}".replace("\r\n", " ")
        name = self.path.partition("?")[0].rpartition("/")[2]
        match name:
            case "readyz":
                self._answer(200, {"checks": {"database": "ok"}})
            case "signals":
                found = [self._signal(number + 1, echo) for number in range(self.server.posted)]
                self._answer(200, found, {"X-Total-Count": str(len(found)), "X-Has-More": "false"})
            case "refused":
                self._answer(401, {"error": echo})
            case "broken":
                self._answer(429, {"error": echo}, {"Retry-After": "86400"})
            case "redirected":
                self._answer(302, {}, {"Location": f"http://localhost:1/{self.path}"})
            case name if name.startswith("SIGNAL-"):
                self._answer(200, self._signal(int(name.removeprefix("SIGNAL-")), echo))
            case _:
                self._answer(404, {"error": echo})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        echo = f"you sent {self.headers} {body}".replace("\r\n", " ")
        match self.server.mood:
            case "refusing":
                self._answer(400, {"message": echo})
            case "denying":
                self._answer(401, {"message": "x" * 960 + echo})
            case _:
                self.server.posted += 1
                self._answer(201, {"publicId": f"SIGNAL-{self.server.posted}", "jobId": self.headers["Authorization"]})

    def _signal(self, number: int, echo: str) -> dict[str, object]:
        told = {"lastError": echo, "lastJobId": self.headers["Authorization"]}
        return {"publicId": f"SIGNAL-{number}", "status": "failed", "processing": told}

    def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass
class Betrayed(Operator):
    """An operator with a package of another's that cannot keep a secret, who keeps everything that is printed."""

    ledger_url: str = ""
    printed: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        secrets = {f"SYNCD_CONNECTORS__{name.upper()}__TOKEN": TOKEN for name in (*LEAKS, "escaping")}
        packages = {"PYTHONPATH": str(self.folder / "packages"), "SYNCD_LEDGER": self.ledger_url}
        return {**super().environment, **secrets, **packages}

    def syncd(self, *arguments: str) -> CompletedProcess[str]:
        done = super().syncd(*arguments)
        self.printed += [done.stdout, done.stderr]
        return done

    def told(self) -> str:
        """All that was printed."""
        return "\n".join(self.printed)


def betrayed(folder: Path, api_base: str, ledger_url: str) -> Betrayed:
    """That operator, with one connector for each way a secret can get out (the last one is off: it ends the run)."""
    packages = folder / "packages"
    described = packages / "leaky-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: leaky\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[syncd.connectors]\nleaky = leaky:Leaky\n")
    (packages / "leaky.py").write_text(CONNECTOR)
    entries = {
        name: {"type": "leaky", "how": name, "base_url": api_base, "enabled": name != "escaping"}
        for name in (*LEAKS, "escaping")
    }
    zentrik = {"poll_interval": "100ms", "ready_timeout": "1s"}
    (folder / "config.yaml").write_text(json.dumps({"zentrik": zentrik, "connectors": entries}))
    return Betrayed(folder, api_base, KEY, ledger_url)


@pytest.fixture
def parrot() -> Iterator[Parrot]:
    with Parrot() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def stored(folder: Path, ledger_url: str) -> bytes:
    """Every byte of the files of a ledger, or of what its tables hold."""
    if ledger_url.startswith("sqlite"):
        return b"\n".join(path.read_bytes() for path in folder.glob("ledger.db*"))
    engine = sa.create_engine(ledger_url)
    tables = sa.MetaData()
    with engine.connect() as db:
        tables.reflect(db)
        rows = [str(tuple(map(_plain, row))) for table in tables.sorted_tables for row in db.execute(sa.select(table))]
    engine.dispose()
    return "\n".join(rows).encode()


def _plain(value: object) -> object:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | memoryview) else value


@MOSTLY_ON_SQLITE
@pytest.mark.timeout(300)
def test_no_secret_gets_out_whatever_goes_wrong(tmp_path: Path, parrot: Parrot, ledger_url: str) -> None:
    """Screens, logs, scripts and the ledger can be shown to anybody: no key, token or password is in them."""
    address = ledger_url.replace("postgres:@", f"postgres:{PASSWORD}@")
    assert (PASSWORD in address) is (not ledger_url.startswith("sqlite"))
    operator = betrayed(tmp_path, parrot.address, address)
    operator.syncd("check")
    for mood in ("refusing", "denying", "failing"):
        parrot.mood = mood
        assert operator.syncd("-vv", "run-once", "--json", "--wait", "1").returncode in (1, 3)
    operator.syncd("retry")
    operator.syncd("reconcile")
    operator.syncd("run-once", "--no-wait")
    names = [row["externalId"] for row in operator.signals()]
    assert len(names) == 2
    for command in ("status", "signals", "skipped", "run-once --dry-run", f"show {names[0]}"):
        operator.syncd(*command.split())
        operator.syncd(*command.split(), "--json")
    told, kept = operator.told(), stored(tmp_path, address)
    assert told.count("***") > 50
    assert kept.count(b"***") > 10
    assert MARK not in told
    assert MARK.encode() not in kept
    connectors = json.loads(operator.syncd("status", "--json").stdout)["connectors"]
    assert {leak for leak in LEAKS if connectors[leak]["state"] == "stopped"} == set(QUIET)
    for words in (
        "a thread failed",
        "a task failed",
        "closing failed",
        "its id holds a secret",
        "secret_in_checkpoint",
    ):
        assert words in told


def test_a_secret_is_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id that Zentrik makes of our own key is not kept, nor ever asked for: the record is looked up instead."""
    monkeypatch.setattr(logs, "_concealed", logs._Concealed())
    logs.conceal([KEY])
    echoed = json.dumps({"publicId": f"Bearer {KEY}", "jobId": "job-1"}).encode()
    assert verdict(201, {}, echoed, datetime.now(UTC)) == Unknown("201 without a publicId")


def test_an_error_that_nobody_foresaw_is_told_without_secrets(tmp_path: Path, parrot: Parrot) -> None:
    """A traceback can be pasted into a report as it stands; the exit code is 1, and the words say what to do."""
    operator = betrayed(tmp_path, parrot.address, f"sqlite:///{tmp_path}/ledger.db")
    done = operator.syncd("run-once", "escaping")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "nobody expects ***" in done.stderr
    assert done.stderr.rstrip().endswith("which hold no secret of the configuration.")
    assert MARK not in operator.told()


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql+psycopg://user:{PASSWORD}@127.0.0.1:1/db",
        f"postgresql+psycopg://user:{PASSWORD}%2F%40@127.0.0.1:1/db",
        f"postgresql+psycopg://user@127.0.0.1:1/db?password={PASSWORD}",
        f"postgresql+psycopg://user:{PASSWORD}@127.0.0.1:1/db?no_such_option={PASSWORD}",
        f"postgresql+psycopg://user:{PASSWORD}@127.0.0.1:99999999/db",
        f"postgresql+psycopg://user:{PASSWORD}@[nowhere/db",
        f"postgres://user:{PASSWORD}@host/db",
        f"mysql://user:{PASSWORD}@host/db",
    ],
)
def test_a_ledger_that_cannot_be_reached_does_not_tell_its_password(tmp_path: Path, address: str) -> None:
    """The commonest error of a first start is safe to show to a colleague."""
    operator = betrayed(tmp_path, "http://127.0.0.1:1", address)
    for command in ("run-once", "-vv run-once", "status"):
        done = operator.syncd(*command.split())
        assert done.returncode == 2, done
        assert "ledger" in done.stderr
    assert MARK not in operator.told()


def test_what_is_written_is_for_its_owner_alone(tmp_path: Path, sandbox: Sandbox) -> None:
    """Nobody else on the machine reads customers' words out of the ledger, or a key out of the configuration."""
    with widest_umask(), sandbox.in_thread() as api_base:
        operator = betrayed(tmp_path, api_base, f"sqlite:///{tmp_path}/ledger.db")
        operator.key = "sandbox-key"
        assert operator.syncd("init", "new.yaml").returncode == 0
        with operator.started("run") as daemon:
            until(lambda: len(list(tmp_path.glob("ledger.db*"))) >= 4, daemon)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("ledger.db*")}
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=30)
    assert {"ledger.db", "ledger.db-wal", "ledger.db-shm"} < set(modes)
    assert any("run" in name for name in modes)
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "new.yaml").stat().st_mode) == 0o600


@contextmanager
def widest_umask() -> Iterator[None]:
    """As in a container whose default hides nothing from anybody."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)
