"""The state of everything at a glance: the configuration and the ledger, put side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from syncd.budgets import LOW
from syncd.config import Config
from syncd.figures import halted
from syncd.ledger import Backfill, Database, State, holds, report
from syncd.ledger.backfills import unfinished
from syncd.ledger.spending import Spent, spent_today
from syncd.records import Json
from syncd.scheduler import next_run
from syncd.waiting import near_budget, over_budget


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """One connector: how its last run went, when the next is, and where its signals stand.

    `state` is ok, stopped (its last run ended in an error, or nothing of it is posted any more), running, new (it never
    ran), paused, off, or gone (no longer in the configuration). `lag` is how long its oldest record has waited to be
    accepted by Zentrik. `failures` counts its readings in a row that ended in an error, `overdue` the signals that
    Zentrik has been processing for too long, `spent` what was posted of the day's budget, if it has one; `held` those
    of the queued ones that wait for an account.
    """

    name: str
    type: str
    state: str
    last_run: datetime | None
    last_success: datetime | None
    next_run: datetime | None
    error: tuple[str, str] | None
    signals: dict[State, int]
    set_aside: int
    lag: timedelta | None
    overdue: int = 0
    failures: int = 0
    spent: Spent | None = None
    held: int = 0

    @property
    def budget(self) -> str | None:
        """What there is to say of its budget: that it is spent and more waits, or that it is nearly spent."""
        if self.spent is None or self.spent.share < LOW:
            return None
        waiting = self.signals[State.QUEUED] - self.held
        return over_budget(self.name, self.spent, waiting) if self.waits else near_budget(self.name, self.spent)

    @property
    def waits(self) -> bool:
        """Whether something waits for the next day, because the budget of this one is spent."""
        return self.spent is not None and self.spent.is_spent and self.signals[State.QUEUED] > self.held


@dataclass(frozen=True, slots=True)
class Status:
    """Every connector, those of the configuration first."""

    connectors: Sequence[ConnectorStatus]
    backfills: Sequence[Backfill] = ()
    """Those that are not finished."""

    def as_json(self) -> dict[str, Json]:
        """The object that `syncd status --json` prints."""
        return {
            "connectors": {
                connector.name: {
                    "type": connector.type,
                    "state": connector.state,
                    "lastRun": report.iso(connector.last_run),
                    "lastSuccess": report.iso(connector.last_success),
                    "nextRun": report.iso(connector.next_run),
                    "error": {"code": connector.error[0], "message": connector.error[1]} if connector.error else None,
                    "signals": {str(state): number for state, number in connector.signals.items()},
                    "skipped": connector.set_aside,
                    "overdue": connector.overdue,
                    "lagSeconds": None if connector.lag is None else round(connector.lag.total_seconds(), 3),
                    **({"budget": _spent_as_json(connector.spent)} if connector.spent else {}),
                    **({"held": connector.held} if connector.held else {}),
                }
                for connector in self.connectors
            },
            "signals": {str(state): sum(connector.signals[state] for connector in self.connectors) for state in State},
            **(
                {"backfills": [{"connector": each.connector, **each.as_json()} for each in self.backfills]}
                if self.backfills
                else {}
            ),
        }


def _spent_as_json(spent: Spent) -> dict[str, Json]:
    return {
        "signals": {"spent": spent.signals, "limit": spent.budget.signals},
        "characters": {"spent": spent.characters, "limit": spent.budget.characters},
        "share": round(spent.share, 4),
        "until": report.iso(spent.until),
    }


def status(config: Config, ledger: Database | None, now: datetime) -> Status:
    """The state of everything now; `ledger` None means that nothing has run yet."""
    rows: dict[str, report.ConnectorRow] = {}
    counts: dict[str, dict[State, int]] = {}
    aside: dict[str, int] = {}
    waiting: dict[str, datetime] = {}
    reading: set[str] = set()
    halts: dict[str, str] = {}
    overdue: dict[str, int] = {}
    backfills: list[Backfill] = []
    spent: dict[str, Spent] = {}
    held: dict[str, int] = {}
    if ledger is not None:
        with ledger.read() as db:
            rows = report.connector_rows(db)
            counts = report.counts(db)
            aside = report.aside_counts(db)
            waiting = report.waiting_since(db)
            halts = report.halts(db)
            overdue = report.overdue(db, now - config.zentrik.overdue_after)
            backfills = unfinished(db)
            spent = spent_today(db, config.budgets, now)
            held = holds.counts(db)
        presence = ledger.presence()
        reading = {name for name, row in rows.items() if row.run_id is not None and presence.is_alive(row.run_id)}
    shown = []
    for name in [*config.connectors, *sorted((set(rows) | set(counts)) - set(config.connectors))]:
        entry, row = config.connectors.get(name), rows.get(name)
        error = (row.error_code, row.error_message or "") if row and row.error_code else None
        if row is not None and row.run_id is not None and name not in reading:
            error = ("interrupted", "the syncd that was reading it died; the next run goes on from its checkpoint")
        if name in halts:
            error = ("refused_too_often", halted(name, halts[name]))
        if entry is None:
            state = "gone"
        elif not entry.enabled:
            state = "off"
        elif name in reading:
            state = "running"
        elif row is not None and row.paused_at is not None:
            state = "paused"
        else:
            state = "stopped" if error else "ok" if row else "new"
        shown.append(
            ConnectorStatus(
                name=name,
                type=entry.type if entry else row.type if row else "-",
                state=state,
                last_run=row.started_at if row else None,
                last_success=row.succeeded_at if row else None,
                next_run=next_run(entry, row, now) if entry else None,
                error=error,
                signals={state: counts.get(name, {}).get(state, 0) for state in State},
                set_aside=aside.get(name, 0),
                lag=now - waiting[name] if name in waiting else None,
                overdue=overdue.get(name, 0),
                failures=row.failures if row else 0,
                spent=spent.get(name),
                held=held.get(name, 0),
            )
        )
    return Status(shown, backfills)
