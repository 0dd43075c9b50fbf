"""A device of the lab's own on a leased bench."""

from dataclasses import dataclass

from bench_agent.client.connection import Connection
from bench_agent.protocol import adapter_pb2
from bench_agent.protocol.values import Plain, from_value, to_value, to_values

CALL_S = 30.0


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """A method of an adapter."""

    name: str
    signature: str
    doc: str


class AdapterClient:
    """One adapter. Cheap to make; thread-safe."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    def call(self, method: str, /, *positional: object, timeout_s: float = CALL_S, **named: object) -> Plain:
        """Calls a method of the driver, and returns what it returns.

        Raises InvalidRequest for arguments that do not suit, NotFound, DeviceFault, or another BenchError.
        """
        request = adapter_pb2.AdapterCallRequest(
            adapter=self.name,
            method=method,
            positional=[to_value(one) for one in positional],
            named=to_values(named),
            timeout_ms=max(1, round(timeout_s * 1000)),
        )
        return from_value(self._connection.ask(self._connection.adapters.Call, request, timeout_s).result)

    def methods(self) -> list[MethodInfo]:
        """What can be called. Raises a BenchError."""
        reply = self._connection.ask(self._connection.adapters.Describe, adapter_pb2.AdapterDescribeRequest())
        return [
            MethodInfo(method.name, method.signature, method.doc)
            for adapter in reply.adapters
            if adapter.name == self.name
            for method in adapter.methods
        ]
