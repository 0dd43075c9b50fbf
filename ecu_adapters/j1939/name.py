"""The 64-bit NAME by which nodes claim an address (J1939-81, 4.1.1)."""

from dataclasses import dataclass, fields
from typing import Self

from ecu_adapters.j1939.identifier import IdentifierError

_BITS = {
    "identity_number": (0, 21),
    "manufacturer_code": (21, 11),
    "ecu_instance": (32, 3),
    "function_instance": (35, 5),
    "function": (40, 8),
    "vehicle_system": (49, 7),
    "vehicle_system_instance": (56, 4),
    "industry_group": (60, 3),
    "arbitrary_address": (63, 1),
}
"""First bit and width of each field; bit 48 is reserved."""


@dataclass(frozen=True, slots=True)
class Name:
    """The lower NAME wins an address. Raises IdentifierError for a field that does not fit its bits."""

    identity_number: int = 0
    manufacturer_code: int = 0
    ecu_instance: int = 0
    function_instance: int = 0
    function: int = 129
    """129: off-board diagnostic-service tool."""
    vehicle_system: int = 0
    vehicle_system_instance: int = 0
    industry_group: int = 0
    arbitrary_address: int = 0
    """1: the node could take another address. Nodes here do not: they lose theirs, and say so."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value, width = getattr(self, field.name), _BITS[field.name][1]
            if not 0 <= value < 1 << width:
                raise IdentifierError(f"{field.name} is {value}; it must be 0 .. {(1 << width) - 1}")

    @classmethod
    def of(cls, number: int) -> Self:
        """The fields of a NAME. Raises IdentifierError for more than 64 bits."""
        if not 0 <= number < 1 << 64:
            raise IdentifierError(f"NAME is {number:#x}; it has 64 bits")
        return cls(**{name: number >> first & (1 << width) - 1 for name, (first, width) in _BITS.items()})

    def __int__(self) -> int:
        return sum(getattr(self, name) << first for name, (first, _) in _BITS.items())
