"""What the agent tells labd of the use of its benches."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_agent.client import BenchClient
from bench_agent.protocol import lab_pb2
from bench_agent.server import attach
from bench_agent.server.activity import Activity
from tests.unit.bench_agent.harness import FakeLabd, RunningAgent, Signer, StartAgent


def report_of(labd: FakeLabd, epoch: int) -> lab_pb2.BenchReport:
    return labd.wait(
        lambda message: message.report.description.name == "bench-1" and message.report.active_epoch == epoch
    ).report


def started(labd: FakeLabd, start_agent: StartAgent) -> RunningAgent:
    running = start_agent()
    running.portal.call(running.agent.attached.wait)
    return running


def test_the_first_accepted_call_is_reported_at_once(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "REPORT_S", 3600)
    running = started(labd, start_agent)
    with BenchClient(running.address, "bench-1", signer.token(epoch=7)) as bench:
        bench.describe()
        assert report_of(labd, 7).idle_ms < 10_000
    running.fence(7)
    with BenchClient(running.address, "bench-1", signer.token(epoch=8)) as bench:
        bench.describe()
        report_of(labd, 8)


def test_an_observer_uses_nothing(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "REPORT_S", 0.1)
    running = started(labd, start_agent)
    with (
        BenchClient(running.address, "bench-1", signer.token(scope="observer")) as bench,
        bench.bus("powertrain").stream() as frames,
    ):
        assert frames.read(10) is not None
        labd.heard.queue.clear()
        assert report_of(labd, 0).idle_ms >= 0
        assert running.agent.guard.gates["bench-1"].activity.epoch == 0


def test_a_stream_that_only_lies_open_is_idle_and_one_that_is_used_is_not(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer
) -> None:
    running = started(labd, start_agent)
    activity = running.agent.guard.gates["bench-1"].activity
    with (
        BenchClient(running.address, "bench-1", signer.token()) as bench,
        bench.bus("powertrain").stream() as frames,
    ):
        deadline = time.monotonic() + 30
        while activity.idle_ms < 300:
            assert frames.read(10) is not None  # frames come, and the holder is idle all the same
            assert time.monotonic() < deadline
        bench.ecu("ECM").call("tester_present")
        bench.ecu("ECM").call("tester_present")  # by a stream that is open already
        assert activity.idle_ms < 300 or time.monotonic() > deadline - 25


def test_a_holder_whose_call_is_in_work_is_not_idle(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "REPORT_S", 0.05)
    running = started(labd, start_agent)
    gate = running.agent.guard.gates["bench-1"]
    with BenchClient(running.address, "bench-1", signer.token()) as bench, ThreadPoolExecutor() as threads:
        bus = bench.bus("powertrain")
        waiting = threads.submit(bus.measure_cycle, "EngineStatus", 3.0)
        deadline = time.monotonic() + 30
        while not gate.activity.working:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        seen = time.monotonic()
        report = report_of(labd, 1)
        while report.idle_ms:  # sent before the call began
            report = report_of(labd, 1)
        while time.monotonic() < seen + 0.5:
            assert gate.activity.idle_ms == 0
            time.sleep(0.05)
        waiting.result(60)


def test_after_a_restart_of_the_agent_a_lease_that_was_used_counts_from_then_on(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer
) -> None:
    running = started(labd, start_agent)
    with BenchClient(running.address, "bench-1", signer.token(epoch=5)) as bench:
        bench.describe()
    running.portal.call(running.agent.stop)
    labd.heard.queue.clear()
    again = started(labd, start_agent)
    hello = labd.wait(lambda message: message.HasField("hello")).hello
    assert (hello.benches[0].active_epoch, hello.benches[1].active_epoch) == (5, 0)
    again.fence(5)


steps = st.lists(
    st.tuples(st.sampled_from(["touch", "begin", "end", "wait"]), st.integers(1, 3), st.integers(1, 50)), max_size=40
)


@given(steps=steps)
def test_idle_is_the_time_since_the_newest_leases_last_traffic(steps: list[tuple[str, int, int]]) -> None:
    now = [100.0]
    activity = Activity(now=lambda: now[0])
    newest, last = 0, 100.0
    working: list[tuple[int, AbstractContextManager[None]]] = []
    for what, epoch, seconds in steps:
        if what == "wait":
            now[0] += seconds
        elif what == "end":
            if working:
                begun, work = working.pop()
                work.__exit__(None, None, None)
                last = now[0] if begun == newest else last
        else:
            if epoch >= newest:
                newest, last = epoch, now[0]
            if what == "touch":
                activity.touch(epoch)
            else:
                work = activity.work(epoch)
                work.__enter__()
                working.append((epoch, work))
        busy = any(begun == newest for begun, _ in working)
        assert activity.epoch == newest
        assert activity.idle_ms == (0 if busy else round((now[0] - last) * 1000))
