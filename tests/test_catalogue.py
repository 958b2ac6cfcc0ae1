"""What connector types there are, and what settings each has, as `syncd connectors` shows them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import pytest
from pydantic import Field, SecretStr

from syncd import catalogue, registry
from syncd.connector import Checkpoint, Connector, Duration, Page, Window
from syncd.errors import ConfigError


class Every(Connector):
    """Reads nothing, with every kind of setting.

    The rest of the docstring is for those who read the code.
    """

    provider = "external_api"
    account: str
    token: SecretStr
    key: Annotated[SecretStr | None, Field(description="The key of an app.")] = None
    region: Literal["eu", "us"] = "eu"
    teams: Annotated[list[str], Field(default_factory=list)]
    countries: tuple[str, ...] = ("us", "gb")
    kinds: frozenset[str] = frozenset()
    names: Annotated[Sequence[str] | None, Field(description="Only these.")] = None
    labels: Annotated[dict[str, str], Field(default_factory=dict)]
    extra: Mapping[str, str] = {}
    patience: Duration = timedelta(minutes=10)
    settle: Duration | None = None
    most: int = 100
    share: float | None = None
    archived: bool = False
    query: Annotated[str, Field(max_length=9)] | None = None
    note: str = ""
    folder: Path = Path("inbox")
    until: datetime | None = None
    template: Any = None

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        yield Page()

    async def check(self, http: httpx.AsyncClient) -> str:
        return "nothing"


def test_each_setting_is_told_with_its_form_its_default_and_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets up a connector reads what to write, what happens if it is left out, and where a secret may stand."""
    monkeypatch.setattr(registry, "connector_class", {"every": Every}.__getitem__)
    title, rows = catalogue.settings("every")
    assert title == "every: Reads nothing, with every kind of setting"
    assert rows == [
        ("account", "text", "required", ""),
        ("token", "secret", "required", "Or token_file: a file to read it from."),
        ("key", "secret", "-", "The key of an app. Or key_file: a file to read it from."),
        ("region", "eu | us", "eu", ""),
        ("teams", "list", "-", ""),
        ("countries", "list", "us, gb", ""),
        ("kinds", "list", "-", ""),
        ("names", "list", "-", "Only these."),
        ("labels", "mapping", "-", ""),
        ("extra", "mapping", "-", ""),
        ("patience", "duration", "10m", ""),
        ("settle", "duration", "-", ""),
        ("most", "number", "100", ""),
        ("share", "number", "-", ""),
        ("archived", "true | false", "false", ""),
        ("query", "text", "-", ""),
        ("note", "text", "-", ""),
        ("folder", "path", "inbox", ""),
        ("until", "datetime", "-", ""),
        ("template", "value", "-", ""),
    ]


def test_a_secret_that_is_a_default_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of settings gives no secret away."""

    class Careless(Every):
        """Ships a token."""

        token: SecretStr = SecretStr("hunter2")

    monkeypatch.setattr(registry, "connector_class", {"careless": Careless}.__getitem__)
    assert "hunter2" not in str(catalogue.settings("careless"))


def test_the_types_of_the_shelf_are_all_there_with_what_they_read() -> None:
    """Every connector can be found by its name, and what it is for is told in a line."""
    told = dict(catalogue.types())
    assert list(told) == registry.types()
    assert "csv" in told
    for name, words in told.items():
        assert words.strip("-"), f"connectors/{name}.py says nothing of itself"
        assert "\n" not in words
        assert not words.endswith(".")


def test_every_setting_of_every_type_is_explained() -> None:
    """No setting on the shelf has to be looked up in its code."""
    for name in registry.types():
        _, rows = catalogue.settings(name)
        assert [field for field, _, _, meaning in rows if not meaning] == [], name


def test_a_type_that_cannot_be_imported_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """One broken package does not take the list of connectors away; its line says what to mend."""

    def connector_class(name: str) -> type[Connector]:
        if name == "broken":
            raise ConfigError("the type broken comes from the package acme 1.0, which cannot be imported")
        return Every

    monkeypatch.setattr(registry, "types", lambda: ["broken", "every"])
    monkeypatch.setattr(registry, "connector_class", connector_class)
    assert catalogue.types() == [
        ("broken", "the type broken comes from the package acme 1.0, which cannot be imported"),
        ("every", "Reads nothing, with every kind of setting"),
    ]


def test_an_unknown_type_is_an_error_with_words() -> None:
    """A misspelt type is answered with the nearest one there is."""
    with pytest.raises(ConfigError, match="csv"):
        catalogue.settings("cvs")
