"""Forget: what is asked for is gone here and at Zentrik, stays away, and everything that was not done is told."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from syncd.audit import Kind
from syncd.fates import Accepted, Unknown
from syncd.forget import Certificate, Order, forget
from syncd.ledger import Answer, Claimed, Ledger, Sighting, State, erasure, report
from syncd.ledger import subjects as noted
from syncd.ledger.tables import bodies, events, metadata, subjects
from syncd.preview import preview
from syncd.pull import Pulled, Span
from syncd.rebuild import rebuild
from syncd.records import SetAside
from syncd.sandbox import Faults
from syncd.sandbox.faults import SCOPES
from syncd.signals import Signal
from tests.conftest import Clock, OnSQLite, at, record, rows, signal, source
from tests.test_audit import NAMESPACES, PATIENCE, Desk, name_of

BOB = "address:bob@example.com"


def about(number: int, *whom: str) -> Signal:
    """The signal with that number, speaking of these."""
    return replace(signal(number), name=f"Bob's {number}", place=f"row {number}", subjects=whom)


@pytest.fixture
def desk(ledger: Ledger, clock: Clock) -> Desk:
    return Desk(ledger, clock)


async def carry_out(desk: Desk, order: Order, key: str = "sandbox-key", **more: Any) -> Certificate:
    """Carry an order out; lost answers stay lost unless `settle` is given."""

    async def settle() -> None:
        return None

    async with at(desk.sandbox, desk.clock, key=key) as zentrik:
        more = {"settle": settle} | more
        return await forget(desk.ledger, zentrik, order, desk.run, desk.clock, patience=PATIENCE, **more)


def fates(done: Certificate) -> dict[str, tuple[bool, str | None]]:
    return {item.found.external_id: (item.is_forgotten, item.why) for item in done.items}


async def everything(ledger: Ledger) -> str:
    """All that the ledger holds, as one text."""

    def dump(db: sa.Connection) -> str:
        return "\n".join(repr(tuple(row)) for table in metadata.sorted_tables for row in db.execute(sa.select(table)))

    return await ledger.ask(dump)


async def test_what_a_person_is_in_is_erased_here_and_there_and_nothing_else(desk: Desk) -> None:
    """Somebody asks by their address: every signal that speaks of them is gone, and no other is touched."""
    await desk.deliver(about(1, BOB), about(2, "address:ann@example.com"), about(3, "account:acme", BOB))
    before = {row.external_id: row for row in await rows(desk.ledger)}
    done = await carry_out(desk, Order(emails=("Bob@Example.com",)))
    assert done.is_done
    assert fates(done) == {name_of(1): (True, None), name_of(3): (True, None)}
    assert [len(desk.sandbox.books.with_external_id(name_of(each))) for each in (1, 2, 3)] == [0, 1, 0]
    assert set(done.insight_ids) == {*before[name_of(1)].insight_ids, *before[name_of(3)].insight_ids}
    after = await rows(desk.ledger)
    assert [row.state for row in after] == [State.FORGOTTEN, State.PROCESSED, State.FORGOTTEN]
    assert after[1] == before[name_of(2)]
    held = await everything(desk.ledger)
    for word in (name_of(1), name_of(3), "Bob's 1", "row 3"):
        assert word not in held
    assert await desk.ledger.ask(lambda db: db.scalars(sa.select(bodies.c.signal_id)).all()) == [after[1].id]


async def test_a_forgotten_record_never_comes_in_again(desk: Desk) -> None:
    """The record is shown by its source again, changed or not, and found by a rebuild or a retry: it stays away."""
    await desk.deliver(about(1, BOB))
    await carry_out(desk, Order(external_ids=(name_of(1),)))
    await desk.ledger.start_pull(source(), desk.run, desk.clock())
    for again in (about(1, BOB), signal(1, "It says something else now.")):
        tally = await desk.ledger.record_page(source(), [again], [], {}, desk.run, desk.clock())
        assert (tally.new, tally.changed, tally.unchanged) == (0, 0, 1)
    assert await desk.ledger.ask(report.versions, [name_of(1)]) == {name_of(1): None}
    [row] = await rows(desk.ledger)
    assert (row.state, row.due_at, row.name) == (State.FORGOTTEN, None, None)
    assert await desk.ledger.requeue([row.id], State.FORGOTTEN, desk.run, desk.clock()) == set()
    await desk.ledger.note_deleted([row.id], desk.run, desk.clock())
    assert [each.state for each in await rows(desk.ledger)] == [State.FORGOTTEN]
    assert (await desk.row(1)).external_id.startswith("forgotten:")  # it is found by its name, and does not say it


async def test_a_dry_run_of_its_source_shows_it_as_known(desk: Desk) -> None:
    """What `--dry-run` shows is what a run would post: a forgotten record is not in it."""
    await desk.queue(signal(1))
    await carry_out(desk, Order(external_ids=(name_of(1),)))
    pulled = Pulled()
    async with httpx.AsyncClient() as http:
        listed = source((record(1), record(2)))
        shown = [each async for each in preview(listed, http, desk.ledger.database, desk.clock, Span(), pulled)]
    assert [each.external_id for each in shown] == [name_of(2)]
    assert (pulled.new, pulled.unchanged, pulled.changed) == (1, 1, 0)


async def test_what_zentrik_never_had_is_gone_at_once(desk: Desk) -> None:
    """A signal that still waits is never posted, and what was set aside beside it is gone."""
    await desk.queue(about(1, BOB))
    await desk.ledger.start_pull(source(), desk.run, desk.clock())
    aside = [SetAside("row 1", "bob@example.com is no date")]
    await desk.ledger.record_page(source(), [], aside, {}, desk.run, desk.clock())
    done = await carry_out(desk, Order(emails=("bob@example.com",)))
    assert done.is_done
    assert desk.sandbox.books.created == 0
    assert (await desk.ledger.exchange([], 10, desk.run, desk.clock())).claimed == []
    assert "bob" not in (await everything(desk.ledger)).lower()


async def test_without_the_scope_it_is_erased_here_and_the_rest_is_told_and_made_good(desk: Desk) -> None:
    """A key that may not delete: the scope is named, the record stays out meanwhile, and the next order goes on."""
    await desk.deliver(about(1, BOB))
    desk.sandbox.faults = Faults(scopes=tuple(scope for scope in SCOPES if scope != "signals:delete"))
    done = await carry_out(desk, Order(emails=("bob@example.com",)))
    assert not done.is_done
    [(is_forgotten, why)] = fates(done).values()
    assert not is_forgotten
    assert "signals:delete" in str(why)
    assert "Bob's" not in await everything(desk.ledger)
    await desk.ledger.start_pull(source(), desk.run, desk.clock())
    tally = await desk.ledger.record_page(source(), [signal(1, "New.")], [], {}, desk.run, desk.clock())
    assert (tally.new, tally.changed, tally.unchanged) == (0, 0, 1)

    desk.sandbox.faults = Faults()
    desk.clock.move(60)
    assert list((await desk.audit()).counts.items())[-1] == (Kind.FORGOTTEN, 1)
    done = await carry_out(desk, Order(emails=("bob@example.com",)))
    assert (done.is_done, fates(done)) == (True, {name_of(1): (True, None)})
    assert len(desk.sandbox.books) == 0
    again = await carry_out(desk, Order(external_ids=(name_of(1),)))
    assert (again.is_done, again.survey.already, again.items) == (True, (name_of(1),), [])


async def test_what_turns_up_at_zentrik_again_is_found_and_deleted_by_the_audit(desk: Desk) -> None:
    """A double, or a post that came late: under a forgotten name nothing is entered, and `audit --apply` deletes it."""
    await desk.deliver(about(1, BOB))
    await carry_out(desk, Order(external_ids=(name_of(1),)))
    desk.put(name_of(1))
    found = await desk.audit()
    assert [(each.kind, each.external_id) for each in found.differences] == [(Kind.FORGOTTEN, name_of(1))]
    applied = await desk.apply(found)
    assert applied.done == {Kind.FORGOTTEN: 1}
    assert len(desk.sandbox.books) == 0
    assert (await desk.audit()).differences == []


async def claimed_one(desk: Desk) -> Claimed:
    [one] = (await desk.ledger.exchange([], 1, desk.run, desk.clock())).claimed
    return one


async def test_one_whose_fate_nobody_knows_is_settled_first(desk: Desk) -> None:
    """A signal that may be at Zentrik is looked for before it is erased, so that none is left there unseen."""
    await desk.queue(about(1, BOB))
    one = await claimed_one(desk)
    lost = Answer(one, Unknown("the line broke"), desk.clock(), desk.clock())
    await desk.ledger.exchange([lost], 0, desk.run, desk.clock())
    done = await carry_out(desk, Order(emails=("bob@example.com",)))
    assert not done.is_done
    assert "nobody knows" in str(fates(done)[name_of(1)][1])
    assert (await desk.row(1)).name == "Bob's 1"

    async def find() -> None:
        desk.put(name_of(1))
        [row] = await rows(desk.ledger)
        public_id = str(desk.sandbox.books.with_external_id(name_of(1))[0]["publicId"])
        sighting = Sighting(row.id, one.attempt, Accepted(public_id, None), desk.clock())
        await desk.ledger.settle_unknowns([sighting], desk.run, desk.clock())

    done = await carry_out(desk, Order(emails=("bob@example.com",)), settle=find)
    assert (done.is_done, len(desk.sandbox.books)) == (True, 0)


async def test_an_answer_that_comes_after_all_is_not_lost(desk: Desk) -> None:
    """A frozen syncd had posted it and wakes up after it was forgotten: what it brought to Zentrik is deleted next."""
    await desk.queue(about(1, BOB))
    one = await claimed_one(desk)
    await desk.ledger.exchange([], 0, desk.run, desk.clock(), unposted=[one])
    await carry_out(desk, Order(emails=("bob@example.com",)))
    desk.put(name_of(1))
    await desk.ledger.exchange(
        [Answer(one, Accepted("SIGNAL-1", None), desk.clock(), desk.clock())], 0, desk.run, desk.clock()
    )
    [stone] = await desk.ledger.ask(erasure.pending)
    assert (stone.public_id, stone.state) == ("SIGNAL-1", State.FORGOTTEN)
    done = await carry_out(desk, Order(external_ids=(name_of(1),)))
    assert (done.is_done, len(desk.sandbox.books)) == (True, 0)
    assert await desk.ledger.ask(erasure.pending) == []


async def test_what_no_connector_claims_is_deleted_too(desk: Desk) -> None:
    """A signal from before this ledger, known by its name alone, is erased, and its record stays out."""
    desk.put("interviews:bob")
    desk.run = await desk.ledger.start_run("ledger rebuild", desk.clock())
    async with at(desk.sandbox, desk.clock) as zentrik:
        await rebuild(desk.ledger, zentrik, NAMESPACES, desk.run, desk.clock, PATIENCE)
    done = await carry_out(desk, Order(external_ids=("interviews:bob",)))
    assert (done.is_done, len(desk.sandbox.books)) == (True, 0)
    assert "interviews:bob" not in await everything(desk.ledger)
    desk.put("interviews:bob")
    async with at(desk.sandbox, desk.clock) as zentrik:
        rebuilt = await rebuild(desk.ledger, zentrik, NAMESPACES, desk.run, desk.clock, PATIENCE)
    assert (rebuilt.remembered, rebuilt.entered.total(), rebuilt.known) == (0, 0, 1)


class TestWhatIsNoted(OnSQLite):
    async def test_no_address_is_kept_only_a_digest(self, desk: Desk) -> None:
        """The ledger can find a person, and cannot name one."""
        await desk.queue(about(1, BOB, "account:acme"))
        digests = await desk.ledger.ask(lambda db: db.scalars(sa.select(subjects.c.digest)).all())
        key = await desk.ledger.change(noted.key)
        assert set(digests) == {noted.digest(key, BOB), noted.digest(key, "account:acme")}
        assert {len(each) for each in digests} == {16}
        assert await desk.ledger.change(noted.key) == key

    async def test_a_changed_record_is_found_by_the_old_and_the_new(self, desk: Desk) -> None:
        """Zentrik may keep the first text: whoever stood in it is found as well as who stands in it now."""
        await desk.deliver(about(1, BOB))
        await desk.queue(replace(signal(1, "New."), subjects=("address:ann@example.com",)))
        for subject in (BOB, "address:ann@example.com"):
            assert [each.external_id for each in await desk.ledger.ask(erasure.find, [], [subject])] == [name_of(1)]

    async def test_what_was_queued_before_anybody_noted_it_is_counted(self, desk: Desk) -> None:
        """An answer to a person's request does not claim to be whole where it cannot be."""
        await desk.queue(signal(1), signal(2))
        await desk.ledger.change(lambda db: db.execute(sa.text("DELETE FROM subject_key")))
        await desk.queue(about(3, BOB))
        survey = await desk.ledger.ask(erasure.look_up, [], {"bob@example.com": BOB})
        assert (len(survey.found), survey.predating) == (1, 2)

    async def test_a_ledger_that_noted_everything_says_so(self, desk: Desk) -> None:
        """No false alarm: records without people are counted as noted."""
        await desk.queue(signal(1))
        await desk.queue(about(2, BOB))
        assert (await desk.ledger.ask(erasure.look_up, [], {"bob@example.com": BOB})).predating == 0

    async def test_two_people_take_little_room(self, desk: Desk, tmp_path: Path) -> None:
        """A year of tickets does not outgrow its disk because of whom they speak of: some 60 bytes for two people."""
        many = 4000
        await desk.queue(*(about(n, f"address:a{n}@example.com", f"address:b{n}@example.com") for n in range(many)))
        with closing(sqlite3.connect(tmp_path / "ledger.db")) as db:
            db.execute("VACUUM INTO ?", (str(tmp_path / "with.db"),))
            assert db.execute("DELETE FROM subjects").rowcount == 2 * many
            db.commit()
            db.execute("VACUUM INTO ?", (str(tmp_path / "without.db"),))
        sizes = [(tmp_path / f"{name}.db").stat().st_size for name in ("with", "without")]
        assert 32 < (sizes[0] - sizes[1]) / many <= 64

    async def test_history_keeps_its_times_and_says_nothing(self, desk: Desk) -> None:
        """That something was erased, and when, can be shown; what it was cannot."""
        await desk.deliver(about(1, BOB))
        await carry_out(desk, Order(external_ids=(name_of(1),)))
        told = await desk.ledger.ask(lambda db: db.execute(sa.select(events.c.event, events.c.detail)).all())
        assert [tuple(each) for each in told] == [
            ("accepted", None), ("processed", None), ("forgotten", None), ("deleted at Zentrik", "SIGNAL-1"),
        ]  # fmt: skip

    async def test_the_certificate_says_what_was_asked_and_what_became_of_it(self, desk: Desk) -> None:
        """What is handed to the person holds the address as typed, its digest, and each signal's fate."""
        await desk.deliver(about(1, BOB))
        order = Order(("listed:reviews:r-9",), ("Bob@example.com",), ())
        survey = await desk.ledger.ask(erasure.look_up, order.external_ids, order.subjects)
        dry = Certificate.of(order, survey, desk.clock()).as_json()
        assert (dry["dryRun"], dry["done"]) == (True, False)
        done = json.loads(json.dumps((await carry_out(desk, order)).as_json()))
        assert (done["dryRun"], done["done"], done["unknown"]) == (False, False, ["listed:reviews:r-9"])
        assert done["asked"]["emails"][0]["email"] == "Bob@example.com"
        assert len(done["asked"]["emails"][0]["digest"]) == 32
        [item] = done["signals"]
        assert item | {"insightIds": []} == {
            "externalId": name_of(1), "connector": "reviews", "was": "processed", "publicId": "SIGNAL-1",
            "fate": "forgotten", "why": None, "insightIds": [],
        }  # fmt: skip
        assert done["insightsForReview"] == item["insightIds"]
