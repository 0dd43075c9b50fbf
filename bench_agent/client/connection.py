"""The channel to one agent, with the lease token on every call."""

import time
from typing import TypeVar

import grpc

from bench_agent.client.errors import from_rpc, is_preparing
from bench_agent.protocol import (
    adapter_pb2_grpc,
    bench_pb2,
    bench_pb2_grpc,
    bus_pb2_grpc,
    console_pb2_grpc,
    power_pb2_grpc,
    tracing,
    traffic_pb2_grpc,
)
from bench_agent.protocol.claims import BENCH_METADATA
from bench_agent.protocol.identity import AgentTls
from bench_agent.protocol.transport import PINGS, channel_credentials, expecting

_OPTIONS = (
    *PINGS,
    ("grpc.enable_retries", 0),  # a CAN frame or UDS request must never be sent twice behind the caller's back
    ("grpc.use_local_subchannel_pool", 1),
)

PREPARING_S = 900.0
"""How long a bench may be prepared for its new holder."""

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class Connection:
    """One gRPC channel to the agent, for one bench under one token. Thread-safe."""

    def __init__(self, address: str, bench: str, token: str, timeout_s: float, tls: AgentTls | None = None) -> None:
        self.bench = bench
        self.timeout_s = timeout_s
        """How long the agent may take to answer, beyond what the call itself asks it to wait (s)."""
        self.target = f"bench {bench} at {address}"
        self._credentials = (("authorization", f"Bearer {token}"), (BENCH_METADATA, bench))
        self.channel = _channel(address, tls)
        self.stub = bench_pb2_grpc.BenchStub(self.channel)
        self.monitor = bus_pb2_grpc.BusMonitorStub(self.channel)
        self.consoles = console_pb2_grpc.ConsoleStub(self.channel)
        self.traffic = traffic_pb2_grpc.TrafficStub(self.channel)
        self.adapters = adapter_pb2_grpc.AdapterStub(self.channel)
        self.power = power_pb2_grpc.PowerStub(self.channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of every call."""
        return (*self._credentials, *tracing.headers().items())

    def ask(
        self, method: "grpc.UnaryUnaryMultiCallable[Request, Reply]", request: Request, wait_s: float = 0.0
    ) -> Reply:
        """Calls ``method``; ``wait_s`` is how long the agent is asked to wait before it answers.

        A bench that its agent still prepares for this lease is waited for. Raises a BenchError.
        """
        give_up_at = time.monotonic() + PREPARING_S
        while True:
            try:
                return method(request, timeout=wait_s + self.timeout_s, metadata=self.metadata)
            except grpc.RpcError as error:
                if not is_preparing(error) or time.monotonic() > give_up_at:
                    raise from_rpc(error, self.target) from None

    def prepared(self) -> None:
        """Returns when the agent has prepared the bench for this lease: for streams, which do not wait for it.

        Raises a BenchError.
        """
        self.ask(self.stub.Describe, bench_pb2.DescribeRequest())

    def close(self) -> None:
        """Ends every call that is still open on this channel."""
        self.channel.close()


def _channel(address: str, tls: AgentTls | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(address, options=_OPTIONS)
    options = (*_OPTIONS, *expecting(tls.server_name))
    return grpc.secure_channel(address, channel_credentials(tls.credentials), options=options)


def to_ms(timeout_s: float) -> int:
    """A timeout for the wire: whole milliseconds, at least 1. Raises ValueError for one that is not positive."""
    if not 0 < timeout_s <= 86_400:
        raise ValueError(f"timeout_s is {timeout_s}; it must be above 0 and at most 86400")
    return max(1, round(timeout_s * 1000))
