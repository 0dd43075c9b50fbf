"""The ``process`` executor: runners beside labd. They survive it, and a restarted labd takes them over."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from labd.executors.base import ExecutorError, Job, Status
from runners import launch
from runners.keeper import STOP_GRACE_S, RunnerKeeper
from runners.status import StartError

_NONE: Mapping[str, str] = MappingProxyType({})


class ProcessExecutor:
    """See `Executor`. Every method may be called from any thread."""

    def __init__(
        self,
        directory: Path,
        *,
        command: Sequence[str] | None = None,
        variables: Mapping[str, str] = _NONE,
        stop_grace_s: float = STOP_GRACE_S,
    ) -> None:
        """Keeps the runners' scratch directories in ``directory``; ``variables`` are added to their environment.
        ``command`` executes a run, instead of this project's own.
        """
        self._variables = variables
        self._keeper = RunnerKeeper(
            directory,
            keeper="labd",
            command=command or launch.COMMAND,
            nursery=None if command else launch.NURSERY,
            stop_grace_s=stop_grace_s,
        )

    def on_change(self, callback: Callable[[str], None]) -> None:
        """See `Executor.on_change`."""
        self._keeper.on_change(callback)

    def start(self, job: Job) -> None:
        """See `Executor.start`."""
        try:
            variables = launch.run_variables(job.urls(job.url), job.run_id, job.token, job.traceparent)
            self._keeper.start(job.run_id, {**self._variables, **variables})
        except StartError as error:
            raise ExecutorError(str(error)) from error

    def status(self, run_id: str) -> Status | None:
        """See `Executor.status`."""
        return self._keeper.status(run_id)

    def stop(self, run_id: str) -> None:
        """See `Executor.stop`."""
        self._keeper.stop(run_id)

    def forget(self, run_id: str) -> None:
        """See `Executor.forget`."""
        self._keeper.forget(run_id)

    def recover(self, running: Mapping[str, str]) -> None:
        """See `Executor.recover`."""
        self._keeper.recover(running)

    def close(self) -> None:
        """See `Executor.close`."""
        self._keeper.close()
