"""Memory of a backfill, from its beginning to its end. Linux only: it reads /proc.

python -m tests.benchmarks.memory [--records 1000000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.destination import destination
from tests.benchmarks.measure import Row, folder, show, survey, write_survey


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    given = parser.parse_args()
    with destination() as there, folder() as at:
        write_survey(at, given.records)
        (at / "config.yaml").write_text(json.dumps(survey(at, there.api_base)), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "syncd",
            "--config",
            str(at / "config.yaml"),
            "run-once",
            "--no-wait",
            "--json",
        ]
        began = time.monotonic()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        held = []
        while running.poll() is None:
            held.append(_resident(running.pid))
            time.sleep(0.5)
        took = time.monotonic() - began
        assert running.returncode == 0
        assert there.count().accepted == given.records
    held = [each for each in held if each]
    quarter = len(held) // 4
    first, last = median(held[quarter : 2 * quarter]), median(held[-quarter:])
    show(
        f"Memory: a backfill of {given.records:,} records of 1 kB",
        [
            Row("at most", max(held), "MB", wanted="150"),
            Row("second quarter of the run", first, "MB"),
            Row("last quarter", last, "MB", "the second", last / first, "flat"),
            Row("from the file to Zentrik's acceptance", given.records / took, "/s"),
        ],
    )


def _resident(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
