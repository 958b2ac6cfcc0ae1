"""The small chart of what was delivered day by day, as numbers that a template draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from syncd.ledger.report import Day

HEIGHT = 96
STEP = 20
"""The width of a day; its two bars stand in it side by side."""

_BAR = 7
_LEAST = 2.0  # what there is of a day can be seen, however little beside the others


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in the units of the drawing; `kind` says what it counts."""

    kind: str
    x: float
    y: float
    height: float
    width: float = _BAR


@dataclass(frozen=True, slots=True)
class Column:
    """One day: its figures, and the bars that show them."""

    day: Day
    x: float
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn. `top` is the number that reaches the upper edge."""

    columns: Sequence[Column]
    top: int
    height: int = HEIGHT
    step: int = STEP

    @property
    def width(self) -> int:
        """In the units of the drawing."""
        return max(1, len(self.columns)) * self.step

    @property
    def first(self) -> date | None:
        """The first day."""
        return self.columns[0].day.date if self.columns else None


def chart(days: Sequence[Day]) -> Chart:
    """Accepted on the left of each day; processed, with failed on top of it, on the right."""
    top = max((max(day.accepted, day.processed + day.failed) for day in days), default=0)
    return Chart([_column(day, number * STEP, top) for number, day in enumerate(days)], top)


def _column(day: Day, x: float, top: int) -> Column:
    left, right = x + (STEP - 2 * _BAR - 1) / 2, x + STEP / 2 + 0.5
    bars, done = [], _height(day.processed, top)
    for kind, number, at, below in (
        ("accepted", day.accepted, left, 0.0),
        ("processed", day.processed, right, 0.0),
        ("failed", day.failed, right, done),
    ):
        if number:
            height = _height(number, top)
            bars.append(Bar(kind, at, max(0.0, HEIGHT - below - height), height))
    return Column(day, x, bars)


def _height(number: int, top: int) -> float:
    return max(_LEAST, round(HEIGHT * number / top, 2)) if number else 0.0
