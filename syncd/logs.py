"""Logging, set up once: JSON lines for machines, readable ones on a terminal, and no secret in either.

What the rest of the house takes from here: `log = get_logger()`, `log.info("what happened", key=value)`, and
`with context(run=..., connector=...)` round all that belongs together. What libraries log comes out the same way.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import sys
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO, cast
from urllib.parse import quote, quote_plus

import structlog
from structlog.contextvars import bound_contextvars as context
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, FilteringBoundLogger, Processor

__all__ = ["conceal", "configure", "context", "get_logger", "printable", "redact"]

_SHORTEST = 4
"""Shorter values are no secrets, and would blot out half of every line."""

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
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, values: Iterable[str]) -> None:
        for secret in {form for value in values for form in (value, value.strip())}:
            if len(secret) >= _SHORTEST:
                self._forms.update(_written(secret), _in_base64(secret))
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def redact(self, text: str) -> str:
        return self._pattern.sub("***", text) if self._pattern else text


_concealed = _Concealed()


def conceal(values: Iterable[str]) -> None:
    """Never show these values again. Those under 4 characters are left as they are."""
    _concealed.add(values)


def redact(text: str) -> str:
    """The text with `***` for every secret in it: plain, quoted, escaped, URL-encoded or inside base64."""
    return _concealed.redact(text)


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
