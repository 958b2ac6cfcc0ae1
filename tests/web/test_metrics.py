"""What Prometheus reads, held against what the ledger and the run's figures say."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from syncd.ledger import State, report
from syncd.sandbox import Faults
from syncd.signals import compose
from tests.conftest import record
from tests.web.conftest import TOKEN, Scene, staged


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and the values of its labels."""

    def each() -> Iterator[tuple[tuple[str, ...], float]]:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                yield (sample.name, *sample.labels.values()), sample.value

    return dict(each())


async def scraped(client: httpx.AsyncClient) -> dict[tuple[str, ...], float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return samples(answer.text)


async def test_the_queue_is_as_deep_as_the_ledger_says(scene: Scene) -> None:
    """An alert on queued or failed signals counts what is there."""
    async with scene.client() as client:
        seen = await scraped(client)
    counts = await scene.house.ledger.ask(report.counts)
    assert counts["survey"] == {State.PROCESSED: 2, State.FAILED: 1}
    for state in State:
        assert seen["syncd_signals", "survey", state] == counts["survey"].get(state, 0)


async def test_what_was_read_and_posted_is_counted(scene: Scene) -> None:
    """A source that dries up, and a post that goes nowhere, show in a graph."""
    async with scene.client() as client:
        seen = await scraped(client)
    assert seen["syncd_records_total", "survey", "new"] == 3
    assert seen["syncd_records_total", "survey", "skipped"] == 1
    assert seen["syncd_records_total", "lost", "new"] == 0
    assert seen["syncd_posts_total",] == scene.house.figures.posted == 3
    assert seen["syncd_connector_stopped", "lost"] == 1
    assert seen["syncd_connector_failures", "lost"] == 1
    assert seen["syncd_connector_stopped", "survey"] == 0
    assert seen["syncd_connector_set_aside_records", "survey"] == 1
    assert ("syncd_connector_last_success_timestamp_seconds", "lost") not in seen
    assert seen["syncd_connector_last_success_timestamp_seconds", "survey"] > 1.7e9


async def test_events_and_latencies_are_counted_once(tmp_path: Path) -> None:
    """However often it is asked, a signal that was accepted and processed is one sample of each."""
    async with staged(tmp_path) as scene, scene.client() as client:
        before = await scraped(client)
        assert not any(name[0] == "syncd_acceptance_seconds_count" for name in before)
        await scene.deliver()
        for _ in range(2):
            seen = await scraped(client)
            assert seen["syncd_signal_events_total", "survey", "accepted"] == 3
            assert seen["syncd_signal_events_total", "survey", "processed"] == 2
            assert seen["syncd_signal_events_total", "survey", "failed"] == 1
            assert seen["syncd_acceptance_seconds_count", "survey"] == 3
            assert seen["syncd_processing_seconds_count", "survey"] == 2
            assert 0 < seen["syncd_acceptance_seconds_sum", "survey"] < 60
        scene.sandbox.faults = Faults(failing_marker=None)
        await scene.house.rerun(["csv:survey:broken"], [], None)
        await scene.deliver()
        seen = await scraped(client)
        assert seen["syncd_signal_events_total", "survey", "retried"] == 1
        assert seen["syncd_processing_seconds_count", "survey"] == 3


async def test_each_worker_counts_its_own_work(tmp_path: Path) -> None:
    """Several syncds on one ledger can be added up: nothing is counted by two of them."""
    async with staged(tmp_path) as scene, scene.client() as client:
        await scene.deliver()
        scene.house.run += 1
        seen = await scraped(client)
    assert not any(name[0] == "syncd_signal_events_total" for name in seen)
    assert seen["syncd_signals", "survey", "processed"] == 2


async def test_what_is_wrong_is_one(scene: Scene) -> None:
    """A refused configuration, a refused key, a pause and a vendor's wish for rest each have a number to alert on."""
    async with scene.client() as client:
        seen = await scraped(client)
        for name in ("syncd_config_refused", "syncd_key_refused", "syncd_zentrik_wait_seconds"):
            assert seen[name,] == 0
        assert seen["syncd_connector_paused", "survey"] == 0
        now = scene.house.clock()
        scene.refused, scene.house.is_refused = "config.yaml:1: no", True
        scene.house.gate.park("429", timedelta(minutes=5), now)
        survey = scene.house.config.connectors["survey"].source
        await scene.house.ledger.pause([survey], now)
        await scene.house.ledger.start_pull(survey, scene.house.run, now)
        await scene.house.ledger.finish_pull(
            survey, scene.house.run, ("rate_limited", "429"), now, rests_until=now + timedelta(minutes=7)
        )
        seen = await scraped(client)
    assert seen["syncd_config_refused",] == seen["syncd_key_refused",] == 1
    assert seen["syncd_connector_paused", "survey"] == 1
    assert 290 < seen["syncd_zentrik_wait_seconds",] <= 300
    assert 410 < seen["syncd_connector_rate_limit_wait_seconds", "survey"] <= 420


async def test_lag_is_that_of_the_oldest_record(tmp_path: Path) -> None:
    """Records that wait while Zentrik takes none show as lag, and no lag is 0 rather than absent."""
    async with staged(tmp_path) as scene, scene.client() as client:
        source = scene.house.config.connectors["survey"].source
        then = scene.house.clock() - timedelta(hours=2)
        await scene.house.ledger.start_pull(source, scene.house.run, then)
        await scene.house.ledger.record_page(source, [compose(record(1), source)], [], {}, scene.house.run, then)
        seen = await scraped(client)
    assert 7200 <= seen["syncd_connector_lag_seconds", "survey"] < 7300
    assert seen["syncd_connector_lag_seconds", "lost"] == 0


async def test_each_loop_shows_its_age(scene: Scene) -> None:
    """A loop that slows down can be watched long before it counts as held up."""
    async with scene.client() as client:
        seen = await scraped(client)
    assert {name[1] for name in seen if name[0] == "syncd_loop_age_seconds"} == set(scene.house.beats)


async def test_they_are_not_for_everybody(scene: Scene) -> None:
    """Beyond loopback, names of connectors and how much they carry are told only to those with the token."""
    async with scene.client(TOKEN, host="0.0.0.0") as client:
        assert (await client.get("/metrics")).status_code == 401
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert ("syncd_posts_total",) in await scraped(client)
