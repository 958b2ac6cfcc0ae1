"""Reading one file from where it was left: its items one after another, and how far it has been read by then."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from connectors._dropfolder import specs
from connectors._dropfolder.content import Prefix
from connectors._dropfolder.encoding import byte_order_mark, detect
from connectors._dropfolder.folder import DropFile
from connectors._dropfolder.memory import Recognition, Seen
from connectors._dropfolder.rows import Broken, Rows
from connectors._dropfolder.table import Columns, Table, layout
from syncd.connector import RawRecord, Record, RecordError, SetAside

Item: TypeAlias = Record | RawRecord | SetAside | None
"""What a file gives; None is a row passed over on purpose."""

Mapping: TypeAlias = Callable[[Sequence[str], str], Record | None]
"""From a row's cells and its place to its record. Raises `RecordError` when the row cannot become one."""


class Reading:
    """Iterates over what an open file gives beyond what is known of it, up to the size it had when it was listed.

    Raises `UnreadableFile` when it cannot be read (on).
    """

    def __init__(
        self,
        file: DropFile,
        content: io.FileIO,
        before: Recognition | None,
        *,
        encoding: str | None,
        delimiter: str | None,
        mapping: Callable[[Columns], Mapping],
    ) -> None:
        seen = before.seen if before else None
        known = encoding or (seen and seen.encoding)
        self._file, self._content, self._mapping = file, content, mapping
        if known:
            self._encoding, self._plain = byte_order_mark(content) or known, 0
        else:
            self._encoding, self._plain = detect(content, file.size)
        self._delimiter = delimiter or (seen and seen.delimiter) or ("\t" if file.suffix == ".tsv" else None)
        self._prefix = before.prefix if before else Prefix(content)
        self._offset, self._line = (seen.offset, seen.line) if seen else (0, 0)
        self._flawed = bool(seen and seen.flawed)

    def __iter__(self) -> Iterator[Item]:
        match self._file.suffix:
            case ".json":
                items = self._array()
            case ".jsonl":
                items = self._item_lines()
            case _:
                items = self._rows()
        for item in items:
            if isinstance(item, SetAside):
                self._flawed = True
            yield item

    def seen(self, *, whole: bool) -> Seen:
        """What is known of the file now that everything given so far is in the ledger; `whole`: that was all."""
        prefix = self._prefix.upto(self._offset)
        return Seen(
            size=self._file.size,
            mtime_ns=self._file.mtime_ns,
            offset=self._offset,
            line=self._line,
            prefix=prefix,
            whole=self._prefix.copy().upto(self._file.size) if whole else None,
            encoding=self._encoding if self._offset > self._plain else None,
            delimiter=self._delimiter,
            flawed=self._flawed,
        )

    def table(self) -> Table | None:
        """How the rows of the file are laid out, or None when there are none."""
        return layout(self._content, size=self._file.size, encoding=self._encoding, delimiter=self._delimiter)

    @property
    def is_resumable(self) -> bool:
        """Whether it can be taken up again from here; a JSON array cannot."""
        return self._offset > 0

    def _rows(self) -> Iterator[Item]:
        table = self.table()
        if table is None:
            return
        self._delimiter = table.delimiter
        record = self._mapping(table.columns)
        rows = Rows(
            self._content,
            encoding=self._encoding,
            delimiter=table.delimiter,
            offset=max(self._offset, table.offset),
            line=max(self._line, table.line),
            end=self._file.size,
            width=len(table.columns.names),
        )
        for found in rows:
            self._offset, self._line = rows.offset, rows.line
            place = f"{self._file.name}:{found.line}"
            if isinstance(found, Broken):
                yield SetAside(place, found.reason)
                continue
            try:
                yield record(_fitted(found.cells, table), place)
            except RecordError as error:
                yield SetAside(place, str(error))
        self._offset, self._line = rows.offset, rows.line

    def _array(self) -> Iterator[Item]:
        items = specs.array(self._content, size=self._file.size, encoding=self._encoding)
        for index, item in enumerate(items):
            yield _spec(item, f"{self._file.name}[{index}]")

    def _item_lines(self) -> Iterator[Item]:
        lines = specs.ItemLines(
            self._content,
            encoding=self._encoding,
            offset=self._offset,
            line=self._line,
            end=self._file.size,
        )
        for number, item in lines:
            self._offset, self._line = lines.offset, lines.line
            yield _spec(item, f"{self._file.name}:{number}")
        self._offset, self._line = lines.offset, lines.line


def _fitted(cells: list[str], table: Table) -> list[str]:
    """At least as many cells as the header has columns. A row that is cut short has lost something."""
    if len(cells) < table.width:
        raise RecordError(f"{len(cells)} cells where the header has {len(table.columns.names)}")
    return cells + [""] * (len(table.columns.names) - len(cells))


def _spec(item: object, place: str) -> Item:
    if isinstance(item, Broken):
        return SetAside(place, item.reason)
    try:
        return specs.record(item, place)
    except RecordError as error:
        return SetAside(place, str(error))
