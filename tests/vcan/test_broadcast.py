"""Cyclic messages that the kernel's broadcast manager sends: what a tap sees, and what stays after each kind of end."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence

import can
import pytest

from deploy.demo.lab import Lab
from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.cyclic.transmission import Transmission
from ecu_adapters.cyclic.transmitter import Transmitter
from tests.vcan.can_utils import Candump, cansend
from tests.vcan.test_socketcan import finish

WAIT_S = 30.0
CONFIG = CanConfig(interface="socketcan", channel="vcan0", fd=True)


class Seen:
    """What a tap of a hub has seen of one ID."""

    def __init__(self, hub: BusHub, can_id: int) -> None:
        self.frames: list[can.Message] = []
        self._can_id = can_id
        hub.tap(self._take)

    def _take(self, burst: Sequence[can.Message]) -> None:
        self.frames += [message for message in burst if message.arbitration_id == self._can_id]

    @property
    def data(self) -> list[int]:
        return [message.data[0] for message in self.frames]

    def wait(self, met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not met():
            assert time.monotonic() < deadline, self.data
            time.sleep(0.01)


def frames(*data: int, can_id: int, fd: bool = False) -> list[can.Message]:
    return [
        can.Message(arbitration_id=can_id, is_extended_id=False, is_fd=fd, data=[byte] * (12 if fd else 2))
        for byte in data
    ]


@pytest.fixture
def hub() -> Iterator[BusHub]:
    with BusHub.open("vcan", CONFIG) as opened:
        yield opened


@pytest.fixture
def transmitter() -> Iterator[Transmitter]:
    yield Transmitter()


@pytest.mark.parametrize("fd", [False, True])
def test_the_kernels_frames_are_own_frames_and_end_with_the_job(hub: BusHub, fd: bool) -> None:
    seen = Seen(hub, 0x5A0)
    with BusHub.open("other", CONFIG) as other:
        received = Seen(other, 0x5A0)
        job = hub.broadcast(frames(1, 2, 3, can_id=0x5A0, fd=fd), 0.01)
        assert job is not None and job.alive
        seen.wait(lambda: len(seen.frames) > 10)
        job.stop()
        time.sleep(0.1)
        ended = list(seen.data)
        assert ended == [1 + number % 3 for number in range(len(ended))]
        assert {message.is_rx for message in seen.frames} == {False}
        assert {message.is_fd for message in seen.frames} == {fd}
        assert job.sent == hub.stats.sent == len(ended)
        time.sleep(0.2)
        assert seen.data == ended
        received.wait(lambda: len(received.frames) == len(ended))
        assert {message.is_rx for message in received.frames} == {True}


def test_frames_of_others_stay_received_ones(hub: BusHub) -> None:
    seen = Seen(hub, 0x5A1)
    job = hub.broadcast(frames(1, can_id=0x5A2), 0.01)
    assert job is not None
    for _ in range(5):
        cansend("5A1#00")
    seen.wait(lambda: len(seen.frames) == 5)
    assert {message.is_rx for message in seen.frames} == {True}


def test_a_counter_goes_on_through_the_kernel_and_back(hub: BusHub, transmitter: Transmitter) -> None:
    seen = Seen(hub, 0x5A3)
    message = Transmission("m", hub, frames(*range(16), can_id=0x5A3), 0.01, kernel=hub.broadcast)
    transmitter.add(message)
    seen.wait(lambda: len(seen.frames) > 20)
    assert message.in_kernel
    transmitter.set_frames(message, frames(*range(100, 116), can_id=0x5A3))
    seen.wait(lambda: seen.data[-1] >= 100)
    transmitter.pause(message)
    paused = len(seen.frames)
    time.sleep(0.2)
    assert len(seen.frames) == paused
    transmitter.resume(message)
    seen.wait(lambda: len(seen.frames) > paused + 5)
    assert [byte % 100 % 16 for byte in seen.data] == [number % 16 for number in range(len(seen.data))]
    transmitter.freeze(message, frozen=True)
    seen.wait(lambda: len(set(seen.data[-5:])) == 1)
    assert not message.in_kernel
    transmitter.freeze(message, frozen=False)
    seen.wait(lambda: message.in_kernel)
    transmitter.set_period(message, 0.005)
    count = len(seen.frames)
    seen.wait(lambda: len(seen.frames) > count + 20)
    transmitter.remove(message)
    time.sleep(0.05)
    assert message.stats.sent == len(seen.frames)
    assert message.stats.failed == 0


def test_nothing_is_left_on_the_bus_of_a_process_that_was_killed(candump: Candump) -> None:
    program = textwrap.dedent(
        """
        import time, can
        from ecu_adapters.bus import BusHub, CanConfig
        hub = BusHub.open("vcan", CanConfig(interface="socketcan", channel="vcan0"))
        assert hub.broadcast([can.Message(arbitration_id=0x5A4, is_extended_id=False)], 0.005) is not None
        time.sleep(600)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        candump.wait_for("5A4#")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.2)
        with candump.news:
            count = candump.lines.count("5A4#")
        assert count
        time.sleep(0.3)
        with candump.news:
            assert candump.lines.count("5A4#") == count
    finally:
        process.kill()
        process.wait()


def test_a_lease_has_the_kernel_send_and_ends_it(lab: Lab, candump: Candump) -> None:
    script = """
    local can, test, time = require("can"), require("test"), require("time")
    local bus = can.bus("powertrain")
    local m = bus:cyclic("EngineControl", { TargetSpeed = 1500 }, { period = "10ms", counter = { signal = "Alive" } })
    local cycle = bus:measure_cycle("EngineControl", "2s")
    test.is_true(m:state().in_kernel, "the kernel does not send it")
    test.is_true(cycle.frames > 20, "hardly any frame: " .. cycle.frames)  -- times mean nothing on a user-mode kernel
    m:set{ TargetSpeed = 2000 }
    bus:expect("EngineStatus", { EngineSpeed = test.within(2000, 10) }, "30s")
    test.equal({ m:state().in_kernel, m:state().failed }, { true, 0 })
    """
    with lab.client() as client:
        run, _, log = finish(
            client, client.create_run(script=script, name="bcm.lua", holder="test", selector="name=vcan-bench")
        )
    assert run["state"] == "PASSED", (run["reason"], log)
    lab.wait_for_benches("vcan-bench")
    # What candump tells after the mark was on the bus after the bench was free.
    cansend("5A5#")
    candump.wait_for("5A5#")
    time.sleep(0.3)
    with candump.news:
        mark = candump.lines.index("5A5#")
        assert sum(line.startswith("100#") for line in candump.lines[:mark]) > 100
        assert not [line for line in candump.lines[mark:] if line.startswith("100#")]
