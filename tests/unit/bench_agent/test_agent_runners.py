"""Runners at the bench: real processes, started by a real agent on the word of a labd played by the test."""

import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench_agent.client import BenchClient, LeaseRefused
from bench_agent.protocol import lab_pb2
from bench_agent.server.runners import reachable_url
from bench_agent.server.unix_socket import UnixSocket
from runners import launch
from runners.keeper import RunnerKeeper
from tests.unit.bench_agent.harness import AgentFile, FakeLabd, RunningAgent, Signer, StartAgent

SLEEP = "import time; open('up', 'w').close(); time.sleep(600)"
DEADLINE_S = 60.0


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has runners execute a Python program instead of `scenarios`."""

    def use(program: str) -> None:
        monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-S", "-c", textwrap.dedent(program)))

    return use


@pytest.fixture
def attach(labd: FakeLabd, start_agent: StartAgent) -> Callable[[], RunningAgent]:
    """Starts an agent that labd has heard of."""

    def start_and_wait() -> RunningAgent:
        running = start_agent()
        labd.wait(lambda message: message.HasField("hello"))
        return running

    return start_and_wait


def start(labd: FakeLabd, token: str, run_id: str = "r-1") -> None:
    order = lab_pb2.StartRunner(
        run_id=run_id, bench="bench-1", url="http://127.0.0.1:8470", run_token="secret", lease_token=token
    )
    labd.say(lab_pb2.LabMessage(start_runner=order))


def report(labd: FakeLabd, *, alive: bool, run_id: str = "r-1") -> str:
    """Waits for the report; returns its reason."""
    found = labd.wait(
        lambda message: (message.runner.run_id, message.runner.alive) == (run_id, alive), timeout_s=DEADLINE_S
    )
    return found.runner.reason


def wait_for(path: Path) -> None:
    end = time.monotonic() + DEADLINE_S
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.01)


def test_a_runner_gets_its_run_and_the_unix_socket_and_its_end_is_told(
    play: Callable[[str], None], labd: FakeLabd, attach: Callable[[], RunningAgent], signer: Signer
) -> None:
    play("import os; print(*(os.environ[f'LABD_{name}'] for name in ('URL', 'RUN_ID', 'RUN_TOKEN', 'BENCH_ADDRESS')))")
    running = attach()
    start(labd, signer.token())
    reason = report(labd, alive=False)
    assert reason.startswith("the runner exited with code 0; it wrote: http://127.0.0.1:8470 r-1 secret unix:/")
    start(labd, signer.token())
    assert report(labd, alive=False) == reason, "never a second one for the same run"
    labd.say(lab_pb2.LabMessage(forget_runner=lab_pb2.ForgetRunner(run_id="r-1")))
    labd.drop_stream()
    assert list(labd.wait(lambda message: message.HasField("hello")).hello.runners) == []
    assert list((running.file.data / "runs").iterdir()) == []


def test_a_runner_needs_a_sound_lease(labd: FakeLabd, attach: Callable[[], RunningAgent], signer: Signer) -> None:
    attach()
    start(labd, Signer().token())
    assert "not started: lease token has a wrong signature" in report(labd, alive=False)
    start(labd, signer.token("bench-2"), "r-2")
    assert "is for bench 'bench-2', not for 'bench-1'" in report(labd, alive=False, run_id="r-2")


def test_the_end_of_the_lease_ends_the_runner_before_it_is_confirmed(
    play: Callable[[str], None], labd: FakeLabd, attach: Callable[[], RunningAgent], signer: Signer
) -> None:
    play(SLEEP)
    running = attach()
    start(labd, signer.token())
    report(labd, alive=True)
    wait_for(running.file.data / "runs" / "r-1" / "up")
    labd.say(lab_pb2.LabMessage(fence=lab_pb2.Fence(bench="bench-1", epoch=1, reason="released")))
    first = labd.wait(lambda message: message.HasField("fenced") or message.runner.run_id == "r-1", DEADLINE_S)
    assert first.runner.reason == "the runner was killed by SIGTERM"
    labd.wait(lambda message: message.fenced.epoch == 1, DEADLINE_S)
    assert (running.file.data / "runs" / "r-1" / launch.STOP_REASON_FILE).read_text() == (
        "its lease on the bench has ended"
    )


def test_a_runner_does_not_outlive_a_lease_that_expires_with_labd_away(
    play: Callable[[str], None], labd: FakeLabd, attach: Callable[[], RunningAgent], signer: Signer
) -> None:
    play(SLEEP)
    attach()
    start(labd, signer.token(lasts_s=3))
    report(labd, alive=True)
    labd.drop_stream()
    assert report(labd, alive=False) == "the runner was killed by SIGTERM"


def test_labd_stops_a_runner_and_one_that_is_not_there(
    play: Callable[[str], None], labd: FakeLabd, attach: Callable[[], RunningAgent], signer: Signer
) -> None:
    play(SLEEP)
    attach()
    start(labd, signer.token())
    report(labd, alive=True)
    for run_id, reason in (("r-1", "the runner was killed by SIGTERM"), ("r-9", "the agent knows of no such runner")):
        labd.say(lab_pb2.LabMessage(stop_runner=lab_pb2.StopRunner(run_id=run_id)))
        assert report(labd, alive=False, run_id=run_id) == reason


def test_a_broken_stream_costs_no_runner(
    play: Callable[[str], None], labd: FakeLabd, attach: Callable[[], RunningAgent], signer: Signer
) -> None:
    play(SLEEP)
    attach()
    start(labd, signer.token())
    report(labd, alive=True)
    labd.drop_stream()
    hello = labd.wait(lambda message: len(message.hello.runners) > 0, DEADLINE_S).hello
    assert [(runner.run_id, runner.alive) for runner in hello.runners] == [("r-1", True)]


def test_a_restarted_agent_ends_what_a_killed_one_left_before_it_lets_anybody_in(
    play: Callable[[str], None], labd: FakeLabd, agent_file: AgentFile, start_agent: StartAgent
) -> None:
    play(SLEEP)
    former = RunnerKeeper(agent_file.data / "runs", keeper="the agent", command=launch.COMMAND)
    former.start("r-1", {})
    wait_for(agent_file.data / "runs" / "r-1" / "up")
    start_agent()
    (runner,) = labd.wait(lambda message: message.HasField("hello"), DEADLINE_S).hello.runners
    assert (runner.run_id, runner.alive) == ("r-1", False)
    assert runner.reason.startswith("the runner ended")
    former.close()


def test_a_stopping_agent_ends_its_runners_and_knows_of_them_when_it_comes_back(
    play: Callable[[str], None],
    labd: FakeLabd,
    attach: Callable[[], RunningAgent],
    start_agent: StartAgent,
    signer: Signer,
) -> None:
    play(SLEEP)
    running = attach()
    start(labd, signer.token())
    report(labd, alive=True)
    running.portal.call(running.agent.stop)
    assert (running.file.data / "runs" / "r-1" / launch.STOP_REASON_FILE).read_text() == "the agent stops"
    start_agent()
    (runner,) = labd.wait(lambda message: message.HasField("hello"), DEADLINE_S).hello.runners
    assert (runner.run_id, runner.alive) == ("r-1", False)


def test_the_unix_socket_asks_for_the_same_tokens(running: RunningAgent, signer: Signer) -> None:
    address = running.agent._socket.address  # type: ignore[union-attr]
    with BenchClient(address, "bench-1", signer.token()) as bench:
        assert bench.describe().name == "bench-1"
    with BenchClient(address, "bench-1", Signer().token()) as bench, pytest.raises(LeaseRefused):
        bench.describe()


def test_the_unix_socket_is_for_the_agents_user_alone_and_moves_when_its_path_is_too_long(tmp_path: Path) -> None:
    near, far = UnixSocket(tmp_path / "a"), UnixSocket(tmp_path / ("x" * 120))
    for one in (near, far):
        folder = Path(one.address.removeprefix("unix:")).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        assert len(one.address) < 108
        one.close()
        assert not folder.exists()


@pytest.mark.parametrize(
    ("url", "labd", "expected"),
    [
        ("http://127.0.0.1:8470", "127.0.0.1:8471", "http://127.0.0.1:8470"),
        ("http://127.0.0.1:8470", "lab.example.com:8471", "http://lab.example.com:8470"),
        ("http://[::1]:8470", "[2001:db8::7]:8471", "http://[2001:db8::7]:8470"),
        ("https://lab.example.com/labd", "10.0.0.7:8471", "https://lab.example.com/labd"),
        ("http://127.0.0.1:1,http://b:2", "a:8471", "http://a:1,http://b:2"),
    ],
)
def test_labds_loopback_is_the_host_that_the_agent_dials(url: str, labd: str, expected: str) -> None:
    assert reachable_url(url, labd) == expected
