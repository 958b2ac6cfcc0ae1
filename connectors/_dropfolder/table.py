"""How a delimited file is laid out: what parts its cells, which columns its header names, where its rows begin."""

from __future__ import annotations

import difflib
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from connectors._dropfolder.folder import UnreadableFile
from connectors._dropfolder.lines import Lines, TooLong
from connectors._dropfolder.rows import Broken, Rows

DELIMITERS = (",", ";", "\t", "|")
NONE = "\x1f"
"""Parts the cells of a file with one column: a character that no text has."""

_SAMPLE = 1 << 14
_WEIGHED = 1 << 13  # characters; weighing an odd text takes time that grows with the square of its length
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_DECLARATION = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)
_NOT_WORD = re.compile(r"[\W_]+")


class Columns:
    """The columns of a header, found by their exact name or by its simple form (`response_id` for «Response ID»)."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._places = {name: place for place, name in reversed(list(enumerate(self.names)))}
        self._simple = {simple(name): place for name, place in self._places.items()}

    def find(self, name: str) -> int | None:
        """The place of a column, from 0."""
        place = self._places.get(name)
        return place if place is not None else self._simple.get(simple(name))

    def nearest(self, name: str) -> str | None:
        """The column that somebody may have meant."""
        close = difflib.get_close_matches(simple(name), self._simple, n=1)
        return self.names[self._simple[close[0]]] if close else None

    def filled(self, cells: Sequence[str]) -> list[tuple[str, str]]:
        """The name and value of each cell that holds something; cells beyond the header are `column N`."""
        pairs = [(name, cell) for name, cell in zip(self.names, cells, strict=False) if cell]
        beyond = enumerate(cells[len(self.names) :], len(self.names) + 1)
        return pairs + [(f"column {number}", cell) for number, cell in beyond if cell]


@dataclass(frozen=True, slots=True)
class Table:
    """A file's layout. A row needs `width` cells; its rows begin at `offset`, after `line` physical lines."""

    columns: Columns
    width: int
    delimiter: str
    offset: int
    line: int


def simple(name: str) -> str:
    """A name in lower case, with `_` for whatever is neither letter nor digit."""
    return _NOT_WORD.sub("_", name.lower()).strip("_")


def layout(file: io.FileIO, *, size: int, encoding: str, delimiter: str | None) -> Table | None:
    """How the file is laid out, or None when it has no header yet. Without a `delimiter` it is worked out.

    Raises `UnreadableFile` when its header cannot be read.
    """
    sample = _beginning(file, encoding, size)
    offset = line = 0
    if declared := _DECLARATION.fullmatch(sample[0] if sample else ""):
        lines = Lines(file, encoding, 0, 0, size)
        next(lines)
        offset, line = lines.offset, lines.number
        delimiter = delimiter or declared[1]
    parts = delimiter or _delimiter("".join(sample))
    rows = Rows(file, encoding=encoding, delimiter=parts, offset=offset, line=line, end=size)
    match next(iter(rows), None):
        case None:
            return None
        case Broken(number, reason):
            raise UnreadableFile(f"its header, on line {number}, cannot be read: {reason}")
        case row:
            names = column_names(row.cells)
            width = max(place for place, cell in enumerate(row.cells, 1) if cell)
            return Table(Columns(names), width, parts, rows.offset, rows.line)


def column_names(cells: Sequence[str]) -> list[str]:
    """A name for each column: a blank one is `column 3`, the second `x` is `x_2`."""
    names: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for number, cell in enumerate(cells, 1):
        wanted = name = " ".join(cell.split()) or f"column {number}"
        while name in names:
            counts[wanted] += 1
            name = f"{wanted}_{counts[wanted] + 1}"
        names[name] = None
    return list(names)


def _beginning(file: io.FileIO, encoding: str, size: int) -> list[str]:
    sample: list[str] = []
    length = 0
    try:
        for line in Lines(file, encoding, 0, 0, size):
            if line.strip() or sample:
                sample.append(line)
                length += len(line)
            if length >= _SAMPLE:
                break
    except TooLong:
        pass  # the header will say so, if it is the header
    return sample


def _delimiter(sample: str) -> str:
    """Whatever parts the cells stands between the names in the header; among several, the text is weighed."""
    bare = _QUOTED.sub("x", sample)
    header = next((line for line in re.split(r"[\r\n]+", bare) if line.strip()), "")
    counts = Counter(character for character in header if character in DELIMITERS)
    if not counts:
        return NONE
    if len(counts) > 1:
        from clevercsv import Error, Sniffer  # takes a moment to load; few files need it

        try:
            dialect = Sniffer().sniff(sample[:_WEIGHED], delimiters=list(counts))
        except Error:
            dialect = None
        if dialect is not None and dialect.delimiter in counts:
            return str(dialect.delimiter)
    return counts.most_common(1)[0][0]
