"""How the lab stands is kept in memory: nobody ever sees more, or less, than the database has."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from labd.model.bench import Bench
from labd.store.store import Store


def bench(name: str, epoch: int = 0) -> Bench:
    return Bench(name, "agent-1", "agent-1.test:8472", {"platform": "meb"}, True, "", epoch=epoch)


@pytest.fixture
def two(tmp_path: Path, database: str | None) -> Iterator[tuple[Store, Store]]:
    """Two stores on one database, as two labds have them."""
    one, other = Store(tmp_path, database), Store(tmp_path, database)
    yield one, other
    one.close()
    other.close()


def seen(store: Store) -> dict[str, int]:
    with store.read() as unit:
        return {one.name: one.epoch for one in unit.benches()}


def test_what_one_writes_the_other_reads(two: tuple[Store, Store]) -> None:
    one, other = two
    assert (seen(one), seen(other)) == ({}, {})
    with one.write() as unit:
        unit.save_bench(bench("bench-1"))
    assert (seen(one), seen(other)) == ({"bench-1": 0}, {"bench-1": 0})
    with other.write() as unit:
        unit.save_bench(bench("bench-1", epoch=7))
        unit.save_bench(bench("bench-0"))
    assert seen(one) == seen(other) == {"bench-0": 0, "bench-1": 7}


def test_what_is_undone_is_seen_by_nobody(two: tuple[Store, Store]) -> None:
    one, other = two
    with one.write() as unit:
        unit.save_bench(bench("bench-1"))
    with pytest.raises(RuntimeError, match="changed its mind"), one.write() as unit:
        unit.save_bench(bench("bench-1", epoch=9))
        assert [known.epoch for known in unit.benches()] == [9]
        raise RuntimeError("changed its mind")
    assert (seen(one), seen(other)) == ({"bench-1": 0}, {"bench-1": 0})
    with other.write() as unit:
        unit.save_bench(bench("bench-1", epoch=1))
    # The number of the change that was undone has been given to another one.
    assert (seen(one), seen(other)) == ({"bench-1": 1}, {"bench-1": 1})


def test_a_reader_keeps_to_the_moment_at_which_it_began(two: tuple[Store, Store]) -> None:
    one, other = two
    with one.write() as unit:
        unit.save_bench(bench("bench-1"))
    with one.read() as reader:
        assert [known.epoch for known in reader.benches()] == [0]
        with other.write() as unit:
            unit.save_bench(bench("bench-1", epoch=1))
        assert [known.epoch for known in reader.benches()] == [0]
    assert seen(one) == {"bench-1": 1}
