"""Records that were not ready when they were seen: a transcript that is still being made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from syncd.connector import Checkpoint, Json, instant


@dataclass(slots=True)
class Pending:
    """The ids of records that are not ready, each with when it was found so first. Kept in a checkpoint, and asked for
    again by every reading until they are ready, gone, or given up."""

    since: dict[str, datetime] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: Checkpoint, name: str = "pending") -> Pending:
        """What a checkpoint holds under a name."""
        held = checkpoint.get(name)
        if not isinstance(held, Mapping):
            return cls()
        return cls({id_: instant(str(at)) for id_, at in held.items()})

    def as_json(self) -> Json:
        """For a checkpoint."""
        return {id_: at.isoformat(timespec="seconds") for id_, at in sorted(self.since.items())}

    def wait(self, id_: str, now: datetime) -> None:
        """It is not ready; how long that has been so is remembered."""
        self.since.setdefault(id_, now)

    def is_over(self, id_: str, now: datetime, patience: timedelta) -> bool:
        """Whether it has been waited for so long that it will not come."""
        return id_ in self.since and now - self.since[id_] >= patience

    def done(self, id_: str) -> None:
        """It is ready, gone, or given up."""
        self.since.pop(id_, None)
