"""A process that hangs (SIGSTOP) and wakes up later finds its work done by another, and does not do it again."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from syncd.sandbox import Sandbox
from tests.faults.conftest import Operator, Stage
from tests.stories.conftest import quick_sandbox

LEASE = 2
"""Seconds, as the configuration of the suite has it."""


def run_beside(operator: Operator) -> dict[str, Any]:
    """The figures of a run while another one hangs; whatever its exit code."""
    done = operator.syncd("run-once", "--json")
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def settled(stage: Stage, fault: str, operator: Operator, sandbox: Sandbox) -> None:
    """A last run, and the comparison of the books."""
    done = operator.syncd("run-once", "--json")
    found = stage.compare(fault, operator, sandbox, dedup=False)
    assert found.is_even, str(found)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("point", ["page-before:1", "page-after:1"])
def test_a_reader_that_hung_does_not_bring_its_page(stage: Stage, point: str) -> None:
    """While it hangs its connector is its own for the lease, then another reads on; the late page is refused, so the
    checkpoint never moves back and nothing is counted twice."""
    sandbox = quick_sandbox()
    with stage.operator(sandbox) as operator:
        operator.drop_rows([1, 2], [3, 4], [5])
        with operator.frozen(point, "run-once", "--json") as thaw:
            early = run_beside(operator)["connectors"]["survey"]
            assert early["error"]["code"] == "already_reading"
            time.sleep(LEASE)
            late = run_beside(operator)["connectors"]["survey"]
            assert late["error"] is None
            woken = thaw()
        assert woken.returncode == 1, woken.stderr
        assert json.loads(woken.stdout)["connectors"]["survey"]["error"]["code"] == "already_reading"
        settled(stage, f"hung at `{point}`", operator, sandbox)


POINTS = {
    "SQLite": [f"commit:{number}" for number in range(6, 12)],
    "PostgreSQL": ["send-before:3", "send-before:4", "send-after:3", "send-after:4", "commit:7", "commit:9"],
}
"""Where a poster hangs. The requests before the third, and the commits before the sixth, come before the first post.

On SQLite it hangs between two commits: one that hangs in the middle of one keeps the file, and the others say so."""


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_poster_that_hung_does_not_post_again(stage: Stage) -> None:
    """What it had in its hands is looked for by another and settled; what it does when it wakes changes nothing."""

    def attempt(point: str) -> None:
        sandbox = quick_sandbox()
        with stage.operator(sandbox, timeout="5s") as operator:
            operator.drop_rows([1, 2], [3, 4], [5])
            with operator.frozen(point, "run-once", "--json") as thaw:
                time.sleep(LEASE)
                run_beside(operator)
                time.sleep(11)  # the lease of a signal that is being posted is ten seconds at least
                run_beside(operator)
                before = len(sandbox.books)
                woken = thaw()
                assert woken.returncode in (0, 1), f"{point}: {woken.stderr}"
                assert len(sandbox.books) == before, f"{point}: it posted what it should have left alone"
            settled(stage, f"hung at each `{point.split(':', maxsplit=1)[0]}`", operator, sandbox)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(attempt, POINTS[stage.ledger]))
