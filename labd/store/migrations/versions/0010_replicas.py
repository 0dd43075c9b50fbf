"""Several labds on one database."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """There was one so far: runs of the process executor are whose they were."""
    lab = op.create_table(
        "lab",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("term", _BIG, nullable=False),
        sa.Column("leader", sa.String(64)),
        sa.Column("leader_backend", sa.Integer),
        sa.Column("alive_at", sa.Float),
        sa.Column("alive_at_server", sa.Float),
        sa.Column("stalls", _BIG, nullable=False),
        sa.Column("forgiven", _BIG, nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.PrimaryKeyConstraint("id", name="pk_lab"),
    )
    op.bulk_insert(lab, [{"id": 1, "term": 0, "stalls": 0, "forgiven": 0}])
    op.create_table(
        "replicas",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("beats", _BIG, nullable=False),
        sa.Column("beat_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_replicas"),
    )
    op.create_table(
        "attachments",
        sa.Column("agent", sa.String(253), nullable=False),
        sa.Column("replica", sa.String(64), nullable=False),
        sa.Column("session", sa.String(64), nullable=False),
        sa.Column("last_seen", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("agent", name="pk_attachments"),
    )
    op.create_index("ix_attachments_replica", "attachments", ["replica"])
    op.add_column("runs", sa.Column("replica", sa.String(64)))


def downgrade() -> None:
    """Forgets them."""
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("replica")
    for table in ("attachments", "replicas", "lab"):
        op.drop_table(table)
