"""One look through the folder: every file that is at rest and not known yet, in pages."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from connectors._dropfolder.batch import Batch
from connectors._dropfolder.folder import DropFile, UnreadableFile, look, why
from connectors._dropfolder.memory import Memory, Recognition
from connectors._dropfolder.reading import Mapping, Question, Reading
from connectors._dropfolder.table import Columns
from syncd.connector import Checkpoint, Page, SourceError


class UnreadableFiles(SourceError):
    """Some files could not be read; the message names each with its reason."""

    code = "unreadable_file"

    def __init__(self, reasons: dict[str, str]) -> None:
        files = "1 file" if len(reasons) == 1 else f"{len(reasons)} files"
        each = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
        super().__init__(f"{files} cannot be read: {each}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How to go through a folder. The fields are the drop folder's settings of the same names."""

    path: Path
    settle: timedelta
    after: Literal["keep", "archive", "delete"]
    encoding: str | None
    delimiter: str | None
    mapping: Callable[[Columns], Mapping]

    def pages(self, checkpoint: Checkpoint, now: datetime) -> Generator[Page | Question, None, None]:
        """What is new since the checkpoint. What follows a `yield` happens once its page is in the ledger, or its
        question answered.

        Raises `UnreadableFiles` after the last page.
        """
        listing = look(self.path)
        unreadable = dict(listing.unreadable)
        memory = Memory(checkpoint, [*unreadable, *(file.name for file in listing.files)])
        batch = Batch()
        read: list[DropFile] = []
        revisit_at: datetime | None = None
        for file in listing.files:
            if not memory.knows(file):
                if abs(now - file.modified) < self.settle:
                    rests_at = file.modified + self.settle
                    revisit_at = min(revisit_at or rests_at, rests_at)
                    continue
                try:
                    for step in self._full_pages(file, memory, batch):
                        yield step
                        if isinstance(step, Page):
                            self._put_away(read, memory, unreadable)
                except (UnreadableFile, OSError) as error:
                    unreadable[file.name] = why(error)
                    continue
            read.append(file)
        if revisit_at or memory.is_changed or not batch.is_empty:
            yield batch.page(memory.checkpoint, revisit_at)
        self._put_away(read, memory, unreadable)
        if unreadable:
            raise UnreadableFiles(unreadable)

    def reading(self, file: DropFile, content: io.FileIO, before: Recognition | None) -> Reading:
        """The reading of one open file from where it was left before."""
        return Reading(
            file,
            content,
            before,
            encoding=self.encoding,
            delimiter=self.delimiter,
            mapping=self.mapping,
        )

    def _full_pages(self, file: DropFile, memory: Memory, batch: Batch) -> Iterator[Page | Question]:
        """Read one file into the batch, and yield it whenever it is full; and what there is to ask on the way."""
        with file.open() as content:
            before = memory.recognise(file, content)
            if before is not None and before.is_whole:
                memory.remember(file.name, before.seen.model_copy(update={"mtime_ns": file.mtime_ns}), before)
                return
            reading = self.reading(file, content, before)
            for item in reading:
                if isinstance(item, Question):
                    item.leave_out(batch.records)
                    yield item
                    continue
                batch.add(item)
                if batch.is_full:
                    if reading.is_resumable:
                        memory.remember(file.name, reading.seen(whole=False), before)
                    yield batch.page(memory.checkpoint)
            memory.remember(file.name, reading.seen(whole=True), before)

    def _put_away(self, read: list[DropFile], memory: Memory, unreadable: dict[str, str]) -> None:
        """Archive or delete the files that have been read to their end, unless they have changed since."""
        for file in read:
            try:
                if self.after == "archive" and file.is_unchanged():
                    file.archive()
                elif self.after == "delete" and not memory[file.name].flawed and file.is_unchanged():
                    file.delete()
            except OSError as error:
                unreadable[file.name] = f"it was read, but `after: {self.after}` failed: {why(error)}"
        read.clear()
