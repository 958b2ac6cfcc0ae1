"""What each source is worth: what became of its signals, how much was drawn from them, and how soon."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from itertools import accumulate

import sqlalchemy as sa

from syncd.ledger.tables import State, signals
from syncd.records import Json

_STEP = timedelta(milliseconds=100)
"""How exactly the time to an outcome is known: signals that took the same number of steps are counted together."""


class By(StrEnum):
    """What signals are put together by."""

    CONNECTOR = "connector"
    TYPE = "type"
    ACCOUNT = "account"


@dataclass(slots=True)
class Worth:
    """The signals of a connector, of a type or of an account; `name` None: of those that have none.

    `characters` is the length of their texts, as far as it is known. `median` is how long the half of those that were
    processed took from acceptance to outcome, to a tenth of a second; None before there is any.
    """

    name: str | None
    signals: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    insights: int = 0
    characters: int = 0
    median: timedelta | None = None

    @property
    def total(self) -> int:
        """All of its signals."""
        return sum(self.signals.values())

    @property
    def insights_each(self) -> float | None:
        """Insights for each signal that was processed."""
        processed = self.signals[State.PROCESSED]
        return self.insights / processed if processed else None

    def share(self, state: State) -> float:
        """How many of its signals stand in that state, from 0 to 1."""
        return self.signals[state] / self.total

    def as_json(self) -> dict[str, Json]:
        """One of the groups that `syncd status --by --json` prints."""
        return {
            "name": self.name,
            "signals": {str(state): number for state, number in self.signals.items()},
            "total": self.total,
            "processedShare": round(self.share(State.PROCESSED), 4),
            "failedShare": round(self.share(State.FAILED), 4),
            "rejectedShare": round(self.share(State.REJECTED), 4),
            "insights": self.insights,
            "insightsPerSignal": None if self.insights_each is None else round(self.insights_each, 4),
            "characters": self.characters,
            "medianSeconds": None if self.median is None else round(self.median.total_seconds(), 1),
        }


def worths(db: sa.Connection, by: By) -> list[Worth]:
    """Every group, the one with the most insights for each signal first. Reads every signal, once."""
    # Joined to nothing: taken from an index that has not the rest, a million rows would be looked up one by one.
    connector = signals.c.connector + ""
    group = {By.CONNECTOR: connector, By.TYPE: signals.c.signal_type, By.ACCOUNT: signals.c.account}[by]
    took = sa.type_coerce(signals.c.settled_at, sa.BigInteger) - sa.type_coerce(signals.c.accepted_at, sa.BigInteger)
    steps = sa.case(
        (signals.c.state != State.PROCESSED, None),
        (took < 0, 0),  # it ended by Zentrik's clock, which is not ours
        else_=took // (_STEP // timedelta(microseconds=1)),
    )
    rows = db.execute(
        sa.select(
            group.label("group"),
            signals.c.state,
            steps.label("steps"),
            sa.func.count().label("number"),
            sa.func.sum(_insights()).label("insights"),
            sa.func.sum(sa.func.coalesce(signals.c.characters, 0)).label("characters"),
        ).group_by("group", signals.c.state, "steps")
    )
    found: dict[str | None, Worth] = {}
    times: dict[str | None, dict[int, int]] = {}
    for name, state, step, number, insights, characters in rows:
        worth = found.setdefault(name, Worth(name))
        worth.signals[State(state)] += number
        worth.insights += int(insights)
        worth.characters += int(characters)
        if step is not None:
            times.setdefault(name, {})[int(step)] = number
    for name, counted in times.items():
        found[name].median = _median(counted) * _STEP
    return sorted(found.values(), key=lambda each: (-(each.insights_each or 0), -each.total, each.name or ""))


def _insights() -> sa.ColumnElement[int]:
    """How many insights a signal has: the commas between quotation marks in the list of their ids, and one more. Within
    an id JSON writes a quotation mark with a backslash before it, so none is taken for two."""
    listed = sa.type_coerce(signals.c.insight_ids, sa.Text)
    between = (sa.func.length(listed) - sa.func.length(sa.func.replace(listed, '","', ""))) // 3
    return sa.case((sa.func.coalesce(listed, "[]") == "[]", 0), else_=between + 1)


def _median(counted: dict[int, int]) -> float:
    """The median of values, each given with how often it occurs."""
    total = sum(counted.values())
    low, high = (_at(counted, place) for place in ((total - 1) // 2, total // 2))
    return (low + high) / 2


def _at(counted: dict[int, int], place: int) -> int:
    """The value at that place, were they all written out in order."""
    values = sorted(counted)
    return values[bisect_right(list(accumulate(counted[value] for value in values)), place)]
