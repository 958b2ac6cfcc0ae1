"""Settings worked out for each record: a text that holds `{{ }}` is a Jinja template over `record`, any other the same
for all.

Bounded whatever a record holds: no loop stands in a loop, none runs more than `templates.LONGEST` times over a range,
and what is rendered is `templates.LONGEST_TEXT` characters at most.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

import jinja2
from jinja2 import meta, nodes
from pydantic import AfterValidator

from syncd.errors import RecordError
from syncd.records import Json, Record
from syncd.templates import LONGEST, LONGEST_TEXT, Sandbox

MOST_WRITTEN = 10_000
"""A template of more characters is refused."""

KNOWN = ("id", "kind", "title", "text", "occurred_at", "url", "context", "people", "organisation", "attributes")
"""What a template may ask of a record."""

_KNOWN_OF_ORGANISATION = ("name", "domain", "id")
_GROWING = (nodes.Macro, nodes.CallBlock, nodes.AssignBlock, nodes.FilterBlock)
"""What builds texts out of sight."""


class View:
    """Some values in a template. It has nothing but them, so that `record.attributes.items` is the one of that name."""

    __slots__ = ("__values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__values = values

    def __getitem__(self, name: str) -> Any:
        return _seen(self.__values[name])

    def __contains__(self, name: object) -> bool:
        return name in self.__values

    def __iter__(self) -> Iterator[str]:
        return iter(self.__values)

    def __len__(self) -> int:
        return len(self.__values)

    def __bool__(self) -> bool:
        return any(value not in (None, "") for value in self.__values.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self.__values == other.__values

    __hash__ = None  # type: ignore[assignment]  # it may hold lists

    def __str__(self) -> str:
        return json.dumps(self.__values, ensure_ascii=False, default=_plain)


def _seen(value: Any) -> Any:
    """A value as a template may have it: mappings hold nothing but their keys, and nothing can be changed."""
    match value:
        case Mapping():
            return View(value)
        case list() | tuple():
            return [_seen(each) for each in value]
        case _:
            return value


def _plain(value: object) -> object:
    """What JSON makes of what it does not know."""
    match value:
        case View():
            return {name: value[name] for name in value}
        case Mapping():
            return dict(value)
        case _:
            return str(value)


def view(record: Record) -> View:
    """`record` in a template. People and the organisation are always there; what is not known of them is None."""
    organisation = record.organisation
    return View(
        {
            "id": record.id,
            "kind": record.kind,
            "title": record.title,
            "text": record.text,
            "occurred_at": record.occurred_at,
            "url": record.url,
            "context": record.context,
            "people": [{"name": each.name, "email": each.email, "role": each.role} for each in record.people],
            "organisation": {name: getattr(organisation, name, None) for name in _KNOWN_OF_ORGANISATION},
            "attributes": record.attributes,
        }
    )


def _blank(value: Any) -> Any:
    return "" if value is None else value


def _range(*arguments: int) -> range:
    numbers = range(*arguments)
    if len(numbers) > LONGEST:
        raise OverflowError(f"a range of more than {LONGEST}")
    return numbers


class _Unknown(jinja2.StrictUndefined):
    """A name that the values do not have: said with those they have."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        if isinstance(self._undefined_obj, View):
            names = ", ".join(map(str, self._undefined_obj)) or "nothing"
            return f"there is no {self._undefined_name!r}, but {names}"
        return super()._undefined_message


def _environment() -> Sandbox:
    environment = Sandbox()
    environment.undefined = _Unknown
    environment.finalize = _blank  # what a source does not know is empty, not «None»
    environment.globals["range"] = _range
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": _plain}
    return environment


_JINJA = _environment()

Evaluate: TypeAlias = Callable[[View], Any]


@functools.lru_cache(maxsize=1024)
def template(source: str) -> Callable[[View], str]:
    """A setting that gives text, without space around it; worked out, it raises `RecordError`.

    Raises `ValueError` when it is not Jinja, or knows anything but `record`.
    """
    if not holds_jinja(source):
        constant = source.strip()
        return lambda record: constant  # noqa: ARG005 - the same for all
    _analyse(source)
    generate = _JINJA.from_string(source).generate

    def rendered(record: View) -> str:
        parts, length = [], 0
        for part in generate(record=record):
            length += len(part)
            if length > LONGEST_TEXT:
                raise OverflowError(f"its value would be longer than {LONGEST_TEXT}")
            parts.append(part)
        return "".join(parts).strip()

    return _guarded(rendered)


@functools.lru_cache(maxsize=1024)
def condition(source: str) -> Callable[[View], bool]:
    """A setting that gives yes or no: an expression alone, without `{{ }}`. Raises as `template` does."""
    if holds_jinja(source):
        raise ValueError("write the expression alone, without {{ }}, for example: record.kind == 'review'")
    _analyse("{{ (" + source + "\n) }}")
    evaluate = _JINJA.compile_expression(source, undefined_to_none=False)
    return _guarded(lambda record: bool(evaluate(record=record)))


def worked_out(setting: str, evaluate: Callable[[View], Any], record: View) -> Any:
    """The value of a setting for a record. Raises `RecordError`, which names the setting."""
    try:
        return evaluate(record)
    except RecordError as error:
        raise RecordError(f"{setting}: {error}") from error


def holds_jinja(source: str) -> bool:
    """Whether a setting has to be worked out."""
    return "{{" in source or "{%" in source


def _guarded(evaluate: Evaluate) -> Evaluate:
    def guarded(record: View) -> Any:
        try:
            return evaluate(record)
        except Exception as error:
            raise RecordError(str(error) or type(error).__name__) from error

    return guarded


def _is_template(source: str) -> str:
    template(source)
    return source


def _is_condition(source: str) -> str:
    condition(source)
    return source


Template = Annotated[str, AfterValidator(_is_template)]
"""A setting for `template`, refused with the configuration when it cannot be compiled."""

Condition = Annotated[str, AfterValidator(_is_condition)]
"""A setting for `condition`, refused with the configuration when it cannot be compiled."""


def _analyse(source: str) -> None:
    if len(source) > MOST_WRITTEN:
        raise ValueError(f"it is longer than {MOST_WRITTEN} characters")
    try:
        tree = _JINJA.parse(source)
        _JINJA.from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"it is not a Jinja template: {error.message}{_at(source, error.lineno)}") from error
    except (jinja2.TemplateError, RecursionError) as error:
        raise ValueError(f"it is not a Jinja template: {error}") from error
    for built in tree.find_all(_GROWING):
        what = "it may not define macros or blocks; a setting is about one record"
        raise ValueError(f"{what}{_at(source, built.lineno)}")
    for loop in tree.find_all(nodes.For):
        if loop.recursive or loop.find(nodes.For):
            raise ValueError(f"a loop may not stand in another one{_at(source, loop.lineno)}")
    if unknown := sorted(meta.find_undeclared_variables(tree) - _JINJA.globals.keys() - {"record"}):
        raise ValueError(f"it knows `record` and nothing else, not `{unknown[0]}`{_whereabouts(tree, source, unknown)}")
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        owner, known, name = _asked(node)
        if name is not None and name not in known:
            raise ValueError(f"{owner} has no {name!r}, but {', '.join(known)}{_at(source, node.lineno)}")


def _asked(node: nodes.Node) -> tuple[str, Sequence[str], str | None]:
    """Of what, that always has the same names, a name is asked; the name is None where it is not known before."""
    match node:
        case nodes.Getattr(node=inner, attr=str(name)) | nodes.Getitem(node=inner, arg=nodes.Const(value=str(name))):
            match inner:
                case nodes.Name(name="record"):
                    return "record", KNOWN, name
                case nodes.Getattr(node=nodes.Name(name="record"), attr="organisation"):
                    return "record.organisation", _KNOWN_OF_ORGANISATION, name
    return "", (), None


def _whereabouts(tree: nodes.Template, source: str, names: Sequence[str]) -> str:
    found = next((node for node in tree.find_all(nodes.Name) if node.name == names[0]), None)
    return _at(source, found.lineno) if found else ""


def _at(source: str, line: int) -> str:
    """The line of a template that has several."""
    return f" (line {line} of it)" if "\n" in source.strip() else ""


def leaves(value: Json, setting: str) -> Iterator[tuple[str, str]]:
    """Every text of a nested setting, with its place in it."""
    match value:
        case str():
            yield setting, value
        case Mapping():
            for name, inner in value.items():
                yield from leaves(inner, f"{setting}.{name}")
        case list() | tuple():
            for number, inner in enumerate(value):
                yield from leaves(inner, f"{setting}.{number}")
