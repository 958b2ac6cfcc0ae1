"""What the documents say is so."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from connectors import csv
from syncd.cli import cli
from syncd.config import load
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


def test_links_between_documents_lead_somewhere() -> None:
    """No link of the README is dead."""
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (TOP / target).exists(), target
