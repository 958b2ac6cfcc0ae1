"""The workspace: which signals there are, and what has become of each by now. No I/O.

Processing needs no task of its own: a job knows when it will have ended and how, and whoever looks
sees the state at that instant. Time is UTC throughout.
"""

from __future__ import annotations

import random as chance
import uuid
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from syncd.sandbox.bodies import Draft, JsonObject, creation, patch
from syncd.sandbox.entries import Entry, Job, default_name

Order = Literal["newest_first", "oldest_first", "creation", "shuffled", "last_updated", "two_faced"]
"""How list pages are ordered: by createdAt either way, as created, or in no order but always the same one. Two of them
move signals about: by updatedAt, the latest first; and in no order but for the first and the last hundred created,
which stand at the ends as created."""


class UnknownSignal(LookupError):
    """No signal has this publicId."""


@dataclass(slots=True)
class _Life:
    """What a signal was called in its time, from when on it was processed, and when it was deleted."""

    names: set[str | None]
    begins: datetime | None
    ends: datetime | None = None


class Books:
    """A workspace of signals, fast to list at a hundred thousand.

    `fails` says, given the text, whether a processing run will fail; it is asked at the start of each. With
    `dedup` a second signal with a known externalId is answered with the first and not created; the reference
    leaves open whether the API does that, so it is off unless asked for.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        random: chance.Random,
        processing_takes: timedelta = timedelta(seconds=2),
        order: Order = "newest_first",
        dedup: bool = False,
        fails: Callable[[str], bool] = lambda _text: False,
    ) -> None:
        self.created = 0
        self.workspace_id = _uuid(random)
        self._now = now
        self._random = random
        self._processing_takes = processing_takes
        self._order = order
        self._dedup = dedup
        self._fails = fails
        self._entries: dict[str, Entry] = {}
        self._list: list[tuple[float, int, str]] = []
        self._by_external_id: dict[str, list[str]] = {}
        self._lives: dict[str, _Life] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def create(self, body: object) -> JsonObject:
        """Take a posted JSON value in and start its processing; the Signal, with its jobId.

        Raises `Invalid` when the API would not take it.
        """
        draft = creation(body)
        known = self._by_external_id.get(draft.external_id or "") if self._dedup else None
        entry = self._entries[known[0]] if known else self._enter(draft)
        return {**self._shown(entry), "jobId": entry.job.id}

    def get(self, public_id: str) -> JsonObject:
        """One Signal as it stands now. Raises `UnknownSignal`."""
        return self._shown(self._entry(public_id))

    def page(self, limit: int, offset: int) -> list[JsonObject]:
        """Part of the list, in this workspace's order."""
        return [self._shown(self._entries[place[2]]) for place in self._places()[offset : offset + limit]]

    def with_external_id(self, external_id: str) -> list[JsonObject]:
        """Every Signal with that externalId, first created first."""
        return [self.get(public_id) for public_id in self._by_external_id.get(external_id, ())]

    def text(self, public_id: str) -> str:
        """The text that was posted, which no answer of the API repeats. Raises `UnknownSignal`."""
        return self._entry(public_id).draft.text

    def absences(self, external_id: str) -> list[tuple[datetime, datetime | None]]:
        """The spans in which nothing that ever had this externalId was there to be read as evidence, from when
        something first was; the end is None for one that lasts.

        A signal is evidence from the end of its first good processing until it is deleted, under whatever name.
        """
        lives = [life for life in self._lives.values() if external_id in life.names]
        now = self._now()
        spans = sorted((life.begins, life.ends) for life in lives if life.begins and life.begins <= (life.ends or now))
        absent: list[tuple[datetime, datetime | None]] = []
        covered = spans[0][0] if spans else None
        for begins, ends in spans:
            if covered is not None and begins > covered:
                absent.append((covered, begins))
            covered = None if covered is None or ends is None else max(covered, ends)
        return absent if covered is None else [*absent, (covered, None)]

    def patch(self, public_id: str, body: object) -> JsonObject:
        """Change the fields that are sent; the Signal afterwards. Raises `UnknownSignal`, `Invalid`."""
        entry = self._entry(public_id)
        asked = patch(body)
        sent = asked.model_fields_set
        draft, job, status = entry.draft, entry.job, entry.status
        if asked.source:
            draft = replace(draft, source=asked.source.model_dump(exclude_unset=True))
        if "data" in sent:
            draft = replace(draft, data=asked.data, stores_text=False)
        if "context" in sent:
            draft = replace(draft, context=asked.context)
        if "external_id" in sent:
            self._forget_external_id(entry)
            draft = replace(draft, external_id=asked.external_id or None)
            self._learn_external_id(draft.external_id, public_id)
            self._lives[public_id].names.add(draft.external_id)
        if asked.insight_ids is not None:
            draft, job = replace(draft, insight_ids=tuple(asked.insight_ids)), replace(job, insight_ids=())
        if asked.status:
            status = asked.status
        changed = replace(entry, draft=draft, job=job, status=status, updated_at=self._now())
        self._entries[public_id] = changed
        return self._shown(changed)

    def delete(self, public_id: str) -> None:
        """Take a signal out for good; its publicId is never given again. Raises `UnknownSignal`."""
        entry = self._entry(public_id)
        del self._list[bisect_left(self._list, entry.place)]
        del self._entries[public_id]
        self._forget_external_id(entry)
        self._lives[public_id].ends = self._now()

    def process(self, public_id: str) -> str:
        """Start processing anew; the id of the job. Raises `UnknownSignal`."""
        entry = self._entry(public_id)
        job = self._job(entry.draft)
        self._entries[public_id] = replace(entry, job=job, status=None, updated_at=job.started_at)
        return job.id

    def statuses(self) -> dict[str, int]:
        """How many signals there are of each status now."""
        now = self._now()
        return dict(Counter(entry.status_at(now) for entry in self._entries.values()))

    def duplicates(self) -> int:
        """How many signals there are beyond the first of each externalId."""
        return sum(len(public_ids) - 1 for public_ids in self._by_external_id.values())

    def _enter(self, draft: Draft) -> Entry:
        job = self._job(draft)
        self.created += 1
        public_id = f"SIGNAL-{self.created}"
        created_at = draft.occurred_at or job.started_at
        entry = Entry(
            id=_uuid(self._random),
            public_id=public_id,
            place=(*self._rank(created_at, self.created), public_id),
            draft=draft if draft.name else replace(draft, name=default_name(draft, created_at)),
            received_at=job.started_at,
            created_at=created_at,
            updated_at=job.started_at,
            job=job,
        )
        self._entries[public_id] = entry
        insort(self._list, entry.place)
        self._learn_external_id(draft.external_id, public_id)
        self._lives[public_id] = _Life({draft.external_id}, None if job.error else job.ends_at)
        return entry

    def _places(self) -> list[tuple[float, int, str]]:
        """The list as it stands now."""
        match self._order:
            case "last_updated":
                now = self._now()
                updated = {place: self._entries[place[2]].updated_by(now) for place in self._list}
                return sorted(self._list, key=lambda place: (updated[place], place), reverse=True)
            case "two_faced":
                faces = sorted(self._list, key=lambda place: place[1])
                return [*faces[:100], *sorted(faces[100:-100]), *faces[max(100, len(faces) - 100) :]]
            case _:
                return self._list

    def _rank(self, created_at: datetime, number: int) -> tuple[float, int]:
        match self._order:
            case "newest_first":
                return -created_at.timestamp(), -number
            case "oldest_first":
                return created_at.timestamp(), number
            case "creation" | "last_updated":
                return 0.0, number
            case "shuffled" | "two_faced":
                return self._random.random(), number

    def _job(self, draft: Draft) -> Job:
        started_at = self._now()
        fails = self._fails(draft.text)
        return Job(
            id=f"job-{_uuid(self._random)}",
            started_at=started_at,
            ends_at=started_at + self._processing_takes,
            insight_ids=() if fails else tuple(_uuid(self._random) for _ in range(self._random.randint(0, 3))),
            error="No insights could be drawn from this signal: the processor gave up." if fails else None,
        )

    def _entry(self, public_id: str) -> Entry:
        try:
            return self._entries[public_id]
        except KeyError:
            raise UnknownSignal(f"no signal {public_id} in this workspace") from None

    def _shown(self, entry: Entry) -> JsonObject:
        return entry.shown(self.workspace_id, self._now())

    def _learn_external_id(self, external_id: str | None, public_id: str) -> None:
        if external_id:
            self._by_external_id.setdefault(external_id, []).append(public_id)

    def _forget_external_id(self, entry: Entry) -> None:
        if external_id := entry.draft.external_id:
            known = self._by_external_id[external_id]
            known.remove(entry.public_id)
            if not known:
                del self._by_external_id[external_id]


def _uuid(random: chance.Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))
