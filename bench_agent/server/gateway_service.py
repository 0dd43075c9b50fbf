"""Gateways over gRPC: each lives as long as its call, and not beyond its lease."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from bench_agent.protocol import frames, gateway_pb2, gateway_pb2_grpc
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.cleanup import Phase
from bench_agent.server.door import Context
from bench_agent.server.errors import invalid, unavailable
from bench_agent.server.gateway import Way
from bench_agent.server.leased import Leased
from ecu_adapters.faults import Fault

_STOP_S = 3.0
_MOST_FAULTS = 64
_MOST_COPIES = 100
_LONGEST_DELAY_US = 60_000_000


class GatewayServicer(Leased, gateway_pb2_grpc.GatewayServicer):
    """Methods as in gateway.proto."""

    async def Forward(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request_iterator: AsyncIterator[gateway_pb2.GatewayRequest], context: Context
    ) -> None:
        """Forwards until the caller has had enough, the lease ends or a bus fails. Raises CallError."""
        bench = self.bench()
        incoming = aiter(request_iterator)
        request = await anext(incoming, None)
        if request is None:
            raise invalid("the first request of a gateway must open it")
        first, second = bench.bus(request.from_bus), bench.bus(request.to_bus)
        if first is second:
            raise invalid(f"from_bus and to_bus are both {request.from_bus!r}; a gateway joins two buses")
        if len(request.faults) > _MOST_FAULTS:
            raise invalid(f"{len(request.faults)} faults are given; at most {_MOST_FAULTS} go on one way")
        faults = [_fault(f"faults[{number}]", fault) for number, fault in enumerate(request.faults)]
        hubs = first.require() if request.one_way else first.require_to_send(), second.require_to_send()
        here, there = (hub.node(f"gateway-{hub.name}") for hub in hubs)
        ways = [Way(here, there, faults, on_drop=partial(first.watch.drops.add, "gateway"))]
        if not request.one_way:
            ways.append(Way(there, here, (), on_drop=partial(second.watch.drops.add, "gateway")))

        async def stop() -> None:
            await asyncio.gather(*(way.stop() for way in ways))

        cleanup = bench.held().cleanup
        step = cleanup.push(
            f"stop the gateway {first.name} - {second.name}", stop, deadline_s=_STOP_S, phase=Phase.SILENCE
        )
        try:
            await _answer(ways, (first, second), incoming, context)
        finally:
            await stop()
            cleanup.drop(step)
            here.detach("the gateway has ended")
            there.detach("the gateway has ended")
        await context.write(_counts(ways))


async def _answer(
    ways: list[Way],
    buses: tuple[AgentBus, AgentBus],
    incoming: AsyncIterator[gateway_pb2.GatewayRequest],
    context: Context,
) -> None:
    """Tells the counts at once and as often as they are asked for, until the requests end. Raises CallError."""
    watches = [asyncio.create_task(bus.closed.wait()) for bus in buses]
    asked = asyncio.create_task(_next(incoming))
    try:
        while True:
            await context.write(_counts(ways))
            await asyncio.wait([asked, *watches], return_when=asyncio.FIRST_COMPLETED)
            _still_open(buses, watches)
            if asked.result() is None:
                return
            asked = asyncio.create_task(_next(incoming))
    finally:
        for task in (asked, *watches):
            task.cancel()
        await asyncio.gather(asked, *watches, return_exceptions=True)


async def _next(incoming: AsyncIterator[gateway_pb2.GatewayRequest]) -> gateway_pb2.GatewayRequest | None:
    return await anext(incoming, None)


def _still_open(buses: tuple[AgentBus, AgentBus], watches: "Sequence[asyncio.Task[Any]]") -> None:
    for bus, watch in zip(buses, watches, strict=True):
        if watch.done():
            raise unavailable(bus.fault or f"CAN bus {bus.name!r} was closed")


def _fault(place: str, fault: gateway_pb2.BusFault) -> Fault:
    """Raises CallError, naming the field."""
    if not math.isfinite(fault.probability) or not 0 <= fault.probability <= 1:
        raise invalid(f"{place}.probability is {fault.probability:g}; it must be 0 .. 1")
    if fault.delay_us > _LONGEST_DELAY_US:
        raise invalid(f"{place}.delay_us is {fault.delay_us}; it must be at most {_LONGEST_DELAY_US}")
    if fault.copies > _MOST_COPIES:
        raise invalid(f"{place}.copies is {fault.copies}; it must be at most {_MOST_COPIES}")
    if fault.HasField("length") and fault.length not in frames.FD_LENGTHS:
        raise invalid(f"{place}.length is {fault.length}; it must be one of {frames.FD_LENGTHS}")
    if fault.HasField("new_id"):
        try:
            frames.check(frames.Frame(0, fault.new_id, 0, b""))
        except ValueError as error:
            raise invalid(f"{place}.new_id: {error}") from None
    if not (fault.drop or fault.delay_us or fault.copies or fault.flip) and not (
        fault.HasField("new_id") or fault.HasField("length")
    ):
        raise invalid(f"{place} does nothing: give drop, delay_us, copies, flip, new_id or length")
    return Fault(
        can_id=fault.id,
        mask=fault.mask,
        probability=fault.probability,
        seed=fault.seed,
        drop=fault.drop,
        delay_s=fault.delay_us / 1e6,
        copies=fault.copies,
        flip=fault.flip,
        new_id=fault.new_id if fault.HasField("new_id") else None,
        length=fault.length if fault.HasField("length") else None,
    )


def _counts(ways: list[Way]) -> gateway_pb2.GatewayCounts:
    return gateway_pb2.GatewayCounts(
        forwarded=ways[0].forwarded,
        back=ways[1].forwarded if len(ways) > 1 else 0,
        refused=sum(way.refused for way in ways),
        error=next((way.error for way in ways if way.error), ""),
        overflowed=sum(way.overflowed for way in ways),
        struck=ways[0].struck,
    )
