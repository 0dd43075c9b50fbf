"""How long it takes from POST /runs to the first line of Lua, with the bench free."""

import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from deploy.demo.lab import DEMO_AGENT, running_lab
from labd.client import LabClient
from tests.benchmarks.figures import Figure, interleave

ROUNDS = 15
SCRIPT = 'print("first line") require("test").is_true(true)'


def to_first_line(client: LabClient) -> list[float]:
    """One sample in ms. The runner stamps the line, on this machine's clock."""
    started = time.time()
    run = client.create_run(script=SCRIPT, name="first-line.lua", holder="bench", selector="name=bench-1")
    lines = [line for line in client.follow_log(run["id"]) if line["text"] == "first line"]
    if client.run(run["id"])["state"] != "PASSED":
        raise RuntimeError(f"the run did not pass: {client.run(run['id'])['reason']}")
    return [(datetime.fromisoformat(lines[0]["time"]).timestamp() - started) * 1e3]


def bare_start() -> list[float]:
    """One sample in ms: a process that only imports what no runner can do without."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import grpc, lupa.lua54, urllib3"], check=True, timeout=30)
    return [(time.perf_counter() - started) * 1e3]


def measure(folder: Path) -> list[Figure]:
    """The baseline is a Python process that imports gRPC, an HTTP client and Lua, and ends."""
    with running_lab(folder, DEMO_AGENT) as lab, lab.client() as client:
        lab.wait_for_benches("bench-1")
        to_first_line(client)
        lab.wait_for_benches("bench-1")

        def sample() -> list[float]:
            lab.wait_for_benches("bench-1")
            return to_first_line(client)

        samples, baseline = interleave(ROUNDS, sample, bare_start)
    return [
        Figure(
            "POST /runs to first Lua line",
            "ms",
            samples,
            "process with the imports",
            baseline,
            of="value",
            sense="at most",
            target=700,
        )
    ]
