"""The state of buses over gRPC: asked for, awaited, followed, and recovered."""

import time

from bench_agent.protocol import bus_pb2, bus_pb2_grpc
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.bench import STATES
from bench_agent.server.door import Context
from bench_agent.server.errors import invalid
from bench_agent.server.leased import Leased
from ecu_adapters.bus_state import BusEvent, ErrorSeen, FramesLost, RestartTried, StateChange, StaysOff

_BY_WIRE = {wire: state for state, wire in STATES.items()}


class BusMonitorServicer(Leased, bus_pb2_grpc.BusMonitorServicer):
    """Methods as in bus.proto."""

    async def Stats(self, request: bus_pb2.BusRequest, context: Context) -> bus_pb2.BusStats:
        """How a bus does now."""
        return _stats(self.bench().bus(request.bus))

    async def ExpectState(self, request: bus_pb2.ExpectStateRequest, context: Context) -> bus_pb2.ExpectStateReply:
        """Waits until a bus is in a state. Raises CallError."""
        bus = self.bench().bus(request.bus)
        wanted = _BY_WIRE.get(request.state)
        if wanted is None:
            raise invalid(f"state is {request.state}; it must be one of {', '.join(_BY_WIRE.values())}")
        if not request.timeout_ms:
            raise invalid("timeout_ms is 0; it must be at least 1")
        met = await bus.watch.expect(wanted, request.timeout_ms / 1000)
        now = bus.watch.state
        return bus_pb2.ExpectStateReply(met=met, state=STATES[wanted if met else now])

    async def Recover(self, request: bus_pb2.BusRequest, context: Context) -> bus_pb2.BusStats:
        """Brings a controller back from bus-off. Raises CallError."""
        bus = self.bench().bus(request.bus)
        bus.require()
        await bus.watch.recover()
        return _stats(bus)

    async def Watch(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request: bus_pb2.BusRequest, context: Context
    ) -> None:
        """Tells what happens until the caller goes or the lease ends."""
        watch = self.bench().bus(request.bus).watch
        with watch.events() as stream:
            await context.write(_event(StateChange(time.time_ns(), watch.state, watch.state), 0))
            while True:
                event = await stream.take()
                await context.write(_event(event, stream.dropped))


def _stats(bus: AgentBus) -> bus_pb2.BusStats:
    reply = bus_pb2.BusStats(
        state=STATES[bus.watch.state],
        fault=bus.fault or bus.watch.fault or "",
        subscribers=[
            bus_pb2.Subscriber(delivered=delivered, dropped=dropped, waiting=waiting)
            for delivered, dropped, waiting in (queue.counts for queue in bus.watch.queues)
        ],
    )
    hub, meter = bus.hub, bus.watch.meter
    if hub is None or meter is None:
        return reply
    now, stats, load = hub.monitor.condition(), hub.stats, meter.load()
    reply.since_ns, reply.tx_errors, reply.rx_errors = now.since_ns, now.tx_errors, now.rx_errors
    reply.bus_offs, reply.recoveries = now.bus_offs, now.recoveries
    reply.frames_per_s = load.frames_per_s
    if load.typical is not None and load.worst is not None:
        reply.load_typical, reply.load_worst = load.typical * 100, load.worst * 100
    reply.bitrate, reply.data_bitrate = (rate or 0 for rate in hub.bitrates)
    reply.received, reply.sent, reply.send_failed = stats.received, stats.sent, stats.send_failed
    reply.lost, reply.error_frames = stats.lost, stats.error_frames
    reply.errors.update(now.kinds)
    reply.last_errors.extend(_error(seen) for seen in now.last_errors)
    return reply


def _event(event: BusEvent, dropped: int) -> bus_pb2.BusEvent:
    wire = bus_pb2.BusEvent(timestamp_ns=event.stamp_ns, dropped=dropped)
    match event:
        case ErrorSeen():
            wire.error.CopyFrom(_error(event))
        case StateChange(_, state, before):
            wire.state.CopyFrom(bus_pb2.StateChange(state=STATES[state], before=STATES[before]))
        case FramesLost(_, lost, total):
            wire.lost.CopyFrom(bus_pb2.FramesLost(lost=lost, total=total))
        case RestartTried(_, attempt, fault):
            wire.restart.CopyFrom(bus_pb2.RestartTried(attempt=attempt, fault=fault or ""))
        case StaysOff(_, reason):
            wire.stays_off.reason = reason
    return wire


def _error(seen: ErrorSeen) -> bus_pb2.ErrorFrame:
    report = seen.report
    return bus_pb2.ErrorFrame(
        timestamp_ns=seen.stamp_ns,
        kinds=report.kinds,
        detail=report.detail,
        tx_errors=report.tx_errors,
        rx_errors=report.rx_errors,
    )
