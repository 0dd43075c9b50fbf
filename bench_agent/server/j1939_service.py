"""J1939 over gRPC: the nodes of the lease that calls."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from bench_agent.protocol import bench_pb2, j1939_pb2, j1939_pb2_grpc
from bench_agent.server import conditions
from bench_agent.server.bench import Bench
from bench_agent.server.door import Context
from bench_agent.server.errors import invalid, unavailable
from bench_agent.server.expect_service import LONGEST_WAIT_S
from bench_agent.server.j1939_waits import Expectation, Stream
from bench_agent.server.j1939_wire import to_error, to_lost, to_message, to_node, to_wanted
from bench_agent.server.lease_nodes import LeaseNode, LeaseNodes
from bench_agent.server.leased import Leased
from bench_agent.server.signals import database_of, signal_values
from bench_agent.server.tenancy import Tenancy
from ecu_adapters.dbc import DatabaseError
from ecu_adapters.frame_records import to_ns
from ecu_adapters.j1939.codec import LONGEST
from ecu_adapters.j1939.errors import J1939Error
from ecu_adapters.j1939.identifier import GLOBAL, check_pgn
from ecu_adapters.j1939.message import Message
from ecu_adapters.j1939.name import Name
from ecu_adapters.j1939.node import PRIORITY
from ecu_adapters.j1939.settings import Settings
from ecu_adapters.j1939.signals import ParameterGroups

_MOST_ANSWERS = 256
_MOST_HOLDS = 100
_BEFORE_NS = 1000
"""To another node of the agent, a frame has the very timestamp of its sending."""


class J1939Servicer(Leased, j1939_pb2_grpc.J1939Servicer):
    """Methods as in j1939.proto."""

    def __init__(self, benches: Mapping[str, Bench]) -> None:
        super().__init__(benches)
        self._leases: WeakKeyDictionary[Tenancy, LeaseNodes] = WeakKeyDictionary()

    async def Open(self, request: j1939_pb2.J1939Open, context: Context) -> j1939_pb2.J1939Node:
        """Puts a node on a bus; claims its address if it has a NAME."""
        bus = self.bench().bus(request.bus)
        try:
            node = await self._nodes().open(
                bus,
                request.address,
                _settings(request),
                Name.of(request.name) if request.HasField("name") else None,
                _answers(request),
            )
        except J1939Error as error:
            raise unavailable(str(error)) from error
        except ValueError as error:
            raise invalid(str(error)) from error
        return to_node(node)

    async def Close(self, request: j1939_pb2.J1939NodeRequest, context: Context) -> j1939_pb2.J1939Node:
        """Takes a node off its bus."""
        node = self._nodes().get(request.node)
        state = to_node(node)
        self._nodes().close(node)
        return state

    async def State(self, request: j1939_pb2.J1939NodeRequest, context: Context) -> j1939_pb2.J1939Node:
        """How a node is."""
        return to_node(self._nodes().get(request.node))

    async def Send(self, request: j1939_pb2.J1939Send, context: Context) -> j1939_pb2.J1939SendReply:
        """Sends a message."""
        node, timeout_s = self._nodes().working(request.node), _timeout_s(request.timeout_ms)
        try:
            pgn, data, priority = _content(node, request)
            destination = request.destination if request.HasField("destination") else GLOBAL
            if request.HasField("priority"):
                priority = request.priority
            stamp = await node.node.send(pgn, data, destination, priority=priority, timeout_s=timeout_s)
        except J1939Error as error:
            return j1939_pb2.J1939SendReply(error=to_error(error))
        except (ValueError, DatabaseError) as error:
            raise invalid(str(error)) from error
        message = Message(pgn, node.node.address, destination, priority, data, stamp)
        return j1939_pb2.J1939SendReply(timestamp_ns=to_ns(stamp) - _BEFORE_NS, message=to_message(node, message))

    async def Request(self, request: j1939_pb2.J1939Request, context: Context) -> j1939_pb2.J1939RequestReply:
        """Asks for a parameter group."""
        node, timeout_s = self._nodes().working(request.node), _timeout_s(request.timeout_ms)
        asked_ns = 0

        def sent(stamp: float) -> None:
            nonlocal asked_ns
            asked_ns = to_ns(stamp) - _BEFORE_NS

        try:
            pgn = _groups(node, request.name).pgn(request.name) if request.WhichOneof("what") == "name" else request.pgn
            destination = request.destination if request.HasField("destination") else GLOBAL
            message = await node.node.request(pgn, destination, timeout_s=timeout_s, on_sent=sent)
        except J1939Error as error:
            return j1939_pb2.J1939RequestReply(error=to_error(error), timestamp_ns=asked_ns)
        except (ValueError, DatabaseError) as error:
            raise invalid(str(error)) from error
        return j1939_pb2.J1939RequestReply(message=to_message(node, message), timestamp_ns=asked_ns)

    async def Expect(self, request: j1939_pb2.J1939Expect, context: Context) -> j1939_pb2.J1939ExpectReply:
        """Waits for a message."""
        node, timeout_s = self._nodes().working(request.node), _timeout_s(request.timeout_ms)
        wanted = to_wanted(request.filter, "filter")
        checks = []
        try:
            if request.name:
                if wanted.pgn is not None:
                    raise invalid("both name and filter.pgn are given; one says which message is wanted")
                groups, database = _groups(node, request.name), database_of(node.bus, request.name)
                named = j1939_pb2.J1939Filter()
                named.CopyFrom(request.filter)
                named.pgn = groups.pgn(request.name)
                wanted = to_wanted(named, "filter")
                checks = [conditions.condition(wire, request.name, database) for wire in request.conditions]
            elif request.conditions:
                raise invalid("conditions go with the name of a message of the DBC")
        except (ValueError, DatabaseError) as error:
            raise invalid(str(error)) from error
        data = request.data if request.HasField("data") else None
        closed = node.bus.closed
        reply = await Expectation(node, wanted, data, checks).run(request.since_ns, timeout_s, closed)
        if not reply.met and closed.is_set():
            raise unavailable(node.stranded or f"CAN bus {node.bus.name!r} was closed")
        return reply

    async def Receive(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request: j1939_pb2.J1939Receive, context: Context
    ) -> None:
        """Messages until the caller goes, the node is closed, or its bus fails."""
        node = self._nodes().working(request.node)
        stream = Stream(
            [to_wanted(wire, f"filters[{number}]") for number, wire in enumerate(request.filters)],
            on_drop=partial(node.bus.watch.drops.add, "stream", 1),
        )
        closed: asyncio.Future[object] = asyncio.ensure_future(node.bus.closed.wait())
        node.listen(stream.put)
        try:
            await context.write(j1939_pb2.J1939Batch())
            while True:
                news = asyncio.ensure_future(stream.take())
                ends: tuple[asyncio.Future[Any], ...] = (news, closed, node.closed)
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    raise unavailable(node.stranded or f"J1939 node {node.number} was closed")
                heard = news.result()
                await context.write(
                    j1939_pb2.J1939Batch(
                        messages=[to_message(node, item) for item in heard if isinstance(item, Message)],
                        lost=[to_lost(item) for item in heard if not isinstance(item, Message)],
                        dropped=stream.dropped,
                    )
                )
        finally:
            closed.cancel()
            node.unlisten(stream.put)

    def _nodes(self) -> LeaseNodes:
        tenancy = self.bench().held()
        nodes = self._leases.get(tenancy)
        if nodes is None:
            nodes = self._leases[tenancy] = LeaseNodes(tenancy.cleanup)
        return nodes


def _settings(request: j1939_pb2.J1939Open) -> Settings:
    """Raises ValueError, naming the field."""
    if request.holds > _MOST_HOLDS:
        raise ValueError(f"holds is {request.holds}; it must be at most {_MOST_HOLDS}")
    usual = Settings()
    return Settings(
        bam_spacing_s=request.bam_spacing_ms / 1000 if request.bam_spacing_ms else usual.bam_spacing_s,
        packets_per_cts=request.packets_per_cts or usual.packets_per_cts,
        holds=request.holds,
    )


def _answers(request: j1939_pb2.J1939Open) -> dict[int, bytes]:
    """Raises ValueError, naming the PGN."""
    if len(request.answers) > _MOST_ANSWERS:
        raise ValueError(f"{len(request.answers)} answers are given; at most {_MOST_ANSWERS} are kept")
    for pgn, data in request.answers.items():
        check_pgn(pgn)
        if len(data) > LONGEST:
            raise ValueError(f"the answer for PGN 0x{pgn:04X} has {len(data)} bytes; a message has at most {LONGEST}")
    return dict(request.answers)


def _content(node: LeaseNode, request: j1939_pb2.J1939Send) -> tuple[int, bytes, int]:
    """PGN, data and priority. Raises CallError or DatabaseError."""
    match request.WhichOneof("what"):
        case "data":
            return request.data.pgn, request.data.data, PRIORITY
        case "message":
            return _encoded(node, request.message)
    raise invalid("neither data nor message is given")


def _encoded(node: LeaseNode, message: bench_pb2.SignalMessage) -> tuple[int, bytes, int]:
    groups = _groups(node, message.name)
    data = groups.encode(message.name, signal_values(message), force=message.force)
    return groups.pgn(message.name), data, groups.priority(message.name)


def _groups(node: LeaseNode, message: str) -> ParameterGroups:
    """Raises CallError when the bus has no database that could know ``message``."""
    database_of(node.bus, message)
    if node.groups is None:
        raise invalid(f"bus {node.bus.name} knows no message {message!r}")
    return node.groups


def _timeout_s(timeout_ms: int) -> float:
    """Raises CallError."""
    if not 1 <= timeout_ms <= LONGEST_WAIT_S * 1000:
        raise invalid(f"timeout_ms is {timeout_ms}; it must be 1 .. {LONGEST_WAIT_S * 1000:.0f}")
    return timeout_ms / 1000
