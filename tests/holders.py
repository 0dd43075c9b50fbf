"""The agents' own logs as the witness that no bench had two holders."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_agent.server.holder_log import NAME


@dataclass(frozen=True, slots=True)
class Holding:
    """From when until when a lease had a bench (s since the start of the machine)."""

    bench: str
    epoch: int
    lease: str
    begun: float
    ended: float
    """Infinite while it has it."""


def entries(data_dir: Path) -> list[dict[str, Any]]:
    """All lines of an agent's log, oldest first. A last line that a killed agent wrote half of is left out."""
    found = []
    for path in (data_dir / f"{NAME}.1", data_dir / NAME):
        if path.exists():
            found += [
                json.loads(line) for line in path.read_text("utf-8").splitlines(keepends=True) if line[-1] == "\n"
            ]
    return found


def holdings(data_dir: Path) -> list[Holding]:
    """Every holding on record; raises AssertionError where a bench had two holders, or somebody acted without it."""
    open_since: dict[str, dict[str, Any]] = {}
    closed: list[Holding] = []
    last_epoch: dict[str, int] = {}

    def close(bench: str, at: float) -> None:
        begin = open_since.pop(bench)
        closed.append(Holding(bench, begin["epoch"], begin["lease"], begin["boot"], at))

    for entry in entries(data_dir):
        bench = entry.get("bench", "")
        match entry["event"]:
            case "start":
                for held in list(open_since):  # the former agent is dead, and its leases begin again if they are live
                    close(held, entry["boot"])
            case "begin":
                assert bench not in open_since, f"{bench} had two holders: {open_since[bench]} and {entry}"
                assert entry["epoch"] >= last_epoch.get(bench, 0), f"an old epoch got {bench} again: {entry}"
                last_epoch[bench] = entry["epoch"]
                open_since[bench] = entry
            case "acts" | "end" if bench not in last_epoch:
                pass  # its begin is in a file that is gone
            case "acts":
                begin = open_since.get(bench)
                assert begin is not None, f"somebody acted on {bench} without holding it: {entry}"
                assert begin["epoch"] == entry["epoch"], f"{entry} while {begin} had {bench}"
                assert begin["boot"] <= entry["first"] <= entry["last"], f"{entry} before {begin}"
            case "end":
                assert open_since[bench]["epoch"] == entry["epoch"], f"{entry} ended {open_since[bench]}"
                close(bench, entry["boot"])
    still = [Holding(bench, e["epoch"], e["lease"], e["boot"], float("inf")) for bench, e in open_since.items()]
    return closed + still
