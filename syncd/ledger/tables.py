"""The ledger's tables, and the states a signal passes through.

Times are whole microseconds since 1970 in UTC (`datetime(first_seen_at / 1e6, 'unixepoch')` reads one in SQLite): the
same on every database, small, and sortable as they stand.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from syncd.logs import redact


class State(StrEnum):
    """Where a signal stands. Declared in the order it moves, each with who moves it on."""

    QUEUED = "queued"
    """In the ledger, to be posted at `due_at`. `dispatch` moves it to SENDING."""

    SENDING = "sending"
    """Committed before the socket opens, for as long as its lease (`due_at`). `dispatch` moves it on with the verdict;
    when the run that was posting it is dead, or froze until the lease was over, it becomes UNKNOWN."""

    UNKNOWN = "unknown"
    """The answer was lost: Zentrik may have it or not. `reconcile` looks: found becomes PROCESSING, absent QUEUED."""

    PROCESSING = "processing"
    """Zentrik has it. `track` moves it on with the outcome."""

    PROCESSED = "processed"
    """Zentrik drew its insights. The end, unless the record changes at its source."""

    FAILED = "failed"
    """Zentrik could not process it. While its budget lasts (`due_at`), and after it by `syncd retry`, it is processed
    again."""

    REJECTED = "rejected"
    """Zentrik refused the record. `syncd retry`, or a changed record, queues it again."""

    DELETED = "deleted"
    """Zentrik had it and has it no longer: somebody deleted it there. The end; only `syncd retry EXTERNAL_ID` posts it
    again."""

    FORGOTTEN = "forgotten"
    """Erased on request: a tombstone that keeps its record from coming in again. The end. While Zentrik still has it
    (`due_at` is set), the next `syncd forget --yes` goes on with it."""


class Lane(IntEnum):
    """Which queue a signal stands in."""

    NEWS = 0
    """What just happened at its source. It goes first."""

    BACKLOG = 1
    """One of many that were there before: a backfill, a first reading, a flood."""


class Instant(TypeDecorator[datetime]):
    """A time-zone-aware datetime in UTC, kept as microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True
    _epoch = datetime(1970, 1, 1, tzinfo=UTC)

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002
        """Refuses a naive datetime: a time without a zone is a defect, never data."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return (value - self._epoch) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Back to an aware datetime."""
        return None if value is None else self._epoch + timedelta(microseconds=value)


class Span(TypeDecorator[timedelta]):
    """A length of time, kept as microseconds."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002
        """Whole microseconds."""
        return None if value is None else value // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> timedelta | None:  # noqa: ARG002
        """Back to a timedelta."""
        return None if value is None else timedelta(microseconds=value)


class JsonText(TypeDecorator[Any]):
    """JSON kept as compact ASCII, so that both databases give back the very same value: a file name that is half a
    character too."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """None stays NULL."""
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        """NULL stays None."""
        return None if value is None else json.loads(value)


class Words(TypeDecorator[str]):
    """Text in somebody else's words, less our secrets if they repeat them, and less what no database keeps: half a
    character, and on PostgreSQL NUL."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """The text, storable."""
        return None if value is None else redact(value).replace("\0", "").encode("utf-8", "replace").decode()


metadata = sa.MetaData()

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # only INTEGER PRIMARY KEY numbers itself in SQLite


def _partial_index(name: str, *columns: str, where: str) -> sa.Index:
    """An index of those rows alone; what asks by it has to say the same in the same words."""
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


signals = sa.Table(
    "signals",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("external_id", sa.Text, nullable=False, unique=True),
    sa.Column("connector", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),  # sha256 of the body that is or was sent
    sa.Column("source_fingerprint", sa.LargeBinary),  # of the body last seen at the source, where it differs
    sa.Column("signal_type", sa.Text),
    sa.Column("name", sa.Text),
    sa.Column("occurred_at", Instant),
    sa.Column("source_url", sa.Text),
    sa.Column("place", sa.Text),
    sa.Column("first_seen_at", Instant, nullable=False),
    sa.Column("due_at", Instant),  # when whoever moves it on should next look at it; NULL at rest
    sa.Column("attempts", sa.Integer, nullable=False),  # POSTs ever; a verdict must name the one it answers
    sa.Column("failures", sa.Integer, nullable=False),  # POSTs in a row that came to nothing; sets the backoff
    sa.Column("looks", sa.Integer, nullable=False),  # times its outcome was asked for
    sa.Column("run_id", sa.BigInteger),  # the run that last touched it
    sa.Column("last_error", Words),
    sa.Column("public_id", sa.Text),
    sa.Column("job_id", sa.Text),
    sa.Column("insight_ids", JsonText),
    sa.Column("accepted_at", Instant),
    sa.Column("processing_started_at", Instant),  # this and settled_at by Zentrik's clock
    sa.Column("settled_at", Instant),
    sa.Column("sent_at", Instant),  # when it was last claimed for posting
    sa.Column("absent_from", Instant),  # of an unknown one: a sweep begun from then on may call it absent
    sa.Column("first_run", sa.BigInteger),  # the run that queued it
    sa.Column("accepted_run", sa.BigInteger),  # the run that saw it accepted
    sa.Column("reruns", sa.Integer, nullable=False, server_default="0"),  # times its processing was asked for again
    sa.Column("version", sa.Text),  # what its source calls the version seen last
    sa.Column("failed_as", sa.Text),  # which processing failed last, so that stale news of it is known as such
    sa.Column("lane", sa.Integer, nullable=False, server_default="0"),  # see `Lane`
    sa.Column("redacted", JsonText),  # how much was taken out of its body, by kind; NULL where nothing was
    sa.Column("account", sa.Text),  # the account its body names, as posted
    sa.Column("characters", sa.Integer),  # of its name, text and context
    sa.Column("first_page", sa.Integer),  # of the reading that queued it, counted from 1
    sa.Column("content", sa.LargeBinary),  # digest of the evidence sent; NULL in rows of syncd 0.1 not seen since
    sa.Column("source_content", sa.LargeBinary),  # of that last seen at the source, where it differs
    sa.Column("revises", sa.BigInteger),  # the signal whose record changed and became this one
    sa.Column("revision", sa.Integer),  # the n of <externalId>#n; else how often its text was replaced
    sa.Column("cut_at", Instant),  # when what only people read of it was dropped, long after it had settled
    sa.Index("signals_by_public_id", "public_id"),
    sa.Index("signals_by_state", "connector", "state"),
    _partial_index("signals_due", "state", "due_at", where="due_at IS NOT NULL"),
    sa.Index("signals_by_run", "run_id"),
    _partial_index("signals_queued", "lane", "due_at", where="state = 'queued'"),
    _partial_index("signals_queued_of", "connector", "lane", "due_at", where="state = 'queued'"),
    _partial_index("signals_by_original", "revises", where="revises IS NOT NULL"),
)

IS_QUEUED = signals.c.state == sa.literal_column(f"'{State.QUEUED}'")
"""Written out, so that a database sees that the index of the queued ones serves."""

bodies = sa.Table(
    "bodies",
    metadata,
    sa.Column("signal_id", sa.ForeignKey("signals.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("next_body", sa.LargeBinary),  # of a record that changed while nobody knew whether Zentrik has this one
    sa.Column("next_words", JsonText),  # what that record says of itself
)
"""What is posted, apart from the state: changing a state must not rewrite a long transcript."""

revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("signal_id", sa.ForeignKey("signals.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # an edit or a deletion
    sa.Column("step", sa.Text, nullable=False),  # see `revisions.Step`
    sa.Column("due_at", Instant),  # when the step is to be taken; NULL waits for something else
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),  # a result must name the one it comes from
    sa.Column("run_id", sa.BigInteger),  # the run that has it in hand until `due_at`
    sa.Column("changed_at", Instant, nullable=False),  # when the source showed it last
    sa.Column("body", sa.LargeBinary),  # of the changed record, until it is queued
    sa.Column("words", JsonText),  # what that record says of itself
    sa.Column("number", sa.Integer),  # the n of <externalId>~replaced-n
    sa.Column("former_id", sa.Text),  # the publicId of the signal that is being replaced
    sa.Column("former", JsonText),  # its columns, to be put back
    sa.Column("former_body", sa.LargeBinary),
    sa.Column("last_error", Words),
    sa.UniqueConstraint("signal_id", "kind", name="revisions_of_signal"),
    sa.Index("revisions_due", "step", "due_at"),
    sa.Index("revisions_by_former", "former_id"),
)
"""What is under way because a record changed or was deleted at its source: one row for each, until it is done."""

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("signal_id", sa.ForeignKey("signals.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("detail", Words),
)
"""What happened to a signal after it was queued: each answer, outcome and operator's action, in order."""

subjects = sa.Table(
    "subjects",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("signal_id", sa.ForeignKey("signals.id", ondelete="CASCADE"), primary_key=True),
    sqlite_with_rowid=False,
)
"""Whom a signal speaks of, each as a keyed digest; by it `syncd forget` finds the signals of an address or account. No
index by signal: it would double the table, and only erasing asks that way round."""

subject_key = sa.Table(
    "subject_key",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.LargeBinary, nullable=False),
    sa.Column("noted_after", sa.BigInteger, nullable=False),  # of signals up to this id nobody noted the subjects
    sa.Column("erased_at", Instant),  # when a signal was forgotten for the first time; NULL while there is no tombstone
)
"""One row at most: the key of all digests, drawn when the first is made."""

set_aside = sa.Table(
    "set_aside",
    metadata,
    sa.Column("connector", sa.Text, primary_key=True),
    sa.Column("place", Words, primary_key=True),
    sa.Column("reason", Words, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
    sa.Column("run_id", sa.BigInteger),
)
"""Items of a source that could not become records, with the place and the reason, for people to mend."""

connectors = sa.Table(
    "connectors",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("namespace", sa.Text, nullable=False),
    sa.Column("checkpoint", JsonText, nullable=False),
    sa.Column("checkpoint_at", Instant),
    sa.Column("run_id", sa.BigInteger),  # the run that is reading it; NULL when none is
    sa.Column("started_at", Instant),
    sa.Column("finished_at", Instant),
    sa.Column("succeeded_at", Instant),
    sa.Column("error_code", sa.Text),
    sa.Column("error_message", Words),
    sa.Column("lease_until", Instant),  # renewed by each page; a run that froze for longer is taken over from
    sa.Column("verdicts", sa.Text),  # the last ones: a(ccepted), r(efused)
    sa.Column("halted_at", Instant),  # since when nothing of it is posted; NULL when all is well
    sa.Column("halted_why", Words),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # readings in a row that ended in an error
    sa.Column("paused_at", Instant),  # since when it is not read by itself, because somebody said so
    sa.Column("rests_until", Instant),  # until when its vendor wants to be left alone
    sa.Column("settings", sa.Text),  # a digest of its settings, to see that they changed
    sa.Column("redaction", sa.Text),  # a digest of the redaction that all its bodies that wait went through
)
"""One row a connector: where its reading stands, how its last run went, and whether its records are taken."""

backfills = sa.Table(
    "backfills",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("connector", sa.Text, nullable=False, index=True),
    sa.Column("since", Instant),  # NULL: from the source's beginning
    sa.Column("until", Instant, nullable=False),
    sa.Column("asked_until", Instant),  # NULL: nobody said until when, and `until` is when it was begun
    sa.Column("settings", sa.Text, nullable=False),  # a digest of the connector's settings it is read with
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
)
"""Windows of the past that somebody asked for, apart from the live reading of their connector."""

slices = sa.Table(
    "backfill_slices",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("backfill_id", sa.ForeignKey("backfills.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("since", Instant),
    sa.Column("until", Instant, nullable=False),
    sa.Column("checkpoint", JsonText, nullable=False),
    sa.Column("run_id", sa.BigInteger),  # the run that is reading it; NULL when none is
    sa.Column("lease_until", Instant),  # renewed by each page
    sa.Column("finished_at", Instant),
)
"""The parts of a backfill's window, each read from a checkpoint of its own."""

remembered = sa.Table(
    "remembered",
    metadata,
    sa.Column("external_id", sa.Text, primary_key=True),
    sa.Column("public_id", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
)
"""What a rebuild found at Zentrik under names that no connector's namespace claims. A record that turns up under one is
taken as delivered."""

lookups = sa.Table(
    "lookups",
    metadata,
    sa.Column("asked", sa.Text, primary_key=True),
    sa.Column("field", sa.Text, primary_key=True),  # what it was looked for by: externalId, domain, name
    sa.Column("kind", sa.Text, primary_key=True),  # accounts, products; creation: an account is being created
    sa.Column("answer", JsonText),  # NULL: there was none
    sa.Column("looked_at", Instant, nullable=False),
)
"""What Zentrik said of the accounts and products that records named, so that it is not asked again for each."""

holds = sa.Table(
    "holds",
    metadata,
    sa.Column("signal_id", sa.ForeignKey("signals.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("asks", JsonText, nullable=False),  # fields and values, in turn
    sa.Column("due_at", Instant, nullable=False, index=True),  # when Zentrik is asked again
)
"""What queued signals without a `due_at` wait for: an account that Zentrik does not have yet."""

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("command", sa.Text, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.Column("figures", JsonText),
    sa.Column("cleared_at", Instant),  # when it cleared away what is no longer to be kept, if it did
)
"""Each run and the figures it printed."""

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("connector", sa.Text, primary_key=True),  # empty for what concerns the whole
    sa.Column("since", Instant, nullable=False),
    sa.Column("told_at", Instant),  # when somebody was told; NULL while it is too young to be told
)
"""What is wrong, and whether it was told: one row for each trouble, for as long as there is something to tell of it."""

destination = sa.Table(
    "destination",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("closed_until", Instant, nullable=False),
    sa.Column("reason", Words, nullable=False),
)
"""One row at most: until when Zentrik asked to be left alone, by all who use this ledger."""

tempo = sa.Table(
    "tempo",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("rate", sa.Float),  # posts a second; NULL when they are not spaced out
    sa.Column("rest", Span),  # how long Zentrik was to be left alone
    sa.Column("posted", sa.Integer, nullable=False),  # since then
    sa.Column("early", sa.Integer, nullable=False),  # refusals that came soon after the one before
    sa.Column("slowed_at", Instant),
    sa.Column("next_at", Instant),  # the next turn
)
"""One row at most: the pace at which Zentrik lets us post, all who use this ledger together."""

readings = sa.Table(
    "readings",
    metadata,
    sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("connector", sa.Text, primary_key=True),
    sa.Column("settings", sa.Text, nullable=False),  # as in `connectors`, by which its records were mapped
    sa.Column("began_at", Instant, nullable=False),  # when its first page with something in it was stored
    sa.Column("ended_at", Instant, nullable=False),  # when its last one was
)
"""The readings of a connector in a run that brought something: by what settings a signal came to be what it is."""

spending = sa.Table(
    "spending",
    metadata,
    sa.Column("connector", sa.Text, primary_key=True),
    sa.Column("begins_at", Instant, primary_key=True),
    sa.Column("ends_at", Instant, nullable=False),
    sa.Column("signals", sa.Integer, nullable=False),
    sa.Column("characters", sa.BigInteger, nullable=False),
    sa.Column("said", sa.Integer, nullable=False),  # 1 that it is nearly spent, 2 that it is spent
)
"""What was posted of each connector that has a budget, day by day: what Zentrik took, or may have taken."""
