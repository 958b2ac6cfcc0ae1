"""How fast to go: when Zentrik may be posted to, and when it is asked for outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.pacing import DOUBTS, Gate, Limit, LookSchedule, NackWindow, Pace, ProcessingBudget, Tempo
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


TEMPOS = st.builds(Tempo, st.floats(0.1, 10_000), SPANS, st.integers(0, 2**31 - 1), st.integers(0, 1))


class TestTempo:
    def test_the_first_pace_is_a_little_less_than_what_got_through(self) -> None:
        """200 let through at once and a second's rest make something below 200 a second."""
        learned = Tempo.first(200, seconds(0.1), seconds(1))
        assert learned is not None
        assert 170 < learned.rate < 200

    @pytest.mark.parametrize(
        ("posted", "rest", "again", "learns"),
        [(4, 1, False, False), (5, 1, False, True), (4, 1, True, True), (0, 1, True, False), (500, 3600, False, False)],
        ids=["too few", "enough", "few again", "none again", "a quota used up"],
    )
    def test_too_little_teaches_nothing(self, posted: int, rest: float, again: bool, learns: bool) -> None:
        """One refusal after a handful of posts, or until tomorrow, does not make syncd crawl; the same twice does."""
        assert (Tempo.first(posted, seconds(0.1), seconds(rest), again) is not None) == learns

    @given(TEMPOS, st.integers(0, 2**31 - 1))
    def test_the_pace_only_rises_until_the_next_refusal(self, tempo: Tempo, more: int) -> None:
        """What was let through is never a reason to go slower."""
        assert Tempo(tempo.rate, tempo.rest, tempo.posted + more).now >= tempo.now >= tempo.rate

    @given(TEMPOS, SPANS)
    def test_a_refusal_never_makes_it_faster_and_never_stops_it(self, tempo: Tempo, rest: timedelta) -> None:
        """Told «too many», nobody goes faster, and nobody comes to a halt: the records go on arriving."""
        learned = tempo.refused(rest)
        if learned is not None:
            assert 0.1 <= learned.rate <= max(0.1, tempo.now)
            assert learned.posted == 0

    def test_twice_too_early_and_it_is_given_up(self) -> None:
        """Where half the pace is refused as soon, the pace is not what Zentrik minds, or has nothing to do with it."""
        once = Tempo(100, seconds(1), posted=100).refused(seconds(1))
        assert once is not None
        assert once.rate == pytest.approx(49, rel=0.05)
        assert once.refused(seconds(1)) is None

    def test_a_limit_met_after_long_is_a_little_lower(self) -> None:
        """A limit that was held for a minute is not run away from: the next pace is a few percent below it."""
        learned = Tempo(196, seconds(1), posted=196 * 55).refused(seconds(1))
        assert learned is not None
        assert 190 < learned.rate < 200

    @given(TEMPOS, st.integers(0, 500), SPANS, st.booleans())
    def test_turns_come_one_after_the_other_and_soon(
        self, tempo: Tempo, most: int, distance: timedelta, late: bool
    ) -> None:
        """Nobody is given two turns at once, or one further ahead than a quarter of a second, or one twice."""
        next_at = NOW - distance if late else NOW + distance
        turns, after = tempo.turns(most, next_at, NOW)
        gap = max(timedelta.resolution, seconds(1 / tempo.now))
        assert len(turns) <= most
        assert all(later - earlier == gap for earlier, later in pairwise([*turns, after]))
        assert all(max(next_at, NOW - seconds(0.1)) <= turn < NOW + seconds(0.25) for turn in turns)
        assert after >= next_at
        if most and next_at < NOW:
            assert turns  # whose turn is overdue does not wait any longer

    def test_what_was_missed_is_not_made_up_for_at_once(self) -> None:
        """After a pause nobody posts in a burst what could have been posted meanwhile."""
        turns, _ = Tempo(100, seconds(1)).turns(1000, NOW - seconds(3600), NOW)
        assert len(turns) == 35


Refuse = Callable[[float], float | None]
"""A server: whether it refuses a post at that second, and for how long it wants to be left alone then."""


def bucket(rate: float, burst: float, rest: float = 1) -> Refuse:
    """A token bucket."""
    tokens, filled = burst, 0.0

    def refuse(at: float) -> float | None:
        nonlocal tokens, filled
        tokens, filled = min(burst, tokens + (at - filled) * rate), at
        if tokens < 1:
            return rest
        tokens -= 1
        return None

    return refuse


def window(calls: int, per: float) -> Refuse:
    """So many calls in each window of the clock; it names the second in which the next one begins."""
    current, count = -1, 0

    def refuse(at: float) -> float | None:
        nonlocal current, count
        if at // per != current:
            current, count = int(at // per), 0
        count += 1
        return None if count <= calls else max(1, ceil((current + 1) * per - at))

    return refuse


def at_random(share: float) -> Refuse:
    """A server that refuses that share of the posts, whoever makes them and however fast."""
    random = Random(7)
    return lambda _: 1 if random.random() < share else None


def changing(first: Refuse, at: float, then: Refuse) -> Refuse:
    """A server that changes its mind at that second."""
    return lambda now: (first if now < at else then)(now)


@dataclass
class Simulation:
    """Posts to a server at 64 connections of 50 ms each, in steps of 10 ms, by the rules of dispatch and the ledger."""

    server: Refuse
    concurrency: int = 64
    latency: float = 0.05
    accepted: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def run(self, minutes: float) -> Simulation:
        """Let so many minutes pass."""
        tempo: Tempo | None = None
        next_at, closed, opened, slowed, rest = 0.0, 0.0, 0.0, -1e9, 0.0
        through = fresh = 0
        under_way: deque[tuple[float, float | None]] = deque()
        turns: list[float] = []
        for step in range(int(minutes * 6000)):
            now = step / 100
            if not step % 100:
                self.accepted.append(0)
                self.refused.append(0)
            refusals = []
            while under_way and under_way[0][0] <= now:
                at, wait = under_way.popleft()
                if wait is None:
                    fresh += 1
                    through += 1
                else:
                    refusals.append((at, wait))
            if refusals:
                turns.clear()
                closed = max(closed, *(at + wait for at, wait in refusals))
                if (at := refusals[0][0]) >= slowed + rest:
                    wait = seconds(closed - at)
                    again = at < slowed + rest + 5
                    tempo = tempo.refused(wait) if tempo else Tempo.first(through, seconds(at - opened), wait, again)
                    slowed, rest, next_at = at, closed - at, at
            elif tempo:
                tempo = Tempo(tempo.rate, tempo.rest, tempo.posted + fresh, tempo.early)
            fresh = 0
            if now < closed:
                opened, through = now, 0
                continue
            free = self.concurrency - len(under_way)
            if tempo:
                given, after = tempo.turns(free + 100 - len(turns), NOW + seconds(next_at), NOW + seconds(now))
                turns += [(turn - NOW).total_seconds() for turn in given]
                next_at = (after - NOW).total_seconds()
                free = min(free, sum(turn <= now for turn in turns))
                del turns[:free]
            for _ in range(free):
                wait = self.server(now)
                (self.accepted if wait is None else self.refused)[-1] += 1
                under_way.append((now + self.latency, wait))
        return self

    def rate(self, begin: float, end: float) -> float:
        """Posts let through a second, between these minutes."""
        return sum(self.accepted[int(begin * 60) : int(end * 60)]) / (end - begin) / 60

    def share_refused(self, begin: float, end: float) -> float:
        """The share of the posts that were refused, between these minutes."""
        span = slice(int(begin * 60), int(end * 60))
        return sum(self.refused[span]) / (sum(self.refused[span]) + sum(self.accepted[span]))


class TestLearnedPace:
    @pytest.mark.parametrize(
        ("server", "least"),
        [
            (bucket(200, 200), 190),
            (bucket(200, 1000), 190),
            (window(200, 1), 180),
            (window(600, 60), 8.5),
            (window(100, 10), 9),
            (bucket(2, 10), 1.9),
        ],
        ids=["200/s", "200/s after 1,000", "200 in a second", "600 in a minute", "100 in ten seconds", "2/s"],
    )
    def test_a_hidden_limit_is_used_and_hardly_ever_met(self, server: Refuse, least: float) -> None:
        """Nobody tells syncd the limit: after a warm-up it uses nearly all of it, and at most 2 % is refused."""
        simulation = Simulation(server).run(12)
        assert simulation.rate(2, 12) >= least
        assert simulation.share_refused(2, 12) <= 0.02

    def test_a_limit_that_drops_is_followed(self) -> None:
        """Where 50 a second are allowed instead of 200, posts are no longer refused after some seconds."""
        simulation = Simulation(changing(bucket(200, 200), 120, bucket(50, 50))).run(6)
        assert sum(simulation.refused[120:150]) < 200
        assert simulation.rate(2.5, 6) >= 45
        assert simulation.share_refused(2.5, 6) <= 0.02

    @pytest.mark.parametrize(
        ("then", "least"), [(bucket(200, 200), 180), (lambda _: None, 1000)], ids=["raised to 200", "lifted"]
    )
    def test_a_limit_that_is_lifted_is_noticed(self, then: Refuse, least: float) -> None:
        """Nobody has to tell syncd that it may go faster: within some minutes it does, without being refused more."""
        simulation = Simulation(changing(bucket(50, 50), 60, then)).run(12)
        assert simulation.rate(9, 12) >= least
        assert simulation.share_refused(1, 12) <= 0.02

    def test_a_limit_that_comes_back_after_long_is_learned_anew(self) -> None:
        """However fast it went in between, a minute later the new limit is kept."""
        simulation = Simulation(changing(changing(bucket(50, 50), 60, lambda _: None), 600, bucket(200, 200))).run(14)
        assert simulation.rate(11, 14) >= 190
        assert simulation.share_refused(11, 14) <= 0.02

    @pytest.mark.parametrize("share", [0.01, 0.001])
    def test_refusals_at_random_do_not_slow_it_down_for_long(self, share: float) -> None:
        """A gateway that says «too many» now and then for no reason costs the rests it asks for, and not ever more."""
        rests = 1 / (1 / 1280 + share)  # posts a second, when each refusal costs a second and nothing else
        simulation = Simulation(at_random(share)).run(20)
        assert simulation.rate(15, 20) >= 0.1 * rests
        assert simulation.rate(0, 20) >= 0.1 * rests


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
        ahead = NOW + max(since, timedelta(microseconds=1))
        assert looks.next_look(ahead, NOW) - NOW == looks.first / 4, "a clock that went back"

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
