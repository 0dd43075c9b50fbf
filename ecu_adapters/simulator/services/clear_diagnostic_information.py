"""ClearDiagnosticInformation (0x14): all trouble codes, or a single one."""

from ecu_adapters.simulator.dtc_engine import ALL_GROUPS
from ecu_adapters.simulator.rules import Call, Rule, Service

_SOURCE = "ISO 14229-1:2020, 12.2"


def _group(call: Call) -> int:
    return int.from_bytes(call.pdu[1:4], "big")


def _unknown_group(call: Call) -> bool:
    # The fifth byte (edition 2020) selects a user-defined memory; there is none but the primary one.
    return len(call.pdu) == 5 or not (_group(call) == ALL_GROUPS or _group(call) in call.state.dtcs.entries)


def _act(call: Call) -> bytes:
    call.state.dtcs.clear(_group(call))
    return b""


SERVICE = Service(
    0x14,
    _act,
    rules=(
        Rule(0x13, "the length is neither 4 nor 5", _SOURCE, lambda call: len(call.pdu) not in (4, 5)),
        Rule(0x31, "the ECU has no such group or code", _SOURCE, _unknown_group),
    ),
    commits=True,
)
