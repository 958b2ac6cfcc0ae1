"""Captions (WebVTT and SRT) as what was said, by whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from io import StringIO

import webvtt
from webvtt.errors import MalformedCaptionError, MalformedFileError

from syncd.connector import RecordError
from syncd.kit.conversation import Said

_SPEAKER = re.compile(r"\s*([^:\n]{1,80}?)\s*:\s+(\S.*)", re.DOTALL)


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


def _said(cues: list[webvtt.Caption]) -> Iterator[Said]:
    speaker: str | None = None
    for cue in cues:
        words = unescape(cue.text)
        if cue.voice:
            speaker = unescape(cue.voice)
        elif named := _SPEAKER.fullmatch(words):
            speaker, words = named[1], named[2]
        yield Said(speaker, words, timedelta(seconds=cue.start_in_seconds))
