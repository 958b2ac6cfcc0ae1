"""Which files there are to read, and putting them away once they have been read."""

from __future__ import annotations

import errno
import io
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
LEADS_OUT = "it is a link that leads out of the folder; put the file itself there"

_TO_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe put in a file's place would be waited for
_TO_WALK = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW


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
    """A file as it was when the folder was looked into. It is read up to that size and no further.

    `within` is the folder that it must not lead out of; None where the operator named the file itself.
    """

    path: Path
    size: int
    mtime_ns: int
    within: Path | None = None

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

    def open(self) -> io.FileIO:
        """Open it to be read. Raises `UnreadableFile` when it has become a link that leads out of the folder, or
        something else than a file; and `OSError`."""
        descriptor = _open_within(self.within, self.path) if self.within else os.open(self.path, _TO_READ)
        file = io.FileIO(descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise UnreadableFile("it is no longer a file")
        return file

    def is_unchanged(self) -> bool:
        """Whether it still is the file that was seen, and no link: what a link stands for is not ours to put away."""
        try:
            now = self.path.lstat()
        except FileNotFoundError:
            return False
        return stat.S_ISREG(now.st_mode) and (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns)

    def archive(self) -> None:
        """Move it to the hidden folder beside it, under a name that is still free there. Raises `OSError`, also when
        that folder is a link."""
        folder = self.path.parent / ARCHIVE
        folder.mkdir(exist_ok=True)
        try:
            archive = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            if folder.is_symlink():
                raise OSError(error.errno, f"{ARCHIVE} is a link; put a folder in its place") from error
            raise
        try:
            taken = {entry.name for entry in os.scandir(archive)}
            free = next(name for name in _names(self.path) if name not in taken)
            os.rename(self.path, free, dst_dir_fd=archive)
        finally:
            os.close(archive)

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
                unreadable[printable(name)] = LEADS_OUT
            elif stat.S_ISREG(status.st_mode) and status.st_size > 0:
                files.append(DropFile(place, status.st_size, status.st_mtime_ns, within))
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


def _open_within(folder: Path, path: Path) -> int:
    """Open what a path leads to, following links, but not out of the folder.

    The way is worked out first and then walked step by step, where a link is no longer expected: one that is swapped
    in meanwhile leads nowhere.
    """
    real = path.resolve(strict=True)
    if not real.is_relative_to(folder):
        raise UnreadableFile(LEADS_OUT)
    *above, name = real.relative_to(folder).parts
    at = os.open(folder, _TO_WALK)
    try:
        for step in above:
            below = os.open(step, _TO_WALK, dir_fd=at)
            os.close(at)
            at = below
        return os.open(name, _TO_READ | os.O_NOFOLLOW, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UnreadableFile("it was replaced by a link while it was being opened") from error
        raise
    finally:
        os.close(at)


def _names(path: Path) -> Iterator[str]:
    yield path.name
    number = 2
    while True:
        yield f"{path.stem}-{number}{path.suffix}"
        number += 1
