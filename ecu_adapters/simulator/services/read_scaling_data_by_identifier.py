"""ReadScalingDataByIdentifier (0x24): how the bytes of a data identifier are to be read (ISO 14229-1, annex C.2)."""

import math

from ecu_adapters.dids import Access, AsciiDid, Did, FloatDid, NumberDid
from ecu_adapters.simulator.rules import Call, Rule, Service, access_rows

_SOURCE = "ISO 14229-1:2020, 11.4"
_UNSIGNED, _SIGNED, _STATES, _ASCII, _FLOAT, _PACKET, _FORMULA = 0x00, 0x10, 0x50, 0x60, 0x70, 0x80, 0x90
"""High nibble of a scalingByte: the type. The low one is a number of bytes."""
_LINEAR = 0x00
"""formulaIdentifier: y = C0 * x + C1."""


def _number(call: Call) -> int:
    return int.from_bytes(call.pdu[1:3], "big")


def _accesses(call: Call) -> list[Access]:
    return call.state.reading(_number(call)) or []


def _scaling(did: Did | None, length: int) -> bytes:
    if isinstance(did, NumberDid):
        kind = _STATES if did.choices else _SIGNED if did.type == "int" else _UNSIGNED
        return bytes((kind | length,)) + _formula(did.scale, did.offset)
    kind = _ASCII if isinstance(did, AsciiDid) else _FLOAT if isinstance(did, FloatDid) else _PACKET
    # More bytes than the low nibble counts take several scaling bytes.
    return bytes([kind | 0xF] * (length // 15) + ([kind | length % 15] if length % 15 else []))


def _formula(scale: float, offset: float) -> bytes:
    """Nothing where the raw value is the physical one, or the constants cannot be written."""
    constants = [_constant(scale), _constant(offset)]
    if (scale == 1 and offset == 0) or None in constants:
        return b""
    return bytes((_FORMULA | 5, _LINEAR)) + b"".join(constant for constant in constants if constant is not None)


def _constant(value: float) -> bytes | None:
    """Four bits of decimal exponent and twelve of mantissa, both two's complement (annex C.2.3)."""
    if value == 0:
        return b"\0\0"
    for exponent in range(7, -9, -1):
        mantissa = value / 10.0**exponent
        if math.isclose(mantissa, round(mantissa), rel_tol=1e-9) and -2048 <= round(mantissa) <= 2047:
            return ((exponent & 0xF) << 12 | round(mantissa) & 0xFFF).to_bytes(2, "big")
    return None


def _act(call: Call) -> bytes:
    number = _number(call)
    return call.pdu[1:3] + _scaling(call.state.data.models.get(number), call.state.data.length(number))


SERVICE = Service(
    0x24,
    _act,
    rules=(
        Rule(0x13, "the length is not 3", _SOURCE, lambda call: len(call.pdu) != 3),
        Rule(
            0x31,
            "the identifier cannot be read in the active session",
            _SOURCE,
            lambda call: call.state.reading(_number(call)) is None,
        ),
        *access_rows(_accesses, "the identifier", _SOURCE),
    ),
)
