"""How long is waited, and that no header can make it crash or cut it short."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.retry import Backoff, retry_after

NOW = datetime(2025, 3, 11, 12, tzinfo=UTC)
YEAR = timedelta(days=365)

spans = st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=365))
draws = st.floats(min_value=0, max_value=1, exclude_max=True)


def seconds(number: float) -> timedelta:
    """That many seconds."""
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("failures", "ceiling"), [(1, 1), (2, 2), (3, 4), (4, 8), (9, 256), (10, 300), (11, 300), (10**9, 300)]
)
def test_ceilings_double_up_to_the_cap(failures: int, ceiling: float) -> None:
    """A struggling server is asked less and less often, but never forgotten for longer than the cap."""
    assert Backoff().ceiling(failures) == seconds(ceiling)


@pytest.mark.parametrize("failures", [0, -3])
def test_no_failures_count_as_one(failures: int) -> None:
    """A caller that counts from zero gets a sensible wait."""
    assert Backoff().ceiling(failures) == seconds(1)


@given(first=spans, cap=spans, failures=st.integers(min_value=1), draw=draws)
def test_a_wait_lies_between_nothing_and_its_ceiling(
    first: timedelta, cap: timedelta, failures: int, draw: float
) -> None:
    """Whatever is configured, no wait is negative, endless or longer than promised."""
    backoff = Backoff(first, cap)
    assert timedelta(0) <= backoff.wait(failures, lambda: draw) <= backoff.ceiling(failures) <= cap


@given(first=spans, cap=spans, failures=st.integers(min_value=1, max_value=2000))
def test_ceilings_never_shrink(first: timedelta, cap: timedelta, failures: int) -> None:
    """More failures never mean asking sooner."""
    assert Backoff(first, cap).ceiling(failures) <= Backoff(first, cap).ceiling(failures + 1)


def test_the_jitter_is_full() -> None:
    """A hundred workers that failed together come back spread over the whole span, not in a herd."""
    assert Backoff().wait(5, lambda: 0.0) == seconds(0)
    assert Backoff().wait(5, lambda: 0.5) == seconds(8)


@pytest.mark.parametrize(
    ("header", "asked"),
    [("120", 120), (" 120 ", 120), ("0", 0), ("1.5", 1.5), ("3600", 3600), ("-5", 0)],
)
def test_seconds_are_read(header: str, asked: float) -> None:
    """A server that says how many seconds is given exactly those, an hour too."""
    assert retry_after(header, NOW) == seconds(asked)


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("Tue, 11 Mar 2025 12:02:00 GMT", 120),
        ("Tue, 11 Mar 2025 13:02:00 +0100", 120),
        ("Tue, 11 Mar 2025 12:02:00", 120),
        ("Tuesday, 11-Mar-25 12:02:00 GMT", 120),
        ("Tue, 11 Mar 2025 11:00:00 GMT", 0),
        ("Mon, 01 Jan 1900 00:00:00 GMT", 0),
    ],
)
def test_dates_are_read(header: str, asked: float) -> None:
    """A server that says until when is left alone until then; a time gone by asks for nothing more."""
    assert retry_after(header, NOW) == seconds(asked)


@pytest.mark.parametrize("header", [None, "", "soon", "nan", "inf", "-inf", "1" * 400, "1e999", "Tue, 99 Mar 2025"])
def test_nonsense_asks_for_nothing(header: str | None) -> None:
    """A broken header leaves the wait to our own schedule."""
    assert retry_after(header, NOW) is None


@pytest.mark.parametrize("header", ["99999999999999", "1e300", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_beyond_a_year_is_a_year(header: str) -> None:
    """An absurd header cannot push the next try out of the calendar."""
    asked = retry_after(header, NOW)
    assert asked == YEAR
    assert NOW + asked


@given(st.integers(min_value=0, max_value=365 * 86_400))
def test_no_wait_is_shortened(asked: int) -> None:
    """A vendor's word is kept to the second, in either form."""
    assert retry_after(str(asked), NOW) == seconds(asked)
    assert retry_after(format_datetime(NOW + seconds(asked), usegmt=True), NOW) == seconds(asked)


@given(
    st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [+-]?\w+", fullmatch=True))
)
def test_no_header_can_crash_us(header: str) -> None:
    """A hostile or broken server cannot end a run by a header."""
    asked = retry_after(header, NOW)
    assert asked is None or timedelta(0) <= asked <= YEAR


@pytest.mark.parametrize("text", ["2025-03-11T13:30:00Z", "2025-03-11T13:30:00", "2025-03-11T14:30:00+01:00"])
def test_an_iso_time_is_understood_too(text: str) -> None:
    """A vendor that names the end of its daily quota as a timestamp is not asked again before it."""
    assert retry_after(text, NOW) == timedelta(minutes=90)
