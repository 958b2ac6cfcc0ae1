"""What the documents say is so."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import click
import pytest

from connectors import csv
from syncd import registry
from syncd.cli import cli
from syncd.config import Config, ZentrikSettings, load
from syncd.ledger import State

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")


def test_every_command_the_readme_names_is_there() -> None:
    """A reader who types a command from the README gets what it says, not a usage error."""
    named = re.findall(r"`(?:.* && )?syncd ([a-z][a-z-]*)([^`]*)`", README)
    assert len(named) > 12
    for name, rest in named:
        command = cli.commands.get(name)
        if isinstance(command, click.Group):
            command = command.commands.get(rest.split()[0])
        assert command is not None, (name, rest)
        options = {option for parameter in command.params for option in parameter.opts}
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in options, (name, option)


def test_every_command_and_option_is_in_the_readme() -> None:
    """Nothing syncd can do is hidden from a reader of the README's table."""
    table = {row.split("`")[1].split()[1]: row for row in README.splitlines() if row.startswith("| `syncd ")}
    assert table.keys() == cli.commands.keys()
    for parameter in cli.commands["run-once"].params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in table["run-once"]


def test_every_state_is_explained() -> None:
    """Each word in the state column of `syncd signals` can be looked up."""
    rows = [row.split("`")[1] for row in README.splitlines() if re.match(r"\| `[a-z]+` \|", row)]
    assert {str(state) for state in State} <= set(rows)


def test_the_import_in_five_steps_is_a_configuration_that_loads(tmp_path: Path) -> None:
    """The first configuration a user copies is one that syncd takes."""
    [block] = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "config.yaml"
    path.write_text(re.sub(r"^   ", "", block, flags=re.MULTILINE), encoding="utf-8")
    config = load(path, {"ZENTRIK_API_KEY": "a-key"})
    assert isinstance(config.connectors["survey"].connector, csv.DropFolder)


@pytest.mark.parametrize("command", re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL))
def test_the_two_commands_do_all_of_the_set_up(command: str) -> None:
    """A newcomer needs nothing but what stands in the README: each command makes its own environment."""
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")
    assert "\n" not in command


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    """What a newcomer is told to run is what is run on every change."""
    [tests] = [command for command in re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL) if "pytest" in command]
    assert tests in (TOP / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    "document", [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))], ids=lambda path: path.name
)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    """No link of a document is dead."""
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_the_guarantees_name_settings_and_commands_that_there_are() -> None:
    """Whoever follows the page on guarantees finds the settings it names, with the defaults it gives."""
    text = (TOP / "docs" / "guarantees.md").read_text(encoding="utf-8")
    for setting in re.findall(r"`zentrik\.([a-z_]+)", text):
        assert setting in ZentrikSettings.model_fields, setting
    assert ZentrikSettings().absent_after == timedelta(seconds=10)
    assert (ZentrikSettings().nack_window.refused, ZentrikSettings().nack_window.of) == (30, 40)
    assert (Config().lease, Config().shutdown_timeout) == (timedelta(minutes=20), timedelta(seconds=20))
    assert {"ledger", "audit", "run-once"} <= cli.commands.keys()
    for lost, doubled in re.findall(r"\| (\d+) \| (\d+) \|$", text, re.MULTILINE):
        assert (lost, doubled) == ("0", "0")


TYPES = [name for name in registry.types() if name != "csv"]
"""The types that read from a vendor; the drop folder's settings stand in the commented configuration."""


@pytest.mark.parametrize("name", registry.types())
def test_every_type_is_in_the_readmes_table(name: str) -> None:
    """A reader of the README sees every source there is."""
    rows = [line for line in README.splitlines() if re.match(rf"\| (\[)?`{name}`", line)]
    assert len(rows) == 1
    assert name == "csv" or f"](docs/connectors/{name}.md)" in rows[0]


@pytest.mark.parametrize("name", TYPES)
def test_every_type_has_a_page_with_all_its_settings(name: str) -> None:
    """How to get the key, every setting, what is imported and what is not: nobody has to read the source for it."""
    page = (TOP / "docs" / "connectors" / f"{name}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings[1:] == ["Settings", "What is imported", "How it reads", "Known gaps"], headings
    table = page.partition("## Settings")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = {setting for row in rows for setting in re.findall(r"`(\w+)`", row)}
    fields = set(registry.connector_class(name).model_fields)
    assert fields <= told, f"not in the table: {fields - told}"
    assert told <= fields | {f"{field}_file" for field in fields}, f"no such setting: {told - fields}"


@pytest.mark.parametrize("name", TYPES)
def test_the_example_on_its_page_works(name: str, tmp_path: Path) -> None:
    """What a reader copies from the page is a configuration, once the keys are set."""
    page = (TOP / "docs" / "connectors" / f"{name}.md").read_text(encoding="utf-8")
    [example, *_] = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "secret").write_text("made-up-secret", encoding="utf-8")
    config = tmp_path / "config.yaml"
    config.write_text(re.sub(r"/run/secrets/\S+", str(tmp_path / "secret"), example), encoding="utf-8")
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example), "made-up-secret")
    [entry] = load(config, environ).connectors.values()
    assert entry.type == name
