"""Which instants are read from what people and exports write, and that none is guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.dates import UnreadableDate, instant

BERLIN = ZoneInfo("Europe/Berlin")
DAY = datetime(2025, 3, 11, tzinfo=UTC)
MOMENT = datetime(2025, 3, 11, 14, 30, tzinfo=UTC)

offsets = st.integers(min_value=-14 * 60, max_value=14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1), timezones=offsets)  # noqa: DTZ001 - hypothesis adds the zone


@pytest.mark.parametrize(
    "text",
    [
        "2025-03-11T14:30:00Z",
        "2025-03-11T14:30:00.000Z",
        "2025-03-11T14:30Z",
        "2025-03-11 14:30:00+00:00",
        "2025-03-11T15:30:00+01:00",
        "2025-03-11T15:30:00+0100",
        "20250311T143000Z",
        " 2025-03-11T14:30:00Z\n",
        "2025-03-11 14:30:00 UTC",
        "1741703400",
        "1741703400.0",
        "1741703400000",
        "Tue, 11 Mar 2025 14:30:00 +0000",
        "Tue, 11 Mar 2025 14:30:00 GMT",
        "Tue, 11 Mar 2025 09:30:00 EST",
        "Tue, 11 Mar 2025 07:30:00 PDT",
        "March 11, 2025 2:30 PM",
        "11 March 2025 14:30",
        "11th of March 2025 at 2:30pm",
        "Tuesday, March 11, 2025 14:30:00",
        "3/11/2025 14:30",
        "2025/03/11 14:30",
    ],
)
def test_one_moment_in_many_writings(text: str) -> None:
    """A signal is dated to the same moment whichever way its source writes it."""
    assert instant(text) == MOMENT


@pytest.mark.parametrize("text", ["2025-03-11", "20250311", "11.3.2025", "11 Mar 2025", "Mar 11 2025", "2025-W11-2"])
def test_a_day_is_its_midnight(text: str) -> None:
    """A date without a time is kept, as the start of its day."""
    assert instant(text, day_first=True) == DAY


@pytest.mark.parametrize(
    ("text", "hour"), [("2025-03-11", 23), ("2025-03-11 00:30", 23), ("2025-07-11 12:00", 10), ("11 Mar 2025", 23)]
)
def test_a_text_without_a_zone_is_read_in_the_given_one(text: str, hour: int) -> None:
    """An export in the operator's local time lands on the right hour, in summer as in winter."""
    assert instant(text, zone=BERLIN).hour == hour


def test_a_zone_of_its_own_wins() -> None:
    """The operator's zone does not shift what already says where it belongs."""
    assert instant("2025-03-11T14:30:00Z", zone=BERLIN) == MOMENT
    assert instant("1741703400", zone=BERLIN) == MOMENT


@pytest.mark.parametrize(
    ("text", "day_first", "expected"),
    [
        ("03/04/2025", False, (3, 4)),
        ("03/04/2025", True, (4, 3)),
        ("3.4.2025 10:00", True, (4, 3)),
        ("25/12/2025", False, (12, 25)),
        ("2025-03-04", True, (3, 4)),
        ("2025/03/04", True, (3, 4)),
        ("2025-03-04 10:00:00 UTC", True, (3, 4)),
        ("4 March 2025", True, (3, 4)),
    ],
)
def test_day_first_settles_what_is_ambiguous_and_nothing_else(
    text: str, day_first: bool, expected: tuple[int, int]
) -> None:
    """A European export is not read with its months and days exchanged, nor an ISO date because of it."""
    read = instant(text, day_first=day_first)
    assert (read.month, read.day) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "n/a",
        "yesterday",
        "2025",
        "March 2025",
        "11 March",
        "Friday",
        "Friday March 2025",
        "14:30",
        "2025-03",
        "2025-W11",
        "2025W11",
        "3",
        "12.5",
        "17417034000000000",
        "-1741703400",
        "2025-02-30",
        "2025-13-01",
        "31 February 2025",
        "2025-03-11T25:00:00Z",
        "2025-03-11T10:00:00+99:00",
        "0001-01-01T00:00:00+14:00",
        "2025-03-11\x00" * 50,
        "9" * 5000,
    ],
)
def test_what_names_no_day_is_refused(text: str) -> None:
    """A trend is not bent by dates that somebody made up from half of one."""
    with pytest.raises(UnreadableDate):
        instant(text)


def test_a_zone_that_means_several_things_is_refused() -> None:
    """IST is Irish, Indian and Israeli: a record is not shifted by hours on a guess."""
    with pytest.raises(UnreadableDate, match=r"'IST' is not a time zone .* write an offset"):
        instant("11 March 2025 14:30 IST")


def test_the_message_shows_the_text() -> None:
    """The operator finds the cell that could not be read."""
    with pytest.raises(UnreadableDate, match="'11 Smarch 2025' is not a date"):
        instant("11 Smarch 2025")


@given(st.one_of(st.text(), st.text(alphabet="0123456789-/:. TZ+ADFJMPWapreibcov,", max_size=30)))
def test_any_text_is_an_instant_or_unreadable(text: str) -> None:
    """No cell of a customer's file can end a run."""
    try:
        read = instant(text)
    except UnreadableDate:
        return
    assert read.utcoffset() == timedelta(0)


@given(moments)
def test_iso_dates_come_back_as_they_were(moment: datetime) -> None:
    """Not a microsecond is lost on the way through a file."""
    assert instant(moment.isoformat()) == moment
    assert instant(moment.isoformat(" ")) == moment


@given(moments)
def test_mail_dates_come_back_as_they_were(moment: datetime) -> None:
    """A mail's date is read to the second."""
    assert instant(format_datetime(moment)) == moment.replace(microsecond=0)


@given(st.datetimes(min_value=datetime(1974, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_unix_times_come_back_as_they_were(moment: datetime) -> None:
    """Seconds are not taken for milliseconds, nor the other way round."""
    whole = int(moment.timestamp())
    assert instant(str(whole)) == moment.replace(microsecond=0)
    assert instant(f"{whole}{moment.microsecond // 1000:03}") == moment.replace(
        microsecond=moment.microsecond // 1000 * 1000
    )
