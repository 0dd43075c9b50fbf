"""ReadScalingDataByIdentifier (0x24; ISO 14229-1:2020, 11.4 and annex C): how the ECU says its values are coded.

udsoncan does not have this service; the units are its table.
"""

from udsoncan.common.Units import Units

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service
from ecu_adapters.uds.tester import Exchange

_TYPES = (
    "unsigned", "signed", "bits_without_mask", "bits_with_mask", "bcd", "states", "ascii", "float", "packet",
    "formula", "unit", "states_and_connection",
)  # fmt: skip
"""Data types by the high nibble of a scaling byte (table C.1)."""
_MASK, _FORMULA, _UNIT, _STATES = 2, 9, 10, 11
_FORMULAS = (
    "c0 * x + c1", "c0 * (x + c1)", "c0 / (x + c1) + c2", "x / c0 + c1", "(x + c0) / c1", "(x + c0) / c1 + c2",
    "c0 * x", "x / c0", "x + c0", "x * c0 / c1",
)  # fmt: skip
"""Formulas by identifier (table C.3)."""


async def _read_scaling(use: Call, did: Plain) -> Outcome:
    number, name, _ = arguments.data_identifier(use.ecu, did)
    asked = bytes((0x24, number >> 8, number & 0xFF))
    response, exchange = await use.raw(asked)
    if response[1:3] != asked[1:] or len(response) < 4:
        raise use.malformed(f"has no scaling of {name}", exchange)
    data, scaling = response[3:], list[Plain]()
    while data:
        one, data = _scaling(use, data, exchange)
        scaling.append(one)
    return Outcome({"name": name, "did": number, "scaling": scaling}, exchange)


def _scaling(use: Call, data: bytes, exchange: Exchange) -> tuple[dict[str, Plain], bytes]:
    kind, size, rest = data[0] >> 4, data[0] & 0xF, data[1:]
    name = _TYPES[kind] if kind < len(_TYPES) else f"0x{kind:X}"
    extra = {_MASK: size, _FORMULA: size, _UNIT: 1, _STATES: 1}.get(kind, 0)
    if len(rest) < extra:
        raise use.malformed(f"ends within a scaling of type {name}", exchange)
    extension, rest = rest[:extra], rest[extra:]
    result: dict[str, Plain] = {"type": name}
    if kind == _MASK:
        result["mask"] = extension
    elif kind == _UNIT:
        result["unit"] = _unit(extension[0])
    elif kind == _STATES:
        result["coding"] = extension[0]
    if kind == _FORMULA and extension:
        formula, constants = extension[0], extension[1:]
        result["formula"] = _FORMULAS[formula] if formula < len(_FORMULAS) else f"0x{formula:02X}"
        result["constants"] = [_constant(constants[at : at + 2]) for at in range(0, len(constants) - 1, 2)]
    elif kind not in (_FORMULA, _UNIT):
        result["bytes"] = size
    return result, rest


def _constant(data: bytes) -> float:
    """Exponent (4 bits) and mantissa (12 bits), both two's complement: mantissa * 10^exponent (table C.4)."""
    word = int.from_bytes(data, "big")
    exponent, mantissa = word >> 12, word & 0xFFF
    exponent -= 16 if exponent > 7 else 0
    mantissa -= 4096 if mantissa > 2047 else 0
    return float(f"{mantissa}e{exponent}")


def _unit(number: int) -> str:
    """The symbol of a unit or prefix (table C.5)."""
    for group in (Units, Units.Prefixs):
        for found in vars(group).values():
            if getattr(found, "id", None) == number:
                return str(found.symbol or found.name)
    return f"0x{number:02X}"


SERVICES = {"read_scaling": Service(_read_scaling, ("did",))}
