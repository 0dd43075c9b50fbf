"""Runners as children of this process, each in a session of its own.

They survive their keeper, so that a restarted one can take them over: their output goes to a file, not to a pipe, and
their identity is kept in their scratch directory. Deaths are seen through pidfds, of children and of adopted runners
alike.
"""

import contextlib
import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import structlog

from runners import launch
from runners.nursery import Nursery
from runners.processes import ProcessId, describe_exit, find_by_directory, identify, signal_group
from runners.status import Alive, Exited, StartError, Status

STOP_GRACE_S = 3.0
"""From SIGTERM to SIGKILL."""
OUTPUT_TAIL_BYTES = 8 * 1024
"""How much of a dead runner's output goes into the reason."""
_ORPHANS_S = 0.05
"""Between two looks whether what was killed is dead."""
_IDENTITY_NAME = "process.json"
_OUTPUT_NAME = "output.log"

_log = structlog.get_logger()


class _Child(Protocol):
    @property
    def pid(self) -> int: ...
    def wait(self) -> int: ...


@dataclass(slots=True)
class _Runner:
    run_id: str
    directory: Path
    process: ProcessId | None
    """None once it is gone."""
    child: _Child | None = None
    """None when adopted."""
    pidfd: int = -1
    kill_at: float | None = None
    """Monotonic time of the SIGKILL, once it has been asked to go."""
    exited: Exited | None = None


class RunnerKeeper:
    """Starts, watches and ends runners. Every method may be called from any thread."""

    def __init__(
        self,
        directory: Path,
        *,
        keeper: str,
        command: Sequence[str] = launch.COMMAND,
        nursery: Sequence[str] | None = None,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        """Keeps the scratch directories in ``directory``; ``keeper`` is how reasons name this process. ``nursery`` is
        the command of a process that forks runners; without one each is started by itself.
        """
        self._directory = directory.resolve()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keeper = keeper
        self._command = list(command)
        self._grace = stop_grace_s
        self._environment = launch.environment()
        self._nursery = None if nursery is None else Nursery(nursery, self._environment)
        self._left_groups: set[int] = set()
        """Process groups of runners that are gone: what they have left behind may still be dying."""
        self._runners: dict[str, _Runner] = {}
        self._changed = threading.Condition()
        self._callback: Callable[[str], None] = lambda _: None
        self._closing = False
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._watch, name="runner-watch", daemon=True)
        self._thread.start()

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Has `callback(run_id)` called, on a thread of the keeper's, whenever a runner is gone."""
        self._callback = callback

    def start(self, run_id: str, variables: Mapping[str, str]) -> None:
        """Starts a runner with these environment variables, never twice for one run. Raises StartError."""
        directory = self._directory / run_id
        with self._changed:
            if self._closing or run_id in self._runners:
                raise StartError(f"a runner of {run_id} was started before, or {self._keeper} is stopping")
            try:
                directory.mkdir(mode=0o700)
                child = self._start_process(directory, {**self._environment, **variables})
            except OSError as error:
                raise StartError(f"the runner cannot be started: {error}") from error
            runner = _Runner(run_id, directory, identify(child.pid), child)
            self._runners[run_id] = runner
            if runner.process is not None:
                try:
                    _write_identity(directory, runner.process)
                except OSError as error:  # a full disk: a later keeper finds the runner by its directory
                    _log.warning("runner's identity not written", run=run_id, error=str(error))
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (launch.FILE_BYTES_MAX, launch.FILE_BYTES_MAX))
            self._register(runner, child.pid)
        _log.info("runner started", run=run_id, pid=child.pid)

    def status(self, run_id: str) -> Status | None:
        """What became of the run's runner; None when none was ever started, or it is forgotten."""
        with self._changed:
            runner = self._runners.get(run_id)
            if runner is None:
                return None
            return runner.exited or Alive()

    def stop(self, run_id: str, reason: str = "") -> None:
        """Ends the runner, by force if it does not go by itself; returns at once. The runner is told the reason."""
        with self._changed:
            runner = self._runners.get(run_id)
            if runner is not None:
                self._ask_to_go(runner, reason)

    def forget(self, run_id: str) -> None:
        """Clears up what a runner that is gone has left."""
        with self._changed:
            runner = self._runners.get(run_id)
            if runner is None or runner.exited is None:
                return
            del self._runners[run_id]
        shutil.rmtree(runner.directory, ignore_errors=True)

    def left_behind(self) -> set[str]:
        """The runs of which a former keeper has left something."""
        return {directory.name for directory in self._directory.iterdir()}

    def recover(self, running: Collection[str]) -> None:
        """Takes over the runners that a former keeper started; ends those of runs that are not running any more."""
        for directory in self._directory.iterdir():
            run_id = directory.name
            process = _read_identity(directory) or find_by_directory(directory)
            if process is not None and identify(process.pid) != process:
                process = None
            if process is None and run_id not in running:
                shutil.rmtree(directory, ignore_errors=True)
                continue
            runner = _Runner(run_id, directory, process)
            with self._changed:
                self._runners[run_id] = runner
                if process is not None:
                    self._register(runner, process.pid)
                    if run_id not in running:
                        self._ask_to_go(runner)
                else:
                    runner.exited = self._ended_unseen(runner)
            _log.info("runner found", run=run_id, pid=process and process.pid, wanted=run_id in running)

    def close(self, *, clear: bool = True) -> None:
        """Ends every runner and waits, for a bounded time, until they are gone; ``clear``: and forgets them."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
            for runner in self._runners.values():
                self._ask_to_go(runner, f"{self._keeper} stops")
            self._changed.wait_for(
                lambda: all(runner.exited for runner in self._runners.values()), timeout=self._grace + 2.0
            )
            if self._nursery is not None:
                self._nursery.close()
            gone = [run_id for run_id, runner in self._runners.items() if runner.exited]
        for run_id in gone if clear else ():
            self.forget(run_id)
        self._wake()
        self._thread.join(timeout=2.0)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # With the lock held

    def _start_process(self, directory: Path, environment: Mapping[str, str]) -> _Child:
        with (directory / _OUTPUT_NAME).open("wb") as output:
            newborn = None if self._nursery is None else self._nursery.start(directory, environment, output)
            return newborn or subprocess.Popen(  # noqa: S603 - a fixed command, no shell, nothing from the user
                self._command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _register(self, runner: _Runner, pid: int) -> None:
        try:
            runner.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            runner.exited = self._ended_unseen(runner)
            return
        self._selector.register(runner.pidfd, selectors.EVENT_READ, runner)
        self._wake()

    def _ended_unseen(self, runner: _Runner) -> Exited:
        return Exited(f"the runner ended while {self._keeper} was down{_tail(runner.directory)}")

    def _ask_to_go(self, runner: _Runner, reason: str = "") -> None:
        if runner.exited is None and runner.process is not None and runner.kill_at is None:
            runner.kill_at = time.monotonic() + self._grace
            if reason:
                with contextlib.suppress(OSError):  # a full disk: it goes without knowing why
                    (runner.directory / launch.STOP_REASON_FILE).write_text(reason, "utf-8")
            signal_group(runner.process.pid, signal.SIGTERM)
            self._wake()

    # On the watching thread

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._closing and all(runner.exited for runner in self._runners.values()):
                    return
                deadlines = [
                    runner.kill_at for runner in self._runners.values() if runner.kill_at and not runner.exited
                ]
                if self._left_groups:
                    deadlines.append(time.monotonic() + _ORPHANS_S)
            timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
            for key, _ in self._selector.select(timeout):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                else:
                    self._bury(key.data)
            self._wait_for_orphans()
            with self._changed:
                for runner in self._runners.values():
                    if runner.kill_at and not runner.exited and runner.process and time.monotonic() >= runner.kill_at:
                        _log.warning("runner did not go when asked: killed", run=runner.run_id)
                        signal_group(runner.process.pid, signal.SIGKILL)
                        runner.kill_at = time.monotonic() + self._grace

    def _bury(self, runner: _Runner) -> None:
        self._selector.unregister(runner.pidfd)
        os.close(runner.pidfd)
        process = runner.process
        if process is not None:
            # Whatever the runner left behind in its group. Its number is not in use again: we have not waited for it.
            signal_group(process.pid, signal.SIGKILL)
        how = f"ended (with a status unknown to {self._keeper}, which was restarted meanwhile)"
        if runner.child is not None:
            how = describe_exit(runner.child.wait())
            self._left_groups.add(runner.child.pid)
        with self._changed:
            runner.process = None
            runner.exited = Exited(f"the runner {how}{_tail(runner.directory)}")
            self._changed.notify_all()
        _log.info("runner gone", run=runner.run_id, how=how)
        self._callback(runner.run_id)

    def _wait_for_orphans(self) -> None:
        """Of runners that are gone, where they have become children of this process."""
        for group in tuple(self._left_groups):
            try:
                while os.waitpid(-group, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                self._left_groups.discard(group)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")


def _write_identity(directory: Path, process: ProcessId) -> None:
    part = directory / f"{_IDENTITY_NAME}.part"
    part.write_text(json.dumps(asdict(process)), "utf-8")
    part.replace(directory / _IDENTITY_NAME)


def _read_identity(directory: Path) -> ProcessId | None:
    try:
        return ProcessId(**json.loads((directory / _IDENTITY_NAME).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # not written yet, or a power failure took half of it


def _tail(directory: Path) -> str:
    try:
        with (directory / _OUTPUT_NAME).open("rb") as output:
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - OUTPUT_TAIL_BYTES))
            text = output.read(OUTPUT_TAIL_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return f"; it wrote: {text}" if text else ""
