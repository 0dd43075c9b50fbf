"""Leases of runs in clusters know the cluster, for the limits of the policy."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those of runs that there are get theirs."""
    op.add_column("leases", sa.Column("cluster", sa.String(63)))
    op.execute("UPDATE leases SET cluster = (SELECT cluster FROM runs WHERE runs.id = leases.run_id)")


def downgrade() -> None:
    """Forgets them."""
    op.drop_column("leases", "cluster")
