"""The description of one ECU: addresses, timing, data identifiers, trouble codes, security, cyclic messages.

One YAML format serves both ends: the tester takes names and coding from it, the simulated ECU also its values.
Times are in milliseconds (``_ms``) or seconds (``_s``).
"""

import shutil
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from ecu_adapters import consistency, descriptions, yaml_file
from ecu_adapters.addressing import Addressing
from ecu_adapters.bus import EXTENDED_FLAG
from ecu_adapters.dids import Access, Did
from ecu_adapters.doip.settings import DoIp
from ecu_adapters.dtcs import Dtc
from ecu_adapters.flash.settings import FlashSettings
from ecu_adapters.memory_map import MemoryMap
from ecu_adapters.records import Fields
from ecu_adapters.routines import Routine
from ecu_adapters.security_levels import Security
from ecu_adapters.service_settings import Authentication, Files, Periodic
from ecu_adapters.simulation import Behaviour, CyclicMessage
from ecu_adapters.yaml_file import field_error, model_error

DEFAULT_SESSION = 0x01
SESSIONS = {"default": DEFAULT_SESSION, "programming": 0x02, "extended": 0x03}
"""Diagnostic sessions by name (ISO 14229-1, DiagnosticSessionControl)."""

FD_LENGTHS = (8, 12, 16, 20, 24, 32, 48, 64)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


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
    n_as_ms: int = Field(
        default=250, ge=1, le=10_000, description="how long the bus may take for one frame (N_As, N_Ar)"
    )
    n_bs_ms: int = Field(default=1000, ge=1, le=60_000, description="how long a flow control is waited for (N_Bs)")
    n_cr_ms: int = Field(default=1000, ge=1, le=60_000, description="the same for a consecutive frame (N_Cr)")

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


class EcuDescription(_Part):
    """One ECU, as its YAML file describes it."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")
    description: str | None = Field(
        default=None, description="FILE or FILE#ECU: ODX, PDX or CDD that dids, dtcs and routines are taken from"
    )
    addressing: Addressing = Field(
        default_factory=Addressing.none, description="on a CAN bus; an ECU needs it, or doip"
    )
    doip: DoIp | None = Field(default=None, description="instead of CAN, or beside it: diagnostics then go this way")
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
    memory: MemoryMap = MemoryMap()
    flash: FlashSettings = FlashSettings()
    periodic: Periodic = Periodic()
    authentication: Authentication | None = Field(default=None, description="null: the ECU has no such service")
    files: Files | None = Field(default=None, description="null: the ECU has no RequestFileTransfer")
    link_bitrates: list[int] = Field(
        default=[], description="bit/s that LinkControl can switch to; none: no such service"
    )
    services: dict[int, Access | Literal[False]] = Field(
        default={}, description="services that the ECU lacks (false), or that need a session or level as a whole"
    )
    cyclic: list[CyclicMessage] = []
    simulation: Behaviour = Behaviour()

    _unmapped: list[str] = PrivateAttr(default_factory=list)

    @property
    def unmapped(self) -> list[str]:
        """What of the imported description could not be expressed here."""
        return self._unmapped

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        errors = consistency.errors(self)
        if errors:
            raise model_error("ecu", errors)
        return self

    @property
    def periodic_can_id(self) -> int | None:
        """The arbitration ID of periodic values as in SocketCAN; None where they come as responses do."""
        identifier = self.periodic.response_id
        if identifier is None or not (self.addressing.extended or identifier > 0x7FF):
            return identifier
        return identifier | EXTENDED_FLAG

    @property
    def max_pdu(self) -> int:
        """Bytes of the longest PDU, on the way that its diagnostics go."""
        return self.isotp.max_pdu if self.doip is None else self.doip.max_pdu

    @property
    def functional_address(self) -> int | None:
        """What requests to all ECUs are sent to: an ID as in SocketCAN, or with `doip` a logical address."""
        return self.addressing.functional_can_id if self.doip is None else self.doip.functional_address

    def over_can(self) -> Self:
        """The same ECU, whose diagnostics go over CAN. Raises ValueError when it has no addressing there."""
        if "addressing" not in self.model_fields_set:
            raise ValueError(f"ECU {self.name} has no addressing on a CAN bus")
        return self.model_copy(update={"doip": None})

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


def load_ecu(path: str | Path) -> EcuDescription:
    """Reads an ECU's YAML file; commands in it become absolute.

    Raises `yaml_file.ConfigError` with file, line and field of all mistakes at once.
    """
    file = yaml_file.YamlFile(path)
    unmapped = _import(file)
    ecu = file.validate(EcuDescription)
    ecu.unmapped.extend(unmapped)
    mistakes = []
    for level, security in ecu.security.items():
        if security.command is not None:
            security.command[0] = _program(security.command[0], file.path.resolve().parent)
            if shutil.which(security.command[0]) is None:
                message = f"{security.command[0]} is no program that can be run"
                mistakes.append(file.mistake(("security", level, "command"), message))
    if mistakes:
        raise yaml_file.ConfigError(mistakes)
    return ecu


def _import(file: yaml_file.YamlFile) -> list[str]:
    """Puts what ``description`` names under the file's own data; returns what could not be mapped."""
    if not isinstance(file.data, dict) or not isinstance(reference := file.data.get("description"), str):
        return []
    try:
        imported = descriptions.load(reference, file.path.resolve().parent)
    except descriptions.DescriptionError as error:
        raise yaml_file.ConfigError([file.mistake(("description",), str(error))]) from error
    file.data = descriptions.merge(file.data, imported)
    return imported.unmapped


def _program(name: str, folder: Path) -> str:
    """A program by its path, which counts from the file that names it, or else by its name, from PATH."""
    return str(folder / name) if "/" in name else name
