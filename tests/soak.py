"""A soak: the daemon for many minutes against a sandbox that misbehaves, and what it costs.

    python -m tests.soak --minutes 30

A file in the drop folder grows by some rows a second. Posts are answered with errors, cut off or lost, processing fails
now and then. Every few seconds the daemon's memory, files and threads are read off; at the end it is stopped, and the
books are compared row by row. It prints a table, and ends with 1 when something was lost or doubled, or grew.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from syncd.sandbox import Faults, Sandbox

CONFIG = """
zentrik: {{api_base: "{zentrik}", api_key: sandbox-key, absent_after: 2s}}
ledger: sqlite:///{folder}/syncd.db
web: null
connectors:
  rows:
    type: csv
    every: 10s
    path: {folder}/inbox
    id: "{{{{ row.id }}}}"
    text: "{{{{ row.comment }}}}"
    settle: 0s
"""

FAULTS = Faults(
    latency=0.02,
    jitter=0.03,
    failing=0.02,
    share_of_posts={"500": 0.01, "503": 0.01, "429": 0.01, "504": 0.005, "cut_before": 0.005, "cut_after": 0.005},
    share_of_reads={"500": 0.005, "cut_before": 0.005},
)

MOST_GROWTH = 0.05
"""Memory may differ by so much between the first and the last quarter after the warm-up."""


@dataclass(slots=True)
class Sample:
    """The daemon at one moment: seconds since its start, resident memory in kB, open files, threads, rows behind."""

    at: float
    memory: int
    files: int
    threads: int
    behind: int


@dataclass(slots=True)
class Soak:
    """One run of it."""

    folder: Path
    minutes: float
    per_second: int
    warm_up: float
    samples: list[Sample] = field(default_factory=list)
    written: int = 0

    def run(self) -> int:
        """Run it and print what it was like; the exit code."""
        sandbox = Sandbox(faults=FAULTS, processing_takes=timedelta(seconds=1))
        (self.folder / "inbox").mkdir()
        with sandbox.in_thread() as zentrik:
            config = self.folder / "config.yaml"
            config.write_text(CONFIG.format(zentrik=zentrik, folder=self.folder), encoding="utf-8")
            with self._daemon(config) as daemon:
                began = time.monotonic()
                while (passed := time.monotonic() - began) < self.minutes * 60:
                    self._write(int(passed * self.per_second) + 1)
                    self._look(daemon.pid, passed, sandbox)
                    time.sleep(5)
                    if daemon.poll() is not None:
                        print(f"the daemon ended by itself with {daemon.returncode}")
                        return 1
            sandbox.faults = Faults()
            command = [sys.executable, "-m", "syncd", "--config", str(config), "run-once"]
            subprocess.run(command, capture_output=True, check=False, timeout=600)  # what was under way at the stop
        return self._tell(sandbox)

    @contextlib.contextmanager
    def _daemon(self, config: Path) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / "daemon.log").open("wb") as log:
            daemon = subprocess.Popen([sys.executable, "-m", "syncd", "--config", str(config), "run"], stderr=log)
            try:
                yield daemon
            finally:
                if daemon.poll() is None:
                    daemon.send_signal(signal.SIGTERM)
                    daemon.wait(60)

    def _write(self, number: int) -> None:
        path = self.folder / "inbox" / "rows.csv"
        with path.open("a", encoding="utf-8") as file:
            if not self.written:
                file.write("id,comment\n")
            for row in range(self.written + 1, number + 1):
                file.write(f'{row},"Row {row}: {"the export takes too long. " * 30}"\n')
        self.written = max(self.written, number)

    def _look(self, pid: int, passed: float, sandbox: Sandbox) -> None:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        )
        self.samples.append(
            Sample(
                at=passed,
                memory=int(status["VmRSS"].split()[0]),
                files=len(os.listdir(f"/proc/{pid}/fd")),
                threads=int(status["Threads"]),
                behind=self.written - len(sandbox.books),
            )
        )

    def _tell(self, sandbox: Sandbox) -> int:
        counted = [sample for sample in self.samples if sample.at >= min(self.warm_up, self.minutes * 45)]
        quarter = max(1, len(counted) // 4)
        first, last = counted[:quarter], counted[-quarter:]
        names = ("memory", "files", "threads", "behind")
        print(f"{self.minutes:g} minutes, {self.written} rows, {len(self.samples)} samples\n")
        print(f"{'':<22}{'first quarter':>14}{'last quarter':>14}{'most':>14}")
        for name, words in zip(names, ("memory, kB (median)", "open files", "threads", "rows behind"), strict=True):
            begin, end = (statistics.median(getattr(sample, name) for sample in some) for some in (first, last))
            most = max(getattr(sample, name) for sample in counted)
            print(f"{words:<22}{begin:>14.0f}{end:>14.0f}{most:>14}")
        lost = self.written - (len(sandbox.books) - sandbox.books.duplicates())
        print(f"\nlost {lost}, doubled {sandbox.books.duplicates()}, at Zentrik {sandbox.books.statuses()}")
        begin, end = (statistics.median(sample.memory for sample in some) for some in (first, last))
        files = [statistics.median(sample.files for sample in some) for some in (first, last)]
        grew = end > begin * (1 + MOST_GROWTH) or files[1] > files[0] + 5
        print(f"growth of memory {100 * (end / begin - 1):+.1f} %")
        return int(bool(lost or sandbox.books.duplicates() or grew))


def main() -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--per-second", type=int, default=20, help="rows that are written a second")
    parser.add_argument(
        "--warm-up",
        type=float,
        default=1200,
        help="seconds until figures count: what remembers the last 20,000 signals is full by then",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(Soak(Path(folder), arguments.minutes, arguments.per_second, arguments.warm_up).run())


if __name__ == "__main__":
    main()
