"""The section ``doip`` of an ECU's description: where it is in an IP network, and how the simulated one behaves."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ecu_adapters.yaml_file import field_error, model_error

PORT = 13400
"""TCP_DATA and UDP_DISCOVERY, without TLS."""
TESTERS = range(0x0E00, 0x1000)
"""Logical addresses of external test equipment (ISO 13400-2, table 13)."""
CODES = frozenset((0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x10))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _six_bytes(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{12}", value):
        raise ValueError(f"{value!r} must be six bytes in hex, for example 02000000AB01")
    return value.upper()


def _host_and_port(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) <= 0xFFFF):
        raise ValueError("expected host:port, for example 192.168.7.255:13400")
    return value


class Entity(_Part):
    """What only the simulated entity takes: the DoIP node or gateway that one or several simulated ECUs are behind."""

    logical_address: int | None = Field(
        default=None, ge=1, le=0xFFFF, description="of the entity itself; null: that of its first ECU"
    )
    activation: dict[int, int] = Field(
        default={0x00: 0x10, 0x01: 0x10},
        description="routing activation types that it knows, each with the response code that it gives (0x10: success)",
    )
    testers: list[int] = Field(default=[], description="source addresses that it accepts; none: 0x0E00 .. 0x0FFF")
    sockets: int = Field(default=4, ge=1, le=255, description="TCP connections with routing activated")
    memory: int = Field(
        default=1 << 20, ge=64, le=1 << 28, description="bytes for all messages that are being received"
    )
    eid: Annotated[str, AfterValidator(_six_bytes)] = Field(default="020000000001", description="entity, in hex")
    gid: Annotated[str, AfterValidator(_six_bytes)] = Field(default="000000000000", description="group, in hex")
    power_mode: Literal["not_ready", "ready", "not_supported"] = "ready"
    announce: Annotated[str, AfterValidator(_host_and_port)] | None = Field(
        default=None, description="host:port that hears three vehicle announcements at the start; null: nobody does"
    )
    initial_inactivity_ms: int = Field(
        default=2000, ge=10, le=600_000, description="a connection without routing activation ends (T_TCP_Initial)"
    )
    general_inactivity_ms: int = Field(
        default=300_000, ge=10, le=86_400_000, description="a silent connection ends (T_TCP_General_Inactivity)"
    )
    alive_check_ms: int = Field(default=500, ge=10, le=60_000, description="for the answer to it (T_TCP_Alive_Check)")

    @model_validator(mode="after")
    def _known(self) -> Self:
        errors = []
        for kind, code in self.activation.items():
            if not 0 <= kind <= 0xFF:
                errors.append(field_error(("activation", kind), f"{kind} is no activation type: 0x00 .. 0xFF"))
            if code not in CODES:
                known = ", ".join(f"0x{one:02X}" for one in sorted(CODES))
                errors.append(field_error(("activation", kind), f"0x{code:02X} is no response code; one of {known}"))
        for index, address in enumerate(self.testers):
            if not 1 <= address <= 0xFFFF:
                errors.append(field_error(("testers", index), f"{address} is no logical address: 0x0001 .. 0xFFFF"))
        if errors:
            raise model_error("entity", errors)
        return self

    def knows(self, tester: int) -> bool:
        """Whether a tester with this address may activate routing."""
        return tester in (self.testers or TESTERS)


class DoIp(_Part):
    """Diagnostics over IP (ISO 13400-2) instead of ISO-TP. Times in ms, addresses are logical ones."""

    host: str = Field(min_length=1, description="name or IP address; a simulated ECU listens there")
    port: int = Field(default=PORT, ge=1, le=0xFFFF, description="TCP; a simulated ECU has the same for UDP")
    logical_address: int = Field(ge=1, le=0xFFFF, description="of the ECU")
    tester_address: int = Field(default=0x0E80, ge=1, le=0xFFFF, description="0x0E00 .. 0x0FFF for test equipment")
    functional_address: int | None = Field(
        default=None, ge=1, le=0xFFFF, description="of all ECUs behind the gateway, for example 0xE400"
    )
    activation_type: int = Field(default=0x00, ge=0, le=0xFF, description="0: default, 1: regulation (WWH-OBD)")
    oem_specific: int | None = Field(
        default=None, ge=0, le=0xFFFF_FFFF, description="sent with the routing activation; null: nothing is"
    )
    version: Literal[1, 2, 3, 4] = Field(
        default=2,
        description="in the header: 1 is ISO/DIS 13400-2:2010, 2 the standard of 2012, 3 of 2019, 4 its amendment",
    )
    connect_ms: int = Field(default=2000, ge=10, le=60_000, description="for the TCP connection")
    control_ms: int = Field(
        default=2000, ge=10, le=60_000, description="for the answer to routing activation (A_DoIP_Ctrl)"
    )
    ack_ms: int = Field(
        default=2000, ge=10, le=60_000, description="for the acknowledgement of a request (A_DoIP_Diagnostic_Message)"
    )
    max_pdu: int = Field(default=65_535, ge=7, le=1 << 24, description="bytes of the longest PDU that is received")
    entity: Entity = Field(default_factory=Entity)

    @model_validator(mode="after")
    def _addresses_differ(self) -> Self:
        errors = []
        for name in ("tester_address", "functional_address"):
            if getattr(self, name) == self.logical_address:
                errors.append(field_error((name,), f"0x{self.logical_address:04X} is the logical_address too"))
        if self.functional_address == self.tester_address:
            errors.append(
                field_error(("functional_address",), f"0x{self.tester_address:04X} is the tester_address too")
            )
        if errors:
            raise model_error("doip", errors)
        return self

    @property
    def place(self) -> str:
        """Where the entity listens."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
