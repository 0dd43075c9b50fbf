"""Labd remembers which pod has proved itself to be an attempt of a run."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """None has so far."""
    op.create_table(
        "run_pods",
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("uid", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "attempt", name="pk_run_pods"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_pods_run_id"),
    )


def downgrade() -> None:
    """Forgets them: pods that run have their tokens."""
    op.drop_table("run_pods")
