"""The main job from nothing: labd, an agent with two simulated benches, and every example scenario as a run.

Leaves the database, the logs and the bus traces in build/demo; stops everything it started; exits 0 only if every run
passed.
"""

import ctypes
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.demo.lab import DEMO_AGENT, ROOT, LabStartError, running_lab
from labd.client import LabClient, LabError
from labd.client.types import Run

FOLDER = ROOT / "build" / "demo"
EXAMPLES = ROOT / "scenarios" / "examples"
BENCHES = ("bench-1", "bench-2")
RUN_DEADLINE_S = 60.0
COLOURS = {"PASSED": "green", "FAILED": "red", "ERROR": "magenta", "CANCELLED": "yellow"}


def verdict(run: Run) -> str:
    """The state of a run, coloured."""
    return f"[bold {COLOURS.get(run['state'], 'white')}]{run['state']}[/]"


def follow(lab: LabClient, run: Run, console: Console, ended: list[Run]) -> None:
    """Prints the run's log and verdict as they come, and appends the ended run to ``ended``."""
    for line in lab.follow_log(run["id"]):
        console.print(f"[cyan]{run['name']:24}[/] {escape(line['text'])}")
    final = lab.run(run["id"])
    console.print(f"[cyan]{run['name']:24}[/] {verdict(final)} {escape(final['reason'])}".rstrip())
    ended.append(final)


def run_all(lab: LabClient, console: Console) -> list[Run]:
    """Submits every example, follows all of them at once, and returns the ended runs in the order of their names."""
    runs = [
        lab.create_run(script=path.read_text(), name=path.name, holder="demo", timeout_s=RUN_DEADLINE_S)
        for path in sorted(EXAMPLES.glob("*.lua"))
    ]
    ended: list[Run] = []
    followers = [threading.Thread(target=follow, args=(lab, run, console, ended), daemon=True) for run in runs]
    for follower in followers:
        follower.start()
    deadline = time.monotonic() + RUN_DEADLINE_S
    for follower in followers:
        follower.join(max(0.0, deadline - time.monotonic()))
    if len(ended) < len(runs):
        raise LabStartError(f"{len(runs) - len(ended)} of {len(runs)} runs did not end within {RUN_DEADLINE_S:.0f} s")
    return sorted(ended, key=lambda run: run["name"])


def table(runs: list[Run]) -> Table:
    """The closing table."""
    result = Table("scenario", "bench", "cases passed", "verdict")
    for run in runs:
        counts = run["cases"]
        cases = f"{counts['passed']}/{counts['passed'] + counts['failed'] + counts['error']}" if counts else "-"
        result.add_row(run["name"], run["bench"] or "-", cases, verdict(run))
    return result


def demo(console: Console) -> bool:
    """Whether every run passed."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    started = time.monotonic()
    with running_lab(FOLDER, DEMO_AGENT) as lab, lab.client() as client:
        lab.wait_for_benches(*BENCHES)
        console.print(f"labd at {lab.http}; {' and '.join(BENCHES)} attached after {time.monotonic() - started:.1f} s")
        runs = run_all(client, console)
    console.print(table(runs))
    where = FOLDER.relative_to(ROOT)
    console.print(f"{time.monotonic() - started:.1f} s; database in {where}/labd, bus traces in {where}/agent/traces")
    return bool(runs) and all(run["state"] == "PASSED" for run in runs)


def adopt_orphans() -> None:
    """Makes this process the parent of whatever a killed child leaves behind (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def kill_orphans() -> None:
    """Kills every process that is a child of this one."""
    for children in Path("/proc/self/task").glob("*/children"):
        for child in children.read_text().split():
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(int(child), signal.SIGKILL)
                os.waitpid(int(child), 0)


def interrupt(number: int, frame: object) -> None:
    """Ends the demo once; further signals do not disturb the clearing up."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Exit code: 0 every run passed, 1 some did not, 2 the demo itself broke, 130 interrupted."""
    adopt_orphans()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, interrupt)
    console = Console(soft_wrap=True, highlight=False)
    try:
        return 0 if demo(console) else 1
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    except (LabStartError, LabError) as error:
        console.print(f"the demo failed: {error}", style="red", markup=False)
        return 2
    finally:
        kill_orphans()


if __name__ == "__main__":
    sys.exit(main())
