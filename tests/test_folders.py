"""Folders that are watched: a change in one is told soon, and under the right name."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from syncd import folders


async def first(paths: dict[str, list[Path]], change: Path) -> set[str]:
    """What is told of a file that is written, again and again until somebody notices."""
    async with asyncio.timeout(20), aclosing(folders.stirred(paths)) as changes:
        told = asyncio.ensure_future(anext(changes))
        while not told.done():
            await asyncio.to_thread(change.write_text, "id\n1\n")
            await asyncio.wait({told}, timeout=0.2)
        return await told


async def test_a_change_is_told_under_the_name_of_its_folder(tmp_path: Path) -> None:
    """A file that is dropped is read at once, and the other connectors are left in peace."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    paths = {"reviews": [tmp_path / "one"], "tickets": [tmp_path / "other"]}
    assert await first(paths, tmp_path / "other" / "october.csv") == {"tickets"}


async def test_a_single_file_can_be_watched(tmp_path: Path) -> None:
    """`path` may be one file, that is written again every night."""
    (tmp_path / "export.csv").write_text("id\n", encoding="utf-8")
    assert await first({"export": [tmp_path / "export.csv"]}, tmp_path / "export.csv") == {"export"}


async def test_a_folder_that_comes_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon need not be started again because a volume was mounted late."""
    monkeypatch.setattr(folders, "_LOOK_AGAIN", 0.2)
    inbox = tmp_path / "inbox"
    asyncio.get_running_loop().call_later(0.5, inbox.mkdir)

    async def told() -> set[str]:
        async with asyncio.timeout(20), aclosing(folders.stirred({"late": [inbox]})) as changes:
            noticed = asyncio.ensure_future(anext(changes))
            while not noticed.done():
                if inbox.exists():
                    (inbox / "a.csv").write_text("id\n1\n", encoding="utf-8")
                await asyncio.wait({noticed}, timeout=0.2)
            return await noticed

    assert await told() == {"late"}
