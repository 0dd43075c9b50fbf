"""Runs whose script is in a Git repository."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every run so far brought its script."""
    op.add_column("runs", sa.Column("git", sa.JSON))
    op.add_column("runs", sa.Column("commit", sa.String(64)))


def downgrade() -> None:
    """Forgets where scripts came from: those of runs that wait are empty then."""
    op.drop_column("runs", "commit")
    op.drop_column("runs", "git")
