"""A folder laid out as an operator's, a sandbox for Zentrik, and the real command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.ledger import Database
from syncd.sandbox import Sandbox

CONFIG = """
ledger: sqlite:///{folder}/syncd.db
web: {{port: 0}}
zentrik:
  poll_interval: 200ms
  ready_timeout: 2s
  absent_after: 300ms
connectors:
  survey:
    type: csv
    path: {folder}/inbox
    id: "{{{{ row.id }}}}"
    text: "{{{{ row.comment }}}}"
    settle: 0s
"""


@dataclass
class Operator:
    """Somebody with a folder, a configuration and a terminal."""

    folder: Path
    api_base: str
    key: str = "sandbox-key"

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    def drop(self, name: str, text: str) -> Path:
        """Put a file into the inbox."""
        path = self.inbox / name
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment, with nothing of another syncd in it, and no width of a terminal."""
        foreign = ("SYNCD_", "ZENTRIK_", "COLUMNS")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {
            **own,
            "ZENTRIK_API_BASE": self.api_base,
            "ZENTRIK_API_KEY": self.key,
            "SYNCD_CONFIG": str(self.folder / "config.yaml"),
        }

    def syncd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return subprocess.run(
            [sys.executable, "-m", "syncd", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command running beside us; it is ended, if it has not ended by itself."""
        with subprocess.Popen(
            [sys.executable, "-m", "syncd", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run_once(self, *arguments: str) -> dict[str, Any]:
        """The figures of a `run-once` that ended well."""
        done = self.syncd("run-once", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    def ledger(self) -> Database:
        """The ledger, to be looked into from this process."""
        found = Database.open_existing(f"sqlite:///{self.folder}/syncd.db")
        assert found is not None
        return found

    def connector(self, name: str) -> dict[str, Any]:
        """What `status --json` says of a connector."""
        found: dict[str, Any] = json.loads(self.syncd("status", "--json").stdout)["connectors"][name]
        return found

    def signals(self) -> list[dict[str, Any]]:
        """What `signals --json` lists."""
        return [json.loads(line) for line in self.syncd("signals", "--json").stdout.splitlines()]


def moved_in(folder: Path, api_base: str, config: str = CONFIG) -> Operator:
    """An operator with an empty inbox."""
    (folder / "inbox").mkdir(parents=True)
    (folder / "config.yaml").write_text(config.format(folder=folder), encoding="utf-8")
    return Operator(folder, api_base)


def quick_sandbox(**more: Any) -> Sandbox:
    """A sandbox that processes in a quarter of a second."""
    return Sandbox(processing_takes=timedelta(milliseconds=250), **more)


@pytest.fixture
def sandbox() -> Sandbox:
    return quick_sandbox()


@pytest.fixture
def operator(tmp_path: Path, sandbox: Sandbox) -> Any:
    with sandbox.in_thread() as api_base:
        yield moved_in(tmp_path / "home", api_base)
