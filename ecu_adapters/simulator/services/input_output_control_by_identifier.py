"""InputOutputControlByIdentifier (0x2F): takes a data identifier's value out of the ECU's hands."""

from ecu_adapters import records
from ecu_adapters.dids import Access, Did, StructDid
from ecu_adapters.simulator.rules import Call, Rule, Service, access_rows

_SOURCE = "ISO 14229-1:2020, 13.1"
_RETURN, _DEFAULT, _FREEZE, _ADJUST = 0x00, 0x01, 0x02, 0x03
"""inputOutputControlParameter (annex E.1)."""


def _number(call: Call) -> int:
    return int.from_bytes(call.pdu[1:3], "big")


def _did(call: Call) -> Did:
    return call.state.data.models[_number(call)]


def _access(call: Call) -> list[Access]:
    did = call.state.data.models.get(_number(call))
    if did is None or did.control is False or not call.state.allows(did.control):
        return []
    return [did.control]


def _mask_length(did: Did) -> int:
    """Bytes of the controlEnableMask: a bit for each field of a structure."""
    return (len(did.value) + 7) // 8 if isinstance(did, StructDid) else 0


def _state_length(call: Call) -> int:
    return _did(call).length if call.pdu[3] == _ADJUST else 0


def _wrong_length(call: Call) -> bool:
    least = 4 + _state_length(call)
    return len(call.pdu) not in (least, least + _mask_length(_did(call)))


def _bad_state(call: Call) -> bool:
    return call.pdu[3] == _ADJUST and not _did(call).accepts(call.pdu[4 : 4 + _did(call).length])


def _masked(call: Call, new: bytes) -> bytes:
    """``new`` in the fields that the mask names, the present value in the others."""
    did, mask = _did(call), call.pdu[4 + _state_length(call) :]
    if not isinstance(did, StructDid) or not mask:
        return new
    values, wanted = records.decode(did.fields, call.state.data.read(_number(call))), records.decode(did.fields, new)
    for index, name in enumerate(values):
        if mask[index // 8] & 0x80 >> index % 8:
            values[name] = wanted[name]
    return records.encode(did.fields, values)


def _act(call: Call) -> bytes:
    data, number, parameter = call.state.data, _number(call), call.pdu[3]
    if parameter == _RETURN:
        data.release(number)
    elif parameter == _DEFAULT:
        data.control(number, _masked(call, data.initial(number)))
    elif parameter == _FREEZE:
        data.control(number, data.read(number))
    else:
        data.control(number, _masked(call, call.pdu[4 : 4 + _did(call).length]))
    return call.pdu[1:4] + data.read(number)


SERVICE = Service(
    0x2F,
    _act,
    offered=lambda ecu: any(did.control is not False for did in ecu.dids.values()),
    outside_default=True,
    rules=(
        Rule(0x13, "the length is below 4", _SOURCE, lambda call: len(call.pdu) < 4),
        Rule(
            0x31,
            "the identifier cannot be controlled in the active session",
            _SOURCE,
            lambda call: not _access(call),
        ),
        Rule(0x31, "there is no such control parameter", _SOURCE, lambda call: call.pdu[3] > _ADJUST),
        *access_rows(_access, "the identifier", _SOURCE),
        Rule(0x13, "the length is not that of state and mask", _SOURCE, _wrong_length),
        Rule(0x31, "the state is not allowed", _SOURCE, _bad_state),
    ),
)
