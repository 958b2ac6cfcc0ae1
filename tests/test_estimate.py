"""Estimate: what a window holds is judged before it is read, and said to be no more than that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.backfill import backfill
from syncd.connector import Source
from syncd.estimate import LARGE, PATIENCE, SAMPLE, Estimate, estimate, is_large
from syncd.ledger import Ledger, report
from syncd.pull import Span
from tests.conftest import Clock
from tests.test_backfill import DAY, JANUARY, dated, windowed


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    """What is tried here does not depend on the database."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client for connectors that ask nobody."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))) as client:
        yield client


YEARS = Span(JANUARY, JANUARY + 1000 * DAY, length=10 * DAY)


class TestEstimate:
    @pytest.mark.parametrize("source", [dated(days=1000), windowed(days=1000)], ids=["one piece", "slices"])
    async def test_a_sample_stands_for_the_window(self, http: httpx.AsyncClient, clock: Clock, source: Source) -> None:
        """A thousand records are told from a fifth of them or fewer, within a few, and nothing is stored."""
        found = await estimate(source, http, None, YEARS, clock)
        assert found.records is not None
        assert 990 <= found.records <= 1010
        assert found.characters is not None
        assert found.calls == found.records + 10 + (found.records > 1000)
        assert not found.is_whole

    async def test_no_more_is_read_than_the_sample(self, http: httpx.AsyncClient, clock: Clock) -> None:
        """Whoever is asked does not wait until everything was read."""
        diary: list[Any] = []
        await estimate(windowed(days=1000, diary=diary), http, None, YEARS, clock)
        assert len(diary) == 1
        long = dated(days=10 * SAMPLE)
        found = await estimate(long, http, None, Span(JANUARY, JANUARY + 10 * SAMPLE * DAY), clock)
        assert not found.is_whole

    async def test_a_window_read_whole_is_no_guess(self, http: httpx.AsyncClient, clock: Clock) -> None:
        """What fits in the sample is counted, and told as counted."""
        found = await estimate(dated(days=50), http, None, Span(JANUARY, JANUARY + 40 * DAY), clock)
        assert (found.records, found.is_whole) == (40, True)

    async def test_what_the_ledger_knows_is_not_counted(
        self, http: httpx.AsyncClient, ledger: Ledger, clock: Clock
    ) -> None:
        """Only what would be posted costs anything: a window asked for again holds nothing."""
        span = Span(JANUARY, JANUARY + 10 * DAY)
        run = await ledger.start_run("test", clock())
        await backfill(dated(), ledger, http, run, clock, span)
        found = await estimate(dated(), http, ledger.database, span, clock)
        assert (found.records, found.characters, found.calls) == (0, 0, 0)
        assert len(await ledger.ask(lambda db: list(report.find(db)))) == 10

    async def test_where_nothing_can_be_told_it_says_so(self, http: httpx.AsyncClient, clock: Clock) -> None:
        """A source that fails, or whose beginning nobody knows, has no made-up figure."""
        broken = await estimate(dated(breaks_at=0), http, None, YEARS, clock)
        assert (broken.records, broken.trouble) == (None, "the wire broke")
        endless = await estimate(dated(days=500), http, None, Span(until=JANUARY + 1000 * DAY), clock)
        assert endless.records is None
        assert "do not tell" in str(endless.trouble)

    async def test_patience_ends(self, http: httpx.AsyncClient, clock: Clock) -> None:
        """A slow source is asked for half a minute, and judged by what it gave."""

        def slow() -> Any:
            clock.move(PATIENCE.total_seconds() / 10)
            return clock.now

        found = await estimate(dated(days=1000), http, None, YEARS, slow)
        assert found.records is not None
        assert not found.is_whole

    def test_how_long_posting_takes_follows_from_the_pace(self) -> None:
        """A thousand records at two a second are 500 seconds; without a pace nobody knows."""
        assert Estimate("a", 1000, 1, rate=2.0).takes == timedelta(seconds=500)
        assert Estimate("a", 1000, 1).takes is None
        assert Estimate("a", rate=2.0).takes is None


class TestIsLarge:
    @pytest.mark.parametrize(
        ("span", "expected"),
        [
            (Span(), False),
            (Span(limit=5), False),
            (Span(JANUARY, JANUARY + LARGE), False),
            (Span(JANUARY, JANUARY + LARGE + DAY), True),
            (Span(JANUARY), True),
            (Span(until=JANUARY), True),
            (Span(JANUARY, limit=10), False),
        ],
        ids=["no window", "a batch", "a month", "more", "until now", "from the beginning", "a small batch first"],
    )
    def test_only_a_long_look_back_is_asked_about(self, clock: Clock, span: Span, expected: bool) -> None:
        """Nobody is asked on every ordinary run, or for a batch that they made small themselves."""
        assert is_large(dated(), span, clock()) is expected

    def test_the_configured_since_counts(self, clock: Clock) -> None:
        """A connector that goes back a week anyhow is not a large window, whatever --until says."""
        source = Source("reviews", "dated", "dated:reviews", dated().connector, clock() - 7 * DAY)
        assert not is_large(source, Span(until=clock()), clock())
