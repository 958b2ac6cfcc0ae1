"""Gong: the transcripts of calls.

- `POST /v2/calls/extensive`: the calls that started in a span of time, with who took part, about 100 to a page.
- `POST /v2/calls/transcript`: what was said in up to 100 of them. It knows speakers by number only.

Calls are found by their start alone, not by when they were processed, so every reading goes `overlap` back behind the
one before. A transcript comes hours after its call, up to a day or so; nothing says that it is there but that it is.

Nothing found is a 404 with words of its own. The cursor stands in the body, and is there while there is more; it lives
for an hour, so it is kept in no checkpoint: a span that was not read to its end is read again.

Documented limits: 3 calls a second and 10,000 a day for a whole company, all that it has connected together.
Unconfirmed: that a span may be 90 days at most, which one client says, though a year was seen to be taken: a longer one
that is refused is asked for again in pieces of 90 days. Also that sentences are timed in milliseconds, which most
clients say and a few deny.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, TypeVar

import httpx
from pydantic import Field, SecretStr, ValidationError

from syncd.connector import Checkpoint, Duration, Limit, Link, Page, Person, Record, Window, lasting
from syncd.kit.api import Api
from syncd.kit.conversation import Said, transcript
from syncd.kit.paging import Trail, batches, moment
from syncd.kit.pending import Pending
from syncd.kit.people import company
from syncd.kit.shapes import CamelShape, Instant, Items, Many, Shape, Tray, Words, present, read, readable

CALLS = "/v2/calls/extensive"
TRANSCRIPTS = "/v2/calls/transcript"
MOST = 100
"""Calls whose transcripts are asked for at once."""

MOST_WAITING = 200
"""Calls without a transcript that a checkpoint has room for."""

NOT_YET = timedelta(minutes=5)
"""What only just began is left for the next reading."""

SURE = timedelta(days=90)
"""A span that nobody says is too long."""

BEGINNING = datetime(2015, 1, 1, tzinfo=UTC)
"""Gong was founded then."""

LONGEST = 10_000_000
"""Seconds; no call lasts as long."""

NOTHING = "No calls found corresponding"
ROLES = {"External": "customer", "Internal": "colleague"}


class Records(Shape):
    cursor: str | None = None


class Errors(Shape):
    errors: Many[str]


class Answer(CamelShape):
    records: Records | None = None


A = TypeVar("A", bound=Answer)


class Calls(Answer):
    calls: Items


class Transcripts(Answer):
    call_transcripts: Items


class MetaData(CamelShape):
    id: str = Field(min_length=1)
    started: Instant
    url: str | None = None
    title: Words = ""
    duration: float | None = Field(None, ge=0, le=LONGEST)
    is_private: bool | None = None
    direction: str | None = None
    system: str | None = None
    language: str | None = None
    purpose: str | None = None


class Call(CamelShape):
    meta_data: MetaData
    parties: Items = ()

    @property
    def id(self) -> str:
        return self.meta_data.id


class Party(CamelShape):
    name: Words = ""
    email_address: Words = ""
    speaker_id: str | None = None
    affiliation: str | None = None


class Sentence(Shape):
    start: float | None = Field(None, ge=0, le=LONGEST * 1000)
    text: Words


class Monologue(CamelShape):
    speaker_id: str | None = None
    sentences: Many[Sentence] = ()


class CallTranscript(CamelShape):
    call_id: str
    transcript: Many[Monologue] = ()


@dataclass(slots=True)
class Place:
    """How far the calls were read, which of them wait for a transcript, and what no page has told of yet."""

    until: datetime | None
    pending: Pending
    seen: set[str] = field(default_factory=set)
    filtered: int = 0
    unchanged: int = 0

    def page(self, tray: Tray, records: Sequence[Record] = ()) -> Page:
        page = Page(
            records=records,
            set_aside=tray.aside,
            filtered=self.filtered,
            unchanged=self.unchanged,
            checkpoint={
                "until": self.until.isoformat() if self.until else None,
                "pending": self.pending.as_json(),
            },
        )
        self.filtered = self.unchanged = 0
        return page


class Gong(Api):
    """Transcripts of a company's calls."""

    provider: ClassVar[str] = "gong"
    windowed: ClassVar[bool] = True

    access_key: str = Field(min_length=1, description="The access key (Company settings > Ecosystem > API).")
    access_key_secret: SecretStr = Field(description="Its secret, which is shown once.")
    workspace_id: str | None = Field(
        None, coerce_numbers_to_str=True, description="The id of the only workspace whose calls are read."
    )
    include_private: bool = Field(False, description="Whether calls that are marked private are imported too.")
    overlap: Duration = Field(
        timedelta(days=14), description="How far behind the one before each reading begins, for calls that came late."
    )
    give_up_after: Duration = Field(
        timedelta(days=14), description="A call that has no transcript for so long is set aside."
    )
    span: Annotated[Duration, lasting(timedelta(hours=1))] = Field(
        timedelta(days=365),
        description="The longest span of time that is asked for at once; 90d where Gong takes no longer one.",
    )

    def home(self) -> str:
        return "https://api.gong.io"

    def auth(self) -> httpx.Auth:
        return httpx.BasicAuth(self.access_key, self.access_key_secret.get_secret_value())

    def limits(self) -> Sequence[Limit]:
        return Limit(3, timedelta(seconds=1)), Limit(10_000, timedelta(days=1))

    def advice(self, answer: httpx.Response) -> str | None:
        match answer.status_code:
            case 400 if b"cursor" in answer.content and b"expired" in answer.content:
                return "The list took longer than its cursor lives; the next run reads that span of time again"
            case 401:
                return (
                    f"Gong does not know this key at {answer.request.url.host}. Each company has an address of its "
                    "own, which stands beside the key (https://us-12345.api.gong.io): is it set as base_url? Or the "
                    "key was deleted, or has expired"
                )
            case 403:
                return (
                    "The key lacks the scope api:calls:read:extensive or api:calls:read:transcript, or this machine's "
                    "address is not on the list of addresses that may use it"
                )
            case 404:
                return "Is base_url the address that stands beside the key, without /v2"
            case 429:
                return "Gong allows 10,000 calls a day to all that a company has connected together"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        await self._ask(http, CALLS, {"filter": {"callIds": ["0"]}}, Calls)  # there is none, which is a good answer
        return f"the calls can be read at {httpx.URL(self.base).host}"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        place = Place(moment(checkpoint, "until"), Pending.of(checkpoint))
        until = window.now.replace(microsecond=0) - NOT_YET
        since = max(filter(None, [window.since, place.until and place.until - self.overlap]), default=BEGINNING)
        until, longest = min(until, window.until or until), self.span
        while since < until:
            end = min(since + longest, until)
            try:
                async for items in self._calls(http, {"fromDateTime": _iso(since), "toDateTime": _iso(end)}):
                    async for page in self._listed(http, items, place, window):
                        yield page
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 400 or end - since <= SURE:
                    raise
                longest = SURE
                continue
            place.until = since = end
            yield place.page(Tray("Gong call"))
        async for page in self._late(http, place, window):
            yield page

    async def _calls(self, http: httpx.AsyncClient, which: Mapping[str, Any]) -> AsyncGenerator[Sequence[Any], None]:
        """The calls that a filter names, page by page."""
        workspace = {"workspaceId": self.workspace_id} if self.workspace_id else {}
        asked = {"filter": {**which, **workspace}, "contentSelector": {"exposedFields": {"parties": True}}}
        async for answer in self._pages(http, CALLS, asked, Calls):
            yield answer.calls

    async def _pages(
        self, http: httpx.AsyncClient, path: str, asked: Mapping[str, Any], shape: type[A]
    ) -> AsyncGenerator[A, None]:
        """All the answers to a question; the filter stays as it is while the cursor moves."""
        trail = Trail()
        cursor: str | None = None
        while True:
            answer = await self._ask(http, path, {**asked, **({"cursor": cursor} if cursor else {})}, shape)
            if answer is None:
                return
            yield answer
            if not (cursor := trail.follow(answer.records.cursor if answer.records else None)):
                return

    async def _ask(self, http: httpx.AsyncClient, path: str, asked: Mapping[str, Any], shape: type[A]) -> A | None:
        """One answer; None for the 404 by which Gong says that there is nothing."""
        try:
            answer = await http.post(self.url(path), json=asked, extensions={"idempotent": True})
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404 and _says_nothing(error.response):
                return None
            raise
        return read(answer, shape)

    async def _listed(
        self, http: httpx.AsyncClient, items: Sequence[Any], place: Place, window: Window
    ) -> AsyncGenerator[Page, None]:
        """What is new of a page of calls. One without anything new is told of later, for there may be many."""
        tray = Tray("Gong call")
        calls = {call.id: call for call in tray.read(items, Call, "metaData.id")}
        place.seen.update(calls)
        wanted = {
            id_: call for id_, call in calls.items() if self._may_be_read(call) and window.holds(call.meta_data.started)
        }
        place.filtered += len(calls) - len(wanted)
        new = await self._unknown(list(wanted), place, window)
        for some in batches(new, MOST):
            told = await self._transcripts(http, tray, some)
            records = self._records(tray, some, wanted, told, place, window.now)
            if records or tray.aside:
                yield place.page(tray, records)
                tray = Tray("Gong call")
        if tray.aside:
            yield place.page(tray)

    async def _late(self, http: httpx.AsyncClient, place: Place, window: Window) -> AsyncGenerator[Page, None]:
        """The calls that waited for a transcript, and began before what was listed."""
        waiting = await self._unknown([id_ for id_ in place.pending.since if id_ not in place.seen], place, window)
        for some in batches(waiting, MOST):
            tray = Tray("Gong call")
            told = await self._transcripts(http, tray, some)
            calls: dict[str, Call] = {}
            if told:
                async for items in self._calls(http, {"callIds": list(told)}):
                    calls |= {call.id: call for call in tray.read(items, Call, "metaData.id")}
            for id_, call in calls.items():
                if not self._may_be_read(call):
                    place.pending.done(id_)
                    place.filtered += 1
            left = [id_ for id_ in some if id_ in place.pending.since]
            yield place.page(tray, self._records(tray, left, calls, told, place, window.now))
        if place.unchanged:
            yield place.page(Tray("Gong call"))

    def _may_be_read(self, call: Call) -> bool:
        return self.include_private or not call.meta_data.is_private

    async def _unknown(self, ids: Sequence[str], place: Place, window: Window) -> Sequence[str]:
        """Those of some calls that the ledger does not have."""
        known = await window.known(dict.fromkeys(ids))
        for id_ in ids:
            if id_ in known:
                place.pending.done(id_)
                place.unchanged += 1
        return [id_ for id_ in ids if id_ not in known]

    async def _transcripts(
        self, http: httpx.AsyncClient, tray: Tray, ids: Sequence[str]
    ) -> Mapping[str, CallTranscript]:
        """What was said in some calls; those that have no transcript are not in it."""
        told: dict[str, CallTranscript] = {}
        async for answer in self._pages(http, TRANSCRIPTS, {"filter": {"callIds": list(ids)}}, Transcripts):
            for one in tray.read(answer.call_transcripts, CallTranscript, "callId"):
                if any(sentence.text.strip() for part in one.transcript for sentence in part.sentences):
                    told[one.call_id] = one
        return told

    def _records(
        self,
        tray: Tray,
        ids: Sequence[str],
        calls: Mapping[str, Call],
        told: Mapping[str, CallTranscript],
        place: Place,
        now: datetime,
    ) -> list[Record]:
        """A record of each call of which both halves are there; the others wait."""
        records: list[Record] = []
        for id_ in ids:
            if id_ in calls and id_ in told:
                place.pending.done(id_)
                records += filter(None, [tray.record(_record, calls[id_], told[id_])])
            elif place.pending.is_over(id_, now, self.give_up_after):
                tray.put_aside(id_, f"Gong had no transcript of it since {place.pending.since[id_]:%Y-%m-%d}")
                place.pending.done(id_)
            elif id_ in place.pending.since or len(place.pending.since) < MOST_WAITING:
                place.pending.wait(id_, now)
            else:
                tray.put_aside(id_, f"Gong has no transcript of it, and {MOST_WAITING} other calls are waited for")
        return records


def _says_nothing(answer: httpx.Response) -> bool:
    try:
        return any(error.startswith(NOTHING) for error in Errors.model_validate_json(answer.content).errors)
    except ValidationError:
        return False


def _record(call: Call, told: CallTranscript) -> Record:
    about = call.meta_data
    parties = readable(call.parties, Party)
    people = tuple(
        Person(party.name or None, party.email_address or None, ROLES.get(party.affiliation or "", "participant"))
        for party in parties
        if party.name or party.email_address
    )
    return Record(
        id=about.id,
        kind="transcript",
        title=about.title or f"Gong call {about.id}",
        text=_text(told, parties),
        occurred_at=about.started,
        links=(
            Link(about.url or f"https://app.gong.io/call?id={about.id}", "Open Gong call", "transcript", primary=True),
        ),
        people=people,
        organisation=company(people),
        attributes=present(
            callId=about.id,
            durationSeconds=int(about.duration) if about.duration else None,
            direction=about.direction,
            system=about.system,
            language=about.language,
            purpose=about.purpose,
        ),
    )


def _text(told: CallTranscript, parties: Sequence[Party]) -> str:
    """What was said, by whom. Speakers without a name are numbered, so that two of them are not taken for one."""
    names = {
        party.speaker_id: name for party in parties if party.speaker_id and (name := party.name or party.email_address)
    }
    speakers = dict.fromkeys(part.speaker_id for part in told.transcript if part.speaker_id)
    unnamed = [id_ for id_ in speakers if id_ not in names]
    names |= {id_: f"Speaker {number}" for number, id_ in enumerate(unnamed, start=1)}
    return transcript(
        Said(
            names.get(part.speaker_id or ""),
            sentence.text,
            timedelta(milliseconds=sentence.start) if sentence.start is not None else None,
        )
        for part in told.transcript
        for sentence in part.sentences
    )


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
