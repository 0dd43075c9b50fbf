"""Runs remember the trace in which they were asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Runs so far are of none."""
    op.add_column("runs", sa.Column("traceparent", sa.String(55)))


def downgrade() -> None:
    """Forgets them."""
    op.drop_column("runs", "traceparent")
