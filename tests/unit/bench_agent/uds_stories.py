"""What a tester does with an ECU, service by service: the same table by name, by whole PDUs, and from Lua."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import ANY

from tests.unit.ecu_adapters.full_ecu import FULL

MASK = 0xA5
"""Key of the ECU's algorithms: keys and proofs are seeds and challenges with this in every byte."""

ECU = (
    FULL.replace("p2_star_ms: 5000}", "p2_star_ms: 5000, transit_ms: 5000}")
    .replace("0x83: {session: [extended], security: 3}", "0x83: {session: [extended], security: 1}")
    .replace("session: [programming], security: 1", "session: [programming, extended], security: 1")
)


@dataclass(frozen=True)
class Masked:
    """An argument that comes out of the last result, or a field of it, with `MASK` in every byte."""

    field: str = ""

    def of(self, last: Any) -> bytes:
        return masked(last[self.field] if self.field else last)


Raw = str | Callable[[bytes], str]
"""A request in hexadecimal, or what makes it of the last response."""


@dataclass(frozen=True)
class Step:
    """One service by name with its arguments and result, and the same in bytes."""

    service: str
    arguments: dict[str, Any]
    result: Any
    raw: list[Raw] = field(default_factory=list)
    response: str | None = None
    """None where it is another one each time."""


def masked(data: bytes) -> bytes:
    return bytes(byte ^ MASK for byte in data)


P0301 = {"code": "P0301", "dtc": 0x030100, "text": ""}
U0100 = {"code": "U0100", "dtc": 0xC10000, "text": ""}
P0420 = {"code": "P0420", "dtc": 0x042000, "text": ""}
_PERIODIC = {"name": "Fast", "did": 0xF201, "value": 7, "unit": "", "raw": b"\x00\x07", "at": ANY}
_NO_INDICATOR = "00 " * 16


def status(byte: int) -> dict[str, Any]:
    names = (
        "test_failed", "test_failed_this_cycle", "pending", "confirmed", "not_completed_since_clear",
        "failed_since_clear", "not_completed_this_cycle", "warning_indicator",
    )  # fmt: skip
    return {"status": byte, **{name: bool(byte >> bit & 1) for bit, name in enumerate(names)}}


EXTENDED = Step(
    "session", {"session": "extended"}, {"session": "extended", "p2_ms": 50, "p2_star_ms": 5000},
    ["10 03"], "50 03 00 32 01 F4",
)  # fmt: skip
UNLOCK = Step("unlock", {"level": 1}, None, ["27 01", lambda seed: "27 02" + masked(seed[2:]).hex()], "67 02")

STORIES: dict[str, list[Step]] = {
    "session": [
        EXTENDED,
        Step("tester_present", {}, None, ["3E 00"], "7E 00"),
        Step("seed", {"level": 1}, ANY, ["27 01"]),
        Step("key", {"level": 1, "key": Masked()}, None, [lambda seed: "27 02" + masked(seed[2:]).hex()], "67 02"),
        Step("access_timing", {"action": "read"}, b"\x00\x32\x01\xf4", ["83 03"], "C3 03 00 32 01 F4"),
        Step("access_timing", {"action": "set", "record": "00640200"}, b"", ["83 04 00 64 02 00"], "C3 04"),
        Step("access_timing", {"action": "read"}, b"\x00\x64\x02\x00", ["83 03"], "C3 03 00 64 02 00"),
        Step("control_dtc_setting", {"setting": "off"}, None, ["85 02"], "C5 02"),
        Step("control_dtc_setting", {"setting": "on"}, None, ["85 01"], "C5 01"),
        Step("communication_control", {"control": "disable", "messages": "all"}, None, ["28 03 03"], "68 03"),
        Step("communication_control", {"control": "enable"}, None, ["28 00 01"], "68 00"),
        Step("authenticate", {"task": "configuration"},
             {"task": "configuration", "result": "configuration_acr_symmetric"}, ["29 08"], "69 08 04"),
        Step("authenticate", {"task": "request_challenge"}, ANY, ["29 05 00 " + _NO_INDICATOR]),
        Step("authenticate", {"task": "verify_proof_unidirectional", "proof": Masked("challenge")},
             {"task": "verify_proof_unidirectional", "result": "ownership_verified_authentication_complete",
              "algorithm": bytes(16), "session_key": b""},
             [lambda challenge: f"29 06 {_NO_INDICATOR} 00 10 {masked(challenge[21:37]).hex()} 00 00 00 00"],
             f"69 06 12 {_NO_INDICATOR} 00 00"),
        Step("link_control", {"action": "verify_fixed", "bitrate": 500_000}, None, ["87 01 12"], "C7 01"),
        Step("link_control", {"action": "transition"}, None, ["87 03"], "C7 03"),
        Step("authenticate", {"task": "deauthenticate"},
             {"task": "deauthenticate", "result": "deauthentication_successful"}, ["29 00"], "69 00 10"),
        Step("reset", {"kind": "soft"}, None, ["11 03"], "51 03"),
    ],
    "trouble codes": [
        Step("read_dtcs", {"mask": 1}, [P0301 | status(0x2F)], ["19 02 01"], "59 02 2F 03 01 00 2F"),
        Step("count_dtcs", {}, 2, ["19 01 FF"], "59 01 2F 01 00 02"),
        Step("count_dtcs", {"severity": "maintenance_only"}, 1, ["19 07 20 FF"], "59 07 2F 01 00 01"),
        Step("supported_dtcs", {}, [P0301 | status(0x2F), U0100 | status(0x28), P0420 | status(0)],
             ["19 0A"], "59 0A 2F 03 01 00 2F C1 00 00 28 04 20 00 00"),
        Step("permanent_dtcs", {}, [], ["19 15"], "59 15 2F"),
        Step("find_dtc", {"which": "first_failed"}, P0301 | status(0x2F), ["19 0B"], "59 0B 2F 03 01 00 2F"),
        Step("find_dtc", {"which": "latest_confirmed"}, U0100 | status(0x28), ["19 0E"], "59 0E 2F C1 00 00 28"),
        Step("dtcs_by_severity", {"severity": "check_immediately"},
             [P0301 | status(0x2F) | {"severity": "check_immediately", "severity_byte": 0x80, "functional_unit": 0}],
             ["19 08 80 FF"], "59 08 2F 80 00 03 01 00 2F"),
        Step("dtc_severity", {"dtc": "U0100"},
             U0100 | status(0x28) | {"severity": "maintenance_only", "severity_byte": 0x20, "functional_unit": 0},
             ["19 09 C1 00 00"], "59 09 2F 20 00 C1 00 00 28"),
        Step("dtc_fault_counters", {}, [], ["19 14"], "59 14"),
        Step("wwh_obd_dtcs", {"severity": "check_immediately"},
             [P0301 | status(0x2F) | {"severity": "check_immediately", "severity_byte": 0x80}],
             ["19 42 33 FF 80"], "59 42 33 2F E0 01 80 03 01 00 2F"),
        Step("wwh_obd_permanent_dtcs", {}, [], ["19 55 33"], "59 55 33 2F 01"),
        Step("dtc_snapshots", {}, [P0301 | {"record": 1}], ["19 03"], "59 03 03 01 00 01"),
        Step("dtc_snapshot", {"dtc": "P0301", "record": 1},
             P0301 | status(0x2F) | {"snapshots": [
                 {"record": 1, "data": {"VIN": "WVWZZZ1KZ6W000001", "IdleSpeed": 800}, "units": {}}]},
             ["19 04 03 01 00 01"],
             "59 04 03 01 00 2F 01 02 F1 90" + b"WVWZZZ1KZ6W000001".hex() + "02 00 03 20"),
        Step("dtc_extended_data", {"dtc": "P0301"},
             P0301 | status(0x2F) | {"records": [
                 {"record": 1, "raw": b"\x01", "data": {"occurrence_counter": 1}, "units": {}}]},
             ["19 06 03 01 00 FF"], "59 06 03 01 00 2F 01 01"),
        Step("extended_data_record", {"record": 1},
             [code | status(byte) | {
                 "record": 1, "raw": b"\x01", "data": {"occurrence_counter": 1}, "units": {}}
              for code, byte in ((P0301, 0x2F), (U0100, 0x28))],
             ["19 16 01"], "59 16 01 03 01 00 2F 01 C1 00 00 28 01"),
        Step("clear_dtcs", {"group": "P0301"}, None, ["14 03 01 00"], "54"),
        Step("clear_dtcs", {}, None, ["14 FF FF FF"], "54"),
        Step("count_dtcs", {"mask": 0x2F}, 0, ["19 01 2F"], "59 01 2F 01 00 00"),
    ],
    "data": [
        Step("read", {"did": "VIN"}, "WVWZZZ1KZ6W000001", ["22 F1 90"], "62 F1 90" + b"WVWZZZ1KZ6W000001".hex()),
        Step("read", {"did": ["IdleSpeed", "Doors"]}, {"IdleSpeed": 800, "Doors": {"left": 0, "right": 1}},
             ["22 02 00 05 01"], "62 02 00 03 20 05 01 01"),
        Step("read_scaling", {"did": "IdleSpeed"},
             {"name": "IdleSpeed", "did": 0x0200, "scaling": [{"type": "unsigned", "bytes": 2}]},
             ["24 02 00"], "64 02 00 02"),
        EXTENDED,
        Step("write", {"did": "IdleSpeed", "value": 900}, None, ["2E 02 00 03 84"], "6E 02 00"),
        Step("read", {"did": "IdleSpeed", "details": True},
             {"name": "IdleSpeed", "did": 0x0200, "value": 900, "unit": "", "raw": b"\x03\x84"},
             ["22 02 00"], "62 02 00 03 84"),
        UNLOCK,
        Step("io_control", {"did": "Lamp", "action": "adjust", "value": 42},
             {"action": "adjust", "value": 42, "unit": ""}, ["2F 05 00 03 2A"], "6F 05 00 03 2A"),
        Step("io_control", {"did": "Lamp", "action": "return"}, {"action": "return", "value": 0, "unit": ""},
             ["2F 05 00 00"], "6F 05 00 00 00"),
        Step("define_did", {"did": 0xF300, "sources": [{"did": "VIN", "position": 1, "size": 3}, "IdleSpeed"]}, None,
             ["2C 01 F3 00 F1 90 01 03 02 00 01 02"], "6C 01 F3 00"),
        Step("read", {"did": 0xF300}, b"WVW\x03\x84", ["22 F3 00"], "62 F3 00 57 56 57 03 84"),
        Step("clear_dynamic_did", {"did": 0xF300}, None, ["2C 03 F3 00"], "6C 03 F3 00"),
        Step("read_periodic", {"dids": ["Fast"], "rate": "fast"}, None, ["2A 03 01"], "6A"),
        Step("collect_periodic", {"count": 2}, [_PERIODIC, _PERIODIC]),
        Step("stop_periodic", {}, None, ["2A 04"], "6A"),
        Step("response_on_event", {"event": "did_change", "did": "IdleSpeed", "respond": "220200"},
             {"event": "did_change", "events": 0, "window": 2, "raw": bytes.fromhex("00020200220200")},
             ["86 03 02 02 00 22 02 00"], "C6 03 00 02 02 00 22 02 00"),
        Step("response_on_event", {"event": "start"}, {"event": "start", "events": 0, "window": 2, "raw": b"\x00\x02"},
             ["86 05 02"], "C6 05 00 02"),
        Step("write", {"did": "IdleSpeed", "value": 700}, None, ["2E 02 00 02 BC"], "6E 02 00"),
        Step("events", {"count": 1},
             [{"service": 0x22, "service_name": "ReadDataByIdentifier", "raw": b"\x62\x02\x00\x02\xbc", "at": ANY,
               "name": "IdleSpeed", "did": 0x0200, "value": 700}]),
        Step("dropped", {}, {"events": 0, "periodic": 0}),
        Step("response_on_event", {"event": "stop"}, {"event": "stop", "events": 0, "window": 2, "raw": b"\x00\x02"},
             ["86 00 02"], "C6 00 00 02"),
    ],
    "memory": [
        EXTENDED,
        UNLOCK,
        Step("write_memory", {"address": 0x4000, "data": "C0FFEE"}, None, ["3D 44 00 00 40 00 00 00 00 03 C0 FF EE"],
             "7D 44 00 00 40 00 00 00 00 03"),
        Step("read_memory", {"address": 0x4000, "size": 4}, b"\xc0\xff\xee\xff", ["23 44 00 00 40 00 00 00 00 04"],
             "63 C0 FF EE FF"),
        Step("routine", {"routine": "erase", "options": {"address": 0x2000, "size": 0x100}},
             {"routine": "erase", "action": "start", "raw": b""}, ["31 01 FF 00 20 00 01 00"], "71 01 FF 00"),
        Step("request_download", {"address": 0x2000, "size": 8}, {"max_block": 0x12},
             ["34 00 44 00 00 20 00 00 00 00 08"], "74 20 00 12"),
        Step("transfer_data", {"counter": 1, "data": "01 02 03 04 05 06 07 08"}, b"",
             ["36 01 01 02 03 04 05 06 07 08"], "76 01"),
        Step("transfer_exit", {}, b"", ["37"], "77"),
        Step("request_upload", {"address": 0x2000, "size": 8}, {"max_block": 0x12},
             ["35 00 44 00 00 20 00 00 00 00 08"], "75 20 00 12"),
        Step("transfer_data", {"counter": 1}, bytes(range(1, 9)), ["36 01"], "76 01 01 02 03 04 05 06 07 08"),
        Step("transfer_exit", {}, b"", ["37"], "77"),
        Step("routine", {"routine": "self_test", "options": {"depth": 1}},
             {"routine": "self_test", "action": "start", "raw": b""}, ["31 01 03 00 01"], "71 01 03 00"),
        Step("routine", {"routine": "self_test", "action": "stop"},
             {"routine": "self_test", "action": "stop", "raw": b""}, ["31 02 03 00"], "71 02 03 00"),
        Step("request_file_transfer", {"mode": "read", "path": "log.txt"},
             {"mode": "read", "max_block": 0x12, "size": 3, "compressed_size": 3},
             ["38 04 00 07 6C 6F 67 2E 74 78 74 00"]),
        Step("transfer_data", {"counter": 1}, b"ABC", ["36 01"], "76 01 41 42 43"),
        Step("transfer_exit", {}, b"", ["37"], "77"),
        Step("request_file_transfer", {"mode": "delete", "path": "log.txt"}, {"mode": "delete"},
             ["38 02 00 07 6C 6F 67 2E 74 78 74"], "78 02"),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """A service that the ECU refuses, after the steps before it."""

    nrc: int
    service: str
    arguments: dict[str, Any]
    before: list[Step] = field(default_factory=list)


_DOWNLOAD = Step("request_download", {"address": 0x2000, "size": 8}, ANY)
_CHALLENGE = Step("authenticate", {"task": "request_challenge"}, ANY)
_SEED = Step("seed", {"level": 1}, ANY)

REFUSALS = [
    Refusal(0x12, "session", {"session": 5}),
    Refusal(0x12, "reset", {"kind": "enable_rapid_shutdown"}),
    Refusal(0x12, "read_dtcs", {"memory": "mirror"}),
    Refusal(0x24, "key", {"level": 1, "key": "00"}, [EXTENDED]),
    Refusal(0x24, "routine", {"routine": "self_test", "action": "results"}),
    Refusal(0x31, "authenticate", {"task": "request_challenge", "algorithm": "01"}),
    Refusal(0x31, "clear_dtcs", {"group": "P0777"}),
    Refusal(0x31, "read", {"did": 0x9999}),
    Refusal(0x31, "write", {"did": "IdleSpeed", "value": 900}),
    Refusal(0x31, "read_memory", {"address": 0x9000, "size": 1}),
    Refusal(0x31, "write_memory", {"address": 0x1000, "data": "00"}, [EXTENDED]),
    Refusal(0x31, "request_file_transfer", {"mode": "read", "path": "no.txt"}, [EXTENDED]),
    Refusal(0x33, "write", {"did": "Code", "value": "abc"}, [EXTENDED]),
    Refusal(0x34, "read", {"did": "Vault"}),
    Refusal(0x34, "link_control", {"action": "transition"}, [EXTENDED]),
    Refusal(0x35, "key", {"level": 1, "key": "00000000"}, [EXTENDED, _SEED]),
    Refusal(0x58, "authenticate", {"task": "verify_proof_unidirectional", "proof": "00" * 16}, [_CHALLENGE]),
    Refusal(0x73, "transfer_data", {"counter": 3, "data": "00"}, [EXTENDED, UNLOCK, _DOWNLOAD]),
    Refusal(0x71, "transfer_data", {"counter": 1, "data": "00" * 9}, [EXTENDED, UNLOCK, _DOWNLOAD]),
    Refusal(0x24, "transfer_exit", {}, [EXTENDED, UNLOCK, _DOWNLOAD]),
    Refusal(0x7F, "seed", {"level": 1}),
    Refusal(0x7F, "transfer_exit", {}),
    Refusal(0x7F, "io_control", {"did": "Lamp", "action": "freeze"}),
]
