"""Jinja for settings: it reaches nothing of Python's inside, and a slip of the pen cannot use up the memory."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 10_000
"""To so many characters, items or digits a template may blow up what it was given."""

LONGEST_TEXT = 5_000_000
"""To so many characters it may blow up a text by putting another into it, and so long may be what it gives."""

_PADDING_METHODS = ("center", "expandtabs", "ljust", "rjust", "to_bytes", "zfill")
_PADDING_FILTERS = {"batch": 1, "center": 1, "indent": 1, "round": 1, "slice": 1, "tojson": 2}
"""What makes a value as long as a number says; of the filters, with the place of the first argument that may say so."""

_NUMBER = re.compile(r"\d+")
_WIDTH_ELSEWHERE = re.compile(r"%[^%a-zA-Z]*\*|:[^{}]*\{")
"""In a format string: a width that stands among the arguments."""


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment that settings are compiled in: the drop folder's over a row, everybody's over a record."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False)
        for name in ("cycler", "joiner", "lipsum", "namespace"):  # they make texts, or carry them from turn to turn
            del self.globals[name]
        for name in ("random", "wordwrap", "xmlattr"):  # chance would make another record of the same one
            del self.filters[name]
        for name, first in _PADDING_FILTERS.items():
            self.filters[name] = _bounded(self.filters[name], first)
        self.filters["format"] = _format
        for name in _MULTIPLYING:
            self.filters[name] = _multiplying(self.filters[name], name)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Work out `left operator right`, if the result is not too long."""
        match operator, left, right:
            case "*", (str() | bytes() | list() | tuple()), int():
                _limit(len(left) * right)
            case "*", int(), (str() | bytes() | list() | tuple()):
                _limit(len(right) * left)
            case "**", int(), int():
                _limit(left.bit_length() * right)
            case "%", str(), _:
                _limit_widths(left)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, /, *args: Any, **options: Any) -> Any:
        """Call a method, if it does not make its value too long."""
        if getattr(function, "__name__", None) in _PADDING_METHODS:
            _limit(*_numbers(*args, *options.values()))
        match getattr(function, "__name__", None), getattr(function, "__self__", None), args:
            case ("replace" | "join") as name, str(text), (str(), *_) | (_,):
                _limit_product(name, *((text, *args) if name == "replace" else (args[0], text)))
            case "strftime", _, (str(written), *_):
                _limit_widths(written)
        return super().call(context, function, *args, **options)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format`, with the same limits."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _limit_widths(value.__self__)
        return wrapped


def _bounded(filter: Callable[..., Any], first: int) -> Callable[..., Any]:  # noqa: A002 - Jinja's own word for it
    @functools.wraps(filter)
    def bounded(*args: Any, **options: Any) -> Any:
        _limit(*_numbers(*args[first:], *options.values()))
        return filter(*args, **options)

    return bounded


_MULTIPLYING = ("indent", "join", "replace")
"""The filters that put one text into another any number of times."""


def _multiplying(filter: Callable[..., Any], name: str) -> Callable[..., Any]:  # noqa: A002 - as above
    @functools.wraps(filter)
    def bounded(*args: Any, **options: Any) -> Any:
        first = 1 if getattr(filter, "jinja_pass_arg", None) else 0
        value, *rest = args[first:]
        if name == "join" and not isinstance(value, str | list | tuple):
            value = list(value)
            args = (*args[:first], value, *rest)
        _limit_product(name, value, *rest, *options.values())
        return filter(*args, **options)

    return bounded


def _limit_product(name: str, value: Any, *others: Any) -> None:
    """Refuse what would be too long when it is put together."""
    texts = [text for text in others if isinstance(text, str)]
    match name, texts:
        case "replace", [old, new, *_]:
            times, each = str(value).count(old), len(new)
        case "join", [between, *_]:
            times, each = len(value), len(between)
        case "indent", [before, *_]:
            times, each = str(value).count("\n") + 1, len(before)
        case _:
            return
    if times * each > LONGEST_TEXT:
        raise SecurityError(f"its value would be longer than {LONGEST_TEXT}")


def _format(value: object, *args: Any, **options: Any) -> str:
    """Jinja's `format`, with the same limits."""
    _limit_widths(str(value))
    return str(value) % (options or args)


def _limit_widths(written: str) -> None:
    if _WIDTH_ELSEWHERE.search(written):
        raise SecurityError("a width has to be written into the format itself")
    _limit(*(int(number[:9]) for number in _NUMBER.findall(written)))


def _numbers(*values: object) -> Iterator[int]:
    return (value for value in values if isinstance(value, int))


def _limit(*lengths: int) -> None:
    if any(length > LONGEST for length in lengths):
        raise SecurityError(f"its value would be longer than {LONGEST}")
