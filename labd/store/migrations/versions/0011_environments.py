"""Environments: variables and sealed secrets that runs are given."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """There were none so far."""
    op.create_table(
        "secrets",
        sa.Column("team", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sa.Column("updated_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("team", "name", name="pk_secrets"),
    )
    op.create_table(
        "environments",
        sa.Column("team", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("variables", sa.JSON, nullable=False),
        sa.Column("secrets", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("team", "name", name="pk_environments"),
    )
    op.create_table(
        "run_environments",
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("team", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.PrimaryKeyConstraint("run_id", name="pk_run_environments"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_environments_run_id"),
    )


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("run_environments")
    op.drop_table("environments")
    op.drop_table("secrets")
