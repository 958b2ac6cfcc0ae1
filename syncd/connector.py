"""The contract a source fulfils. A connector imports from here and from nowhere else in the house.

A source promises:

- to start from `checkpoint`; `{}` means from `window.since`, or from the beginning;
- that a page's checkpoint covers everything up to and including that page. If the vendor serves newest first only,
  repeat the old checkpoint on every page but the last;
- to ask again from the last instant on ties, never after it: the ledger skips what it knows, a gap is lost for good;
- to ask for no details of a record that `window.known` has, and to count it in the page's `unchanged`;
- to name, in the page's `deleted`, the ids of records that its vendor says were deleted. Only an explicit word of the
  vendor's counts: a record that is merely no longer shown is not deleted;
- to keep records that are not ready yet in the checkpoint as pending ids, and to ask for them again;
- to retry nothing, sleep nowhere, log nothing, and remember nothing between calls.

The house gives in return: a client that raises on error statuses, waits out 429 and 5xx, keeps the connector's limits,
sends credentials only to the hosts the connector declares, and never along a redirect to another of them; a ledger that
has committed each page when its `yield` returns; and a generator that is closed whatever happens.

Secrets of the settings, and the token of each Authorization header that goes out (so one that `auth` fetched on the
way as well), are kept out of every log, message and record; a checkpoint that holds one is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import httpx

from syncd.dates import UnreadableDate, instant
from syncd.edits import AS_IT_WAS, Edits
from syncd.errors import CredentialsRefused, CursorStuck, RateLimited, RecordError, ShapeChanged, SourceError
from syncd.fields import Duration, Settings, TimeZone, WebAddress, lasting
from syncd.mapping import NOTHING, Mapping
from syncd.pacing import Limit
from syncd.records import (
    KINDS,
    Checkpoint,
    Json,
    Link,
    Organisation,
    Page,
    Person,
    RawRecord,
    Record,
    SetAside,
    Window,
)
from syncd.redaction import Redaction

__all__ = [
    "KINDS",
    "Checkpoint",
    "Connector",
    "CredentialsRefused",
    "CursorStuck",
    "Duration",
    "Json",
    "Limit",
    "Link",
    "Organisation",
    "Page",
    "Person",
    "RateLimited",
    "RawRecord",
    "Record",
    "RecordError",
    "SetAside",
    "Settings",
    "ShapeChanged",
    "Source",
    "SourceError",
    "TimeZone",
    "UnreadableDate",
    "WebAddress",
    "Window",
    "instant",
    "lasting",
]


class Connector(Settings, ABC):
    """A source of records. Its fields are its settings; secrets are `SecretStr`.

    What a vendor does in its own way (its limits, its words for «too fast» and for errors) is said by `limits`,
    `status_of`, `asks_to_wait` and `advice`; a connector without such ways leaves them as they are.
    """

    provider: ClassVar[str]
    """The providerType its signals carry, in the vocabulary of the Signals API (`zendesk`, `g2`, `manual_csv`)."""

    windowed: ClassVar[bool] = False
    """Whether `fetch` asks its vendor for no more than lies between the window's `since` and `until`. A long window is
    then read in slices, several at once; of others each slice would show the whole again."""

    def default_namespace(self, name: str) -> str | None:  # noqa: ARG002 - for connectors that have a use for it
        """What stands before the last colon of an externalId unless the operator says otherwise.

        `name` is the operator's name for this connector; None means `<type>:<name>`. A connector that knows something
        more lasting (an account, a product) gives that instead (`zendesk:acme`), so that renaming the entry changes no
        externalId.
        """
        return None

    def hosts(self) -> frozenset[str]:
        """The only hosts that are spoken to, and so the only ones that see credentials. `*.zoom.us` is every host below
        that one."""
        return frozenset()

    def auth(self) -> httpx.Auth | None:
        """How requests to those hosts are authenticated."""
        return None

    def limits(self) -> Sequence[Limit]:
        """The rate limits that the vendor documents. Requests wait for their turn, so that none is refused."""
        return ()

    def status_of(self, answer: httpx.Response) -> int:
        """The status an answer has in truth, from a vendor that says 200 to everything."""
        return answer.status_code

    def asks_to_wait(self, answer: httpx.Response, now: datetime) -> timedelta | None:  # noqa: ARG002 - see above
        """How long the vendor wants to be left alone, where it says so otherwise than by Retry-After.

        Of a 429 or 5xx: before that request is made again. Of a good answer (no call is left): before the next one.
        """
        return None

    def advice(self, answer: httpx.Response) -> str | None:  # noqa: ARG002 - see above
        """What an error means in the vendor's terms, and what to do about it; one sentence or two, without a full stop
        at the end."""
        return None

    def out_of_reach(self, since: datetime | None, now: datetime) -> str | None:  # noqa: ARG002 - see above
        """What the source cannot show of the time since then (None: since its beginning), where it does not go back so
        far; one sentence, without a full stop at the end. It is read as far back as it goes all the same."""
        return None

    def watched(self) -> Sequence[Path]:
        """The files and folders of this machine that it reads: a change in one of them is worth a reading at once."""
        return ()

    @abstractmethod
    def fetch(self, http: httpx.AsyncClient, checkpoint: Checkpoint, window: Window) -> AsyncGenerator[Page, None]:
        """Yield pages from `checkpoint` on, and stop when there is nothing more for now.

        Raises `SourceError` (or the client's own errors, which the house sorts) when the source cannot be read on.
        """

    @abstractmethod
    async def check(self, http: httpx.AsyncClient) -> str:
        """See with one cheap look that the source can be read, and say in a few words what was seen.

        Raises `SourceError` saying in the vendor's terms what is wrong and what to do.
        """


@dataclass(frozen=True, slots=True)
class Source:
    """A connector as the operator configured it: their name for it, its namespace, and how far back it goes.

    With `allow_http` it may speak plain http to other machines. `redaction` is what is taken out of its records before
    they are kept (None: nothing). `mapping` is what becomes of its records on their way. `edits` says what is done
    about records that change or are deleted there.
    """

    name: str
    type: str
    namespace: str
    connector: Connector
    since: datetime | None = None
    allow_http: bool = False
    redaction: Redaction | None = None
    mapping: Mapping = NOTHING
    edits: Edits = AS_IT_WAS
