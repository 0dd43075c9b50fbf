"""A leased bench."""

import difflib
import threading
from collections.abc import Sequence
from types import TracebackType

from bench_agent.client import traffic
from bench_agent.client.adapter import AdapterClient
from bench_agent.client.bus import BusClient
from bench_agent.client.connection import Connection
from bench_agent.client.console import ConsoleClient
from bench_agent.client.description import Description, from_wire
from bench_agent.client.ecu import EcuClient
from bench_agent.client.errors import NotFound
from bench_agent.client.flash import FlashClient
from bench_agent.client.functional import FunctionalAnswer, ask_all
from bench_agent.client.gateway import BusFaultRule, GatewayClient
from bench_agent.client.power import PowerClient
from bench_agent.client.simulation import SimulationClient
from bench_agent.client.traces import TracesClient
from bench_agent.client.traffic import CyclicState
from bench_agent.client.uds_stream import UdsStream
from bench_agent.protocol import bench_pb2, frames, traffic_pb2
from bench_agent.protocol.frames import Frame
from bench_agent.protocol.identity import AgentTls


class BenchClient:
    """A bench, opened with the token of the lease. Use as a context manager, or `close` it.

    ``address`` is the agent's host:port; ``timeout_s`` is how long the agent may take to answer, beyond what a call
    itself asks it to wait. ``tls`` is what `LabClient.agent_tls` gives; without it there is no TLS, which only agents
    that run with ``--insecure`` take, and those on the same machine by their unix socket. Connects on first use.
    """

    def __init__(
        self, address: str, bench: str, token: str, *, timeout_s: float = 10, tls: AgentTls | None = None
    ) -> None:
        self._connection = Connection(address, bench, token, timeout_s, tls)
        self._uds = UdsStream(self._connection)
        self.power = PowerClient(self._connection)
        self._lock = threading.Lock()
        self._description: Description | None = None
        self.name = bench

    def __enter__(self) -> "BenchClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def describe(self) -> Description:
        """What the bench carries, asked anew. Raises a BenchError."""
        wire = self._connection.ask(self._connection.stub.Describe, bench_pb2.DescribeRequest())
        description = from_wire(wire)
        with self._lock:
            self._description = description
        return description

    def bus(self, name: str) -> BusClient:
        """A CAN bus of the bench. Raises NotFound, listing those that exist, or another BenchError."""
        known = [bus.name for bus in self._known().buses]
        if name not in known:
            raise NotFound(f"bench {self.name} has no bus {name!r}; it has {', '.join(known) or 'none'}")
        return BusClient(self._connection, name)

    def ecu(self, name: str) -> EcuClient:
        """A diagnostic ECU of the bench. Raises NotFound, listing those that exist, or another BenchError."""
        known = [ecu.name for ecu in self._known().ecus]
        if name not in known:
            raise NotFound(f"bench {self.name} has no ECU {name!r}; it has {', '.join(known) or 'none'}")
        return EcuClient(self._uds, name, FlashClient(self._connection))

    def simulation(self, name: str) -> SimulationClient:
        """Control of a simulated ECU: faults, voltage, values, time. Raises NotFound, or another BenchError.

        Its methods raise InvalidRequest when the ECU is not simulated.
        """
        known = [ecu.name for ecu in self._known().ecus]
        if name not in known:
            raise NotFound(f"bench {self.name} has no ECU {name!r}; {_nearest(name, known)}")
        return SimulationClient(self._connection, name)

    def functional(
        self,
        request: bytes | str,
        bus: str | None = None,
        timeout_s: float = 1.0,
        *,
        functional_id: int | None = None,
        **arguments: object,
    ) -> dict[str, FunctionalAnswer]:
        """Asks all ECUs of a bus at once by their functional address; what each makes of it, by ECU.

        ``request`` is a whole PDU, or the name of a service with its ``arguments``. Without ``bus``, the only one whose
        ECUs have a functional address; ``functional_id`` is its arbitration ID (DoIP: its address), needed only where
        the ECUs of a bus have different ones. ``timeout_s`` bounds all of it; within it, each ECU has P2 for
        its first answer and P2* after each 0x78. Requests to these ECUs that are in work are waited for. Raises a
        BenchError when nothing could be asked.
        """
        return ask_all(self._connection, request, bus or "", timeout_s, functional_id, arguments)

    def console(self, name: str, who: str | None = None) -> ConsoleClient:
        """A serial console of the bench. Raises NotFound, listing those that exist, or another BenchError.

        ``who`` is shown to those who want to write too; without it, user, host and process.
        """
        known = [console.name for console in self._known().consoles]
        if name not in known:
            raise NotFound(f"bench {self.name} has no console {name!r}; {_nearest(name, known)}")
        return ConsoleClient(self._connection, name, who)

    def adapter(self, name: str) -> AdapterClient:
        """A device of the lab's own. Raises NotFound, listing those that exist, or another BenchError."""
        known = [adapter.name for adapter in self._known().adapters]
        if name not in known:
            raise NotFound(f"bench {self.name} has no adapter {name!r}; {_nearest(name, known)}")
        return AdapterClient(self._connection, name)

    def recent(self, count: int) -> dict[str, list[Frame]]:
        """The last ``count`` frames of each bus during this lease, oldest first. Raises a BenchError."""
        reply = self._connection.ask(self._connection.stub.Recent, bench_pb2.RecentRequest(count=count))
        return {bus: list(frames.unbatch(batch)) for bus, batch in sorted(reply.buses.items())}

    def gateway(
        self, from_bus: str, to_bus: str, faults: Sequence[BusFaultRule] = (), *, one_way: bool = False
    ) -> GatewayClient:
        """Forwards frames between two buses within its context, ``faults`` on the way from the first to the second.

        Frames that were forwarded are not forwarded back.
        """
        return GatewayClient(self._connection, from_bus, to_bus, faults, one_way=one_way)

    @property
    def traces(self) -> TracesClient:
        """What the agent has recorded of the buses during this lease."""
        return TracesClient(self._connection)

    def traffic(self) -> list[CyclicState]:
        """All that this lease has the agent send by itself. Raises a BenchError."""
        reply = self._connection.ask(self._connection.traffic.List, traffic_pb2.TrafficRequest())
        return [traffic.from_wire(message) for message in reply.messages]

    def close(self) -> None:
        """Ends every stream and call. May be called twice."""
        self._uds.close()
        self._connection.close()

    def _known(self) -> Description:
        with self._lock:
            description = self._description
        return description or self.describe()


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
