"""`syncd demo`: the whole of it with no key. Sample data goes through the real pipeline to the sandbox.

The folder it works in is laid out as an operator's would be, configuration and all; with `--keep` it stays.
"""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from syncd import screens
from syncd.app import open_house
from syncd.config import load
from syncd.errors import ConfigError
from syncd.ledger import State, report
from syncd.pull import Span
from syncd.sandbox import Sandbox

_KEY = "sandbox-key"
_PROCESSING = timedelta(milliseconds=1500)  # as slow as to be seen, as quick as to be waited for


def run_demo(console: Console, keep: Path | None) -> int:
    """Do it, in `keep` or a folder that is removed afterwards; the exit code."""
    if keep is None:
        with TemporaryDirectory(prefix="syncd-demo-") as folder:
            _lay_out(Path(folder))
            return asyncio.run(_show(console, Path(folder), kept=False))
    if keep.exists() and any(keep.iterdir()):
        raise ConfigError(f"{keep} is not empty; name another folder for --keep")
    keep.mkdir(parents=True, exist_ok=True)
    _lay_out(keep)
    return asyncio.run(_show(console, keep, kept=True))


def _lay_out(folder: Path) -> None:
    with as_file(files(__package__)) as packaged:
        shutil.copytree(packaged / "inbox", folder / "inbox")
        config = (packaged / "config.yaml").read_text(encoding="utf-8")
    (folder / "config.yaml").write_text(config.replace("${DEMO_FOLDER}", str(folder.resolve())), encoding="utf-8")


async def _show(console: Console, folder: Path, *, kept: bool) -> int:
    say = partial(console.print, soft_wrap=True)
    inbox = ", ".join(sorted(path.name for path in folder.glob("inbox/*")))  # noqa: ASYNC240 - four names
    say(f"An inbox with {inbox}, and an imitation of Zentrik on this machine.\n")
    sandbox = Sandbox(key=_KEY, processing_takes=_PROCESSING)
    async with sandbox.serve() as api_base:
        config = load(
            folder / "config.yaml",
            {"ZENTRIK_API_BASE": api_base, "ZENTRIK_API_KEY": _KEY},
        )
        sources = [entry.source for entry in config.connectors.values()]
        async with open_house(config, "demo") as house:
            with screens.progress(Console(stderr=True)) as house.on_change:
                first = await house.run_once(sources, Span(), None, only=False)
        async with open_house(config, "demo") as house:
            again = await house.run_once(sources, Span(), None, only=False)
            rows = await house.ledger.ask(lambda db: list(report.find(db)))

    console.print(screens.signals(sorted(rows, key=lambda row: row.id), console.width))
    console.print()
    console.print(screens.closing(first))
    new = sum(pulled.new for pulled in again.connectors.values())
    say(f"\nA second run found {new} new records and posted {again.posted}: the ledger knows them all.")
    if kept:
        say(f"Everything is in {folder}; look around with: syncd --config {folder / 'config.yaml'} status")
    say(_NEXT)
    return 0 if first.signals[State.PROCESSED] == len(rows) and not again.posted else 1


_NEXT = """
What to do next, in a folder of your own:
  syncd init                                   write a commented config.yaml
  mkdir inbox, and put a CSV file there        any separator, any encoding
  syncd run-once --dry-run                     see every body before anything is sent
  export ZENTRIK_API_KEY=... && syncd check    see that Zentrik takes the key
  syncd run-once                               import it; `syncd run` goes on for ever"""
