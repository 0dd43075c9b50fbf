"""Parameters of ODX requests and responses: where they are, and what their bits mean."""

from collections.abc import Iterable
from typing import Any

from odxtools.basicstructure import BasicStructure
from odxtools.compumethods.compumethod import CompuMethod
from odxtools.compumethods.identicalcompumethod import IdenticalCompuMethod
from odxtools.compumethods.linearcompumethod import LinearCompuMethod
from odxtools.compumethods.texttablecompumethod import TexttableCompuMethod
from odxtools.dataobjectproperty import DataObjectProperty
from odxtools.diagcodedtype import DiagCodedType
from odxtools.odxtypes import DataType
from odxtools.parameters.codedconstparameter import CodedConstParameter
from odxtools.parameters.parameter import Parameter
from odxtools.parameters.parameterwithdop import ParameterWithDOP
from odxtools.parameters.reservedparameter import ReservedParameter
from odxtools.standardlengthtype import StandardLengthType

from ecu_adapters.descriptions.layout import Placed, Unmapped, big_endian

_INTEGERS = {DataType.A_UINT32: "uint", DataType.A_INT32: "int"}
_FLOATS = {DataType.A_FLOAT32, DataType.A_FLOAT64}
_TEXTS = {DataType.A_ASCIISTRING, DataType.A_UTF8STRING}


def constants(parameters: Iterable[Parameter]) -> bytes:
    """The constant bytes that a request begins with."""
    head, at = b"", 0
    for parameter in parameters:
        at = at if parameter.byte_position is None else parameter.byte_position
        if not isinstance(parameter, CodedConstParameter) or at != len(head) or parameter.bit_position:
            break
        bits, value = parameter.get_static_bit_length(), parameter.coded_value
        if bits is None or bits % 8 or not isinstance(value, int):
            break
        head += value.to_bytes(bits // 8, "big")
        at = len(head)
    return head


def placed_from(parameters: Iterable[Parameter], first: int) -> tuple[list[Placed], list[str]]:
    """The values from byte ``first`` on, and notes on what of their meaning is lost. Raises Unmapped."""
    placed, notes = list[Placed](), list[str]()
    _collect(parameters, 0, first, "", placed, notes)
    return [Placed(one.name, one.start - 8 * first, one.bits, one.coding) for one in placed], notes


def _collect(
    parameters: Iterable[Parameter], base: int, first: int, prefix: str, placed: list[Placed], notes: list[str]
) -> int:
    """Adds what lies from byte ``first`` on; returns the byte after the last one."""
    at = base
    for parameter in parameters:
        byte = at if parameter.byte_position is None else base + parameter.byte_position
        name = f"{prefix}{parameter.short_name}"
        dop = parameter.dop if isinstance(parameter, ParameterWithDOP) else None
        if isinstance(dop, BasicStructure):
            end = _collect(dop.parameters, byte, first, f"{name}.", placed, notes)
            at = max(at, byte + dop.byte_size if dop.byte_size is not None else end)
            continue
        bits = parameter.get_static_bit_length()
        if bits is None:
            raise Unmapped(f"the length of {name} ({parameter.parameter_type}) is not fixed")
        low = parameter.bit_position or 0
        at = max(at, byte + (low + bits + 7) // 8)
        if byte < first or isinstance(parameter, ReservedParameter):
            continue
        if isinstance(parameter, CodedConstParameter):
            coding = _constant(name, parameter)
            placed.append(_place(name, byte, low, bits, coding, parameter.diag_coded_type))
        elif isinstance(dop, DataObjectProperty):
            coding = _meaning(name, dop, notes)
            placed.append(_place(name, byte, low, bits, coding, dop.diag_coded_type))
        else:
            kind = type(dop).__name__ if dop is not None else parameter.parameter_type
            raise Unmapped(f"{name} is of kind {kind}")
    return at


def _place(name: str, byte: int, low: int, bits: int, coding: dict[str, Any], coded: DiagCodedType) -> Placed:
    if coded.is_highlow_byte_order or low + bits <= 8 or coding["type"] not in ("uint", "int", "float"):
        return Placed(name, big_endian(byte, low, bits), bits, coding)
    if low or bits % 8:
        raise Unmapped(f"{name} has {bits} bits in Intel byte order")
    return Placed(name, 8 * byte, bits, {**coding, "byte_order": "little"})


def _constant(name: str, parameter: CodedConstParameter) -> dict[str, Any]:
    if not isinstance(parameter.coded_value, int):
        raise Unmapped(f"{name} is a constant that is no integer")
    return {"type": "uint", "value": parameter.coded_value}


def _meaning(name: str, dop: DataObjectProperty, notes: list[str]) -> dict[str, Any]:
    coding = _type(name, dop.diag_coded_type)
    if coding["type"] in ("uint", "int", "float") and dop.unit is not None:
        coding["unit"] = dop.unit.display_name
    if coding["type"] in ("uint", "int"):
        coding |= _conversion(name, dop.compu_method, notes)
    elif not isinstance(dop.compu_method, IdenticalCompuMethod):
        notes.append(f"the conversion of {name} ({dop.compu_method.category.value}) is not mapped: raw values")
    return coding


def _type(name: str, coded: DiagCodedType) -> dict[str, Any]:
    if not isinstance(coded, StandardLengthType) or coded.bit_mask is not None:
        raise Unmapped(f"{name} has a length of its own, or a bit mask ({coded.dct_type})")
    kind = coded.base_data_type
    if kind in _INTEGERS:
        return {"type": _INTEGERS[kind]}
    if kind in _FLOATS:
        return {"type": "float"}
    if kind in _TEXTS:
        return {"type": "ascii"}
    if kind == DataType.A_BYTEFIELD:
        return {"type": "hex"}
    raise Unmapped(f"{name} is of type {kind.value}")


def _conversion(name: str, method: CompuMethod, notes: list[str]) -> dict[str, Any]:
    if isinstance(method, LinearCompuMethod):
        segment = method.segment
        if segment.factor:
            return _scaling(segment.factor / segment.denominator, segment.offset / segment.denominator)
    if isinstance(method, TexttableCompuMethod):
        return _choices(name, method, notes)
    if not isinstance(method, IdenticalCompuMethod):
        notes.append(f"the conversion of {name} ({method.category.value}) is not mapped: raw values")
    return {}


def _scaling(scale: float, offset: float) -> dict[str, Any]:
    return ({"scale": scale} if scale != 1 else {}) | ({"offset": offset} if offset else {})


def _choices(name: str, method: TexttableCompuMethod, notes: list[str]) -> dict[str, Any]:
    choices: dict[int, str] = {}
    scales = method.compu_internal_to_phys.compu_scales if method.compu_internal_to_phys is not None else []
    for scale in scales:
        low = scale.lower_limit.value if scale.lower_limit is not None else None
        high = scale.upper_limit.value if scale.upper_limit is not None else low
        text = scale.compu_const.vt if scale.compu_const is not None else None
        if isinstance(low, int) and low == high and text and text not in choices.values():
            choices[low] = text
        else:
            notes.append(f"a text of {name} ({text or 'unnamed'}) is not mapped: it stands for {low} .. {high}")
    return {"choices": choices} if choices else {}
