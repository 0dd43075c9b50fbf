"""`make bench`: measures everything, prints the table, writes build/bench.json, fails if a target is missed.

``python -m tests.benchmarks NAME...`` measures only the named modules. With ``--publish``, what was measured also goes
into docs/reference/performance.md; figures of other modules there stay.
"""

import importlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.benchmarks.figures import Figure, report
from tests.benchmarks.publish import PAGE, publish

MODULES = (
    "uds_read", "uds_twenty", "can_throughput", "raw_can", "cyclic_jitter", "run_start", "cli_start", "at_bench",
    "flash", "lease_cycles", "attached_agents", "scheduling", "points_spool", "pods_in_flight",
)  # fmt: skip
OUTPUT = Path("build/bench.json")


def main() -> int:
    """Exit code: 0 all targets met, 1 one was missed, 2 unknown module."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--publish"]
    chosen = arguments or list(MODULES)
    unknown = sorted(set(chosen) - set(MODULES))
    console = Console(width=max(Console().width, 140))  # a table cut to 80 columns says nothing
    if unknown:
        console.print(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(MODULES)}")
        return 2
    measured: dict[str, list[Figure]] = {}
    for name in chosen:
        console.print(f"measuring {name} ...")
        with tempfile.TemporaryDirectory(prefix="labd-bench-") as folder:
            measured[name] = importlib.import_module(f"tests.benchmarks.{name}").measure(Path(folder))
    if "--publish" in sys.argv:
        publish(PAGE, measured, MODULES)
    return 0 if report([figure for figures in measured.values() for figure in figures], OUTPUT, console) else 1


if __name__ == "__main__":
    sys.exit(main())
