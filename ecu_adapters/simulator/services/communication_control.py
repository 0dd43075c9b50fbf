"""CommunicationControl (0x28): switches the ECU's own messages off and on; diagnostics go on."""

from collections.abc import Mapping

from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction
from ecu_adapters.simulator.state import Communication, EcuState

_SOURCE = "ISO 14229-1:2020, 10.5"
_KINDS = {
    0x00: Communication(receives=True, sends=True),
    0x01: Communication(receives=True, sends=False),
    0x02: Communication(receives=False, sends=True),
    0x03: Communication(receives=False, sends=False),
}
"""controlType."""
_SUBFUNCTIONS = dict.fromkeys(_KINDS, SubFunction())
_NORMAL, _NETWORK_MANAGEMENT = 0x01, 0x02
"""Bits of communicationType (annex B.1). The simulated ECU sends no network management messages."""
_SUBNETS = (0x00, 0xF0)
"""Subnet numbers: all, and the one that the request came by."""


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _SUBFUNCTIONS


def _unknown_type(call: Call) -> bool:
    kind = call.pdu[2]
    return not kind & 0x03 or bool(kind & 0x0C) or kind & 0xF0 not in _SUBNETS


def _act(call: Call) -> bytes:
    if call.pdu[2] & _NORMAL:
        call.state.communicate(_KINDS[call.sub])
    return bytes((call.sub,))


SERVICE = Service(
    0x28,
    _act,
    subfunctions=_subfunctions,
    outside_default=True,
    rules=(
        Rule(0x13, "the length is not 3", _SOURCE, lambda call: len(call.pdu) != 3),
        Rule(0x31, "the ECU has no messages of that type or no such subnet", _SOURCE, _unknown_type),
    ),
)
