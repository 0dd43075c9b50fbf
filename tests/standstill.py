"""Runs a command as on a machine that stands still now and then: `python -m tests.standstill -- pytest tests/unit`.

At random moments, either everything that the command has started stops, as on a shared machine whose turn it is not,
or one process of it does, as one that gets no processor; both go on after some 100 ms, and the clocks have gone on
meanwhile. A test that fails here fails on a busy machine some day. The exit code is the command's.
"""

import argparse
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

SHORTEST_S, LONGEST_S = 0.1, 0.6
EVERY_S = 1.0
AWAKE_OR_ASLEEP = "RSDI"
"""Processes in these states can be stopped; a test may have stopped others itself, and they must stay so."""


class Standstills:
    """What stood still, how often and for how long (s)."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator
        self._count = {"everything": 0, "one process": 0}
        self._lost_s = dict.fromkeys(self._count, 0.0)

    def one(self, root: int, *, told: bool) -> None:
        """Stop all descendants of the process ``root``, or one of them, and let them go on."""
        kind = self._random.choice(list(self._count))
        lasts_s = self._random.uniform(SHORTEST_S, LONGEST_S)
        stopped: dict[int, str] = {}
        began = time.monotonic()
        try:
            if kind == "one process":
                running = sorted(_running(root))
                _stop(self._random.sample(running, k=min(1, len(running))), stopped)
            else:
                while more := [process for process in _running(root) if process[0] not in stopped]:
                    _stop(more, stopped)  # and again, for what one of them may just have started
            time.sleep(lasts_s)
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self._count[kind] += 1
        self._lost_s[kind] += time.monotonic() - began
        if told:
            names = ", ".join(f"{pid} {name}" for pid, name in stopped.items())
            print(f"{time.strftime('%H:%M:%S')} {lasts_s:.2f} s: {names}", file=sys.stderr)

    def __str__(self) -> str:
        return ", ".join(f"{kind} {count} times ({self._lost_s[kind]:.1f} s)" for kind, count in self._count.items())


def _stop(processes: list[tuple[int, str]], stopped: dict[int, str]) -> None:
    """Parents come first: once they stand still, they stop no child of theirs themselves."""
    for pid, name in processes:
        with contextlib.suppress(OSError):
            if _stat(Path(f"/proc/{pid}/stat"))[2] in AWAKE_OR_ASLEEP:
                os.kill(pid, signal.SIGSTOP)
                stopped[pid] = name


def _stat(place: Path) -> tuple[int, str, str, int]:
    """Process ID, name, state and parent (proc(5)). Raises OSError when the process is gone."""
    head, _, tail = place.read_text(errors="replace").rpartition(")")
    pid, _, name = head.partition(" (")
    state, parent = tail.split()[:2]
    return int(pid), name, state, int(parent)


def _running(root: int) -> list[tuple[int, str]]:
    """``root`` and its descendants that are not stopped, by process ID and name."""
    children: dict[int, list[int]] = {}
    names: dict[int, str] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, name, state, parent = _stat(place)
            children.setdefault(parent, []).append(pid)
            if state in AWAKE_OR_ASLEEP:
                names[pid] = name
    family = [root]
    for member in family:
        family += children.get(member, ())
    return [(pid, names[pid]) for pid in family if pid in names]


def main() -> int:
    description, _, rest = (__doc__ or "").partition("\n\n")
    options = argparse.ArgumentParser("python -m tests.standstill", description=description, epilog=rest)
    options.add_argument("--seed", type=int, help="of the moments; without it, any")
    options.add_argument("--every", type=float, default=EVERY_S, metavar="S", help="how far they are apart on average")
    options.add_argument("--tell", action="store_true", help="say on standard error what stood still when")
    options.add_argument("command", nargs="+")
    chosen = options.parse_args()
    seed = secrets.randbelow(10_000) if chosen.seed is None else chosen.seed
    print(f"standstills with --seed {seed}", flush=True)
    generator = random.Random(seed)  # noqa: S311
    standstills = Standstills(generator)
    with subprocess.Popen(chosen.command) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while process.poll() is None:
            with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the command's as well
                try:
                    process.wait(generator.expovariate(1 / chosen.every))
                except subprocess.TimeoutExpired:
                    standstills.one(process.pid, told=chosen.tell)
    print(f"stood still with --seed {seed}: {standstills}")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
