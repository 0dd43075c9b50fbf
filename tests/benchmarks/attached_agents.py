"""What a thousand attached agents cost labd: processor time and memory."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from deploy.demo.lab import Lab, labd_command, service
from tests.benchmarks.figures import Figure

AGENTS = 1000
SECONDS = 30.0
ATTACH_DEADLINE_S = 300.0


def processor_s(pid: int) -> float:
    """Processor time of a process so far (s)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Resident memory of a process (MiB)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(folder: Path) -> list[Figure]:
    """The baseline is the same labd before the first agent is there."""
    lab, ready = Lab(folder), folder / "labd" / "labd.json"
    with ExitStack() as stack:
        labd = stack.enter_context(service("labd", labd_command(folder, "127.0.0.1:0", "127.0.0.1:0"), folder))
        lab.processes["labd"] = labd
        lab.wait_for("ready labd", ready.exists)
        endpoints = json.loads(ready.read_text())
        lab.http = endpoints["http"]
        idle_share, idle_mib = _share(labd.pid, 5.0), resident_mib(labd.pid)
        command = [sys.executable, "-m", "tests.benchmarks.agents_load", endpoints["agents"], str(AGENTS)]
        load = stack.enter_context(subprocess.Popen(command))
        stack.callback(load.terminate)
        with lab.client() as client:
            deadline = time.monotonic() + ATTACH_DEADLINE_S
            while sum(bench["state"] == "available" for bench in client.benches()) < AGENTS:
                if time.monotonic() > deadline or load.poll() is not None:
                    raise RuntimeError(f"not all of {AGENTS} agents attached within {ATTACH_DEADLINE_S:g} s")
                time.sleep(1.0)
        shares = [_share(labd.pid, SECONDS / 3) for _ in range(3)]
        mib = resident_mib(labd.pid)
    name = f"{AGENTS} agents, reports every 5 s: labd's"
    return [
        Figure(f"{name} core", "cores", shares, "no agent", [idle_share], of="value", sense="at most", target=1.0),
        Figure(f"{name} memory", "MiB", [mib], "no agent", [idle_mib], of="value", sense="at most", target=500),
    ]


def _share(pid: int, seconds: float) -> float:
    began, used = time.monotonic(), processor_s(pid)
    time.sleep(seconds)
    return max((processor_s(pid) - used) / (time.monotonic() - began), 1e-6)
