"""The sending half of ISO-TP as a pure state machine: no bus, and time is handed in (s, monotonic)."""

from ecu_adapters.isotp.codec import FlowStatus, first_frame, padded, parse_flow_control
from ecu_adapters.isotp.errors import Failure
from ecu_adapters.transport import Fault


class Sender:
    """One PDU of several frames at a time: `start`, then `frames` whenever `due` is reached, until not `busy`."""

    def __init__(
        self, *, frame_length: int, padding: int | None, prefix: bytes, wait_frames: int, n_bs_s: float
    ) -> None:
        """``wait_frames`` is N_WFTmax: how many flow controls "wait" are borne in a row."""
        self.busy = False
        self.due: float | None = None
        """When `frames` or `expire` has something to do; None: not before a flow control comes."""
        self._frame_length = frame_length
        self._padding = padding
        self._prefix = prefix
        self._wait_frames = wait_frames
        self._n_bs_s = n_bs_s
        self._payload = frame_length - 1 - len(prefix)
        self._pdu = b""
        self._at = 0
        self._sequence = 0
        self._waiting = False
        self._excused = False
        self._waits = 0
        self._left: int | None = None
        self._stmin_s = 0.0
        self._last = b""

    def start(self, pdu: bytes, now: float) -> bytes:
        """The first frame. ``pdu`` must not fit a single one."""
        frame, self._at = first_frame(pdu, self._frame_length, self._prefix)
        self._pdu, self._sequence, self.busy = pdu, 1, True
        self._await_flow_control(now)
        self._last = frame
        return frame

    def stop(self) -> None:
        """Gives the PDU up."""
        self.busy, self._waiting, self.due, self._pdu = False, False, None, b""

    def take(self, data: bytes, now: float) -> Failure | None:
        """A flow control frame came. One that was not awaited is ignored (ISO 15765-2, table 23)."""
        if not self._waiting:
            return None
        control = parse_flow_control(data, len(self._prefix))
        if control is None:
            return None  # too short: as if it had not come
        match control.status:
            case FlowStatus.CONTINUE:
                self._waiting, self._waits = False, 0
                self._left = control.block_size or None
                self._stmin_s = control.stmin_s
                self.due = now
                return None
            case FlowStatus.WAIT:
                self._waits += 1
                self._excused = False
                self.due = now + self._n_bs_s
                if self._waits <= self._wait_frames:
                    return None
                reason = f"the receiver sent {self._waits} flow controls 'wait' in a row; {self._wait_frames} are borne"
                return self._fail(Fault.TOO_MANY_WAIT, reason, data)
            case FlowStatus.OVERFLOW:
                return self._fail(Fault.OVERFLOW, f"the receiver has no room for {len(self._pdu)} bytes", data)
        return self._fail(Fault.INVALID_FRAME, f"flow control with the unknown status {control.status}", data)

    def frames(self, now: float, limit: int) -> list[bytes]:
        """The consecutive frames that may be sent now, ``limit`` at most; report them with `sent`."""
        if not self.busy or self._waiting or (self.due is not None and now < self.due):
            return []
        count = 1 if self._stmin_s else limit
        if self._left is not None:
            count = min(count, self._left)
            self._left -= count
        pdu, at, size, sequence, prefix = self._pdu, self._at, self._payload, self._sequence, self._prefix
        end = min(at + count * size, len(pdu))
        frames = []
        while at < end:
            frames.append(prefix + bytes((0x20 | sequence,)) + pdu[at : at + size])
            sequence = sequence + 1 & 0x0F
            at += size
        self._at, self._sequence = at, sequence
        if at >= len(pdu):
            frames[-1] = padded(frames[-1], self._padding)
        self._last = frames[-1]
        return frames

    def sent(self, now: float) -> None:
        """What `frames` returned is on the bus."""
        if self._at >= len(self._pdu):
            self.stop()
        elif self._left == 0:
            self._await_flow_control(now)
        else:
            self.due = now + self._stmin_s

    def excuse(self, until: float) -> None:
        """Nobody could hear the receiver for a while: its flow control may come until then. Once per wait."""
        if self._waiting and not self._excused and self.due is not None:
            self._excused, self.due = True, max(self.due, until)

    def expire(self, now: float) -> Failure | None:
        """The receiver's silence (N_Bs)."""
        if not self._waiting or self.due is None or now < self.due:
            return None
        carried = min(self._at, len(self._pdu))
        reason = f"no flow control within {self._n_bs_s * 1000:g} ms (N_Bs) after {carried} of {len(self._pdu)} bytes"
        return self._fail(Fault.FC_TIMEOUT, reason, self._last, received=False)

    def _await_flow_control(self, now: float) -> None:
        self._waiting, self._excused, self._waits = True, False, 0
        self.due = now + self._n_bs_s

    def _fail(self, kind: Fault, reason: str, data: bytes, *, received: bool = True) -> Failure:
        self.stop()
        return Failure(kind, reason, data, received)
