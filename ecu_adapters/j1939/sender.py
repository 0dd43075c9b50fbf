"""The sending half of the transport protocol: a broadcast (BAM), and a connection (RTS/CTS)."""

from ecu_adapters.j1939.codec import Control, announcement, data_packet, packets_of
from ecu_adapters.j1939.errors import Abort, Fault, abort_text
from ecu_adapters.j1939.identifier import GLOBAL
from ecu_adapters.j1939.session import Frame, Session
from ecu_adapters.j1939.settings import Settings

_BURST = 16
"""Data packets that are sent in one go before others get their turn."""


class Broadcast(Session):
    """One message for all. Nobody answers; what paces it is the clock."""

    def __init__(self, pgn: int, data: bytes, own: int, settings: Settings, now: float) -> None:
        super().__init__(pgn, own, GLOBAL, settings)
        self._data = data
        self._next = 1
        self.connection(announcement(Control.BAM, len(data), pgn))
        self.due = now + settings.bam_spacing_s

    def advance(self, now: float) -> None:
        """Sends the next packet when it is time."""
        if self.due is None or now < self.due:
            return
        self.packet(data_packet(self._next, self._data))
        self._next += 1
        if self._next > packets_of(len(self._data)):
            self.end()
        else:
            self.due = now + self.settings.bam_spacing_s


class Originator(Session):
    """One message for one node, which says by CTS what it takes."""

    def __init__(self, pgn: int, data: bytes, own: int, peer: int, settings: Settings, now: float) -> None:
        super().__init__(pgn, own, peer, settings)
        self._data = data
        self._packets = packets_of(len(data))
        self._first = self._next = self._last = 0
        """Of the block in work; `_next` is 0 while none is."""
        self._reached = 0
        """The highest packet that was sent."""
        self._wanted = 0
        """The packet from which on the peer has wanted most."""
        self._again = 0
        self._awaited_s = settings.t3_s
        self.connection(announcement(Control.RTS, len(data), pgn))
        self.due = now + settings.t3_s

    @property
    def awaits_peer(self) -> bool:
        """See `Session.awaits_peer`."""
        return not self._next

    def take(self, frame: Frame, now: float) -> None:
        """CTS, acknowledgement or abort came for this message."""
        data = frame.data
        if data[0] == Control.ABORT:
            self.last = str(frame)
            self.fail(Fault.ABORTED, f"0x{self.peer:02X} aborted: {abort_text(data[1])}", code=data[1])
        elif data[0] == Control.END:
            self._acknowledged(frame)
        elif data[0] == Control.CTS:
            self._clear(frame, data[1], data[2], now)

    def advance(self, now: float) -> None:
        """Sends what may be sent now, or gives up on a silent peer."""
        if self.due is None or now < self.due:
            return
        if not self._next:
            after = f"after {self._reached} of {self._packets} packets"
            limit = f"{self._awaited_s * 1000:g} ms ({'T4' if self._awaited_s == self.settings.t4_s else 'T3'})"
            reason = f"no CTS or acknowledgement from 0x{self.peer:02X} within {limit} {after}"
            self.fail(Fault.TIMEOUT, reason, tell=Abort.TIMEOUT)
            return
        count = 1 if self.settings.packet_spacing_s else _BURST
        for number in range(self._next, min(self._next + count, self._last + 1)):
            self.packet(data_packet(number, self._data))
            self._reached = max(self._reached, number)
            self._next = number + 1
        if self._next > self._last:
            self._await(self.settings.t3_s, now)
        else:
            self.due = now + self.settings.packet_spacing_s

    def _clear(self, frame: Frame, count: int, first: int, now: float) -> None:
        if self._next > self._first:
            self.last = str(frame)
            reason = f"0x{self.peer:02X} sent a CTS while packets of the one before were being sent"
            self.fail(Fault.UNEXPECTED, reason, tell=Abort.CTS_DURING_TRANSFER)
            return
        self.last = str(frame)
        if not count:
            self._await(self.settings.t4_s, now)
            return
        if not 1 <= first <= min(self._reached + 1, self._packets):
            reason = (
                f"0x{self.peer:02X} asks for packet {first} after {self._reached} of {self._packets} packets were sent"
            )
            self.fail(Fault.UNEXPECTED, reason, tell=Abort.BAD_SEQUENCE)
            return
        if first > self._wanted:
            self._wanted, self._again = first, 0
        else:
            self._again += 1
            if self._again > self.settings.retransmissions:
                reason = (
                    f"0x{self.peer:02X} asks for packet {first} again and again; "
                    f"{self.settings.retransmissions} retransmissions are made"
                )
                self.fail(Fault.SEQUENCE, reason, tell=Abort.RETRANSMISSIONS)
                return
        self._first = self._next = first
        self._last = min(first + count - 1, self._packets)
        self.due = now

    def _acknowledged(self, frame: Frame) -> None:
        self.last = str(frame)
        if self._reached < self._packets:
            reason = f"0x{self.peer:02X} acknowledged the message after {self._reached} of {self._packets} packets"
            self.fail(Fault.UNEXPECTED, reason, tell=Abort.OTHER)
        else:
            self.end()

    def _await(self, limit_s: float, now: float) -> None:
        self._first = self._next = 0
        self._awaited_s, self.due = limit_s, now + limit_s
