"""What came of a diagnostic exchange, as it goes over gRPC."""

from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import to_value
from ecu_adapters.uds.names import nrc_meaning, nrc_name, service_name
from ecu_adapters.uds.secret import public_length
from ecu_adapters.uds.services import NegativeResponse, Outcome, UdsInvalid
from ecu_adapters.uds.tester import Exchange, UdsError, UdsTimeout, UdsTransportError

_KINDS: tuple[tuple[type[UdsError], bench_pb2.UdsError.Kind.ValueType], ...] = (
    (UdsInvalid, bench_pb2.UdsError.INVALID),
    (UdsTimeout, bench_pb2.UdsError.TIMEOUT),
    (UdsTransportError, bench_pb2.UdsError.TRANSPORT),
)


def fill_exchange(reply: bench_pb2.UdsReply, exchange: Exchange) -> None:
    """Of a whole PDU: its response, positive or not."""
    _note(reply, exchange)
    if exchange.nrc is not None:
        _refused(reply, exchange.request[0], exchange.nrc)
    else:
        reply.result.raw = exchange.response or b""


def fill_outcome(reply: bench_pb2.UdsReply, outcome: Outcome) -> None:
    """Of a service by name: its result."""
    _note(reply, outcome.exchange)
    reply.result.CopyFrom(to_value(outcome.result))


def fill_error(reply: bench_pb2.UdsReply, error: UdsError) -> None:
    """Of a service that was refused or failed."""
    _note(reply, error.exchange)
    if isinstance(error, NegativeResponse):
        _refused(reply, error.service, error.nrc)
    else:
        reply.error.CopyFrom(to_error(error))


def to_error(error: UdsError) -> bench_pb2.UdsError:
    """What went wrong."""
    kind = next((kind for sort, kind in _KINDS if isinstance(error, sort)), bench_pb2.UdsError.UNEXPECTED)
    coded = bench_pb2.UdsError(kind=kind, message=str(error))
    if isinstance(error, UdsTransportError) and error.cause is not None:
        coded.transport, coded.frame = error.cause.kind.value, error.cause.frame
    return coded


def _note(reply: bench_pb2.UdsReply, exchange: Exchange | None) -> None:
    if exchange is None:
        return
    public = public_length(exchange.request)
    reply.request = exchange.request[:public]
    reply.hidden = len(exchange.request) - public
    reply.service_name = service_name(exchange.request[0])
    reply.response = exchange.response or b""
    if (pending := exchange.pending).count:
        reply.pending_count = pending.count
        reply.pending_us.extend(map(_us, pending.times))
        reply.pending_last_us, reply.pending_longest_gap_us = _us(pending.last_s), _us(pending.longest_gap_s)
    reply.elapsed_us = _us(exchange.elapsed_s)


def _refused(reply: bench_pb2.UdsReply, service: int, nrc: int) -> None:
    reply.negative.CopyFrom(
        bench_pb2.NegativeResponse(
            service=service,
            nrc=nrc,
            service_name=service_name(service),
            nrc_name=nrc_name(nrc),
            meaning=nrc_meaning(nrc),
        )
    )


def _us(seconds: float) -> int:
    return max(round(seconds * 1e6), 0)
