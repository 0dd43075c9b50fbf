"""PostgreSQL under the store: what labd says of it, and what it survives."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from labd.model.bench import Bench
from labd.services import bulletins
from labd.services.ledger import ClearOrder, Effects, FenceOrder
from labd.store import postgresql as pg
from labd.store.errors import (
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseInUse,
    DatabaseNewer,
    DatabaseUnwritable,
    DatabaseUrlInvalid,
    StoreError,
)
from labd.store.line import Line, open_line
from labd.store.migrate import migrate_database
from labd.store.postgresql import PostgreSQL
from labd.store.schema import SCHEMA_HEAD
from labd.store.store import Store
from tests.disks import fill
from tests.postgresql import PostgresServer

BENCH = Bench("bench-1", "agent", "a:1", {}, True, "")
PASSWORD = "dont-tell"


@pytest.fixture
def url(postgresql: PostgresServer) -> str:
    return postgresql.fresh_labd_database()


@pytest.fixture
def store(tmp_path: Path, url: str) -> Iterator[Store]:
    store = Store(tmp_path, url)
    yield store
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://labd:{PASSWORD}@host/labd",
        f"postgresql://labd:{PASSWORD}@host",
        f"postgresql:/labd:{PASSWORD}@host/labd",
        f"sqlite:///labd.sqlite3?{PASSWORD}",
        PASSWORD,
        "",
    ],
)
def test_an_unfit_url_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(DatabaseUrlInvalid, match="must look like postgresql://USER@HOST:PORT/NAME") as refusal:
        Store(tmp_path, url)
    assert PASSWORD not in str(refusal.value)


@pytest.mark.parametrize(
    ("there", "what"),
    [
        (f"postgresql://labd:{PASSWORD}@127.0.0.1:1/labd", "cannot be reached"),
        (f"postgresql://labd:{PASSWORD}@no-such-host.invalid/labd", "cannot be reached"),
        (f"postgresql://labd@127.0.0.1:{{port}}/missing?password={PASSWORD}", 'database "missing" does not exist'),
        (f"postgresql://nobody:{PASSWORD}@127.0.0.1:{{port}}/postgres", 'role "nobody" does not exist'),
    ],
)
def test_a_server_that_does_not_let_labd_in_is_named_without_the_password(
    tmp_path: Path, postgresql: PostgresServer, there: str, what: str
) -> None:
    with pytest.raises(DatabaseUnwritable, match=what) as refusal:
        Store(tmp_path, there.format(port=postgresql.port))
    assert PASSWORD not in f"{refusal.value!r} {refusal.value}"
    assert "postgresql://" in str(refusal.value)


def test_a_database_of_another_program_is_refused(tmp_path: Path, postgresql: PostgresServer) -> None:
    url = postgresql.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE recipes (name text)")
    with pytest.raises(DatabaseCorrupt, match="not a database of labd: it has the tables recipes"):
        Store(tmp_path, url)
    postgresql.drop(url)


def test_a_read_sees_one_moment_and_never_waits(store: Store) -> None:
    with store.read() as reader:
        assert reader.benches() == []
        with store.write() as writer:
            writer.save_bench(BENCH)
        assert reader.benches() == []
    with store.read() as reader:
        assert [bench.name for bench in reader.benches()] == ["bench-1"]


def test_writers_of_several_labds_are_serial_and_arrive_in_the_order_of_their_commits(tmp_path: Path, url: str) -> None:
    """Each counts what is there and adds one: without the lock they would count the same."""
    stores = [Store(tmp_path / str(number), url) for number in range(3)]
    with stores[0].write() as unit:
        unit._connection.execute(text("CREATE TABLE counted (seq serial PRIMARY KEY, n integer)"))

    def count(store: Store) -> None:
        for _ in range(20):
            with store.write() as unit:
                unit._connection.execute(text("INSERT INTO counted (n) SELECT count(*) FROM counted"))

    threads = [threading.Thread(target=count, args=(store,)) for store in stores for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with stores[0].write() as unit:
        rows = unit._connection.execute(text("SELECT seq, n FROM counted ORDER BY seq")).all()
        unit._connection.execute(text("DROP TABLE counted"))
    assert [row.n for row in rows] == list(range(120))
    for store in stores:
        store.close()


def test_another_labds_write_is_waited_for_no_longer_than_a_while(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pg.CONNECT, "options", "-c lock_timeout=100ms")
    store, other = Store(tmp_path, url), Store(tmp_path, url)
    with other.write(), pytest.raises(DatabaseBusy, match="busy for too long"), store.write():
        pass
    with store.write() as unit:
        unit.save_bench(BENCH)
    store.close()
    other.close()


def test_a_labd_that_is_paused_within_a_write_stops_the_others_for_a_moment_only(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg, "IDLE_TIMEOUT_S", 0.2)
    paused, store = Store(tmp_path, url), Store(tmp_path, url)
    with pytest.raises(StoreError), paused.write() as unit:
        unit.save_bench(BENCH)
        with store.write() as other:
            assert other.benches() == []
        unit.save_bench(BENCH)  # it goes on, and is told that it was taken for gone
    with paused.write() as unit:
        assert unit.benches() == []
    paused.close()
    store.close()


def test_the_server_may_be_restarted(tmp_path: Path) -> None:
    with PostgresServer() as server:
        store = Store(tmp_path, server.new_labd_database())
        with store.write() as unit:
            unit.save_bench(BENCH)
        with pytest.raises(DatabaseUnwritable, match="cannot be reached"), store.write() as unit:
            server.stop()
            unit.save_bench(BENCH)
        with pytest.raises(DatabaseUnwritable, match="cannot be reached"), store.read() as unit:
            unit.benches()
        server.start()
        with store.read() as unit:
            assert [bench.name for bench in unit.benches()] == ["bench-1"]
        with store.write() as unit:
            unit.save_bench(BENCH)
        store.close()


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A server, and its standby, for which each commit waits."""
    with PostgresServer() as primary, PostgresServer(standby_of=primary) as standby:
        primary.wait_for_standby(waits=True)
        yield primary, standby


def test_the_standby_takes_over_with_all_that_was_acknowledged(
    tmp_path: Path, pair: tuple[PostgresServer, PostgresServer]
) -> None:
    primary, standby = pair
    store = Store(tmp_path, primary.url_with(standby, primary.new_labd_database()))
    acknowledged: list[str] = []
    begun = threading.Event()

    def write() -> None:
        for number in range(100_000):
            bench = replace(BENCH, name=f"bench-{number}")
            try:
                with store.write() as unit:
                    unit.save_bench(bench)
            except DatabaseUnwritable:
                return
            acknowledged.append(bench.name)
            if number == 20:
                begun.set()

    writers = threading.Thread(target=write)
    writers.start()
    assert begun.wait(60)
    primary.stop()
    writers.join()
    with pytest.raises(DatabaseUnwritable, match="cannot be reached"), store.write():
        pass
    standby.promote()
    with store.write() as unit:
        unit.save_bench(BENCH)
    with store.read() as unit:
        assert {*acknowledged, BENCH.name} <= {bench.name for bench in unit.benches()}
    store.close()


def test_a_commit_that_no_standby_has_confirmed_is_not_acknowledged(
    tmp_path: Path, pair: tuple[PostgresServer, PostgresServer]
) -> None:
    """A server whose waiting is cancelled says that all went well."""
    primary, standby = pair
    url = primary.new_labd_database()
    store = Store(tmp_path, url)
    with store.write() as unit:
        unit.save_bench(BENCH)
    standby.stop()
    outcome: list[str] = []

    def write() -> None:
        try:
            with store.write() as unit:
                unit.save_bench(replace(BENCH, name="bench-2"))
            outcome.append("acknowledged")
        except StoreError as error:
            outcome.append(str(error))

    writer = threading.Thread(target=write)
    writer.start()
    with psycopg.connect(url, autocommit=True) as operator:
        deadline = time.monotonic() + 30
        while (
            operator.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'"
            ).fetchall()
            == []
        ):
            assert time.monotonic() < deadline
            assert outcome == [], "it waits for the standby"
        writer.join(30)
        assert "no standby has confirmed the commit" in outcome[0]
    primary.wait_for_standby(waits=False)
    with store.write() as unit:
        unit.save_bench(replace(BENCH, name="bench-3"))
    with store.read() as unit:
        assert {"bench-1", "bench-3"} <= {bench.name for bench in unit.benches()}
    store.close()


def test_several_servers_are_named_as_libpq_does(tmp_path: Path) -> None:
    database = PostgreSQL("postgresql://labd:secret@127.0.0.1:1,localhost/labd?sslmode=disable")
    arguments, options = database.engine.dialect.create_connect_args(database.url)
    assert arguments == []
    assert (options["host"], options["port"]) == ("127.0.0.1,localhost", "1,5432")
    assert (options["target_session_attrs"], options["sslmode"]) == ("read-write", "disable")
    assert database.name == "postgresql://labd@127.0.0.1:1,localhost/labd"
    assert database.answers(), "a machine that refuses is there"
    kept = PostgreSQL("postgresql://labd@one,two/labd?target_session_attrs=primary")
    assert kept.url.query["target_session_attrs"] == "primary"
    for wrong in ("postgresql://labd@one,/labd", "postgresql://labd@one:x,two/labd"):
        with pytest.raises(DatabaseUrlInvalid, match="HOST:PORT,HOST:PORT"):
            PostgreSQL(wrong)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
def test_a_full_disk_of_the_transaction_log_loses_nothing(tmp_path: Path) -> None:
    with PostgresServer(wal_megabytes=24) as server:
        store = Store(tmp_path, server.new_labd_database())
        with fill(server.wal_disk):
            acknowledged = []
            with pytest.raises(StoreError, match=r"cannot be (reached|written)"):
                for number in range(1_000):
                    bench = replace(BENCH, name=f"bench-{number}", health_reason=secrets.token_hex(50_000))
                    with store.write() as unit:
                        unit.save_bench(bench)
                    acknowledged.append(bench.name)
        server.start_again()
        with store.write() as unit:
            unit.save_bench(BENCH)
        with store.read() as unit:
            assert {*acknowledged, BENCH.name} <= {bench.name for bench in unit.benches()}
        store.close()


def test_text_with_a_nul_is_kept_with_the_symbol_for_it(store: Store) -> None:
    with store.write() as unit:
        unit.save_bench(Bench("bench-1", "agent", "a:1", {}, False, "it says \0 again"))
    with store.read() as unit:
        assert [bench.health_reason for bench in unit.benches()] == ["it says \u2400 again"]


@pytest.fixture
def lines(store: Store) -> Iterator[tuple[Line, Line]]:
    assert isinstance(store.database, PostgreSQL)
    with open_line(store.database, "one") as one, open_line(store.database, "two") as two:
        one.join("http://one", "key-1")
        two.join("http://two", "key-1")
        yield one, two


def test_one_leads_until_its_line_breaks(store: Store, lines: tuple[Line, Line]) -> None:
    one, two = lines
    assert (one.lead(set()), two.lead(set())) == (1, None)
    one._connection.close()
    deadline = time.monotonic() + 10
    while (term := two.lead(set())) is None:
        assert time.monotonic() < deadline
    assert term == 2
    with store.read() as unit:
        assert unit.leads("two", 2)
        assert not unit.leads("one", 1), "a former leader is found out"


def test_a_leader_that_stands_still_is_shut_out(store: Store, lines: tuple[Line, Line]) -> None:
    one, two = lines
    assert one.lead(set()) == 1
    deadline = time.monotonic() + 10
    while (term := two.lead({"one"})) is None:
        assert time.monotonic() < deadline
    assert term == 2
    with pytest.raises(psycopg.OperationalError):
        one.beat(1.0, 5.0)


def test_the_first_labds_key_is_the_labs(lines: tuple[Line, Line]) -> None:
    assert lines[1].join("http://two", "key-2") == "key-1"


def test_a_database_is_not_migrated_under_a_labd_nor_taken_up_during_a_migration(
    tmp_path: Path, url: str, store: Store, lines: tuple[Line, Line]
) -> None:
    with pytest.raises(DatabaseInUse, match="stop every labd"):
        migrate_database(tmp_path, url, "0001")
    for line in lines:
        line.leave()
    with store.write() as unit:
        store.database.claim(unit._connection)
        with pytest.raises(DatabaseInUse, match="being migrated"):
            lines[0].join("http://one", "key-1")
    assert str(migrate_database(tmp_path, url, None)).endswith("already")


def test_of_two_migrations_at_once_one_migrates(tmp_path: Path, postgresql: PostgresServer) -> None:
    url = postgresql.new_labd_database()
    migrate_database(tmp_path, url, "0010")
    done: list[str] = []

    def migrate() -> None:
        try:
            done.append(str(migrate_database(tmp_path, url, None)))
        except DatabaseInUse as error:
            done.append(str(error))

    threads = [threading.Thread(target=migrate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [f"0010 -> {SCHEMA_HEAD}" in said for said in done].count(True) == 1, done
    assert all("already" in said or "in use" in said or "->" in said for said in done)
    Store(tmp_path, url).close()
    postgresql.drop(url)


def test_a_schema_of_a_newer_labd_is_refused(tmp_path: Path, postgresql: PostgresServer) -> None:
    url = postgresql.new_labd_database()
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for use in (lambda: Store(tmp_path, url), lambda: migrate_database(tmp_path, url, None)):
        with pytest.raises(DatabaseNewer, match="a newer labd wrote the database"):
            use()
    postgresql.drop(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount")
def test_a_full_disk_of_the_servers_is_named_and_labd_goes_on_when_there_is_room_again(
    tmp_path: Path,
) -> None:
    with PostgresServer() as server, server.small_database(megabytes=40) as (url, grow):
        store = Store(tmp_path, url)
        with store.write() as unit:
            unit.save_bench(BENCH)
        rubbish = "".join(map(chr, range(0x100, 0x4000))) * 400  # which does not compress well
        with (
            pytest.raises(DatabaseUnwritable, match=r"cannot be written .*: look at the space on the server's disk"),
            store.write() as unit,
        ):
            unit.save_bench(replace(BENCH, name="bench-2"))
            for number in range(40):
                unit.save_bench(replace(BENCH, name=f"big-{number}", health_reason=rubbish))
        grow(200)
        with store.read() as unit:
            assert [bench.name for bench in unit.benches()] == ["bench-1"]
        with store.write() as unit:
            unit.save_bench(replace(BENCH, name="bench-2"))
        with store.read() as unit:
            assert [bench.name for bench in unit.benches()] == ["bench-1", "bench-2"]
        store.close()


def test_a_standstill_of_all_is_made_up_for_once(store: Store, lines: tuple[Line, Line]) -> None:
    one, two = lines
    one.beat(100.0, 5.0)
    two.beat(104.0, 5.0)
    with store.write() as unit:
        assert not unit.take_stall(104.5, 5.0)
    one.beat(110.0, 5.0)
    two.beat(110.5, 5.0)
    with store.write() as unit:
        assert unit.take_stall(111.0, 5.0)
    with store.write() as unit:
        assert not unit.take_stall(111.0, 5.0)
    with store.write() as unit:
        assert unit.take_stall(120.0, 5.0), "nobody has beaten again yet"
    assert one.beat(120.5, 5.0) == (120.5, {"one": 3, "two": 2})
    assert two.beat(99.0, 5.0)[0] == 120.5, "the lab's time does not go back"
    with store.write() as unit:
        assert not unit.take_stall(121.0, 5.0)


def test_what_a_transaction_causes_reaches_the_others_once_it_is_durable(
    store: Store, lines: tuple[Line, Line]
) -> None:
    effects = Effects(
        fences=[FenceOrder(f"bench-{number}-{'ä' * 200}", number, "released") for number in range(40)],
        leases={"l-1", "l-2"},
        runs={"r-1"},
        clears=[ClearOrder("bench-1", "ada")],
        due_at=20.5,
        lenient_until=12.5,
    )
    messages = bulletins.encode("one", effects)
    assert len(messages) > 1
    assert max(len(message.encode()) for message in messages) < 8000
    with pytest.raises(ZeroDivisionError), store.write() as unit:
        unit.notify(messages)
        raise ZeroDivisionError
    with store.write() as unit:
        unit.notify(messages)
    heard: list[str] = []
    deadline = time.monotonic() + 10
    while len(heard) < len(messages):
        heard += lines[1].messages(0.1)
        assert time.monotonic() < deadline
    assert heard == messages
    parts = [bulletins.decode(message) for message in heard]
    assert {sender for sender, _ in parts} == {"one"}
    assert [order for _, part in parts for order in part.fences] == effects.fences
    assert set().union(*(part.leases for _, part in parts)) == effects.leases
    assert set().union(*(part.runs for _, part in parts)) == effects.runs
    assert [clear for _, part in parts for clear in part.clears] == effects.clears
    assert (parts[0][1].due_at, parts[0][1].lenient_until) == (20.5, 12.5)


def test_nothing_to_tell_is_not_told_and_news_of_a_newer_labd_are_passed_over() -> None:
    assert bulletins.encode("one", Effects()) == []
    assert bulletins.decode('{"from": "two", "runs": ["r-1"], "weather": [1]}') == ("two", Effects(runs={"r-1"}))
    assert bulletins.decode("{}") == ("", Effects())
