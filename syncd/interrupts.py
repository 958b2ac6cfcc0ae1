"""SIGINT and SIGTERM: the first asks for a clean end, the second ends it at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

INTERRUPTED = 130
"""The exit code of what was interrupted."""


def stop_on_signal(stop: Callable[[], None]) -> list[signal.Signals]:
    """Call `stop` on the first SIGINT or SIGTERM, and quit at once on the second; the signals that came."""
    came: list[signal.Signals] = []

    def heard(number: signal.Signals) -> None:
        if came:
            os._exit(INTERRUPTED)  # nothing is lost by it: the ledger knows what was under way
        came.append(number)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, heard, number)
    return came
