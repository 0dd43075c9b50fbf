"""The agent's points on the disk: none is lost that fits, and what does not is counted."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_agent.protocol import lab_pb2
from bench_agent.server import point_spool
from bench_agent.server.measuring import point
from bench_agent.server.point_spool import BATCH, PointSpool

MB = 1 << 20


def points(*numbers: int) -> list[lab_pb2.Point]:
    return [point("can_bus_drops", {"bench": "b", "bus": "c", "cause": "trace"}, {"dropped": n}, 1.0) for n in numbers]


def drained(spool: PointSpool) -> list[int]:
    found = []
    while (batch := spool.head()) is not None:
        found += [one.fields["dropped"].integer for one in batch.points]
        spool.taken(batch.spool, batch.number)
    return found


def test_batches_come_in_order_and_go_when_labd_has_them(tmp_path: Path) -> None:
    spool = PointSpool(tmp_path / "points", MB)
    assert spool.head() is None
    spool.put(points(1, 2))
    spool.put(points(3))
    first = spool.head()
    assert first is not None and first == spool.head()  # until it is acknowledged
    assert drained(spool) == [1, 2, 3]
    assert spool.bytes == 0 and not list(tmp_path.glob("points/*"))


def test_what_a_former_agent_has_left_comes_first(tmp_path: Path) -> None:
    former = PointSpool(tmp_path, MB)
    former.put(points(1))
    former.put(points(2))
    (tmp_path / "0000.new").write_bytes(b"half of a batch")
    (tmp_path / "strange.points").write_bytes(b"of somebody else")
    spool = PointSpool(tmp_path, MB)
    spool.put(points(3))
    head = spool.head()
    assert head is not None and head.number == 1
    former_name = head.spool
    assert drained(spool) == [1, 2, 3]
    spool.put(points(4))
    last = spool.head()
    assert last is not None and last.spool > former_name
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".points" or "strange" in path.name] == [
        "strange.points"
    ]


def test_beyond_the_bound_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    size = PointSpool(tmp_path / "one", MB)
    size.put(points(1))
    spool = PointSpool(tmp_path / "points", 3 * size.bytes)
    for number in range(10):
        spool.put(points(number))
    assert spool.bytes <= 3 * size.bytes
    assert drained(spool) == [7, 8, 9]
    assert spool.dropped() == {"spool_full": 7}
    assert spool.dropped() == {}


def test_a_batch_that_cannot_be_read_is_counted_and_does_not_block_the_rest(tmp_path: Path) -> None:
    spool = PointSpool(tmp_path, MB)
    for number in range(3):
        spool.put(points(number))
    first, second, _ = sorted(tmp_path.glob("*.points"))
    first.write_bytes(b"\xff\xff\xff\xff")
    second.unlink()
    assert drained(spool) == [2]
    assert spool.dropped() == {"disk": 2}


def test_a_disk_that_takes_nothing_costs_nothing_while_labd_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "points").write_text("a file where the folder should be")
    spool = PointSpool(tmp_path / "points", MB)
    spool.put(points(1))
    assert drained(spool) == [1]
    monkeypatch.setattr(point_spool, "MEMORY_BYTES", 200)
    for number in range(20):
        spool.put(points(number))
    kept = drained(spool)
    assert kept and kept == list(range(20))[-len(kept) :]
    assert spool.dropped() == {"disk": 20 - len(kept)}


def test_many_points_are_sent_in_several_batches(tmp_path: Path) -> None:
    spool = PointSpool(tmp_path, 64 * MB)
    spool.put(points(*range(BATCH + 1)))
    head = spool.head()
    assert head is not None and len(head.points) == BATCH
    assert drained(spool) == list(range(BATCH + 1))


@given(st.lists(st.sampled_from(["put", "send", "restart", "forged"]), max_size=40))
def test_through_restarts_every_point_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool, put, sent = PointSpool(folder, MB), 0, []
    for step in steps:
        if step == "put":
            spool.put(points(put))
            put += 1
        elif step == "restart":
            spool = PointSpool(folder, MB)
        elif step == "forged":
            spool.taken("nobody", 1)
        elif (batch := spool.head()) is not None:
            sent += [one.fields["dropped"].integer for one in batch.points]
            spool.taken(batch.spool, batch.number)
    assert sent + drained(spool) == list(range(put))
