"""The ledger as it grows: claiming, its size, and the commands that look at it.

python -m tests.benchmarks.ledger [--rows 1000000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from syncd.ledger import Database
from tests.benchmarks.measure import CLAIM, Row, claims, folder, show, survey, syncd


def grow(path: Path, rows: int, queued: int) -> None:
    """A ledger of so many delivered signals with names and links as helpdesks have them, and so many queued ones."""
    Database(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(
            "INSERT INTO connectors (name, type, namespace, checkpoint, failures) "
            "VALUES ('support', 'zendesk', 'zendesk:acme', '{}', 0)"
        )
        columns = (
            "external_id, connector, state, fingerprint, signal_type, name, occurred_at, source_url, first_seen_at, "
            "due_at, attempts, failures, looks, run_id, public_id, job_id, insight_ids, accepted_at, "
            "processing_started_at, settled_at, sent_at, first_run, accepted_run, version, lane, content, characters, "
            "first_page"
        )
        db.executemany(f"INSERT INTO signals ({columns}) VALUES ({', '.join('?' * 28)})", _signals(rows, queued))
        db.execute("INSERT INTO bodies (signal_id, body) SELECT id, zeroblob(1000) FROM signals WHERE state = 'queued'")
        for event, detail in (("accepted", "public_id"), ("processed", "'2 insights'")):
            db.execute(
                f"INSERT INTO events (signal_id, at, event, detail) SELECT id, sent_at, '{event}', {detail} "
                "FROM signals WHERE state = 'processed'"
            )


def _signals(rows: int, queued: int) -> Iterator[tuple[Any, ...]]:
    began = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    for number in range(rows):
        at = began + number * 1_000_000
        is_queued = number >= rows - queued
        told: tuple[Any, ...] = (None,) * 10
        if not is_queued:
            insights = f'["INSIGHT-{number}","INSIGHT-{number + 1}"]'
            told = (f"SIGNAL-{number}", f"job-{number:012x}", insights, at, at, at, at, 1, 1, f"v{number}")
        yield (
            f"zendesk:acme:{number}",
            "support",
            "queued" if is_queued else "processed",
            number.to_bytes(32, "big"),
            "support_ticket",
            f"The export takes too long #{number}",
            at,
            f"https://acme.zendesk.com/agent/tickets/{number}",
            at,
            at if is_queued else None,
            0 if is_queued else 1,
            0,
            0,
            1 + number // 1000,
            *told,
            number % 2 if is_queued else 0,
            number.to_bytes(16, "big"),
            1000,
            1 + number // 100 % 1000,
        )


def command(*arguments: str, config: dict[str, Any], at: Path, rounds: int) -> float:
    """Seconds that a command takes, start-up included."""
    took = []
    for _ in range(rounds):
        began = perf_counter()
        syncd(*arguments, config=config, at=at)
        took.append(perf_counter() - began)
    return median(took)


def helped(rounds: int) -> float:
    """Seconds of `syncd --help`."""
    took = []
    for _ in range(rounds):
        began = perf_counter()
        subprocess.run([sys.executable, "-m", "syncd", "--help"], check=True, capture_output=True)
        took.append(perf_counter() - began)
    return median(took)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with folder() as at:
        grow(at / "small.db", 10_000, 5_000)
        grow(at / "syncd.db", given.rows, 0)
        size = _packed(at / "syncd.db") / given.rows
        config = survey(at, "http://127.0.0.1:9/api")
        status = command("status", "--json", config=config, at=at, rounds=given.rounds)
        (at / "syncd.db").unlink()
        grow(at / "syncd.db", given.rows, given.rows // 2)
        waiting = command("status", "--json", config=config, at=at, rounds=given.rounds)
        small, large = (claims(f"sqlite:///{at / name}") for name in ("small.db", "syncd.db"))
    show(
        f"Ledger: SQLite, {given.rows:,} signals",
        [
            Row(f"claim {CLAIM} of 5,000 queued, in 10,000 rows", small, "ms"),
            Row(
                f"claim {CLAIM} of {given.rows // 2:,} queued, in {given.rows:,} rows",
                large,
                "ms",
                "the small one",
                large / small,
                "under 5 ms, 2 at most",
            ),
            Row("a delivered signal, its text purged", size, "bytes", wanted="600 at most"),
            Row("syncd status, everything delivered", status, "s", wanted="under 1"),
            Row("syncd status, half of it queued", waiting, "s", wanted="under 1"),
            Row("syncd --help", helped(given.rounds) * 1000, "ms", wanted="under 300"),
        ],
    )


def _packed(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path.stat().st_size


if __name__ == "__main__":
    main()
