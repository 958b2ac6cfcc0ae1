"""What posting costs: each connector's day, counted in the transaction that claims, so that no budget is ever passed.

Counted is what Zentrik took, or may have taken. What was certainly not taken (given back, put off, refused, looked for
and not found) is counted off again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from syncd.budgets import LOW, Budget
from syncd.ledger import report
from syncd.ledger.statements import insert, portions
from syncd.ledger.tables import IS_QUEUED, Lane, State, connectors, signals, spending

_KEPT = timedelta(days=7)
_EVER = datetime.max.replace(tzinfo=UTC)
_NOTHING, _NEARLY, _WHOLLY = range(3)
"""What was said of a day so far."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was posted of a connector on a day of its budget; the day ends at `until`."""

    budget: Budget
    until: datetime
    signals: int = 0
    characters: int = 0

    @property
    def share(self) -> float:
        """How much of the budget that is: 1 or more when it is spent."""
        return self.budget.share(self.signals, self.characters)

    @property
    def is_spent(self) -> bool:
        """Whether nothing more is posted that day."""
        return self.share >= 1


class Warned(NamedTuple):
    """A budget that is nearly or wholly spent, said once a day, and how many signals wait."""

    connector: str
    spent: Spent
    waiting: int


@dataclass(slots=True)
class _Day:
    """A row of the table while it is held. `said` is what was said of it so far."""

    budget: Budget
    begins_at: datetime
    ends_at: datetime
    signals: int
    characters: int
    said: int
    is_changed: bool = False

    def count(self, signals: int, characters: int) -> None:
        self.signals = max(0, self.signals + signals)
        self.characters = max(0, self.characters + characters)
        self.is_changed = True

    @property
    def spent(self) -> Spent:
        return Spent(self.budget, self.ends_at, self.signals, self.characters)


class Purse:
    """What may still be claimed today of the connectors that have a budget, held while the transaction lasts: nobody
    else claims meanwhile."""

    def __init__(self, db: sa.Connection, budgets: Mapping[str, Budget], now: datetime) -> None:
        rows = _held(db, budgets, now)
        if len(rows) < len(budgets):
            fresh = {name: budget for name, budget in budgets.items() if name not in rows}
            _begin(db, fresh, now)
            rows = _held(db, budgets, now)
        self._days = {name: _Day(budgets[name], *rows[name]) for name in sorted(rows)}

    def choose(
        self, db: sa.Connection, lane: Lane, most: int, now: datetime, only: Sequence[str] | None
    ) -> dict[int, tuple[str, int]]:
        """Up to so many due signals of that lane, the longest due first, that no budget stands against: their ids, each
        with its connector and its characters."""
        names = _open(db, only)
        plan = {name: replace(day) for name, day in self._days.items()}
        chosen: dict[int, tuple[str, int]] = {}
        while True:
            spent = {name for name, day in plan.items() if day.spent.is_spent}
            found = _first(db, lane, [name for name in names if name not in spent], most, now)
            for row in [row for row in found if row.id not in chosen][: most - len(chosen)]:
                day = plan.get(row.connector)
                if day is None or not day.spent.is_spent:
                    chosen[row.id] = row.connector, row.characters or 0
                    if day is not None:
                        day.count(1, row.characters or 0)
            if len(chosen) == most or spent == {name for name, day in plan.items() if day.spent.is_spent}:
                return chosen  # else what a budget stood against left room for others

    def charge(self, claimed: Iterable[tuple[str, int]]) -> None:
        """Count what was claimed: of which connector, and how many characters."""
        for connector, characters in claimed:
            if connector in self._days:
                self._days[connector].count(1, characters)

    def refund(self, db: sa.Connection, ids: Sequence[int]) -> None:
        """Count off what was claimed today and is certainly not at Zentrik."""
        for some in portions(ids):
            for row in db.execute(_COST.where(signals.c.id.in_(some))).all():
                day = self._days.get(row.connector)
                if day is not None and row.sent_at is not None and day.begins_at <= row.sent_at < day.ends_at:
                    day.count(-1, -(row.characters or 0))

    def put_back(self, db: sa.Connection) -> tuple[Warned, ...]:
        """Store the counts; the budgets that somebody should hear of now."""
        warned = []
        for name, day in self._days.items():
            share = day.spent.share
            say = _WHOLLY if share >= 1 else _NEARLY if share >= LOW else _NOTHING
            if say > day.said:
                day.said, day.is_changed = say, True
                warned.append(Warned(name, day.spent, _waiting(db, name)))
            if day.is_changed:
                db.execute(
                    sa.update(spending)
                    .where(spending.c.connector == name, spending.c.begins_at == day.begins_at)
                    .values(signals=day.signals, characters=day.characters, said=day.said)
                )
        return tuple(warned)


def refund(db: sa.Connection, ids: Sequence[int]) -> None:
    """Count off signals that were looked for and are not at Zentrik, on the days they were counted."""
    for some in portions(ids):
        costs = (
            sa.select(
                spending.c.connector,
                spending.c.begins_at,
                sa.func.count().label("number"),
                sa.func.sum(sa.func.coalesce(signals.c.characters, 0)).label("characters"),
            )
            .join(signals, signals.c.connector == spending.c.connector)
            .where(
                signals.c.id.in_(some),
                signals.c.sent_at >= spending.c.begins_at,
                signals.c.sent_at < spending.c.ends_at,
            )
            .group_by(spending.c.connector, spending.c.begins_at)
            .order_by(spending.c.connector, spending.c.begins_at)
        )
        for row in db.execute(costs).all():
            db.execute(
                sa.update(spending)
                .where(spending.c.connector == row.connector, spending.c.begins_at == row.begins_at)
                .values(
                    signals=_less(spending.c.signals, row.number),
                    characters=_less(spending.c.characters, int(row.characters)),
                )
            )


def spent_today(db: sa.Connection, budgets: Mapping[str, Budget], now: datetime) -> dict[str, Spent]:
    """Where each of these budgets stands."""
    found: dict[str, Spent] = {}
    for name, budget in budgets.items():
        begins_at, ends_at = budget.day(now)
        row = db.execute(
            sa.select(spending.c.signals, spending.c.characters).where(
                spending.c.connector == name, spending.c.begins_at == begins_at
            )
        ).one_or_none()
        found[name] = Spent(budget, ends_at, *(row or ()))
    return found


def waits(db: sa.Connection, budgets: Mapping[str, Budget], now: datetime) -> dict[str, tuple[Spent, int]]:
    """The connectors whose budget of today is spent while more of them is queued; and how many signals that is."""
    spent = {name: each for name, each in spent_today(db, budgets, now).items() if each.is_spent}
    return {name: (each, number) for name, each in spent.items() if (number := _waiting(db, name))}


def undelivered(
    db: sa.Connection, only: Sequence[str] | None, budgets: Mapping[str, Budget], now: datetime
) -> tuple[datetime | None, datetime | None]:
    """The same as `report.undelivered`, where what a spent budget stands against is due when the next day begins."""
    spent = {name: each.until for name, each in spent_today(db, budgets, now).items() if each.is_spent}
    if not spent:
        return report.undelivered(db, only)
    names = _open(db, only)
    living = [name for name in names if name not in spent]
    due = [row.due_at for lane in Lane for row in _first(db, lane, living, 1, _EVER)]
    due += [spent[name] for name in names if name in spent and _has_queued(db, name)]
    return min(due, default=None), report.next_due(db, [State.UNKNOWN, State.SENDING], only)


_COST = sa.select(signals.c.connector, signals.c.sent_at, signals.c.characters)


def _held(db: sa.Connection, budgets: Mapping[str, Budget], now: datetime) -> dict[str, tuple[Any, ...]]:
    begins = {name: budget.day(now)[0] for name, budget in budgets.items()}
    rows = db.execute(
        sa.select(spending)
        .where(spending.c.connector.in_(list(begins)), spending.c.begins_at.in_(sorted(set(begins.values()))))
        .order_by(spending.c.connector)
        .with_for_update()
    )
    return {
        row.connector: (row.begins_at, row.ends_at, row.signals, row.characters, row.said)
        for row in rows
        if row.begins_at == begins[row.connector]
    }


def _begin(db: sa.Connection, budgets: Mapping[str, Budget], now: datetime) -> None:
    """A new day for these; days long past are dropped."""
    days = [(name, *budget.day(now)) for name, budget in sorted(budgets.items())]
    db.execute(sa.delete(spending).where(spending.c.ends_at < now - _KEPT))
    db.execute(
        insert(db, spending).on_conflict_do_nothing(),
        [
            {"connector": name, "begins_at": begins_at, "ends_at": ends_at, "signals": 0, "characters": 0, "said": 0}
            for name, begins_at, ends_at in days
        ],
    )


def _open(db: sa.Connection, only: Sequence[str] | None) -> list[str]:
    """The connectors that records are posted of."""
    names = db.scalars(sa.select(connectors.c.name).where(connectors.c.halted_at.is_(None))).all()
    return [name for name in names if only is None or name in only]


def _first(db: sa.Connection, lane: Lane, names: Sequence[str], most: int, by: datetime) -> list[sa.Row[Any]]:
    """The first so many of a lane that are due by then, of these connectors. However many wait of others, an index
    passes them by."""
    rows: list[sa.Row[Any]] = []
    for some in portions(names):
        named = {f"name_{number}": name for number, name in enumerate(some)}
        rows += db.execute(_first_of(len(some)), {"of_lane": lane, "most": most, "at": by, **named}).all()
    return sorted(rows, key=lambda row: (row.due_at, row.id))[:most]


@lru_cache
def _first_of(number: int) -> sa.Select[Any]:
    """The statement for so many connectors; it is asked so often that it is put together once."""
    most = sa.bindparam("most", type_=sa.Integer)
    each = [
        sa.select(signals.c.id, signals.c.connector, signals.c.due_at, signals.c.characters)
        .where(
            IS_QUEUED,
            signals.c.connector == sa.bindparam(f"name_{place}"),
            signals.c.lane == sa.bindparam("of_lane", type_=sa.Integer),
            signals.c.due_at <= sa.bindparam("at", type_=signals.c.due_at.type),
        )
        .order_by(signals.c.due_at, signals.c.id)
        .limit(most)
        .subquery()
        for place in range(number)
    ]
    found = sa.union_all(*map(sa.select, each)).subquery()
    return sa.select(found).order_by(found.c.due_at, found.c.id).limit(most)


_IS_TO_BE_POSTED = (IS_QUEUED, signals.c.due_at.is_not(None))  # the others wait for an account


def _has_queued(db: sa.Connection, connector: str) -> bool:
    return bool(db.scalar(sa.select(sa.exists().where(signals.c.connector == connector, *_IS_TO_BE_POSTED))))


def _waiting(db: sa.Connection, connector: str) -> int:
    return db.scalar(sa.select(sa.func.count()).where(signals.c.connector == connector, *_IS_TO_BE_POSTED)) or 0


def _less(column: sa.Column[int], by: int) -> sa.Case[int]:
    return sa.case((column > by, column - by), else_=0)
