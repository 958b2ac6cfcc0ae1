"""Every error syncd raises on purpose, sorted by what happens next.

    SyncdError
    ├── ConfigError             nothing starts; the operator mends the configuration        exit 2
    ├── SourceError             this connector stops, its checkpoint stays; the others go on exit 1
    │   ├── CredentialsRefused  ... until its credentials change
    │   ├── RateLimited         ... until the time the vendor names
    │   ├── CursorStuck         ... until the vendor's pages lead on again
    │   └── ShapeChanged        ... until the connector learns the vendor's new answer
    ├── RecordError             this one record is set aside with its reason; the page goes on
    ├── DestinationError        everything to Zentrik stops; every record is kept            exit 3
    │   ├── KeyRefused          ... until the key changes
    │   └── NotReady            ... until Zentrik is well again
    └── LedgerError             the engine stops: without its books syncd does nothing        exit 1
        └── LedgerUnusable      ... it cannot even be opened                                  exit 2

A message says what happened, where, and what to do about it.
"""

from __future__ import annotations

from datetime import datetime


class SyncdError(Exception):
    """Something went wrong that syncd has words for."""

    exit_code = 1


class ConfigError(SyncdError):
    """The configuration cannot be used."""

    exit_code = 2


class SourceError(SyncdError):
    """A source cannot be read any further in this run.

    `code` is one stable word for scripts (`run-once --json` prints it).
    """

    code = "source_error"


class CredentialsRefused(SourceError):
    """The source refused our credentials (401, 403, or its own words for it). `status` is the answer's, if it was one:
    a refusal of one item only may be met by setting that item aside."""

    code = "credentials_refused"

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(SourceError):
    """The source wants to be left alone until `until`, and that is longer than one request may wait."""

    code = "rate_limited"

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class CursorStuck(SourceError):
    """A source goes round in circles: it would be read for ever."""

    code = "cursor_stuck"


class ShapeChanged(SourceError):
    """The source answered in a shape its connector does not know."""

    code = "shape_changed"


class RecordError(SyncdError):
    """One record cannot become a signal."""


class DestinationError(SyncdError):
    """Zentrik cannot be posted to, whatever the record."""

    exit_code = 3


class KeyRefused(DestinationError):
    """Zentrik refused our key, or the address is not the Signals API."""


class NotReady(DestinationError):
    """Zentrik did not become ready within the time given."""


class LedgerError(SyncdError):
    """The ledger could not be read or written."""


class LedgerUnusable(LedgerError):
    """The ledger cannot be opened at all."""

    exit_code = 2
