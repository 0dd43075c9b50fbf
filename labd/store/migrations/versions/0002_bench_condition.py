"""Quarantine, the latest clean-up, and further equipment of benches."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Benches known so far are in no quarantine; their agents tell the rest when they attach."""
    # Not in batch mode: that would make the table anew, and leases refer to it.
    op.add_column("benches", sa.Column("quarantined", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("benches", sa.Column("last_clean_up", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("benches", sa.Column("equipment", sa.JSON, nullable=False, server_default="{}"))


def downgrade() -> None:
    """Forgets them."""
    for name in ("equipment", "last_clean_up", "quarantined"):
        op.drop_column("benches", name)
