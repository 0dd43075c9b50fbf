"""The order in which leases arrive is counted beside the lab's standing: a lease has its number before it is stored."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_COUNTED = {
    "postgresql": "UPDATE standing SET last_seq = "
    "coalesce(pg_sequence_last_value(pg_get_serial_sequence('leases', 'seq')::regclass), 0)",
    "sqlite": "UPDATE standing SET last_seq = "
    "(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'leases')",
}
_COUNT_ON = "SELECT setval(pg_get_serial_sequence('leases', 'seq'), last_seq) FROM standing WHERE last_seq > 0"


def upgrade() -> None:
    """Goes on after the last lease that ever came, also if it was removed since."""
    op.add_column("standing", sa.Column("last_seq", sa.Integer, nullable=False, server_default="0"))
    op.execute(sa.text(_COUNTED[op.get_bind().dialect.name]))


def downgrade() -> None:
    """Lets the database count again; SQLite has counted along."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.text(_COUNT_ON))
    op.drop_column("standing", "last_seq")
