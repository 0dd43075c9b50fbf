"""The DoIP entity (ISO 13400-2) that simulated ECUs are behind: TCP for diagnostics, UDP to be found.

One ECU makes it a node, several make it a gateway. It listens on the host that it is given, and nowhere else.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Protocol

import structlog
from doipclient import messages

from ecu_adapters.doip import frames
from ecu_adapters.doip.settings import DoIp
from ecu_adapters.simulator.clock import Clock, LoopClock
from ecu_adapters.simulator.doip_discovery import Discovery
from ecu_adapters.simulator.doip_session import Session

_ADDRESSES = 4
"""Bytes of a diagnostic message before its PDU."""
_FREE_PORT_TRIES = 10

_log = structlog.get_logger()


class Server(Protocol):
    """An ECU's server, as `UdsServer`."""

    @property
    def busy(self) -> bool:
        """Whether a request is in work."""

    def receive(self, pdu: bytes, functional: bool = False) -> None:
        """Takes a request."""


@dataclass(slots=True)
class EntityStats:
    """Counters since the entity was started."""

    connections: int = 0
    turned_away: int = 0
    """Connections beyond those that may ask for routing activation."""
    header_nacks: int = 0
    nacks: int = 0
    """Diagnostic messages that were not passed on."""
    denials: int = 0
    """Of routing activation."""
    inactive: int = 0
    """Connections that were closed for their silence."""
    undeliverable: int = 0
    """PDUs of an ECU whose tester had gone, or did not read."""


class EcuPort:
    """Where an ECU is attached to the entity. Each answer goes to the tester that has asked."""

    def __init__(self, entity: "DoIpEntity", settings: DoIp, server: Server) -> None:
        self.settings = settings
        self.reachable = True
        """False while the ECU has no power."""
        self._entity = entity
        self._server = server
        self._owner: tuple[Session, int] | None = None
        """Connection and address of the tester whose request was served last."""
        self._asking: tuple[Session, int] | None = None

    def receive(self, session: Session, tester: int, pdu: bytes, *, functional: bool) -> None:
        """A request. While the ECU works for another tester, what it says at once is for this one."""
        self._asking = (session, tester)
        if not self._server.busy:
            self._owner = self._asking
        try:
            self._server.receive(pdu, functional)
        finally:
            self._asking = None

    def post(self, pdu: bytes) -> None:
        """Sends to the tester; without one, the PDU is counted and gone."""
        to = self._asking or self._owner
        message = None
        if to is not None:
            message = messages.DiagnosticMessage(self.settings.logical_address, to[1], pdu)
        if to is None or message is None or not to[0].send(message):
            self._entity.stats.undeliverable += 1

    def close(self) -> None:
        """Detaches the ECU. Closing twice does nothing."""
        self._entity.detach(self)


class DoIpEntity:
    """An entity. Made, used and stopped on one asyncio loop."""

    def __init__(self, host: str, port: int, settings: DoIp, *, vin: str = "", clock: Clock | None = None) -> None:
        """``port`` 0 takes a free one. Of ``settings``, the section ``entity`` and the version are used."""
        self.host = host
        self.port = port
        """For TCP and UDP; the real one, once started."""
        self.settings = settings.entity
        self.version = settings.version
        self.vin = vin.ljust(17, "\0")[:17]
        self.stats = EntityStats()
        self.clock: Clock = clock if clock is not None else LoopClock()
        self.sessions: set[Session] = set()
        self._address = settings.entity.logical_address or settings.logical_address
        self._ecus: dict[int, EcuPort] = {}
        self._listener: asyncio.Server | None = None
        self._discovery: Discovery | None = None

    @property
    def logical_address(self) -> int:
        """Of the entity itself."""
        return self._address

    @property
    def node_type(self) -> int:
        """0: gateway, 1: node."""
        return 1 if len(self._ecus) == 1 and self._address in self._ecus else 0

    @property
    def longest(self) -> int:
        """Bytes of the longest payload that it takes."""
        return _ADDRESSES + max((port.settings.max_pdu for port in self._ecus.values()), default=0)

    @property
    def routed(self) -> list[Session]:
        """Connections with routing activated."""
        return [session for session in self.sessions if session.tester is not None]

    async def start(self) -> None:
        """Listens, and announces itself. Raises OSError when the address cannot be listened on."""
        loop = asyncio.get_running_loop()
        for left in reversed(range(_FREE_PORT_TRIES if self.port == 0 else 1)):
            listener = await loop.create_server(lambda: Session(self), self.host, self.port)
            port = int(listener.sockets[0].getsockname()[1])
            try:
                _, self._discovery = await loop.create_datagram_endpoint(
                    lambda: Discovery(self), local_addr=(self.host, port), allow_broadcast=True
                )
            except OSError:
                listener.close()
                if not left:
                    raise
            else:
                self.port, self._listener = port, listener
                break
        if self._discovery is not None and self.settings.announce is not None:
            self._discovery.announce(self.settings.announce)

    async def stop(self) -> None:
        """Closes all sockets. Stopping twice does nothing."""
        if self._discovery is not None:
            self._discovery.close()
        if self._listener is not None:
            self._listener.close()
        for session in list(self.sessions):
            session.close()
        if self._listener is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._listener.wait_closed()
        self._listener = self._discovery = None

    def attach(self, settings: DoIp, server: Server) -> EcuPort:
        """Puts an ECU behind the entity. Raises ValueError when its address is taken."""
        address = settings.logical_address
        if address in self._ecus:
            raise ValueError(f"doip.logical_address 0x{address:04X} is there twice behind {settings.place}")
        port = self._ecus[address] = EcuPort(self, settings, server)
        return port

    def detach(self, port: EcuPort) -> None:
        """The ECU is not there any more."""
        if self._ecus.get(port.settings.logical_address) is port:
            del self._ecus[port.settings.logical_address]

    def targets(self, address: int) -> tuple[list[EcuPort], bool]:
        """The ECUs with a logical address, and whether it is a functional one."""
        if address in self._ecus:
            return [self._ecus[address]], False
        return [port for port in self._ecus.values() if port.settings.functional_address == address], True

    def admit(self, payload_type: int, length: int) -> int | None:
        """What its TCP connections take."""
        code = frames.admits(frames.TO_ENTITY, self.longest)(payload_type, length)
        if code is None and sum(session.pending for session in self.sessions) + length > self.settings.memory:
            return frames.OUT_OF_MEMORY
        return code

    def enter(self, session: Session) -> bool:
        """A new connection; False when there is no place left even to ask for routing activation."""
        self.stats.connections += 1
        if len(self.sessions) > self.settings.sockets:
            self.stats.turned_away += 1
            return False
        self.sessions.add(session)
        return True
