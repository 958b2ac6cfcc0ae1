"""Folders whose connectors are read as soon as something happens in them, without waiting for their time.

Where no events arrive (a network file system, some container volumes) nothing is lost: the timetable reads them anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from watchfiles import awatch

from syncd.logs import get_logger

_LOOK_AGAIN = 30.0  # seconds until a folder that is not there is looked for again

log = get_logger()


async def stirred(folders: Mapping[str, Sequence[Path]]) -> AsyncGenerator[set[str], None]:
    """The names under which something has just changed, whenever it has; changes that come together are told once.

    `folders` are the files and folders by name. Those that are not there are looked for from time to time.
    """
    while True:
        there = {name: [path for path in paths if path.exists()] for name, paths in folders.items()}
        missing = any(len(there[name]) < len(paths) for name, paths in folders.items())
        watched = {path for paths in there.values() for path in paths}
        if not watched:
            await asyncio.sleep(_LOOK_AGAIN)
            continue
        try:
            async for changes in awatch(*watched, rust_timeout=int(_LOOK_AGAIN * 1000), yield_on_timeout=True):
                changed = {Path(place) for _, place in changes}
                if names := {name for name, paths in there.items() if any(_holds(paths, at) for at in changed)}:
                    yield names
                if missing or not all(path.exists() for path in watched):
                    break  # one of them may have come, or gone
        except (OSError, RuntimeError) as error:  # the system watches no more folders for us
            log.warning("folders are not watched; they are read at their times", reason=str(error))
            return


def _holds(paths: Sequence[Path], changed: Path) -> bool:
    return any(changed == path.resolve() or path.resolve() in changed.parents for path in paths)
