"""How long news wait to be posted while a large backlog is.

python -m tests.benchmarks.lanes [--backlog 100000] [--news 100]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.benchmarks.destination import destination
from tests.benchmarks.measure import Row, folder, show, survey, write_survey

EVERY = 0.2
"""Seconds between two news."""


def waits(at: Path, api_base: str, backlog: int, news: int) -> list[float]:
    """Milliseconds from the moment the ledger had a new record until Zentrik accepted it, sorted."""
    (at / "news").mkdir()
    if backlog:
        write_survey(at, backlog)
    else:
        (at / "inbox").mkdir()
    config: dict[str, Any] = survey(at, api_base, web=None)
    live = config["connectors"]["survey"] | {"path": str(at / "news"), "every": "1h"}
    config["connectors"]["news"] = live
    write_survey_row(at / "news", -1)  # its first reading is a backlog, too; what comes after it is news
    (at / "config.yaml").write_text(json.dumps(config), encoding="utf-8")
    daemon = subprocess.Popen(
        [sys.executable, "-m", "syncd", "--config", str(at / "config.yaml"), "run"],
        stderr=subprocess.DEVNULL,
        env=os.environ,
    )
    try:
        time.sleep(15 if backlog else 4)
        for number in range(news):
            write_survey_row(at / "news", number)
            time.sleep(EVERY)
        time.sleep(8)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    with closing(sqlite3.connect(at / "syncd.db")) as db:
        left = db.execute("SELECT count(*) FROM signals WHERE connector = 'survey' AND state = 'queued'").fetchone()[0]
        took = db.execute(
            "SELECT accepted_at - first_seen_at FROM signals "
            "WHERE connector = 'news' AND lane = 0 AND accepted_at IS NOT NULL"
        ).fetchall()
    assert bool(left) is bool(backlog), "the backlog was over before the news were"
    assert len(took) == news, f"{len(took)} of {news} news were posted"
    return sorted(each / 1000 for (each,) in took)


def write_survey_row(at: Path, number: int) -> None:
    """A file with one row appears."""
    hidden = at / f".{number}"
    hidden.write_text(
        f"response_id,submitted,question,comment\nN{number},2026-11-02 09:00:00,What is new?,Number {number}\n"
    )
    hidden.rename(at / f"news-{number}.csv")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--news", type=int, default=100)
    given = parser.parse_args()
    p95 = {}
    for backlog in (0, given.backlog):
        with destination(latency=0.02) as there, folder() as at:
            found = waits(at, there.api_base, backlog, given.news)
            p95[backlog] = found[int(len(found) * 0.95)]
    show(
        "Lanes: p95 of the time from the ledger to acceptance, 20 ms of it latency",
        [
            Row("news, nothing else going on", p95[0], "ms"),
            Row(
                f"news, under a backlog of {given.backlog:,}",
                p95[given.backlog],
                "ms",
                "idle",
                p95[given.backlog] / p95[0],
                "2 at most",
            ),
        ],
    )


if __name__ == "__main__":
    main()
