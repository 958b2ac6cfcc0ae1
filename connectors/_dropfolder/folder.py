"""Which files there are to read, and putting them away once they have been read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from syncd.connector import SourceError

ITEM_SUFFIXES = (".json", ".jsonl")
SUFFIXES = (".csv", ".tsv", *ITEM_SUFFIXES)
ARCHIVE = ".archive"


class FolderMissing(SourceError):
    """The folder cannot be looked into."""

    code = "no_such_folder"


class UnreadableFile(Exception):
    """One file cannot be read, for a reason that stands in the message; the others can."""


def why(error: Exception) -> str:
    """The reason in an error, without the path that is said anyway."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


@dataclass(frozen=True, slots=True)
class DropFile:
    """A file as it was when the folder was looked into. It is read up to that size and no further."""

    path: Path
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        return printable(self.path.name)

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()

    @property
    def has_rows(self) -> bool:
        """Whether it is a table, and not a file of ready-made items."""
        return self.suffix not in ITEM_SUFFIXES

    @property
    def modified(self) -> datetime:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.mtime_ns // 1000)

    def is_unchanged(self) -> bool:
        """Whether it still is the file that was seen."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns)

    def archive(self) -> None:
        """Move it to the hidden folder beside it, under a name that is still free there."""
        folder = self.path.parent / ARCHIVE
        folder.mkdir(exist_ok=True)
        self.path.rename(next(place for place in _places(folder, self.path) if not place.exists()))

    def delete(self) -> None:
        """Remove it."""
        self.path.unlink()


@dataclass(frozen=True, slots=True)
class Listing:
    """What a look into the folder showed: files, oldest first, and those that cannot be read and why not."""

    files: tuple[DropFile, ...]
    unreadable: dict[str, str]


def look(path: Path) -> Listing:
    """The files of a folder that are not empty, hidden or still on their way; or the one file.

    Raises `FolderMissing` when nothing is there or it may not be looked into.
    """
    try:
        if path.is_file():
            folder, names, within = path.parent, [path.name], None
        else:
            folder = within = path.resolve(strict=True)
            names = [entry.name for entry in os.scandir(folder) if _is_wanted(entry.name)]
    except FileNotFoundError:
        raise FolderMissing(f"there is nothing at {path.absolute()}: create the folder, or mend `path`") from None
    except OSError as error:
        raise FolderMissing(f"{path.absolute()} cannot be looked into: {error.strerror or error}") from error

    files: list[DropFile] = []
    unreadable: dict[str, str] = {}
    for name in names:
        place = folder / name
        try:
            status = place.stat()
            if within is not None and not place.resolve().is_relative_to(within):
                unreadable[printable(name)] = "it is a link that leads out of the folder; put the file itself there"
            elif stat.S_ISREG(status.st_mode) and status.st_size > 0:
                files.append(DropFile(place, status.st_size, status.st_mtime_ns))
        except FileNotFoundError:
            continue  # taken away since the folder was listed
        except (OSError, RuntimeError) as error:
            unreadable[printable(name)] = why(error)
    return Listing(tuple(sorted(files, key=lambda file: (file.mtime_ns, file.name))), unreadable)


def printable(name: str) -> str:
    """A file's name as text that can be stored: bytes in it that are no UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _places(folder: Path, path: Path) -> Iterator[Path]:
    yield folder / path.name
    number = 2
    while True:
        yield folder / f"{path.stem}-{number}{path.suffix}"
        number += 1
