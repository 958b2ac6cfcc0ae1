"""Revise: what a record becomes at Zentrik when it is edited or deleted at its source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction

import pytest
from structlog.testing import capture_logs

from syncd.audit import audit
from syncd.connector import Source
from syncd.dispatch import Delivery, dispatch
from syncd.edits import DeleteGuard, Edits, OnChange
from syncd.ledger import Ledger, State, report, revisions
from syncd.ledger.revisions import Step
from syncd.mirror import Mirror
from syncd.pacing import Gate, LookSchedule
from syncd.reconcile import reconcile
from syncd.revise import Reviser
from syncd.sandbox import Faults, Sandbox
from syncd.signals import Signal, compose
from syncd.track import track
from syncd.zentrik import Listing, Zentrik
from tests.conftest import Clock, OnSQLite, at, at_once, longest, record, rows, signal, source

MINUTES = timedelta(minutes=1)
FAIL = "[sandbox: fail]"
FIRST, SECOND, THIRD = "It is slow.", "It is slow on Mondays.", "It is slow on Fridays."
NO_DELETE = frozenset({"signals:read", "signals:write"})


@dataclass
class Desk:
    """A source whose records change, a ledger, and a Zentrik; `edits` is what the operator wants done."""

    ledger: Ledger
    zentrik: Zentrik
    sandbox: Sandbox
    clock: Clock
    edits: Edits
    run: int = 0

    @property
    def source(self) -> Source:
        return replace(source(), edits=self.edits)

    @property
    def reviser(self) -> Reviser:
        return Reviser(self.ledger, self.zentrik, self.run, self.clock, {"reviews": self.edits})

    async def read(self, *page: Signal, deleted: Sequence[str] = ()) -> tuple[int, int, int]:
        """The source shows a page; what it was to the ledger: new, changed, unchanged."""
        self.run = self.run or await self.ledger.start_run("test", self.clock())
        await self.ledger.start_pull(self.source, self.run, self.clock())
        tally = await self.ledger.record_page(
            self.source, page, [], {}, self.run, self.clock(), deleted=[f"listed:reviews:{id_}" for id_ in deleted]
        )
        await self.ledger.finish_pull(self.source, self.run, None, self.clock())
        return tally.new, tally.changed, tally.unchanged

    async def work(self, minutes: float = 1) -> None:
        """That much later: a round of everything that posts and follows."""
        self.clock.move(minutes * 60)
        reviser, looks = self.reviser, LookSchedule()
        await reviser.begin()
        await dispatch(
            self.ledger, self.zentrik, Gate(), looks, self.run, self.clock, lambda: 0.5, Delivery(concurrency=1)
        )
        self.clock.move(10)
        await track(self.ledger, self.zentrik, looks, self.run, self.clock, longest)
        await reviser.finish()

    async def delivered(self, *page: Signal) -> None:
        """The source shows a page, which is posted and processed."""
        await self.read(*page)
        await self.work()

    def there(self) -> dict[str, str]:
        """What Zentrik has: the text under each externalId."""
        shown = self.sandbox.books.page(100, 0)
        return {each["externalId"]: self.sandbox.books.text(each["publicId"]) for each in shown}

    async def states(self) -> dict[str, State]:
        return {row.external_id.rpartition(":")[2]: row.state for row in await rows(self.ledger)}

    async def under_way(self) -> list[Step]:
        [row, *_] = await rows(self.ledger)
        return [step for step, *_ in await self.ledger.ask(revisions.under_way, row.id)]

    async def history(self) -> list[str]:
        [row, *_] = await rows(self.ledger)
        return [each.event for each in await self.ledger.ask(report.history, row)]


@asynccontextmanager
async def desk(ledger: Ledger, clock: Clock, sandbox: Sandbox | None = None, **edits: object) -> AsyncIterator[Desk]:
    sandbox = sandbox or Sandbox(now=clock)
    async with at(sandbox, clock) as zentrik:
        yield Desk(ledger, zentrik, sandbox, clock, Edits(**edits))  # type: ignore[arg-type]


NAME = "listed:reviews:r-1"


class TestChanges(OnSQLite):
    async def test_ignore_leaves_the_first_text(self, ledger: Ledger, clock: Clock) -> None:
        """Unless somebody asks for it, nothing at Zentrik changes because a record did."""
        async with desk(ledger, clock) as here:
            await here.delivered(signal(1, FIRST))
            assert await here.read(signal(1, SECOND)) == (0, 1, 0)
            await here.work(minutes=60)
            assert here.there() == {NAME: FIRST}
            assert await here.under_way() == []

    @pytest.mark.parametrize("on_change", ["append", "replace"])
    async def test_a_counter_that_changed_is_no_change(self, ledger: Ledger, clock: Clock, on_change: OnChange) -> None:
        """Volatile fields do not count: no second signal, no call, and the figures call it unchanged."""
        async with desk(ledger, clock, on_change=on_change) as here:
            await here.delivered(compose(record(1, FIRST, attributes={"votes": 1}), here.source))
            more = compose(record(1, FIRST, attributes={"votes": 2}, url="https://e.example/1"), here.source)
            assert await here.read(more) == (0, 0, 1)
            await here.work(minutes=60)
            assert here.there() == {NAME: FIRST}
            assert here.sandbox.books.created == 1

    async def test_what_is_not_posted_yet_takes_the_newest_fields_silently(self, ledger: Ledger, clock: Clock) -> None:
        """A queued record is posted as it is by then, and its history does not call that a change."""
        async with desk(ledger, clock, on_change="append") as here:
            await here.read(compose(record(1, FIRST, attributes={"votes": 1}), here.source))
            assert await here.read(compose(record(1, FIRST, attributes={"votes": 2}), here.source)) == (0, 0, 1)
            assert "changed" not in await here.history()
            await here.work()
            [shown] = here.sandbox.books.with_external_id(NAME)
            assert shown["source"]["external_data"]["votes"] == 2

    @pytest.mark.parametrize("on_change", ["append", "replace"])
    async def test_a_chatty_record_is_one_change(self, ledger: Ledger, clock: Clock, on_change: OnChange) -> None:
        """Nothing is done until a record has stood for `settle_changes`; then its last words count."""
        async with desk(ledger, clock, on_change=on_change) as here:
            await here.delivered(signal(1, FIRST))
            for number in range(5):
                await here.read(signal(1, f"{SECOND} {number}"))
                await here.work(minutes=10)
                assert here.there() == {NAME: FIRST}
                assert await here.under_way() == [Step.SETTLING]
            await here.work(minutes=6)
            assert here.sandbox.books.created == 2
            assert f"{SECOND} 4" in here.there().values()

    @pytest.mark.parametrize("on_change", ["append", "replace"])
    async def test_a_record_that_is_itself_again_has_not_changed(
        self, ledger: Ledger, clock: Clock, on_change: OnChange
    ) -> None:
        """A slip that is taken back in time never reaches Zentrik."""
        async with desk(ledger, clock, on_change=on_change) as here:
            await here.delivered(signal(1, FIRST))
            await here.read(signal(1, SECOND))
            await here.read(signal(1, FIRST))
            await here.work(minutes=60)
            assert here.there() == {NAME: FIRST}
            assert await here.under_way() == []

    async def test_a_row_from_before_is_not_called_changed(self, ledger: Ledger, clock: Clock) -> None:
        """A ledger that was written before contents were kept goes on as if they always had been."""
        async with desk(ledger, clock, on_change="append", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            await ledger.change(lambda db: db.exec_driver_sql("UPDATE signals SET content = NULL"))
            assert await here.read(signal(1, FIRST)) == (0, 0, 1)
            votes = compose(record(1, FIRST, attributes={"votes": 2}), here.source)
            assert await here.read(votes) == (0, 0, 1)
            assert await here.read(signal(1, SECOND)) == (0, 1, 0)
            await here.work()
            assert here.there() == {NAME: FIRST, f"{NAME}#2": SECOND}


class TestAppend:
    async def test_each_settled_change_is_a_signal_of_its_own(self, ledger: Ledger, clock: Clock) -> None:
        """Every version that stood is evidence, under a name that tells which it is."""
        async with desk(ledger, clock, on_change="append", settle=5 * MINUTES) as here:
            await here.delivered(signal(1, FIRST))
            for text in (SECOND, THIRD, FIRST):
                await here.read(signal(1, text))
                await here.work(minutes=6)
            texts = {NAME: FIRST, f"{NAME}#2": SECOND, f"{NAME}#3": THIRD, f"{NAME}#4": FIRST}
            assert here.there() == texts
            assert set((await here.states()).values()) == {State.PROCESSED}
            assert (await here.history()).count("appended") == 3

    async def test_it_is_appended_once(self, ledger: Ledger, clock: Clock) -> None:
        """The same words seen again, in any number of rounds, make no other signal."""
        async with desk(ledger, clock, on_change="append", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            for _ in range(4):
                await here.read(signal(1, SECOND))
                await here.work()
            assert here.there() == {NAME: FIRST, f"{NAME}#2": SECOND}

    async def test_a_name_that_is_taken_is_passed_over(self, ledger: Ledger, clock: Clock) -> None:
        """What a lost ledger had appended is found again by a rebuild; the next one is numbered after it."""
        async with desk(ledger, clock, on_change="append", settle=timedelta(0)) as here:
            taken = compose(replace(record(1, THIRD), id="r-1#2"), here.source)
            await here.delivered(signal(1, FIRST), taken)
            await here.read(signal(1, SECOND))
            await here.work()
            assert here.there() == {NAME: FIRST, f"{NAME}#2": THIRD, f"{NAME}#3": SECOND}

    async def test_one_that_is_not_posted_yet_takes_the_newest_words(self, ledger: Ledger, clock: Clock) -> None:
        """While Zentrik takes nothing, a record that goes on changing does not pile up."""
        async with desk(ledger, clock, on_change="append", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            for text in (SECOND, THIRD):
                await here.read(signal(1, text))
                await here.reviser.begin()
            await here.work()
            assert here.there() == {NAME: FIRST, f"{NAME}#2": THIRD}


class TestReplace:
    async def test_the_new_text_takes_the_place_of_the_old(self, ledger: Ledger, clock: Clock) -> None:
        """One signal with the new text is left, and at no time was there none."""
        async with desk(ledger, clock, on_change="replace", settle=5 * MINUTES) as here:
            await here.delivered(signal(1, FIRST))
            for text in (SECOND, THIRD):
                await here.read(signal(1, text))
                await here.work(minutes=6)
                assert here.there() == {NAME: text}
                assert await here.states() == {"r-1": State.PROCESSED}
            assert here.sandbox.books.absences(NAME) == []
            assert await here.under_way() == []
            assert (await here.history()).count("replaced") == 2

    async def test_the_old_one_stays_until_the_new_one_is_processed(self, ledger: Ledger, clock: Clock) -> None:
        """However long processing takes, the former text is there; `show` says so."""
        sandbox = Sandbox(now=clock, processing_takes=timedelta(minutes=30))
        async with desk(ledger, clock, sandbox, on_change="replace", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            await here.work(minutes=40)
            await here.read(signal(1, SECOND))
            await here.work()
            assert here.there() == {NAME: SECOND, f"{NAME}~replaced-1": FIRST}
            assert await here.under_way() == [Step.POSTING]
            await here.work(minutes=40)
            assert here.there() == {NAME: SECOND}
            assert sandbox.books.absences(NAME) == []

    @pytest.mark.parametrize("text", [FAIL, "x" * 11_000_000], ids=["failed", "refused"])
    async def test_a_new_text_that_comes_to_nothing_leaves_the_old_one(
        self, ledger: Ledger, clock: Clock, text: str
    ) -> None:
        """What Zentrik refuses or cannot process never costs the evidence that was there, nor its name."""
        async with desk(ledger, clock, on_change="replace", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            [before] = await rows(ledger)
            await here.read(signal(1, text))
            await here.work()
            await ledger.change(lambda db: db.exec_driver_sql("UPDATE signals SET due_at = NULL"))
            await here.work()
            assert here.there() == {NAME: FIRST}
            assert here.sandbox.books.absences(NAME) == []
            [after] = await rows(ledger)
            assert (after.state, after.public_id, after.insight_ids) == (
                State.PROCESSED,
                before.public_id,
                before.insight_ids,
            )
            assert await here.read(signal(1, text)) == (0, 0, 1)
            await here.read(signal(1, THIRD))
            await here.work()
            assert here.there() == {NAME: THIRD}

    async def test_a_change_during_a_replacement_is_the_next_one(self, ledger: Ledger, clock: Clock) -> None:
        """A record that changes while its last words are being processed ends up with its very last ones."""
        sandbox = Sandbox(now=clock, processing_takes=timedelta(minutes=5))
        async with desk(ledger, clock, sandbox, on_change="replace", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            await here.work(minutes=10)
            await here.read(signal(1, SECOND))
            await here.work()
            await here.read(signal(1, THIRD))
            for _ in range(4):
                await here.work(minutes=10)
            assert here.there() == {NAME: THIRD}
            assert sandbox.books.absences(NAME) == []

    async def test_a_key_that_may_not_delete_begins_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """Without the scope the first text stays under its name, one warning says why, and posting goes on."""
        sandbox = Sandbox(now=clock, faults=Faults(scopes=NO_DELETE))
        async with desk(ledger, clock, sandbox, on_change="replace", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            await here.read(signal(1, SECOND), signal(2, FIRST))
            reviser = here.reviser
            with capture_logs() as logs:
                for _ in range(3):
                    clock.move(3601)
                    await reviser.begin()
            assert [each["reason"] for each in logs if "signals:delete" in str(each)] == [
                "the key lacks the scope signals:delete, see Settings → API Keys "
                "(403: the API key lacks the scope signals:delete)"
            ]
            await here.work(minutes=0)
            assert here.there() == {NAME: FIRST, "listed:reviews:r-2": FIRST}
            sandbox.faults = Faults()
            await here.work(minutes=61)
            assert here.there() == {NAME: SECOND, "listed:reviews:r-2": FIRST}

    async def test_one_that_was_deleted_at_zentrik_is_not_brought_back(self, ledger: Ledger, clock: Clock) -> None:
        """Whoever deleted a signal there meant it: a change at the source does not undo that."""
        async with desk(ledger, clock, on_change="replace", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            await here.read(signal(1, SECOND))
            [row] = await rows(ledger)
            here.sandbox.books.delete(str(row.public_id))
            await here.work()
            await here.work()
            assert here.there() == {}
            assert await here.under_way() == []

    async def test_trouble_at_any_call_only_puts_it_off(self, ledger: Ledger, clock: Clock) -> None:
        """A Zentrik that is away in the middle of a replacement finds it where it was."""
        sandbox = Sandbox(now=clock)
        async with desk(ledger, clock, sandbox, on_change="replace", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            await here.read(signal(1, SECOND))
            for _ in range(8):
                sandbox.faults = Faults(next_reads=("503",) * 2)
                await here.work()
            sandbox.faults = Faults()
            for _ in range(3):
                await here.work()
            assert here.there() == {NAME: SECOND}
            assert sandbox.books.absences(NAME) == []

    async def test_a_lost_answer_is_looked_for_and_not_taken_for_the_old_one(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """When nobody heard that the new text arrived it is found, even while a late page shows the old one under its
        old name; it is never posted twice."""
        sandbox = Sandbox(now=clock)
        async with desk(ledger, clock, sandbox, on_change="replace", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            await here.read(signal(1, SECOND))
            stale = await here.zentrik.list()
            assert isinstance(stale, Listing)
            sandbox.faults = Faults(next_posts=("cut_after",))
            await here.work()
            assert await here.states() == {"r-1": State.UNKNOWN}
            clock.move(60)
            mirror = Mirror()
            mirror.note(stale.signals, clock())
            found = await reconcile(ledger, here.zentrik, here.run, clock, mirror=mirror, pause=at_once)
            assert found.found == 1
            await here.work()
            assert here.there() == {NAME: SECOND}
            assert sandbox.books.created == 2
            assert sandbox.books.absences(NAME) == []

    async def test_an_audit_in_the_middle_of_it_finds_nothing_amiss(self, ledger: Ledger, clock: Clock) -> None:
        """The signal that makes room is ours under its other name: it is neither entered nor deleted as a double."""
        sandbox = Sandbox(now=clock, processing_takes=timedelta(minutes=30))
        async with desk(ledger, clock, sandbox, on_change="replace", settle=timedelta(0)) as here:
            await here.delivered(signal(1, FIRST))
            await here.work(minutes=40)
            await here.read(signal(1, SECOND))
            await here.work()
            assert len(here.there()) == 2
            found = await audit(ledger, here.zentrik, {"listed:reviews": "reviews"}, clock)
            assert found.differences == []


class TestDeletions:
    async def test_keep_leaves_the_signal(self, ledger: Ledger, clock: Clock) -> None:
        """Unless somebody asks for it, nothing is deleted at Zentrik."""
        async with desk(ledger, clock) as here:
            await here.delivered(signal(1, FIRST))
            await here.read(deleted=["r-1"])
            await here.work()
            assert here.there() == {NAME: FIRST}

    async def test_what_the_source_says_was_deleted_goes(self, ledger: Ledger, clock: Clock) -> None:
        """A record deleted at its source is deleted at Zentrik with all that was appended to it; its history says
        why."""
        async with desk(ledger, clock, on_change="append", settle=timedelta(0), on_delete="delete") as here:
            await here.delivered(signal(1, FIRST), signal(2, FIRST))
            await here.read(signal(1, SECOND))
            await here.work()
            await here.read(deleted=["r-1", "never-seen"])
            await here.work()
            assert here.there() == {"listed:reviews:r-2": FIRST}
            assert (await here.states())["r-1"] == State.DELETED
            assert (await here.history())[-1] == "deleted at source"
            await here.read(deleted=["r-1"])
            await here.work()
            assert (await here.history()).count("deleted at source") == 1

    async def test_one_that_was_never_posted_is_not_posted(self, ledger: Ledger, clock: Clock) -> None:
        """A record deleted before its turn came never reaches Zentrik."""
        async with desk(ledger, clock, on_delete="delete") as here:
            await here.read(signal(1, FIRST))
            await here.read(deleted=["r-1"])
            await here.work()
            assert here.sandbox.books.created == 0
            assert await here.states() == {"r-1": State.DELETED}

    async def test_too_many_at_once_are_not_believed(self, ledger: Ledger, clock: Clock) -> None:
        """A source that claims everything was deleted deletes nothing, until a person says so."""
        guard = DeleteGuard(Fraction(5, 100), most=50)
        async with desk(ledger, clock, on_delete="delete", guard=guard) as here:
            await here.delivered(*[signal(number, FIRST) for number in range(40)])
            with capture_logs() as logs:
                await here.read(deleted=["r-1", "r-2", "r-3"])
                await here.work()
                await here.work()
            assert len(here.there()) == 40
            [told] = [each for each in logs if each["log_level"] == "warning"]
            assert (told["deleted"], told["records"]) == (3, 40)
            assert told["to_delete_them"] == "syncd run-once reviews --allow-deletes"
            await here.read(deleted=["r-4"])
            await here.work()
            assert len(here.there()) == 40
            reviser = here.reviser
            reviser.allowed = ["reviews"]
            await reviser.begin()
            assert len(here.there()) == 36

    async def test_the_guard_counts_a_day(self, ledger: Ledger, clock: Clock) -> None:
        """Little by little is a mass deletion too; the next day has its own share."""
        async with desk(ledger, clock, on_delete="delete") as here:
            await here.delivered(*[signal(number, FIRST) for number in range(40)])
            for number in range(4):
                await here.read(deleted=[f"r-{number}"])
                await here.work()
            assert len(here.there()) == 38
            await here.read(signal(2, FIRST), signal(3, FIRST))
            await here.work(minutes=24 * 60)
            await here.read(deleted=["r-9"])
            await here.work()
            assert len(here.there()) == 37

    async def test_a_record_that_is_shown_again_is_not_deleted(self, ledger: Ledger, clock: Clock) -> None:
        """Whoever restores a record before anything came of its deletion loses nothing."""
        async with desk(ledger, clock, on_delete="delete") as here:
            await here.delivered(signal(1, FIRST))
            await here.read(deleted=["r-1"])
            await here.read(signal(1, FIRST))
            await here.work()
            assert here.there() == {NAME: FIRST}

    async def test_a_key_that_may_not_delete_keeps_it(self, ledger: Ledger, clock: Clock) -> None:
        """Without the scope it stays, and goes when the key has it."""
        sandbox = Sandbox(now=clock, faults=Faults(scopes=NO_DELETE))
        async with desk(ledger, clock, sandbox, on_delete="delete") as here:
            await here.delivered(signal(1, FIRST))
            await here.read(deleted=["r-1"])
            await here.work()
            assert here.there() == {NAME: FIRST}
            assert await here.under_way() == [Step.ERASING]
            sandbox.faults = Faults()
            await here.work(minutes=61)
            assert here.there() == {}
