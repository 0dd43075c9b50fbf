"""One UDS read (the VIN, three frames) through lease, gRPC and agent, beside plain local udsoncan."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench_agent.client import BenchClient, EcuClient
from deploy.demo.lab import DEMO_AGENT, running_lab
from tests.benchmarks.figures import Figure, interleave

ROUNDS = 10
READS = 50


class Baseline:
    """A worker process (uds_baseline.py)."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def read(self, count: int) -> list[float]:
        """Times in ms."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        samples: list[float] = json.loads(self._process.stdout.readline())
        return samples


@contextmanager
def baseline(stack_name: str) -> Iterator[Baseline]:
    """The worker with that ISO-TP stack."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.uds_baseline", stack_name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield Baseline(process)
    finally:
        process.kill()
        process.wait()


def read(ecu: EcuClient, count: int) -> list[float]:
    """Times in ms."""
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        ecu.call("read", did="VIN")
        samples.append((time.perf_counter() - started) * 1e3)
    return samples


def measure(folder: Path) -> list[Figure]:
    """Against whichever of can-isotp's two stacks is the faster one here."""
    figures = []
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(folder, DEMO_AGENT))
        lab.wait_for_benches("bench-1")
        client = stack.enter_context(lab.client())
        lease = client.create_lease(selector="name=bench-1", holder="bench", duration_s=600, ttl_s=300)
        stack.callback(client.release, lease["id"])
        lab.wait_for("grant", lambda: client.lease(lease["id"])["state"] == "GRANTED")
        lease = client.lease(lease["id"])
        bench = stack.enter_context(BenchClient(str(lease["address"]), "bench-1", str(lease["token"])))
        ecu = bench.ecu("ECM")
        read(ecu, READS)
        for name in ("CanStack", "NotifierBasedCanStack"):
            with baseline(name) as worker:
                worker.read(READS)
                samples, plain = interleave(ROUNDS, partial(read, ecu, READS), partial(worker.read, READS))
            figures.append(
                Figure("UDS read of the VIN", "ms", samples, f"udsoncan, {name}", plain, "ratio", "at most", 1.0)
            )
    return [max(figures, key=lambda figure: figure.ratio)]
