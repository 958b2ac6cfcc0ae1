"""Where a signal came from, and which signals something came from: the ledger asked in both directions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urldefrag

import sqlalchemy as sa

from syncd.budgets import Budget
from syncd.ledger import posts, report
from syncd.ledger.posts import Closed
from syncd.ledger.report import ConnectorRow, SignalRow
from syncd.ledger.spending import Spent, spent_today
from syncd.ledger.statements import insert
from syncd.ledger.tables import connectors, readings, runs, signals
from syncd.records import Json

_DIGITS = 12  # of a digest: enough to tell settings apart
_MOST = 1000  # signals that one name leads to


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that queued a signal, and what of it is still known: its command and when it began, which page of the
    reading it was (from 1 on), a short digest of the settings its record was mapped by, and whether they are still
    those of the connector. `account` is the one its body names, `characters` the length of what Zentrik has to read."""

    run: int | None
    command: str | None = None
    began_at: datetime | None = None
    page: int | None = None
    settings: str | None = None
    is_current: bool | None = None
    account: str | None = None
    characters: int | None = None

    def as_json(self) -> dict[str, Json]:
        """What `syncd show --json` says of it."""
        return {
            "run": self.run,
            "command": self.command,
            "startedAt": report.iso(self.began_at),
            "page": self.page,
            "settings": self.settings,
            "settingsAreCurrent": self.is_current,
        }


class Standing(NamedTuple):
    """What a signal may have to wait for besides its own time: its connector, a rest that Zentrik asked for, and what
    was spent of the day's budget; None where there is no such thing."""

    connector: ConnectorRow | None
    closed: Closed | None
    spent: Spent | None


def standing(db: sa.Connection, signal: SignalRow, budgets: Mapping[str, Budget], now: datetime) -> Standing:
    """What a signal may have to wait for now."""
    own = {name: budget for name, budget in budgets.items() if name == signal.connector}
    return Standing(
        report.connector_rows(db).get(signal.connector),
        posts.closed(db, now),
        spent_today(db, own, now).get(signal.connector),
    )


def note_reading(db: sa.Connection, connector: str, run: int, now: datetime) -> None:
    """A run has brought something from a connector, by the settings this has now."""
    settings = db.scalar(sa.select(connectors.c.settings).where(connectors.c.name == connector))
    if settings is None:
        return
    db.execute(
        insert(db, readings)
        .values(run_id=run, connector=connector, settings=settings, began_at=now, ended_at=now)
        .on_conflict_do_update(
            index_elements=[readings.c.run_id, readings.c.connector], set_={"settings": settings, "ended_at": now}
        )
    )


def origin(db: sa.Connection, signal: SignalRow) -> Origin:
    """Where a signal came from."""
    row = db.execute(
        sa.select(
            signals.c.first_run,
            signals.c.first_page,
            signals.c.account,
            signals.c.characters,
            runs.c.command,
            sa.func.coalesce(runs.c.started_at, readings.c.began_at, type_=runs.c.started_at.type).label("began_at"),
            readings.c.settings,
            connectors.c.settings.label("settings_now"),
        )
        .outerjoin(runs, runs.c.id == signals.c.first_run)
        .outerjoin(
            readings,
            sa.and_(readings.c.run_id == signals.c.first_run, readings.c.connector == signals.c.connector),
        )
        .outerjoin(connectors, connectors.c.name == signals.c.connector)
        .where(signals.c.id == signal.id)
    ).one()
    return Origin(
        run=row.first_run,
        command=row.command,
        began_at=row.began_at,
        page=row.first_page,
        settings=row.settings and row.settings[:_DIGITS],
        is_current=None if row.settings is None else row.settings == row.settings_now,
        account=row.account,
        characters=row.characters,
    )


def named(db: sa.Connection, name: str) -> list[SignalRow]:
    """The signals that somebody may mean by a name, newest first: the one with that externalId or publicId; else those
    whose original stands at that address, with or without a fragment and a last slash; else those that the insight of
    that id was drawn from. Of these at most a thousand."""
    if (row := report.named(db, name)) is not None:
        return [row]
    if "://" in name:
        return _at(db, name)
    return _behind(db, name)


def _at(db: sa.Connection, address: str) -> list[SignalRow]:
    there = _bare(address)
    rows = _all(db, signals.c.source_url.startswith(there, autoescape=True))
    found = [row for row in rows if row.source_url is not None and _bare(row.source_url) == there]
    return [row for row in found if row.source_url == address] or found


def _bare(address: str) -> str:
    """An address without its fragment and its last slash."""
    return urldefrag(address).url.rstrip("/")


def _behind(db: sa.Connection, insight: str) -> list[SignalRow]:
    written = json.dumps(insight)  # as in the column: nothing but ASCII, with its quotation marks
    rows = _all(db, sa.type_coerce(signals.c.insight_ids, sa.Text).contains(written, autoescape=True))
    return [row for row in rows if insight in row.insight_ids]  # SQLite's LIKE passes over upper and lower case


def _all(db: sa.Connection, condition: sa.ColumnElement[bool]) -> list[SignalRow]:
    ids = db.scalars(sa.select(signals.c.external_id).where(condition).order_by(signals.c.id.desc()).limit(_MOST)).all()
    found = report.known(db, ids)
    return [found[id_] for id_ in ids]
