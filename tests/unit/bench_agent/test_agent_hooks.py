"""Before-lease and after-lease hooks: real Lua in real processes, on the simulated bench of a real agent."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bench_agent.client import BenchClient, LeaseRefused
from bench_agent.server import config, guard
from tests.unit.bench_agent.harness import AgentFile, RunningAgent, Signer, StartAgent

READ_AND_WRITE = """
local uds = require("uds")
local ecu = uds.ecu("ECM")
print("code was " .. ecu:read("Code"))
ecu:session("extended")
ecu:unlock(1)
ecu:write("Code", "9999")
"""
FAIL = 'error("the relay does not answer")'
SPIN = "while true do end"
DEADLINE_S = 30.0


@pytest.fixture
def hook(agent_file: AgentFile) -> Callable[..., None]:
    """Gives bench-1 a hook."""

    def set_hook(name: str, script: str, **settings: Any) -> None:
        (agent_file.folder / f"{name}.lua").write_text(script)
        hooks = agent_file.benches[0].setdefault("hooks", {})
        hooks[name] = {"script": f"{name}.lua", **settings}

    return set_hook


@pytest.fixture
def holder(signer: Signer) -> Callable[..., BenchClient]:
    """A client with a good token."""

    def client(running: RunningAgent, epoch: int = 1) -> BenchClient:
        return BenchClient(running.address, "bench-1", signer.token(epoch=epoch), timeout_s=10)

    return client


def log_of(running: RunningAgent, name: str, lease: str = "lease-1") -> str:
    return (running.file.data / "traces" / lease / f"{name}.log").read_text()


def test_the_hook_before_works_on_the_bench_before_the_holders_first_call(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    hook("before_lease", READ_AND_WRITE)
    running = start_agent()
    with holder(running) as bench:
        assert bench.ecu("ECM").call("read", did="Code") == "9999"
    assert "info: code was 0000" in log_of(running, "before_lease")


def test_a_stream_as_the_first_call_waits_for_the_hook_too(
    agent_file: AgentFile,
    hook: Callable[..., None],
    start_agent: StartAgent,
    holder: Callable[..., BenchClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "_PREPARING_S", 0.05)  # a call is told so, instead of being kept waiting
    supply = {"name": "supply", "driver": "simulated", "channels": {"kl30": {}}}
    agent_file.benches[0]["power"] = [supply]
    hook("before_lease", READ_AND_WRITE)
    with holder(start_agent()) as bench:
        played = bench.power.channel("kl30").profile("dip", [(0, 12), (20, 9), (40, 12)])
    assert len(played.steps) + played.skipped >= 3


def test_the_hook_after_works_on_the_bench_when_the_holders_things_are_undone(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    hook("after_lease", 'local uds = require("uds")\nprint("session " .. uds.ecu("ECM"):read("Code"))')
    running = start_agent()
    with holder(running) as bench:
        bench.describe()
        running.fence(1)
        assert "info: session 0000" in log_of(running, "after_lease")
        with pytest.raises(LeaseRefused):
            bench.describe()
    assert running.health("bench-1") == ""
    with holder(running, 2) as bench:
        bench.describe()


def test_a_failing_hook_that_may_warn_shows_in_the_bench_and_the_lease_goes_on(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    hook("before_lease", FAIL, on_failure="warn")
    with holder(start_agent()) as bench:
        description = bench.describe()
    assert description.healthy
    assert description.health_reason == (
        "hook before_lease (before_lease.lua) failed: before_lease.lua:1: the relay does not answer"
    )


def test_a_failing_hook_that_fails_the_lease_ends_it_and_frees_the_bench(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    hook(
        "before_lease",
        'if require("bench").lease.id == "lease-1" then error("not for you") end',
        on_failure="fail_lease",
    )
    running = start_agent()
    with holder(running) as bench:
        for _ in range(2):
            with pytest.raises(LeaseRefused, match=r"has ended .*hook before_lease .*not for you"):
                bench.describe()
    until(lambda: running.fenced() == 1)
    assert running.health("bench-1") == ""
    with holder(running, 2) as bench:
        assert bench.describe().healthy


@pytest.mark.parametrize("name", ["before_lease", "after_lease"])
def test_a_failing_hook_that_quarantines_keeps_the_bench_from_everybody(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient], name: str
) -> None:
    hook(name, FAIL, on_failure="quarantine")
    running = start_agent()
    with holder(running) as bench:
        if name == "before_lease":
            with pytest.raises(LeaseRefused, match="the relay does not answer"):
                bench.describe()
        else:
            bench.describe()
            running.fence(1)
    until(lambda: running.fenced() == 1)
    assert "the relay does not answer" in (running.agent.benches["bench-1"].quarantine_reason or "")


@pytest.mark.parametrize("name", ["before_lease", "after_lease"])
def test_a_hook_is_killed_at_its_deadline(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient], name: str
) -> None:
    hook(name, 'string.rep("a", 30):find(("a*"):rep(30) .. "b")', timeout_s=2, on_failure="warn")
    running = start_agent()
    with holder(running) as bench:
        bench.describe()
        running.fence(1)
    assert "ran longer than 2 s" in running.agent.benches["bench-1"].describe().health_reason


def test_a_lease_that_ends_meanwhile_ends_the_hook_before_it(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    hook("before_lease", SPIN, timeout_s=600)
    running = start_agent()
    with holder(running) as bench:
        answer = _in_thread(bench.describe)
        until(lambda: running.agent.guard.gates["bench-1"]._hook is not None)
        running.fence(1, "released")
        with pytest.raises(LeaseRefused, match="released"):
            answer()
    assert running.fenced() == 1
    assert running.health("bench-1") == ""


def test_a_long_hook_makes_the_holder_wait_not_fail(
    hook: Callable[..., None],
    start_agent: StartAgent,
    holder: Callable[..., BenchClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench_agent.server.guard._PREPARING_S", 0.05)
    hook("before_lease", 'require("time").sleep("1s")')
    running = start_agent()
    with holder(running) as bench:
        assert bench.describe().name == "bench-1"


def test_the_pass_of_a_hook_opens_nothing_else(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient], signer: Signer
) -> None:
    hook("before_lease", SPIN, timeout_s=600)
    running = start_agent()
    gate = running.agent.guard.gates["bench-1"]
    with holder(running) as first:
        answer = _in_thread(first.describe)
        until(lambda: gate._hook is not None)
        token = gate._hook.token  # type: ignore[union-attr]
        socket = running.agent._socket.address  # type: ignore[union-attr]
        for address, bench in ((running.address, "bench-1"), (socket, "bench-2")):
            with BenchClient(address, bench, token) as thief, pytest.raises(LeaseRefused):
                thief.describe()
        with BenchClient(socket, "bench-1", token) as hook_itself:
            assert hook_itself.describe().name == "bench-1"
            running.fence(1)
            with pytest.raises(LeaseRefused):
                hook_itself.describe()
        with pytest.raises(LeaseRefused):
            answer()


def test_an_agent_restarted_during_the_lease_runs_the_hook_after_it_all_the_same(
    hook: Callable[..., None], start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    hook("after_lease", FAIL, on_failure="warn")
    first = start_agent()
    with holder(first) as bench:
        bench.describe()
    first.portal.call(first.agent.stop)
    assert "hook" not in first.agent.benches["bench-1"].describe().health_reason, "the lease is not over"
    second = start_agent()
    second.fence(1)
    assert "the relay does not answer" in second.agent.benches["bench-1"].describe().health_reason


def test_a_hook_finds_the_modules_beside_it(
    hook: Callable[..., None], agent_file: AgentFile, start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    (agent_file.folder / "lib").mkdir()
    (agent_file.folder / "lib" / "relay.lua").write_text('return {cycle = function() print("click") end}')
    hook("before_lease", 'require("lib.relay").cycle()')
    running = start_agent()
    with holder(running) as bench:
        assert bench.describe().health_reason == ""
    assert "click" in log_of(running, "before_lease")


def test_a_check_names_scripts_that_are_missing_or_no_lua(hook: Callable[..., None], agent_file: AgentFile) -> None:
    hook("before_lease", "local x =\nend")
    hook("after_lease", "return 1")
    (agent_file.folder / "after_lease.lua").unlink()
    said = [str(mistake) for mistake in config.check(agent_file.write())]
    assert len(said) == 2
    assert any("before_lease.lua:2: unexpected symbol near 'end'" in one for one in said)
    assert any("after_lease.lua cannot be read: No such file" in one for one in said)


def test_a_check_names_files_of_a_hook_that_are_missing(hook: Callable[..., None], agent_file: AgentFile) -> None:
    hook("before_lease", "return 1", files=["before_lease.lua", "baseline.hex"])
    (said,) = config.check(agent_file.write())
    assert "before_lease.files.1: there is no file baseline.hex beside the script" in str(said)


def test_a_hook_cannot_fail_a_lease_that_is_over(hook: Callable[..., None], agent_file: AgentFile) -> None:
    hook("after_lease", "return 1", on_failure="fail_lease")
    (mistake,) = config.check(agent_file.write())
    assert "the lease is over by then; warn or quarantine" in str(mistake)


def until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not ready():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


def _in_thread(function: Callable[[], object]) -> Callable[[], object]:
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function)
    pool.shutdown(wait=False)
    return lambda: future.result(timeout=DEADLINE_S)


def test_a_hook_has_the_files_that_its_configuration_names(
    hook: Callable[..., None], agent_file: AgentFile, start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    (agent_file.folder / "wake.log").write_text("(1.000000) can0 123#0102\n(1.010000) can0 123#0304\n")
    script = 'print(require("can").bus("powertrain"):replay("wake.log"):wait("20s").sent .. " frames")'
    hook("before_lease", script, files=["wake.log"])
    hook("after_lease", script.replace("wake", "sleep"), files=["wake.log"], on_failure="warn")
    running = start_agent()
    with holder(running) as bench:
        assert bench.describe().health_reason == ""
        assert [str(frame) for frame in bench.recent(100)["powertrain"] if frame.can_id == 0x123] == [
            "123#0102",
            "123#0304",
        ]
    assert "2 frames" in log_of(running, "before_lease")
    running.fence(1)
    assert "no file 'sleep.log' came with this run" in log_of(running, "after_lease")


FLASHABLE = """
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8}
memory: {regions: {app: {address: 0x8000, size: 0x1000, read: {}, write: {session: [programming]}}}}
"""


def test_a_baseline_is_flashed_before_every_lease(
    hook: Callable[..., None], agent_file: AgentFile, start_agent: StartAgent, holder: Callable[..., BenchClient]
) -> None:
    (agent_file.folder / "ecm.yaml").write_text(FLASHABLE)
    (agent_file.folder / "baseline.s19").write_text("S1078000DEADBEEF40\nS9030000FC\n")
    hook("before_lease", 'require("uds").ecu("ECM"):flash{ file = "baseline.s19" }', files=["baseline.s19"])
    running = start_agent()
    with holder(running) as bench:
        assert bench.describe().health_reason == ""
        answer = bench.ecu("ECM").raw(b"\x23\x44" + (0x8000).to_bytes(4, "big") + (5).to_bytes(4, "big")).response
        assert answer == b"\x63\xde\xad\xbe\xef\xff"
