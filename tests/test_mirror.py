"""Mirror: what Zentrik has shown lately is found again without a call, and forgotten in time."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from syncd.fates import Accepted, Unsettled
from syncd.mirror import Mirror
from syncd.zentrik import Remote
from tests.conftest import Clock

NOON = Clock().now
LATER = NOON + timedelta(seconds=1)


def remote(number: int, external_id: str | None = None, job_id: str | None = None) -> Remote:
    return Remote(f"SIGNAL-{number}", external_id, Unsettled(), job_id)


def noted(*remotes: Remote, at: datetime = NOON, most: int = 100) -> Mirror:
    mirror = Mirror(most)
    mirror.note(remotes, at)
    return mirror


def test_what_was_shown_is_found_by_its_name() -> None:
    """A signal that any list page has shown need not be asked for again."""
    mirror = noted(remote(7, "a", "job-7"), remote(8, "b"), remote(9))
    assert mirror.find("a", NOON) == Accepted("SIGNAL-7", "job-7")
    assert mirror.find("b", NOON) == Accepted("SIGNAL-8")
    assert mirror.find("c", NOON) is None


def test_one_that_had_the_name_before_is_not_taken_for_it() -> None:
    """A page that was late still shows a renamed signal under its old name: it is not the one that was posted since."""
    mirror = noted(remote(7, "a"), remote(9, "a"))
    assert mirror.find("a", NOON, but="SIGNAL-7") == Accepted("SIGNAL-9")
    assert noted(remote(7, "a")).find("a", NOON, but="SIGNAL-7") is None


def test_only_what_was_shown_since_counts() -> None:
    """What Zentrik had before a signal was sent says nothing of that signal; what it shows again does."""
    mirror = noted(remote(7, "a"))
    assert mirror.find("a", LATER) is None
    mirror.note([remote(7, "a")], LATER)
    assert mirror.find("a", LATER) == Accepted("SIGNAL-7")


def test_of_two_of_one_name_the_first_created_is_found() -> None:
    """Whichever was shown first, a doubled signal is always followed as the same one; 10 comes after 9."""
    for shown in ([9, 10], [10, 9]):
        assert noted(*(remote(number, "a") for number in shown)).find("a", NOON) == Accepted("SIGNAL-9")
    strange = Remote("another-id", "a", Unsettled(), None)
    assert noted(strange, remote(10, "a")).find("a", NOON) == Accepted("SIGNAL-10")
    gone = noted(remote(9, "a"))
    gone.note([remote(10, "a")], LATER)
    assert gone.find("a", LATER) == Accepted("SIGNAL-10")


def test_a_signal_is_known_under_the_name_it_was_shown_with_last() -> None:
    """One that was given another externalId at Zentrik is not found under its old one."""
    mirror = noted(remote(7, "a"))
    mirror.note([remote(7, "b")], LATER)
    assert (mirror.find("a", NOON), mirror.find("b", NOON)) == (None, Accepted("SIGNAL-7"))


def test_numbers_that_were_shown_are_known() -> None:
    """Nobody asks for a signal by its number that a page has shown already, with a name or without."""
    mirror = noted(remote(7, "a"), remote(8))
    assert [f"SIGNAL-{number}" in mirror for number in (7, 8, 9)] == [True, True, False]
    assert mirror.highest == 8


def test_the_last_count_is_kept() -> None:
    """How large the workspace is stays known where a page does not say."""
    mirror = Mirror()
    assert mirror.total is None
    mirror.note([], NOON, 250)
    mirror.note([remote(1)], NOON)
    assert mirror.total == 250


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([None, "a", "b", "c"])), max_size=60))
def test_the_longest_unseen_are_forgotten_first(shown: list[tuple[int, str | None]]) -> None:
    """Whatever is shown, the mirror never grows beyond its bounds, and what it keeps is what was shown last."""
    mirror = Mirror(4)
    for number, name in shown:
        mirror.note([remote(number, name)], NOON)
    last: dict[int, str | None] = {}
    for number, name in reversed(shown):
        if len(last) < 4:
            last.setdefault(number, name)
    assert len(mirror) == len(last)
    for number in range(1, 10):
        assert (f"SIGNAL-{number}" in mirror) == (number in last)
    for name in ("a", "b", "c"):
        named = [number for number, other in last.items() if other == name]
        assert mirror.find(name, NOON) == (Accepted(f"SIGNAL-{min(named)}") if named else None)
