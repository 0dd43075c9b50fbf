"""`make bench`: measures everything, prints the table, writes build/bench.json, fails if a target is missed.

``python -m tests.benchmarks NAME...`` measures only the named modules.
"""

import importlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.benchmarks.figures import Figure, report

MODULES = ("uds_read", "can_throughput", "run_start", "cli_start")
OUTPUT = Path("build/bench.json")


def main() -> int:
    """Exit code: 0 all targets met, 1 one was missed, 2 unknown module."""
    chosen = sys.argv[1:] or list(MODULES)
    unknown = sorted(set(chosen) - set(MODULES))
    console = Console()
    if unknown:
        console.print(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(MODULES)}")
        return 2
    figures: list[Figure] = []
    for name in chosen:
        console.print(f"measuring {name} ...")
        with tempfile.TemporaryDirectory(prefix="labd-bench-") as folder:
            figures += importlib.import_module(f"tests.benchmarks.{name}").measure(Path(folder))
    return 0 if report(figures, OUTPUT, console) else 1


if __name__ == "__main__":
    sys.exit(main())
