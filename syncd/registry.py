"""From the `type:` of a configuration to the class that reads such a source.

First the shelf: `connectors/<type>.py`. Then other packages' entry points of the group `syncd.connectors`, named after
the type, each pointing at a Connector class. The shelf wins: an entry point named like a file on it is never looked at.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from syncd.connector import Connector
from syncd.errors import ConfigError
from syncd.mistakes import nearest, shown

_SHELF = "connectors"
_GROUP = "syncd.connectors"
_TYPE = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


def types() -> list[str]:
    """Every type there is: those on the shelf, then those of other packages. Nothing is imported for it."""
    shelf = _on_shelf()
    return [*shelf, *sorted({point.name for point in _published()} - set(shelf))]


def connector_class(type: str) -> type[Connector]:  # noqa: A002 - the configuration's own word for it
    """The class for a type.

    Raises `ConfigError` when there is no such type (with the nearest ones there are), and when there is but it cannot
    be imported (with the file or the package to mend).
    """
    if type in _on_shelf():
        return _from_shelf(type)
    match [point for point in _published() if point.name == type]:
        case []:
            raise ConfigError(f"there is no type {shown(type)!r}; {nearest(type, types())}")
        case [point]:
            return _from_package(point)
        case several:
            packages = " and ".join(sorted(_package(point) for point in several))
            raise ConfigError(f"the type {type} comes from several packages, {packages}; keep one of them")


def _on_shelf() -> list[str]:
    shelf = importlib.import_module(_SHELF)
    return sorted(module.name for module in pkgutil.iter_modules(shelf.__path__) if _TYPE.fullmatch(module.name))


def _published() -> list[EntryPoint]:
    return [point for point in entry_points(group=_GROUP) if _TYPE.fullmatch(point.name)]


def _from_shelf(name: str) -> type[Connector]:
    try:
        module = importlib.import_module(f"{_SHELF}.{name}")
    except Exception as error:  # importing runs its code, which may fail in any way
        raise ConfigError(f"{_SHELF}/{name}.py cannot be imported: {_words(error)}") from error
    match _defined_in(module):
        case [connector]:
            return connector
        case found:
            raise ConfigError(f"{_SHELF}/{name}.py must define one Connector, not {len(found)}")


def _from_package(point: EntryPoint) -> type[Connector]:
    try:
        connector = point.load()
    except Exception as error:  # as above
        raise ConfigError(
            f"the type {point.name} comes from the package {_package(point)}, which cannot be imported: "
            f"{_words(error)}; mend or remove that package"
        ) from error
    if not (inspect.isclass(connector) and issubclass(connector, Connector)):
        raise ConfigError(
            f"the type {point.name} comes from the package {_package(point)}, "
            f"whose {shown(point.value)} is not a Connector class"
        )
    return connector


def _defined_in(module: ModuleType) -> list[type[Connector]]:
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Connector)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else shown(point.value)


def _words(error: Exception) -> str:
    return f"{error.__class__.__name__}: {error}"
