"""The bytes of an open file: any stretch of them, and the fingerprint of its beginning."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from connectors._dropfolder.folder import UnreadableFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK = 1 << 18


class Span(io.RawIOBase):
    """The bytes of an open file from one offset to another, whoever else reads the same file."""

    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        self._file, self._at, self._end = file, start, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._at)
        count = self._file.readinto(view[: max(0, min(len(view), self._end - self._at))]) or 0
        self._at += count
        return count


class Prefix:
    """The running fingerprint of a file's first bytes. It only goes forward."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.length = 0

    def copy(self) -> Prefix:
        """One that goes on from here by itself."""
        other = Prefix(self._file)
        other._hash, other.length = self._hash.copy(), self.length
        return other

    def upto(self, length: int) -> str:
        """The fingerprint of the first `length` bytes: 32 hexadecimal digits."""
        while self.length < length:
            self._file.seek(self.length)
            chunk = self._file.read(min(CHUNK, length - self.length))
            if not chunk:
                raise UnreadableFile("it became shorter while it was being read")
            self._hash.update(chunk)
            self.length += len(chunk)
        return self._hash.hexdigest()[:32]
