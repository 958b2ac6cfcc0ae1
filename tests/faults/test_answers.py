"""Zentrik answers badly, late, or not at all, and one ordinary run delivers everything all the same."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest

from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.books import Order
from syncd.sandbox.faults import Mishap
from tests.faults.conftest import OnSQLite, Operator, Stage
from tests.stories.conftest import quick_sandbox

MISHAPS: tuple[Mishap, ...] = get_args(Mishap)
ORDERS: tuple[Order, ...] = get_args(Order)
STOPS = "html_404"
"""The mishap that looks like a wrong address: a run ends with exit code 3 at it, by design, and keeps every record."""

MIXED: tuple[Mishap, ...] = tuple(mishap for mishap in MISHAPS if mishap != STOPS)
AT_ONCE = 4
PATIENCE = 300
"""Seconds that one run may take: a Zentrik that fails in a third of its answers is given time."""


@dataclass(frozen=True)
class Case:
    """A misbehaviour, by its name in the table; `zentrik` are settings to meet it with."""

    name: str
    faults: Faults
    dedup: bool = False
    order: Order = "newest_first"
    zentrik: Mapping[str, str] = field(default_factory=dict)
    is_survived: bool = True

    def __str__(self) -> str:
        return f"{self.name}, {self.order}{', deduplicating' if self.dedup else ''}"


def posts(shares: Mapping[Mishap, float], **more: Any) -> Faults:
    """These shares of the posts go wrong; a held answer outlasts the caller's patience of a second."""
    return Faults(share_of_posts=shares, hold_for=1.5, **more)


def deliver(stage: Stage, case: Case, rows: int = 150) -> None:
    """One run over some rows; more only where the first ends early by design."""
    sandbox = quick_sandbox(order=case.order, dedup=case.dedup, seed=sum(map(ord, str(case))))
    with stage.operator(sandbox, **{"timeout": "1s", **case.zentrik}) as operator:
        operator.drop_rows(range(rows))
        sandbox.faults = case.faults
        done = operator.syncd("run-once", "--json", limit=PATIENCE)
        runs = 1
        while done.returncode == 3 and not case.is_survived and runs < 4:
            sandbox.faults = case.faults if runs < 3 else Faults()
            done = operator.syncd("run-once", "--json", limit=PATIENCE)
            runs += 1
        found = stage.compare(case.name, operator, sandbox, dedup=case.dedup)
        assert found.is_even, f"{case}: {found}\n{done.stderr[-2000:]}"
        assert done.returncode == 0, f"{case}: {done.stderr[-2000:]}"


def deliver_all(stage: Stage, cases: list[Case], rows: int = 150) -> None:
    """Try the cases side by side, for most of the time is spent waiting."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda case: deliver(stage, case, rows), cases))


def alone(share: float, mishaps: tuple[Mishap, ...] = MISHAPS, **more: Any) -> list[Case]:
    """Each mishap by itself in that share of the posts, the lists in one order after the other."""
    return [
        Case(
            f"`{mishap}` to {share:.0%} of the posts",
            posts({mishap: share}),
            is_survived=mishap != STOPS,
            **{"order": ORDERS[place % len(ORDERS)], **more},
        )
        for place, mishap in enumerate(mishaps)
    ]


def mixture(share: float, **more: Any) -> Case:
    """All mishaps that a run survives, in equal parts, in that share of the posts and a third of it of the reads."""
    part = share / len(MIXED)
    reads: dict[Mishap, float] = dict.fromkeys(MIXED, part / 3)
    faults = posts(dict.fromkeys(MIXED, part), share_of_reads=reads, jitter=0.05)
    return Case(f"a mixture to {share:.0%} of the posts", faults, **more)


STORMS = [
    Case("429, Retry-After in seconds, at 40 calls a second", Faults(rate_limit=40)),
    Case("429, Retry-After as a date, at 40 calls a second", Faults(rate_limit=40, retry_after="date")),
    Case("429 without Retry-After, at 40 calls a second", Faults(rate_limit=40, retry_after="none")),
    Case("429 to the first 40 posts", Faults(next_posts=("429",) * 40, retry_after_seconds=1)),
    Case("429 to the first 40 posts, with a Retry-After of 0", Faults(next_posts=("429",) * 40, retry_after_seconds=0)),
    Case("503 to the first 40 posts", Faults(next_posts=("503",) * 40)),
    Case("every answer to the first 40 posts cut off", Faults(next_posts=("cut_after",) * 40)),
]

SLOW = [
    Case("answers after 0.3 to 0.6 s", Faults(latency=0.3, jitter=0.3)),
    Case(
        "posts stored after their caller gave up",
        Faults(latency=0.2, jitter=0.4),
        zentrik={"timeout": "400ms", "absent_after": "2s"},
    ),
]


@pytest.mark.parametrize("stage", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_a_mixture_of_everything_costs_nothing_but_time(stage: Stage) -> None:
    """With three answers of ten gone wrong, one run delivers each record once, in whatever order Zentrik lists."""
    deliver_all(stage, [mixture(0.3, order=order) for order in ORDERS])


class TestOneFault(OnSQLite):
    @pytest.mark.parametrize("part", range(3))
    def test_no_mishap_loses_or_doubles(self, stage: Stage, part: int) -> None:
        """Whatever becomes of one answer in ten, one run delivers each record once."""
        deliver_all(stage, alone(0.1)[part::3])

    def test_storms_are_waited_out(self, stage: Stage) -> None:
        """A Zentrik that wants to be left alone, in whatever words, gets everything once it listens again."""
        deliver_all(stage, STORMS)

    def test_patience_outlasts_a_slow_zentrik(self, stage: Stage) -> None:
        """What arrives long after its caller has gone is found there, not posted again."""
        deliver_all(stage, SLOW, 60)


@pytest.mark.long
@pytest.mark.timeout(900)
class TestEverything:
    @pytest.mark.parametrize("dedup", [False, True], ids=["no-dedup", "dedup"])
    @pytest.mark.parametrize("order", ORDERS)
    @pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
    def test_no_mishap_loses_or_doubles(self, stage: Stage, share: float, order: Order, dedup: bool) -> None:
        """Each mishap by itself and all of them together, for each kind of server: one run, nothing lost or doubled."""
        cases = [*alone(share, order=order, dedup=dedup), mixture(share, order=order, dedup=dedup)]
        deliver_all(stage, cases, 300)

    @pytest.mark.parametrize("order", ORDERS)
    def test_storms_are_waited_out(self, stage: Stage, order: Order) -> None:
        """Storms and slowness, whatever the order of the list."""
        cases = [*STORMS, *SLOW]
        deliver_all(stage, [Case(case.name, case.faults, True, order, case.zentrik) for case in cases])


def until(true: Callable[[], bool]) -> None:
    """Wait for something to come true: 20 s at the most."""
    for _ in range(2000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def finish(stage: Stage, fault: str, operator: Operator, sandbox: Sandbox) -> None:
    """Run once more without faults, and compare."""
    sandbox.faults = Faults()
    done = operator.syncd("run-once", "--json")
    found = stage.compare(fault, operator, sandbox, dedup=False)
    assert found.is_even, found
    assert done.returncode == 0, done.stderr


class TestStopping:
    def test_answers_out_of_order_and_then_the_end(self, stage: Stage) -> None:
        """Answers that overtake each other, and a process that is killed among them, leave nothing unclear."""

        def attempt(stored: int) -> None:
            sandbox = quick_sandbox(order=ORDERS[stored % len(ORDERS)])
            with stage.operator(sandbox) as operator:
                operator.drop_rows(range(60))
                sandbox.faults = Faults(jitter=0.2)
                with operator.started("run-once", "--json") as running:
                    until(lambda: len(sandbox.books) >= stored)
                    running.kill()
                    running.wait()
                finish(stage, "answers out of order, then killed", operator, sandbox)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(attempt, (1, 5, 16, 17, 30, 45, 58)))

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_told_to_stop_midway(self, stage: Stage, number: signal.Signals) -> None:
        """A run that is told to stop finishes what is under way and says 130; the next one does the rest."""
        sandbox = quick_sandbox()
        with stage.operator(sandbox) as operator:
            operator.drop_rows(range(60))
            sandbox.faults = Faults(latency=0.2, jitter=0.2)
            with operator.started("run-once", "--json") as running:
                until(lambda: len(sandbox.books) >= 20)
                running.send_signal(number)
                _, errors = running.communicate(timeout=20)
                assert running.returncode == 130, errors
            states = {row["state"] for row in operator.signals()}
            assert not states & {"sending", "unknown"}, states
            finish(stage, f"{number.name} midway", operator, sandbox)

    def test_told_twice(self, stage: Stage) -> None:
        """A second signal ends the run at once, whatever it waits for, and costs no record."""
        sandbox = quick_sandbox()
        with stage.operator(sandbox) as operator:
            operator.drop_rows(range(60))
            sandbox.faults = Faults(share_of_posts={"hold": 0.5}, hold_for=30)
            with operator.started("run-once", "--json") as running:
                until(lambda: len(sandbox.books) >= 20)
                running.send_signal(signal.SIGTERM)
                time.sleep(0.2)
                assert running.poll() is None  # it waits for the answers that are held
                running.send_signal(signal.SIGINT)
                assert running.wait(2) == 130
            finish(stage, "a second signal at once", operator, sandbox)
