"""Which files of a drop folder are read, when, and what becomes of them afterwards."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from connectors._dropfolder import folder as folder_module
from syncd.connector import SourceError
from tests.connectors.conftest import Inbox

ROWS = "text\na\nb\n"


async def test_only_files_meant_for_it_are_read(inbox: Inbox) -> None:
    """Hidden files, files still on their way, folders and other things lying about are left alone."""
    for name in (".hidden.csv", "a.csv.tmp", "b.csv.part", "c.tmp", "d.part", "notes.txt", "e.csv~"):
        inbox.drop(name, ROWS)
    (inbox.folder / "folder.csv").mkdir()
    inbox.drop("folder.csv/inner.csv", ROWS)
    os.mkfifo(inbox.folder / "pipe.csv")
    look = await inbox.look()
    assert look.pages == []
    assert look.error is None


async def test_the_ending_of_a_name_counts_in_either_case(inbox: Inbox) -> None:
    """`EXPORT.CSV` is as good as `export.csv`."""
    inbox.drop("EXPORT.CSV", "text\na\n")
    inbox.drop("Other.Tsv", "text\tmore\nb\tc\n")
    assert sorted((await inbox.look(text="{{ row.text }}")).texts) == ["a", "b"]


async def test_files_are_read_oldest_first(inbox: Inbox) -> None:
    """Evidence arrives in the order in which it was dropped."""
    inbox.drop("a.csv", "text\nthird\n", age=10)
    inbox.drop("b.csv", "text\nfirst\n", age=30)
    inbox.drop("c.csv", "text\nsecond\n", age=20)
    assert (await inbox.look(text="{{ row.text }}")).texts == ["first", "second", "third"]


async def test_the_path_may_be_one_file(inbox: Inbox) -> None:
    """A single file is read whatever its name, and its neighbours are not."""
    inbox.drop("export.txt", "text\na\n")
    inbox.drop("other.csv", "text\nb\n")
    look = await inbox.look(path=inbox.folder / "export.txt", text="{{ row.text }}")
    assert look.texts == ["a"]


async def test_a_folder_that_is_not_there_is_an_error_that_says_what_to_do(inbox: Inbox) -> None:
    """A volume that was not mounted does not pass for an empty folder."""
    look = await inbox.look(path=inbox.folder / "nowhere")
    assert isinstance(look.error, SourceError)
    assert look.error.code == "no_such_folder"
    assert "create the folder" in str(look.error)


async def test_an_empty_folder_and_empty_files_are_nothing(inbox: Inbox) -> None:
    """No news is no page, no error, and no mark in the checkpoint that other files could be mistaken for."""
    assert (await inbox.look()).pages == []
    inbox.drop("a.csv", "")
    inbox.drop("b.json", "")
    look = await inbox.look()
    assert (look.pages, look.error) == ([], None)
    inbox.append("a.csv", ROWS)
    assert len((await inbox.look()).records) == 2


async def test_a_single_file_may_still_be_empty(inbox: Inbox) -> None:
    """A file named in the configuration may be created before it is filled."""
    for name in ("a.csv", "a.json"):
        inbox.drop(name, "")
        look = await inbox.look(path=inbox.folder / name)
        assert (look.pages, look.error) == ([], None)


async def test_a_name_that_is_no_text_is_told_as_far_as_it_is(inbox: Inbox) -> None:
    """A file named in another encoding is imported, and its name can be written into the ledger."""
    path = inbox.drop(os.fsdecode(b"gr\xfc\xdfe.csv"), ROWS)
    look = await inbox.look(after="archive")
    assert [record.place for record in look.records] == ["gr\ufffd\ufffde.csv:2", "gr\ufffd\ufffde.csv:3"]
    assert not path.exists()


async def test_a_file_of_empty_lines_is_no_error_and_may_get_rows_later(inbox: Inbox) -> None:
    """A file that has only been opened yet is imported once it has something in it."""
    inbox.drop("a.csv", "\n\r\n")
    first = await inbox.look()
    assert first.error is None
    assert first.is_empty
    inbox.append("a.csv", ROWS)
    assert len((await inbox.look()).records) == 2


async def test_a_file_still_being_written_is_left_until_it_rests(inbox: Inbox) -> None:
    """Half a file is not imported; the house is told when to look again, and nothing is marked as read."""
    inbox.drop("old.csv", "text\nold\n")
    inbox.drop("new.csv", ROWS, age=0.5)
    inbox.drop("newer.csv", "text\nz\n", age=0.1)
    first = await inbox.look()
    assert len(first.records) == 1
    assert first.pages[-1].revisit_at == inbox.now + timedelta(seconds=1.5)
    before = inbox.checkpoint
    second = await inbox.look()
    assert second.is_empty
    assert inbox.checkpoint == before
    assert second.pages[-1].revisit_at == inbox.now + timedelta(seconds=1.5)
    inbox.now += timedelta(seconds=2)
    third = await inbox.look()
    assert len(third.records) == 3
    assert third.pages[-1].revisit_at is None


async def test_how_long_a_file_must_rest_is_a_setting(inbox: Inbox) -> None:
    """A slow upload gets the patience it needs; none at all can be had too."""
    inbox.drop("a.csv", ROWS, age=0)
    assert (await inbox.look(settle="1m")).records == []
    assert len((await inbox.look(settle="0s")).records) == 2


async def test_a_file_from_the_far_future_is_at_rest(inbox: Inbox) -> None:
    """A wrong clock on somebody's laptop does not keep a file out for years; a little ahead is still fresh."""
    inbox.drop("a.csv", ROWS, age=-3600)
    inbox.drop("b.csv", "text\nc\n", age=-1)
    look = await inbox.look()
    assert len(look.records) == 2
    assert look.pages[-1].revisit_at == inbox.now + timedelta(seconds=3)


async def test_links_are_followed_inside_the_folder_only(
    inbox: Inbox, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nobody gets at another file of the machine by dropping a link, and the operator hears of it."""
    outside = tmp_path_factory.mktemp("outside") / "secret.csv"
    outside.write_text(ROWS)
    (inbox.folder / "leak.csv").symlink_to(outside)
    inbox.drop(".data", "text\ninside\n")
    (inbox.folder / "current.csv").symlink_to(".data")
    look = await inbox.look(text="{{ row.text }}")
    assert look.texts == ["inside"]
    assert "leak.csv: it is a link that leads out of the folder" in str(look.error)


async def test_a_link_that_leads_nowhere_or_round_in_circles_stops_nothing(inbox: Inbox) -> None:
    """A broken link is no reason to leave the other files unread."""
    (inbox.folder / "gone.csv").symlink_to("nothing.csv")
    (inbox.folder / "loop.csv").symlink_to("loop.csv")
    inbox.drop("a.csv", ROWS)
    look = await inbox.look()
    assert len(look.records) == 2


async def test_an_unreadable_file_is_one_clear_error_and_the_others_go_on(inbox: Inbox) -> None:
    """One bad file costs that file alone; it is named with its reason, and imported once it is mended."""
    inbox.drop("bad.json", "{}", age=80)
    inbox.drop("unreadable.csv", 'text,"more\n', age=70)
    inbox.drop("good.csv", ROWS)
    look = await inbox.look(text="{{ row.text }}")
    assert look.texts == ["a", "b"]
    assert isinstance(look.error, SourceError)
    assert look.error.code == "unreadable_file"
    assert str(look.error).startswith("2 files cannot be read: bad.json: it is not a JSON array")
    assert "unreadable.csv: its header, on line 1, cannot be read: a quote is opened" in str(look.error)
    inbox.drop("bad.json", "[]", age=50)
    again = await inbox.look(text="{{ row.text }}")
    assert "bad.json" not in str(again.error)


async def test_a_file_nobody_may_open_is_named(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong permissions on one file are told in plain words."""
    inbox.drop("a.csv", ROWS)
    inbox.drop("locked.csv", ROWS, age=90)
    really_open = os.open

    def refusing(path: str, *how: int, **more: int | None) -> int:
        if path == "locked.csv":
            raise PermissionError(13, "Permission denied", path)
        return really_open(path, *how, **more)

    monkeypatch.setattr(os, "open", refusing)
    look = await inbox.look()
    assert len(look.records) == 2
    assert str(look.error) == "1 file cannot be read: locked.csv: Permission denied"


async def test_archive_moves_a_file_once_its_last_page_is_in_the_ledger(inbox: Inbox) -> None:
    """A file leaves the folder only when nothing of it can be lost any more, and never over another one."""
    inbox.drop("a.csv", ROWS)
    await inbox.look(after="archive", pages=1)
    assert (inbox.folder / "a.csv").exists()  # killed after the commit, before the move
    again = await inbox.look(after="archive")
    assert again.is_empty
    assert not (inbox.folder / "a.csv").exists()
    assert (inbox.folder / ".archive" / "a.csv").read_text() == ROWS
    inbox.drop("a.csv", "text\nother\n")
    assert len((await inbox.look(after="archive")).records) == 1
    assert (inbox.folder / ".archive" / "a.csv").read_text() == ROWS
    assert (inbox.folder / ".archive" / "a-2.csv").read_text() == "text\nother\n"
    assert (await inbox.look(after="archive")).pages == []


async def test_an_archived_file_that_comes_back_gives_nothing_and_leaves_again(inbox: Inbox) -> None:
    """Dropping last month's export once more doubles nothing."""
    inbox.drop("a.csv", ROWS)
    await inbox.look(after="archive")
    inbox.drop("march.csv", ROWS, age=30)
    look = await inbox.look(after="archive")
    assert look.is_empty
    assert not (inbox.folder / "march.csv").exists()


async def test_delete_removes_a_file_of_which_nothing_was_set_aside(inbox: Inbox) -> None:
    """A file with a row that could not be used stays: it is the only place where that row is."""
    inbox.drop("good.csv", ROWS)
    inbox.drop("bad.csv", "text,more\na,b\nc\n")
    look = await inbox.look(after="delete")
    assert look.places == ["bad.csv:3"]
    assert sorted(path.name for path in inbox.folder.iterdir()) == ["bad.csv"]
    inbox.append("bad.csv", "d,e\n")
    assert len((await inbox.look(after="delete")).records) == 1
    assert (inbox.folder / "bad.csv").exists()


async def test_a_file_that_changed_while_it_was_read_is_not_put_away(inbox: Inbox) -> None:
    """Rows appended between the reading and the move are read next time, not lost with the file."""
    inbox.drop("a.csv", ROWS)
    await inbox.look(after="delete", pages=1)
    inbox.append("a.csv", "c\n", age=0.5)
    assert (await inbox.look(after="delete")).is_empty
    inbox.now += timedelta(seconds=10)
    assert len((await inbox.look(after="delete")).records) == 1
    assert not (inbox.folder / "a.csv").exists()


async def test_an_unreadable_file_is_never_put_away(inbox: Inbox) -> None:
    """`delete` never removes what was not imported."""
    inbox.drop("a.csv", ROWS)
    look = await inbox.look(after="delete", text="{{ row.nope }}")
    assert look.error is not None
    assert (inbox.folder / "a.csv").exists()


async def test_a_move_that_fails_is_told_and_tried_again(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only folder loses no rows and is not silent."""
    inbox.drop("a.csv", ROWS)

    def refusing(file: folder_module.DropFile) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(folder_module.DropFile, "archive", refusing)
        look = await inbox.look(after="archive")
        assert len(look.records) == 2
        assert "a.csv: it was read, but `after: archive` failed: Read-only file system" in str(look.error)
    assert (await inbox.look(after="archive")).error is None
    assert not (inbox.folder / "a.csv").exists()


async def test_a_file_that_vanishes_before_it_is_opened_stops_nothing(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody tidying up while the folder is read costs no other file."""
    inbox.drop("a.csv", ROWS, age=90)
    inbox.drop("b.csv", "text\nc\n")
    really_look = folder_module.look

    def looked(path: Path) -> folder_module.Listing:
        listing = really_look(path)
        (inbox.folder / "a.csv").unlink()
        return listing

    monkeypatch.setattr("connectors._dropfolder.sweep.look", looked)
    look = await inbox.look(text="{{ row.text }}")
    assert look.texts == ["c"]
    assert "a.csv" in str(look.error)


def test_an_archive_keeps_what_is_in_it(tmp_path: Path) -> None:
    """Three files of one name are three files in the archive."""
    for content in ("one", "two", "three"):
        path = tmp_path / "a.csv"
        path.write_text(content)
        status = path.stat()
        assert stat.S_ISREG(status.st_mode)
        folder_module.DropFile(path, status.st_size, status.st_mtime_ns).archive()
    kept = {path.name: path.read_text() for path in (tmp_path / ".archive").iterdir()}
    assert kept == {"a.csv": "one", "a-2.csv": "two", "a-3.csv": "three"}
