"""ResponseOnEvent (0x86): sets up services that the ECU answers by itself when a status or a value changes."""

from collections.abc import Mapping

from ecu_adapters.simulator.events import MOST, ON_DID, ON_DTC_STATUS, Event
from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_SOURCE = "ISO 14229-1:2020, 10.9"
_STOP, _REPORT, _START, _CLEAR = 0x00, 0x04, 0x05, 0x06
_PARAMETER_LENGTH = {ON_DTC_STATUS: 1, ON_DID: 2}
_SUBFUNCTIONS = dict.fromkeys((_STOP, ON_DTC_STATUS, ON_DID, _REPORT, _START, _CLEAR), SubFunction())
"""Without bit 6 (storeEvent): set-ups end with the session."""
_ENDLESS = 0x02
"""eventWindowTime: until stopped."""
_RESPONSES = (0x19, 0x22)
"""Services that may be responded with."""


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _SUBFUNCTIONS


def _service_at(call: Call) -> int:
    return 3 + _PARAMETER_LENGTH[call.sub]


def _wrong_length(call: Call) -> bool:
    if call.sub in _PARAMETER_LENGTH:
        return len(call.pdu) <= _service_at(call)
    return len(call.pdu) != 3


def _out_of_range(call: Call) -> bool:
    if call.pdu[2] != _ENDLESS:
        return True
    if call.sub not in _PARAMETER_LENGTH:
        return False
    if call.pdu[_service_at(call)] not in _RESPONSES:
        return True
    return call.sub == ON_DID and call.state.reading(int.from_bytes(call.pdu[3:5], "big")) is None


def _act(call: Call) -> bytes:
    events, sub, window = call.state.events, call.sub, call.pdu[2]
    if sub in _PARAMETER_LENGTH:
        at = _service_at(call)
        events.add(Event(sub, window, call.pdu[3:at], call.pdu[at:]))
        # None has been identified yet.
        return bytes((sub, 0)) + call.pdu[2:]
    if sub == _REPORT:
        active = events.events if events.active else []
        body = b"".join(bytes((e.kind, e.window)) + e.parameter + e.service for e in active)
        return bytes((sub, len(active))) + body
    if sub == _CLEAR:
        events.clear()
    else:
        events.active = sub == _START
    return bytes((sub, 0, window))


SERVICE = Service(
    0x86,
    _act,
    subfunctions=_subfunctions,
    outside_default=True,
    rules=(
        Rule(0x13, "the length is not that of the sub-function", _SOURCE, _wrong_length),
        Rule(0x31, "the ECU does not have such a window, event or service to respond with", _SOURCE, _out_of_range),
        Rule(
            0x22,
            "so many events cannot be set up",
            _SOURCE,
            lambda call: call.sub in _PARAMETER_LENGTH and len(call.state.events.events) >= MOST,
        ),
        Rule(
            0x24,
            "there is no event that could be started",
            _SOURCE,
            lambda call: call.sub == _START and not call.state.events.events,
        ),
    ),
)
