"""DiagnosticSessionControl (0x10)."""

from collections.abc import Mapping

from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState


def _sessions(state: EcuState) -> Mapping[int, SubFunction]:
    numbers = state.ecu.sessions
    origins = {
        # Repeating the active session is always positive.
        numbers[name]: frozenset({numbers[name], *(numbers[origin] for origin in names)})
        for name, names in state.ecu.session_entry.items()
    }
    return {number: SubFunction(origins.get(number)) for number in numbers.values()}


def _act(call: Call) -> bytes:
    call.state.enter_session(call.sub)
    timing = call.state.ecu.timing
    # P2 in units of 1 ms, P2* in units of 10 ms.
    return bytes((call.sub,)) + timing.p2_ms.to_bytes(2, "big") + (timing.p2_star_ms // 10).to_bytes(2, "big")


SERVICE = Service(
    0x10,
    _act,
    subfunctions=_sessions,
    rules=(Rule(0x13, "the length is not 2", "ISO 14229-1:2020, 10.2", lambda call: len(call.pdu) != 2),),
)
