"""The daemon's whole life on one page: what starts, in which order, what is heard meanwhile, and how it ends.

SIGTERM, SIGINT   stop: reading is dropped, posting is finished, everything is closed in reverse; a second one quits
SIGHUP            read the configuration again. One that can be used takes the old one's place, after the same stop;
                  one that cannot is refused, with the reason, and the old one stays
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from syncd.alerting import watch_over
from syncd.app import House, open_house
from syncd.config import Config
from syncd.errors import ConfigError, LedgerUnusable, SyncdError
from syncd.interrupts import INTERRUPTED, stop_on_signal
from syncd.logs import get_logger
from syncd.notify import Notify
from syncd.web.serving import serve
from syncd.web.site import site

_AGAIN = timedelta(minutes=1)
_STATUS = timedelta(minutes=1)  # between two words to systemd, where it does not watch us

log = get_logger()


@dataclass(slots=True)
class Daemon:
    """Runs one house after another, each with the configuration that was read last.

    `load` reads the configuration and raises `ConfigError`. `refused` is why it was not taken, when it was read again
    and could not be used.
    """

    load: Callable[[], Config]
    notify: Notify = field(default_factory=Notify)
    refused: str | None = None
    came: list[signal.Signals] = field(default_factory=list)
    house: House | None = None
    following: Config | None = None

    async def run(self) -> int:
        """Go on until a signal says otherwise; the exit code. Raises `ConfigError` and `LedgerError`."""
        async with _beside(self._show_life):
            return await self._run()

    async def _run(self) -> int:
        config, before = self.load(), None
        self.came = stop_on_signal(self._stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        while not self.came:
            try:
                async with open_house(config, "run") as self.house, self._page(self.house):
                    before = None
                    if not (self.came or self.following):  # a signal may have come while it was opened
                        await self._live(self.house)
            except (ConfigError, LedgerUnusable) as error:  # no key, no ledger, a port that is taken
                if before is None:
                    raise
                config, before = before, None
                self._refuse(error)
            if self.following is not None:
                config, before, self.following = self.following, config, None
                log.info("the configuration was read again", connectors=len(config.connectors))
        return INTERRUPTED if signal.SIGINT in self.came else 0

    async def _live(self, house: House) -> None:
        async with _beside(partial(self._announce, house), partial(watch_over, house, lambda: self.refused)):
            await house.run_for_ever()

    def _refuse(self, error: SyncdError) -> None:
        self.refused = str(error)
        log.error("the configuration cannot be used; the one before it stays", reason=str(error))

    @asynccontextmanager
    async def _page(self, house: House) -> AsyncIterator[None]:
        """The status page, from before the loops begin until after they end. Raises `ConfigError`."""
        web = house.config.web
        if web is None:
            yield
            return
        page = site(house, host=web.host, token=web.token, refused=lambda: self.refused)
        async with serve(page, web.host, web.port) as address:
            log.info("the status page is open", address=address)
            yield

    async def _announce(self, house: House) -> None:
        """Tell systemd as soon as the loops run."""
        while not house.beats:  # noqa: ASYNC110 - they show it by no event
            await asyncio.sleep(0.02)
        self.notify.ready(_in_a_line(house))

    async def _show_life(self) -> None:
        """Show systemd that we live, as long as the loops come round and nothing holds this one up."""
        pause = self.notify.watchdog / 2 if self.notify.watchdog else _STATUS
        while True:
            if self.house is None or not self.house.stuck():
                self.notify.alive(_in_a_line(self.house))
            else:
                self.notify.status(f"no progress in {', '.join(self.house.stuck())}")
            await asyncio.sleep(pause.total_seconds())

    def _stop(self) -> None:
        self.notify.stopping()
        if self.house:
            self.house.stop.set()

    def _reload(self) -> None:
        self.notify.reloading(time.monotonic())
        try:
            self.following = self.load()
        except ConfigError as error:
            self._refuse(error)
            self.notify.ready("the configuration cannot be used; the one before it stays")
            return
        self.refused = None
        if self.house:
            self.house.stop.set()


def _in_a_line(house: House | None) -> str:
    if house is None:
        return "starting"
    number, accepted = len(house.config.connectors), house.figures.accepted
    return f"{number} connector{'' if number == 1 else 's'}; {accepted} signals accepted since the start"


@asynccontextmanager
async def _beside(*works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Have this work done beside the block, and dropped at its end."""
    tasks = [asyncio.create_task(_kept_up(work)) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _kept_up(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do work that nothing waits for, and begin it again should it end with an error: what watches over the daemon
    must not die in silence."""
    while True:
        try:
            return await work()
        except Exception:  # a defect in what stands beside the loops is no reason to stop them
            log.exception("what runs beside the loops ended with an error; it begins again", after=str(_AGAIN))
            await asyncio.sleep(_AGAIN.total_seconds())
