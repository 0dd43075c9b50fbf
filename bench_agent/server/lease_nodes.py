"""The J1939 nodes of one lease: what they have heard, and who waits for more. Used on one asyncio loop."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.cleanup import CleanUpStack, Phase, Step
from bench_agent.server.errors import invalid, not_found, unavailable
from ecu_adapters.bus import BusHub, BusNode
from ecu_adapters.dbc import SignalValue
from ecu_adapters.j1939.message import Message
from ecu_adapters.j1939.name import Name
from ecu_adapters.j1939.node import J1939Node
from ecu_adapters.j1939.settings import Settings
from ecu_adapters.j1939.signals import ParameterGroups
from ecu_adapters.j1939.transport import Lost

REMEMBERED = 4096
"""Messages of a node that an expect can look back at."""
_LOST = 16
_MOST = 32
"""Nodes of one lease."""
_CLOSE_S = 1.0

Heard = Message | Lost
Ear = Callable[[Heard], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages; None: any."""

    pgn: int | None = None
    source: int | None = None
    destination: int | None = None

    def passes(self, heard: Heard) -> bool:
        """Whether a message, or one that was lost on its way, is one of them."""
        return (
            self.pgn in (None, heard.pgn)
            and self.source in (None, heard.source)
            and (not isinstance(heard, Message) or self.destination in (None, heard.destination))
        )


class LeaseNode:
    """A node on a bus of the bench."""

    def __init__(
        self, number: int, bus: AgentBus, hub: BusHub, address: int, settings: Settings, name: Name | None
    ) -> None:
        self.number = number
        self.bus = bus
        self.groups = ParameterGroups(bus.database) if bus.database is not None else None
        """The bus' database, by PGN."""
        self.past: deque[Message] = deque(maxlen=REMEMBERED)
        """The latest messages, oldest first."""
        self.lost: deque[Lost] = deque(maxlen=_LOST)
        """The latest that were lost on their way."""
        self.step: Step | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the node is off its bus."""
        self._hub = hub
        self._ears: list[Ear] = []
        self._port: BusNode = hub.node(f"{bus.name}-j1939-{address:02X}")
        try:
            self.node = J1939Node(
                self._port, address, settings, name=name, on_message=self._heard, on_lost=self._missed
            )
        except ValueError:
            self._port.detach("it was never used")
            raise

    @property
    def stranded(self) -> str:
        """Why it is not on its bus any more; empty while it is."""
        if self.bus.hub is self._hub:
            return ""
        return self.bus.fault or f"CAN bus {self.bus.name!r} was opened anew; open the J1939 node again"

    def listen(self, ear: Ear) -> None:
        """Calls ``ear`` with all that comes from now on, until `unlisten`."""
        self._ears.append(ear)

    def unlisten(self, ear: Ear) -> None:
        """The end of `listen`."""
        self._ears.remove(ear)

    def decode(self, message: Message) -> tuple[str, dict[str, SignalValue | None]]:
        """Name and signals as the bus' database has them; empty when it does not know the PGN."""
        found = self.groups.decode(message.pgn, message.source, message.data) if self.groups is not None else None
        return found or ("", {})

    def close(self) -> None:
        """Takes the node off the bus."""
        self.node.close()
        if not self.closed.done():
            self.closed.set_result(None)
        self._port.detach("the node was closed")

    def _heard(self, message: Message) -> None:
        self.past.append(message)
        for ear in tuple(self._ears):
            ear(message)

    def _missed(self, lost: Lost) -> None:
        self.lost.append(lost)
        for ear in tuple(self._ears):
            ear(lost)


class LeaseNodes:
    """All of one lease, by number."""

    def __init__(self, cleanup: CleanUpStack) -> None:
        self._cleanup = cleanup
        self._numbers = itertools.count(1)
        self._nodes: dict[int, LeaseNode] = {}

    async def open(
        self, bus: AgentBus, address: int, settings: Settings, name: Name | None, answers: dict[int, bytes]
    ) -> LeaseNode:
        """A node that is ready to send. Raises CallError, ValueError for a bad address, J1939Error for a lost one."""
        if len(self._nodes) >= _MOST:
            raise invalid(f"the lease has {_MOST} J1939 nodes already; close one")
        for other in self._nodes.values():
            if other.bus is bus and other.node.address == address and not other.stranded:
                raise invalid(f"address 0x{address:02X} on bus {bus.name} is that of node {other.number} of this lease")
        node = LeaseNode(next(self._numbers), bus, bus.require_to_send(), address, settings, name)
        node.node.answers = answers
        self._nodes[node.number] = node

        async def undo() -> None:
            self._remove(node)

        title = f"close J1939 node 0x{address:02X} on {bus.name}"
        node.step = self._cleanup.push(title, undo, deadline_s=_CLOSE_S, phase=Phase.SILENCE)
        if name is not None:
            try:
                await node.node.claim()
            except BaseException:
                self.close(node)
                raise
        return node

    def get(self, number: int) -> LeaseNode:
        """Raises CallError when there is none."""
        node = self._nodes.get(number)
        if node is None:
            known = ", ".join(map(str, self._nodes)) or "none"
            raise not_found(f"the lease has no J1939 node {number}; it has {known}")
        return node

    def working(self, number: int) -> LeaseNode:
        """The same. Raises CallError also when the node's bus has failed since it was opened."""
        node = self.get(number)
        if node.stranded:
            raise unavailable(node.stranded)
        return node

    def close(self, node: LeaseNode) -> None:
        """Ends the node before the lease does."""
        self._remove(node)
        if node.step is not None:
            self._cleanup.drop(node.step)

    def _remove(self, node: LeaseNode) -> None:
        self._nodes.pop(node.number, None)
        node.close()
