"""A vendor's answers are hostile until they are parsed: a bad item is set aside, a changed API stops the reading."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from syncd.connector import Record, RecordError, SetAside, ShapeChanged
from syncd.kit.shapes import CamelShape, Instant, Items, Many, Shape, Tray, Words, present, read, readable


class Review(Shape):
    id: str
    at: Instant
    title: Words = ""
    tags: Many[str] = ()
    author: str | None = None


class Reviews(CamelShape):
    reviews: Items
    next_page: str | None = None


def review(**more: Any) -> dict[str, Any]:
    return {"id": "r-1", "at": "2026-10-05T08:30:00Z"} | more


def answer(content: str) -> httpx.Response:
    request = httpx.Request("GET", "https://api.acme.test/reviews?key=s3cret")
    return httpx.Response(200, content=content.encode(), request=request)


def test_what_a_vendor_may_leave_out_or_null_is_read() -> None:
    """Null is a blank text, an empty list, no author; what is not used is not looked at."""
    assert Review.model_validate(review(title=None, tags=None, author=None, votes=object())) == Review(
        id="r-1", at=datetime(2026, 10, 5, 8, 30, tzinfo=UTC)
    )
    assert Review.model_validate(review(tags=["a", None, "b"])).tags == ("a", "b")


def test_numbers_are_taken_for_texts() -> None:
    """An id is a text here, whatever a vendor makes of it this year; true and false are none."""
    assert Review.model_validate(review(id=17)).id == "17"
    with pytest.raises(ValidationError):
        Review.model_validate(review(id=True))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-10-05T08:30:00Z", datetime(2026, 10, 5, 8, 30, tzinfo=UTC)),
        ("2026-10-05T10:30:00+0200", datetime(2026, 10, 5, 8, 30, tzinfo=UTC)),
        ("2026-10-05 08:30:00", datetime(2026, 10, 5, 8, 30, tzinfo=UTC)),
        ("2026-10-05", datetime(2026, 10, 5, tzinfo=UTC)),
        (1_791_189_000, datetime(2026, 10, 5, 8, 30, tzinfo=UTC)),
        (1_791_189_000_500, datetime(2026, 10, 5, 8, 30, 0, 500_000, tzinfo=UTC)),
        ("1791189000", datetime(2026, 10, 5, 8, 30, tzinfo=UTC)),
        (1_791_189_000.5, datetime(2026, 10, 5, 8, 30, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_a_time_is_an_instant_in_utc(given: object, expected: datetime) -> None:
    """In whichever form vendors write one."""
    at = Review.model_validate(review(at=given)).at
    assert at == expected
    assert at.utcoffset() == UTC.utcoffset(None)


@pytest.mark.parametrize(
    "given",
    ["", "soon", "2026", "10 o'clock", None, True, [], {}, 0, -5, float("inf"), float("nan"), 10**300, "9" * 5000],
)
def test_what_is_no_time_is_refused(given: object) -> None:
    """No part of a date is guessed."""
    with pytest.raises(ValidationError):
        Review.model_validate(review(at=given))


def test_an_answer_is_read() -> None:
    """The frame as a whole, its items later."""
    frame = read(answer('{"reviews": [{"id": 1}, 7, null], "nextPage": "b", "more": {}}'), Reviews)
    assert (frame.reviews, frame.next_page) == (({"id": 1}, 7), "b")
    assert read(answer('{"reviews": null}'), Reviews).reviews == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"items": []}', "the field reviews is missing"),
        ('{"reviews": "none"}', "the field reviews: "),
        ('{"reviews": [], "nextPage": {}}', "the field nextPage: "),
        ("[]", "Input should be an object"),
        ("", "Invalid JSON"),
        ("<html>", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
    ],
)
def test_an_answer_in_another_shape_stops_the_reading(content: str, words: str) -> None:
    """The message names the address and the field, and no key that stood in the address."""
    with pytest.raises(ShapeChanged) as stopped:
        read(answer(content), Reviews)
    assert words in str(stopped.value)
    assert str(stopped.value).startswith("https://api.acme.test/reviews answered")
    assert "s3cret" not in str(stopped.value)


class Document(Shape):
    body: Any
    reviews: Items


@pytest.mark.parametrize("depth", [40, 100, 500, 50_000])
def test_what_is_nested_past_all_reason_costs_nothing_else(depth: int) -> None:
    """A customer who writes a list in a list in a list stops no import: the page is read without its depths."""
    deep = '{"]": [' * depth + '"\\"]"' + "]}" * depth
    document = read(answer(f'{{"body": {deep}, "reviews": [{{"id": "[{{"}}, {deep}, 7]}}'), Document)
    assert document.reviews[0] == {"id": "[{"}
    assert document.reviews[2] == 7
    assert document.body["]"][0]["]"]
    if depth == 40:
        assert document.body["]"] == document.reviews[1]["]"]


def test_half_a_character_costs_nothing_else() -> None:
    """A vendor that cuts a text off inside an emoji does not stop the import; whole ones stay whole."""
    frame = read(answer('{"reviews": ["cut \\ud83d", "whole \\ud83e\\udd86"]}'), Reviews)
    assert frame.reviews == ("cut ?", "whole 🦆")


def test_side_information_that_cannot_be_read_costs_no_record() -> None:
    """Of people and companies, those that can be read are taken."""
    assert [one.id for one in readable([review(id="a"), None, 7, {}, review(id="b")], Review)] == ["a", "b"]


def test_a_bad_item_is_set_aside_and_the_page_goes_on() -> None:
    """Under its id, or its place in the page where it has none, with the reason."""
    tray = Tray("Acme review")
    items = [
        review(id="good"),
        review(id="bad", at="soon"),
        "junk",
        review(id="also good"),
        {"at": "2026-10-05", "id": ""},
    ]
    assert [one.id for one in tray.read(items, Review)] == ["good", "also good", ""]
    assert tray.aside == [
        SetAside("Acme review bad", "the field at: 'soon' is not a date"),
        SetAside("Acme review number 3 of its page", "Input should be a valid dictionary or instance of Review"),
    ]


def test_an_item_is_named_by_the_path_to_its_id() -> None:
    """Some vendors keep it further down."""
    tray = Tray("call")
    items: list[Any] = [{"meta": {"id": 7}}, {"meta": {"id": "x" * 999}}, {"meta": []}, review()]
    tray.read(items, Review, key="meta.id")
    assert [one.place for one in tray.aside] == ["call 7", f"call {'x' * 200}", "call number 3 of its page"]


def test_a_field_that_no_item_has_any_more_stops_the_reading() -> None:
    """One item without it is a bad record; all of them are a changed API, which the message names."""
    without = [{"at": "2026-10-05"}, {"at": "2026-10-06"}]
    with pytest.raises(ShapeChanged, match="the field id is missing in every review of a page"):
        Tray("review").read(without, Review)
    tray = Tray("review")
    assert len(tray.read([*without, review()], Review)) == 1
    assert [one.reason for one in tray.aside] == ["the field id is missing"] * 2


def test_items_that_are_bad_in_different_ways_are_no_changed_api() -> None:
    """What is wrong with every one of them, but not the same, is told of each."""
    tray = Tray("review")
    assert tray.read([{"id": "a"}, {"at": "2026-10-05"}, review(at="soon")], Review) == []
    assert len(tray.aside) == 3


def test_an_empty_page_is_no_changed_api() -> None:
    """Nothing is missing where nothing is."""
    assert Tray("review").read([], Review) == []


def record(item: Review, text: str = "words", *, place: str | None = None) -> Record:
    if item.id == "none":
        raise RecordError("it says nothing")
    return Record(id=item.id, kind="review", text=text, place=place)


def test_an_item_that_cannot_become_a_record_is_set_aside() -> None:
    """With the reason it gave; the others come, each with the place where a person finds it."""
    tray = Tray("review")
    made = tray.records(tray.read([review(id="a"), review(id="none"), review(id="b")], Review), record)
    assert [(one.id, one.place) for one in made] == [("a", "review a"), ("b", "review b")]
    assert tray.aside == [SetAside("review none", "it says nothing")]


def test_what_else_a_record_is_made_of_is_handed_on() -> None:
    """A place that the connector gave is kept."""
    tray = Tray("review")
    [item] = tray.read([review()], Review)
    assert tray.record(record, item, "other words", place="page 4") == record(item, "other words", place="page 4")
    assert tray.record(lambda _: record(Review.model_validate(review(id="none"))), "no item") is None
    assert tray.aside == [SetAside("review without id", "it says nothing")]


def test_attributes_are_those_that_say_something() -> None:
    """Zero and false are answers; null, blank and empty are none."""
    assert present(a=0, b=False, c="x", d=None, e="", f=[], g={}, h=(), i=["x"]) == {
        "a": 0,
        "b": False,
        "c": "x",
        "i": ["x"],
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "at", "title", "tags", "author"]) | st.text(), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=5))
def test_no_item_is_too_strange(items: list[Any]) -> None:
    """Each is read or set aside; nothing else happens, whatever a vendor sends."""
    tray = Tray("review")
    good = tray.read([review(), *items], Review)
    assert len(good) + len(tray.aside) == len(items) + 1
    assert all(one.place and one.reason for one in tray.aside)
