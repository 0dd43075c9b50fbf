"""The changes of benches, live leases, policy and usage are counted."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Counts from 1."""
    standing = op.create_table(
        "standing",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_standing"),
    )
    op.bulk_insert(standing, [{"id": 1, "version": 1}])


def downgrade() -> None:
    """Counts no more."""
    op.drop_table("standing")
