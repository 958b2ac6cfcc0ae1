"""From a signal to its source and back, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from syncd.connector import Source
from syncd.fates import Accepted, Processed
from syncd.ledger import Answer, Ledger, Look, report
from syncd.ledger.tables import readings, signals
from syncd.ledger.tracing import Origin, named, origin
from syncd.records import Record
from syncd.signals import compose
from tests.conftest import Clock, Listed, record, source

SOURCE = source()


class Books:
    """A ledger whose runs read, and follow what they post to its insights."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger, self.clock = ledger, clock

    async def page(self, *records: Record, origin: Source = SOURCE, number: int = 1) -> int:
        self.clock.move(1)
        run = await self.ledger.start_run("run-once", self.clock())
        await self.ledger.start_pull(origin, run, self.clock())
        page = [compose(each, origin) for each in records]
        await self.ledger.record_page(origin, page, [], {}, run, self.clock(), number=number)
        await self.ledger.finish_pull(origin, run, None, self.clock())
        return run

    async def process(self, run: int, *insights: Sequence[str]) -> None:
        """Post as many signals as are given insights; these are drawn from them."""
        claimed = (await self.ledger.exchange([], len(insights), run, self.clock())).claimed
        taken = [Accepted(f"SIGNAL-{each.id}") for each in claimed]
        answers = [Answer(*pair, self.clock(), self.clock()) for pair in zip(claimed, taken, strict=True)]
        await self.ledger.exchange(answers, 0, run, self.clock())
        waiting = await self.ledger.awaited(100, self.clock())
        drawn = zip(sorted(waiting, key=lambda each: each.id), insights, strict=True)
        looks = [Look(each, Processed(tuple(ids)), self.clock()) for each, ids in drawn]
        await self.ledger.record_looks(looks, run)

    async def named(self, name: str) -> list[str]:
        return [row.external_id.removeprefix("listed:reviews:") for row in await self.ledger.ask(named, name)]

    async def origin(self, number: int) -> Origin:
        [row] = await self.ledger.ask(named, f"listed:reviews:r-{number}")
        return await self.ledger.ask(origin, row)


@pytest.fixture
def books(ledger: Ledger, clock: Clock) -> Books:
    return Books(ledger, clock)


class TestNamed:
    async def test_an_external_id_and_a_public_id_name_one(self, books: Books) -> None:
        """Whoever holds one of the two names has the signal, and nothing besides."""
        await books.process(await books.page(record(1), record(2)), [], [])
        assert await books.named("listed:reviews:r-1") == ["r-1"]
        [row] = await books.ledger.ask(named, "listed:reviews:r-1")
        assert await books.named(row.public_id or "") == ["r-1"]

    async def test_the_address_of_an_original_leads_to_what_was_made_of_it(self, books: Books) -> None:
        """An address that was copied from a browser finds its signals, whatever hangs on its end."""
        address = "https://acme.example/tickets/47"
        await books.page(
            record(1, url=address),
            record(2, url=f"{address}#comment-2"),
            record(3, url=f"{address}11"),
            record(4, url="https://acme.example/TICKETS/47"),
            record(5, url="https://acme.example/tickets/5/"),
        )
        assert await books.named(address) == ["r-1"]
        assert await books.named(f"{address}/") == ["r-2", "r-1"]
        assert await books.named(f"{address}#top") == ["r-2", "r-1"]
        assert await books.named(f"{address}#comment-2") == ["r-2"]
        assert await books.named("https://acme.example/tickets/5") == ["r-5"]
        assert await books.named("https://acme.example/tickets") == []

    async def test_signs_with_a_meaning_in_sql_mean_themselves(self, books: Books) -> None:
        """A percent sign or a low line in a name matches itself alone."""
        await books.process(await books.page(record(1, url="https://a.example/x%y_z/1")), ['in_1%\\"x'])
        assert await books.named("https://a.example/%/1") == []
        assert await books.named("https://a.example/x%y_z/1/") == ["r-1"]
        assert await books.named("in_1%") == []
        assert await books.named("in%") == []
        assert await books.named('in_1%\\"x') == ["r-1"]

    async def test_an_insight_leads_to_all_it_was_drawn_from(self, books: Books) -> None:
        """Evidence can be followed back: from an insight to each of its signals, by the whole id and no part of one."""
        await books.process(
            await books.page(record(1), record(2), record(3)), ["in-1", "in-2"], ["in-2"], ["IN-1", "ü"]
        )
        assert await books.named("in-2") == ["r-2", "r-1"]
        assert await books.named("in-1") == ["r-1"]
        assert await books.named("ü") == ["r-3"]
        assert await books.named("in-") == []
        assert await books.named("") == []


class TestOrigin:
    async def test_it_names_the_run_the_page_and_the_settings(self, books: Books, clock: Clock) -> None:
        """Where a signal came from can be told to the page, with the settings it was mapped by."""
        await books.page(record(1), number=7)
        found = await books.origin(1)
        assert (found.run, found.command, found.began_at, found.page) == (1, "run-once", clock(), 7)
        assert found.settings is not None
        assert (len(found.settings), found.is_current) == (12, True)
        assert found.characters == len("The export takes too long.")
        assert found.as_json()["page"] == 7

    async def test_settings_that_were_changed_since_are_told(self, books: Books) -> None:
        """A mapping that was changed shows on the signals that were made before it, and not on those after."""
        await books.page(record(1))
        mended = replace(SOURCE, connector=Listed(pages=((record(9),),)))
        await books.page(record(2), origin=mended)
        before, after = await books.origin(1), await books.origin(2)
        assert (before.is_current, after.is_current) == (False, True)
        assert before.settings != after.settings

    async def test_what_is_seen_again_keeps_the_run_that_brought_it(self, books: Books) -> None:
        """A record that later runs see again still names the one that queued it."""
        await books.page(record(1), number=2)
        await books.page(record(1), record(2), number=1)
        assert ((await books.origin(1)).run, (await books.origin(1)).page) == (1, 2)
        assert (await books.origin(2)).run == 2

    async def test_a_reading_that_brought_nothing_is_not_kept(self, books: Books) -> None:
        """A round a minute that finds nothing adds nothing to the ledger."""
        await books.page(record(1))
        for _ in range(3):
            await books.page(record(1))
        assert [row.run_id for row in await books.ledger.ask(lambda db: db.execute(readings.select()).all())] == [1]

    async def test_the_account_a_signal_was_posted_with_is_kept(self, books: Books) -> None:
        """The account of a body is known when the body is long gone; the CRM's id counts before Zentrik's."""
        await books.page(
            record(1, account_id="a-1", account_external_id="crm-1"), record(2, account_id="a-1"), record(3)
        )
        assert [(await books.origin(number)).account for number in (1, 2, 3)] == ["crm-1", "a-1", None]

    async def test_without_a_run_nothing_is_made_up(self, books: Books) -> None:
        """What a rebuild found has no run, no page and no settings, and says so."""
        await books.page(record(1))
        await books.ledger.change(lambda db: db.execute(signals.update().values(first_run=None, first_page=None)))
        found = await books.origin(1)
        assert (found.run, found.command, found.page, found.settings) == (None, None, None, None)


async def test_a_thousand_at_most_are_listed(books: Books) -> None:
    """An address that half a ledger shares does not fill the memory."""
    await books.page(*(record(number, url="https://acme.example/") for number in range(1002)))
    found: list[report.SignalRow] = await books.ledger.ask(named, "https://acme.example/")
    assert len(found) == 1000
    assert found[0].external_id == "listed:reviews:r-1001"
