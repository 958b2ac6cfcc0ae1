"""The customer's people and company are told by their addresses, and never guessed."""

from __future__ import annotations

import pytest

from syncd.connector import Organisation, Person
from syncd.kit.people import company, company_domain, role

HOST = "Sam@Acme.test"


@pytest.mark.parametrize(
    ("email", "what"),
    [
        (" sam@acme.TEST", "host"),
        ("lee@acme.test", "participant"),
        ("lee@eu.acme.test", "participant"),
        ("mia@globex.test", "customer"),
        ("mia@notacme.test", "customer"),
        ("mia@gmail.com", "customer"),
        ("room-7@resource.calendar.google.com", "participant"),
        ("fred@fireflies.ai", "participant"),
        ("by phone", "participant"),
        ("", "participant"),
        (None, "participant"),
    ],
)
def test_whoever_is_from_elsewhere_than_the_host_is_a_customer(email: str | None, what: str) -> None:
    """Colleagues elsewhere in the house, calendars and note-takers are not."""
    assert role(email, HOST) == what


@pytest.mark.parametrize("host", [None, "", "Sam"])
def test_without_a_host_nobody_is_taken_for_a_customer(host: str | None) -> None:
    """Which side is which cannot be told then."""
    assert role("mia@globex.test", host) == role(None, host) == role("", host) == "participant"


def test_a_host_may_be_at_a_part_of_the_house() -> None:
    """Then the whole house is no customer."""
    assert role("lee@acme.test", "sam@eu.acme.test") == "participant"


@pytest.mark.parametrize(
    ("emails", "domain"),
    [
        (["a@globex.test", " B@GLOBEX.test"], "globex.test"),
        (["a@globex.test", "b@mail.globex.test"], "globex.test"),
        (["a@globex.test", "b@notglobex.test"], None),
        (["a@globex.test", "b@initech.test"], None),
        (["a@globex.test", "b@gmail.com", "c@hey.com", "bot@read.ai", None, "by phone"], "globex.test"),
        (["a@gmail.com"], None),
        (["a@gmail.com", "b@outlook.com"], None),
        ([], None),
    ],
)
def test_the_company_is_the_only_one_there(emails: list[str | None], domain: str | None) -> None:
    """A public mailbox names no company, and of two nobody knows which it is."""
    there = [Person(None, email, "customer") for email in emails]
    found = company([Person("Sam", HOST, "host"), Person("Lee", "lee@elsewhere.test", "participant"), *there])
    assert found == (Organisation(domain=domain) if domain else None)


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("Ada@Acme.test", "acme.test"),
        ("https://www.acme.test:8080/about?x=1", "acme.test"),
        ("acme.test", "acme.test"),
        ("WWW.Acme.test.", "acme.test"),
        ("ada@gmail.com", None),
        ("room@resource.calendar.google.com", None),
        ("localhost", None),
        ("Acme Ltd.", None),
        ("ä.test", None),
        ("a." * 200 + "test", None),
        ("", None),
        (None, None),
    ],
)
def test_a_companys_domain(address: str | None, domain: str | None) -> None:
    """A company is known by the domain of its addresses; a public mailbox, or what is no domain, tells of none."""
    assert company_domain(address) == domain
