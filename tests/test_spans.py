"""Spans of time as people say them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from syncd.spans import ago, span

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (None, "-"),
        (NOW, "0 s ago"),
        (NOW - timedelta(seconds=5), "5 s ago"),
        (NOW - timedelta(minutes=3), "3 min ago"),
        (NOW - timedelta(hours=30), "30 h ago"),
        (NOW - timedelta(days=9), "9 d ago"),
        (NOW + timedelta(hours=2), "in 2 h"),
    ],
)
def test_times_are_told_as_people_tell_them(moment: datetime | None, words: str) -> None:
    """A glance says how long ago or how far off something is."""
    assert ago(moment, NOW) == words


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (172_800, "2 d")])
def test_a_span_is_told_in_the_largest_unit_that_fits_twice(seconds: int, words: str) -> None:
    """«90 s» says more than «1 min»."""
    assert span(timedelta(seconds=seconds)) == words
