"""A YAML file read into plain values, each with its line; `${NAME}` is filled in from the environment.

YAML 1.2's core schema: `no` and `on` are words, `true` and `false` are not, `10:30` and `2026-01-31` are text. Anchors,
aliases and merge keys (`<<`) work; repeated keys, cycles, unknown tags and documents that unfold without end do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from syncd.errors import ConfigError
from syncd.mistakes import Mistake, shown
from syncd.places import Given, Path, Place, rivals

_MOST_BYTES = 1_000_000
_MOST_VALUES = 20_000
_DEEPEST = 50

_TAG = "tag:yaml.org,2002:"
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[^}]*)(?P<end>\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class _Loader(yaml.SafeLoader):
    """Composes nodes, tagged by the core schema; nothing is ever constructed by it."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _firsts = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(rf"(?:{_pattern})\Z"), _firsts)


@dataclass(slots=True)
class Reading:
    """What came of it: the values, the mistakes in them, and the values that the environment filled in.

    `blank` are the keys at the top with nothing after their colon.
    """

    given: Given
    mistakes: list[Mistake] = field(default_factory=list)
    filled_in: set[str] = field(default_factory=set)
    blank: set[str] = field(default_factory=set)


def read(path: FilePath, environ: Mapping[str, str]) -> Reading:
    """Read a file whose top is a mapping; an empty one is an empty mapping.

    Raises `ConfigError` when it is not there, or not YAML. Mistakes within it are gathered, not raised: one that a
    variable of the environment covers does not matter.
    """
    node = _compose(path)
    unfolding = _Unfolding(str(path), environ)
    values: Any = unfolding.value(node, ()) if node is not None else {}
    if values is None:
        values = {}
    reading = unfolding.reading
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: the file must be a mapping of settings (lines of key: value)")
    reading.given.values.update(values)
    return reading


def _compose(path: FilePath) -> yaml.Node | None:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such file; `syncd init` writes one to start from, --config names another"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path}: is larger than a megabyte, which no configuration is")
    try:
        return yaml.compose(content.decode("utf-8-sig"), _Loader)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8; save it in that encoding") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{path}:{_not_yaml(error, content)}") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{path}: holds a character that YAML does not allow (#x{error.character:04x})") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None


def _not_yaml(error: yaml.MarkedYAMLError, content: bytes) -> str:
    """Line, column and what is wrong there; words of the file itself are left out, for they may be secret."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return " is not YAML"
    words = ", ".join(part for part in (error.context, error.problem) if part)
    words = re.sub(r"(alias|anchor|tag handle) '[^']*'", r"\1 '...'", words)
    if any(b"${" in line for line in content.splitlines()[mark.line : mark.line + 1]):
        words += '; inside { } or [ ] put "${NAME}" in quotes'
    return f"{mark.line + 1}:{mark.column + 1}: is not YAML: {words}"


class _Unfolding:
    """The walk from nodes to values, in the order of the file."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.environ = environ
        self.reading = Reading(Given({}, Place(file)))
        self.left = _MOST_VALUES

    def value(self, node: yaml.Node, path: Path) -> Any:
        """The value of a node; None where there is a mistake in it."""
        self.spend(node, 1, len(path))
        self.reading.given.places.setdefault(path, Place(self.file, _line(node)))
        match node:
            case yaml.MappingNode():
                return self.mapping(node, path)
            case yaml.SequenceNode():
                return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
            case _:
                return self.scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        first: dict[str, int] = {}
        values: dict[str, Any] = {}
        for key, child, own in self.pairs(node, path, 0):
            name = str(key.value)
            if own and name in first:
                self.mistake(key, (*path, name), f"given twice, first on line {first[name]}; keep one")
            elif name not in values and (own or first.keys().isdisjoint(rivals(name))):
                self.reading.given.places[(*path, name)] = Place(self.file, _line(key))
                values[name] = self.value(child, (*path, name))
                if not path and isinstance(child, yaml.ScalarNode) and child.value == "" and not child.style:
                    self.reading.blank.add(name)
            if own:
                first.setdefault(name, _line(key))
        return values

    def pairs(self, node: yaml.MappingNode, path: Path, depth: int) -> list[tuple[yaml.ScalarNode, yaml.Node, bool]]:
        """The mapping's own keys, then those that `<<` merges into it: whichever comes first counts."""
        self.spend(node, len(node.value), depth)
        own: list[tuple[yaml.ScalarNode, yaml.Node, bool]] = []
        merged: list[tuple[yaml.ScalarNode, yaml.Node, bool]] = []
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.mistake(key, path, "a key must be plain text")
            elif key.tag != f"{_TAG}merge":
                own.append((key, child, True))
            else:
                for source in child.value if isinstance(child, yaml.SequenceNode) else [child]:
                    if isinstance(source, yaml.MappingNode):
                        merged += [(k, value, False) for k, value, _ in self.pairs(source, path, depth + 1)]
                    else:
                        self.mistake(key, path, "<< merges a mapping; write <<: *name, or <<: [*one, *other]")
        return own + merged

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        try:
            match node.tag.removeprefix(_TAG):
                case "str" | "merge":
                    return self.filled_in(node, text, path)
                case "null":
                    return None
                case "bool":
                    return text.lower() == "true"
                case "int":
                    return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
                case "float":
                    return float(text)
        except ValueError:
            self.mistake(node, path, "is not a number that can be read")
            return None
        self.mistake(node, path, "starts with a tag (an exclamation mark); put the value in quotes, or remove the tag")
        return None

    def filled_in(self, node: yaml.Node, text: str, path: Path) -> str:
        """The text with `${NAME}` replaced; what comes from the environment is data and is not looked at again."""

        def value(found: re.Match[str]) -> str:
            if found["name"] is None:
                return "${"
            name = found["name"]
            if not found["end"] or not _NAME.fullmatch(name):
                self.mistake(node, path, "${...} must hold the name of a variable; write $${ for a plain ${")
            elif name not in self.environ:
                self.mistake(
                    node,
                    path,
                    f"the environment has no variable {shown(name)}; set it (export {shown(name)}=...), "
                    "or write the value here",
                )
            else:
                self.reading.filled_in.add(self.environ[name])
                return self.environ[name]
            return ""

        return _VARIABLE.sub(value, text)

    def spend(self, node: yaml.Node, values: int, depth: int) -> None:
        """Hold the walk within bounds: a few aliases of aliases can stand for billions of values, or for a circle."""
        self.left -= values
        if self.left < 0 or depth > _DEEPEST:
            raise ConfigError(
                f"{self.file}:{_line(node)}: unfolds to more than a configuration can be "
                f"({_MOST_VALUES} values, {_DEEPEST} levels); use fewer aliases"
            )

    def mistake(self, node: yaml.Node, path: Path, text: str) -> None:
        self.reading.mistakes.append(Mistake(Place(self.file, _line(node)), path, text))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
