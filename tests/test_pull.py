"""Pull: what is read is in the ledger together with the checkpoint after it, whatever a source does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from syncd.connector import (
    Checkpoint,
    Connector,
    CredentialsRefused,
    Page,
    RawRecord,
    Record,
    RecordError,
    SetAside,
    ShapeChanged,
    Source,
    SourceError,
    Window,
)
from syncd.errors import ConfigError, LedgerError, RateLimited
from syncd.ledger import Database, Ledger, State, report
from syncd.ledger.tracing import origin
from syncd.pull import SHOWN_ASIDE, Pulled, Span, pull
from tests.conftest import Clock, OnSQLite, record, signal

DAY = timedelta(days=1)
NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
ALL = Span()


class Scripted(Connector):
    """A source that gives its pages from the checkpoint on, then ends as told, and keeps a diary of its life."""

    provider = "external_api"
    pages: Any = ()
    ends: Any = None
    diary: Any = Field(None, repr=False)

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        diary = [] if self.diary is None else self.diary
        diary.append((dict(checkpoint), window))
        done = checkpoint.get("pages", 0)
        assert isinstance(done, int)
        try:
            for page in self.pages[done:]:
                yield page
                diary.append("went on")
            if self.ends:
                raise self.ends
        finally:
            diary.append("closed")

    async def check(self, http: httpx.AsyncClient) -> str:
        return "readable"


def scripted(
    *pages: Page, ends: Exception | None = None, since: datetime | None = None, diary: list[Any] | None = None
) -> Source:
    return Source("reviews", "listed", "listed:reviews", Scripted(pages=pages, ends=ends, diary=diary), since)


def page(number: int, *records: Record | RawRecord, **more: Any) -> Page:
    """The page of that number, its checkpoint saying that it is done."""
    return Page(records=records, checkpoint={"pages": number}, **more)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client for connectors that ask nobody."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))) as client:
        yield client


async def read(
    ledger: Ledger,
    http: httpx.AsyncClient,
    source: Source,
    clock: Clock,
    span: Span = ALL,
    *,
    stopping: Callable[[], bool] = lambda: False,
    on_page: Callable[[Pulled], None] = lambda _: None,
) -> Pulled:
    run = await ledger.start_run("test", clock())
    return await pull(source, ledger, http, run, clock, span, stopping=stopping, on_page=on_page)


async def stands(ledger: Ledger) -> report.ConnectorRow:
    """How the connector stands in the ledger."""
    return (await ledger.ask(report.connector_rows))["reviews"]


async def names(ledger: Ledger) -> list[str]:
    """The numbers of the records in the ledger, in the order they were read."""
    found = await ledger.ask(lambda db: list(report.find(db)))
    return [row.external_id.rpartition("-")[2] for row in sorted(found, key=lambda row: row.id)]


class TestReading:
    async def test_every_page_is_stored_with_the_checkpoint_after_it(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Reading goes on after the last page stored, so that nothing is asked for twice or passed over."""
        diary: list[Any] = []
        first, second, third = page(1, record(1), record(2)), page(2, record(3)), page(3, record(4))
        pulled = await read(ledger, http, scripted(first, second, diary=diary), clock)
        assert (pulled.new, pulled.fetched, pulled.error) == (3, 3, None)
        pulled = await read(ledger, http, scripted(first, second, third, diary=diary), clock)
        assert (pulled.new, pulled.fetched) == (1, 1)
        assert [entry[0] for entry in diary if isinstance(entry, tuple)] == [{}, {"pages": 2}]
        assert await names(ledger) == ["1", "2", "3", "4"]
        row = await stands(ledger)
        assert (row.checkpoint, row.succeeded_at, row.error_code) == ({"pages": 3}, clock(), None)

    async def test_each_signal_knows_the_page_that_brought_it(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Where a record stood in its reading can be told: pages are counted from 1, in each reading anew."""
        first, second, third = page(1, record(1)), page(2, record(2)), page(3, record(1), record(3))
        await read(ledger, http, scripted(first, second), clock)
        await read(ledger, http, scripted(first, second, third), clock)
        found = await ledger.ask(lambda db: [(origin(db, row).run, origin(db, row).page) for row in report.find(db)])
        assert found == [(2, 1), (1, 2), (1, 1)]

    async def test_the_source_goes_on_only_when_its_page_is_stored(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Whatever a connector does after its `yield` (archive a file, say), the records are safe by then."""
        seen: list[tuple[list[str], Checkpoint]] = []

        class Archiving(Scripted):
            async def fetch(
                self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
            ) -> AsyncGenerator[Page, None]:
                for number in (1, 2):
                    yield page(number, record(number))
                    seen.append((await names(ledger), (await stands(ledger)).checkpoint))

        await read(ledger, http, Source("reviews", "listed", "listed:reviews", Archiving()), clock)
        assert seen == [(["1"], {"pages": 1}), (["1", "2"], {"pages": 2})]

    async def test_what_broke_off_is_gone_on_with(self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock) -> None:
        """A source that fails midway keeps what it gave, says why, and is read on from there the next time."""
        pages = page(1, record(1)), page(2, record(2)), page(3, record(3))
        pulled = await read(ledger, http, scripted(*pages[:2], ends=ShapeChanged("no «items» in it")), clock)
        assert (pulled.new, pulled.error) == (2, ("shape_changed", "no «items» in it"))
        row = await stands(ledger)
        assert (row.error_code, row.error_message, row.succeeded_at) == ("shape_changed", "no «items» in it", None)
        assert (row.checkpoint, row.run_id) == ({"pages": 2}, None)
        clock.move(60)
        pulled = await read(ledger, http, scripted(*pages), clock)
        assert (pulled.new, pulled.fetched, pulled.error) == (1, 1, None)
        assert (await stands(ledger)).error_code is None


class TestPages(OnSQLite):
    async def test_an_empty_page_still_moves_the_checkpoint(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """A quiet stretch of a source is not read again for ever."""
        assert (await read(ledger, http, scripted(page(1), page(2)), clock)).fetched == 0
        assert (await stands(ledger)).checkpoint == {"pages": 2}

    async def test_what_cannot_become_a_signal_is_set_aside(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """One broken record costs nobody else anything, and can be found again by its place."""
        broken = Record(id="x", kind="rumour", text="Hm.", place="nps.csv line 3")
        unnamed = Record(id=" ", kind="review", text="Hm.")
        raw = RawRecord(id="y", body={"externalId": True})
        aside = SetAside("nps.csv line 9", "it has no comment")
        pulled = await read(ledger, http, scripted(page(1, record(1), broken, unnamed, raw, set_aside=[aside])), clock)
        assert (pulled.new, pulled.skipped, pulled.error) == (1, 4, None)
        reasons = {item.place: item.reason for item in pulled.set_aside}
        assert reasons["nps.csv line 9"] == "it has no comment"
        assert reasons["nps.csv line 3"].startswith("its type 'rumour' is none of")
        assert set(reasons) == {"nps.csv line 9", "nps.csv line 3", " ", "y"}
        kept = await ledger.ask(lambda db: list(report.aside(db)))
        assert {row.place: row.reason for row in kept} == reasons

    async def test_only_some_are_shown_and_all_are_kept(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """A file with ten thousand bad rows does not fill the memory; `syncd` can still list every one."""
        aside = [[SetAside(f"line {part * 50 + row}", "empty") for row in range(50)] for part in range(3)]
        pages = [page(number, set_aside=some) for number, some in enumerate(aside, 1)]
        pulled = await read(ledger, http, scripted(*pages), clock)
        assert (len(pulled.set_aside), pulled.skipped) == (SHOWN_ASIDE, 150)
        assert await ledger.ask(report.aside_counts) == {"reviews": 150}

    async def test_progress_is_told_page_by_page(self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock) -> None:
        """Who watches a long import sees it move."""
        told: list[int] = []
        source = scripted(page(1, record(1)), page(2, record(2), record(3)))
        await read(ledger, http, source, clock, on_page=lambda pulled: told.append(pulled.fetched))
        assert told == [1, 3]

    async def test_a_stop_takes_effect_between_two_pages(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Ctrl-C in a long import keeps every page read so far, closes the source, and the next run goes on."""
        diary: list[Any] = []
        pages = page(1, record(1)), page(2, record(2)), page(3, record(3))
        seen: list[int] = []
        pulled = await read(
            ledger,
            http,
            scripted(*pages, diary=diary),
            clock,
            stopping=lambda: len(seen) == 2,
            on_page=lambda pulled: seen.append(pulled.new),
        )
        assert (pulled.new, pulled.error) == (2, None)
        assert diary[1:] == ["went on", "closed"]
        assert (await read(ledger, http, scripted(*pages), clock)).new == 1
        assert await names(ledger) == ["1", "2", "3"]

    async def test_another_look_is_asked_for(self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock) -> None:
        """A file still being written is not forgotten: when to come back is passed on."""
        at = clock() + timedelta(seconds=2)
        pulled = await read(ledger, http, scripted(page(1, record(1), revisit_at=at), page(2, record(2))), clock)
        assert pulled.revisit_at == at

    @pytest.mark.parametrize("name", ["a\0b", "caf\udce9.csv"])
    async def test_names_no_database_can_keep_stop_nobody(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, name: str
    ) -> None:
        """A file name or an id with half a character or a NUL in it sets its record aside, and no more."""
        bad = Record(id=name, kind="review", text="Hm.")
        aside = SetAside(f"{name} line 1", f"what is {name}?")
        strange = Page(records=[record(1), bad], checkpoint={"files": {name: 1}}, set_aside=[aside])
        pulled = await read(ledger, http, scripted(strange, ends=SourceError(f"cannot open {name}")), clock)
        assert (pulled.new, pulled.skipped, pulled.error) == (1, 2, ("source_error", f"cannot open {name}"))
        row = await stands(ledger)
        assert row.checkpoint == {"files": {name: 1}}
        assert str(row.error_message).startswith("cannot open")


class TestNamesOnEitherDatabase:
    async def test_hostile_text_is_storable(self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock) -> None:
        """What one database would swallow and the other choke on stops neither."""
        aside = SetAside("a\0b \ud800", "c\0d \udfff")
        pulled = await read(ledger, http, scripted(page(1, set_aside=[aside]), ends=SourceError("e\0f \ud800")), clock)
        assert pulled.error is not None
        [kept] = await ledger.ask(lambda db: list(report.aside(db)))
        assert (kept.place, kept.reason) == ("ab ?", "cd ?")
        assert (await stands(ledger)).error_message == "ef ?"


REQUEST = httpx.Request("GET", "https://user:password@api.example.com/v2/items?token=secret")
ANSWER = httpx.Response(404, request=REQUEST)


class TestErrors(OnSQLite):
    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (SourceError("the folder is gone"), "source_error", "the folder is gone"),
            (CredentialsRefused("401"), "credentials_refused", "401"),
            (
                httpx.HTTPStatusError("", request=REQUEST, response=ANSWER),
                "http_404",
                "https://api.example.com/v2/items answered 404",
            ),
            (httpx.ConnectError("no route"), "unreachable", "listed: the source cannot be reached: no route"),
            (httpx.ReadTimeout(""), "unreachable", "listed: the source cannot be reached: ReadTimeout"),
            (KeyError("items"), "connector_error", "KeyError: 'items'"),
            (RecordError("it has no id"), "connector_error", "RecordError: it has no id"),
            (ConfigError("no such thing"), "connector_error", "ConfigError: no such thing"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
    )
    async def test_each_error_has_its_code_and_words(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, error: Exception, code: str, message: str
    ) -> None:
        """Whatever stops one source is told in words, keeps what was read, shows no secret, and stops no other."""
        diary: list[Any] = []
        pulled = await read(ledger, http, scripted(page(1, record(1)), ends=error, diary=diary), clock)
        assert pulled.error is not None
        assert pulled.error[0] == code
        assert pulled.error[1].endswith(message)
        assert not any(secret in pulled.error[1] for secret in ("secret", "password"))
        assert (pulled.new, diary[-1]) == (1, "closed")
        row = await stands(ledger)
        assert (row.error_code, row.error_message, row.run_id) == (*pulled.error, None)

    @pytest.mark.parametrize("bad", [None, Page(records=None), Page(checkpoint={"at": NOON})])  # type: ignore[arg-type,dict-item]
    async def test_a_page_that_is_none_stops_its_connector_alone(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, bad: Any
    ) -> None:
        """A defect in a connector is told as one; its checkpoint stays at the last good page."""
        diary: list[Any] = []
        pulled = await read(ledger, http, scripted(page(1, record(1)), bad, page(3, record(3)), diary=diary), clock)
        assert pulled.error is not None
        assert (pulled.error[0], diary[-1], pulled.new) == ("connector_error", "closed", 1)
        assert (await stands(ledger)).checkpoint == {"pages": 1}

    async def test_the_ledgers_own_trouble_is_raised(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk is not taken for the fault of a source; the source is closed all the same."""
        diary: list[Any] = []

        async def fail(*_: object) -> None:
            raise LedgerError("the disk is full")

        monkeypatch.setattr(ledger, "record_page", fail)
        with pytest.raises(LedgerError, match="the disk is full"):
            await read(ledger, http, scripted(page(1, record(1)), diary=diary), clock)
        assert diary[-1] == "closed"

    async def test_cut_off_it_closes_the_source(self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock) -> None:
        """A shutdown that cannot wait leaves no connection open behind it."""
        waiting, closed = asyncio.Event(), asyncio.Event()

        class Slow(Scripted):
            async def fetch(
                self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
            ) -> AsyncGenerator[Page, None]:
                try:
                    yield page(1, record(1))
                    waiting.set()
                    await asyncio.Event().wait()
                finally:
                    closed.set()

        source = Source("reviews", "listed", "listed:reviews", Slow())
        reading = asyncio.create_task(read(ledger, http, source, clock))
        await waiting.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert closed.is_set()
        assert await names(ledger) == ["1"]

    async def test_two_runs_do_not_read_one_source_at_once(
        self, ledger: Ledger, ledger_url: str, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """A run beside the daemon is told that the source is being read, and does not disturb that reading."""
        run = await ledger.start_run("test", clock())
        await ledger.start_pull(scripted(), run, clock())
        other = Ledger(Database(ledger_url))
        pulled = await read(other, http, scripted(page(1, record(1))), clock)
        assert pulled.error is not None
        assert (pulled.error[0], pulled.fetched) == ("already_reading", 0)
        row = await stands(ledger)
        assert (row.run_id, row.error_code) == (run, None)
        other.close()


def dated(number: int, at: datetime | None) -> Record:
    return record(number, occurred_at=at)


class TestSpan(OnSQLite):
    @pytest.mark.parametrize(
        ("span", "read_numbers"),
        [
            (Span(since=NOON), ["1", "2", "4"]),
            (Span(until=NOON), ["0", "4"]),
            (Span(since=NOON, until=NOON + DAY), ["1", "4"]),
        ],
    )
    async def test_a_look_back_leaves_the_checkpoint_alone(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, span: Span, read_numbers: list[str]
    ) -> None:
        """`--since` and `--until` read from the beginning, take what lies between (the first instant included, the
        last not, what has no time always), and do not move where the regular reading stands."""
        diary: list[Any] = []
        await read(ledger, http, scripted(page(1), page(2)), clock)
        times = [NOON - DAY, NOON, NOON + DAY]
        pages = page(1, *(dated(number, at) for number, at in enumerate(times))), page(2, dated(4, None))
        pulled = await read(ledger, http, scripted(*pages, diary=diary), clock, span)
        assert diary[0] == ({}, Window(clock(), span.since, span.until))
        assert await names(ledger) == read_numbers
        assert (pulled.new, pulled.skipped, pulled.fetched) == (len(read_numbers), 4 - len(read_numbers), 4)
        assert (await stands(ledger)).checkpoint == {"pages": 2}

    async def test_the_configured_since_holds_for_every_reading(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """What is older than the operator wants is passed over and counted, and the reading moves on."""
        diary: list[Any] = []
        raw = RawRecord(id="raw", body={"externalId": "raw-9", "text": "Old.", "occurredAt": "2026-09-01T00:00:00Z"})
        source = scripted(page(1, dated(1, NOON - DAY), dated(2, NOON), raw), since=NOON, diary=diary)
        pulled = await read(ledger, http, source, clock)
        assert (pulled.new, pulled.skipped, await names(ledger)) == (1, 2, ["2"])
        assert diary[0] == ({}, Window(clock(), NOON, None))
        assert (await stands(ledger)).checkpoint == {"pages": 1}

    async def test_since_on_the_command_line_goes_before_the_configured_one(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """A backfill reaches further back than the configuration does."""
        source = scripted(page(1, dated(1, NOON - DAY), dated(2, NOON)), since=NOON)
        assert (await read(ledger, http, source, clock, Span(since=NOON - DAY))).new == 2

    @pytest.mark.parametrize("limit", range(8))
    async def test_a_limit_takes_exactly_so_many_and_loses_none(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, limit: int
    ) -> None:
        """`--limit N` reads N records; the others are there for the next run, wherever the limit fell."""
        diary: list[Any] = []
        pages = page(1, record(1), record(2), record(3)), page(2, record(4)), page(3, record(5), record(6))
        pulled = await read(ledger, http, scripted(*pages, diary=diary), clock, Span(limit=limit))
        assert (pulled.new, pulled.fetched) == (min(limit, 6), min(limit, 6))
        assert await names(ledger) == [str(number) for number in range(1, 7)][:limit]
        assert diary[-1] == "closed"
        pulled = await read(ledger, http, scripted(*pages), clock, Span(limit=2))
        assert pulled.new == min(2, 6 - min(limit, 6))  # what the ledger knows does not count
        pulled = await read(ledger, http, scripted(*pages), clock)
        assert await names(ledger) == ["1", "2", "3", "4", "5", "6"]
        assert (await stands(ledger)).checkpoint == {"pages": 3}


usable = st.integers(0, 12).map(record)
edited = st.integers(0, 12).map(lambda number: record(number, "Edited."))
old = st.integers(20, 25).map(lambda number: dated(number, NOON - DAY))
broken = st.sampled_from([Record(id="", kind="review", text="x"), Record(id="e", kind="review", text=" ")])
raw = st.sampled_from([RawRecord(id="w", body={"text": "Raw."}), RawRecord(id="v", body={"externalId": []})])
a_page = st.builds(
    lambda records, aside, filtered: (records, [SetAside(f"line {number}", "?") for number in range(aside)], filtered),
    st.lists(usable | edited | old | broken | raw, max_size=8),
    st.integers(0, 3),
    st.integers(0, 3),
)


class TestFigures:
    @settings(max_examples=25, deadline=None)
    @given(first=st.lists(a_page, max_size=4), second=st.lists(a_page, max_size=4))
    async def test_they_add_up(
        self,
        first: Sequence[tuple[list[Record | RawRecord], list[SetAside], int]],
        second: Sequence[tuple[list[Record | RawRecord], list[SetAside], int]],
    ) -> None:
        """Everything a source showed is counted once: as new, changed, unchanged or skipped. New is what is queued."""
        clock = Clock()
        with TemporaryDirectory() as folder:
            ledger = Ledger(Database(f"sqlite:///{folder}/ledger.db"))
            async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))) as http:
                new = 0
                for given_pages in (first, second):
                    pages = [Page(records=r, set_aside=a, filtered=f) for r, a, f in given_pages]
                    source = Source("reviews", "listed", "listed:reviews", Scripted(pages=pages), NOON)
                    pulled = await read(ledger, http, source, clock)
                    shown = sum(len(r) + len(a) + f for r, a, f in given_pages)
                    assert pulled.error is None
                    assert pulled.new + pulled.changed + pulled.unchanged + pulled.skipped == pulled.fetched == shown
                    new += pulled.new
                counts = (await ledger.ask(report.counts)).get("reviews", {})
                assert counts.get(State.QUEUED, 0) == new
            ledger.close()

    async def test_the_same_again_is_unchanged(self, tmp_path: Path, http: httpx.AsyncClient, clock: Clock) -> None:
        """Reading all of a source once more queues nothing."""
        ledger = Ledger(Database(f"sqlite:///{tmp_path / 'ledger.db'}"))
        pages = page(1, record(1), record(2)), page(2, record(3, "Edited."))
        await read(ledger, http, scripted(page(1, record(3)), *pages), clock)
        pulled = await read(ledger, http, scripted(*pages), clock, Span(since=NOON - DAY))
        assert (pulled.new, pulled.changed, pulled.unchanged) == (0, 0, 3)
        assert (await ledger.ask(report.known, [signal(3).external_id]))[signal(3).external_id].state is State.QUEUED
        ledger.close()


class TestAsking(OnSQLite):
    """What a source may ask of the house, so that it need not ask its vendor."""

    async def test_a_source_is_told_which_records_are_known_and_in_which_version(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """No detail call is made for a record the ledger has as it is; one that changed is asked for again."""
        diary: list[Any] = []
        await read(ledger, http, scripted(page(1, record(1, version="a"), record(2)), diary=diary), clock)
        await read(ledger, http, scripted(page(1), page(2), diary=diary), clock)
        window = next(entry[1] for entry in reversed(diary) if isinstance(entry, tuple))
        assert await window.known({"r-1": "a", "r-2": None, "r-3": None}) == {"r-1", "r-2"}
        assert await window.known({"r-1": "b"}) == set()
        assert await window.known({"r-1": None, "r-2": "c"}) == {"r-1"}

    @pytest.mark.parametrize("text", ["The export takes too long.", "It takes even longer."])
    async def test_the_version_seen_last_is_the_one_that_is_known(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock, text: str
    ) -> None:
        """A change that makes no difference to the body is not looked into at every run, nor is one that did."""
        diary: list[Any] = []
        pages = [page(1, record(1, version="a")), page(2, record(1, text, version="b"))]
        await read(ledger, http, scripted(*pages, diary=diary), clock)
        await read(ledger, http, scripted(*pages, diary=diary), clock)
        window = next(entry[1] for entry in reversed(diary) if isinstance(entry, tuple))
        assert await window.known({"r-1": "b"}) == {"r-1"}

    async def test_records_that_were_not_asked_for_count_as_unchanged(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """The figures add up also for what a source passed over because the ledger has it."""
        pulled = await read(ledger, http, scripted(page(1, record(1), unchanged=4, filtered=2)), clock)
        assert (pulled.new, pulled.unchanged, pulled.skipped, pulled.fetched) == (1, 4, 2, 7)
        assert pulled.shown == pulled.fetched

    async def test_thousands_of_pages_with_nothing_but_known_records_are_no_circle(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """An account with a long past is read to its end, though page after page looks the same."""
        same = [Page(checkpoint={"pages": 0}, unchanged=500)] * 1_000
        assert (await read(ledger, http, scripted(*same), clock)).error is None


class TestRest(OnSQLite):
    async def test_a_vendor_that_wants_to_be_left_alone_is_not_asked_again_before(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """A daily quota that is used up is not knocked at every ten minutes, by this syncd or any other."""
        diary: list[Any] = []
        limited = RateLimited("come back in an hour", clock.now + timedelta(hours=1))
        source = scripted(page(1, record(1)), ends=limited, diary=diary)
        first = await read(ledger, http, source, clock)
        assert first.error == ("rate_limited", "come back in an hour")
        begun = len(diary)
        again = await read(ledger, http, source, clock)
        assert again.error is not None
        assert again.error[0] == "rate_limited"
        assert len(diary) == begun

    async def test_when_the_time_has_come_it_goes_on(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """The wait ends when the vendor said it would, and then it is over for good."""
        source = scripted(page(1, record(1)), page(2, record(2)))
        run = await ledger.start_run("test", clock())
        await ledger.start_pull(source, run, clock())
        until = clock.now + timedelta(hours=1)
        await ledger.finish_pull(source, run, ("rate_limited", "later"), clock(), rests_until=until)
        assert (await read(ledger, http, source, clock)).error is not None
        clock.move(3601)
        for _ in range(2):
            assert (await read(ledger, http, source, clock)).error is None

    async def test_changed_settings_are_tried_at_once(
        self, ledger: Ledger, http: httpx.AsyncClient, clock: Clock
    ) -> None:
        """Whoever mends a connector's settings sees the effect now."""
        limited = RateLimited("come back in an hour", clock.now + timedelta(hours=1))
        await read(ledger, http, scripted(page(1, record(1)), ends=limited), clock)
        assert (await read(ledger, http, scripted(page(1), page(2, record(2))), clock)).error is None
