"""ReadDataByPeriodicIdentifier (0x2A): data identifiers F2xx that the ECU then sends by itself."""

from ecu_adapters.dids import Access
from ecu_adapters.simulator.periodic import PAGE
from ecu_adapters.simulator.rules import Call, Rule, Service, access_rows

_SOURCE = "ISO 14229-1:2020, 11.5"
_SLOW, _MEDIUM, _FAST, _STOP = 0x01, 0x02, 0x03, 0x04
"""transmissionMode (annex C.4)."""
_FRAME_DATA = 7
"""Bytes of data that a frame without ISO-TP carries beside the identifier."""


def _wrong_length(call: Call) -> bool:
    return len(call.pdu) < 2 or (len(call.pdu) < 3 and call.pdu[1] != _STOP)


def _unreadable(call: Call) -> bool:
    """Whether one of them cannot be read, or does not fit the frame that it would have to go in."""
    state = call.state
    for identifier in call.pdu[2:]:
        if state.reading(PAGE + identifier) is None:
            return True
        if state.ecu.periodic.response_id is not None and state.data.length(PAGE + identifier) > _FRAME_DATA:
            return True
    return False


def _too_many(call: Call) -> bool:
    if call.pdu[1] == _STOP:
        return False
    return len({*call.state.periodic.scheduled, *call.pdu[2:]}) > call.state.ecu.periodic.most


def _accesses(call: Call) -> list[Access]:
    return [access for identifier in call.pdu[2:] for access in call.state.reading(PAGE + identifier) or ()]


def _act(call: Call) -> bytes:
    periodic, settings = call.state.periodic, call.state.ecu.periodic
    mode, identifiers = call.pdu[1], call.pdu[2:]
    if mode == _STOP:
        for identifier in identifiers or bytes(periodic.scheduled):
            periodic.stop(identifier)
        return b""
    period_ms = {_SLOW: settings.slow_ms, _MEDIUM: settings.medium_ms, _FAST: settings.fast_ms}[mode]
    for identifier in identifiers:
        periodic.start(identifier, period_ms / 1000)
    return b""


SERVICE = Service(
    0x2A,
    _act,
    outside_default=True,
    rules=(
        Rule(0x13, "there is no identifier", _SOURCE, _wrong_length),
        Rule(0x31, "there is no such transmission mode", _SOURCE, lambda call: not _SLOW <= call.pdu[1] <= _STOP),
        Rule(0x31, "an identifier cannot be read in the active session", _SOURCE, _unreadable),
        *access_rows(_accesses, "an identifier", _SOURCE),
        Rule(0x31, "the scheduler has no room for so many", _SOURCE, _too_many),
    ),
)
