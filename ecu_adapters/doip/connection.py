"""One TCP connection of a tester to a DoIP entity, from its routing activation to its end."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from doipclient import messages

from ecu_adapters.doip import frames
from ecu_adapters.doip.errors import DiagnosticNack, DoIpError, HeaderNack, RoutingDenied
from ecu_adapters.doip.settings import DoIp
from ecu_adapters.transport import Fault

_HEADER_NACK = 0x0000
_ROUTING_RESPONSE = 0x0006
_ALIVE_CHECK = 0x0007
_DIAGNOSTIC = 0x8001
_ACK = 0x8002
_NACK = 0x8003
_ROUTED, _CONFIRMATION = 0x10, 0x11
_UNACKNOWLEDGED = 64
"""Requests to one address that may wait for their acknowledgements."""
_CLOSE_S = 1.0

AckListener = Callable[[DoIpError | None], None]
"""Told what became of a message: acknowledged (None) or not. It is told once."""


class Audience(Protocol):
    """Who a connection works for."""

    def on_message(self, source: int, pdu: bytes, frame: str) -> None:
        """An ECU has sent a PDU to this tester."""

    def on_unexpected(self, frame: str) -> None:
        """Something came that nobody waits for."""

    def on_end(self, error: DoIpError) -> None:
        """The connection is over, and no more of it is told."""


@dataclass(frozen=True, slots=True)
class _Sent:
    at: float
    told: AckListener


class Connection(asyncio.Protocol):
    """A connection. Used on one asyncio loop."""

    def __init__(self, settings: DoIp, admit: frames.Admit, audience: Audience) -> None:
        """``admit`` says what may be received. The audience hears of what comes once routing is activated."""
        self.error: DoIpError | None = None
        """Why it is over; None while it is not."""
        self._settings = settings
        self._audience: Audience | None = audience
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = frames.StreamReader(admit)
        self._activation: asyncio.Future[None] | None = None
        self._active = False
        self._acks: dict[int, deque[_Sent]] = {}
        self._writable = asyncio.Event()
        self._writable.set()

    async def activate(self) -> None:
        """Asks for routing activation. Raises RoutingDenied with the entity's code, or DoIpError."""
        settings = self._settings
        self._activation = self._loop.create_future()
        kind, oem_specific = settings.activation_type, settings.oem_specific
        self._write(messages.RoutingActivationRequest(settings.tester_address, kind, vm_specific=oem_specific))
        try:
            async with asyncio.timeout(settings.control_ms / 1000):
                await self._activation
        except TimeoutError:
            message = f"{settings.place} did not answer the routing activation within {settings.control_ms} ms"
            raise DoIpError(message, Fault.CONNECTION) from None
        finally:
            self._activation = None

    async def send(self, target: int, pdu: bytes) -> None:
        """Returns when the entity has acknowledged the message. Raises DiagnosticNack with its code, or DoIpError."""
        done: asyncio.Future[None] = self._loop.create_future()

        def told(error: DoIpError | None) -> None:
            if not done.done():
                _settle(done, error)

        await self._writable.wait()
        self.put(target, pdu, told)
        await self._writable.wait()
        try:
            async with asyncio.timeout(self._settings.ack_ms / 1000):
                await done
        except TimeoutError:
            self._forget(target, told)
            raise self._unacknowledged(target) from None

    def put(self, target: int, pdu: bytes, told: AckListener) -> None:
        """Sends at once. Raises DoIpError when the connection is over, or takes nothing more for now."""
        waiting = self._acks.setdefault(target, deque())
        self._expire(target, waiting)
        if len(waiting) >= _UNACKNOWLEDGED:
            message = f"{self._settings.place} owes {len(waiting)} acknowledgements of messages to 0x{target:04X}"
            raise DoIpError(message, Fault.OVERFLOW)
        if not self._writable.is_set():
            raise DoIpError(f"{self._settings.place} takes no more for now", Fault.OVERFLOW)
        self._write(messages.DiagnosticMessage(self._settings.tester_address, target, pdu))
        waiting.append(_Sent(time.monotonic(), told))

    def close(self) -> None:
        """Sends what is written, then closes. Closing twice does nothing."""
        self._audience = None
        transport = self._transport
        self._end(DoIpError("the connection was closed", Fault.CLOSED))
        if transport is not None and not transport.is_closing():
            transport.close()
            # A peer that reads no more must not hold the socket.
            self._loop.call_later(_CLOSE_S, transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        reason = f": {exc}" if exc is not None else ""
        self._end(DoIpError(f"{self._settings.place} closed the connection{reason}", Fault.CONNECTION))

    def pause_writing(self) -> None:
        """Called by the loop."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by the loop."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        for message in self._reader.feed(data):
            if self.error is not None:
                return
            if isinstance(message, frames.Refused):
                self._bad_header(message)
            else:
                self._take(message)

    def _bad_header(self, refused: frames.Refused) -> None:
        """What the entity sends cannot be read on, or is not for testers."""
        header = frames.shown(refused.header)
        if refused.code == frames.UNKNOWN_TYPE:
            self._unexpected(header)
        elif refused.code == frames.TOO_LARGE:
            self._fail(DoIpError(f"{self._settings.place} sent more than max_pdu allows", Fault.OVERFLOW, header))
        else:
            message = f"{self._settings.place} sent no DoIP header: {header}"
            self._fail(DoIpError(message, Fault.INVALID_FRAME, header))

    def _take(self, message: frames.Message) -> None:
        kind, payload = message.payload_type, message.payload
        if kind == _DIAGNOSTIC:
            source, target = _addresses(payload)
            if target == self._settings.tester_address and self._audience is not None:
                self._audience.on_message(source, payload[4:], frames.shown(payload))
            else:
                self._unexpected(str(message))
        elif kind in (_ACK, _NACK):
            self._acknowledge(message)
        elif kind == _ROUTING_RESPONSE:
            self._routed(message)
        elif kind == _ALIVE_CHECK:
            self._write(messages.AliveCheckResponse(self._settings.tester_address))
        elif kind == _HEADER_NACK:
            self._header_nack(HeaderNack(self._settings.place, payload[0], str(message)))
        else:
            self._unexpected(str(message))

    def _acknowledge(self, message: frames.Message) -> None:
        source, target = _addresses(message.payload)
        waiting = self._acks.get(source)
        if not waiting or target != self._settings.tester_address:
            self._unexpected(str(message))
            return
        sent = waiting.popleft()
        if message.payload_type == _ACK:
            sent.told(None)
        else:
            sent.told(DiagnosticNack(self._settings.place, source, message.payload[4], str(message)))

    def _routed(self, message: frames.Message) -> None:
        tester, code = _addresses(message.payload)[0], message.payload[4]
        if self._activation is None or self._activation.done() or tester != self._settings.tester_address:
            self._unexpected(str(message))
        elif code == _ROUTED:
            self._active = True
            self._activation.set_result(None)
        elif code != _CONFIRMATION:  # after that one, the final answer follows
            self._activation.set_exception(RoutingDenied(self._settings.place, tester, code, str(message)))

    def _header_nack(self, error: HeaderNack) -> None:
        """It does not say which message it means: the one that is waited for longest, as the entity reads in order."""
        oldest = min((waiting for waiting in self._acks.values() if waiting), key=_since, default=None)
        if self._activation is not None and not self._activation.done():
            self._activation.set_exception(error)
        elif oldest is not None:
            oldest.popleft().told(error)
        else:
            self._unexpected(error.frame)

    def _write(self, message: frames.Payload) -> None:
        if self.error is not None:
            raise self.error
        if self._transport is not None:
            self._transport.write(frames.encode(self._settings.version, message))

    def _expire(self, target: int, waiting: "deque[_Sent]") -> None:
        """An acknowledgement that never came must not be looked for in that of the next message."""
        too_old = time.monotonic() - self._settings.ack_ms / 1000
        while waiting and waiting[0].at < too_old:
            waiting.popleft().told(self._unacknowledged(target))

    def _unacknowledged(self, target: int) -> DoIpError:
        limit = f"within {self._settings.ack_ms} ms"
        message = f"{self._settings.place} did not acknowledge the message to 0x{target:04X} {limit}"
        return DoIpError(message, Fault.SEND_TIMEOUT)

    def _forget(self, target: int, told: AckListener) -> None:
        waiting = self._acks.get(target, deque())
        for sent in waiting:
            if sent.told is told:
                waiting.remove(sent)
                return

    def _unexpected(self, frame: str) -> None:
        if self._audience is not None:
            self._audience.on_unexpected(frame)

    def _fail(self, error: DoIpError) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end(error)

    def _end(self, error: DoIpError) -> None:
        if self.error is not None:
            return
        self.error = error
        if self._activation is not None and not self._activation.done():
            self._activation.set_exception(error)
        acks, self._acks = self._acks, {}
        for waiting in acks.values():
            for sent in waiting:
                sent.told(error)
        self._writable.set()
        if self._active and self._audience is not None:
            self._audience.on_end(error)


def _addresses(payload: bytes) -> tuple[int, int]:
    """Source and target."""
    return int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")


def _since(waiting: "deque[_Sent]") -> float:
    return waiting[0].at


def _settle(done: "asyncio.Future[None]", error: DoIpError | None) -> None:
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
