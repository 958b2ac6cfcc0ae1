"""docs/configuration.md: every setting with its form, default and meaning. `python -m syncd.reference` prints it.

Names, forms and defaults are read off the settings themselves. The meanings of the house's own settings are the
comments of the commented configuration, and those of a connector's its descriptions: each is written down once.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from inspect import get_annotations
from itertools import chain
from typing import TypeAlias

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from syncd import catalogue, registry
from syncd.catalogue import form, written
from syncd.config import Config, example
from syncd.fields import secret_fields
from syncd.settings import Entry

_SETTING = re.compile(r"(?P<indent> *)#?(?P<name>[a-z][a-z0-9_]*):(?: .*)?")
_WORDS = re.compile(r" *# (?P<words>.*)")
Path: TypeAlias = tuple[str, ...]

_ENTRY: Path = ("connectors", "inbox")
"""Where the commented configuration explains what every connector understands."""

_OPENING = """\
# Configuration reference

Every setting there is. This page is made of the settings themselves, by
`python -m syncd.reference > docs/configuration.md`, and a test holds it to them.
[config.example.yaml](../config.example.yaml) is the same as a file to begin with; `syncd init` writes it.

- **The file** is `config.yaml` in the folder syncd is started in, or the one that `--config` or the variable
  `SYNCD_CONFIG` names. Every mistake in it is told at once, each with its line; a misspelt setting is one.
- **Variables** count for more than the file. They are named after the keys, with two underscores for each level:
  `SYNCD_ZENTRIK__CONCURRENCY=4`, `SYNCD_CONNECTORS__SUPPORT__EVERY=10m`. Lists and mappings in them are JSON, `null`
  turns a thing off, an empty one counts as unset. `ZENTRIK_API_KEY`, `ZENTRIK_API_KEY_FILE` and `ZENTRIK_API_BASE`
  need no prefix.
- **`${NAME}`** in the file is filled in from the environment; `$${` is a plain `${`.
- **Secrets** may each stand in a file of their own: `api_key_file: /run/secrets/zentrik` instead of `api_key`.
- **Durations** are written `30s`, `10m`, `2h`, `7d`; a bare number is seconds.
- **Times** are in UTC unless they say otherwise.
- A key at the top that begins with `x-` is passed over: a place for YAML anchors.
"""

_CONNECTORS = """\
## `connectors`

Your name for each source (a-z, 0-9, - and _), its type, and its settings. These are understood by every connector:
"""

_TYPES = """\
## Connector types

Besides those above, each type has settings of its own. `syncd connectors TYPE` prints the same.
"""


def page() -> str:
    """The whole page, in Markdown."""
    told = dict(_explained(example()))
    parts = chain(
        [_OPENING],
        _section((), Config(), told),
        [_CONNECTORS, _table(_rows(_ENTRY, Entry(type="csv"), told))],
        [_TYPES],
        map(_type, registry.types()),
    )
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _section(path: Path, settings: BaseModel, told: dict[Path, str]) -> Iterator[str]:
    """A group of settings, and the groups within it, each under a heading."""
    yield f"## `{'.'.join(path)}`\n\n{told[path]}" if path else "## At the top"
    groups = {name: value for name, value in settings if _is_group((*path, name), value, told)}
    yield _table(_rows(path, settings, told, leave_out={*groups, "connectors"}))
    for name, value in groups.items():
        yield from _section((*path, name), value, told)


def _is_group(path: Path, value: object, told: dict[Path, str]) -> bool:
    return isinstance(value, BaseModel) and any(other[:-1] == path for other in told)


def _rows(
    path: Path, settings: BaseModel, told: dict[Path, str], leave_out: Container[str] = ()
) -> Iterator[tuple[str, str, str, str]]:
    own = get_annotations(type(settings))
    fields = sorted(type(settings).model_fields.items(), key=lambda field: field[0] not in own)
    secrets = secret_fields(type(settings))
    for name, info in fields:
        if name not in leave_out:
            meaning, twin = told[*path, name], f"{name}_file"
            if name in secrets and twin not in meaning:
                meaning += f" Or `{twin}`: a file to read it from."
            yield name, form(info.annotation), _default(info, getattr(settings, name)), meaning


def _default(info: FieldInfo, value: object) -> str:
    return "required" if info.is_required() else written(value)


def _type(name: str) -> str:
    _, rows = catalogue.settings(name)
    words = dict(catalogue.types())[name]
    more = "" if name == "csv" else f" [How to get the key, what is imported, known gaps](connectors/{name}.md)."
    return f"### `{name}`\n\n{words}.{more}\n\n{_table(rows)}"


def _table(rows: Iterable[tuple[str, str, str, str]]) -> str:
    lines = ["| setting | takes | default | meaning |", "|---|---|---|---|"]
    for name, takes, default, meaning in rows:
        shown = default if default in ("-", "required") else f"`{default}`"
        lines.append("| " + " | ".join(map(_cell, (f"`{name}`", takes, shown, meaning))) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _explained(text: str) -> Iterator[tuple[Path, str]]:
    """Each setting of a commented configuration, and the comment right above it.

    Of several that stand together below one comment, the others point to the first.
    """
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    told: tuple[Path, str] | None = None
    for line in text.splitlines():
        if words := _WORDS.fullmatch(line):
            above.append(words["words"])
        elif setting := _SETTING.fullmatch(line):
            while parents and parents[-1][0] >= len(setting["indent"]):
                parents.pop()
            group = tuple(name for _, name in parents)
            if above:
                told = group, setting["name"]
            see = f"See `{told[1]}`." if told and told[0] == group else ""
            yield (*group, setting["name"]), " ".join(above) or see
            parents.append((len(setting["indent"]), setting["name"]))
            above.clear()
        else:
            above.clear()
            told = None


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201 - a page to be redirected into its file
