"""LinkControl (0x87): another bit rate for the time of the session. On a virtual bus nothing but the state changes."""

from collections.abc import Mapping

from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_SOURCE = "ISO 14229-1:2020, 10.10"
_FIXED, _SPECIFIC, _TRANSITION = 0x01, 0x02, 0x03
_LENGTHS = {_FIXED: 3, _SPECIFIC: 5, _TRANSITION: 2}
_SUBFUNCTIONS = dict.fromkeys(_LENGTHS, SubFunction())
_RATES = {0x10: 125_000, 0x11: 250_000, 0x12: 500_000, 0x13: 1_000_000}
"""linkControlModeIdentifier of CAN (annex B.3), in bit/s."""


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _SUBFUNCTIONS


def _bitrate(call: Call) -> int | None:
    return _RATES.get(call.pdu[2]) if call.sub == _FIXED else int.from_bytes(call.pdu[2:5], "big")


def _act(call: Call) -> bytes:
    state = call.state
    if call.sub == _TRANSITION:
        state.bitrate, state.verified_bitrate = state.verified_bitrate, None
    else:
        state.verified_bitrate = _bitrate(call)
    return bytes((call.sub,))


SERVICE = Service(
    0x87,
    _act,
    subfunctions=_subfunctions,
    offered=lambda ecu: bool(ecu.link_bitrates),
    outside_default=True,
    rules=(
        Rule(
            0x24,
            "a transition comes without a verification before it",
            _SOURCE,
            lambda call: call.sub == _TRANSITION and call.state.verified_bitrate is None,
        ),
        Rule(
            0x13,
            "the length is not that of the sub-function",
            _SOURCE,
            lambda call: len(call.pdu) != _LENGTHS[call.sub],
        ),
        Rule(
            0x31,
            "the ECU cannot run at that bit rate",
            _SOURCE,
            lambda call: call.sub != _TRANSITION and _bitrate(call) not in call.state.ecu.link_bitrates,
        ),
    ),
)
