"""Values of data identifiers and structures, out of response bytes."""

from collections.abc import Mapping, Sequence

from ecu_adapters import records
from ecu_adapters.dids import Did, DidValue, StructDid
from ecu_adapters.records import Part
from ecu_adapters.uds.services.base import Call, Plain
from ecu_adapters.uds.tester import Exchange, UdsUnexpected


def value_of(use: Call, name: str, model: Did | None, data: bytes, exchange: Exchange) -> Plain:
    """The value of a data identifier; the bytes themselves when it is not described. Raises UdsUnexpected."""
    if model is None:
        return data
    if len(data) != model.length:
        raise _other_length(use, name, data, model.length, exchange)
    return plain(model.decode(data))


def units_of(model: Did | None) -> Plain:
    """The unit, or for a structure the units by field name; "" when it has none."""
    return {**records.units(model.fields)} if isinstance(model, StructDid) else model.unit if model else ""


def structure(use: Call, fields: Sequence[Part], data: bytes, what: str, exchange: Exchange) -> dict[str, Plain]:
    """The values of a structure by field name. Raises UdsUnexpected."""
    expected = records.length(fields)
    if len(data) != expected:
        raise _other_length(use, what, data, expected, exchange)
    return {**records.decode(fields, data)}


def plain(value: DidValue) -> Plain:
    """A value as it leaves the services."""
    return {**value} if isinstance(value, Mapping) else value


def _other_length(use: Call, what: str, data: bytes, expected: int, exchange: Exchange) -> UdsUnexpected:
    text = f"{what} of {use.ecu.name} has {len(data)} bytes ({data.hex()}); its description says {expected}"
    return UdsUnexpected(text, exchange)
