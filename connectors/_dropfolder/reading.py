"""Reading one file from where it was left: its items one after another, and how far it has been read by then."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from connectors._dropfolder import specs
from connectors._dropfolder.content import Prefix
from connectors._dropfolder.encoding import byte_order_mark, detect
from connectors._dropfolder.folder import DropFile, UnreadableFile
from connectors._dropfolder.memory import Recognition, Seen
from connectors._dropfolder.rows import Broken, Row, Rows
from connectors._dropfolder.table import Columns, Table, layout
from syncd.connector import RawRecord, Record, RecordError, SetAside

PORTION = 500
TEXT = 1_000_000
"""Rows are read that many ahead of their records, or that many characters."""

WORTH_ASKING = 16
"""Fewer rows become records in less time than it takes to ask whether they have to."""

NOW_AND_THEN = 8
"""Among rows that are all new, one portion in so many is asked about."""


class Known(NamedTuple):
    """The places of rows, one after the other, that the ledger has as they are."""

    places: Sequence[str]


Item: TypeAlias = Record | RawRecord | SetAside | Known | None
"""What a file gives; None is a row passed over on purpose."""


class Key(NamedTuple):
    """The id of a row's record, and a version that is another one as soon as the record may be."""

    id: str
    version: str


class Mapping(Protocol):
    """The operator's settings for the rows of one file."""

    def key(self, cells: Sequence[str], /) -> Key | None:
        """What the ledger can be asked about a row; None when it cannot be worked out."""

    def record(self, cells: Sequence[str], place: str, key: Key | None, /) -> Record | None:
        """The record of a row, or None when the row is passed over. Raises `RecordError` when it cannot become one."""


@dataclass(slots=True)
class Question:
    """Which of some rows, given as id and version, does the ledger have? Whoever is handed it fills in `known`."""

    versions: dict[str, str]
    known: Container[str] = frozenset()

    def leave_out(self, records: Sequence[Record | RawRecord]) -> None:
        """Do not ask about what is on its way to the ledger, which would answer with what was there before."""
        for record in records:
            match record:
                case Record():
                    self.versions.pop(record.id, None)
                case RawRecord():  # its body may name any record
                    self.versions.clear()

    def is_known(self, key: Key) -> bool:
        """Whether it was asked about, and is there."""
        return key.id in self.versions and key.id in self.known


class _Ahead(NamedTuple):
    """A row that was read, and up to where the file had been read for good then."""

    found: Row | Broken
    key: Key | None
    offset: int
    line: int


class Reading:
    """Iterates over what an open file gives beyond what is known of it, up to the size it had when it was listed.

    In between it asks which rows the ledger has: those become no records.

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

    def __iter__(self) -> Iterator[Item | Question]:
        match self._file.suffix:
            case ".json":
                items: Iterator[Item | Question] = self._array()
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

    def _rows(self) -> Iterator[Item | Question]:
        table = self.table()
        if table is None:
            return
        self._delimiter = table.delimiter
        name, mapping = self._file.name, self._mapping(table.columns)
        rows = Rows(
            self._content,
            encoding=self._encoding,
            delimiter=table.delimiter,
            offset=max(self._offset, table.offset),
            line=max(self._line, table.line),
            end=self._file.size,
            width=len(table.columns.names),
        )
        is_hopeful = True
        for number, portion in enumerate(_portions(rows, table, mapping)):
            question = _question(portion) if is_hopeful or number % NOW_AND_THEN == 0 else Question({})
            if len(question.versions) >= WORTH_ASKING:
                yield question
            is_hopeful = False
            known: list[str] = []
            for found, key, offset, line in portion:
                place = f"{name}:{found.line}"
                is_known = key is not None and question.is_known(key)
                if known and not is_known:
                    yield Known(known)
                    known = []
                self._offset, self._line = offset, line
                if is_known:
                    known.append(place)
                    is_hopeful = True
                    continue
                if isinstance(found, Broken):
                    yield SetAside(place, found.reason)
                    continue
                try:
                    yield mapping.record(found.cells, place, key)
                except RecordError as error:
                    yield SetAside(place, str(error))
            if known:
                yield Known(known)
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


def _portions(rows: Rows, table: Table, mapping: Mapping) -> Iterator[list[_Ahead]]:
    """The rows, as many at once as are asked about at once. Those before one that ends the reading come before that."""
    portion: list[_Ahead] = []
    length, width = 0, len(table.columns.names)
    try:
        for found in rows:
            key = None
            if isinstance(found, Row):
                length += sum(map(len, found.cells))
                if len(found.cells) < width:
                    found = _fitted(found, table)
            if isinstance(found, Row):
                key = mapping.key(found.cells)
            portion.append(_Ahead(found, key, rows.offset, rows.line))
            if len(portion) >= PORTION or length >= TEXT:
                yield portion
                portion, length = [], 0
    except (UnreadableFile, OSError):
        yield portion
        raise
    yield portion


def _question(portion: Sequence[_Ahead]) -> Question:
    """Which of these rows are known? Of a record that stands there twice, the ledger has to see both in their order."""
    keys = [each.key for each in portion if each.key is not None]
    versions = dict(keys)
    if len(versions) < len(keys):
        for id_, times in Counter(key.id for key in keys).items():
            if times > 1:
                del versions[id_]
    return Question(versions)


def _fitted(row: Row, table: Table) -> Row | Broken:
    """A row with as many cells as the header has columns. One that is cut short has lost something."""
    width = len(table.columns.names)
    if len(row.cells) < table.width:
        return Broken(row.line, f"{len(row.cells)} cells where the header has {width}")
    return Row(row.line, row.cells + [""] * (width - len(row.cells)))


def _spec(item: object, place: str) -> Item:
    if isinstance(item, Broken):
        return SetAside(place, item.reason)
    try:
        return specs.record(item, place)
    except RecordError as error:
        return SetAside(place, str(error))
