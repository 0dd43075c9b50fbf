"""A diagnostic ECU of a leased bench."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from bench_agent.client.connection import to_ms
from bench_agent.client.errors import (
    BenchError,
    NegativeResponse,
    UdsInvalid,
    UdsTimeout,
    UdsTransport,
    UdsUnexpected,
)
from bench_agent.client.flash import FlashClient, FlashProgress, FlashResult
from bench_agent.client.uds_stream import UdsStream
from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import Plain, from_value, to_values

_BY_KIND: dict[int, type[BenchError]] = {
    bench_pb2.UdsError.INVALID: UdsInvalid,
    bench_pb2.UdsError.TIMEOUT: UdsTimeout,
    bench_pb2.UdsError.UNEXPECTED: UdsUnexpected,
}


@dataclass(frozen=True, slots=True)
class UdsExchange:
    """One request and its final response, as they were on the bus. For a named service: the last one it took."""

    request: bytes
    response: bytes
    """Empty if none came or none was due (suppress-positive-response)."""
    pending_us: tuple[int, ...]
    """When each 0x78 (response pending) came, in µs after the request."""
    elapsed_us: int
    """From request to final response, in µs."""
    service_name: str
    """Of the request, after ISO 14229-1; empty if none was sent."""
    negative: NegativeResponse | None
    """What the response says, if it is a negative one."""


class EcuClient:
    """One ECU. Cheap to make; thread-safe, and requests to one ECU are carried out in order."""

    def __init__(self, stream: UdsStream, name: str, flashing: FlashClient) -> None:
        self._stream = stream
        self._flashing = flashing
        self.name = name
        self.last: UdsExchange | None = None
        """The exchange behind the last call on this object, refused ones included."""

    def raw(self, pdu: bytes, timeout_s: float = 10.0) -> UdsExchange:
        """Sends a whole request PDU, from the service identifier on.

        ``timeout_s`` bounds the whole exchange, all waiting for 0x78 included. A negative response is no error here:
        it is the exchange's response, and explained in its ``negative``. Raises a BenchError.
        """
        request = bench_pb2.UdsRequest(ecu=self.name, timeout_ms=to_ms(timeout_s), pdu=pdu)
        exchange, reply = self._exchange(request)
        if reply.WhichOneof("outcome") == "error":
            _fail(reply.error)
        return exchange

    def call(self, service: str, /, timeout_s: float = 10.0, **arguments: object) -> Plain:
        """Calls a service by name ("session", "read", "unlock", ...), coded with the ECU's description.

        Returns its result as plain data. Raises NegativeResponse when the ECU refuses, or another BenchError.
        """
        try:
            coded = bench_pb2.UdsCall(service=service, arguments=to_values(arguments))
        except (TypeError, ValueError) as error:
            raise UdsInvalid(f"arguments of {service}: {error}") from None
        _, reply = self._exchange(bench_pb2.UdsRequest(ecu=self.name, timeout_ms=to_ms(timeout_s), call=coded))
        match reply.WhichOneof("outcome"):
            case "negative":
                raise _negative(reply.negative)
            case "error":
                _fail(reply.error)
        return from_value(reply.result)

    def flash(
        self,
        image: "bytes | os.PathLike[str] | str",
        *,
        file_name: str = "",
        address: int | None = None,
        resume: bool = False,
        on_progress: Callable[[FlashProgress], None] | None = None,
        timeout_s: float | None = None,
    ) -> FlashResult:
        """Writes an image file into the ECU, as its description's section ``flash`` says. See `FlashClient.write`."""
        return self._flashing.write(
            self.name, image, file_name=file_name, address=address, resume=resume, on_progress=on_progress,
            timeout_s=timeout_s,
        )  # fmt: skip

    def _exchange(self, request: bench_pb2.UdsRequest) -> tuple[UdsExchange, bench_pb2.UdsReply]:
        reply = self._stream.exchange(request)
        self.last = UdsExchange(
            request=reply.request,
            response=reply.response,
            pending_us=tuple(reply.pending_us),
            elapsed_us=reply.elapsed_us,
            service_name=reply.service_name,
            negative=_negative(reply.negative) if reply.WhichOneof("outcome") == "negative" else None,
        )
        return self.last, reply


def _negative(coded: bench_pb2.NegativeResponse) -> NegativeResponse:
    return NegativeResponse(coded.service, coded.nrc, coded.service_name, coded.nrc_name, coded.meaning)


def _fail(error: bench_pb2.UdsError) -> NoReturn:
    if error.kind == bench_pb2.UdsError.TRANSPORT:
        raise UdsTransport(error.message, error.transport, error.frame)
    raise _BY_KIND.get(error.kind, BenchError)(error.message)
