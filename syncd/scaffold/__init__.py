"""A new connector to begin with: it reads an imitation of its vendor, and keeps every promise, before it is changed."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from syncd import __version__
from syncd.errors import ConfigError
from syncd.mistakes import shown
from syncd.registry import types

_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*", re.ASCII)

_IN_SYNCD = {
    "connector.py.jinja": "connectors/{name}.py",
    "vendor.py.jinja": "tests/connectors/vendors/{name}.py",
    "exactness.py.jinja": "tests/connectors/test_{name}.py",
    "page.md.jinja": "docs/connectors/{name}.md",
}
"""Where things stand in syncd's own repository."""

_ON_ITS_OWN = {
    "pyproject.toml.jinja": "{package}/pyproject.toml",
    "connector.py.jinja": "{package}/{module}.py",
    "vendor.py.jinja": "{package}/tests/{name}_vendor.py",
    "promises.py.jinja": "{package}/tests/test_promises.py",
    "exactness.py.jinja": "{package}/tests/test_records.py",
}
"""Where they stand in a package of its own."""


def scaffold(name: str, folder: Path) -> list[Path]:
    """Write the files of a new connector, and say which. In a checkout of syncd it goes on the shelf; anywhere else it
    becomes a package of its own, with the entry point by which syncd finds it.

    Raises `ConfigError` when the name is none, is taken, or a file is there already.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(f"{shown(name)!r} cannot be a type: write small letters, digits and _, like acme_desk")
    if name in types():
        raise ConfigError(f"there is a connector type {name} already; `syncd connectors {name}` shows it")
    is_syncd = (folder / "connectors").is_dir() and (folder / "tests" / "connectors" / "vendors").is_dir()
    module = f"syncd_{name}"
    words: dict[str, str] = {
        "name": name,
        "label": name.replace("_", " ").title(),
        "cls": _cls(name),
        "module": module,
        "package": module.replace("_", "-"),
        "imported": f"connectors.{name}" if is_syncd else module,
        "vendor": f"tests.connectors.vendors.{name}" if is_syncd else f"{name}_vendor",
        "version": ".".join(__version__.split(".")[:2]),
    }
    places = {
        template: folder / place.format_map(words)
        for template, place in (_IN_SYNCD if is_syncd else _ON_ITS_OWN).items()
    }
    if taken := [place for place in places.values() if place.exists()]:
        raise ConfigError(f"{taken[0]} is there already; nothing was written")
    templates = Environment(  # noqa: S701 - what is written is Python and Markdown, not HTML
        loader=PackageLoader("syncd", "scaffold"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    for template, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(templates.get_template(template).render(words), encoding="utf-8")
    return list(places.values())


def _cls(name: str) -> str:
    """The class of a type: AcmeDesk for acme_desk; RecordSource for record, for the files have a Record already."""
    cls = "".join(part.capitalize() for part in name.split("_"))
    texts = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.jinja")]
    is_used = any(re.search(rf"\b{cls}\b", text) for text in texts)
    return f"{cls}Source" if is_used else cls
