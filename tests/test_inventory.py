"""Inventory: all that Zentrik holds, as it is, in little room."""

from __future__ import annotations

import random
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from syncd.fates import Failed, Outcome, Processed, Unsettled
from syncd.inventory import Inventory, claimant
from syncd.ledger.matching import Find, There
from syncd.zentrik import Remote

MOMENT = datetime(2026, 11, 2, 9, 0, 0, 123456, tzinfo=UTC)
UNSETTLED = Unsettled()


def remote(number: int, name: str | None = "csv:survey:1", outcome: Outcome = UNSETTLED) -> Remote:
    return Remote(f"SIGNAL-{number}", name, outcome, f"job-{number}")


def inventory(*shown: Remote) -> Inventory:
    """An inventory that was shown these, a page each."""
    seen = Inventory()
    for each in shown:
        assert not seen.see([each])  # it never has enough
    return seen


@pytest.mark.parametrize(
    "outcome",
    [
        Unsettled(),
        Processed((), "job-7", None, None),
        Processed(("i-1", "i-2"), "job-7", MOMENT, MOMENT + timedelta(seconds=2)),
        Failed('too "short"\nby half: ⚠ \ud800', "job-7", MOMENT, MOMENT),
    ],
)
def test_what_was_shown_comes_back_whole(outcome: Outcome) -> None:
    """Nothing of what a signal came to is lost by being packed."""
    assert inventory(remote(7, outcome=outcome)).held("csv:survey:1") == [There("SIGNAL-7", "job-7", outcome)]


def test_a_signal_shown_again_is_the_same_one_as_it_is_by_now() -> None:
    """Pages overlap and sweeps begin anew: that doubles nothing, and the latest counts."""
    seen = inventory(remote(1), remote(2), remote(1, outcome=Processed(("i-1",), "job-1")), remote(2))
    assert (len(seen), seen.surplus) == (2, 1)
    assert [there.public_id for there in seen.held("csv:survey:1")] == ["SIGNAL-1", "SIGNAL-2"]
    assert seen.held("csv:survey:1")[0].outcome == Processed(("i-1",), "job-1")


def test_the_first_created_comes_first_in_whatever_order_they_are_shown() -> None:
    """Of doubled signals the oldest stands for all: SIGNAL-9 came before SIGNAL-10."""
    seen = inventory(remote(10), remote(11), remote(9))
    assert [there.public_id for there in seen.held("csv:survey:1")] == ["SIGNAL-9", "SIGNAL-10", "SIGNAL-11"]
    assert [find.there.public_id for find in seen.finds({})] == ["SIGNAL-9"]


def test_what_has_no_usable_name_is_known_by_its_public_id_only() -> None:
    """A signal without an externalId, or with one that no ledger keeps, is counted, and found by whoever has its
    publicId."""
    seen = inventory(remote(1, None), remote(2, "a\0b"), remote(3, "x" * 513), remote(4, "\ud800"), remote(5, "ok"))
    assert (len(seen), seen.nameless, list(seen.names())) == (5, 4, ["ok"])
    assert [there.public_id for there in seen.held("csv:survey:1", "SIGNAL-1")] == ["SIGNAL-1"]
    assert seen.held("csv:survey:1", "SIGNAL-5") == []
    assert [there.public_id for there in seen.held("ok", "SIGNAL-1")] == ["SIGNAL-5"]


def test_what_is_dropped_is_gone_with_all_its_doubles() -> None:
    """What has been dealt with takes no room any more."""
    seen = inventory(remote(1), remote(2), remote(3, "other"))
    seen.drop("csv:survey:1")
    seen.drop("csv:survey:1")
    assert (len(seen), seen.held("csv:survey:1"), list(seen.names())) == (1, [], ["other"])


@pytest.mark.parametrize(
    ("name", "connector"),
    [
        ("csv:survey:1", "survey"),
        ("csv:survey:2026:1", "this-year"),
        ("csv:survey:2025:1", "survey"),
        ("csv:survey:", "survey"),
        ("csv:survey", None),
        ("csv:surveys:1", None),
        (":1", None),
        ("", None),
        ("interview-7", None),
    ],
)
def test_the_longest_namespace_claims_a_name(name: str, connector: str | None) -> None:
    """A signal goes to the connector that would give it its name, also where one namespace begins with another."""
    namespaces = {"csv:survey": "survey", "csv:survey:2026": "this-year"}
    assert claimant(name, namespaces) == connector
    assert [find for find in inventory(remote(1, name)).finds(namespaces) if name] == [
        Find(name, There("SIGNAL-1", "job-1", Unsettled()), connector)
    ] * bool(name)


def test_a_million_signals_fit_in_memory() -> None:
    """The largest workspace we promise for needs less than 500 MB: 10,000 signals take less than a hundredth of it."""
    draw = random.Random(1)

    def some_id() -> str:
        return f"{draw.getrandbits(128):032x}-123"

    tracemalloc.start()
    seen = Inventory()
    for number in range(10_000):
        outcome = Processed((some_id(), some_id()), None, MOMENT, MOMENT)
        name = f"zendesk:acme:{1_000_000 + number}"
        seen.see([Remote(f"SIGNAL-{1_000_000 + number}", name, outcome, f"job-{some_id()}")])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 5_000_000
