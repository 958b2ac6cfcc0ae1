"""Posting with the ledger on, against what latency allows, a loop without a ledger, and the import template.

python -m tests.benchmarks.dispatch [--records 20000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from time import perf_counter

import httpx

from syncd.dispatch import Delivery, dispatch
from syncd.ledger import Database, Ledger
from syncd.pacing import Gate, LookSchedule
from syncd.signals import compose
from syncd.transport import Connections
from syncd.zentrik import Zentrik
from tests.benchmarks.destination import There, destination
from tests.benchmarks.measure import SOURCE, Row, fill, folder, in_turn, record, show

KEY = "bench-key"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "Accept": "application/json"}


def bodies(number: int) -> Iterator[bytes]:
    """What syncd would post."""
    return (compose(record(each), SOURCE).body for each in range(number))


def with_syncd(there: There, number: int, concurrency: int) -> float:
    """Posts a second of `dispatch`, from a ledger on disk, every commit durable."""

    async def work() -> float:
        with folder() as at:
            ledger = Ledger(Database(f"sqlite:///{at / 'syncd.db'}"))
            run = await fill(ledger, number)
            async with Zentrik(there.api_base, KEY, concurrency=concurrency, timeout=timedelta(seconds=60)) as zentrik:
                began = perf_counter()
                done = await dispatch(
                    ledger,
                    zentrik,
                    Gate(),
                    LookSchedule(),
                    run,
                    lambda: datetime.now(UTC),
                    random.random,
                    Delivery(concurrency),
                )
                took = perf_counter() - began
            ledger.close()
        assert done.accepted == number, done
        return number / took

    return asyncio.run(work())


def with_a_loop(there: There, number: int, concurrency: int) -> float:
    """Posts a second of the same transport in a loop that remembers nothing."""

    async def work() -> float:
        left = iter(list(bodies(number)))
        async with httpx.AsyncClient(transport=Connections(concurrency + 4), headers=HEADERS, timeout=60) as http:

            async def post_on() -> None:
                for body in left:
                    answer = await http.post(f"{there.api_base}/external/v1/signals", content=body)
                    assert answer.json()["publicId"]

            began = perf_counter()
            await asyncio.gather(*(post_on() for _ in range(concurrency)))
            return number / (perf_counter() - began)

    return asyncio.run(work())


def with_a_script(there: There, number: int) -> float:
    """Posts a second as the import template makes them: one after the other, each over a connection of its own."""
    began = perf_counter()
    for body in bodies(number):
        request = urllib.request.Request(
            f"{there.api_base}/external/v1/signals", json.dumps(json.loads(body)).encode(), HEADERS, method="POST"
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert json.load(answer)["publicId"]
    return number / (perf_counter() - began)


def latency(seconds: float, concurrency: int, records: int, rounds: int) -> list[Row]:
    """One setting: what syncd reaches, and against what."""
    ideal = concurrency / seconds if seconds else None
    with destination(latency=seconds) as there:
        reached = in_turn(
            rounds,
            syncd=lambda: with_syncd(there, records, concurrency),
            loop=lambda: with_a_loop(there, records, concurrency),
            script=lambda: with_a_script(there, int(min(records, 2 / (seconds or 0.001)))),
        )
        counted = there.count()
    assert counted.posts == counted.accepted
    name = f"{seconds * 1000:.0f} ms, {concurrency} at once"
    rows = [Row(f"{name}: syncd", reached["syncd"], "/s")]
    if ideal:
        rows.append(Row(f"{name}: ideal", ideal, "/s", "syncd / ideal", reached["syncd"] / ideal))
    for other, told in (("loop", "same transport, no ledger"), ("script", "as the import template posts")):
        ratio = reached["syncd"] / reached[other]
        rows.append(Row(f"{name}: {told}", reached[other], "/s", f"syncd / {other}", ratio))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rows = []
    for seconds, concurrency in ((0.05, 64), (0.02, 16), (0.0, 16)):
        rows += latency(seconds, concurrency, given.records, given.rounds)
    show("Dispatch: bodies of 1 kB, SQLite ledger on disk", rows)


if __name__ == "__main__":
    main()
