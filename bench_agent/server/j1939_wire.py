"""J1939's messages, errors and nodes as they go over gRPC."""

from bench_agent.protocol import j1939_pb2
from bench_agent.protocol.values import to_values
from bench_agent.server.errors import invalid
from bench_agent.server.lease_nodes import LeaseNode, Wanted
from ecu_adapters.frame_records import to_ns
from ecu_adapters.j1939.errors import Failure, J1939Error
from ecu_adapters.j1939.identifier import GLOBAL, NULL, check_pgn
from ecu_adapters.j1939.message import Message
from ecu_adapters.j1939.transport import Lost


def to_message(node: LeaseNode, message: Message) -> j1939_pb2.J1939Message:
    """With its signals, if the bus' database knows the PGN."""
    name, signals = node.decode(message)
    return j1939_pb2.J1939Message(
        pgn=message.pgn,
        source=message.source,
        destination=message.destination,
        priority=message.priority,
        data=message.data,
        timestamp_ns=to_ns(message.timestamp),
        name=name,
        signals=to_values(signals),
    )


def to_error(error: J1939Error) -> j1939_pb2.J1939Error:
    """What went wrong."""
    return j1939_pb2.J1939Error(kind=error.kind, message=str(error), frame=error.frame, code=error.code)


def to_lost(lost: Lost) -> j1939_pb2.J1939Lost:
    """A message that did not come through."""
    return j1939_pb2.J1939Lost(pgn=lost.pgn, source=lost.source, error=_failure(lost.failure))


def to_node(node: LeaseNode) -> j1939_pb2.J1939Node:
    """How a node is."""
    stats = node.node.stats
    return j1939_pb2.J1939Node(
        node=node.number,
        bus=node.bus.name,
        address=node.node.address,
        sent=stats.sent,
        received=stats.received,
        send_errors=stats.send_errors,
        receive_errors=stats.receive_errors,
        lost=[to_lost(lost) for lost in node.lost],
        ignored=stats.ignored,
        dropped=stats.dropped,
        conflicts=stats.conflicts,
        fault=node.stranded or node.node.fault,
    )


def to_wanted(wire: j1939_pb2.J1939Filter, field: str) -> Wanted:
    """Raises CallError, naming the field, for a filter that no message can pass."""
    pgn = wire.pgn if wire.HasField("pgn") else None
    source = wire.source if wire.HasField("source") else None
    destination = wire.destination if wire.HasField("destination") else None
    if pgn is not None:
        try:
            check_pgn(pgn)
        except ValueError as error:
            raise invalid(f"{field}: {error}") from error
    if source is not None and source > NULL:
        raise invalid(f"{field}: source address is 0x{source:X}; it must be 0x0 .. 0x{NULL:X}")
    if destination is not None and destination > GLOBAL:
        raise invalid(f"{field}: destination address is 0x{destination:X}; it must be 0x0 .. 0x{GLOBAL:X}")
    return Wanted(pgn, source, destination)


def _failure(failure: Failure) -> j1939_pb2.J1939Error:
    return j1939_pb2.J1939Error(kind=failure.kind, message=failure.reason, frame=failure.frame, code=failure.code)
