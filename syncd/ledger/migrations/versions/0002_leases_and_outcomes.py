"""Leases, lanes and paces, outcomes to the end, what a rebuild remembers, and edits at the source."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add them."""
    for column in (
        sa.Column("sent_at", sa.BigInteger),
        sa.Column("absent_from", sa.BigInteger),
        sa.Column("first_run", sa.BigInteger),
        sa.Column("accepted_run", sa.BigInteger),
        sa.Column("reruns", sa.Integer, nullable=False, server_default="0"),
        sa.Column("version", sa.Text),
        sa.Column("failed_as", sa.Text),
        sa.Column("lane", sa.Integer, nullable=False, server_default="0"),
        sa.Column("redacted", sa.Text),
        sa.Column("account", sa.Text),
        sa.Column("characters", sa.Integer),
        sa.Column("first_page", sa.Integer),
        sa.Column("content", sa.LargeBinary),
        sa.Column("source_content", sa.LargeBinary),
        sa.Column("revises", sa.BigInteger),
        sa.Column("revision", sa.Integer),
        sa.Column("cut_at", sa.BigInteger),
    ):
        op.add_column("signals", column)
    op.add_column("bodies", sa.Column("next_body", sa.LargeBinary))
    op.add_column("bodies", sa.Column("next_words", sa.Text))
    op.create_index("signals_by_public_id", "signals", ["public_id"])
    queued = sa.text("state = 'queued'")
    op.create_index("signals_queued", "signals", ["lane", "due_at"], sqlite_where=queued, postgresql_where=queued)
    of_each = ["connector", "lane", "due_at"]
    op.create_index("signals_queued_of", "signals", of_each, sqlite_where=queued, postgresql_where=queued)
    revised = sa.text("revises IS NOT NULL")
    op.create_index("signals_by_original", "signals", ["revises"], sqlite_where=revised, postgresql_where=revised)
    op.create_table(
        "revisions",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("signal_id", _Id, sa.ForeignKey("signals.id", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.Column("words", sa.Text),
        sa.Column("number", sa.Integer),
        sa.Column("former_id", sa.Text),
        sa.Column("former", sa.Text),
        sa.Column("former_body", sa.LargeBinary),
        sa.Column("last_error", sa.Text),
        sa.UniqueConstraint("signal_id", "kind", name="revisions_of_signal"),
    )
    op.create_index("revisions_due", "revisions", ["step", "due_at"])
    op.create_index("revisions_by_former", "revisions", ["former_id"])
    for column in (
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("verdicts", sa.Text),
        sa.Column("halted_at", sa.BigInteger),
        sa.Column("halted_why", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("paused_at", sa.BigInteger),
        sa.Column("rests_until", sa.BigInteger),
        sa.Column("settings", sa.Text),
        sa.Column("redaction", sa.Text),
    ):
        op.add_column("connectors", column)
    op.create_table(
        "backfills",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("connector", sa.Text, nullable=False, index=True),
        sa.Column("since", sa.BigInteger),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("asked_until", sa.BigInteger),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
    )
    op.create_table(
        "backfill_slices",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("backfill_id", _Id, sa.ForeignKey("backfills.id", ondelete="CASCADE"), nullable=False, index=True),
        sa.Column("since", sa.BigInteger),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
    )
    op.create_table(
        "remembered",
        sa.Column("external_id", sa.Text, primary_key=True),
        sa.Column("public_id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "lookups",
        sa.Column("asked", sa.Text, primary_key=True),
        sa.Column("field", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("answer", sa.Text),
        sa.Column("looked_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "holds",
        sa.Column("signal_id", _Id, sa.ForeignKey("signals.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("asks", sa.Text, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "subjects",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("signal_id", _Id, sa.ForeignKey("signals.id", ondelete="CASCADE"), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "subject_key",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("noted_after", sa.BigInteger, nullable=False),
        sa.Column("erased_at", sa.BigInteger),
    )
    op.create_table(
        "alerts",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("connector", sa.Text, primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("told_at", sa.BigInteger),
    )
    op.create_table(
        "destination",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("closed_until", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "tempo",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("rate", sa.Float),
        sa.Column("rest", sa.BigInteger),
        sa.Column("posted", sa.Integer, nullable=False),
        sa.Column("early", sa.Integer, nullable=False),
        sa.Column("slowed_at", sa.BigInteger),
        sa.Column("next_at", sa.BigInteger),
    )
    op.create_table(
        "readings",
        sa.Column("run_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("connector", sa.Text, primary_key=True),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "spending",
        sa.Column("connector", sa.Text, primary_key=True),
        sa.Column("begins_at", sa.BigInteger, primary_key=True),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
        sa.Column("signals", sa.Integer, nullable=False),
        sa.Column("characters", sa.BigInteger, nullable=False),
        sa.Column("said", sa.Integer, nullable=False),
    )
