"""The receiving half of the transport protocol: of a broadcast (BAM), and of a connection (RTS/CTS)."""

from ecu_adapters.j1939.codec import CONNECTION, PACKET, Announcement, clear_to_send, end_of_message
from ecu_adapters.j1939.errors import Abort, Fault, abort_text
from ecu_adapters.j1939.session import Frame, Session
from ecu_adapters.j1939.settings import Settings


class Listener(Session):
    """One message that a node sends to all. What is lost cannot be had again."""

    def __init__(self, pgn: int, announced: Announcement, own: int, peer: int, settings: Settings, now: float) -> None:
        super().__init__(pgn, own, peer, settings)
        self._size, self._packets = announced.size, announced.packets
        self._data = bytearray()
        self._received = 0
        self.due = now + settings.t1_s

    @property
    def awaits_peer(self) -> bool:
        """See `Session.awaits_peer`."""
        return True

    @property
    def data(self) -> bytes:
        """The message, once it is over without a failure."""
        return bytes(self._data[: self._size])

    def take(self, frame: Frame, now: float) -> None:
        """A data packet came."""
        number = frame.data[0]
        if number == self._received and number:
            return  # the same once more
        self.last = str(frame)
        if number != self._received + 1:
            reason = (
                f"packet {number} came from 0x{self.peer:02X} instead of {self._received + 1}, "
                f"after {self._received} of {self._packets}"
            )
            self.fail(Fault.SEQUENCE, reason)
            return
        self._data += frame.data[1:]
        self._received = number
        if number == self._packets:
            self.end()
        else:
            self.due = now + self.settings.t1_s

    def advance(self, now: float) -> None:
        """Gives up on a silent sender."""
        if self.due is not None and now >= self.due:
            limit = f"{self.settings.t1_s * 1000:g} ms (T1)"
            after = f"after {self._received} of {self._packets}"
            self.fail(Fault.TIMEOUT, f"no data packet from 0x{self.peer:02X} within {limit} {after}")


class Responder(Session):
    """One message that a node sends to this one. What is lost is asked for again, within limits."""

    def __init__(self, pgn: int, announced: Announcement, own: int, peer: int, settings: Settings, now: float) -> None:
        super().__init__(pgn, own, peer, settings)
        self._size, self._packets = announced.size, announced.packets
        self._block = min(settings.packets_per_cts, announced.most or 1)
        self._parts: dict[int, bytes] = {}
        self._first = self._last = 0
        self._fresh = False
        """No packet has come since the latest CTS."""
        self._again = 0
        self._holding = 0
        self._begin(1, now)

    @property
    def awaits_peer(self) -> bool:
        """See `Session.awaits_peer`."""
        return not self._holding

    @property
    def data(self) -> bytes:
        """The message, once it is over without a failure."""
        return b"".join(self._parts[number] for number in range(1, self._packets + 1))[: self._size]

    def take(self, frame: Frame, now: float) -> None:
        """A data packet, or an abort, came."""
        if frame.identifier.pgn == CONNECTION:
            self.last = str(frame)
            code = frame.data[1]
            self.fail(Fault.ABORTED, f"0x{self.peer:02X} aborted: {abort_text(code)}", code=code)
            return
        number = frame.data[0]
        if self._holding or number < self._first:
            return  # late, or the same once more
        self.last = str(frame)
        if number > self._last:
            reason = f"packet {number} came from 0x{self.peer:02X}; {self._first} to {self._last} were asked for"
            self.fail(Fault.SEQUENCE, reason, tell=Abort.BAD_SEQUENCE)
            return
        self._parts[number] = frame.data[1 : PACKET + 1]
        self._fresh = False
        if number == self._last:
            self._end_block(now)
        else:
            self.due = now + self.settings.t1_s

    def advance(self, now: float) -> None:
        """The next hold, a retransmission, or the end of patience with a silent sender."""
        if self.due is None or now < self.due:
            return
        if self._holding:
            self._holding -= 1
            self._clear(now)
        elif self._fresh:
            limit = f"{self.settings.t2_s * 1000:g} ms (T2)"
            reason = (
                f"no data packet from 0x{self.peer:02X} within {limit} of the CTS for packet {self._first} "
                f"of {self._packets}"
            )
            self.fail(Fault.TIMEOUT, reason, tell=Abort.TIMEOUT)
        else:
            self._end_block(now)

    def _end_block(self, now: float) -> None:
        missing = next((n for n in range(self._first, self._last + 1) if n not in self._parts), None)
        if missing is not None:
            self._again += 1
            if self._again > self.settings.retransmissions:
                reason = (
                    f"packet {missing} of {self._packets} from 0x{self.peer:02X} is lost; "
                    f"{self.settings.retransmissions} retransmissions were asked for"
                )
                self.fail(Fault.SEQUENCE, reason, tell=Abort.RETRANSMISSIONS)
            else:
                self._ask(missing, self._last, now)
        elif self._last == self._packets:
            self.connection(end_of_message(self._size, self.pgn))
            self.end()
        else:
            self._again = 0
            self._begin(self._last + 1, now)

    def _begin(self, first: int, now: float) -> None:
        self._first, self._last = first, min(first + self._block - 1, self._packets)
        self._holding = self.settings.holds
        self._clear(now)

    def _clear(self, now: float) -> None:
        if self._holding:
            self.connection(clear_to_send(0, 0, self.pgn))
            self.due = now + self.settings.hold_s
        else:
            self._ask(self._first, self._last, now)

    def _ask(self, first: int, last: int, now: float) -> None:
        self._first, self._last, self._fresh = first, last, True
        self.connection(clear_to_send(last - first + 1, first, self.pgn))
        self.due = now + self.settings.t2_s
