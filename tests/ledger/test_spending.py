"""Budgets in the ledger, on SQLite and on PostgreSQL: never passed, nothing lost, what costs nothing given back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.budgets import Budget
from syncd.fates import Accepted, Blocked, Later, Refused, Unknown, Verdict
from syncd.ledger import Answer, Claimed, Database, Exchanged, Lane, Ledger, Sighting, report
from syncd.ledger.spending import Spent, spent_today, undelivered, waits
from syncd.ledger.tables import connectors, events, runs, signals, spending
from syncd.signals import compose
from tests.conftest import Clock, OnSQLite, record, source

REVIEWS, TICKETS = source(name="reviews"), source(name="tickets")
TEN = {"reviews": Budget(signals=10)}
TEXT = "Ten chars."


class Books:
    """A ledger with a run that reads and posts, a second after the other."""

    def __init__(self, ledger: Ledger, clock: Clock, run: int) -> None:
        self.ledger, self.clock, self.run = ledger, clock, run

    async def queue(self, *numbers: int, origin: object = REVIEWS, lane: Lane = Lane.NEWS, text: str = TEXT) -> None:
        """Queue these records."""
        self.clock.move(1)
        assert isinstance(origin, type(REVIEWS))
        await self.ledger.start_pull(origin, self.run, self.clock())
        page = [compose(record(number, text), origin) for number in numbers]
        await self.ledger.record_page(origin, page, [], None, self.run, self.clock(), lane)

    async def exchange(
        self, budgets: Mapping[str, Budget], *answers: Answer, most: int = 100, **more: object
    ) -> Exchanged:
        """Store the answers, and claim."""
        self.clock.move(1)
        return await self.ledger.exchange(
            answers,
            most,
            self.run,
            self.clock(),
            budgets=budgets,
            **more,  # type: ignore[arg-type]
        )

    async def spent(self, budgets: Mapping[str, Budget]) -> dict[str, tuple[int, int]]:
        found: dict[str, Spent] = await self.ledger.ask(spent_today, budgets, self.clock())
        return {name: (each.signals, each.characters) for name, each in found.items()}


@pytest.fixture
async def books(ledger: Ledger, clock: Clock) -> Books:
    return Books(ledger, clock, await ledger.start_run("test", clock()))


def names(exchanged: Exchanged) -> list[str]:
    return [claimed.external_id.removeprefix("listed:") for claimed in exchanged.claimed]


def by_connector(exchanged: Exchanged) -> Counter[str]:
    return Counter(claimed.connector for claimed in exchanged.claimed)


class TestClaiming:
    async def test_no_more_is_claimed_than_the_day_has_room_for(self, books: Books) -> None:
        """A budget is never passed, in however many rounds it is spent, and others are not held up by it."""
        await books.queue(*range(30))
        await books.queue(*range(5), origin=TICKETS)
        counted = [by_connector(await books.exchange(TEN, most=most)) for most in (4, 3, 50, 50)]
        assert counted == [{"reviews": 4}, {"reviews": 3}, {"reviews": 3, "tickets": 5}, {}]
        assert await books.spent(TEN) == {"reviews": (10, 100)}

    async def test_what_is_over_it_goes_the_next_day(self, books: Books) -> None:
        """Nothing is lost: day by day the rest goes out, until all has."""
        await books.queue(*range(25))
        days = []
        for _ in range(4):
            days.append(names(await books.exchange(TEN)))
            books.clock.move(24 * 3600)
        assert [len(day) for day in days] == [10, 10, 5, 0]
        assert sorted(name for day in days for name in day) == sorted(f"reviews:r-{number}" for number in range(25))

    async def test_news_go_first_on_the_next_day_too(self, books: Books) -> None:
        """A backlog that waits for its days does not hold up what just happened."""
        await books.queue(*range(30), lane=Lane.BACKLOG)
        await books.exchange(TEN)
        await books.queue(100, 101)
        assert names(await books.exchange(TEN)) == []
        books.clock.move(24 * 3600)
        claimed = names(await books.exchange(TEN))
        assert claimed[:2] == ["reviews:r-100", "reviews:r-101"]
        assert len(claimed) == 10

    async def test_the_signal_that_reaches_the_characters_is_the_last(self, books: Books) -> None:
        """A budget in characters ends with the signal that reaches it; one that is longer than a day still goes."""
        budgets = {"reviews": Budget(characters=25)}
        await books.queue(*range(5))
        await books.queue(9, text=TEXT * 100)
        assert len((await books.exchange(budgets)).claimed) == 3
        assert await books.spent(budgets) == {"reviews": (3, 30)}
        books.clock.move(24 * 3600)
        assert names(await books.exchange(budgets)) == ["reviews:r-3", "reviews:r-4", "reviews:r-9"]

    async def test_letters_are_counted_not_bytes(self, books: Books) -> None:
        """A text in Greek costs what the same text in English does; name and context count as well."""
        await books.ledger.start_pull(REVIEWS, books.run, books.clock())
        greek = compose(record(1, "Αργεί πολύ", title="Τίτλος", context="Σχόλιο"), REVIEWS)
        await books.ledger.record_page(REVIEWS, [greek], [], None, books.run, books.clock())
        await books.exchange(TEN)
        assert await books.spent(TEN) == {"reviews": (1, 10 + 6 + 6)}

    async def test_a_budget_that_is_raised_holds_at_once(self, books: Books) -> None:
        """Whoever raises a budget does not wait for midnight."""
        await books.queue(*range(30))
        await books.exchange(TEN)
        assert len((await books.exchange({"reviews": Budget(signals=12)})).claimed) == 2
        assert len((await books.exchange({})).claimed) == 18

    async def test_only_narrows_down_within_a_budget_too(self, books: Books) -> None:
        """`run-once NAME` posts that connector alone, and counts it."""
        await books.queue(1, 2)
        await books.queue(1, 2, origin=TICKETS)
        assert by_connector(await books.exchange(TEN, only=["tickets"])) == {"tickets": 2}
        assert await books.spent(TEN) == {"reviews": (0, 0)}

    async def test_what_is_halted_stays_halted(self, books: Books) -> None:
        """A budget opens no connector whose records Zentrik refuses."""
        await books.queue(1)
        await books.ledger.change(lambda db: db.execute(sa.update(connectors).values(halted_at=books.clock())))
        assert (await books.exchange(TEN)).claimed == []

    async def test_without_budgets_nothing_of_this_is_asked(self, books: Books) -> None:
        """Who sets no budget pays for none: claiming puts not one more statement to the database."""
        await books.queue(1, 2, 3)
        asked: list[str] = []
        sa.event.listen(
            books.ledger.database.engine, "before_cursor_execute", lambda *given: asked.append(str(given[2]))
        )
        assert len((await books.exchange({})).claimed) == 3
        assert not [statement for statement in asked if "spending" in statement]
        assert asked

    async def test_two_who_post_side_by_side_do_not_pass_it_together(
        self, ledger: Ledger, ledger_url: str, clock: Clock
    ) -> None:
        """Several syncds on one ledger keep one budget between them, to the signal."""
        first = Books(ledger, clock, await ledger.start_run("test", clock()))
        await first.queue(*range(60))
        other = Ledger(Database(ledger_url))
        try:
            second = Books(other, clock, await other.start_run("test", clock()))
            rounds = await asyncio.gather(
                *(each.exchange({"reviews": Budget(signals=25)}, most=3) for each in (first, second) * 10)
            )
        finally:
            other.close()
        claimed = [name for exchanged in rounds for name in names(exchanged)]
        assert len(claimed) == len(set(claimed)) == 25


class TestRefunds:
    @pytest.mark.parametrize(
        ("verdict", "kept"),
        [
            (Accepted("SIGNAL-1"), 1),
            (Unknown("it timed out"), 1),
            (Later("503"), 0),
            (Refused("422"), 0),
            (Blocked("401"), 0),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_only_what_zentrik_has_or_may_have_counts(self, books: Books, verdict: Verdict, kept: int) -> None:
        """Zentrik's refusals and rests use up nobody's budget; a lost answer does until it is known better."""
        await books.queue(1)
        [claimed] = (await books.exchange(TEN)).claimed
        await books.exchange(TEN, Answer(claimed, verdict, books.clock(), books.clock() + timedelta(days=2)), most=0)
        assert await books.spent(TEN) == {"reviews": (kept, kept * len(TEXT))}

    async def test_what_was_not_posted_after_all_is_given_back(self, books: Books) -> None:
        """Signals that are claimed and given back leave the budget as it was, and are claimed once more."""
        await books.queue(*range(12))
        claimed = (await books.exchange(TEN)).claimed
        assert names(await books.exchange(TEN, most=0, unposted=claimed[:4])) == []
        assert await books.spent(TEN) == {"reviews": (6, 60)}
        assert len((await books.exchange(TEN)).claimed) == 4

    @pytest.mark.parametrize(("found", "kept"), [(Accepted("SIGNAL-1"), 1), (None, 0)])
    async def test_a_lost_one_costs_nothing_once_it_is_certainly_not_there(
        self, books: Books, found: Accepted | None, kept: int
    ) -> None:
        """What was looked for and not found is posted again without being paid for twice."""
        await books.queue(1)
        [claimed] = (await books.exchange(TEN)).claimed
        await books.exchange(TEN, Answer(claimed, Unknown("cut"), books.clock(), books.clock()), most=0)
        sighting = Sighting(claimed.id, claimed.attempt, found, books.clock())
        await books.ledger.settle_unknowns([sighting], books.run, books.clock())
        assert await books.spent(TEN) == {"reviews": (kept, kept * len(TEXT))}

    async def test_a_refund_of_yesterday_buys_nothing_today(self, books: Books) -> None:
        """What was claimed before midnight and refused after it does not widen the new day."""
        await books.queue(*range(12))
        claimed = (await books.exchange(TEN)).claimed
        books.clock.move(24 * 3600)
        await books.exchange(TEN, *(Answer(each, Refused("422"), books.clock()) for each in claimed), most=0)
        assert len((await books.exchange(TEN)).claimed) == 2
        assert await books.spent(TEN) == {"reviews": (2, 20)}


class TestWarnings:
    async def test_at_four_fifths_and_at_the_end_once_a_day(self, books: Books) -> None:
        """Somebody hears before the end and at the end, once each, with what waits and until when."""
        await books.queue(*range(30))
        told = [(await books.exchange(TEN, most=most)).warned for most in (7, 1, 1, 1, 5)]
        assert [[(each.connector, each.spent.is_spent, each.waiting) for each in some] for some in told] == [
            [],
            [("reviews", False, 22)],
            [],
            [("reviews", True, 20)],
            [],
        ]
        assert told[3][0].spent.until == datetime(2026, 11, 3, tzinfo=UTC)
        books.clock.move(24 * 3600)
        assert [each.spent.is_spent for each in (await books.exchange(TEN)).warned] == [True]


class TestUndelivered:
    async def test_a_spent_budget_is_waited_for_until_midnight(self, books: Books) -> None:
        """Whoever has nothing else to post sleeps until the next day, rather than asking again and again."""
        await books.queue(*range(12))
        await books.exchange(TEN)
        queued, _ = await books.ledger.ask(undelivered, None, TEN, books.clock())
        assert queued == datetime(2026, 11, 3, tzinfo=UTC)
        [(spent, number)] = (await books.ledger.ask(waits, TEN, books.clock())).values()
        assert (spent.signals, number) == (10, 2)

    async def test_what_has_no_budget_is_due_before_it(self, books: Books) -> None:
        """A spent budget does not have the others wait for it."""
        await books.queue(*range(12))
        await books.exchange(TEN)
        await books.queue(1, origin=TICKETS)
        at = books.clock()
        assert (await books.ledger.ask(undelivered, None, TEN, at))[0] == at
        assert (await books.ledger.ask(undelivered, ["reviews"], TEN, at))[0] == datetime(2026, 11, 3, tzinfo=UTC)

    async def test_nothing_waits_where_nothing_is_queued(self, books: Books) -> None:
        """A budget that is spent to the last signal holds up no run."""
        await books.queue(*range(10))
        await books.exchange(TEN)
        assert (await books.ledger.ask(undelivered, None, TEN, books.clock()))[0] is None
        assert await books.ledger.ask(waits, TEN, books.clock()) == {}

    async def test_days_long_past_are_dropped(self, books: Books) -> None:
        """The books of the budgets do not grow for ever."""
        for _ in range(12):
            await books.exchange(TEN)
            books.clock.move(24 * 3600)
        days = await books.ledger.ask(lambda db: db.scalar(sa.select(sa.func.count()).select_from(spending)))
        assert days == 8


class TestAnyOrder(OnSQLite):
    @given(
        st.lists(st.sampled_from(["queue", "claim", "accept", "refuse", "later", "back"]), max_size=40),
        st.integers(1, 6),
    )
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_whatever_happens_in_whatever_order(self, ledger_url: str, steps: list[str], limit: int) -> None:
        """However claims, answers and gifts back follow each other, what is out and what was taken never pass the
        budget, and the ledger's count says just that."""
        ledger, clock = Ledger(Database(ledger_url)), Clock()
        budgets = {"reviews": Budget(signals=limit)}
        try:
            for table in (events, signals, spending, connectors, runs):
                await ledger.change(lambda db, each=table: db.execute(sa.delete(each)))
            books = Books(ledger, clock, await ledger.start_run("test", clock()))
            out: list[Claimed] = []
            taken = number = 0
            for step in steps:
                verdict: Verdict | None = None
                match step:
                    case "queue":
                        number += 1
                        await books.queue(number)
                    case "claim":
                        out += (await books.exchange(budgets, most=2)).claimed
                    case "back":
                        await books.exchange(budgets, most=0, unposted=out[:1])
                        out = out[1:]
                    case "accept":
                        verdict = Accepted("SIGNAL-1")
                    case "refuse":
                        verdict = Refused("422")
                    case "later":
                        verdict = Later("503")
                if verdict and out:
                    await books.exchange(budgets, Answer(out.pop(), verdict, clock(), clock()), most=0)
                    taken += isinstance(verdict, Accepted)
                assert taken + len(out) <= limit
                if step != "queue":
                    assert (await books.spent(budgets))["reviews"][0] == taken + len(out)
            assert len(await ledger.ask(lambda db: list(report.find(db)))) == number
        finally:
            ledger.close()
