"""``python -m scenarios check FILE...``: whether scripts are Lua. Runs none of them."""

import sys
from pathlib import Path

from scenarios.sandbox import syntax_error


def main(files: list[str]) -> int:
    """Prints what is wrong, one line each; returns the exit code."""
    faults = [fault for file in files if (fault := _fault(Path(file)))]
    for fault in faults:
        sys.stdout.write(fault + "\n")
    return 1 if faults else 0


def _fault(path: Path) -> str | None:
    try:
        return syntax_error(path.read_bytes(), path.name)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
