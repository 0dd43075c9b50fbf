"""CAN over gRPC: streams, sending, expecting, remembering."""

import asyncio
from collections.abc import AsyncIterable
from functools import partial

import can

from bench_agent.protocol import bench_pb2, frames
from bench_agent.protocol.claims import Scope
from bench_agent.server import convert
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.bench import Bench, describe_bus
from bench_agent.server.door import Context, current_call
from bench_agent.server.errors import CallError, bus_fault, invalid
from bench_agent.server.expect_service import watch
from bench_agent.server.frame_queue import FrameQueue
from bench_agent.server.signals import database_of, signal_values
from ecu_adapters.bus import BusError, FrameError
from ecu_adapters.dbc import DatabaseError
from ecu_adapters.frame_records import EXTENDED, ID_MASK, STANDARD_ID_MASK, Records

MOST_FRAMES = 4096
"""In one request or answer."""
_OUTGOING = 4
"""Requests whose frames wait for the bus; then the caller is held back."""


async def stream(bench: Bench, requests: AsyncIterable[bench_pb2.CanRequest], context: Context) -> None:
    """Frames both ways until the caller ends it or the bus fails. Raises CallError."""
    incoming = aiter(requests)
    first = await anext(incoming, None)
    if first is None or first.WhichOneof("request") != "open":
        raise invalid("the first request of a CAN stream must be 'open'")
    bus = bench.bus(first.open.bus)
    hub, closed = bus.require(), bus.closed
    if not first.open.credit and not first.open.mute:
        raise invalid("credit is 0; give the number of frames that you are ready to take, or set mute")
    queue = FrameQueue(
        asyncio.get_running_loop(),
        [_filter(number, wanted) for number, wanted in enumerate(first.open.filters)],
        credit=first.open.credit,
        own_frames=first.open.own_frames,
        on_drop=partial(bus.watch.drops.add, "stream"),
    )
    events = _Events(context)
    subscription = None if first.open.mute else hub.tap(queue.put)
    if subscription is not None:
        bus.watch.queues.append(queue)
    try:
        await events.write(bench_pb2.CanEvent(opened=describe_bus(bus)))
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(_take_incoming(bus, incoming, queue, events))
            if subscription is None:
                return  # the group waits for the sender
            reader = group.create_task(_forward(queue, events))
            watcher = group.create_task(watch(bus, closed))
            await asyncio.wait([reader, watcher], return_when=asyncio.FIRST_COMPLETED)
            sender.cancel()
    except* CallError as errors:
        raise _first(errors) from None
    finally:
        if subscription is not None:
            subscription.close()
            bus.watch.queues.remove(queue)
        queue.close()


async def send(bench: Bench, request: bench_pb2.SendRequest) -> bench_pb2.SendReply:
    """Sends frames or one message of the DBC. Raises CallError."""
    bus = bench.bus(request.bus)
    match request.WhichOneof("what"):
        case "frames":
            records = _records(request.frames)
            taken = await bus.send_records(records)
            if taken.error is not None:
                raise _send_error(taken.error, len(taken.records), len(records))
            before_ns = int(taken.records["stamp"][-1])
            return bench_pb2.SendReply(timestamp_ns=before_ns, frames=convert.to_batch(taken.records))
        case "message":
            sent = await bus.send([_encode(bus, request.message)])
            if sent.error is not None:
                raise _send_error(sent.error, 0, 1)
            reply = [convert.to_frame(message) for message in sent.taken]
            return bench_pb2.SendReply(timestamp_ns=sent.before_ns, frames=frames.batch(reply))
        case _:
            raise invalid("neither frames nor message is given")


def recent(bench: Bench, request: bench_pb2.RecentRequest) -> bench_pb2.RecentReply:
    """The last frames of this lease. A bus that is down has none. Raises CallError."""
    if not 1 <= request.count <= MOST_FRAMES:
        raise invalid(f"count is {request.count}; it must be 1 .. {MOST_FRAMES}")
    buses = [bench.bus(request.bus)] if request.bus else bench.buses.values()
    tenancy = bench.held()
    reply = bench_pb2.RecentReply()
    for bus in buses:
        remembered = tenancy.recent(bus.hub)[-request.count :] if bus.hub is not None else []
        reply.buses[bus.name].CopyFrom(frames.batch(convert.to_frame(message) for message in remembered))
    return reply


class _Events:
    """The answers of one stream. Several tasks write; gRPC takes one message at a time."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = asyncio.Lock()

    async def write(self, event: bench_pb2.CanEvent) -> None:
        async with self._lock:
            await self._context.write(event)


async def _forward(queue: FrameQueue, events: _Events) -> None:
    while True:
        for batch in await queue.take():
            await events.write(bench_pb2.CanEvent(frames=batch))


async def _take_incoming(
    bus: AgentBus, incoming: AsyncIterable[bench_pb2.CanRequest], queue: FrameQueue, events: _Events
) -> None:
    """Takes what the caller sends. Credit counts at once, also while frames wait for a busy bus."""
    outgoing: asyncio.Queue[Records | None] = asyncio.Queue(_OUTGOING)
    async with asyncio.TaskGroup() as group:
        group.create_task(_send_outgoing(bus, outgoing, events))
        async for request in incoming:
            if request.credit:
                queue.grant(request.credit)
            match request.WhichOneof("request"):
                case "frames":
                    current_call().require(Scope.CO_DRIVER, "sending frames")
                    await outgoing.put(_records(request.frames))
                case "open":
                    raise invalid("after the first 'open', a CAN stream takes 'frames' and 'credit' only")
        await outgoing.put(None)


async def _send_outgoing(bus: AgentBus, outgoing: "asyncio.Queue[Records | None]", events: _Events) -> None:
    sent = failed = 0
    reason = ""
    while (records := await outgoing.get()) is not None:
        while len(records):
            taken = await bus.send_records(records)
            sent += len(taken.records)
            if taken.error is None:
                break
            failed, reason = failed + 1, str(taken.error)
            records = records[len(taken.records) + 1 :]
        await events.write(bench_pb2.CanEvent(sent=bench_pb2.CanSent(sent=sent, failed=failed, error=reason)))


def _filter(number: int, wanted: bench_pb2.CanFilter) -> tuple[int, int]:
    """Raises CallError for one that no frame can pass: a mistake that would look like a silent bus."""
    field = f"filters[{number}]"
    if wanted.id & ~wanted.mask:
        raise invalid(f"{field}.id 0x{wanted.id:X} has bits outside mask 0x{wanted.mask:X}; no frame can match it")
    if wanted.mask & EXTENDED and not wanted.id & EXTENDED and wanted.id & ID_MASK > STANDARD_ID_MASK:
        raise invalid(f"{field}.id 0x{wanted.id:X} is above 0x7FF; set bit 31 of id for a 29-bit ID")
    return wanted.id, wanted.mask


def _records(batch: bench_pb2.FrameBatch) -> Records:
    try:
        records = convert.to_records(batch)
    except ValueError as error:
        raise invalid(f"frames: {error}") from error
    if not 1 <= len(records) <= MOST_FRAMES:
        raise invalid(f"frames: {len(records)} given; 1 .. {MOST_FRAMES} go in one request")
    return records


def _encode(bus: AgentBus, message: bench_pb2.SignalMessage) -> can.Message:
    try:
        return database_of(bus, message.name).encode(message.name, signal_values(message), force=message.force)
    except DatabaseError as error:
        raise invalid(str(error)) from error


def _send_error(error: BusError, taken: int, count: int) -> CallError:
    message = f"{taken} of {count} frames sent, then: {error}" if count > 1 else str(error)
    return invalid(message) if isinstance(error, FrameError) else bus_fault(message)


def _first(errors: BaseExceptionGroup[CallError]) -> CallError:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, CallError) else invalid(str(error))
