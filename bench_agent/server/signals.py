"""Signals of a request, and the database that knows them."""

from collections.abc import Mapping
from typing import Protocol

from bench_agent.protocol import bench_pb2
from bench_agent.protocol.values import from_values
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.errors import invalid
from ecu_adapters.dbc import Database, SignalValue


class _Signals(Protocol):
    @property
    def signals(self) -> Mapping[str, bench_pb2.Value]: ...


def database_of(bus: AgentBus, message: str) -> Database:
    """Raises CallError when the bus has no database that could know ``message``."""
    if bus.database is None:
        reason = bus.database_fault or "it has no DBC"
        raise invalid(f"bus {bus.name} knows no message {message!r}: {reason}")
    return bus.database


def signal_values(request: _Signals) -> dict[str, SignalValue]:
    """The signals of a request. Raises CallError for a value that no signal can have."""
    found: dict[str, SignalValue] = {}
    for name, value in from_values(request.signals).items():
        if not isinstance(value, bool | int | float | str):
            raise invalid(f"{name}: a value is a number or a name from the value table, not {value!r}")
        found[name] = value
    return found
