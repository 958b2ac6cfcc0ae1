"""From a type's name to its class: the shelf, then other packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import connectors
from syncd import registry
from syncd.connector import Connector
from syncd.errors import ConfigError

SOURCE = """
from collections.abc import AsyncGenerator
from typing import ClassVar
from syncd.connector import Connector, Page

class {name}(Connector):
    provider: ClassVar[str] = "test"

    async def fetch(self, http, checkpoint, window):
        yield Page()

    async def check(self, http):
        return "fine"
"""

Shelve = Callable[..., None]
Publish = Callable[..., None]


@pytest.fixture
def shelve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelve]:
    """Put a module on the shelf, from a folder beside the real one."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setattr(connectors, "__path__", [*connectors.__path__, str(folder)])
    before = set(sys.modules)

    def put(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)

    yield put
    for name in set(sys.modules) - before:
        if name.startswith("connectors."):
            del sys.modules[name]
            vars(connectors).pop(name.partition(".")[2], None)


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Install a package that offers a type: its files and metadata, as pip would lay them out."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(package: str, entry: str, source: str) -> None:
        (site / f"{package}.py").write_text(source)
        info = site / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[syncd.connectors]\n{entry}\n")

    return install


def test_a_file_on_the_shelf_is_a_type(shelve: Shelve) -> None:
    """Dropping one file into connectors/ is all it takes to add a source."""
    shelve("shelved_desk", SOURCE.format(name="Desk"))
    assert "shelved_desk" in registry.types()
    found = registry.connector_class("shelved_desk")
    assert issubclass(found, Connector)
    assert found.__name__ == "Desk"


def test_listing_imports_nothing(shelve: Shelve) -> None:
    """One broken connector does not keep an operator from seeing which types there are."""
    shelve("shelved_broken", "raise RuntimeError('no')")
    shelve("_shelved_private", "")
    shelve("Shelved_Odd", "")
    listed = registry.types()
    assert "shelved_broken" in listed
    assert not {"_shelved_private", "Shelved_Odd"} & set(listed)
    assert "connectors.shelved_broken" not in sys.modules


def test_only_the_class_written_in_the_file_counts(shelve: Shelve) -> None:
    """A connector may import or derive from another one without being mistaken for it."""
    shelve("shelved_one", SOURCE.format(name="One"))
    shelve("shelved_two", "from connectors.shelved_one import One\nclass Two(One):\n    pass\n")
    assert registry.connector_class("shelved_two").__name__ == "Two"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(shelve: Shelve, source: str, words: str) -> None:
    """Whoever wrote a connector learns which file fails and why."""
    shelve("shelved_broken", source)
    with pytest.raises(ConfigError) as caught:
        registry.connector_class("shelved_broken")
    assert str(caught.value) == f"connectors/shelved_broken.py cannot be imported: {words}"


@pytest.mark.parametrize(
    ("source", "count"), [("", 0), (SOURCE.format(name="A") + SOURCE.format(name="B"), 2)], ids=["none", "two"]
)
def test_a_file_defines_one_connector(shelve: Shelve, source: str, count: int) -> None:
    """Which class reads a source is never a guess."""
    shelve("shelved_many", source)
    with pytest.raises(ConfigError) as caught:
        registry.connector_class("shelved_many")
    assert str(caught.value) == f"connectors/shelved_many.py must define one Connector, not {count}"


def test_another_package_can_bring_a_type(publish: Publish) -> None:
    """A source can be added without touching syncd's own files."""
    publish("acme_feeds", "acme = acme_feeds:Feed", SOURCE.format(name="Feed"))
    assert registry.types()[-1] == "acme"
    assert registry.connector_class("acme").__name__ == "Feed"


def test_the_shelf_wins(shelve: Shelve, publish: Publish) -> None:
    """Installing a package never changes what reads a source that syncd reads itself."""
    shelve("shelved_desk", SOURCE.format(name="Ours"))
    publish("acme_desk", "shelved_desk = acme_desk:Theirs", SOURCE.format(name="Theirs"))
    assert registry.types().count("shelved_desk") == 1
    assert registry.connector_class("shelved_desk").__name__ == "Ours"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import no_such_library",
            "the type acme comes from the package acme_bad 1.2, which cannot be imported: "
            "ModuleNotFoundError: No module named 'no_such_library'; mend or remove that package",
        ),
        ("Feed = 3", "the type acme comes from the package acme_bad 1.2, whose acme_bad:Feed is not a Connector class"),
    ],
)
def test_a_bad_package_is_named(publish: Publish, source: str, message: str) -> None:
    """The operator learns which installed package to mend or remove."""
    publish("acme_bad", "acme = acme_bad:Feed", source)
    sys.modules.pop("acme_bad", None)
    with pytest.raises(ConfigError) as caught:
        registry.connector_class("acme")
    assert str(caught.value) == message


def test_two_packages_with_one_type_are_refused(publish: Publish) -> None:
    """Which of two packages reads a source does not depend on the order they were installed in."""
    publish("acme_a", "acme = acme_a:Feed", SOURCE.format(name="Feed"))
    publish("acme_b", "acme = acme_b:Feed", SOURCE.format(name="Feed"))
    with pytest.raises(ConfigError) as caught:
        registry.connector_class("acme")
    assert str(caught.value) == "the type acme comes from several packages, acme_a 1.2 and acme_b 1.2; keep one of them"


def test_an_unknown_type_is_told_its_nearest(shelve: Shelve) -> None:
    """A slip of the pen costs one look at the message."""
    shelve("shelved_desk", SOURCE.format(name="Desk"))
    with pytest.raises(ConfigError) as caught:
        registry.connector_class("shelved_dsek")
    assert str(caught.value) == "there is no type 'shelved_dsek'; did you mean shelved_desk?"


@given(
    st.one_of(st.text(), st.sampled_from(["", ".", "..", "csv.x", "../csv", "_dropfolder", "os", "__init__", "csv\n"]))
)
def test_a_hostile_name_imports_nothing(name: str) -> None:
    """A configuration cannot make syncd run a module that is not a connector."""
    before = set(sys.modules)
    if name not in registry.types():
        with pytest.raises(ConfigError):
            registry.connector_class(name)
        assert set(sys.modules) == before
