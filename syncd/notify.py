"""What systemd is told of the daemon, and how often: sd_notify(3), one datagram each.

The protocol is a dozen lines, and systemd promises to keep it; the packages for it are no longer looked after or need a
compiler.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

_MOST = 2000  # of a status line


@dataclass(frozen=True, slots=True)
class Notify:
    """The way to the service manager that started us; without `address` nobody is told, and nothing happens.

    `watchdog` is how long it waits for a sign of life before it restarts us; None: it does not watch.
    """

    address: str | None = None
    watchdog: timedelta | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], pid: int) -> Notify:
        """As systemd says it: NOTIFY_SOCKET, WATCHDOG_USEC, and in WATCHDOG_PID whom that is meant for."""
        address = environ.get("NOTIFY_SOCKET") or None
        if address is not None and not address.startswith(("/", "@")):
            address = None  # of a kind that is not for processes of this machine
        limit = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        is_watched = address is not None and is_ours and limit.isdecimal() and int(limit) > 0
        return cls(address, timedelta(microseconds=int(limit)) if is_watched else None)

    def ready(self, status: str) -> None:
        """The work has begun, or goes on after a reload."""
        self._tell("READY=1", _status(status))

    def reloading(self, monotonic: float) -> None:
        """The configuration is being read again, from now on by the monotonic clock (in seconds)."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(monotonic * 1_000_000)}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1", _status("finishing what is under way"))

    def alive(self, status: str) -> None:
        """All gets on."""
        self._tell("WATCHDOG=1", _status(status))

    def status(self, status: str) -> None:
        """What `systemctl status` shows."""
        self._tell(_status(status))

    def _tell(self, *lines: str) -> None:
        if self.address is None:
            return
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
            way.setblocking(False)
            try:
                way.sendto("\n".join(lines).encode(), name)
            except OSError:
                return  # whoever listened is gone or busy; the next word follows soon


def _status(text: str) -> str:
    """On one line, whatever it holds."""
    return f"STATUS={' '.join(text[:_MOST].split())}"
