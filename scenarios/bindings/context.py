"""What the bindings of one script share: its limits, its record, and the bench, opened when it is first asked for."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from labd.client.types import Assignment, Frame, LogLevel
from scenarios import durations
from scenarios.data_files import DataFiles
from scenarios.record import Record
from scenarios.revocation import Revocation
from scenarios.sandbox import ScenarioFault
from scenarios.stop import Stop
from scenarios.values import from_json

if TYPE_CHECKING:
    from bench_agent.client import BenchClient, BusClient, EcuClient

FRAMES = 20
"""Frames of each bus that a failed case is given."""
_J1939_KINDS = {
    "no_answer": "timeout", "timeout": "timeout", "refused": "unexpected", "aborted": "unexpected",
    "sequence": "unexpected", "unexpected": "unexpected",
}  # fmt: skip
"""What the node under test has done, or not done, fails the test; all else is the bench's."""


class Log(Protocol):
    """Where log lines go."""

    def write(self, level: LogLevel, text: str) -> None:
        """Takes one line or several."""
        ...


class Context:
    """One script's way to its bench, its log and its record. Used by the script's thread alone, save `close`.

    ``deadline`` is on the monotonic clock. ``open_bench`` connects to the bench of that number, from 0, in the
    assignment's order. ``files`` came with the run.
    """

    def __init__(
        self,
        assignment: Assignment,
        record: Record,
        log: Log,
        stop: Stop,
        *,
        deadline: float,
        open_bench: "Callable[[int], BenchClient]",
        files: DataFiles,
        revocation: Revocation,
    ) -> None:
        self.assignment = assignment
        self.record = record
        self.log = log
        self.stop = stop
        self._deadline = deadline
        self._open_bench = open_bench
        self.files = files
        self.revocation = revocation
        self.bench = 0
        """The number of the bench that the script's calls are for."""
        self._lock = threading.Lock()
        self._clients: dict[int, BenchClient] = {}
        self._written = 0
        self.buses: list[BusClient] = []
        """Those that the script has opened; its bus objects are numbers of them."""
        self.ecus: list[tuple[EcuClient, float]] = []
        """The same of ECUs, each with the timeout of its requests in s."""
        self.position = ""
        """Where the script was when it last called; "file:line"."""

    def close(self) -> None:
        """Ends the connections to the benches, and with them a call that still waits. Any thread may call it."""
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.close()

    def write(self, level: LogLevel, text: str) -> None:
        """A line, or several, for the run's log; one too many ends the run."""
        text = self.masked(text)
        limit = self.assignment["limits"]["output_bytes"]
        self._written += len(text.encode()) + 1
        if self._written > limit:
            self.stop.set(f"wrote more than {limit} bytes of log")
        else:
            self.log.write(level, text)

    def masked(self, text: str) -> str:
        """The text without the run's secrets: before it is cut into lines and pieces that hide them from labd."""
        for name in self.assignment["secrets"]:
            text = text.replace(self.assignment["environment"][name], "***")
        return text

    def look_at_clock(self) -> None:
        """Ends the run when its time is over."""
        if time.monotonic() >= self._deadline:
            self.stop.set(too_long(self.assignment), "failed")

    def opened(self) -> "BenchClient":
        """The bench that calls are for; connects the first time. Raises what ``open_bench`` raises."""
        with self._lock:
            client = self._clients.get(self.bench)
        if client is None:
            client = self._open_bench(self.bench)
            with self._lock:
                self._clients[self.bench] = client
        return client

    def only(self, kind: str, function: str, found: tuple[Any, ...]) -> str:
        """The name of the one item there is. Raises ScenarioFault when there is not just one."""
        if not found:
            raise ScenarioFault("invalid", f"{function}(): the bench has no {kind}")
        if len(found) > 1:
            names = ", ".join(item.name for item in found)
            raise ScenarioFault("invalid", f"{function}() needs a name: the bench has more than one {kind}: {names}")
        return str(found[0].name)

    def remaining(self) -> float:
        """Seconds until the run's deadline."""
        return max(0.0, self._deadline - time.monotonic())

    def bounded(self, timeout_s: float) -> float:
        """``timeout_s``, but not beyond the run's deadline; at least 1 ms."""
        return max(0.001, min(timeout_s, self.remaining()))

    def last_frames(self) -> list[Frame]:
        """The last frames on the benches' buses; none of a bench that was not used or cannot tell any more.

        In a run with several benches, a bus goes by the name ``bench/bus``.
        """
        with self._lock:
            clients = dict(self._clients)
        if not clients:
            return []
        from bench_agent.client import BenchError

        frames: list[Frame] = []
        benches = self.assignment["benches"]
        for number, client in clients.items():
            prefix = f"{benches[number]['name']}/" if len(benches) > 1 else ""
            with suppress(BenchError):
                frames += [
                    Frame(bus=f"{prefix}{bus}", time=frame.timestamp_ns / 1e9, frame=str(frame))
                    for bus, listed in client.recent(FRAMES).items()
                    for frame in listed[-FRAMES:]
                ]
        return sorted(frames, key=lambda frame: frame["time"])

    @contextmanager
    def bench_faults(self) -> Iterator[None]:
        """Turns what the bench client raises into faults of the script."""
        from bench_agent import client as bench

        try:
            yield
        except bench.NegativeResponse as error:
            raise ScenarioFault(
                "negative_response",
                str(error),
                nrc=error.nrc,
                nrc_name=error.nrc_name,
                meaning=error.meaning,
                service=error.service,
                service_name=error.service_name,
            ) from error
        except bench.LeaseRefused as error:
            self.stop.set(f"the bench no longer accepts this run's lease: {error}")
            raise ScenarioFault("lease", str(error)) from error
        except bench.UdsTimeout as error:
            self.look_at_clock()
            raise ScenarioFault("timeout", str(error)) from error
        except bench.UdsTransport as error:
            raise ScenarioFault("bench", str(error), transport=error.kind, frame=error.frame) from error
        except bench.J1939Failure as error:
            self.look_at_clock()
            kind = _J1939_KINDS.get(error.kind, "bench")
            raise ScenarioFault(kind, str(error), reason=error.kind, code=error.code, frame=error.frame) from error
        except bench.UdsUnexpected as error:
            raise ScenarioFault("unexpected", str(error)) from error
        except (bench.InvalidRequest, bench.NotFound, bench.LogError) as error:
            raise ScenarioFault("invalid", str(error)) from error
        except bench.BenchError as error:
            raise ScenarioFault("bench", str(error)) from error


def too_long(assignment: Assignment) -> str:
    """Why a run is stopped at its deadline."""
    return f"ran longer than {assignment['limits']['timeout_s']:g} s"


def wait(timeout: object, what: str = "timeout") -> float:
    """A timeout in seconds. Raises ValueError below 1 ms."""
    seconds = durations.parse(timeout, what)
    if seconds < 0.001:
        raise ValueError(f"{what} is {timeout!r}; it must be at least 1 ms")
    return seconds


def options(encoded: str) -> dict[str, bool]:
    """Switches, as JSON. Raises ValueError, naming the one that is neither true nor false."""
    return checked_switches(dict(from_json(encoded) or {}))


def checked_switches(chosen: dict[str, Any]) -> dict[str, bool]:
    """Raises ValueError, naming the switch that is neither true nor false."""
    for name, value in chosen.items():
        if not isinstance(value, bool):
            raise ValueError(f"option {name} is {value!r}; it must be true or false")
    return chosen
