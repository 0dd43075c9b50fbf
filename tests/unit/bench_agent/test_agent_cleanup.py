"""How a bench is handed over: what is undone, in which order, and what becomes of a bench where that fails."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_agent.client import BenchClient, BenchUnavailable
from bench_agent.protocol import bench_pb2
from bench_agent.server.cleanup import CleanUpStack, Phase, Undo
from bench_agent.server.quarantine import QuarantineError, QuarantineStore
from tests.running_time import running_time
from tests.unit.bench_agent.harness import OpenBench, RunningAgent, Signer, StartAgent

KINDS = st.sampled_from(["works", "fails", "hangs"])


@given(steps=st.lists(st.tuples(st.sampled_from(Phase), KINDS), max_size=8))
def test_all_steps_are_tried_in_reverse_and_those_that_failed_stay(steps: list[tuple[Phase, str]]) -> None:
    async def run() -> None:
        stack, tried = CleanUpStack(), []

        def undo(number: int, kind: str) -> Undo:
            async def act() -> None:
                tried.append(number)
                if kind == "fails":
                    raise OSError("the relay is stuck")
                if kind == "hangs":
                    await asyncio.Event().wait()

            return act

        for number, (phase, kind) in enumerate(steps):
            stack.push(str(number), undo(number, kind), deadline_s=0.001 if kind == "hangs" else 5, phase=phase)
        silent = [n for n in reversed(range(len(steps))) if steps[n][0] is Phase.SILENCE]
        rest = [n for n in reversed(range(len(steps))) if steps[n][0] is Phase.UNDO]
        outcomes = await stack.run()
        assert tried == silent + rest == [int(outcome.name) for outcome in outcomes]
        faults = {int(outcome.name) for outcome in outcomes if outcome.fault}
        assert faults == {number for number, (_, kind) in enumerate(steps) if kind != "works"}
        tried.clear()
        await stack.run()
        assert set(tried) == faults
        assert len(stack) == len(faults)

    asyncio.run(run())


def push(running: RunningAgent, name: str, undo: Undo, *, phase: Phase = Phase.UNDO) -> None:
    running.portal.call(
        lambda: running.agent.benches["bench-1"].held().cleanup.push(name, undo, deadline_s=1, phase=phase)
    )


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def test_what_sends_by_itself_stops_before_the_calls_have_ended(
    running: RunningAgent, bench: BenchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.describe()
    silenced: list[float] = []

    async def silence() -> None:
        silenced.append(running_time())

    push(running, "a cyclic message", silence, phase=Phase.SILENCE)
    gate = running.agent.guard.gates["bench-1"]

    async def a_call_that_takes_its_time() -> asyncio.Task[None]:
        held = asyncio.Event()

        async def call() -> None:
            admitted = await gate.enter(running.agent.guard._keys.verify(bench._connection.metadata[0][1][7:]))
            held.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(1.5)
            finally:
                gate.leave(admitted)

        task = asyncio.create_task(call())
        await held.wait()
        return task

    running.portal.call(a_call_that_takes_its_time)
    started, really_started = running_time(), time.monotonic()
    running.fence(1)
    assert silenced[0] - started < 0.2
    assert time.monotonic() - really_started >= 1.0  # the call was waited for all the same


def test_a_step_that_fails_quarantines_the_bench_until_it_works(running: RunningAgent, open_bench: OpenBench) -> None:
    bench = open_bench(epoch=1)
    bench.describe()
    broken = [True]
    others: list[str] = []

    async def undo() -> None:
        if broken[0]:
            raise OSError("relay 3 does not open")

    async def other() -> None:
        others.append("done")

    push(running, "close the console", other)
    push(running, "power off", undo)
    running.portal.start_task_soon(running.agent.guard.gates["bench-1"].fence, 1, "released")
    wait_for(lambda: running.describe("bench-1").health == bench_pb2.QUARANTINED)
    described = running.describe("bench-1")
    assert "power off: relay 3 does not open" in described.health_reason
    assert others == ["done"]
    tried = [(step.name, bool(step.fault)) for step in described.last_clean_up]
    assert tried[:2] == [("power off", True), ("close the console", False)]
    with pytest.raises(BenchUnavailable, match="relay 3 does not open"):
        open_bench(epoch=2).describe()
    assert running.fenced() == 0
    broken[0] = False
    running.agent.guard.gates["bench-1"].retry_now()
    wait_for(lambda: running.fenced() >= 1)
    assert open_bench(epoch=2).describe().health_reason == ""
    record = running.file.data / "traces" / "lease-1" / "clean-up.jsonl"
    first = json.loads(record.read_text().splitlines()[0])
    assert first["fault"] == "power off: relay 3 does not open"
    now = [(step.name, step.fault) for step in running.describe("bench-1").last_clean_up]
    assert now[:2] == [("power off", ""), ("close the console", "")]


def test_a_quarantine_outlives_the_agent_and_ends_when_somebody_says_so(
    start_agent: StartAgent, open_bench: OpenBench, running: RunningAgent, signer: Signer
) -> None:
    running.portal.call(running.agent.benches["bench-1"].quarantine, "the after-lease hook failed")
    running.portal.call(running.agent.stop)
    again = start_agent()
    assert again.describe("bench-1").health == bench_pb2.QUARANTINED
    assert "the after-lease hook failed" in again.describe("bench-1").health_reason
    with (
        BenchClient(again.address, "bench-1", signer.token("bench-1", 1)) as refused,
        pytest.raises(BenchUnavailable, match="in quarantine: the after-lease hook failed"),
    ):
        refused.describe()
    again.portal.call(again.agent.benches["bench-1"].clear_quarantine)
    with BenchClient(again.address, "bench-1", signer.token("bench-1", 1)) as admitted:
        assert admitted.describe().health_reason == ""
    assert again.describe("bench-2").health == bench_pb2.HEALTHY


@pytest.mark.parametrize("content", ["{", "[]", '"x"'])
def test_an_unsound_quarantine_file_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "quarantine.json").write_text(content)
    with pytest.raises(QuarantineError, match="is not sound"):
        QuarantineStore(tmp_path / "quarantine.json")
