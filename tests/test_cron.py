"""Cron expressions, read as crontab(5) has them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.cron import Cron, parse

ALL = {
    "minutes": tuple(range(60)),
    "hours": tuple(range(24)),
    "days": tuple(range(1, 32)),
    "months": tuple(range(1, 13)),
    "weekdays": tuple(range(7)),
}


@pytest.mark.parametrize(
    ("text", "narrowed"),
    [
        ("* * * * *", {}),
        ("  *\t* *  * * ", {}),
        ("*/10 * * * *", {"minutes": (0, 10, 20, 30, 40, 50)}),
        ("*/7 * * * *", {"minutes": (0, 7, 14, 21, 28, 35, 42, 49, 56)}),
        ("5/20 * * * *", {"minutes": (5, 25, 45)}),
        ("10-20/5 * * * *", {"minutes": (10, 15, 20)}),
        ("30,0,15,30 * * * *", {"minutes": (0, 15, 30)}),
        ("0 6 * * *", {"minutes": (0,), "hours": (6,)}),
        ("* 9-17,22 * * *", {"hours": (*range(9, 18), 22)}),
        ("* * 1,31 * *", {"days": (1, 31)}),
        ("* * 1-31 */1 *", {}),
        ("* * * jan,JUN-Aug *", {"months": (1, 6, 7, 8)}),
        ("* * * * 0", {"weekdays": (0,)}),
        ("* * * * 7", {"weekdays": (0,)}),
        ("* * * * sun", {"weekdays": (0,)}),
        ("* * * * mon-fri", {"weekdays": (1, 2, 3, 4, 5)}),
        ("* * * * 5-7", {"weekdays": (0, 5, 6)}),
        ("* * * * 0-7", {}),
        ("* * 13 * fri", {"days": (13,), "weekdays": (5,)}),
        ("0 0 29 2 *", {"minutes": (0,), "hours": (0,), "days": (29,), "months": (2,)}),
        ("0 0 31 2 mon", {"minutes": (0,), "hours": (0,), "days": (31,), "months": (2,), "weekdays": (1,)}),
    ],
)
def test_it_means_what_crontab_means(text: str, narrowed: dict[str, tuple[int, ...]]) -> None:
    """A line taken over from a crontab runs when it ran there: Sunday is 0 and 7, names and steps included."""
    assert parse(text) == Cron(**{**ALL, **narrowed})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "five fields"),
        ("* * * *", "not 4"),
        ("0 * * * * *", "not 6"),
        ("@daily", "five fields"),
        ("60 * * * *", "minute '60' is not one of 0 to 59"),
        ("* 24 * * *", "hour '24' is not one of 0 to 23"),
        ("* * 0 * *", "day '0' is not one of 1 to 31"),
        ("* * * 13 *", "month '13'"),
        ("* * * * 8", "weekday '8' is not one of 0 to 7"),
        ("* * * * monday", "weekday 'monday'"),
        ("* * * foo *", "month 'foo'"),
        ("-5 * * * *", "minute '-5'"),
        ("1- * * * *", "minute '1-'"),
        ("1,,2 * * * *", "minute '1,,2'"),
        ("*/0 * * * *", "names no minute at all"),
        ("30-10 * * * *", "names no minute at all"),
        ("* * * * fri-mon", "names no weekday at all"),
        ("*/1000000000000 * * * *", "is not a cron field"),
        ("\u0661 * * * *", "minute"),
        ("* * L * *", "day 'L'"),
        ("* * ? * *", "day '?'"),
        ("0 0 30 2 *", "that day never comes"),
        ("0 0 30 2 0-6", "that day never comes"),
        ("0 0 31 4,6,9,11 */1", "that day never comes"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    """An expression that would never fire, or not when it was meant to, is refused, and the field at fault named."""
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(text)


FIELD = st.text("0123456789*/-,?Lmonjasu ", max_size=8)


@given(st.text() | st.tuples(FIELD, FIELD, FIELD, FIELD, FIELD).map(" ".join))
def test_no_expression_can_crash_us(text: str) -> None:
    """Whatever stands in the configuration is either a set of times that come, or a mistake with words."""
    try:
        cron = parse(text)
    except ValueError:
        return
    for name, values in ALL.items():
        chosen = getattr(cron, name)
        assert chosen
        assert list(chosen) == sorted(set(chosen) & set(values))


NUMBERS = {
    name: st.lists(st.sampled_from(values), min_size=1) for name, values in (ALL | {"days": range(1, 30)}).items()
}


@given(st.fixed_dictionaries(NUMBERS))
def test_listed_numbers_are_taken_as_they_are(chosen: dict[str, list[int]]) -> None:
    """What is written out in full needs no interpretation."""
    text = " ".join(",".join(map(str, chosen[name])) for name in ALL)
    assert parse(text) == Cron(**{name: tuple(sorted(set(values))) for name, values in chosen.items()})
