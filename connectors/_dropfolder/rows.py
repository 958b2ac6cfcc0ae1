"""The rows of a delimited file. A broken one is reported and passed over; the rows after it are not lost."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from connectors._dropfolder.folder import UnreadableFile
from connectors._dropfolder.lines import LONGEST, Lines, TooLong

if TYPE_CHECKING:
    from _csv import Reader


class Row(NamedTuple):
    """The cells of a row that has something in it, stripped of space, and the line it starts on (from 1)."""

    line: int
    cells: list[str]


class Broken(NamedTuple):
    """A row that cannot be read: the line it starts on, and why."""

    line: int
    reason: str


Found: TypeAlias = Row | Broken


PATIENCE = 16 * LONGEST
"""How many bytes may be read in vain behind quotes that do not match before the file is given up."""

_NEVER_CLOSED = "a quote is opened in this row and never closed"
_MISMATCHED = "its quotes do not match: text follows a closing quote"
_TOO_LONG = f"it is longer than {LONGEST >> 20} MiB, or a quote in it is never closed"


class _NeedsMore(Exception):
    """A quote is still open at the end of the line."""


class Rows:
    """Iterates over the rows of an open file from an offset to an end; empty rows are passed over.

    `offset` and `line` say up to where the rows given so far stand for good: before a last row without a line end or
    with an open quote, which more bytes may yet change. With a `width`, a row whose quotes are against the rules is
    still taken if it stands on one line and has that many cells.
    """

    def __init__(
        self,
        file: io.FileIO,
        *,
        encoding: str,
        delimiter: str,
        offset: int,
        line: int,
        end: int,
        width: int | None = None,
    ) -> None:
        self._file, self._encoding, self._delimiter, self._end = file, encoding, delimiter, end
        self._width = width
        self.offset, self.line = offset, line

    def __iter__(self) -> Iterator[Found]:
        lines, reader = self._open(self.offset, self.line)
        is_held = False
        patience = PATIENCE
        while True:
            start, number = lines.offset, lines.number
            lines.row_start = start
            cells: list[str] | None
            reason = ""
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:
                cells = self._despite_quotes(lines, number)
                reason = _NEVER_CLOSED if lines.ended else _MISMATCHED
            except TooLong:
                cells, reason = None, _TOO_LONG
            if cells is None:
                is_held = is_held or reason == _NEVER_CLOSED
                patience -= lines.offset - start
                if patience < 0:
                    raise UnreadableFile(f"its quotes do not match in too many rows, the last on line {number + 1}")
                lines, reader = self._open(start, number)
                lines.skip_line()
                patience += 2 * (lines.offset - start)  # one bad line after another is no cause for giving up
            elif lines.hurt:
                cells, reason = None, f"it has bytes that are not {self._encoding}"
            lines.hurt = False
            if not (is_held or lines.is_open):
                self.offset, self.line = lines.offset, lines.number
            if cells is None:
                yield Broken(number + 1, reason)
                continue
            cells = [cell.strip() for cell in cells]
            if any(cells):
                yield Row(number + 1, cells)

    def _open(self, offset: int, line: int) -> tuple[Lines, Reader]:
        lines = Lines(self._file, self._encoding, offset, line, self._end)
        csv.field_size_limit(LONGEST)  # the module's own limit, 128 KiB, is one for the whole process
        return lines, csv.reader(lines, delimiter=self._delimiter, skipinitialspace=True, strict=True)

    def _despite_quotes(self, lines: Lines, number: int) -> list[str] | None:
        """The cells of a one-line row with quotes left single inside a quoted cell, as other programs read it."""
        if lines.ended or lines.number != number + 1:
            return None
        try:
            cells = next(csv.reader(_one(lines.last), delimiter=self._delimiter, skipinitialspace=True))
        except (_NeedsMore, csv.Error):
            return None
        return cells if len(cells) == self._width else None


def _one(line: str) -> Iterator[str]:
    yield line
    raise _NeedsMore
