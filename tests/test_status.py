"""The state of everything at a glance, as `syncd status` shows it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.config import Config, ConnectorSettings
from syncd.connector import Source
from syncd.fates import Accepted, Refused
from syncd.ledger import Answer, Database, Ledger, State, spending
from syncd.records import SetAside
from syncd.signals import compose
from syncd.status import ConnectorStatus, status
from tests.conftest import Clock, Listed, dies, record

NONE = dict.fromkeys(State, 0)


def config(**entries: dict[str, Any]) -> Config:
    """A configuration with these connectors, each read every hour unless it says otherwise."""
    return Config(
        connectors={
            name: ConnectorSettings(type="listed", name=name, namespace=f"listed:{name}", connector=Listed(), **entry)
            for name, entry in entries.items()
        }
    )


def origin(name: str) -> Source:
    return config(**{name: {}}).connectors[name].source


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = Ledger(Database(f"sqlite:///{tmp_path / 'ledger.db'}"))
    yield opened
    opened.close()


@pytest.fixture
async def run(ledger: Ledger, clock: Clock) -> int:
    return await ledger.start_run("run", clock())


async def read(ledger: Ledger, run: int, clock: Clock, name: str, error: tuple[str, str] | None = None) -> None:
    """A reading of that connector that takes two seconds and ends now."""
    await ledger.start_pull(origin(name), run, clock())
    clock.move(2)
    await ledger.finish_pull(origin(name), run, error, clock())


def the_one(config: Config, ledger: Ledger | None, clock: Clock) -> ConnectorStatus:
    [connector] = status(config, ledger.database if ledger else None, clock()).connectors
    return connector


class TestState:
    def test_new_before_the_first_run(self, clock: Clock) -> None:
        """Before anything ran, and without a ledger, every connector is shown, due now."""
        assert the_one(config(reviews={}), None, clock) == ConnectorStatus(
            name="reviews",
            type="listed",
            state="new",
            last_run=None,
            last_success=None,
            next_run=clock(),
            error=None,
            signals=NONE,
            set_aside=0,
            lag=None,
        )

    async def test_stopped_when_the_run_that_read_it_died(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """A reading that was killed does not look like one that went well."""
        await ledger.start_pull(origin("reviews"), run, clock())
        assert the_one(config(reviews={}), ledger, clock).state == "running"
        dies(ledger)
        found = the_one(config(reviews={}), ledger, clock)
        assert (found.state, found.error and found.error[0]) == ("stopped", "interrupted")

    async def test_new_beside_others_that_ran(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """A connector that was added today is told from one that works."""
        await read(ledger, run, clock, "tickets")
        shown = status(config(reviews={}, tickets={}), ledger.database, clock()).connectors
        assert [(each.name, each.state) for each in shown] == [("reviews", "new"), ("tickets", "ok")]

    async def test_ok_after_a_good_run(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """A connector that works shows when it was read and when it will be."""
        started = clock()
        await read(ledger, run, clock, "reviews")
        shown = the_one(config(reviews={}), ledger, clock)
        assert (shown.state, shown.error) == ("ok", None)
        assert (shown.last_run, shown.last_success) == (started, started + timedelta(seconds=2))
        assert shown.next_run == started + timedelta(hours=1)

    async def test_stopped_by_an_error_until_a_good_run(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """An expired token is seen with its reason and since when, until it works again."""
        await read(ledger, run, clock, "reviews")
        good = clock()
        clock.move(3600)
        await read(ledger, run, clock, "reviews", ("credentials_refused", "the token expired"))
        shown = the_one(config(reviews={}), ledger, clock)
        assert (shown.state, shown.last_success) == ("stopped", good)
        assert (shown.error, shown.failures) == (("credentials_refused", "the token expired"), 1)
        await read(ledger, run, clock, "reviews")
        shown = the_one(config(reviews={}), ledger, clock)
        assert (shown.state, shown.failures) == ("ok", 0)

    async def test_running_while_its_run_is_alive(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """What is being read right now says so, by the run that holds it, in this process or another."""
        await ledger.start_pull(origin("reviews"), run, clock())
        assert the_one(config(reviews={}), ledger, clock).state == "running"
        dies(ledger)
        assert the_one(config(reviews={}), ledger, clock).state != "running"

    async def test_off_is_not_due(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """A connector that was switched off keeps its figures and shows that it will not be read."""
        await read(ledger, run, clock, "reviews", ("unreachable", "no route"))
        shown = the_one(config(reviews={"enabled": False}), ledger, clock)
        assert (shown.state, shown.next_run) == ("off", None)

    async def test_gone_once_it_is_out_of_the_configuration(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """Signals of a connector that was taken out or renamed are still accounted for, after those that are in."""
        for name in ("zebra", "ant"):
            await read(ledger, run, clock, name)
        shown = status(config(zebra={}, late={}), ledger.database, clock()).connectors
        assert [(each.name, each.state, each.type) for each in shown] == [
            ("zebra", "ok", "listed"),
            ("late", "new", "listed"),
            ("ant", "gone", "listed"),
        ]
        assert shown[-1].next_run is None


class TestNextRun:
    @pytest.mark.parametrize(
        ("schedule", "hours"),
        [
            ({"every": timedelta(hours=6)}, 6),
            ({"cron": "0 12 * * *"}, 3),
            ({"cron": "0 12 * * *", "timezone": "Europe/Berlin"}, 2),
        ],
    )
    async def test_it_follows_the_timetable(
        self, ledger: Ledger, run: int, clock: Clock, schedule: dict[str, Any], hours: int
    ) -> None:
        """The time shown is the time the daemon will keep."""
        started = clock()
        await read(ledger, run, clock, "reviews")
        settings = config(reviews=schedule)
        assert the_one(settings, ledger, clock).next_run == started + timedelta(hours=hours)
        clock.move(30 * 3600)
        assert the_one(settings, ledger, clock).next_run == clock(), "one that was missed is now"


class TestFigures:
    async def test_counts_and_lag_are_those_of_the_ledger(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """How much waits, and for how long, is seen before a customer asks."""
        await ledger.start_pull(origin("reviews"), run, clock())
        page = [compose(record(number), origin("reviews")) for number in range(4)]
        seen = clock()
        await ledger.record_page(origin("reviews"), page, [SetAside("a.csv:2", "no text")], {}, run, clock())
        one, other, _ = (await ledger.exchange([], 3, run, clock())).claimed
        answers = [Answer(one, Accepted("SIGNAL-1"), clock()), Answer(other, Refused("422"), clock())]
        await ledger.exchange(answers, 0, run, clock())
        clock.move(90)
        shown = the_one(config(reviews={}), ledger, clock)
        assert shown.signals == NONE | {
            State.PROCESSING: 1,
            State.REJECTED: 1,
            State.SENDING: 1,
            State.QUEUED: 1,
        }
        assert shown.set_aside == 1
        assert shown.lag == clock() - seen

    async def test_nothing_that_waits_is_no_lag(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """A connector whose records are all delivered does not look late."""
        await read(ledger, run, clock, "reviews")
        clock.move(86_400)
        assert the_one(config(reviews={}), ledger, clock).lag is None


class TestJson:
    async def test_a_script_finds_every_connector_and_the_sums(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """Monitoring can be built on `status --json`: the keys are always there, times are UTC, numbers add up."""
        for name, error in (("reviews", None), ("tickets", ("unreachable", "no route"))):
            await ledger.start_pull(origin(name), run, clock())
            page = [compose(record(number), origin(name)) for number in range(2)]
            await ledger.record_page(origin(name), page, [], {}, run, clock())
            clock.move(2)
            await ledger.finish_pull(origin(name), run, error, clock())
        printed = status(config(reviews={}, tickets={}, late={}), ledger.database, clock()).as_json()
        counted = {str(state): 0 for state in State} | {"queued": 2}
        assert json.loads(json.dumps(printed)) == {
            "connectors": {
                "reviews": {
                    "type": "listed",
                    "state": "ok",
                    "lastRun": "2026-11-02T09:00:00Z",
                    "lastSuccess": "2026-11-02T09:00:02Z",
                    "nextRun": "2026-11-02T10:00:00Z",
                    "error": None,
                    "signals": counted,
                    "skipped": 0,
                    "overdue": 0,
                    "lagSeconds": 4.0,
                },
                "tickets": {
                    "type": "listed",
                    "state": "stopped",
                    "lastRun": "2026-11-02T09:00:02Z",
                    "lastSuccess": None,
                    "nextRun": "2026-11-02T10:00:02Z",
                    "error": {"code": "unreachable", "message": "no route"},
                    "signals": counted,
                    "skipped": 0,
                    "overdue": 0,
                    "lagSeconds": 2.0,
                },
                "late": {
                    "type": "listed",
                    "state": "new",
                    "lastRun": None,
                    "lastSuccess": None,
                    "nextRun": "2026-11-02T09:00:04Z",
                    "error": None,
                    "signals": counted | {"queued": 0},
                    "skipped": 0,
                    "overdue": 0,
                    "lagSeconds": None,
                },
            },
            "signals": counted | {"queued": 4},
        }

    async def test_what_is_held_is_told_where_something_is(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """Whoever wonders why so much is queued sees how much of it waits for an account, and that no budget is to
        blame; other connectors look as ever."""
        settings = config(reviews={"budget": {"signals": 1}}, tickets={})
        await ledger.start_pull(origin("reviews"), run, clock())
        page = [compose(record(number), origin("reviews")) for number in range(4)]
        held = [replace(signal, held=(("domain", "acme.test"),)) for signal in page[1:]]
        await ledger.record_page(origin("reviews"), [page[0], *held], [], {}, run, clock())
        await ledger.exchange([], 10, run, clock(), budgets=settings.budgets)
        shown = status(settings, ledger.database, clock())
        printed = json.loads(json.dumps(shown.as_json()))["connectors"]
        assert (printed["reviews"]["held"], "held" in printed["tickets"]) == (3, False)
        assert not shown.connectors[0].waits
        assert await ledger.ask(spending.waits, settings.budgets, clock()) == {}

    async def test_a_budget_is_told_where_there_is_one(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """Monitoring sees how much of a day is spent, and until when; connectors without a budget look as ever."""
        settings = config(reviews={"budget": {"signals": 2}, "timezone": "Europe/Berlin"}, tickets={})
        await ledger.start_pull(origin("reviews"), run, clock())
        page = [compose(record(number, "Ten chars."), origin("reviews")) for number in range(5)]
        await ledger.record_page(origin("reviews"), page, [], {}, run, clock())
        await ledger.exchange([], 10, run, clock(), budgets=settings.budgets)
        shown = status(settings, ledger.database, clock())
        printed = json.loads(json.dumps(shown.as_json()))["connectors"]
        assert printed["reviews"]["budget"] == {
            "signals": {"spent": 2, "limit": 2},
            "characters": {"spent": 20, "limit": None},
            "share": 1.0,
            "until": "2026-11-02T23:00:00Z",
        }
        assert "budget" not in printed["tickets"]
        assert shown.connectors[0].budget == (
            "reviews: the day's budget is spent (2 of 2 signals); 3 signals wait until 2026-11-02 23:00 UTC"
        )

    def test_no_connectors_is_an_object_too(self, clock: Clock) -> None:
        """A fresh installation prints JSON of the same shape."""
        printed = status(Config(), None, clock()).as_json()
        assert printed == {"connectors": {}, "signals": {str(state): 0 for state in State}}


class TestPlan:
    async def test_a_paused_connector_has_no_next_run_until_it_is_resumed(
        self, ledger: Ledger, run: int, clock: Clock
    ) -> None:
        """Who glances at it sees that nothing is coming, and that somebody wanted it so."""
        await ledger.pause([origin("reviews")], clock())
        shown = the_one(config(reviews={}), ledger, clock)
        assert (shown.state, shown.next_run) == ("paused", None)
        await ledger.pause([origin("reviews")], None)
        assert the_one(config(reviews={}), ledger, clock).state == "ok"

    async def test_a_pause_outlasts_a_reading(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """A reading that was asked for by hand ends no pause."""
        await ledger.pause([origin("reviews")], clock())
        await read(ledger, run, clock, "reviews")
        assert the_one(config(reviews={}), ledger, clock).state == "paused"

    async def test_one_that_fails_again_and_again_is_tried_ever_more_rarely(
        self, ledger: Ledger, run: int, clock: Clock
    ) -> None:
        """A source that is down for days is not hammered, and is found to be back within hours."""
        every = timedelta(hours=1)
        waits = []
        for _ in range(6):
            began = clock()
            await read(ledger, run, clock, "reviews", ("unavailable", "it is down"))
            shown = the_one(config(reviews={"every": every}), ledger, clock)
            assert shown.next_run is not None
            waits.append(shown.next_run - began)
            clock.move((shown.next_run - clock()).total_seconds())
        assert waits == [every, 2 * every, 4 * every, 6 * every, 6 * every, 6 * every]
        await read(ledger, run, clock, "reviews")
        began = clock() - timedelta(seconds=2)
        assert the_one(config(reviews={"every": every}), ledger, clock).next_run == began + every

    async def test_a_vendor_that_wants_to_be_left_alone_is(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """The next run is when the vendor said, not when the timetable would have it."""
        source, until = origin("reviews"), clock() + timedelta(hours=5)
        await ledger.start_pull(source, run, clock())
        await ledger.finish_pull(source, run, ("rate_limited", "later"), clock(), rests_until=until)
        assert the_one(config(reviews={}), ledger, clock).next_run == until


class TestBackfills:
    async def test_one_that_is_not_finished_is_shown_until_it_is(self, ledger: Ledger, run: int, clock: Clock) -> None:
        """A window that somebody began and forgot is found again; a script that knows of none sees no new key."""
        assert "backfills" not in status(config(reviews={}), ledger.database, clock()).as_json()
        since, until = clock() - timedelta(days=30), clock()
        begun = await ledger.start_backfill(origin("reviews"), since, until, lambda *window: [window], clock())
        shown = status(config(reviews={}), ledger.database, clock())
        assert shown.backfills == [begun]
        assert json.loads(json.dumps(shown.as_json()))["backfills"] == [
            {
                "connector": "reviews",
                "since": since.isoformat(),
                "until": until.isoformat(),
                "slices": 1,
                "read": 0,
                "startedAt": clock().isoformat(),
                "finishedAt": None,
            }
        ]
        taken = await ledger.take_slice(begun.id, 0, run, clock())
        assert taken is not None
        await ledger.finish_slice(origin("reviews"), taken, run, clock(), is_whole=True)
        assert status(config(reviews={}), ledger.database, clock()).backfills == []
