"""Users, teams, memberships, and API tokens."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Everybody was anonymous so far. The team of whoever names none is there from the start."""
    op.create_table(
        "users",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("removed_at", sa.Float),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
    )
    teams = op.create_table(
        "teams",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_teams"),
    )
    op.create_table(
        "memberships",
        sa.Column("team", sa.String(63), nullable=False),
        sa.Column("member", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("team", "member", name="pk_memberships"),
    )
    op.create_index("ix_memberships_member", "memberships", ["member"])
    op.create_table(
        "api_tokens",
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("scopes", sa.JSON),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
        sa.Column("last_used_at", sa.Float),
        sa.PrimaryKeyConstraint("prefix", name="pk_api_tokens"),
        sa.ForeignKeyConstraint(["owner"], ["users.name"], name="fk_api_tokens_owner"),
    )
    op.create_index("ix_api_tokens_owner", "api_tokens", ["owner"])
    op.bulk_insert(teams, [{"name": "default", "created_at": time.time()}])


def downgrade() -> None:
    """Forgets who is who."""
    for table in ("api_tokens", "memberships", "teams", "users"):
        op.drop_table(table)
