"""The process is killed at every point of its work in turn, and the next run makes it good."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.faults import Mishap
from tests.faults.conftest import Operator, Stage
from tests.stories.conftest import quick_sandbox

FEWEST = {"commit": 12, "send-before": 6, "send-after": 6, "page-before": 2, "page-after": 2}
"""The kinds of points, and how many of each the shortest run has at least: a run with fewer was not watched."""

SPOILT = 3
"""How many posts are answered badly where that is tried as well."""

AT_ONCE = 4
"""Tries that go on side by side: most of a try is waiting."""


def every_point(kind: str, attempt: Callable[[str], bool]) -> int:
    """Try the points of a kind one after another, until a run gets to its end without; how many there were."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for first in count(1, AT_ONCE):
            reached = list(pool.map(attempt, [f"{kind}:{number}" for number in range(first, first + AT_ONCE)]))
            if not all(reached):
                return first - 1 + sum(reached)
    raise AssertionError


def is_cut_off(operator: Operator, point: str) -> bool:
    """Whether a run got to that point and was killed there, rather than ending well before."""
    done = operator.syncd("run-once", "--json", cut_off=point)
    assert done.returncode in (0, -signal.SIGKILL), f"cut off at {point}: {done.stderr}{done.stdout}"
    return done.returncode != 0


def made_good(stage: Stage, fault: str, point: str, operator: Operator, sandbox: Sandbox, *, dedup: bool) -> None:
    """Run once more, and see that nothing is lost, doubled, or known otherwise than it is."""
    done = operator.syncd("run-once", "--json")
    found = stage.compare(fault, operator, sandbox, dedup=dedup)
    assert found.is_even, f"cut off at {point}: {found}"
    assert done.returncode == 0, f"cut off at {point}: {done.stderr}{done.stdout}"


@pytest.mark.parametrize("kind", FEWEST)
def test_whatever_point_is_the_last_nothing_is_lost_or_doubled(stage: Stage, kind: str) -> None:
    """A machine that loses power at any moment goes on from there, with every record sent once."""

    def attempt(point: str) -> bool:
        sandbox = quick_sandbox()
        with stage.operator(sandbox) as operator:
            operator.drop_rows([1, 2], [3])
            reached = is_cut_off(operator, point)
            made_good(stage, f"killed at each `{kind}`", point, operator, sandbox, dedup=False)
        return reached

    assert every_point(kind, attempt) >= FEWEST[kind]


@pytest.mark.long
@pytest.mark.timeout(1800)
class TestMore:
    @pytest.mark.parametrize("dedup", [False, True], ids=["no-dedup", "dedup"])
    @pytest.mark.parametrize("kind", FEWEST)
    def test_more_rows_more_files_and_files_put_away(self, stage: Stage, kind: str, dedup: bool) -> None:
        """It holds for a folder whose files are archived as they are read, and for either kind of server."""

        def attempt(point: str) -> bool:
            sandbox = quick_sandbox(dedup=dedup, order="shuffled")
            with stage.operator(sandbox, after="archive") as operator:
                operator.drop_rows([1, 2, 3, 4, 5], [6], [7, 8, 9], [10, 11])
                reached = is_cut_off(operator, point)
                made_good(stage, f"11 rows, killed at each `{kind}`", point, operator, sandbox, dedup=dedup)
                left = [path.name for path in operator.inbox.glob("*.csv")]
                assert not left, f"cut off at {point}: {left} were not archived"
            return reached

        assert every_point(kind, attempt) >= FEWEST[kind]

    @pytest.mark.parametrize("mishap", ["cut_after", "cut_before", "429", "503", "504", "torn", "garbled"])
    @pytest.mark.parametrize("kind", FEWEST)
    def test_on_top_of_a_bad_answer(self, stage: Stage, kind: str, mishap: Mishap) -> None:
        """The power fails while a bad answer is being dealt with; the next run meets what is left of both."""

        def attempt(point: str) -> bool:
            sandbox = quick_sandbox(faults=Faults(next_posts=(mishap,) * SPOILT))
            with stage.operator(sandbox) as operator:
                operator.drop_rows([1, 2], [3])
                reached = is_cut_off(operator, point)
                fault = f"`{mishap}` to the first posts, killed at each `{kind}`"
                made_good(stage, fault, point, operator, sandbox, dedup=False)
            return reached

        never_arrive = SPOILT if kind == "send-after" and mishap.startswith("cut") else 0
        assert every_point(kind, attempt) >= FEWEST[kind] - never_arrive

    @pytest.mark.parametrize("second", ["commit", "send-after"])
    @pytest.mark.parametrize("first", FEWEST)
    def test_twice(self, stage: Stage, first: str, second: str) -> None:
        """The power fails, and fails again at any point of making that good."""

        def attempt(point: str) -> bool:
            for number in count(1):
                sandbox = quick_sandbox()
                with stage.operator(sandbox) as operator:
                    operator.drop_rows([1, 2], [3])
                    reached = is_cut_off(operator, point)
                    again = reached and is_cut_off(operator, f"{second}:{number}")
                    fault = f"killed at each `{first}`, and again at each `{second}`"
                    made_good(stage, fault, f"{point}, then {second}:{number}", operator, sandbox, dedup=False)
                if not again:
                    return reached
            raise AssertionError

        assert every_point(first, attempt) >= FEWEST[first]
