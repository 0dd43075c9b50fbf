"""The main job from nothing: labd, an agent with two simulated benches, and every example scenario as a run.

Leaves the database, the logs and the bus traces in build/demo; stops everything it started; exits 0 only if every run
passed.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from labd.client import LabClient, LabError
from labd.client.types import Run

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "demo"
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 10.0
RUN_DEADLINE_S = 60.0
COLOURS = {"PASSED": "green", "FAILED": "red", "ERROR": "magenta", "CANCELLED": "yellow"}


class DemoError(Exception):
    """Something that the demo started did not do its part."""


@contextmanager
def service(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its output in FOLDER/name.log, stopped at the end: SIGTERM first, SIGKILL after a deadline."""
    with (FOLDER / f"{name}.log").open("wb") as log:
        # A session of its own: Ctrl-C in the terminal reaches the demo alone, which then stops things in order.
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(what: str, ready: Callable[[], bool], services: dict[str, subprocess.Popen[bytes]]) -> None:
    """Returns once ``ready`` answers True; raises DemoError when a service dies or START_DEADLINE_S is over."""
    deadline = time.monotonic() + START_DEADLINE_S
    while not ready():
        for name, process in services.items():
            if process.poll() is not None:
                log = (FOLDER / f"{name}.log").read_text(errors="replace")
                raise DemoError(f"{name} ended with exit code {process.returncode}:\n{log[-2000:]}")
        if time.monotonic() > deadline:
            raise DemoError(f"no {what} within {START_DEADLINE_S:.0f} s; see the logs in {FOLDER.relative_to(ROOT)}")
        time.sleep(0.02)


def follow(lab: LabClient, run: Run, console: Console, ended: list[Run]) -> None:
    """Prints the run's log and verdict as they come, and appends the ended run to ``ended``."""
    for line in lab.follow_log(run["id"]):
        console.print(f"[cyan]{run['name']:24}[/] {line['text']}", highlight=False)
    final = lab.run(run["id"])
    state = final["state"]
    console.print(
        f"[cyan]{run['name']:24}[/] [bold {COLOURS.get(state, 'white')}]{state}[/] {final['reason']}", highlight=False
    )
    ended.append(final)


def run_all(lab: LabClient, console: Console) -> list[Run]:
    """Submits every example, follows all of them at once, and returns the ended runs in the order of their names."""
    runs = [
        lab.create_run(script=path.read_text(), name=path.name, holder="demo", timeout_s=RUN_DEADLINE_S)
        for path in sorted((ROOT / "scenarios" / "examples").glob("*.lua"))
    ]
    ended: list[Run] = []
    followers = [threading.Thread(target=follow, args=(lab, run, console, ended), daemon=True) for run in runs]
    for follower in followers:
        follower.start()
    deadline = time.monotonic() + len(runs) * RUN_DEADLINE_S
    for follower in followers:
        follower.join(max(0.0, deadline - time.monotonic()))
    if len(ended) < len(runs):
        raise DemoError(f"{len(runs) - len(ended)} of {len(runs)} runs did not end in time")
    return sorted(ended, key=lambda run: run["name"])


def table(runs: list[Run]) -> Table:
    """The closing table."""
    result = Table("scenario", "bench", "cases", "verdict", title="labd demo")
    for run in runs:
        cases = run["cases"] or {"passed": 0, "failed": 0, "error": 0}
        verdict = f"[{COLOURS.get(run['state'], 'white')}]{run['state']}[/]"
        result.add_row(run["name"], run["bench"] or "-", f"{cases['passed']}/{sum(cases.values())}", verdict)
    return result


def demo(console: Console) -> bool:
    """Whether every run passed."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    started = time.monotonic()
    with ExitStack() as stack:
        services = {
            "labd": stack.enter_context(
                service(
                    "labd",
                    "labd.daemon",
                    "serve",
                    "--data",
                    str(FOLDER / "labd"),
                    "--http",
                    "127.0.0.1:0",
                    "--agents",
                    "127.0.0.1:0",
                )
            )
        }
        wait_for("ready labd", (FOLDER / "labd" / "labd.json").exists, services)
        endpoints = json.loads((FOLDER / "labd" / "labd.json").read_text())
        services["agent"] = stack.enter_context(
            service(
                "agent",
                "bench_agent.main",
                "serve",
                "deploy/demo/agent.yaml",
                "--listen",
                "127.0.0.1:0",
                "--labd",
                endpoints["agents"],
                "--data",
                str(FOLDER / "agent"),
            )
        )
        lab = stack.enter_context(LabClient(endpoints["http"]))

        def benches_ready() -> bool:
            benches = lab.benches()
            return len(benches) >= 2 and all(bench["state"] == "available" for bench in benches)

        wait_for("two available benches", benches_ready, services)
        console.print(f"labd at {endpoints['http']}, two benches attached after {time.monotonic() - started:.1f} s")
        runs = run_all(lab, console)
    console.print(table(runs))
    console.print(f"{time.monotonic() - started:.1f} s; database, logs and traces are in {FOLDER.relative_to(ROOT)}")
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
    console = Console(soft_wrap=True)
    try:
        return 0 if demo(console) else 1
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    except (DemoError, LabError) as error:
        console.print(f"the demo failed: {error}", style="red", markup=False)
        return 2
    finally:
        kill_orphans()


if __name__ == "__main__":
    sys.exit(main())
