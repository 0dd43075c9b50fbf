"""Asks the agent on this machine whether it serves, by its unix socket: no certificate is needed there.

``python -P -m bench_agent.server.health_check DATA_DIR`` is for container engines, which ask every few seconds: it
reads no configuration, and takes an eighth of the processor time that `bench-agent health` does.
"""

import sys
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


def main(arguments: list[str]) -> int:
    """Exit code 1, and why, when the agent does not serve."""
    if len(arguments) != 1:
        sys.stderr.write("health_check: expected one argument, the agent's data directory\n")
        return 2
    try:
        ask(Path(arguments[0]))
    except NotServing as error:
        sys.stderr.write(f"health_check: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
