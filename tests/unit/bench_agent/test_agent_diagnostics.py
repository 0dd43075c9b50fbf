"""Services, functional requests and secrets through the agent, with ECUs that are scripted on the same bus."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import can
import pytest

from bench_agent.client import (
    BenchClient,
    BenchError,
    InvalidRequest,
    NegativeResponse,
    UdsInvalid,
    UdsTimeout,
    UdsUnexpected,
)
from tests.unit.bench_agent.harness import AgentFile, bench_entry

SCRIPTED = """
name: {name}
addressing: {{request_id: 0x{request:X}, response_id: 0x{response:X}, functional_id: 0x7DF}}
timing: {{p2_ms: 50, p2_star_ms: 400, s3_ms: 500, s3_client_ms: 200, transit_ms: 200}}
dids:
  VIN: {{did: 0xF190, type: ascii, length: 3}}
  Fast: {{did: 0xF201, type: uint, length: 1, scale: 0.1, unit: V}}
routines: {{Check: {{id: 0x0203, start: {{options: [{{name: depth, type: uint, length: 1}}],
  status: [{{name: result, type: uint, length: 1}}]}}, results: {{}}}}}}
security: {{1: {{algorithm: xor, key: 5EC2E700}}}}
"""


class ScriptedBus:
    """ECUs that answer single frames by a table: request (whatever its address) to frames per response ID."""

    def __init__(self, channel: str) -> None:
        self.answers: dict[tuple[int, str], list[str]] = {}
        self.requests: list[tuple[int, str]] = []
        self._bus = can.Bus(interface="virtual", channel=channel)
        self._notifier = can.Notifier(self._bus, [self._hear], timeout=0.05)

    def say(self, response_id: int, pdu: str) -> None:
        data = bytes.fromhex(pdu)
        self._bus.send(can.Message(arbitration_id=response_id, data=bytes((len(data),)) + data, is_extended_id=False))

    def close(self) -> None:
        self._notifier.stop()
        self._bus.shutdown()

    def _hear(self, message: can.Message) -> None:
        if message.arbitration_id not in (0x7DF, 0x700, 0x701, 0x702):
            return
        request = bytes(message.data[1 : 1 + message.data[0]]).hex(" ").upper()
        self.requests.append((message.arbitration_id, request))
        listeners = (0x700, 0x701, 0x702) if message.arbitration_id == 0x7DF else (message.arbitration_id,)
        for listener in listeners:
            for answer in self.answers.get((listener, request), []):
                self.say(listener + 0x80, answer)


@pytest.fixture
def agent_file(tmp_path: Path) -> AgentFile:
    for index in range(3):
        text = SCRIPTED.format(name=f"ECU{index}", request=0x700 + index, response=0x780 + index)
        (tmp_path / f"ecu{index}.yaml").write_text(text)
    entry = bench_entry("bench-1")
    bus = entry["can"][0]["name"]
    entry["ecus"] = [{"file": f"ecu{index}.yaml", "bus": bus} for index in range(3)]
    return AgentFile(tmp_path, [entry])


@pytest.fixture
def bus(agent_file: AgentFile, bench: BenchClient) -> Iterator[ScriptedBus]:
    found = ScriptedBus(agent_file.channel())
    yield found
    found.close()


def test_a_functional_request_collects_every_answer(bench: BenchClient, bus: ScriptedBus) -> None:
    bus.answers = {
        (0x700, "22 F1 90"): ["62 F1 90 41 42 43"],
        (0x701, "22 F1 90"): ["7F 22 78", "7F 22 22"],
    }
    answers = bench.functional("read", did="VIN")
    assert bus.requests == [(0x7DF, "22 F1 90")]
    assert list(answers) == ["ECU0", "ECU1", "ECU2"]
    assert answers["ECU0"].result == "ABC"
    assert answers["ECU0"].exchange is not None
    assert answers["ECU0"].exchange.response == b"\x62\xf1\x90ABC"
    assert answers["ECU1"].negative is not None
    assert answers["ECU1"].negative.nrc_name == "conditionsNotCorrect"
    assert (answers["ECU2"].exchange, answers["ECU2"].result, answers["ECU2"].error) == (None, None, None)
    raw = bench.functional(bytes.fromhex("22F190"))
    assert raw["ECU0"].result == b"\x62\xf1\x90ABC"


def test_functional_requests_that_cannot_be(bench: BenchClient) -> None:
    with pytest.raises(UdsInvalid, match="did you mean VIN"):
        bench.functional("read", did="VINN")
    with pytest.raises(UdsInvalid, match="takes no arguments, not did"):
        bench.functional(b"\x22", did=1)
    with pytest.raises(InvalidRequest, match="neither a service nor a request PDU"):
        bench.functional(b"")
    with pytest.raises(Exception, match="has no bus 'x'"):
        bench.functional(b"\x3e\x00", bus="x")


def test_events_and_periodic_values_come_to_the_client(bench: BenchClient, bus: ScriptedBus) -> None:
    bus.answers = {(0x700, "2A 03 01"): ["6A", "6A 01 7D"], (0x700, "22 F1 90"): ["62 F2 01 7E", "62 F1 90 41 42 43"]}
    ecu = bench.ecu("ECU0")
    ecu.call("read_periodic", dids=["Fast"], rate="fast")
    assert ecu.read("VIN") == "ABC"
    (value,) = ecu.collect_periodic()
    assert (value["name"], value["value"], value["unit"]) == ("Fast", 12.5, "V")
    (event,) = ecu.events()
    assert (event["service_name"], event["name"], event["value"]) == ("ReadDataByIdentifier", "Fast", 12.6)
    assert ecu.events(wait_s=0) == []


def test_waiting_for_events_keeps_nobody_from_asking(bench: BenchClient, bus: ScriptedBus) -> None:
    bus.answers = {(0x700, "22 F1 90"): ["62 F1 90 41 42 43"]}
    ecu, found = bench.ecu("ECU0"), list[dict[str, Any]]()
    assert ecu.read("VIN") == "ABC"
    waiting = threading.Thread(target=lambda: found.extend(ecu.events(wait_s=20)))
    waiting.start()
    assert bench.ecu("ECU0").read("VIN") == "ABC"
    bus.say(0x780, "59 01 FF 01 00 03")
    waiting.join(20)
    assert found[0]["service_name"] == "ReadDTCInformation"


def test_routines_and_structures_by_name(bench: BenchClient, bus: ScriptedBus) -> None:
    bus.answers = {(0x700, "31 01 02 03 07"): ["71 01 02 03 01"], (0x700, "31 03 02 03"): ["71 03 02 03"]}
    check = bench.ecu("ECU0").routine("Check")
    assert check.start(depth=7) == {"routine": "Check", "action": "start", "raw": b"\x01", "status": {"result": 1}}
    assert check.results() == {"routine": "Check", "action": "results", "raw": b""}
    with pytest.raises(UdsInvalid, match="has no stop"):
        check.stop()


@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        ([], UdsTimeout, "no response within P2 of 250 ms"),
        (["7F"], UdsUnexpected, "is 7f"),
        (["62 F1"], UdsUnexpected, "response to data identifier"),
        (["7F 22 31"], NegativeResponse, "requestOutOfRange"),
        (["67 01 AA", "50 03", "62 F1 91 00"], UdsTimeout, "no response within P2"),
    ],
)
def test_an_ecu_that_answers_nothing_garbage_or_something_else(
    bench: BenchClient, bus: ScriptedBus, answers: list[str], error: type[Exception], message: str
) -> None:
    bus.answers = {(0x700, "22 F1 90"): answers}
    with pytest.raises(error, match=message):
        bench.ecu("ECU0").read("VIN")


def test_0x78_for_ever_ends_with_the_callers_time(bench: BenchClient, bus: ScriptedBus) -> None:
    ended = threading.Event()

    def pend() -> None:
        while not ended.wait(0.05):
            bus.say(0x780, "7F 22 78")

    pending = threading.Thread(target=pend)
    pending.start()
    before = time.monotonic()
    try:
        with pytest.raises(UdsTimeout, match=r"x 0x78 \(response pending\), then no final response within 1 s"):
            bench.ecu("ECU0").read("VIN", timeout_s=1)
    finally:
        ended.set()
        pending.join()
    assert 0.9 < time.monotonic() - before < 10


def test_keys_stay_out_of_replies_and_errors(bench: BenchClient, bus: ScriptedBus) -> None:
    bus.answers = {(0x700, "27 01"): ["67 01 01 02"], (0x700, "27 02 5E C2 E7"): ["67 02"]}
    ecu = bench.ecu("ECU0")
    assert ecu.unlock(1, lambda seed: bytes.fromhex("5EC2E7") if seed == b"\x01\x02" else b"") is True
    assert ecu.last is not None
    assert (ecu.last.request, ecu.last.hidden) == (b"\x27\x02", 3)
    with pytest.raises(UdsTimeout, match=r"SecurityAccess \(27 02 \.\.\.\)"):
        ecu.raw(bytes.fromhex("2702C0FFEE"), timeout_s=5)


def test_an_unknown_service_names_the_nearest(bench: BenchClient) -> None:
    with pytest.raises(UdsInvalid, match="did you mean read_dtcs"):
        bench.ecu("ECU0").call("raed_dtcs")


@pytest.mark.parametrize("answer", [["67 02"], ["7F 27 35"], ["7F 27"], []])
def test_neither_key_nor_secret_leaves_the_agent(
    bench: BenchClient, bus: ScriptedBus, capfd: pytest.CaptureFixture[str], answer: list[str]
) -> None:
    """Whatever becomes of the key that it computes and sends: not in replies, errors or its log."""
    bus.answers = {(0x700, "27 01"): ["67 01 01 02 03 04"], (0x700, "27 02 5F C0 E4 04"): answer}
    ecu, said = bench.ecu("ECU0"), ""
    try:
        ecu.unlock(1)
    except BenchError as error:
        said = str(error)
    assert bus.requests[-1] == (0x700, "27 02 5F C0 E4 04")
    assert ecu.last is not None
    assert ecu.last.request == b"\x27\x02"
    bench.close()
    out, err = capfd.readouterr()
    everything = f"{said}{ecu.last}{out}{err}".upper().replace(" ", "")
    for secret in ("5EC2E7", "5FC0E4", "X5EXC2", "X5FXC0"):
        assert secret not in everything
