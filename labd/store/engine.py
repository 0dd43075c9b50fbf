"""Opens labd's database: checks it, brings its schema up to date, and sets SQLite up so that commits are durable."""

import sqlite3
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DatabaseError

from labd.store.errors import DatabaseBusy, DatabaseCorrupt, DatabaseNewer

DATABASE_NAME = "labd.sqlite3"
_MIGRATIONS = Path(__file__).parent / "migrations"
SCHEMA_HEAD = max(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
"""Latest revision in ``migrations/versions``; Alembic (0.6 s to import) is loaded only when the file has another."""
BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for a writer outside this process, for example a shell or a backup."""
WRITE = "labd_write"
"""Execution option that makes a transaction take the write lock when it begins, not in the middle of its work."""

_log = structlog.get_logger()


def open_engine(path: Path) -> Engine:
    """An engine on a sound database with the present schema.

    Raises DatabaseCorrupt, DatabaseNewer, or DatabaseBusy when another program holds its write lock.
    """
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        pool_size=8,
        max_overflow=40,
        pool_timeout=10,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    try:
        _check_and_migrate(engine, path)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own BEGIN comes too late and never IMMEDIATE: transactions are begun by `_begin`.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "journal_size_limit = 67108864"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _check_and_migrate(engine: Engine, path: Path) -> None:
    try:
        with engine.connect() as connection:
            problems = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
            tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
            revision = (
                connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
                if "alembic_version" in tables
                else None
            )
    except DatabaseError as error:
        raise _explain(error, path) from error
    if problems != ["ok"]:
        raise DatabaseCorrupt(f"the database {path} is damaged ({'; '.join(map(str, problems))}); restore a backup")
    if revision is None and tables:
        raise DatabaseCorrupt(
            f"{path} is not a database of labd: it has the tables {', '.join(sorted(tables))} but no schema version"
        )
    if revision == SCHEMA_HEAD:
        return
    try:
        _migrate(engine, revision, path)
    except DatabaseError as error:
        raise _explain(error, path) from error


def _migrate(engine: Engine, revision: str | None, path: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseNewer(
            f"a newer labd wrote the database {path}: its schema is {revision!r}, this labd knows {SCHEMA_HEAD!r}; "
            "start that labd, or restore a backup from before the upgrade"
        )
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    _log.info("database migrated", path=str(path), before=revision, now=SCHEMA_HEAD)


def _explain(error: DatabaseError, path: Path) -> Exception:
    if is_busy(error):
        return DatabaseBusy(
            f"the database {path} is locked by another program for more than {BUSY_TIMEOUT_S:g} s: "
            "close the SQLite shell or backup that uses it"
        )
    return DatabaseCorrupt(f"the database {path} cannot be read ({error.orig}); restore a backup, or move it away")


def is_busy(error: DatabaseError) -> bool:
    """Whether another writer was in the way, so that the same transaction may succeed later."""
    cause = error.orig
    return isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    )


def is_unwritable(error: DatabaseError) -> bool:
    """Whether the disk under the database is full, read-only, or fails."""
    cause = error.orig
    return isinstance(cause, sqlite3.OperationalError) and cause.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    )
