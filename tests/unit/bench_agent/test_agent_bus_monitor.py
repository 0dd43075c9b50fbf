"""State, load and losses of a bus through a real agent: asked for, awaited, followed, and bus-off recovered."""

from collections.abc import Callable, Iterator

import can
import pytest

from bench_agent.client import (
    BenchClient,
    BusErrorFrame,
    BusEvent,
    BusFault,
    BusRestart,
    BusStateChange,
    BusStaysOff,
    InvalidRequest,
    NotFound,
)
from bench_agent.protocol import bench_pb2
from bench_agent.protocol.frames import Frame
from ecu_adapters.bus import BusError, BusHub
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, Signer, StartAgent

WAIT_S = 60.0
CONTROLLER, NO_ACK, BUS_OFF, RESTARTED, COUNTERS = 0x004, 0x020, 0x040, 0x100, 0x200


@pytest.fixture
def agent_file(agent_file: AgentFile) -> AgentFile:
    agent_file.benches[0]["ecus"] = []
    agent_file.benches[0]["can"][0]["bitrate"] = 500_000
    agent_file.benches[0]["can"][0]["bus_off"] = {"recover": "manual"}
    return agent_file


@pytest.fixture
def other(running: RunningAgent) -> Iterator[can.BusABC]:
    with running.node() as node:
        yield node


def tell(node: can.BusABC, classes: int, data: bytes = bytes(8)) -> None:
    """An error frame, as the agent's controller would give it."""
    node.send(can.Message(arbitration_id=classes, is_error_frame=True, is_extended_id=False, data=data))


def until(events: Iterator[BusEvent], wanted: Callable[[BusEvent], bool]) -> BusEvent:
    return next(event for event in events if wanted(event))


def test_errors_and_states_are_events_and_counts(bench: BenchClient, other: can.BusABC) -> None:
    bus = bench.bus("powertrain")
    with bus.watch() as watch:
        events = iter(watch)
        first = next(events)
        assert isinstance(first, BusStateChange)
        assert (first.state, first.before) == ("error-active", "error-active")
        tell(other, NO_ACK)
        seen = next(events)
        assert isinstance(seen, BusErrorFrame)
        assert (seen.kinds, seen.detail, seen.tx_errors) == (("no_ack",), "no other node acknowledged a frame", None)
        tell(other, CONTROLLER | COUNTERS, bytes((0, 0x20, 0, 0, 0, 0, 136, 7)))
        assert next(events).timestamp_ns > 0
        change = next(events)
        assert isinstance(change, BusStateChange)
        assert (change.state, change.before) == ("error-passive", "error-active")
        stats = bus.stats()
        assert (stats.state, stats.since_ns, stats.fault) == ("error-passive", change.timestamp_ns, "")
        assert (stats.tx_errors, stats.rx_errors, stats.error_frames) == (136, 7, 2)
        assert stats.errors == {"error_passive": 1, "no_ack": 1}
        assert [error.kinds for error in stats.last_errors] == [("no_ack",), ("error_passive",)]
        assert watch.dropped == 0


def test_traffic_load_and_subscribers_are_counted(bench: BenchClient, other: can.BusABC) -> None:
    bus = bench.bus("powertrain")
    with bus.stream() as stream:
        for number in range(500):
            other.send(can.Message(arbitration_id=0x100 + number % 8, is_extended_id=False, data=bytes(8)))
        taken = 0
        while taken < 500:
            block = stream.read(WAIT_S)
            assert block is not None
            taken += len(block.frames)
        bus.send(Frame(0, 0x7, 0, b"\x01"))
        stats = bus.stats()
        assert (stats.received, stats.sent, stats.send_failed, stats.lost) == (500, 1, 0, 0)
        [subscriber] = stats.subscribers
        assert (subscriber.delivered, subscriber.dropped, subscriber.waiting) == (500, 0, 0)
        assert (stats.bitrate, stats.data_bitrate) == (500_000, None)
        assert stats.load_typical is not None
        assert stats.load_worst is not None
        assert 0 <= stats.load_typical <= stats.load_worst


def test_a_state_is_awaited(bench: BenchClient, other: can.BusABC) -> None:
    bus = bench.bus("powertrain")
    assert bus.expect_state("error-active", 0.01)
    assert not bus.expect_state("bus-off", 0.05)
    tell(other, BUS_OFF)
    assert bus.expect_state("bus-off", WAIT_S)
    assert not bus.expect_state("error-active", 0.01)


def test_bus_off_waits_for_somebody_where_the_policy_says_so(
    bench: BenchClient, other: can.BusABC, running: RunningAgent
) -> None:
    bus = bench.bus("powertrain")
    with bus.watch() as watch:
        events = iter(watch)
        next(events)
        tell(other, BUS_OFF)
        until(events, lambda event: isinstance(event, BusStaysOff))
    assert "bus_off.recover: manual" in bus.stats().fault
    described = bench.describe()
    assert not described.healthy
    assert "CAN bus bench-1/powertrain is bus-off: it waits for somebody" in described.health_reason
    assert (described.buses[0].state, described.buses[0].error_frames) == ("bus-off", 1)
    stats = bus.recover()
    assert (stats.state, stats.bus_offs, stats.recoveries, stats.fault) == ("error-active", 1, 1, "")
    assert bench.describe().healthy
    other.send(can.Message(arbitration_id=0x123, is_extended_id=False))
    assert bus.expect_frame(0x123, timeout_s=0.01) is not None
    assert bus.recover().recoveries == 1  # nothing to do


def test_a_lease_hands_its_bus_over_recovered(
    bench: BenchClient, other: can.BusABC, running: RunningAgent, open_bench: OpenBench
) -> None:
    tell(other, BUS_OFF)
    assert bench.bus("powertrain").expect_state("bus-off", WAIT_S)
    running.fence(1)
    assert running.describe("bench-1").buses[0].state == bench_pb2.BUS_ERROR_ACTIVE
    steps = {step.name: step.fault for step in running.describe("bench-1").last_clean_up}
    assert steps["bring the buses back from bus-off"] == ""


def test_the_agent_brings_a_bus_back_by_itself(agent_file: AgentFile, start_agent: StartAgent, signer: Signer) -> None:
    agent_file.benches[0]["can"][0]["bus_off"] = {"after_ms": 20, "max_attempts": 3}
    running = start_agent()
    with BenchClient(running.address, "bench-1", signer.token()) as bench, running.node() as other:
        bus = bench.bus("powertrain")
        with bus.watch() as watch:
            events = iter(watch)
            for attempt in range(1, 4):
                tell(other, BUS_OFF)
                tried = until(events, lambda event: isinstance(event, BusRestart))
                assert isinstance(tried, BusRestart)
                assert (tried.attempt, tried.fault) == (attempt, "")
                assert bus.expect_state("error-active", WAIT_S)
            # The third does not last either: the agent gives up, and says so.
            tell(other, BUS_OFF)
            given_up = until(events, lambda event: isinstance(event, BusStaysOff))
            assert isinstance(given_up, BusStaysOff)
            assert "3 attempts to restart it did not last" in given_up.reason
            assert bus.stats().fault == given_up.reason
        assert not bench.describe().healthy
        assert bus.recover().state == "error-active"  # somebody may still ask


def test_a_controller_that_comes_back_by_itself_is_left_alone(
    agent_file: AgentFile, start_agent: StartAgent, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    monkeypatch.setattr(BusHub, "restart", tried.append)
    agent_file.benches[0]["can"][0]["bus_off"] = {"after_ms": 60_000}
    running = start_agent()
    with BenchClient(running.address, "bench-1", signer.token()) as bench, running.node() as other:
        bus = bench.bus("powertrain")
        tell(other, BUS_OFF)
        assert bus.expect_state("bus-off", WAIT_S)
        tell(other, RESTARTED)
        assert bus.expect_state("error-active", WAIT_S)
        assert bus.stats().recoveries == 1
    assert tried == []


def test_what_does_not_work_is_told(
    bench: BenchClient, other: can.BusABC, monkeypatch: pytest.MonkeyPatch, running: RunningAgent
) -> None:
    def refuse(_: BusHub) -> None:
        raise BusError("run: sudo ip link set dev can0 type can restart")

    monkeypatch.setattr(BusHub, "restart", refuse)
    bus = bench.bus("powertrain")
    tell(other, BUS_OFF)
    assert bus.expect_state("bus-off", WAIT_S)
    with pytest.raises(BusFault, match="run: sudo ip link set dev can0 type can restart"):
        bus.recover()


def test_a_policy_of_never_is_kept(agent_file: AgentFile, start_agent: StartAgent, signer: Signer) -> None:
    agent_file.benches[0]["can"][0]["bus_off"] = {"recover": "never"}
    running = start_agent()
    with BenchClient(running.address, "bench-1", signer.token()) as bench, running.node() as other:
        bus = bench.bus("powertrain")
        tell(other, BUS_OFF)
        assert bus.expect_state("bus-off", WAIT_S)
        with pytest.raises(InvalidRequest, match=r"bus_off\.recover: never"):
            bus.recover()
        running.fence(1)
        assert running.describe("bench-1").buses[0].state == bench_pb2.BUS_OFF
        assert "bus-off" in running.health("bench-1")


def test_wrong_requests_name_what_is_wrong(bench: BenchClient) -> None:
    bus = bench.bus("powertrain")
    with pytest.raises(InvalidRequest, match=r"state is 'bus_off'; did you mean bus-off\?"):
        bus.expect_state("bus_off")
    with pytest.raises(InvalidRequest, match="it must be one of error-active"):
        bus.expect_state("42")
    with pytest.raises(InvalidRequest, match="timeout_s is 0"):
        bus.expect_state("bus-off", 0)
    bus.name = "chassis"
    with pytest.raises(NotFound, match="has no bus 'chassis'"):
        bus.stats()


def test_a_bus_that_is_only_listened_to_refuses_frames_clearly(
    agent_file: AgentFile, start_agent: StartAgent, signer: Signer
) -> None:
    agent_file.benches[0]["can"][0]["listen_only"] = True
    running = start_agent()
    with BenchClient(running.address, "bench-1", signer.token()) as bench, running.node() as other:
        bus = bench.bus("powertrain")
        with pytest.raises(InvalidRequest, match="is only listened to"):
            bus.send(Frame(0, 0x7, 0, b"\x01"))
        with pytest.raises(InvalidRequest, match="is only listened to"):
            bus.send_message("EngineControl", {"TargetSpeed": 1500})
        for start in (
            lambda: bus.cyclic("EngineControl", {"TargetSpeed": 1500}, period_s=0.01),
            bus.restbus,
            lambda: bus.replay([Frame(0, 0x7, 0, b"\x01")]),
        ):
            with pytest.raises(InvalidRequest, match="is only listened to"):
                start()
        with bus.stream() as stream:
            other.send(can.Message(arbitration_id=0x123, is_extended_id=False))
            assert stream.read(WAIT_S) is not None
