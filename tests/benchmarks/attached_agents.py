"""What attached agents cost labd, in processor time and memory, and how soon all are back after labd was restarted."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.demo.lab import Lab, labd_command, service
from tests.benchmarks.figures import Figure

STEPS = (100, 300, 1000)
"""Agents attached at a time."""
SECONDS = 30.0
ATTACH_DEADLINE_S = 300.0
LOOK_S = 0.1
"""Between two requests of somebody who looks on while agents attach."""


def processor_s(pid: int) -> float:
    """Processor time of a process so far (s)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_most_mib(pid: int) -> float:
    """The most memory that a process has had resident so far (MiB)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def measure(folder: Path) -> list[Figure]:
    """The baseline is the same labd before the first agent is there."""
    lab = Lab(folder)
    figures: list[Figure] = []
    with ExitStack() as loads:
        with _labd(lab, "127.0.0.1:0", "127.0.0.1:0") as labd:
            idle_share, idle_mib = _share(labd.pid, 5.0), resident_most_mib(labd.pid)
            for before, agents in zip((0, *STEPS), STEPS, strict=False):
                loads.enter_context(_load(lab.agents, before, agents - before))
                _settle(lab, agents)
                shares = [_share(labd.pid, SECONDS / 3) for _ in range(3)]
                mib = resident_most_mib(labd.pid)
                name = f"{agents} agents, reports every 5 s: labd's"
                figures += [
                    Figure(f"{name} core", "cores", shares, "no agent", [idle_share], "value", "at most", 1.0),
                    Figure(f"{name} memory", "MiB", [mib], "no agent", [idle_mib], "value", "at most", 500),
                ]
            with lab.client() as client:
                lease = client.create_lease(selector="name=bench-0000", holder="bench", duration_s=3600, ttl_s=600)[
                    "id"
                ]
            labd.kill()
        with _labd(lab, lab.http.removeprefix("http://"), lab.agents) as labd:
            took_s, waits = _settle(lab, STEPS[-1], lease)
            mib = resident_most_mib(labd.pid)
    name = f"{STEPS[-1]} agents attach anew to a labd that was killed"
    quiet = [statistics.median(waits)]
    figures += [
        Figure(f"{name}, until all are back", "s", [took_s], "none", [1.0], "value", "at most", 15),
        Figure(f"{name}, heartbeats meanwhile, p99", "ms", [_p99(waits)], "p50", quiet, "value", "at most", 1000),
        Figure(f"{name}, memory", "MiB", [mib], "no agent", [idle_mib], "value", "at most", 500),
    ]
    return figures


@contextmanager
def _labd(lab: Lab, http: str, agents: str) -> "Iterator[subprocess.Popen[bytes]]":
    ready = lab.folder / "labd" / "labd.json"
    ready.unlink(missing_ok=True)
    with service("labd", labd_command(lab.folder, http, agents), lab.folder) as labd:
        lab.processes["labd"] = labd
        lab.wait_for("ready labd", ready.exists)
        endpoints = json.loads(ready.read_text())
        lab.http, lab.agents = endpoints["http"], endpoints["agents"]
        yield labd


@contextmanager
def _load(labd: str, first: int, count: int) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, "-m", "tests.benchmarks.agents_load", labd, str(first), str(count)]
    with subprocess.Popen(command) as load:
        try:
            yield load
        finally:
            load.terminate()


def _settle(lab: Lab, agents: int, lease: str | None = None) -> tuple[float, list[float]]:
    """Waits until all are attached; returns how long that took (s), and each heartbeat of the lease meanwhile (ms)."""
    began, waits, looked_at = time.monotonic(), list[float](), 0.0
    with lab.client() as client:
        while time.monotonic() - began < ATTACH_DEADLINE_S:
            if lease is not None:
                asked = time.monotonic()
                client.heartbeat(lease)
                waits.append((time.monotonic() - asked) * 1000)
            if time.monotonic() - looked_at > 1.0:
                looked_at = time.monotonic()
                if sum(bench["health"] == "healthy" for bench in client.benches()) >= agents:
                    return looked_at - began, waits
            time.sleep(LOOK_S)
    raise RuntimeError(f"not all of {agents} agents attached within {ATTACH_DEADLINE_S:g} s")


def _p99(samples: list[float]) -> float:
    return statistics.quantiles(samples, n=100, method="inclusive")[98]


def _share(pid: int, seconds: float) -> float:
    began, used = time.monotonic(), processor_s(pid)
    time.sleep(seconds)
    return max((processor_s(pid) - used) / (time.monotonic() - began), 1e-6)
