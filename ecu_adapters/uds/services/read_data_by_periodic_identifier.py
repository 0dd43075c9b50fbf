"""ReadDataByPeriodicIdentifier (0x2A; ISO 14229-1:2020, 11.5): values that the ECU then sends by itself.

udsoncan does not have this service. What the ECU sends is gathered by the tester; `collect_periodic` takes it.
"""

from ecu_adapters.uds.services import arguments, results
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid
from ecu_adapters.uds.unsolicited import Pdu

RATES = {"slow": 0x01, "medium": 0x02, "fast": 0x03}
"""Transmission modes by name (annex C.4)."""
_STOP = 0x04
_BASE = 0xF200
"""Periodic identifiers are the low bytes of the data identifiers 0xF200 .. 0xF2FF."""
_MOST = 1000
_LONGEST_MS = 3_600_000


async def _read_periodic(use: Call, dids: Plain, rate: Plain = "medium") -> Outcome:
    number = arguments.named(rate, RATES, "rate", 3)
    if number == 0:
        raise UdsInvalid("rate is 0; it must be slow (1), medium (2) or fast (3)")
    identifiers = _identifiers(use, dids)
    if not identifiers:
        raise UdsInvalid("dids is empty; give at least one data identifier from 0xF200 to 0xF2FF")
    _, exchange = await use.raw(bytes((0x2A, number)) + identifiers)
    return Outcome(None, exchange)


async def _stop_periodic(use: Call, dids: Plain = None) -> Outcome:
    _, exchange = await use.raw(bytes((0x2A, _STOP)) + (b"" if dids is None else _identifiers(use, dids)))
    return Outcome(None, exchange)


async def _collect_periodic(use: Call, count: Plain = 1, wait_ms: Plain = None) -> Outcome:
    """The values that came since the last call, and those that still come until there are ``count``."""
    wanted = arguments.integer(count, "count", _MOST, least=1)
    wait_s = use.timeout_s if wait_ms is None else arguments.integer(wait_ms, "wait_ms", _LONGEST_MS) / 1000
    found = await use.tester.unsolicited.periodic.take(wanted, min(wait_s, use.timeout_s))
    return Outcome([_value(use, pdu) for pdu in found], None)


def _identifiers(use: Call, dids: Plain) -> bytes:
    numbers = []
    for did in dids if isinstance(dids, list) else [dids]:
        number, name, _ = arguments.data_identifier(use.ecu, did, "dids")
        if number <= 0xFF and not isinstance(did, str):
            number += _BASE
        if not _BASE <= number <= _BASE + 0xFF:
            raise UdsInvalid(f"{name} is 0x{number:04X}; periodic identifiers are 0xF200 .. 0xF2FF")
        numbers.append(number - _BASE)
    return bytes(numbers)


def _value(use: Call, pdu: Pdu) -> Plain:
    number, raw = _BASE + pdu.data[1], pdu.data[2:]
    _, name, model = arguments.data_identifier(use.ecu, number)
    if model is not None and pdu.padded:
        raw = raw[: model.length]
    if model is not None and len(raw) == model.length:
        value, unit = results.plain(model.decode(raw)), results.units_of(model)
    else:
        value, unit = raw, ""
    return {"name": name, "did": number, "value": value, "unit": unit, "raw": raw, "at": pdu.at}


SERVICES = {
    "read_periodic": Service(_read_periodic, ("dids",), ("rate",)),
    "stop_periodic": Service(_stop_periodic, optional=("dids",)),
    "collect_periodic": Service(_collect_periodic, optional=("count", "wait_ms"), exchanges=0),
}
