"""One TCP connection to the simulated DoIP entity: routing activation, alive check, diagnostic messages, inactivity."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from doipclient import messages

from ecu_adapters.doip import frames
from ecu_adapters.simulator.clock import Timer

if TYPE_CHECKING:
    from ecu_adapters.simulator.doip_entity import DoIpEntity

_ROUTED = 0x10
_UNKNOWN_TESTER, _NO_SOCKET, _OTHER_TESTER, _TESTER_ELSEWHERE, _NO_AUTHENTICATION = range(5)
_UNKNOWN_ACTIVATION = 0x06
_INVALID_SOURCE, _UNKNOWN_TARGET, _PDU_TOO_LARGE, _UNREACHABLE = 0x02, 0x03, 0x04, 0x06
_CLOSE_S = 1.0
_OUTGOING = 1 << 20
"""Bytes that a tester may leave unread before it loses the connection."""


class Session(asyncio.Protocol):
    """A connection, seen from the entity."""

    def __init__(self, entity: "DoIpEntity") -> None:
        self.tester: int | None = None
        """The address that routing is activated for."""
        self._entity = entity
        self._transport: asyncio.Transport | None = None
        self._reader = frames.StreamReader(entity.admit)
        self._timer: Timer | None = None
        self._heard = 0.0
        self._alive: dict[Session, Callable[[Session], None]] = {}
        """Whom to tell when its tester gives a sign of life."""
        self._decision: Timer | None = None
        """When the alive check ends that its own routing activation waits for."""

    @property
    def pending(self) -> int:
        """Bytes of the payload that is being received."""
        return self._reader.pending

    def send(self, message: frames.Payload) -> bool:
        """False when the connection is over, or its tester does not read."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        transport.write(frames.encode(self._entity.version, message))
        if transport.get_write_buffer_size() <= _OUTGOING:
            return True
        self._forget()
        transport.abort()
        return False

    def ask_alive(self, asker: "Session", told: Callable[["Session"], None]) -> None:
        """Asks its tester for a sign of life, and tells when it came."""
        self._alive[asker] = told
        self.send(messages.AliveCheckRequest())

    def ask_no_more(self, asker: "Session") -> None:
        """The asker has decided, or has gone."""
        self._alive.pop(asker, None)

    def close(self) -> None:
        """Sends what is written, and closes."""
        self._forget()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            # A tester that reads no more must not hold the socket.
            asyncio.get_running_loop().call_later(_CLOSE_S, self._transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._entity.enter(self):
            self._transport.abort()
            return
        self._heard = self._entity.clock.now()
        limit_s = self._entity.settings.initial_inactivity_ms / 1000
        self._timer = self._entity.clock.call_later(limit_s, self._silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._forget()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        for message in self._reader.feed(data):
            if self._transport is None or self._transport.is_closing():
                return
            if isinstance(message, frames.Refused):
                self._entity.stats.header_nacks += 1
                self.send(messages.GenericDoIPNegativeAcknowledge(message.code))
                if message.deadly:
                    self.close()
            else:
                self._take(message)

    def _take(self, message: frames.Message) -> None:
        self._heard = self._entity.clock.now()
        unpacked = message.unpack()
        if isinstance(unpacked, messages.RoutingActivationRequest):
            self._activate(unpacked.source_address, message.payload[2])
        elif isinstance(unpacked, messages.AliveCheckRequest):
            self.send(messages.AliveCheckResponse(self._entity.logical_address))
        elif isinstance(unpacked, messages.AliveCheckResponse):
            if unpacked.source_address == self.tester:
                for told in list(self._alive.values()):
                    told(self)
        elif isinstance(unpacked, messages.DiagnosticMessage):
            self._diagnose(unpacked.source_address, unpacked.target_address, bytes(unpacked.user_data))

    def _diagnose(self, source: int, target: int, pdu: bytes) -> None:
        if source != self.tester:
            self._refuse(source, target, _INVALID_SOURCE)
            self.close()
            return
        ports, functional = self._entity.targets(target)
        if not ports:
            self._refuse(source, target, _UNKNOWN_TARGET)
        elif any(len(pdu) > port.settings.max_pdu for port in ports):
            self._refuse(source, target, _PDU_TOO_LARGE)
        elif not any(port.reachable for port in ports):
            self._refuse(source, target, _UNREACHABLE)
        else:
            self.send(messages.DiagnosticMessagePositiveAcknowledgement(target, source, 0x00))
            for port in [port for port in ports if port.reachable]:
                port.receive(self, source, pdu, functional=functional)

    def _refuse(self, source: int, target: int, code: int) -> None:
        self._entity.stats.nacks += 1
        self.send(messages.DiagnosticMessageNegativeAcknowledgement(target, source, code))

    def _activate(self, tester: int, kind: int) -> None:
        """The routing activation handler of ISO 13400-2, in its order."""
        settings = self._entity.settings
        others = [session for session in self._entity.routed if session is not self]
        if self._decision is not None:
            return  # the first one is not answered yet
        if not settings.knows(tester):
            self._answer(tester, _UNKNOWN_TESTER)
        elif kind not in settings.activation:
            self._answer(tester, _UNKNOWN_ACTIVATION)
        elif self.tester is not None:
            self._answer(tester, settings.activation[kind] if tester == self.tester else _OTHER_TESTER)
        elif same := [session for session in others if session.tester == tester]:
            self._ask_others(same, tester, kind, _TESTER_ELSEWHERE)
        elif len(others) >= settings.sockets:
            self._ask_others(others, tester, kind, _NO_SOCKET)
        else:
            self._answer(tester, settings.activation[kind])

    def _ask_others(self, others: "Iterable[Session]", tester: int, kind: int, denial: int) -> None:
        """Denies the activation if all of the others are alive; those that are not lose their connections."""
        silent = set(others)

        def alive(session: Session) -> None:
            silent.discard(session)
            if not silent:
                decide()

        def decide() -> None:
            self._stop_asking()
            for session in silent:
                session.close()
            self._answer(tester, self._entity.settings.activation[kind] if silent else denial)

        self._decision = self._entity.clock.call_later(self._entity.settings.alive_check_ms / 1000, decide)
        for session in list(silent):
            session.ask_alive(self, alive)

    def _stop_asking(self) -> None:
        if self._decision is not None:
            self._decision.cancel()
            self._decision = None
            for session in self._entity.sessions:
                session.ask_no_more(self)

    def _answer(self, tester: int, code: int) -> None:
        """Denied, the connection ends, except where the tester can still authenticate itself (0x04)."""
        if code == _ROUTED:
            self.tester = tester
        else:
            self._entity.stats.denials += 1
        self.send(messages.RoutingActivationResponse(tester, self._entity.logical_address, code))
        if code == _ROUTED:
            self._stop_timer()
            self._silent()
        elif code != _NO_AUTHENTICATION:
            self.close()

    def _silent(self) -> None:
        """Closes the connection when nothing has come for too long; else looks again when that may be so."""
        settings, clock = self._entity.settings, self._entity.clock
        limit_ms = settings.initial_inactivity_ms if self.tester is None else settings.general_inactivity_ms
        # The first limit runs from the connection on, whatever else is sent.
        left_s = limit_ms / 1000 - (clock.now() - self._heard) if self.tester is not None else 0.0
        if left_s > 0:
            self._timer = clock.call_later(left_s, self._silent)
        else:
            self._entity.stats.inactive += 1
            self.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        self._stop_timer()
        self._stop_asking()
        self._alive.clear()
        self.tester = None
        self._entity.sessions.discard(self)
