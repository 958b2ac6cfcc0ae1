"""Spans of time and numbers as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta


def span(length: timedelta) -> str:
    """`5 s`, `3 min`, `30 h`, `9 d`."""
    seconds = length.total_seconds()
    for unit, long in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * long:
            return f"{seconds / long:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """`3 min ago`, `in 2 h`, `-`."""
    if moment is None:
        return "-"
    past = now - moment
    return f"in {span(-past)}" if past < timedelta(0) else f"{span(past)} ago"


def grouped(number: int) -> str:
    """`12 345`: thousands set apart."""
    return f"{number:,}".replace(",", " ")
