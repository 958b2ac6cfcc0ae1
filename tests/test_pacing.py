"""How fast to go: when Zentrik may be posted to, and when it is asked for outcomes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from syncd.pacing import DOUBTS, Gate, Limit, LookSchedule, NackWindow, Pace, ProcessingBudget
from syncd.retry import Backoff

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
SPANS = st.timedeltas(timedelta(0), timedelta(days=3))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def parked(*waits: float | None, apart: float = 0) -> Gate:
    """A gate parked for each of these in turn, so many seconds apart."""
    gate = Gate(Backoff(first=seconds(1), cap=seconds(30)))
    for number, wait in enumerate(waits):
        gate.park(f"reason {number}", None if wait is None else seconds(wait), NOW + seconds(apart * number))
    return gate


class TestGate:
    def test_it_is_open_at_first(self) -> None:
        """A healthy Zentrik is posted to without any wait."""
        assert Gate().opens_in(NOW) == seconds(0)

    @given(st.timedeltas(timedelta(milliseconds=1), timedelta(days=3)))
    def test_what_zentrik_asks_for_is_kept_in_full(self, after: timedelta) -> None:
        """Zentrik is left alone for as long as it said, and not a moment longer."""
        gate = Gate()
        gate.park("429", after, NOW)
        assert gate.opens_in(NOW) == after
        assert gate.opens_in(NOW + after - timedelta(microseconds=1)) > seconds(0)
        assert gate.opens_in(NOW + after) == seconds(0)

    @given(st.lists(st.tuples(st.none() | SPANS, SPANS), min_size=1))
    def test_no_later_word_shortens_an_earlier_one(self, news: list[tuple[timedelta | None, timedelta]]) -> None:
        """However many answers come in, and in whatever order, the longest wait asked for is kept."""
        gate, now, longest = Gate(), NOW, NOW
        for after, passes in news:
            gate.park("trouble", after, now)
            longest = max(longest, now + (after or seconds(0)))
            assert now + gate.opens_in(now) >= longest
            assert gate.opens_in(now) > seconds(0)
            now += passes

    def test_without_a_word_the_wait_doubles_up_to_a_cap(self) -> None:
        """An ill Zentrik is asked less and less often, but never forgotten."""
        waits = [
            gate.opens_in(NOW + seconds(60 * (tries - 1)))
            for tries in range(1, 8)
            for gate in [parked(*[None] * tries, apart=60)]
        ]
        assert waits == [seconds(wait) for wait in (1, 2, 4, 8, 16, 30, 30)]

    def test_answers_to_posts_under_way_together_count_once(self) -> None:
        """Sixteen refusals at once are one piece of news: the wait does not jump to its cap."""
        gate = parked(*[None] * 16)
        assert (gate.failures, gate.opens_in(NOW)) == (1, seconds(1))

    def test_a_wait_of_zero_is_no_leave_to_storm(self) -> None:
        """A Retry-After of zero, or a date that has passed by our clock, does not make us post in a tight loop."""
        gate = parked(0, 0, apart=5)
        assert gate.opens_in(NOW + seconds(5)) == seconds(2)

    def test_the_reason_shown_is_that_of_the_longest_wait(self) -> None:
        """While Zentrik has asked for an hour, one broken connection does not make it count as gone."""
        gate = parked(3600, None)
        assert gate.reason == "reason 0"
        assert parked(5, 60).reason == "reason 1"

    def test_something_taken_makes_it_well_again(self) -> None:
        """After one success the next trouble starts from the shortest wait; a wait that was asked for still holds."""
        gate = parked(None, None, None, apart=60)
        assert gate.unwell_since == NOW
        gate.clear()
        assert gate == Gate(gate.backoff, gate.parked_until)
        gate.park("again", None, NOW + seconds(600))
        assert gate.opens_in(NOW + seconds(600)) == seconds(1)
        asked = parked(60)
        asked.clear()
        assert asked.opens_in(NOW) == seconds(60)

    def test_how_long_it_has_been_unwell_is_remembered(self) -> None:
        """A Zentrik that stays away is given up on by the time it went, not by its latest error."""
        assert parked(None, 5, None, apart=60).unwell_since == NOW

    def test_a_row_of_lost_answers_closes_it_and_one_taken_begins_a_new_row(self) -> None:
        """An outage is noticed after a few records; a lost answer now and then holds nothing up."""
        gate = Gate()
        for _ in range(DOUBTS - 1):
            gate.doubt("500", NOW)
        gate.clear()
        for _ in range(DOUBTS - 1):
            gate.doubt("500", NOW)
        assert gate.opens_in(NOW) == timedelta(0)
        gate.doubt("500", NOW)
        assert gate.opens_in(NOW) == timedelta(seconds=1)


class TestBreaker:
    def test_after_trouble_of_zentriks_own_it_is_asked_first(self) -> None:
        """The gate stays closed until somebody has asked Zentrik how it is, however much time passes."""
        gate = Gate()
        gate.park("503", seconds(1), NOW, suspects=True)
        assert not gate.is_open(NOW + seconds(3600))
        gate.suspects = False
        assert gate.is_open(NOW + seconds(3600))


class TestNackWindow:
    @given(st.lists(st.lists(st.booleans())), st.integers(1, 20), st.integers(0, 20))
    def test_it_counts_the_last_verdicts_only(self, lots: list[list[bool]], refused: int, more: int) -> None:
        """A connector is halted by what Zentrik said lately, in whatever portions it came."""
        window = NackWindow(refused, refused + more)
        verdicts = ""
        for lot in lots:
            verdicts = window.extended(verdicts, lot)
        last = [taken for lot in lots for taken in lot][-window.of :]
        assert verdicts == "".join("a" if taken else "r" for taken in last)
        assert window.is_exceeded(verdicts) == (last.count(False) >= refused)


class TestProcessingBudget:
    def test_so_many_processing_runs_in_all(self) -> None:
        """A signal that always fails is processed as often as the budget says, and then left to a person."""
        budget = ProcessingBudget(attempts=3)
        assert [budget.again_at(reruns, NOW, lambda: 1.0) for reruns in range(4)] == [
            *(NOW + seconds(2), NOW + seconds(4), None, None),
        ]


class TestLookSchedule:
    def test_the_first_look_comes_when_told_until_more_is_known(self) -> None:
        """`poll_interval` is the wait before the first look."""
        assert LookSchedule(first=seconds(3)).first_look(NOW) == NOW + seconds(3)

    def test_the_first_look_comes_when_most_are_known_to_be_ready(self) -> None:
        """Where processing takes a minute, nobody asks every two seconds whether it is over."""
        looks = LookSchedule(first=seconds(2))
        looks.learn(seconds(60))
        assert looks.first_look(NOW) == NOW + seconds(75)

    @given(st.lists(SPANS, min_size=1))
    def test_what_it_learns_stays_within_what_was_seen(self, took: list[timedelta]) -> None:
        """One odd outcome does not push the looks out of all proportion."""
        looks = LookSchedule()
        for span in took:
            looks.learn(span)
        slack = timedelta(milliseconds=1)
        assert looks.learned is not None
        assert min(took) - slack <= looks.learned <= max(took) + slack

    def test_it_rises_quickly_and_falls_slowly(self) -> None:
        """When Zentrik slows down the looks follow soon; one quick outcome does not double their number."""
        looks = LookSchedule(learned=seconds(10))
        looks.learn(seconds(20))
        assert looks.learned == seconds(13)
        looks.learn(seconds(3))
        assert looks.learned == seconds(12.5)

    def test_a_clock_that_disagrees_teaches_nothing_absurd(self) -> None:
        """An outcome from before its signal, by another machine's clock, counts as at once."""
        looks = LookSchedule()
        looks.learn(seconds(-30))
        assert looks.learned == seconds(0)
        assert looks.first_look(NOW) == NOW + looks.first / 4

    @given(st.none() | st.timedeltas(timedelta(0), timedelta(days=999_999)), SPANS, SPANS)
    def test_every_look_is_ahead_and_none_too_far(
        self, learned: timedelta | None, age: timedelta, since: timedelta
    ) -> None:
        """No signal is asked about in a tight loop, and none is forgotten: at the latest after `cap`, or an hour once
        it is overdue."""
        looks = LookSchedule(learned=learned)
        latest = timedelta(hours=1) if looks.is_overdue(NOW, NOW + age) else looks.cap
        for look, now, most in (
            (looks.first_look(NOW), NOW, looks.cap),
            (looks.next_look(NOW, NOW + age), NOW + age, latest),
        ):
            assert looks.first / 4 <= look - now <= most
        assert looks.next_look(NOW + since, NOW) - NOW == looks.first / 4, "a clock that went back"

    def test_the_older_the_signal_the_longer_the_wait(self) -> None:
        """A slow signal costs a handful of calls, not hundreds."""
        looks, now, calls = LookSchedule(), NOW, 0
        while now < NOW + timedelta(hours=1):
            now, calls = looks.next_look(NOW, now), calls + 1
        assert calls < 32


class TestPace:
    @given(st.integers(1, 5), st.lists(st.floats(0, 30), max_size=30))
    def test_no_span_holds_more_calls_than_the_limit(self, calls: int, gaps: list[float]) -> None:
        """A documented limit is kept over every span of its length, not only on average."""
        limit = Limit(calls, timedelta(seconds=10))
        pace, now, turns = Pace(limit), datetime(2026, 11, 2, tzinfo=UTC), []
        for gap in gaps:
            now += timedelta(seconds=gap)
            turns.append(pace.turn(now))
            assert turns[-1] >= now
        assert turns == sorted(turns)
        assert all(later - earlier >= limit.per for earlier, later in zip(turns, turns[calls:], strict=False))

    def test_within_the_limit_nobody_waits(self) -> None:
        """A limit that is not reached costs no time."""
        pace, now = Pace(Limit(3, timedelta(minutes=1))), datetime(2026, 11, 2, tzinfo=UTC)
        assert [pace.turn(now) for _ in range(3)] == [now] * 3
