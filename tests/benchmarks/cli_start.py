"""How long `labctl bench ls` takes against a local labd, as a whole process."""

import os
import subprocess
import sys
import time
from pathlib import Path

from deploy.demo.lab import DEMO_AGENT, running_lab
from tests.benchmarks.figures import Figure, interleave

ROUNDS = 15
GET = "import sys, urllib3; sys.exit(urllib3.request('GET', sys.argv[1]).status != 200)"


def whole_process(command: list[str], environment: dict[str, str]) -> list[float]:
    """One sample, in ms, of the process from start to end."""
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=30)
    return [(time.perf_counter() - started) * 1e3]


def measure(folder: Path) -> list[Figure]:
    """The baseline is the least that a Python program needs to ask the same question over HTTP."""
    with running_lab(folder, DEMO_AGENT) as lab:
        lab.wait_for_benches("bench-1", "bench-2")
        environment = {**os.environ, "LABD_URL": lab.http}
        labctl = [str(Path(sys.executable).with_name("labctl")), "bench", "ls"]
        get = [sys.executable, "-c", GET, f"{lab.http}/api/v1/benches"]
        for command in (labctl, get):
            whole_process(command, environment)
        samples, baseline = interleave(
            ROUNDS, lambda: whole_process(labctl, environment), lambda: whole_process(get, environment)
        )
    return [
        Figure(
            "labctl bench ls", "ms", samples, "bare GET in Python", baseline, of="value", sense="at most", target=300
        )
    ]
