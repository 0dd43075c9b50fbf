"""The tables. Times are seconds since the Unix epoch. Migrations in ``migrations/versions`` create and change them."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

benches = Table(
    "benches",
    metadata,
    Column("name", String(253), primary_key=True),
    Column("agent", String(253), nullable=False),
    Column("address", String(253), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("healthy", Boolean, nullable=False),
    Column("health_reason", Text, nullable=False),
    Column("buses", JSON, nullable=False),
    Column("ecus", JSON, nullable=False),
    Column("quarantined", Boolean, nullable=False),
    Column("last_clean_up", JSON, nullable=False),
    Column("equipment", JSON, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("fenced_epoch", Integer, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("last_seen", Float),
)

leases = Table(
    "leases",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("selector", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("ttl_s", Float, nullable=False),
    Column("run_id", String(32)),
    Column("created_at", Float, nullable=False),
    Column("heartbeat_by", Float, nullable=False),
    Column("bench", String(253), ForeignKey("benches.name")),
    Column("epoch", Integer),
    Column("granted_at", Float),
    Column("expires_at", Float),
    Column("ended_at", Float),
    Column("end_reason", String(32)),
    Index("ix_leases_state_priority_seq", "state", "priority", "seq"),
    # Exclusivity, whatever the code above believes: one live lease a bench, and no epoch twice.
    Index(
        "uq_leases_granted_bench",
        "bench",
        unique=True,
        sqlite_where=text("state = 'GRANTED'"),
        postgresql_where=text("state = 'GRANTED'"),
    ),
    Index("uq_leases_bench_epoch", "bench", "epoch", unique=True),
    sqlite_autoincrement=True,
)

runs = Table(
    "runs",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("selector", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("timeout_s", Float, nullable=False),
    Column("lease_id", String(32), ForeignKey("leases.id"), nullable=False),
    Column("executor", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("passed", Integer),
    Column("failed", Integer),
    Column("error", Integer),
    Column("log_lines", Integer, nullable=False),
    Column("log_bytes", Integer, nullable=False),
    sqlite_autoincrement=True,
)

run_inputs = Table(
    "run_inputs",
    metadata,
    Column("run_id", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("script", Text, nullable=False),
    Column("files", JSON, nullable=False),
)

run_data_files = Table(
    "run_data_files",
    metadata,
    Column("run_id", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("path", String(200), primary_key=True),
    Column("sha256", String(64), ForeignKey("contents.sha256"), nullable=False),
)

# By what it is, so that the image that a hundred runs flash is stored once.
contents = Table(
    "contents",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

run_log = Table(
    "run_log",
    metadata,
    Column("run_id", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("level", String(16), nullable=False),
    Column("text", Text, nullable=False),
    sqlite_with_rowid=False,
)

run_results = Table(
    "run_results",
    metadata,
    Column("run_id", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("document", Text, nullable=False),
    Column("junit", Text, nullable=False),
)
