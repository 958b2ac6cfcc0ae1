"""Which records a window asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from syncd.records import Window

NOON = datetime(2025, 3, 11, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_a_window_without_bounds_holds_everything() -> None:
    """A daily run leaves nothing out."""
    assert Window(NOON).holds(NOON - timedelta(days=10_000))
    assert Window(NOON).holds(NOON + timedelta(days=10_000))


@pytest.mark.parametrize(("instant", "held"), [(NOON - SECOND, False), (NOON, True), (NOON + SECOND, True)])
def test_since_is_included(instant: datetime, held: bool) -> None:
    """A backfill from noon brings the record of noon itself."""
    assert Window(NOON, since=NOON).holds(instant) is held


@pytest.mark.parametrize(("instant", "held"), [(NOON - SECOND, True), (NOON, False), (NOON + SECOND, False)])
def test_until_is_not_included(instant: datetime, held: bool) -> None:
    """Two backfills that meet at noon bring no record twice."""
    assert Window(NOON, until=NOON).holds(instant) is held


def test_a_record_without_a_time_is_always_held() -> None:
    """A backfill does not lose what its source never dated."""
    assert Window(NOON, since=NOON, until=NOON + SECOND).holds(None)


def test_bounds_compare_across_zones() -> None:
    """A bound written in local time cuts where the operator meant."""
    tokyo = timezone(timedelta(hours=9))
    window = Window(NOON, since=NOON.astimezone(tokyo))
    assert window.holds(NOON)
    assert not window.holds(NOON - SECOND)
