"""Inventory: everything Zentrik holds, by externalId, packed so that a million signals fit in memory."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from syncd.fates import Failed, Outcome, Processed, Unsettled
from syncd.ledger.matching import Find, There
from syncd.signals import LONGEST_ID
from syncd.zentrik import Remote, number_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_REASON = 1000
_pack = json.JSONEncoder(separators=(",", ":")).encode


class Inventory:
    """What pages of the list have shown. `see` may be shown a signal any number of times; the latest counts.

    `nameless` holds the publicIds of the signals that have no externalId, or none that syncd could have given.
    """

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._more: dict[str, list[str]] = {}
        self._nameless: dict[str, str] = {}

    def see(self, page: Sequence[Remote]) -> bool:
        """Take in a page; never has enough."""
        for remote in page:
            name = remote.external_id
            if name is None or not _can_be_ours(name):
                self._nameless[remote.public_id] = _packed(remote)
            elif name not in self._first:
                self._first[name] = _packed(remote)
            else:
                others = [held for held in self._all(name) if json.loads(held)[0] != remote.public_id]
                self._first[name], *more = sorted([*others, _packed(remote)], key=_age)
                if more:
                    self._more[name] = more
        return False

    def __len__(self) -> int:
        return len(self._first) + self.surplus + len(self._nameless)

    @property
    def surplus(self) -> int:
        """How many signals there are beyond the first of each externalId."""
        return sum(map(len, self._more.values()))

    @property
    def nameless(self) -> int:
        """How many signals cannot be matched by externalId."""
        return len(self._nameless)

    def names(self) -> Iterator[str]:
        """Every externalId."""
        return iter(self._first)

    def held(self, external_id: str, public_id: str | None = None) -> list[There]:
        """What Zentrik has under that externalId, first created first; if nothing, the nameless one of that publicId,
        which was posted without its externalId."""
        named = [_unpacked(held) for held in self._all(external_id)]
        if named or public_id not in self._nameless:
            return named
        return [_unpacked(self._nameless[public_id])]

    def finds(self, namespaces: Mapping[str, str]) -> Iterator[Find]:
        """The first created of each externalId, with the connector whose namespace claims it."""
        for name, held in self._first.items():
            yield Find(name, _unpacked(held), claimant(name, namespaces))

    def drop(self, external_id: str) -> None:
        """Forget about an externalId, to have its memory back."""
        self._first.pop(external_id, None)
        self._more.pop(external_id, None)

    def _all(self, name: str) -> list[str]:
        return [self._first[name], *self._more.get(name, ())] if name in self._first else []


def claimant(external_id: str, namespaces: Mapping[str, str]) -> str | None:
    """The connector whose namespace (the keys) that externalId begins with; the longest namespace wins."""
    end = len(external_id)
    while (end := external_id.rfind(":", 0, end)) > 0:
        connector = namespaces.get(external_id[:end])
        if connector is not None:
            return connector
    return None


def _can_be_ours(name: str) -> bool:
    """No signal of ours has such a name as no ledger could keep."""
    return len(name) <= LONGEST_ID and (
        name.isprintable() or not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
    )


def _packed(remote: Remote) -> str:
    match remote.outcome:
        case Processed(insight_ids, _, started_at, ended_at):
            said: tuple[object, ...] = ("p", insight_ids, _micros(started_at), _micros(ended_at))
        case Failed(reason, _, started_at, ended_at):
            said = ("f", reason[:_LONGEST_REASON], _micros(started_at), _micros(ended_at))
        case _:
            said = ()
    return _pack((remote.public_id, remote.job_id, *said))


def _unpacked(held: str) -> There:
    outcome: Outcome
    match json.loads(held):
        case [public_id, job_id, "p", insight_ids, started, ended]:
            outcome = Processed(tuple(insight_ids), job_id, _moment(started), _moment(ended))
        case [public_id, job_id, "f", reason, started, ended]:
            outcome = Failed(reason, job_id, _moment(started), _moment(ended))
        case [public_id, job_id]:
            outcome = Unsettled()
    return There(public_id, job_id, outcome)


def _age(held: str) -> tuple[float, str]:
    """Sorts by when a signal was created, as far as its publicId tells."""
    public_id: str = json.loads(held)[0]
    number = number_of(public_id)
    return float("inf") if number is None else number, public_id


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else _EPOCH + timedelta(microseconds=micros)
