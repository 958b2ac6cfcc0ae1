"""What can become of a signal: the answer to a POST, and the outcome of its processing. Values, to be matched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Accepted:
    """Zentrik has it."""

    public_id: str
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class Later:
    """Zentrik certainly does not have it, and may take it another time.

    `after` is what the server asked for; None leaves it to the schedule. With `parks` the trouble is Zentrik's own
    (too many requests, unreachable): nothing else is posted until then, and the record is not to blame. `too_fast` says
    that it were fewer requests it wants.
    """

    reason: str
    after: timedelta | None = None
    parks: bool = False
    too_fast: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Zentrik looked at this record and does not want it, for a reason in its own words."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer was lost: Zentrik may or may not have it. Never posted again before someone has looked.

    With `may_arrive` the request itself may still be under way (cut off, timed out, given up by a gateway): not to
    find it proves nothing for a while. Otherwise Zentrik is done with it, whatever it made of it.
    """

    cause: str
    after: timedelta | None = None
    parks: bool = False
    may_arrive: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """The key or the address is at fault, not the record: nothing can be posted until a person mends it."""

    reason: str


Verdict: TypeAlias = Accepted | Later | Refused | Unknown | Blocked
"""The answer to one POST."""


@dataclass(frozen=True, slots=True)
class Processed:
    """Zentrik read it, and drew these insights from it."""

    insight_ids: tuple[str, ...] = ()
    job_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Zentrik could not process it, for a reason in its own words."""

    reason: str
    job_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def mark(self) -> str | None:
        """Which processing it was that failed, as far as Zentrik says: its job, which may run twice, and its end."""
        told = (self.job_id, self.ended_at.isoformat() if self.ended_at else None)
        return " ".join(filter(None, told)) or None


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Still waiting or being processed."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Zentrik no longer has a signal it once accepted."""


Outcome: TypeAlias = Processed | Failed | Unsettled | Gone
"""What became of an accepted signal."""
