"""Zoom: cloud recordings, as the transcripts that Zoom makes of them.

- `GET /users`: the active users of the account, unless `users` names some.
- `GET /users/{id}/recordings`: what they recorded, by the UTC date of the meeting, 30 days at a time at most. The token
  of its next page is good for 15 minutes, so a list is read to its end before any file is. There is no filter by time
  of change, and a transcript is added to its meeting later: every reading goes back by `overlap`.
- `download_url`: the transcript, WebVTT, with the same Authorization. It is on zoom.us or a host below it, and may
  redirect to another.
- `GET /past_meetings/{uuid}/participants`, where `participants` asks for it: one call or more per meeting.

A Server-to-Server OAuth app gives tokens that last an hour. Documented limits, per account and second: 2 (Free), 20
(Pro) or 60 (Business) lists of recordings, and more on the others; a Free account has 2,000 a day.

UNCONFIRMED: which status the codes 3001 and 3301 («does not exist») come with, and the wording of the daily limit; a
429 that speaks of a day without Retry-After is taken to end at midnight UTC. `host_email`, `share_url`, `status` and
`file_size` are missing from some official types: a file without the last two is taken to be complete.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import partial
from itertools import chain
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import quote

import httpx
from pydantic import Field, FiniteFloat, SecretStr, ValidationError, model_validator

from syncd.connector import (
    Checkpoint,
    CredentialsRefused,
    Duration,
    Limit,
    Link,
    Page,
    Person,
    Record,
    RecordError,
    SourceError,
    WebAddress,
    Window,
)
from syncd.kit.api import Api
from syncd.kit.captions import captions
from syncd.kit.conversation import Said, transcript
from syncd.kit.paging import Trail, batches, each, moment, spans
from syncd.kit.people import company, role
from syncd.kit.shapes import Instant, Items, Many, Shape, Tray, Words, present, read, readable
from syncd.kit.tokens import Fetched, token_request

L = TypeVar("L", bound="Listing")

LONGEST = timedelta(days=30)
"""The longest span that recordings are listed for."""

FIRST = timedelta(days=180)
"""How far a first reading goes back where nobody says since when."""

DAY = timedelta(days=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
"""A day on which there is nothing to list: it is enough to see that listing is allowed."""

GONE = {"3001", "3301"}
"""Codes of errors that say a meeting or its recording does not exist."""

NO_SCOPE = "4711"


class Problem(Shape):
    """An error: of the API (`code`), or of the place where tokens are fetched (`error`)."""

    code: str | None = None
    error: str | None = None
    message: str | None = None


class Listing(Shape):
    """A page of any list. The token of the last one is blank."""

    next_page_token: str | None = None


class User(Shape):
    id: str
    email: str | None = None


class Users(Listing):
    users: Many[User]


class File(Shape):
    """A file of a recording. Those of other types may lack anything."""

    file_type: str
    id: str
    download_url: str
    recording_start: Instant | None = None
    file_size: FiniteFloat | None = None
    status: str | None = None
    play_url: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is something to download."""
        return self.status in (None, "completed") and self.file_size != 0


class Meeting(Shape):
    uuid: str
    start_time: Instant
    recording_files: Items
    number: str | None = Field(None, validation_alias="id")
    topic: Words = ""
    duration: FiniteFloat | None = None  # minutes
    host_email: str | None = None
    share_url: str | None = None

    @property
    def host(self) -> str:
        """The address of whoever held it; blank where it is not told."""
        return (self.host_email or "").lower()

    @property
    def until(self) -> datetime:
        """When it ended, as far as Zoom says."""
        return self.start_time + timedelta(minutes=min(max(self.duration or 0, 0), 2880))

    @property
    def id(self) -> str:
        """What it is known by; its number comes again with every meeting of a series."""
        return self.uuid

    def files(self, kind: str) -> list[File]:
        """Its files of a type, in the order in which they were recorded."""
        some = [file for file in readable(self.recording_files, File) if file.file_type == kind]
        return sorted(some, key=lambda file: (file.recording_start or self.start_time, file.id))


class Recordings(Listing):
    meetings: Items


class Participant(Shape):
    name: Words = ""
    user_email: Words = ""


class Participants(Listing):
    participants: Items


@dataclass(frozen=True, slots=True)
class Heard:
    """A meeting, those of its files that hold what was said in it, and what stands in them."""

    meeting: Meeting
    files: Sequence[File]
    texts: Sequence[str] = ()
    participants: Sequence[Participant] = ()

    @property
    def id(self) -> str:
        """The meeting's."""
        return self.meeting.uuid

    @property
    def version(self) -> str:
        """The ids of the files: another one means another text."""
        return " ".join(file.id for file in self.files)

    @property
    def is_whole(self) -> bool:
        """Whether there is something in each file."""
        return all(text.strip() for text in self.texts)

    def said(self) -> list[Said]:
        """What all the files say. Each counts the time from its own start, and is put behind the ones before it."""
        starts = [file.recording_start or self.meeting.start_time for file in self.files]
        return [
            replace(said, after=said.after + (start - starts[0]) if said.after is not None else None)
            for start, text in zip(starts, self.texts, strict=True)
            for said in captions(text)
        ]


class Zoom(Api):
    """Cloud recordings of a Zoom account."""

    provider: ClassVar[str] = "zoom"
    windowed: ClassVar[bool] = True

    account_id: str = Field(description="The account id of your Server-to-Server OAuth app.")
    client_id: str = Field(description="The client id of that app.")
    client_secret: SecretStr = Field(description="The client secret of that app.")
    users: tuple[str, ...] = Field(
        (), description="Whose recordings: user ids or e-mail addresses. Left out: those of all active users."
    )
    participants: bool = Field(
        False,
        description="Whether to ask who took part in each meeting: one more call per meeting, and one more scope.",
    )
    overlap: Duration = Field(
        timedelta(days=7),
        description="How far each reading goes back behind the one before, for transcripts that came late. At least a "
        "day more than patience.",
    )
    patience: Duration = Field(
        timedelta(days=3),
        description="How long after its end a meeting is waited for that has no transcript, or not all of it. Then it "
        "goes out with its live captions, or is set aside.",
    )
    calls_per_second: Annotated[int, Field(ge=1, le=1000)] = Field(
        20, description="How many lists of recordings a second your plan allows: Free 2, Pro 20, Business 60."
    )
    token_url: WebAddress | None = Field(
        None, description="Where tokens are fetched, when not at https://zoom.us/oauth/token."
    )

    @model_validator(mode="after")
    def _lists_until_given_up(self) -> Zoom:
        if self.overlap < self.patience + DAY:
            raise ValueError(
                "overlap has to be at least a day longer than patience: a meeting is listed until it is given up"
            )
        return self

    def home(self) -> str:
        return "https://api.zoom.us"

    def token_address(self) -> str:
        return self.token_url or "https://zoom.us/oauth/token"

    def hosts(self) -> frozenset[str]:
        """Zoom serves its recordings from many hosts below its own."""
        return super().hosts() | (frozenset() if self.base_url else {"zoom.us", "*.zoom.us"})

    def default_namespace(self, name: str) -> str:  # noqa: ARG002 - the account outlasts the entry's name
        return f"zoom:{self.account_id}"

    def auth(self) -> httpx.Auth:
        form = {"grant_type": "account_credentials", "account_id": self.account_id}
        client = self.client_id, self.client_secret
        return Fetched(lambda: token_request(self.token_address(), form, client=client, query=True))

    def limits(self) -> Sequence[Limit]:
        return (Limit(self.calls_per_second, timedelta(seconds=1)),)

    def status_of(self, answer: httpx.Response) -> int:
        return 403 if answer.status_code == 400 and _problem(answer).code == NO_SCOPE else answer.status_code

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:
        if answer.status_code != 429 or "Retry-After" in answer.headers:
            return None
        told = f"{answer.headers.get('X-RateLimit-Type')} {_problem(answer).message}".lower()
        return _midnight(now) + DAY - now if "daily" in told else None

    def advice(self, answer: httpx.Response) -> str | None:
        problem = _problem(answer)
        match answer.status_code:
            case 400 | 401 if problem.error:
                return (
                    "Zoom gives no token for these account_id, client_id and client_secret. Copy all three from one "
                    "app of the type Server-to-Server OAuth, and see that it is activated"
                )
            case 401:
                return "Zoom refuses its own token: was the Server-to-Server OAuth app deactivated or changed meanwhile"
            case 403 if problem.code == NO_SCOPE:
                return (
                    "The app lacks a scope. It needs cloud_recording:read:list_user_recordings:admin, "
                    "cloud_recording:read:list_recording_files:admin, user:read:list_users:admin unless users are "
                    "named, and meeting:read:list_past_participants:admin for participants"
                )
            case 403:
                return (
                    "Zoom does not let this app see that. Cloud recording needs a paid plan, and the app scopes that "
                    "end in :admin"
                )
            case 404:
                return "Zoom knows no such user or meeting: are users ids or e-mail addresses of this account"
        return None

    async def check(self, http: httpx.AsyncClient) -> str:
        users: Sequence[User] = [User(id=self.users[0])] if self.users else ()
        if not users:
            one: dict[str, str | int] = {"status": "active", "page_size": 1}
            users = read(await http.get(self.url("/v2/users"), params=one), Users).users
        for user in users:
            await self._recordings(http, user.id, LONG_AGO, LONG_AGO)
            return f"the recordings of {user.email or user.id} can be listed"
        return "the account has no active users"

    async def fetch(
        self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window
    ) -> AsyncGenerator[Page, None]:
        read_until = moment(checkpoint, "read_until")
        begin = read_until - self.overlap if read_until else window.since or window.now - FIRST
        until = min(filter(None, (window.now, window.until)))
        users = await self._users(http)
        reached = read_until
        for since, end in spans(_midnight(max(begin, window.since or begin)), _midnight(until) + DAY, LONGEST):
            list_of = partial(self._recordings, http, first=since, last=end - DAY)
            listed = [*chain.from_iterable(await each(users, list_of))]
            before, reached = reached, max(filter(None, (reached, min(end, until))))
            async for page in self._pages(http, listed, window, read_until, _place(before), _place(reached)):
                yield page

    async def _list(
        self, http: httpx.AsyncClient, path: str, shape: type[L], params: Mapping[str, str]
    ) -> AsyncGenerator[L, None]:
        """The pages of a list."""
        trail = Trail()
        more: dict[str, str] = {}
        while True:
            page = read(await http.get(self.url(path), params={**params, "page_size": "300", **more}), shape)
            yield page
            token = trail.follow(page.next_page_token)
            if token is None:
                return
            more = {"next_page_token": token}

    async def _users(self, http: httpx.AsyncClient) -> Sequence[str]:
        pages = self._list(http, "/v2/users", Users, {"status": "active"})
        return self.users or [user.id async for page in pages for user in page.users]

    async def _recordings(self, http: httpx.AsyncClient, user: str, first: datetime, last: datetime) -> list[Any]:
        """What a user recorded between two days, both included."""
        days = {"from": f"{first:%Y-%m-%d}", "to": f"{last:%Y-%m-%d}"}
        pages = self._list(http, f"/v2/users/{quote(user, safe='')}/recordings", Recordings, days)
        try:
            return [meeting async for page in pages for meeting in page.meetings]
        except httpx.HTTPStatusError as error:
            if not _is_gone(error.response):
                raise
            if self.users:
                raise SourceError(f"Zoom knows no user {user}; take them out of users, or mend the name") from error
            return []  # deactivated since the users were listed

    async def _pages(
        self,
        http: httpx.AsyncClient,
        listed: Sequence[Any],
        window: Window,
        read_until: datetime | None,
        before: Checkpoint,
        after: Checkpoint,
    ) -> AsyncGenerator[Page, None]:
        """The meetings of a list, with what was said in them, some at a time."""
        tray = Tray("Zoom meeting")
        meetings = {meeting.uuid: meeting for meeting in tray.read(listed, Meeting, key="uuid")}
        heard = [Heard(meeting, self._files(meeting, window.now)) for meeting in meetings.values()]
        ready = [one for one in heard if one.files]
        late = [one.meeting for one in heard if not one.files]
        known = await window.known({one.id: one.version for one in ready})
        fresh = [one for one in ready if one.id not in known]
        gone = 0
        for some in batches(fresh, 25):
            answers = await each(some, lambda one: self._listen(http, one))
            told = [answer for answer in answers if isinstance(answer, Heard)]
            refusals = {one.id: no for one, no in zip(some, answers, strict=True) if isinstance(no, CredentialsRefused)}
            if len(refusals) == len(some) > 1 and len(fresh) == len(ready):  # it is about the app, not one of them
                raise refusals[some[0].id]
            for id_ in refusals:
                tray.put_aside(id_, "Zoom does not let this app download its transcript (403)")
            late += [one.meeting for one in told if not one.is_whole]
            gone += answers.count(None)
            whole = [one for one in told if one.is_whole]
            yield Page(records=tray.records(whole, _record), checkpoint=before)
        given_up = [
            meeting
            for meeting in late
            if self._gave_up(meeting, window.now)
            and not (read_until and self._gave_up(meeting, read_until))  # that was told by an earlier reading
        ]
        for meeting in given_up:
            tray.put_aside(meeting.uuid, "Zoom made no transcript of it for as long as `patience` says; it is given up")
        passed_over = len(late) - len(given_up) + gone
        yield Page(set_aside=tray.aside, filtered=passed_over, unchanged=len(ready) - len(fresh), checkpoint=after)

    def _gave_up(self, meeting: Meeting, now: datetime) -> bool:
        """Whether a meeting has by then been waited for long enough."""
        return now - meeting.until >= self.patience

    def _files(self, meeting: Meeting, now: datetime) -> Sequence[File]:
        """The files that hold what was said: nothing while more of them are to be hoped for."""
        transcripts = meeting.files("TRANSCRIPT")
        ready = [file for file in transcripts if file.is_ready]
        hoped = max(1, len(transcripts), len(meeting.files("M4A")))  # one for each time that recording was started
        if len(ready) >= hoped or (ready and self._gave_up(meeting, now)):
            return ready
        return [file for file in meeting.files("CC") if file.is_ready] if self._gave_up(meeting, now) else ()

    async def _listen(self, http: httpx.AsyncClient, one: Heard) -> Heard | CredentialsRefused | None:
        """A meeting with the words of its files; None when it was deleted meanwhile, or the refusal of a file."""
        try:
            answers = [await http.get(self.url(file.download_url)) for file in one.files]
        except CredentialsRefused as error:
            if error.status == 403:
                return error
            raise
        except httpx.HTTPStatusError as error:
            if _is_gone(error.response):
                return None
            raise
        texts = [answer.content.decode(errors="replace") for answer in answers]
        return replace(one, texts=texts, participants=await self._participants(http, one) if self.participants else ())

    async def _participants(self, http: httpx.AsyncClient, one: Heard) -> Sequence[Participant]:
        pages = self._list(http, f"/v2/past_meetings/{_in_path(one.id)}/participants", Participants, {})
        try:
            return [person async for page in pages for person in readable(page.participants, Participant)]
        except httpx.HTTPStatusError:  # deleted, or too long ago: no transcript is given up for it
            return ()


def _record(heard: Heard) -> Record:
    meeting, said = heard.meeting, heard.said()
    text = transcript(said)
    if not text:
        raise RecordError("nothing was said in it")
    people = _people(heard, said)
    address = meeting.share_url or next((file.play_url for file in heard.files if file.play_url), None)
    return Record(
        id=meeting.uuid,
        kind="transcript",
        title=meeting.topic or f"Zoom meeting {meeting.number or meeting.uuid}",
        text=text,
        occurred_at=meeting.start_time,
        links=(Link(address, "Open Zoom recording", "transcript", primary=True),) if address else (),
        people=people,
        organisation=company(people),
        attributes=present(
            meetingNumber=meeting.number, minutes=round(meeting.duration or 0) or None, host=meeting.host
        ),
        version=heard.version,
    )


def _people(heard: Heard, said: Sequence[Said]) -> tuple[Person, ...]:
    """The host, the participants that were asked for, and the speakers that are not among them."""
    host = heard.meeting.host
    there = dict.fromkeys((person.name, person.user_email.lower()) for person in heard.participants)
    names = {name for name, _ in there}
    host_name = next((name for name, email in there if email == host), None)
    return (
        *([Person(host_name, host, "host")] if host else []),
        *(
            Person(name or None, email or None, role(email, host))
            for name, email in there
            if (email and email != host) or (name and not email)
        ),
        *(
            Person(name, None, "speaker")
            for name in dict.fromkeys(one.speaker for one in said)
            if name and name not in names
        ),
    )


def _problem(answer: httpx.Response) -> Problem:
    """What an answer says is wrong, if it says so in the usual form."""
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        return Problem()


def _is_gone(answer: httpx.Response) -> bool:
    return answer.status_code in (404, 410) or _problem(answer).code in GONE


def _in_path(uuid: str) -> str:
    """A uuid as a part of an address: encoded twice where Zoom would take its slashes for the address's own."""
    once = quote(uuid, safe="")
    return quote(once, safe="") if uuid.startswith("/") or "//" in uuid else once


def _midnight(at: datetime) -> datetime:
    """The beginning of its day, in UTC, as Zoom counts days."""
    return datetime.combine(at.astimezone(UTC), time(), UTC)


def _place(read_until: datetime | None) -> Checkpoint:
    return {"read_until": read_until.isoformat() if read_until else None}
