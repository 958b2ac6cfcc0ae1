"""Every read of the ledger that is for people and their scripts. Nothing here changes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from syncd.ledger import erasure
from syncd.ledger.statements import portions
from syncd.ledger.tables import State, alerts, bodies, connectors, events, runs, set_aside, signals
from syncd.records import Checkpoint, Json

_IN_BATCHES = {"yield_per": 500}
_DAY = 86_400_000_000  # in the microseconds that instants are kept in
_EPOCH = date(1970, 1, 1)
HALTED = sa.select(connectors.c.name).where(connectors.c.halted_at.is_not(None))
"""The names of the connectors that nothing is posted of: Zentrik refused too many of their records."""


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One signal, as the ledger knows it. `source_fingerprint` is that of the record last seen at its source, `version`
    what the source calls it, and `redacted` how much was taken out of it."""

    id: int
    external_id: str
    connector: str
    state: State
    signal_type: str | None
    name: str | None
    public_id: str | None
    job_id: str | None
    insight_ids: tuple[str, ...]
    attempts: int
    last_error: str | None
    occurred_at: datetime | None
    source_url: str | None
    place: str | None
    first_seen_at: datetime
    due_at: datetime | None
    accepted_at: datetime | None
    processing_started_at: datetime | None
    settled_at: datetime | None
    version: str | None
    redacted: Mapping[str, int] | None
    source_fingerprint: bytes
    source_content: bytes | None = None

    def as_json(self) -> dict[str, Json]:
        """The line that `syncd signals --json` prints."""
        return {
            "externalId": self.external_id,
            "connector": self.connector,
            "state": self.state,
            "signalType": self.signal_type,
            "name": self.name,
            "publicId": self.public_id,
            "jobId": self.job_id,
            "insightIds": list(self.insight_ids),
            "attempts": self.attempts,
            "lastError": self.last_error,
            "occurredAt": iso(self.occurred_at),
            "sourceUrl": self.source_url,
        }


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a signal."""

    at: datetime
    event: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class ConnectorRow:
    """How a connector's last run went, and where its reading stands. `run_id` is the run that is reading it; `failures`
    counts its readings in a row that ended in an error; while `halted_at` is set, nothing of it is posted."""

    name: str
    type: str
    namespace: str
    checkpoint: Checkpoint
    run_id: int | None
    started_at: datetime | None
    finished_at: datetime | None
    succeeded_at: datetime | None
    error_code: str | None
    error_message: str | None
    failures: int = 0
    paused_at: datetime | None = None
    rests_until: datetime | None = None
    halted_at: datetime | None = None
    halted_why: str | None = None


@dataclass(frozen=True, slots=True)
class AsideRow:
    """An item that could not become a record."""

    connector: str
    place: str
    reason: str
    seen_at: datetime

    def as_json(self) -> dict[str, Json]:
        """The line that `syncd skipped --json` prints."""
        return {
            "connector": self.connector,
            "place": self.place,
            "reason": self.reason,
            "seenAt": iso(self.seen_at),
        }


@dataclass(frozen=True, slots=True)
class Day:
    """How many signals Zentrik accepted on a day (in UTC), and how many of all its outcomes came on it."""

    date: date
    accepted: int = 0
    processed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A line of a signal's history. `run` is the run that touched the signal last; `took` is how long it had waited to
    be accepted, or had been processed."""

    id: int
    run: int | None
    connector: str
    event: str
    took: timedelta | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run and its figures; `figures` is None while it runs, and after it died."""

    id: int
    command: str
    started_at: datetime
    finished_at: datetime | None
    figures: Json


@dataclass(frozen=True, slots=True)
class AlertRow:
    """A trouble: of what kind, of which connector (empty: of the whole), since when, and when somebody was told."""

    kind: str
    connector: str
    since: datetime
    told_at: datetime | None


def iso(moment: datetime | None) -> str | None:
    """An instant as scripts get it: ISO 8601 in UTC."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def counts(db: sa.Connection) -> dict[str, dict[State, int]]:
    """How many signals stand in each state, by connector. Read from an index alone."""
    rows = db.execute(
        sa.select(signals.c.connector, signals.c.state, sa.func.count()).group_by(signals.c.connector, signals.c.state)
    )
    by_connector: dict[str, dict[State, int]] = {}
    for connector, state, number in rows:
        by_connector.setdefault(connector, {})[State(state)] = number
    return by_connector


AT_ZENTRIK = (State.PROCESSING, State.PROCESSED, State.FAILED, State.DELETED)
"""The states of a signal that Zentrik accepted."""


@dataclass(frozen=True, slots=True)
class RunCounts:
    """The signals a run touched: how many stand in each state (every one is there), how many of them it had queued
    itself, and of those that Zentrik accepted, how many it saw accepted itself."""

    signals: dict[State, int]
    queued: int
    accepted: int

    @property
    def touched(self) -> int:
        """All of them."""
        return sum(self.signals.values())

    @property
    def at_zentrik(self) -> int:
        """Those that Zentrik accepted."""
        return sum(self.signals[state] for state in AT_ZENTRIK)


def run_counts(db: sa.Connection, run: int) -> RunCounts:
    """What a run touched, as it stands now."""
    rows = db.execute(
        sa.select(
            signals.c.state,
            sa.func.count(),
            sa.func.count().filter(signals.c.first_run == run),
            sa.func.count().filter(signals.c.accepted_run == run),
        )
        .where(signals.c.run_id == run)
        .group_by(signals.c.state)
    ).all()
    return RunCounts(
        signals=dict.fromkeys(State, 0) | {State(state): touched for state, touched, _, _ in rows},
        queued=sum(queued for _, _, queued, _ in rows),
        accepted=sum(accepted for state, _, _, accepted in rows if state in AT_ZENTRIK),
    )


def redacted(db: sa.Connection, run: int) -> dict[str, int]:
    """How much was taken out of the signals that a run queued, by kind."""
    counts: Counter[str] = Counter()
    of_run = sa.and_(signals.c.run_id == run, signals.c.first_run == run, signals.c.redacted.is_not(None))
    with db.execute(sa.select(signals.c.redacted).where(of_run), execution_options=_IN_BATCHES) as rows:
        for (counted,) in rows:
            counts.update(counted)
    return dict(counts)


def next_due(db: sa.Connection, states: Iterable[State], only: Sequence[str] | None = None) -> datetime | None:
    """When the next signal in one of these states is due; None when none is waiting.

    What is queued of a connector that was halted waits for an operator, not for a time.
    """
    waits = []
    for state in states:
        first = sa.select(signals.c.due_at).where(signals.c.state == state, signals.c.due_at.is_not(None))
        if state == State.QUEUED:
            first = first.where(signals.c.connector.not_in(HALTED))
        if only is not None:
            first = first.where(signals.c.connector.in_(only))
        waits.append(db.scalar(first.order_by(signals.c.due_at).limit(1)))  # the first of an index, however many wait
    return min((each for each in waits if each is not None), default=None)


def undelivered(db: sa.Connection, only: Sequence[str] | None = None) -> tuple[datetime | None, datetime | None]:
    """When the next signal is due to be posted; and when the next of those is that have to be looked for first, or that
    somebody is posting. Both as of one moment."""
    return next_due(db, [State.QUEUED], only), next_due(db, [State.UNKNOWN, State.SENDING], only)


def left_by_others(db: sa.Connection, run: int, names: Sequence[str]) -> int:
    """How many signals of these connectors Zentrik has not accepted yet, of those that the run did not touch."""
    number: int = db.execute(
        sa.select(sa.func.count())
        .select_from(signals)
        .where(
            signals.c.connector.in_(names),
            signals.c.state.in_([State.QUEUED, State.SENDING, State.UNKNOWN]),
            sa.or_(signals.c.run_id.is_(None), signals.c.run_id != run),
        )
    ).scalar_one()
    return number


def posted_beside(db: sa.Connection, run: int) -> set[str]:
    """The externalIds of what other runs are posting."""
    return set(
        db.scalars(sa.select(signals.c.external_id).where(signals.c.state == State.SENDING, signals.c.run_id != run))
    )


def halts(db: sa.Connection) -> dict[str, str]:
    """The connectors that nothing is posted of, each with the reason."""
    rows = db.execute(sa.select(connectors.c.name, connectors.c.halted_why).where(connectors.c.halted_at.is_not(None)))
    return {name: why or "" for name, why in rows}


def overdue(db: sa.Connection, since: datetime) -> dict[str, int]:
    """By connector, how many signals accepted before `since` are still being processed."""
    rows = db.execute(
        sa.select(signals.c.connector, sa.func.count())
        .where(
            signals.c.connector.in_(_names(db)),  # true of every one; by it the index of connectors and states serves
            signals.c.state == State.PROCESSING,
            signals.c.accepted_at < since,
        )
        .group_by(signals.c.connector)
    )
    return {row[0]: row[1] for row in rows}


def waiting_since(db: sa.Connection) -> dict[str, datetime]:
    """By connector, since when its oldest signal has waited to be accepted by Zentrik, those apart that are held for an
    account."""
    since: dict[str, datetime] = {}
    for name in _names(db):
        for state in (State.QUEUED, State.SENDING, State.UNKNOWN):
            waits = [signals.c.due_at.is_not(None)] if state == State.QUEUED else []
            oldest = db.scalar(
                sa.select(signals.c.first_seen_at)
                .where(signals.c.connector == name, signals.c.state == state, *waits)
                .order_by(signals.c.id)  # they are numbered as they are seen: the first of an index
                .limit(1)
            )
            if oldest is not None:
                since[name] = min(oldest, since.get(name, oldest))
    return since


def _names(db: sa.Connection) -> Sequence[str]:
    return db.scalars(sa.select(connectors.c.name)).all()


def find(
    db: sa.Connection,
    *,
    states: Sequence[State] = (),
    connector: str | None = None,
    external_ids: Sequence[str] = (),
    run: int | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Iterator[SignalRow]:
    """Signals, newest first, a batch at a time: a ledger of a million rows is not held in memory."""
    chosen = sa.select(*_SIGNAL).order_by(signals.c.id.desc())
    if states:
        chosen = chosen.where(signals.c.state.in_([str(state) for state in states]))
    if connector is not None:
        chosen = chosen.where(signals.c.connector == connector)
    if external_ids:
        chosen = chosen.where(signals.c.external_id.in_(external_ids))
    if run is not None:
        chosen = chosen.where(signals.c.run_id == run)
    if limit is not None:
        chosen = chosen.limit(limit)
    if offset is not None:
        chosen = chosen.offset(offset)
    with db.execute(chosen, execution_options=_IN_BATCHES) as rows:  # closed also when the reader stops early
        for row in rows:
            yield _signal(row)


def known(db: sa.Connection, external_ids: Sequence[str]) -> dict[str, SignalRow]:
    """Those of the externalIds that the ledger has, or had until they were forgotten."""
    found: dict[str, SignalRow] = {}
    for some in portions(external_ids):
        rows = db.execute(sa.select(*_SIGNAL).where(signals.c.external_id.in_(some)))
        found.update((row.external_id, _signal(row)) for row in rows)
    forgotten = erasure.tombstones(db, [name for name in external_ids if name not in found])
    return found | {name: row for name, stone in forgotten.items() if (row := named(db, stone))}


def versions(db: sa.Connection, external_ids: Sequence[str]) -> dict[str, str | None]:
    """Those of the externalIds that the ledger has, with what the source calls the record it showed last."""
    found: dict[str, str | None] = {}
    for some in portions(external_ids):
        rows = db.execute(sa.select(signals.c.external_id, signals.c.version).where(signals.c.external_id.in_(some)))
        found.update((external_id, version) for external_id, version in rows.all())
    return found | dict.fromkeys(erasure.tombstones(db, [name for name in external_ids if name not in found]))


def named(db: sa.Connection, name: str) -> SignalRow | None:
    """The signal with that externalId, or that publicId."""
    row = db.execute(
        sa.select(*_SIGNAL)
        .where(sa.or_(signals.c.external_id == name, signals.c.public_id == name))
        .order_by(signals.c.external_id != name)
        .limit(1)
    ).one_or_none()
    if row is None and (stone := erasure.tombstones(db, [name]).get(name)):
        return named(db, stone)
    return None if row is None else _signal(row)


def history(db: sa.Connection, signal: SignalRow) -> list[Event]:
    """What happened to a signal, oldest first, from the moment it was seen."""
    rows = db.execute(
        sa.select(events.c.at, events.c.event, events.c.detail)
        .where(events.c.signal_id == signal.id)
        .order_by(events.c.id)
    )
    first = Event(signal.first_seen_at, "queued", f"from {signal.place}" if signal.place else None)
    return [first, *(Event(row.at, row.event, row.detail) for row in rows)]


def body(db: sa.Connection, signal: SignalRow) -> bytes | None:
    """The body that is posted, as long as it is kept."""
    return db.scalar(sa.select(bodies.c.body).where(bodies.c.signal_id == signal.id))


def connector_rows(db: sa.Connection) -> dict[str, ConnectorRow]:
    """Every connector that has run, by name."""
    columns = [connectors.c[name] for name in ConnectorRow.__slots__]
    return {row.name: ConnectorRow(*row) for row in db.execute(sa.select(*columns).order_by(connectors.c.name))}


def aside(db: sa.Connection, connector: str | None = None, run: int | None = None) -> Iterator[AsideRow]:
    """Items that could not become records, newest first."""
    chosen = sa.select(set_aside.c.connector, set_aside.c.place, set_aside.c.reason, set_aside.c.seen_at)
    if connector is not None:
        chosen = chosen.where(set_aside.c.connector == connector)
    if run is not None:
        chosen = chosen.where(set_aside.c.run_id == run)
    chosen = chosen.order_by(set_aside.c.seen_at.desc(), set_aside.c.connector, set_aside.c.place)
    with db.execute(chosen, execution_options=_IN_BATCHES) as rows:
        for row in rows:
            yield AsideRow(*row)


def aside_counts(db: sa.Connection) -> dict[str, int]:
    """How many items of each connector are set aside."""
    rows = db.execute(sa.select(set_aside.c.connector, sa.func.count()).group_by(set_aside.c.connector))
    return {row[0]: row[1] for row in rows}


def daily(db: sa.Connection, days: int, now: datetime) -> list[Day]:
    """The last so many days up to today, each in UTC. Reads every signal: not for asking every second."""
    last = now.date()
    dates = [last - timedelta(days=back) for back in reversed(range(days))]
    begin = datetime.combine(dates[0], datetime.min.time(), now.tzinfo)
    counted = {each: {"accepted": 0, State.PROCESSED: 0, State.FAILED: 0} for each in dates}
    for at, kind, wanted in (
        (signals.c.accepted_at, sa.literal("accepted"), sa.true()),
        (signals.c.settled_at, signals.c.state, signals.c.state.in_([State.PROCESSED, State.FAILED])),
    ):
        number = sa.type_coerce(at, sa.BigInteger) // _DAY
        rows = db.execute(
            sa.select(number.label("day"), kind.label("kind"), sa.func.count())
            .where(at >= begin, wanted)
            .group_by("day", "kind")
        )
        for day, what, many in rows:
            counted[min(_EPOCH + timedelta(days=int(day)), last)][what] += many
    return [Day(each, *by_kind.values()) for each, by_kind in counted.items()]


def last_step(db: sa.Connection) -> int:
    """The number of the newest line in any history."""
    return db.scalar(sa.select(sa.func.max(events.c.id))) or 0


def steps(db: sa.Connection, after: int, limit: int = 1000) -> list[Step]:
    """The lines after that one in all histories, oldest first."""
    rows = db.execute(
        sa.select(
            events.c.id,
            signals.c.run_id,
            events.c.event,
            events.c.at,
            signals.c.connector,
            signals.c.first_seen_at,
            signals.c.accepted_at,
            signals.c.settled_at,
        )
        .join(signals, signals.c.id == events.c.signal_id)
        .where(events.c.id > after)
        .order_by(events.c.id)
        .limit(limit)
    )
    return [
        Step(id_, run, connector, event, _took(event, at, seen_at, accepted_at, settled_at))
        for id_, run, event, at, connector, seen_at, accepted_at, settled_at in rows
    ]


def _took(
    event: str, at: datetime, seen_at: datetime, accepted_at: datetime | None, settled_at: datetime | None
) -> timedelta | None:
    """Never less than nothing: Zentrik's clock, which says when it was done, is not ours."""
    match event:
        case "accepted" | "found":
            return max(timedelta(0), at - seen_at)
        case State.PROCESSED if accepted_at and settled_at:
            return max(timedelta(0), settled_at - accepted_at)
        case _:
            return None


def last_runs(db: sa.Connection, limit: int = 10) -> list[RunRow]:
    """The latest runs, newest first."""
    rows = db.execute(
        sa.select(runs.c.id, runs.c.command, runs.c.started_at, runs.c.finished_at, runs.c.figures)
        .order_by(runs.c.id.desc())
        .limit(limit)
    )
    return [RunRow(*row) for row in rows]


def unfinished_runs(db: sa.Connection, command: str) -> list[int]:
    """The runs of that command that did not end, those that died included; the oldest first."""
    wanted = sa.select(runs.c.id).where(runs.c.command == command, runs.c.finished_at.is_(None))
    return list(db.scalars(wanted.order_by(runs.c.id)))


def troubles(db: sa.Connection) -> list[AlertRow]:
    """What is wrong, as far as it was noted to be told."""
    rows = db.execute(sa.select(alerts.c.kind, alerts.c.connector, alerts.c.since, alerts.c.told_at))
    return [AlertRow(*row) for row in rows]


def _signal(row: sa.Row[Any]) -> SignalRow:
    values = row._asdict()
    values["state"] = State(values["state"])
    values["insight_ids"] = tuple(values["insight_ids"] or ())
    return SignalRow(**values)


_SIGNAL = [
    *(signals.c[name] for name in SignalRow.__slots__[:-2]),
    sa.func.coalesce(signals.c.source_fingerprint, signals.c.fingerprint).label("source_fingerprint"),
    sa.func.coalesce(signals.c.source_content, signals.c.content).label("source_content"),
]
