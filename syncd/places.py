"""What an operator gave, each value with the place it was written: a line of a file, a variable of the environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead to a value, from the top."""


@dataclass(frozen=True, slots=True)
class Place:
    """`config.yaml:12`, or the name of a variable, which has no line."""

    name: str
    line: int | None = None

    def __str__(self) -> str:
        return self.name if self.line is None else f"{self.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Given:
    """Values of one origin or of several laid over each other. `top` stands in where nothing nearer is known."""

    values: dict[str, Any]
    top: Place
    places: dict[Path, Place] = field(default_factory=dict)

    def holds(self, path: Path) -> bool:
        """Whether something stands there."""
        value: Any = self.values
        for step in path:
            match value:
                case dict() if step in value:
                    value = value[step]
                case list() if isinstance(step, int) and 0 <= step < len(value):
                    value = value[step]
                case _:
                    return False
        return True

    def place(self, path: Path) -> Place:
        """Where that value was written, or what it would have belonged to."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.top)

    def over(self, below: Given) -> Given:
        """These values laid over others, key by key; a list or a text replaces the whole of what it covers.

        Two spellings of one setting (see `rivals`) replace each other as well.
        """
        places = dict(below.places)
        values = _laid_over(self.values, below.values, (), places)
        return Given(values, below.top, self.places | places)


def rivals(key: str) -> tuple[str, ...]:
    """The other ways to give a setting: a secret or the file that holds it, an interval or a cron expression."""
    match key:
        case "every":
            return ("cron",)
        case "cron":
            return ("every",)
        case _:
            return (key.removesuffix("_file"),) if key.endswith("_file") else (f"{key}_file",)


def _laid_over(above: dict[str, Any], below: dict[str, Any], path: Path, places: dict[Path, Place]) -> dict[str, Any]:
    values = dict(below)
    for key, value in above.items():
        both_mappings = isinstance(value, dict) and isinstance(below.get(key), dict)
        for covered in rivals(key) if both_mappings else (key, *rivals(key)):
            values.pop(covered, None)
            _forget(places, (*path, covered))
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            value = _laid_over(value, values[key], (*path, key), places)
        values[key] = value
    return values


def _forget(places: dict[Path, Place], path: Path) -> None:
    for known in [known for known in places if known[: len(path)] == path]:
        del places[known]


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every path in a tree of mappings and lists, a parent before its children."""
    yield path
    match value:
        case dict():
            for key, child in value.items():
                yield from paths(child, (*path, key))
        case list():
            for index, child in enumerate(value):
                yield from paths(child, (*path, index))
