"""When a ticket is done, and so goes out: ten replies are one signal, not ten."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from pydantic import Field

from syncd.connector import Checkpoint, Duration, Page, Window
from syncd.kit.api import Api
from syncd.kit.paging import moment

BEGINNING = datetime.fromtimestamp(0, UTC)
LOOK_AGAIN = timedelta(hours=1)
"""How often a helpdesk is read a second time, for tickets that have become quiet."""

Walk: TypeAlias = Callable[[datetime, datetime | None], AsyncGenerator[tuple[Sequence[Any], datetime], None]]
"""The tickets that changed last between two times (None: up to now), oldest change first, page by page, each with the
time up to when none is missing."""

Pages: TypeAlias = Callable[[Sequence[Any], Checkpoint, Checkpoint], AsyncGenerator[Page, None]]
"""What goes out of a page of tickets; the checkpoints are those before and after it."""


class Tickets(Api):
    """A helpdesk. A ticket goes out once it is solved, or when nobody has touched it for a while."""

    quiet_for: Duration | None = Field(
        timedelta(days=7),
        description="A ticket that is still open goes out when nothing has happened on it for so long; null: never. "
        "One that is solved or closed goes out at once.",
    )

    def goes_out(self, *, is_done: bool, touched: datetime, now: datetime) -> bool:
        """Whether a ticket is ready: done, or untouched since `touched` for long enough."""
        return is_done or (self.quiet_for is not None and now - touched >= self.quiet_for)

    async def by_change(
        self, checkpoint: Checkpoint, window: Window, walk: Walk, pages: Pages, overlap: timedelta
    ) -> AsyncGenerator[Page, None]:
        """Read a helpdesk whose tickets can be asked for by their last change: those that changed since the last
        reading, less `overlap`; then, `quiet_for` behind, those on which nothing happened since."""
        begin = window.since or BEGINNING
        last = moment(checkpoint, "updated_until")
        quiet_before = window.now - self.quiet_for if self.quiet_for is not None else None
        quiet = moment(checkpoint, "quiet_until") or quiet_before or begin  # a first reading sees to all that is quiet
        updated = last or begin
        async for listed, reached in walk(last - overlap if last else begin, None):
            before, updated = updated, max(updated, min(reached, window.now))
            async for page in pages(listed, _place(before, quiet), _place(updated, quiet)):
                yield page
        if quiet_before and quiet_before - quiet >= LOOK_AGAIN:
            async for listed, reached in walk(quiet, quiet_before):
                before, quiet = quiet, max(quiet, reached)
                async for page in pages(listed, _place(updated, before), _place(updated, quiet)):
                    yield page
            yield Page(checkpoint=_place(updated, quiet_before))


def _place(updated: datetime, quiet: datetime) -> Checkpoint:
    return {
        "updated_until": updated.isoformat(timespec="seconds"),
        "quiet_until": quiet.isoformat(timespec="seconds"),
    }
