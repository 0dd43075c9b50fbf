"""The lab knows its keys, so that it does not go on with those of another."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Those that are there when labd starts next are its own."""
    op.add_column("lab", sa.Column("authority_id", sa.String(64)))
    op.add_column("lab", sa.Column("secrets_key_id", sa.String(64)))


def downgrade() -> None:
    """Forgets them, but for the signing key."""
    op.drop_column("lab", "secrets_key_id")
    op.drop_column("lab", "authority_id")
