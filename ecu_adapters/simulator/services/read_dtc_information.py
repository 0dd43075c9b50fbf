"""ReadDTCInformation (0x19): number of codes by status mask (01), codes by status mask (02), supported codes (0A)."""

from collections.abc import Mapping

from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_COUNT_BY_MASK, _LIST_BY_MASK, _SUPPORTED = 0x01, 0x02, 0x0A
_LENGTHS = {_COUNT_BY_MASK: 3, _LIST_BY_MASK: 3, _SUPPORTED: 2}
_SUBFUNCTIONS = dict.fromkeys(_LENGTHS, SubFunction())
_FORMAT = 0x01
"""DTCFormatIdentifier: ISO_14229-1_DTCFormat (annex D.4)."""


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _SUBFUNCTIONS


def _act(call: Call) -> bytes:
    state = call.state
    available = state.ecu.dtc_status_availability
    statuses = {dtc: status & available for dtc, status in state.dtcs.items()}
    head = bytes((call.sub, available))
    if call.sub != _SUPPORTED:
        statuses = {dtc: status for dtc, status in statuses.items() if status & call.pdu[2]}
    if call.sub == _COUNT_BY_MASK:
        return head + bytes((_FORMAT,)) + len(statuses).to_bytes(2, "big")
    return head + b"".join(dtc.to_bytes(3, "big") + bytes((status,)) for dtc, status in statuses.items())


SERVICE = Service(
    0x19,
    _act,
    subfunctions=_subfunctions,
    rules=(
        Rule(
            0x13,
            "the length is not that of the sub-function",
            "ISO 14229-1:2020, 12.3",
            lambda call: len(call.pdu) != _LENGTHS[call.sub],
        ),
    ),
)
