"""How far each file has been read. A file is recognised by its content, so its name and its date may change."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from connectors._dropfolder.content import Prefix
from connectors._dropfolder.folder import DropFile
from syncd.connector import Checkpoint

KEPT = 2_000
"""How many files that are no longer there are still remembered: the latest ones."""


class Seen(BaseModel):
    """What is known of one file, at the size and modification time it had.

    Its first `offset` bytes (`line` physical lines) have been read for good; their fingerprint is `prefix`. Once it
    has been read to its end, `whole` is the fingerprint of all its bytes. That may be a little more: a last row
    without a line end is read, and is read again once the file has grown.
    """

    model_config = ConfigDict(frozen=True)

    size: int
    mtime_ns: int
    offset: int = 0
    line: int = 0
    prefix: str = ""
    whole: str | None = None
    encoding: str | None = None
    """None as long as all that was read for good is ASCII: what follows may be in any encoding."""
    delimiter: str | None = None
    flawed: bool = False
    """Whether something in it was set aside."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """Content that was seen before, under this name: all of it, or as far as `prefix` goes."""

    name: str
    seen: Seen
    is_whole: bool
    prefix: Prefix


class Memory:
    """What is known of the files, by name."""

    def __init__(self, checkpoint: Checkpoint, present: Collection[str]) -> None:
        stored: Any = checkpoint.get("files", {})
        known = {name: Seen.model_validate(seen) for name, seen in stored.items()}
        gone = sorted(known.keys() - set(present), key=lambda name: known[name].mtime_ns, reverse=True)
        for name in gone[KEPT:]:
            del known[name]
        self._given = checkpoint
        self._present = frozenset(present)
        self.is_changed = False
        self._seen = known
        self._stored = {name: stored[name] for name in known}
        self._prefixes: dict[int, dict[str, tuple[str, Seen]]] = {}
        self._wholes: dict[int, dict[str, tuple[str, Seen]]] = {}
        for name, seen in known.items():
            self._mark(name, seen)

    @property
    def checkpoint(self) -> Checkpoint:
        """All of it, as the JSON that is stored."""
        return {"files": dict(self._stored)} if self.is_changed else self._given

    def __getitem__(self, name: str) -> Seen:
        return self._seen[name]

    def knows(self, file: DropFile) -> bool:
        """Whether the file was read to its end and has not been touched since. Reads nothing."""
        seen = self._seen.get(file.name)
        if seen is None or seen.whole is None:
            return False
        return (seen.size, seen.mtime_ns) == (file.size, file.mtime_ns)

    def recognise(self, file: DropFile, content: io.FileIO) -> Recognition | None:
        """What is known of the file by its content alone. One pass, as far as any known content goes."""
        running = Prefix(content)
        found: Recognition | None = None
        for length in sorted(self._prefixes.keys() | self._wholes.keys()):
            if length > file.size:
                break
            fingerprint = running.upto(length)
            if mark := self._prefixes.get(length, {}).get(fingerprint):
                found = Recognition(*mark, is_whole=False, prefix=running.copy())
            if length == file.size and (mark := self._wholes.get(length, {}).get(fingerprint)):
                return Recognition(*mark, is_whole=True, prefix=running)
        return found

    def remember(self, name: str, seen: Seen, before: Recognition | None) -> None:
        """Keep what is now known of a file, in place of what was known of it under this or an earlier name."""
        if before is not None and before.name not in self._present:
            self._seen.pop(before.name, None)
            self._stored.pop(before.name, None)
        self._seen[name] = seen
        stored = seen.model_dump(exclude_defaults=True)
        self.is_changed = self.is_changed or self._stored.get(name) != stored
        self._stored[name] = stored
        if seen.whole is not None:
            self._mark(name, seen)

    def _mark(self, name: str, seen: Seen) -> None:
        if seen.offset > 0:
            self._prefixes.setdefault(seen.offset, {})[seen.prefix] = (name, seen)
        if seen.whole is not None:
            self._wholes.setdefault(seen.size, {})[seen.whole] = (name, seen)
