"""What connector types there are, and what settings each has: read off the classes themselves."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import UnionType
from typing import Any, Literal

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from syncd import registry
from syncd.connector import Connector
from syncd.errors import ConfigError
from syncd.fields import duration_text, secret_fields


def types() -> list[tuple[str, str]]:
    """Each type and, in a line, what it reads."""
    rows = []
    for name in registry.types():
        try:
            words = _first_line(registry.connector_class(name))
        except ConfigError as error:
            words = str(error)
        rows.append((name, words))
    return rows


def settings(name: str) -> tuple[str, list[tuple[str, str, str, str]]]:
    """What a type reads, and its settings: name, form, default, meaning. Raises `ConfigError` for an unknown type."""
    connector = registry.connector_class(name)
    secrets = set(secret_fields(connector))
    rows = [
        (field, form(info.annotation), _default(info), _meaning(info, field if field in secrets else None))
        for field, info in connector.model_fields.items()
    ]
    return f"{name}: {_first_line(connector)}", rows


def _first_line(connector: type[Connector]) -> str:
    words = inspect.getdoc(connector) or inspect.getdoc(inspect.getmodule(connector)) or "-"
    return words.splitlines()[0].rstrip(".")


def form(annotation: Any) -> str:
    """What is written for a setting of that type: `text`, `duration`, `eu | us`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, UnionType):
        return " or ".join(form(part) for part in typing.get_args(annotation) if part is not type(None))
    if origin is Literal:
        return " | ".join(str(value) for value in typing.get_args(annotation))
    if origin is typing.Annotated:
        return form(typing.get_args(annotation)[0])
    if origin in (list, tuple, set, frozenset, Sequence):
        return "list"
    if origin in (dict, Mapping):
        return "mapping"
    simple = {str: "text", int: "number", float: "number", bool: "true | false", timedelta: "duration"}
    simple[SecretStr] = "secret"
    return simple.get(annotation, "value" if annotation is Any else getattr(annotation, "__name__", "value").lower())


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    return written(info.get_default(call_default_factory=True, validated_data={}))


def written(value: object) -> str:
    """A value as it is written in the configuration; a dash for none."""
    match value:
        case None | str() | list() | tuple() | set() | frozenset() | Mapping() if not value:
            return "-"
        case timedelta():
            return duration_text(value)
        case bool():
            return str(value).lower()
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(str, value))
        case BaseModel():
            return f"{{{', '.join(f'{name}: {written(each)}' for name, each in value)}}}"
        case _:
            return str(value)


def _meaning(info: FieldInfo, secret: str | None) -> str:
    words = info.description or ""
    return f"{words} Or {secret}_file: a file to read it from.".strip() if secret else words
