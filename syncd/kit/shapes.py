"""A vendor's answers, hostile until they are parsed.

An answer is read into a `Shape`; its items one by one, so that a bad one is set aside with its id and the reason, and
the page goes on. What no item of a page has any more is no bad record but a changed API: reading stops there.

A field without a default has to be in the answer, though it may be null where its type says so.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import httpx
from pydantic import BaseModel, BeforeValidator, ConfigDict, RootModel, ValidationError
from pydantic.alias_generators import to_camel

from syncd.connector import Json, Record, RecordError, SetAside, ShapeChanged, UnreadableDate, instant


class Shape(BaseModel):
    """A piece of a vendor's answer: only the fields we use. Numbers are taken for texts where a text is wanted."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True, populate_by_name=True)


class CamelShape(Shape):
    """The same, from a vendor that writes `createdAt`."""

    model_config = ConfigDict(alias_generator=to_camel)


class Item(RootModel[dict[str, Any]]):
    """The answer to a call for one item, whose `root` is for `Tray.read`: a bad one stops nothing but itself."""


def _instant(value: object) -> object:
    match value:
        case str() | int() | float() if not isinstance(value, bool):
            try:
                return instant(str(value))
            except UnreadableDate as error:
                raise ValueError(str(error)) from error
        case _:
            return value


def _filled(value: object) -> object:
    if value is None:
        return ()
    return [each for each in value if each is not None] if isinstance(value, list) else value


def _words(value: object) -> object:
    return "" if value is None else value


Instant = Annotated[datetime, BeforeValidator(_instant)]
"""A time in UTC, from ISO 8601 or a Unix time in seconds or milliseconds; without a zone it is UTC."""

Words = Annotated[str, BeforeValidator(_words)]
"""A text; null is a blank one."""

_DEEPEST = 150
_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
"""Those of JSON, and its strings, in which a bracket is none."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound=BaseModel)

Many = Annotated[tuple[T, ...], BeforeValidator(_filled)]
"""A list; null is an empty one, and null items are left out."""

Items = Annotated[tuple[Any, ...], BeforeValidator(_filled)]
"""A list whose items are read one by one (`Tray.read`)."""


def read(answer: httpx.Response, shape: type[S]) -> S:
    """The whole of an answer. Raises `ShapeChanged`, naming the field, when it is not what the vendor documents."""
    content = _whole(answer.content)
    try:
        try:
            return shape.model_validate_json(content)
        except ValidationError as error:
            if "recursion limit" not in str(error):
                raise
            return shape.model_validate_json(_shallow(content))
    except ValidationError as error:
        url = answer.request.url.copy_with(query=None)
        raise ShapeChanged(
            f"{url} answered in a shape that is not known: {_first(error)}. The checkpoint stays where it was; the "
            "connector has to learn the new shape"
        ) from error


def _whole(content: bytes) -> bytes:
    """JSON without halves of characters: a vendor that cuts a text off inside an emoji leaves one, and the parser would
    refuse the whole answer for it."""
    if b"\\ud" not in content.lower():
        return content
    try:
        return json.dumps(json.loads(content), ensure_ascii=False).encode(errors="replace")
    except (ValueError, RecursionError):
        return content


def _shallow(content: bytes) -> bytes:
    """JSON with null for what is nested deeper than the parser goes: somebody wrote a list in a list in a list, and the
    whole answer would be refused for it."""
    kept: list[bytes] = []
    depth = start = 0
    for mark in _BRACKETS.finditer(content):
        if mark[0] in (b"[", b"{"):
            depth += 1
            if depth == _DEEPEST + 1:
                kept += content[start : mark.start()], b"null"
        elif mark[0] in (b"]", b"}"):
            if depth == _DEEPEST + 1:
                start = mark.end()
            depth -= 1
    return b"".join([*kept, content[start:]])


def readable(items: Iterable[Any], shape: type[S]) -> list[S]:
    """Those of some side information (people, companies) that have a shape: no record is given up for the others."""
    good: list[S] = []
    for item in items:
        with suppress(ValidationError):
            good.append(shape.model_validate(item))
    return good


@dataclass(slots=True)
class Tray:
    """The items of one page: those that could be read, and those set aside. `what` is the word for one of them."""

    what: str
    aside: list[SetAside] = field(default_factory=list)

    def read(self, items: Sequence[Any], shape: type[S], key: str = "id") -> list[S]:
        """The items that have that shape; the others are set aside. `key` leads to an item's id (`metaData.id`).

        Raises `ShapeChanged` when a field is missing in every one.
        """
        good: list[S] = []
        missing: Counter[str] = Counter()
        for number, item in enumerate(items, start=1):
            try:
                good.append(shape.model_validate(item))
            except ValidationError as error:
                self.put_aside(_found(item, key) or f"number {number} of its page", _first(error))
                missing.update({_place(each["loc"]) for each in error.errors() if each["type"] == "missing"})
        gone = sorted(name for name, times in missing.items() if times == len(items))
        if gone:
            raise ShapeChanged(
                f"the field {gone[0]} is missing in every {self.what} of a page, so the API has changed. That page was "
                "not taken in, and the checkpoint stays before it; the connector has to learn the new shape"
            )
        return good

    def records(self, items: Iterable[T], record: Callable[[T], Record]) -> list[Record]:
        """A record of each item; of those that cannot become one (`RecordError`), the reason is kept."""
        return [made for item in items if (made := self.record(record, item)) is not None]

    def record(
        self, record: Callable[Concatenate[T, P], Record], item: T, *more: P.args, **named: P.kwargs
    ) -> Record | None:
        """The record of one item, which `record` is called with first; None after setting it aside."""
        try:
            made = record(item, *more, **named)
        except RecordError as error:
            self.put_aside(str(getattr(item, "id", "without id")), str(error))
            return None
        return replace(made, place=made.place or self.place(made.id))

    def put_aside(self, id_: str, reason: str) -> None:
        """Keep the reason why an item is no record."""
        self.aside.append(SetAside(self.place(id_), reason))

    def place(self, id_: str) -> str:
        """Where a person finds an item."""
        return f"{self.what} {id_}"


def present(**values: Json) -> dict[str, Json]:
    """Those of the values that say something, for a record's attributes."""
    return {name: value for name, value in values.items() if value not in (None, "", (), [], {})}


def _first(error: ValidationError) -> str:
    """What is wrong, with the field's place."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = _place(first["loc"])
    if first["type"] == "missing":
        return f"the field {place} is missing"
    what = first["msg"].removeprefix("Value error, ")
    return f"the field {place}: {what}" if place else what


def _place(loc: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in loc)


def _found(item: object, key: str) -> str | None:
    """What stands at a path of names in an item that may be anything."""
    for name in key.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return str(item)[:200] if isinstance(item, str | int) and str(item).strip() else None
