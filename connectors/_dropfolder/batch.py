"""What goes into one page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from connectors._dropfolder.reading import Item, Known
from syncd.connector import Checkpoint, Page, RawRecord, Record, SetAside

ITEMS = 100
TEXT = 4_000_000
"""A page is full at that many items, or characters."""

KNOWN = 10_000
"""Or at that many that the ledger has: of them it keeps nothing but how far the reading came."""


class Batch:
    """Items gathered from one or many files until they fill a page."""

    def __init__(self) -> None:
        self._clear()

    def add(self, item: Item) -> None:
        match item:
            case Record():
                self._records.append(item)
                self._text += len(item.text) + len(item.context or "")
                self._text += sum(len(str(value)) for value in item.attributes.values())
            case RawRecord():
                self._records.append(item)
                self._text += len(json.dumps(item.body))
            case SetAside():
                self._set_aside.append(item)
            case Known():
                self._known += item.places
            case None:
                self._filtered += 1

    @property
    def records(self) -> Sequence[Record | RawRecord]:
        """Those on their way to the ledger."""
        return self._records

    @property
    def is_empty(self) -> bool:
        return not (self._records or self._set_aside or self._known or self._filtered)

    @property
    def is_full(self) -> bool:
        items = len(self._records) + len(self._set_aside) + self._filtered
        return items >= ITEMS or self._text >= TEXT or len(self._known) >= KNOWN

    def page(self, checkpoint: Checkpoint, revisit_at: datetime | None = None) -> Page:
        """The items as a page with the checkpoint after them; the batch is empty again."""
        page = Page(
            records=self._records,
            checkpoint=checkpoint,
            set_aside=self._set_aside,
            filtered=self._filtered,
            unchanged=len(self._known),
            unchanged_at=self._known,
            revisit_at=revisit_at,
        )
        self._clear()
        return page

    def _clear(self) -> None:
        self._records: list[Record | RawRecord] = []
        self._set_aside: list[SetAside] = []
        self._known: list[str] = []
        self._filtered = 0
        self._text = 0
