"""Edits: how many deletions are believed, and what takes a key that may delete."""

from __future__ import annotations

import pytest

from syncd.edits import AS_IT_WAS, DeleteGuard, Edits


@pytest.mark.parametrize(
    ("deletions", "records", "holds"),
    [(1, 1, False), (1, 1000, False), (2, 20, True), (2, 40, False), (50, 1000, False), (51, 100_000, True)],
)
def test_the_guard(deletions: int, records: int, *, holds: bool) -> None:
    """More than the share or more than the most is too many; a single one never is."""
    assert DeleteGuard().holds_back(deletions, records) is holds


@pytest.mark.parametrize(
    ("edits", "needs"),
    [
        (AS_IT_WAS, False),
        (Edits(on_change="append"), False),
        (Edits(on_change="replace"), True),
        (Edits(on_delete="delete"), True),
    ],
)
def test_only_what_deletes_needs_the_scope(edits: Edits, *, needs: bool) -> None:
    """A key is asked for no more than is done with it."""
    assert edits.needs_deleting is needs
