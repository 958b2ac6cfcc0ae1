"""The daemon's whole life on one page: what starts, in which order, what is heard meanwhile, and how it ends.

SIGTERM, SIGINT   stop: reading is dropped, posting is finished, everything is closed in reverse; a second one quits
SIGHUP            read the configuration again. One that can be used takes the old one's place, after the same stop;
                  one that cannot is refused, with the reason, and the old one stays
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from syncd.app import House, open_house
from syncd.config import Config
from syncd.errors import ConfigError
from syncd.logs import get_logger

INTERRUPTED = 130

log = get_logger()


@dataclass(slots=True)
class Daemon:
    """Runs one house after another, each with the configuration that was read last.

    `load` reads the configuration and raises `ConfigError`. `refused` is why it was not taken, when it was read again
    and could not be used.
    """

    load: Callable[[], Config]
    refused: str | None = None
    came: list[signal.Signals] = field(default_factory=list)
    house: House | None = None
    following: Config | None = None

    async def run(self) -> int:
        """Go on until a signal says otherwise; the exit code. Raises `ConfigError` and `LedgerError`."""
        config = self.load()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        while not self.came:
            async with open_house(config, "run") as self.house:
                if not (self.came or self.following):  # a signal may have come while it was opened
                    await self.house.run_for_ever()
            if self.following is not None:
                config, self.following = self.following, None
                log.info("the configuration was read again", connectors=len(config.connectors))
        return INTERRUPTED if signal.SIGINT in self.came else 0

    def _stop(self, number: signal.Signals) -> None:
        if self.came:
            os._exit(INTERRUPTED)  # nothing is lost by it: the ledger knows what was under way
        self.came.append(number)
        if self.house:
            self.house.stop.set()

    def _reload(self) -> None:
        try:
            self.following = self.load()
        except ConfigError as error:
            self.refused = str(error)
            log.error("the configuration cannot be used; the one before it stays", reason=str(error))
            return
        self.refused = None
        if self.house:
            self.house.stop.set()
