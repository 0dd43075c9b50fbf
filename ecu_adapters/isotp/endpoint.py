"""One end of an ISO-TP connection: the state machines of this package on a bus and an asyncio loop, without a thread.

A hub's reader hands frames to the loop, where they are fed to the state machines; the loop's timers wake those up.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import can
import structlog

from ecu_adapters.bus import EXTENDED_FLAG, BusPort
from ecu_adapters.description import IsoTp
from ecu_adapters.inbox import Inbox
from ecu_adapters.isotp.addressing import IsoTpAddress
from ecu_adapters.isotp.codec import FLOW_CONTROL, parse_single_frame, single_frame
from ecu_adapters.isotp.due_timer import DueTimer
from ecu_adapters.isotp.errors import Failure, IsoTpError, closed
from ecu_adapters.isotp.frame_output import FrameFilter, FrameOutput
from ecu_adapters.isotp.outgoing import Outgoing
from ecu_adapters.isotp.receiver import FlowControlPolicy, Receiver
from ecu_adapters.isotp.sender import Sender
from ecu_adapters.transport import ABSENCE_S, Fault, PduListener

_log = structlog.get_logger()


@dataclass(slots=True)
class IsoTpStats:
    """Counters since the endpoint was opened."""

    sent: int = 0
    """PDUs whose last frame the driver has taken."""
    received: int = 0
    send_errors: int = 0
    receive_errors: int = 0
    ignored: int = 0
    """Frames with our ID that are no part of a transfer in work."""


class IsoTpEndpoint:
    """One end of an ISO-TP connection on a hub. Made, used and closed on one asyncio loop.

    ``on_pdu`` is called on the loop for every PDU; ``on_receive_error`` when a reception that had begun fails.
    ``frame_filter``, if set, decides what becomes of every outgoing frame: how a simulated ECU plays a faulty one.
    """

    def __init__(
        self,
        hub: BusPort,
        address: IsoTpAddress,
        settings: IsoTp,
        on_pdu: PduListener,
        *,
        on_receive_error: Callable[[IsoTpError], None] | None = None,
        frame_filter: FrameFilter | None = None,
    ) -> None:
        """Raises ValueError when ``settings`` ask for CAN FD on a classic bus."""
        if settings.fd and not hub.config.fd:
            raise ValueError(f"isotp.fd is true, but CAN bus {hub.name!r} is classic; set fd: true on the bus")
        self.policy = FlowControlPolicy(settings.block_size, settings.stmin_byte)
        """How the peer's sending is paced."""
        self._stats = IsoTpStats()
        self._hub = hub
        self._address = address
        self._padding = settings.padding
        self._frame_length = settings.frame_length if settings.fd else 8
        self._on_pdu = on_pdu
        self._on_receive_error = on_receive_error
        self._loop = asyncio.get_running_loop()
        self._lost: tuple[float, IsoTpError] | None = None
        self._timer = DueTimer(self._loop, self._wake)
        self._output = FrameOutput(hub, address, settings, self._late_failure)
        self._output.filter = frame_filter
        self._closed = False
        self._sender = Sender(
            frame_length=self._frame_length,
            padding=self._padding,
            prefix=address.send_prefix,
            wait_frames=settings.wait_frames,
            n_bs_s=settings.n_bs_ms / 1000,
        )
        self._outgoing = Outgoing(
            self._sender, self._output, self._single, on_lost=self._lost_unseen, on_change=self._arm
        )
        self._receiver = Receiver(
            policy=self.policy,
            padding=self._padding,
            prefix=address.receive_prefix,
            reply_prefix=address.send_prefix,
            max_pdu=settings.max_pdu,
            n_cr_s=settings.n_cr_ms / 1000,
        )
        self._prefix_length = len(address.receive_prefix)
        self._inbox: Inbox[can.Message] = Inbox(self._loop, self._take, on_drop=hub.note_late)
        flag = EXTENDED_FLAG if address.extended else 0
        ids = {address.receive_id | flag}
        if address.functional_id is not None:
            ids.add(address.functional_id | flag)
        self._subscription = hub.subscribe(self._hear, ids=ids)

    @property
    def stats(self) -> IsoTpStats:
        """Counters, as they are now."""
        stats = self._stats
        stats.sent, stats.send_errors = self._outgoing.sent, self._outgoing.failed
        stats.ignored = self._receiver.ignored
        return stats

    @property
    def last_frame(self) -> str:
        """The last frame that went to the peer alone, as candump writes it; empty before the first."""
        return self._output.last

    @property
    def frame_filter(self) -> FrameFilter | None:
        """Decides what becomes of every outgoing frame to the peer; None: it is sent."""
        return self._output.filter

    @frame_filter.setter
    def frame_filter(self, frame_filter: FrameFilter | None) -> None:
        self._output.filter = frame_filter

    @property
    def receiving(self) -> bool:
        """Whether the first frame of a PDU has come, and not yet its last one."""
        return self._receiver.busy

    def lost(self, since: float) -> IsoTpError | None:
        """The PDU of which not all has come: the one in reception, else the last that failed after ``since``.

        ``since`` is in s, on the monotonic clock.
        """
        self._inbox.drain()
        gap = self._receiver.gap()
        if gap is not None:
            return self._error(gap)
        return self._lost[1] if self._lost is not None and self._lost[0] >= since else None

    async def connect(self, *, timeout_s: float = 30.0) -> None:
        """Nothing to do: a bus has no connections."""

    async def send(self, pdu: bytes, *, timeout_s: float = 30.0) -> None:
        """Returns when the driver has taken the last frame. Raises IsoTpError."""
        self._check_open()
        await self._outgoing.send(pdu, timeout_s)

    def post(self, pdu: bytes) -> None:
        """Sends without waiting; a failure is counted and logged. PDUs keep their order. Raises IsoTpError."""
        self._check_open()
        self._outgoing.post(pdu)

    def send_functional(self, pdu: bytes) -> None:
        """Sends a single frame to the functional address.

        Raises IsoTpError, also when ``pdu`` does not fit one frame, and when there is no functional address.
        """
        if self._address.functional_id is None:
            raise IsoTpError("the ECU's description names no functional address", Fault.INVALID_FRAME)
        frame = single_frame(pdu, self._frame_length, self._padding, self._address.functional_prefix)
        if frame is None:
            message = f"functional requests fit one frame; {len(pdu)} bytes do not"
            raise IsoTpError(message, Fault.OVERFLOW)
        self._output.send_functional(self._address.functional_id, frame)

    def poll(self) -> None:
        """Takes what the reader thread has left here already: call it before concluding that nothing came."""
        self._inbox.drain()

    def close(self) -> None:
        """Forgets what was in work. Closing twice does nothing."""
        self._closed = True
        self._subscription.close()
        self._inbox.close()
        self._timer.cancel()
        self._receiver.stop()
        self._outgoing.close()

    # Sending

    def _single(self, pdu: bytes) -> bytes | None:
        """The one frame that carries ``pdu``, if one does."""
        if not pdu:
            raise IsoTpError("an empty PDU cannot be sent", Fault.INVALID_FRAME)
        return single_frame(pdu, self._frame_length, self._padding, self._address.send_prefix)

    def _late_failure(self, error: IsoTpError) -> None:
        self._outgoing.fail(None, error)

    def _lost_unseen(self, error: IsoTpError) -> None:
        place = {"bus": self._hub.name, "id": f"0x{self._address.send_id:X}"}
        _log.warning("ISO-TP send failed", **place, reason=str(error), frame=error.frame)

    def _check_open(self) -> None:
        if self._closed:
            raise closed()

    # Receiving

    def _hear(self, message: can.Message) -> None:
        if message.is_rx and not message.is_remote_frame:
            self._inbox.put(message)

    def _take(self, message: can.Message) -> None:
        if self._closed:
            return
        data = bytes(message.data)
        address = self._address
        prefix = address.receive_prefix
        if message.arbitration_id != address.receive_id or (prefix and data[:1] != prefix):
            self._take_functional(message.arbitration_id, data)
            return
        at = self._prefix_length
        now = time.monotonic()
        if len(data) > at and data[at] >> 4 == FLOW_CONTROL:
            if not self._outgoing.busy:
                self._receiver.ignored += 1
                return
            failure = self._sender.take(data, now)
            if failure is None:
                self._outgoing.proceed(now)
            else:
                self._outgoing.finish(self._error(failure))
            self._arm()
            return
        outcome = self._receiver.take(data, now)
        if self._receiver.replies:
            self._reply()
        if isinstance(outcome, bytes):
            self._stats.received += 1
            self._on_pdu(outcome, False)
        elif outcome is not None:
            self._report(self._error(outcome))
        if self._receiver.busy:
            self._arm()

    def _take_functional(self, arbitration_id: int, data: bytes) -> None:
        address = self._address
        prefix = address.functional_prefix
        if arbitration_id != address.functional_id or (prefix and data[:1] != prefix):
            return  # on an ID that several ECUs share, for another one
        pdu = parse_single_frame(data, len(prefix))
        if pdu is None:
            self._receiver.ignored += 1
        else:
            self._stats.received += 1
            self._on_pdu(pdu, True)

    def _reply(self) -> None:
        replies, self._receiver.replies = self._receiver.replies, []
        try:
            for reply in replies:
                self._output.send(reply)
        except IsoTpError as error:
            self._receiver.stop()
            self._report(error)

    def _report(self, error: IsoTpError) -> None:
        self._stats.receive_errors += 1
        self._lost = time.monotonic(), error
        if self._on_receive_error is not None:
            self._on_receive_error(error)

    def _error(self, failure: Failure) -> IsoTpError:
        can_id = self._address.receive_id if failure.received else self._address.send_id
        text = self._output.text(can_id, failure.data) if failure.data else ""
        return IsoTpError(failure.reason, failure.kind, text)

    # Time

    def _arm(self) -> None:
        if not self._closed:
            self._timer.arm(self._sender.due, self._receiver.due)

    def _wake(self, late_s: float) -> None:
        # A reader thread may have brought what is waited for, and this loop was late.
        self._inbox.drain()
        now = time.monotonic()
        if late_s > ABSENCE_S:
            self._sender.excuse(now + late_s)
            self._receiver.excuse(now + late_s)
        failure = self._sender.expire(now)
        if failure is not None:
            self._outgoing.finish(self._error(failure))
        failure = self._receiver.expire(now)
        if failure is not None:
            self._report(self._error(failure))
        if self._receiver.replies:
            self._reply()
        self._outgoing.proceed(now)
        self._arm()
