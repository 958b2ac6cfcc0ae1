"""The promises of a source: each fails, with words that help, for a connector that breaks it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import PrivateAttr, SecretStr

from syncd import promises
from syncd.connector import Checkpoint, Page, RateLimited, RawRecord, Record, ShapeChanged, SourceError, Window
from syncd.kit.api import Api
from syncd.kit.paging import Trail, each
from syncd.kit.shapes import Instant, Items, Shape, Tray, Words, read
from syncd.kit.tokens import Bearer
from syncd.promises import PROMISES, SCRIPTS, Case, Vendor

KEY = "made-up-key-71d0"


class Listing(Shape):
    notes: Items
    next: str | None = None


class Line(Shape):
    id: str
    at: Instant


class Note(Line):
    text: Words


class Keeper(Api):
    """Keeps every promise: a list by cursor, and a call for each note's text."""

    provider: ClassVar[str] = "keeper"
    key: SecretStr

    def home(self) -> str:
        return "https://notes.example"

    def auth(self) -> httpx.Auth:
        return Bearer(self.key)

    def advice(self, answer: httpx.Response) -> str | None:
        return "Make a new key" if answer.status_code == 401 else None

    async def check(self, http: httpx.AsyncClient) -> str:
        read(await http.get(self.url("/notes")), Listing)
        return "notes can be read"

    async def listed(self, http: httpx.AsyncClient, cursor: str) -> Listing:
        return read(await http.get(self.url("/notes"), params={"after": cursor}), Listing)

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        trail, cursor = Trail(), str(checkpoint.get("after") or "0")
        while True:
            listing, tray = await self.listed(http, cursor), Tray("note")
            lines = tray.read(listing.notes, Line)
            known = await window.known({line.id: line.at.isoformat() for line in lines})
            fresh = [line.id for line in lines if line.id not in known]
            texts = await each(fresh, lambda id_: http.get(self.url(f"/notes/{id_}")))
            records = tray.records([read(text, Note) for text in texts], _record)
            cursor = listing.next or cursor
            unchanged = len(lines) - len(fresh)
            yield Page(records=records, set_aside=tray.aside, unchanged=unchanged, checkpoint={"after": cursor})
            if not trail.follow(listing.next):
                return


def _record(note: Note) -> Record:
    version = note.at.isoformat()
    return Record(id=note.id, kind="feedback_record", text=note.text, occurred_at=note.at, version=version)


class Notes(Vendor):
    """The vendor: three notes a page, by GET or POST."""

    def __init__(self, notes: Sequence[dict[str, Any]], *, circles: bool = False) -> None:
        super().__init__()
        self.notes = notes
        self.circles = circles

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return httpx.Response(401)
        if request.url.path != "/notes":
            return httpx.Response(200, json=next(one for one in self.notes if request.url.path.endswith(one["id"])))
        start = int(request.url.params.get("after", "0"))
        following = "0" if self.circles else str(start + 3) if start + 3 < len(self.notes) else None
        return httpx.Response(200, json={"notes": self.notes[start : start + 3], "next": following})


def note(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"n-{number}", "at": f"2026-10-{number:02}T09:00:00Z", "text": f"Text {number}."} | more


def case(kind: type[Api], **more: Any) -> Case:
    return Case(
        connector=kind.model_validate({"key": KEY} | more),
        full=lambda: Notes([note(number) for number in range(1, 9)]),
        ids=frozenset(f"n-{number}" for number in range(1, 9)),
        empty=lambda: Notes([]),
        strange=lambda: Notes([note(1, text=" ".join(SCRIPTS))]),
        broken=(lambda: Notes([note(1), note(2, at="the other day")]), "n-2"),
        required="at",
        circling=lambda: Notes([note(1)], circles=True),
        forged=kind.model_validate({"key": "wrong"}),
        later=[
            (lambda: Notes([note(1)]), lambda: Notes([note(1), note(2)]), "n-2"),
            (lambda: Notes([note(1)]), lambda: Notes([note(1, at="2026-10-20T09:00:00Z", text="Edited.")]), "n-1"),
        ],
    )


class Bending(Keeper):
    """One whose pages are bent on the way out."""

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        async for page in super().fetch(http, checkpoint, window):
            yield self.bent(page, checkpoint, window)

    def bent(self, page: Page, begun: Checkpoint, window: Window) -> Page:
        return page


class LosesAtTheEdge(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        return replace(page, records=page.records[:2])


class HasTwoForms(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        other = [replace(record, text="Another.") for record in page.records[:1] if isinstance(record, Record)]
        return replace(page, records=[*page.records, *other])


class WritesTheTime(Bending):
    def bent(self, page: Page, begun: Checkpoint, window: Window) -> Page:
        aged = [replace(record, text=f"Read at {window.now}") for record in page.records if isinstance(record, Record)]
        return replace(page, records=aged)


class LeapsAhead(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        return replace(page, checkpoint={"after": "6"})


class LeapsPastTheEnd(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        return replace(page, checkpoint={"after": "100"})


class Renames(Bending):
    def bent(self, page: Page, begun: Checkpoint, window: Window) -> Page:
        renamed = [replace(record, id=f"{record.id}-{begun.get('after', 0)}") for record in page.records]
        return replace(page, records=renamed if begun else page.records)


def _is_of(since: datetime | None, record: Record | RawRecord) -> bool:
    return isinstance(record, Record) and record.occurred_at == since


class LeavesOutTheDateItself(Bending):
    def bent(self, page: Page, begun: Checkpoint, window: Window) -> Page:
        return replace(page, records=[one for one in page.records if not _is_of(window.since, one)])


class CountsNothing(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        return replace(page, unchanged=0)


class KeepsTheKey(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        return replace(page, checkpoint={**page.checkpoint, "key": self.key.get_secret_value()})


class KeepsEveryId(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        return replace(page, checkpoint={**page.checkpoint, "seen": [f"n-{number}" for number in range(1, 9)]})


class KeepsMuch(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        return replace(page, checkpoint={**page.checkpoint, "much": "x" * 5000})


class SaysNothingOfTheBroken(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        return replace(page, set_aside=())


class WritesAsciiOnly(Bending):
    def bent(self, page: Page, *_: Any) -> Page:
        given = [record for record in page.records if isinstance(record, Record)]
        return replace(page, records=[replace(one, text=ascii(one.text)) for one in given])


class Remembers(Bending):
    """Keeps its place in itself, which a restart forgets."""

    _place: dict[str, Any] = PrivateAttr(default_factory=dict)

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        async for page in Keeper.fetch(self, http, self._place or checkpoint, window):
            self._place.update(page.checkpoint)
            yield replace(page, checkpoint={"after": "6"})


class Catching(Keeper):
    """One that catches what it should let through."""

    caught: ClassVar[type[Exception]] = SourceError
    instead: ClassVar[Exception | None] = None

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        try:
            async for page in super().fetch(http, checkpoint, window):
                yield page
        except self.caught:
            if self.instead:
                raise self.instead from None


class CatchesTheTimeToCome(Catching):
    caught = RateLimited
    instead = SourceError("later")


class CatchesTheChange(Catching):
    caught = ShapeChanged


class AsksAgain(Keeper):
    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        async for page in super().fetch(http, checkpoint, Window(window.now)):
            yield page


class KnowsById(Keeper):
    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        async def known(versions: Mapping[str, str | None]) -> Container[str]:
            return await window.known(dict.fromkeys(versions))

        async for page in super().fetch(http, checkpoint, replace(window, known=known)):
            yield page


class Sleeps(Keeper):
    async def listed(self, http: httpx.AsyncClient, cursor: str) -> Listing:
        await asyncio.sleep(1)
        return await super().listed(http, cursor)


class NeverEnds(Keeper):
    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        for _ in itertools.count():
            async for page in super().fetch(http, checkpoint, window):
                yield page


class FollowsAnyCursor(Keeper):
    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        cursor: str | None = "0"
        while cursor:
            cursor = (await self.listed(http, cursor)).next
            yield Page(checkpoint={})


class EndsQuietly(FollowsAnyCursor):
    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        async for page in super().fetch(http, checkpoint, window):
            yield page
            return


class Posts(Keeper):
    async def listed(self, http: httpx.AsyncClient, cursor: str) -> Listing:
        return read(await http.post(self.url("/notes"), params={"after": cursor}), Listing)


class WantsSomething(Keeper):
    async def listed(self, http: httpx.AsyncClient, cursor: str) -> Listing:
        listing = await super().listed(http, cursor)
        if not listing.notes:
            raise SourceError("there are no notes")
        return listing


class KnowsItsAddress(Keeper):
    def url(self, path: str) -> str:
        return self.home() + path


class ShowsTheKey(Keeper):
    key: str  # type: ignore[assignment]

    def auth(self) -> httpx.Auth:
        return Bearer(SecretStr(self.key))


class AdvisesWithTheKey(Keeper):
    def advice(self, answer: httpx.Response) -> str | None:
        return f"Is {self.key.get_secret_value()} the key"


class ChecksWithTheKey(Keeper):
    async def check(self, http: httpx.AsyncClient) -> str:
        return f"{self.key.get_secret_value()}: {await super().check(http)}"


class ChecksNothing(Keeper):
    async def check(self, http: httpx.AsyncClient) -> str:
        return "all is well"


class AdvisesNothing(Keeper):
    def advice(self, answer: httpx.Response) -> str | None:
        return None


BREAKERS: Sequence[tuple[Any, type[Api], str]] = [
    (promises.gives_every_record, LosesAtTheEdge, r"lost in one reading: \['n-3', 'n-6'\]"),
    (promises.gives_every_record, HasTwoForms, "two different records have the id n-1"),
    (promises.gives_every_record, Sleeps, "it sleeps 1 s: the client waits"),
    (promises.says_the_same_each_time, WritesTheTime, "differ an hour later"),
    (promises.resumes_after_every_page, LeapsAhead, r"lost going on from the checkpoint of page 1.*'n-4'"),
    (promises.resumes_after_every_page, Remembers, "lost going on from the checkpoint of page 1"),
    (promises.ends_with_nothing_new, Renames, "in the second reading only: .*n-7-6"),
    (promises.ends_with_nothing_new, NeverEnds, "goes on asking after 1000 calls"),
    (promises.finds_what_comes_later, LeapsPastTheEnd, "n-2 was added, edited or ready after .*100.* does not come"),
    (promises.finds_what_comes_later, KnowsById, "n-1 was added, edited or ready after .* does not come"),
    (promises.goes_back_to_a_date, LeavesOutTheDateItself, r"2026-10-01 09:00:00: \['n-1'\]"),
    (promises.asks_no_details_of_what_is_known, AsksAgain, "of 8 detail calls these are made again"),
    (promises.asks_no_details_of_what_is_known, CountsNothing, "0 are counted in `Page.unchanged`"),
    (promises.keeps_a_small_checkpoint, KeepsTheKey, "holds a secret"),
    (promises.keeps_a_small_checkpoint, KeepsEveryId, "grows for ever"),
    (promises.keeps_a_small_checkpoint, KeepsMuch, "4096 are allowed"),
    (promises.stops_when_led_in_circles, FollowsAnyCursor, "goes on asking after 1000 calls"),
    (promises.stops_when_led_in_circles, EndsQuietly, "ended the reading with None"),
    (promises.waits_out_a_refusal, Posts, "in place of answer 1 ended the reading.*idempotent"),
    (promises.keeps_what_was_read_before_an_outage, Catching, "down from call 1 on.*let errors through"),
    (promises.says_when_to_come_again, CatchesTheTimeToCome, "come again in two hours.*later"),
    (promises.reads_an_empty_account, WantsSomething, "there are no notes"),
    (promises.takes_every_script_and_null, WritesAsciiOnly, "these words do not arrive: .*日本語"),
    (promises.sets_a_broken_record_aside, SaysNothingOfTheBroken, "n-2 is not among what was set aside"),
    (promises.stops_when_the_shape_changes, CatchesTheChange, "without the field at .* None, not ShapeChanged"),
    (promises.asks_only_its_own_hosts, KnowsItsAddress, "with base_url .*`self.url` makes addresses"),
    (promises.hides_its_secrets, ShowsTheKey, "SecretStr"),
    (promises.hides_its_secrets, AdvisesWithTheKey, "in the message of an error"),
    (promises.hides_its_secrets, ChecksWithTheKey, "in what `check` says"),
    (promises.explains_what_is_wrong, ChecksNothing, "were taken for good"),
    (promises.explains_what_is_wrong, AdvisesNothing, "in general words only"),
]


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
async def test_a_connector_can_keep_them_all(promise: Any) -> None:
    """What is broken below is broken by what each of those connectors does otherwise, and by nothing else."""
    await promise(case(Keeper))


@pytest.mark.parametrize(
    ("promise", "kind", "words"), BREAKERS, ids=[f"{one.__name__}-{kind.__name__}" for one, kind, _ in BREAKERS]
)
async def test_a_broken_promise_is_told_in_words_that_help(promise: Any, kind: type[Api], words: str) -> None:
    """An author learns from the failure what was lost, asked twice or shown, and often how to mend it."""
    with pytest.raises(AssertionError, match=f"(?s){words}"):
        await promise(case(kind))


def test_every_promise_is_shown_to_fail() -> None:
    """A promise that nothing can break would say nothing. Limits are kept by the client, whatever a connector does."""
    assert {promise for promise, *_ in BREAKERS} | {promises.heeds_its_limits} == set(PROMISES)
