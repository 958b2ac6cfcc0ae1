"""From what was given to models, gathering every mistake on the way, so that an operator sees them all at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from json import loads
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from syncd import registry
from syncd.connector import Connector
from syncd.errors import ConfigError
from syncd.fields import is_open_to_all, secret_fields
from syncd.mapping import NAMES
from syncd.mistakes import Mistake, known_names, plain, takes_text
from syncd.places import Given, Path, rivals
from syncd.settings import OPEN_TO_ALL, ConnectorSettings, Entry

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_SHORTEST_SECRET = 4
"""Blotting out anything shorter would blot out the words around it too."""

_Model = TypeVar("_Model", bound=BaseModel)


class Validation:
    """One pass over what was given. `mistakes` may hold some already; the first one at a place is the one that counts.

    `secrets` are never shown, and the pass adds those it comes across.
    """

    def __init__(
        self,
        given: Given,
        connector_class: Callable[[str], type[Connector]],
        mistakes: list[Mistake],
        secrets: set[str],
    ) -> None:
        self.given = given
        self.connector_class = connector_class
        self.mistakes = mistakes
        self.secrets = secrets

    def connectors(self, entries: object) -> dict[str, ConnectorSettings]:
        """The connectors that can be made, by name."""
        if not isinstance(entries, dict):
            self.mistake(("connectors",), "must be a mapping from your name for each source to its settings")
            return {}
        made = {name: self._connector(name, entry) for name, entry in entries.items()}
        connectors = {name: settings for name, settings in made.items() if settings is not None}
        self._one_namespace_each(connectors)
        return connectors

    def made(self, model: type[_Model], values: dict[str, Any], path: Path) -> _Model | None:
        """The model of those values, which stand at `path`; None when they are not right, and that is noted."""
        values = self._without_rivals(values, path)
        self.secrets |= {str(values[name]) for name in secret_fields(model) if values.get(name) is not None}
        try:
            return model.model_validate(values)
        except ValidationError as error:
            self._invalid(model, error, path)
        except Exception as error:  # noqa: BLE001 - a connector of another package may check its settings in any way
            self.mistake(path, f"cannot be used: {error.__class__.__name__}: {error}")
        return None

    def mistake(self, path: Path, text: str) -> None:
        """Note a mistake in what stands at `path`, or should."""
        self.mistakes.append(Mistake(self.given.place(path), path, text))

    def words(self) -> str:
        """The mistakes, one a line and one a key, in the order of the file; then those of the environment."""
        first: dict[object, Mistake] = {}
        for mistake in self.mistakes:
            first.setdefault((mistake.place, mistake.path), mistake)
        in_order = sorted(first.values(), key=lambda mistake: (mistake.place.line is None, mistake.place.line or 0))
        text = "\n".join(map(str, in_order))
        for secret in sorted(self.secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***").replace(repr(secret)[1:-1], "***")
        return text

    def _connector(self, name: str, entry: object) -> ConnectorSettings | None:
        path: Path = ("connectors", name)
        if not _NAME.fullmatch(name):
            self.mistake(path, "a name is made of a-z, 0-9, - and _, and starts with a letter or a digit")
            return None
        if not isinstance(entry, dict):
            self.mistake(path, "must be a mapping of settings; the first to give is its type")
            return None
        chosen = self._chosen_class(entry.get("type"), (*path, "type"))
        theirs = set(known_names(chosen)).intersection(NAMES) if chosen else ()  # csv has a title over its rows
        house = {key: value for key, value in entry.items() if key in Entry.model_fields and key not in theirs}
        settled = self.made(Entry, self._with_json_read(Entry, house, path), path)
        if chosen is None:
            return None
        # A name that both know, such as the csv type's timezone, is for both.
        own = {key: value for key, value in entry.items() if key not in house or key in known_names(chosen)}
        connector = self.made(chosen, self._with_json_read(chosen, own, path), path)
        if connector is None or settled is None:
            return None
        for setting in ("base_url", "token_url"):
            if is_open_to_all(str(getattr(connector, setting, None) or "")) and not settled.allow_http:
                self.mistake((*path, setting), OPEN_TO_ALL)
        namespace = settled.namespace or connector.default_namespace(name) or f"{settled.type}:{name}"
        return self.made(
            ConnectorSettings,
            {**self._with_json_read(Entry, house, path), "name": name, "connector": connector, "namespace": namespace},
            path,
        )

    def _chosen_class(self, type_name: object, path: Path) -> type[Connector] | None:
        if type_name is None:
            self.mistake(path, f"missing; say what kind of source it is: {', '.join(registry.types())}")
        elif isinstance(type_name, str):
            try:
                return self.connector_class(type_name)
            except ConfigError as error:
                self.mistake(path, str(error))
        return None

    def _invalid(self, model: type[BaseModel], error: ValidationError, path: Path) -> None:
        also = known_names(Entry) if issubclass(model, Connector) else ()
        found: dict[Path, list[str]] = {}
        for detail in error.errors(include_url=False, include_input=False):
            text = plain(detail, model, also)
            at: Path = (*path, *detail["loc"])
            while detail["type"] != "missing" and len(at) > len(path) + 1 and not self.given.holds(at):
                at = at[:-1]  # the last steps of a union's errors name its members
            key, colon, rest = text.partition(": ")
            if colon and self.given.holds((*at, key)):
                at, text = (*at, key), rest  # «api_key_file: cannot read ...»
            found.setdefault(at, []).append(text)
        for at, texts in found.items():
            self.mistake(at, ", or ".join(dict.fromkeys(texts)))

    def _without_rivals(self, values: dict[str, Any], path: Path) -> dict[str, Any]:
        """The values with one way of giving each setting; where there are two, that is a mistake."""
        kept: dict[str, Any] = {}
        for key, value in values.items():
            other = next((rival for rival in rivals(key) if kept.get(rival) is not None), None)
            if other is None or value is None:
                kept[key] = value
            else:
                where = self.given.place((*path, other))
                self.mistake((*path, key), f"{other} is given as well ({where}); keep one of them")
        return kept

    def _with_json_read(self, model: type[BaseModel], values: dict[str, Any], path: Path) -> dict[str, Any]:
        """The values, with those lists and mappings read that came as JSON in a variable."""
        read = dict(values)
        for key, value in values.items():
            field = model.model_fields.get(key)
            in_variable = self.given.place((*path, key)).line is None
            looks_like_json = isinstance(value, str) and value.lstrip().startswith(("[", "{"))
            if field is None or not in_variable or not looks_like_json or takes_text(field.annotation):
                continue
            try:
                read[key] = loads(value)
            except (ValueError, RecursionError):
                self.mistake((*path, key), 'is not JSON; write for example ["one", "two"]')
        return read

    def _one_namespace_each(self, connectors: dict[str, ConnectorSettings]) -> None:
        first: dict[str, str] = {}
        for name, settings in connectors.items():
            other = first.setdefault(settings.namespace, name)
            if other != name:
                where = self.given.place(("connectors", other))
                self.mistake(
                    ("connectors", name),
                    f"its records would be taken for those of {other} ({where}): both have the namespace "
                    f"{settings.namespace}; give one of them a namespace of its own",
                )
