"""A row that the ledger has is passed over without becoming a record, and nothing else about it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import PrivateAttr

from connectors._dropfolder import batch, reading
from connectors.csv import DropFolder
from syncd.connector import Checkpoint, Page, Source, Window
from syncd.ledger import Database, Ledger, report
from syncd.pull import Pulled, Span, pull
from tests.conftest import OnSQLite
from tests.connectors.conftest import Inbox

TEXT: dict[str, Any] = {"id": "{{ row.id }}", "text": "{{ row.text }}"}
ALL = Span()
LONG_AGO = Span(since=datetime(2000, 1, 1, tzinfo=UTC))


def rows(*cells: tuple[object, object]) -> str:
    """A file of ids and texts."""
    return "id,text\n" + "".join(f"{id_},{text}\n" for id_, text in cells)


def many(count: int = 40, text: str = "x") -> list[tuple[object, object]]:
    """So many rows: worth asking about."""
    return [(number, text) for number in range(count)]


class Counted(DropFolder):
    """Counts the records it makes."""

    _made: int = PrivateAttr(0)

    @property
    def made(self) -> int:
        """So many."""
        return self._made

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        """What the drop folder gives."""
        async with aclosing(super().fetch(http, checkpoint, window)) as pages:
            async for page in pages:
                self._made += len(page.records)
                yield page


class Reader:
    """Reads a drop folder into a ledger, one run at a time."""

    def __init__(self, ledger: Ledger, http: httpx.AsyncClient, inbox: Inbox) -> None:
        self.ledger, self.http, self.inbox = ledger, http, inbox
        self.made = 0
        self.pages: list[int] = []

    async def read(self, content: str | None = None, span: Span = LONG_AGO, **more: Any) -> Pulled:
        """Look into the folder, after the file in it was written anew.

        `made` is how many records came of it, `pages` how many rows were unchanged after each page.
        """
        if content is not None:
            self.inbox.drop("a.csv", content)
        connector = Counted.model_validate({"path": self.inbox.folder} | TEXT | more)
        source = Source("survey", "csv", "csv:survey", connector)
        run = await self.ledger.start_run("test", self.inbox.now)
        self.pages = []

        def note(pulled: Pulled) -> None:
            self.pages.append(pulled.unchanged)

        pulled = await pull(source, self.ledger, self.http, run, lambda: self.inbox.now, span, on_page=note)
        self.made = connector.made
        return pulled

    async def fingerprints(self) -> dict[str, bytes]:
        """What the ledger knows of each record."""
        found = await self.ledger.ask(lambda db: list(report.find(db)))
        return {row.external_id: row.source_fingerprint for row in found}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client that is not used."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(404))) as client:
        yield client


@pytest.fixture
def reader(ledger: Ledger, http: httpx.AsyncClient, inbox: Inbox) -> Reader:
    """A reader of an empty folder into an empty ledger."""
    return Reader(ledger, http, inbox)


class TestKnownRows(OnSQLite):
    @pytest.mark.parametrize("more", [{}, {"id": None}, {"where": "row.text"}, {"occurred_at": "2024-05-06"}])
    async def test_they_become_no_records_and_count_as_unchanged(self, reader: Reader, more: dict[str, Any]) -> None:
        """A big export that is read again costs neither mapping nor writing, whether its rows have ids or not."""
        content = rows(*((number, f"x{number}") for number in range(1200)))
        first = await reader.read(content, **more)
        assert (first.new, reader.made) == (1200, 1200)
        again = await reader.read(**more)
        assert (again.unchanged, again.fetched, again.shown, reader.made) == (1200, 1200, 1200, 0)

    @pytest.mark.parametrize("field", ["text", "title", "external_data", "where", "timezone", "day_first"])
    async def test_another_setting_has_them_all_looked_at_anew(self, reader: Reader, field: str) -> None:
        """A mapping that was mended reaches what is queued, and what is merely named otherwise is asked about again."""
        other: dict[str, Any] = {
            "text": "{{ row.text }}!",
            "title": "{{ row.id }}",
            "external_data": {"number": "{{ row.id }}"},
            "where": "row.id != 'never'",
            "timezone": "Europe/Berlin",
            "day_first": True,
        }
        await reader.read(rows(*many()))
        before = await reader.fingerprints()
        changed = await reader.read(**{field: other[field]})
        assert reader.made == 40
        is_change = field in ("text", "title")
        assert (changed.changed, changed.unchanged) == ((40, 0) if is_change else (0, 40))
        reaches = is_change or field == "external_data"  # what is kept beside the evidence is no change
        assert (await reader.fingerprints() != before) == reaches
        await reader.read(**{field: other[field]})
        assert reader.made == 0

    async def test_what_is_about_the_file_makes_no_difference(self, reader: Reader) -> None:
        """The same rows under another name, with another delimiter and other line ends, are known."""
        await reader.read(rows(*many()))
        (reader.inbox.folder / "a.csv").unlink()
        reader.inbox.drop("b.csv", rows(*many()).replace(",", ";").replace("\n", "\r\n"))
        again = await reader.read(settle="1s")
        assert (again.unchanged, reader.made) == (40, 0)

    async def test_a_column_that_was_renamed_has_them_looked_at_anew(self, reader: Reader) -> None:
        """Where the header names the columns otherwise, a text made of names and values changes."""
        await reader.read(rows(*many()), text=None)
        other = await reader.read(rows(*many()).replace("id,text", "id,comment"), text=None)
        assert (other.changed, reader.made) == (40, 40)

    async def test_only_what_changed_becomes_a_record(self, reader: Reader) -> None:
        """One corrected answer in an export is seen, and is all that is looked at."""
        await reader.read(rows(*many(1100)))
        content = rows(*many(1100)).replace("\n7,x\n", "\n7,y\n") + "new,z\n"
        again = await reader.read(content)
        assert (again.new, again.changed, again.unchanged, reader.made) == (1, 1, 1099, 2)

    @pytest.mark.parametrize("portion", [20, 500])
    async def test_of_an_id_that_stands_there_twice_both_rows_are_seen(
        self, reader: Reader, monkeypatch: pytest.MonkeyPatch, portion: int
    ) -> None:
        """The later row counts and the change is noted, whether the two are asked about together or one by one."""
        monkeypatch.setattr(reading, "PORTION", portion)
        await reader.read(rows(("twice", "a"), *many(38), ("twice", "b")))
        before = await reader.fingerprints()
        again = await reader.read()
        assert (again.changed, again.unchanged, reader.made) == (1, 39, 2)
        assert await reader.fingerprints() == before

    async def test_known_rows_after_many_new_ones_are_found_again(self, reader: Reader) -> None:
        """Asking in vain makes it rarer, not never."""
        await reader.read(rows(*many(20_000)))
        fresh = [(f"n{number}", "x") for number in range(2_000)]
        again = await reader.read(rows(*fresh, *many(20_000)))
        assert (again.new, again.unchanged) == (2_000, 20_000)
        assert reader.made <= 2_000 + reading.NOW_AND_THEN * reading.PORTION

    async def test_rows_that_cannot_be_asked_about_are_treated_as_ever(self, reader: Reader) -> None:
        """A row without an id, one cut short and one whose id is refused are set aside at every reading."""
        content = rows(*many(), ("", "no id")) + 'short\n"c\ud800",half\n'.replace("\ud800", "\x01")
        for made in (41, 1):
            pulled = await reader.read(content)
            assert (pulled.fetched, pulled.skipped, reader.made) == (43, 3, made)
            assert [item.place for item in pulled.set_aside] == ["a.csv:42", "a.csv:43", "a.csv:44"]
            content += "\n"

    async def test_a_known_row_ends_what_was_set_aside_in_its_place(self, reader: Reader) -> None:
        """`syncd skipped` does not go on telling of a row that is no longer there."""
        await reader.read(rows(("", "no id"), *many()), ALL)
        assert await reader.ledger.ask(report.aside_counts) == {"survey": 1}
        reader.inbox.now += timedelta(minutes=5)
        again = await reader.read(rows(*many()), ALL)
        assert (again.unchanged, reader.made) == (40, 0)
        assert await reader.ledger.ask(report.aside_counts) == {}

    async def test_a_file_of_known_rows_is_put_away(self, reader: Reader) -> None:
        """`after: delete` holds also for a file all of which was in the ledger before it came."""
        await reader.read(rows(*many()))
        assert (await reader.read(span=ALL, after="delete")).unchanged == 40
        assert not (reader.inbox.folder / "a.csv").exists()

    async def test_a_limit_does_not_count_them(self, reader: Reader) -> None:
        """`--limit 2` takes two new rows, however many known ones stand before them."""
        await reader.read(rows(*many()))
        limited = await reader.read(rows(*many(), *((f"n{n}", "x") for n in range(5))), Span(limit=2))
        assert limited.new == 2

    async def test_pages_of_them_are_bounded(self, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
        """However large a file of known rows is, the checkpoint moves on within it."""
        await reader.read(rows(*many(2_000)))
        monkeypatch.setattr(batch, "KNOWN", 1_000)
        await reader.read()
        assert reader.pages == [1_000, 2_000, 2_000]


@settings(max_examples=25, deadline=None)
@given(
    exports=st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.sampled_from("ab")), min_size=1, max_size=12), min_size=2, max_size=4
    ),
    portion=st.integers(1, 4),
    items=st.integers(1, 6),
)
def test_the_ledger_ends_as_if_every_row_had_been_mapped(
    exports: list[list[tuple[int, str]]], portion: int, items: int
) -> None:
    """Whatever stands in a file how often, in whatever portions it is asked about: nothing is hidden by asking."""

    async def ends(worth_asking: int) -> list[dict[str, bytes]]:
        states = []
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "PORTION", portion)
            patch.setattr(reading, "WORTH_ASKING", worth_asking)
            patch.setattr(reading, "NOW_AND_THEN", 1)
            patch.setattr(batch, "ITEMS", items)
            patch.setattr(batch, "KNOWN", items)
            ledger = Ledger(Database(f"sqlite:///{folder}/ledger.db"))
            (inbox := Path(folder) / "inbox").mkdir()
            async with httpx.AsyncClient() as http:
                reader = Reader(ledger, http, Inbox(inbox))
                for export in exports:
                    pulled = await reader.read(rows(*export))
                    assert pulled.fetched == len(export)
                    states.append(await reader.fingerprints())
            ledger.close()
        return states

    assert asyncio.run(ends(1)) == asyncio.run(ends(1_000))
