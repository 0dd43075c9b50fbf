"""How the lab stands is kept in memory: nobody ever sees more, or less, than the database has."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from labd.model.bench import Bench
from labd.model.lease import Lease, LeaseEnd, LeaseState, Share, ShareMode, Wanted
from labd.store.store import Store
from labd.store.units.replicas import Attachment

LEASE = Lease("l-1", 1, LeaseState.QUEUED, (Wanted(""),), "ada", 60.0, 30.0, 0.0, 30.0)


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


def test_shares_are_the_same_to_all_until_the_lease_has_ended(
    two: tuple[Store, Store], tmp_path: Path, database: str | None
) -> None:
    one, other = two
    with one.write() as unit:
        unit.add_lease(LEASE)
        unit.save_share("l-1", Share("eve", ShareMode.OBSERVER))
        unit.save_share("l-1", Share("bob", ShareMode.CO_DRIVER, 2))
        unit.save_share("l-1", Share("eve", ShareMode.OBSERVER), live=False)
    third = Store(tmp_path, database)
    for store in (one, other, third):
        with store.read() as unit:
            assert [share.holder for share in unit.shares("l-1")] == ["bob"]
            assert [(share.holder, share.number, live) for share, live in unit.shares_ever("l-1")] == [
                ("bob", 2, True),
                ("eve", 0, False),
            ]
    third.close()
    with pytest.raises(RuntimeError, match="changed its mind"), other.write() as unit:
        unit.drop_shares("l-1")
        assert unit.shares_ever("l-1") == []
        raise RuntimeError("changed its mind")
    with other.write() as unit:
        lease = unit.lease("l-1")
        assert lease is not None
        assert len(unit.shares_ever("l-1")) == 2
        unit.save_lease(lease.end(LeaseEnd.CANCELLED, 5.0), lease)
    with one.read() as unit:
        assert unit.shares_ever("l-1") == []


def test_an_agent_is_attached_where_it_came_last(two: tuple[Store, Store]) -> None:
    one, other = two

    def attached() -> list[str]:
        found = []
        for store in two:
            with store.read() as unit:
                found += [session for session in ("first", "second") if unit.is_attached("agent-1", session)]
        return found

    assert attached() == []
    with one.write() as unit:
        unit.attach_agent(Attachment("agent-1", "labd-1", "first", 1.0))
        assert unit.is_attached("agent-1", "first")
    assert attached() == ["first", "first"]
    with other.write() as unit:
        unit.attach_agent(Attachment("agent-1", "labd-2", "second", 2.0))
    assert attached() == ["second", "second"]
    with one.write() as unit:
        unit.detach_agent("agent-1", "first")
    assert attached() == ["second", "second"], "the newer one stays"
    with one.write() as unit:
        unit.forget_replicas(["labd-2"])
    assert attached() == []


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
