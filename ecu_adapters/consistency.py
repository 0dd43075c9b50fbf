"""What the parts of an ECU's description must not say against each other: every mistake with its place in the file."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic_core import InitErrorDetails

from ecu_adapters.dids import Access
from ecu_adapters.yaml_file import Location, field_error, nearest

if TYPE_CHECKING:
    from ecu_adapters.description import EcuDescription

_DEFAULT_SESSION = 0x01


def errors(ecu: "EcuDescription") -> list[InitErrorDetails]:
    """All mistakes."""
    return [
        *_addressing(ecu),
        *_sessions(ecu),
        *_dids(ecu),
        *_security(ecu),
        *_access(ecu),
        *_memory(ecu),
        *_routines(ecu),
        *_flash(ecu),
        *_dtcs(ecu),
        *_cyclic(ecu),
        *_measured(ecu),
        *_periodic(ecu),
    ]


def _addressing(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    if "addressing" not in ecu.model_fields_set and ecu.doip is None:
        yield field_error(("addressing",), "is missing; an ECU is reached by addressing (CAN), by doip, or by both")


def _sessions(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    if ecu.sessions.get("default") != _DEFAULT_SESSION:
        yield field_error(("sessions",), "must have default: 1")
    numbers: dict[int, str] = {}
    for name, number in ecu.sessions.items():
        if not 1 <= number <= 0x7E:
            yield field_error(("sessions", name), f"{number} is out of range 0x01 .. 0x7E")
        if number in numbers:
            yield field_error(("sessions", name), f"0x{number:02X} is session {numbers[number]} too")
        numbers.setdefault(number, name)
    for name, origins in ecu.session_entry.items():
        places: list[tuple[Location, str]] = [(("session_entry", name), name)]
        places += [(("session_entry", name, index), origin) for index, origin in enumerate(origins)]
        for place, session in places:
            if session not in ecu.sessions:
                yield field_error(place, f"unknown session {session!r}; {nearest(session, ecu.sessions)}")
    if "default" in ecu.session_entry:
        yield field_error(("session_entry", "default"), "every session leads back to the default session")


def _dids(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    numbers: dict[int, str] = {}
    for name, did in ecu.dids.items():
        if did.did in numbers:
            message = f"0x{did.did:04X} is the identifier of {numbers[did.did]} too"
            yield field_error(("dids", name, did.type, "did"), message)
        numbers.setdefault(did.did, name)


def _security(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    for level in ecu.security:
        if not (1 <= level <= 0x7D and level % 2):
            message = f"{level} is no sub-function for a seed: an odd number from 1 to 0x7D"
            yield field_error(("security", level), message)


def _accesses(ecu: "EcuDescription") -> Iterator[tuple[Location, Access]]:
    """Everything that may ask for a session or a security level, with its place."""
    for name, did in ecu.dids.items():
        for kind in ("read", "write", "control"):
            access = getattr(did, kind)
            if isinstance(access, Access):
                yield ("dids", name, did.type, kind), access
    for name, region in ecu.memory.regions.items():
        for kind in ("read", "write"):
            access = getattr(region, kind)
            if isinstance(access, Access):
                yield ("memory", "regions", name, kind), access
    for name, routine in ecu.routines.items():
        yield ("routines", name, "access"), routine.access
    for service, access in ecu.services.items():
        if isinstance(access, Access):
            yield ("services", service), access


def _access(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    for place, access in _accesses(ecu):
        if access.security is not None and access.security not in ecu.security:
            levels = ", ".join(map(str, ecu.security)) or "none"
            message = f"level {access.security} is not described under security (levels there: {levels})"
            yield field_error((*place, "security"), message)
        for index, session in enumerate(access.session or ()):
            if session not in ecu.sessions:
                message = f"unknown session {session!r}; {nearest(session, ecu.sessions)}"
                yield field_error((*place, "session", index), message)


def _memory(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    if ecu.memory.regions and ecu.memory.max_block > ecu.max_pdu:
        section = "isotp" if ecu.doip is None else "doip"
        message = f"{ecu.memory.max_block} bytes are more than {section}.max_pdu = {ecu.max_pdu}"
        yield field_error(("memory", "max_block"), message)


def _flash(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    flash = ecu.flash
    if "flash" not in ecu.model_fields_set:
        return
    if flash.session is not None and flash.session not in ecu.sessions:
        message = f"unknown session {flash.session!r}; {nearest(flash.session, ecu.sessions)}"
        yield field_error(("flash", "session"), message)
    if flash.security is not None and flash.security not in ecu.security:
        levels = ", ".join(map(str, ecu.security)) or "none"
        message = f"level {flash.security} is not described under security (levels there: {levels})"
        yield field_error(("flash", "security"), message)
    for field in ("erase", "check"):
        name = getattr(flash, field)
        if name is not None and name not in ecu.routines:
            yield field_error(("flash", field), f"unknown routine {name!r}; {nearest(name, ecu.routines)}")
        elif name is not None and ecu.routines[name].start is None:
            yield field_error(("flash", field), f"routine {name} cannot be started")
    if not ecu.memory.regions:
        yield field_error(("flash",), "needs memory.regions: where an image may go")
    for field in ("before", "after"):
        for index, request in enumerate(getattr(flash, field)):
            if not request:
                yield field_error(("flash", field, index), "is empty; a request starts with its service identifier")


def _dtcs(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    codes: set[str] = set()
    for index, dtc in enumerate(ecu.dtcs):
        if dtc.code in codes:
            yield field_error(("dtcs", index, "code"), f"{dtc.code} is given twice")
        codes.add(dtc.code)
        for place, name in enumerate(dtc.snapshot):
            if name not in ecu.dids:
                message = f"unknown data identifier {name!r}; {nearest(name, ecu.dids)}"
                yield field_error(("dtcs", index, "snapshot", place), message)
    for record in ecu.extended_data:
        if not 0x01 <= record <= 0xEF:
            yield field_error(("extended_data", record), f"0x{record:02X} is no record number: 0x01 .. 0xEF")


def _measured(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    for index, name in enumerate(ecu.simulation.power.measured):
        place = ("simulation", "power", "measured", index)
        if name not in ecu.dids:
            yield field_error(place, f"unknown data identifier {name!r}; {nearest(name, ecu.dids)}")
        elif ecu.dids[name].type not in ("uint", "int", "float"):
            yield field_error(place, f"{name} is of type {ecu.dids[name].type}; a voltage is a number")


def _routines(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    numbers: dict[int, str] = {}
    for name, routine in ecu.routines.items():
        if routine.id in numbers:
            message = f"0x{routine.id:04X} is the identifier of {numbers[routine.id]} too"
            yield field_error(("routines", name, "id"), message)
        numbers.setdefault(routine.id, name)
        if routine.region is not None and routine.region not in ecu.memory.regions:
            message = f"unknown region {routine.region!r}; {nearest(routine.region, ecu.memory.regions)}"
            yield field_error(("routines", name, "region"), message)
        elif routine.action != "none" and not ecu.memory.regions:
            yield field_error(("routines", name, "action"), f"{routine.action} needs memory.regions")


def _cyclic(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    messages: set[str] = set()
    for index, cyclic in enumerate(ecu.cyclic):
        if cyclic.message in messages:
            yield field_error(("cyclic", index, "message"), f"{cyclic.message} is given twice")
        messages.add(cyclic.message)


def _periodic(ecu: "EcuDescription") -> Iterator[InitErrorDetails]:
    identifier = ecu.periodic_can_id
    if ecu.doip is not None and identifier is not None:
        yield field_error(("periodic", "response_id"), "is an ID on a CAN bus; over doip, values come as responses do")
    taken = {
        "request_id": ecu.addressing.request_can_id,
        "response_id": ecu.addressing.response_can_id,
        "functional_id": ecu.addressing.functional_can_id,
    }
    for name, other in taken.items():
        if identifier is not None and identifier == other:
            message = f"0x{ecu.periodic.response_id:X} is addressing.{name} too; leave it out for values as responses"
            yield field_error(("periodic", "response_id"), message)
