"""The house as a whole, within this process: what ends it, and what its figures say."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.app import open_house
from syncd.config import Config, load
from syncd.connector import Checkpoint, Connector, Page, Source, Window
from syncd.errors import ConfigError, KeyRefused, LedgerError, NotReady
from syncd.figures import Figures
from syncd.ledger import State
from syncd.pacing import Gate
from syncd.pull import Pulled, Span
from syncd.retry import Backoff
from syncd.sandbox import Faults, Sandbox

CONFIG = """
ledger: sqlite:///{folder}/syncd.db
shutdown_timeout: 5s
zentrik: {{poll_interval: 50ms, ready_timeout: 300ms, absent_after: 100ms}}
connectors:
  survey: {{type: csv, path: {folder}/inbox, id: "{{{{ row.id }}}}", text: "{{{{ row.comment }}}}", settle: 0s}}
"""
ROWS = "id,comment\n1,Too slow.\n2,Fine.\n3,\n"


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(processing_takes=timedelta(milliseconds=50))


@pytest.fixture
async def config(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[Config]:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "nps.csv").write_text(ROWS, encoding="utf-8")
    (tmp_path / "config.yaml").write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    async with sandbox.serve() as api_base:
        yield load(tmp_path / "config.yaml", {"ZENTRIK_API_BASE": api_base, "ZENTRIK_API_KEY": "sandbox-key"})


async def run_once(
    config: Config, on_change: Callable[[Figures], None] = lambda _: None, wait: timedelta | None = None
) -> Figures:
    """One round, by a house that backs off for tenths of a second at the most."""
    async with asyncio.timeout(20), open_house(config, "run-once") as house:
        house.backoff = Backoff(first=timedelta(milliseconds=50), cap=timedelta(milliseconds=200))
        house.gate = Gate(house.backoff)
        house.gap = timedelta(milliseconds=50)
        house.on_change = on_change
        sources = [entry.source for entry in config.connectors.values()]
        return await house.run_once(sources, Span(), wait, only=False)


class Keyed(Connector):
    """A connector with a private key that cannot be read."""

    provider = "external_api"

    def hosts(self) -> frozenset[str]:
        return frozenset({"127.0.0.1"})

    def auth(self) -> httpx.Auth | None:
        raise ValueError("that is not a key")

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        await http.get("http://127.0.0.1:1/")
        yield Page(records=(), checkpoint={})

    async def check(self, http: httpx.AsyncClient) -> str:
        return "never"


class Restless(Keyed):
    """A source that says each time that it was about to be ready a moment ago."""

    asked: Any = None

    def model_post_init(self, _: object) -> None:
        object.__setattr__(self, "asked", [0])

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        self.asked[0] += 1
        yield Page(records=(), checkpoint={}, revisit_at=window.now)


async def beside(config: Config, sandbox: Sandbox) -> Figures:
    """One round that begins when another one has something in its hands."""
    async with asyncio.timeout(10):
        while sandbox.books.created < 2:  # noqa: ASYNC110 - it happens in a server
            await asyncio.sleep(0.01)
    return await run_once(config)


class TestRunOnce:
    async def test_its_figures_add_up(self, config: Config) -> None:
        """Everything fetched is somewhere, and everything accepted has a fate."""
        figures = await run_once(config)
        survey = figures.connectors["survey"]
        assert survey.fetched == survey.new + survey.changed + survey.unchanged + survey.skipped == 3
        assert (figures.posted, figures.accepted, figures.signals[State.PROCESSED]) == (2, 2, 2)
        assert figures.is_clean

    async def test_the_figures_are_kept_with_the_run(self, config: Config, tmp_path: Path) -> None:
        """What a run printed can be looked up when its terminal is long gone."""
        figures = await run_once(config)
        with closing(sqlite3.connect(tmp_path / "syncd.db")) as db:
            [(command, kept)] = db.execute("SELECT command, json(figures) FROM runs").fetchall()
        assert (command, kept is not None) == ("run-once", True)
        assert str(figures.as_json()["posted"]) in kept

    async def test_many_mishaps_are_one_clean_run(self, config: Config, sandbox: Sandbox) -> None:
        """Refusals for a while, errors and broken connections cost time, and no record, in one run."""
        sandbox.faults = Faults(
            next_posts=("429", "503", "cut_after", "500", "torn", "504", "cut_before", "429_bare"),
            retry_after_seconds=0,
        )
        figures = await run_once(config)
        assert figures.is_clean
        assert (figures.accepted, len(sandbox.books), sandbox.books.duplicates()) == (2, 2, 0)

    async def test_a_refused_key_ends_it(self, config: Config, sandbox: Sandbox) -> None:
        """Without the scope to write nothing is lost: every record waits in the ledger."""
        sandbox.faults = Faults(scopes=("signals:read",))
        with pytest.raises(KeyRefused, match="Every record is kept"):
            await run_once(config)
        sandbox.faults = Faults()
        assert (await run_once(config)).accepted == 2

    async def test_one_that_asks_for_patience_is_given_it(self, config: Config, sandbox: Sandbox) -> None:
        """A rate limit that lasts longer than `ready_timeout` is no reason to give up on a Zentrik that is well."""
        sandbox.faults = Faults(next_posts=("429_bare",) * 5)
        assert (await run_once(config)).is_clean

    async def test_a_zentrik_that_goes_away_ends_it(self, config: Config, sandbox: Sandbox) -> None:
        """A Zentrik that breaks down after it called itself ready is not waited for without end."""
        sandbox.faults = Faults(share_of_posts={"429_bare": 1})

        def break_down(figures: Figures) -> None:
            if figures.posted:
                sandbox.faults = Faults(share_of_posts={"cut_before": 1}, ready=False)

        with pytest.raises(NotReady, match="Every record is kept"):
            await run_once(config, on_change=break_down)
        sandbox.faults = Faults()
        assert (await run_once(config)).signals[State.PROCESSED] == 2
        assert sandbox.books.duplicates() == 0

    async def test_what_zentrik_could_not_process_is_processed_again(self, config: Config, sandbox: Sandbox) -> None:
        """A processor that fails once costs nobody a command: one run ends with everything processed, created once."""
        sandbox.faults = Faults(failing=1)

        def recover(figures: Figures) -> None:
            if figures.signals[State.FAILED]:
                sandbox.faults = Faults()

        figures = await run_once(config, on_change=recover)
        assert figures.is_clean
        assert list(figures.imbalances()) == []
        assert (sandbox.books.created, sandbox.calls.count("POST", "/signals/:publicId/process")) == (2, 2)

    async def test_what_always_fails_is_left_after_its_budget(self, config: Config, sandbox: Sandbox) -> None:
        """A record that no processor can read is processed three times in all, and then left to a person."""
        sandbox.faults = Faults(failing=1)
        figures = await run_once(config)
        assert (figures.signals[State.FAILED], figures.is_clean) == (2, False)
        assert sandbox.calls.count("POST", "/signals/:publicId/process") == 4

    async def test_a_connector_whose_records_are_refused_is_named(
        self, config: Config, sandbox: Sandbox, tmp_path: Path
    ) -> None:
        """Who reads the end of a run learns which connector was halted, why, and what to do; the rest of it waits."""
        lines = [
            f'{{"kind": "external_text", "externalId": "a:{n}", "text": "Hm.", "signalType": "poem"}}'
            for n in range(80)
        ]
        (tmp_path / "inbox" / "bad.jsonl").write_text("\n".join(lines), encoding="utf-8")
        figures = await run_once(config)
        error = figures.connectors["survey"].error
        assert error is not None
        assert error[0] == "refused_too_often"
        assert "syncd retry --connector survey" in error[1]
        assert figures.signals[State.QUEUED] >= 80 - 30 - 16
        assert list(figures.imbalances()) == []

    async def test_what_cannot_be_delivered_yet_is_not_called_done(self, config: Config, sandbox: Sandbox) -> None:
        """A run that finds records waiting for a time Zentrik named leaves it alone, and does not say that all is
        well; an operator's retry may try at once."""
        sandbox.faults = Faults(next_posts=("429", "429"), retry_after_seconds=86_400)
        first, second = await run_once(config), await run_once(config)
        assert (first.signals[State.QUEUED], first.is_clean) == (2, False)
        assert (second.left, second.is_clean) == (2, False)
        assert second.as_json()["left"] == 2
        assert sandbox.calls.count("POST", "/signals") == 2
        async with open_house(config, "retry") as house:
            await house.rerun([], [State.REJECTED], None)
        async with open_house(config, "test") as house:
            assert (await house.ledger.exchange([], 1, house.run, house.clock())).closed is None

    async def test_nobody_waits_for_a_look_that_does_not_come(self, config: Config, sandbox: Sandbox) -> None:
        """One signal that is stuck at Zentrik costs a cron job no five minutes."""
        sandbox.books._processing_takes = timedelta(days=9)
        assert (await run_once(config, wait=timedelta(milliseconds=300))).signals[State.PROCESSING] == 2
        async with asyncio.timeout(20), open_house(config, "test") as house:
            house.looks.overdue = timedelta(0)
            house.clock = lambda: datetime.now(UTC) + timedelta(days=2)
            began = time.monotonic()
            await house.run_once([], Span(), timedelta(seconds=15), only=False)
            assert time.monotonic() - began < 5

    async def test_a_sweep_does_not_outlast_the_run(self, config: Config, sandbox: Sandbox) -> None:
        """Told to wait two seconds, a run does not wait for the end of somebody's Retry-After."""

        def slow_down(figures: Figures) -> None:
            if figures.posted:
                sandbox.faults = Faults(share_of_reads={"429": 1}, retry_after_seconds=8)

        sandbox.faults = Faults(next_posts=("cut_before", "cut_before"))
        began = time.monotonic()
        figures = await run_once(config, on_change=slow_down, wait=timedelta(seconds=2))
        assert time.monotonic() - began < 15
        assert list(figures.imbalances()) == []

    async def test_what_another_syncd_has_in_its_hands_is_waited_for(self, config: Config, sandbox: Sandbox) -> None:
        """A run beside another one does not end before the records of both have a fate."""
        sandbox.faults = Faults(next_posts=("hold", "hold"), hold_for=1)
        one, other = await asyncio.gather(run_once(config), beside(config, sandbox))
        assert one.signals[State.PROCESSED] + other.signals[State.PROCESSED] == 2
        assert [*one.imbalances(), *other.imbalances()] == []
        assert (sandbox.books.created, other.signals[State.SENDING]) == (2, 0)

    async def test_without_a_key_nothing_begins(self, config: Config, tmp_path: Path) -> None:
        """A run that could post nothing says so before it touches the ledger."""
        keyless = load(tmp_path / "config.yaml", {})
        with pytest.raises(ConfigError, match="ZENTRIK_API_KEY"):
            await run_once(keyless)
        assert not (tmp_path / "syncd.db").exists()


class TestRunForEver:
    async def test_it_outlives_a_key_that_is_refused(
        self, config: Config, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While the key lacks its scope the daemon goes on reading and keeps every record; when it has it again,
        everything is delivered without anybody's help, and the key is tried with questions, not with records."""
        monkeypatch.setattr("syncd.app._REFUSED", timedelta(milliseconds=100))
        sandbox.faults = Faults(scopes=())
        async with asyncio.timeout(20), open_house(config, "run") as house:
            house.gap = timedelta(milliseconds=20)

            def go_on(figures: Figures) -> None:
                if figures.signals[State.PROCESSED] == 2:
                    house.stop.set()

            async def mend() -> None:
                while sandbox.calls.count("GET", "/signals", 403) < 3:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
                assert house.figures.connectors["survey"].new == 2
                sandbox.faults = Faults()

            house.on_change = go_on
            await asyncio.gather(house.run_for_ever(), mend())
        assert sandbox.calls.count("POST", "/signals", 403) <= 2
        assert sandbox.books.created == 2

    async def test_it_reads_posts_and_follows_until_it_is_stopped(self, config: Config, sandbox: Sandbox) -> None:
        """The daemon delivers by itself what lies in the folder, and stops when told."""
        async with asyncio.timeout(20), open_house(config, "run") as house:

            def stop_when_done(figures: Figures) -> None:
                if figures.signals[State.PROCESSED] == 2:
                    house.stop.set()

            house.on_change = stop_when_done
            await house.run_for_ever()
            assert house.figures.accepted == 2
        assert sandbox.books.statuses() == {"processed": 2}

    async def test_what_comes_while_a_connector_is_read_is_read_after_it(
        self, config: Config, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """News that arrive behind a reading's back do not wait for the connector's next time, days away perhaps."""
        monkeypatch.setattr(type(config.connectors["survey"].connector), "watched", lambda _: ())
        async with asyncio.timeout(20), open_house(config, "run") as house:

            def drop_another(figures: Figures) -> None:
                if house.reading:
                    (tmp_path / "inbox" / "late.csv").write_text("id,comment\n9,Late.\n", encoding="utf-8")
                    house.start_now("survey")
                if figures.signals[State.PROCESSED] == 3:
                    house.stop.set()

            house.on_change = drop_another
            await house.run_for_ever()
        assert sandbox.books.created == 3

    async def test_a_paused_connector_is_not_read_and_a_named_one_is(self, config: Config) -> None:
        """`syncd pause` holds for the daemon and for a round of everything; asked for by name, it is read once."""
        [entry] = config.connectors.values()
        async with asyncio.timeout(20), open_house(config, "run") as house:
            await house.ledger.pause([entry.source], house.clock())
            asyncio.get_running_loop().call_later(0.5, house.stop.set)
            await house.run_for_ever()
            assert house.figures.connectors == {}
        assert (await run_once(config)).connectors == {}
        async with asyncio.timeout(20), open_house(config, "run-once") as house:
            figures = await house.run_once([entry.source], Span(), timedelta(0), only=True)
        assert figures.connectors["survey"].new == 2

    async def test_a_clock_that_is_set_back_holds_nothing_up(
        self, config: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Readings that were planned by the old time come at the new one, not an hour late."""
        monkeypatch.setattr("syncd.app._TICK", timedelta(milliseconds=20))
        back = [timedelta(0)]
        planned: dict[str, datetime] = {}
        async with asyncio.timeout(20), open_house(config, "run") as house:
            house.clock = lambda: datetime.now(UTC) - back[0]
            monkeypatch.setattr(house.scheduler, "again_at", lambda name, moment: planned.update({name: moment}))
            keeping = asyncio.create_task(house._keep_time(dict(config.connectors)))
            await asyncio.sleep(0.1)
            assert planned == {}
            back[0] = timedelta(hours=1)
            while not planned:  # noqa: ASYNC110 - it happens in the task
                await asyncio.sleep(0.01)
            assert abs(planned["survey"] - house.clock()) < timedelta(seconds=5)
            keeping.cancel()

    async def test_its_figures_add_up_over_many_readings(self, config: Config, tmp_path: Path) -> None:
        """A daemon that reads a connector again and again accounts for all of it when it is stopped."""
        [entry] = config.connectors.values()
        async with asyncio.timeout(20), open_house(config, "run") as house:
            for number in range(3):
                text = f"id,comment\n{number + 10},Row {number}.\n"
                (tmp_path / "inbox" / f"more-{number}.csv").write_text(text, encoding="utf-8")
                await house._read(entry.source, Span(), waits=False)
            await house._count()
        assert house.figures.connectors["survey"].new == house.figures.signals[State.QUEUED] == 5
        assert list(house.figures.imbalances()) == []

    async def test_a_connector_whose_key_cannot_be_read_is_its_own_trouble(self, config: Config) -> None:
        """A private key that is no key stops that connector, with the reason, and neither the others nor the daemon."""
        source = Source("broken", "keyed", "keyed:broken", Keyed())
        async with asyncio.timeout(20), open_house(config, "run") as house:
            pulled = await house._read(source, Span(), waits=False)
        assert pulled.error is not None
        assert "not a key" in pulled.error[1]

    async def test_a_source_that_is_always_about_to_be_ready_is_not_read_in_a_frenzy(self, config: Config) -> None:
        """A connector that names a time long past is asked again after a breath, and not without end."""
        restless = Restless()
        async with asyncio.timeout(20), open_house(config, "run-once") as house:
            house.gap = timedelta(milliseconds=50)
            reading = asyncio.create_task(house._read(Source("r", "restless", "r:r", restless), Span(), waits=True))
            await asyncio.sleep(0.5)
            house.stop.set()
            await reading
        assert 2 <= restless.asked[0] <= 12

    async def test_a_ledger_that_breaks_ends_it(self, config: Config, tmp_path: Path) -> None:
        """A daemon that cannot keep its books says so and ends, for whoever watches it to see."""
        async with asyncio.timeout(20):
            async with open_house(config, "run") as house:
                with closing(sqlite3.connect(tmp_path / "syncd.db")) as db:
                    db.execute("DROP TABLE set_aside")
                with pytest.raises(LedgerError, match="set_aside"):
                    await house.run_for_ever()

    async def test_a_source_that_cannot_be_read_does_not_end_it(self, config: Config, tmp_path: Path) -> None:
        """One broken connector is that connector's trouble; the daemon lives on."""
        (tmp_path / "inbox" / "nps.csv").unlink()
        (tmp_path / "inbox").rmdir()
        async with asyncio.timeout(20), open_house(config, "run") as house:

            def stop_when_read(figures: Figures) -> None:
                if "survey" in figures.connectors:
                    house.stop.set()

            house.on_change = stop_when_read
            await house.run_for_ever()
            error = house.figures.connectors["survey"].error
        assert error is not None
        assert error[0] == "no_such_folder"


class TestFigures:
    @given(
        st.builds(Pulled, *[st.integers(0, 9)] * 4, error=st.none() | st.just(("code", "message"))),
        st.fixed_dictionaries({state: st.integers(0, 2) for state in State}),
    )
    def test_clean_is_only_what_is_all_done(self, pulled: Pulled, signals: dict[State, int]) -> None:
        """Exit code 0 is never given to a run that left something undone, nor denied to one that did not."""
        figures = Figures({"survey": pulled}, signals=signals)
        done = (State.PROCESSING, State.PROCESSED, State.DELETED, State.FORGOTTEN)  # what is gone is no work of ours
        undone = sum(number for state, number in signals.items() if state not in done)
        assert figures.is_clean == (pulled.error is None and undone == 0)
        shown = figures.as_json()["connectors"]
        assert isinstance(shown, dict)
        survey = shown["survey"]
        assert survey["fetched"] == survey["new"] + survey["changed"] + survey["unchanged"] + survey["skipped"]


class TestReading:
    async def test_a_file_that_is_still_written_to_is_waited_for_but_not_for_ever(
        self, config: Config, tmp_path: Path
    ) -> None:
        """`run-once` waits for a file to rest; one that never does is left for the next run, and the run ends."""
        path = tmp_path / "config.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace("settle: 0s", "settle: 1h"), encoding="utf-8")
        slow = load(path, {"ZENTRIK_API_BASE": config.zentrik.api_base, "ZENTRIK_API_KEY": "sandbox-key"})
        assert (await run_once(slow)).connectors["survey"].fetched == 0
        path.write_text(path.read_text(encoding="utf-8").replace("settle: 1h", "settle: 500ms"), encoding="utf-8")
        quick = load(path, {"ZENTRIK_API_BASE": config.zentrik.api_base, "ZENTRIK_API_KEY": "sandbox-key"})
        (tmp_path / "inbox" / "nps.csv").touch()
        assert (await run_once(quick)).connectors["survey"].new == 2
