"""What is recorded is kept for as long as the lab wants."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Everything is kept until somebody says otherwise."""
    op.create_table(
        "retention",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retention"),
    )
    op.create_index("ix_runs_ended_at", "runs", ["ended_at"])
    op.create_index("ix_run_data_files_sha256", "run_data_files", ["sha256"])


def downgrade() -> None:
    """Keeps everything again."""
    op.drop_index("ix_run_data_files_sha256", "run_data_files")
    op.drop_index("ix_runs_ended_at", "runs")
    op.drop_table("retention")
