"""What was queued before redaction was asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from syncd.edits import Edits
from syncd.fates import Accepted, Processed, Refused
from syncd.late_redaction import redact_unsent
from syncd.ledger import Answer, Ledger, Look, State, report, revisions, unsent
from syncd.redaction import Redaction
from syncd.signals import Signal, compose
from tests.conftest import Clock, record, rows, source

SOURCE = source()
MASKED = replace(SOURCE, redaction=Redaction())
TEXT = "Write to jane@example.org"


def signal(number: int, text: str = TEXT, **more: object) -> Signal:
    return compose(record(number, text, **more), SOURCE)


async def queued(ledger: Ledger, clock: Clock, *page: Signal) -> int:
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(SOURCE, run, clock())
    await ledger.record_page(SOURCE, page, [], {"page": 1}, run, clock())
    return run


async def texts(ledger: Ledger) -> list[str | None]:
    kept = [await ledger.ask(report.body, row) for row in await rows(ledger)]
    return [json.loads(body)["text"] if body else None for body in kept]


async def test_it_goes_through_before_anything_is_posted(ledger: Ledger, clock: Clock) -> None:
    """Turning redaction on is enough: nothing that waits leaves as it was, and its history says why it is another."""
    run = await queued(ledger, clock, signal(1), signal(2, "Fine."), signal(3, title="From jane@example.org"))
    [refused] = (await ledger.exchange([], 1, run, clock())).claimed
    await ledger.exchange([Answer(refused, Refused("no"), clock())], 0, run, clock())
    await redact_unsent(ledger, [MASKED], clock)
    first, plain, named = await rows(ledger)
    assert await texts(ledger) == ["Write to [email]", "Fine.", "Write to [email]"]
    assert [first.state, plain.state] == [State.REJECTED, State.QUEUED]
    assert (first.redacted, plain.redacted, named.redacted) == ({"email": 1}, None, {"email": 2})
    assert named.name == "From [email]"
    [*_, last] = await ledger.ask(report.history, first)
    assert (last.event, last.detail) == ("redacted", "1 e-mail address taken out")


async def test_the_record_is_the_same_when_it_is_read_again(ledger: Ledger, clock: Clock) -> None:
    """A body that was redacted late is no other than one that was redacted in time: nothing counts as changed."""
    run = await queued(ledger, clock, signal(1))
    await redact_unsent(ledger, [MASKED], clock)
    tally = await ledger.record_page(MASKED, [compose(record(1, TEXT), MASKED)], [], None, run, clock())
    assert (tally.new, tally.changed, tally.unchanged) == (0, 0, 1)


async def test_it_is_done_once_and_again_when_redaction_changes(ledger: Ledger, clock: Clock) -> None:
    """A start costs nothing where nothing changed; what is turned off and on again is looked at again."""
    await queued(ledger, clock, signal(1))
    await redact_unsent(ledger, [replace(SOURCE, redaction=Redaction(keep=frozenset({"example.org"})))], clock)
    assert await texts(ledger) == [TEXT]
    await redact_unsent(ledger, [MASKED], clock)
    assert await texts(ledger) == ["Write to [email]"]
    await redact_unsent(ledger, [SOURCE], clock)
    assert await ledger.ask(unsent.redactions) == {}
    await redact_unsent(ledger, [MASKED], clock)
    assert await ledger.ask(unsent.redactions) == {"reviews": Redaction().digest}
    [row] = await rows(ledger)
    assert [event.event for event in await ledger.ask(report.history, row)] == ["queued", "redacted"]


async def test_what_cannot_be_posted_any_more_is_rejected_and_its_body_is_gone(ledger: Ledger, clock: Clock) -> None:
    """An id cannot be mended here: the body can leave on nobody's word any more, and the row says why."""
    await queued(ledger, clock, compose(replace(record(1), id="jane@example.org"), SOURCE))
    await redact_unsent(ledger, [MASKED], clock)
    [row] = await rows(ledger)
    assert (row.state, row.due_at) == (State.REJECTED, None)
    assert row.last_error is not None
    assert "map another id" in row.last_error
    assert await texts(ledger) == [None]


async def test_what_was_claimed_or_changed_meanwhile_is_left_alone(ledger: Ledger, clock: Clock) -> None:
    """What another syncd is posting right now is that one's, and its answer still finds it."""
    run = await queued(ledger, clock, signal(1))
    [taken] = (await ledger.exchange([], 1, run, clock())).claimed
    await redact_unsent(ledger, [MASKED], clock)
    [row] = await rows(ledger)
    assert (row.state, await texts(ledger)) == (State.SENDING, [TEXT])
    assert taken.body == signal(1).body


EDITED = replace(SOURCE, edits=Edits(on_change="append", settle=timedelta(0)))


async def test_a_change_that_is_kept_beside_what_is_being_posted_goes_through_too(ledger: Ledger, clock: Clock) -> None:
    """The new text of a record whose first is under way is redacted before it takes that one's place."""
    run = await queued(ledger, clock, signal(1))
    [taken] = (await ledger.exchange([], 1, run, clock())).claimed
    await ledger.record_page(SOURCE, [signal(1, "Now call jane@example.org")], [], None, run, clock())
    await redact_unsent(ledger, [MASKED], clock)
    await ledger.exchange([Answer(taken, Refused("no"), clock())], 0, run, clock())
    [row] = await rows(ledger)
    assert (row.state, await texts(ledger)) == (State.QUEUED, ["Now call [email]"])
    assert row.redacted == {"email": 1}
    again = compose(record(1, "Now call jane@example.org"), MASKED)
    tally = await ledger.record_page(MASKED, [again], [], None, run, clock())
    assert (tally.changed, tally.unchanged) == (0, 1)


@pytest.mark.parametrize("id_", ["r-1", "jane@example.org"])
async def test_a_change_that_waits_until_it_has_stood_goes_through_too(ledger: Ledger, clock: Clock, id_: str) -> None:
    """What an edit will post is redacted while it waits; where its id cannot be, the change is never posted."""
    first, second = (compose(replace(record(1, text), id=id_), EDITED) for text in (TEXT, "Now jane@example.org"))
    run = await ledger.start_run("test", clock())
    await ledger.start_pull(EDITED, run, clock())
    await ledger.record_page(EDITED, [first], [], None, run, clock())
    [taken] = (await ledger.exchange([], 1, run, clock())).claimed
    await ledger.exchange([Answer(taken, Accepted("SIGNAL-1"), clock(), clock())], 0, run, clock())
    await ledger.record_page(EDITED, [second], [], None, run, clock())
    [waiting] = await ledger.awaited(1, clock())
    await ledger.record_looks([Look(waiting, Processed(()), clock(), None)], run)
    await redact_unsent(ledger, [replace(EDITED, redaction=Redaction())], clock)
    due = await ledger.ask(revisions.settled, [EDITED.name], clock(), 10)
    await ledger.change(revisions.append, due, run, clock())
    posted = [json.loads(each.body)["text"] for each in (await ledger.exchange([], 5, run, clock())).claimed]
    [row, *_] = await rows(ledger)
    told = [event.detail or "" for event in await ledger.ask(report.history, row) if event.event == "redacted"]
    assert posted == (["Now [email]"] if id_ == "r-1" else [])
    assert ["map another id" in detail for detail in told] == [id_ != "r-1"]


async def test_a_source_that_was_never_read_has_nothing_to_do(ledger: Ledger, clock: Clock) -> None:
    """The first start with redaction on an empty ledger is a start like any other."""
    await redact_unsent(ledger, [MASKED], clock)
    assert await rows(ledger) == []
    run = await ledger.start_run("test", clock())
    assert await ledger.start_pull(MASKED, run, clock()) == {}


@pytest.mark.parametrize("number", [250])
async def test_many_are_done_in_batches(ledger: Ledger, clock: Clock, number: int) -> None:
    """A backlog of any size goes through, and none of it is passed over."""
    await queued(ledger, clock, *(signal(each) for each in range(number)))
    await redact_unsent(ledger, [MASKED], clock)
    assert set(await texts(ledger)) == {"Write to [email]"}
