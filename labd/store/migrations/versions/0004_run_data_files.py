"""Runs come with data files: logs to be replayed, images to be flashed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No run so far had any."""
    op.create_table(
        "contents",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_contents"),
    )
    op.create_table(
        "run_data_files",
        sa.Column("run_id", sa.String(32), nullable=False),
        sa.Column("path", sa.String(200), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "path", name="pk_run_data_files"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_data_files_run_id"),
        sa.ForeignKeyConstraint(["sha256"], ["contents.sha256"], name="fk_run_data_files_sha256"),
    )


def downgrade() -> None:
    """Forgets them."""
    op.drop_table("run_data_files")
    op.drop_table("contents")
