"""`syncd run` and the ways of stopping, in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from syncd.sandbox import Faults, Sandbox
from tests.stories.conftest import Operator

ROWS = "id,comment\n" + "".join(f"{number},Row {number} says something.\n" for number in range(40))


def until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something to come true while a process runs: 20 s at the most."""
    for _ in range(400):
        if true():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"it never came true: {process.communicate()}")


def test_the_daemon_delivers_what_is_dropped_and_ends_cleanly(operator: Operator, sandbox: Sandbox) -> None:
    """A container told to stop ends with 0, and what was dropped before is in Zentrik."""
    operator.drop("october.csv", ROWS)
    with operator.started("run") as daemon:
        until(lambda: sandbox.books.statuses().get("processed") == 40, daemon)
        until(lambda: {row["state"] for row in operator.signals()} == {"processed"}, daemon)
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=10)
    assert daemon.returncode == 0, errors
    assert operator.connector("survey")["state"] == "ok"
    lines = [json.loads(line) for line in errors.splitlines()]
    assert {line["run"] for line in lines} == {1}  # by it, and by the connector, a log is searched
    assert [line["connector"] for line in lines if line["event"] == "read" and line["new"]] == ["survey"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_finishes_what_is_under_way_and_says_130(
    operator: Operator, sandbox: Sandbox, number: signal.Signals
) -> None:
    """Ctrl-C in the middle of an import loses nothing, doubles nothing and leaves nothing unclear."""
    sandbox.faults = Faults(latency=0.3)
    operator.drop("october.csv", ROWS)
    with operator.started("run-once", "--json") as running:
        until(lambda: len(sandbox.books) > 0, running)
        running.send_signal(number)
        out, errors = running.communicate(timeout=20)
        assert running.returncode == 130, errors
    figures = json.loads(out)["signals"]
    assert figures["sending"] == figures["unknown"] == 0
    assert 0 < len(sandbox.books) < 40
    sandbox.faults = Faults()
    operator.run_once()
    assert len(sandbox.books) == 40
    assert sandbox.books.duplicates() == 0


def test_a_killed_run_holds_nothing_up(operator: Operator, sandbox: Sandbox) -> None:
    """After a kill -9 in the middle of posting, the next run starts at once and sends each record once."""
    sandbox.faults = Faults(latency=0.3)
    operator.drop("october.csv", ROWS)
    with operator.started("run-once", "--json") as running:
        until(lambda: len(sandbox.books) > 0, running)
        running.kill()
        running.communicate()
    sandbox.faults = Faults()
    assert operator.run_once()["signals"]["processed"] == 40
    assert len(sandbox.books) == 40
    assert sandbox.books.duplicates() == 0


def test_the_daemon_and_a_run_beside_it_share_the_work(operator: Operator, sandbox: Sandbox) -> None:
    """`run-once` while the daemon runs on the same ledger doubles nothing."""
    sandbox.faults = Faults(latency=0.05)
    operator.drop("october.csv", ROWS)
    with operator.started("run") as daemon:
        until(lambda: len(sandbox.books) > 0, daemon)
        operator.drop("november.csv", ROWS.replace("\n", "\n1"))
        beside = operator.syncd("run-once", "--json")
        assert beside.returncode in (0, 1), beside.stderr  # 1: the daemon was just reading the folder
        until(lambda: {row["state"] for row in operator.signals()} == {"processed"}, daemon)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0, daemon.communicate()
    operator.run_once()
    assert sandbox.books.duplicates() == 0
    assert len(sandbox.books) == len(operator.signals())


def test_what_is_dropped_while_the_daemon_runs_is_delivered_at_once(operator: Operator, sandbox: Sandbox) -> None:
    """Nobody waits an hour for a file, though the connector is read every hour."""
    with operator.started("run") as daemon:
        until(lambda: operator.connector("survey")["lastSuccess"] is not None, daemon)
        for number in (1, 2):
            operator.drop(f"{number}.csv", f"id,comment\n{number},Dropped as file {number}.\n")
            until(lambda number=number: sandbox.books.statuses().get("processed") == number, daemon)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0, daemon.communicate()


def test_a_changed_configuration_is_taken_on_sighup(operator: Operator, sandbox: Sandbox) -> None:
    """A connector that is added to the file is read without a restart of the service, and the others go on."""
    operator.drop("october.csv", ROWS)
    config = operator.folder / "config.yaml"
    with operator.started("run") as daemon:
        until(lambda: sandbox.books.statuses().get("processed") == 40, daemon)
        more = operator.folder / "more"
        more.mkdir()
        (more / "other.csv").write_text("id,comment\n1,Another one.\n", encoding="utf-8")
        entry = (
            f'  other: {{type: csv, path: {more}, id: "{{{{ row.id }}}}", text: "{{{{ row.comment }}}}", settle: 0s}}\n'
        )
        config.write_text(config.read_text(encoding="utf-8") + entry, encoding="utf-8")
        daemon.send_signal(signal.SIGHUP)
        until(lambda: sandbox.books.statuses().get("processed") == 41, daemon)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0, daemon.communicate()
    assert sandbox.books.duplicates() == 0


def test_its_page_says_how_it_goes(operator: Operator, sandbox: Sandbox) -> None:
    """`syncd run` shows itself where its log says: a page for people, and figures and probes for machines."""
    operator.drop("october.csv", ROWS)
    with operator.started("run") as daemon:
        assert daemon.stderr is not None
        lines = (json.loads(line) for line in daemon.stderr)
        address = next(line["address"] for line in lines if line["event"] == "the status page is open")
        until(lambda: sandbox.books.statuses().get("processed") == 40, daemon)
        until(lambda: "40 processed" in httpx.get(address).text, daemon)
        assert httpx.get(f"{address}/readyz").text == "ready\n"
        metrics = httpx.get(f"{address}/metrics").text
        assert 'syncd_signals{connector="survey",state="processed"} 40.0' in metrics
        shown = httpx.get(f"{address}/api/status").json()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0
        with pytest.raises(httpx.TransportError):
            httpx.get(address)
    said = json.loads(operator.syncd("status", "--json").stdout)
    assert shown["connectors"]["survey"]["lastRun"] == said["connectors"]["survey"]["lastRun"]
    assert shown["signals"] == said["signals"]


@contextmanager
def reconfigured(operator: Operator, sandbox: Sandbox, before: str, after: str) -> Iterator[subprocess.Popen[str]]:
    """A daemon that has delivered an export and is then told of a changed configuration."""
    config = operator.folder / "config.yaml"
    with operator.started("run") as daemon:
        operator.drop("october.csv", ROWS)
        until(lambda: sandbox.books.statuses().get("processed") == 40, daemon)
        config.write_text(config.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
        daemon.send_signal(signal.SIGHUP)
        yield daemon


def test_a_broken_configuration_is_refused_and_the_old_one_stays(operator: Operator, sandbox: Sandbox) -> None:
    """A slip in the file at three in the morning stops nothing: it is told, and what ran goes on."""
    with reconfigured(operator, sandbox, "type: csv", "type: cvs") as daemon:
        time.sleep(0.5)
        assert daemon.poll() is None
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=10)
    assert daemon.returncode == 0
    assert "cannot be used; the one before it stays" in errors
    assert "did you mean csv" in errors


def test_a_configuration_that_cannot_be_opened_gives_way_to_the_old_one(operator: Operator, sandbox: Sandbox) -> None:
    """A file that reads well but leads nowhere (a ledger in a folder that is not there) stops no daemon either."""
    with reconfigured(operator, sandbox, "/syncd.db", "/nowhere/at/all/syncd.db") as daemon:
        time.sleep(1)
        operator.drop("november.csv", ROWS.replace("\n", "\n1"))
        until(lambda: sandbox.books.statuses().get("processed", 0) > 40, daemon)
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=10)
    assert daemon.returncode == 0, errors
    assert "cannot be used; the one before it stays" in errors
    assert sandbox.books.duplicates() == 0
