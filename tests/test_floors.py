"""The floor plan, held: who may import whom, and where each library lives."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import syncd

ROOT = Path(__file__).parent.parent

FLOORS = {
    0: ("errors", "records", "fates", "edits", "cron", "places", "spans", "budgets", "retry < pacing"),
    1: (
        "templates fields dates logs trust detectors subjects < expressions redaction < mapping < connector mistakes "
        "< signals http_client transport kit < shape",
    ),
    2: ("ledger", "zentrik < mirror sweep workspace", "registry", "sandbox"),
    3: (
        "directory < pull release < backfill",
        "dispatch",
        "track",
        "reconcile",
        "rerun",
        "late_redaction",
        "waiting",
        "revise",
        "forget",
        "inventory < rebuild < audit",
        "catalogue scaffold",
        "settings < validation yaml_file < config",
    ),
    4: (
        "promises",
        "reference",
        "interrupts scheduler folders preview estimate figures notify < app < status check < web screens alerts "
        "< alerting demo < daemon < cli < __main__",
    ),
}
"""Each entry is a staircase: a module may import from the floors below and from lower steps (to the left of a `<`) of
its own staircase. Staircases of one floor do not know each other."""

STEPS = {
    module: (floor, staircase, step)
    for floor, staircases in FLOORS.items()
    for staircase in staircases
    for step, modules in enumerate(staircase.split(" < "))
    for module in modules.split()
}

HOMES = {
    "sqlalchemy": {"ledger"},
    "alembic": {"ledger"},
    "apscheduler": {"scheduler"},
    "pydantic_settings": {"config"},
    "structlog": {"logs"},
    "prometheus_client": {"web"},
    "aiosmtplib": {"alerting"},
    "starlette": {"sandbox", "web"},
    "uvicorn": {"sandbox", "web"},
    "aiohttp": {"transport"},
    "uvloop": {"cli"},
    "phonenumbers": {"detectors"},
    "stdnum": {"detectors"},
}
"""Each library and the only parts of the house that import it."""


def name_of(path: Path) -> str:
    """The dotted name a file is imported under; a package's `__init__` goes by the package's."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {name_of(path): path for shelf in ("syncd", "connectors") for path in sorted((ROOT / shelf).rglob("*.py"))}


def imports(package: str, source: str) -> Iterator[tuple[int, str]]:
    """Every import of a source, wherever it stands, as its line and the full dotted name of what is imported."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parts = package.split(".")
                above = parts[: len(parts) - level + 1] if level else []
                origin = [*above, *([module] if module else [])]
                yield from ((node.lineno, ".".join([*origin, alias.name])) for alias in names)


def trespasses(name: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module imports and may not, each with its line and the rule."""
    judge = _trespass_of_a_connector if name.split(".")[0] == "connectors" else _trespass_of_the_house
    package = name if is_package else name.rpartition(".")[0]
    found = ((line, judge(name, imported)) for line, imported in imports(package, source))
    return [f"{name}, line {line}: {rule}" for line, rule in found if rule]


def _trespass_of_the_house(name: str, imported: str) -> str | None:
    _, _, rest = name.partition(".")
    module = rest.split(".")[0]
    origin, _, wanted = imported.partition(".")
    wanted = wanted.split(".")[0]
    if origin == "connectors":
        return "syncd never imports connectors by name; the registry finds them"
    if module not in HOMES.get(origin, {module}):
        return f"{origin} lives in {' and '.join(sorted(HOMES[origin]))}"
    if origin != "syncd":
        if module and STEPS[module][0] == 0 and origin not in sys.stdlib_module_names:
            return f"floor 0 knows the standard library only, not {origin}"
        return None
    if wanted in ("", "__version__", module):
        return None
    if not module:
        return "syncd/__init__.py imports nothing"
    if wanted not in STEPS:
        return f"{wanted} has no floor; give it one in FLOORS of {Path(__file__).name}"
    (floor, stairs, step), (other_floor, other_stairs, other_step) = STEPS[module], STEPS[wanted]
    if other_floor < floor or (other_stairs == stairs and other_step < step):
        return None
    return f"{module} (floor {floor}) may not import {wanted} (floor {other_floor})"


def _trespass_of_a_connector(name: str, imported: str) -> str | None:
    origin, _, rest = imported.partition(".")
    wanted = rest.split(".")[0]
    if origin in HOMES:
        return f"{origin} lives in {' and '.join(sorted(HOMES[origin]))} of syncd"
    if origin == "syncd" and wanted not in ("connector", "kit"):
        return f"a connector knows syncd.connector and syncd.kit and nothing else of the house, not {imported}"
    if origin == "connectors" and not wanted.startswith("_"):
        return f"connectors share code only in private packages such as connectors._x, not {imported}"
    return None


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name: str) -> None:
    """A module can be read, tested and changed knowing only what lies below it."""
    path = FILES[name]
    house, _, rest = name.partition(".")
    module = rest.split(".")[0]
    if house == "syncd" and module:
        assert module in STEPS, f"syncd.{module} has no floor; give it one in FLOORS of {Path(__file__).name}"
    assert trespasses(name, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py") == []


def test_the_docstring_tells_the_same_floors() -> None:
    """The floor plan a newcomer reads first is the one that is held."""
    assert syncd.__doc__
    plan = re.findall(r"^    floor (\d)  (the house|\w+) +(.+)$", syncd.__doc__, re.MULTILINE)
    told = {module: int(floor) for floor, _, modules in plan for module in re.findall(r"\w+", modules)}
    assert len(plan) == len(FLOORS)
    assert told == {module: STEPS[module][0] for module in told if module in STEPS}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("syncd.retry", "from syncd.fields import Duration"),
        ("syncd.retry", "import httpx"),
        ("syncd.retry", "from syncd import pacing"),
        ("syncd.logs", "from syncd.connector import Connector"),
        ("syncd.connector", "from syncd.signals import compose"),
        ("syncd.signals", "import syncd.http_client"),
        ("syncd.zentrik", "from syncd.ledger import Ledger"),
        ("syncd.zentrik", "from . import ledger"),
        ("syncd.ledger.tables", "from ..zentrik import Zentrik"),
        ("syncd.pull", "from syncd.track import track"),
        ("syncd.pull", "from syncd.config import Config"),
        ("syncd.pull", "def later():\n    from syncd.app import App"),
        ("syncd.settings", "from syncd.config import Config"),
        ("syncd.app", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from syncd.cli import main"),
        ("syncd.pull", "from syncd.nowhere import thing"),
        ("syncd.pull", "from syncd import *"),
        ("syncd", "from syncd import app"),
        ("syncd.registry", "import connectors"),
        ("syncd.registry", "from connectors.csv import Csv"),
        ("syncd.pull", "import sqlalchemy as sa"),
        ("syncd.ledger.tables", "import structlog"),
        ("syncd.app", "import structlog.contextvars"),
        ("syncd.app", "import uvicorn"),
        ("syncd.app", "from apscheduler.schedulers.asyncio import AsyncIOScheduler"),
        ("connectors.zendesk", "from syncd.records import Record"),
        ("connectors.zendesk", "from syncd import records"),
        ("connectors.zendesk", "import syncd"),
        ("connectors.zendesk", "from connectors.csv import Csv"),
        ("connectors.zendesk", "from . import csv"),
        ("connectors.zendesk", "import structlog"),
        ("connectors._shared.pages", "from syncd.dates import instant"),
        ("connectors._shared.pages", "from ..csv import Csv"),
    ],
)
def test_a_trespass_is_seen(name: str, source: str) -> None:
    """The plan cannot be broken without somebody hearing of it."""
    assert len(trespasses(name, source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("syncd.retry", "import math"),
        ("syncd.pacing", "from syncd.retry import Backoff"),
        ("syncd.http_client", "from syncd import __version__"),
        ("syncd.http_client", "from syncd.logs import get_logger\nimport httpx"),
        ("syncd.ledger.ledger", "import sqlalchemy as sa\nfrom syncd.ledger.tables import signals"),
        ("syncd.ledger.ledger", "from .tables import signals\nfrom . import report"),
        ("syncd.config", "from syncd.settings import WebSettings\nfrom pydantic_settings import BaseSettings"),
        ("syncd.cli", "from syncd.app import open_house\nimport syncd.errors"),
        ("connectors.zendesk", "import httpx\nfrom syncd.connector import Connector"),
        ("connectors.zendesk", "from syncd.kit.tickets import Tickets"),
        ("connectors.csv", "from connectors._dropfolder.rows import rows"),
        ("connectors.csv", "from ._dropfolder import rows"),
        ("connectors._dropfolder.rows", "from .lines import lines\nfrom connectors._dropfolder import table"),
    ],
)
def test_what_is_allowed_is_not_complained_about(name: str, source: str) -> None:
    """The plan stands in nobody's way."""
    assert trespasses(name, source) == []


def test_the_message_says_where_and_why() -> None:
    """Whoever trespassed can mend it without reading this file."""
    source = "import re\nfrom syncd.app import House"
    assert trespasses("syncd.pull", source) == ["syncd.pull, line 2: pull (floor 3) may not import app (floor 4)"]
