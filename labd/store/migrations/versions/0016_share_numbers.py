"""Shares can be taken back: each has a number, below which agents refuse tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every share is the first with its person, and goes on."""
    op.add_column("lease_shares", sa.Column("number", sa.Integer, nullable=False, server_default="0"))
    op.add_column("lease_shares", sa.Column("live", sa.Boolean, nullable=False, server_default=sa.true()))


def downgrade() -> None:
    """Forgets whom a lease was shared with before."""
    op.execute(sa.text("DELETE FROM lease_shares WHERE NOT live"))
    op.drop_column("lease_shares", "live")
    op.drop_column("lease_shares", "number")
