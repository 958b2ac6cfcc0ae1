"""The figures of every run add up, whatever happened in it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from syncd.app import open_house
from syncd.config import load
from syncd.errors import DestinationError
from syncd.figures import Figures, Moved
from syncd.pacing import Gate
from syncd.pull import Span
from syncd.retry import Backoff
from syncd.sandbox import Faults
from syncd.sandbox.faults import Mishap
from tests.stories.conftest import quick_sandbox

CONFIG = """
ledger: sqlite:///{folder}/syncd.db
shutdown_timeout: 50ms
zentrik:
  poll_interval: 10ms
  absent_after: 20ms
  ready_timeout: 2s
  process_attempts: 1
  max_attempts: 2
  nack_window: {{refused: 4, of: 6}}
connectors:
  survey: {{type: csv, path: {folder}/inbox, id: "{{{{ row.id }}}}", text: "{{{{ row.comment }}}}", settle: 0s}}
"""

MISHAPS = st.sampled_from([mishap for mishap in get_args(Mishap) if mishap != "hold"])

SCRIPTS = st.builds(
    Faults,
    next_posts=st.lists(MISHAPS | st.none(), max_size=8).map(lambda some: tuple(each for each in some if each)),
    next_reads=st.lists(MISHAPS, max_size=3).map(tuple),
    failing=st.sampled_from([0, 0.5, 1]),
    retry_after_seconds=st.just(0),
)

ROWS = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from(["Fine.", "Slow.", "", "[sandbox: fail]"])), min_size=1, max_size=12
)


async def run_once(folder: Path, *, stop_after: float | None) -> Figures:
    """One run in this process, told to stop after so many seconds."""
    config = load(folder / "config.yaml", {**os.environ, "ZENTRIK_API_KEY": "sandbox-key"})
    sources = [entry.source for entry in config.connectors.values()]
    async with open_house(config, "run-once") as house:
        house.gap = timedelta(milliseconds=20)
        house.backoff = Backoff(first=timedelta(milliseconds=20), cap=timedelta(milliseconds=100))
        house.gate = Gate(house.backoff)
        if stop_after is not None:
            asyncio.get_running_loop().call_later(stop_after, house.stop.set)
        with suppress(DestinationError):
            await house.run_once(sources, Span(), None, only=False)
        return house.figures


def stored(folder: Path) -> list[dict[str, object]]:
    """The figures the ledger keeps of each run."""
    with closing(sqlite3.connect(folder / "syncd.db")) as db:
        return [json.loads(figures) for (figures,) in db.execute("SELECT figures FROM runs ORDER BY id")]


def holds(scripts: list[Faults], files: list[list[tuple[int, str]]], stop_after: float | None) -> None:
    """Run once for each file with the faults of its script, and see that each run accounts for all it met."""
    sandbox = quick_sandbox()
    with TemporaryDirectory() as home, sandbox.in_thread() as api_base:
        folder = Path(home)
        (folder / "inbox").mkdir()
        text = CONFIG.format(folder=folder).replace("zentrik:", f"zentrik:\n  api_base: {api_base}")
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        told = []
        for number, (faults, rows) in enumerate(zip(scripts, files, strict=True)):
            sandbox.faults = faults
            lines = ["id,comment", *(f"{id_},{comment}" for id_, comment in rows)]
            (folder / "inbox" / f"{number}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            figures = asyncio.run(run_once(folder, stop_after=stop_after))
            assert list(figures.imbalances()) == []
            assert figures.passed_on == Moved(), "there is nobody else on this ledger"
            told.append(figures.as_json())
        assert stored(folder) == told
        assert sandbox.books.duplicates() == 0


BAD_WEATHER = given(
    scripts=st.lists(SCRIPTS, min_size=2, max_size=2),
    files=st.lists(ROWS, min_size=2, max_size=2),
    stop_after=st.sampled_from([None, 0.05, 0.3, 1.0]),
)
SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=SLOW, phases=[Phase.generate])
@BAD_WEATHER
@pytest.mark.timeout(300)
def test_every_run_adds_up(scripts: list[Faults], files: list[list[tuple[int, str]]], stop_after: float | None) -> None:
    """Fetched = new + changed + unchanged + skipped; new and accepted are found again among the states; and what is
    printed is what the ledger keeps: under any script of faults, whole or cut off."""
    holds(scripts, files, stop_after)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
@BAD_WEATHER
def test_every_run_adds_up_at_length(
    scripts: list[Faults], files: list[list[tuple[int, str]]], stop_after: float | None
) -> None:
    """The same, as often as a night has room for."""
    holds(scripts, files, stop_after)
