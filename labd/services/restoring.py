"""Restoring a backup into an empty database, while no labd uses it.

What happened after the backup is not in it, but the agents remember: leases were granted, with epochs that must not be
given out again. So every bench's epoch goes up to a number that no labd has reached before (`epoch_floor`), and the
leases that were live in the backup end: their holders may have left long ago, and others may hold their benches now.
When the agents attach they are told to end whatever runs below the new epochs, and only when they have confirmed that
is a bench handed out again. Those who waited still wait.
"""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import delete, update

from labd.backup_file import BackupDamaged, BackupFile
from labd.model.bench import epoch_floor
from labd.model.identity import SYSTEM
from labd.model.lease import HELD, LeaseEnd
from labd.services.anchor import ANCHOR_NAME
from labd.services.key_chest import unlock
from labd.services.ledger import Ledger
from labd.services.limits import RunLimits
from labd.services.own_keys import OwnKeys
from labd.store import tables
from labd.store.copying import fill
from labd.store.database import DATABASE_NAME, Database, database_at
from labd.store.errors import DatabaseNewer, DatabaseNotEmpty
from labd.store.lock import DataLock
from labd.store.schema import SCHEMA_HEAD, WRITE, migrate, revision_of
from labd.store.standing import Standings
from labd.store.unit import Unit
from labd.store.units.present import tell


def restore(
    path: Path,
    data: Path,
    url: str | None,
    *,
    keys: Path | None = None,
    passphrase: str | None = None,
    now: Callable[[], float] = time.time,
) -> list[str]:
    """Restores a backup; says what was done, a line each. It works as a whole or not at all.

    Raises BackupDamaged; StoreError: DatabaseNotEmpty, DatabaseNewer and others; OSError.
    """
    with ExitStack() as stack:
        backup = stack.enter_context(BackupFile(path))
        rows = backup.verify()
        if backup.schema > SCHEMA_HEAD:
            raise DatabaseNewer(
                f"a newer labd made {path}: its schema is {backup.schema!r}, this labd knows {SCHEMA_HEAD!r}; "
                "restore it with that labd"
            )
        sealed = backup.keys
        chest = {} if sealed is None or passphrase is None else unlock(sealed, passphrase)
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        stack.enter_context(DataLock(data))
        folder = keys or data
        taken = [name for name in chest if (folder / name).exists()]
        if taken:
            raise DatabaseNotEmpty(f"{folder / taken[0]} exists already: restore the keys into an empty directory")
        if url is None and (data / DATABASE_NAME).exists():
            raise DatabaseNotEmpty(f"{data / DATABASE_NAME} exists already: restore into an empty directory")
        database = database_at(data, url)
        stack.callback(database.engine.dispose)
        with database.engine.connect() as connection:
            if revision_of(connection, database.name) is not None:
                raise DatabaseNotEmpty(f"the database {database.name} is not empty: restore into a new one")
        try:
            report, known = _fill(database, backup, max(now(), backup.created_at))
            for name, content in chest.items():
                _write_key(folder, name, content)
        except BaseException:
            _undo(database, data, url)
            for name in chest:
                (folder / name).unlink(missing_ok=True)
            raise
    (data / ANCHOR_NAME).unlink(missing_ok=True)  # the log ends earlier now, as everybody is told
    if chest:
        report.append(f"keys are restored into {folder}: {', '.join(sorted(chest))}")
    elif sealed is not None:
        report.append("the keys in the backup are NOT restored: no passphrase was given")
    else:
        report.append("the backup has no keys")
    lacking = list(OwnKeys({name: folder / name for name in known}).faults(known))
    if lacking:
        report.append(f"labd will not start before its own keys are there: {'; '.join(lacking)}")
    return [f"{rows} rows are restored into {database.name}", *report]


def _fill(database: Database, backup: BackupFile, now: float) -> tuple[list[str], dict[str, str]]:
    """Says what was done, and which keys the lab has, by the names of their files."""
    migrate(database.engine, database.name, backup.schema)
    source: dict[str, Iterable[dict[str, Any]]] = {name: backup.rows(name) for name in backup.rows_of}
    with database.engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        fill(connection, source)
    if backup.schema != SCHEMA_HEAD:
        migrate(database.engine, database.name)
    with database.engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        # Who of several labds leads and which agent is where was true then.
        for table in (tables.replicas, tables.attachments):
            connection.execute(delete(table))
        vacant = {"leader": None, "leader_backend": None, "alive_at": None, "alive_at_server": None}
        connection.execute(update(tables.lab).values(vacant))
        unit = Unit(connection, Standings(), writes=True)
        known = unit.key_ids()
        report = _begin_anew(unit, backup, now)
        tell(connection, unit.untold, unit.change())
        return report, known


def _begin_anew(unit: Unit, backup: BackupFile, now: float) -> list[str]:
    ledger = Ledger(unit, now, lambda _: False, RunLimits(), SYSTEM)
    floor = epoch_floor(now)
    for bench in unit.benches():
        unit.save_bench(replace(bench, epoch=max(bench.epoch + 1, floor)))
    live = unit.leases_in(HELD)
    for lease in live:
        ledger.end_lease(lease, LeaseEnd.RESTORED)
    waiting = len(unit.queue())
    ledger.audit(
        "backup.restored",
        "lab",
        after={"made_at": backup.created_at, "schema": backup.schema, "leases_ended": len(live)},
    )
    return [f"{len(live)} live leases ended ({LeaseEnd.RESTORED}), {waiting} wait as before"]


def _undo(database: Database, data: Path, url: str | None) -> None:
    database.engine.dispose()
    if url is None:
        for suffix in ("", "-wal", "-shm"):
            (data / f"{DATABASE_NAME}{suffix}").unlink(missing_ok=True)
    else:
        migrate(database.engine, database.name, "base")


def _write_key(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BackupDamaged(f"a key in the backup is called {name!r}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
