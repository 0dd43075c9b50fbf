"""Diagnostics over gRPC: one stream, many exchanges."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from bench_agent.protocol import bench_pb2, tracing
from bench_agent.protocol.values import from_values
from bench_agent.server import uds_replies
from bench_agent.server.bench import Bench
from bench_agent.server.door import Context
from bench_agent.server.errors import CallError
from bench_agent.server.tenancy import Tenancy
from ecu_adapters.description import EcuDescription
from ecu_adapters.uds import services
from ecu_adapters.uds.link import Link
from ecu_adapters.uds.services import UdsInvalid
from ecu_adapters.uds.tester import UdsError, UdsTester, UdsTimeout, UdsTransportError

_AT_ONCE = 64
"""Exchanges of one stream in work; the stream is not read on until one of them ends."""
LONGEST_S = 86_400.0
"""The longest time that a caller may give."""


async def stream(bench: Bench, requests: AsyncIterable[bench_pb2.UdsRequest], context: Context) -> None:
    """Exchanges until the caller ends the stream: side by side for different ECUs, in order for one."""
    places = asyncio.Semaphore(_AT_ONCE)
    writer = _Writer(context, places)

    async def serve(request: bench_pb2.UdsRequest) -> None:
        await writer.write(await answer(bench, request))

    async with asyncio.TaskGroup() as group:
        async for message in requests:
            for request in (message, *message.more):
                await places.acquire()
                writer.in_work += 1
                group.create_task(serve(request))


class _Writer:
    """Writes replies, those that come while another is on its way together in one message."""

    def __init__(self, context: Context, places: asyncio.Semaphore) -> None:
        """A place is given back for every reply that has been written."""
        self._context = context
        self._places = places
        self.in_work = 0
        """Requests whose replies have not been written."""
        self._waiting: list[bench_pb2.UdsReply] = []
        self._writing = False

    async def write(self, reply: bench_pb2.UdsReply) -> None:
        """Returns when it is written, or left to the one who is writing already."""
        self._waiting.append(reply)
        if self._writing:
            return
        self._writing = True
        try:
            while self._waiting:
                await self._gather()
                (first, *more), self._waiting = self._waiting, []
                first.more.extend(more)
                await self._context.write(first)
                self.in_work -= 1 + len(more)
                for _ in range(1 + len(more)):
                    self._places.release()
        finally:
            self._writing = False

    async def _gather(self) -> None:
        """Lets exchanges that end at the same time as the first come along."""
        count = 0
        while count < len(self._waiting) < self.in_work:
            count = len(self._waiting)
            await asyncio.sleep(0)


async def answer(bench: Bench, request: bench_pb2.UdsRequest) -> bench_pb2.UdsReply:
    """Carries out one request. What goes wrong is in the reply."""
    reply = bench_pb2.UdsReply(id=request.id)
    what = request.call.service or f"0x{request.pdu[:1].hex().upper()}"
    with tracing.span(f"UDS {what}", kind="client", bench=bench.name, ecu=request.ecu, service=what) as span:
        try:
            await _exchange(bench, request, reply)
        except UdsError as error:
            uds_replies.fill_error(reply, error)
            span.failed(str(error))
    return reply


async def _exchange(bench: Bench, request: bench_pb2.UdsRequest, reply: bench_pb2.UdsReply) -> None:
    try:
        ecu, bus = bench.ecu(request.ecu)
    except CallError as error:
        raise UdsInvalid(error.message) from error
    if not request.timeout_ms or request.timeout_ms > LONGEST_S * 1000:
        raise UdsInvalid(f"timeout_ms is {request.timeout_ms}; it must be 1 .. {LONGEST_S * 1000:.0f}")
    if request.WhichOneof("what") is None or (request.WhichOneof("what") == "pdu" and not request.pdu):
        raise UdsInvalid("neither a service nor a request PDU of at least one byte is given")
    try:
        hub = bus.require()
        tenancy = bench.held()
    except CallError as error:
        raise UdsTransportError(error.message) from error
    timeout_s = request.timeout_ms / 1000
    if request.call.service and services.find(request.call.service).exchanges == 0:
        # It takes what the ECU has sent by itself: requests may go on beside it.
        await _serve(await tester_of(tenancy, hub, ecu), request, reply, timeout_s)
        return
    async with turn(tenancy, ecu.name, timeout_s) as left:
        await _serve(await tester_of(tenancy, hub, ecu), request, reply, left)


async def _serve(tester: UdsTester, request: bench_pb2.UdsRequest, reply: bench_pb2.UdsReply, timeout_s: float) -> None:
    if request.WhichOneof("what") == "pdu":
        uds_replies.fill_exchange(reply, await tester.request(request.pdu, timeout_s=timeout_s))
    else:
        arguments = from_values(request.call.arguments)
        outcome = await services.call(tester, request.call.service, arguments, timeout_s=timeout_s)
        uds_replies.fill_outcome(reply, outcome)


@asynccontextmanager
async def turn(tenancy: Tenancy, ecu: str, timeout_s: float) -> AsyncIterator[float]:
    """Keeps other requests off an ECU; gives the seconds that are left then. Raises UdsTimeout."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    lock, left = tenancy.turn(ecu), timeout_s
    if lock.locked():
        try:
            async with asyncio.timeout_at(deadline):
                await lock.acquire()
        except TimeoutError:
            raise UdsTimeout(f"{ecu} was busy with other requests for {timeout_s:g} s") from None
        left = max(deadline - loop.time(), 0.001)
    else:
        await lock.acquire()
    try:
        yield left
    finally:
        lock.release()


async def tester_of(tenancy: Tenancy, link: Link, ecu: EcuDescription) -> UdsTester:
    """The lease's tester for an ECU. Raises UdsInvalid when the ECU's description does not suit the bus."""
    try:
        return await tenancy.tester(link, ecu)
    except ValueError as error:
        raise UdsInvalid(str(error)) from error
