"""The physical lines of a file, and exactly where each one ends."""

from __future__ import annotations

import io

from connectors._dropfolder.content import CHUNK, Span
from connectors._dropfolder.folder import UnreadableFile

LONGEST = 1 << 24
"""The most bytes (or characters) that are held at once: 16 MiB for one line, and for one row."""


class TooLong(Exception):
    """A line, or a row of several lines, is longer than `LONGEST`."""


class Lines:
    """Iterates over the lines from an offset to an end, each with its line end, as `csv.reader` wants them.

    After each line, `offset` is where it ended and `number` how many lines there were up to there. A line that was not
    written in the encoding makes `hurt` true. At the last line `is_open` says that it had no line end (a lone carriage
    return may be half of one); `ended` turns true when another line was asked for and there was none.

    Raises `TooLong` when what was read since `row_start` exceeds `LONGEST`, and `UnreadableFile` when the bytes make no
    sense at all in the encoding.
    """

    def __init__(self, file: io.FileIO, encoding: str, offset: int, number: int, end: int) -> None:
        self.offset, self.number, self.row_start = offset, number, offset
        self.hurt = self.is_open = self.ended = False
        self.last = ""
        self._encoding = encoding
        self._unit = len("x".encode(encoding))
        self._end = end - (end - offset) % self._unit
        # Both keep what cannot be decoded, so that encoding a line again gives its bytes' exact number.
        self._errors = "surrogatepass" if self._unit > 1 else "surrogateescape"
        buffer = io.BufferedReader(Span(file, offset, self._end), CHUNK)
        text = io.TextIOWrapper(buffer, encoding, errors=self._errors, newline="")
        self._readline = text.readline

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        line = self._piece()
        if not line:
            self.ended = True
            raise StopIteration
        if self.offset - self.row_start >= LONGEST:
            raise TooLong
        self.number += 1
        if "\0" in line:
            line = line.replace("\0", "")
        self.last = line
        return line

    def skip_line(self) -> None:
        """Pass over one line, however long."""
        while piece := self._piece():
            if piece.endswith(("\r", "\n")):
                break
        self.number += 1
        self.row_start = self.offset
        self.hurt = False

    def _piece(self) -> str:
        """A line, or as much of one as may be held."""
        try:
            line = self._readline(LONGEST)
        except UnicodeDecodeError as error:
            raise UnreadableFile(
                f"it cannot be read as {self._encoding} ({error.reason} after line {self.number}); save it as UTF-8"
            ) from None
        starts_file = self.offset == 0
        if line.isascii():
            self.offset += len(line) * self._unit
        else:
            try:
                self.offset += len(line.encode(self._encoding))
            except UnicodeEncodeError:
                self.hurt = True
                self.offset += len(line.encode(self._encoding, self._errors))
            if starts_file:
                line = line.removeprefix("\ufeff")
        if self.offset >= self._end:
            self.is_open = not line.endswith("\n")
        return line
