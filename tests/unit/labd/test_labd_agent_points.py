"""Points that agents send: of their own benches, once, and no more than their share."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench_agent.protocol import bench_pb2, lab_pb2, lab_pb2_grpc
from labd.agents.server import AgentsServer
from labd.model.point import Point
from labd.services import agent_points
from labd.services.agent_points import AgentPoints, Batch
from labd.services.attachment import BenchReport, Session
from labd.services.lab import Lab
from labd.telemetry.writer import Writer
from tests.points import Collected
from tests.unit.labd.fakes import EPOCH, FakeClock, FakeExecutor, attach, open_lab, report

SPOOL = "000000000000000a"
KL30 = bench_pb2.PowerChannelDescription(name="kl30")


def voltage(volts: float = 12.5, *, time: float = EPOCH, **tags: str) -> Point:
    return Point("power", {"bench": "bench-1", "channel": "kl30", **tags}, {"voltage_v": volts}, time)


def powered() -> BenchReport:
    return replace(report("bench-1"), equipment={"power": [{"name": "kl30"}]})


@pytest.fixture
def database() -> None:
    """The same on both: nothing here is stored."""


@pytest.fixture
def sink(lab: Lab) -> Collected:
    collected = Collected()
    lab.core.points = collected
    return collected


@pytest.fixture
def session(lab: Lab) -> Session:
    return attach(lab, powered())[0]


def dropped(lab: Lab) -> dict[str, Any]:
    return {point.tags["cause"]: point.fields["points"] for point in lab.agent_points.dropped(EPOCH)}


def test_labd_says_whose_points_they_are(lab: Lab, sink: Collected, session: Session) -> None:
    lab.agent_points.take(session, Batch(SPOOL, 1, [voltage(), voltage(agent="another", time=EPOCH + 1)]))
    assert [point.tags["agent"] for point in sink.points] == ["agent-1", "agent-1"]
    assert dropped(lab) == {}


def test_a_batch_that_comes_again_is_acknowledged_and_not_taken_twice(
    lab: Lab, sink: Collected, session: Session
) -> None:
    for number in (1, 2, 2, 1):
        assert lab.agent_points.take(session, Batch(SPOOL, number, [voltage(number)])) is not None
    assert [point.fields["voltage_v"] for point in sink.points] == [1, 2]


def test_another_spool_counts_anew_also_when_a_clock_was_set_back(lab: Lab, sink: Collected, session: Session) -> None:
    for spool in ("b", "a"):
        lab.agent_points.take(session, Batch(spool, 1, [voltage()]))
    assert len(sink.points) == 2


@pytest.mark.parametrize(
    "bad",
    [
        voltage(bench="bench-2"),
        voltage(channel="kl\n30"),
        voltage(channel="kl15"),
        Point("ecu_nrc", {"bench": "bench-1", "ecu": "ECM", "nrc": "31"}, {"responses": 1}, EPOCH),
        Point("can_bus_drops", {"bench": "bench-1", "bus": "body", "cause": "trace"}, {"dropped": 1}, EPOCH),
        voltage(channel="x" * 1000),
        voltage(holder="ada"),
        voltage(float("nan")),
        voltage(time=EPOCH + 1e6),
        voltage(time=EPOCH - 1e8),
        Point("queue", {"priority": "low", "team": "a"}, {"depth": 0, "wait_mean_s": 0.0, "wait_max_s": 0.0}, EPOCH),
        Point("nothing", {}, {"x": 1}, EPOCH),
    ],
)
def test_a_bad_point_is_dropped_and_counted_and_the_good_ones_beside_it_are_taken(
    lab: Lab, sink: Collected, session: Session, bad: Point
) -> None:
    lab.agent_points.take(session, Batch(SPOOL, 1, [voltage(1), bad, voltage(2)]))
    assert [point.fields["voltage_v"] for point in sink.points] == [1, 2]
    assert dropped(lab) == {"refused": 1}


def test_the_series_of_an_agent_are_bounded(
    lab: Lab, sink: Collected, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_points, "SERIES", 3)
    channels = [{"name": f"c{number}"} for number in range(10)]
    session.benches["bench-1"] = replace(session.benches["bench-1"], equipment={"power": channels})
    lab.agent_points.take(session, Batch(SPOOL, 1, [voltage(channel=f"c{number}") for number in range(10)]))
    lab.agent_points.take(session, Batch(SPOOL, 2, [voltage(channel="c0"), voltage(channel="c9")]))
    assert [point.tags["channel"] for point in sink.points] == ["c0", "c1", "c2", "c0"]
    assert dropped(lab) == {"too_many_series": 8}


def test_who_sends_much_waits_for_the_answer(lab: Lab, sink: Collected, session: Session) -> None:
    many = [voltage(time=EPOCH - number) for number in range(agent_points.BATCH + 7)]
    receipts = [lab.agent_points.take(session, Batch(SPOOL, number, many)) for number in (1, 2, 3)]
    assert all(receipt is not None and receipt.wait_s > 0.5 for receipt in receipts)
    assert len(sink.points) == 3 * agent_points.BATCH
    assert dropped(lab) == {"too_many": 21}


def test_the_next_labd_knows_what_the_former_has_taken(
    tmp_path: Path, clock: FakeClock, executor: FakeExecutor
) -> None:
    sink, lab = Collected(), open_lab(tmp_path, clock, executor)
    lab.core.points = sink
    session, _ = attach(lab, powered())
    first = Writer(tmp_path / "points")
    first.start()
    former = AgentPoints(lab.core, first)
    receipt = former.take(session, Batch(SPOOL, 1, [voltage(1)]))
    assert receipt is not None
    receipt.kept.result(30)
    former.close()
    assert former.take(session, Batch(SPOOL, 2, [voltage(2)])) is None
    first.stop()
    following = AgentPoints(lab.core, Writer(tmp_path / "points"))
    for number in (1, 2):
        following.take(session, Batch(SPOOL, number, [voltage(number)]))
    assert [point.fields["voltage_v"] for point in sink.points] == [1, 2]
    lab.core.store.close()


def test_a_batch_is_not_done_with_before_it_is_on_the_disk_also_when_it_comes_again(
    tmp_path: Path, clock: FakeClock, executor: FakeExecutor
) -> None:
    writer = Writer(tmp_path / "points", clock=clock.now)
    lab = open_lab(tmp_path, clock, executor, writer=writer)
    session, _ = attach(lab, powered())
    receipts = [lab.agent_points.take(session, Batch(SPOOL, 1, [voltage()])) for _ in range(2)]
    assert not any(receipt is None or receipt.kept.done() for receipt in receipts)
    writer.start()
    for receipt in receipts:
        assert receipt is not None
        receipt.kept.result(30)
    with sqlite3.connect(f"file:{writer.day.path}?mode=ro", uri=True) as other:  # as the next labd would see it
        assert other.execute("SELECT count(*) FROM slots").fetchone() == (1,)
        assert other.execute("SELECT mark FROM marks").fetchall() == [(f"{SPOOL} 1",)]
    other.close()
    writer.stop()
    lab.core.store.close()


@asynccontextmanager
async def _attached(lab: Lab) -> AsyncIterator["grpc.aio.StreamStreamCall[lab_pb2.AgentMessage, lab_pb2.LabMessage]"]:
    server = AgentsServer(lab)
    port = server.bind("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = lab_pb2_grpc.LabStub(channel).Attach(timeout=60)
            bench = lab_pb2.BenchReport(description=bench_pb2.BenchDescription(name="bench-1", power=[KL30]))
            hello = lab_pb2.Hello(agent="agent-1", address="10.0.0.1:8472", benches=[bench])
            await call.write(lab_pb2.AgentMessage(hello=hello))
            yield call
            call.cancel()
    finally:
        await server.stop()


def _metrics(number: int, *values: lab_pb2.FieldValue) -> lab_pb2.AgentMessage:
    points = [
        lab_pb2.Point(
            measurement="power",
            tags={"bench": "bench-1", "channel": "kl30"},
            fields={"voltage_v": value},
            time_us=round(EPOCH * 1e6) + index,
        )
        for index, value in enumerate(values)
    ]
    return lab_pb2.AgentMessage(metrics=lab_pb2.Metrics(spool=SPOOL, number=number, points=points))


@pytest.mark.anyio
async def test_points_come_in_by_the_door_and_are_answered(lab: Lab, sink: Collected) -> None:
    async with _attached(lab) as call:
        value, wrong = lab_pb2.FieldValue(number=12.5), lab_pb2.FieldValue(text="much")
        await call.write(_metrics(1, value, wrong, lab_pb2.FieldValue(), value))
        while True:
            answer = await call.read()
            assert isinstance(answer, lab_pb2.LabMessage)
            if answer.HasField("metrics_taken"):
                break
    assert (answer.metrics_taken.spool, answer.metrics_taken.number) == (SPOOL, 1)
    assert answer.lab_time_ms
    assert [point.time for point in sink.points] == [EPOCH, EPOCH + 3e-6]
    assert dropped(lab) == {"refused": 2}


@pytest.mark.anyio
async def test_who_does_not_wait_for_the_answer_loses_points_counted_and_nobody_else_waits(
    lab: Lab, sink: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_points, "RATE_PER_S", 0.01)  # the answer to the first comes after this test
    async with _attached(lab) as call:
        await call.read()  # Welcome
        for number in range(1, 6):
            await call.write(_metrics(number, lab_pb2.FieldValue(number=12.5)))
        report = lab_pb2.BenchReport(
            description=bench_pb2.BenchDescription(name="bench-1", labels={"seen": "yes"}, power=[KL30])
        )
        await call.write(lab_pb2.AgentMessage(report=report))
        deadline = asyncio.get_running_loop().time() + 30
        while lab.fleet.bench("bench-1").bench.labels != {"seen": "yes"}:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)
    assert len(sink.points) == 1
    assert dropped(lab) == {"too_many": 4}
