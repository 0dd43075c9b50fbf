"""DynamicallyDefineDataIdentifier (0x2C): data identifiers put together from others, or from memory."""

from collections.abc import Mapping

from ecu_adapters.dids import Access
from ecu_adapters.simulator.address import Format, format_of
from ecu_adapters.simulator.data import DYNAMIC, Part, Source
from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction, access_rows
from ecu_adapters.simulator.state import EcuState

_SOURCE = "ISO 14229-1:2020, 11.6"
_BY_IDENTIFIER, _BY_ADDRESS, _CLEAR = 0x01, 0x02, 0x03
_MOST_BYTES = 4092
"""Of one dynamic data identifier: as many as a static one can have."""


def _subfunctions(state: EcuState) -> Mapping[int, SubFunction]:
    subs = [_BY_IDENTIFIER, _CLEAR, *([_BY_ADDRESS] if state.ecu.memory.regions else [])]
    return dict.fromkeys(subs, SubFunction())


def _target(call: Call) -> int:
    return int.from_bytes(call.pdu[2:4], "big")


def _too_short(call: Call) -> bool:
    length = len(call.pdu)
    if call.sub == _CLEAR:
        return length not in (2, 4)
    return length < (8 if call.sub == _BY_IDENTIFIER else 7)


def _bad_target(call: Call) -> bool:
    if len(call.pdu) == 2:
        return False
    return _target(call) not in DYNAMIC or _target(call) in call.state.data.models


def _format(call: Call) -> Format | None:
    return format_of(call.pdu[4], call.state.ecu.memory)


def _bad_format(call: Call) -> bool:
    return call.sub == _BY_ADDRESS and _format(call) is None


def _wrong_length(call: Call) -> bool:
    if call.sub == _BY_IDENTIFIER:
        return (len(call.pdu) - 4) % 4 != 0
    layout = _format(call) if call.sub == _BY_ADDRESS else None
    return layout is not None and (len(call.pdu) == 5 or (len(call.pdu) - 5) % layout.length != 0)


def _sources(call: Call) -> list[Source]:
    pdu = call.pdu
    if call.sub == _BY_IDENTIFIER:
        return [Part(int.from_bytes(pdu[at : at + 2], "big"), pdu[at + 2], pdu[at + 3]) for at in range(4, len(pdu), 4)]
    layout = _format(call) if call.sub == _BY_ADDRESS else None
    if layout is None:
        return []
    return [layout.range_at(pdu, at) for at in range(5, len(pdu), layout.length)]


def _bad_source(call: Call) -> bool:
    if call.sub == _CLEAR:
        return False
    sources = _sources(call)
    for source in sources:
        accesses = call.state.data.source_accesses(source)
        if accesses is None or not all(map(call.state.allows, accesses)):
            return True
    size = call.state.data.length(_target(call)) if _target(call) in call.state.data.dynamic else 0
    return size + sum(source.size for source in sources) > _MOST_BYTES


def _accesses(call: Call) -> list[Access]:
    if call.sub == _CLEAR:
        return []
    return [access for source in _sources(call) for access in call.state.data.source_accesses(source) or ()]


def _act(call: Call) -> bytes:
    dynamic = call.state.data.dynamic
    if call.sub != _CLEAR:
        dynamic.setdefault(_target(call), []).extend(_sources(call))
    elif len(call.pdu) == 2:
        dynamic.clear()
    else:
        dynamic.pop(_target(call), None)
    return bytes((call.sub,)) + call.pdu[2:4]


SERVICE = Service(
    0x2C,
    _act,
    subfunctions=_subfunctions,
    rules=(
        Rule(0x13, "the length is too small for the sub-function", _SOURCE, _too_short),
        Rule(0x31, "the target is not of F200 .. F3FF, or the ECU has it by itself", _SOURCE, _bad_target),
        Rule(0x31, "the ECU does not take the format of address and size", _SOURCE, _bad_format),
        Rule(0x13, "the length is not that of whole sources", _SOURCE, _wrong_length),
        Rule(0x31, "a source is unknown, not readable in the session, or too long", _SOURCE, _bad_source),
        *access_rows(_accesses, "a source", _SOURCE),
    ),
)
