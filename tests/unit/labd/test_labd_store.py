"""The store, and SQLite under it."""

import resource
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from labd.model.bench import Bench
from labd.model.lease import Lease, LeaseState, Wanted
from labd.store import sqlite, writers
from labd.store.database import DATABASE_NAME
from labd.store.errors import DatabaseBusy, DatabaseCorrupt, DatabaseInUse, DatabaseUnwritable
from labd.store.lock import DataLock
from labd.store.store import Store

BENCH = Bench("bench-1", "agent", "a:1", {}, True, "")


def _lease(lease_id: str) -> Lease:
    return Lease(lease_id, 0, LeaseState.QUEUED, (Wanted(""),), "ada", 60.0, 30.0, 0.0, 30.0)


def _database(directory: Path) -> Path:
    Store(directory).close()
    return directory / DATABASE_NAME


def test_commits_are_durable(tmp_path: Path) -> None:
    opened = Store(tmp_path)
    with opened.write() as unit:
        pragma = unit._connection.exec_driver_sql
        assert pragma("PRAGMA journal_mode").scalar() == "wal"
        assert pragma("PRAGMA synchronous").scalar() == 2  # FULL: each commit is synced
        assert pragma("PRAGMA foreign_keys").scalar() == 1
    opened.close()


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    opened = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), opened.write() as unit:
        unit.save_bench(BENCH)
        raise ZeroDivisionError
    with opened.read() as unit:
        assert unit.benches() == []
    opened.close()


def test_the_database_itself_refuses_two_holders_of_a_bench(tmp_path: Path) -> None:
    opened = Store(tmp_path)
    with opened.write() as unit:
        unit.save_bench(BENCH)
        unit.add_lease(_lease("l-1").grant([("bench-1", 1)], 0.0))
    with pytest.raises(IntegrityError), opened.write() as unit:
        unit.add_lease(_lease("l-2").grant([("bench-1", 2)], 0.0))
    opened.close()


@pytest.mark.parametrize(
    "content", [b"this is no database, it is a letter to the editor\n" * 200, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / DATABASE_NAME
    path.write_bytes(content)
    with pytest.raises(DatabaseCorrupt, match=str(path)):
        Store(tmp_path)
    assert path.read_bytes() == content, "it may be somebody's only copy"


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = _database(tmp_path)
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 6] = b"\xa5" * (4096 * 4)
    path.write_bytes(content)
    with pytest.raises(DatabaseCorrupt, match="restore a backup"):
        Store(tmp_path)


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / DATABASE_NAME)
    connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(DatabaseCorrupt, match="not a database of labd: it has the tables recipes"):
        Store(tmp_path)


def test_a_data_directory_serves_one_labd_at_a_time(tmp_path: Path) -> None:
    with DataLock(tmp_path), pytest.raises(DatabaseInUse, match=r"locked by another labd \(process \d+\)"):
        DataLock(tmp_path)
    DataLock(tmp_path).close()


def test_another_programs_write_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    opened = Store(tmp_path)
    shell = sqlite3.connect(opened.path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseBusy, match="another program holds the write lock"), opened.write():
        pass
    with opened.read() as unit:
        assert unit.benches() == [], "readers never wait"
    shell.close()
    with opened.write() as unit:
        unit.save_bench(BENCH)
    opened.close()


def test_a_database_that_another_program_locks_at_the_start_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    shell = sqlite3.connect(_database(tmp_path), isolation_level=None)
    shell.execute("PRAGMA locking_mode = EXCLUSIVE")
    shell.execute("BEGIN EXCLUSIVE")
    shell.execute("CREATE TABLE x (y)")
    with pytest.raises(DatabaseBusy, match="locked by another program"):
        Store(tmp_path)
    shell.close()


def test_a_writer_waits_for_its_turn_for_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "WRITE_WAIT_S", 0.05)
    opened = Store(tmp_path)
    with opened.write(), pytest.raises(DatabaseBusy, match=r"busy for 0\.05 s"), opened.write():
        pass
    opened.close()


def test_a_full_disk_is_named_and_the_store_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    lease = _lease("l-1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, hard))
    try:
        with pytest.raises(DatabaseUnwritable, match=r"labd\.sqlite3 cannot be written"), store.write() as unit:
            unit.add_lease(replace(lease, holder="x" * 4 * 1024 * 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with store.write() as unit:
        unit.add_lease(lease)
    with store.read() as unit:
        assert [one.id for one in unit.queue()] == [lease.id]
    store.close()
