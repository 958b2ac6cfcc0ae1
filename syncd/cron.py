"""Cron expressions of five fields, as crontab(5) has them: minute, hour, day of month, month, day of week."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_PART = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cron:
    """The minutes, hours, days and months named, and the weekdays with Sunday as 0; each sorted, without repeats.

    crontab(5): when both the days and the weekdays are narrowed, a date that fits either one counts.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]


def parse(text: str) -> Cron:
    """Read an expression such as `*/10 * * * *` or `30 6 * * mon-fri`.

    Raises `ValueError` saying which field is wrong, or that the date named never comes.
    """
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(
            f"a cron expression has five fields (minute hour day month weekday), not {len(fields)}; "
            'write for example "*/10 * * * *"'
        )
    minute, hour, day, month, weekday = fields
    cron = Cron(
        minutes=_field("minute", minute, 0, 59),
        hours=_field("hour", hour, 0, 23),
        days=_field("day", day, 1, 31),
        months=_field("month", month, 1, 12, _MONTHS),
        weekdays=tuple(sorted({n % 7 for n in _field("weekday", weekday, 0, 7, _WEEKDAYS)})),
    )
    if len(cron.weekdays) == 7 and not any(cron.days[0] <= _LONGEST[month - 1] for month in cron.months):
        raise ValueError("that day never comes in those months")
    return cron


def _field(name: str, text: str, low: int, high: int, words: list[str] | None = None) -> tuple[int, ...]:
    chosen: set[int] = set()
    for part in text.split(","):
        found = _PART.fullmatch(part)
        if found is None or (found["step"] is not None and not 0 < len(found["step"]) < 4):
            raise ValueError(f"its {name} {text[:40]!r} is not a cron field; write for example *, */5, 1-5 or 1,15")
        if found["first"] is None:
            first, last = low, high
        else:
            first = _number(name, found["first"], low, high, words)
            last = first
            if found["last"] is not None:
                last = _number(name, found["last"], low, high, words)
            elif found["step"] is not None:
                last = high
        step = int(found["step"] or 1)
        if first > last or step == 0:
            raise ValueError(f"its {name} {text[:40]!r} names no {name} at all")
        chosen.update(range(first, last + 1, step))
    return tuple(sorted(chosen))


def _number(name: str, text: str, low: int, high: int, words: list[str] | None) -> int:
    if words and text.lower() in words:
        return words.index(text.lower()) + low
    if not (text.isdigit() and len(text) < 4 and low <= int(text) <= high):
        raise ValueError(f"its {name} {text[:40]!r} is not one of {low} to {high}")
    return int(text)
