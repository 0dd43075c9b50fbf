"""Transactions that one commit makes durable: what company they keep, and what becomes of them when one fails."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from labd.model.bench import Bench
from labd.store import writers
from labd.store.errors import DatabaseBusy, StoreError
from labd.store.store import Store
from labd.store.unit import Unit
from labd.store.untold import Change

WAIT_S = 20.0


def bench(name: str) -> Bench:
    return Bench(name, "agent", "a:1", {}, True, "")


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    opened = Store(tmp_path, database)
    yield opened
    opened.close()


@pytest.fixture
def commits(store: Store) -> list[str]:
    """One entry for each."""
    seen: list[str] = []
    event.listen(store.database.engine, "commit", lambda connection: seen.append("commit"))
    return seen


class Company:
    """Writers that all come while another one writes."""

    def __init__(self, store: Store, *works: Callable[[Unit], None]) -> None:
        self.outcomes: list[BaseException | None] = [None] * len(works)
        self._threads = [
            threading.Thread(target=self._write, args=(store, number, work)) for number, work in enumerate(works)
        ]
        with store.write() as unit:
            unit.save_bench(bench("first"))
            waiters = store._writers._turns._waiters
            for number, thread in enumerate(self._threads):
                thread.start()
                until = time.monotonic() + WAIT_S
                while len(waiters) <= number and time.monotonic() < until:
                    time.sleep(0.001)

    def _write(self, store: Store, number: int, work: Callable[[Unit], None]) -> None:
        try:
            with store.write() as unit:
                work(unit)
        except BaseException as error:
            self.outcomes[number] = error

    def over(self) -> list[BaseException | None]:
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        return self.outcomes


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "LONGEST_S", WAIT_S)


def saves(name: str) -> Callable[[Unit], None]:
    return lambda unit: unit.save_bench(bench(name))


def fails(unit: Unit) -> None:
    unit.save_bench(bench("undone"))
    raise ZeroDivisionError


def fails_late(unit: Unit) -> None:
    """Once the database has been told."""
    unit.save_bench(bench("undone"))
    assert "undone" in {one.name for one in unit.stored_benches()}
    raise ZeroDivisionError


def benches(store: Store) -> list[str]:
    with store.read() as unit:
        kept = [one.name for one in unit.benches()]
        assert kept == [one.name for one in unit.stored_benches()]  # memory and database agree
        return kept


def test_who_comes_together_is_made_durable_by_one_commit(store: Store, commits: list[str]) -> None:
    assert Company(store, saves("a"), saves("b"), saves("c")).over() == [None] * 3
    assert len(commits) == 1
    assert benches(store) == ["a", "b", "c", "first"]


def test_each_sees_what_those_before_it_did(store: Store) -> None:
    seen: list[list[str]] = []

    def look(unit: Unit) -> None:
        seen.append([one.name for one in unit.benches()])

    assert Company(store, look, saves("a"), look).over() == [None] * 3
    assert seen == [["first"], ["a", "first"]]


def test_the_database_is_told_before_it_is_asked(store: Store) -> None:
    seen: list[list[str]] = []

    def ask(unit: Unit) -> None:
        unit.save_bench(bench("mine"))
        seen.append([one.name for one in unit.stored_benches()])

    assert Company(store, saves("a"), ask, saves("b")).over() == [None] * 3
    assert seen == [["a", "first", "mine"]]
    assert benches(store) == ["a", "b", "first", "mine"]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("fails", [fails, fails_late])
def test_one_that_fails_is_undone_alone(store: Store, at: int, fails: Callable[[Unit], None]) -> None:
    works = [saves("a"), saves("b")]
    works.insert(at, fails)
    outcomes = Company(store, *works).over()
    assert [type(outcome) for outcome in outcomes if outcome] == [ZeroDivisionError]
    assert benches(store) == ["a", "b", "first"]


def test_a_constraint_that_one_breaks_is_no_matter_of_the_others(store: Store) -> None:
    def twice(unit: Unit) -> None:
        for _ in range(2):
            unit.add_team("twice", 0.0)

    broken, kept = Company(store, twice, saves("a")).over()
    assert isinstance(broken, IntegrityError)
    assert kept is None
    assert benches(store) == ["a", "first"]


def test_the_first_one_fails_and_the_next_begin_anew(store: Store) -> None:
    waiters = store._writers._turns._waiters
    kept: list[str] = []

    def write() -> None:
        with store.write() as unit:
            unit.save_bench(bench("a"))
        kept.append("a")

    thread = threading.Thread(target=write)
    with pytest.raises(ZeroDivisionError), store.write() as unit:
        thread.start()
        while not waiters:
            time.sleep(0.001)
        fails(unit)
    thread.join(WAIT_S)
    assert kept == benches(store) == ["a"]


def test_nobody_is_told_that_it_is_durable_when_the_commit_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(writers, "tell", fail)
    outcomes: list[BaseException | None] = []
    with pytest.raises(sqlite3.OperationalError):
        outcomes += Company(store, saves("a"), saves("b")).over()
    monkeypatch.undo()
    assert benches(store) == []
    with store.write() as unit:
        unit.save_bench(bench("later"))
    assert benches(store) == ["later"]


def test_what_cannot_be_told_fails_for_all(store: Store) -> None:
    def breaks(unit: Unit) -> None:
        unit.untold.benches["another"] = Change(None, bench("first"))

    outcomes: list[BaseException | None] = []
    with pytest.raises(IntegrityError):
        outcomes += Company(store, saves("a"), breaks).over()
    assert benches(store) == []


def test_a_unit_that_reads_changes_nothing(store: Store) -> None:
    with store.read() as unit, pytest.raises(RuntimeError, match="only reads"):
        unit.save_bench(bench("lost"))


def test_who_gives_up_waiting_leaves_nobody_undurable(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "WRITE_WAIT_S", 0.05)
    given_up: list[BaseException] = []

    def impatient() -> None:
        try:
            with store.write():
                pass
        except DatabaseBusy as error:
            given_up.append(error)

    with store.write() as unit:
        unit.save_bench(bench("a"))
        thread = threading.Thread(target=impatient)
        thread.start()
        thread.join(WAIT_S)
    assert len(given_up) == 1
    assert benches(store) == ["a"]


def test_a_group_has_a_longest_time_and_a_largest_size(
    store: Store, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MOST", 2)
    assert Company(store, *(saves(f"b{number}") for number in range(5))).over() == [None] * 5
    assert len(commits) == 3
    monkeypatch.setattr(writers, "LONGEST_S", 0.0)
    assert Company(store, *(saves(f"c{number}") for number in range(2))).over() == [None] * 2
    assert len(commits) >= 6
    assert len(benches(store)) == 8


def test_what_was_acknowledged_is_there_and_nothing_else(store: Store) -> None:
    acknowledged: set[str] = set()

    def work(number: int) -> None:
        for count in range(12):
            name = f"w{number}-{count}"
            try:
                with store.write() as unit:
                    unit.save_bench(bench(name))
                    if (number + count) % 3 == 0:
                        raise ZeroDivisionError
            except (ZeroDivisionError, StoreError):
                continue
            acknowledged.add(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert set(benches(store)) == acknowledged
