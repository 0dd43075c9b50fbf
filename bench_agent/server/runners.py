"""Runs at the bench: labd has the agent start their runners, processes of this machine that reach it by unix socket.

A runner is a holder like any other: it starts once the gate has admitted its lease, and seeing it off is a step of
that lease's clean-up. What became of it is kept, on disk as well, until labd has it forgotten; labd compares this with
what it knows each time the agent attaches, so that no runner is lost, and none started twice.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

import structlog

from bench_agent.protocol import lab_pb2
from bench_agent.server.bench import Bench
from bench_agent.server.calls import Call
from bench_agent.server.cleanup import CleanUpStack, Step
from bench_agent.server.config import split_address
from bench_agent.server.errors import CallError
from bench_agent.server.guard import Gate, Guard
from runners import launch
from runners.keeper import RunnerKeeper
from runners.status import Exited, StartError

FAREWELL_S = 1.0
"""How long a runner whose lease has ended may take to go by itself."""
_SEE_OFF_S = 10.0

_log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class _Runner:
    run_id: str
    task: "asyncio.Task[None] | None" = None
    """Gets it started."""
    launch: "asyncio.Task[None] | None" = None
    """Starts the process, once the lease was admitted."""
    step: tuple[CleanUpStack, Step] | None = None
    reason: str = ""
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def report(self) -> lab_pb2.RunnerReport:
        return lab_pb2.RunnerReport(run_id=self.run_id, alive=not self.gone.is_set(), reason=self.reason)


class Runners:
    """All runners of an agent. Used on one asyncio loop."""

    def __init__(
        self, keeper: RunnerKeeper, guard: Guard, benches: Mapping[str, Bench], labd: Callable[[], str]
    ) -> None:
        """``labd()`` is the host:port that the agent dials."""
        self.variables: Mapping[str, str] = {}
        """Further ones of every runner's environment."""
        self._keeper = keeper
        self._guard = guard
        self._benches = benches
        self._labd = labd
        self._runners: dict[str, _Runner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        """gRPC address at which runners reach the agent."""
        self.on_change: Callable[[lab_pb2.RunnerReport], None] | None = None
        """Called when something has become of a runner."""

    async def recover(self) -> None:
        """Ends what a former agent has left running: its benches were brought to their safe state meanwhile.

        Returns when all of it is gone.
        """
        loop = asyncio.get_running_loop()

        def gone(run_id: str) -> None:
            with contextlib.suppress(RuntimeError):  # the agent has stopped
                loop.call_soon_threadsafe(self._look_at, run_id)

        self._keeper.on_change(gone)
        left = self._keeper.left_behind()
        await asyncio.to_thread(self._keeper.recover, left)
        for run_id in left:
            self._runners[run_id] = _Runner(run_id)
            self._keeper.stop(run_id, "the agent of its bench was restarted")
            self._look_at(run_id)
        await asyncio.gather(*(runner.gone.wait() for runner in self._runners.values()))

    def reports(self) -> list[lab_pb2.RunnerReport]:
        """Every runner that labd has not had forgotten."""
        return [runner.report() for runner in self._runners.values()]

    def start(self, order: lab_pb2.StartRunner) -> None:
        """Starts a runner, unless one was ever started for this run."""
        runner = self._runners.get(order.run_id)
        if runner is not None:
            self._tell(runner)
            return
        runner = self._runners[order.run_id] = _Runner(order.run_id)
        runner.task = self._spawn(self._start(runner, order))

    def stop(self, run_id: str) -> None:
        """Ends a runner; one that is not there is reported as gone."""
        runner = self._runners.get(run_id)
        if runner is None or runner.gone.is_set():
            self._tell(runner or _gone(run_id))
        elif runner.launch is not None:
            self._spawn(self._stop(runner, "labd has ended the run"))
        elif runner.task is not None:
            runner.task.cancel()

    def forget(self, run_id: str) -> None:
        """Clears up after a runner that is gone."""
        runner = self._runners.get(run_id)
        if runner is not None and runner.gone.is_set():
            del self._runners[run_id]
            self._keeper.forget(run_id)

    async def close(self) -> None:
        """The agent stops: ends every runner, which then reports to labd by itself. Takes some seconds at most."""
        for runner in self._runners.values():
            if runner.launch is None and runner.task is not None:
                runner.task.cancel()
        await asyncio.to_thread(self._keeper.close, clear=False)

    async def _start(self, runner: _Runner, order: lab_pb2.StartRunner) -> None:
        try:
            gate, call = await self._enter(order)
        except CallError as error:
            self._end(runner, f"the runner was not started: {error.message}")
            return
        except asyncio.CancelledError:
            self._end(runner, "the runner was stopped before it was started")
            return
        try:
            stack = self._benches[order.bench].held().cleanup
            step = stack.push("see the runner off", partial(self._see_off, runner), deadline_s=_SEE_OFF_S)
            runner.step = (stack, step)
            runner.launch = self._spawn(self._launch(runner, order))
            await asyncio.shield(runner.launch)
        except CallError as error:
            self._end(runner, f"the runner was not started: {error.message}")
        except asyncio.CancelledError:
            pass  # the lease has ended: its clean-up sees the runner off
        finally:
            gate.leave(call)

    async def _enter(self, order: lab_pb2.StartRunner) -> tuple[Gate, Call]:
        while True:
            try:
                return await self._guard.enter(order.lease_token, order.bench)
            except CallError as error:
                if not error.preparing:
                    raise

    async def _launch(self, runner: _Runner, order: lab_pb2.StartRunner) -> None:
        url = reachable_url(order.url, self._labd())
        variables = {
            **self.variables,
            **launch.run_variables(url, order.run_id, order.run_token, order.traceparent or None),
            launch.ADDRESS_VARIABLE: self.address,
        }
        try:
            await asyncio.to_thread(self._keeper.start, order.run_id, variables)
        except StartError as error:
            self._end(runner, str(error))
        else:
            self._tell(runner)

    async def _stop(self, runner: _Runner, reason: str) -> None:
        if runner.launch is not None:
            await asyncio.wait({runner.launch})
        self._keeper.stop(runner.run_id, reason)

    async def _see_off(self, runner: _Runner) -> None:
        """The lease has ended: a runner that does not go by itself is ended."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                await runner.gone.wait()
        except TimeoutError:
            await self._stop(runner, "its lease on the bench has ended")
            await runner.gone.wait()

    def _look_at(self, run_id: str) -> None:
        runner, status = self._runners.get(run_id), self._keeper.status(run_id)
        if runner is not None and isinstance(status, Exited):
            self._end(runner, status.reason)

    def _end(self, runner: _Runner, reason: str) -> None:
        if runner.gone.is_set():
            return
        runner.reason = reason
        runner.gone.set()
        if runner.step is not None:
            stack, step = runner.step
            stack.drop(step)
        self._tell(runner)

    def _tell(self, runner: _Runner) -> None:
        if self.on_change is not None:
            self.on_change(runner.report())

    def _spawn(self, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("runner handling failed", exc_info=task.exception())


def reachable_url(url: str, labd: str) -> str:
    """labd's REST API as seen from here: a loopback host of labd's is the host that the agent dials.

    ``labd`` is host:port of labd's door for agents. Several URLs with commas stay so.
    """
    host, _ = split_address(labd)
    return ",".join(_reachable(one, host) for one in url.split(","))


def _reachable(url: str, host: str) -> str:
    parts = urlsplit(url)
    if _is_loopback(parts.hostname or "") and not _is_loopback(host.strip("[]")):
        return parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}").geturl()
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _gone(run_id: str) -> _Runner:
    runner = _Runner(run_id, reason="the agent knows of no such runner")
    runner.gone.set()
    return runner
