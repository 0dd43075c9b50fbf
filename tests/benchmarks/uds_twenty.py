"""Twenty simulated ECUs on one bus, asked for their VIN at once from twenty threads, beside one of them alone.

Once with ECUs that take 10 ms to answer, as many do, and once with ECUs that take no time: then all of it is labd's
own work and that of the simulated ECUs, in one process, and must not exceed what asking one after another takes.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench_agent.client import BenchClient, EcuClient
from deploy.demo.lab import Lab, running_lab
from labd.client import LabClient
from tests.benchmarks.figures import Figure, interleave

ECUS = 20
ROUNDS = 10
TIMES = 20
"""Measured in a row, per round."""
BENCHES = {"bench-1": 10, "bench-2": 0}
"""How long their ECUs take to answer (ms)."""
MOST = {"bench-1": 3.0, "bench-2": 20.0}
"""How many times as long as one alone."""


def description(index: int, delay_ms: int) -> dict[str, object]:
    """An ECU with a VIN of its own."""
    return {
        "name": f"ECU{index:02}",
        "addressing": {"request_id": 0x600 + index, "response_id": 0x640 + index},
        "dids": {"VIN": {"did": 0xF190, "type": "ascii", "length": 17, "value": f"WVWZZZ1KZ6W0000{index:02}"}},
        "simulation": {"response_delay_ms": delay_ms},
    }


def configuration(folder: Path) -> Path:
    """An agent whose benches have one virtual bus each, with all the ECUs."""
    benches = []
    for bench, delay_ms in BENCHES.items():
        bus = {"name": "vehicle", "interface": "virtual", "channel": f"uds-twenty-{bench}"}
        ecus = []
        for index in range(ECUS):
            file = folder / f"{bench}-{index:02}.yaml"
            file.write_text(json.dumps(description(index, delay_ms)))  # JSON is YAML
            ecus.append({"file": str(file), "bus": "vehicle", "simulated": True})
        benches.append({"name": bench, "can": [bus], "ecus": ecus})
    path = folder / "agent.yaml"
    path.write_text(json.dumps({"agent": {"name": "twenty", "data_dir": str(folder / "data")}, "benches": benches}))
    return path


def timed(ask: Callable[[], object], count: int) -> list[float]:
    """Times in ms."""
    samples = []
    for _ in range(count):
        started = time.perf_counter()
        ask()
        samples.append((time.perf_counter() - started) * 1e3)
    return samples


def read(ecu: EcuClient) -> None:
    """Reads the VIN and checks whose it is."""
    if ecu.read("VIN") != f"WVWZZZ1KZ6W0000{ecu.name[3:]}":
        raise AssertionError(f"{ecu.name} has somebody else's VIN")


def measure(folder: Path) -> list[Figure]:
    """All at once against one alone, both from threads of a pool."""
    with ExitStack() as stack:
        lab = stack.enter_context(running_lab(folder, configuration(folder)))
        lab.wait_for_benches(*BENCHES)
        client = stack.enter_context(lab.client())
        pool = stack.enter_context(ThreadPoolExecutor(ECUS))
        figures = []
        for name, delay_ms in BENCHES.items():
            what = f"Twenty ECUs read at once, each taking {f'{delay_ms} ms' if delay_ms else 'no time'}"
            with opened(lab, client, name) as bench:
                samples, alone = compare(bench, pool)
            figures.append(Figure(what, "ms", samples, "one alone", alone, "ratio", "at most", MOST[name]))
    return figures


@contextmanager
def opened(lab: Lab, client: LabClient, name: str) -> Iterator[BenchClient]:
    """A leased bench."""
    lease = client.create_lease(selector=f"name={name}", holder="bench", duration_s=600, ttl_s=300)
    try:
        lab.wait_for("grant", lambda: client.lease(lease["id"])["state"] == "GRANTED")
        lease = client.lease(lease["id"])
        with BenchClient(str(lease["address"]), name, str(lease["token"])) as bench:
            yield bench
    finally:
        client.release(lease["id"])


def compare(bench: BenchClient, pool: ThreadPoolExecutor) -> tuple[list[float], list[float]]:
    """Times of all at once, and of one alone (ms)."""
    ecus = [bench.ecu(f"ECU{index:02}") for index in range(ECUS)]

    def all_at_once() -> None:
        for _ in pool.map(read, ecus):
            pass

    def one_alone() -> None:
        pool.submit(read, ecus[0]).result()

    timed(all_at_once, TIMES)
    timed(one_alone, TIMES)
    return interleave(ROUNDS, partial(timed, all_at_once, TIMES), partial(timed, one_alone, TIMES))
