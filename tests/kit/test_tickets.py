"""A ticket goes out once: when it is done, or when nobody has touched it for a while."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from syncd.connector import Checkpoint, Page, Window
from syncd.kit.tickets import Tickets

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Desk(Tickets):
    provider = "external_api"

    def home(self) -> str:
        return "https://desk.acme.test"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        yield Page()

    async def check(self, http: httpx.AsyncClient) -> str:
        return "a desk"


@pytest.mark.parametrize(
    ("settings", "quiet", "goes_out"),
    [
        ({}, 7 * DAY, True),
        ({}, 7 * DAY - timedelta(microseconds=1), False),
        ({"quiet_for": "2h"}, timedelta(hours=2), True),
        ({"quiet_for": "2h"}, timedelta(minutes=119), False),
        ({"quiet_for": "0s"}, timedelta(0), True),
        ({"quiet_for": None}, 9000 * DAY, False),
        ({}, -DAY, False),
    ],
)
def test_an_open_ticket_goes_out_when_it_is_quiet(settings: dict[str, Any], quiet: timedelta, goes_out: bool) -> None:
    """After a week unless told otherwise; with null never; and one that is done goes out whatever happened on it."""
    desk = Desk(**settings)
    assert desk.goes_out(is_done=False, touched=NOW - quiet, now=NOW) is goes_out
    assert desk.goes_out(is_done=True, touched=NOW - quiet, now=NOW)


@pytest.mark.parametrize("quiet_for", ["-1d", "a while", True])
def test_a_while_is_a_span_of_time(quiet_for: object) -> None:
    """What is none is refused when the configuration is read."""
    with pytest.raises(ValidationError):
        Desk(quiet_for=quiet_for)
