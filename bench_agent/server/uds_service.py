"""Diagnostics over gRPC: one stream, many exchanges."""

import asyncio
from collections.abc import AsyncIterable

from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import from_values, to_value
from bench_agent.server.bench import Bench
from bench_agent.server.door import Context
from bench_agent.server.errors import CallError
from bench_agent.server.tenancy import Tenancy
from ecu_adapters.bus import BusHub
from ecu_adapters.description import EcuDescription
from ecu_adapters.uds import services
from ecu_adapters.uds.names import nrc_meaning, nrc_name, service_name
from ecu_adapters.uds.services import NegativeResponse, Outcome, UdsInvalid
from ecu_adapters.uds.tester import Exchange, UdsError, UdsTester, UdsTimeout, UdsTransportError

_AT_ONCE = 64
"""Exchanges of one stream in work; the stream is not read on until one of them ends."""
_LONGEST_S = 86_400.0

_KINDS: tuple[tuple[type[UdsError], bench_pb2.UdsError.Kind.ValueType], ...] = (
    (UdsInvalid, bench_pb2.UdsError.INVALID),
    (UdsTimeout, bench_pb2.UdsError.TIMEOUT),
    (UdsTransportError, bench_pb2.UdsError.TRANSPORT),
)


async def stream(bench: Bench, requests: AsyncIterable[bench_pb2.UdsRequest], context: Context) -> None:
    """Exchanges until the caller ends the stream: side by side for different ECUs, in order for one."""
    places = asyncio.Semaphore(_AT_ONCE)
    writing = asyncio.Lock()

    async def serve(request: bench_pb2.UdsRequest) -> None:
        try:
            reply = await answer(bench, request)
            async with writing:
                await context.write(reply)
        finally:
            places.release()

    async with asyncio.TaskGroup() as group:
        async for request in requests:
            await places.acquire()
            group.create_task(serve(request))


async def answer(bench: Bench, request: bench_pb2.UdsRequest) -> bench_pb2.UdsReply:
    """Carries out one request. What goes wrong is in the reply."""
    reply = bench_pb2.UdsReply(id=request.id)
    try:
        await _exchange(bench, request, reply)
    except NegativeResponse as error:
        _note(reply, error.exchange)
        _refused(reply, error.service, error.nrc)
    except UdsError as error:
        _note(reply, error.exchange)
        kind = next((kind for sort, kind in _KINDS if isinstance(error, sort)), bench_pb2.UdsError.UNEXPECTED)
        reply.error.CopyFrom(bench_pb2.UdsError(kind=kind, message=str(error)))
        if isinstance(error, UdsTransportError) and error.cause is not None:
            reply.error.transport, reply.error.frame = error.cause.kind.value, error.cause.frame
    return reply


async def _exchange(bench: Bench, request: bench_pb2.UdsRequest, reply: bench_pb2.UdsReply) -> None:
    try:
        ecu, bus = bench.ecu(request.ecu)
    except CallError as error:
        raise UdsInvalid(error.message) from error
    if not request.timeout_ms or request.timeout_ms > _LONGEST_S * 1000:
        raise UdsInvalid(f"timeout_ms is {request.timeout_ms}; it must be 1 .. {_LONGEST_S * 1000:.0f}")
    if request.WhichOneof("what") is None or (request.WhichOneof("what") == "pdu" and not request.pdu):
        raise UdsInvalid("neither a service nor a request PDU of at least one byte is given")
    try:
        hub = bus.require()
        tenancy = bench.held()
    except CallError as error:
        raise UdsTransportError(error.message) from error
    loop = asyncio.get_running_loop()
    timeout_s = request.timeout_ms / 1000
    deadline = loop.time() + timeout_s
    left = timeout_s
    turn = tenancy.turn(ecu.name)
    if turn.locked():
        try:
            async with asyncio.timeout_at(deadline):
                await turn.acquire()
        except TimeoutError:
            raise UdsTimeout(f"{ecu.name} was busy with other requests for {timeout_s:g} s") from None
        left = max(deadline - loop.time(), 0.001)
    else:
        await turn.acquire()
    try:
        tester = await _tester(tenancy, hub, ecu)
        if request.WhichOneof("what") == "pdu":
            _raw(reply, await tester.request(request.pdu, timeout_s=left))
        else:
            arguments = from_values(request.call.arguments)
            _named(reply, await services.call(tester, request.call.service, arguments, timeout_s=left))
    finally:
        turn.release()


async def _tester(tenancy: Tenancy, hub: BusHub, ecu: EcuDescription) -> UdsTester:
    try:
        return await tenancy.tester(hub, ecu)
    except ValueError as error:
        raise UdsInvalid(str(error)) from error


def _raw(reply: bench_pb2.UdsReply, exchange: Exchange) -> None:
    _note(reply, exchange)
    if exchange.nrc is not None:
        _refused(reply, exchange.request[0], exchange.nrc)
    else:
        reply.result.raw = exchange.response or b""


def _named(reply: bench_pb2.UdsReply, outcome: Outcome) -> None:
    _note(reply, outcome.exchange)
    reply.result.CopyFrom(to_value(outcome.result))


def _note(reply: bench_pb2.UdsReply, exchange: Exchange | None) -> None:
    if exchange is None:
        return
    reply.request = exchange.request
    reply.service_name = service_name(exchange.request[0])
    reply.response = exchange.response or b""
    reply.pending_us.extend(_us(moment) for moment in exchange.pending)
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
