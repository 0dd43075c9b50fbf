"""The whole path on real SocketCAN: labd, agent on vcan0, the ECU in its own process, can-utils as witness."""

import can
import pytest

from deploy.demo.lab import ROOT, Lab
from labd.client import LabClient
from labd.client.types import Result, Run
from tests.vcan.can_utils import Candump, cansend

BOTH_WAYS = """
local can, test = require("can"), require("test")
local bus = can.bus("powertrain")

test.case("classic and FD frames go out, and what another node sends comes in", function()
  bus:send(0x123, "DEADBEEF")
  bus:send(0x18DA10F1, "0102", {extended = true})
  bus:send(0x124, string.rep("5A", 64), {fd = true, brs = true})
  bus:expect(0x321, "C0FFEE", "50s")
  bus:expect(0x322, string.rep("A5", 48), "50s")
end)
"""


def finish(client: LabClient, run: Run) -> tuple[Run, Result, str]:
    log = "\n".join(line["text"] for line in client.follow_log(run["id"]))
    return client.run(run["id"]), client.result(run["id"]), log


OF_THE_BENCH = {"faults.lua", "power_cycle.lua"}
"""Examples that control the bench's own simulated ECU and its power; here the ECUs are processes of their own."""


@pytest.mark.parametrize(
    "name", sorted({path.name for path in (ROOT / "scenarios/examples").glob("*.lua")} - OF_THE_BENCH)
)
def test_example_passes_on_socketcan(lab: Lab, candump: Candump, name: str) -> None:
    script = (ROOT / "scenarios/examples" / name).read_text()
    with lab.client() as client:
        created = client.create_run(script=script, name=name, holder="test", selector="name=vcan-bench")
        run, result, log = finish(client, created)
    assert run["state"] == "PASSED", (run["reason"], log, result)
    # The witness saw the exchange itself: a request of the tester, or the ECU's cyclic frame.
    candump.wait_for("7E0#" if "uds" in script else "200#")


def test_multi_frame_response_is_isotp_on_the_wire(lab: Lab, candump: Candump) -> None:
    script = 'require("uds").ecu("ECM"):read("VIN")'
    with lab.client() as client:
        run, _, log = finish(
            client, client.create_run(script=script, name="vin.lua", holder="test", selector="name=vcan-bench")
        )
    assert run["state"] == "PASSED", log
    # ISO 15765-2: first frame with 20 bytes, flow control from the tester, consecutive frames 1 and 2.
    assert candump.wait_for("7E8#1014") == "7E8#101462F190575657"
    candump.wait_for("7E0#30")
    candump.wait_for("7E8#21")
    candump.wait_for("7E8#22")


def test_diagnostics_over_can_fd(lab: Lab, candump: Candump) -> None:
    script = 'require("log").info(require("uds").ecu("GATEWAY"):read("NetworkMap"))'
    with lab.client() as client:
        run, _, log = finish(
            client, client.create_run(script=script, name="fd.lua", holder="test", selector="name=fd-bench")
        )
    assert (run["state"], log) == ("PASSED", "powertrain chassis body infotainment ada"), run["reason"]
    # 43 bytes in one frame: an FD single frame with its length in the second byte (ISO 15765-2:2016).
    assert "002B62F1A0" in candump.wait_for("7E9##")


def test_classic_and_fd_frames_both_ways(lab: Lab, candump: Candump) -> None:
    with lab.client() as client:
        created = client.create_run(script=BOTH_WAYS, name="both.lua", holder="test", selector="name=vcan-bench")
        assert candump.wait_for("123#") == "123#DEADBEEF"
        assert candump.wait_for("18DA10F1#") == "18DA10F1#0102"
        # The digit after ## holds the flags; newer kernels set 4 (FDF) there too. 1 is the bit rate switch.
        assert candump.wait_for("124##") in ("124##1" + "5A" * 64, "124##5" + "5A" * 64)
        # The scenario's expect counts from its last send on, which candump has just seen.
        cansend("321#C0FFEE")
        cansend("322##0" + "A5" * 48)
        run, result, log = finish(client, created)
    assert run["state"] == "PASSED", (run["reason"], log, result)


def test_trace_of_the_lease_holds_what_candump_saw(lab: Lab, candump: Candump) -> None:
    script = 'require("can").bus("powertrain"):send(0x345, "0011223344556677")'
    with lab.client() as client:
        run, _, log = finish(
            client, client.create_run(script=script, name="trace.lua", holder="test", selector="name=vcan-bench")
        )
        assert run["state"] == "PASSED", log
        candump.wait_for("345#0011223344556677")
        # The agent closes the trace before it gives the bench back.
        lab.wait_for_benches("vcan-bench")
    traces = list((lab.folder / "agent" / "traces" / str(run["lease_id"])).glob("powertrain*.blf"))
    assert traces, "no trace for the lease"
    frames = [(frame.arbitration_id, bytes(frame.data)) for trace in traces for frame in can.BLFReader(trace)]
    assert (0x345, bytes.fromhex("0011223344556677")) in frames


def test_missing_interface_makes_only_its_bench_unhealthy(lab: Lab) -> None:
    with lab.client() as client:
        broken, sound = client.bench("broken-bench"), client.bench("vcan-bench")
    assert broken["health"] == "unhealthy"
    assert "vcan9" in broken["health_reason"]
    assert sound["health"] == "healthy"
