"""Subjects: the addresses and accounts a record speaks of are found, however they are written, and never too many."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.records import Person, RawRecord, Record
from syncd.subjects import MOST, of_account, of_address, subjects_of


def spoken_of(text: str = "Fine.", **more: object) -> tuple[str, ...]:
    return subjects_of(Record(id="1", kind="review", text=text, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "written",
    ["bob@example.com", "BOB@Example.COM", "  bob@example.com\n", "bob@example.com."],
)
def test_an_address_is_one_however_it_is_written(written: str) -> None:
    """Whoever asks by their address is found by it, whatever its case and what stands around it."""
    assert of_address(written) == "address:bob@example.com"


def test_the_two_spellings_of_a_domain_are_one() -> None:
    """A domain outside ASCII is found by either of its spellings."""
    assert of_address("bob@müller.example") == of_address("bob@xn--mller-kva.example") != None  # noqa: E711


@pytest.mark.parametrize("text", ["", "bob", "@example.com", "bob@", "bob@localhost", "a b@example.com", "a@b@c.de"])
def test_what_is_no_address_is_none(text: str) -> None:
    """A slip of the pen is told as one, and does not look like a person nobody knows."""
    assert of_address(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Write to bob@example.com, please.",
        "From: Bob <bob@example.com>",
        "mailto:bob@example.com?subject=Hello",
        "('bob@example.com')",
        "**bob@example.com**",
        "bob@example.com.",
        "bob@example.com\nann",
        "@ @@ bob@example.com@",
    ],
)
def test_an_address_in_a_text_is_found(text: str) -> None:
    """A person who only stands in the text, as in a row of a file, is found by their address too."""
    assert spoken_of(text) == ("address:bob@example.com",)


def test_every_part_of_a_record_is_looked_through() -> None:
    """Nothing that is kept of a record hides a person."""
    people = (Person("Ann", "Ann@example.com"), Person("Nobody"))
    found = spoken_of(
        "t@example.com", title="h@example.com", context="c@example.com", people=people,
        attributes={"cc": ["x@example.com", {"deep": "y@example.com"}], "n": 3},
        account_id="a-1", account_ids=("a-1", "a-2"), account_external_id="crm-7",
    )  # fmt: skip
    letters = [each.removesuffix("@example.com")[-1] for each in found if each.startswith("address:")]
    assert sorted(letters) == sorted("nthcxy")
    assert {each for each in found if each.startswith("account:")} == set(map(of_account, ["a-1", "a-2", "crm-7"]))


def test_a_raw_body_is_looked_through_as_it_stands() -> None:
    """A body in the words of the API is no blind spot."""
    body = {"text": "by bob@example.com", "accountIds": ["a-1"], "accountExternalId": "crm-7"}
    assert set(subjects_of(RawRecord(id="1", body=body))) == {
        "address:bob@example.com", "account:a-1", "account:crm-7",
    }  # fmt: skip


def test_an_address_that_is_repeated_hides_no_other() -> None:
    """A signature under each of a hundred replies does not keep the customer from being found."""
    assert spoken_of("agent@example.com " * 100 + "bob@example.com")[-1] == "address:bob@example.com"


def test_there_are_never_too_many() -> None:
    """A record that is a list of addresses does not fill the ledger; the people it names come first."""
    found = spoken_of(" ".join(f"u{n}@example.com" for n in range(999)), people=(Person("Ann", "ann@example.com"),))
    assert (len(found), found[0]) == (MOST, "address:ann@example.com")


@given(st.text(alphabet="ab.@-_ é<>\0\ud800\n", max_size=200))
def test_whatever_stands_in_a_text_it_is_read(text: str) -> None:
    """No text stops a record from being taken in, and what is found can be asked for."""
    for subject in spoken_of(text or "-"):
        assert of_address(subject.removeprefix("address:")) == subject


def test_a_long_text_full_of_signs_costs_little() -> None:
    """A text that was made to be slow to read is not."""
    began = time.process_time()
    spoken_of("a" * 1_000_000 + "@" * 200_000 + "a." * 200_000)
    assert time.process_time() - began < 2
