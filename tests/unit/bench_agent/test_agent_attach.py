"""The agent's stream to labd, against a real Lab servicer."""

import socket
import time

import pytest

from bench_agent.client import BenchClient, BenchUnavailable, LeaseRefused
from bench_agent.protocol import bench_pb2, lab_pb2
from bench_agent.server import attach, doors
from tests.unit.bench_agent.harness import NOBODY, AgentFile, FakeLabd, Signer, StartAgent


@pytest.fixture(autouse=True)
def frequent_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "REPORT_S", 0.1)


def test_the_agent_introduces_itself_and_its_benches(
    labd: FakeLabd, start_agent: StartAgent, agent_file: AgentFile
) -> None:
    agent_file.benches[1]["can"][0] |= {"interface": "socketcan", "channel": "nocan7"}
    running = start_agent(keys=False)
    hello = labd.wait(lambda message: message.HasField("hello")).hello
    assert hello.agent == "agent-1"
    assert hello.address == running.address
    assert hello.version
    first, second = hello.benches
    assert first.description.name == "bench-1"
    assert dict(first.description.labels) == {"platform": "meb"}
    assert first.description.health == bench_pb2.HEALTHY
    assert [ecu.name for ecu in first.description.ecus] == ["ECM"]
    assert first.fenced_epoch == 0
    assert second.description.health == bench_pb2.UNHEALTHY
    assert "nocan7" in second.description.health_reason


def test_the_keys_of_the_welcome_open_the_door(labd: FakeLabd, start_agent: StartAgent, signer: Signer) -> None:
    running = start_agent(keys=False)
    labd.wait(lambda message: message.HasField("report"))  # sent after the Welcome, or soon before it
    with BenchClient(running.address, "bench-1", signer.token()) as bench:
        deadline = time.monotonic() + 10
        while True:
            try:
                assert bench.describe().healthy
                break
            except BenchUnavailable:
                assert time.monotonic() < deadline


def test_every_bench_is_reported_and_signs_of_life_go_on(labd: FakeLabd, start_agent: StartAgent) -> None:
    start_agent()
    hello = labd.wait(lambda message: message.HasField("hello")).hello
    assert [one.description.name for one in hello.benches] == ["bench-1", "bench-2"]
    for _ in range(2):
        labd.wait(lambda message: message.report.description.name == "bench-1")


def test_a_bench_that_is_used_is_reported_at_once(labd: FakeLabd, start_agent: StartAgent, signer: Signer) -> None:
    running = start_agent()
    labd.wait(lambda message: message.HasField("hello"))
    with BenchClient(running.address, "bench-2", signer.token("bench-2")) as client:
        client.describe()
    told = labd.wait(lambda message: message.report.active_epoch == 1).report
    assert told.description.name == "bench-2"


def test_a_fence_cuts_cleans_and_is_confirmed(labd: FakeLabd, start_agent: StartAgent, signer: Signer) -> None:
    running = start_agent()
    labd.wait(lambda message: message.HasField("hello"))
    with BenchClient(running.address, "bench-1", signer.token(epoch=3)) as bench:
        bench.ecu("ECM").call("session", session="extended")
        with bench.bus("powertrain").stream() as stream:
            fence = lab_pb2.Fence(bench="bench-1", epoch=3, reason="released")
            labd.say(lab_pb2.LabMessage(fence=fence))
            report = labd.wait(lambda message: message.report.fenced_epoch == 3).report
            confirmed = labd.wait(lambda message: message.HasField("fenced")).fenced
            with pytest.raises(LeaseRefused, match="released"):
                for _ in stream.blocks():
                    pass
    assert (confirmed.bench, confirmed.epoch) == ("bench-1", 3)
    assert report.description.name == "bench-1"
    assert report.description.last_clean_up, "told in one piece"


def test_a_fence_of_a_lease_never_used_is_confirmed_too(labd: FakeLabd, start_agent: StartAgent) -> None:
    start_agent()
    labd.wait(lambda message: message.HasField("hello"))
    labd.say(lab_pb2.LabMessage(fence=lab_pb2.Fence(bench="bench-2", epoch=9, reason="expired")))
    assert labd.wait(lambda message: message.HasField("fenced")).fenced.epoch == 9
    labd.say(lab_pb2.LabMessage(fence=lab_pb2.Fence(bench="elsewhere", epoch=1, reason="expired")))
    labd.say(lab_pb2.LabMessage(fence=lab_pb2.Fence(bench="bench-2", epoch=9, reason="expired")))
    assert labd.wait(lambda message: message.HasField("fenced")).fenced.bench == "bench-2"


def test_a_share_that_is_taken_back_is_refused_from_then_on(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer
) -> None:
    running = start_agent()
    labd.wait(lambda message: message.HasField("hello"))
    token = signer.token(scope="observer", holder="bob")
    with BenchClient(running.address, "bench-1", token) as bench, bench.bus("powertrain").stream() as frames:
        for name in ("elsewhere", "bench-1"):
            labd.say(lab_pb2.LabMessage(unshare=lab_pb2.Unshare(bench=name, epoch=1, holder="bob", share=0)))
        with pytest.raises(LeaseRefused, match="no more"):
            for _ in frames.blocks():
                pass


def test_fences_missed_while_away_come_with_the_welcome(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer
) -> None:
    labd.welcome.fences.append(lab_pb2.Fence(bench="bench-1", epoch=4, reason="expired"))
    running = start_agent()
    assert labd.wait(lambda message: message.HasField("fenced")).fenced.epoch == 4
    with (
        BenchClient(running.address, "bench-1", signer.token(epoch=4)) as bench,
        pytest.raises(LeaseRefused, match="has ended"),
    ):
        bench.describe()


def test_the_agent_comes_back_after_the_stream_has_broken(
    labd: FakeLabd, start_agent: StartAgent, signer: Signer
) -> None:
    running = start_agent()
    labd.wait(lambda message: message.HasField("hello"))
    with BenchClient(running.address, "bench-1", signer.token(epoch=2)) as bench:
        with bench.bus("powertrain").stream() as stream:
            labd.drop_stream()
            again = labd.wait(lambda message: message.HasField("hello")).hello
            assert stream.read(5) is not None  # labd was away; the lease was not disturbed
        assert again.agent == "agent-1"
        assert labd.streams == 2
        running.fence(2)
    labd.drop_stream()
    hello = labd.wait(lambda message: message.HasField("hello")).hello
    assert hello.benches[0].fenced_epoch == 2


def test_expiry_is_judged_by_labds_clock(labd: FakeLabd, start_agent: StartAgent, signer: Signer) -> None:
    labd.clock_offset_s = 3600
    running = start_agent()
    running.portal.call(running.agent.attached.wait)
    with (
        BenchClient(running.address, "bench-1", signer.token(lasts_s=600)) as bench,
        pytest.raises(LeaseRefused, match=r"expired 3\d\d\d s ago"),
    ):
        bench.describe()
    with BenchClient(running.address, "bench-1", signer.token(lasts_s=4000)) as bench:
        bench.describe()


def test_keys_that_are_none_leave_the_former_ones(labd: FakeLabd, start_agent: StartAgent, signer: Signer) -> None:
    labd.welcome.jwks = "nonsense"
    running = start_agent()
    running.portal.call(running.agent.attached.wait)
    with BenchClient(running.address, "bench-1", signer.token()) as bench:
        bench.describe()


def test_the_agent_goes_to_another_labd_and_stays_there(
    labd: FakeLabd, start_agent: StartAgent, agent_file: AgentFile, signer: Signer
) -> None:
    other = FakeLabd(signer)
    try:
        agent_file.settings["labd"] = [NOBODY, labd.address, other.address]
        running = start_agent()
        running.portal.call(running.agent.attached.wait)
        first, second = (labd, other) if labd.streams else (other, labd)
        first.wait(lambda message: message.HasField("hello"))
        first.stop()
        second.wait(lambda message: message.HasField("hello"))
        assert (first.streams, second.streams) == (1, 1)
    finally:
        other.stop()


def test_a_labd_that_does_not_welcome_is_left_for_one_that_does(
    labd: FakeLabd,
    start_agent: StartAgent,
    agent_file: AgentFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doors, "FIRST_PATIENCE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, as a stopped process does
        agent_file.settings["labd"] = f"127.0.0.1:{deaf.getsockname()[1]},{labd.address}"
        running = start_agent()
        running.portal.call(running.agent.attached.wait)
        assert labd.streams == 1
