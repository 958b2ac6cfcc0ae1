"""What is wrong with a configuration, in plain words: where, which key, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

from syncd.fields import secret_fields
from syncd.logs import printable
from syncd.places import Path, Place


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to mend. `str()` of it is the line the operator reads."""

    place: Place
    path: Path
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), dotted(self.path), self.text) if part)


def dotted(path: Path) -> str:
    """`connectors.support.teams[2]`. A colon in a key is a blank forgotten after it: what follows may be a secret."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{shown(step.partition(':')[0])}"
    return text.removeprefix(".")


def shown(text: str) -> str:
    """A name from a hostile file, fit to print on one line."""
    return printable(text[:60], "?")


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean api_token?`, or the names there are."""
    names = sorted(set(known))
    if close := get_close_matches(name.partition(":")[0], names, n=1):
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(names)}" if names else "there is none at all"


def known_names(model: type[BaseModel]) -> list[str]:
    """The settings of a model as an operator may write them, the `*_file` twins of its secrets included."""
    return [*model.model_fields, *(f"{name}_file" for name in secret_fields(model))]


def takes_text(annotation: Any) -> bool:
    """Whether a field of that type is text and nothing else."""
    return all(member in (str, SecretStr) for member in _members(annotation))


def plain(error: ErrorDetails, model: type[BaseModel], also: Iterable[str] = ()) -> str:
    """A validation error of `model` in plain words; never the value itself.

    `also` are names that belong beside the model's own.
    """
    limits = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "missing; it has to be given"
        case "extra_forbidden":
            *parents, name = error["loc"]
            owner = _model_at(model, tuple(parents))
            known = [*(known_names(owner) if owner else ()), *(() if parents else also)]
            return f"unknown setting; {nearest(str(name), known)}"
        case "value_error" | "assertion_error":
            return str(limits.get("error", ""))
        case "string_type" | "string_sub_type" | "string_unicode":
            return "must be text; if it looks like a number or true/false, put it in quotes"
        case "int_type" | "int_parsing" | "int_from_float" | "int_parsing_size":
            return "must be a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return "must be a number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "greater_than_equal":
            return f"must be {limits['ge']} or more"
        case "less_than_equal":
            return f"must be {limits['le']} or less"
        case "string_too_short" | "too_short" if limits.get("min_length") == 1:
            return "must not be empty"
        case "list_type" | "tuple_type" | "set_type" | "frozen_set_type":
            return "must be a list, like [one, two]"
        case "dict_type" | "model_type" | "model_attributes_type" | "mapping_type":
            return "must be a mapping of settings (lines of key: value)"
        case "literal_error" | "enum":
            return f"must be one of {limits['expected']}"
        case "time_delta_type" | "time_delta_parsing":
            return "must be a duration; write for example 30s, 10m, 2h or 7d"
        case _:
            words = error["msg"].removeprefix("Input should ").removeprefix("Value should ")
            return f"must {words}" if words != error["msg"] else words[:1].lower() + words[1:]


def _members(annotation: Any) -> tuple[Any, ...]:
    """A union's types one by one, without what `Annotated` adds."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for arg in get_args(annotation) for member in _members(arg) if member is not NoneType)
    return (annotation,)


def _model_at(model: type[BaseModel], path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The model that reads what stands at a path, where there is just one."""
    if not path:
        return model
    field = model.model_fields.get(str(path[0]))
    inner = [m for m in _members(field.annotation) if isinstance(m, type) and issubclass(m, BaseModel)] if field else []
    return _model_at(inner[0], path[1:]) if len(inner) == 1 else None
