"""What agents at another labd measure is seen through all; epochs have 64 bits on PostgreSQL too."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_EPOCHS = (("benches", "epoch"), ("benches", "fenced_epoch"), ("lease_benches", "epoch"))


def upgrade() -> None:
    """SQLite's integers have 64 bits whatever they are called."""
    op.add_column("attachments", sa.Column("power", sa.JSON, nullable=False, server_default="{}"))
    if op.get_bind().dialect.name == "postgresql":
        for table, column in _EPOCHS:
            op.alter_column(table, column, type_=sa.BigInteger, existing_nullable=False)


def downgrade() -> None:
    """Fails when an epoch needs more than 32 bits."""
    if op.get_bind().dialect.name == "postgresql":
        for table, column in _EPOCHS:
            op.alter_column(table, column, type_=sa.Integer, existing_nullable=False)
    op.drop_column("attachments", "power")
