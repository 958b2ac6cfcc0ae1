"""Leases, lanes and paces, outcomes to the end, and what a rebuild remembers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


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
        sa.Column("cut_at", sa.BigInteger),
    ):
        op.add_column("signals", column)
    op.add_column("bodies", sa.Column("next_body", sa.LargeBinary))
    op.add_column("bodies", sa.Column("next_words", sa.Text))
    op.create_index("signals_by_public_id", "signals", ["public_id"])
    queued = sa.text("state = 'queued'")
    op.create_index("signals_queued", "signals", ["lane", "due_at"], sqlite_where=queued, postgresql_where=queued)
    for column in (
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("verdicts", sa.Text),
        sa.Column("halted_at", sa.BigInteger),
        sa.Column("halted_why", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("paused_at", sa.BigInteger),
        sa.Column("rests_until", sa.BigInteger),
        sa.Column("settings", sa.Text),
    ):
        op.add_column("connectors", column)
    op.create_table(
        "remembered",
        sa.Column("external_id", sa.Text, primary_key=True),
        sa.Column("public_id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "subjects",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("signal_id", sa.BigInteger, sa.ForeignKey("signals.id", ondelete="CASCADE"), primary_key=True),
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
