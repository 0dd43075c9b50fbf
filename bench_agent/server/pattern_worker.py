"""Searches text for regular expressions: requests as lines of JSON on stdin, answers on stdout.

A process of its own, run by `pattern_search`: it imports next to nothing, and is killed when a search takes too long.
"""

import json
import re
import sys
from typing import Any


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The leftmost match of any of ``patterns`` in ``text``, or ``{"error": ..., "position": ...}``."""
    best: tuple[int, re.Match[str]] | None = None
    for index, pattern in enumerate(request["patterns"]):
        try:
            found = re.search(pattern, request["text"], re.MULTILINE)
        except re.error as error:
            return {"error": error.msg, "index": index, "position": error.pos}
        except (RecursionError, OverflowError, MemoryError) as error:
            return {"error": str(error) or type(error).__name__, "index": index, "position": None}
        if found is not None and (best is None or found.start() < best[1].start()):
            best = (index, found)
    if best is None:
        return {}
    index, match = best
    return {"index": index, "span": match.span(), "groups": match.groups(), "named": match.groupdict()}


def main() -> None:
    """Serves until stdin ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
