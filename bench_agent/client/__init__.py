"""The client half of the bench agent: open a leased bench with its token, get its buses and ECUs.

    with BenchClient("127.0.0.1:8480", "bench-1", token) as bench:
        vin = bench.ecu("ECM").call("read", did="VIN")
        bench.bus("powertrain").send_message("EngineControl", {"TargetSpeed": 1500})

Synchronous and thread-safe. Every call has a deadline, and raises a subclass of `BenchError`.
"""

from bench_agent.client.bench import BenchClient
from bench_agent.client.bus import BusClient, Expectation, SentMessage
from bench_agent.client.bus_monitor import (
    BusErrorFrame,
    BusEvent,
    BusEvents,
    BusFramesLost,
    BusRestart,
    BusStateChange,
    BusStats,
    BusStaysOff,
    SubscriberStats,
)
from bench_agent.client.conditions import (
    AtLeast,
    Compare,
    Condition,
    CycleWithin,
    Edge,
    Equals,
    Exactly,
    Held,
    Rule,
    Within,
)
from bench_agent.client.console import ConsoleClient, ConsoleMatch, ConsoleTimeout
from bench_agent.client.console_stream import ConsoleStream, NotTaken
from bench_agent.client.description import (
    AdapterInfo,
    BusInfo,
    ConsoleInfo,
    Description,
    DidInfo,
    EcuInfo,
    PowerInfo,
)
from bench_agent.client.ecu import EcuClient, RoutineClient, UdsExchange
from bench_agent.client.errors import (
    BenchError,
    BenchUnavailable,
    BusFault,
    DeviceFault,
    InUse,
    InvalidRequest,
    J1939Failure,
    LeaseRefused,
    NegativeResponse,
    NotFound,
    UdsInvalid,
    UdsTimeout,
    UdsTransport,
    UdsUnexpected,
)
from bench_agent.client.flash import FlashFailed, FlashProgress, FlashResult
from bench_agent.client.frame_stream import FrameBlock, FrameFilter, FrameStream
from bench_agent.client.functional import FunctionalAnswer
from bench_agent.client.gateway import BusFaultRule, GatewayClient, GatewayState
from bench_agent.client.j1939 import (
    J1939Client,
    J1939Expectation,
    J1939Filter,
    J1939Lost,
    J1939Message,
    J1939State,
    J1939Stream,
)
from bench_agent.client.log_file import LogError
from bench_agent.client.power import (
    PowerChannelClient,
    PowerChannelState,
    PowerClient,
    PowerReading,
    ProfileInfo,
    ProfileResult,
    ProfileStep,
)
from bench_agent.client.replay import ReplayClient, ReplayProgress
from bench_agent.client.simulation import SimulatedFault, SimulationClient, SimulationState
from bench_agent.client.traces import FetchedTrace, TraceInfo, TracesClient
from bench_agent.client.traffic import (
    AliveCounter,
    CycleTimes,
    CyclicClient,
    CyclicState,
    PayloadBits,
    PayloadChecksum,
    Prepared,
    RestBusClient,
)
from bench_agent.protocol.frames import Frame

__all__ = [
    "AdapterInfo",
    "AliveCounter",
    "AtLeast",
    "BenchClient",
    "BenchError",
    "BenchUnavailable",
    "BusClient",
    "BusErrorFrame",
    "BusEvent",
    "BusEvents",
    "BusFault",
    "BusFaultRule",
    "BusFramesLost",
    "BusInfo",
    "BusRestart",
    "BusStateChange",
    "BusStats",
    "BusStaysOff",
    "Compare",
    "Condition",
    "ConsoleClient",
    "ConsoleInfo",
    "ConsoleMatch",
    "ConsoleStream",
    "ConsoleTimeout",
    "CycleTimes",
    "CycleWithin",
    "CyclicClient",
    "CyclicState",
    "Description",
    "DeviceFault",
    "DidInfo",
    "EcuClient",
    "EcuInfo",
    "Edge",
    "Equals",
    "Exactly",
    "Expectation",
    "FetchedTrace",
    "FlashFailed",
    "FlashProgress",
    "FlashResult",
    "Frame",
    "FrameBlock",
    "FrameFilter",
    "FrameStream",
    "FunctionalAnswer",
    "GatewayClient",
    "GatewayState",
    "Held",
    "InUse",
    "InvalidRequest",
    "J1939Client",
    "J1939Expectation",
    "J1939Failure",
    "J1939Filter",
    "J1939Lost",
    "J1939Message",
    "J1939State",
    "J1939Stream",
    "LeaseRefused",
    "LogError",
    "NegativeResponse",
    "NotFound",
    "NotTaken",
    "PayloadBits",
    "PayloadChecksum",
    "PowerChannelClient",
    "PowerChannelState",
    "PowerClient",
    "PowerInfo",
    "PowerReading",
    "Prepared",
    "ProfileInfo",
    "ProfileResult",
    "ProfileStep",
    "ReplayClient",
    "ReplayProgress",
    "RestBusClient",
    "RoutineClient",
    "Rule",
    "SentMessage",
    "SimulatedFault",
    "SimulationClient",
    "SimulationState",
    "SubscriberStats",
    "TraceInfo",
    "TracesClient",
    "UdsExchange",
    "UdsInvalid",
    "UdsTimeout",
    "UdsTransport",
    "UdsUnexpected",
    "Within",
]
