"""The promises of a source, kept by every connector on the shelf that reads from a vendor."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from syncd import http_client
from syncd.connector import Window
from syncd.promises import PROMISES, Case
from syncd.registry import types

CASES: dict[str, Case] = {
    path.stem: importlib.import_module(f"tests.connectors.vendors.{path.stem}").CASE
    for path in sorted((Path(__file__).parent / "vendors").glob("[a-z]*.py"))
}

OF_FILES = {"csv"}
"""Those that read no vendor's API, and have suites of their own."""


def test_every_connector_has_a_vendor_to_be_tried_on() -> None:
    """No connector is on the shelf whose promises nobody tried."""
    assert CASES.keys() | OF_FILES == set(types())


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", CASES)
async def test_it_keeps_its_promises(name: str, promise: Callable[[Case], Awaitable[None]]) -> None:
    """What syncd builds its guarantee on holds for this source as well."""
    await promise(CASES[name])


BEFORE_ALL = datetime(2010, 1, 1, tzinfo=UTC)


async def shown(case: Case, since: datetime, until: datetime) -> set[str]:
    """The records on the pages of a window, before the house leaves out what does not belong."""

    async def no_sleep(_: float) -> None:
        """Waiting takes no time."""

    lent = http_client.lend(
        case.connector,
        clock=lambda: case.now,
        sleep=no_sleep,
        draw=lambda: 0.5,
        transport=httpx.MockTransport(case.full()),
    )
    async with lent as http:
        pages = case.connector.fetch(http, {}, Window(case.now, since, until))
        return {record.id async for page in pages for record in page.records}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.connector.windowed])
async def test_a_windowed_source_shows_its_window_and_no_more(name: str) -> None:
    """A backfill in slices asks the vendor for each record once, and for none of the years that nobody wants."""
    case = CASES[name]
    assert await shown(case, BEFORE_ALL, BEFORE_ALL + timedelta(days=30)) == set()
    assert await shown(case, BEFORE_ALL, case.now) == case.ids


@pytest.mark.parametrize("name", CASES)
def test_a_source_that_cannot_go_back_says_so(name: str) -> None:
    """Whoever asks for years that a vendor does not show learns it before they wait; of others nothing is said."""
    words = CASES[name].connector.out_of_reach(BEFORE_ALL, CASES[name].now)
    assert (words is not None) == (name in {"google_play", "app_store_rss", "reddit"})
    assert not (words or "").endswith(".")


def test_within_its_reach_a_source_says_nothing() -> None:
    """Of the last week Google Play shows everything, and a day earlier it does not."""
    case = CASES["google_play"]
    assert case.connector.out_of_reach(case.now - timedelta(days=7), case.now) is None
    assert "7 days" in str(case.connector.out_of_reach(case.now - timedelta(days=8), case.now))
    assert "7 days" in str(case.connector.out_of_reach(None, case.now))
