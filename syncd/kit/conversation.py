"""Meetings, tickets and reviews as the text a person would read, and would want analysed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby

UNKNOWN = "Unknown speaker"

_MARK_EVERY = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Said:
    """Some words of a meeting, and how long after its start they were said."""

    speaker: str | None
    words: str
    after: timedelta | None = None


def transcript(said: Iterable[Said]) -> str:
    """`Speaker: words`, a paragraph for each turn, with the time on a line of its own every five minutes or so.

    Empty when nothing was said.
    """
    lines: list[str] = []
    marked = timedelta(0)
    filled = (one for one in said if one.words.strip())
    for speaker, turn in groupby(filled, key=lambda one: _one_line(one.speaker or "") or UNKNOWN):
        spoken = list(turn)
        after = spoken[0].after
        if after is not None and after > marked and after - marked >= _MARK_EVERY:
            lines.append(f"[{_clock(after)}]")
            marked = after
        lines.append(f"{speaker}: {' '.join(_one_line(one.words) for one in spoken)}")
    return "\n\n".join(lines)


@dataclass(frozen=True, slots=True)
class Message:
    """One public message of a ticket. `role` is what its author is to the conversation: customer, agent."""

    author: str | None
    role: str
    at: datetime | None
    text: str


def conversation(subject: str | None, messages: Iterable[Message]) -> str:
    """The subject, then each message under a line that says who wrote it and when (UTC). Empty messages are left out;
    without any the text is empty, for a subject alone is no evidence."""
    written = [_message(message) for message in messages if message.text.strip()]
    heading = [_one_line(subject)] if subject and subject.strip() else []
    return "\n\n".join([*heading, *written]) if written else ""


def _message(message: Message) -> str:
    name = _one_line(message.author or "")
    who = f"{name} ({message.role})" if name else message.role.capitalize()
    when = f", {message.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if message.at else ""
    return f"{who}{when}:\n{message.text.strip()}"


def review(title: str | None, rating: str | None, sections: Iterable[tuple[str | None, str | None]]) -> str:
    """The title, a line with the rating (`4 out of 5`), and the body: each section under its heading, if it has one.

    Empty when title and body are.
    """
    heading = [_one_line(title)] if title and title.strip() else []
    body = [
        f"{_one_line(name)}\n{text.strip()}" if name and name.strip() else text.strip()
        for name, text in sections
        if text and text.strip()
    ]
    if not (heading or body):
        return ""
    return "\n\n".join([*heading, *([f"Rating: {rating}"] if rating else []), *body])


def reply(text: str | None, by: str = "The developer") -> str | None:
    """The context that tells of a public answer to a review: it is not the customer's words, and stands apart."""
    return f"{by} replied: {text.strip()}" if text and text.strip() else None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _clock(after: timedelta) -> str:
    minutes, seconds = divmod(int(after.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
