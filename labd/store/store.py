"""The store: short transactions, one writer at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from labd.store.engine import DATABASE_NAME, WRITE, is_busy, is_unwritable, open_engine
from labd.store.errors import DatabaseBusy, DatabaseUnwritable
from labd.store.unit import Unit

WRITE_WAIT_S = 10.0
"""How long a write waits for its turn before it gives up."""


class Store:
    """labd's memory, in one SQLite file."""

    def __init__(self, directory: Path) -> None:
        """Raises StoreError when the database there cannot be used."""
        self.path = directory / DATABASE_NAME
        self._engine = open_engine(self.path)
        # Waiters of SQLite's own lock poll, and stall for up to a second; those of this one are woken.
        self._writer = threading.Lock()

    @contextmanager
    def write(self) -> Iterator[Unit]:
        """A transaction that holds the write lock from its first statement; durable once the block is left.

        An exception rolls it back. Raises DatabaseBusy when the lock did not come free in time,
        and DatabaseUnwritable when the disk does not take it.
        """
        if not self._writer.acquire(timeout=WRITE_WAIT_S):
            raise DatabaseBusy(f"other writers kept the database {self.path} busy for {WRITE_WAIT_S:g} s")
        try:
            with (
                self._engine.connect().execution_options(**{WRITE: True}) as connection,
                connection.begin(),
            ):
                yield Unit(connection)
        except DatabaseError as error:
            if is_busy(error):
                raise DatabaseBusy(f"another program holds the write lock of {self.path}") from error
            if is_unwritable(error):
                raise DatabaseUnwritable(
                    f"the database {self.path} cannot be written ({error.orig}): look at the space on its disk"
                ) from error
            raise
        finally:
            self._writer.release()

    @contextmanager
    def read(self) -> Iterator[Unit]:
        """A transaction on one consistent snapshot; never waits for writers."""
        with self._engine.connect() as connection, connection.begin():
            yield Unit(connection)

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()
