"""A gateway between two buses of a bench, through the agent."""

import time
from collections.abc import Iterator
from functools import partial

import can
import pytest

from bench_agent.client import BenchClient, BusFaultRule, InvalidRequest, LeaseRefused, NotFound
from bench_agent.server.bus_watch import Drops
from bench_agent.server.gateway import Way
from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.faults import Fault
from tests.unit.bench_agent.harness import AgentFile, OpenBench, RunningAgent, bench_entry


@pytest.fixture
def agent_file(agent_file: AgentFile) -> AgentFile:
    two = bench_entry("bench-3", ecus=False)
    [bus] = two["can"]
    two["can"].append({**bus, "name": "body", "channel": bus["channel"] + "-body"})
    agent_file.benches.append(two)
    return agent_file


@pytest.fixture
def bench(open_bench: OpenBench) -> BenchClient:
    return open_bench(bench="bench-3")


@pytest.fixture
def nodes(running: RunningAgent) -> Iterator[tuple[can.BusABC, can.BusABC]]:
    """One on each bus."""
    channel = running.file.channel("bench-3")
    with (
        can.Bus(interface="virtual", channel=channel) as powertrain,
        can.Bus(interface="virtual", channel=f"{channel}-body") as body,
    ):
        yield powertrain, body


def frame(can_id: int, data: bytes = b"") -> can.Message:
    return can.Message(arbitration_id=can_id, is_extended_id=False, data=data)


def received(node: can.BusABC, last: int) -> list[can.Message]:
    """Everything up to the frame with the ID ``last``."""
    got: list[can.Message] = []
    while not got or got[-1].arbitration_id != last:
        message = node.recv(10)
        assert message is not None, got
        got.append(message)
    return got


def test_frames_cross_both_ways_and_do_not_come_back(bench: BenchClient, nodes: tuple[can.BusABC, can.BusABC]) -> None:
    powertrain, body = nodes
    with bench.gateway("powertrain", "body"):
        for number in range(100):
            powertrain.send(frame(0x100 + number))
        assert [message.arbitration_id for message in received(body, 0x163)] == list(range(0x100, 0x164))
        body.send(frame(0x200, b"\x01"))
        # Nothing of what was forwarded is among what comes from the other side.
        assert [message.arbitration_id for message in received(powertrain, 0x200)] == [0x200]
        assert powertrain.recv(0.2) is None
        assert body.recv(0.2) is None


def test_a_seed_drops_the_same_frames_again(bench: BenchClient, nodes: tuple[can.BusABC, can.BusABC]) -> None:
    powertrain, body = nodes
    rounds = []
    for _ in range(2):
        with bench.gateway("powertrain", "body", [BusFaultRule(0x100, 0x7FF, probability=0.3, seed=7, drop=True)]):
            for number in range(100):
                powertrain.send(frame(0x100, bytes([number])))
            powertrain.send(frame(0x7FF))
            rounds.append([bytes(message.data) for message in received(body, 0x7FF)])
    assert rounds[0] == rounds[1]
    assert 50 < len(rounds[0]) < 90


def test_frames_are_delayed_doubled_and_changed(bench: BenchClient, nodes: tuple[can.BusABC, can.BusABC]) -> None:
    powertrain, body = nodes
    faults = [
        BusFaultRule(0x100, 0x7FF, delay_s=0.2),
        BusFaultRule(0x200, 0x7FF, copies=1, flip=b"\x0f"),
    ]
    with bench.gateway("powertrain", "body", faults, one_way=True) as gateway:
        began = time.monotonic()
        powertrain.send(frame(0x100))
        powertrain.send(frame(0x200, b"\xf0"))
        got = received(body, 0x100)
        assert time.monotonic() - began >= 0.2
        assert [(message.arbitration_id, bytes(message.data)) for message in got] == [
            (0x200, b"\xff"),
            (0x200, b"\xff"),
            (0x100, b""),
        ]
        body.send(frame(0x300))
        assert powertrain.recv(0.2) is None, "forwarded back, although it is one way"
        deadline = time.monotonic() + 10
        while (state := gateway.state()).forwarded < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (state.back, state.refused, state.overflowed, state.struck) == (0, 0, 0, (1, 1))


def test_a_gateway_ends_with_its_lease(
    bench: BenchClient, running: RunningAgent, nodes: tuple[can.BusABC, can.BusABC]
) -> None:
    powertrain, body = nodes
    with bench.gateway("powertrain", "body", [BusFaultRule(delay_s=3.0)]) as gateway:
        powertrain.send(frame(0x100))
        running.fence(1, bench="bench-3")
        assert body.recv(3.5) is None, "a frame after the lease's end"
        powertrain.send(frame(0x101))
        assert body.recv(0.2) is None
        with pytest.raises(LeaseRefused):
            gateway.state()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (BusFaultRule(), r"faults\[0\] does nothing"),
        (BusFaultRule(drop=True, probability=1.5), r"faults\[0\]\.probability is 1\.5; it must be 0 \.\. 1"),
        (BusFaultRule(delay_s=61), r"faults\[0\]\.delay_us is 61000000"),
        (BusFaultRule(copies=101), r"faults\[0\]\.copies is 101; it must be at most 100"),
        (BusFaultRule(length=9), r"faults\[0\]\.length is 9; it must be one of"),
        (BusFaultRule(new_id=0x800), r"faults\[0\]\.new_id: arbitration ID 0x800 is above 0x7FF"),
    ],
)
def test_a_rule_that_makes_no_sense_is_named(bench: BenchClient, rule: BusFaultRule, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said), bench.gateway("powertrain", "body", [rule]):
        pass


def test_a_gateway_joins_two_buses(bench: BenchClient) -> None:
    with pytest.raises(InvalidRequest, match="both 'body'"), bench.gateway("body", "body"):
        pass
    with pytest.raises(NotFound, match="no bus 'bdy'"), bench.gateway("powertrain", "bdy"):
        pass


@pytest.mark.anyio
async def test_frames_beyond_the_bound_are_counted_as_drops_of_their_bus() -> None:
    drops = Drops()
    hubs = [BusHub.open("b", CanConfig(interface="virtual", channel=f"overflow-{side}")) for side in "ab"]
    here, there = (hub.node("gateway") for hub in hubs)
    on_drop = partial(drops.add, "gateway")
    way = Way(here, there, [Fault(delay_s=60.0)], bound=3, on_drop=on_drop)
    for number in range(10):
        hubs[0].send(frame(number))
    await way.stop()
    assert (way.overflowed, drops.take()) == (7, {"gateway": 7})
    for hub in hubs:
        hub.close()
