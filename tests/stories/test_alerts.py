"""Somebody is told: the real daemon, a real receiver, and systemd's socket."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.stories.conftest import Operator
from tests.stories.test_daemon import until


class Told(list[dict[str, Any]]):
    """The alerts that came in, in order."""

    @property
    def states(self) -> list[tuple[str, str, str | None]]:
        """Each in short."""
        return [(alert["state"], alert["kind"], alert["connector"]) for alert in self]


@contextmanager
def receiver() -> Iterator[tuple[str, Told]]:
    """A webhook on loopback: its address, and what it was sent."""
    told = Told()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/hook", told
        finally:
            server.shutdown()
            thread.join()


def configure(operator: Operator, url: str) -> None:
    """Alerts to that address, without waiting; the connector is read at its start, and by hand."""
    config = operator.folder / "config.yaml"
    text = config.read_text(encoding="utf-8").replace("    settle: 0s\n", "    settle: 0s\n    every: 2h\n")
    config.write_text(f"{text}alerts: {{name: acme, webhook: '{url}', stopped_after: 0s}}\n", encoding="utf-8")


def test_a_source_that_cannot_be_read_is_told_once_and_so_is_its_recovery(operator: Operator) -> None:
    """A folder that is gone is one message, however often it is tried and the daemon restarted; once it is back, that
    is one message."""
    operator.inbox.rmdir()
    with receiver() as (url, told):
        configure(operator, url)
        with operator.started("run") as daemon:
            until(lambda: len(told) == 1, daemon)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(10) == 0, daemon.communicate()
        assert operator.syncd("run-once", "survey").returncode == 1
        with operator.started("run") as daemon:
            operator.inbox.mkdir()
            operator.drop("october.csv", "id,comment\n1,Something.\n")
            assert operator.syncd("run-once", "survey").returncode == 0
            until(lambda: len(told) == 2, daemon)
            daemon.send_signal(signal.SIGTERM)
            _, errors = daemon.communicate(timeout=10)
    assert told.states == [("firing", "stopped", "survey"), ("resolved", "stopped", "survey")]
    assert "survey cannot be read: " in told[0]["message"]
    assert told[0]["syncd"] == "acme"
    assert told[0]["since"] == told[1]["since"]
    assert "Traceback" not in errors


def test_alert_test_says_whether_it_arrived(operator: Operator) -> None:
    """Whoever sets alerts up sees at once that they work, and that they do not; without any it is a matter of the
    configuration. The address is not shown."""
    assert operator.syncd("alert-test").returncode == 2
    with receiver() as (url, told):
        configure(operator, url)
        assert operator.syncd("alert-test").returncode == 0
        assert told.states == [("firing", "test", None)]
    refused = operator.syncd("alert-test")
    assert refused.returncode == 1
    assert "no answer" in refused.stdout
    assert "/hook" not in refused.stdout + refused.stderr


def test_systemd_hears_of_the_whole_life(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready once the loops run, alive at half the watchdog's time, reloading and ready again (also when the file
    cannot be used), stopping at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        heard: list[str] = []

        def wait_for(word: str) -> str:
            while True:
                lines = manager.recv(4096).decode().split("\n")
                heard.append(lines[0])
                if lines[0] == word:
                    return lines[-1]

        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        with operator.started("run") as daemon:
            assert wait_for("READY=1") == "STATUS=1 connector; 0 signals accepted since the start"
            heard.clear()
            wait_for("WATCHDOG=1")
            wait_for("WATCHDOG=1")
            daemon.send_signal(signal.SIGHUP)
            assert wait_for("RELOADING=1").startswith("MONOTONIC_USEC=")
            wait_for("READY=1")
            config = operator.folder / "config.yaml"
            config.write_text("nonsense: yes\n" + config.read_text(encoding="utf-8"), encoding="utf-8")
            daemon.send_signal(signal.SIGHUP)
            wait_for("RELOADING=1")
            assert "cannot be used" in wait_for("READY=1")
            daemon.send_signal(signal.SIGTERM)
            wait_for("STOPPING=1")
            assert daemon.wait(10) == 0, daemon.communicate()
    assert set(heard) == {"WATCHDOG=1", "RELOADING=1", "READY=1", "STOPPING=1"}
