"""People with whom a lease is shared, benches that are promised, and what teams have used."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No lease is shared yet, and no bench promised; use counts from now on."""
    op.create_table(
        "lease_shares",
        sa.Column("lease_id", sa.String(32), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("lease_id", "holder", name="pk_lease_shares"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_lease_shares_lease_id"),
    )
    op.create_table(
        "usage",
        sa.Column("team", sa.String(63), nullable=False),
        sa.Column("hour", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("bench_s", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("team", "hour", name="pk_usage"),
    )
    op.add_column("benches", sa.Column("promised_to", sa.String(32)))


def downgrade() -> None:
    """Forgets them."""
    op.drop_column("benches", "promised_to")
    op.drop_table("usage")
    op.drop_table("lease_shares")
