"""Devices of the lab's own over gRPC."""

from bench_agent.protocol import adapter_pb2, adapter_pb2_grpc
from bench_agent.protocol.values import from_value, from_values, to_value
from bench_agent.server.adapters import CALL_S
from bench_agent.server.door import Context
from bench_agent.server.errors import device_fault, invalid
from bench_agent.server.leased import Leased

LONGEST_S = 3600.0


class AdapterServicer(Leased, adapter_pb2_grpc.AdapterServicer):
    """Methods as in adapter.proto. The door has admitted the caller before any of them runs."""

    async def Describe(
        self, request: adapter_pb2.AdapterDescribeRequest, context: Context
    ) -> adapter_pb2.AdapterDescribeReply:
        """The adapters of the bench with their methods."""
        return adapter_pb2.AdapterDescribeReply(
            adapters=[
                adapter_pb2.AdapterInfo(
                    name=one.name,
                    driver=one.config.driver,
                    fault=one.fault or "",
                    methods=[
                        adapter_pb2.AdapterMethod(name=name, signature=method.signature, doc=method.doc)
                        for name, method in one.methods.items()
                    ],
                )
                for one in self.bench().adapters.all.values()
            ]
        )

    async def Call(self, request: adapter_pb2.AdapterCallRequest, context: Context) -> adapter_pb2.AdapterCallReply:
        """Calls a method."""
        adapter = self.bench().adapters.get(request.adapter)
        timeout_s = request.timeout_ms / 1000 or CALL_S
        if timeout_s > LONGEST_S:
            raise invalid(f"timeout_ms is {request.timeout_ms}; it must be at most {LONGEST_S * 1000:.0f}")
        positional: list[object] = [from_value(value) for value in request.positional]
        result = await adapter.call(request.method, positional, from_values(request.named), timeout_s)
        try:
            return adapter_pb2.AdapterCallReply(result=to_value(result))
        except (TypeError, ValueError) as error:
            what = f"adapter {adapter.name}: {request.method}() returned what cannot be sent"
            raise device_fault(f"{what}: {error}") from error
