"""ReadDTCInformation (0x19): trouble codes by status, severity and memory, with their counters.

What the ECU kept with them (snapshots, extended data) is in `dtc_records`. Sub-functions by number:
01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F 11 12 13 14 15 16 17 18 19 42 55.
"""

from typing import Any

from udsoncan.services.ReadDTCInformation import ReadDTCInformation
from udsoncan.services.ReadDTCInformation import ReadDTCInformation as Info

from ecu_adapters.uds import dtc as dtc_code
from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid

_SUB = ReadDTCInformation.Subfunction
_OLD = 2013
"""The edition that knows the sub-functions for the mirror memory; that of 2020 has dropped them."""

MEMORIES = {
    "mirror": _SUB.reportMirrorMemoryDTCByStatusMask,
    "emissions": _SUB.reportEmissionsRelatedOBDDTCByStatusMask,
}
"""Memories other than the primary one that have a name; user-defined ones have numbers."""
_COUNTS = {
    "mirror": _SUB.reportNumberOfMirrorMemoryDTCByStatusMask,
    "emissions": _SUB.reportNumberOfEmissionsRelatedOBDDTCByStatusMask,
}
WHICH = {
    "first_failed": _SUB.reportFirstTestFailedDTC,
    "first_confirmed": _SUB.reportFirstConfirmedDTC,
    "latest_failed": _SUB.reportMostRecentTestFailedDTC,
    "latest_confirmed": _SUB.reportMostRecentConfirmedDTC,
}
"""Single codes by what singles them out."""


_SEVERITY_RECORDS = {
    _SUB.reportDTCBySeverityMaskRecord: (3, True),
    _SUB.reportSeverityInformationOfDTC: (3, True),
    _SUB.reportWWHOBDDTCByMaskRecord: (6, False),
    _SUB.reportWWHOBDDTCWithPermanentStatus: (5, False),
}
"""Where the records start in a response, and whether they name a functional unit."""


def described(use: Call, number: int, status: int | None = None) -> dict[str, Plain]:
    """A trouble code as it is answered: code, number, text, and the status with its bits by name."""
    known = use.ecu.dtc_by_number(number)
    entry: dict[str, Plain] = {"code": dtc_code.text(number), "dtc": number, "text": known.text if known else ""}
    if status is not None:
        entry |= {"status": status, **dtc_code.flags(status)}
    return entry


async def _ask(use: Call, sub: int, **fields: Any) -> tuple[Any, Outcome]:
    request = Info.make_request(sub, standard_version=_OLD, **fields)
    response, exchange = await use.exchange(request)
    # Padding of zeros is no business of a transport that carries the length; a code of 000000 is none of ours to hide.
    data = Info.interpret_response(
        response, sub, tolerate_zero_padding=False, ignore_all_zero_dtc=False, standard_version=_OLD
    ).service_data
    return data, Outcome(None, exchange)


async def _list(use: Call, sub: int, **fields: Any) -> Outcome:
    data, outcome = await _ask(use, sub, **fields)
    codes: list[Plain] = [described(use, found.id, found.status.get_byte_as_int()) for found in data.dtcs]
    return Outcome(codes, outcome.exchange)


async def _severities(use: Call, sub: int, **fields: Any) -> Outcome:
    # Decoded here, because udsoncan drops the low bits of the severity: the class of WWH-OBD.
    request = Info.make_request(sub, **fields).get_payload()
    response, exchange = await use.raw(request)
    start, with_unit = _SEVERITY_RECORDS[sub]
    size = 6 if with_unit else 5
    data = response[start:]
    if len(response) < start or len(data) % size:
        raise use.malformed("does not hold whole severity records", exchange)
    codes: list[Plain] = []
    for at in range(0, len(data), size):
        record = data[at : at + size]
        byte, code, status = record[0], record[-4:-1], record[-1]
        entry = described(use, int.from_bytes(code, "big"), status)
        entry |= {"severity": dtc_code.severity(byte), "severity_byte": byte}
        if with_unit:
            entry["functional_unit"] = record[1]
        codes.append(entry)
    return Outcome(codes, exchange)


async def _read_dtcs(use: Call, mask: Plain = 0xFF, memory: Plain = None) -> Outcome:
    status_mask = arguments.byte(mask, "mask")
    if memory is None:
        return await _list(use, _SUB.reportDTCByStatusMask, status_mask=status_mask)
    if isinstance(memory, str):
        return await _list(use, arguments.named(memory, MEMORIES, "memory"), status_mask=status_mask)
    selection = arguments.byte(memory, "memory")
    sub = _SUB.reportUserDefMemoryDTCByStatusMask
    return await _list(use, sub, status_mask=status_mask, memory_selection=selection)


async def _count_dtcs(use: Call, mask: Plain = 0xFF, memory: Plain = None, severity: Plain = None) -> Outcome:
    status_mask = arguments.byte(mask, "mask")
    if severity is not None:
        if memory is not None:
            raise UdsInvalid("severity goes with the primary memory only; leave memory out")
        wanted = _severity_mask(severity)
        sub = _SUB.reportNumberOfDTCBySeverityMaskRecord
        data, outcome = await _ask(use, sub, severity_mask=wanted, status_mask=status_mask)
    else:
        sub = _SUB.reportNumberOfDTCByStatusMask
        if memory is not None:
            sub = arguments.named(memory if isinstance(memory, str) else str(memory), _COUNTS, "memory")
        data, outcome = await _ask(use, sub, status_mask=status_mask)
    return Outcome(data.dtc_count, outcome.exchange)


async def _supported_dtcs(use: Call) -> Outcome:
    return await _list(use, _SUB.reportSupportedDTCs)


async def _permanent_dtcs(use: Call) -> Outcome:
    return await _list(use, _SUB.reportDTCWithPermanentStatus)


async def _find_dtc(use: Call, which: Plain) -> Outcome:
    if not isinstance(which, str):
        raise UdsInvalid(f"which is {which!r}; it must be one of {', '.join(WHICH)}")
    return _only(await _list(use, arguments.named(which, WHICH, "which")))


async def _dtcs_by_severity(use: Call, severity: Plain = 0xE0, mask: Plain = 0xFF) -> Outcome:
    wanted, status_mask = _severity_mask(severity), arguments.byte(mask, "mask")
    sub = _SUB.reportDTCBySeverityMaskRecord
    return await _severities(use, sub, severity_mask=wanted, status_mask=status_mask)


async def _dtc_severity(use: Call, dtc: Plain) -> Outcome:
    return _only(await _severities(use, _SUB.reportSeverityInformationOfDTC, dtc=arguments.trouble_code(dtc)))


async def _dtc_fault_counters(use: Call) -> Outcome:
    data, outcome = await _ask(use, _SUB.reportDTCFaultDetectionCounter)
    counters: list[Plain] = []
    for found in data.dtcs:
        # A signed byte: -128 .. 127, the test has failed at 127 (ISO 14229-1 annex D.6).
        counter = found.fault_counter - 256 if found.fault_counter > 127 else found.fault_counter
        counters.append({**described(use, found.id), "counter": counter})
    return Outcome(counters, outcome.exchange)


async def _wwh_obd_dtcs(use: Call, group: Plain = 0x33, mask: Plain = 0xFF, severity: Plain = 0xFF) -> Outcome:
    fields = {
        "functional_group_id": arguments.byte(group, "group"),
        "status_mask": arguments.byte(mask, "mask"),
        "severity_mask": _severity_mask(severity),
    }
    return await _severities(use, _SUB.reportWWHOBDDTCByMaskRecord, **fields)


async def _wwh_obd_permanent_dtcs(use: Call, group: Plain = 0x33) -> Outcome:
    sub = _SUB.reportWWHOBDDTCWithPermanentStatus
    return await _severities(use, sub, functional_group_id=arguments.byte(group, "group"))


def _only(outcome: Outcome) -> Outcome:
    """The first of the codes; None when there is none."""
    codes = outcome.result
    return Outcome(codes[0] if isinstance(codes, list) and codes else None, outcome.exchange)


def _severity_mask(severity: Plain) -> int:
    return arguments.named(severity, dtc_code.SEVERITIES, "severity")


SERVICES = {
    "read_dtcs": Service(_read_dtcs, optional=("mask", "memory")),
    "count_dtcs": Service(_count_dtcs, optional=("mask", "memory", "severity")),
    "supported_dtcs": Service(_supported_dtcs),
    "permanent_dtcs": Service(_permanent_dtcs),
    "find_dtc": Service(_find_dtc, ("which",)),
    "dtcs_by_severity": Service(_dtcs_by_severity, optional=("severity", "mask")),
    "dtc_severity": Service(_dtc_severity, ("dtc",)),
    "dtc_fault_counters": Service(_dtc_fault_counters),
    "wwh_obd_dtcs": Service(_wwh_obd_dtcs, optional=("group", "mask", "severity")),
    "wwh_obd_permanent_dtcs": Service(_wwh_obd_permanent_dtcs, optional=("group",)),
}
