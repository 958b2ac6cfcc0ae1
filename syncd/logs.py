"""Logging, set up once: JSON lines for machines, readable ones on a terminal, and no secret in either.

What the rest of the house takes from here: `log = get_logger()`, `log.info("what happened", key=value)`, and
`with context(run=..., connector=...)` round all that belongs together. What libraries log comes out the same way.

A secret is known by its value, and taken out in two manners. `redact` is for words: an error, a log line, a reason,
where one blotted out too many does no harm. `holds_secret` and `redact_json` are for what customers wrote: they see
only a secret that cannot stand there by chance, so that the password `postgres` does not tear holes into every ticket
about PostgreSQL.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import sys
import traceback
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus

import structlog
from structlog.contextvars import bound_contextvars as context
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, FilteringBoundLogger, Processor

__all__ = [
    "conceal",
    "configure",
    "context",
    "get_logger",
    "holds_secret",
    "printable",
    "redact",
    "redact_json",
    "traceback_of",
]

_SHORTEST = 4
"""Shorter values are no secrets, and would blot out half of every line."""

_WORD, _PHRASE = 8, 16
"""From so many characters on a value is unmistakable: one with a digit or a sign in it, and one of letters alone."""

_PASSING = 32
"""How many tokens fetched on the way are remembered: they expire, and the daemon may run for years."""

_DEEPEST = 8
"""What is nested deeper is shown as text."""

_TALKATIVE = ("alembic", "apscheduler", "httpcore", "httpx")
"""Libraries that tell of every step they take; only their warnings are let through."""

_FIRST = ("timestamp", "level", "event", "logger")

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
"""Characters that would steer a terminal, shown instead of obeyed."""


class _Concealed:
    """The secrets known so far, in every form they may be written in."""

    def __init__(self) -> None:
        self._lasting: dict[str, set[str]] = {}
        self._passing: dict[str, set[str]] = {}
        self._pattern: re.Pattern[str] | None = None
        self._unmistakable: tuple[str, ...] = ()
        self._unmistakable_pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str], *, passing: bool = False) -> None:
        before = self._lasting.keys() | self._passing.keys()
        for secret in {part for value in values for part in _parts(value) if len(part) >= _SHORTEST}:
            if not passing:
                self._lasting.setdefault(secret, _forms(secret))
            elif secret not in self._lasting:
                self._passing[secret] = self._passing.pop(secret, set()) or _forms(secret)  # the latest used comes last
        while len(self._passing) > _PASSING:
            del self._passing[next(iter(self._passing))]
        forms = self._lasting | self._passing
        if forms.keys() != before:
            sure = (each for secret, each in forms.items() if _is_unmistakable(secret))
            self._unmistakable = _longest_first(form for each in sure for form in each)
            self._unmistakable_pattern = _pattern(self._unmistakable)
            self._pattern = _pattern(_longest_first(form for each in forms.values() for form in each))

    def redact(self, text: str) -> str:
        return self._pattern.sub("***", text) if self._pattern else text

    def stand_in(self, text: str) -> bool:
        # The pattern is several times slower on long texts, and so is `any` on short ones.
        for form in self._unmistakable:  # noqa: SIM110
            if form in text:
                return True
        return False

    def redact_content(self, text: str) -> str:
        return self._unmistakable_pattern.sub("***", text) if self._unmistakable_pattern else text


_concealed = _Concealed()


def conceal(values: Iterable[str], *, passing: bool = False) -> None:
    """Never show these values again. Those under 4 characters are left as they are.

    Of those that are only passing, such as tokens that expire, the 32 used last are remembered.
    """
    _concealed.add(values, passing=passing)


def redact(text: str) -> str:
    """The text with `***` for every secret in it: plain, quoted, escaped, URL-encoded or inside base64."""
    return _concealed.redact(text)


def holds_secret(text: str) -> bool:
    """Whether a secret stands in what somebody else wrote, in any form, and not by chance.

    By chance stand there those of fewer than 8 characters, and words of letters alone below 16.
    """
    return _concealed.stand_in(text)


def redact_json(value: Any) -> Any:
    """The JSON value with `***` for every secret that `holds_secret` sees in its texts, numbers and names."""
    match value:
        case str():
            return _concealed.redact_content(value)
        case dict():
            return {_concealed.redact_content(key): redact_json(each) for key, each in value.items()}
        case list():
            return [redact_json(each) for each in value]
        case int() | float() if not isinstance(value, bool) and holds_secret(str(value)):
            return _concealed.redact_content(str(value))
        case _:
            return value


def traceback_of(error: BaseException) -> str:
    """What Python would print of an error that nobody caught, harmless on a terminal and without secrets."""
    return redact("".join(traceback.format_exception(error))).translate(_CONTROLS)


def get_logger() -> FilteringBoundLogger:
    """A logger named after the module that uses it."""
    return cast("FilteringBoundLogger", structlog.get_logger())


def printable(text: str, instead: str = "�", keep: str = "") -> str:
    """Text from outside, without what a terminal would obey instead of showing; `keep` names exceptions."""
    return "".join(sign if sign.isprintable() or sign in keep else instead for sign in text)


def configure(
    *, stream: TextIO, colours: bool | None = None, level: int | str = "INFO", secrets: Iterable[str] = ()
) -> None:
    """Write every log line from `level` on to `stream`: readable where that is a terminal, else as JSON.

    Times are UTC. `colours` None follows the NO_COLOR convention. `secrets` are concealed from now on.
    """
    conceal(secrets)
    threshold = logging.getLevelNamesMapping()[level.upper()] if isinstance(level, str) else level
    begun: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*begun, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    ended: list[Processor] = [
        ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _without_secrets,
        _renderer(stream, colours),
    ]
    handler = _Handler(stream)
    handler.setFormatter(ProcessorFormatter(foreign_pre_chain=begun, processors=ended))
    root = logging.getLogger()
    for other in root.handlers[:]:
        if isinstance(other, _Handler):
            root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(threshold)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; about one that cannot be formatted it says so in the same way, for its parts may hold secrets."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - named by the standard library
        failure = logging.LogRecord(
            record.name, logging.ERROR, "", 0, "a log line could not be formatted", (), sys.exc_info()
        )
        with contextlib.suppress(OSError, ValueError):  # the stream itself may be gone
            self.stream.write(self.format(failure) + self.terminator)


def _renderer(stream: TextIO, colours: bool | None) -> Processor:
    if not stream.isatty():
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=not os.environ.get("NO_COLOR") if colours is None else colours,
        exception_formatter=structlog.dev.plain_traceback,  # prettier ones show local variables
    )


def _without_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Before rendering: what is rendered afterwards cannot hold a secret in any quoting, and stays valid JSON."""
    return {
        key if key in _FIRST else redact(key): event[key] if key == "level" else _shown(event[key])
        for key in (*_FIRST, *event)
        if key in event
    }


def _shown(value: object, depth: int = _DEEPEST) -> object:
    match value:
        case None | bool():
            return value
        case int() | float():
            text = redact(str(value))
            return value if text == str(value) and math.isfinite(value) else text
        case Mapping() if depth:
            return {redact(str(key)): _shown(each, depth - 1) for key, each in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            return [_shown(each, depth - 1) for each in value]
        case _:
            text = repr(value) if isinstance(value, BaseException) else str(value)
            return redact(text).translate(_CONTROLS)


def _parts(value: str) -> set[str]:
    """The value with and without space around it, and the long lines of one that has several, such as a PEM key: what
    indents them takes it apart."""
    return {value, value.strip(), *(line for line in value.split("\n")[1:-1] if len(line) >= _PHRASE)}


def _is_unmistakable(secret: str) -> bool:
    return len(secret) >= (_PHRASE if secret.isalpha() else _WORD)


def _longest_first(forms: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(forms), key=len, reverse=True))


def _pattern(forms: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(re.escape, forms))) if forms else None


def _forms(secret: str) -> set[str]:
    return _written(secret) | set(_in_base64(secret))


def _written(secret: str) -> set[str]:
    """The secret plain, as Python and JSON quote it, as addresses and forms encode it; and those inside JSON."""
    raw = secret.encode(errors="surrogatepass")
    once = {
        secret,
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        repr(raw)[2:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(raw, safe=""),
        quote(raw),
        quote(raw, safe="!$&'()*+,;=:/?@[]"),
        quote_plus(raw),
    }
    return once | {json.dumps(form)[1:-1] for form in once}


def _in_base64(secret: str) -> Iterator[str]:
    """What the secret looks like somewhere within base64 (basic auth: after a user name), at each of 3 alignments."""
    raw = secret.encode(errors="surrogatepass")
    for before in range(3):
        whole = b64encode(bytes(before) + raw).decode().rstrip("=")
        shared_ahead, shared_behind = (0, 2, 3)[before], bool((before + len(raw)) % 3)
        own = whole[shared_ahead : len(whole) - shared_behind]
        if len(own) >= _SHORTEST:
            yield own
            yield own.translate(str.maketrans("+/", "-_"))
