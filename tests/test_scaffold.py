"""A new connector: it works before it is changed, in a package of its own and on the shelf, and the guide shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from syncd.cli import cli
from syncd.errors import ConfigError
from syncd.promises import PROMISES
from syncd.sandbox import Sandbox
from syncd.scaffold import scaffold
from tests.connectors.serving import serve

TOP = Path(__file__).parent.parent
GUIDE = TOP / "docs" / "writing-a-connector.md"

ALL_PASSED = f"{len(PROMISES) + 1} passed"

CONFIG = """
zentrik: {{api_key: sandbox-key, api_base: "{zentrik}", poll_interval: 200ms}}
ledger: sqlite:///{folder}/syncd.db
connectors:
  notes: {{type: acme_desk, api_key: made-up-key-4f1c, base_url: "{vendor}"}}
"""


def installed(folder: Path) -> Path:
    """A scaffolded package as an installer leaves it: its modules, and the metadata that names its entry point."""
    [pyproject, *_] = scaffold("acme_desk", folder)
    package = pyproject.parent
    metadata = package / "syncd_acme_desk-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: syncd-acme-desk\nVersion: 0.1.0\n")
    [entry_point] = [line for line in pyproject.read_text(encoding="utf-8").splitlines() if ":AcmeDesk" in line]
    (metadata / "entry_points.txt").write_text("[syncd.connectors]\n" + entry_point.replace('"', "") + "\n")
    return package


def run(*command: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (path, path / "tests")))}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=100)


def test_a_package_of_its_own_keeps_every_promise_at_once(tmp_path: Path) -> None:
    """An author starts from something that works, and changes it a piece at a time."""
    package = installed(tmp_path)
    tests = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(package / "tests"), path=package)
    assert tests.returncode == 0, tests.stdout
    assert ALL_PASSED in tests.stdout


@pytest.mark.parametrize("name", ["record", "true", "promises"])
def test_a_name_that_the_files_use_as_well_is_no_trouble(tmp_path: Path, name: str) -> None:
    """A vendor may be called Notes or Record: its class then has a word more, and no file is written over another."""
    [pyproject, *rest] = scaffold(name, tmp_path)
    package = pyproject.parent
    assert len({pyproject, *rest}) == len([path for path in package.rglob("*") if path.is_file()]) == 5
    tests = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(package / "tests"), path=package)
    assert ALL_PASSED in tests.stdout


def test_a_package_of_its_own_is_found_by_its_entry_point_and_delivers(tmp_path: Path) -> None:
    """A source that is not syncd's own is configured, checked and imported like any other."""
    package = installed(tmp_path)
    sys.path[:0] = [str(package), str(package / "tests")]
    try:
        from acme_desk_vendor import CASE  # type: ignore[import-not-found]
    finally:
        del sys.path[:2]
    with Sandbox().in_thread() as zentrik, serve(CASE.full()) as vendor:
        config = tmp_path / "config.yaml"
        config.write_text(CONFIG.format(zentrik=zentrik, folder=tmp_path, vendor=vendor), encoding="utf-8")
        syncd = ("-m", "syncd", "--config", str(config))
        listed = run(*syncd, "connectors", path=package)
        assert "acme_desk" in listed.stdout
        checked = run(*syncd, "check", path=package)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert "the notes can be read" in checked.stdout
        first = json.loads(run(*syncd, "run-once", "--json", path=package).stdout)
        again = json.loads(run(*syncd, "run-once", "--json", path=package).stdout)
    assert (first["connectors"]["notes"]["new"], first["signals"]["processed"]) == (8, 8)
    assert (again["connectors"]["notes"]["new"], again["posted"]) == (0, 0)


def test_on_the_shelf_it_stands_where_the_others_do(tmp_path: Path) -> None:
    """In a checkout of syncd nothing has to be moved."""
    (tmp_path / "connectors").mkdir()
    (tmp_path / "tests" / "connectors" / "vendors").mkdir(parents=True)
    written = scaffold("acme_desk", tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "connectors/acme_desk.py",
        "tests/connectors/vendors/acme_desk.py",
        "tests/connectors/test_acme_desk.py",
        "docs/connectors/acme_desk.md",
    ]
    for path in written[:3]:
        compile(path.read_text(encoding="utf-8"), path.name, "exec")


def test_on_the_shelf_it_is_said_what_is_still_wanted(tmp_path: Path) -> None:
    """Every type of syncd's own has a row in the README and an example, or tests fail that are not the author's."""
    (tmp_path / "connectors").mkdir()
    (tmp_path / "tests" / "connectors" / "vendors").mkdir(parents=True)
    said = CliRunner().invoke(cli, ["new-connector", "acme_desk", "--into", str(tmp_path)]).output
    assert "README.md" in said
    assert "config.example.yaml" in said


@pytest.mark.parametrize(
    "name", ["zendesk", "csv", "Acme", "acme-desk", "acme_", "acme__desk", "1acme", "../acme", "class", ""]
)
def test_a_name_that_cannot_be_a_type_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing is written under a name that could never be configured, or that hides another connector."""
    with pytest.raises(ConfigError):
        scaffold(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """An afternoon's work is not lost to a command given twice."""
    [first, *_] = scaffold("acme_desk", tmp_path)
    first.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="is there already"):
        scaffold("acme_desk", tmp_path)
    assert first.read_text(encoding="utf-8") == "mine"


def test_the_guide_shows_the_connector_that_is_written(tmp_path: Path) -> None:
    """The guide's code works, for it is the very code that is tested here; and it is short."""
    code = next(path for path in scaffold("acme_desk", tmp_path) if path.name == "syncd_acme_desk.py").read_text()
    assert f"```python\n{code.rstrip()}\n```" in GUIDE.read_text(encoding="utf-8")
    assert len(code.splitlines()) < 60
    assert len(PROMISES) == 20
    assert "Twenty promises" in GUIDE.read_text(encoding="utf-8")
