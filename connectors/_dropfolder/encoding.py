"""Which encoding a file is written in."""

from __future__ import annotations

import codecs
import io
import re
from typing import NamedTuple

from connectors._dropfolder.content import CHUNK, Span

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LATIN = ["cp1252", "cp1250", "cp1254", "cp1257"]
OTHER_SCRIPTS = ["cp1251", "cp1253", "cp1255", "cp1256", "cp932", "gb18030", "cp949", "big5"]
STATEFUL = ("utf-7", "hz", "iso2022", "idna", "punycode", "unicode_escape", "raw_unicode_escape")

_OTHER_WORD = re.compile(r"[\u0370-\u06ff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]{4}")
"""A word in Greek, Cyrillic, Hebrew, Arabic or an East Asian script. Accents on Latin words do not stand that close."""

_SAMPLE = 1 << 16


def canonical(name: str) -> str:
    """Python's name of the encoding somebody names.

    Raises `ValueError` when there is none, or when it is one whose text cannot be taken up midway.
    """
    try:
        "".encode(name)
        known = codecs.lookup(name).name
    except (LookupError, UnicodeError):
        raise ValueError(f"{name!r} is not an encoding; write for example utf-8 or windows-1252") from None
    if known.startswith(STATEFUL):
        raise ValueError(f"{name!r} cannot be read piece by piece; save the files as utf-8")
    return {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(known, known)


def byte_order_mark(file: io.FileIO) -> str | None:
    """The encoding that a byte order mark at the start of the file declares."""
    file.seek(0)
    head = file.read(4)
    return next((encoding for mark, encoding in BOMS if head.startswith(mark)), None)


class Detected(NamedTuple):
    """An encoding, and how many bytes at the start are ASCII and so would be the same in nearly any other."""

    encoding: str
    plain: int = 0


def detect(file: io.FileIO, size: int) -> Detected:
    """The encoding of the file's first `size` bytes.

    A byte order mark settles it. Else what is valid UTF-8 is UTF-8, and anything else is Windows-1252
    unless another Windows code page or an East Asian one is plainly recognised.
    """
    if marked := byte_order_mark(file):
        return Detected(marked)
    file.seek(0)
    if wide := _utf_16(file.read(min(size, _SAMPLE))):
        return Detected(wide)
    plain = _valid_until(file, 0, size, "ascii")
    valid = _valid_until(file, plain, size, "utf-8")
    if valid == size:
        return Detected("utf-8", plain)
    sample = _lines_around(file, valid, size)
    return Detected("utf-8" if _is_damaged_utf_8(sample) else _code_page(sample), plain)


def _valid_until(file: io.FileIO, start: int, size: int, encoding: str) -> int:
    """Where the first byte stands that does not belong in the encoding, or `size`."""
    decoder = codecs.getincrementaldecoder(encoding)()
    stretch, at = Span(file, start, size), start
    while chunk := stretch.read(CHUNK):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            return at - pending + error.start
        at += len(chunk)
    return at - len(decoder.getstate()[0])


def _is_damaged_utf_8(sample: bytes) -> bool:
    """Whether most of what is not ASCII is good UTF-8: then a few rows are hurt, and another reading garbles all."""
    text = sample.decode("utf-8", "replace")
    hurt = text.count("\ufffd")
    good = sum(character > "\x7f" for character in text) - hurt
    return good > 0 and good >= hurt


def _utf_16(sample: bytes) -> str | None:
    """UTF-16 without a mark: in its line ends, digits and delimiters every other byte is zero."""
    zeros = sample.count(0)
    lopsided = max(sample[::2].count(0), sample[1::2].count(0)) >= zeros * 0.9
    if not lopsided or zeros * 20 < len(sample):
        return None
    from charset_normalizer import from_bytes  # takes a moment to load; few files need it

    even = sample[: len(sample) & ~1]
    best = from_bytes(even, cp_isolation=["utf_16_le", "utf_16_be"], preemptive_behaviour=False).best()
    return canonical(best.encoding) if best else None


def _code_page(sample: bytes) -> str:
    from charset_normalizer import from_bytes  # takes a moment to load; few files need it

    matches = from_bytes(sample, cp_isolation=[*LATIN, *OTHER_SCRIPTS], preemptive_behaviour=False)
    best = matches.best()
    if best is None:
        return "cp1252"
    if best.encoding in OTHER_SCRIPTS:
        return best.encoding if _OTHER_WORD.search(str(best)) else "cp1252"
    western = next((match.coherence for match in matches if match.encoding == "cp1252"), 0.0)
    is_plain = best.coherence >= 0.2 and best.coherence - western > 0.02
    return best.encoding if is_plain and "cp1252" not in best.could_be_from_charset else "cp1252"


def _lines_around(file: io.FileIO, place: int, size: int) -> bytes:
    """Whole lines from just before that place on, as many as a sample holds."""
    start = max(0, place - 4096)
    sample = Span(file, start, size).read(_SAMPLE) or b""
    if start > 0:
        sample = sample[sample.find(b"\n", 0, place - start) + 1 :]
    return sample[: sample.rfind(b"\n") + 1] or sample
