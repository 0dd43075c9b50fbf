"""Replay in the module traffic: a log that came with the run, played on a bus."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scenarios import durations
from scenarios.bindings.context import Context
from scenarios.bindings.frames import socketcan_id
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_json

if TYPE_CHECKING:
    from bench_agent.client import FrameFilter, ReplayClient, ReplayProgress

_FASTEST = 1000
_MOST_ROUNDS = 1_000_000


class ReplayBindings:
    """Functions of the module traffic that play logs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._replays: list[tuple[str, ReplayClient]] = []

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.replay_start, self.replay_state, self.replay_wait, self.replay_stop)

    def replay_start(self, bus: int, name: object, encoded: str) -> int:
        """Starts to play a file. Returns the replay's number."""
        client, options = self._context.buses[bus], dict(from_json(encoded) or {})
        speed, loop = options.get("speed", 1), options.get("loop", 1)
        if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 <= speed <= _FASTEST:
            raise ValueError(f"speed is {speed!r}; it must be a number, 0 (as fast as the bus takes it) .. {_FASTEST}")
        if isinstance(loop, bool) or not isinstance(loop, int) or not 1 <= loop <= _MOST_ROUNDS:
            raise ValueError(f"loop is {loop!r}; it must be a whole number, 1 .. {_MOST_ROUNDS}")
        channel = options.get("channel")
        filters = [_only(one) for one in options.get("ids") or []]
        log = self._context.files.path(name)
        with self._faults(str(name), str(log)):
            started = client.start_replay(
                log,
                speed=float(speed),
                loop=loop,
                channel=None if channel is None else str(channel),
                filters=filters,
            )
        self._context.record.step(f"{client.name} <- {name}, replayed")
        self._replays.append((str(name), started))
        return len(self._replays) - 1

    def replay_state(self, number: int) -> dict[str, object]:
        """How far it is."""
        name, replay = self._replays[number]
        with self._faults(name):
            return _state(replay.state())

    def replay_wait(self, number: int, timeout: object) -> dict[str, object]:
        """Waits for its end; the script's own end, when no timeout is given."""
        name, replay = self._replays[number]
        timeout_s = math.inf if timeout is None else durations.parse(timeout, "timeout")
        with self._faults(name):
            progress = replay.wait(min(timeout_s, self._context.remaining()))
        if not progress.done:
            self._context.look_at_clock()
            raise ScenarioFault(
                "timeout",
                f"the replay of {name} has not ended within {durations.show(timeout_s)}: "
                f"{progress.sent} frames sent, {progress.position_s:.3f} s into the log",
            )
        self._context.record.step(f"{name} replayed: {progress.sent} frames sent, {progress.failed} refused")
        return _state(progress)

    def replay_stop(self, number: int) -> dict[str, object]:
        """Ends it."""
        name, replay = self._replays[number]
        with self._faults(name):
            return _state(replay.stop())

    @contextmanager
    def _faults(self, name: str, path: str = "") -> Iterator[None]:
        """Faults of the script, which knows the log by its name, not by where it lies."""
        path = path or str(self._context.files.path(name))
        try:
            with self._context.bench_faults():
                yield
        except ScenarioFault as fault:
            fault.fields["message"] = str(fault.fields["message"]).replace(path, name)
            raise
        except OSError as error:
            raise ScenarioFault("lab", f"{name} cannot be read: {error.strerror}") from error


def _only(can_id: object) -> "FrameFilter":
    from bench_agent.client import FrameFilter

    if isinstance(can_id, bool) or not isinstance(can_id, int):
        raise ValueError(f"ids holds {can_id!r}; it must be a list of arbitration IDs such as {{ 0x123 }}")
    return FrameFilter(socketcan_id(can_id, {}))


def _state(progress: "ReplayProgress") -> dict[str, object]:
    return {
        "sent": progress.sent,
        "failed": progress.failed,
        "error": progress.error or None,
        "position": progress.position_s,
        "late": progress.late_ms / 1000,
        "starved": progress.starved,
        "done": progress.done,
    }
