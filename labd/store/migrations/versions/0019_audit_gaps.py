"""The audit log may lose entries from within, where retention says so: what is kept of a team's may be less."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_BY_CHECKPOINT = "EXISTS (SELECT 1 FROM audit_checkpoints WHERE seq >= OLD.seq)"
# By the primary key: the gap that begins last before the entry must reach it.
_BY_GAP = (
    "coalesce((SELECT audit_gaps.last FROM audit_gaps WHERE audit_gaps.first <= OLD.seq "
    "ORDER BY audit_gaps.first DESC LIMIT 1), 0) >= OLD.seq"
)


def _allow_delete(allowed: str) -> list[str]:
    if op.get_bind().dialect.name == "postgresql":
        return [
            f"""CREATE OR REPLACE FUNCTION audit_refuse_delete() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {allowed} THEN RETURN OLD; END IF;
        RAISE EXCEPTION 'the audit log is append-only';
    END $$"""
        ]
    return [
        "DROP TRIGGER audit_no_delete",
        f"""CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN NOT ({allowed})
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    ]


_COVERED = "EXISTS (SELECT 1 FROM audit_checkpoints WHERE seq >= OLD.last)"
_SQLITE = (
    """CREATE TRIGGER audit_gaps_no_replace BEFORE INSERT ON audit_gaps
    WHEN EXISTS (SELECT 1 FROM audit_gaps WHERE first = NEW.first)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    """CREATE TRIGGER audit_gaps_no_update BEFORE UPDATE ON audit_gaps
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
    f"""CREATE TRIGGER audit_gaps_no_delete BEFORE DELETE ON audit_gaps WHEN NOT {_COVERED}
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
)
_POSTGRESQL = (
    f"""CREATE FUNCTION audit_gaps_refuse_delete() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF {_COVERED} THEN RETURN OLD; END IF;
        RAISE EXCEPTION 'the audit log is append-only';
    END $$""",
    """CREATE TRIGGER audit_gaps_no_update BEFORE UPDATE ON audit_gaps
    FOR EACH ROW EXECUTE FUNCTION audit_refuse()""",
    """CREATE TRIGGER audit_gaps_no_delete BEFORE DELETE ON audit_gaps
    FOR EACH ROW EXECUTE FUNCTION audit_gaps_refuse_delete()""",
    """CREATE TRIGGER audit_gaps_no_truncate BEFORE TRUNCATE ON audit_gaps
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()""",
)


def upgrade() -> None:
    """There are no gaps yet."""
    op.create_table(
        "audit_gaps",
        sa.Column("first", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("first", name="pk_audit_gaps"),
    )
    own = _POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _SQLITE
    for statement in [*_allow_delete(f"{_BY_CHECKPOINT} OR {_BY_GAP}"), *own]:
        op.execute(statement)


def downgrade() -> None:
    """Gaps that there are stay, and count as removed for the former labd; the log goes on listing them."""
    for statement in _allow_delete(_BY_CHECKPOINT):
        op.execute(statement)
    op.drop_table("audit_gaps")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_gaps_refuse_delete")
