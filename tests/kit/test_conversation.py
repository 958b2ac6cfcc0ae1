"""Meetings, tickets and reviews read as a person would write them down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from syncd.kit.conversation import UNKNOWN, Message, Said, conversation, reply, review, transcript

MONDAY = datetime(2026, 10, 5, 8, 30, tzinfo=UTC)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def test_a_meeting_is_told_by_turns() -> None:
    """What one person says in a row is one paragraph, on one line."""
    said = [Said("Mia", "Hello,\n  can you"), Said("Mia", "hear me?"), Said("Sam", "Yes."), Said("Mia", "Good.")]
    assert transcript(said) == "Mia: Hello, can you hear me?\n\nSam: Yes.\n\nMia: Good."


def test_the_time_is_marked_every_five_minutes_or_so() -> None:
    """Whoever looks for a place in the recording finds it, and is not disturbed by clocks."""
    said = [Said(str(number % 2), "words", minutes(number)) for number in range(12)]
    marks = [line for line in transcript(said).split("\n\n") if line.startswith("[")]
    assert marks == ["[0:05:00]", "[0:10:00]"]
    assert transcript([Said("Mia", "Late.", timedelta(hours=26, seconds=3.7))]) == "[26:00:03]\n\nMia: Late."


def test_a_time_that_runs_backwards_does_no_harm() -> None:
    """Sentences that overlap are in the order of the source."""
    said = [Said("Mia", "b", minutes(9)), Said("Sam", "a", minutes(2)), Said("Mia", "c", timedelta(seconds=-5))]
    assert transcript(said) == "[0:09:00]\n\nMia: b\n\nSam: a\n\nMia: c"


def test_whoever_has_no_name_speaks_all_the_same() -> None:
    """Words are evidence without a name; two nameless turns are one."""
    assert transcript([Said(None, "a"), Said("  ", "b"), Said("Mia", "c")]) == f"{UNKNOWN}: a b\n\nMia: c"


def test_silence_is_no_turn() -> None:
    """Empty sentences neither stand there nor part what one person says; nothing said is no text."""
    assert transcript([Said("Mia", "a"), Said("Sam", " "), Said("Mia", "b")]) == "Mia: a b"
    assert transcript([Said("Mia", ""), Said(None, "\n")]) == ""
    assert transcript([]) == ""


def test_a_ticket_is_its_subject_and_who_wrote_what_when() -> None:
    """Each message stands under a line with its author, their role, and the time in UTC."""
    messages = [
        Message("Mia  Ortiz", "customer", MONDAY.astimezone(timezone(timedelta(hours=-5))), "  It stops.\n\nWhy?\n"),
        Message(None, "agent", MONDAY + minutes(5), "We look into it."),
        Message("Sam", "agent", None, "Fixed."),
        Message(" ", "customer", None, "Thanks."),
        Message("Bot", "agent", MONDAY, "  "),
    ]
    assert conversation(" Export\nstops ", messages) == (
        "Export stops\n\n"
        "Mia Ortiz (customer), 2026-10-05 08:30 UTC:\nIt stops.\n\nWhy?\n\n"
        "Agent, 2026-10-05 08:35 UTC:\nWe look into it.\n\n"
        "Sam (agent):\nFixed.\n\n"
        "Customer:\nThanks."
    )


def test_a_subject_alone_is_no_conversation() -> None:
    """Where nobody wrote anything there is no evidence."""
    assert conversation("Export", [Message("Mia", "customer", MONDAY, " \n")]) == ""
    assert conversation("Export", []) == ""
    assert conversation(None, [Message("Mia", "customer", None, "Hi")]) == "Mia (customer):\nHi"


def test_a_review_is_title_rating_and_its_sections() -> None:
    """Likes and dislikes keep their headings, and what was not answered does not stand there."""
    sections = [("What do you like?", " The  speed. "), ("What not?", None), (None, "All in all good."), ("Why?", " ")]
    assert review("Fast\nand small", "4 out of 5", sections) == (
        "Fast and small\n\nRating: 4 out of 5\n\nWhat do you like?\nThe  speed.\n\nAll in all good."
    )


def test_stars_alone_are_no_review() -> None:
    """A rating without a word says nothing to analyse; a title does."""
    assert review(None, "5 out of 5", [(None, None)]) == ""
    assert review(" ", "5 out of 5", []) == ""
    assert review("Great", None, []) == "Great"


def test_an_answer_to_a_review_stands_apart() -> None:
    """It is not the customer's words."""
    assert reply(" Thank you! ") == "The developer replied: Thank you!"
    assert reply("Thank you!", by="Acme") == "Acme replied: Thank you!"
    assert reply(None) is None
    assert reply("  ") is None


TEXT = st.text() | st.sampled_from(["\u202eabc", "a\u2028b", "\0", "Mia: ", "[0:05:00]", "\n\n"])
NAMES = st.none() | TEXT


@given(st.lists(st.builds(Said, NAMES, TEXT, st.none() | st.timedeltas()), max_size=12))
def test_every_word_of_a_meeting_is_told_in_its_order(said: list[Said]) -> None:
    """Nothing that was said is lost, whatever it is made of."""
    told = transcript(said)
    place = 0
    for word in (word for one in said for word in one.words.split()):
        place = told.index(word, place) + len(word)
    assert bool(told) == any(one.words.strip() for one in said)


@given(NAMES, st.lists(st.builds(Message, NAMES, st.just("customer"), st.none() | st.just(MONDAY), TEXT)))
def test_every_message_of_a_ticket_is_told_in_its_order(subject: str | None, messages: list[Message]) -> None:
    """Nothing that was written is lost; without messages there is no text."""
    told = conversation(subject, messages)
    place = 0
    for message in messages:
        place = told.index(message.text.strip(), place) + len(message.text.strip())
    assert bool(told) == any(message.text.strip() for message in messages)
