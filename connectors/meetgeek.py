"""MeetGeek: the transcripts of meetings, one's own and those shared with teams.

- `GET /v1/meetings` and `GET /v1/teams/{id}/meetings`: ids and times only, without filter, status or time of change.
- `GET /v1/meetings/{id}/transcript`: the sentences, in pages. Until the meeting is analysed it is a 404 or empty.
- `GET /v1/meetings/{id}`: title, host, participants. Asked for when there are sentences, and once only.

The lists are taken to be newest first, which is how other clients read them but nowhere promised: a list is left after
a whole page is older than `overlap` allows, and read to its end once it shows a newer meeting after an older one.

Each call counts against a quota by the day. How many there are is not documented, nor when the day ends, so a refusal
for the day is tried again hourly. A meeting that the ledger has costs no call, one that gives nothing few.
Unconfirmed and read either way: times with or without zone, the last cursor as null, empty or left out.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import httpx
from pydantic import Field, SecretStr

from syncd.connector import (
    Checkpoint,
    CredentialsRefused,
    Duration,
    Link,
    Page,
    Person,
    Record,
    Window,
    instant,
)
from syncd.kit.api import Api
from syncd.kit.conversation import Said, transcript
from syncd.kit.paging import Trail, batches, each, moment
from syncd.kit.pending import Pending
from syncd.kit.people import company, role
from syncd.kit.shapes import Instant, Item, Items, Many, Shape, Tray, Words, present, read
from syncd.kit.tokens import Bearer

MOST = 500
"""The largest page that clients ask for."""

AT_A_TIME = 4
"""Meetings to a page, asked for side by side: where the quota ends in the middle of one, the calls for it were for
nothing."""

LOOK_AGAIN = timedelta(hours=6)
"""A meeting that gives nothing is asked for by every reading for so long, and then once in as long."""

LAST_CHANCE = timedelta(days=1)
"""So long is waited for a meeting that was older than `give_up_after` when it was first asked for: accounts may hold
thousands that were never analysed, and each question counts."""

PERIODS = {"second": timedelta(seconds=1), "minute": timedelta(minutes=1)}
"""How long to wait for a quota to begin anew; for any longer one, an hour at a time."""


class Pagination(Shape):
    next_cursor: str | None = None


class Listing(Shape):
    meetings: Items
    pagination: Pagination | None = None


class Listed(Shape):
    meeting_id: str = Field(min_length=1)
    timestamp_start_utc: Instant


class Sentences(Shape):
    sentences: Items = ()
    pagination: Pagination | None = None


class Sentence(Shape):
    transcript: Words
    speaker: str | None = None
    timestamp: Instant | None = None


class Template(Shape):
    name: str | None = None


class Meeting(Shape):
    id: str = Field(alias="meeting_id")
    title: Words = ""
    host_email: Words = ""
    participant_emails: Many[str] = ()
    language: str | None = None
    source: str | None = None
    timestamp_start_utc: Instant | None = None
    timestamp_end_utc: Instant | None = None
    template: Template | None = None
    sentences: Many[Sentence]

    @property
    def text(self) -> str:
        start = self.timestamp_start_utc
        return transcript(
            Said(one.speaker, one.transcript, one.timestamp - start if one.timestamp and start else None)
            for one in self.sentences
        )


@dataclass(slots=True)
class Place:
    """How far each list was read, and which meetings gave nothing so far."""

    newest: dict[str, datetime]
    pending: Pending
    asked_at: datetime | None
    seen: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Place:
        newest = checkpoint.get("newest")
        lists = newest if isinstance(newest, Mapping) else {}
        return cls(
            {name: instant(str(at)) for name, at in lists.items()},
            Pending.of(checkpoint),
            moment(checkpoint, "asked_at"),
        )

    def as_checkpoint(self) -> Checkpoint:
        return {
            "newest": {name: at.isoformat() for name, at in self.newest.items()},
            "pending": self.pending.as_json(),
            "asked_at": self.asked_at.isoformat(timespec="seconds") if self.asked_at else None,
        }


class MeetGeek(Api):
    """Transcripts of the meetings that MeetGeek recorded."""

    provider: ClassVar[str] = "meetgeek"

    api_key: SecretStr = Field(description="A key of the Public API (Integrations > Public API).")
    region: Literal["eu", "us"] | None = Field(
        None, description="Where the account lives; left out: us for a key that begins with us-, else eu."
    )
    teams: tuple[int, ...] = Field((), description="Ids of teams whose shared meetings are read as well as one's own.")
    overlap: Duration = Field(
        timedelta(days=7), description="How far before the newest meeting it had seen a reading looks again."
    )
    give_up_after: Duration = Field(
        timedelta(days=7), description="A meeting that has no transcript for so long is set aside."
    )
    full_scan: bool = Field(
        False, description="Read all lists to their end each time, to find meetings that were added under old dates."
    )

    @property
    def lives_in(self) -> str:
        """The region of the account."""
        return self.region or ("us" if self.api_key.get_secret_value().startswith("us-") else "eu")

    def home(self) -> str:
        return f"https://api-{self.lives_in}.meetgeek.ai"

    def auth(self) -> httpx.Auth:
        return Bearer(self.api_key)

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:  # noqa: ARG002 - it says how long
        if answer.status_code != 429:
            return None
        try:
            unit = Item.model_validate_json(answer.content).root.get("unit")
        except ValueError:
            return None
        return PERIODS.get(unit, timedelta(hours=1)) if isinstance(unit, str) else None

    def advice(self, answer: httpx.Response) -> str | None:
        here, there = ("US", "eu") if self.lives_in == "us" else ("EU", "us")
        of_team = "/teams/" in answer.request.url.path
        match answer.status_code:
            case 403 | 404 if of_team:
                team = answer.request.url.path.split("/teams/")[1].split("/")[0]
                return f"Does the key's owner belong to team {team}? A team's meetings are shown to its members only"
            case 401 | 403:
                return (
                    f"MeetGeek's {here} region was asked, and a key is good in one region only: is this one whole, and "
                    f"made in an account of that region? If not, set region: {there}"
                )
            case 429:
                return "The quota of MeetGeek's plan is used up; what is left is read when it begins anew"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        read(await http.get(self.url("/v1/meetings"), params={"limit": 1}), Listing)
        return f"the meetings of the key's owner can be read (region {self.lives_in})"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        place = Place.of(checkpoint)
        for name, path in self._lists():
            before = place.newest.get(name)
            newest = [before] if before else []
            edge = before - self.overlap if before and not self.full_scan else None
            horizon = max(filter(None, [edge, window.since]), default=None)
            async for tray, meetings in self._listed(http, path, horizon):
                newest += [min(one.timestamp_start_utc, window.now) for one in meetings]
                in_sight = [one for one in meetings if edge is None or one.timestamp_start_utc >= edge]
                async for page in self._new(http, tray, in_sight, place, window):
                    yield page
            if newest:
                place.newest[name] = max(newest)
        waiting = {id_: since for id_, since in place.pending.since.items() if id_ not in place.seen}
        async for page in self._unknown(http, Tray("MeetGeek meeting"), waiting, place, window):
            yield page
        place.asked_at = window.now
        yield Page(checkpoint=place.as_checkpoint())

    def _lists(self) -> Iterator[tuple[str, str]]:
        yield "own", "/v1/meetings"
        for team in dict.fromkeys(self.teams):
            yield str(team), f"/v1/teams/{team}/meetings"

    async def _listed(
        self, http: httpx.AsyncClient, path: str, horizon: datetime | None
    ) -> AsyncGenerator[tuple[Tray, Sequence[Listed]], None]:
        """The pages of a list, until a whole one lies behind the horizon and all were newest first so far."""
        params: dict[str, str | int] = {"limit": MOST}
        trail = Trail()
        times: list[datetime] = []
        while True:
            listing = read(await http.get(self.url(path), params=params), Listing)
            tray = Tray("MeetGeek meeting")
            meetings = tray.read(listing.meetings, Listed, "meeting_id")
            yield tray, meetings
            page = [one.timestamp_start_utc for one in meetings]
            times = [*times[-1:], *page]
            if times != sorted(times, reverse=True):
                horizon = None
            is_past = bool(horizon and page and max(page) < horizon)
            if is_past or not listing.meetings or not (cursor := trail.follow(_next(listing.pagination))):
                return
            params["cursor"] = cursor

    async def _new(
        self, http: httpx.AsyncClient, tray: Tray, meetings: Sequence[Listed], place: Place, window: Window
    ) -> AsyncGenerator[Page, None]:
        """What a page of a list has that no page before it had."""
        fresh = {one.meeting_id: one for one in meetings if one.meeting_id not in place.seen}
        place.seen.update(fresh)
        began = {id_: one.timestamp_start_utc for id_, one in fresh.items()}
        wanted = {id_: at for id_, at in began.items() if window.holds(at)}
        async for page in self._unknown(http, tray, wanted, place, window, filtered=len(fresh) - len(wanted)):
            yield page

    async def _unknown(
        self,
        http: httpx.AsyncClient,
        tray: Tray,
        began: Mapping[str, datetime],
        place: Place,
        window: Window,
        filtered: int = 0,
    ) -> AsyncGenerator[Page, None]:
        """Those of some meetings that the ledger does not have and whose turn it is, with what was said."""
        known = await window.known(dict.fromkeys(began))
        had = [id_ for id_ in began if id_ in known]
        for id_ in had:
            place.pending.done(id_)
        yield Page(set_aside=tray.aside, filtered=filtered, unchanged=len(had), checkpoint=place.as_checkpoint())
        due = [id_ for id_ in began if id_ not in known and self._is_due(id_, place, window.now)]
        for some in batches(due, AT_A_TIME):
            for id_ in some:
                place.pending.wait(id_, self._waits_since(began[id_], window.now))
            yield await self._told(http, some, place, window.now)

    def _is_due(self, id_: str, place: Place, now: datetime) -> bool:
        """Whether a meeting is asked for now: a new one always, one that gave nothing ever more rarely."""
        since = place.pending.since.get(id_)
        if since is None or place.asked_at is None or place.pending.is_over(id_, now, self.give_up_after):
            return True
        return now - since < LOOK_AGAIN or (now - since) // LOOK_AGAIN > (place.asked_at - since) // LOOK_AGAIN

    def _waits_since(self, began: datetime, now: datetime) -> datetime:
        """From when on a meeting is waited for that is asked for the first time now."""
        oldest = now - self.give_up_after
        return now if began > oldest else min(now, oldest + LAST_CHANCE)

    async def _told(self, http: httpx.AsyncClient, ids: Sequence[str], place: Place, now: datetime) -> Page:
        """Some meetings with their transcripts; what gives nothing is pending, or given up."""
        answers = await each(ids, lambda id_: self._meeting(http, id_), at_once=AT_A_TIME)
        told = [answer for answer in answers if answer is not None]
        tray = Tray("MeetGeek meeting")
        records: list[Record] = []
        for meeting in tray.read(told, Meeting, "meeting_id"):
            if text := meeting.text:
                records += filter(None, [tray.record(self._record, meeting, text)])
                place.pending.done(meeting.id)
            elif place.pending.is_over(meeting.id, now, self.give_up_after):
                tray.put_aside(
                    meeting.id, "MeetGeek made no transcript of it for as long as `give_up_after` says; it is given up"
                )
        for id_ in ids:
            if place.pending.is_over(id_, now, self.give_up_after):
                place.pending.done(id_)
        return Page(
            records=records,
            set_aside=tray.aside,
            filtered=len(answers) - len(told),
            checkpoint=place.as_checkpoint(),
        )

    async def _meeting(self, http: httpx.AsyncClient, id_: str) -> dict[str, Any] | None:
        """What MeetGeek has of a meeting, with its sentences; None when it is private or gone."""
        path = f"/v1/meetings/{quote(id_, safe='')}"
        try:
            sentences = await self._sentences(http, path + "/transcript")
            about = read(await http.get(self.url(path)), Item).root if sentences else {}
        except CredentialsRefused as error:
            if error.status == 403:
                return None
            raise
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (404, 410):
                return None
            raise
        return {**about, "meeting_id": id_, "sentences": sentences}

    async def _sentences(self, http: httpx.AsyncClient, path: str) -> list[Any]:
        """The sentences of a transcript as they come; none when it is not made yet."""
        sentences: list[Any] = []
        params: dict[str, str | int] = {"limit": MOST}
        trail = Trail()
        while True:
            try:
                some = read(await http.get(self.url(path), params=params), Sentences)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 404:
                    return []
                raise
            sentences += some.sentences
            if not some.sentences or not (cursor := trail.follow(_next(some.pagination))):
                return sentences
            params["cursor"] = cursor

    def _record(self, meeting: Meeting, text: str) -> Record:
        start, end = meeting.timestamp_start_utc, meeting.timestamp_end_utc
        site = "us" if self.lives_in == "us" else "app"
        url = f"https://{site}.meetgeek.ai/meeting/{quote(meeting.id, safe='')}"
        people = _people(meeting)
        return Record(
            id=meeting.id,
            kind="transcript",
            title=meeting.title or f"MeetGeek meeting {meeting.id}",
            text=text,
            occurred_at=start,
            links=(Link(url, "Open MeetGeek meeting", "transcript", primary=True),),
            people=people,
            organisation=company(people),
            attributes=present(
                meetingId=meeting.id,
                durationSeconds=int((end - start).total_seconds()) if start and end and end > start else None,
                language=meeting.language,
                source=meeting.source,
                template=meeting.template.name if meeting.template else None,
            ),
        )


def _next(pagination: Pagination | None) -> str | None:
    return pagination.next_cursor if pagination else None


def _people(meeting: Meeting) -> tuple[Person, ...]:
    """The host, then the others; whoever has an address elsewhere than the host is the customer's."""
    host = meeting.host_email.strip().lower()
    emails = dict.fromkeys([host, *(email.strip().lower() for email in meeting.participant_emails)])
    return tuple(Person(email=email, role=role(email, host)) for email in emails if email)
