"""AccessTimingParameter (0x83): reads and sets P2 and P2* for the time of the session (ISO 14229-1:2013, 9.7)."""

from collections.abc import Mapping

from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_SOURCE = "ISO 14229-1:2013, 9.7"
_READ_EXTENDED, _SET_DEFAULT, _READ_ACTIVE, _SET_GIVEN = 0x01, 0x02, 0x03, 0x04
_SUBFUNCTIONS = dict.fromkeys((_READ_EXTENDED, _SET_DEFAULT, _READ_ACTIVE, _SET_GIVEN), SubFunction())


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _SUBFUNCTIONS


def _record(p2_ms: int, p2_star_ms: int) -> bytes:
    """P2 in units of 1 ms, P2* in units of 10 ms, as DiagnosticSessionControl has it."""
    return p2_ms.to_bytes(2, "big") + (p2_star_ms // 10).to_bytes(2, "big")


def _given(call: Call) -> tuple[int, int]:
    return int.from_bytes(call.pdu[2:4], "big"), int.from_bytes(call.pdu[4:6], "big") * 10


def _too_quick(call: Call) -> bool:
    """The ECU can be asked to take more time, not less than it promises."""
    if call.sub != _SET_GIVEN:
        return False
    p2_ms, p2_star_ms = _given(call)
    timing = call.state.ecu.timing
    return p2_ms < timing.p2_ms or p2_star_ms < timing.p2_star_ms


def _act(call: Call) -> bytes:
    state, timing = call.state, call.state.ecu.timing
    answer = bytes((call.sub,))
    if call.sub == _READ_EXTENDED:
        return answer + _record(timing.p2_ms, timing.p2_star_ms)
    if call.sub == _READ_ACTIVE:
        return answer + _record(state.p2_ms, state.p2_star_ms)
    given = (timing.p2_ms, timing.p2_star_ms) if call.sub == _SET_DEFAULT else _given(call)
    state.p2_ms, state.p2_star_ms = given
    return answer


SERVICE = Service(
    0x83,
    _act,
    subfunctions=_subfunctions,
    outside_default=True,
    rules=(
        Rule(
            0x13,
            "the length is not that of the sub-function",
            _SOURCE,
            lambda call: len(call.pdu) != (6 if call.sub == _SET_GIVEN else 2),
        ),
        Rule(0x31, "the ECU cannot keep such short times", _SOURCE, _too_quick),
    ),
)
