"""Functional requests: one request to all ECUs of a bus."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench_agent.client.connection import Connection, to_ms
from bench_agent.client.ecu import UdsExchange, error_of, exchange_of
from bench_agent.client.errors import BenchError, NegativeResponse, UdsInvalid
from bench_agent.protocol import bench_pb2, diagnostics_pb2, diagnostics_pb2_grpc
from bench_agent.protocol.values import Plain, from_value, to_values


@dataclass(frozen=True, slots=True)
class FunctionalAnswer:
    """What one ECU made of a functional request. All None: it did not answer, which may be its answer."""

    exchange: UdsExchange | None = None
    result: Plain = None
    """Of a service by name its result, of a whole PDU the response."""
    error: BenchError | None = None
    """What went wrong; a NegativeResponse when the ECU refused."""

    @property
    def negative(self) -> NegativeResponse | None:
        """The refusal, if the ECU refused."""
        return self.error if isinstance(self.error, NegativeResponse) else None


def ask_all(
    connection: Connection,
    request: bytes | str,
    bus: str,
    timeout_s: float,
    functional_id: int | None,
    arguments: Mapping[str, object],
) -> dict[str, FunctionalAnswer]:
    """One functional request; the answers by ECU. Raises a BenchError."""
    asked = diagnostics_pb2.FunctionalRequest(bus=bus, timeout_ms=to_ms(timeout_s))
    if functional_id is not None:
        if not 0 <= functional_id <= 0x1FFF_FFFF:
            raise UdsInvalid(f"functional_id is {functional_id}; it must be 0 .. 0x1FFFFFFF")
        asked.functional_id = functional_id
    if isinstance(request, bytes):
        if arguments:
            raise UdsInvalid(f"a whole PDU takes no arguments, not {', '.join(arguments)}")
        asked.pdu = request
    else:
        try:
            asked.call.CopyFrom(bench_pb2.UdsCall(service=request, arguments=to_values(arguments)))
        except (TypeError, ValueError) as error:
            raise UdsInvalid(f"arguments of {request}: {error}") from None
    stub = diagnostics_pb2_grpc.DiagnosticsStub(connection.channel)
    reply = connection.ask(stub.Functional, asked, timeout_s)
    if reply.HasField("error"):
        raise error_of(reply.error)
    return {name: _answer(answer) for name, answer in sorted(reply.answers.items())}


def _answer(reply: bench_pb2.UdsReply) -> FunctionalAnswer:
    exchange = exchange_of(reply)
    match reply.WhichOneof("outcome"):
        case "result":
            return FunctionalAnswer(exchange, from_value(reply.result))
        case "negative":
            return FunctionalAnswer(exchange, error=exchange.negative)
        case "error":
            return FunctionalAnswer(exchange if exchange.request else None, error=error_of(reply.error))
    return FunctionalAnswer()
