"""Migrations up and down on both databases, from every version there was, with data in it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateIndex, CreateTable

from labd.model.filters import Filter
from labd.store.database import DATABASE_NAME, Database, database_at
from labd.store.errors import (
    DatabaseCorrupt,
    DatabaseInUse,
    DatabaseMissing,
    DatabaseNewer,
    DatabaseOlder,
    SchemaUnknown,
)
from labd.store.lock import DataLock
from labd.store.migrate import migrate_database
from labd.store.schema import SCHEMA_HEAD, alembic_config, migrate, revision_of
from labd.store.store import Store
from labd.store.tables import metadata
from tests.postgresql import PostgresServer

REVISIONS = sorted(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())

# What a lab holds; a version that has not all of the columns takes those that it has, and columns that are not named
# here get a value that suits their type.
ROWS: dict[str, list[dict[str, Any]]] = {
    "benches": [
        {"name": "bench-1", "agent": "agent", "address": "a:1", "healthy": True, "labels": {"platform": "meb"}}
        | {"buses": [{"name": "powertrain"}], "ecus": [], "epoch": 4, "fenced_epoch": 3, "removed": False},
        {"name": "bench-2", "agent": "agent", "address": "a:1", "healthy": False, "labels": {}, "removed": True}
        | {"buses": [], "ecus": [], "epoch": 0, "fenced_epoch": 0},
    ],
    "leases": [
        {"seq": 1, "id": "l-1", "state": "ENDED", "bench": "bench-1", "epoch": 3, "end_reason": "released"}
        | {"run_id": None, "priority": 0, "selector": "platform=meb", "ended_at": 50.0, "expires_at": 61.0}
        | {"wanted": [{"selector": "platform=meb", "count": 1}], "avoid": [], "reserved": [], "granted_at": 1.5},
        {"seq": 2, "id": "l-2", "state": "GRANTED", "bench": "bench-1", "epoch": 4, "end_reason": None, "run_id": "r-1"}
        | {"priority": 0, "selector": "", "ended_at": None, "expires_at": 121.0, "granted_at": 1.5}
        | {"wanted": [{"selector": "", "count": 1}], "avoid": ["bench-2"], "reserved": []},
        {"seq": 3, "id": "l-3", "state": "QUEUED", "bench": None, "epoch": None, "end_reason": None, "run_id": None}
        | {"priority": 0, "selector": "fast", "ended_at": None, "expires_at": None}
        | {"wanted": [{"selector": "fast", "count": 1}], "avoid": [], "reserved": []},
    ],
    "lease_benches": [
        {"lease_id": "l-1", "part": 0, "bench": "bench-1", "epoch": 3, "live": False},
        {"lease_id": "l-2", "part": 0, "bench": "bench-1", "epoch": 4, "live": True},
    ],
    "runs": [{"seq": 1, "id": "r-1", "state": "RUNNING", "lease_id": "l-2", "executor": "process", "ended_at": None}
             | {"passed": None, "failed": None, "error": None, "priority": 0, "log_lines": 1, "log_bytes": 5}],
    "run_inputs": [{"run_id": "r-1", "files": {"lib.lua": "return {}"}}],
    "run_log": [{"run_id": "r-1", "seq": 1, "level": "info", "text": "hello"}],
    "run_results": [{"run_id": "r-1", "document": "{}"}],
    "contents": [{"sha256": "ab" * 32, "size": 3, "content": b"abc"}],
    "run_data_files": [{"run_id": "r-1", "path": "app.bin", "sha256": "ab" * 32}],
}  # fmt: skip
CHANGED: set[tuple[str, str]] = {("leases", "priority"), ("runs", "priority")}
"""Columns, by table, whose values a migration changes on the way up; they are checked on the way back."""
GONE: set[tuple[str, str]] = set()
"""Columns that do not come back with the values that they had."""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str | None]]:
    """Where a database is to be made: data directory and URL."""
    if request.param == "sqlite":
        yield tmp_path, None
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    url = server.new_database()
    yield tmp_path, url
    server.drop(url)


@pytest.fixture
def database(empty: tuple[Path, str | None]) -> Iterator[Database]:
    database = database_at(*empty)
    yield database
    database.engine.dispose()


def _tables(connection: Connection) -> list[Table]:
    reflected = MetaData()
    reflected.reflect(connection)
    return [table for table in reflected.sorted_tables if table.name != "alembic_version"]


def _value(kind: Any) -> Any:
    """Something that a column of the type takes."""
    suiting: tuple[tuple[type, Any], ...] = (
        (Boolean, False),
        (JSON, {}),
        (LargeBinary, b"x"),
        (Integer, 7),
        (Float, 1.5),
    )
    return next((value for type_, value in suiting if isinstance(kind, type_)), "x")


def _fill(connection: Connection) -> None:
    """What `ROWS` says, and a row in every other table; those that a migration has filled stay as they are."""
    for table in _tables(connection):
        if connection.execute(select(table)).first() is not None:
            continue
        for known in ROWS.get(table.name, [{}]):
            row = {
                column.name: known[column.name] if column.name in known else _suiting(connection, column)
                for column in table.columns
                if column.name in known or not column.nullable
            }
            if "priority" in row and isinstance(table.c.priority.type, String):
                row["priority"] = "normal"  # it was a number once
            connection.execute(table.insert().values(row))


def _suiting(connection: Connection, column: Column[Any]) -> Any:
    """A value that the column takes; of a column that refers to another table, one that is there."""
    for key in column.foreign_keys:
        return connection.scalar(select(key.column))
    return _value(column.type)


def _content(connection: Connection) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
    """All rows by table and primary key."""
    return {
        table.name: {
            tuple(row[column.name] for column in table.primary_key): dict(row)
            for row in connection.execute(select(table)).mappings()
        }
        for table in _tables(connection)
    }


def _kept(before: Any, after: Any, but: set[tuple[str, str]]) -> list[str]:
    """What of the first is not in the second."""
    return [
        f"{table}{key}.{column}: {value!r}"
        for table, rows in before.items()
        if table in after
        for key, row in rows.items()
        for column, value in row.items()
        if (table, column) not in but
        and (key not in after[table] or (column in after[table][key] and after[table][key][column] != value))
    ]


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_any_version_stored_survives_the_way_up_and_back(
    database: Database, empty: tuple[Path, str | None], revision: str
) -> None:
    migrate(database.engine, database.name, revision)
    with database.engine.begin() as connection:
        _fill(connection)
        before = _content(connection)
    assert before["leases"].keys() == {(1,), (2,), (3,)}

    migrate(database.engine, database.name)
    with database.engine.connect() as connection:
        assert _kept(before, _content(connection), CHANGED) == []
    store = Store(*empty)
    with store.read() as unit:
        assert [bench.epoch for bench in unit.benches()] == [4, 0]
        assert [lease.id for lease in unit.live_leases()] == ["l-2", "l-3"]
        assert {name: lease.id for name, lease in unit.held().items()} == {"bench-1": "l-2"}
        assert [lease.id for lease in unit.queue()] == ["l-3"]
        assert [run.id for run in unit.newest_runs(Filter(), 10)] == ["r-1"]
        assert [line.text for line in unit.lines("r-1", 0, 10)] == ["hello"]
    store.close()

    migrate(database.engine, database.name, revision)
    with database.engine.connect() as connection:
        assert revision_of(connection, database.name) == revision
        after = _content(connection)
        assert after.keys() == before.keys()
        assert _kept(before, after, GONE) == []
    migrate(database.engine, database.name, "base")
    with database.engine.connect() as connection:
        assert _tables(connection) == []


def test_migrations_lead_to_the_tables_that_the_code_uses(database: Database) -> None:
    database.open()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == SCHEMA_HEAD


def test_revisions_follow_one_another_without_gaps() -> None:
    assert [f"{number:04}" for number in range(1, len(REVISIONS) + 1)] == REVISIONS


def test_order_of_arrival_goes_on_after_a_migration(database: Database) -> None:
    """A copied table must not give numbers away anew."""
    migrate(database.engine, database.name, "0001")
    seqs = []
    for revision in (None, SCHEMA_HEAD):
        if revision is not None:
            migrate(database.engine, database.name, revision)
        with database.engine.begin() as connection:
            (leases,) = (table for table in _tables(connection) if table.name == "leases")
            row = {column.name: _value(column.type) for column in leases.columns if not column.nullable}
            row |= {"id": f"l-{revision}", "state": "ENDED"}
            del row["seq"]
            seqs.append(connection.execute(leases.insert().values(row).returning(leases.c.seq)).scalar_one())
    assert seqs == [1, 2]


def test_an_interrupted_migration_changes_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(database.engine, database.name, "0001")
    with database.engine.begin() as connection:
        _fill(connection)
        before = _content(connection)

    def cut(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if "alembic_version" in statement and f"'{REVISIONS[-1]}'" in statement:
            raise KeyboardInterrupt

    event.listen(database.engine, "before_cursor_execute", cut)
    with pytest.raises(KeyboardInterrupt):
        migrate(database.engine, database.name)
    event.remove(database.engine, "before_cursor_execute", cut)
    with database.engine.connect() as connection:
        assert revision_of(connection, database.name) == "0001"
        assert _content(connection) == before


def test_a_migration_that_would_leave_rows_without_what_they_refer_to_is_undone(tmp_path: Path) -> None:
    database = database_at(tmp_path, None)
    migrate(database.engine, database.name, "0001")
    shell = sqlite3.connect(tmp_path / DATABASE_NAME)  # which does not look at foreign keys
    shell.execute("INSERT INTO run_results VALUES ('r-lost', '{}', '')")
    shell.commit()
    shell.close()
    with pytest.raises(DatabaseCorrupt, match="rows of run_results would refer to nothing"):
        migrate(database.engine, database.name)
    with database.engine.connect() as connection:
        assert revision_of(connection, database.name) == "0001"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.engine.dispose()


def test_a_newer_schema_is_refused(database: Database, empty: tuple[Path, str | None]) -> None:
    database.open()
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (
        lambda: Store(*empty),
        lambda: migrate_database(*empty, None),
        lambda: migrate_database(*empty, "0001"),
    ):
        with pytest.raises(DatabaseNewer, match=r"a newer labd wrote the database .* '9999'"):
            use()


def test_an_older_schema_is_migrated_only_where_nobody_else_can_use_it(
    database: Database, empty: tuple[Path, str | None]
) -> None:
    migrate(database.engine, database.name, "0001")
    if empty[1] is None:
        Store(*empty).close()
        return
    with pytest.raises(DatabaseOlder, match=r"has the schema '0001', this labd needs .* run `labd migrate`"):
        Store(*empty)
    assert str(migrate_database(*empty, None)).endswith(f": schema 0001 -> {SCHEMA_HEAD}")
    assert str(migrate_database(*empty, None)).endswith(f"has the schema {SCHEMA_HEAD} already")
    Store(*empty).close()


def test_an_unknown_revision_is_refused_and_the_known_ones_are_named(
    database: Database, empty: tuple[Path, str | None]
) -> None:
    database.open()
    with pytest.raises(SchemaUnknown, match=f"no schema '12'; it knows 0001, .*{SCHEMA_HEAD}"):
        migrate_database(*empty, "12")


def test_a_database_in_use_is_not_migrated(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with DataLock(tmp_path), pytest.raises(DatabaseInUse):
        migrate_database(tmp_path, None, "0001")


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing, match="is --data right"):
        migrate_database(tmp_path, None, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "postgresql+psycopg://"])
def test_every_table_and_index_compiles_on_both_databases(url: str) -> None:
    dialect = create_engine(url).dialect
    for table in metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            statement = str(CreateIndex(index).compile(dialect=dialect))
            options = [index.dialect_options[name]["where"] is None for name in ("sqlite", "postgresql")]
            assert len(set(options)) == 1, f"{index.name} has a condition on one database only: {statement}"


def test_the_data_directory_holds_one_file(tmp_path: Path) -> None:
    Store(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE_NAME]
