"""Agents enrol, and have a certificate."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No agent so far has enrolled."""
    op.create_table(
        "agents",
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("enrolment", sa.Integer, nullable=False),
        sa.Column("token_hash", sa.String(64)),
        sa.Column("token_expires_at", sa.Float),
        sa.Column("enrolled_at", sa.Float),
        sa.Column("certificate_expires_at", sa.Float),
        sa.Column("revoked_at", sa.Float),
        sa.Column("revoked_by", sa.String(253)),
        sa.Column("revoked_reason", sa.Text),
        sa.PrimaryKeyConstraint("name", name="pk_agents"),
        sa.UniqueConstraint("token_hash", name="uq_agents_token_hash"),
    )


def downgrade() -> None:
    """Forgets them: all have to enrol anew after the next upgrade."""
    op.drop_table("agents")
