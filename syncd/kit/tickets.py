"""When a ticket is done, and so goes out: ten replies are one signal, not ten."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import Field

from syncd.connector import Duration
from syncd.kit.api import Api


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
