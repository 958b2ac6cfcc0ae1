"""What the benchmarks share: rounds in turn, medians, tables, and a ledger with so many signals in it."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from syncd.connector import Connector, Record, Source
from syncd.ledger import Database, Ledger
from syncd.logs import configure
from syncd.signals import compose

console = Console(width=120, highlight=False)
configure(stream=sys.stderr, level="WARNING", secrets=())


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: what was measured, in which unit, against what, and the ratio that is asked for."""

    what: str
    figure: float
    unit: str
    baseline: str = ""
    ratio: float | None = None
    wanted: str = ""


def show(title: str, rows: Sequence[Row]) -> None:
    """Print the table, and below it the machine."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name in ("what", "median", "", "against", "ratio", "wanted"):
        table.add_column(name, justify="right" if name in ("median", "ratio") else "left")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.what, f"{row.figure:,.4g}", row.unit, row.baseline, ratio, row.wanted)
    console.print(table)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}\n", style="dim")


def in_turn(rounds: int, **contestants: Callable[[], float]) -> dict[str, float]:
    """The median figure of each contestant; they have their rounds in turn, so that none has the better weather."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            figures[name].append(contestant())
    return {name: median(each) for name, each in figures.items()}


class Nothing(Connector):
    """A source with nothing in it: the signals are put into the ledger by hand."""

    provider = "external_api"

    async def fetch(self, http: Any, checkpoint: Any, window: Any) -> Any:
        """Ends at once."""
        for page in ():
            yield page

    async def check(self, http: Any) -> str:
        """There is nothing to be asked."""
        return "nothing"


SOURCE = Source("bench", "nothing", "bench", Nothing())


def record(number: int, size: int = 1000) -> Record:
    """A review whose body has about so many bytes."""
    text = f"{number} " + "The export takes too long. " * (size // 27)
    return Record(id=f"r-{number}", kind="review", text=text[: max(1, size - 180)])


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as made:
        yield Path(made)


async def fill(ledger: Ledger, number: int, size: int = 1000) -> int:
    """A run that has queued so many signals."""
    now = datetime.now(UTC)
    run = await ledger.start_run("benchmark", now)
    await ledger.start_pull(SOURCE, run, now)
    for first in range(0, number, 1000):
        page = [compose(record(each, size), SOURCE) for each in range(first, min(number, first + 1000))]
        await ledger.record_page(SOURCE, page, [], {"at": first}, run, now)
    await ledger.finish_pull(SOURCE, run, None, now)
    return run


def filled(url: str, number: int, size: int = 1000) -> None:
    """A ledger with so many signals queued."""

    async def work() -> None:
        ledger = Ledger(Database(url))
        await fill(ledger, number, size)
        ledger.close()

    asyncio.run(work())


def syncd(*arguments: str, config: Mapping[str, Any], at: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command with this configuration."""
    file = at / "config.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "syncd", "--config", str(file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr[-2000:]}")
    return done


def write_survey(at: Path, rows: int, name: str = "survey.csv") -> None:
    """An export of so many rows of about 1 kB in a drop folder."""
    (at / "inbox").mkdir(exist_ok=True)
    with (at / "inbox" / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["response_id", "submitted", "question", "comment"])
        for number in range(rows):
            comment = f"{number} {'The export takes too long. ' * 28}"
            writer.writerow([f"R{number}", "2026-11-02 09:00:00", "What could be better?", comment])


def survey(at: Path, api_base: str, concurrency: int = 16, **more: Any) -> dict[str, Any]:
    """The configuration that reads the export and posts it there."""
    return {
        "zentrik": {"api_base": api_base, "api_key": "bench-key", "concurrency": concurrency},
        "ledger": f"sqlite:///{at / 'syncd.db'}",
        "connectors": {
            "survey": {
                "type": "csv",
                "path": str(at / "inbox"),
                "settle": "0s",
                "id": "{{ row.response_id }}",
                "title": "{{ row.question }}",
                "text": "{{ row.comment }}",
                "occurred_at": "{{ row.submitted }}",
                "signal_type": "feedback_record",
            }
        },
        **more,
    }


CLAIM = 100
"""How many signals are claimed at once where claiming is measured."""


def claims(url: str, rounds: int = 20) -> float:
    """Milliseconds that claiming takes, commit included; what is claimed is given back."""

    async def work() -> float:
        ledger = Ledger(Database(url))
        run = await ledger.start_run("benchmark", datetime.now(UTC))
        took = []
        for _ in range(rounds + 1):
            began = perf_counter()
            claimed = (await ledger.exchange([], CLAIM, run, datetime.now(UTC))).claimed
            took.append(perf_counter() - began)
            assert len(claimed) == CLAIM
            await ledger.exchange([], 0, run, datetime.now(UTC), unposted=claimed)
        ledger.close()
        return median(took[1:]) * 1000

    return asyncio.run(work())
