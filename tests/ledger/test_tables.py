"""How values are kept: the same on both databases, and the same when they come back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import LedgerError
from syncd.ledger import Database
from syncd.ledger.tables import Instant, JsonText, State, Words, metadata

NO_DIALECT: Any = None  # none of the types asks for it

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)

samples = sa.Table(
    "samples",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", Instant),
    sa.Column("json", JsonText),
    sa.Column("words", Words),
)


def stored(type_: Any, value: Any) -> Any:
    return type_().process_bind_param(value, NO_DIALECT)


def back(type_: Any, value: Any) -> Any:
    return type_().process_result_value(stored(type_, value), NO_DIALECT)


class TestInstant:
    @given(st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=-23, minutes=-59)))))
    def test_it_comes_back_to_the_microsecond(self, moment: datetime) -> None:
        """A time is the same instant after it was stored, in UTC, whatever zone it came in."""
        try:
            expected = moment.astimezone(UTC)
        except OverflowError:
            return  # its UTC lies outside the calendar; whoever reads a source refuses it
        returned = back(Instant, moment)
        assert returned == expected
        assert (returned.microsecond, returned.tzinfo) == (moment.microsecond, UTC)

    @given(*[st.datetimes(timezones=st.timezones())] * 2)
    def test_what_is_stored_sorts_as_the_times_do(self, one: datetime, other: datetime) -> None:
        """What is due first is found first, by an index on the number alone."""
        assert (stored(Instant, one) < stored(Instant, other)) == (one - other < timedelta(0))

    def test_the_hour_that_comes_twice_is_two_hours(self) -> None:
        """Records from the night the clocks go back keep their order."""
        first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
        assert back(Instant, first.replace(fold=1)) - back(Instant, first) == timedelta(hours=1)

    def test_a_time_without_a_zone_is_refused(self) -> None:
        """A naive time, which could mean any of a day's hours, never gets into the ledger."""
        with pytest.raises(ValueError, match="has no time zone"):
            stored(Instant, datetime(2026, 11, 2, 9, 0))  # noqa: DTZ001 - the case in point

    def test_no_time_stays_no_time(self) -> None:
        """A record without a time is not given one."""
        assert back(Instant, None) is None


class TestJsonText:
    @given(JSON)
    def test_it_comes_back_as_it_was(self, value: Any) -> None:
        """A checkpoint is to its connector what it was, half characters of broken file names included."""
        assert back(JsonText, value) == value
        assert value is None or stored(JsonText, value).isascii()

    def test_nothing_is_null(self) -> None:
        """No list of insights is told from an empty one."""
        assert stored(JsonText, None) is None
        assert stored(JsonText, []) == "[]"


class TestWords:
    @given(st.text(st.characters()))
    def test_all_but_what_cannot_be_kept_is_kept(self, text: str) -> None:
        """An error is stored in the words it came in, and never fails to be stored."""
        kept = stored(Words, text)
        assert kept == "".join("?" if "\ud800" <= letter <= "\udfff" else letter for letter in text if letter != "\0")

    def test_no_words_stay_none(self) -> None:
        """A signal without an error has none."""
        assert stored(Words, None) is None


def test_both_databases_give_back_the_same(ledger_url: str) -> None:
    """A ledger behaves the same on SQLite and on PostgreSQL, at the edges too."""
    database = Database(ledger_url)
    samples.create(database.engine)
    given = [
        (datetime.min.replace(tzinfo=UTC), {"a": "\0", "\ud800": [1.5, -0.0, 10**30]}, "a\0b"),
        (datetime.max.replace(tzinfo=UTC), "\U0001f600 e\u0301", "\udcff.csv"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), [], ""),
        (None, None, None),
    ]
    with database.write() as db:
        for at, json, words in given:
            db.execute(sa.insert(samples).values(at=at, json=json, words=words))
    with database.read() as db:
        found = db.execute(sa.select(samples.c.at, samples.c.json, samples.c.words).order_by(samples.c.id)).all()
        assert [row.at for row in found] == [row[0] for row in given]
        assert [row.json for row in found] == [row[1] for row in given]
        assert [row.words for row in found] == ["ab", "?.csv", "", None]
        assert db.scalars(sa.select(samples.c.id).where(samples.c.words == "a\0b")).all() == [1]
        assert db.scalars(sa.select(samples.c.id).order_by(samples.c.at).where(samples.c.at.is_not(None))).all() == [
            1,
            3,
            2,
        ]
    database.close()


@pytest.mark.parametrize("table", ["bodies", "events"])
def test_nothing_is_kept_of_what_nobody_knows(ledger_url: str, table: str) -> None:
    """A body or an event without its signal cannot be stored, so none is ever left behind."""
    database = Database(ledger_url)
    values: dict[str, dict[str, object]] = {
        "bodies": {"signal_id": 7, "body": b"{}"},
        "events": {"signal_id": 7, "at": datetime.now(UTC), "event": "accepted"},
    }
    with pytest.raises(LedgerError), database.write() as db:
        db.execute(sa.insert(metadata.tables[table]).values(values[table]))
    database.close()


def test_the_states_are_those_of_the_contract_in_the_order_they_move() -> None:
    """Scripts find the states they know, in the order the documentation shows them."""
    assert [str(state) for state in State] == [
        *("queued", "sending", "unknown", "processing", "processed", "failed", "rejected", "deleted"),
        "forgotten",
    ]
