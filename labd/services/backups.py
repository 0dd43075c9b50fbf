"""Backups: all tables as of one moment, taken while labd works."""

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO

from labd.backup_file import BackupWriter
from labd.model.identity import Actor
from labd.services.core import Core
from labd.services.errors import Conflict, FieldError, Invalid
from labd.services.key_chest import PASSPHRASE_SHORTEST, lock
from labd.services.own_keys import KeysDiffer, OwnKeys
from labd.store.copying import rows_of, tables
from labd.store.schema import SCHEMA_HEAD


class Backups:
    """The use case of making one."""

    def __init__(self, core: Core, keys: Mapping[str, Path]) -> None:
        """``keys`` are the files to be sealed into backups, by the names that they are restored under."""
        self._core = core
        self._keys = OwnKeys(keys)

    def make(self, actor: Actor, passphrase: str | None) -> IO[bytes]:
        """A whole backup, open at its beginning, in a file that goes when it is closed.

        Without a ``passphrase`` there are no keys in it. Raises Invalid, and Conflict when the keys that would be in it
        are not the lab's.
        """
        if passphrase is not None and len(passphrase) < PASSPHRASE_SHORTEST:
            message = f"a passphrase has at least {PASSPHRASE_SHORTEST} characters"
            raise Invalid(message, FieldError("passphrase", None, message))
        chest = None if passphrase is None else lock(self._own_keys(), passphrase)
        with self._core.transaction(actor) as ledger:
            ledger.audit("backup.made", "lab", after={"keys": passphrase is not None})
            now = ledger.now
        file = tempfile.TemporaryFile(dir=self._core.store.path.parent)  # noqa: SIM115 - the caller's
        try:
            writer = BackupWriter(file)
            database = self._core.store.database
            with database.snapshot() as connection, connection.begin():
                for table in tables():
                    writer.add_table(table.name, rows_of(connection, table))
            if chest is not None:
                writer.add_keys(chest)
            kind = database.engine.dialect.name
            writer.finish({"labd": version("labd"), "schema": SCHEMA_HEAD, "created_at": now, "database": kind})
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def _own_keys(self) -> dict[str, bytes]:
        """A backup with others would restore a lab that does not start."""
        with self._core.view() as unit:
            known = unit.key_ids()
        try:
            self._keys.require(known)
            return self._keys.read()
        except KeysDiffer as error:
            raise Conflict(str(error)) from error
