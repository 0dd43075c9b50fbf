"""The functions that the Lua modules are built on: flat values in, plain values out, `ScenarioFault` when it fails.

Each takes the script's position first. Bench and buses are opened when the script first asks for them, so that a run's
first line does not wait for a connection.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from labd.client.types import Assignment, Failure, Frame, LogLevel
from scenarios import durations
from scenarios.record import MESSAGE_LENGTH, Record, Verdict, shorten
from scenarios.sandbox import Function, ScenarioFault, Source
from scenarios.stop import Stop
from scenarios.values import from_hex, from_json, to_hex

if TYPE_CHECKING:
    from bench_agent.client import BenchClient, BusClient, Condition, EcuClient
    from bench_agent.protocol.frames import Frame as CanFrame

FRAMES = 20
"""Frames of each bus that a failed case is given."""
UDS_TIMEOUT_S = 10.0
_FAILED = frozenset({"check", "negative_response", "timeout", "unexpected"})
"""Kinds of fault that say something about the device under test; any other says that script, bench or lab broke."""
_NOT_MODULES = ("log", "time", "test", "bench", "can", "uds", "string", "table", "math", "utf8", "coroutine")


class Log(Protocol):
    """Where log lines go."""

    def write(self, level: LogLevel, text: str) -> None:
        """Takes one line or several."""
        ...


class _Bus:
    """A bus as one bus object of the script sees it."""

    def __init__(self, client: "BusClient") -> None:
        self.client = client
        self.sent_ns = 0
        self.met_ns: dict[str | int, int] = {}

    def since(self, what: str | int) -> int:
        """From when on frames count for an expect; 0 is from now on."""
        return max(self.sent_ns, self.met_ns.get(what, 0)) if self.sent_ns else 0


class Bindings:
    """One script's way to its bench, its log and its record. Used by the script's thread alone.

    ``deadline`` is on the monotonic clock. ``open_bench`` connects to a bench.
    """

    def __init__(
        self,
        assignment: Assignment,
        record: Record,
        log: Log,
        stop: Stop,
        *,
        deadline: float,
        open_bench: Callable[[], "BenchClient"],
    ) -> None:
        self._assignment = assignment
        self._record = record
        self._log = log
        self._stop = stop
        self._deadline = deadline
        self._open_bench = open_bench
        self._lock = threading.Lock()
        self._client: BenchClient | None = None
        self._buses: list[_Bus] = []
        self._ecus: list[tuple[EcuClient, float]] = []
        self._written = 0
        self.position = ""
        """Where the script was when it last called; "file:line"."""

    def functions(self) -> dict[str, Function]:
        """The table for the sandbox."""
        plain: tuple[Function, ...] = (self.start_case, self.end_case, self.finish, self.script, self.tick)
        at_position: tuple[Function, ...] = (
            self.module,
            self.log,
            self.now,
            self.monotonic,
            self.sleep,
            self.check,
            self.step,
            self.bench,
            self.describe,
            self.can_bus,
            self.can_send_message,
            self.can_send_frame,
            self.can_expect_message,
            self.can_expect_frame,
            self.uds_ecu,
            self.uds_call,
            self.uds_raw,
        )
        table = {function.__name__: function for function in plain}
        return table | {function.__name__: self._located(function) for function in at_position}

    def close(self) -> None:
        """Ends the connection to the bench, and with it a call that is still waiting. Any thread may call it."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _located(self, function: Function) -> Function:
        def call(where: str, *arguments: object) -> object:
            self.position = where or self.position
            try:
                return function(*arguments)
            except ValueError as error:
                raise ScenarioFault("invalid", str(error)) from error

        call.__name__ = function.__name__
        return call

    # The run

    def script(self, _where: str) -> Source:
        """The scenario's text and name."""
        return Source(_lua_text(self._assignment["script"]), _file_name(self._assignment["name"]))

    def module(self, name: str) -> Source:
        """The file of the scenario's folder that ``require`` means by ``name``."""
        files = {str(PurePosixPath(path)): text for path, text in self._assignment["files"].items()}
        stem = name.removesuffix(".lua").replace(".", "/")
        for path in (f"{stem}.lua", f"{stem}/init.lua"):
            if path in files:
                return Source(_lua_text(files[path]), path)
        beside = f"its folder holds {', '.join(sorted(files)[:20])}" if files else "no file came with the scenario"
        raise ScenarioFault(
            "invalid",
            f"module '{name}' not found: it is none of {', '.join(_NOT_MODULES)}, and {beside}, not {stem}.lua",
        )

    def tick(self, where: str) -> None:
        """Called every so many Lua instructions: notes where the script is, and ends it when its time is over."""
        self.position = where or self.position
        self._look_at_clock()

    def start_case(self, where: str, name: str) -> None:
        """A case begins."""
        self.position = where or self.position
        try:
            self._record.start_case(name)
        except ValueError as error:
            raise ScenarioFault("invalid", str(error)) from error
        self._write("info", f"case: {name}")

    def end_case(
        self,
        _where: str,
        kind: str,
        message: str = "",
        file: str | None = None,
        line: int | None = None,
        traceback: str = "",
    ) -> None:
        """The running case ends: kind is "passed", "stop", "memory", or the kind of the fault."""
        if kind == "passed":
            self._record.end_case("passed")
            self._write("info", "  passed")
            return
        verdict, failure = self._judge(kind, message, file, line, traceback)
        frames = self._last_frames()
        self._record.end_case(verdict, failure, frames)
        self._write("error", f"  {verdict}: {_placed(failure)}")

    def finish(
        self,
        _where: str,
        kind: str,
        message: str = "",
        file: str | None = None,
        line: int | None = None,
        traceback: str = "",
    ) -> None:
        """The script has ended; arguments as for `end_case`."""
        if kind == "passed":
            self._record.finish("passed")
            return
        verdict, failure = self._judge(kind, message, file, line, traceback)
        frames = self._last_frames() if self._record.case else None
        if self._record.finish(verdict, failure, frames):
            self._log.write("error", f"{verdict}: {_placed(failure)}")
            if failure["traceback"]:
                self._log.write("error", failure["traceback"])

    def failure(self, message: str, file: str | None = None, line: int | None = None, traceback: str = "") -> Failure:
        """A failure at a place in the script; where none is known, at the last one that is."""
        if file is None:
            name, _, number = self.position.rpartition(":")
            if name and number.isdecimal():
                file, line = name, int(number)
        return Failure(
            message=shorten(message, MESSAGE_LENGTH), file=file, line=line, traceback=shorten(traceback, MESSAGE_LENGTH)
        )

    def _judge(
        self, kind: str, message: str, file: str | None, line: int | None, traceback: str
    ) -> tuple[Verdict, Failure]:
        if kind == "memory":
            self._stop.set(f"used more than {_mebibytes(self._assignment['limits']['memory_bytes'])} of memory")
        if kind in ("memory", "stop"):
            message = self._stop.reason or "the run was stopped"
        if kind == "syntax":
            return "error", Failure(message=message, file=file, line=line, traceback=traceback)
        return "failed" if kind in _FAILED else "error", self.failure(message, file, line, traceback)

    def _write(self, level: LogLevel, text: str) -> None:
        limit = self._assignment["limits"]["output_bytes"]
        self._written += len(text.encode()) + 1
        if self._written > limit:
            self._stop.set(f"wrote more than {limit} bytes of log")
        else:
            self._log.write(level, text)

    def _look_at_clock(self) -> None:
        if time.monotonic() >= self._deadline:
            self._stop.set(too_long(self._assignment))

    # log, time

    def log(self, level: LogLevel, text: str) -> None:
        """A line, or several, for the run's log."""
        self._write(level, text)

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds on a clock that is never set."""
        return time.monotonic()

    def sleep(self, duration: object) -> None:
        """Waits; the end of the run interrupts."""
        self._stop.wait(min(durations.parse(duration), self._remaining()))
        self._look_at_clock()

    # test

    def check(self) -> None:
        """A check is being evaluated."""
        self._record.check()

    def step(self, text: str) -> None:
        """A step that the script names."""
        self._record.step(text)
        self._write("info", f"  {text}")

    # bench

    def bench(self) -> dict[str, object]:
        """What the run knows of its bench without asking it."""
        bench = self._assignment["benches"][0]
        lease = {"id": self._assignment["lease_id"], "run": self._assignment["run_id"]}
        return {"name": bench["name"], "labels": dict(bench["labels"]), "lease": lease}

    def describe(self) -> dict[str, object]:
        """Buses and ECUs of the bench."""
        with self._bench_faults():
            description = self._opened().describe()
        return {
            "buses": [
                {"name": bus.name, "interface": bus.interface, "fd": bus.fd, "messages": list(bus.messages)}
                for bus in description.buses
            ],
            "ecus": [
                {
                    "name": ecu.name,
                    "bus": ecu.bus,
                    "simulated": ecu.simulated,
                    "dids": [{"name": did.name, "did": did.did, "unit": did.unit} for did in ecu.dids],
                }
                for ecu in description.ecus
            ],
        }

    # can

    def can_bus(self, name: object = None) -> int:
        """Opens a bus; without a name, the only one. Returns its number."""
        with self._bench_faults():
            bench = self._opened()
            client = bench.bus(self._only("bus", "can.bus", bench.describe().buses) if name is None else str(name))
        self._buses.append(_Bus(client))
        return len(self._buses) - 1

    def can_send_message(self, number: int, message: str, signals: str) -> float:
        """Sends a DBC message."""
        bus, values = self._buses[number], dict(from_json(signals) or {})
        with self._bench_faults():
            sent = bus.client.send_message(message, values)
        bus.sent_ns = sent.timestamp_ns
        self._record.step(f"{bus.client.name} <- {message} {_shown(values)}: {sent.frame}")
        return sent.timestamp_ns / 1e9

    def can_send_frame(self, number: int, can_id: int, data: object, options: str) -> float:
        """Sends a frame."""
        from bench_agent.protocol.frames import BITRATE_SWITCH, FD, Frame

        bus, chosen = self._buses[number], _options(options)
        payload = from_hex(str(data), "data")
        # A bit-rate switch, and more than eight bytes, exist on CAN FD only.
        fd = chosen.get("fd", chosen.get("brs", False) or len(payload) > 8)
        flags = (FD if fd else 0) | (BITRATE_SWITCH if chosen.get("brs", False) else 0)
        frame = Frame(0, _socketcan_id(can_id, chosen), flags, payload)
        with self._bench_faults():
            bus.sent_ns = bus.client.send(frame)
        self._record.step(f"{bus.client.name} <- {frame}")
        return bus.sent_ns / 1e9

    def can_expect_message(self, number: int, message: str, conditions: str, timeout: object) -> dict[str, object]:
        """Waits for a DBC message that meets the conditions."""
        bus, timeout_s = self._buses[number], _wait(timeout)
        wanted = [_condition(*condition) for condition in from_json(conditions) or []]
        with self._bench_faults():
            found = bus.client.expect_message(message, wanted, self._bounded(timeout_s), bus.since(message))
        self._record.check()
        if not found.met or found.frame is None:
            self._unmet(bus, f"no {message}", timeout_s, found.seen, found.unmet, found.frame)
        bus.met_ns[message] = found.frame.timestamp_ns
        self._record.step(f"{bus.client.name} -> {message} {_shown(found.signals)}: {found.frame}")
        return {"signals": found.signals, "time": found.frame.timestamp_ns / 1e9}

    def can_expect_frame(
        self, number: int, can_id: int, data: object, timeout: object, options: str
    ) -> dict[str, object]:
        """Waits for a frame with this ID and, if given, this data."""
        bus, timeout_s = self._buses[number], _wait(timeout)
        wanted = None if data is None else from_hex(str(data), "data")
        full_id = _socketcan_id(can_id, _options(options))
        with self._bench_faults():
            found = bus.client.expect_frame(full_id, wanted, self._bounded(timeout_s), bus.since(full_id))
        self._record.check()
        if not found.met or found.frame is None:
            what = f"no frame 0x{can_id:X}" + ("" if wanted is None else f" with data {to_hex(wanted)}")
            self._unmet(bus, what, timeout_s, found.seen, found.unmet, found.frame)
        bus.met_ns[full_id] = found.frame.timestamp_ns
        self._record.step(f"{bus.client.name} -> {found.frame}")
        return {"data": to_hex(found.frame.data), "time": found.frame.timestamp_ns / 1e9}

    def _unmet(
        self, bus: _Bus, what: str, timeout_s: float, seen: int, unmet: tuple[str, ...], last: "CanFrame | None"
    ) -> NoReturn:
        self._look_at_clock()
        if seen:
            why = f" met the conditions within {durations.show(timeout_s)}; {seen} seen, the last: "
            why += "; ".join(unmet) or str(last)
        else:
            why = f" was seen within {durations.show(timeout_s)}"
        self._record.step(f"{bus.client.name}: {what}{why}")
        raise ScenarioFault("check", f"{bus.client.name}: {what}{why}", seen=seen, unmet=list(unmet))

    # uds

    def uds_ecu(self, name: object = None, timeout: object = None) -> int:
        """Opens an ECU; without a name, the only one. Returns its number."""
        timeout_s = UDS_TIMEOUT_S if timeout is None else _wait(timeout)
        with self._bench_faults():
            bench = self._opened()
            client = bench.ecu(self._only("ECU", "uds.ecu", bench.describe().ecus) if name is None else str(name))
        self._ecus.append((client, timeout_s))
        return len(self._ecus) - 1

    def uds_call(self, number: int, service: str, arguments: str) -> object:
        """Calls a service by name."""
        client, timeout_s = self._ecus[number]
        given = dict(from_json(arguments) or {})
        if service == "key":
            given["key"] = from_hex(given["key"], "the key")
        if service == "write":
            given["value"] = self._written_value(client.name, given)
        text = f"{client.name} {service}{_shown_arguments(given)}"
        client.last = None
        try:
            with self._bench_faults():
                return client.call(service, self._bounded(timeout_s), **given)
        finally:
            self._uds_step(client, text)

    def _written_value(self, ecu: str, given: Mapping[str, Any]) -> object:
        """The value for a write: that of a number which the ECU's description does not know is bytes."""
        did, value = given["did"], given["value"]
        if not isinstance(did, int) or not isinstance(value, str):
            return value
        with self._bench_faults():
            description = self._opened().describe()
        known = {entry.did for found in description.ecus if found.name == ecu for entry in found.dids}
        return value if did in known else from_hex(value, f"the value of 0x{did:04X}")

    def uds_raw(self, number: int, request: object) -> str:
        """Sends a request PDU as it is; the response PDU as it is."""
        client, timeout_s = self._ecus[number]
        pdu = from_hex(str(request), "the request")
        if not pdu:
            raise ScenarioFault("invalid", "the request is empty; it starts with the service identifier")
        client.last = None
        try:
            with self._bench_faults():
                return to_hex(client.raw(pdu, self._bounded(timeout_s)).response)
        finally:
            self._uds_step(client, f"{client.name} raw")

    def _uds_step(self, client: "EcuClient", text: str) -> None:
        last = client.last
        if last is None or not last.request:  # refused before anything was sent
            self._record.step(f"{text}: no exchange")
            return
        pending = f", {len(last.pending_us)} x response pending" if last.pending_us else ""
        response = to_hex(last.response) or "no response"
        self._record.step(f"{text}: {to_hex(last.request)} -> {response} ({last.elapsed_us / 1000:.1f} ms{pending})")

    # Shared

    def _opened(self) -> "BenchClient":
        with self._lock:
            client = self._client
        if client is None:
            client = self._open_bench()
            with self._lock:
                self._client = client
        return client

    def _only(self, kind: str, function: str, found: tuple[Any, ...]) -> str:
        if len(found) != 1:
            names = ", ".join(item.name for item in found) or "none"
            raise ScenarioFault("invalid", f"{function}() needs a name: the bench has not one {kind} but {names}")
        return str(found[0].name)

    def _remaining(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _bounded(self, timeout_s: float) -> float:
        return max(0.001, min(timeout_s, self._remaining()))

    def _last_frames(self) -> list[Frame]:
        """The last frames on the bench's buses; none if the bench was not used or cannot tell any more."""
        with self._lock:
            client = self._client
        if client is None:
            return []
        from bench_agent.client import BenchError

        with suppress(BenchError):
            buses = client.recent(FRAMES)
            frames = [
                Frame(bus=bus, time=frame.timestamp_ns / 1e9, frame=str(frame))
                for bus, listed in buses.items()
                for frame in listed[-FRAMES:]
            ]
            return sorted(frames, key=lambda frame: frame["time"])
        return []

    @contextmanager
    def _bench_faults(self) -> Iterator[None]:
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
            self._stop.set(f"the bench no longer accepts this run's lease: {error}")
            raise ScenarioFault("lease", str(error)) from error
        except bench.UdsTimeout as error:
            self._look_at_clock()
            raise ScenarioFault("timeout", str(error)) from error
        except bench.UdsUnexpected as error:
            raise ScenarioFault("unexpected", str(error)) from error
        except (bench.InvalidRequest, bench.NotFound) as error:
            raise ScenarioFault("invalid", str(error)) from error
        except bench.BenchError as error:
            raise ScenarioFault("bench", str(error)) from error


def too_long(assignment: Assignment) -> str:
    """Why a run is stopped at its deadline."""
    return f"ran longer than {assignment['limits']['timeout_s']:g} s"


def _lua_text(text: str) -> bytes:
    return text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")


def _file_name(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name) or "scenario.lua"


def _placed(failure: Failure) -> str:
    where = f"{failure['file']}:{failure['line']}: " if failure["file"] else ""
    return f"{where}{failure['message']}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.4g} MiB"


def _shown(signals: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in signals.items()) or "(no signals given)"


def _shown_arguments(given: Mapping[str, Any]) -> str:
    """Arguments of a service for people: what it is about first, identifiers and bytes in hexadecimal."""
    shown = []
    for name, value in sorted(given.items(), key=lambda item: item[0] == "value" or item[0] == "key"):
        if name in ("did", "group", "mask") and isinstance(value, int):
            shown.append(f" 0x{value:0{4 if name == 'did' else 2}X}")
        else:
            shown.append(f" {to_hex(value) if isinstance(value, bytes) else value}")
    return "".join(shown)


def _wait(timeout: object) -> float:
    seconds = durations.parse(timeout, "timeout")
    if seconds < 0.001:
        raise ValueError(f"timeout is {timeout!r}; it must be at least 1 ms")
    return seconds


def _options(encoded: str) -> dict[str, bool]:
    chosen = dict(from_json(encoded) or {})
    for name, value in chosen.items():
        if not isinstance(value, bool):
            raise ValueError(f"option {name} is {value!r}; it must be true or false")
    return chosen


def _socketcan_id(can_id: int, options: Mapping[str, bool]) -> int:
    extended = options.get("extended", can_id > 0x7FF)
    limit = 0x1FFF_FFFF if extended else 0x7FF
    if not 0 <= can_id <= limit:
        raise ValueError(f"arbitration ID is 0x{can_id:X}; it must be between 0 and 0x{limit:X}")
    return can_id | 0x8000_0000 if extended else can_id


def _condition(signal: str, kind: str, first: Any = None, second: Any = None) -> "Condition":
    from bench_agent.client import Compare, Equals, Within

    match kind:
        case "within":
            return Within(signal, float(first), float(second))
        case "compare":
            return Compare(signal, first, second)
    if not isinstance(first, bool | int | float | str):
        raise ValueError(f"the condition on signal {signal} must be a number, text, a boolean or a matcher")
    return Equals(signal, first)
