"""Whole lives of leases a second, beside what the database alone can do; and how soon a free bench is granted."""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploy.demo.lab import Lab, agent_command, labd_command, service
from tests.benchmarks.figures import Figure
from tests.postgresql import PostgresServer

CLIENTS = 16
BENCHES = 40
"""More than clients, as a bench is being cleaned up for a moment after each lease."""
ROUNDS = 3
SECONDS = 5.0
GRANT_SECONDS = 20.0


@contextmanager
def lab(folder: Path, options: Sequence[str]) -> Iterator[Lab]:
    """labd, and one agent with many benches."""
    benches = [
        {"name": f"bench-{number:02}", "can": [{"name": "can", "interface": "virtual", "channel": f"load-{number}"}]}
        for number in range(1, BENCHES + 1)
    ]
    folder.mkdir(parents=True)
    configuration = folder / "agent.yaml"
    configuration.write_text(json.dumps({"agent": {"name": "agent", "data_dir": "agent"}, "benches": benches}))
    running, ready = Lab(folder), folder / "labd" / "labd.json"
    with ExitStack() as stack:
        command = [*labd_command(folder, "127.0.0.1:0", "127.0.0.1:0"), *options]
        running.processes["labd"] = stack.enter_context(service("labd", command, folder))
        running.wait_for("ready labd", ready.exists)
        endpoints = json.loads(ready.read_text())
        running.http, running.agents = endpoints["http"], endpoints["agents"]
        command = agent_command(configuration, running.agents, folder / "agent")
        running.processes["agent"] = stack.enter_context(service("agent", command, folder))
        running.wait_for_benches(*(str(bench["name"]) for bench in benches))
        yield running


def load(running: Lab, kind: str, seconds: float) -> list[float]:
    """The load's samples in ms."""
    command = ["-m", "tests.benchmarks.lease_load", running.http, kind, str(CLIENTS), str(seconds)]
    done = subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=seconds + 120)
    return list(json.loads(done.stdout))


def floor(folder: Path, url: str | None) -> float:
    """Lives a second of the database alone."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["-m", "tests.benchmarks.database_floor", str(folder), url or "-", str(CLIENTS), str(SECONDS)]
    done = subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=SECONDS + 120)
    return float(done.stdout.splitlines()[-1])  # before it, what labd's store logs


def on(name: str, folder: Path, url: str | None, floor_url: str | None, at_least: float | None) -> list[Figure]:
    """The figures on one database."""
    options = [] if url is None else ["--database", url]
    mine: list[float] = []
    bare: list[float] = []
    with lab(folder / "lab", options) as running:
        load(running, "cycle", 1.0)
        for number in range(ROUNDS):
            bare.append(floor(folder / f"floor-{number}", floor_url))
            mine.append(len(load(running, "cycle", SECONDS)) / SECONDS)
        waits = load(running, "grant", GRANT_SECONDS)
    p99 = statistics.quantiles(waits, n=100)[98]
    cycles = f"lease cycles, {CLIENTS} clients, {name}"
    figures = [Figure(cycles, "1/s", mine, "update and insert a step", bare, of="ratio", sense="at least", target=0.3)]
    if at_least is not None:
        figures.append(
            Figure(cycles, "1/s", mine, "update and insert a step", bare, of="value", sense="at least", target=at_least)
        )
    grant = f"grant of a free bench at 50/s, {name}"
    figures.append(Figure(f"{grant}, p50", "ms", waits, "none", [1.0], of="value", sense="at most", target=15))
    figures.append(Figure(f"{grant}, p99", "ms", [p99], "its p50", waits, of="value", sense="at most", target=60))
    return figures


def measure(folder: Path) -> list[Figure]:
    """On SQLite and on PostgreSQL, both as durable as in production."""
    figures = on("SQLite", folder / "sqlite", None, None, None)
    with PostgresServer(durable=True) as server:
        figures += on("PostgreSQL", folder / "postgresql", server.new_database(), server.new_database(), 150)
    return figures
