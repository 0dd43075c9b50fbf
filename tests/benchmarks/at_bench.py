"""What a script sees of its bench: a UDS read and an expect from Lua, at the bench beside the process executor."""

from pathlib import Path

from deploy.demo.lab import DEMO_AGENT, running_lab
from labd.client import LabClient
from labd.client.types import ExecutorName
from tests.benchmarks.figures import Figure

ROUNDS = 5
EXCHANGES = 100
SCRIPT = f"""
local uds, can, time = require("uds"), require("can"), require("time")
local ecu, bus = uds.ecu("ECM"), can.bus()
local function measure(name, exchange)
  exchange()
  for _ = 1, {EXCHANGES} do
    local started = time.monotonic()
    exchange()
    print(name .. " " .. (time.monotonic() - started) * 1000)
  end
end
measure("read", function() ecu:read("VIN") end)
-- The frame is there already when it is asked for: what is measured is the way, not the wait.
measure("expect", function() bus:send(0x7E0, "023E00"); bus:expect(0x7E8, nil, "2s") end)
"""


def measure_run(client: LabClient, executor: ExecutorName) -> dict[str, list[float]]:
    """Times of one run in ms, by what was done."""
    run = client.create_run(
        script=SCRIPT, name="latency.lua", holder="bench", selector="name=bench-1", executor=executor
    )
    times: dict[str, list[float]] = {"read": [], "expect": []}
    for line in client.follow_log(run["id"]):
        name, _, value = line["text"].partition(" ")
        if name in times:
            times[name].append(float(value))
    ended = client.run(run["id"])
    if ended["state"] != "PASSED":
        raise RuntimeError(f"the run did not pass: {ended['reason']}")
    return times


def measure(folder: Path) -> list[Figure]:
    """Beside the process executor on the same machine, where both ways are loopback: as fast, but for noise.

    Over a network the process executor's way is longer by the network's time; the executor at the bench never leaves
    its machine.
    """
    with running_lab(folder, DEMO_AGENT) as lab, lab.client() as client:

        def sample(executor: ExecutorName) -> dict[str, list[float]]:
            lab.wait_for_benches("bench-1")
            return measure_run(client, executor)

        runs = [(sample("bench"), sample("process")) for _ in range(ROUNDS)]
    return [
        Figure(
            title,
            "ms",
            [value for ours, _ in runs for value in ours[name]],
            "executor process, same machine",
            [value for _, theirs in runs for value in theirs[name]],
            of="ratio",
            sense="at most",
            target=1.1,
        )
        for name, title in (("read", "UDS read from Lua at the bench"), ("expect", "send and expect at the bench"))
    ]
