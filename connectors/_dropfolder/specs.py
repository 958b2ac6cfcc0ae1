"""Files in the shape of the Signals import template: its items, and the bodies it would post for them."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Protocol

import ijson

from connectors._dropfolder.content import CHUNK, Span
from connectors._dropfolder.folder import UnreadableFile
from connectors._dropfolder.lines import LONGEST, Lines, TooLong
from connectors._dropfolder.rows import Broken
from syncd.connector import Json, RawRecord, RecordError

DEEPEST = 200
"""How deep an item may be nested."""

LONGEST_NUMBER = 600
"""Digits. Python can be told to refuse numbers from 640 digits on; by itself it refuses those over 4,300."""

REQUIRED = {"external_text": ("text", "signalType"), "raw_signal": ("source",)}
OPTIONAL = {
    "external_text": (
        "name",
        "additionalContext",
        "productId",
        "productIds",
        "accountId",
        "occurredAt",
        "externalId",
    ),
    "raw_signal": ("name", "data", "externalId", "occurredAt", "integrationId", "context", "insightIds"),
}

_BOM = "\ufeff"
_ENDLESS_NUMBER = re.compile(rb"[0-9]{%d}" % (LONGEST_NUMBER + 1))
_DEEPER = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


def record(item: object, place: str) -> RawRecord:
    """An item as the body the template would post. Raises `RecordError` when it would post none."""
    if not isinstance(item, dict):
        raise RecordError("it is not an object")
    kind = str(item.get("kind") or "").strip()
    if kind not in REQUIRED:
        raise RecordError(f"its kind {kind[:60]!r} is neither external_text nor raw_signal")
    lacking = [key for key in REQUIRED[kind] if item.get(key) is None]
    if lacking:
        raise RecordError(f"it has no {' and no '.join(lacking)}")
    body: dict[str, Json] = {key: _plain(item[key]) for key in REQUIRED[kind]}
    body |= {key: _plain(item[key]) for key in OPTIONAL[kind] if item.get(key) is not None}
    return RawRecord(id=str(body.get("externalId") or _digest(body)), body=body, place=place)


def array(file: io.FileIO, *, size: int, encoding: str) -> Iterator[object]:
    """The items of a JSON array, one at a time.

    Raises `UnreadableFile` where the file turns out not to be one.
    """
    mark = _BOM.encode(encoding, "ignore")
    is_marked = Span(file, 0, size).read(len(mark)) == mark
    stretch = io.BufferedReader(Span(file, len(mark) if is_marked else 0, size), CHUNK)
    source = _Digestible(stretch if encoding == "utf-8" else _AsUtf8(io.TextIOWrapper(stretch, encoding)))
    events = ijson.basic_parse(source)
    count, depth, builder = 0, 1, ijson.ObjectBuilder()
    try:
        if next(events, ("", None))[0] != "start_array":
            raise UnreadableFile("it is not a JSON array of external_text and raw_signal items")
        for event, value in events:
            depth += _DEEPER.get(event, 0)
            if depth == 0:
                continue  # that was the end of the array; anything after it is an error
            if depth > DEEPEST:
                raise UnreadableFile(f"after its first {count} items it is nested more than {DEEPEST} deep")
            builder.event(event, value)
            if depth == 1:
                count += 1
                yield builder.value
                builder = ijson.ObjectBuilder()
    except (ijson.JSONError, ArithmeticError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UnreadableFile(f"it is not valid JSON after its first {count} items: {reason}") from None


class _Digestible:
    """A stream with no number so long that Python refuses it: ijson's C parser takes the whole process down on one."""

    def __init__(self, source: _Bytes) -> None:
        self._source, self._tail = source, b""

    def read(self, size: int = -1) -> bytes:
        chunk = self._source.read(size)
        seen = self._tail + chunk
        if _ENDLESS_NUMBER.search(seen):
            raise UnreadableFile(f"it has a number of more than {LONGEST_NUMBER} digits")
        self._tail = seen[-LONGEST_NUMBER:]
        return chunk


class _Bytes(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


class _AsUtf8:
    """A text stream as the bytes that the parser wants."""

    def __init__(self, text: io.TextIOBase) -> None:
        self._text = text

    def read(self, size: int = -1) -> bytes:
        return self._text.read(size).encode()


class ItemLines:
    """Iterates over the items of a file with one JSON text a line, each with its line; empty lines are passed over.

    `offset` and `line` say up to where they stand for good: before a last line without a line end.
    """

    def __init__(self, file: io.FileIO, *, encoding: str, offset: int, line: int, end: int) -> None:
        self._file, self._encoding, self._end = file, encoding, end
        self.offset, self.line = offset, line

    def __iter__(self) -> Iterator[tuple[int, object]]:
        lines = Lines(self._file, self._encoding, self.offset, self.line, self._end)
        while True:
            start, number = lines.offset, lines.number
            lines.row_start = start
            item: object
            try:
                text = next(lines).strip()
                item = json.loads(text) if text else None
            except StopIteration:
                return
            except TooLong:
                text, item = "", Broken(number + 1, f"it is longer than {LONGEST >> 20} MiB")
                lines = Lines(self._file, self._encoding, start, number, self._end)
                lines.skip_line()
            except (ValueError, RecursionError) as error:
                item = Broken(number + 1, f"it is not valid JSON: {error}")
            if lines.hurt:
                lines.hurt = False
                item = Broken(number + 1, f"it has bytes that are not {self._encoding}")
            if not lines.is_open:
                self.offset, self.line = lines.offset, lines.number
            if text or item is not None:
                yield number + 1, item


def _plain(value: Any, depth: int = 1) -> Json:
    """The value as `json.loads` gives it: the streaming parser reads a fraction as a Decimal."""
    if depth > DEEPEST:
        raise RecordError(f"it is nested more than {DEEPEST} deep")
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {key: _plain(inner, depth + 1) for key, inner in value.items()}
        case list():
            return [_plain(inner, depth + 1) for inner in value]
        case _:
            plain: Json = value
            return plain


def _digest(body: dict[str, Json]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
