"""The gRPC server that agents dial."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from bench_agent.protocol import lab_pb2, lab_pb2_grpc
from bench_agent.protocol.transport import PINGS, server_credentials
from labd.agents.door import ListedOnly
from labd.agents.servicer import LabServicer
from labd.services.lab import Lab
from labd.services.own_certificate import OwnCertificate

STOP_GRACE_S = 2.0
MESSAGE_BYTES_MAX = 4 * 1024 * 1024


class AddressInUse(Exception):
    """The address cannot be listened on; the message names it."""


class AgentsServer:
    """Serves `Lab.Attach`, health and reflection: to agents with a certificate, where labd has an authority."""

    def __init__(self, lab: Lab) -> None:
        self._servicer = LabServicer(lab)
        self._own = None if lab.authority is None else OwnCertificate(lab.authority)
        self._server = grpc.aio.server(
            interceptors=[ListedOnly()],
            options=[
                # Otherwise two labds could share the port, each with half of the agents.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                *PINGS,
            ],
        )
        lab_pb2_grpc.add_LabServicer_to_server(self._servicer, self._server)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._name = lab_pb2.DESCRIPTOR.services_by_name["Lab"].full_name
        reflection.enable_server_reflection((self._name, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    def bind(self, address: str) -> int:
        """Takes ``host:port``; returns the port, chosen by the system when it was 0. Raises AddressInUse."""
        try:
            if self._own is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, server_credentials(self._own.current))
        except RuntimeError as error:
            raise AddressInUse(f"cannot listen on {address} for agents: {error}") from error
        if port == 0:
            raise AddressInUse(f"cannot listen on {address} for agents")
        return port

    async def start(self) -> None:
        """Lets agents in."""
        await self._server.start()
        for service in ("", self._name):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Hangs up on every agent; returns within a bounded time."""
        await self._health.enter_graceful_shutdown()
        self._servicer.hang_up()
        await self._server.stop(STOP_GRACE_S)
