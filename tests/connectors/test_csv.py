"""What the drop folder makes of a row, and what it says when it cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from connectors._dropfolder.sweep import Sweep
from connectors.csv import DropFolder
from syncd.connector import KINDS, Page, SourceError
from tests.connectors.conftest import Inbox

SURVEY = """Response ID,Question,Comment,Submitted,Link,Score
7,Why?,Too slow,2025-03-04T10:00:00+02:00,https://example.test/7,3
8,Why?,Crashes daily,2025-03-05,ftp://example.test/8,
"""


async def test_a_row_becomes_the_record_its_settings_describe(inbox: Inbox) -> None:
    """Every column the operator mapped arrives where they put it."""
    inbox.drop("survey.csv", SURVEY)
    look = await inbox.look(
        id="{{ row.response_id }}",
        title="{{ row.question }} (scored {{ row.score or 'nothing' }})",
        text="{{ row.comment }}",
        occurred_at="{{ row.submitted }}",
        signal_type="review",
        url="{{ row.link }}",
        provider_type="g2",
        additional_context="From the spring survey",
        product_ids=["prod-1", "{{ row.score }}"],
        account_id="acc-1",
        account_external_id="crm-{{ row['Response ID'] }}",
        external_data={"score": "{{ row.score }}", "wave": "spring"},
    )
    first, second = look.records
    assert (first.id, first.kind, first.text, first.title) == ("7", "review", "Too slow", "Why? (scored 3)")
    assert first.occurred_at == datetime(2025, 3, 4, 8, 0, tzinfo=UTC)
    assert (first.url, first.provider, first.context) == ("https://example.test/7", "g2", "From the spring survey")
    assert (first.product_ids, first.account_id, first.account_external_id) == (("prod-1", "3"), "acc-1", "crm-7")
    assert first.attributes == {"score": "3", "wave": "spring"}
    assert second.title == "Why? (scored nothing)"
    assert second.url is None
    assert second.product_ids == ("prod-1",)
    assert second.attributes == {"wave": "spring"}
    assert [record.place for record in look.records] == ["survey.csv:2", "survey.csv:3"]


async def test_settings_left_out_have_their_documented_meaning(inbox: Inbox) -> None:
    """A folder with nothing but a path is imported: feedback, with all that the row says as its text."""
    inbox.drop("survey.csv", "Comment,Empty,Score\nToo slow,, 3 \n")
    (record,) = (await inbox.look()).records
    assert record.text == "Comment: Too slow\nScore: 3"
    assert (record.kind, record.provider, record.title, record.occurred_at) == (
        "feedback_record",
        "manual_csv",
        None,
        None,
    )


async def test_without_an_id_rows_that_say_the_same_are_one_record(inbox: Inbox) -> None:
    """A re-export with its columns in another order, other lines and another name doubles nothing."""
    inbox.drop("monday.csv", "a,b\n1,x\n1,x\n2,y\n")
    inbox.drop("tuesday.csv", "b;empty;a\ny;;2\n\nx;;1\n")
    ids = [record.id for record in (await inbox.look()).records]
    assert len(ids) == 5
    assert len(set(ids)) == 2
    assert all(len(one) == 32 for one in ids)


async def test_neither_file_nor_line_is_part_of_what_is_sent(inbox: Inbox) -> None:
    """The same row in another file and on another line keeps its fingerprint."""
    inbox.drop("a.csv", "id,text\n1,x\n")
    inbox.drop("b.csv", "text,id\ny,2\nx,1\n")
    records = (await inbox.look(id="{{ row.id }}", text="{{ row.text }}")).records
    one, other = (record for record in records if record.id == "1")
    assert (one.place, other.place) == ("a.csv:2", "b.csv:3")
    assert one.attributes == other.attributes == {}
    assert one.text == other.text


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("row.items", "1"),
        ("row.keys", "2"),
        ("row['get']", "3"),
        ("row.response_id", "4"),
        ("row['Response ID']", "4"),
        ("row['response id']", "4"),
        ("row.größe_in_cm", "5"),
        ("row._id", "6"),
        ("row.x", "small"),
        ("row.X", "large"),
        ("row.items ~ row.keys", "12"),
        ("'yes' if 'nope' in row else 'no'", "no"),
        ("row.nope | default('none')", "none"),
        ("'yes' if row.nope is defined else 'no'", "no"),
        ("row | list | length", "8"),
    ],
)
async def test_a_template_reaches_every_column(inbox: Inbox, expression: str, value: str) -> None:
    """No column is out of reach because of its name, and a guarded absence is no error."""
    inbox.drop("a.csv", "items,keys,get,Response ID,Größe in cm,_id,x,X\n1,2,3,4,5,6,small,large\n")
    look = await inbox.look(text="{{ " + expression + " }}")
    assert look.error is None
    assert look.texts == [value]


async def test_rows_that_where_excludes_are_counted_and_nothing_more(inbox: Inbox) -> None:
    """Rows passed over on purpose are neither imported nor reported as mistakes."""
    inbox.drop("a.csv", "id,comment\n1,good\n2,\n3,fine\n,\n")
    look = await inbox.look(id="{{ row.id }}", text="{{ row.comment }}", where="row.comment and row.id != '3'")
    assert look.texts == ["good"]
    assert sum(page.filtered for page in look.pages) == 2
    assert look.set_aside == []


async def test_a_row_that_cannot_be_used_is_set_aside_and_the_rest_goes_on(inbox: Inbox) -> None:
    """One bad row costs one row, and its file, line and reason are told."""
    inbox.drop(
        "nps.csv",
        'id,text,when,kind\n1,fine,2025-01-01,review\n2,,2025-01-01,review\n3,"two\nlines",someday,review\n'
        "4,x\n,no id,2025-01-01,review\n6,x,2025-01-01,gossip\n7,last,,transcript\n",
    )
    look = await inbox.look(
        id="{{ row.id }}", text="{{ row.text }}", occurred_at="{{ row.when }}", signal_type="{{ row.kind }}"
    )
    assert look.texts == ["fine", "last"]
    assert [(item.place, item.reason) for item in look.set_aside] == [
        ("nps.csv:3", "it has no text"),
        ("nps.csv:4", "occurred_at: 'someday' is not a date"),
        ("nps.csv:6", "2 cells where the header has 4"),
        ("nps.csv:7", "its id is empty"),
        ("nps.csv:8", f"its signal type 'gossip' is none of {', '.join(KINDS)}"),
    ]
    assert look.error is None


async def test_a_template_that_fails_on_one_row_costs_that_row(inbox: Inbox) -> None:
    """A calculation over a cell that is no number says which setting it was, and the next row goes on."""
    inbox.drop("a.csv", "text,total,count\na,6,3\nb,6,0\nc,9,3\n")
    look = await inbox.look(text="{{ row.text }}", title="{{ (row.total | int) // (row['count'] | int) }}")
    assert [record.title for record in look.records] == ["2", "3"]
    (aside,) = look.set_aside
    assert aside.place == "a.csv:3"
    assert aside.reason.startswith("title: ")


async def test_a_column_nobody_has_makes_the_file_wait_for_a_better_setting(inbox: Inbox) -> None:
    """A misspelt column imports nothing wrongly; once it is mended the whole file is imported."""
    inbox.drop("a.csv", "id,Comment\n1,x\n2,y\n")
    wrong = await inbox.look(id="{{ row.id }}", text="{{ row.coment }}")
    assert wrong.pages == []
    assert isinstance(wrong.error, SourceError)
    assert wrong.error.code == "unreadable_file"
    for said in ("a.csv", "text", "'coment'", "did you mean 'Comment'", "id, Comment"):
        assert said in str(wrong.error)
    right = await inbox.look(id="{{ row.id }}", text="{{ row.comment }}")
    assert right.texts == ["x", "y"]


@pytest.mark.parametrize("setting", ["where", "external_data", "product_ids"])
async def test_every_setting_that_names_a_missing_column_is_named(inbox: Inbox, setting: str) -> None:
    """The operator is told which line of the configuration to mend."""
    inbox.drop("a.csv", "id\n1\n")
    value: Any = {"where": "row.nope", "external_data": {"k": "{{ row.nope }}"}, "product_ids": ["{{ row.nope }}"]}[
        setting
    ]
    look = await inbox.look(**{setting: value})
    assert f"the setting {setting}" in str(look.error)


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("03/04/2025", {}, datetime(2025, 3, 4, tzinfo=UTC)),
        ("03/04/2025", {"day_first": True}, datetime(2025, 4, 3, tzinfo=UTC)),
        ("2025-07-01 12:00", {"timezone": "Europe/Berlin"}, datetime(2025, 7, 1, 10, tzinfo=UTC)),
        ("2025-07-01T12:00Z", {"timezone": "Europe/Berlin"}, datetime(2025, 7, 1, 12, tzinfo=UTC)),
        ("1751364000", {}, datetime(2025, 7, 1, 10, tzinfo=UTC)),
    ],
)
async def test_dates_are_read_as_the_operator_writes_them(
    inbox: Inbox, text: str, settings: dict[str, Any], expected: datetime
) -> None:
    """A local time in the operator's zone is not shifted by hours, nor a day taken for a month."""
    inbox.drop("a.csv", f"when\n{text}\n")
    (record,) = (await inbox.look(occurred_at="{{ row.when }}", **settings)).records
    assert record.occurred_at == expected


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("text", "{{ row.comment", "not a Jinja template"),
        ("text", "{{ row.comment | nosuchfilter }}", "nosuchfilter"),
        ("title", "{{ comment }}", "write row.comment"),
        ("where", "{{ row.comment }}", "without {{ }}"),
        ("where", "row.comment ==", "not a Jinja template"),
        ("signal_type", "gossip", "feedback_record"),
        ("external_data", {"k": "{{ row."}, "not a Jinja template"),
        ("delimiter", ";;", "at most 1 character"),
        ("delimiter", '"', "one character such as"),
        ("encoding", "utf-9", "utf-8"),
        ("encoding", "utf-7", "save the files as utf-8"),
        ("timezone", "Mars/Olympus", "Europe/Berlin"),
        ("after", "burn", "'archive'"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_the_configuration(setting: str, value: Any, says: str) -> None:
    """A mistake shows when the daemon starts, at the setting it is in, and not at night on the first file."""
    with pytest.raises(ValidationError) as refused:
        DropFolder.model_validate({"path": ".", setting: value})
    (error,) = refused.value.errors()
    assert error["loc"][0] == setting
    assert says in error["msg"]


def test_the_template_cannot_reach_beyond_the_row(tmp_path: Path) -> None:
    """A configuration somebody pasted cannot read the machine it runs on."""
    with pytest.raises(ValidationError, match="knows `row`"):
        DropFolder(path=tmp_path, text="{{ os.environ }}")


async def test_the_innards_of_a_row_are_out_of_reach(inbox: Inbox) -> None:
    """Nor can it climb out of the row by way of Python's own attributes."""
    inbox.drop("a.csv", "text\nx\n")
    look = await inbox.look(text="{{ (row | default(1)).__class__.__mro__ }}")
    assert look.records == []
    assert len(look.set_aside) == 1


async def test_check_says_what_it_sees(inbox: Inbox) -> None:
    """The operator sees the columns before the first import, and a missing one is an error already."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(500))) as http:
        assert "0 files" in await DropFolder(path=inbox.folder).check(http)
        inbox.drop("a.csv", "id;Comment\n1;x\n")
        said = await DropFolder(path=inbox.folder, text="{{ row.comment }}").check(http)
        assert "1 file in" in said
        assert "a.csv has the columns id, Comment" in said
        with pytest.raises(SourceError, match="'nope'"):
            await DropFolder(path=inbox.folder, text="{{ row.nope }}").check(http)


async def test_reading_does_not_hold_up_the_event_loop(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a big file is read, the status page and the posting go on."""
    readers: list[int] = []

    def pages(*_: object) -> Iterator[Page]:
        readers.append(threading.get_ident())
        yield Page()
        readers.append(threading.get_ident())

    monkeypatch.setattr(Sweep, "pages", lambda *given: (page for page in pages(*given)))
    await inbox.look()
    assert len(readers) == 2
    assert threading.get_ident() not in readers
