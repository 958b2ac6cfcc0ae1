"""The promises of a source, kept by every connector on the shelf that reads from a vendor."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from syncd.promises import PROMISES, Case
from syncd.registry import types

CASES: dict[str, Case] = {
    path.stem: importlib.import_module(f"tests.connectors.vendors.{path.stem}").CASE
    for path in sorted((Path(__file__).parent / "vendors").glob("[a-z]*.py"))
}

OF_FILES = {"csv"}
"""Those that read no vendor's API, and have suites of their own."""


def test_every_connector_has_a_vendor_to_be_tried_on() -> None:
    """No connector is on the shelf whose promises nobody tried."""
    assert CASES.keys() | OF_FILES == set(types())


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", CASES)
async def test_it_keeps_its_promises(name: str, promise: Callable[[Case], Awaitable[None]]) -> None:
    """What syncd builds its guarantee on holds for this source as well."""
    await promise(CASES[name])
