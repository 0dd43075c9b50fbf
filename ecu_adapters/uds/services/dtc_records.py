"""Snapshots and extended data of trouble codes (ReadDTCInformation 0x19, sub-functions 03 to 06, 10, 16, 18, 19).

The responses say which identifiers and records follow, never how long they are: only the ECU's description knows.
Where it does not, the rest is returned undecoded rather than refused, as udsoncan would.
"""

from collections.abc import Iterator

from ecu_adapters import records
from ecu_adapters.uds.services import arguments, results
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service
from ecu_adapters.uds.services.read_dtc_information import described
from ecu_adapters.uds.tester import Exchange

_ALL = 0xFF
"""Record number that asks for all of them."""
_MIRROR = "mirror"


async def _dtc_snapshots(use: Call) -> Outcome:
    """Which snapshots there are (03)."""
    response, exchange = await use.raw(b"\x19\x03")
    data = response[2:]
    if len(data) % 4:
        raise use.malformed("does not hold whole snapshot entries", exchange)
    found: list[Plain] = [
        {**described(use, int.from_bytes(data[at : at + 3], "big")), "record": data[at + 3]}
        for at in range(0, len(data), 4)
    ]
    return Outcome(found, exchange)


async def _dtc_snapshot(use: Call, dtc: Plain, record: Plain = _ALL, memory: Plain = None) -> Outcome:
    """The snapshots of one code (04), also in a user-defined memory (18)."""
    request, head = _by_code(0x04, 0x18, dtc, arguments.byte(record, "record"), memory)
    response, exchange = await use.raw(request)
    entry, data = _head(use, response, head, exchange)
    snapshots: list[Plain] = []
    while data:
        if len(data) < 2:
            raise use.malformed("ends within a snapshot record", exchange)
        number, count = data[0], data[1]
        snapshot, data = _snapshot(use, data[2:], count, exchange)
        snapshots.append({"record": number, **snapshot})
    return Outcome({**entry, "snapshots": snapshots}, exchange)


async def _snapshot_record(use: Call, record: Plain) -> Outcome:
    """One snapshot record of all codes (05)."""
    response, exchange = await use.raw(bytes((0x19, 0x05, arguments.byte(record, "record"))))
    data, found = response[2:], list[Plain]()
    while data:
        number, data = data[0], data[1:]
        if not data:
            break  # a record number with no code behind it: nothing is stored (ISO 14229-1:2020, 12.3)
        if len(data) < 5:
            raise use.malformed("ends within a snapshot record", exchange)
        entry = described(use, int.from_bytes(data[:3], "big"), data[3])
        snapshot, data = _snapshot(use, data[5:], data[4], exchange)
        found.append({**entry, "record": number, **snapshot})
    return Outcome(found, exchange)


async def _dtc_extended_data(use: Call, dtc: Plain, record: Plain = _ALL, memory: Plain = None) -> Outcome:
    """The extended data of one code (06), also in the mirror (10) or a user-defined memory (19)."""
    number = arguments.byte(record, "record")
    if memory == _MIRROR:
        request, head = _by_code(0x10, 0x10, dtc, number, None)
    else:
        request, head = _by_code(0x06, 0x19, dtc, number, memory)
    response, exchange = await use.raw(request)
    entry, data = _head(use, response, head, exchange)
    found: list[Plain] = []
    while data:
        one, data = _extended(use, data[0], data[1:], exchange)
        found.append(one)
    return Outcome({**entry, "records": found}, exchange)


async def _extended_data_record(use: Call, record: Plain) -> Outcome:
    """One record of extended data of all codes (16)."""
    number = arguments.integer(record, "record", 0xEF, least=1)
    response, exchange = await use.raw(bytes((0x19, 0x16, number)))
    data, found = response[3:], list[Plain]()
    while data:
        if len(data) < 4:
            raise use.malformed("ends within a trouble code", exchange)
        entry = described(use, int.from_bytes(data[:3], "big"), data[3])
        one, data = _extended(use, number, data[4:], exchange)
        found.append({**entry, **one})
    return Outcome(found, exchange)


def _by_code(primary: int, selected: int, dtc: Plain, record: int, memory: Plain) -> tuple[bytes, int]:
    """The request for one code's records, and how many bytes of its response stand before the code."""
    code = arguments.trouble_code(dtc).to_bytes(3, "big")
    if memory is None:
        return bytes((0x19, primary)) + code + bytes((record,)), 2
    return bytes((0x19, selected)) + code + bytes((record, arguments.byte(memory, "memory"))), 3


def _head(use: Call, response: bytes, at: int, exchange: Exchange) -> tuple[dict[str, Plain], bytes]:
    """The code with its status, and what follows it."""
    if len(response) < at + 4:
        raise use.malformed("has no trouble code", exchange)
    number = int.from_bytes(response[at : at + 3], "big")
    return described(use, number, response[at + 3]), response[at + 4 :]


def _snapshot(use: Call, data: bytes, count: int, exchange: Exchange) -> tuple[dict[str, Plain], bytes]:
    """The values of one snapshot record by name, and what follows it."""
    values: dict[str, Plain] = {}
    units: dict[str, Plain] = {}
    rest: dict[str, Plain] = {}
    for _ in _places(count):
        if not data and not count:
            break
        if len(data) < 2:
            raise use.malformed("ends within a snapshot record", exchange)
        _, name, model = arguments.data_identifier(use.ecu, int.from_bytes(data[:2], "big"))
        if model is None:
            # Its length is not known, so neither is where the next identifier begins.
            rest["undecoded"], data = data, b""
            break
        raw, data = data[2 : 2 + model.length], data[2 + model.length :]
        values[name] = results.value_of(use, name, model, raw, exchange)
        if unit := results.units_of(model):
            units[name] = unit
    return {"data": values, "units": units, **rest}, data


def _places(count: int) -> Iterator[int]:
    """As many identifiers as announced; 0 means that their number is not given (ISO 14229-1:2020, 12.3)."""
    return iter(range(count or 0xFFFF))


def _extended(use: Call, number: int, data: bytes, exchange: Exchange) -> tuple[dict[str, Plain], bytes]:
    """One record of extended data, and what follows it."""
    fields = use.ecu.extended_data.get(number)
    if fields is None:
        return {"record": number, "raw": data}, b""
    size = records.length(fields)
    raw, rest = data[:size], data[size:]
    values = results.structure(use, fields, raw, f"extended data record 0x{number:02X}", exchange)
    return {"record": number, "raw": raw, "data": values, "units": {**records.units(fields)}}, rest


SERVICES = {
    "dtc_snapshots": Service(_dtc_snapshots),
    "dtc_snapshot": Service(_dtc_snapshot, ("dtc",), ("record", "memory")),
    "snapshot_record": Service(_snapshot_record, ("record",)),
    "dtc_extended_data": Service(_dtc_extended_data, ("dtc",), ("record", "memory")),
    "extended_data_record": Service(_extended_data_record, ("record",)),
}
