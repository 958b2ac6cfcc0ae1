"""What is not ready is asked for again until it is, or until patience ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from syncd.connector import UnreadableDate
from syncd.kit.pending import Pending

NOON = datetime(2026, 11, 2, 12, 0, 30, 999, tzinfo=UTC)
DAY = timedelta(days=1)


def test_it_lives_in_a_checkpoint() -> None:
    """What waits is known to the next reading, and since when."""
    pending = Pending()
    pending.wait("b", NOON)
    pending.wait("a", NOON - DAY)
    kept = json.loads(json.dumps({"pending": pending.as_json(), "cursor": "x"}))
    assert kept["pending"] == {"a": "2026-11-01T12:00:30+00:00", "b": "2026-11-02T12:00:30+00:00"}
    assert Pending.of(kept).since == {"a": NOON.replace(microsecond=0) - DAY, "b": NOON.replace(microsecond=0)}
    assert Pending.of({"late": kept["pending"]}, "late").since.keys() == {"a", "b"}


def test_it_reads_the_same_each_time() -> None:
    """A checkpoint does not change because of the order in which things were found."""
    one, other = Pending(), Pending()
    for id_ in "abc":
        one.wait(id_, NOON)
    for id_ in "cba":
        other.wait(id_, NOON)
    assert json.dumps(one.as_json()) == json.dumps(other.as_json())


@pytest.mark.parametrize("checkpoint", [{}, {"pending": None}, {"pending": []}, {"pending": "a"}, {"pending": {}}])
def test_a_checkpoint_without_it_holds_nothing(checkpoint: dict[str, object]) -> None:
    """A first reading waits for nothing yet."""
    assert Pending.of(checkpoint).since == {}  # type: ignore[arg-type]


def test_a_checkpoint_that_was_spoilt_is_not_guessed_at() -> None:
    """A time nobody can read would mean waiting for ever, or not at all."""
    with pytest.raises(UnreadableDate):
        Pending.of({"pending": {"a": "soon"}})


def test_patience_is_counted_from_the_first_time() -> None:
    """Asking again does not begin the wait anew, and what was never waited for is not over."""
    pending = Pending()
    assert not pending.is_over("a", NOON, timedelta(0))
    pending.wait("a", NOON)
    pending.wait("a", NOON + DAY)
    assert not pending.is_over("a", NOON + DAY - timedelta(microseconds=1), DAY)
    assert pending.is_over("a", NOON + DAY, DAY)


def test_what_is_done_is_forgotten() -> None:
    """Ready, gone or given up: it is not asked for any more; and to forget it twice is no error."""
    pending = Pending()
    pending.wait("a", NOON)
    pending.done("a")
    pending.done("a")
    assert pending.as_json() == {}
    pending.wait("a", NOON + DAY)
    assert not pending.is_over("a", NOON + DAY, DAY)
