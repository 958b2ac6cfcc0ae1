"""Release: signals that were held until Zentrik has their account are posted with it as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import cast

from syncd.connector import Source
from syncd.directory import Directory, DirectoryUnavailable
from syncd.ledger import Ledger, holds
from syncd.ledger.holds import ASKED_AGAIN, Hold, Release
from syncd.logs import get_logger
from syncd.shape import Ask, By
from syncd.workspace import Entity

log = get_logger()

_BATCH = 500
_TROUBLE_LASTS = timedelta(minutes=1)
_GIVEN_UP = "on_missing is leave"


class Releaser:
    """Asks for the accounts that are waited for, round by round. What a round did is done for good; the rest is due in
    the next one, whichever syncd does it."""

    def __init__(
        self,
        ledger: Ledger,
        directory: Directory,
        sources: Mapping[str, Source],
        run: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._sources = sources
        self._run = run
        self._clock = clock
        self._has_begun = False

    async def release(self, only: Sequence[str] | None = None) -> None:
        """One round: ask for the accounts that are due. Zentrik in trouble puts the round off by a minute. Raises
        `LedgerError`."""
        if not self._has_begun:
            await self._ledger.change(holds.drop_ended)
            await self._give_up(only)
            self._has_begun = True
        while due := await self._ledger.ask(holds.due, self._clock(), _BATCH, only):
            try:
                for name, batch in groupby(sorted(due, key=lambda each: each.connector), lambda each: each.connector):
                    await self._ask(name, list(batch))
            except DirectoryUnavailable as error:
                now = self._clock()
                number = await self._ledger.change(holds.put_off_due, now, now + _TROUBLE_LASTS)
                log.warning("accounts that are waited for cannot be asked for", signals=number, reason=str(error))
                return

    async def _give_up(self, only: Sequence[str] | None) -> None:
        """What is held of connectors that do not wait for accounts any more goes out without."""
        names = [
            name
            for name, source in self._sources.items()
            if source.mapping.on_missing == "leave" and (only is None or name in only)
        ]
        while waiting := await self._ledger.ask(holds.of_connectors, names, _BATCH):
            await self._end([Release(hold, None, _GIVEN_UP) for hold in waiting])

    async def _ask(self, connector: str, due: Sequence[Hold]) -> None:
        """Raises `DirectoryUnavailable`."""
        source = self._sources.get(connector)
        creates = source is not None and source.mapping.on_missing == "create"
        asked = {hold.asks: tuple(Ask(cast("By", by), value) for by, value in hold.asks) for hold in due}
        answers = await self._directory.resolve(connector, dict.fromkeys(asked.values()), creates=creates)
        releases: list[Release] = []
        missing: list[int] = []
        for hold in due:
            match answers.get(asked[hold.asks]):
                case Entity() as account:
                    releases.append(Release(hold, account.named_by, redaction=source.redaction if source else None))
                case "several":
                    releases.append(Release(hold, None, "several fit"))
                case "missing" if creates:
                    releases.append(Release(hold, None, "it could not be created"))
                case _:  # there is none, or the key may not ask: what was to wait waits
                    missing.append(hold.signal_id)
        if missing:
            await self._ledger.change(holds.put_off, missing, self._clock() + ASKED_AGAIN)
        await self._end(releases)

    async def _end(self, releases: Sequence[Release]) -> None:
        if releases and (number := await self._ledger.change(holds.release, releases, self._run, self._clock())):
            log.info("released what waited for its account", signals=number)
