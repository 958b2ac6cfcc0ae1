"""The drop folder: files of rows (CSV in any dialect) or of ready-made signals (JSON), read as they arrive and grow.

Each file is remembered by its content: one that grew gives its new rows, one that was renamed or touched gives nothing,
one that was rewritten is read again and the ledger skips the rows it knows. A file is read once it has been left alone
for `settle`. A row that cannot be used is set aside with its file, its line and the reason; a file that cannot be read
is an error at the end of the run; everything else goes on.

A row that the ledger has, from a file with the same columns and mapped by the same settings, becomes no record again:
it counts as unchanged, also where it lies outside the span that is asked for.

A `.json` array or a `.jsonl` file holds `external_text` and `raw_signal` items, as the Signals import template takes
them. Each is posted as that template would; the settings about rows do not apply.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import httpx
from pydantic import AfterValidator, Field, field_validator

from connectors._dropfolder.encoding import canonical
from connectors._dropfolder.folder import DropFile, UnreadableFile, look, why
from connectors._dropfolder.reading import Key, Question
from connectors._dropfolder.sweep import Sweep, UnreadableFiles
from connectors._dropfolder.table import Columns
from connectors._dropfolder.template import Condition, Expression, Template, as_lines, condition, template
from syncd.connector import (
    KINDS,
    Checkpoint,
    Connector,
    Duration,
    Page,
    Record,
    RecordError,
    TimeZone,
    UnreadableDate,
    Window,
    instant,
)

TEMPLATES = (
    "id",
    "title",
    "text",
    "occurred_at",
    "signal_type",
    "url",
    "provider_type",
    "additional_context",
    "account_id",
    "account_external_id",
)
"""The settings that are read over each row and stand by themselves."""

NO_PART = {"path", "settle", "after", "encoding", "delimiter"}
"""The settings that have no part in what a row's cells become."""

SENSE = 1
"""Goes up when the same cells and settings come to mean another record than before: then known rows are read anew."""

GLANCE = 1 << 18
"""How many bytes of the newest file `check` looks at."""


def _delimiter(value: str) -> str:
    if value in '"\r\n\0 ':
        raise ValueError("the delimiter is one character such as , ; | or a tab")
    return value


class DropFolder(Connector):
    """Rows and signals from the files in a folder.

    Each value about a row is a Jinja template over `row` where it holds `{{ }}`, else a constant.
    """

    provider: ClassVar[str] = "manual_csv"

    path: Path = Field(description="The folder with the files (*.csv, *.tsv, *.json, *.jsonl), or one file.")
    id: Template | None = Field(
        None, description="What tells a row from all others for ever. Left out: a hash of the row's own content."
    )
    title: Template | None = Field(None, description="The signal's name.")
    text: Template | None = Field(
        None, description="The signal's text. Left out: every filled column as «name: value» lines."
    )
    occurred_at: Template | None = Field(
        None, description="When it happened: ISO 8601, a Unix time, or a date as people write it."
    )
    signal_type: Template = Field("feedback_record", description=f"One of {', '.join(KINDS)}.")
    url: Template | None = Field(
        None, description="Where a person can look at the original; anything but http and https is left out."
    )
    where: Condition | None = Field(
        None, description="A Jinja expression without {{ }}; rows for which it is falsy are passed over."
    )
    provider_type: Template = Field("manual_csv", description="The providerType at Zentrik: g2, app_store, ...")
    additional_context: Template | None = Field(None, description="A note for the analysis, beside the text.")
    product_ids: tuple[Template, ...] = Field((), description="Zentrik's ids of the products it is about.")
    account_id: Template | None = Field(None, description="Zentrik's id of the account it comes from.")
    account_external_id: Template | None = Field(
        None, description="The id of that account in your own systems, the CRM for example."
    )
    external_data: dict[str, Template] = Field(
        {}, description="More values to keep beside the signal, each under a name; empty ones are left out."
    )
    delimiter: Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_delimiter)] | None = Field(
        None, description="The character between cells. Left out: worked out for each file."
    )
    encoding: Annotated[str, AfterValidator(canonical)] | None = Field(
        None, description="How the files are encoded. Left out: worked out for each file. A byte order mark wins."
    )
    timezone: TimeZone = Field("UTC", description="The time zone (IANA name) of times that do not name their own.")
    day_first: bool = Field(False, description="Whether 03/04/2025 is 3 April (true) or 4 March (false).")
    settle: Duration = Field(
        timedelta(seconds=2), description="A file changed more recently than this is left for later."
    )
    after: Literal["keep", "archive", "delete"] = Field(
        "keep",
        description="What becomes of a file once all of it is in the ledger: it stays, it is moved to `.archive` in "
        "its folder, or it is deleted (never one of which a row was set aside).",
    )

    @field_validator("signal_type")
    @classmethod
    def _is_known_kind(cls, source: str) -> str:
        constant = template(source).constant
        if constant is not None and constant not in KINDS:
            raise ValueError(f"{constant!r} is not a signal type; it is one of {', '.join(KINDS)}")
        return source

    async def fetch(
        self,
        http: httpx.AsyncClient,  # noqa: ARG002 - files need no client
        checkpoint: Checkpoint,
        window: Window,
    ) -> AsyncGenerator[Page, None]:
        pages = self._sweep().pages(checkpoint, window.now)
        try:
            while (step := await asyncio.to_thread(next, pages, None)) is not None:
                match step:
                    case Question():
                        step.known = await window.known(step.versions)
                    case Page():
                        yield step
        finally:
            with contextlib.suppress(ValueError):  # cancelled in mid-page: it is closed when its thread lets go of it
                pages.close()

    async def check(self, http: httpx.AsyncClient) -> str:  # noqa: ARG002 - files need no client
        return await asyncio.to_thread(self._glance)

    def watched(self) -> Sequence[Path]:
        return (self.path,)

    def _sweep(self) -> Sweep:
        return Sweep(
            path=self.path,
            settle=self.settle,
            after=self.after,
            encoding=self.encoding,
            delimiter=self.delimiter,
            mapping=functools.partial(_Mapping, self),
        )

    def _glance(self) -> str:
        listing = look(self.path)
        if listing.unreadable:
            raise UnreadableFiles(listing.unreadable)
        said = f"{len(listing.files)} {'file' if len(listing.files) == 1 else 'files'} in {self.path}"
        tables = [file for file in listing.files if file.has_rows]
        return f"{said}; {self._columns_of(tables[-1])}" if tables else said

    def _columns_of(self, file: DropFile) -> str:
        beginning = dataclasses.replace(file, size=min(file.size, GLANCE))
        try:
            with file.open() as content:
                table = self._sweep().reading(beginning, content, None).table()
            if table is None:
                return f"{file.name} has no rows"
            _Mapping(self, table.columns)
        except (UnreadableFile, OSError) as error:
            raise UnreadableFiles({file.name: why(error)}) from error
        return f"{file.name} has the columns {', '.join(table.columns.names)}"

    def expressions(self) -> Iterator[tuple[str, Expression]]:
        """Each setting that is read over a row, by its place in the configuration."""
        for setting in TEMPLATES:
            if (source := getattr(self, setting)) is not None:
                yield setting, template(source)
        for number, source in enumerate(self.product_ids):
            yield f"product_ids.{number}", template(source)
        for name, source in self.external_data.items():
            yield f"external_data.{name}", template(source)
        if self.where is not None:
            yield "where", condition(self.where)


class _Mapping:
    """The settings bound to a header: from a row's cells to its record (a `Mapping`).

    Raises `UnreadableFile` when a setting names a column that is not there.
    """

    def __init__(self, settings: DropFolder, columns: Columns) -> None:
        self._columns = columns
        self._values: dict[str, Callable[[Sequence[str]], Any]] = {}
        for setting, expression in settings.expressions():
            if missing := expression.missing(columns):
                raise UnreadableFile(_no_such_column(setting, missing, columns))
            self._values[setting] = expression.over(columns, setting)
        self._where = self._values.pop("where", None)
        self._own_id = self._values.pop("id", None)
        self._has_text = "text" in self._values
        shape = settings.model_dump_json(exclude=NO_PART), SENSE, columns.names
        self._shape = hashlib.blake2b(repr(shape).encode(errors="surrogatepass"), digest_size=8)
        self._products = [self._values.pop(f"product_ids.{n}") for n in range(len(settings.product_ids))]
        self._data = {name: self._values.pop(f"external_data.{name}") for name in settings.external_data}
        read = functools.partial(instant, zone=ZoneInfo(settings.timezone), day_first=settings.day_first)
        self._instant = functools.lru_cache(maxsize=4096)(read)  # many rows, few days

    def key(self, cells: Sequence[str], /) -> Key | None:
        """The id of the row's record, and a digest of all that the record is made of. None where there is no id, or one
        that might be refused."""
        try:
            id_ = self._id(cells)
        except RecordError:
            return None
        if not id_.isprintable() or not id_:
            return None
        version = self._shape.copy()
        version.update("\0".join(cells).encode(errors="surrogatepass"))  # no cell holds a NUL
        return Key(id_, version.hexdigest())

    def record(self, cells: Sequence[str], place: str, key: Key | None, /) -> Record | None:
        """The row's record, or None where `where` says no. Raises `RecordError` when the row cannot become one."""
        if self._where is not None and not self._where(cells):
            return None
        id_ = key.id if key else self._id(cells)
        said: dict[str, str] = {setting: value(cells) for setting, value in self._values.items()}
        if not id_:
            raise RecordError("its id is empty")
        if not said.get("text", True):
            raise RecordError("it has no text")
        if said["signal_type"] not in KINDS:
            raise RecordError(f"its signal type {said['signal_type'][:60]!r} is none of {', '.join(KINDS)}")
        url = said.get("url", "")
        return Record(
            id=id_,
            kind=said["signal_type"],
            text=said["text"] if self._has_text else as_lines(self._columns.filled(cells)),
            title=said.get("title") or None,
            occurred_at=self._moment(said.get("occurred_at", "")),
            url=url if url.lower().startswith(("http://", "https://")) else None,
            context=said.get("additional_context") or None,
            provider=said["provider_type"] or None,
            attributes={name: text for name, value in self._data.items() if (text := value(cells))},
            product_ids=tuple(text for value in self._products if (text := value(cells))),
            account_id=said.get("account_id") or None,
            account_external_id=said.get("account_external_id") or None,
            place=place,
            version=key.version if key else None,
        )

    def _id(self, cells: Sequence[str]) -> str:
        return _digest(self._columns.filled(cells)) if self._own_id is None else str(self._own_id(cells))

    def _moment(self, text: str) -> datetime | None:
        try:
            return self._instant(text) if text else None
        except UnreadableDate as error:
            raise RecordError(f"occurred_at: {error}") from error


def _digest(filled: Sequence[tuple[str, str]]) -> str:
    """Rows that say the same are one record, wherever they stand."""
    return hashlib.sha256(json.dumps(sorted(filled)).encode()).hexdigest()[:32]


def _no_such_column(setting: str, missing: str, columns: Columns) -> str:
    meant = columns.nearest(missing)
    hint = f" (did you mean {meant!r}?)" if meant else ""
    shown = ", ".join(columns.names[:30]) + (", ..." if len(columns.names) > 30 else "")
    return f"the setting {setting} names the column {missing!r}, which its header does not have{hint}. It has: {shown}"
