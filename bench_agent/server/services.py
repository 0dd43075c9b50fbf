"""The gRPC services that an agent offers to lease holders: one table, so that none is left out of the door."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from bench_agent.protocol import (
    adapter_pb2,
    adapter_pb2_grpc,
    bench_pb2,
    bench_pb2_grpc,
    bus_pb2,
    bus_pb2_grpc,
    console_pb2,
    console_pb2_grpc,
    diagnostics_pb2,
    diagnostics_pb2_grpc,
    flash_pb2,
    flash_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    j1939_pb2,
    j1939_pb2_grpc,
    power_pb2,
    power_pb2_grpc,
    replay_pb2,
    replay_pb2_grpc,
    simulation_pb2,
    simulation_pb2_grpc,
    trace_pb2,
    trace_pb2_grpc,
    traffic_pb2,
    traffic_pb2_grpc,
)
from bench_agent.protocol.access import METHODS, Access
from bench_agent.server.adapter_service import AdapterServicer
from bench_agent.server.bench import Bench
from bench_agent.server.bus_service import BusMonitorServicer
from bench_agent.server.console_service import ConsoleServicer
from bench_agent.server.diagnostics_service import DiagnosticsServicer
from bench_agent.server.flash_service import FlashServicer
from bench_agent.server.gateway_service import GatewayServicer
from bench_agent.server.j1939_service import J1939Servicer
from bench_agent.server.power_service import PowerServicer
from bench_agent.server.replay_service import ReplayServicer
from bench_agent.server.servicer import BenchServicer
from bench_agent.server.simulation_service import SimulationServicer
from bench_agent.server.trace_service import TraceServicer
from bench_agent.server.traffic_service import TrafficServicer


@dataclass(frozen=True, slots=True)
class Offered:
    """One service: its definition, what makes its servicer, and gRPC's function that adds it to a server."""

    definition: ServiceDescriptor
    make: Callable[[Mapping[str, Bench]], Any]
    add: Callable[[Any, Any], None]


OFFERED = (
    Offered(
        adapter_pb2.DESCRIPTOR.services_by_name["Adapter"],
        AdapterServicer,
        adapter_pb2_grpc.add_AdapterServicer_to_server,
    ),
    Offered(bench_pb2.DESCRIPTOR.services_by_name["Bench"], BenchServicer, bench_pb2_grpc.add_BenchServicer_to_server),
    Offered(
        bus_pb2.DESCRIPTOR.services_by_name["BusMonitor"],
        BusMonitorServicer,
        bus_pb2_grpc.add_BusMonitorServicer_to_server,
    ),
    Offered(
        console_pb2.DESCRIPTOR.services_by_name["Console"],
        ConsoleServicer,
        console_pb2_grpc.add_ConsoleServicer_to_server,
    ),
    Offered(flash_pb2.DESCRIPTOR.services_by_name["Flash"], FlashServicer, flash_pb2_grpc.add_FlashServicer_to_server),
    Offered(power_pb2.DESCRIPTOR.services_by_name["Power"], PowerServicer, power_pb2_grpc.add_PowerServicer_to_server),
    Offered(
        gateway_pb2.DESCRIPTOR.services_by_name["Gateway"],
        GatewayServicer,
        gateway_pb2_grpc.add_GatewayServicer_to_server,
    ),
    Offered(j1939_pb2.DESCRIPTOR.services_by_name["J1939"], J1939Servicer, j1939_pb2_grpc.add_J1939Servicer_to_server),
    Offered(
        replay_pb2.DESCRIPTOR.services_by_name["Replay"], ReplayServicer, replay_pb2_grpc.add_ReplayServicer_to_server
    ),
    Offered(
        diagnostics_pb2.DESCRIPTOR.services_by_name["Diagnostics"],
        DiagnosticsServicer,
        diagnostics_pb2_grpc.add_DiagnosticsServicer_to_server,
    ),
    Offered(
        simulation_pb2.DESCRIPTOR.services_by_name["Simulation"],
        SimulationServicer,
        simulation_pb2_grpc.add_SimulationServicer_to_server,
    ),
    Offered(
        trace_pb2.DESCRIPTOR.services_by_name["Traces"], TraceServicer, trace_pb2_grpc.add_TracesServicer_to_server
    ),
    Offered(
        traffic_pb2.DESCRIPTOR.services_by_name["Traffic"],
        TrafficServicer,
        traffic_pb2_grpc.add_TrafficServicer_to_server,
    ),
)
"""All of them need a lease."""

GUARDED: Mapping[str, Access] = {
    f"/{service.definition.full_name}/{method}": access
    for service in OFFERED
    for method, access in METHODS.get(service.definition.name, {}).items()
}
"""Methods that need a lease, as gRPC names them, and what they ask of its token."""
