"""Runs: what they execute, their logs and results."""

from sqlalchemy import JSON, Column, Float, ForeignKey, Integer, LargeBinary, String, Table, Text

from labd.store.tables.metadata import metadata

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
    Column("team", String(63), nullable=False, server_default="default"),
    Column("priority", String(63), nullable=False),
    Column("timeout_s", Float, nullable=False),
    Column("lease_id", String(32), ForeignKey("leases.id"), nullable=False),
    Column("executor", String(16), nullable=False),
    Column("cluster", String(63)),
    Column("git", JSON(none_as_null=True)),
    Column("commit", String(64)),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float, index=True),
    Column("cause", String(32)),
    Column("due_at", Float),
    Column("passed", Integer),
    Column("failed", Integer),
    Column("error", Integer),
    Column("log_lines", Integer, nullable=False),
    Column("log_bytes", Integer, nullable=False),
    Column("replica", String(64)),
    Column("traceparent", String(55)),
    sqlite_autoincrement=True,
)

# Those before the present one, which is the run itself.
run_attempts = Table(
    "run_attempts",
    metadata,
    Column("run_id", String(32), ForeignKey("runs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("lease_id", String(32), ForeignKey("leases.id"), nullable=False, index=True),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("cause", String(32)),
    Column("reason", Text, nullable=False),
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
    Column("sha256", String(64), ForeignKey("contents.sha256"), nullable=False, index=True),
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
