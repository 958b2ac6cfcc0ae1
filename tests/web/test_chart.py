"""The chart's numbers: what stands in the ledger is what is drawn."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from syncd.ledger.report import Day
from syncd.web.chart import HEIGHT, STEP, chart

COUNTS = st.integers(0, 2_000_000)
DAYS = st.builds(Day, st.just(date(2026, 11, 2)), COUNTS, COUNTS, COUNTS)


@given(st.lists(DAYS, max_size=31))
def test_every_bar_stays_within_its_day(days: list[Day]) -> None:
    """However large or small the numbers are, no bar leaves the drawing, and none that counts something is unseen."""
    drawn = chart(days)
    for number, column in enumerate(drawn.columns):
        kinds = {bar.kind for bar in column.bars}
        assert kinds == {kind for kind in ("accepted", "processed", "failed") if getattr(column.day, kind)}
        for bar in column.bars:
            assert number * STEP <= bar.x < bar.x + bar.width <= (number + 1) * STEP
            assert 0 <= bar.y <= HEIGHT
            assert bar.height >= 2


def test_failed_stands_on_processed() -> None:
    """The right bar as a whole says how many outcomes came, and its red part how many were bad."""
    accepted, processed, failed = chart([Day(date(2026, 11, 2), 100, 50, 25)]).columns[0].bars
    assert (accepted.height, processed.height, failed.height) == (HEIGHT, HEIGHT / 2, HEIGHT / 4)
    assert failed.y + failed.height == processed.y
    assert failed.x == processed.x > accepted.x


def test_nothing_is_drawn_of_nothing() -> None:
    """A new ledger has an empty chart, not a division by zero."""
    drawn = chart([Day(date(2026, 11, 2))])
    assert (drawn.top, list(drawn.columns[0].bars), drawn.first) == (0, [], date(2026, 11, 2))
    assert (chart([]).first, chart([]).width) == (None, STEP)
