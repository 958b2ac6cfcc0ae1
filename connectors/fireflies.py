"""Fireflies.ai: meeting transcripts.

`POST /graphql`, with two queries over one set of fields:

- `transcripts(fromDate, toDate, limit, skip)`: the meetings that started in a span, 50 at most, without a cursor or a
  total: the end is a short page. Newest first as far as anybody saw, so the old checkpoint stands until the walk is
  over. `toDate` is the instant of asking throughout: a meeting that begins meanwhile would move all others.
- `transcript(id)`: one meeting again that was not ready, and has since left the span.

The span is listed without sentences first. Those of ten meetings at a time are asked for with the same query, and only
where the ledger lacks one of the ten: on the small plans calls are dear, and on the large ones sentences are.

There is no filter by time of change, and a transcript comes after its meeting: every reading goes back by `overlap`.

Errors come as `errors[]` under any status, 200 and 500 among them. Documented limits: 50 calls a day (Free), 60 a
minute (Business, Enterprise). UNCONFIRMED: the limit of Pro, and that `x-ratelimit-reset-api` counts seconds; anything
else than a few digits there is passed over.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

import httpx
from pydantic import AliasPath, Field, FiniteFloat, SecretStr, ValidationError

from syncd.connector import (
    Checkpoint,
    Duration,
    Json,
    Limit,
    Link,
    Page,
    Person,
    Record,
    RecordError,
    UnreadableDate,
    Window,
    instant,
)
from syncd.kit.api import Api
from syncd.kit.conversation import Said, transcript
from syncd.kit.paging import Trail, each, moment
from syncd.kit.pending import Pending
from syncd.kit.people import company, role
from syncd.kit.shapes import CamelShape, Instant, Many, Shape, Tray, Words, present, read, readable
from syncd.kit.tokens import Bearer

LISTED = 50
"""The most meetings of one answer."""

LOOK_AGAIN = timedelta(hours=6)
"""A meeting that is done and has no words is asked for once in so long: on the small plans calls are dear."""

SPOKEN = 10
"""The most meetings of one answer with their sentences: more take the API longer than it may take."""

FIELDS = """
fragment Meeting on Transcript {
  id title date duration host_email organizer_email participants is_live transcript_url
  meeting_attendees { displayName name email }
  speakers { name }
  meeting_info { silent_meeting summary_status }
  sentences @include(if: $words) { speaker_name text start_time }
}
"""
MEETINGS = """
query Transcripts($fromDate: DateTime, $toDate: DateTime, $limit: Int, $skip: Int, $words: Boolean!) {
  transcripts(fromDate: $fromDate, toDate: $toDate, limit: $limit, skip: $skip) { ...Meeting }
}
"""
MEETING = """
query Transcript($transcriptId: String!, $words: Boolean!) {
  transcript(id: $transcriptId) { ...Meeting }
}
"""

STATUS = {
    "auth_failed": 401,
    "paid_required": 403,
    "account_cancelled": 403,
    "not_in_team": 403,
    "object_not_found": 404,
    "invalid_arguments": 400,
    "request_timeout": 504,  # it may do better the next time
    "too_many_requests": 429,
}
"""What the codes of errors would be as statuses."""

KEY = (
    "Fireflies does not know this key. Copy it again from Integrations > Fireflies API; one that was made anew there "
    "takes the place of the old one"
)
ADVICE = {
    "paid_required": "The plan of this Fireflies account does not include what was asked for",
    "account_cancelled": "This Fireflies account was cancelled",
    "not_in_team": "The owner of this key is in no Fireflies team any more; make a key as a member of the team",
    "401": KEY,
    "403": KEY,
    "404": "Fireflies serves its API at /graphql: does base_url end before that",
    "429": "Free plans allow 50 calls a day: let this connector run less often (every: 2h)",
}
"""What is to be done, by the code of an error or else its status."""


class Refusal(CamelShape):
    """What an error says beside its message. Everything in it is optional."""

    code: str | None = None
    status: int | None = None
    metadata: Mapping[str, Any] | None = None


class Problem(Shape):
    code: str | None = None
    extensions: Refusal | None = None

    @property
    def known_as(self) -> str:
        """Its code, wherever it stands."""
        return self.code or (self.extensions and self.extensions.code) or ""

    @property
    def status(self) -> int | None:
        """What it is as a status, if that can be told."""
        told = self.extensions.status if self.extensions else None
        return STATUS.get(self.known_as) or (told if told and 400 <= told < 600 else None)


class Refused(Shape):
    errors: Annotated[tuple[Problem, ...], Field(min_length=1)]


class Sentence(Shape):
    speaker_name: str | None = None
    text: Words = ""
    start_time: timedelta | None = None


class Attendee(CamelShape):
    display_name: str | None = None
    name: str | None = None
    email: str | None = None

    @property
    def called(self) -> str | None:
        """Their name, whichever there is."""
        return self.display_name or self.name


class Speaker(Shape):
    name: Words = ""


class Info(Shape):
    silent_meeting: bool | None = None
    summary_status: str | None = None


class Meeting(Shape):
    id: str
    date: Instant
    title: Words = ""
    duration: FiniteFloat | None = None  # minutes
    host_email: str | None = None
    organizer_email: str | None = None
    participants: Many[str] = ()
    meeting_attendees: Many[Any] = ()
    speakers: Many[Any] = ()
    is_live: bool | None = None
    meeting_info: Info | None = None
    transcript_url: str | None = None
    sentences: Many[Sentence] = ()

    @property
    def host(self) -> str | None:
        """The address of whoever held it."""
        return (self.host_email or self.organizer_email or "").strip().lower() or None

    @property
    def version(self) -> str:
        """A digest of all that is listed of it: a new title or another name for a speaker is noticed."""
        told = self.model_dump_json(exclude={"is_live", "meeting_info", "sentences"})
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def status(self) -> str | None:
        """How far Fireflies is with it: processing, processed, failed, skipped."""
        return self.meeting_info.summary_status if self.meeting_info else None

    @property
    def is_under_way(self) -> bool:
        """Whether sentences, or more of them, are still to come."""
        return bool(self.is_live) or (not self.sentences and self.status == "processing")

    @property
    def is_silent(self) -> bool:
        """Whether nothing was said in it, so that there never will be sentences."""
        return self.meeting_info is not None and bool(self.meeting_info.silent_meeting)

    @property
    def is_skipped(self) -> bool:
        """Whether it has no sentences and is to have none. The summary alone is skipped of others as well."""
        return not self.sentences and self.status == "skipped"


class Listed(Shape):
    transcripts: tuple[Any, ...] = Field(validation_alias=AliasPath("data", "transcripts"))


class Found(Shape):
    transcript: Any = Field(validation_alias=AliasPath("data", "transcript"))


@dataclass(frozen=True, slots=True)
class Waiting:
    """The meetings that are not ready, those that were asked for lately and had no words, and the ids of all that this
    reading has looked at."""

    pending: Pending
    wordless: Pending
    judged: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, checkpoint: Checkpoint, now: datetime) -> Waiting:
        wordless = Pending.of(checkpoint, "wordless")
        for id_ in [id_ for id_ in wordless.since if wordless.is_over(id_, now, LOOK_AGAIN)]:
            wordless.done(id_)
        return cls(Pending.of(checkpoint), wordless)

    def is_mute(self, meeting: Meeting) -> bool:
        """Whether it has no words, as far as can be told without asking for them."""
        return meeting.is_silent or meeting.id in self.wordless.since

    def as_checkpoint(self, read_until: datetime | None) -> Checkpoint:
        return {
            "read_until": read_until.isoformat() if read_until else None,
            "pending": self.pending.as_json(),
            "wordless": self.wordless.as_json(),
        }


class Fireflies(Api):
    """Meetings of a Fireflies.ai account."""

    provider: ClassVar[str] = "fireflies"
    windowed: ClassVar[bool] = True

    api_key: SecretStr = Field(description="The API key (Fireflies > Integrations > Fireflies API).")
    overlap: Duration = Field(
        timedelta(days=7),
        description="How far each reading goes back behind the one before, for meetings whose transcript came late. "
        "One that is still being made is waited for so long.",
    )
    calls_per_minute: Annotated[int, Field(ge=1, le=10_000)] = Field(
        60, description="How many calls a minute your plan allows: Business and Enterprise 60."
    )

    def home(self) -> str:
        return "https://api.fireflies.ai"

    def auth(self) -> httpx.Auth:
        return Bearer(self.api_key)

    def limits(self) -> Sequence[Limit]:
        return (Limit(self.calls_per_minute, timedelta(minutes=1)),)

    def status_of(self, answer: httpx.Response) -> int:
        problem = _problem(answer)
        if problem is None:
            return answer.status_code
        return problem.status or (answer.status_code if answer.is_error else 400)

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:
        problem = _problem(answer)
        if problem and problem.extensions and problem.extensions.metadata:
            with suppress(UnreadableDate):
                return max(instant(str(problem.extensions.metadata.get("retryAfter"))) - now, timedelta(0))
        seconds = answer.headers.get("x-ratelimit-reset-api", "")
        if answer.headers.get("x-ratelimit-remaining-api") == "0" and re.fullmatch(r"[0-9]{1,5}", seconds):
            return timedelta(seconds=int(seconds))
        return None

    def advice(self, answer: httpx.Response) -> str | None:
        problem = _problem(answer)
        return ADVICE.get(problem.known_as if problem else "") or ADVICE.get(str(answer.status_code))

    async def check(self, http: httpx.AsyncClient) -> str:
        answer = await self._ask(http, MEETINGS, limit=1, skip=0, words=False)
        newest = readable(read(answer, Listed).transcripts, Meeting)
        return f"the newest meeting is of {newest[0].date:%Y-%m-%d}" if newest else "the account has no meetings yet"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        read_until = moment(checkpoint, "read_until")
        waiting = Waiting.of(checkpoint, window.now)
        until = min(filter(None, (window.now, window.until)))
        begin = max(filter(None, (window.since, read_until and read_until - self.overlap)), default=None)
        span = {"toDate": _iso(until)} | ({"fromDate": _iso(begin)} if begin else {})
        trail = Trail()
        skip = 0
        while True:
            answer = await self._ask(http, MEETINGS, **span, limit=LISTED, skip=skip, words=False)
            listed = read(answer, Listed).transcripts
            async for page in self._pages(http, listed, span, skip, window, waiting):
                yield replace(page, checkpoint=waiting.as_checkpoint(read_until))
            if len(listed) < LISTED:
                break
            trail.follow(_id(listed[0]))
            skip += len(listed)
        late = await self._late(http, waiting, window.now)
        yield replace(late, checkpoint=waiting.as_checkpoint(until))

    async def _ask(self, http: httpx.AsyncClient, query: str, **variables: Json) -> httpx.Response:
        body = {"query": query + FIELDS, "variables": variables}
        return await http.post(self.url("/graphql"), json=body, extensions={"idempotent": True})

    async def _pages(
        self,
        http: httpx.AsyncClient,
        listed: Sequence[Any],
        span: Mapping[str, str],
        skip: int,
        window: Window,
        waiting: Waiting,
    ) -> AsyncGenerator[Page, None]:
        """What one page of the list holds, with the sentences of those meetings that the ledger lacks."""
        tray = Tray("Fireflies meeting")
        places = {_id(item): place for place, item in enumerate(listed)}
        meetings = [meeting for meeting in tray.read(listed, Meeting) if meeting.id not in waiting.judged]
        known = await window.known({meeting.id: meeting.version for meeting in meetings})
        fresh = [meeting for meeting in meetings if meeting.id not in known]
        wordless = [meeting for meeting in fresh if meeting.is_live or waiting.is_mute(meeting)]
        yield self._page(tray, wordless, waiting, window.now, unchanged=len(meetings) - len(fresh))
        wanted = [meeting.id for meeting in fresh if meeting.id not in waiting.judged]
        while wanted:
            first = places[wanted[0]]
            some = {id_ for id_ in wanted if first <= places[id_] < first + SPOKEN}
            wanted = [id_ for id_ in wanted if id_ not in some]
            answer = await self._ask(http, MEETINGS, **span, limit=SPOKEN, skip=skip + first, words=True)
            given = [item for item in read(answer, Listed).transcripts if _id(item) in some]
            for moved in some - {_id(item) for item in given}:  # one before it was deleted meanwhile
                waiting.pending.wait(moved, window.now)
            tray = Tray("Fireflies meeting")
            yield self._page(tray, tray.read(given, Meeting), waiting, window.now)

    async def _late(self, http: httpx.AsyncClient, waiting: Waiting, now: datetime) -> Page:
        """What became of the meetings that are waited for and that the list did not show any more."""

        async def meeting(id_: str) -> Any:
            try:
                answer = await self._ask(http, MEETING, transcriptId=id_, words=True)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 404:
                    return None
                raise
            return read(answer, Found).transcript

        ids = [id_ for id_ in waiting.pending.since if id_ not in waiting.judged]
        found = [item for item in await each(ids, meeting) if item is not None]
        tray = Tray("Fireflies meeting")
        meetings = tray.read(found, Meeting)
        for gone in set(ids) - {meeting.id for meeting in meetings}:
            waiting.pending.done(gone)
        return self._page(tray, meetings, waiting, now)

    def _page(
        self, tray: Tray, meetings: Sequence[Meeting], waiting: Waiting, now: datetime, unchanged: int = 0
    ) -> Page:
        """The records of those meetings that are ready. The others are waited for, unless nothing is to come."""
        unreadable = len(tray.aside)
        records: list[Record] = []
        for meeting in meetings:
            waiting.judged.add(meeting.id)
            if meeting.is_under_way:
                waiting.pending.wait(meeting.id, now)
            else:
                waiting.pending.done(meeting.id)
                made = [] if meeting.is_skipped or waiting.is_mute(meeting) else tray.records([meeting], _record)
                records += made
                if not (made or meeting.is_silent) and meeting.date >= now - self.overlap:  # it will be listed again
                    waiting.wordless.wait(meeting.id, now)
            if waiting.pending.is_over(meeting.id, now, self.overlap):
                waiting.pending.done(meeting.id)
                tray.put_aside(meeting.id, "its transcript was not ready for as long as `overlap` says; it is given up")
        passed_over = len(meetings) - len(records) - (len(tray.aside) - unreadable)
        return Page(records=records, set_aside=tray.aside, filtered=passed_over, unchanged=unchanged)


def _record(meeting: Meeting) -> Record:
    text = transcript(Said(sentence.speaker_name, sentence.text, sentence.start_time) for sentence in meeting.sentences)
    if not text:
        raise RecordError(f"it has no words (Fireflies calls it {meeting.status or 'nothing in particular'})")
    people = _people(meeting)
    address = meeting.transcript_url or f"https://app.fireflies.ai/view/{quote(meeting.id, safe='')}"
    return Record(
        id=meeting.id,
        kind="transcript",
        title=meeting.title or f"Fireflies meeting {meeting.id}",
        text=text,
        occurred_at=meeting.date,
        links=(Link(address, "Open Fireflies meeting", "transcript", primary=True),),
        people=people,
        organisation=company(people),
        attributes=present(host=meeting.host, minutes=round(meeting.duration or 0) or None),
        version=meeting.version,
    )


def _people(meeting: Meeting) -> tuple[Person, ...]:
    """Everybody who is named, once: by their address where there is one."""
    attendees = readable(meeting.meeting_attendees, Attendee)
    names = {attendee.email.strip().lower(): attendee.called for attendee in attendees if attendee.email}
    addresses = (meeting.host, meeting.organizer_email, *meeting.participants, *names)
    emails = dict.fromkeys(address.strip().lower() for address in addresses if address and address.strip())
    speakers = (speaker.name for speaker in readable(meeting.speakers, Speaker))
    others = dict.fromkeys([*(attendee.called for attendee in attendees if not attendee.email), *speakers])
    return (
        *(Person(names.get(email), email, role(email, meeting.host)) for email in emails),
        *(Person(name, None, "participant") for name in others if name and name not in names.values()),
    )


def _problem(answer: httpx.Response) -> Problem | None:
    """The first of an answer's errors, if it has any."""
    try:
        return Refused.model_validate_json(answer.content).errors[0]
    except ValidationError:
        return None


def _id(item: object) -> str | None:
    """The id of an item that may be anything."""
    id_ = item.get("id") if isinstance(item, dict) else None
    return None if id_ is None else str(id_)


def _iso(at: datetime) -> str:
    """A time as Fireflies takes it, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
