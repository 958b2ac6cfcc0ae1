"""Captions (WebVTT and SRT) as what was said, by whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from html import unescape
from io import StringIO
from itertools import chain

import webvtt
from webvtt.errors import MalformedCaptionError, MalformedFileError

from syncd.connector import RecordError
from syncd.kit.conversation import Said

_LONGEST_NAME = 80
_VOICE = re.compile(r"(?=<v[.\s])")


def captions(text: str) -> list[Said]:
    """What the cues of a caption file say. The speaker is the voice tag `<v Name>`, else what stands before the first
    colon; a cue that names nobody goes on with the speaker before it.

    Raises `RecordError` when the text is neither WebVTT nor SRT.
    """
    stripped = text.lstrip("\ufeff").strip()
    if not stripped:
        return []
    try:
        reading = webvtt.from_string if stripped.startswith("WEBVTT") else _srt
        cues: list[webvtt.Caption] = reading(stripped).captions
    except (MalformedFileError, MalformedCaptionError, ValueError) as error:
        raise RecordError(f"its captions cannot be read: {error or 'they are neither WebVTT nor SRT'}") from error
    return list(_said(cues))


def _srt(text: str) -> webvtt.WebVTT:
    return webvtt.from_buffer(StringIO(text), format="srt")


def _is_name(text: str) -> bool:
    """Whether what stands before a colon may be who speaks."""
    return 0 < len(text) <= _LONGEST_NAME and "\n" not in text


def _parts(cue: webvtt.Caption) -> Iterable[webvtt.Caption]:
    """A cue in which several speak, as one for each."""
    parts = [part.strip() for part in _VOICE.split(cue.raw_text)]
    return [webvtt.Caption(cue.start, cue.end, part) for part in parts if part] if len(parts) > 1 else [cue]


def _said(cues: list[webvtt.Caption]) -> Iterator[Said]:
    speaker: str | None = None
    for cue in chain.from_iterable(map(_parts, cues)):
        words = unescape(cue.text).strip()
        name, _, rest = words.partition(":")
        if cue.voice:
            speaker = unescape(cue.voice)
        elif rest[:1].isspace() and _is_name(name.strip()):
            speaker, words = name.strip(), rest.strip()
        yield Said(speaker, words, timedelta(seconds=cue.start_in_seconds))
