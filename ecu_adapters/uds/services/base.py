"""What the services have in common: a call with plain arguments, its outcome, and the ways in which it may fail."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from udsoncan.Request import Request
from udsoncan.Response import Response

from ecu_adapters.description import EcuDescription
from ecu_adapters.uds.names import nrc_name, service_name
from ecu_adapters.uds.secret import shown
from ecu_adapters.uds.tester import Exchange, UdsError, UdsUnexpected
from ecu_adapters.uds.unsolicited import Unsolicited

Plain = None | bool | int | float | str | bytes | list["Plain"] | dict[str, "Plain"]
"""What arguments and results are made of."""


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
    """What a service brought, and the last exchange that it took; None when it took none."""

    result: Plain
    exchange: Exchange | None


@dataclass(frozen=True, slots=True)
class Service:
    """A named service: what runs it, which arguments it must or may have, and how many exchanges it takes."""

    run: Callable[..., Awaitable[Outcome]]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    exchanges: int = 1
    """0: it asks the ECU for nothing, and may run beside a request."""


class Tester(Protocol):
    """What a service needs of a tester."""

    @property
    def ecu(self) -> EcuDescription:
        """The ECU that is asked."""

    @property
    def unsolicited(self) -> Unsolicited:
        """What it sent that answers no request."""

    async def request(self, pdu: bytes, *, timeout_s: float) -> Exchange:
        """As `ecu_adapters.uds.tester.UdsTester.request`."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tester and the time that each exchange may take."""

    tester: Tester
    timeout_s: float

    @property
    def ecu(self) -> EcuDescription:
        """The description of the ECU that is asked."""
        return self.tester.ecu

    async def exchange(self, request: Request) -> tuple[Response, Exchange]:
        """Sends a request that must have a positive response. Raises NegativeResponse."""
        pdu, exchange = await self.raw(request.get_payload())
        response = Response.from_payload(pdu)
        if not response.valid:
            raise UdsUnexpected(f"response of {self.ecu.name} is malformed: {response.invalid_reason}", exchange)
        return response, exchange

    async def raw(self, pdu: bytes) -> tuple[bytes, Exchange]:
        """The same in bytes: udsoncan takes 0.1 ms to look a response up, which reading a value can do without."""
        exchange = await self.tester.request(pdu, timeout_s=self.timeout_s)
        if exchange.nrc is not None:
            raise NegativeResponse(pdu[0], exchange.nrc, exchange)
        return exchange.response or b"", exchange

    def malformed(self, what: str, exchange: Exchange) -> UdsUnexpected:
        """To be raised when a response does not have the format of ISO 14229-1, or that of the description."""
        text = shown(exchange.response or b"", limit=64)
        return UdsUnexpected(f"response of {self.ecu.name} {what}: {text}", exchange)
