"""Reading into the ledger: new records from a paged JSON source, and a large CSV file whose rows are all known.

python -m tests.benchmarks.pull [--records 20000] [--rows 1000000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter
from typing import Any

import httpx

from syncd import http_client
from syncd.connector import Checkpoint, Connector, Page, Record, Source, Window
from syncd.dates import instant
from syncd.ledger import Database, Ledger
from syncd.pull import pull
from tests.benchmarks.destination import PAGE, There, destination
from tests.benchmarks.measure import Row, folder, in_turn, show, survey, syncd


class Paged(Connector):
    """The JSON source: pages one after the other, until so many records were given."""

    provider = "external_api"
    address: str
    records: int

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        """Each page resumes after its last item."""
        for after in range(0, self.records, PAGE):
            answer = await http.get(f"{self.address}/items", params={"after": after})
            items = tuple(_record(item) for item in answer.json()["items"])
            yield Page(records=items, checkpoint={"after": after + PAGE})

    def hosts(self) -> frozenset[str]:
        """The only one there is."""
        return frozenset({"127.0.0.1"})

    async def check(self, http: httpx.AsyncClient) -> str:
        """There is nothing to be asked."""
        return "ready"


def _record(item: dict[str, Any]) -> Record:
    return Record(
        id=str(item["id"]),
        kind="support_ticket",
        title=item["title"],
        text=item["text"],
        occurred_at=instant(item["created_at"]),
        attributes={"stars": item["stars"]},
    )


def read(there: There, records: int) -> float:
    """Records a second from the source into a new ledger."""

    async def work() -> float:
        with folder() as at:
            ledger = Ledger(Database(f"sqlite:///{at / 'syncd.db'}"))
            run = await ledger.start_run("benchmark", datetime.now(UTC))
            connector = Paged(address=there.address, records=records)
            source = Source("paged", "paged", "paged", connector)
            began = perf_counter()
            async with http_client.lend(
                connector, clock=_now, sleep=asyncio.sleep, draw=random.random, allow_http=True
            ) as http:
                pulled = await pull(source, ledger, http, run, _now)
            took = perf_counter() - began
            ledger.close()
        assert pulled.new == records, str(pulled)[:500]
        return records / took

    return asyncio.run(work())


def _now() -> datetime:
    return datetime.now(UTC)


def export(path: Path, rows: int) -> None:
    """An export of so many rows, as a survey tool writes them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["response_id", "submitted", "score", "question", "comment"])
        for number in range(rows):
            row = [f"R{number}", "2026-11-02 09:00:00", number % 11, "What could be better?", "Exports are slow."]
            writer.writerow(row)


def reread(at: Path, there: There, rows: int) -> tuple[float, float]:
    """Rows a second of a file that was written anew and whose rows are all known, and the memory it took in MB."""
    began = perf_counter()
    done = syncd("run-once", "--json", "--no-wait", "--since", "2020-01-01", config=survey(at, there.api_base), at=at)
    took = perf_counter() - began
    figures = json.loads(done.stdout)
    assert figures["posted"] == 0, figures
    assert figures["connectors"]["survey"]["unchanged"] == rows, figures
    return rows / took, getrusage(RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with destination() as there, folder() as at:
        new = in_turn(given.rounds, pull=lambda: read(there, given.records))["pull"]
        (at / "inbox").mkdir()
        export(at / "inbox" / "survey.csv", given.rows)
        asyncio.run(_know(at, there, given.rows))
        reread_rows = [reread(at, there, given.rows) for _ in range(min(given.rounds, 3))]
    rate, memory = sorted(reread_rows)[len(reread_rows) // 2]
    show(
        "Pull: SQLite ledger on disk",
        [
            Row(f"{given.records:,} new records of 1 kB, pages of {PAGE}", new, "/s", wanted="10,000"),
            Row(f"{given.rows:,} known CSV rows", rate, "/s", wanted="50,000"),
            Row("memory of that", memory, "MB", wanted="under 150"),
        ],
    )


async def _know(at: Path, there: There, rows: int) -> None:
    """Read the file into the ledger without posting anything, and take all of it for delivered."""
    from sqlalchemy import text

    from syncd.config import load

    (at / "config.yaml").write_text(json.dumps(survey(at, there.api_base)))
    source = load(at / "config.yaml", {}).connectors["survey"].source
    ledger = Ledger(Database(f"sqlite:///{at / 'syncd.db'}"))
    run = await ledger.start_run("benchmark", _now())
    async with httpx.AsyncClient() as http:
        pulled = await pull(source, ledger, http, run, _now)
    assert pulled.new == rows, pulled

    def deliver() -> None:
        with ledger.database.write() as db:
            db.execute(text("UPDATE signals SET state = 'processed', due_at = NULL"))

    await ledger.on_thread(deliver)
    await ledger.finish_run(run, {}, _now())
    ledger.close()


if __name__ == "__main__":
    main()
