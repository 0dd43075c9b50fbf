"""The Traffic service: cyclic messages and rest-bus of the lease that calls."""

import asyncio
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import can

from bench_agent.protocol import bench_pb2, frames, traffic_pb2, traffic_pb2_grpc
from bench_agent.server import convert, expect_service
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.bench import Bench
from bench_agent.server.cleanup import Phase
from bench_agent.server.door import Context
from bench_agent.server.errors import invalid
from bench_agent.server.leased import Leased
from bench_agent.server.signals import database_of, signal_values
from bench_agent.server.tenancy import Tenancy
from bench_agent.server.traffic import Change, LeaseTraffic, Running, RunningRestBus
from ecu_adapters.cyclic import restbus
from ecu_adapters.cyclic.bits import Bits
from ecu_adapters.cyclic.e2e import Checksum
from ecu_adapters.cyclic.payload import Corruption, Counter, Recipe
from ecu_adapters.cyclic.transmitter import Transmitter
from ecu_adapters.dbc import Database, DatabaseError
from ecu_adapters.yaml_file import nearest

_STOP_S = 2.0


class TrafficServicer(Leased, traffic_pb2_grpc.TrafficServicer):
    """Methods as in traffic.proto. One transmitter, and so one thread, for all benches of the agent."""

    def __init__(self, benches: Mapping[str, Bench]) -> None:
        super().__init__(benches)
        self._transmitter = Transmitter()
        self._leases: WeakKeyDictionary[Tenancy, LeaseTraffic] = WeakKeyDictionary()

    async def StartCyclic(self, request: traffic_pb2.CyclicRequest, context: Context) -> traffic_pb2.CyclicMessage:
        """Sends a message or frame with a period."""
        bus = self.bench().bus(request.bus)
        recipe = await _recipe(bus, request)
        period_s = request.period_us / 1e6
        if not period_s:
            cycle_ms = recipe.database.cycle_ms(recipe.message) if recipe.database is not None else None
            if cycle_ms is None:
                raise invalid(f"{recipe.message or 'a raw frame'} has no cycle time of its own; give a period")
            period_s = cycle_ms / 1000
        return _to_wire(await self._traffic().start(bus, recipe, period_s))

    async def UpdateCyclic(self, request: traffic_pb2.CyclicUpdate, context: Context) -> traffic_pb2.CyclicMessage:
        """Changes a running message."""
        traffic = self._traffic()
        return _to_wire(await traffic.update(request.id, request.message, _change(request)))

    async def Preview(self, request: traffic_pb2.PreviewRequest, context: Context) -> traffic_pb2.PreviewReply:
        """The payloads that a start or an update would bring."""
        if request.WhichOneof("what") == "start":
            recipe = await _recipe(self.bench().bus(request.start.bus), request.start)
        else:
            recipe = await self._traffic().preview(request.update.id, request.update.message, _change(request.update))
        made = await asyncio.to_thread(recipe.frames)
        return traffic_pb2.PreviewReply(payloads=[bytes(frame.data) for frame in made], counters=recipe.states)

    async def StartRestBus(self, request: traffic_pb2.RestBusRequest, context: Context) -> traffic_pb2.RestBus:
        """Sends every message of the bus' DBC except those of some nodes."""
        bench = self.bench()
        bus = bench.bus(request.bus)
        try:
            plan = await asyncio.to_thread(_plan, bench, bus, request)
        except (DatabaseError, ValueError) as error:
            raise invalid(str(error)) from error
        return _rest_bus_to_wire(await self._traffic().start_rest_bus(bus, plan))

    async def StopRestBus(self, request: traffic_pb2.RestBusStop, context: Context) -> traffic_pb2.RestBusStopped:
        """Ends a rest-bus with all its messages."""
        await self._traffic().stop_rest_bus(request.id)
        return traffic_pb2.RestBusStopped()

    async def List(self, request: traffic_pb2.TrafficRequest, context: Context) -> traffic_pb2.TrafficReply:
        """All that this lease has running."""
        return traffic_pb2.TrafficReply(messages=[_to_wire(running) for running in self._traffic().messages])

    async def MeasureCycle(self, request: traffic_pb2.CycleRequest, context: Context) -> traffic_pb2.CycleReply:
        """Listens to a message or frame for a while and tells how regularly it came."""
        return await expect_service.measure_cycle(self.bench(), request)

    def _traffic(self) -> LeaseTraffic:
        """Of the lease that the running call belongs to; it is silenced when the lease ends."""
        tenancy = self.bench().held()
        traffic = self._leases.get(tenancy)
        if traffic is None:
            traffic = self._leases[tenancy] = LeaseTraffic(self._transmitter)
            tenancy.cleanup.push(
                "stop cyclic messages and rest-bus", traffic.stop, deadline_s=_STOP_S, phase=Phase.SILENCE
            )
        return traffic


async def _recipe(bus: AgentBus, request: traffic_pb2.CyclicRequest) -> Recipe:
    counter = _counter(request.counter) if request.HasField("counter") else None
    checksum = _checksum(request.checksum) if request.HasField("checksum") else None
    try:
        match request.WhichOneof("what"):
            case "message":
                name, signals = request.message.name, signal_values(request.message)
                recipe = Recipe.of_message(
                    database_of(bus, name), name, signals, counter, checksum, force=request.message.force
                )
            case "frame":
                recipe = Recipe.of_frame(_frame(request.frame), counter, checksum)
            case _:
                raise invalid("neither message nor frame is given")
        if request.payloads.data:
            recipe = recipe.changed(payloads=tuple(request.payloads.data))
    except (DatabaseError, ValueError) as error:
        raise invalid(str(error)) from error
    return recipe


def _frame(batch: bench_pb2.FrameBatch) -> can.Message:
    messages = [convert.to_message(frame) for frame in frames.unbatch(batch)]
    if len(messages) != 1 or messages[0].is_remote_frame:
        raise ValueError(f"{len(messages)} frames given; a cyclic message is one data frame")
    return messages[0]


def _change(request: traffic_pb2.CyclicUpdate) -> Change:
    return Change(
        signals=signal_values(request),
        force=request.force or None,
        data=request.data if request.HasField("data") else None,
        payloads=tuple(request.payloads.data),
        period_s=request.period_us / 1e6 if request.HasField("period_us") else None,
        running=request.running if request.HasField("running") else None,
        freeze=request.freeze_counter if request.HasField("freeze_counter") else None,
        skip=request.skip,
        corruption=_corruption(request.corrupted) if request.HasField("corrupted") else None,
    )


def _corruption(wire: traffic_pb2.Corrupted) -> Corruption:
    return Corruption(wire.checksum_xor, wire.data_xor, wire.length if wire.HasField("length") else None)


def _bits(wire: traffic_pb2.PayloadBits) -> Bits:
    return Bits(wire.start, wire.length, wire.big_endian)


def _counter(wire: traffic_pb2.AliveCounter) -> Counter:
    return Counter(
        signal=wire.signal,
        bits=_bits(wire.bits) if wire.HasField("bits") else None,
        modulo=wire.modulo or None,
        first=wire.first,
        step=wire.step or 1,
    )


def _checksum(wire: traffic_pb2.PayloadChecksum) -> Checksum:
    return Checksum(
        algorithm=wire.algorithm,
        signal=wire.signal,
        bits=_bits(wire.bits) if wire.HasField("bits") else None,
        first=wire.first,
        last=wire.last if wire.HasField("last") else None,
        initial=wire.initial if wire.HasField("initial") else None,
        xor_out=wire.xor_out,
        data_ids=tuple(wire.data_ids),
    )


def _plan(bench: Bench, bus: AgentBus, request: traffic_pb2.RestBusRequest) -> restbus.Plan:
    database = (
        Database.read(request.database, request.database_name) if request.database else database_of(bus, "rest-bus")
    )
    known = {*database.nodes, *bench.ecus_on(bus)}
    for name in (*request.absent, *request.include):
        if name not in known:
            raise ValueError(f"unknown node {name!r}; {nearest(name, known)}")
    absent = {name: f"{name} sends it" for name in request.absent}
    messages = dict.fromkeys(request.except_messages, "it is left out by name")
    diagnostic_ids: set[int] = set()
    for name, ecu in bench.ecus_on(bus).items():
        diagnostic_ids |= {ecu.addressing.request_can_id, ecu.addressing.response_can_id}
        if name in request.include:
            continue
        absent.setdefault(name, f"{name} sends it: the bench has this ECU")
        for cyclic in ecu.cyclic:
            if cyclic.message in database.messages:
                messages.setdefault(cyclic.message, f"{name} sends it: the bench has this ECU")
    return restbus.plan(
        database,
        fd=bus.config.fd,
        absent={name: reason for name, reason in absent.items() if name in database.nodes},
        except_messages=messages,
        protect={
            name: (
                _counter(wire.counter) if wire.HasField("counter") else None,
                _checksum(wire.checksum) if wire.HasField("checksum") else None,
            )
            for name, wire in request.protect.items()
        },
        diagnostic_ids=diagnostic_ids,
    )


def _to_wire(running: Running) -> traffic_pb2.CyclicMessage:
    stats, corruption, transmission = running.transmission.stats, running.corruption, running.transmission
    return traffic_pb2.CyclicMessage(
        id=running.id,
        bus=running.bus.name,
        message=running.recipe.message,
        can_id=running.can_id,
        period_us=round((transmission.period_s or 0) * 1e6),
        running=transmission.running,
        counter_frozen=transmission.frozen,
        corrupted=traffic_pb2.Corrupted(
            checksum_xor=corruption.checksum_xor, data_xor=corruption.data_xor, length=corruption.length
        ),
        rest_bus=running.rest_bus,
        in_kernel=transmission.in_kernel,
        sent=stats.sent,
        failed=stats.failed,
        late=stats.late,
        error=stats.error,
        on_change=running.behaviour.on_change,
    )


def _rest_bus_to_wire(rest: RunningRestBus) -> traffic_pb2.RestBus:
    return traffic_pb2.RestBus(
        id=rest.id,
        bus=rest.bus.name,
        messages=[_to_wire(running) for running in rest.messages.values()],
        left_out=[traffic_pb2.LeftOut(message=left.message, reason=left.reason) for left in rest.left_out],
    )
