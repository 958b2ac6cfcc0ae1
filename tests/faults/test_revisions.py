"""The process is killed at every point of replacing a signal, and the next run ends what was begun."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from syncd.ledger import State, report, revisions
from syncd.sandbox import Sandbox
from tests.faults.conftest import Operator, Stage, on_both
from tests.faults.test_crash_points import every_point, is_cut_off
from tests.stories.conftest import quick_sandbox

FEWEST = {"commit": 18, "send-before": 9, "send-after": 9}
"""The kinds of points, and how many of each a replacement has at least: renaming, posting, deleting, and the looks
before each."""

NAME = "csv:survey:1"
FIRST, SECOND = "It is slow.", "It is slow on Mondays."
FAIL = "[sandbox: fail]"


def replacing(operator: Operator) -> None:
    """Have changes replace what is there, at once."""
    path = Path(operator.folder / "config.yaml")
    text = path.read_text(encoding="utf-8").rstrip()
    path.write_text(f"{text}\n    on_change: replace\n    settle_changes: 0s\n", encoding="utf-8")


def says(operator: Operator, text: str) -> None:
    operator.drop("part-1.csv", f"id,at,comment\n1,2026-10-01,{text}\n")


def ends_with(operator: Operator, sandbox: Sandbox, text: str, point: str) -> None:
    """Run once more: one signal, processed, with that text, and at no time was there none."""
    done = operator.syncd("run-once", "--json")
    assert done.returncode == 0, f"cut off at {point}: {done.stderr}{done.stdout}"
    there = sandbox.books.page(100, 0)
    shown = [(each["externalId"], each["status"], sandbox.books.text(each["publicId"])) for each in there]
    assert shown == [(NAME, "processed", text)], f"cut off at {point}"
    assert sandbox.books.absences(NAME) == [], f"cut off at {point}"
    with closing(operator.ledger()) as ledger, ledger.read() as db:
        [row] = report.find(db)
        assert (row.state, row.public_id) == (State.PROCESSED, there[0]["publicId"]), f"cut off at {point}"
        assert revisions.under_way(db, row.id) == [], f"cut off at {point}"


@pytest.mark.timeout(900)  # three runs to each point
@pytest.mark.parametrize(("stage", "kind"), on_both(FEWEST), indirect=["stage"])
def test_wherever_it_ends_one_signal_with_the_new_text_is_left(stage: Stage, kind: str) -> None:
    """Evidence is never absent and never doubled for good, whatever point of a replacement is the last."""

    def attempt(point: str) -> bool:
        sandbox = quick_sandbox()
        with stage.operator(sandbox) as operator:
            replacing(operator)
            says(operator, FIRST)
            assert operator.syncd("run-once", "--json").returncode == 0
            says(operator, SECOND)
            reached = is_cut_off(operator, point)
            ends_with(operator, sandbox, SECOND, point)
            stage.count(f"replacing, killed at each `{kind}`", lost=0, doubled=0, dedup=False)
        return reached

    assert every_point(kind, attempt) >= FEWEST[kind]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", FEWEST)
def test_wherever_it_ends_the_old_text_is_back_when_the_new_one_cannot_be_processed(stage: Stage, kind: str) -> None:
    """A new text that Zentrik cannot process never costs the old one, whatever point of taking it back is the last."""

    def attempt(point: str) -> bool:
        sandbox = quick_sandbox()
        with stage.operator(sandbox, process_attempts="1") as operator:
            replacing(operator)
            says(operator, FIRST)
            assert operator.syncd("run-once", "--json").returncode == 0
            says(operator, FAIL)
            reached = operator.syncd("run-once", "--json", cut_off=point).returncode < 0
            operator.syncd("run-once", "--json")
            ends_with(operator, sandbox, FIRST, point)
        return reached

    assert every_point(kind, attempt) >= FEWEST[kind]
