"""The commented configuration that `syncd init` writes: complete, true, and working as it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd import registry
from syncd.config import Config, Retention, WebSettings, ZentrikSettings, example, load
from syncd.connector import Connector
from syncd.fields import Settings
from syncd.mistakes import known_names
from syncd.settings import AlertSettings, EmailSettings, Entry

ENVIRON = {"ZENTRIK_API_KEY": "zk-example"}
INSTEAD_OF = {"api_key_file": "api_key"}
"""Settings that stand for another one, which has to make way."""

OFF = re.compile(r"^( *)#([a-z_]+: .*)$", re.MULTILINE)
"""A setting that is commented out: its name right after the #."""


BLOCK = re.compile(r"^  # ([a-z0-9_-]+):\n(?:  #   .*\n)+", re.MULTILINE)
"""A whole connector that is commented out, with # and a blank before each line."""


def loaded(
    tmp_path: Path, text: str, connector_class: Callable[[str], type[Connector]] = registry.connector_class
) -> Config:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, ENVIRON, connector_class)


def settings_off() -> list[str]:
    return [found[0] for found in OFF.finditer(example())]


def turned_on(line: str) -> str:
    """The example with that one line's # taken away."""
    name = line.strip(" #").partition(":")[0]
    text = re.sub(rf"^ *{INSTEAD_OF[name]}:.*$", "", example(), flags=re.MULTILINE) if name in INSTEAD_OF else example()
    return text.replace(f"\n{line}\n", f"\n{line.replace('#', '', 1)}\n", 1)


def sections() -> Iterator[tuple[tuple[str, ...], type[Settings]]]:
    yield ("zentrik",), ZentrikSettings
    yield ("web",), WebSettings
    yield ("retention",), Retention
    yield ("alerts",), AlertSettings
    yield ("alerts", "email"), EmailSettings
    yield ("connectors", "inbox"), Entry
    yield ("connectors", "inbox"), registry.connector_class("csv")


def test_it_is_the_file_at_the_top_of_the_repository() -> None:
    """What people read on the project's page is what `syncd init` writes."""
    assert example() == (Path(__file__).parent.parent / "config.example.yaml").read_text(encoding="utf-8")


def test_it_works_as_it_stands(tmp_path: Path) -> None:
    """A newcomer with a key and a folder of CSV files has nothing to edit."""
    config = loaded(tmp_path, example())
    assert list(config.connectors) == ["inbox"]
    inbox = config.connectors["inbox"]
    assert (inbox.type, inbox.source.namespace, inbox.enabled) == ("csv", "csv:inbox", True)
    assert str(getattr(inbox.connector, "path", None)) == "inbox"
    assert config == Config(zentrik=config.zentrik, connectors=config.connectors)
    assert config.zentrik == ZentrikSettings(api_key=config.zentrik.api_key)


def test_every_setting_is_in_it(tmp_path: Path) -> None:
    """No setting has to be looked for in the source code."""
    everything: dict[str, Any] = yaml.safe_load(OFF.sub(r"\1\2", example()))
    assert set(everything) == set(Config.model_fields)
    for path, model in sections():
        written: dict[str, Any] = everything
        for step in path:
            written = written[step]
        twins = {name for name in known_names(model) if name.endswith("_file")} if model is ZentrikSettings else set()
        assert {*model.model_fields, *twins} <= set(written), path
    known = {name for path, model in sections() if len(path) > 1 for name in known_names(model)}
    assert set(everything["connectors"]["inbox"]) <= known


@pytest.mark.parametrize("line", settings_off())
def test_each_line_works_when_its_sign_is_taken_away(tmp_path: Path, line: str) -> None:
    """What the comments show can be used as it is shown, and what they call a default is one."""
    name = line.strip(" #").partition(":")[0]
    text = turned_on(line).replace("/run/secrets/zentrik", str(tmp_path / "key"))
    (tmp_path / "key").write_text("zk-example\n")
    assert text != example()
    changed, plain = loaded(tmp_path, text), loaded(tmp_path, example())
    for section in set(Config.model_fields) - {"connectors"}:
        assert getattr(changed, section) == getattr(plain, section), name
    if name in ("every", "timezone", "enabled", "signal_type", "provider_type", "day_first", "settle", "after"):
        assert changed == plain


def blocks() -> dict[str, str]:
    """The connectors that are commented out, by type."""
    found = [re.sub(r"^  # ", "  ", block[0], flags=re.MULTILINE) for block in BLOCK.finditer(example())]
    return {next(iter(yaml.safe_load(block).values()))["type"]: block for block in found}


@pytest.mark.parametrize("name", [name for name in registry.types() if name != "csv"])
def test_every_type_has_a_block_that_works(name: str, tmp_path: Path) -> None:
    """Whoever takes the signs away before a source's lines, and gives it a key, has a connector of it; and no setting
    of it has to be looked for elsewhere."""
    block = blocks()[name]
    (tmp_path / "key").write_text("made-up-secret", encoding="utf-8")
    text = "connectors:\n" + re.sub(r"/run/secrets/\S+", str(tmp_path / "key"), block)
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block), "made-up-secret")
    [entry] = load(file, environ).connectors.values()
    assert entry.type == name
    told = set(re.findall(r"(?:^|# or )\s*(\w+):", block, re.MULTILINE))
    fields = set(registry.connector_class(name).model_fields) - {"base_url", "token_url"}
    assert {field for field in fields if not {field, f"{field}_file"} & told} == set()
