"""A year of history, told from outside: broken off, resumed, beside a daemon, and shown before it is sent."""

from __future__ import annotations

import importlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from syncd.ledger import report
from syncd.promises import Case
from syncd.sandbox import Sandbox
from tests.connectors.serving import serve
from tests.stories.conftest import CONFIG, Operator, moved_in, quick_sandbox
from tests.stories.test_daemon import until
from tests.stories.test_every_source import Abroad, entry

DATED = CONFIG + '    occurred_at: "{{{{ row.day }}}}"\n'
WINDOW = ("--since", "2025-01-01", "--until", "2025-07-01")


@pytest.fixture
def operator(tmp_path: Path, sandbox: Sandbox) -> Iterator[Operator]:
    """An operator whose rows have dates."""
    with sandbox.in_thread() as api_base:
        yield moved_in(tmp_path / "home", api_base, DATED)


def rows(first: int, count: int, month: int = 3) -> str:
    """A file of that many rows from one month."""
    days = ((number, number % 28 + 1) for number in range(first, first + count))
    lines = [f"{number},2025-{month:02}-{day:02},Wish number {number}." for number, day in days]
    return "\n".join(["id,day,comment", *lines, ""])


def ids(sandbox: Sandbox) -> list[str]:
    """What has arrived at the sandbox."""
    return sorted(str(each["externalId"]) for each in sandbox.books.page(10_000, 0))


def test_a_killed_backfill_goes_on_where_it_was(operator: Operator, sandbox: Sandbox) -> None:
    """`kill -9` in the midst of a window, and the same command again: every record arrives, once."""
    for number in range(40):
        operator.drop(f"{number:02}.csv", rows(number * 30, 30))
    with operator.started("run-once", "survey", *WINDOW, "--json") as running:
        until(lambda: pages_read(operator) >= 2, running)
        running.send_signal(signal.SIGKILL)
        running.wait(timeout=30)
    begun = json.loads(operator.syncd("status", "--json").stdout)["backfills"]
    assert [(each["connector"], each["slices"], each["read"]) for each in begun] == [("survey", 1, 0)]
    assert "is not finished" in operator.syncd("status").stdout
    figures = operator.run_once("survey", *WINDOW)
    assert figures["connectors"]["survey"]["fetched"] < 1200, "it began anew"
    assert figures["connectors"]["survey"]["backfill"]["finishedAt"] is not None
    arrived = ids(sandbox)
    assert (len(arrived), len(set(arrived))) == (1200, 1200)
    assert "backfills" not in json.loads(operator.syncd("status", "--json").stdout)
    again = operator.run_once("survey", *WINDOW)
    assert (again["posted"], again["connectors"]["survey"]["new"]) == (0, 0)


def pages_read(operator: Operator) -> int:
    """How many signals the ledger holds, by the pages they came in; none while there is no ledger."""
    path = operator.folder / "syncd.db"
    if not path.exists():
        return 0
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        try:
            return int(db.execute("SELECT count(*) FROM signals").fetchone()[0]) // 30
        except sqlite3.OperationalError:  # it is being made
            return 0


def test_ctrl_c_says_how_to_go_on(operator: Operator, sandbox: Sandbox) -> None:
    """Interrupted, the command ends with 130 after what was under way, and names what is left and what goes on."""
    for number in range(40):
        operator.drop(f"{number:02}.csv", rows(number * 30, 30))
    with operator.started("run-once", "survey", *WINDOW, "--no-wait") as running:
        until(lambda: pages_read(operator) >= 1, running)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130, out + err
    assert "0 of 1 parts of this window are read to their end; the same command goes on from here" in err
    operator.run_once("survey", *WINDOW)
    assert len(set(ids(sandbox))) == len(ids(sandbox)) == 1200


def test_two_backfills_and_a_daemon_at_once(operator: Operator, sandbox: Sandbox) -> None:
    """Three processes read the same folder, two of them the past: each record arrives once, and none is missing."""
    operator.drop("past.csv", rows(0, 160))
    operator.drop("later.csv", rows(1000, 90, month=8))
    with operator.started("run") as daemon:
        backfills = [
            subprocess.Popen(
                [sys.executable, "-m", "syncd", "run-once", "survey", "--since", since, "--until", "2025-12-01"],
                env=operator.environment,
                cwd=operator.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for since in ("2025-01-01", "2025-02-01")
        ]
        for each in backfills:
            out, err = each.communicate(timeout=60)
            assert each.returncode in (0, 1), out + err
        until(lambda: len(sandbox.books) == 250, daemon)
        until(lambda: {row["state"] for row in operator.signals()} == {"processed"}, daemon)
        daemon.terminate()
        daemon.wait(timeout=30)
    arrived = ids(sandbox)
    assert (len(arrived), len(set(arrived))) == (250, 250)


def test_the_dry_run_shows_the_very_bodies_that_arrive(operator: Operator, sandbox: Sandbox) -> None:
    """Line for line, what `--dry-run` shows of a window is what Zentrik is given afterwards."""
    operator.drop("past.csv", rows(0, 30))
    operator.drop("other.csv", rows(1000, 5, month=9))
    operator.drop("broken.csv", "id,day,comment\n7777,2025-02-30,That day never was.\n")
    shown = operator.syncd("run-once", "survey", *WINDOW, "--dry-run", "--json").stdout
    bodies = {line["externalId"]: line["body"] for line in map(json.loads, shown.splitlines())}
    assert len(sandbox.books) == 0
    assert "broken.csv:2" in operator.syncd("run-once", "survey", *WINDOW, "--dry-run").stdout
    operator.run_once("survey", *WINDOW)
    with operator.ledger().read() as db:
        sent = {row.external_id: json.loads(report.body(db, row) or b"null") for row in report.find(db)}
    assert sent == bodies
    assert ids(sandbox) == sorted(bodies)
    assert len(bodies) == 30


@pytest.mark.parametrize(("answer", "sent"), [("n", 0), ("y", 30)], ids=["no", "yes"])
def test_on_a_terminal_a_long_window_is_asked_about(
    operator: Operator, sandbox: Sandbox, answer: str, sent: int
) -> None:
    """Whoever asks for a year sees how much that is, and can think better of it."""
    operator.drop("past.csv", rows(0, 30))
    here, there = pty.openpty()
    command = [sys.executable, "-m", "syncd", "run-once", "survey", "--since", "2024-01-01", "--no-wait"]
    os.write(here, f"{answer}\n".encode())
    with subprocess.Popen(
        command, env={**operator.environment, "COLUMNS": "100", "TERM": "xterm"}, cwd=operator.folder,
        stdin=there, stdout=subprocess.DEVNULL, stderr=there,
    ) as asking:  # fmt: skip
        os.close(there)
        said = b""
        with suppress(OSError):  # the terminal is gone with its last reader
            while more := os.read(here, 10_000):
                said += more
        assert asking.wait(timeout=60) == 0, said.decode()
    os.close(here)
    text = said.decode()
    assert "Read and post that?" in text
    assert "30" in text
    assert len(sandbox.books) == sent


def test_a_small_batch_first(operator: Operator, sandbox: Sandbox) -> None:
    """`--limit 10` sends ten of a window; the same command without it sends the rest, and moves no live checkpoint."""
    operator.drop("past.csv", rows(0, 40))
    assert operator.run_once("survey", *WINDOW, "--limit", "10")["posted"] == 10
    assert operator.run_once("survey", *WINDOW)["posted"] == 30
    live = operator.run_once("survey")
    assert (live["posted"], live["connectors"]["survey"]["unchanged"]) == (0, 40)


MOMENTS = ["2025-03-09T23:30:00+00:00", "2025-03-10T00:30:00+00:00", "2025-03-11T00:30:00+00:00"]


@pytest.mark.parametrize(
    ("since", "until_", "expected"),
    [
        ("2025-03-10", "2025-03-11", [1]),
        ("2025-03-10T00:00:00+02:00", "2025-03-11T00:00:00+02:00", [0, 1]),
        ("2025-03-10T00:30:00Z", "2025-03-10T00:31:00Z", [1]),
    ],
    ids=["UTC", "two hours east", "to the minute"],
)
def test_a_day_is_that_of_its_time_zone(
    operator: Operator, sandbox: Sandbox, since: str, until_: str, expected: list[str]
) -> None:
    """A date is a day of UTC, and with an offset the day of that place: no hour is lost at its edge."""
    lines = [f"{number},{moment},A wish." for number, moment in enumerate(MOMENTS)]
    operator.drop("past.csv", "\n".join(["id,day,comment", *lines, ""]))
    operator.run_once("survey", "--since", since, "--until", until_)
    assert ids(sandbox) == [f"csv:survey:{number}" for number in expected]


@pytest.mark.parametrize("name", ["gong", "g2"])
def test_the_dry_run_of_a_vendor_shows_what_arrives(name: str, tmp_path: Path) -> None:
    """What `--dry-run` shows of a vendor's past, read in slices or in one piece, is what is posted of it."""
    case: Case = importlib.import_module(f"tests.connectors.vendors.{name}").CASE
    with quick_sandbox().in_thread() as api_base, serve(Abroad(case.full(), case.connector)) as vendor:
        operator = moved_in(tmp_path / "home", api_base)
        config = yaml.safe_load((operator.folder / "config.yaml").read_text(encoding="utf-8"))
        config["connectors"] = {"source": entry(name, case.connector, vendor)}
        (operator.folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        window = ("source", "--since", "2020-01-01", "--slice", "200d")
        shown = operator.syncd("run-once", *window, "--dry-run", "--json")
        assert shown.returncode == 0, shown.stderr
        bodies = {line["externalId"]: line["body"] for line in map(json.loads, shown.stdout.splitlines())}
        operator.run_once(*window)
        with operator.ledger().read() as db:
            sent = {row.external_id: json.loads(report.body(db, row) or b"null") for row in report.find(db)}
    assert sent == bodies
    assert len(sent) == len(case.ids)
