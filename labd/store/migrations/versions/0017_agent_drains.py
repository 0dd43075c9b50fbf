"""An agent is drained as such: with the benches that it attaches later."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No agent is drained; the benches of those that were stay drained one by one."""
    op.create_table(
        "agent_drains",
        sa.Column("agent", sa.String(253), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("agent", name="pk_agent_drains"),
    )
    op.add_column("benches", sa.Column("agent_drain", sa.Text))


def downgrade() -> None:
    """The benches of drained agents are drained one by one."""
    reason = "its agent is drained"
    op.execute(
        sa.text("UPDATE benches SET draining = :yes, drain_reason = :reason WHERE agent_drain IS NOT NULL").bindparams(
            yes=True, reason=reason
        )
    )
    op.drop_column("benches", "agent_drain")
    op.drop_table("agent_drains")
