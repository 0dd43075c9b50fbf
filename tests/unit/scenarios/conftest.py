"""A scenario played in this process: the real sandbox and modules, a bench made of lists."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench_agent.client import (
    BenchClient,
    BusInfo,
    Description,
    DidInfo,
    EcuInfo,
    Expectation,
    Frame,
    FunctionalAnswer,
    NotFound,
    SentMessage,
    UdsExchange,
)
from labd.client.types import Assignment, CaseResult, Failure, LogLevel, Result
from scenarios.bindings import Bindings, Context
from scenarios.data_files import DataFiles
from scenarios.record import Record
from scenarios.revocation import Revocation
from scenarios.sandbox import Sandbox
from scenarios.stop import Stop

MEMORY = 32 * 2**20


class FakeBus:
    """Remembers what it was asked; answers from ``expectations``, or with ``error``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: list[tuple[str, dict[str, object]]] = []
        self.frames: list[Frame] = []
        self.asked: list[tuple[Any, ...]] = []
        self.expectations: list[Expectation] = []
        self.error: Exception | None = None
        self.now_ns = 1_000_000_000
        self.forced = False

    def send(self, frame: Frame) -> int:
        self._raise()
        self.frames.append(frame)
        self.now_ns += 1000
        return self.now_ns

    def send_message(self, name: str, signals: Mapping[str, object], *, force: bool = False) -> SentMessage:
        self._raise()
        self.sent.append((name, dict(signals)))
        self.forced = force
        self.now_ns += 1000
        return SentMessage(self.now_ns, Frame(self.now_ns, 0x100, 0, b"\x01\x02"))

    def expect_message(self, name: str, conditions: list[Any], timeout_s: float, since_ns: int) -> Expectation:
        return self._expect(name, conditions, timeout_s, since_ns)

    def expect_frame(self, can_id: int, data: bytes | None, timeout_s: float, since_ns: int) -> Expectation:
        return self._expect(can_id, data, timeout_s, since_ns)

    def _expect(self, *asked: Any) -> Expectation:
        self._raise()
        self.asked.append(asked)
        return self.expectations.pop(0)

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error


class FakeEcu:
    """``answers`` by service: a value, an exception, or a function of the arguments."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.answers: dict[str, object] = {}
        self.calls: list[tuple[str, dict[str, object]]] = []
        self.timeouts: list[float] = []
        self.last: UdsExchange | None = None

    def call(self, service: str, /, timeout_s: float = 10.0, **arguments: object) -> object:
        self.calls.append((service, arguments))
        self.timeouts.append(timeout_s)
        self.last = UdsExchange(b"\x22\xf1\x90", b"\x62\xf1\x90", (1000,), 2500, "ReadDataByIdentifier", None, 0, 1)
        answer = self.answers.get(service)
        if callable(answer):
            answer = answer(**arguments)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def raw(self, pdu: bytes, timeout_s: float = 10.0) -> UdsExchange:
        self.call("raw", timeout_s, pdu=pdu)
        self.last = UdsExchange(pdu, cast(bytes, self.answers.get("raw", b"")), (), 1500, "", None)
        return self.last


@dataclass
class FakeBench:
    """One bus, one ECU."""

    buses: dict[str, FakeBus] = field(default_factory=lambda: {"powertrain": FakeBus("powertrain")})
    ecus: dict[str, FakeEcu] = field(default_factory=lambda: {"ECM": FakeEcu("ECM")})
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    closed: bool = False
    functional_answers: dict[str, FunctionalAnswer] = field(default_factory=dict)
    functional_asked: list[tuple[Any, ...]] = field(default_factory=list)

    def functional(
        self, request: bytes | str, bus: str | None, timeout_s: float, **arguments: object
    ) -> dict[str, FunctionalAnswer]:
        self.functional_asked.append((request, bus, timeout_s, arguments))
        return self.functional_answers

    @property
    def bus_fake(self) -> FakeBus:
        return self.buses["powertrain"]

    @property
    def ecu_fake(self) -> FakeEcu:
        return self.ecus["ECM"]

    def bus(self, name: str) -> FakeBus:
        if name not in self.buses:
            raise NotFound(f"bench b1 has no bus {name!r}; it has {', '.join(self.buses)}")
        return self.buses[name]

    def ecu(self, name: str) -> FakeEcu:
        if name not in self.ecus:
            raise NotFound(f"bench b1 has no ECU {name!r}; it has {', '.join(self.ecus)}")
        return self.ecus[name]

    def describe(self) -> Description:
        return Description(
            name="b1",
            labels={"platform": "meb"},
            buses=tuple(BusInfo(name, "virtual", "v0", False, ("EngineStatus",)) for name in self.buses),
            ecus=tuple(
                EcuInfo(name, "powertrain", 0x7E0, 0x7E8, True, (DidInfo("VIN", 0xF190, "ascii", ""),))
                for name in self.ecus
            ),
            healthy=True,
            health_reason="",
        )

    def recent(self, count: int) -> dict[str, list[Frame]]:
        return {bus: frames[-count:] for bus, frames in self.frames.items()}

    def close(self) -> None:
        self.closed = True


class FakeLog:
    def __init__(self) -> None:
        self.lines: list[tuple[LogLevel, str]] = []

    def write(self, level: LogLevel, text: str) -> None:
        self.lines.append((level, text))


@dataclass
class Played:
    """How a scenario went."""

    result: Result
    log: list[tuple[LogLevel, str]]
    bench: FakeBench
    sandbox: Sandbox

    @property
    def verdict(self) -> str:
        return self.result["verdict"]

    @property
    def text(self) -> list[str]:
        """What the script itself wrote."""
        return [text for _, text in self.log]

    @property
    def case(self) -> CaseResult:
        """The only case."""
        (case,) = self.result["cases"]
        return case

    @property
    def failure(self) -> Failure:
        """Of the run, or else of its only case."""
        found = self.result["failure"] or self.case["failure"]
        assert found is not None
        return found


Play = Callable[..., Played]


def assignment(
    script: str,
    *,
    files: Mapping[str, str] | None = None,
    data_files: Mapping[str, bytes] | None = None,
    timeout_s: float = 120.0,
    memory_bytes: int = MEMORY,
    output_bytes: int = 100_000,
    name: str = "s.lua",
    environment: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
) -> Assignment:
    return Assignment(
        run_id="run-1",
        name=name,
        script=script,
        files=dict(files or {}),
        data_files={name: len(content) for name, content in (data_files or {}).items()},
        lease_id="lease-1",
        ttl_s=30.0,
        benches=[{"name": "b1", "address": "127.0.0.1:1", "token": "t", "labels": {"platform": "meb"}}],
        environment=dict(environment or {}),
        secrets=list(secrets),
        limits={"timeout_s": timeout_s, "memory_bytes": memory_bytes, "output_bytes": output_bytes},
    )


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a run that is played is over as soon as it has written "late", and its `timeout_s` only then."""
    write, passed_s = FakeLog.write, 0.0

    def write_and_pass(log: FakeLog, level: LogLevel, text: str) -> None:
        nonlocal passed_s
        write(log, level, text)
        if text == "late":
            passed_s = 1e6

    monkeypatch.setattr(FakeLog, "write", write_and_pass)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed_s)
    monkeypatch.setattr("scenarios.bindings.context.time", clock)


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Plays a script to its end: ``play(script, bench=..., files=..., timeout_s=...)``."""

    def play_script(
        script: str,
        *,
        bench: FakeBench | None = None,
        further: Sequence[FakeBench] = (),
        stop: Stop | None = None,
        revocation: Revocation | None = None,
        **how: Any,
    ) -> Played:
        used = bench or FakeBench()
        benches = [used, *further]
        run, log, end = assignment(script, **how), FakeLog(), stop or Stop()
        for number in range(2, len(benches) + 1):
            run["benches"].append({**run["benches"][0], "name": f"b{number}", "labels": {"platform": "mqb"}})
        record = Record(run["name"], [one["name"] for one in run["benches"]])
        context = Context(
            run,
            record,
            log,
            end,
            deadline=time.monotonic() + run["limits"]["timeout_s"],
            open_bench=lambda number: cast(BenchClient, benches[number]),
            files=DataFiles(run["data_files"], lambda name: how["data_files"][name], tmp_path / "data-files"),
            revocation=revocation or Revocation(end),
        )
        sandbox = Sandbox(Bindings(context).functions(), memory_bytes=run["limits"]["memory_bytes"], stop=end)
        sandbox.run()
        assert sandbox.internal_error == ""
        return Played(record.result(0, 0), log.lines, used, sandbox)

    return play_script
