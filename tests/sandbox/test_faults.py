"""Which mishap meets which call."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from syncd.sandbox import Faults
from syncd.sandbox.faults import Mischief


def mischief(clock: Any, seed: int = 1, **faults: Any) -> Mischief:
    return Mischief(Faults(**faults), now=clock, random=random.Random(seed))


def test_by_default_nothing_goes_wrong(clock: Any) -> None:
    """A sandbox nobody has asked for faults is a well one."""
    well = mischief(clock)
    assert {well.to_post() for _ in range(100)} == {None} == {well.to_read() for _ in range(100)}
    assert not any(well.too_fast() for _ in range(1_000))
    assert well.latency() == 0
    assert not well.fails("a text")


def test_the_next_calls_meet_their_mishaps_in_order(clock: Any) -> None:
    """A test can say what happens to which post, and reads do not use it up."""
    script = mischief(clock, next_posts=("cut_after", "429"), next_reads=("500",))
    assert [script.to_post(), script.to_read(), script.to_post(), script.to_post(), script.to_read()] == [
        "cut_after",
        "500",
        "429",
        None,
        None,
    ]


def test_a_share_of_calls_is_that_share(clock: Any) -> None:
    """A share of 10 % is met in 10 % of the calls, and by the same ones for the same seed."""
    shares: Any = {"500": 0.1, "cut_after": 0.02}
    first, again = (mischief(clock, share_of_posts=shares) for _ in range(2))
    drawn = [first.to_post() for _ in range(10_000)]
    seen = Counter(drawn)
    assert 900 < seen["500"] < 1_100
    assert 150 < seen["cut_after"] < 250
    assert [again.to_post() for _ in range(10_000)] == drawn
    assert mischief(clock, share_of_posts={"503": 1}).to_post() == "503"


def test_the_rate_limit_lets_its_rate_through(clock: Any) -> None:
    """A client that keeps to the rate is never refused; one that does not is, until time has passed."""
    limit = mischief(clock, rate_limit=5)
    assert [limit.too_fast() for _ in range(6)] == [False] * 5 + [True]
    clock.goes_on(seconds=0.2)
    assert [limit.too_fast(), limit.too_fast()] == [False, True]
    clock.goes_on(hours=1)
    assert [limit.too_fast() for _ in range(6)] == [False] * 5 + [True]
    clock.goes_on(hours=-1)
    assert limit.too_fast()


def test_a_rate_below_one_a_second_still_lets_calls_through(clock: Any) -> None:
    """A slow limit is slow, not shut."""
    limit = mischief(clock, rate_limit=0.5)
    assert [limit.too_fast(), limit.too_fast()] == [False, True]
    clock.goes_on(seconds=2)
    assert not limit.too_fast()


def test_latency_is_drawn_between_its_bounds(clock: Any) -> None:
    """Latency with jitter varies, and only upwards."""
    waits = [mischief(clock, seed, latency=1, jitter=0.5).latency() for seed in range(50)]
    assert 1 <= min(waits) < max(waits) < 1.5


def test_processing_fails_by_marker_or_by_share(clock: Any) -> None:
    """A text can ask for its own failure, which stays, and a share of all others can fail by chance."""
    marked = mischief(clock)
    assert marked.fails("please [sandbox: fail] this")
    some = mischief(clock, failing=0.3)
    assert 250 < sum(some.fails("text") for _ in range(1_000)) < 350


def test_new_faults_start_afresh(clock: Any) -> None:
    """Faults set in the middle of a run are the whole of the faults from then on."""
    changing = mischief(clock, next_posts=("500", "500"), rate_limit=1)
    changing.too_fast()
    changing.faults = Faults(next_posts=("503",), rate_limit=1)
    assert not changing.too_fast()
    assert [changing.to_post(), changing.to_post()] == ["503", None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"next_posts": ["explode"]},
        {"share_of_posts": {"500": 1.5}},
        {"share_of_posts": {"500": 0.6, "503": 0.6}},
        {"share_of_reads": {"500": 0.6, "503": 0.6}},
        {"latency": -1},
        {"rate_limit": 0},
        {"retry_after": "soon"},
        {"misspelt": 1},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """A misspelt fault does not leave a test running against a well sandbox."""
    with pytest.raises(ValidationError):
        Faults.model_validate(wrong)


def test_faults_survive_json() -> None:
    """Faults written by another process mean the same here."""
    faults = Faults(next_posts=("hold",), share_of_posts={"429": 0.5}, rate_limit=3, ready=False)
    assert Faults.model_validate_json(faults.model_dump_json()) == faults
