"""A house with something to see: signals in several states, a connector that stopped, and names that mean harm."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from syncd.app import House, open_house
from syncd.config import load
from syncd.pacing import Gate
from syncd.pull import Span
from syncd.retry import Backoff
from syncd.sandbox import Faults, Sandbox
from syncd.web.site import site

TOKEN = "0123456789abcdef-the-token"
HOSTILE = "<script>alert('x')</script>"

CONFIG = """
ledger: sqlite:///{folder}/syncd.db
web: {{port: 0}}
shutdown_timeout: 5s
zentrik: {{poll_interval: 50ms, ready_timeout: 2s, absent_after: 100ms, process_attempts: 1}}
connectors:
  survey:
    type: csv
    path: {folder}/inbox
    id: "{{{{ row.id }}}}"
    title: "{{{{ row.title }}}}"
    text: "{{{{ row.comment }}}}"
    url: "{{{{ row.link }}}}"
    settle: 0s
  lost: {{type: csv, path: {folder}/nowhere/at/all}}
  resting: {{type: csv, path: {folder}/inbox2, enabled: false}}
"""
ROWS = f"""id,title,comment,link
1,Export,The export takes too long.,https://acme.example/tickets/1
a/../b?c#d%2F,{HOSTILE},"{HOSTILE} is what they said.",javascript:alert(1)
broken,Dashboards,It broke. [sandbox: fail],
4,,,
"""


@dataclass
class Scene:
    """A house, what it delivers to, and a browser of sorts."""

    house: House
    sandbox: Sandbox
    folder: Path
    refused: str | None = None

    async def deliver(self) -> None:
        """One round of everything."""
        sources = [entry.source for entry in self.house.config.connectors.values() if entry.enabled]
        await self.house.run_once(sources, Span(), None, only=False)

    def client(self, token: str | None = None, host: str = "127.0.0.1", **more: object) -> httpx.AsyncClient:
        """One that asks the page, within this process."""
        app = site(self.house, host=host, token=SecretStr(token) if token else None, refused=lambda: self.refused)
        transport = httpx.ASGITransport(app=app)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8787", **more)  # type: ignore[arg-type]


def mark_in(page: httpx.Response) -> str:
    """What the page's forms carry."""
    found = re.search(r'name="mark" value="([0-9a-f]{64})"', page.text)
    assert found, page.text
    return found[1]


@asynccontextmanager
async def staged(folder: Path, rows: str = ROWS, config: str = CONFIG) -> AsyncIterator[Scene]:
    """The scene, with nothing delivered yet."""
    for name in ("inbox", "inbox2"):
        (folder / name).mkdir()
    (folder / "inbox" / "nps.csv").write_text(rows, encoding="utf-8")
    (folder / "config.yaml").write_text(config.format(folder=folder), encoding="utf-8")
    sandbox = Sandbox(processing_takes=timedelta(milliseconds=20))
    async with sandbox.serve() as api_base:
        environ = {"ZENTRIK_API_BASE": api_base, "ZENTRIK_API_KEY": "sandbox-key"}
        async with open_house(load(folder / "config.yaml", environ), "run") as house:
            house.backoff = Backoff(first=timedelta(milliseconds=50), cap=timedelta(milliseconds=200))
            house.gate = Gate(house.backoff)
            house.gap = timedelta(milliseconds=20)
            yield Scene(house, sandbox, folder)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Everything delivered, and one signal failed."""
    async with staged(tmp_path) as prepared:
        await prepared.deliver()
        prepared.sandbox.faults = Faults(failing_marker=None)
        yield prepared
