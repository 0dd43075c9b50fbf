"""Benches, leases, runs with their inputs, logs and results."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the first schema."""
    op.create_table(
        "benches",
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("agent", sa.String(253), nullable=False),
        sa.Column("address", sa.String(253), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("healthy", sa.Boolean, nullable=False),
        sa.Column("health_reason", sa.Text, nullable=False),
        sa.Column("buses", sa.JSON, nullable=False),
        sa.Column("ecus", sa.JSON, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("fenced_epoch", sa.Integer, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("last_seen", sa.Float),
        sa.PrimaryKeyConstraint("name", name="pk_benches"),
    )
    op.create_table(
        "leases",
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("selector", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("duration_s", sa.Float, nullable=False),
        sa.Column("ttl_s", sa.Float, nullable=False),
        sa.Column("run_id", sa.String(32)),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("heartbeat_by", sa.Float, nullable=False),
        sa.Column("bench", sa.String(253)),
        sa.Column("epoch", sa.Integer),
        sa.Column("granted_at", sa.Float),
        sa.Column("expires_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("end_reason", sa.String(32)),
        sa.PrimaryKeyConstraint("seq", name="pk_leases"),
        sa.UniqueConstraint("id", name="uq_leases_id"),
        sa.ForeignKeyConstraint(["bench"], ["benches.name"], name="fk_leases_bench"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_leases_state_priority_seq", "leases", ["state", "priority", "seq"])
    op.create_index(
        "uq_leases_granted_bench",
        "leases",
        ["bench"],
        unique=True,
        sqlite_where=sa.text("state = 'GRANTED'"),
        postgresql_where=sa.text("state = 'GRANTED'"),
    )
    op.create_index("uq_leases_bench_epoch", "leases", ["bench", "epoch"], unique=True)
    op.create_table(
        "runs",
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("selector", sa.Text, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("timeout_s", sa.Float, nullable=False),
        sa.Column("lease_id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.Column("passed", sa.Integer),
        sa.Column("failed", sa.Integer),
        sa.Column("error", sa.Integer),
        sa.Column("log_lines", sa.Integer, nullable=False),
        sa.Column("log_bytes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_runs"),
        sa.UniqueConstraint("id", name="uq_runs_id"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_runs_lease_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_table(
        "run_inputs",
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("script", sa.Text, nullable=False),
        sa.Column("files", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_run_inputs"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_inputs_run_id"),
    )
    op.create_table(
        "run_log",
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "seq", name="pk_run_log"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_log_run_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run_results",
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("junit", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_run_results"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_results_run_id"),
    )


def downgrade() -> None:
    """Drops everything: there is nothing before the first schema."""
    for table in ("run_results", "run_log", "run_inputs", "runs", "leases", "benches"):
        op.drop_table(table)
