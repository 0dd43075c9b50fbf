"""Runs in clusters, which may take several attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every run so far was its only attempt, and in no cluster."""
    op.add_column("runs", sa.Column("cluster", sa.String(63)))
    op.add_column("runs", sa.Column("attempt", sa.Integer, nullable=False, server_default="1"))
    op.add_column("runs", sa.Column("cause", sa.String(32)))
    op.add_column("runs", sa.Column("due_at", sa.Float))
    op.execute("UPDATE runs SET due_at = started_at + timeout_s")
    op.create_table(
        "run_attempts",
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("lease_id", sa.String(32), nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("cause", sa.String(32)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_run_attempts"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_attempts_run_id"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_run_attempts_lease_id"),
    )
    op.create_index("ix_run_attempts_lease_id", "run_attempts", ["lease_id"])


def downgrade() -> None:
    """Forgets former attempts, and clusters: what waits for one runs beside labd."""
    op.drop_index("ix_run_attempts_lease_id", "run_attempts")
    op.drop_table("run_attempts")
    op.execute("UPDATE runs SET executor = 'process' WHERE executor = 'kubernetes'")
    for column in ("due_at", "cause", "attempt", "cluster"):
        op.drop_column("runs", column)
