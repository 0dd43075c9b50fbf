"""Leases of several benches, classes of priority, teams, bookings, notices; drained benches."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NUMBERS = {"low": -1, "normal": 0, "high": 1, "urgent": 100}
_leases = sa.table(
    "leases",
    sa.column("id", sa.String),
    sa.column("wanted", sa.JSON),
    sa.column("selector", sa.Text),
    sa.column("bench", sa.String),
    sa.column("epoch", sa.Integer),
    sa.column("priority", sa.String),
)
_runs = sa.table("runs", sa.column("priority", sa.String))
_benches = sa.table(
    "lease_benches",
    sa.column("lease_id", sa.String),
    sa.column("part", sa.Integer),
    sa.column("bench", sa.String),
    sa.column("epoch", sa.Integer),
)


def _new_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("wanted", sa.JSON),
        sa.Column("team", sa.String(63), nullable=False, server_default="default"),
        sa.Column("same_site", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("affinity", sa.Text, nullable=False, server_default=""),
        sa.Column("held", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("avoid", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("starts_at", sa.Float),
        sa.Column("reserved", sa.JSON, nullable=False, server_default="[]"),
        sa.Column("active_at", sa.Float),
        sa.Column("used_at", sa.Float),
        sa.Column("revoke_at", sa.Float),
        sa.Column("revoke_reason", sa.Text, nullable=False, server_default=""),
        sa.Column("ending_at", sa.Float),
        sa.Column("end_note", sa.Text, nullable=False, server_default=""),
    ]


def _name_priorities() -> None:
    for table in (_leases, _runs):
        number = sa.cast(table.c.priority, sa.Integer)
        name = sa.case((number < 0, "low"), (number == 0, "normal"), (number < 100, "high"), else_="urgent")
        op.execute(table.update().values(priority=name))


def _number_priorities() -> None:
    for table in (_leases, _runs):
        number = sa.case(*((table.c.priority == name, str(number)) for name, number in _NUMBERS.items()), else_="0")
        op.execute(table.update().values(priority=number))


def upgrade() -> None:
    """Every lease so far is of one bench; its number of priority becomes a class."""
    op.drop_index("uq_leases_bench_epoch", "leases")
    op.drop_index("uq_leases_granted_bench", "leases")
    op.drop_index("ix_leases_state_priority_seq", "leases")
    op.create_table(
        "lease_benches",
        sa.Column("lease_id", sa.String(32), nullable=False),
        sa.Column("part", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("selector", sa.Text, nullable=False),
        sa.Column("bench", sa.String(253), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("live", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("lease_id", "part", name="pk_lease_benches"),
        sa.ForeignKeyConstraint(["lease_id"], ["leases.id"], name="fk_lease_benches_lease_id"),
        sa.ForeignKeyConstraint(["bench"], ["benches.name"], name="fk_lease_benches_bench"),
    )
    op.execute(
        "INSERT INTO lease_benches (lease_id, part, selector, bench, epoch, live) "
        "SELECT id, 0, selector, bench, epoch, state = 'GRANTED' FROM leases WHERE bench IS NOT NULL"
    )
    with op.batch_alter_table("leases", table_kwargs={"sqlite_autoincrement": True}) as leases:
        for column in _new_columns():
            leases.add_column(column)
        leases.drop_constraint("fk_leases_bench", type_="foreignkey")
        leases.drop_column("bench")
        leases.drop_column("epoch")
        leases.alter_column(
            "priority", type_=sa.String(63), existing_type=sa.Integer, postgresql_using="CAST(priority AS VARCHAR)"
        )
    op.execute("UPDATE leases SET used_at = granted_at, ending_at = ended_at")
    connection = op.get_bind()
    for row in connection.execute(sa.select(_leases.c.id, _leases.c.selector)).all():
        connection.execute(
            sa.update(_leases).where(_leases.c.id == row.id).values(wanted=[{"selector": row.selector, "count": 1}])
        )
    with op.batch_alter_table("leases", table_kwargs={"sqlite_autoincrement": True}) as leases:
        leases.alter_column("wanted", existing_type=sa.JSON, nullable=False)
        leases.drop_column("selector")
    op.create_index("ix_leases_state_seq", "leases", ["state", "seq"])
    op.create_index(
        "uq_lease_benches_live_bench",
        "lease_benches",
        ["bench"],
        unique=True,
        sqlite_where=sa.text("live"),
        postgresql_where=sa.text("live"),
    )
    op.create_index("uq_lease_benches_bench_epoch", "lease_benches", ["bench", "epoch"], unique=True)
    with op.batch_alter_table("runs", table_kwargs={"sqlite_autoincrement": True}) as runs:
        runs.add_column(sa.Column("team", sa.String(63), nullable=False, server_default="default"))
        runs.alter_column(
            "priority", type_=sa.String(63), existing_type=sa.Integer, postgresql_using="CAST(priority AS VARCHAR)"
        )
    _name_priorities()
    op.create_table(
        "policy",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_policy"),
    )
    op.add_column("benches", sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("benches", sa.Column("drain_reason", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """A lease of several benches keeps its first; what was ENDING is ENDED."""
    op.drop_table("policy")
    op.drop_column("benches", "drain_reason")
    op.drop_column("benches", "draining")
    _number_priorities()
    with op.batch_alter_table("runs", table_kwargs={"sqlite_autoincrement": True}) as runs:
        runs.drop_column("team")
        runs.alter_column(
            "priority", type_=sa.Integer, existing_type=sa.String(63), postgresql_using="CAST(priority AS INTEGER)"
        )
    op.drop_index("ix_leases_state_seq", "leases")
    with op.batch_alter_table("leases", table_kwargs={"sqlite_autoincrement": True}) as leases:
        leases.add_column(sa.Column("selector", sa.Text, nullable=False, server_default=""))
        leases.add_column(sa.Column("bench", sa.String(253)))
        leases.add_column(sa.Column("epoch", sa.Integer))
        leases.alter_column(
            "priority", type_=sa.Integer, existing_type=sa.String(63), postgresql_using="CAST(priority AS INTEGER)"
        )
    connection = op.get_bind()
    for row in connection.execute(sa.select(_leases.c.id, _leases.c.wanted)).all():
        connection.execute(sa.update(_leases).where(_leases.c.id == row.id).values(selector=row.wanted[0]["selector"]))
    first = sa.select(_benches.c.bench).where(_benches.c.lease_id == _leases.c.id, _benches.c.part == 0)
    epoch = sa.select(_benches.c.epoch).where(_benches.c.lease_id == _leases.c.id, _benches.c.part == 0)
    op.execute(_leases.update().values(bench=first.scalar_subquery(), epoch=epoch.scalar_subquery()))
    op.execute("UPDATE leases SET state = 'GRANTED' WHERE state = 'ACTIVE'")
    op.execute("UPDATE leases SET state = 'ENDED', ended_at = ending_at WHERE state = 'ENDING'")
    op.execute("UPDATE leases SET end_reason = 'cancelled' WHERE end_reason IN ('idle', 'preempted', 'revoked')")
    with op.batch_alter_table("leases", table_kwargs={"sqlite_autoincrement": True}) as leases:
        for column in _new_columns():
            leases.drop_column(column.name)
        leases.alter_column("selector", existing_type=sa.Text, server_default=None)
        leases.create_foreign_key("fk_leases_bench", "benches", ["bench"], ["name"])
    op.drop_table("lease_benches")
    op.create_index("ix_leases_state_priority_seq", "leases", ["state", "priority", "seq"])
    op.create_index(
        "uq_leases_granted_bench",
        "leases",
        ["bench"],
        unique=True,
        sqlite_where=sa.text("state = 'GRANTED'"),
        postgresql_where=sa.text("state = 'GRANTED'"),
    )
    op.create_index("uq_leases_bench_epoch", "leases", ["bench", "epoch"], unique=True)
