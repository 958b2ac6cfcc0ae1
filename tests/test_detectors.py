"""What is found in a text, and what is left alone."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.detectors import Kind, Names, cards, emails, ibans, is_region, keys, phones

SECRET = "9f8A7b6C5d4E3f2A1b0C"


def stretches(text: str, found: object) -> list[str]:
    assert hasattr(found, "__iter__")
    return [text[each.start : each.end] for each in found]


@pytest.mark.parametrize(
    "address",
    [
        "jane@example.org",
        "jane.doe+news@mail.example.co.uk",
        "O'Brien@example.org",
        "jürgen@bücher.example",
        "jane@xn--bcher-kva.example",
        "j_d-2@sub.example.museum",
        "jane%40example.org",
        "jane＠example.org",
    ],
)
@pytest.mark.parametrize(
    "around", ["{}", "Write to {}.", "<{}>, please", "(mailto:{})", "an {}?", "\n{}\n", "https://x.test/?e={}&b=1"]
)
def test_an_address_is_found_wherever_it_stands(address: str, around: str) -> None:
    """No e-mail address leaves because of the punctuation round it, and the words beside it stay."""
    text = around.format(address)
    assert stretches(text, emails(text)) == [address]


@pytest.mark.parametrize(
    "text", ["", "@", "a@b", "@acme said", "meet @ 5.30", "jane@localhost", "3@4.5", "x@.com", "50%40", "a@-b.com"]
)
def test_what_is_no_address_is_left_alone(text: str) -> None:
    """A price, a handle or an @ in a sentence is no e-mail address."""
    assert list(emails(text)) == []


def test_addresses_of_domains_to_keep_are_left_alone() -> None:
    """An operator's own addresses stay, those of a domain that only ends like theirs do not."""
    text = "a@acme.com b@mail.ACME.com c@notacme.com"
    assert stretches(text, emails(text, {"acme.com"})) == ["c@notacme.com"]


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111\u00a01111\u00a01111\u00a01111",
        "5555555555554444",
        "2223003122003222",
        "3782 822463 10005",
        "30569309025904",
        "6011111111111117",
        "3530111333300000",
        "٤١١١١١١١١١١١١١١١",
    ],
)
def test_a_card_number_is_found(number: str) -> None:
    """However it is grouped, and in whatever digits: a card number does not leave."""
    text = f"My card is {number}, 12 of them."
    assert stretches(text, cards(text)) == [number]
    assert stretches(text, cards(text, bare=False)) == ([number] if re.search(r"\d\D\d", number) else [])


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # one digit off
        "1111111111111117",  # nobody issues these
        "41111111111111110",  # too long
        "411111111111111x",
        "order 4111111111111111a",
        "4 1 1 1 1 1 1 1",
        "2026-01-01 2026-01-02 2026-01-03",
        "550e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_a_number_that_is_no_card_is_left_alone(text: str) -> None:
    """Order numbers, dates and ids stay in the text they belong to."""
    assert list(cards(text)) == []


def test_a_card_number_among_others_is_found() -> None:
    """Numbers beside it do not hide it."""
    text = "row 123 4111 1111 1111 1111 456"
    assert stretches(text, cards(text)) == ["4111 1111 1111 1111"]


@pytest.mark.parametrize(
    "number",
    ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "gb29 nwbk 6016 1331 9268 19", "NO9386011117947"],
)
def test_an_iban_is_found(number: str) -> None:
    """An account's number does not leave, and the word after it stays."""
    text = f"Pay to {number} please, or AB12 later."
    assert stretches(text, ibans(text)) == [number]


@pytest.mark.parametrize(
    "text", ["DE88370400440532013000", "DE8937040044053201300", "XX89370400440532013000", "IN 20 DAYS"]
)
def test_what_is_no_iban_is_left_alone(text: str) -> None:
    """A wrong checksum, a wrong length and an unknown country are none."""
    assert list(ibans(text)) == []


@pytest.mark.parametrize(
    "key",
    [
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "ghp_" + "a1B2" * 9,
        "glpat-" + "a1B2" * 5,
        "AKIAIOSFODNN7EXAMPLE",
        "xoxb-1234567890-abcdefghij",
        "AIza" + "Sy9_-" * 7,
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM-eK",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq1\nMIIEpAIBAA\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nMIIEpAIBAAKCAQEA7bq1\\n-----END PRIVATE KEY-----",
    ],
)
def test_a_key_is_known_by_its_beginning(key: str) -> None:
    """A key that somebody pasted into a ticket does not leave."""
    text = f"We use {key} here"
    assert stretches(text, keys(text)) == [key]


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"api_key={SECRET}",
        f'"token": "{SECRET}"',
        f"the secret is {SECRET}.",
        f"API key: {SECRET}",
        f"password: {SECRET}",
    ],
)
def test_what_is_called_a_key_and_looks_like_one_is_one(text: str) -> None:
    """The word beside it gives a key away."""
    assert stretches(text, keys(text)) == [SECRET]


def test_a_password_may_be_short() -> None:
    """Passwords are what people can remember."""
    assert stretches("password: hunter22!", keys("password: hunter22!")) == ["hunter22!"]


@pytest.mark.parametrize(
    "text",
    [
        "The key account-management-2026-plan is late.",
        "The token 2026-11-22-11-22-33-44 expired",
        f"commit {SECRET}",
        "password: unchanged",
        "The basic plan-for-enterprises-2026 is fine",
        "bearer of bad news in 2026",
        "key: aaaaaaaa11111111",
    ],
)
def test_words_about_keys_are_left_alone(text: str) -> None:
    """Feedback about passwords and keys is what products are made better by."""
    assert list(keys(text)) == []


def test_phone_numbers_are_found_with_their_countrys_code() -> None:
    """A number that can be dialled from anywhere does not leave, whatever it is written with."""
    text = "Call +49 30 901820, +1 (415) 555-2671 or ＋442079460958. We grew +40 % to 1,200,000 since 2026-01-01."
    found = list(phones(text))
    assert stretches(text, found) == ["+49 30 901820", "+1 (415) 555-2671", "＋442079460958"]
    assert [each.value for each in found] == ["+4930901820", "+14155552671", "+442079460958"]


def test_phone_numbers_of_a_region_are_found_as_they_are_dialled_there() -> None:
    """With a region said, its people need no country code to be protected."""
    text = "Call 020 7946 0958 about invoice 123456."
    assert list(phones(text)) == []
    assert stretches(text, phones(text, "GB")) == ["020 7946 0958"]
    assert (is_region("GB"), is_region("XX")) == (True, False)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("Jane Doe", "jane doe, JANE DOE; Doe, Jane", ["jane doe", "JANE DOE", "Doe, Jane"]),
        ("Jane Doe", "jane-doe jane.doe; Jane's Does", ["jane-doe", "jane.doe", "Jane"]),
        ("Will Grant", "Will you grant it? I will. GRANT did.", ["Will", "GRANT"]),
        ("José Álvarez", "Jose Alvarez, José", ["Jose Alvarez", "José"]),
        ("Ludwig van Beethoven", "The van of Beethoven", ["Beethoven"]),
        ("Li Bo", "Li said. li bo!", ["li bo"]),
        ("O'Brien", "Mr O’Brien", ["O’Brien"]),
        ("田中太郎", "田中太郎さんと田中", ["田中太郎"]),
        ("김철수", "김철수가 말했다", ["김철수"]),
        ("techguy42", "thanks techguy42", ["techguy42"]),
        ("Customer", "The Customer is king", []),
        ("Speaker 2", "Speaker 2: hello", []),
        ("jane@example.org", "Jane", []),
        ("", "anything", []),
        ("app", "The app is slow. App!", ["App"]),
    ],
)  # fmt: skip
def test_names_are_found_and_words_are_not(name: str, text: str, found: list[str]) -> None:
    """Who took part stands nowhere in the text, and a text about wills keeps its wills."""
    assert stretches(text, Names([name]).find(text)) == found


@given(st.lists(st.text(max_size=12), max_size=4), st.text(max_size=60))
def test_names_are_found_however_accents_are_written(names: list[str], text: str) -> None:
    """Two ways of writing the same letters are the same name; nothing is found that is not in the text."""
    for each in Names(names).find(text):
        assert 0 <= each.start < each.end <= len(text)
        assert each.kind is Kind.PARTICIPANT
    apart = unicodedata.normalize("NFD", "Zoë Müller")
    assert stretches(apart, Names(["Zoë Müller"]).find(apart)) == [apart]
