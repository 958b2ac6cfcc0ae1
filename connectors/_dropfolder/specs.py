"""Files in the shape of the Signals import template: its items, and the bodies it would post for them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import ijson

from connectors._dropfolder.content import CHUNK, Span
from connectors._dropfolder.folder import UnreadableFile
from connectors._dropfolder.lines import LONGEST, Lines, TooLong
from connectors._dropfolder.rows import Broken
from syncd.connector import Json, RawRecord, RecordError

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
_HEAD = 1 << 12


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
    try:
        body: dict[str, Json] = {key: _plain(item[key]) for key in REQUIRED[kind]}
        body |= {key: _plain(item[key]) for key in OPTIONAL[kind] if item.get(key) is not None}
        return RawRecord(id=str(body.get("externalId") or _digest(body)), body=body, place=place)
    except RecursionError:
        raise RecordError("it is nested too deeply") from None


def array(file: io.FileIO, *, size: int, encoding: str) -> Iterator[object]:
    """The items of a JSON array, one at a time.

    Raises `UnreadableFile` where the file turns out not to be one.
    """
    head = (Span(file, 0, size).read(_HEAD) or b"").decode(encoding, "ignore")
    if not head.removeprefix(_BOM).lstrip().startswith("["):
        raise UnreadableFile("it is not a JSON array of external_text and raw_signal items")
    start = len(_BOM.encode(encoding)) if head.startswith(_BOM) else 0
    stretch = io.BufferedReader(Span(file, start, size), CHUNK)
    source = stretch if encoding == "utf-8" else _AsUtf8(io.TextIOWrapper(stretch, encoding))
    count = 0
    try:
        for item in ijson.items(source, "item"):
            count += 1
            yield item
    except (ijson.JSONError, UnicodeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UnreadableFile(f"it is not valid JSON after its first {count} items: {reason}") from None


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


def _plain(value: Any) -> Json:
    """The value as `json.loads` gives it: the streaming parser reads a fraction as a Decimal."""
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            plain: Json = value
            return plain


def _digest(body: dict[str, Json]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
