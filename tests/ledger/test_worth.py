"""What each source is worth, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from statistics import median
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from syncd.ledger import Ledger, State
from syncd.ledger.tables import signals
from syncd.ledger.worth import By, Worth, _median, worths
from tests.conftest import Clock


class Books:
    """A ledger that signals are written into as they are to stand."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger, self.clock, self.number = ledger, clock, 0

    async def add(self, state: State = State.PROCESSED, took: float | None = 1.0, **more: Any) -> None:
        self.number += 1
        row = {
            "external_id": f"x:{self.number}",
            "connector": "reviews",
            "state": state,
            "fingerprint": b"f",
            "first_seen_at": self.clock(),
            "attempts": 1,
            "failures": 0,
            "looks": 1,
            "accepted_at": self.clock(),
            "settled_at": None if took is None else self.clock() + timedelta(seconds=took),
        }
        await self.ledger.change(lambda db: db.execute(sa.insert(signals).values({**row, **more})))

    async def worths(self, by: By = By.CONNECTOR) -> list[Worth]:
        return await self.ledger.ask(worths, by)


@pytest.fixture
def books(ledger: Ledger, clock: Clock) -> Books:
    return Books(ledger, clock)


class TestWorths:
    async def test_every_signal_is_counted_once_by_each_view(self, books: Books) -> None:
        """The three views put the same signals together in three ways; what names no type or account is a group too."""
        await books.add(signal_type="review", account="acme")
        await books.add(signal_type="review", connector="tickets")
        await books.add(State.QUEUED, None, account="acme")
        by = {by: {worth.name: worth.total for worth in await books.worths(by)} for by in By}
        assert by == {
            By.CONNECTOR: {"reviews": 2, "tickets": 1},
            By.TYPE: {"review": 2, None: 1},
            By.ACCOUNT: {"acme": 2, None: 1},
        }

    async def test_insights_are_counted_however_their_ids_are_written(self, books: Books) -> None:
        """Commas and quotation marks within an id do not make two of one."""
        for ids in (["a"], ["a", "b", "c"], ['x","y', '"', ",", "ü\\"], [], None):
            await books.add(insight_ids=ids)
        [worth] = await books.worths()
        assert (worth.insights, worth.insights_each) == (8, 1.6)

    async def test_the_shares_are_of_all_signals(self, books: Books) -> None:
        """What failed and what was refused is told as a share of all that a source gave."""
        for state in (State.PROCESSED, State.PROCESSED, State.FAILED, State.REJECTED, State.QUEUED):
            await books.add(state, 5.0 if state is State.PROCESSED else None)
        [worth] = await books.worths()
        told = worth.as_json()
        assert (told["processedShare"], told["failedShare"], told["rejectedShare"], told["total"]) == (0.4, 0.2, 0.2, 5)

    async def test_the_median_is_that_of_what_was_processed(self, books: Books) -> None:
        """A slow one does not move it, one that failed has no part in it, and clocks that differ make nothing less than
        none."""
        for took in (1.0, 3.0, 5.0, 9000.0, -7.0):
            await books.add(took=took)
        await books.add(State.FAILED, 80000.0)
        await books.add(took=2.0, connector="tickets")
        await books.add(took=2.5, connector="tickets")
        await books.add(State.QUEUED, None, connector="new")
        found = {worth.name: worth.median for worth in await books.worths()}
        assert found == {"reviews": timedelta(seconds=3), "tickets": timedelta(seconds=2.25), "new": None}

    async def test_the_one_with_the_most_insights_for_each_signal_comes_first(self, books: Books) -> None:
        """The source that is worth its budget most stands on top."""
        await books.add(connector="many", insight_ids=["a"])
        await books.add(connector="many", insight_ids=[])
        await books.add(connector="rich", insight_ids=["a", "b"])
        await books.add(State.QUEUED, None, connector="new")
        assert [worth.name for worth in await books.worths()] == ["rich", "many", "new"]

    async def test_characters_add_up(self, books: Books) -> None:
        """What Zentrik had to read for them is summed; rows from before it was kept count none."""
        await books.add(characters=2_000_000_000)
        await books.add(characters=2_000_000_000)
        await books.add(characters=None)
        assert (await books.worths())[0].characters == 4_000_000_000

    async def test_of_an_empty_ledger_there_is_nothing(self, books: Books) -> None:
        """Before the first run there is no group, and no division by none."""
        assert await books.worths() == []


@given(st.lists(st.integers(0, 50), min_size=1))
def test_the_median_of_counted_values_is_the_median(values: list[int]) -> None:
    """Values counted together have the median they have one by one."""
    assert _median({value: values.count(value) for value in values}) == median(values)
