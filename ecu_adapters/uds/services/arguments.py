"""Plain arguments of services: looked up by name, checked, and turned into what goes on the wire.

All functions raise UdsInvalid, naming the argument and what would be right. Bytes may be given as hexadecimal text.
"""

from collections.abc import Mapping
from typing import Any

from udsoncan.common.MemoryLocation import MemoryLocation

from ecu_adapters import records
from ecu_adapters.description import EcuDescription
from ecu_adapters.dids import Did
from ecu_adapters.records import Part
from ecu_adapters.routines import Routine
from ecu_adapters.uds import dtc as dtc_code
from ecu_adapters.uds.services.base import Plain, UdsInvalid
from ecu_adapters.yaml_file import nearest


def integer(value: Any, argument: str, limit: int, *, least: int = 0) -> int:
    """An integer from ``least`` to ``limit``."""
    # Lua and JSON have one kind of number: 1.0 means 1.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= limit:
        raise UdsInvalid(f"{argument} is {value!r}; it must be an integer from {least} to 0x{limit:X}")
    return value


def byte(value: Plain, argument: str) -> int:
    """An integer from 0 to 0xFF."""
    return integer(value, argument, 0xFF)


def named(value: Plain, names: Mapping[str, int], argument: str, limit: int = 0xFF) -> int:
    """One of ``names``, or its number."""
    if isinstance(value, str):
        if value not in names:
            raise UdsInvalid(f"unknown {argument} {value!r}; {nearest(value, names)}")
        return names[value]
    return integer(value, argument, limit)


def name_of(number: int, names: Mapping[str, int]) -> str:
    """The name of a number, or the number in hexadecimal."""
    return next((name for name, value in names.items() if value == number), f"0x{number:02X}")


def octets(value: Plain, argument: str, *, least: int = 0, most: int = 0xFFFF_FFFF) -> bytes:
    """Bytes, or hexadecimal text for them."""
    # The value may be a key: no error shows it.
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value)
        except ValueError:
            raise UdsInvalid(f"{argument} must be bytes or hexadecimal text of whole bytes") from None
    if not isinstance(value, bytes):
        raise UdsInvalid(f"{argument} must be bytes or hexadecimal text, not {type(value).__name__}")
    if not least <= len(value) <= most:
        limits = f"{least} or more" if most >= 0xFFFF_FFFF else f"{least} .. {most}"
        raise UdsInvalid(f"{argument} has {len(value)} bytes; it must have {limits}")
    return value


def trouble_code(value: Plain, argument: str = "dtc") -> int:
    """The three bytes of a trouble code, from "P0301" or the number."""
    if not isinstance(value, str):
        return integer(value, argument, 0xFFFFFF)
    try:
        return dtc_code.parse(value)
    except ValueError as error:
        raise UdsInvalid(f"{argument}: {error}") from error


def data_identifier(ecu: EcuDescription, did: Plain, argument: str = "did") -> tuple[int, str, Did | None]:
    """Number, name and model of a data identifier; any number goes, described or not."""
    if isinstance(did, str):
        model = ecu.dids.get(did)
        if model is None:
            raise UdsInvalid(f"unknown data identifier {did!r} of {ecu.name}; {nearest(did, ecu.dids)}")
        return model.did, did, model
    number = integer(did, argument, 0xFFFF)
    found = ecu.did_by_number(number)
    return (number, *found) if found is not None else (number, f"0x{number:04X}", None)


def routine(ecu: EcuDescription, name: Plain) -> tuple[int, str, Routine | None]:
    """Number, name and model of a routine; any number goes, described or not."""
    if isinstance(name, str):
        model = ecu.routines.get(name)
        if model is None:
            raise UdsInvalid(f"unknown routine {name!r} of {ecu.name}; {nearest(name, ecu.routines)}")
        return model.id, name, model
    number = integer(name, "routine", 0xFFFF)
    found = ecu.routine_by_number(number)
    return (number, *found) if found is not None else (number, f"0x{number:04X}", None)


def structure(fields: list[Part], value: Plain, argument: str) -> bytes:
    """The bytes of a structure, from a table by field name."""
    if value is None or value == []:  # an empty table of Lua may be a list
        value = {}
    if isinstance(value, str | bytes):
        return octets(value, argument)
    if not isinstance(value, dict):
        raise UdsInvalid(f"{argument} must be a table by field name, or bytes, not {value!r}")
    try:
        return records.encode(fields, value)
    except ValueError as error:
        raise UdsInvalid(f"{argument}: {error}") from error


def memory(ecu: EcuDescription, address: Plain, size: Plain, address_bytes: Plain, size_bytes: Plain) -> MemoryLocation:
    """A memory range with the widths of its address and size in bytes (ISO 14229-1:2020, annex H.1).

    Without them, those of the ECU's description.
    """
    widths = [
        8 * integer(ecu_width if width is None else width, name, 8, least=1)
        for width, ecu_width, name in (
            (address_bytes, ecu.memory.address_bytes, "address_bytes"),
            (size_bytes, ecu.memory.size_bytes, "size_bytes"),
        )
    ]
    # udsoncan packs both as signed numbers of 8 bytes.
    location = integer(address, "address", min((1 << widths[0]) - 1, (1 << 63) - 1))
    count = integer(size, "size", min((1 << widths[1]) - 1, (1 << 63) - 1), least=1)
    return MemoryLocation(location, count, *widths)
