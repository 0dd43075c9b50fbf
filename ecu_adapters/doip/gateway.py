"""The DoIP entities that a tester talks to: one TCP connection each, however many ECUs are behind it."""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

import structlog

from ecu_adapters.doip import frames
from ecu_adapters.doip.connection import AckListener, Connection
from ecu_adapters.doip.errors import DoIpError
from ecu_adapters.doip.settings import DoIp
from ecu_adapters.transport import Fault

_QUEUED = 16
"""Messages without a waiter that a connection in the making may hold up."""
_ADDRESSES = 4
"""Bytes of a diagnostic message before its PDU."""

_log = structlog.get_logger()


class Peer(Protocol):
    """The tester of one ECU."""

    def on_pdu(self, pdu: bytes, frame: str) -> None:
        """Its ECU has sent a PDU."""

    def on_lost(self, error: DoIpError) -> None:
        """The connection broke."""


@dataclass(slots=True)
class GatewayStats:
    """Counters since the gateway was first used."""

    connections: int = 0
    lost: int = 0
    """Connections that ended by themselves."""
    unexpected: int = 0
    """Messages that nobody waited for: from ECUs without a tester, to other testers, acknowledgements too late."""
    send_errors: int = 0
    """Messages without a waiter that were not taken."""


class Gateway:
    """One entity. The connection is made with the first message, and made anew with the next one after it broke."""

    def __init__(self, settings: DoIp) -> None:
        self.place = settings.place
        self.stats = GatewayStats()
        self.peers: dict[int, Peer] = {}
        """By the logical addresses of the ECUs."""
        self.longest = settings.max_pdu
        self._settings = settings
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def connect(self, timeout_s: float) -> Connection:
        """A connection with routing activated. Raises RoutingDenied, or DoIpError."""
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                async with self._connecting:
                    known = self._connection
                    if known is not None and known.error is None:
                        return known
                    if self._closed:
                        raise DoIpError("the tester was closed", Fault.CLOSED)
                    self._connection = await self._open(min(deadline - time.monotonic(), timeout_s))
                    return self._connection
        except TimeoutError:
            message = f"{self.place} was not connected and routed to within {timeout_s:.3g} s"
            raise DoIpError(message, Fault.CONNECTION) from None

    async def send(self, target: int, pdu: bytes, timeout_s: float) -> None:
        """Returns when the entity has acknowledged the message. Raises DoIpError."""
        deadline = time.monotonic() + timeout_s
        connection = await self.connect(timeout_s)
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                await connection.send(target, pdu)
        except TimeoutError:
            message = f"{self.place} did not take the message to 0x{target:04X} within {timeout_s:.3g} s"
            raise DoIpError(message, Fault.SEND_TIMEOUT) from None

    def put(self, target: int, pdu: bytes, told: AckListener) -> None:
        """Sends at once. Raises DoIpError, also when there is no connection at this moment."""
        connection = self._connection
        if connection is None or connection.error is not None:
            raise DoIpError(f"{self.place} is not connected", Fault.CONNECTION)
        connection.put(target, pdu, told)

    def post(self, target: int, pdu: bytes) -> None:
        """Sends without waiting, if need be when the connection is there; a failure is counted and logged."""
        known = self._connection
        if known is not None and known.error is None and not self._connecting.locked():
            try:
                known.put(target, pdu, self._posted)
            except DoIpError as error:
                self._posted(error)
        elif len(self._tasks) >= _QUEUED:
            self._posted(DoIpError(f"{self.place} is not connected yet, and {_QUEUED} messages wait", Fault.OVERFLOW))
        else:
            task = asyncio.get_running_loop().create_task(self._post_later(target, pdu))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Ends the connection, and what waits for one."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._connection is not None:
            self._connection.close()

    def on_message(self, source: int, pdu: bytes, frame: str) -> None:
        """To the tester of the ECU that has sent it, and to no other."""
        peer = self.peers.get(source)
        if peer is None:
            self.on_unexpected(frame)
        else:
            peer.on_pdu(pdu, frame)

    def on_unexpected(self, frame: str) -> None:
        """Counted; the first one is logged."""
        self.stats.unexpected += 1
        if self.stats.unexpected == 1:
            _log.warning("a DoIP message that nobody waits for", gateway=self.place, frame=frame)

    def on_end(self, error: DoIpError) -> None:
        """All testers know at once; the next message brings a new connection."""
        self.stats.lost += 1
        for peer in list(self.peers.values()):
            peer.on_lost(error)

    def _admit(self, payload_type: int, length: int) -> int | None:
        return frames.admits(frames.TO_TESTER, self.longest + _ADDRESSES)(payload_type, length)

    async def _open(self, timeout_s: float) -> Connection:
        settings = self._settings
        limit_s = min(settings.connect_ms / 1000, timeout_s)
        connection = Connection(settings, self._admit, self)
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.get_running_loop().create_connection(lambda: connection, settings.host, settings.port)
        except TimeoutError:
            message = f"{self.place} did not take the TCP connection within {limit_s:g} s"
            raise DoIpError(message, Fault.CONNECTION) from None
        except OSError as error:
            raise DoIpError(f"{self.place} cannot be connected: {error}", Fault.CONNECTION) from error
        try:
            await connection.activate()
        except BaseException:
            connection.close()
            raise
        self.stats.connections += 1
        return connection

    async def _post_later(self, target: int, pdu: bytes) -> None:
        try:
            connection = await self.connect((self._settings.connect_ms + self._settings.control_ms) / 1000)
            connection.put(target, pdu, self._posted)
        except DoIpError as error:
            self._posted(error)

    def _posted(self, error: DoIpError | None) -> None:
        if error is None or error.kind is Fault.CLOSED:
            return
        self.stats.send_errors += 1
        if self.stats.send_errors == 1:
            _log.warning("a DoIP message was not sent", gateway=self.place, reason=str(error))


class Gateways:
    """All entities of one bench. Testers of ECUs behind the same entity share its connection."""

    def __init__(self) -> None:
        self._gateways: dict[tuple[object, ...], Gateway] = {}

    def join(self, settings: DoIp, peer: Peer) -> Gateway:
        """The gateway to an ECU; it knows ``peer`` until `leave`. Raises ValueError when the ECU has another."""
        gateway = self._gateways.setdefault(_key(settings), Gateway(settings))
        if settings.logical_address in gateway.peers:
            raise ValueError(f"0x{settings.logical_address:04X} behind {settings.place} has a tester already")
        gateway.peers[settings.logical_address] = peer
        gateway.longest = max(gateway.longest, settings.max_pdu)
        return gateway

    def leave(self, settings: DoIp, peer: Peer) -> None:
        """The last one to leave closes the connection."""
        gateway = self._gateways.get(_key(settings))
        if gateway is None or gateway.peers.get(settings.logical_address) is not peer:
            return
        del gateway.peers[settings.logical_address]
        if not gateway.peers:
            del self._gateways[_key(settings)]
            gateway.close()


def _key(settings: DoIp) -> tuple[object, ...]:
    """What ECUs must have in common to share a connection."""
    return (
        settings.host,
        settings.port,
        settings.tester_address,
        settings.version,
        settings.activation_type,
        settings.oem_specific,
    )
