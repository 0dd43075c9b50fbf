"""Diagnostic services by name: from plain arguments to a request PDU, and from the response PDU to a plain result.

The coding is udsoncan's (its request builders and response interpreters; not its client), the meaning of data
identifiers is that of the ECU's description.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from udsoncan.exceptions import InvalidResponseException, UnexpectedResponseException
from udsoncan.Request import Request
from udsoncan.Response import Response
from udsoncan.services.ClearDiagnosticInformation import ClearDiagnosticInformation
from udsoncan.services.DiagnosticSessionControl import DiagnosticSessionControl
from udsoncan.services.ECUReset import ECUReset
from udsoncan.services.ReadDataByIdentifier import ReadDataByIdentifier
from udsoncan.services.ReadDTCInformation import ReadDTCInformation
from udsoncan.services.SecurityAccess import SecurityAccess
from udsoncan.services.TesterPresent import TesterPresent

from ecu_adapters.dids import Did
from ecu_adapters.security_levels import Security
from ecu_adapters.uds import dtc as dtc_code
from ecu_adapters.uds.names import nrc_name, service_name
from ecu_adapters.uds.tester import Exchange, UdsError, UdsTester, UdsUnexpected
from ecu_adapters.yaml_file import nearest

Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"]
"""What arguments and results are made of."""

RESETS = {"hard": 0x01, "key_off_on": 0x02, "soft": 0x03}
"""Kinds of ECUReset by name (ISO 14229-1:2020, 10.3)."""


class UdsInvalid(UdsError):
    """The request cannot be built: unknown service, argument or data identifier, or a value that does not fit."""


class NegativeResponse(UdsError):
    """The ECU refused. ``service`` and ``nrc`` are the bytes on the wire, the names those of ISO 14229-1."""

    def __init__(self, service: int, nrc: int, exchange: Exchange) -> None:
        self.service = service
        self.nrc = nrc
        self.service_name = service_name(service)
        self.nrc_name = nrc_name(nrc)
        super().__init__(
            f"{self.service_name} (0x{service:02X}) refused: {self.nrc_name} (NRC 0x{nrc:02X})",
            exchange,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a service brought, and the last exchange that it took."""

    result: Plain
    exchange: Exchange


async def call(tester: UdsTester, service: str, arguments: Mapping[str, Plain], *, timeout_s: float) -> Outcome:
    """Runs one of `SERVICES` with plain arguments.

    ``timeout_s`` bounds each exchange of the service (``unlock`` takes two). Raises UdsInvalid before anything is sent,
    NegativeResponse when the ECU refuses, and what `UdsTester.request` raises.
    """
    entry = SERVICES.get(service)
    if entry is None:
        raise UdsInvalid(f"unknown service {service!r}; {nearest(service, SERVICES)}")
    _check_arguments(service, entry, arguments)
    try:
        return await entry.run(_Call(tester, timeout_s), **arguments)
    except (InvalidResponseException, UnexpectedResponseException) as error:
        raise UdsUnexpected(f"{service} of {tester.ecu.name}: {error}") from error


@dataclass(frozen=True, slots=True)
class Service:
    """A named service: what runs it, and which arguments it must or may have."""

    run: Callable[..., Awaitable[Outcome]]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Call:
    """A tester and the time that each exchange may take."""

    tester: UdsTester
    timeout_s: float

    async def exchange(self, request: Request) -> tuple[Response, Exchange]:
        """Sends a request that must have a positive response. Raises NegativeResponse."""
        pdu, exchange = await self.raw(request.get_payload())
        response = Response.from_payload(pdu)
        if not response.valid:
            raise UdsUnexpected(f"response of {self.tester.ecu.name} is malformed: {response.invalid_reason}", exchange)
        return response, exchange

    async def raw(self, pdu: bytes) -> tuple[bytes, Exchange]:
        """The same in bytes: udsoncan takes 0.1 ms to look a response up, which reading a value can do without."""
        exchange = await self.tester.request(pdu, timeout_s=self.timeout_s)
        if exchange.nrc is not None:
            raise NegativeResponse(pdu[0], exchange.nrc, exchange)
        return exchange.response or b"", exchange


async def _session(use: _Call, session: Plain) -> Outcome:
    number = _named(session, use.tester.ecu.sessions, "session", 0x7F)
    response, exchange = await use.exchange(DiagnosticSessionControl.make_request(number))
    # 2006: ECUs of that edition answer without the four timing bytes.
    data = DiagnosticSessionControl.interpret_response(response, standard_version=2006).service_data
    result: dict[str, Plain] = {"session": use.tester.ecu.session_name(data.session_echo)}
    record = data.session_param_records
    if len(record) == 4:
        result["p2_ms"] = int.from_bytes(record[:2], "big")
        result["p2_star_ms"] = int.from_bytes(record[2:], "big") * 10
    return Outcome(result, exchange)


async def _reset(use: _Call, kind: Plain = "hard") -> Outcome:
    number = _named(kind, RESETS, "kind", 0x7F)
    response, exchange = await use.exchange(ECUReset.make_request(number))
    ECUReset.interpret_response(response)
    return Outcome(None, exchange)


async def _read(use: _Call, did: Plain) -> Outcome:
    if isinstance(did, list):
        return await _read_many(use, did)
    number, _, model = _find_did(use.tester, did)
    asked = bytes((0x22, number >> 8, number & 0xFF))
    response, exchange = await use.raw(asked)
    if response[1:3] != asked[1:]:
        raise UdsUnexpected(f"response to data identifier 0x{number:04X} is {response.hex()}", exchange)
    data = response[3:]
    if model is None:
        return Outcome(data, exchange)
    return Outcome(_decode(use.tester, did, model, data, exchange), exchange)


async def _read_many(use: _Call, dids: list[Plain]) -> Outcome:
    found = [_find_did(use.tester, did) for did in dids]
    if not found:
        raise UdsInvalid("did is an empty list; give at least one data identifier")
    models = {number: (name, model) for number, name, model in found}
    for number, (_, model) in models.items():
        if model is None:
            # Without its length, what follows it in the response cannot be told apart.
            raise UdsInvalid(f"did 0x{number:04X} is not in the description of {use.tester.ecu.name}; read it alone")
    response, exchange = await use.exchange(ReadDataByIdentifier.make_request(list(models), None))
    data = response.data or b""
    values: dict[str, Plain] = {}
    at = 0
    while at < len(data):
        name, model = models.get(int.from_bytes(data[at : at + 2], "big"), ("", None))
        if model is None or at + 2 + model.length > len(data):
            raise UdsUnexpected(f"response to the data identifiers does not add up: {data.hex()}", exchange)
        values[name] = _decode(use.tester, name, model, data[at + 2 : at + 2 + model.length], exchange)
        at += 2 + model.length
    return Outcome(values, exchange)


async def _write(use: _Call, did: Plain, value: Plain) -> Outcome:
    number, name, model = _find_did(use.tester, did)
    if model is None:
        if not isinstance(value, bytes):
            raise UdsInvalid(f"did {name} is not in the description of {use.tester.ecu.name}: value must be bytes")
        data = value
    else:
        try:
            data = model.encode(value)
        except ValueError as error:
            raise UdsInvalid(f"value of {name}: {error}") from error
    _, exchange = await use.raw(bytes((0x2E, number >> 8, number & 0xFF)) + data)
    return Outcome(None, exchange)


async def _seed(use: _Call, level: Plain) -> Outcome:
    number = _level(level)
    request = SecurityAccess.make_request(number, SecurityAccess.Mode.RequestSeed)
    response, exchange = await use.exchange(request)
    data = SecurityAccess.interpret_response(response, SecurityAccess.Mode.RequestSeed).service_data
    return Outcome(data.seed or b"", exchange)


async def _key(use: _Call, level: Plain, key: Plain) -> Outcome:
    if not isinstance(key, bytes) or not key:
        raise UdsInvalid(f"key must be bytes, not {key!r}")
    request = SecurityAccess.make_request(_level(level), SecurityAccess.Mode.SendKey, key)
    _, exchange = await use.exchange(request)
    return Outcome(None, exchange)


async def _unlock(use: _Call, level: Plain) -> Outcome:
    number = _level(level)
    security = _security(use.tester, number)
    outcome = await _seed(use, number)
    seed = outcome.result
    if not isinstance(seed, bytes) or not any(seed):
        # ISO 14229-1, SecurityAccess: an all-zero seed says that the level is unlocked already.
        return Outcome(None, outcome.exchange)
    try:
        key = security.key_for(seed)
    except ValueError as error:
        raise UdsInvalid(f"key for level {number}: {error}", outcome.exchange) from error
    return await _key(use, number, key)


async def _read_dtcs(use: _Call, mask: Plain = 0xFF) -> Outcome:
    subfunction = ReadDTCInformation.Subfunction.reportDTCByStatusMask
    return await _dtc_list(use, subfunction, status_mask=_byte(mask, "mask"))


async def _supported_dtcs(use: _Call) -> Outcome:
    return await _dtc_list(use, ReadDTCInformation.Subfunction.reportSupportedDTCs)


async def _dtc_list(use: _Call, subfunction: int, **fields: int) -> Outcome:
    response, exchange = await use.exchange(ReadDTCInformation.make_request(subfunction, **fields))
    # Padding of zeros is no business of a transport that carries the length; a code of 000000 is none of ours to hide.
    data = ReadDTCInformation.interpret_response(
        response, subfunction, tolerate_zero_padding=False, ignore_all_zero_dtc=False
    ).service_data
    codes: list[Plain] = []
    for found in data.dtcs:
        status = found.status.get_byte_as_int()
        codes.append({"code": dtc_code.text(found.id), "dtc": found.id, "status": status, **dtc_code.flags(status)})
    return Outcome(codes, exchange)


async def _count_dtcs(use: _Call, mask: Plain = 0xFF) -> Outcome:
    subfunction = ReadDTCInformation.Subfunction.reportNumberOfDTCByStatusMask
    request = ReadDTCInformation.make_request(subfunction, status_mask=_byte(mask, "mask"))
    response, exchange = await use.exchange(request)
    data = ReadDTCInformation.interpret_response(response, subfunction).service_data
    return Outcome(data.dtc_count, exchange)


async def _clear_dtcs(use: _Call, group: Plain = 0xFFFFFF) -> Outcome:
    if isinstance(group, str):
        try:
            group = dtc_code.parse(group)
        except ValueError as error:
            raise UdsInvalid(f"group: {error}") from error
    number = _integer(group, "group", 0xFFFFFF)
    _, exchange = await use.exchange(ClearDiagnosticInformation.make_request(number))
    return Outcome(None, exchange)


async def _tester_present(use: _Call) -> Outcome:
    _, exchange = await use.exchange(TesterPresent.make_request())
    return Outcome(None, exchange)


SERVICES: dict[str, Service] = {
    "session": Service(_session, ("session",)),
    "reset": Service(_reset, optional=("kind",)),
    "read": Service(_read, ("did",)),
    "write": Service(_write, ("did", "value")),
    "seed": Service(_seed, ("level",)),
    "key": Service(_key, ("level", "key")),
    "unlock": Service(_unlock, ("level",)),
    "read_dtcs": Service(_read_dtcs, optional=("mask",)),
    "count_dtcs": Service(_count_dtcs, optional=("mask",)),
    "supported_dtcs": Service(_supported_dtcs),
    "clear_dtcs": Service(_clear_dtcs, optional=("group",)),
    "tester_present": Service(_tester_present),
}
"""Services by name."""


def _check_arguments(service: str, entry: Service, arguments: Mapping[str, Plain]) -> None:
    known = (*entry.required, *entry.optional)
    for name in arguments:
        if name not in known:
            raise UdsInvalid(f"{service} has no argument {name!r}; {nearest(name, known)}")
    for name in entry.required:
        if arguments.get(name) is None:
            raise UdsInvalid(f"{service} needs the argument {name!r}")


def _find_did(tester: UdsTester, did: Plain) -> tuple[int, str, Did | None]:
    """Number, name and model of a data identifier; any number goes, described or not."""
    if isinstance(did, str):
        model = tester.ecu.dids.get(did)
        if model is None:
            hint = nearest(did, tester.ecu.dids)
            raise UdsInvalid(f"unknown data identifier {did!r} of {tester.ecu.name}; {hint}")
        return model.did, did, model
    number = _integer(did, "did", 0xFFFF)
    found = tester.ecu.did_by_number(number)
    return (number, *found) if found is not None else (number, f"0x{number:04X}", None)


def _decode(tester: UdsTester, name: object, model: Did, data: bytes, exchange: Exchange) -> Plain:
    if len(data) != model.length:
        shown = name if isinstance(name, str) else f"0x{model.did:04X}"
        raise UdsUnexpected(
            f"{shown} of {tester.ecu.name} has {len(data)} bytes ({data.hex()}); its description says {model.length}",
            exchange,
        )
    value = model.decode(data)
    return {**value} if isinstance(value, dict) else value


def _security(tester: UdsTester, level: int) -> Security:
    security = tester.ecu.security.get(level)
    if security is None:
        levels = ", ".join(map(str, sorted(tester.ecu.security))) or "none"
        raise UdsInvalid(
            f"security level {level} of {tester.ecu.name} is not described (levels: {levels}); "
            "use seed and key to compute the key yourself"
        )
    return security


def _level(level: Plain) -> int:
    number = _integer(level, "level", 0x7D)
    if number % 2 == 0:
        raise UdsInvalid(f"level is {number}; it must be odd: the sub-function that asks for the seed")
    return number


def _named(value: Plain, names: Mapping[str, int], argument: str, limit: int) -> int:
    if isinstance(value, str):
        if value not in names:
            raise UdsInvalid(f"unknown {argument} {value!r}; {nearest(value, names)}")
        return names[value]
    return _integer(value, argument, limit)


def _byte(value: Plain, argument: str) -> int:
    return _integer(value, argument, 0xFF)


def _integer(value: Any, argument: str, limit: int) -> int:
    # Lua and JSON have one kind of number: 1.0 means 1.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise UdsInvalid(f"{argument} is {value!r}; it must be an integer from 0 to 0x{limit:X}")
    return value
