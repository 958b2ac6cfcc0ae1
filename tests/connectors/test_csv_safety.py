"""What a drop folder refuses: templates that reach too far, and links that lead out of it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors._dropfolder import folder as folder_module
from connectors._dropfolder.folder import DropFile
from syncd.connector import RecordError
from tests.connectors.conftest import Inbox

ROWS = "text\na\nb\n"
SECRET = "root:x:0:0"


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A gigabyte more than there is now, so that a template that gets through is a failure and not an outage."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30) if pages else soft, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is none of the inbox's business, with a file in it."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.csv").write_text(f"text\n{SECRET}\n")
    return folder


@pytest.mark.parametrize(
    "template",
    [
        "{{ row.text.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ row['text'].__init__.__globals__ }}",
        "{{ (row | attr('__class__')).__mro__ }}",
        "{{ row | attr('_Row__cells') }}",
        "{{ (row | attr('_Row__columns')).names }}",
        "{{ '{0.__class__.__mro__}'.format(row.text) }}",
        "{{ '{0[__class__]}'.format(row) }}",
        "{{ '{a.__init__.__globals__}'.format_map({'a': row}) }}",
        "{{ [row.text] | map(attribute='__class__') | first }}",
        "{{ range.__self__ }}",
        "{{ dict.fromkeys.__self__.__base__ }}",
        "{{ dict.mro() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ [].append(1) }}",
        "{% set x = {} %}{{ x.update(a=1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
        "{% extends '/etc/passwd' %}",
    ],
)
async def test_no_template_reaches_the_inside_of_python(inbox: Inbox, template: str) -> None:
    """A template out of a copied configuration reads the row and nothing else of the machine."""
    inbox.drop("a.csv", "text\nhello\n")
    try:
        look = await inbox.look(text=template)
    except ValueError:  # refused with the configuration
        return
    assert look.texts == []
    assert look.set_aside or look.error


@pytest.mark.usefixtures("little_memory")
@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10**10 }}",
        "{{ 10**10 * 'a' }}",
        "{{ row.text * 99999999999 }}",
        "{{ ([1] * 10**10) | length }}",
        "{{ 10 ** (10 ** 10) }}",
        "{{ 9999999999 ** 99999 }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%*d' % (10000000000, 1) }}",
        "{{ '%.10000000000f' % 1 }}",
        "{{ '%10000000000d' | format(1) }}",
        "{{ '{:>10000000000}'.format('a') }}",
        "{{ '{:>{}}'.format('a', 10000000000) }}",
        "{{ '{0:{w}}'.format_map({'0': 1, 'w': 10000000000}) }}",
        "{{ 'a'.ljust(10**10) }}",
        "{{ 'a'.rjust(width=10**10) }}",
        "{{ 'a'.center(10000000000) }}",
        "{{ row.text.zfill(10000000000) }}",
        "{{ '\t'.expandtabs(2000000000) }}",
        "{{ (1).to_bytes(10000000000, 'big') }}",
        "{{ 'a' | center(10000000000) }}",
        "{{ 'a\nb' | indent(10000000000) }}",
        "{{ [1] | batch(10000000000, 'x') | list }}",
        "{{ [1] | slice(10000000000, 'x') | list }}",
        "{{ 1.5 | round(1000000000, 'ceil') }}",
        "{{ {'a': 1} | tojson(indent=10000000000) }}",
        "{{ range(10000000000) | list }}",
        "{{ lipsum(n=1000000) }}",
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('a') }}",
    ],
)
async def test_no_template_uses_up_the_memory(inbox: Inbox, template: str) -> None:
    """A slip in a template costs the row it was read over, not the daemon and all that runs beside it."""
    inbox.drop("a.csv", "text\nhello\n")
    try:
        look = await inbox.look(text=template)
    except ValueError:  # refused with the configuration
        return
    assert look.texts == []
    assert look.set_aside or look.error


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ '-' * 20 }}", "-" * 20),
        ("{{ 3 * 4 }} {{ 2 ** 10 }} {{ 7 % 4 }}", "12 1024 3"),
        ("{{ '%05.1f of %s' % (3.14159, row.text) }}", "003.1 of hello"),
        ("{{ '%s: %d' | format(row.text, 123456) }}", "hello: 123456"),
        ("{{ '{:>8}|{}'.format(row.text, 123456) }}", "hello|123456"),
        ("{{ row.text.center(9) | upper }}", "HELLO"),
        ("{{ row.text | truncate(20000) | indent(2) }}", "hello"),
        ("{{ 2.345 | round(2) }} {{ 123456 | tojson }}", "2.35 123456"),
        ("{% for name in row %}{{ name }}={{ row[name] }} {% endfor %}", "text=hello"),
        ("{% for n in range(3) %}{{ n }}{% endfor %}", "012"),
    ],
)
async def test_what_templates_are_for_still_works(inbox: Inbox, template: str, text: str) -> None:
    """The limits are so wide that nobody who means well meets them."""
    inbox.drop("a.csv", "text\nhello\n")
    assert (await inbox.look(text=template)).texts == [text]


async def test_a_link_to_a_folder_outside_is_not_gone_into(inbox: Inbox, outside: Path) -> None:
    """Neither a file nor a folder of the machine is read because a link to it was dropped."""
    (inbox.folder / "more.csv").symlink_to(outside)
    (inbox.folder / "sub").symlink_to(outside)
    (inbox.folder / "through.csv").symlink_to("sub/secret.csv")
    (inbox.folder / "up.csv").symlink_to(f"../{outside.name}/secret.csv")
    (inbox.folder / "twice.csv").symlink_to("through.csv")
    look = await inbox.look(text="{{ row.text }}")
    assert look.texts == []
    for name in ("through.csv", "twice.csv", "more.csv"):
        assert f"{name}: it is a link that leads out of the folder" in str(look.error)


@pytest.mark.parametrize("swapped", ["file", "folder", "link"])
async def test_a_link_that_is_swapped_in_after_the_look_is_not_followed(
    inbox: Inbox, outside: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is quick enough to exchange a file between the look and the reading gets nothing for it."""
    (inbox.folder / "sub").mkdir()
    inbox.drop("sub/secret.csv", ROWS)
    inbox.drop("plain.csv", ROWS)
    (inbox.folder / "link.csv").symlink_to("sub/secret.csv")
    really_look = folder_module.look

    def exchanged(path: Path) -> folder_module.Listing:
        listing = really_look(path)
        match swapped:
            case "file":
                (inbox.folder / "plain.csv").unlink()
                (inbox.folder / "plain.csv").symlink_to(outside / "secret.csv")
            case "folder":
                (inbox.folder / "sub").rename(outside / "sub")
                (inbox.folder / "sub").symlink_to(outside)
            case "link":
                (inbox.folder / "link.csv").unlink()
                (inbox.folder / "link.csv").symlink_to(outside / "secret.csv")
        return listing

    monkeypatch.setattr("connectors._dropfolder.sweep.look", exchanged)
    look = await inbox.look(text="{{ row.text }}", after="delete")
    assert SECRET not in look.texts
    assert "it is a link that leads out of the folder" in str(look.error)
    assert (outside / "secret.csv").exists()


@pytest.mark.parametrize("swapped", ["file", "folder"])
def test_a_link_that_is_swapped_in_while_it_is_opened_is_not_followed(
    tmp_path: Path, outside: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even between the check of the way and its walk, the narrowest moment there is."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "secret.csv").write_text(ROWS)
    file = DropFile(tmp_path / "sub" / "secret.csv", 9, 0, tmp_path)
    really_open = os.open

    def exchanging(path: str | Path, *how: int, **more: int | None) -> int:
        if path == tmp_path:
            if swapped == "folder":
                (tmp_path / "sub").rename(tmp_path / "old")
                (tmp_path / "sub").symlink_to(outside)
            else:
                (tmp_path / "sub" / "secret.csv").unlink()
                (tmp_path / "sub" / "secret.csv").symlink_to(outside / "secret.csv")
        return really_open(path, *how, **more)

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(folder_module.UnreadableFile, match="it was replaced by a link"):
        file.open()


@pytest.mark.timeout(10)
def test_a_pipe_put_in_a_files_place_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe that nobody writes to does not hold the run up for ever."""
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(folder_module.UnreadableFile, match="no longer a file"):
        DropFile(tmp_path / "a.csv", 9, 0, tmp_path).open()


@pytest.mark.parametrize("after", ["archive", "delete"])
async def test_nothing_is_put_away_through_a_link(inbox: Inbox, after: str) -> None:
    """A link stays, and so does what it stands for: neither is ours to tidy up."""
    (inbox.folder / "sub").mkdir()
    inbox.drop("sub/current.csv", ROWS)
    (inbox.folder / "current.csv").symlink_to("sub/current.csv")
    look = await inbox.look(after=after, text="{{ row.text }}")
    assert look.texts == ["a", "b"]
    assert (inbox.folder / "current.csv").is_symlink()
    assert (inbox.folder / "sub" / "current.csv").read_text() == ROWS
    assert (await inbox.look(after=after, text="{{ row.text }}")).is_empty


async def test_a_file_that_became_a_link_is_not_put_away(inbox: Inbox, outside: Path) -> None:
    """What was exchanged after the reading is neither moved nor deleted."""
    inbox.drop("a.csv", ROWS)
    await inbox.look(after="delete", pages=1)
    (inbox.folder / "a.csv").unlink()
    (inbox.folder / "a.csv").symlink_to(outside / "secret.csv")
    await inbox.look(after="delete", text="{{ row.text }}")
    assert (outside / "secret.csv").exists()
    assert (inbox.folder / "a.csv").is_symlink()


async def test_an_archive_that_is_a_link_is_not_moved_into(inbox: Inbox, outside: Path) -> None:
    """Files leave the folder for its own archive only; the operator reads what to do."""
    (inbox.folder / ".archive").symlink_to(outside)
    inbox.drop("a.csv", ROWS)
    look = await inbox.look(after="archive", text="{{ row.text }}")
    assert look.texts == ["a", "b"]
    assert "a.csv: it was read, but `after: archive` failed: .archive is a link; put a folder" in str(look.error)
    assert (inbox.folder / "a.csv").exists()
    assert [entry.name for entry in os.scandir(outside)] == ["secret.csv"]


async def test_a_link_in_the_archive_is_not_written_over(inbox: Inbox, outside: Path) -> None:
    """A name that a link holds is taken, wherever the link leads."""
    (inbox.folder / ".archive").mkdir()
    (inbox.folder / ".archive" / "a.csv").symlink_to(outside / "nothing.csv")
    inbox.drop("a.csv", ROWS)
    await inbox.look(after="archive")
    assert (inbox.folder / ".archive" / "a.csv").is_symlink()
    assert (inbox.folder / ".archive" / "a-2.csv").read_text() == ROWS


def test_an_error_in_a_template_is_the_rows() -> None:
    """The limits are told like any other thing that a template cannot do."""
    from connectors._dropfolder.table import Columns
    from connectors._dropfolder.template import template

    with pytest.raises(RecordError, match="text: its value would be longer than 10000"):
        template("{{ 'a' * 10001 }}").over(Columns(["text"]), "text")(["x"])
