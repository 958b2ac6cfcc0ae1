"""What a source gives: records, and the checkpoint to go on from after them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""Any JSON value."""

Checkpoint: TypeAlias = Mapping[str, Json]
"""A JSON object that only its connector understands; `{}` the first time."""

KINDS = ("transcript", "support_ticket", "review", "feedback_record", "discovery_report")
"""What a record can be: the signalType values of the Signals API."""


@dataclass(frozen=True, slots=True)
class Link:
    """Where a person can look at the original."""

    url: str
    name: str | None = None
    type: str | None = None
    primary: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who took part: the customer, a speaker, an agent."""

    name: str | None = None
    email: str | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Organisation:
    """The customer's company, as the source knows it."""

    name: str | None = None
    domain: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing from a source, in the words of the house.

    `id` is the source's own, stable for ever: it becomes `<namespace>:<id>` at Zentrik. `occurred_at` carries its
    time zone. `attributes` is small JSON worth keeping beside the signal (rating, locale, ticket number). `place` says
    where a person finds it in the source when there is no url («nps.csv line 17»); it is never sent. `version` is
    whatever the source changes with the record (a time of update, an etag): by it a later reading knows, without
    asking for the details again, that the ledger has the record as it is (`Window.known`). With `raw` it is posted as a
    raw signal: these fields take the place of the text and what goes with it. `held` is set by syncd, not by a
    connector: what an account is asked by that Zentrik does not have yet, and that it has to wait for.
    """

    id: str
    kind: str
    text: str
    title: str | None = None
    occurred_at: datetime | None = None
    url: str | None = None
    links: tuple[Link, ...] = ()
    context: str | None = None
    provider: str | None = None
    people: tuple[Person, ...] = ()
    organisation: Organisation | None = None
    attributes: Mapping[str, Json] = field(default_factory=dict)
    product_ids: tuple[str, ...] = ()
    account_id: str | None = None
    account_ids: tuple[str, ...] = ()
    account_external_id: str | None = None
    raw: Mapping[str, Json] | None = None
    held: tuple[tuple[str, str], ...] = ()
    place: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """A body already in the words of the Signals API, posted exactly as it stands.

    Its externalId is the body's own; a body without one is known to the ledger as `<namespace>:<id>`.
    """

    id: str
    body: Mapping[str, Json]
    place: str | None = None


@dataclass(frozen=True, slots=True)
class SetAside:
    """One item of a source that cannot become a record: where it stands, and why not."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some records and the checkpoint to resume from **after** them.

    The `yield` that hands a page over is its commit point: when the generator goes on, the page is in the ledger.

    `filtered` counts items passed over on purpose (the operator's `where`), `unchanged` those that the window said are
    known and whose details were therefore not asked for; `unchanged_at` says where those stand, if something that was
    set aside may have stood there before (another row on that line of a file). `revisit_at` asks for another look at
    that instant because something was there that is not ready yet. `deleted` are the ids of records of which the
    vendor says in so many words that they were deleted; what becomes of their signals the operator decides
    (`on_delete`).
    """

    records: Sequence[Record | RawRecord] = ()
    checkpoint: Checkpoint = field(default_factory=dict)
    set_aside: Sequence[SetAside] = ()
    filtered: int = 0
    unchanged: int = 0
    unchanged_at: Sequence[str] = ()
    revisit_at: datetime | None = None
    deleted: Sequence[str] = ()


Known: TypeAlias = Callable[[Mapping[str, str | None]], Awaitable[Container[str]]]
"""Says which of some records, given as id and version, the ledger has in that version; with None, in any."""


async def _nothing(_: Mapping[str, str | None]) -> Container[str]:
    return frozenset[str]()


@dataclass(frozen=True, slots=True)
class Window:
    """The span asked for, `since` included and `until` not, and the instant of asking; all with time zones.

    `known` tells which records need not be asked for in detail, because the ledger has them already.
    """

    now: datetime
    since: datetime | None = None
    until: datetime | None = None
    known: Known = field(default=_nothing, compare=False, repr=False)

    def holds(self, instant: datetime | None) -> bool:
        """Whether a record of that time belongs; one without a time always does."""
        if instant is None:
            return True
        return not (self.since and instant < self.since) and not (self.until and instant >= self.until)
