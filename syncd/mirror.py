"""Mirror: what Zentrik has shown lately, whoever was looking and for whatever reason. It saves calls, and proves
nothing absent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from syncd.fates import Accepted
from syncd.zentrik import Remote, number_of

MOST = 20_000
"""How many signals are remembered, unless told otherwise; a hundred thousand would take 40 MB."""


@dataclass(frozen=True, slots=True)
class _Shown:
    external_id: str | None
    accepted: Accepted
    at: datetime


class Mirror:
    """The last signals that Zentrik showed: by their externalId and by their number. The oldest are forgotten.

    `highest` is the highest SIGNAL number ever shown, and `total` how many signals a list was last said to have.
    """

    def __init__(self, most: int = MOST) -> None:
        self.highest = 0
        self.total: int | None = None
        self._most = most
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        self._named: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._shown)

    def note(self, remotes: Iterable[Remote], at: datetime, total: int | None = None) -> None:
        """Remember what was shown at that time, and how many signals there were said to be."""
        self.total = self.total if total is None else total
        for remote in remotes:
            self._forget(remote.public_id)
            self._shown[remote.public_id] = _Shown(remote.external_id, Accepted(remote.public_id, remote.job_id), at)
            if remote.external_id:
                self._named.setdefault(remote.external_id, set()).add(remote.public_id)
            self.highest = max(self.highest, remote.number or 0)
        while len(self._shown) > self._most:
            self._forget(next(iter(self._shown)))

    def find(self, external_id: str, since: datetime, *, but: str | None = None) -> Accepted | None:
        """The signal of that name that was shown at or after `since`; of several, the first created. `but` is the
        publicId of one that had the name before."""
        known = (self._shown[public_id] for public_id in self._named.get(external_id, ()) if public_id != but)
        return min((shown.accepted for shown in known if shown.at >= since), key=seniority, default=None)

    def __contains__(self, public_id: str) -> bool:
        """Whether that signal was shown: then it is none that `find` could not find."""
        return public_id in self._shown

    def _forget(self, public_id: str) -> None:
        shown = self._shown.pop(public_id, None)
        if shown and shown.external_id:
            named = self._named[shown.external_id]
            named.discard(public_id)
            if not named:
                del self._named[shown.external_id]


def seniority(accepted: Accepted) -> tuple[float, str]:
    """Sorts signals by when they were created, as far as their publicIds tell."""
    return number_of(accepted.public_id) or float("inf"), accepted.public_id
