"""How the API misbehaves: the wish (`Faults`), and its execution call by call (`Mischief`)."""

from __future__ import annotations

import random as chance
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Mishap = Literal[
    "429",
    "429_bare",
    "500",
    "502",
    "503",
    "504",
    "html_404",
    "cut_before",
    "cut_after",
    "torn",
    "garbled",
    "hold",
]
"""What can happen to one call.

- `429`, `429_bare`: too many, with Retry-After (see `Faults.retry_after`) and without it; nothing is stored
- `500`, `502`, `503`: an error of the server; nothing is stored
- `504`: the gateway gave up waiting; the signal **is** stored
- `html_404`: the web page a wrong address answers; nothing is stored
- `cut_before`: the connection is aborted before the signal is stored
- `cut_after`: ... after it is stored; the reply never leaves
- `torn`: stored; the connection is aborted in the middle of the reply
- `garbled`: stored; the reply is complete by its length, but its JSON is cut in half
- `hold`: stored; the reply waits for `Faults.hold_for` seconds
"""

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]

SCOPES = (
    *("signals:read", "signals:write", "signals:delete"),
    *("accounts:read", "accounts:write", "products:read", "products:write"),
)


class Faults(BaseModel):
    """A description of misbehaviour; by default there is none. Can be written as JSON.

    `next_*` name what happens to the coming calls, one each in that order; after them, `share_of_*` gives the
    probability of each mishap. Posts are the calls that create a signal; reads are the list and single GETs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    next_posts: tuple[Mishap, ...] = ()
    share_of_posts: Mapping[Mishap, Share] = {}
    next_reads: tuple[Mishap, ...] = ()
    share_of_reads: Mapping[Mishap, Share] = {}
    next_lookups: tuple[Mishap, ...] = ()
    """The same for the calls that look for accounts and products."""
    next_accounts: tuple[Mishap, ...] = ()
    """The same for those that create one."""

    latency: Seconds = 0
    """Seconds every call waits before it is looked at. A post is stored then even if its caller has left."""
    jitter: Seconds = 0
    """Up to so many seconds more, evenly drawn."""
    hold_for: Seconds = 120
    """How long the mishap `hold` waits."""

    rate_limit: Annotated[float, Field(gt=0)] | None = None
    """Calls a second; those beyond it are answered 429. One second's worth may come at once."""
    retry_after: Literal["seconds", "date", "none"] = "seconds"
    """The form of Retry-After on a 429."""
    retry_after_seconds: Annotated[int, Field(ge=0)] = 1
    """What it asks for."""

    failing: Share = 0
    """The share of processing runs that fail."""
    failing_marker: str | None = "[sandbox: fail]"
    """Processing fails whenever this stands in the text."""

    ready: bool = True
    """What /readyz says."""
    scopes: tuple[str, ...] = SCOPES
    """What the key may do."""

    @model_validator(mode="after")
    def _shares_fit(self) -> Faults:
        for name in ("share_of_posts", "share_of_reads"):
            if sum(getattr(self, name).values()) > 1 + 1e-9:
                raise ValueError(f"{name} add up to more than 1")
        return self


class Mischief:
    """Decides, call by call, what happens; the same seed and the same calls give the same mishaps."""

    def __init__(self, faults: Faults, *, now: Callable[[], datetime], random: chance.Random) -> None:
        self._now = now
        self._random = random
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """The wish in force. Setting it starts its `next_*` and its rate limit afresh."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._next_posts = deque(faults.next_posts)
        self._next_reads = deque(faults.next_reads)
        self._next_lookups = deque(faults.next_lookups)
        self._next_accounts = deque(faults.next_accounts)
        self._allowance = max(1.0, faults.rate_limit or 1.0)
        self._counted_at = self._now()

    def to_post(self) -> Mishap | None:
        """What happens to this post."""
        return self._drawn(self._next_posts, self._faults.share_of_posts)

    def to_read(self) -> Mishap | None:
        """What happens to this read."""
        return self._drawn(self._next_reads, self._faults.share_of_reads)

    def to_lookup(self) -> Mishap | None:
        """What happens to this look for an account or a product."""
        return self._drawn(self._next_lookups, {})

    def to_account(self) -> Mishap | None:
        """What happens to the creation of this account or product."""
        return self._drawn(self._next_accounts, {})

    def too_fast(self) -> bool:
        """Whether this call is one too many; if not, it is counted."""
        rate = self._faults.rate_limit
        if rate is None:
            return False
        now = self._now()
        earned = rate * max(0.0, (now - self._counted_at).total_seconds())
        self._allowance = min(max(1.0, rate), self._allowance + earned)
        self._counted_at = now
        if self._allowance < 1:
            return True
        self._allowance -= 1
        return False

    def latency(self) -> float:
        """How many seconds this call waits."""
        faults = self._faults
        return faults.latency + (faults.jitter * self._random.random() if faults.jitter else 0)

    def fails(self, text: str) -> bool:
        """Whether a processing run over this text fails."""
        faults = self._faults
        if faults.failing_marker and faults.failing_marker in text:
            return True
        return faults.failing > 0 and self._random.random() < faults.failing

    def _drawn(self, coming: deque[Mishap], shares: Mapping[Mishap, float]) -> Mishap | None:
        if coming:
            return coming.popleft()
        if not shares:
            return None
        lot = self._random.random()
        for mishap, share in shares.items():
            lot -= share
            if lot < 0:
                return mishap
        return None
