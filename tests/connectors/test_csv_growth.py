"""A drop folder is read incrementally: each row once, however its file grows, moves or is read in bits."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors._dropfolder import memory
from connectors.csv import DropFolder
from syncd.connector import SourceError, Window
from tests.connectors.conftest import Inbox

TEXT: dict[str, Any] = {"id": "{{ row.id }}", "text": "{{ row.text }}"}


async def test_a_file_that_grew_gives_only_its_new_rows(inbox: Inbox) -> None:
    """An export that is appended to is not fetched from its beginning every ten minutes."""
    inbox.drop("a.csv", "id,text\n1,a\n2,b\n")
    assert (await inbox.look(**TEXT)).texts == ["a", "b"]
    inbox.append("a.csv", '3,"c\nd"\n')
    second = await inbox.look(**TEXT)
    assert second.texts == ["c\nd"]
    assert second.records[0].place == "a.csv:4"
    inbox.append("a.csv", "4,e\n")
    third = await inbox.look(**TEXT)
    assert third.texts == ["e"]
    assert third.records[0].place == "a.csv:6"


async def test_a_known_file_gives_nothing_and_changes_nothing(inbox: Inbox) -> None:
    """An idle folder costs a look at its listing: no page, no write, not even an opened file."""
    path = inbox.drop("a.csv", "id,text\n1,a\n")
    await inbox.look(**TEXT)
    before = path.stat()
    path.write_text("id,text\n1,b\n")  # of the same size, and dated as before: nobody looks
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (await inbox.look(**TEXT)).pages == []


@pytest.mark.parametrize("end", ["\n", "", "\r\n", '\n"open'])
async def test_a_file_renamed_or_touched_gives_nothing(inbox: Inbox, end: str) -> None:
    """Tidying up the folder imports nothing a second time."""
    inbox.drop("a.csv", "id,text\n1,a\n2,b" + end)
    assert len((await inbox.look(**TEXT)).records) == 2
    inbox.touch("a.csv", age=30)
    touched = await inbox.look(**TEXT)
    assert touched.is_empty
    assert (await inbox.look(**TEXT)).pages == []  # the new date is known now
    (inbox.folder / "a.csv").rename(inbox.folder / "b.csv")
    assert (await inbox.look(**TEXT)).is_empty
    assert list(inbox.checkpoint["files"]) == ["b.csv"]  # type: ignore[arg-type]


async def test_a_file_renamed_and_grown_gives_its_new_rows(inbox: Inbox) -> None:
    """A file is known by its content, so a rotated name does not hide what it has already given."""
    inbox.drop("a.csv", "id,text\n1,a\n")
    await inbox.look(**TEXT)
    (inbox.folder / "a.csv").rename(inbox.folder / "b.csv")
    inbox.append("b.csv", "2,b\n")
    assert (await inbox.look(**TEXT)).texts == ["b"]


async def test_rotation_is_followed(inbox: Inbox) -> None:
    """`export.csv` moved aside and begun anew gives the new file's rows and none of the old one's."""
    inbox.drop("export.csv", "id,text\n1,a\n2,b\n")
    await inbox.look(**TEXT)
    (inbox.folder / "export.csv").rename(inbox.folder / "export-1.csv")
    inbox.drop("export.csv", "id,text\n3,c\n", age=90)
    assert (await inbox.look(**TEXT)).texts == ["c"]


async def test_a_copy_gives_nothing(inbox: Inbox) -> None:
    """The same export dropped twice under two names is imported once, in one run or in two."""
    inbox.drop("a.csv", "id,text\n1,a\n")
    inbox.drop("copy.csv", "id,text\n1,a\n")
    assert (await inbox.look(**TEXT)).texts == ["a"]
    inbox.drop("another.csv", "id,text\n1,a\n")
    assert (await inbox.look(**TEXT)).is_empty
    assert (await inbox.look(**TEXT)).pages == []


@pytest.mark.parametrize("content", ["id,text\n1,A\n2,b\n3,c\n", "id,text\n9,z\n"])
async def test_a_file_rewritten_in_place_is_read_from_its_start(inbox: Inbox, content: str) -> None:
    """A new export under the old name is not taken for a grown or a shrunk one: none of its rows is skipped."""
    inbox.drop("a.csv", "id,text\n1,a\n2,b\n")
    await inbox.look(**TEXT)
    inbox.drop("a.csv", content, age=30)
    assert len((await inbox.look(**TEXT)).records) == content.count("\n") - 1


async def test_a_file_that_was_away_is_still_known(inbox: Inbox) -> None:
    """A file that was moved out and back in gives nothing again."""
    inbox.drop("a.csv", "id,text\n1,a\n")
    await inbox.look(**TEXT)
    (inbox.folder / "a.csv").unlink()
    assert (await inbox.look(**TEXT)).pages == []
    inbox.drop("a.csv", "id,text\n1,a\n", age=10)
    assert (await inbox.look(**TEXT)).is_empty


async def test_the_memory_of_files_long_gone_is_bounded(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that sees a file a minute does not carry them all in its checkpoint for ever."""
    monkeypatch.setattr(memory, "KEPT", 3)
    for number in range(8):
        inbox.drop(f"{number}.csv", f"id,text\n{number},x\n", age=100 - number)
        await inbox.look(**TEXT, after="delete")
    known = inbox.checkpoint["files"]
    assert isinstance(known, dict)
    assert sorted(known) == ["4.csv", "5.csv", "6.csv", "7.csv"]
    inbox.drop("0.csv", "id,text\n0,x\n")
    assert len((await inbox.look(**TEXT)).records) == 1


async def test_a_last_row_without_a_line_end_is_imported_and_read_whole_once_it_grows(inbox: Inbox) -> None:
    """A hand-written file's last row is not forgotten, and half a row is not what remains of it."""
    inbox.drop("a.csv", "id,text\n1,a\n2,b")
    assert (await inbox.look(**TEXT)).texts == ["a", "b"]
    inbox.append("a.csv", "etter\n3,c")
    assert (await inbox.look(**TEXT)).texts == ["better", "c"]
    inbox.append("a.csv", "\n")
    assert (await inbox.look(**TEXT)).texts == ["c"]
    inbox.append("a.csv", "4,d\n")
    assert (await inbox.look(**TEXT)).texts == ["d"]


async def test_a_quoted_cell_cut_in_the_middle_is_read_whole_once_it_grows(inbox: Inbox) -> None:
    """A writer that paused within a long answer does not cost that answer."""
    inbox.drop("a.csv", 'id,text\n1,a\n2,"a long')
    first = await inbox.look(**TEXT)
    assert first.texts == ["a"]
    assert first.places == ["a.csv:3"]
    inbox.append("a.csv", '\nanswer"\n3,c\n')
    second = await inbox.look(**TEXT)
    assert second.texts == ["a long\nanswer", "c"]
    assert second.set_aside == []


async def test_growth_is_read_in_the_encoding_of_the_file(inbox: Inbox) -> None:
    """Later rows are not read as something else than the first ones were; what does not fit is set aside."""
    inbox.drop("latin.csv", "id,text\n1,größer\n".encode("cp1252"))
    inbox.drop("utf8.csv", "id,text\n2,größer\n")
    assert (await inbox.look(**TEXT)).texts == ["größer", "größer"]
    inbox.append("latin.csv", "3,Straße\n".encode("cp1252"))
    inbox.append("utf8.csv", b"4,Stra\xdfe\n5,stra\xc3\x9fe\n")
    look = await inbox.look(**TEXT)
    assert sorted(look.texts) == ["Straße", "straße"]
    assert [(item.place, item.reason) for item in look.set_aside] == [("utf8.csv:3", "it has bytes that are not utf-8")]


async def test_a_file_that_was_plain_so_far_may_grow_into_any_encoding(inbox: Inbox) -> None:
    """The first umlaut of a log is not lost because the file had none when it was first seen."""
    inbox.drop("a.csv", "id,text\n1,plain\n")
    await inbox.look(**TEXT)
    inbox.append("a.csv", "2,größer\n".encode("cp1252"))
    assert (await inbox.look(**TEXT)).texts == ["größer"]


async def test_a_letter_cut_in_the_middle_does_not_settle_the_encoding(inbox: Inbox) -> None:
    """A writer that paused within the bytes of one letter does not garble all that follows."""
    inbox.drop("a.csv", b"id,text\n1,a\n2,caf\xc3")
    await inbox.look(**TEXT)
    inbox.append("a.csv", b"\xa9\n3,gr\xc3\xb6\xc3\x9fer\n")
    assert (await inbox.look(**TEXT)).texts == ["café", "größer"]


async def test_growth_during_the_reading_is_left_for_the_next_run(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that grows while it is read is read to where it stood, and gives the rest later, once."""
    path = inbox.drop("a.csv", "id,text\n" + "".join(f"{n},x{n}\n" for n in range(600)))
    first = await inbox.look(**TEXT, pages=1)
    with path.open("a") as file:
        file.write("600,x600\n")
    inbox.touch("a.csv")
    second = await inbox.look(**TEXT)
    assert [*first.texts, *second.texts] == [f"x{n}" for n in range(601)]


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
async def test_a_run_that_is_killed_loses_and_doubles_nothing(inbox: Inbox, stop: int) -> None:
    """Whichever page was the last to reach the ledger, the next run goes on right after it."""
    wanted = []
    for number, count in enumerate((700, 10, 900)):
        rows = [f"{number}-{n}" for n in range(count)]
        wanted += rows
        body = "".join(f'{row},"line\n{row}"\n' for row in rows)
        inbox.drop(f"{number}.csv", "id,text\n" + body, age=100 - number)
    first = await inbox.look(**TEXT, pages=stop)
    second = await inbox.look(**TEXT)
    assert [record.id for record in (*first.records, *second.records)] == wanted
    places = {record.id: record.place for record in (*first.records, *second.records)}
    assert places["2-899"] == "2.csv:1800"


async def test_small_files_share_a_page(inbox: Inbox) -> None:
    """A thousand files of one row are not a thousand commits."""
    for number in range(40):
        inbox.drop(f"{number:02}.csv", f"id,text\n{number},x\n")
    look = await inbox.look(**TEXT)
    assert len(look.pages) == 1
    assert len(look.records) == 40


async def test_pages_are_bounded_in_rows_and_in_text(inbox: Inbox) -> None:
    """A page of long transcripts does not fill the memory."""
    inbox.drop("rows.csv", "id,text\n" + "".join(f"{n},x\n" for n in range(240)), age=90)
    inbox.drop("long.csv", "id,text\n" + "".join(f"{n},{'x' * 1_000_000}\n" for n in range(9)))
    sizes = [len(page.records) for page in (await inbox.look(**TEXT)).pages]
    assert sizes == [100, 100, 44, 4, 1]


async def test_a_file_that_shrinks_while_it_is_read_is_an_error_of_that_file(inbox: Inbox) -> None:
    """A file truncated under the reader is not marked as read."""
    path = inbox.drop("a.csv", "id,text\n" + "".join(f"{n},{'x' * 2000}\n" for n in range(1200)))
    connector = DropFolder(path=inbox.folder)
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500))) as http:
        pages = connector.fetch(http, {}, Window(now=inbox.now))
        first = await anext(pages)
        path.write_text("id,text\n1,x\n")
        assert (await anext(pages)).checkpoint == first.checkpoint
        with pytest.raises(SourceError, match="became shorter"):
            await anext(pages)


CELLS = st.text(st.sampled_from('ab"\n,é ') | st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(CELLS, min_size=1, max_size=12),
    cuts=st.lists(st.floats(0, 1), max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_wherever_the_growth_is_cut_every_row_arrives_whole(texts: list[str], cuts: list[float], end: str) -> None:
    """Whatever a writer had flushed when the folder was looked into, each row is there in the end, with its text.

    Rows that were complete come exactly once; a row that was cut may have come before as it stood, under its own line.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(["id", "text"])
    for number, text in enumerate(texts):
        writer.writerow([f"r{number}", f"{text}."])
    whole = buffer.getvalue().encode()
    places = sorted({len(whole), *(int(cut * len(whole)) for cut in cuts)})

    async def grow() -> list[tuple[str, str]]:
        seen = []
        with tempfile.TemporaryDirectory() as folder:
            inbox = Inbox(Path(folder))
            for place in places:
                inbox.now += timedelta(minutes=1)
                inbox.drop("a.csv", whole[:place])
                look = await inbox.look(id="{{ row.id | default('?') }}", text="{{ row.text | default('?') }}")
                seen += [(record.id, record.text) for record in look.records]
        return seen

    seen = asyncio.run(grow())
    for number, text in enumerate(texts):
        assert (f"r{number}", f"{text}.".strip()) in seen
    whole_rows = [row for row in seen if row[0].startswith("r")]
    assert len(whole_rows) <= len(texts) + len(places) - 1
