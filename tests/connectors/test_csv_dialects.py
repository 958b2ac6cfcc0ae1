"""Delimited files as they come: every delimiter, encoding and line end, and all that goes wrong in them."""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors._dropfolder import lines, rows, table
from tests.connectors.conftest import Inbox, Look

TEXT: dict[str, Any] = {"text": "{{ row.text }}"}
ALL: dict[str, Any] = {"id": "{{ row.id }}", "text": "text", "external_data": {"b": "{{ row.b }}", "c": "{{ row.c }}"}}


def drop_and_look(content: bytes, **settings: Any) -> Look:
    """One look at a folder with one file."""
    with tempfile.TemporaryDirectory() as folder:
        inbox = Inbox(Path(folder))
        inbox.drop("a.csv", content)
        return asyncio.run(inbox.look(**settings))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_what_a_csv_writer_wrote_comes_back_the_same(data: st.DataObject) -> None:
    """No quote, delimiter, line break or letter of a customer's words is lost or changed on the way in."""
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252", "cp932"]), "encoding")
    delimiter = data.draw(st.sampled_from(table.DELIMITERS), "delimiter")
    characters = st.sampled_from("\"',;|\t\n ") | st.characters(
        codec={"utf-8-sig": "utf-8"}.get(encoding, encoding),
        exclude_characters="\0\r\ufeff¢£¬‖−〜",
        exclude_categories=["Cs"],
    )
    cells = st.text(characters, max_size=12)
    table_rows = data.draw(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), "rows")
    buffer = io.StringIO()
    writer = csv.writer(
        buffer,
        delimiter=delimiter,
        lineterminator=data.draw(st.sampled_from(["\n", "\r\n"]), "line end"),
        quoting=data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), "quoting"),
    )
    writer.writerow(["id", "b", "c"])
    for number, row in enumerate(table_rows):
        writer.writerow([str(number), *row])
    declared = encoding if encoding.startswith("cp") else None
    look = drop_and_look(buffer.getvalue().encode(encoding), **ALL, encoding=declared)
    assert look.set_aside == []
    assert [(record.id, record.attributes) for record in look.records] == [
        (str(number), {name: cell.strip() for name, cell in zip("bc", row, strict=True) if cell.strip()})
        for number, row in enumerate(table_rows)
    ]


@pytest.mark.parametrize("delimiter", table.DELIMITERS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_every_delimiter_and_line_end_is_worked_out(inbox: Inbox, delimiter: str, end: str) -> None:
    """Exports of any country and any decade are read without a setting; other delimiters in the text do not mislead."""
    header = delimiter.join(["id", "text", '"a, b; c | d\te"'])
    rows = [delimiter.join([str(n), f'"one, two; three | {n}\tfour"', "x"]) for n in range(5)]
    inbox.drop("a.csv", end.join([header, *rows, ""]))
    assert (await inbox.look(**TEXT)).texts == [f"one, two; three | {n}\tfour" for n in range(5)]


async def test_among_several_possible_delimiters_the_text_decides(inbox: Inbox) -> None:
    """A comma within a question in the header does not cut a semicolon file into the wrong columns."""
    rows = "".join(f"{n};Well, I think, yes;2025-01-0{n}\n" for n in range(1, 9))
    inbox.drop("a.csv", "id;What, if anything, text;when\n" + rows)
    look = await inbox.look(text="{{ row['What, if anything, text'] }}", occurred_at="{{ row.when }}")
    assert set(look.texts) == {"Well, I think, yes"}


async def test_the_operator_knows_best_what_the_delimiter_is(inbox: Inbox) -> None:
    """Any one character can be named."""
    inbox.drop("a.csv", "id#text,more\n1#a,b\n")
    assert (await inbox.look(delimiter="#", text="{{ row['text,more'] }}")).texts == ["a,b"]


async def test_a_file_with_one_column_is_not_cut_at_its_commas(inbox: Inbox) -> None:
    """A list of plain sentences is one answer a line."""
    inbox.drop("a.csv", 'text\nSlow, and ugly; really\n"Quoted, too"\n')
    assert (await inbox.look(**TEXT)).texts == ["Slow, and ugly; really", "Quoted, too"]


@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', "SEP=;\n"])
async def test_the_line_in_which_excel_names_the_delimiter_is_understood(inbox: Inbox, first: str) -> None:
    """It is neither the header nor a row."""
    inbox.drop("a.csv", first + "id;text\n1;a\n")
    look = await inbox.look(**TEXT)
    assert look.texts == ["a"]
    assert look.records[0].place == "a.csv:3"
    inbox.append("a.csv", "2;b\n")
    assert (await inbox.look(**TEXT)).texts == ["b"]


async def test_a_tsv_is_parted_by_tabs(inbox: Inbox) -> None:
    """Whatever its header looks like."""
    inbox.drop("a.tsv", "id, please\ttext\n1\ta\n")
    assert (await inbox.look(**TEXT)).texts == ["a"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Größe – “fein” 😀"),
        ("utf-8-sig", "Größe – “fein” 😀"),
        ("utf-16", "Größe – “fein” 😀"),
        ("utf-16-le", "Größe – “fein” 😀"),
        ("utf-16-be", "Größe – “fein” 😀"),
        ("utf-16-be", "このアプリはとても便利です"),
        ("cp1252", "one é"),
        ("cp1252", "Spaß” für “alle”"),
        ("cp1252", "it’s “fine” – really, €5"),
        ("cp1252", "Très bon café déjà vu"),
        ("cp1252", "¿Mañana? Sí, señor Muñoz"),
        ("cp1252", "ÄÖÜ GROSSES PROBLÈME"),
        ("cp1252", "mais l'export est cassé depuis la mise à jour, très agréable"),
        ("cp1251", "Привет мир это русский текст отзыв о продукте"),
        ("cp1253", "Η εφαρμογή είναι πολύ καλή αλλά αργή"),
        ("cp932", "このアプリはとても便利ですが、エクスポートが遅いです"),
        ("gb18030", "这个应用非常好用，但是导出太慢了，请改进"),
        ("cp949", "이 앱은 정말 좋지만 내보내기가 너무 느려요"),
    ],
)
async def test_the_encoding_is_worked_out(inbox: Inbox, encoding: str, text: str) -> None:
    """Customers' names and words do not turn into mojibake; short western text is Windows-1252."""
    inbox.drop("a.csv", f"id,text\n1,{text.replace(',', '')}\n".encode(encoding))
    look = await inbox.look(id="{{ row.id }}", **TEXT)
    assert look.texts == [text.replace(",", "")]
    inbox.append(
        "a.csv",
        f"2,{text.replace(',', '')}!\n".encode(encoding).removeprefix(b"\xff\xfe").removeprefix(b"\xef\xbb\xbf"),
    )
    grown = await inbox.look(id="{{ row.id }}", **TEXT)
    assert grown.texts == [text.replace(",", "") + "!"]
    assert grown.records[0].place == "a.csv:3"


async def test_one_late_byte_decides_the_encoding_of_a_large_file(inbox: Inbox) -> None:
    """A file that is plain for its first megabyte is not taken for UTF-8 on the strength of it."""
    filler = "".join(f"{n},{'plain ' * 20}\n" for n in range(9000))
    inbox.drop("a.csv", ("id,text\n" + filler + "last,größer\n").encode("cp1252"))
    look = await inbox.look(**TEXT)
    assert look.texts[-1] == "größer"
    assert len(look.records) == 9001


async def test_a_last_letter_in_windows_1252_is_not_taken_for_half_of_one_in_utf_8(inbox: Inbox) -> None:
    """A file that ends in «café», without a line end, ends in «café»."""
    inbox.drop("a.csv", b"id,text\n1,caf\xe9")
    assert (await inbox.look(**TEXT)).texts == ["café"]


async def test_a_damaged_row_does_not_garble_a_utf_8_file(inbox: Inbox) -> None:
    """One wrong byte costs its row and not the accents of all others."""
    inbox.drop("a.csv", "text\nGröße\nçà\n".encode() + b"gr\xf6\xdfer\n" + "naïf\n".encode())
    look = await inbox.look(**TEXT)
    assert look.texts == ["Größe", "çà", "naïf"]
    assert look.places == ["a.csv:4"]


async def test_a_declared_encoding_is_kept_to_but_a_mark_wins(inbox: Inbox) -> None:
    """`encoding` settles what cannot be worked out, and a file that says what it is is believed."""
    inbox.drop("a.csv", "text\nĂaé\n".encode("cp1250"), age=90)
    inbox.drop("b.csv", "text\né\n".encode("utf-8-sig"))
    assert (await inbox.look(**TEXT, encoding="windows-1250")).texts == ["Ăaé", "é"]


async def test_bytes_that_make_no_sense_cost_their_row_or_their_file(inbox: Inbox) -> None:
    """A damaged row is set aside by its line; a file that is wholly something else is an error, not a crash."""
    inbox.drop("rows.csv", b"id,text\n1,a\n2,\xff\xfe\n3,\xc3\xa9\n", age=90)
    look = await inbox.look(**TEXT, encoding="utf-8")
    assert look.texts == ["a", "é"]
    assert look.places == ["rows.csv:3"]
    inbox.drop("wide.csv", "text\na\n".encode("utf-16-le") + b"\x00\xd8" + "\nb\n".encode("utf-16-le"), age=80)
    wide = await inbox.look(**TEXT, encoding="utf-16")
    assert wide.texts == ["a", "b"]
    assert wide.places == ["wide.csv:3"]
    inbox.drop("junk.csv", b"\xff" * 40)
    junk = await inbox.look(**TEXT, encoding="utf-32")
    assert "junk.csv: it cannot be read as utf-32-le" in str(junk.error)


async def test_headers_that_repeat_or_are_blank_get_names(inbox: Inbox) -> None:
    """No column hides another one."""
    inbox.drop("a.csv", "x,x,,x_2,y\n1,2,3,4,5\n")
    assert (await inbox.look()).texts == ["x: 1\nx_2: 2\ncolumn 3: 3\nx_2_2: 4\ny: 5"]


async def test_empty_lines_are_passed_over_and_the_lines_still_count(inbox: Inbox) -> None:
    """Empty lines before, between and after the rows are no mistakes, and places stay true."""
    inbox.drop("a.csv", "\r\n\r\nid,text\r\n\r\n1,a\r\n,\r\n   \r\n2,b\r\n\r\n")
    look = await inbox.look(**TEXT)
    assert [(record.text, record.place) for record in look.records] == [("a", "a.csv:5"), ("b", "a.csv:8")]
    assert look.set_aside == []


async def test_ragged_rows(inbox: Inbox) -> None:
    """A row cut short is set aside; one that is too long keeps every word of it."""
    inbox.drop("a.csv", "a,b,c\n1,2\n1,2,3,,\n1,2,3,more,,yet\n")
    look = await inbox.look()
    assert look.texts == ["a: 1\nb: 2\nc: 3", "a: 1\nb: 2\nc: 3\ncolumn 4: more\ncolumn 6: yet"]
    assert [(item.place, item.reason) for item in look.set_aside] == [("a.csv:2", "2 cells where the header has 3")]


async def test_a_header_that_ends_in_delimiters_does_not_make_rows_ragged(inbox: Inbox) -> None:
    """Spreadsheets leave empty columns at the right of the header."""
    inbox.drop("a.csv", "id,text,,\n1,a\n2,b,,\n3,c,d,\n")
    assert (await inbox.look(**TEXT)).texts == ["a", "b", "c"]


async def test_a_very_large_cell_is_a_cell(inbox: Inbox) -> None:
    """A transcript of megabytes, with its line breaks, is one row."""
    transcript = 'He said ""so"".\n' * 200_000
    inbox.drop("a.csv", f'id,text\n1,"{transcript}"\n2,b\n')
    look = await inbox.look(**TEXT)
    assert [len(text) for text in look.texts] == [len(transcript.replace('""', '"').strip()), 1]


async def test_zero_bytes_do_no_harm(inbox: Inbox) -> None:
    """What a crashed writer left in a file neither stops the reading nor reaches the database."""
    inbox.drop("a.csv", b"id,text\n1,a\x00b\n\x00\n2,c\n")
    assert (await inbox.look(**TEXT)).texts == ["ab", "c"]


@pytest.mark.parametrize(
    ("content", "texts", "aside"),
    [
        ('1,"he said "hi" to me",x\n2,b,y\n', ['he said hi" to me"', "b"], []),
        ('1,"a" ,x\n2, "b, c",y\n', ["a", "b, c"], []),
        ('1,it"s fine,x\n2,"",y\n3,""",",z\n', ['it"s fine', '",'], ["a.csv:3"]),
        ('1,"he said "hi, you" there",x\n2,b,y\n', ["b"], ["a.csv:2"]),
        ('1,a,x\n2,"oops,y\n3,c,z\n', ["a", "c"], ["a.csv:3"]),
        ('1,"oops,y\n2,"fine",z\n3,c,z\n', ["fine", "c"], ["a.csv:2"]),
        ('1,a,x\n2,b,"oops\n', ["a"], ["a.csv:3"]),
    ],
    ids=[
        "single quotes within",
        "space around",
        "quotes in plain text",
        "ambiguous",
        "never closed",
        "closed late",
        "at the end",
    ],
)
async def test_broken_quotes_cost_their_own_row(inbox: Inbox, content: str, texts: list[str], aside: list[str]) -> None:
    """A stray quote does not swallow the rest of the file."""
    inbox.drop("a.csv", "id,text,more\n" + content)
    look = await inbox.look(**TEXT)
    assert (look.texts, look.places) == (texts, aside)


async def test_a_row_beyond_all_bounds_is_set_aside_and_the_next_one_is_read(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runaway line, or one opened quote in a huge file, costs that row and not the memory."""
    monkeypatch.setattr(lines, "LONGEST", 10_000)
    inbox.drop("line.csv", "id,text\n1," + "x" * 50_000 + "\n2,b\n", age=90)
    inbox.drop("quote.csv", 'id,text\n1,"oops\n' + "".join(f"{n},c\n" for n in range(2, 5000)), age=80)
    look = await inbox.look(**TEXT)
    assert look.texts == ["b"] + ["c"] * 4998
    assert look.places == ["line.csv:2", "quote.csv:2"]
    assert all("MiB" in item.reason for item in look.set_aside)


async def test_a_file_of_nothing_but_open_quotes_is_given_up(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file made to be read over and over costs a bounded time, and the rows before the trouble are kept."""
    monkeypatch.setattr(lines, "LONGEST", 10_000)
    monkeypatch.setattr(rows, "PATIENCE", 160_000)
    inbox.drop("a.csv", 'id,text\n1,a\n2,"x\n' + 'b","c\n' * 20_000)
    look = await inbox.look(**TEXT)
    assert look.texts == ["a"]
    assert "its quotes do not match in too many rows" in str(look.error)


async def test_a_header_of_a_thousand_like_names_is_read(inbox: Inbox) -> None:
    """Every one of them gets a name of its own."""
    inbox.drop("a.csv", ",".join(["x"] * 1000) + "\n" + ",".join(map(str, range(1000))) + "\n")
    (text,) = (await inbox.look()).texts
    assert text.splitlines()[::999] == ["x: 0", "x_1000: 999"]


async def test_a_file_without_any_line_end_is_not_held_in_memory(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk image by the name of `export.csv` does not bring the daemon down."""
    monkeypatch.setattr(lines, "LONGEST", 1 << 16)
    inbox.drop("a.csv", "x" * 8_000_000)
    tracemalloc.start()
    try:
        look = await inbox.look(**TEXT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "its header, on line 1, cannot be read" in str(look.error)
    assert peak < 4_000_000
