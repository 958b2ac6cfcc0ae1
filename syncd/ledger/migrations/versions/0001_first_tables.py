"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "signals",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("external_id", sa.Text, nullable=False, unique=True),
        sa.Column("connector", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("source_fingerprint", sa.LargeBinary),
        sa.Column("signal_type", sa.Text),
        sa.Column("name", sa.Text),
        sa.Column("occurred_at", sa.BigInteger),
        sa.Column("source_url", sa.Text),
        sa.Column("place", sa.Text),
        sa.Column("first_seen_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("looks", sa.Integer, nullable=False),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("last_error", sa.Text),
        sa.Column("public_id", sa.Text),
        sa.Column("job_id", sa.Text),
        sa.Column("insight_ids", sa.Text),
        sa.Column("accepted_at", sa.BigInteger),
        sa.Column("processing_started_at", sa.BigInteger),
        sa.Column("settled_at", sa.BigInteger),
    )
    op.create_index("signals_by_state", "signals", ["connector", "state"])
    op.create_index(
        "signals_due",
        "signals",
        ["state", "due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("signals_by_run", "signals", ["run_id"])
    op.create_table(
        "bodies",
        sa.Column("signal_id", _Id, sa.ForeignKey("signals.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("signal_id", _Id, sa.ForeignKey("signals.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
    )
    op.create_index("ix_events_signal_id", "events", ["signal_id"])
    op.create_table(
        "set_aside",
        sa.Column("connector", sa.Text, primary_key=True),
        sa.Column("place", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.BigInteger),
    )
    op.create_table(
        "connectors",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("namespace", sa.Text, nullable=False),
        sa.Column("checkpoint", sa.Text, nullable=False),
        sa.Column("checkpoint_at", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("succeeded_at", sa.BigInteger),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
    )
    op.create_table(
        "runs",
        sa.Column("id", _Id, primary_key=True),
        sa.Column("command", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("figures", sa.Text),
        sa.Column("cleared_at", sa.BigInteger),
    )
