"""Preview: it shows exactly what a run would post, and leaves no trace."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.backfill import backfill
from syncd.connector import Checkpoint, Connector, Page, RawRecord, Record, SetAside, Source, SourceError, Window
from syncd.dispatch import dispatch
from syncd.ledger import Database, Ledger
from syncd.pacing import Gate, LookSchedule
from syncd.preview import preview
from syncd.pull import Pulled, Span, pull
from syncd.zentrik import Zentrik
from tests.conftest import Clock, record

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
ALL = Span()


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the database."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


class Scripted(Connector):
    """A source that gives its pages from the checkpoint on, and ends as told."""

    provider = "external_api"
    pages: Any = ()
    ends: Any = None
    diary: Any = None

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        done = checkpoint.get("pages", 0)
        assert isinstance(done, int)
        try:
            for number, page in enumerate(self.pages[done:], done + 1):
                yield Page(
                    records=page.records,
                    set_aside=page.set_aside,
                    filtered=page.filtered,
                    checkpoint={"pages": number},
                )
            if self.ends:
                raise self.ends
        finally:
            if self.diary is not None:
                self.diary.append("closed")

    async def check(self, http: httpx.AsyncClient) -> str:
        return "readable"


class Ripening(Connector):
    """A source of two records, the second of which is ready only at a certain time."""

    provider = "external_api"
    ready_at: datetime

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        if not checkpoint.get("first"):
            yield Page(records=[record(1)], checkpoint={"first": True})
        if window.now < self.ready_at:
            yield Page(checkpoint={"first": True}, revisit_at=self.ready_at)
        else:
            yield Page(records=[record(2)], checkpoint={"first": True, "second": True})

    async def check(self, http: httpx.AsyncClient) -> str:
        return "ripening"


def of(*records: Record | RawRecord, **more: Any) -> Page:
    return Page(records=records, **more)


def scripted(*pages: Page, name: str = "reviews", **more: Any) -> Source:
    return Source(name, "listed", f"listed:{name}", Scripted(pages=pages, **more))


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client for connectors that ask nobody."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))) as client:
        yield client


async def never(_seconds: float) -> None:
    raise AssertionError("nothing asked to be looked at again")


async def shown(
    source: Source,
    http: httpx.AsyncClient,
    url: str,
    clock: Clock,
    span: Span = ALL,
    sleep: Callable[[float], Awaitable[object]] = never,
) -> tuple[dict[str, bytes], Pulled]:
    """What a preview shows, as body by externalId, and how the reading went."""
    ledger = Database.open_existing(url)
    pulled = Pulled()
    bodies: dict[str, bytes] = {}
    async for each in preview(source, http, ledger, clock, span, pulled, sleep=sleep):
        assert each.connector == source.name
        assert each.external_id not in bodies
        bodies[each.external_id] = each.body
    if ledger is not None:
        ledger.close()
    return bodies, pulled


async def run(
    source: Source,
    http: httpx.AsyncClient,
    url: str,
    clock: Clock,
    span: Span = ALL,
    *,
    answers: Callable[[str], int] = lambda _: 201,
) -> tuple[dict[str, bytes], Pulled]:
    """What a real run posts. `answers` gives the status for each externalId."""
    ledger = Ledger(Database(url))
    posted: dict[str, bytes] = {}

    async def answer(request: httpx.Request) -> httpx.Response:
        name = json.loads(request.content).get("externalId") or f"{source.namespace}:raw"
        posted[name] = request.content
        return httpx.Response(answers(name), json={"publicId": f"SIGNAL {name}", "message": "no"})

    number = await ledger.start_run("test", clock())
    pulled = await (backfill if span.is_look_back else pull)(source, ledger, http, number, clock, span)
    async with Zentrik("http://zentrik.test/api", "k", clock=clock, transport=httpx.MockTransport(answer)) as zentrik:
        await dispatch(ledger, zentrik, Gate(), LookSchedule(), number, clock, lambda: 0.5, only=[source.name])
    ledger.close()
    return posted, pulled


def figures(pulled: Pulled) -> tuple[int, int, int, int, int]:
    return pulled.new, pulled.changed, pulled.unchanged, pulled.skipped, len(pulled.set_aside)


RAW = RawRecord(id="raw", body={"text": "Raw.", "source": {"type": "manual-text"}})


class TestSameAsARun:
    @pytest.mark.parametrize(
        "span",
        [Span(), Span(limit=2), Span(limit=4), Span(since=NOON), Span(until=NOON)],
        ids=["all", "limit 2", "limit 4", "since", "until"],
    )
    async def test_of_a_source_never_read(
        self, http: httpx.AsyncClient, ledger_url: str, clock: Clock, span: Span
    ) -> None:
        """Before the first run one sees, byte for byte, every body it will post, and the figures it will print."""
        source = scripted(
            of(record(1, occurred_at=NOON), record(2, title="Später", url="https://example.com/2"), RAW),
            of(record(3, occurred_at=NOON - timedelta(days=1)), Record(id="x", kind="review", text=" "), filtered=2),
            of(record(4), set_aside=[SetAside("line 9", "empty")]),
        )
        before, expected = await shown(source, http, ledger_url, clock, span)
        posted, pulled = await run(source, http, ledger_url, clock, span)
        assert before == posted
        assert len(posted) > 1
        assert figures(expected) == figures(pulled)

    async def test_of_a_source_that_goes_on(self, http: httpx.AsyncClient, ledger_url: str, clock: Clock) -> None:
        """What was delivered is not shown again; what waits or was refused is shown with its latest text."""
        answers = {"listed:reviews:r-2": 422, "listed:reviews:r-3": 422, "listed:reviews:r-5": 429}
        old = of(*(record(number) for number in range(1, 6)))
        await run(scripted(old), http, ledger_url, clock, answers=lambda name: answers.get(name, 201))
        clock.move(600)
        edited = of(record(1, "Edited."), record(2, "Mended."), record(3), record(6))
        source = scripted(old, edited)
        before, expected = await shown(source, http, ledger_url, clock)
        posted, pulled = await run(source, http, ledger_url, clock)
        assert before == posted
        assert set(posted) == {f"listed:reviews:r-{number}" for number in (2, 5, 6)}
        assert figures(expected) == figures(pulled) == (1, 2, 1, 0, 0)

    async def test_a_record_edited_while_it_waits_is_shown_as_it_will_be_posted(
        self, http: httpx.AsyncClient, ledger_url: str, clock: Clock
    ) -> None:
        """The text in the preview is the one that goes out, not the one it takes the place of."""
        await run(scripted(of(record(1))), http, ledger_url, clock, answers=lambda _: 429)
        clock.move(600)
        source = scripted(of(), of(record(1, "Edited.")))
        before, _ = await shown(source, http, ledger_url, clock)
        assert [json.loads(body)["text"] for body in before.values()] == ["Edited."]
        assert before == (await run(source, http, ledger_url, clock))[0]

    async def test_what_another_connector_has_queued_is_not_shown(
        self, http: httpx.AsyncClient, ledger_url: str, clock: Clock
    ) -> None:
        """A preview of one source is about that source."""
        await run(scripted(of(record(1)), name="tickets"), http, ledger_url, clock, answers=lambda _: 429)
        before, _ = await shown(scripted(of(record(2))), http, ledger_url, clock)
        assert list(before) == ["listed:reviews:r-2"]

    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), max_size=8), min_size=1, max_size=3),
        st.integers(0, 20) | st.none(),
    )
    async def test_a_source_that_repeats_itself(self, pages: list[list[tuple[int, str]]], limit: int | None) -> None:
        """Of a record that stands several times on a page, the text shown is the text posted, and counted alike."""
        source = scripted(
            *(of(*(record(10 * place + number, text) for number, text in page)) for place, page in enumerate(pages))
        )
        clock, span = Clock(), Span(limit=limit)
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))) as http:
            with TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/ledger.db"
                before, expected = await shown(source, http, url, clock, span)
                posted, pulled = await run(source, http, url, clock, span)
        assert before == posted
        assert figures(expected) == figures(pulled)


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


class TestNoTrace:
    async def test_where_no_ledger_is_none_is_made(
        self, http: httpx.AsyncClient, ledger_url: str, clock: Clock, tmp_path: Path
    ) -> None:
        """A dry run in an empty folder leaves it empty."""
        before, _ = await shown(scripted(of(record(1))), http, ledger_url, clock)
        assert len(before) == 1
        assert files_in(tmp_path) == []

    async def test_the_ledger_stays_as_it_is(
        self, http: httpx.AsyncClient, ledger_url: str, clock: Clock, tmp_path: Path
    ) -> None:
        """A dry run changes nothing in the ledger: not a byte, and no file beside it."""
        await run(scripted(of(record(1), record(2))), http, ledger_url, clock, answers=lambda _: 429)
        path = tmp_path / "ledger.db"
        was = path.read_bytes()
        source = scripted(of(), of(record(2, "Edited."), record(3), set_aside=[SetAside("line 1", "empty")]))
        before, _ = await shown(source, http, ledger_url, clock)
        assert len(before) == 3
        assert path.read_bytes() == was
        assert files_in(tmp_path) == [path]


class TestReading:
    async def test_what_is_not_ready_is_waited_for(
        self, http: httpx.AsyncClient, ledger_url: str, clock: Clock
    ) -> None:
        """A file still being written belongs to the run, so it belongs to the preview: once, and counted as new."""
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            clock.move(seconds)

        source = Source("reviews", "listed", "listed:reviews", Ripening(ready_at=clock() + timedelta(seconds=3)))
        before, pulled = await shown(source, http, ledger_url, clock, sleep=sleep)
        assert list(before) == ["listed:reviews:r-1", "listed:reviews:r-2"]
        assert slept == [3]
        assert (pulled.new, pulled.fetched) == (2, 2)

    async def test_an_error_is_told_as_a_run_tells_it(
        self, http: httpx.AsyncClient, ledger_url: str, clock: Clock
    ) -> None:
        """What was read before a source broke is shown, and why it broke is said in the same words."""
        await run(scripted(of(record(1))), http, ledger_url, clock, answers=lambda _: 429)
        clock.move(600)
        source = scripted(of(), of(record(2)), ends=SourceError("the folder is gone"))
        before, expected = await shown(source, http, ledger_url, clock)
        posted, pulled = await run(source, http, ledger_url, clock)
        assert before == posted
        assert len(posted) == 2
        assert expected.error == pulled.error == ("source_error", "the folder is gone")

    async def test_who_has_seen_enough_closes_the_source(self, http: httpx.AsyncClient, clock: Clock) -> None:
        """`syncd run-once --dry-run | head` leaves no connection open."""
        diary: list[str] = []
        source = scripted(of(record(1)), of(record(2)), diary=diary)
        async with aclosing(preview(source, http, None, clock, Span(), Pulled(), sleep=never)) as previews:
            async for _ in previews:
                break
        assert diary == ["closed"]
