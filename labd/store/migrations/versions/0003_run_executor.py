"""Runs know where their process lives."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every run so far was a process beside labd."""
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("executor", sa.String(16), nullable=False, server_default="process"))
    with op.batch_alter_table("runs") as runs:
        runs.alter_column("executor", server_default=None)


def downgrade() -> None:
    """Forgets it."""
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("executor")
