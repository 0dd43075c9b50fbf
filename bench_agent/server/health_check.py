"""Asks the agent on this machine whether it serves, by its unix socket: no certificate is needed there."""

from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from bench_agent.protocol import bench_pb2
from bench_agent.server.unix_socket import address_in

DEADLINE_S = 3.0
_SERVICE = bench_pb2.DESCRIPTOR.services_by_name["Bench"].full_name


class NotServing(Exception):
    """The agent does not serve; the message says what it did instead."""


def ask(data_dir: Path, deadline_s: float = DEADLINE_S) -> None:
    """Returns when the agent with this data directory serves. Raises NotServing, after ``deadline_s`` (s) at most."""
    address = address_in(data_dir)
    if address is None:
        raise NotServing(f"{data_dir} is too deep for a unix socket: its agent cannot be asked")
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=_SERVICE)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=deadline_s)
        except grpc.RpcError as error:
            raise NotServing(f"no agent answers in {data_dir}: {error.code().name}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise NotServing(f"the agent in {data_dir} is starting or stopping")
