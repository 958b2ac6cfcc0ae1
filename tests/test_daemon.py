"""The daemon's own life; its stories, in processes of their own, are in tests/stories."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from syncd import daemon


async def test_what_watches_over_it_begins_again_when_it_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in the alerts costs a minute of them, and neither the daemon nor the alerts after it."""
    monkeypatch.setattr(daemon, "_AGAIN", timedelta(milliseconds=1))
    begun: list[int] = []
    lasts = asyncio.Event()

    async def watch() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise ValueError("a defect")
        lasts.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(5), daemon._beside(watch):
        await lasts.wait()
    assert begun == [0, 1, 2]
