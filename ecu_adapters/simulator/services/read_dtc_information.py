"""ReadDTCInformation (0x19): codes by status, severity or order; snapshots and extended data."""

from collections.abc import Callable, Iterable, Mapping

from ecu_adapters import records
from ecu_adapters.simulator.dtc_engine import FIRST_FAILURE, LAST_FAILURE, Entry
from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_SOURCE = "ISO 14229-1:2020, 12.3"
_FORMAT = 0x01
"""DTCFormatIdentifier: ISO_14229-1_DTCFormat (annex D.4)."""
_SEVERITIES = 0xE0
"""Bits of a severity mask that name a severity (annex D.3)."""
_ALL_RECORDS = 0xFF
_EMISSIONS = 0x33
"""FunctionalGroupIdentifier: emissions-system group (annex D.5)."""


def _available(state: EcuState) -> int:
    return state.ecu.dtc_status_availability


def _status(state: EcuState, entry: Entry) -> int:
    return entry.status & _available(state)


def _code(number: int) -> bytes:
    return number.to_bytes(3, "big")


def _list(state: EcuState, entries: Iterable[tuple[int, Entry]]) -> bytes:
    return b"".join(_code(number) + bytes((_status(state, entry),)) for number, entry in entries)


def _by_mask(state: EcuState, mask: int) -> list[tuple[int, Entry]]:
    return [(number, entry) for number, entry in state.dtcs.entries.items() if _status(state, entry) & mask]


def _by_severity(state: EcuState, severities: int, mask: int) -> list[tuple[int, Entry]]:
    return [
        (number, entry)
        for number, entry in _by_mask(state, mask)
        if entry.model.severity_byte & severities & _SEVERITIES
    ]


def _count(entries: list[tuple[int, Entry]]) -> bytes:
    return bytes((_FORMAT,)) + len(entries).to_bytes(2, "big")


def _severity(state: EcuState, number: int, entry: Entry) -> bytes:
    model = entry.model
    return bytes((model.severity_byte, model.functional_unit)) + _list(state, [(number, entry)])


def _number(call: Call) -> int:
    return int.from_bytes(call.pdu[2:5], "big")


def _snapshot_index(call: Call) -> bytes:
    return b"".join(
        _code(number) + bytes((record,))
        for number, entry in call.state.dtcs.entries.items()
        for record in sorted(entry.snapshots)
    )


def _snapshots(call: Call) -> bytes:
    number, asked = _number(call), call.pdu[5]
    entry = call.state.dtcs.entries[number]
    answer = _list(call.state, [(number, entry)])
    for record, snapshot in sorted(entry.snapshots.items()):
        if asked in (record, _ALL_RECORDS):
            answer += bytes((record, len(snapshot)))
            answer += b"".join(did.to_bytes(2, "big") + data for did, data in snapshot.items())
    return answer


def _extended(call: Call) -> bytes:
    number, asked = _number(call), call.pdu[5]
    entry = call.state.dtcs.entries[number]
    answer = _list(call.state, [(number, entry)])
    for record in sorted(call.state.ecu.extended_data):
        if asked in (record, _ALL_RECORDS):
            answer += bytes((record,)) + _record(call.state, record, entry)
    return answer


def _extended_record(call: Call) -> bytes:
    """One record of all codes whose test has ever failed."""
    state, record = call.state, call.pdu[2]
    found = [(number, entry) for number, entry in state.dtcs.entries.items() if entry.occurrences]
    parts = (_list(state, [(number, entry)]) + _record(state, record, entry) for number, entry in found)
    return bytes((record,)) + b"".join(parts)


def _record(state: EcuState, record: int, entry: Entry) -> bytes:
    """The bytes of an extended data record; fields that are counters have the present count."""
    fields = state.ecu.extended_data[record]
    counters = entry.counters()
    values = {name: counters.get(name, value) for name, value in records.initial(fields).items()}
    return records.encode(fields, values)


def _noted(which: str) -> Callable[[Call], bytes]:
    def act(call: Call) -> bytes:
        number = call.state.dtcs.noted(which)
        found = [] if number is None else [(number, call.state.dtcs.entries[number])]
        return bytes((_available(call.state),)) + _list(call.state, found)

    return act


def _with_availability(find: Callable[[Call], bytes]) -> Callable[[Call], bytes]:
    return lambda call: bytes((_available(call.state),)) + find(call)


def _detections(call: Call) -> bytes:
    """Only codes whose test is about to fail: 1 .. 126."""
    entries = call.state.dtcs.entries.items()
    return b"".join(_code(number) + bytes((entry.detection,)) for number, entry in entries if 0 < entry.detection < 127)


def _wwh_obd(call: Call) -> bytes:
    state, (group, mask, severities) = call.state, call.pdu[2:5]
    found = _by_severity(state, severities, mask)
    head = bytes((group, _available(state), _SEVERITIES, _FORMAT))
    return head + b"".join(bytes((entry.model.severity_byte,)) + _list(state, [(n, entry)]) for n, entry in found)


def _permanent(call: Call) -> bytes:
    state = call.state
    return _list(state, [(number, entry) for number, entry in state.dtcs.entries.items() if entry.permanent])


_ANSWERS: dict[int, tuple[int, Callable[[Call], bytes]]] = {
    0x01: (3, _with_availability(lambda call: _count(_by_mask(call.state, call.pdu[2])))),
    0x02: (3, _with_availability(lambda call: _list(call.state, _by_mask(call.state, call.pdu[2])))),
    0x03: (2, _snapshot_index),
    0x04: (6, _snapshots),
    0x06: (6, _extended),
    0x07: (4, _with_availability(lambda call: _count(_by_severity(call.state, call.pdu[2], call.pdu[3])))),
    0x08: (
        4,
        _with_availability(
            lambda call: b"".join(
                _severity(call.state, number, entry)
                for number, entry in _by_severity(call.state, call.pdu[2], call.pdu[3])
            )
        ),
    ),
    0x09: (
        5,
        _with_availability(lambda call: _severity(call.state, _number(call), call.state.dtcs.entries[_number(call)])),
    ),
    0x0A: (2, _with_availability(lambda call: _list(call.state, call.state.dtcs.entries.items()))),
    0x0B: (2, _noted("first_failed")),
    0x0C: (2, _noted("first_confirmed")),
    0x0D: (2, _noted("last_failed")),
    0x0E: (2, _noted("last_confirmed")),
    0x14: (2, _detections),
    0x15: (2, _with_availability(_permanent)),
    0x16: (3, _extended_record),
    0x42: (5, _wwh_obd),
    0x55: (3, lambda call: bytes((call.pdu[2], _available(call.state), _FORMAT)) + _permanent(call)),
}
"""Length of the request, and what the answer carries, by sub-function."""

_SUBFUNCTIONS = dict.fromkeys(_ANSWERS, SubFunction())


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _SUBFUNCTIONS


def _out_of_range(call: Call) -> bool:
    if call.sub in (0x42, 0x55):
        return call.pdu[2] != _EMISSIONS
    if call.sub in (0x04, 0x06, 0x09) and _number(call) not in call.state.dtcs.entries:
        return True
    if call.sub == 0x04:
        return call.pdu[5] not in (FIRST_FAILURE, LAST_FAILURE, _ALL_RECORDS)
    if call.sub == 0x16:
        return call.pdu[2] not in call.state.ecu.extended_data
    return call.sub == 0x06 and call.pdu[5] != _ALL_RECORDS and call.pdu[5] not in call.state.ecu.extended_data


SERVICE = Service(
    0x19,
    lambda call: bytes((call.sub,)) + _ANSWERS[call.sub][1](call),
    subfunctions=_subfunctions,
    rules=(
        Rule(
            0x13,
            "the length is not that of the sub-function",
            _SOURCE,
            lambda call: len(call.pdu) != _ANSWERS[call.sub][0],
        ),
        Rule(0x31, "the ECU has no such code, record or functional group", _SOURCE, _out_of_range),
    ),
)
