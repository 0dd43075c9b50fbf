"""Replay over gRPC: takes a log's frames as fast as they are needed, and tells how far it is."""

import asyncio
import math
from collections.abc import AsyncIterator

import can

from bench_agent.protocol import bench_pb2, frames, replay_pb2, replay_pb2_grpc
from bench_agent.server import convert
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.cleanup import Phase
from bench_agent.server.door import Context
from bench_agent.server.errors import invalid, unavailable
from bench_agent.server.leased import Leased
from bench_agent.server.player import Player

_REPORT_S = 0.25
_STOP_S = 2.0
_FASTEST = 1000.0


class ReplayServicer(Leased, replay_pb2_grpc.ReplayServicer):
    """Methods as in replay.proto."""

    async def Play(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request_iterator: AsyncIterator[replay_pb2.ReplayRequest], context: Context
    ) -> None:
        """Plays until the log or the lease ends, or the caller goes. Raises CallError."""
        bench = self.bench()
        incoming = aiter(request_iterator)
        first = await anext(incoming, None)
        if first is None or first.WhichOneof("request") != "open":
            raise invalid("the first request of a replay must be 'open'")
        speed = first.open.speed
        if not math.isfinite(speed) or not 0 <= speed <= _FASTEST:
            raise invalid(f"speed is {speed:g}; it must be 0 .. {_FASTEST:g}")
        bus = bench.bus(first.open.bus)
        hub, closed = bus.require_to_send(), bus.closed
        loop = asyncio.get_running_loop()
        room, ended = asyncio.Event(), asyncio.Event()

        def tell(event: asyncio.Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)

        player = Player(hub, speed, lambda: tell(room), lambda: tell(ended))
        cleanup = bench.held().cleanup
        step = cleanup.push(f"stop the replay on bus {bus.name}", player.stop, deadline_s=_STOP_S, phase=Phase.SILENCE)
        try:
            await context.write(replay_pb2.ReplayEvent())
            await _play(player, incoming, context, bus, (room, ended, closed))
        finally:
            await player.stop()
            cleanup.drop(step)


async def _play(
    player: Player,
    incoming: AsyncIterator[replay_pb2.ReplayRequest],
    context: Context,
    bus: AgentBus,
    events: tuple[asyncio.Event, asyncio.Event, asyncio.Event],
) -> None:
    room, ended, closed = events
    feed = asyncio.create_task(_feed(player, incoming, room))
    over = asyncio.create_task(ended.wait())
    gone = asyncio.create_task(closed.wait())
    try:
        while not over.done():
            watched = [over, gone, *([] if feed.done() else [feed])]
            await asyncio.wait(watched, timeout=_REPORT_S, return_when=asyncio.FIRST_COMPLETED)
            if feed.done():
                feed.result()
            if gone.done():
                raise unavailable(bus.fault or f"CAN bus {bus.name!r} was closed")
            await context.write(_event(player, done=False))
        await context.write(_event(player, done=True))
    finally:
        for task in (feed, over, gone):
            task.cancel()
        await asyncio.gather(feed, over, gone, return_exceptions=True)


async def _feed(player: Player, incoming: AsyncIterator[replay_pb2.ReplayRequest], room: asyncio.Event) -> None:
    async for request in incoming:
        if request.WhichOneof("request") != "frames":
            raise invalid("after 'open', a replay takes 'frames' only")
        room.clear()
        if not player.offer(_messages(request.frames)):
            await room.wait()
    player.complete()


def _messages(batch: bench_pb2.FrameBatch) -> list[can.Message]:
    try:
        messages = []
        for frame in frames.unbatch(batch):
            message = convert.to_message(frame)
            message.timestamp = frame.timestamp_ns / 1e9
            messages.append(message)
    except ValueError as error:
        raise invalid(f"frames: {error}") from error
    return messages


def _event(player: Player, *, done: bool) -> replay_pb2.ReplayEvent:
    played = player.played
    return replay_pb2.ReplayEvent(
        sent=played.sent,
        failed=played.failed,
        error=played.error,
        position_ns=played.position_ns,
        late_us=max(played.late_ns, 0) // 1000,
        starved=played.starved,
        done=done,
    )
