"""What Prometheus reads: the run's figures, the ledger's counts, and how long things take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector

from syncd import __version__
from syncd.app import House
from syncd.ledger import report
from syncd.pull import Pulled
from syncd.status import Status, status

_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)
"""Seconds: from an answer at once to a day's backlog."""


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything at one moment, taken where nothing else changes it meanwhile."""

    at: datetime
    status: Status
    rows: dict[str, report.ConnectorRow]
    pulled: dict[str, Pulled]
    posted: int
    wait: float
    beats: dict[str, datetime]
    is_refused: bool
    config_refused: bool


class Metrics:
    """The metrics of one run. Counters and latencies begin at nothing with it, and tell of its own work alone."""

    def __init__(self, house: House, refused: Callable[[], str | None]) -> None:
        self._house = house
        self._refused = refused
        self._asking = asyncio.Lock()
        self._registry = CollectorRegistry()
        self._seen = _Seen()
        self._registry.register(self._seen)
        ProcessCollector(registry=self._registry)
        self._steps = Counter(
            "syncd_signal_events",
            "What happened to signals: accepted, postponed, rejected, unknown, found, processed, failed, ...",
            ["connector", "event"],
            registry=self._registry,
        )
        self._until = {
            "accepted": self._histogram("acceptance", "From being read to being accepted by Zentrik"),
            "processed": self._histogram("processing", "From being accepted by Zentrik to being processed"),
        }
        self._until["found"] = self._until["accepted"]
        with house.ledger.database.read() as db:
            self._last_step = report.last_step(db)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """The metrics as they stand now, in the format a client accepts best, and its content type.

        Raises `LedgerError`.
        """
        async with self._asking:
            house, now = self._house, self._house.clock()
            pulled = dict(house.figures.connectors)
            posted, beats = house.figures.posted, dict(house.beats)
            seen, rows, steps, self._last_step = await asyncio.to_thread(self._look, now)
            self._seen.sight = Sight(
                at=now,
                status=seen,
                rows=rows,
                pulled=pulled,
                posted=posted,
                wait=house.gate.opens_in(now).total_seconds(),
                beats=beats,
                is_refused=house.is_refused,
                config_refused=self._refused() is not None,
            )
            self._count(steps)
            encoder, content_type = choose_encoder(accept)
            return encoder(self._registry), content_type

    def _look(self, now: datetime) -> tuple[Status, dict[str, report.ConnectorRow], list[report.Step], int]:
        database, last = self._house.ledger.database, self._last_step
        own: list[report.Step] = []
        with database.read() as db:
            rows = report.connector_rows(db)
            while steps := report.steps(db, last):
                last = steps[-1].id
                own += (step for step in steps if step.run == self._house.run)
        return status(self._house.config, database, now), rows, own, last

    def _count(self, steps: Sequence[report.Step]) -> None:
        for step in steps:
            self._steps.labels(step.connector, step.event).inc()
            if step.took is not None:
                self._until[step.event].labels(step.connector).observe(step.took.total_seconds())

    def _histogram(self, name: str, words: str) -> Histogram:
        return Histogram(f"syncd_{name}_seconds", words, ["connector"], registry=self._registry, buckets=_BUCKETS)


@dataclass(slots=True, eq=False)
class _Seen:
    """Prometheus' collector of what was seen last."""

    sight: Sight | None = field(default=None)

    def collect(self) -> Iterator[Metric]:
        """Every family, in the order of the page; nothing before the first look."""
        sight = self.sight
        if sight is None:
            return
        yield _gauge("info", "Always 1; the version of syncd", ["version"], [((__version__,), 1)])
        yield _gauge(
            "config_refused",
            "1 while the configuration was read again and could not be used",
            [],
            [((), sight.config_refused)],
        )
        yield _gauge("key_refused", "1 while Zentrik refuses the key", [], [((), sight.is_refused)])
        yield _gauge("zentrik_wait_seconds", "How long Zentrik is left alone from now on", [], [((), sight.wait)])
        yield _gauge(
            "loop_age_seconds",
            "Since each loop of the daemon came round last",
            ["loop"],
            [((name,), (sight.at - at).total_seconds()) for name, at in sight.beats.items()],
        )
        posts = CounterMetricFamily("syncd_posts", "Posts to Zentrik that ended, whatever the answer")
        posts.add_metric([], sight.posted)
        yield posts
        yield self._records(sight)
        yield from self._of_connectors(sight)

    def _records(self, sight: Sight) -> Metric:
        family = CounterMetricFamily(
            "syncd_records", "What sources gave, by what it was", labels=["connector", "result"]
        )
        for name, pulled in sight.pulled.items():
            for result in ("new", "changed", "unchanged", "skipped"):
                family.add_metric([name, result], getattr(pulled, result))
        return family

    def _of_connectors(self, sight: Sight) -> Iterator[Metric]:
        seen = {connector.name: connector for connector in sight.status.connectors}
        rows = sight.rows
        yield _gauge(
            "signals",
            "Signals in the ledger",
            ["connector", "state"],
            [((name, str(state)), many) for name, each in seen.items() for state, many in each.signals.items()],
        )
        for name, words, values in (
            (
                "lag_seconds",
                "How long the oldest record has waited to be accepted; 0 when none waits",
                {name: each.lag.total_seconds() if each.lag else 0 for name, each in seen.items()},
            ),
            (
                "overdue_signals",
                "Signals that Zentrik has been processing for too long",
                {name: each.overdue for name, each in seen.items()},
            ),
            (
                "set_aside_records",
                "Items of the source that could not be used",
                {name: each.set_aside for name, each in seen.items()},
            ),
            ("paused", "1 while it is paused", {name: each.state == "paused" for name, each in seen.items()}),
            (
                "stopped",
                "1 while its last reading ended in an error, or nothing of it is posted any more",
                {name: each.error is not None for name, each in seen.items()},
            ),
            (
                "failures",
                "Readings in a row that ended in an error",
                {name: row.failures for name, row in rows.items()},
            ),
            (
                "rate_limit_wait_seconds",
                "How long its vendor wants to be left alone from now on",
                {
                    name: max(0.0, (row.rests_until - sight.at).total_seconds()) if row.rests_until else 0
                    for name, row in rows.items()
                },
            ),
            (
                "last_run_timestamp_seconds",
                "When it was read last",
                {name: each.last_run.timestamp() for name, each in seen.items() if each.last_run},
            ),
            (
                "last_success_timestamp_seconds",
                "When it was read without an error last",
                {name: each.last_success.timestamp() for name, each in seen.items() if each.last_success},
            ),
            (
                "next_run_timestamp_seconds",
                "When it is read next",
                {name: each.next_run.timestamp() for name, each in seen.items() if each.next_run},
            ),
        ):
            yield _gauge(f"connector_{name}", words, ["connector"], [((key,), value) for key, value in values.items()])


def _gauge(
    name: str, words: str, labels: Sequence[str], values: Sequence[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"syncd_{name}", words, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, float(value))
    return family
