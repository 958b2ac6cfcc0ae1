"""The figures of a run: they add up, and if they ever do not, it is said."""

from __future__ import annotations

import pytest

from syncd.figures import Figures, Moved
from syncd.ledger import State
from syncd.ledger.report import RunCounts
from syncd.pull import Pulled

NONE = dict.fromkeys(State, 0)


def closed(pulled: Pulled, accepted: int, signals: dict[State, int], queued: int, accepted_of_these: int) -> Figures:
    """The figures of a run with one connector, and what the ledger says of it at its end."""
    figures = Figures({"survey": pulled}, accepted=accepted)
    figures.close(RunCounts(NONE | signals, queued, accepted_of_these))
    return figures


def test_a_simple_run_adds_up_and_prints_what_was_agreed() -> None:
    """A script finds exactly the keys it was promised, and nothing it does not know unless there is reason to."""
    figures = closed(Pulled(3, 0, 1, 1, shown=5), 2, {State.PROCESSED: 2, State.REJECTED: 1}, 3, 2)
    assert list(figures.imbalances()) == []
    assert figures.as_json() == {
        "connectors": {
            "survey": {"fetched": 5, "new": 3, "changed": 0, "unchanged": 1, "skipped": 1, "error": None}
        },
        "posted": 0,
        "accepted": 2,
        "signals": {
            "queued": 0, "sending": 0, "unknown": 0, "processing": 0, "processed": 2, "failed": 0, "rejected": 1,
        },
    }  # fmt: skip


def test_what_earlier_runs_left_is_told_apart() -> None:
    """Who compares «accepted» with «processed» finds the difference named."""
    figures = closed(Pulled(), 1, {State.PROCESSED: 4, State.DELETED: 1}, 0, 1)
    assert (figures.carried, figures.passed_on) == (Moved(5, 4), Moved())
    assert list(figures.imbalances()) == []
    told = figures.as_json()
    assert told["carried"] == {"signals": 5, "accepted": 4}
    assert told["signals"]["deleted"] == 1  # type: ignore[index, call-overload]


def test_what_another_syncd_took_over_is_told_apart() -> None:
    """With a daemon beside it a run accounts for what went on in other hands."""
    figures = closed(Pulled(3, shown=3), 3, {State.PROCESSED: 2}, 2, 2)
    assert figures.passed_on == Moved(1, 1)
    assert list(figures.imbalances()) == []


def test_what_was_stored_as_the_run_was_cut_off_counts() -> None:
    """An acceptance that reached the ledger and not the figures is counted."""
    figures = closed(Pulled(1, shown=1), 0, {State.PROCESSING: 1}, 1, 1)
    assert figures.accepted == 1
    assert list(figures.imbalances()) == []


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (closed(Pulled(1, shown=2), 0, {State.QUEUED: 1}, 1, 0), "fetched"),
        (closed(Pulled(1, shown=1), 0, {State.QUEUED: 2}, 2, 0), "passed on"),
    ],
)
def test_a_sum_that_does_not_come_out_is_told(figures: Figures, words: str) -> None:
    """A record that vanished between two steps does not vanish from the figures."""
    [told] = figures.imbalances()
    assert words in told
