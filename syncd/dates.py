"""Dates as people and exports write them, read into instants. Never guesses a part that is not there."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from dateutil import parser

_DEFAULTS = (datetime(2000, 1, 1), datetime(2001, 2, 15))  # noqa: DTZ001 - the zone is settled afterwards
"""Read against both: where the answers differ, day, month or year came from the default and not from the text. Their
days are more than a week apart, so that «a Friday in March 2025» is not one day in both."""

_LONGEST = 100
"""No date takes more characters to write."""

_HOURS = {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
_ZONES = {"UTC": UTC, "GMT": UTC, "UT": UTC, "Z": UTC} | {
    name: timezone(timedelta(hours=hours)) for name, hours in _HOURS.items()
}
"""The zones that RFC 2822 gives names to. Other abbreviations mean different things in different places."""


class UnreadableDate(ValueError):
    """The text names no single day."""


def instant(text: str, *, zone: tzinfo = UTC, day_first: bool = False) -> datetime:
    """The instant that a date, a date with a time, or a Unix time in seconds or milliseconds names.

    A text without a zone of its own is read in `zone`; a date alone is its midnight there. ISO 8601 is read as such;
    `day_first` settles 03/04/2025, which is otherwise 4 March.

    Raises `UnreadableDate` when no day, month and year can be read from the text, or it names a zone nobody can be
    sure of (`IST`).
    """
    given = text.strip()
    if len(given) > _LONGEST:
        raise UnreadableDate(f"{given[:60]!r}... is too long for a date")
    try:
        moment = _unix_time(given) or _iso(given) or _words(given, day_first)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        return moment.astimezone(UTC)
    except UnreadableDate:
        raise
    except (ValueError, ArithmeticError, TypeError, LookupError) as error:
        raise UnreadableDate(f"{given[:60]!r} is not a date") from error


def _unix_time(text: str) -> datetime | None:
    whole, _, fraction = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and (not fraction or (fraction.isascii() and fraction.isdigit()))):
        return None
    match len(whole):
        case 9 | 10:
            return datetime.fromtimestamp(float(text), UTC)
        case 12 | 13:
            return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=float(text))
        case 8 if not fraction:
            return None
        case _:
            raise UnreadableDate(f"{text!r} is a number, not a date")


def _iso(text: str) -> datetime | None:
    if re.fullmatch(r"\d{4}-?W\d\d", text):
        raise UnreadableDate(f"{text!r} is a week, not a day")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _words(text: str, day_first: bool) -> datetime:
    day_first = day_first and not re.match(r"\d{4}\D", text)  # after a year the month comes next, everywhere
    one, other = (parser.parse(text, default=default, dayfirst=day_first, tzinfos=_zone) for default in _DEFAULTS)
    if one != other:
        raise UnreadableDate(f"{text!r} leaves out the day, the month or the year")
    return one


def _zone(name: str | None, offset: int | None) -> tzinfo | None:
    if offset is not None:
        return timezone(timedelta(seconds=offset))
    if name is None:
        return None
    if name.upper() not in _ZONES:
        raise UnreadableDate(f"{name!r} is not a time zone that means one thing; write an offset like +05:30")
    return _ZONES[name.upper()]
