"""``python -m tests.benchmarks.prober URL``: how long labd takes to answer, from a process that does nothing else.

Asks a few times a second until standard input is closed; then prints each time in ms, one in a line.
"""

import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

import urllib3

EVERY_S = 0.25
DEADLINE_S = 60.0
PATHS = ("version", "benches?limit=20", "runs?limit=20")


def main(url: str) -> None:
    """Asks in turn for what needs no database, and for what does."""
    pool = urllib3.PoolManager(retries=False, timeout=DEADLINE_S)
    times_ms: list[float] = []
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        began = time.perf_counter()
        answer = pool.request("GET", f"{url}/api/v1/{PATHS[len(times_ms) % len(PATHS)]}")
        if answer.status != 200:
            raise RuntimeError(f"HTTP status {answer.status}")
        times_ms.append((time.perf_counter() - began) * 1e3)
    print(*times_ms, sep="\n")


@contextmanager
def probing(url: str) -> Iterator[list[float]]:
    """Has labd asked meanwhile; the list gets the times (ms) at the end."""
    times_ms: list[float] = []
    with Popen([sys.executable, "-m", "tests.benchmarks.prober", url], stdin=PIPE, stdout=PIPE, text=True) as process:
        yield times_ms
        out, _ = process.communicate(timeout=DEADLINE_S + 10)
        times_ms.extend(map(float, out.split()))
    if process.returncode:
        raise RuntimeError("labd did not answer")


if __name__ == "__main__":
    main(sys.argv[1])
