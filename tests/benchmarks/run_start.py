"""What a run costs beside its work: to the first line of Lua, to the verdict, and how many go at once."""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from deploy.demo.lab import DEMO_AGENT, running_lab
from labd.client import LabClient, Run
from tests.benchmarks.figures import Figure, interleave

ROUNDS = 15
NOTHING = 'require("test").is_true(true)'
ROUNDS_AT_ONCE = 5
AT_ONCE = 20
SCRIPT = 'print("first line") require("test").is_true(true)'


def to_first_line(client: LabClient) -> list[float]:
    """One sample in ms. The runner stamps the line, on this machine's clock."""
    started = time.time()
    run = client.create_run(script=SCRIPT, name="first-line.lua", holder="bench", selector="name=bench-1")
    lines = [line for line in client.follow_log(run["id"]) if line["text"] == "first line"]
    if client.run(run["id"])["state"] != "PASSED":
        raise RuntimeError(f"the run did not pass: {client.run(run['id'])['reason']}")
    return [(datetime.fromisoformat(lines[0]["time"]).timestamp() - started) * 1e3]


def to_verdict(client: LabClient) -> list[float]:
    """One sample in ms of a run that does nothing."""
    started = time.perf_counter()
    _passed(client, client.create_run(script=NOTHING, name="nothing.lua", holder="bench", selector="name=bench-1"))
    return [(time.perf_counter() - started) * 1e3]


def at_once(client: LabClient) -> list[float]:
    """One sample in runs a second: of runs that do nothing, each on a bench of its own, asked for together."""
    started = time.perf_counter()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = pool.map(
            lambda number: client.create_run(
                script=NOTHING, name="nothing.lua", holder="bench", selector=f"name=free-{number}"
            ),
            range(AT_ONCE),
        )
        for _ in pool.map(lambda run: _passed(client, run), list(runs)):
            pass
    return [AT_ONCE / (time.perf_counter() - started)]


def _passed(client: LabClient, run: Run) -> None:
    for _ in client.follow_run(run["id"]):
        pass
    if (state := client.run(run["id"])["state"]) != "PASSED":
        raise RuntimeError(f"the run ended in {state}")


def bare_start() -> list[float]:
    """One sample in ms: a process that only imports what no runner can do without."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import grpc, lupa.lua54, urllib3"], check=True, timeout=30)
    return [(time.perf_counter() - started) * 1e3]


def measure(folder: Path) -> list[Figure]:
    """The baseline is a Python process that imports gRPC, an HTTP client and Lua, and ends."""
    with running_lab(folder / "one", DEMO_AGENT) as lab, lab.client() as client:
        lab.wait_for_benches("bench-1")
        to_first_line(client)
        lab.wait_for_benches("bench-1")

        def sample(measured: Callable[[LabClient], list[float]]) -> Callable[[], list[float]]:
            def taken() -> list[float]:
                lab.wait_for_benches("bench-1")
                return measured(client)

            return taken

        first_line, baseline = interleave(ROUNDS, sample(to_first_line), bare_start)
        verdict, bare = interleave(ROUNDS, sample(to_verdict), bare_start)
    together, starts = _together(folder / "many")
    imports = "process with the imports"
    return [
        Figure("POST /runs to first Lua line", "ms", first_line, imports, baseline, "value", "at most", 700),
        Figure("POST /runs to the verdict", "ms", verdict, imports, bare, "value", "at most", 500),
        Figure("20 runs at once", "runs/s", together, "such processes, 2 at once", starts, "value", "at least", 8),
    ]


def _together(folder: Path) -> tuple[list[float], list[float]]:
    folder.mkdir()
    names = [f"free-{number}" for number in range(AT_ONCE)]
    bench = "  - name: {0}\n    can: [{{name: main, interface: virtual, channel: {0}}}]\n"
    agent = folder / "agent.yaml"
    agent.write_text("agent: {name: many, data_dir: data}\nbenches:\n" + "".join(map(bench.format, names)))
    with running_lab(folder / "lab", agent) as lab, lab.client() as client:

        def sample() -> list[float]:
            lab.wait_for_benches(*names)
            return at_once(client)

        def two_at_once() -> list[float]:
            with ThreadPoolExecutor(2) as pool:
                started = time.perf_counter()
                list(pool.map(lambda _: bare_start(), range(4)))
                return [4 / (time.perf_counter() - started)]

        return interleave(ROUNDS_AT_ONCE, sample, two_at_once)
