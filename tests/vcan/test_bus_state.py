"""Error frames, states, set-up and restart on real SocketCAN: vcan0, and an slcan interface, which has a controller."""

import os
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import can
import numpy as np
import pytest

from deploy.demo.lab import ROOT, Lab
from ecu_adapters import can_link
from ecu_adapters.burst import Burst
from ecu_adapters.bus import BusError, BusHub, CanConfig
from ecu_adapters.bus_state import BusEvent, ErrorSeen, FramesLost, StateChange
from ecu_adapters.error_frames import BusState
from ecu_adapters.frame_records import CLASSIC
from labd.client import LabClient
from tests.vcan.can_utils import Candump
from tests.vcan.slcan_adapter import SlcanAdapter

WAIT_S = 60.0
ERROR = 0x2000_0000
CONTROLLER, BUS_OFF, RESTARTED, COUNTERS = 0x004, 0x040, 0x100, 0x200
PASSIVE = struct.pack("<IBxxx8s", ERROR | CONTROLLER | COUNTERS, 8, bytes((0, 0x20, 0, 0, 0, 0, 130, 2)))

SCENARIO = """
local can, test = require("can"), require("test")
local bus = can.bus("powertrain")

test.case("the scenario sees what the controller tells", function()
  bus:expect_state("error-active")
  bus:send(0x1A5, "01")
  bus:expect_state("error-passive", "50s")
  local stats = bus:stats()
  test.equal({ stats.tx_errors, stats.rx_errors }, { 130, 2 })
  test.equal(stats.errors.error_passive, 1)
  bus:send(0x1A6, "02")
  bus:expect_state("error-active", "50s")
end)
"""


def tell(frame: bytes) -> None:
    """An error frame on vcan0, from another socket."""
    with socket.socket(socket.AF_CAN, socket.SOCK_RAW, socket.CAN_RAW) as intruder:
        intruder.bind(("vcan0",))
        intruder.send(frame)


def hub_of(interface: str, **settings: object) -> BusHub:
    config = {"interface": "socketcan", "channel": interface} | settings
    return BusHub.open("b", CanConfig.model_validate(config))


def events_of(hub: BusHub) -> "queue.Queue[BusEvent]":
    events: queue.Queue[BusEvent] = queue.Queue()
    hub.monitor.on_event = events.put
    return events


def next_state(events: "queue.Queue[BusEvent]") -> BusState:
    while not isinstance(event := events.get(timeout=WAIT_S), StateChange):
        pass
    return event.state


def test_a_scenario_sees_error_frames(lab: Lab, candump: Candump) -> None:
    with lab.client() as client:
        run = client.create_run(script=SCENARIO, name="state.lua", holder="test", selector="name=vcan-bench")
        candump.wait_for("1A5#01")
        tell(PASSIVE)
        candump.wait_for("1A6#02")
        tell(struct.pack("<IBxxx8s", ERROR | CONTROLLER | COUNTERS, 8, bytes((0, 0x40, 0, 0, 0, 0, 0, 0))))
        assert ended(client, run["id"]) == "PASSED"


def ended(client: LabClient, run_id: str) -> str:
    log = [line["text"] for line in client.follow_log(run_id)]
    run = client.run(run_id)
    assert run["state"] == "PASSED", (run["reason"], log, client.result(run_id))
    return run["state"]


def test_a_bus_without_a_controller_needs_no_set_up_and_cannot_be_restarted() -> None:
    with hub_of("vcan0", bitrate=500_000, sample_point=0.8) as hub:
        assert hub.link is not None
        assert (hub.link.kind, hub.bitrates) == ("vcan", (500_000, None))
        events = events_of(hub)
        tell(struct.pack("<IBxxx8s", ERROR | BUS_OFF, 8, bytes(8)))
        assert next_state(events) is BusState.BUS_OFF
        with pytest.raises(BusError, match=r"type can restart` failed: Operation not supported"):
            hub.restart()
        tell(struct.pack("<IBxxx8s", ERROR | RESTARTED, 8, bytes(8)))
        assert next_state(events) is BusState.ERROR_ACTIVE


@pytest.fixture
def adapter() -> Iterator[SlcanAdapter]:
    try:
        plugged = SlcanAdapter()
    except OSError as error:
        if os.environ.get("LABD_REQUIRE_VCAN"):
            raise
        pytest.skip(f"no slcan: {error}")
    yield plugged
    plugged.close()


def test_an_interface_is_set_up_and_carries_frames(adapter: SlcanAdapter) -> None:
    assert not can_link.show(adapter.interface).up
    with hub_of(adapter.interface, bitrate=500_000) as hub:
        adapter.wait_for(b"S6")
        adapter.wait_for(b"O")
        assert hub.link is not None
        assert (hub.link.up, hub.link.bitrate, hub.link.state) == (True, 500_000, BusState.ERROR_ACTIVE)
        frames: queue.Queue[can.Message] = queue.Queue()
        hub.subscribe(frames.put, ids={0x123})
        adapter.tell(b"t1232AABB")
        assert bytes(frames.get(timeout=WAIT_S).data) == b"\xaa\xbb"
        hub.send(can.Message(arbitration_id=0x321, is_extended_id=False, data=b"\x01"))
        adapter.wait_for(b"t321101")
        # It is up as configured: another one may join. Otherwise configured, it is left alone.
        hub_of(adapter.interface, bitrate=500_000).close()
        with pytest.raises(BusError, match=r"is up with bitrate 500000 instead of 250000.*sudo ip link set dev"):
            hub_of(adapter.interface, bitrate=250_000)


def test_a_bit_rate_that_it_cannot_do_is_told(adapter: SlcanAdapter) -> None:
    with pytest.raises(BusError, match="cannot do bitrate 333333; it can do 10000, 20000"):
        hub_of(adapter.interface, bitrate=333_333)
    with pytest.raises(BusError, match=f"{adapter.interface} is down; give bitrate"):
        hub_of(adapter.interface)


def test_a_silent_interface_is_opened_silently(adapter: SlcanAdapter) -> None:
    with hub_of(adapter.interface, bitrate=125_000, listen_only=True) as hub:
        adapter.wait_for(b"L")
        assert hub.link is not None
        assert "LISTEN-ONLY" in hub.link.modes
        with pytest.raises(BusError, match="only listened to"):
            hub.send(can.Message(arbitration_id=0x321))
        with pytest.raises(BusError, match="listen-only mode on instead of off"):
            hub_of(adapter.interface, bitrate=125_000)


def test_the_kernels_own_state_changes_are_followed(adapter: SlcanAdapter) -> None:
    with hub_of(adapter.interface, bitrate=500_000) as hub:
        events = events_of(hub)
        adapter.tell(b"sw096003")
        assert next_state(events) is BusState.ERROR_WARNING
        adapter.tell(b"sp131004")
        assert next_state(events) is BusState.ERROR_PASSIVE
        now = hub.monitor.condition()
        assert {now.tx_errors, now.rx_errors} == {131, 4}
        adapter.tell(b"e1s")
        seen = events.get(timeout=WAIT_S)
        assert isinstance(seen, ErrorSeen)
        assert seen.report.kinds == ("stuff_error",)
        adapter.tell(b"sb000000")
        assert next_state(events) is BusState.BUS_OFF
        # This driver cannot restart a controller; the kernel's words reach whoever asks.
        with pytest.raises(BusError, match="doesn't support restart from Bus Off"):
            hub.restart()
        adapter.tell(b"sa000000")
        assert next_state(events) is BusState.ERROR_ACTIVE


def test_without_the_right_the_exact_command_is_told(adapter: SlcanAdapter) -> None:
    program = (
        "from ecu_adapters.bus import BusError, BusHub, CanConfig\n"
        f"config = CanConfig(interface='socketcan', channel='{adapter.interface}', bitrate=500000)\n"
        "try: BusHub.open('b', config)\nexcept BusError as error: print(error)\n"
    )
    weak = ["setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin", sys.executable, "-c", program]
    done = subprocess.run(weak, capture_output=True, text=True, timeout=WAIT_S, cwd=ROOT, check=True)
    assert done.stdout.strip().endswith(
        "needs CAP_NET_ADMIN, which the agent does not have; run: "
        f"sudo ip link set dev {adapter.interface} up type can bitrate 500000 fd off listen-only off"
    )


@pytest.fixture
def quiet() -> Iterator[str]:
    """An interface where nobody else sends."""
    add = ["ip", "link", "add", "dev", "quiet0", "type", "vcan"]
    made = subprocess.run(add, capture_output=True, timeout=WAIT_S, check=False)
    if made.returncode:
        pytest.skip("only root makes interfaces")
    subprocess.run(["ip", "link", "set", "quiet0", "up"], check=True, timeout=WAIT_S)
    yield "quiet0"
    subprocess.run(["ip", "link", "del", "quiet0"], check=True, timeout=WAIT_S)


def test_frames_that_the_kernel_drops_are_counted(quiet: str) -> None:
    released = threading.Event()

    def stall(_: Burst) -> None:
        released.wait(WAIT_S)

    with hub_of(quiet) as hub, hub_of(quiet) as sender:
        events = events_of(hub)
        hub.tap(stall)
        records = np.zeros(1024, CLASSIC)
        records["length"] = 8
        sent = 0
        while sent < 65_536:  # more than the kernel's queue for one socket holds
            taken = sender.send_records(records, WAIT_S)
            assert taken.error is None
            sent += len(taken.records)
        released.set()
        # The kernel tells of losses with the next frame.
        deadline = time.monotonic() + WAIT_S
        while hub.stats.received + hub.stats.lost < sent and time.monotonic() < deadline:
            sent += len(sender.send_records(records[:1], WAIT_S).records)
            time.sleep(0.1)
        assert hub.stats.received + hub.stats.lost == sent
        assert hub.stats.lost > 0
        lost = events.get(timeout=WAIT_S)
        while isinstance(lost, FramesLost) and lost.total < hub.stats.lost:
            lost = events.get(timeout=WAIT_S)
        assert isinstance(lost, FramesLost)
