"""The store: short transactions, one writer at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from labd.store.database import DATABASE_NAME, database_at
from labd.store.errors import DatabaseBusy
from labd.store.schema import WRITE
from labd.store.standing import Standings
from labd.store.unit import Unit

WRITE_WAIT_S = 10.0
"""How long a write waits for its turn before it gives up."""


class Store:
    """labd's memory, in an SQLite file or on a PostgreSQL server."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        """Opens the database of the URL, or else the file in the directory. Raises StoreError when that fails."""
        self.path = directory / DATABASE_NAME
        """The SQLite file, if there is no URL."""
        self.database = database_at(directory, url)
        # Waiters of SQLite's own lock poll, and stall for up to a second; those of this one are woken.
        # On PostgreSQL it keeps the waiters of one labd from holding a connection each.
        self._writer = threading.Lock()
        self._standings = Standings()
        try:
            self.database.open()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[Unit]:
        """A transaction that holds the write lock from its first statement; durable once the block is left.

        An exception rolls it back. Raises DatabaseBusy when the lock did not come free in time,
        and DatabaseUnwritable when the disk does not take it, or the server is not there.
        """
        if not self._writer.acquire(timeout=WRITE_WAIT_S):
            raise DatabaseBusy(f"other writers kept the database {self.database.name} busy for {WRITE_WAIT_S:g} s")
        try:
            with (
                self._explained(),
                self.database.engine.connect().execution_options(**{WRITE: True}) as connection,
                connection.begin(),
            ):
                unit = Unit(connection, self._standings)
                yield unit
                changed = unit.count_change()
            if changed is not None:
                self._standings.keep(changed)
        finally:
            self._writer.release()

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """A transaction on one consistent snapshot; never waits for writers.

        Raises DatabaseBusy and DatabaseUnwritable.
        """
        with self._explained(), self.database.snapshot() as connection, connection.begin():
            yield Unit(connection, self._standings)

    def close(self) -> None:
        """Closes all connections."""
        self.database.engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            meaning = self.database.explain(error)
            if meaning is None:
                raise
            raise meaning from error
        except PoolExhausted as error:
            raise DatabaseBusy(f"too many requests wait for the database {self.database.name}") from error
