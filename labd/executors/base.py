"""What labd asks of an executor. It reports facts; what they mean for a run is decided in the services."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from labd.model.source import GitSource
from runners.status import Alive, Exited, Status

__all__ = ["Alive", "ClusterExecutor", "Executor", "ExecutorError", "Exited", "Job", "Status"]


class ExecutorError(Exception):
    """The runner could not be started; the message says why."""


@dataclass(frozen=True, slots=True)
class Job:
    """A runner to start."""

    run_id: str
    url: str
    """Of labd's REST API, as the runner reaches it."""
    token: str
    """Opens the runner-only routes of this run."""
    bench: str
    lease_token: str
    """The run's right to the bench."""
    attempt: int = 1
    """Of the run: each has a runner and a lease of its own."""
    timeout_s: float = 300.0
    """Of the script, from when its runner has shown up."""
    cluster: str | None = None
    """Where the runner is to live, of an executor that has clusters."""
    script: str | None = None
    """What it is to execute, for an executor that brings it there."""
    others: tuple[str, ...] = ()
    """The URLs of other labds, for when that one is gone."""

    traceparent: str | None = None
    """The trace in which it works (W3C Trace Context)."""
    git: GitSource | None = None
    """Where its script comes from, instead of ``script``."""
    pods_max: int | None = None
    """How many pods of the lab's there may be in the cluster, this one included; those on their way out count."""
    begun: bool = False
    """A runner of this attempt has been heard of: it is to be found, and no other one may be started."""

    def urls(self, own: str) -> str:
        """For LABD_URL: ``own``, which may be several already, then the others that are as safe."""
        known = own.split(",")
        safe = [url for url in self.others if url.partition(":")[0] == own.partition(":")[0]]
        return ",".join(dict.fromkeys([*known, *safe]))


class Executor(Protocol):
    """Starts, watches and ends runners."""

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Has `callback(run_id)` called, on any thread, whenever something has become of a runner."""

    def start(self, job: Job) -> None:
        """Starts a runner; raises ExecutorError. It is never started twice for one attempt of a run."""

    def status(self, run_id: str) -> Status | None:
        """What became of the run's runner; None when none was ever started, or it is forgotten."""

    def stop(self, run_id: str) -> None:
        """Ends the runner, by force if it does not go by itself; returns at once."""

    def forget(self, run_id: str) -> None:
        """Clears up what a runner that is gone has left; of a former attempt, whatever there is of it."""

    def recover(self, running: Mapping[str, str]) -> None:
        """Takes over the runners that a former labd started; ends those of runs that are not running any more.

        ``running`` are the RUNNING runs of this executor, each with its bench.
        """

    def close(self) -> None:
        """Ends every runner and waits, for a bounded time, until they are gone."""


@runtime_checkable
class ClusterExecutor(Executor, Protocol):
    """One whose runners live in clusters."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def default_cluster(self) -> str | None:
        """Where runs go that name none; None: each has to name one."""

    def waits_for(self, run_id: str) -> str | None:
        """What the run's pod waits for before its runner runs, in words; None when for nothing, or it is not known."""
