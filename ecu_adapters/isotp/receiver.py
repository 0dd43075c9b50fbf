"""The receiving half of ISO-TP as a pure state machine: no bus, and time is handed in (s, monotonic).

What comes unexpected is treated as ISO 15765-2 says (9.8.3): a new single or first frame ends the reception in work,
any other stray frame is ignored, and so is what is no valid frame at all.
"""

from dataclasses import dataclass

from ecu_adapters.isotp.codec import (
    CONSECUTIVE,
    FIRST,
    SINGLE,
    FlowStatus,
    flow_control,
    parse_first_frame,
    parse_single_frame,
)
from ecu_adapters.isotp.errors import Failure
from ecu_adapters.transport import Fault


@dataclass(slots=True)
class FlowControlPolicy:
    """How a receiver paces its sender. May be changed at any time; holds from the next flow control on."""

    block_size: int = 0
    """Consecutive frames between flow controls; 0: no limit."""
    stmin: int = 0
    """Least time between them, as on the wire: 0x00-0x7F in ms, 0xF1-0xF9 in 100 µs."""
    waits: int = 0
    """Flow controls "wait" before each "continue"."""
    wait_s: float = 0.1
    """Time between those."""
    overflow: bool = False
    """Answer every first frame with "overflow"."""
    silent: bool = False
    """Send no flow control at all."""


class Receiver:
    """One PDU at a time. After each `take` and `expire`, `replies` are to be sent."""

    def __init__(
        self, *, policy: FlowControlPolicy, padding: int | None, prefix: bytes, reply_prefix: bytes, max_pdu: int,
        n_cr_s: float,
    ) -> None:  # fmt: skip
        """``prefix`` is the address byte of received frames, ``reply_prefix`` that of flow controls."""
        self.policy = policy
        self.busy = False
        self.due: float | None = None
        """When `expire` has something to do."""
        self.replies: list[bytes] = []
        """Flow controls to be sent; whoever sends them clears the list."""
        self.ignored = 0
        """Frames that are no part of a reception in work."""
        self.interrupted = 0
        """Receptions that a new PDU ended (N_UNEXP_PDU)."""
        self._padding = padding
        self._at = len(prefix)
        self._reply_prefix = reply_prefix
        self._max_pdu = max_pdu
        self._n_cr_s = n_cr_s
        self._length = 0
        self._buffer = bytearray()
        self._sequence = 0
        self._frame_length = 8
        self._left: int | None = None
        self._waits = 0
        self._pacing = False
        self._excused = False
        self._last = b""

    def take(self, data: bytes, now: float) -> bytes | Failure | None:
        """A frame for this end came, with its address byte: a whole PDU, the end of a reception, or nothing yet."""
        kind = data[self._at] >> 4 if len(data) > self._at else -1
        if kind == CONSECUTIVE:
            return self._consecutive(data, now)
        if kind == SINGLE:
            pdu = parse_single_frame(data, self._at)
            if pdu is None:
                self.ignored += 1
            elif self.busy:
                self.interrupted += 1
                self.stop()
            return pdu
        if kind == FIRST:
            return self._first(data, now)
        self.ignored += 1
        return None

    def excuse(self, until: float) -> None:
        """Nobody could hear the sender for a while: its next frame may come until then. Once per frame."""
        if self.busy and not self._pacing and not self._excused and self.due is not None:
            self._excused, self.due = True, max(self.due, until)

    def expire(self, now: float) -> Failure | None:
        """The sender's silence (N_Cr), or the time for the next flow control "wait"."""
        if not self.busy or self.due is None or now < self.due:
            return None
        if self._pacing:
            self._control(now)
            return None
        reason = f"no consecutive frame within {self._n_cr_s * 1000:g} ms (N_Cr) {self._so_far()}"
        return self._fail(Fault.CF_TIMEOUT, reason, self._last)

    def gap(self) -> Failure | None:
        """What the reception in work waits for; None when there is none."""
        if not self.busy:
            return None
        reason = f"consecutive frame {self._sequence:X} is missing, {self._so_far()}"
        return Failure(Fault.CF_TIMEOUT, reason, self._last)

    def stop(self) -> None:
        """Forgets the PDU in work."""
        self.busy, self.due, self._pacing = False, None, False
        self._buffer = bytearray()

    def _first(self, data: bytes, now: float) -> Failure | None:
        first = parse_first_frame(data, self._at)
        if first is None:
            self.ignored += 1
            return None
        if self.busy:
            self.interrupted += 1
            self.stop()
        if first.length > self._max_pdu or self.policy.overflow:
            self._reply(FlowStatus.OVERFLOW)
            reason = f"a PDU of {first.length} bytes is announced, {self._max_pdu} are taken"
            return self._fail(Fault.OVERFLOW, reason, data)
        self.busy = True
        self._length, self._buffer = first.length, bytearray(first.data)
        self._sequence, self._frame_length, self._last = 1, len(data), data
        self._begin_block(now)
        return None

    def _consecutive(self, data: bytes, now: float) -> bytes | Failure | None:
        if not self.busy or self._pacing:
            self.ignored += 1
            return None
        at = self._at + 1
        missing = self._length - len(self._buffer)
        # Shorter than the first frame promised, or than what is missing: not a frame of this PDU (9.6.4).
        if len(data) < self._frame_length and len(data) - at < missing:
            self.ignored += 1
            return None
        sequence = data[self._at] & 0x0F
        if sequence != self._sequence:
            reason = f"consecutive frame {sequence:X} came instead of {self._sequence:X}, {self._so_far()}"
            return self._fail(Fault.WRONG_SEQUENCE_NUMBER, reason, data)
        self._buffer += data[at : at + missing]
        if len(self._buffer) >= self._length:
            pdu = bytes(self._buffer)
            self.stop()
            return pdu
        self._sequence = sequence + 1 & 0x0F
        self._last = data
        self._excused = False
        self.due = now + self._n_cr_s
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._begin_block(now)
        return None

    def _begin_block(self, now: float) -> None:
        self._left = None
        self._waits = self.policy.waits
        self._control(now)

    def _control(self, now: float) -> None:
        """The next flow control of a block: "wait" while any is left, then "continue"."""
        self._pacing = self._waits > 0
        if self._pacing:
            self._waits -= 1
            self._reply(FlowStatus.WAIT)
            self.due = now + self.policy.wait_s
        else:
            self._left = self.policy.block_size or None
            self._excused = False
            self._reply(FlowStatus.CONTINUE)
            self.due = now + self._n_cr_s

    def _so_far(self) -> str:
        return f"after {len(self._buffer)} of {self._length} bytes"

    def _reply(self, status: FlowStatus) -> None:
        if not self.policy.silent:
            policy = self.policy
            self.replies.append(
                flow_control(status, policy.block_size, policy.stmin, self._padding, self._reply_prefix)
            )

    def _fail(self, kind: Fault, reason: str, data: bytes) -> Failure:
        self.stop()
        return Failure(kind, reason, data)
