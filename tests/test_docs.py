"""What the documents say is so."""

from __future__ import annotations

import ast
import re
from datetime import timedelta
from functools import cache
from pathlib import Path

import click
import httpx
import pytest

from connectors import csv
from syncd import errors, registry
from syncd.cli import cli
from syncd.config import Config, ZentrikSettings, load
from syncd.connector import Source
from syncd.interrupts import INTERRUPTED
from syncd.ledger import State
from syncd.pull import explain

TOP = Path(__file__).parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")


def takes(name: str, rest: str) -> None:
    """There is such a command, and it has every option that is written behind it."""
    command = cli.commands.get(name)
    if isinstance(command, click.Group):
        command = command.commands.get(rest.split()[0])
    assert command is not None, (name, rest)
    options = {option for parameter in command.params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", rest)) <= options, (name, rest)


def test_every_command_the_readme_names_is_there() -> None:
    """A reader who types a command from the README gets what it says, not a usage error."""
    named = re.findall(r"`(?:.* && )?syncd ([a-z][a-z-]*)([^`]*)`", README)
    assert len(named) > 12
    for name, rest in named:
        takes(name, rest)


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


TROUBLES = (TOP / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SOURCES = {
    path: ast.parse(path.read_text(encoding="utf-8"))
    for shelf in ("syncd", "connectors")
    for path in sorted((TOP / shelf).rglob("*.py"))
    if "templates" not in path.parts
}


@cache
def literals() -> str:
    """Every text in the code, the parts of f-strings with a … between them, so that a message can be looked for."""
    found = []
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            match node:
                case ast.JoinedStr(values=parts):
                    found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts))
                case ast.Constant(value=str(text)):
                    found.append(text)
    return "\n".join(found)


def logged(*levels: str) -> set[str]:
    """What is logged at these levels, in the words of the log."""
    return {
        str(node.args[0].value)
        for path, tree in SOURCES.items()
        if "sandbox" not in path.parts
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in levels
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        and isinstance(node.args[0], ast.Constant)
    }


def codes() -> set[str]:
    """The codes of everything that stops a source, as `run-once --json` gives them."""
    source = Source("inbox", "csv", "csv:inbox", csv.DropFolder(path=Path("inbox")))
    by_itself = {explain(error, source)[0] for error in (httpx.ConnectError("refused"), RuntimeError("a defect"))}
    found = {"refused_too_often", *by_itself}
    for tree in SOURCES.values():
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))):
                    found.add(code)
                case ast.Call(func=ast.Name(id="_stop"), args=[ast.Constant(value=str(code)), *_]):
                    found.add(code)
    return found


def test_every_code_and_every_exit_code_is_in_the_troubleshooting() -> None:
    """Whatever code a script or a person meets can be looked up."""
    assert codes() == set(re.findall(r"^\| `([a-z_]+)` \|", TROUBLES, re.MULTILINE))
    numbers = {error.exit_code for error in vars(errors).values() if hasattr(error, "exit_code")} | {0, INTERRUPTED}
    for page in (TROUBLES, (TOP / "docs" / "operating.md").read_text(encoding="utf-8")):
        assert set(map(int, re.findall(r"^\| (\d+) \|", page, re.MULTILINE))) == numbers


@pytest.mark.parametrize("message", sorted(logged("warning", "error", "exception")))
def test_every_warning_of_the_log_is_in_the_troubleshooting(message: str) -> None:
    """Whoever finds a warning in the log finds it on the page, in the same words, with what to do."""
    assert re.sub(r"`[^`]*`", "…", message) in TROUBLES


@pytest.mark.parametrize("heading", re.findall(r"^### `(.+)`$", TROUBLES, re.MULTILINE))
def test_every_message_on_the_page_is_one_that_syncd_says(heading: str) -> None:
    """The page tells of messages as they are worded now."""
    said = re.sub(r"`[^`]*`", "…", literals())
    words = [re.escape(part.strip()) for part in heading.split("…")]
    assert re.search(r".*?".join(words), said), heading


@pytest.mark.parametrize("name", ["quickstart", "operating", "troubleshooting"])
def test_every_command_of_the_guides_is_there(name: str) -> None:
    """A command that is copied from a guide does what it says."""
    text = (TOP / "docs" / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|text)\n(.*?)```", text, re.DOTALL)
    said = [*"".join(blocks).splitlines(), *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
    command = re.compile(r"(?:(?:^|/|&& |exec syncd )syncd(?: -v+)?|syncd:[\d.]+) ([a-z][a-z-]*)([^&|]*)")
    found = [match.groups() for line in said for match in command.finditer(line)]
    assert len(found) >= 3
    for command_found, rest in found:
        takes(command_found, rest)


def test_links_to_headings_lead_to_one() -> None:
    """A link into the middle of a page finds its place there."""
    for document in (TOP / "docs").glob("*.md"):
        for target, heading in re.findall(r"\]\(([^)#]*)#([^)]+)\)", document.read_text(encoding="utf-8")):
            page = ((document.parent / target) if target else document).read_text(encoding="utf-8")
            anchors = {
                re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in page.splitlines()
                if line.startswith("#")
            }
            assert heading in anchors, (document.name, target, heading)
