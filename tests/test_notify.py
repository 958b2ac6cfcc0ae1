"""What systemd is told, over a real datagram socket."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from syncd.notify import Notify


class Manager:
    """A socket as systemd has one."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(10)
        self.notify = Notify(address)

    def heard(self) -> list[str]:
        """The lines of the next datagram."""
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has abstract sockets")
    one = Manager(str(tmp_path / "s") if request.param == "path" else f"@syncd-test-{os.getpid()}")
    yield one
    one.socket.close()


@pytest.mark.parametrize(
    ("tell", "lines"),
    [
        (lambda notify: notify.ready("2 connectors"), ["READY=1", "STATUS=2 connectors"]),
        (lambda notify: notify.reloading(12.5), ["RELOADING=1", "MONOTONIC_USEC=12500000"]),
        (lambda notify: notify.stopping(), ["STOPPING=1", "STATUS=finishing what is under way"]),
        (lambda notify: notify.alive("2 connectors"), ["WATCHDOG=1", "STATUS=2 connectors"]),
        (lambda notify: notify.status("no progress in posting"), ["STATUS=no progress in posting"]),
    ],
    ids=["ready", "reloading", "stopping", "alive", "status"],
)
def test_each_word_is_one_datagram_as_sd_notify_has_it(
    manager: Manager, tell: Callable[[Notify], None], lines: list[str]
) -> None:
    """systemd understands every word: a socket with a path, and one without."""
    tell(manager.notify)
    assert manager.heard() == lines


def test_a_status_cannot_say_more_than_a_status(manager: Manager) -> None:
    """Words with line breaks in them are one line: they cannot tell systemd to do anything."""
    manager.notify.status("x\nMAINPID=1\n" + "y" * 5000)
    [line] = manager.heard()
    assert line.startswith("STATUS=x MAINPID=1 yyy")
    assert len(line) < 2100


def test_one_who_does_not_listen_is_no_trouble(tmp_path: Path) -> None:
    """A service manager that is gone, or busy, stops nobody; without one nothing happens at all."""
    Notify(str(tmp_path / "nobody")).ready("x")
    Notify().ready("x")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "full"))
        for _ in range(2000):  # more than any queue holds; it must not wait
            Notify(str(tmp_path / "full")).alive("x" * 500)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Notify()),
        ({"NOTIFY_SOCKET": "/run/x"}, Notify("/run/x")),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "30000000"}, Notify("@x", timedelta(seconds=30))),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "7"}, Notify("/x", timedelta(seconds=9))),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "8"}, Notify("/x")),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, Notify("/x")),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, Notify("/x")),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, Notify()),
        ({"WATCHDOG_USEC": "30000000"}, Notify()),
    ],
)
def test_what_the_environment_says(environ: dict[str, str], expected: Notify) -> None:
    """As systemd sets it; a watchdog that is meant for another process is not ours."""
    assert Notify.from_environ(environ, 7) == expected
