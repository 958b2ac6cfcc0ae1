"""Captions of either kind become what was said, by whom, and when."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.connector import RecordError
from syncd.kit.captions import captions
from syncd.kit.conversation import Said, transcript

VTT = """WEBVTT - of a meeting

NOTE recorded in room 4

1
00:00:00.000 --> 00:00:02.500 align:start
Mia Ortiz: Hello, can you
hear me?

2
00:00:02.500 --> 00:00:04.000
<v Sam O&#39;Neill>Loud &amp; <b>clear</b>.</v>

3
00:00:04.000 --> 00:00:05.000
Good.

4
01:00:05.000 --> 01:00:07.000
Mia Ortiz: The export: it fails.
"""


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_webvtt_is_read() -> None:
    """The speaker is the voice, else what stands before the first colon, else whoever spoke before."""
    assert captions(VTT) == [
        Said("Mia Ortiz", "Hello, can you\nhear me?", seconds(0)),
        Said("Sam O'Neill", "Loud & clear.", seconds(2)),
        Said("Sam O'Neill", "Good.", seconds(4)),
        Said("Mia Ortiz", "The export: it fails.", seconds(3605)),
    ]


def test_srt_is_read() -> None:
    """The older form says the same with commas."""
    text = "1\r\n00:00:01,000 --> 00:00:02,000\r\nMia: Hi.\r\n\r\n2\r\n00:00:03,000 --> 00:00:04,000\r\nAnd bye.\r\n"
    assert captions(text) == [Said("Mia", "Hi.", seconds(1)), Said("Mia", "And bye.", seconds(3))]


@pytest.mark.parametrize("text", ["", "  \n\n", "\ufeff", "WEBVTT", "\ufeffWEBVTT\n\nNOTE nothing was said\n"])
def test_nothing_said_is_nothing_read(text: str) -> None:
    """A meeting of silence is no error."""
    assert captions(text) == []


def test_several_may_speak_in_one_cue() -> None:
    """Nobody's words are put into another's mouth."""
    words = "<v Mia>Shall we?</v> <v.loud Sam>Yes, <i>please</i>.</v>\nGood.\n<v Mia>Then let us."
    assert cue(words) == [
        Said("Mia", "Shall we?", seconds(0)),
        Said("Sam", "Yes, please.\nGood.", seconds(0)),
        Said("Mia", "Then let us.", seconds(0)),
    ]


def test_a_mark_at_the_beginning_does_no_harm() -> None:
    """Files that Windows wrote begin with a byte order mark."""
    assert captions("\ufeff" + VTT) == captions(VTT)


def cue(words: str) -> list[Said]:
    return captions(f"WEBVTT\n\n00:00.000 --> 00:01.000\n{words}\n")


@pytest.mark.parametrize(
    ("words", "speaker", "rest"),
    [
        ("Mia : hello", "Mia", "hello"),
        ("Mia:\nhello", "Mia", "hello"),
        ("it is 10:30 now", None, "it is 10:30 now"),
        ("see https://acme.test", None, "see https://acme.test"),
        (": hello", None, ": hello"),
        ("Mia:", None, "Mia:"),
        ("Two lines\nof it: yes", None, "Two lines\nof it: yes"),
        (f"{'x' * 80}: hello", "x" * 80, "hello"),
        (f"{'x' * 81}: hello", None, f"{'x' * 81}: hello"),
        ("שרה: שלום", "שרה", "שלום"),
    ],
)
def test_a_name_is_what_stands_before_the_first_colon(words: str, speaker: str | None, rest: str) -> None:
    """Times, links and whole sentences are no names."""
    assert cue(words) == [Said(speaker, rest, seconds(0))]


@pytest.mark.parametrize("text", ["hello", "<html>WEBVTT</html>", "{}", "1\n2\n3\n", "-->"])
def test_what_is_no_captions_is_said_so(text: str) -> None:
    """Another file in place of captions is a record's trouble, with a reason, and nobody else's."""
    with pytest.raises(RecordError, match="its captions cannot be read: "):
        captions(text)


PIECES = st.sampled_from(
    [
        *(
            "WEBVTT",
            "\n",
            "\n\n",
            "00:00:01.000 --> 00:00:02.000",
            "00:01.000 --> 00:00.000",
            "99:99:99.999 --> 1:1:1.1",
            "-->",
        ),
        *(
            "<v Mia>",
            "<v>",
            "<v ",
            "</v>",
            "<c.x>",
            "&amp;",
            "&#xD800;",
            "Mia: ",
            ":",
            "NOTE x",
            "STYLE\n::cue{}",
            "REGION\nid:a",
        ),
        *(
            "1",
            "00:00:00,000 --> 00:00:01,000",
            "9999999999:00:00,000 --> 9999999999:59:59,999",
            "\0",
            "\u2028",
            "\ud800",
        ),
    ]
)


@given(
    st.lists(PIECES | st.text(), max_size=25).map("".join),
    st.sampled_from(["", "WEBVTT\n\n", "1\n00:00:00,000 --> 00:00:01,000\n"]),
)
def test_no_file_is_too_strange(text: str, start: str) -> None:
    """Whatever a file holds, it is read or refused with a reason, and what was read can be told."""
    try:
        said = captions(start + text)
    except RecordError:
        return
    assert isinstance(transcript(said), str)


@pytest.mark.parametrize(
    "hard",
    [
        "WEBVTT\n\n00:00.000 --> 00:01.000\n" + " " * 50_000 + "words",
        "1\n00:00:00,000 --> 00:00:01,000\n" + " " * 50_000 + "words",
        "1\n00:00:00,000 --> 00:00:01,000\nwords" + " :" * 25_000,
        "WEBVTT\n\n00:00.000 --> 00:01.000\nwords" + "<v " * 15_000,
        "WEBVTT\n\n00:00.000 --> 00:01.000\nwords" + "&" * 50_000,
        "WEBVTT\n\n" + "-->\n" * 10_000 + "\n00:00.000 --> 00:01.000\nwords",
        "WEBVTT\n\n" + "00:00.000 --> 00:01.000\nMia: words\n\n" * 3_000,
    ],
    ids=lambda hard: repr(hard[:50]),
)
def test_no_file_takes_forever(hard: str) -> None:
    """One hostile file does not hold up the others."""
    begun = time.process_time()
    assert "words" in transcript(captions(hard))
    assert time.process_time() - begun < 10
