"""What is done about a record that changes, or is deleted, at its source after Zentrik took it. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from typing import Literal, TypeAlias

OnChange: TypeAlias = Literal["ignore", "append", "replace"]
"""Of a changed record: leave Zentrik the first one; post the new text beside it; put the new one in its place."""

OnDelete: TypeAlias = Literal["keep", "delete"]
"""Of a deleted record: leave Zentrik its signal, or take it out there as well."""


@dataclass(frozen=True, slots=True)
class DeleteGuard:
    """How many deletions of a connector are believed in 24 hours: a `share` of its records, and `most` of them."""

    share: Fraction = Fraction(5, 100)
    most: int = 50

    def holds_back(self, deletions: int, records: int) -> bool:
        """Whether so many deletions are too many for so many records. One alone never is."""
        return deletions > max(1, min(self.most, int(self.share * records)))


@dataclass(frozen=True, slots=True)
class Edits:
    """What a connector's entry says of edits and deletions. A change is acted on once it has stood for `settle`."""

    on_change: OnChange = "ignore"
    settle: timedelta = timedelta(minutes=15)
    on_delete: OnDelete = "keep"
    guard: DeleteGuard = field(default_factory=DeleteGuard)

    @property
    def needs_deleting(self) -> bool:
        """Whether it takes a key that may delete."""
        return self.on_change == "replace" or self.on_delete == "delete"


AS_IT_WAS = Edits()
"""Zentrik keeps what it has, whatever happens at the source."""
