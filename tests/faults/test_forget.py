"""The process is killed at every point of forgetting, and the same order given again ends the same."""

from __future__ import annotations

import json
import signal
from contextlib import closing

import pytest

from syncd.ledger import State, report
from tests.faults.conftest import Stage, on_both
from tests.faults.test_crash_points import every_point
from tests.stories.conftest import quick_sandbox

ORDER = ("forget", "--external-id", "csv:survey:1", "--external-id", "csv:survey:2", "--yes", "--json")

FEWEST = {"commit": 5, "send-before": 4, "send-after": 4}
"""The kinds of points, and how many of each an order has at least: one with fewer was not watched."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("stage", "kind"), on_both(FEWEST), indirect=["stage"])
def test_an_order_that_was_cut_off_is_carried_out_by_the_next(stage: Stage, kind: str) -> None:
    """A machine that loses power while somebody is forgotten forgets them all the same, and nobody else."""

    def attempt(point: str) -> bool:
        sandbox = quick_sandbox()
        with stage.operator(sandbox) as operator:
            operator.drop_rows([1, 2, 3])
            assert operator.syncd("run-once", "--json").returncode == 0
            cut = operator.syncd(*ORDER, cut_off=point)
            assert cut.returncode in (0, -signal.SIGKILL), f"cut off at {point}: {cut.stderr}{cut.stdout}"
            if kind == "commit":  # between the two orders its source shows the record again, changed
                operator.drop("again.csv", "id,at,comment\n1,2026-10-09,Row 1 says something else.\n")
                assert operator.syncd("run-once", "--json").returncode == 0
            done = operator.syncd(*ORDER)
            assert done.returncode == 0, f"cut off at {point}: {done.stderr}{done.stdout}"
            assert json.loads(done.stdout)["done"] is True
            there = [len(sandbox.books.with_external_id(f"csv:survey:{row}")) for row in (1, 2, 3)]
            assert there == [0, 0, 1], f"cut off at {point}"
            with closing(operator.ledger()) as ledger, ledger.read() as db:
                states = sorted(row.state for row in report.find(db))
            assert states == [State.FORGOTTEN, State.FORGOTTEN, State.PROCESSED], f"cut off at {point}"
        return cut.returncode != 0

    assert every_point(kind, attempt) >= FEWEST[kind]
