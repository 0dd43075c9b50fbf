"""The description of one ECU: addresses, timing, data identifiers, trouble codes, security, cyclic messages.

One YAML format serves both ends: the tester takes names and coding from it, the simulated ECU also its values.
Times are in milliseconds (``_ms``) or seconds (``_s``).
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import InitErrorDetails

from ecu_adapters import yaml_file
from ecu_adapters.dids import Access, Did
from ecu_adapters.dtcs import Dtc
from ecu_adapters.records import Fields
from ecu_adapters.routines import Routine
from ecu_adapters.security_levels import Security
from ecu_adapters.yaml_file import field_error, model_error, nearest

EXTENDED_FLAG = 0x8000_0000
"""Bit of a SocketCAN arbitration ID: 29-bit identifier (CAN_EFF_FLAG)."""

DEFAULT_SESSION = 0x01
SESSIONS = {"default": DEFAULT_SESSION, "programming": 0x02, "extended": 0x03}
"""Diagnostic sessions by name (ISO 14229-1, DiagnosticSessionControl)."""

FD_LENGTHS = (8, 12, 16, 20, 24, 32, 48, 64)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Addressing(_Part):
    """Arbitration IDs of normal addressing (ISO 15765-2), 11 bits or, with ``extended``, 29 bits."""

    request_id: int = Field(ge=0, description="tester to ECU")
    response_id: int = Field(ge=0, description="ECU to tester")
    functional_id: int | None = Field(default=None, ge=0, description="tester to all ECUs")
    extended: bool = False

    @model_validator(mode="after")
    def _ids_fit(self) -> Self:
        limit = 0x1FFF_FFFF if self.extended else 0x7FF
        hint = "" if self.extended else "; set extended: true for 29-bit IDs"
        errors: list[InitErrorDetails] = []
        seen: dict[int, str] = {}
        for name in ("request_id", "response_id", "functional_id"):
            value = getattr(self, name)
            if value is None:
                continue
            if value > limit:
                errors.append(field_error((name,), f"0x{value:X} is above 0x{limit:X}{hint}"))
            elif value in seen:
                errors.append(field_error((name,), f"0x{value:X} is the {seen[value]} too"))
            seen.setdefault(value, name)
        if errors:
            raise model_error("addressing", errors)
        return self

    @property
    def request_can_id(self) -> int:
        """The request ID as in SocketCAN: bit 31 set for 29-bit IDs."""
        return self.request_id | (EXTENDED_FLAG if self.extended else 0)

    @property
    def response_can_id(self) -> int:
        """The response ID as in SocketCAN: bit 31 set for 29-bit IDs."""
        return self.response_id | (EXTENDED_FLAG if self.extended else 0)


class Timing(_Part):
    """Timing of ISO 14229-2. The first three are the ECU's promises; the simulated one keeps and announces them."""

    p2_ms: int = Field(default=50, ge=1, le=0xFFFF, description="request to first response")
    p2_star_ms: int = Field(default=5000, ge=10, le=655_350, multiple_of=10, description="0x78 to the next response")
    s3_ms: int = Field(default=5000, ge=100, le=600_000, description="silence that ends a session")
    transit_ms: int = Field(
        default=100, ge=0, le=60_000, description="the tester grants this beyond P2 and P2* for the way there and back"
    )
    s3_client_ms: int = Field(default=2000, ge=50, le=600_000, description="period of the tester's TesterPresent")

    @model_validator(mode="after")
    def _keep_alive_in_time(self) -> Self:
        if self.s3_client_ms >= self.s3_ms:
            message = f"{self.s3_client_ms} ms is no keep-alive for a session that ends after s3_ms = {self.s3_ms} ms"
            raise model_error("timing", [field_error(("s3_client_ms",), message)])
        return self


class IsoTp(_Part):
    """Parameters of ISO 15765-2, for tester and simulated ECU alike."""

    padding: int | None = Field(default=0xCC, ge=0, le=0xFF, description="fill byte; null sends short frames")
    block_size: int = Field(default=0, ge=0, le=0xFF, description="frames between flow controls; 0: no limit")
    stmin_ms: float = Field(default=0, ge=0, le=127, description="least time between consecutive frames")
    wait_frames: int = Field(default=10, ge=0, le=255, description="flow controls 'wait' that a sender bears in a row")
    max_pdu: int = Field(default=4095, ge=7, le=1 << 24, description="bytes of the longest PDU that is received")
    fd: bool = Field(
        default=False, description="diagnostics in CAN FD frames; an ECU on an FD bus may still use classic ones"
    )
    bitrate_switch: bool = True
    frame_length: int = Field(default=64, description="bytes of the longest FD frame that is sent")

    @field_validator("stmin_ms")
    @classmethod
    def _stmin_codable(cls, value: float) -> float:
        if value != int(value) and round(value * 10, 6) not in range(1, 10):
            raise ValueError("must be 0.1 .. 0.9 in steps of 0.1, or whole milliseconds up to 127")
        return value

    @field_validator("frame_length")
    @classmethod
    def _frame_length_exists(cls, value: int) -> int:
        if value not in FD_LENGTHS:
            raise ValueError(f"must be one of {', '.join(map(str, FD_LENGTHS))}")
        return value

    @property
    def stmin_byte(self) -> int:
        """STmin as flow control carries it: 0x00-0x7F in ms, 0xF1-0xF9 in 100 µs."""
        return int(self.stmin_ms) if self.stmin_ms == int(self.stmin_ms) else 0xF0 + round(self.stmin_ms * 10)


class Follow(_Part):
    """A signal that follows one of another message, as far as ``rate_per_s`` lets it."""

    message: str
    signal: str
    rate_per_s: float | None = Field(default=None, gt=0, description="greatest change per second; null: at once")


class CyclicMessage(_Part):
    """A message of the DBC that the simulated ECU sends by itself."""

    message: str
    period_ms: float | None = Field(default=None, ge=1, le=3_600_000, description="null: GenMsgCycleTime of the DBC")
    signals: dict[str, int | float | str] = {}
    follow: dict[str, Follow] = {}


class Behaviour(_Part):
    """How the simulated ECU behaves beyond what the standard says."""

    response_delay_ms: float = Field(default=0, ge=0, le=60_000, description="time to work on any request")
    service_delay_ms: dict[int, float] = Field(
        default={}, description="the same for one service (0x14: 300); longer than P2 makes it answer 0x78 first"
    )
    reset_ms: float = Field(default=100, ge=0, le=60_000, description="silence while booting after ECUReset")

    @field_validator("service_delay_ms")
    @classmethod
    def _delays_bounded(cls, value: dict[int, float]) -> dict[int, float]:
        for service, delay in value.items():
            if not 0 <= service <= 0xFF or not 0 <= delay <= 3_600_000:
                raise ValueError(f"0x{service:02X}: {delay:g} must be a service (0 .. 0xFF) and 0 .. 3600000 ms")
        return value


class EcuDescription(_Part):
    """One ECU, as its YAML file describes it."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")
    addressing: Addressing
    timing: Timing = Timing()
    isotp: IsoTp = IsoTp()
    sessions: dict[str, int] = SESSIONS
    session_entry: dict[str, list[str]] = Field(
        default={}, description="for sessions that not every session leads to: those that do"
    )
    dids: dict[str, Did] = {}
    dtcs: list[Dtc] = []
    dtc_status_availability: int = Field(default=0xFF, ge=0, le=0xFF, description="status bits that the ECU supports")
    extended_data: dict[int, Fields] = Field(
        default={}, description="of trouble codes, by record number (0x01 .. 0xEF): what ReadDTCInformation 06 carries"
    )
    routines: dict[str, Routine] = Field(default={}, description="what RoutineControl starts and stops, by name")
    security: dict[int, Security] = Field(default={}, description="by the sub-function that asks for the seed")
    cyclic: list[CyclicMessage] = []
    simulation: Behaviour = Behaviour()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        errors = [
            *self._session_errors(),
            *self._did_errors(),
            *self._routine_errors(),
            *self._dtc_errors(),
            *self._other_errors(),
        ]
        if errors:
            raise model_error("ecu", errors)
        return self

    def did_by_number(self, number: int) -> tuple[str, Did] | None:
        """Name and model of a data identifier, if it is described."""
        return next(((name, did) for name, did in self.dids.items() if did.did == number), None)

    def routine_by_number(self, number: int) -> tuple[str, Routine] | None:
        """Name and model of a routine, if it is described."""
        return next(((name, routine) for name, routine in self.routines.items() if routine.id == number), None)

    def dtc_by_number(self, number: int) -> Dtc | None:
        """A trouble code, if it is described."""
        return next((dtc for dtc in self.dtcs if dtc.number == number), None)

    def session_name(self, number: int) -> str:
        """The name of a session, or its number in hex."""
        return next((name for name, value in self.sessions.items() if value == number), f"0x{number:02X}")

    def _session_errors(self) -> list[InitErrorDetails]:
        errors = []
        if self.sessions.get("default") != DEFAULT_SESSION:
            errors.append(field_error(("sessions",), "must have default: 1"))
        numbers: dict[int, str] = {}
        for name, number in self.sessions.items():
            if not 1 <= number <= 0x7E:
                errors.append(field_error(("sessions", name), f"{number} is out of range 0x01 .. 0x7E"))
            if number in numbers:
                errors.append(field_error(("sessions", name), f"0x{number:02X} is session {numbers[number]} too"))
            numbers.setdefault(number, name)
        for name, origins in self.session_entry.items():
            places: list[tuple[yaml_file.Location, str]] = [(("session_entry", name), name)]
            places += [(("session_entry", name, index), origin) for index, origin in enumerate(origins)]
            for place, session in places:
                if session not in self.sessions:
                    errors.append(field_error(place, f"unknown session {session!r}; {nearest(session, self.sessions)}"))
        if "default" in self.session_entry:
            errors.append(field_error(("session_entry", "default"), "every session leads back to the default session"))
        return errors

    def _did_errors(self) -> list[InitErrorDetails]:
        errors = []
        numbers: dict[int, str] = {}
        for name, did in self.dids.items():
            place = ("dids", name, did.type)
            if did.did in numbers:
                message = f"0x{did.did:04X} is the identifier of {numbers[did.did]} too"
                errors.append(field_error((*place, "did"), message))
            numbers.setdefault(did.did, name)
            for kind in ("read", "write", "control"):
                errors += self._access_errors((*place, kind), getattr(did, kind))
        return errors

    def _routine_errors(self) -> list[InitErrorDetails]:
        errors = []
        numbers: dict[int, str] = {}
        for name, routine in self.routines.items():
            if routine.id in numbers:
                message = f"0x{routine.id:04X} is the identifier of {numbers[routine.id]} too"
                errors.append(field_error(("routines", name, "id"), message))
            numbers.setdefault(routine.id, name)
            errors += self._access_errors(("routines", name, "access"), routine.access)
        return errors

    def _access_errors(self, place: yaml_file.Location, access: object) -> list[InitErrorDetails]:
        errors = []
        if not isinstance(access, Access):
            return []
        if access.security is not None and access.security not in self.security:
            levels = ", ".join(map(str, self.security)) or "none"
            message = f"level {access.security} is not described under security (levels there: {levels})"
            errors.append(field_error((*place, "security"), message))
        for index, session in enumerate(access.session or ()):
            if session not in self.sessions:
                message = f"unknown session {session!r}; {nearest(session, self.sessions)}"
                errors.append(field_error((*place, "session", index), message))
        return errors

    def _dtc_errors(self) -> list[InitErrorDetails]:
        errors = []
        codes: set[str] = set()
        for index, dtc in enumerate(self.dtcs):
            if dtc.code in codes:
                errors.append(field_error(("dtcs", index, "code"), f"{dtc.code} is given twice"))
            codes.add(dtc.code)
            for place, name in enumerate(dtc.snapshot):
                if name not in self.dids:
                    message = f"unknown data identifier {name!r}; {nearest(name, self.dids)}"
                    errors.append(field_error(("dtcs", index, "snapshot", place), message))
        errors += [
            field_error(("extended_data", record), f"0x{record:02X} is no record number: 0x01 .. 0xEF")
            for record in self.extended_data
            if not 0x01 <= record <= 0xEF
        ]
        return errors

    def _other_errors(self) -> list[InitErrorDetails]:
        errors = []
        for level in self.security:
            if not (1 <= level <= 0x7D and level % 2):
                message = f"{level} is no sub-function for a seed: an odd number from 1 to 0x7D"
                errors.append(field_error(("security", level), message))
        messages: set[str] = set()
        for index, cyclic in enumerate(self.cyclic):
            if cyclic.message in messages:
                errors.append(field_error(("cyclic", index, "message"), f"{cyclic.message} is given twice"))
            messages.add(cyclic.message)
        return errors


def load_ecu(path: str | Path) -> EcuDescription:
    """Reads an ECU's YAML file. Raises `yaml_file.ConfigError` with file, line and field of all mistakes at once."""
    return yaml_file.load(path, EcuDescription)
