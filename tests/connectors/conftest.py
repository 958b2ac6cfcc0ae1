"""A drop folder on disk, with a clock that stands still, looked into one run at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.csv import DropFolder
from syncd.connector import Checkpoint, Page, RawRecord, Record, SetAside, SourceError, Window


def _no_network(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"a drop folder asked for {request.url}")


@dataclass(frozen=True)
class Look:
    """What one run gave."""

    pages: Sequence[Page]
    error: SourceError | None = None

    @property
    def records(self) -> list[Record]:
        return [record for page in self.pages for record in page.records if isinstance(record, Record)]

    @property
    def texts(self) -> list[str]:
        return [record.text for record in self.records]

    @property
    def bodies(self) -> list[Any]:
        return [record.body for page in self.pages for record in page.records if isinstance(record, RawRecord)]

    @property
    def set_aside(self) -> list[SetAside]:
        return [item for page in self.pages for item in page.set_aside]

    @property
    def places(self) -> list[str]:
        return [item.place for item in self.set_aside]

    @property
    def is_empty(self) -> bool:
        return not any(page.records or page.set_aside or page.filtered for page in self.pages)


@dataclass
class Inbox:
    """A folder; `look` runs the connector over it once, from the checkpoint that the last look left."""

    folder: Path
    now: datetime = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
    checkpoint: Checkpoint = field(default_factory=dict)

    def drop(self, name: str, content: str | bytes, *, age: float = 60) -> Path:
        """Put a file there that was last changed that many seconds ago."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.touch(name, age=age)
        return path

    def append(self, name: str, content: str | bytes, *, age: float = 60) -> None:
        """Let a file grow; a minute passes first."""
        self.now += timedelta(minutes=1)
        before = (self.folder / name).read_bytes()
        self.drop(name, before + (content.encode() if isinstance(content, str) else content), age=age)

    def touch(self, name: str, *, age: float = 60) -> None:
        """Set the time of a file's last change."""
        changed = (self.now - timedelta(seconds=age)).timestamp()
        os.utime(self.folder / name, (changed, changed))

    async def look(self, *, pages: int | None = None, **settings: Any) -> Look:
        """One run; with `pages` it is killed as soon as that many pages are in the ledger."""
        connector = DropFolder.model_validate({"path": self.folder} | settings)
        given: list[Page] = []
        async with httpx.AsyncClient(transport=httpx.MockTransport(_no_network)) as http:
            try:
                async with aclosing(connector.fetch(http, self.checkpoint, Window(now=self.now))) as source:
                    async for page in source:
                        given.append(page)
                        self.checkpoint = json.loads(json.dumps(page.checkpoint))
                        if len(given) == pages:
                            break
            except SourceError as error:
                return Look(given, error)
        return Look(given)


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    """An empty drop folder."""
    return Inbox(tmp_path)
