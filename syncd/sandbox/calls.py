"""How often the API was called: by method, route and what came back."""

from __future__ import annotations

from collections import Counter

CUT = "cut"
"""Stands for the status of a call that got no complete answer."""


class Calls:
    """A tally. Routes are written as in the reference, less its prefix: `/signals`, `/signals/:publicId`."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str, str]] = Counter()

    def note(self, method: str, route: str, status: int | str) -> None:
        """One call more; `status` is the HTTP status, or `CUT`."""
        self._seen[method, route, str(status)] += 1

    def count(self, method: str | None = None, route: str | None = None, status: int | str | None = None) -> int:
        """How many calls match everything that is given."""
        wanted = (method, route, None if status is None else str(status))
        return sum(
            times
            for seen, times in self._seen.items()
            if all(want in (None, had) for want, had in zip(wanted, seen, strict=True))
        )

    def by_status(self) -> dict[str, int]:
        """How many calls ended with each status."""
        totals: Counter[str] = Counter()
        for (_, _, status), times in self._seen.items():
            totals[status] += times
        return dict(totals)
