"""Labd remembers whom identity providers have vouched for, so that it knows who may be given a lease."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody is remembered; everybody is as soon as they sign in."""
    op.create_table(
        "vouched",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("scopes", sa.JSON),
        sa.Column("seen_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_vouched"),
    )
    op.create_index("ix_vouched_seen_at", "vouched", ["seen_at"])


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("vouched")
