"""SQLite: one file, durable commits, readers that never wait, one labd."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DatabaseError, DBAPIError

from labd.store.errors import DatabaseBusy, DatabaseCorrupt, DatabaseUnwritable, StoreError
from labd.store.schema import SCHEMA_HEAD, WRITE, migrate, revision_of

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for a writer outside this process, for example a shell or a backup."""


class SQLite:
    """See `Database`."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.engine = create_engine(
            URL.create("sqlite", database=str(path)),
            pool_size=8,
            max_overflow=40,
            pool_timeout=10,
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        )
        event.listen(self.engine, "connect", _set_up)
        event.listen(self.engine, "begin", _begin)

    def open(self) -> None:
        """See `Database.open`. Nobody else uses the file: an older schema is migrated."""
        try:
            with self.engine.connect() as connection:
                problems = connection.exec_driver_sql("PRAGMA quick_check(3)").scalars().all()
                if problems != ["ok"]:
                    raise DatabaseCorrupt(
                        f"the database {self.name} is damaged ({'; '.join(map(str, problems))}); restore a backup"
                    )
                revision = revision_of(connection, self.name)
            if revision != SCHEMA_HEAD:
                migrate(self.engine, self.name)
        except DatabaseError as error:
            raise self._refusal(error) from error

    def claim(self, connection: Connection) -> None:
        """See `Database.claim`: it is the data directory's lock that keeps labds out."""

    def snapshot(self) -> Connection:
        """See `Database.snapshot`."""
        return self.engine.connect()

    def explain(self, error: DBAPIError) -> StoreError | None:
        """See `Database.explain`."""
        if _is_busy(error):
            return DatabaseBusy(f"another program holds the write lock of {self.name}")
        if _is_unwritable(error):
            return DatabaseUnwritable(
                f"the database {self.name} cannot be written ({error.orig}): look at the space on its disk"
            )
        return None

    def _refusal(self, error: DatabaseError) -> StoreError:
        if _is_busy(error):
            return DatabaseBusy(
                f"the database {self.name} is locked by another program for more than {BUSY_TIMEOUT_S:g} s: "
                "close the SQLite shell or backup that uses it"
            )
        return DatabaseCorrupt(
            f"the database {self.name} cannot be read ({error.orig}); restore a backup, or move it away"
        )


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


def _is_busy(error: DBAPIError) -> bool:
    """Whether another writer was in the way, so that the same transaction may succeed later."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_unwritable(error: DBAPIError) -> bool:
    """Whether the disk under the database is full, read-only, or fails."""
    return _code(error) in (
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
    )


def _code(error: DBAPIError) -> int | None:
    cause = error.orig
    return cause.sqlite_errorcode & 0xFF if isinstance(cause, sqlite3.OperationalError) else None
