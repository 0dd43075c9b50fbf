"""Every service by name against a peer that answers in bytes: arguments, request, response, result (ISO 14229-1)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ecu_adapters.bus import BusHub
from ecu_adapters.description import EcuDescription, load_ecu
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint
from ecu_adapters.uds import services
from ecu_adapters.uds.services import SERVICES, Plain, UdsInvalid
from ecu_adapters.uds.tester import UdsTester, UdsUnexpected

pytestmark = pytest.mark.anyio

Hubs = tuple[BusHub, BusHub]
Write = Callable[[str], Path]
WAIT_S = 30.0
QUICK_S = 0.3

ECU = """\
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8, functional_id: 0x7DF}
timing: {p2_ms: 50, p2_star_ms: 500, transit_ms: 2000}
memory: {address_bytes: 4, size_bytes: 2}
dids:
  VIN: {did: 0xF190, type: ascii, length: 3}
  Speed: {did: 0x0100, type: uint, length: 2, scale: 0.25, unit: rpm}
  Valve: {did: 0x0101, type: uint, length: 1, unit: "%", control: {}}
  State:
    did: 0x0102
    type: struct
    fields:
      - {name: Mode, type: bits, length: 4, choices: {1: Run}}
      - {type: reserved, length: 4}
      - {name: Load, type: uint, length: 1, unit: "%"}
  Fast: {did: 0xF201, type: uint, length: 1, unit: V, scale: 0.1}
dtcs: [{code: P0301, text: cylinder 1 misfires}]
extended_data: {0x01: [{name: Occurrences, type: uint, length: 1, unit: times}]}
routines:
  EraseMemory:
    id: 0xFF00
    start:
      options: [{name: address, type: uint, length: 4}, {name: size, type: uint, length: 2}]
      status: [{name: result, type: uint, length: 1, choices: {0: done}}]
  SelfTest: {id: 0x0203, stop: {}, results: {status: [{name: passed, type: uint, length: 1}]}}
"""

P0301: dict[str, Plain] = {"code": "P0301", "dtc": 0x030100, "text": "cylinder 1 misfires"}
U0100: dict[str, Plain] = {"code": "U0100", "dtc": 0xC10000, "text": ""}


def _status(byte: int) -> dict[str, Plain]:
    names = (
        "test_failed", "test_failed_this_cycle", "pending", "confirmed", "not_completed_since_clear",
        "failed_since_clear", "not_completed_this_cycle", "warning_indicator",
    )  # fmt: skip
    return {"status": byte, **{name: bool(byte >> bit & 1) for bit, name in enumerate(names)}}


ROWS: list[tuple[str, dict[str, Plain], str, str, Plain]] = [
    ("session", {"session": "extended"}, "10 03", "50 03 00 32 01 F4",
     {"session": "extended", "p2_ms": 50, "p2_star_ms": 5000}),
    ("session", {"session": 2}, "10 02", "50 02", {"session": "programming"}),
    ("reset", {}, "11 01", "51 01", None),
    ("reset", {"kind": "enable_rapid_shutdown"}, "11 04", "51 04 0A", {"power_down_s": 10}),
    ("clear_dtcs", {}, "14 FF FF FF", "54", None),
    ("clear_dtcs", {"group": "P0301", "memory": 5}, "14 03 01 00 05", "54", None),
    ("read_dtcs", {"mask": 8}, "19 02 08", "59 02 FF 03 01 00 09 C1 00 00 08",
     [P0301 | _status(9), U0100 | _status(8)]),
    ("read_dtcs", {"memory": 0x18}, "19 17 FF 18", "59 17 18 FF 03 01 00 09", [P0301 | _status(9)]),
    ("read_dtcs", {"memory": "mirror"}, "19 0F FF", "59 0F FF", []),
    ("read_dtcs", {"memory": "emissions"}, "19 13 FF", "59 13 FF", []),
    ("count_dtcs", {"mask": 8}, "19 01 08", "59 01 FF 01 00 02", 2),
    ("count_dtcs", {"severity": "check_immediately"}, "19 07 80 FF", "59 07 FF 01 01 02", 258),
    ("count_dtcs", {"memory": "mirror"}, "19 11 FF", "59 11 FF 01 00 00", 0),
    ("count_dtcs", {"memory": "emissions"}, "19 12 FF", "59 12 FF 01 00 01", 1),
    ("supported_dtcs", {}, "19 0A", "59 0A FF 03 01 00 00", [P0301 | _status(0)]),
    ("permanent_dtcs", {}, "19 15", "59 15 FF 03 01 00 08", [P0301 | _status(8)]),
    ("find_dtc", {"which": "first_failed"}, "19 0B", "59 0B FF 03 01 00 01", P0301 | _status(1)),
    ("find_dtc", {"which": "first_confirmed"}, "19 0C", "59 0C FF", None),
    ("find_dtc", {"which": "latest_failed"}, "19 0D", "59 0D FF", None),
    ("find_dtc", {"which": "latest_confirmed"}, "19 0E", "59 0E FF 03 01 00 08", P0301 | _status(8)),
    ("dtcs_by_severity", {"severity": "check_at_next_halt", "mask": 1}, "19 08 40 01",
     "59 08 FF 40 10 03 01 00 01",
     [P0301 | _status(1) | {"severity": "check_at_next_halt", "severity_byte": 0x40, "functional_unit": 0x10}]),
    ("dtc_severity", {"dtc": "P0301"}, "19 09 03 01 00", "59 09 FF 80 10 03 01 00 01",
     P0301 | _status(1) | {"severity": "check_immediately", "severity_byte": 0x80, "functional_unit": 0x10}),
    ("dtc_fault_counters", {}, "19 14", "59 14 03 01 00 7F C1 00 00 FE",
     [P0301 | {"counter": 127}, U0100 | {"counter": -2}]),
    ("wwh_obd_dtcs", {"mask": 8, "severity": 0x1E}, "19 42 33 08 1E", "59 42 33 FF FF 04 02 03 01 00 08",
     [P0301 | _status(8) | {"severity": "none", "severity_byte": 2}]),
    ("wwh_obd_permanent_dtcs", {}, "19 55 33", "59 55 33 FF 04 02 03 01 00 08",
     [P0301 | _status(8) | {"severity": "none", "severity_byte": 2}]),
    ("dtc_snapshots", {}, "19 03", "59 03 03 01 00 01 03 01 00 02", [P0301 | {"record": 1}, P0301 | {"record": 2}]),
    ("dtc_snapshot", {"dtc": "P0301", "record": 1}, "19 04 03 01 00 01",
     "59 04 03 01 00 09 01 02 01 00 0C 80 01 02 10 2A",
     P0301 | _status(9) | {"snapshots": [
         {"record": 1, "data": {"Speed": 800, "State": {"Mode": "Run", "Load": 42}},
          "units": {"Speed": "rpm", "State": {"Load": "%"}}}]}),
    ("dtc_snapshot", {"dtc": 0x030100}, "19 04 03 01 00 FF", "59 04 03 01 00 09 01 02 01 00 0C 80 99 99 2A",
     P0301 | _status(9) | {"snapshots": [
         {"record": 1, "data": {"Speed": 800}, "units": {"Speed": "rpm"}, "undecoded": b"\x99\x99\x2a"}]}),
    ("dtc_snapshot", {"dtc": "P0301", "memory": 0x18}, "19 18 03 01 00 FF 18", "59 18 18 03 01 00 09",
     P0301 | _status(9) | {"snapshots": []}),
    ("snapshot_record", {"record": 1}, "19 05 01", "59 05 01 03 01 00 09 01 01 00 0C 80",
     [P0301 | _status(9) | {"record": 1, "data": {"Speed": 800}, "units": {"Speed": "rpm"}}]),
    ("snapshot_record", {"record": 2}, "19 05 02", "59 05 02", []),
    ("dtc_extended_data", {"dtc": "P0301", "record": 1}, "19 06 03 01 00 01", "59 06 03 01 00 09 01 07",
     P0301 | _status(9) | {"records": [
         {"record": 1, "raw": b"\x07", "data": {"Occurrences": 7}, "units": {"Occurrences": "times"}}]}),
    ("dtc_extended_data", {"dtc": "P0301", "memory": 0x18}, "19 19 03 01 00 FF 18",
     "59 19 18 03 01 00 09 01 07 80 AA BB",
     P0301 | _status(9) | {"records": [
         {"record": 1, "raw": b"\x07", "data": {"Occurrences": 7}, "units": {"Occurrences": "times"}},
         {"record": 0x80, "raw": b"\xaa\xbb"}]}),
    ("dtc_extended_data", {"dtc": "P0301", "memory": "mirror"}, "19 10 03 01 00 FF", "59 10 03 01 00 09",
     P0301 | _status(9) | {"records": []}),
    ("extended_data_record", {"record": 1}, "19 16 01", "59 16 01 03 01 00 09 07 C1 00 00 08 01",
     [P0301 | _status(9) | {"record": 1, "raw": b"\x07", "data": {"Occurrences": 7}, "units": {"Occurrences": "times"}},
      U0100 | _status(8) | {"record": 1, "raw": b"\x01", "data": {"Occurrences": 1},
                            "units": {"Occurrences": "times"}}]),
    ("read", {"did": "VIN"}, "22 F1 90", "62 F1 90 41 42 43", "ABC"),
    ("read", {"did": "Speed", "details": True}, "22 01 00", "62 01 00 0C 82",
     {"name": "Speed", "did": 0x0100, "value": 800.5, "unit": "rpm", "raw": b"\x0c\x82"}),
    ("read", {"did": "State"}, "22 01 02", "62 01 02 1F 05", {"Mode": "Run", "Load": 5}),
    ("read", {"did": ["Speed", "Valve"]}, "22 01 00 01 01", "62 01 01 09 01 00 00 04", {"Valve": 9, "Speed": 1}),
    ("read", {"did": 0x9999}, "22 99 99", "62 99 99 00", b"\x00"),
    ("read_memory", {"address": 0x20001000, "size": 3}, "23 24 20 00 10 00 00 03", "63 01 02 03", b"\x01\x02\x03"),
    ("read_memory", {"address": 0x1000, "size": 1, "address_bytes": 2, "size_bytes": 1}, "23 12 10 00 01", "63 FF",
     b"\xff"),
    ("read_scaling", {"did": "VIN"}, "24 F1 90", "64 F1 90 6F 62",
     {"name": "VIN", "did": 0xF190, "scaling": [{"type": "ascii", "bytes": 15}, {"type": "ascii", "bytes": 2}]}),
    # The standard's example: 0.75 * x + 30 km/h.
    ("read_scaling", {"did": 0x0105}, "24 01 05", "64 01 05 01 95 00 E0 4B 00 1E A0 30",
     {"name": "0x0105", "did": 0x0105, "scaling": [
         {"type": "unsigned", "bytes": 1}, {"type": "formula", "formula": "c0 * x + c1", "constants": [0.75, 30.0]},
         {"type": "unit", "unit": "km/h"}]}),
    ("read_scaling", {"did": 0x0967}, "24 09 67", "64 09 67 22 03 43",
     {"name": "0x0967", "did": 0x0967, "scaling": [
         {"type": "bits_without_mask", "mask": b"\x03\x43", "bytes": 2}]}),
    ("seed", {"level": 1}, "27 01", "67 01 36 57", b"\x36\x57"),
    ("seed", {"level": 3, "data": "AA"}, "27 03 AA", "67 03 36 57", b"\x36\x57"),
    ("key", {"level": 1, "key": "C9 A9"}, "27 02 C9 A9", "67 02", None),
    ("communication_control", {"control": "disable"}, "28 03 01", "68 03", None),
    ("communication_control", {"control": "enable_rx_disable_tx", "messages": "all", "subnet": 15}, "28 01 F3", "68 01",
     None),
    ("communication_control", {"control": "enable_of_node", "node": 10}, "28 05 01 00 0A", "68 05", None),
    ("authenticate", {"task": "deauthenticate"}, "29 00", "69 00 10",
     {"task": "deauthenticate", "result": "deauthentication_successful"}),
    ("authenticate", {"task": "configuration"}, "29 08", "69 08 02",
     {"task": "configuration", "result": "configuration_apce"}),
    ("authenticate", {"task": "verify_certificate_unidirectional", "certificate": "0102"},
     "29 01 00 00 02 01 02 00 00", "69 01 11 00 02 AA BB 00 00",
     {"task": "verify_certificate_unidirectional", "result": "certificate_verified_ownership_verification_necessary",
      "challenge": b"\xaa\xbb", "public_key": b""}),
    ("authenticate", {"task": "verify_certificate_bidirectional", "certificate": "01", "challenge": "02",
                      "configuration": 1},
     "29 02 01 00 01 01 00 01 02", "69 02 11 00 01 AA 00 01 BB 00 01 CC 00 00",
     {"task": "verify_certificate_bidirectional", "result": "certificate_verified_ownership_verification_necessary",
      "challenge": b"\xaa", "certificate": b"\xbb", "proof": b"\xcc", "public_key": b""}),
    ("authenticate", {"task": "proof_of_ownership", "proof": "0304"}, "29 03 00 02 03 04 00 00", "69 03 12 00 00",
     {"task": "proof_of_ownership", "result": "ownership_verified_authentication_complete", "session_key": b""}),
    ("authenticate", {"task": "transmit_certificate", "evaluation": 0x1234, "certificate": "01"},
     "29 04 12 34 00 01 01", "69 04 13", {"task": "transmit_certificate", "result": "certificate_verified"}),
    ("authenticate", {"task": "request_challenge", "algorithm": "06 09"}, "29 05 00 06 09" + " 00" * 14,
     "69 05 00 06 09" + " 00" * 14 + " 00 01 AA 00 00",
     {"task": "request_challenge", "result": "request_accepted", "challenge": b"\xaa",
      "algorithm": b"\x06\x09" + bytes(14), "parameter": b""}),
    ("authenticate", {"task": "verify_proof_unidirectional", "proof": "BB", "algorithm": "06 09"},
     "29 06 06 09" + " 00" * 14 + " 00 01 BB 00 00 00 00", "69 06 12 06 09" + " 00" * 14 + " 00 00",
     {"task": "verify_proof_unidirectional", "result": "ownership_verified_authentication_complete",
      "algorithm": b"\x06\x09" + bytes(14), "session_key": b""}),
    ("authenticate", {"task": "verify_proof_bidirectional", "proof": "BB", "challenge": "CC", "algorithm": "06 09"},
     "29 07 06 09" + " 00" * 14 + " 00 01 BB 00 01 CC 00 00", "69 07 12 06 09" + " 00" * 14 + " 00 01 DD 00 00",
     {"task": "verify_proof_bidirectional", "result": "ownership_verified_authentication_complete",
      "algorithm": b"\x06\x09" + bytes(14), "proof": b"\xdd", "session_key": b""}),
    ("read_periodic", {"dids": ["Fast", 0xF202], "rate": "fast"}, "2A 03 01 02", "6A", None),
    ("read_periodic", {"dids": 0x01, "rate": 1}, "2A 01 01", "6A", None),
    ("stop_periodic", {}, "2A 04", "6A", None),
    ("stop_periodic", {"dids": "Fast"}, "2A 04 01", "6A", None),
    ("define_did", {"did": 0xF301, "sources": ["Speed", {"did": 0x1234, "position": 2, "size": 3}]},
     "2C 01 F3 01 01 00 01 02 12 34 02 03", "6C 01 F3 01", None),
    ("define_did", {"did": 0xF302, "memory": [{"address": 0x20001000, "size": 4}]},
     "2C 02 F3 02 24 20 00 10 00 00 04", "6C 02 F3 02", None),
    ("clear_dynamic_did", {"did": 0xF301}, "2C 03 F3 01", "6C 03 F3 01", None),
    ("clear_dynamic_did", {}, "2C 03", "6C 03", None),
    ("write", {"did": "Speed", "value": 800.5}, "2E 01 00 0C 82", "6E 01 00", None),
    ("write", {"did": "State", "value": {"Mode": "Run", "Load": 5}}, "2E 01 02 10 05", "6E 01 02", None),
    ("write", {"did": 0x9999, "value": "AABB"}, "2E 99 99 AA BB", "6E 99 99", None),
    ("io_control", {"did": "Valve", "action": "adjust", "value": 60}, "2F 01 01 03 3C", "6F 01 01 03 0C",
     {"action": "adjust", "value": 12, "unit": "%"}),
    ("io_control", {"did": "Valve", "action": "return"}, "2F 01 01 00", "6F 01 01 00", {"action": "return"}),
    ("io_control", {"did": 0x9999, "action": "freeze", "mask": "80"}, "2F 99 99 02 80", "6F 99 99 02", {
        "action": "freeze"}),
    ("routine", {"routine": "EraseMemory", "options": {"address": 0x8000, "size": 256}},
     "31 01 FF 00 00 00 80 00 01 00", "71 01 FF 00 00",
     {"routine": "EraseMemory", "action": "start", "raw": b"\x00", "status": {"result": "done"}}),
    ("routine", {"routine": "SelfTest"}, "31 01 02 03", "71 01 02 03",
     {"routine": "SelfTest", "action": "start", "raw": b""}),
    ("routine", {"routine": 0x0203, "action": "results"}, "31 03 02 03", "71 03 02 03 01",
     {"routine": "SelfTest", "action": "results", "raw": b"\x01", "status": {"passed": 1}}),
    ("routine", {"routine": 0x0999, "action": "stop", "options": "01"}, "31 02 09 99 01", "71 02 09 99 AB",
     {"routine": "0x0999", "action": "stop", "raw": b"\xab"}),
    ("request_download", {"address": 0x8000, "size": 256}, "34 00 24 00 00 80 00 01 00", "74 20 04 02",
     {"max_block": 0x402}),
    ("request_upload", {"address": 0x8000, "size": 256, "compression": 1, "encryption": 2},
     "35 12 24 00 00 80 00 01 00", "75 10 82", {"max_block": 0x82}),
    ("transfer_data", {"counter": 1, "data": "0102"}, "36 01 01 02", "76 01", b""),
    ("transfer_data", {"counter": 2}, "36 02", "76 02 AA BB", b"\xaa\xbb"),
    ("transfer_exit", {"record": "AA"}, "37 AA", "77 BB", b"\xbb"),
    ("request_file_transfer", {"mode": "add", "path": "/a", "size": 512}, "38 01 00 02 2F 61 00 02 02 00 02 00",
     "78 01 02 04 02 00", {"mode": "add", "max_block": 0x402}),
    ("request_file_transfer", {"mode": "read", "path": "/a"}, "38 04 00 02 2F 61 00",
     "78 04 02 04 02 00 00 02 02 00 01 00", {"mode": "read", "max_block": 0x402, "size": 512, "compressed_size": 256}),
    ("request_file_transfer", {"mode": "delete", "path": "/a"}, "38 02 00 02 2F 61", "78 02", {"mode": "delete"}),
    ("request_file_transfer", {"mode": "read_directory", "path": "/"}, "38 05 00 01 2F", "78 05 01 80 00 00 01 40",
     {"mode": "read_directory", "max_block": 0x80, "directory_size": 64}),
    ("request_file_transfer", {"mode": "resume", "path": "/a", "size": 512}, "38 06 00 02 2F 61 00 02 02 00 02 00",
     "78 06 01 80 00 00 00 00 00 00 00 01 00", {"mode": "resume", "max_block": 0x80, "position": 256}),
    ("write_memory", {"address": 0x20001000, "data": "0102"}, "3D 24 20 00 10 00 00 02 01 02",
     "7D 24 20 00 10 00 00 02", None),
    ("tester_present", {}, "3E 00", "7E 00", None),
    ("access_timing", {"action": "read"}, "83 03", "C3 03 00 32 01 F4", b"\x00\x32\x01\xf4"),
    ("access_timing", {"action": "set", "record": "00320064"}, "83 04 00 32 00 64", "C3 04", b""),
    ("control_dtc_setting", {"setting": "off"}, "85 02", "C5 02", None),
    ("control_dtc_setting", {"setting": "on", "record": "FFFFFF"}, "85 01 FF FF FF", "C5 01", None),
    ("response_on_event", {"event": "did_change", "did": "Speed", "respond": "220100"}, "86 03 02 01 00 22 01 00",
     "C6 03 00 02 01 00 22 01 00",
     {"event": "did_change", "events": 0, "window": 2, "raw": b"\x00\x02\x01\x00\x22\x01\x00"}),
    ("response_on_event", {"event": "dtc_status_change", "mask": 1, "respond": "19 01 01", "store": True},
     "86 41 02 01 19 01 01", "C6 41 00 02 01 19 01 01",
     {"event": "dtc_status_change", "events": 0, "window": 2, "raw": b"\x00\x02\x01\x19\x01\x01"}),
    ("response_on_event", {"event": "start", "window": 8}, "86 05 08", "C6 05 00 08",
     {"event": "start", "events": 0, "window": 8, "raw": b"\x00\x08"}),
    ("response_on_event", {"event": "report"}, "86 04 02", "C6 04 00",
     {"event": "report", "events": 0, "raw": b"\x00"}),
    ("link_control", {"action": "verify_fixed", "bitrate": 500_000}, "87 01 12", "C7 01", None),
    ("link_control", {"action": "verify_specific", "bitrate": 150_000}, "87 02 02 49 F0", "C7 02", None),
    ("link_control", {"action": "transition"}, "87 03", "C7 03", None),
]  # fmt: skip


class Peer:
    """Answers every request with the same PDUs, and can speak unasked."""

    def __init__(self, hub: BusHub, ecu: EcuDescription) -> None:
        self.answers: list[str] = []
        self.requests: list[str] = []
        self._endpoint = IsoTpEndpoint(hub, IsoTpAddress.ecu(ecu.addressing), ecu.isotp, self._hear)

    def say(self, pdu: str) -> None:
        self._endpoint.post(bytes.fromhex(pdu))

    def close(self) -> None:
        self._endpoint.close()

    def _hear(self, pdu: bytes, _functional: bool) -> None:
        self.requests.append(pdu.hex(" ").upper())
        for answer in self.answers:
            self.say(answer)


@pytest.fixture
def described(write: Write) -> EcuDescription:
    return load_ecu(write(ECU))


@asynccontextmanager
async def _pair(hubs: Hubs, ecu: EcuDescription, *answers: str) -> AsyncIterator[tuple[UdsTester, Peer]]:
    peer, tester = Peer(hubs[1], ecu), UdsTester(hubs[0], ecu)
    peer.answers = list(answers)
    try:
        yield tester, peer
    finally:
        tester.session = 1
        await tester.close()
        peer.close()


@pytest.mark.parametrize(
    ("service", "arguments", "request_", "response", "result"), ROWS, ids=[f"{row[0]}-{row[2][:5]}" for row in ROWS]
)
async def test_a_service_and_its_bytes(
    hubs: Hubs,
    described: EcuDescription,
    service: str,
    arguments: dict[str, Plain],
    request_: str,
    response: str,
    result: Plain,
) -> None:
    async with _pair(hubs, described, response) as (tester, peer):
        outcome = await services.call(tester, service, arguments, timeout_s=WAIT_S)
        assert peer.requests == [request_]
        assert outcome.result == result


def test_every_service_is_in_the_table() -> None:
    elsewhere = {"unlock", "collect_periodic", "events", "dropped"}
    assert {row[0] for row in ROWS} == set(SERVICES) - elsewhere


@pytest.mark.parametrize(
    ("service", "arguments", "message"),
    [
        ("find_dtc", {"which": "frist_failed"}, "did you mean first_failed"),
        ("count_dtcs", {"memory": "miror"}, "did you mean mirror"),
        ("dtc_snapshot", {"dtc": "X1"}, "dtc: 'X1' is no trouble code"),
        ("read_memory", {"address": 1 << 32, "size": 1}, "address is 4294967296; it must be .* to 0xFFFFFFFF"),
        ("read_memory", {"address": 0, "size": 0}, "size is 0; it must be an integer from 1"),
        ("communication_control", {"control": "disable", "node": 1}, "node goes with"),
        ("communication_control", {"control": "disabel"}, "did you mean disable"),
        ("authenticate", {"task": "deauthenticate", "proof": "01"}, "does not take proof; it takes no arguments"),
        ("authenticate", {"task": "proof_of_ownership", "proof": "0x1"}, "proof must be bytes or hexadecimal"),
        ("read_periodic", {"dids": "VIN"}, "VIN is 0xF190; periodic identifiers are 0xF200 .. 0xF2FF"),
        ("define_did", {"did": 0xF301}, "give either sources"),
        ("define_did", {"did": 0xF301, "sources": [{"did": 1}]}, r"sources\[0\].size is missing"),
        ("write", {"did": "State", "value": {"Mode": "Rum", "Load": 1}}, "value of State: Mode: 'Rum' is no number"),
        ("io_control", {"did": "Valve", "action": "freeze", "value": 1}, "value goes with the action adjust"),
        ("routine", {"routine": "EraseMemroy"}, "did you mean EraseMemory"),
        ("routine", {"routine": "EraseMemory", "action": "stop"}, "has no stop; its description has start"),
        ("routine", {"routine": "EraseMemory", "options": {"address": 1}}, "the field size is missing"),
        ("request_file_transfer", {"mode": "add", "path": "/a"}, "size .bytes. goes with the modes add"),
        ("access_timing", {"action": "set"}, "record goes with the action set"),
        ("response_on_event", {"event": "did_change", "respond": "22"}, "record of did_change has 0 bytes"),
        ("response_on_event", {"event": "stop", "respond": "22"}, "stop takes neither"),
        ("link_control", {"action": "verify_fixed", "bitrate": 1234}, "fixed ones are 9600"),
        ("key", {"level": 1, "key": "5ec2e7"[:5]}, "key must be bytes or hexadecimal text of whole bytes$"),
    ],
)
async def test_arguments_that_cannot_be_say_what_would_be_right(
    hubs: Hubs, described: EcuDescription, service: str, arguments: dict[str, Plain], message: str
) -> None:
    async with _pair(hubs, described) as (tester, peer):
        with pytest.raises(UdsInvalid, match=message):
            await services.call(tester, service, arguments, timeout_s=WAIT_S)
        assert peer.requests == []


@pytest.mark.parametrize(
    ("service", "arguments", "response"),
    [
        ("read", {"did": "Speed"}, "62 01 00 0C"),
        ("read_memory", {"address": 0, "size": 2}, "63 01"),
        ("read_scaling", {"did": "VIN"}, "64 F1 90 95 00"),
        ("dtc_snapshot", {"dtc": "P0301"}, "59 04 03 01 00 09 01"),
        ("dtc_snapshot", {"dtc": "P0301"}, "59 04 03 01 00 09 01 02 01 00 0C"),
        ("dtc_extended_data", {"dtc": "P0301"}, "59 06 03 01"),
        ("dtc_snapshots", {}, "59 03 01"),
        ("read_dtcs", {}, "59 02 FF 03 01"),
        ("routine", {"routine": "SelfTest", "action": "results"}, "71 03 02 03 01 02"),
        ("io_control", {"did": "Valve", "action": "return"}, "6F 01 01 00 01 02"),
        ("authenticate", {"task": "proof_of_ownership"}, "69 03 12 00 05 01"),
        ("request_download", {"address": 0, "size": 1}, "74 90 01"),
        ("session", {"session": 3}, "50"),
        ("response_on_event", {"event": "start"}, "C6 05"),
        ("tester_present", {}, "7F 3E"),
    ],
)
async def test_responses_that_break_off_or_do_not_add_up_are_reported(
    hubs: Hubs, described: EcuDescription, service: str, arguments: dict[str, Plain], response: str
) -> None:
    async with _pair(hubs, described, response) as (tester, _):
        with pytest.raises(UdsUnexpected):
            await services.call(tester, service, arguments, timeout_s=WAIT_S)


async def test_periodic_values_are_collected_and_never_taken_for_replies(hubs: Hubs, described: EcuDescription) -> None:
    async with _pair(hubs, described, "6A 01 7D", "6A") as (tester, peer):
        await services.call(tester, "read_periodic", {"dids": "Fast"}, timeout_s=WAIT_S)
        peer.answers = ["6A 01 7E", "6A 02 01 02", "62 01 00 00 04"]
        assert (await services.call(tester, "read", {"did": "Speed"}, timeout_s=WAIT_S)).result == 1
        found = (await services.call(tester, "collect_periodic", {"count": 3}, timeout_s=WAIT_S)).result
        assert isinstance(found, list)
        assert [
            {key: value for key, value in one.items() if key != "at"} for one in found if isinstance(one, dict)
        ] == [
            {"name": "Fast", "did": 0xF201, "value": 12.5, "unit": "V", "raw": b"\x7d"},
            {"name": "Fast", "did": 0xF201, "value": 12.6, "unit": "V", "raw": b"\x7e"},
            {"name": "0xF202", "did": 0xF202, "value": b"\x01\x02", "unit": "", "raw": b"\x01\x02"},
        ]
        assert (await services.call(tester, "collect_periodic", {"wait_ms": 0}, timeout_s=WAIT_S)).result == []


async def test_events_are_delivered_and_never_taken_for_replies(hubs: Hubs, described: EcuDescription) -> None:
    async with _pair(hubs, described, "62 01 00 0C 80", "7E 00", "62 01 02 10 05", "6A 01 7D") as (tester, peer):
        assert (await services.call(tester, "read", {"did": "State"}, timeout_s=WAIT_S)).result == {
            "Mode": "Run",
            "Load": 5,
        }
        waiting = asyncio.create_task(services.call(tester, "events", {"count": 2}, timeout_s=WAIT_S))
        await asyncio.sleep(0)
        peer.say("59 01 FF 01 00 03")
        found = (await waiting).result
        assert isinstance(found, list)
        assert [(one["service_name"], one.get("value"), one["raw"]) for one in found if isinstance(one, dict)] == [
            ("ReadDataByIdentifier", 800, b"\x62\x01\x00\x0c\x80"),
            ("ReadDTCInformation", None, b"\x59\x01\xff\x01\x00\x03"),
        ]


async def test_what_nobody_takes_is_bounded_and_counted(hubs: Hubs, described: EcuDescription) -> None:
    async with _pair(hubs, described) as (tester, _):
        tester.unsolicited.put(b"\x62\x01\x00\x00\x04")
        for number in range(1010):
            tester.unsolicited.put(b"\x6a" + number.to_bytes(2, "big"))
        dropped = (await services.call(tester, "dropped", {}, timeout_s=WAIT_S)).result
        assert dropped == {"events": 0, "periodic": 10}  # a fast value drives out no event
        kept = await tester.unsolicited.periodic.take(1, QUICK_S)
        assert len(kept) == 1000
        assert kept[-1].data == b"\x6a" + (1009).to_bytes(2, "big")
        assert len(await tester.unsolicited.events.take(1, QUICK_S)) == 1
