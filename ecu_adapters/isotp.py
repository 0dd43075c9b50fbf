"""ISO-TP (ISO 15765-2) on a shared bus, without a thread of its own.

The state machine is can-isotp's `TransportLayerLogic`. A hub's reader thread hands frames to the asyncio loop, where
the endpoint feeds them to the state machine and keeps its timers. Single frames, which need no state, bypass it: they
are most of UDS traffic, and the detour costs 0.1 ms each.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import can
import isotp
import structlog

from ecu_adapters.bus import BusError, BusPort
from ecu_adapters.description import EXTENDED_FLAG, Addressing, IsoTp
from ecu_adapters.inbox import Inbox

_FRAMES_PER_TURN = 16
"""Consecutive frames that are sent in one go before the loop's other work gets its turn."""
_SEND_TIMEOUT_S = 0.25
"""How long a full transmit queue of the driver may hold the loop."""
_LOOP_SLACK_S = 0.0001
"""Timers are armed this much late, so that they never fire before the state machine agrees that time is up."""

_log = structlog.get_logger()
# can-isotp logs each protocol error as a warning of its own; here they become exceptions and counters instead.
_LIBRARY_LOG = logging.getLogger("ecu_adapters.isotp.library")
_LIBRARY_LOG.setLevel(logging.CRITICAL)

PduListener = Callable[[bytes, bool], None]
"""Takes a whole PDU, and whether it came by the functional address."""


class IsoTpError(Exception):
    """A PDU could not be sent or received: flow control, sequence number, overflow, time-out, or the bus."""


@dataclass(frozen=True, slots=True)
class IsoTpAddress:
    """Arbitration IDs of one end, normal addressing. ``functional_id`` is received too, in single frames."""

    send_id: int
    receive_id: int
    functional_id: int | None = None
    extended: bool = False

    @classmethod
    def tester(cls, addressing: Addressing) -> Self:
        """The tester's end."""
        return cls(addressing.request_id, addressing.response_id, None, addressing.extended)

    @classmethod
    def ecu(cls, addressing: Addressing) -> Self:
        """The ECU's end."""
        return cls(addressing.response_id, addressing.request_id, addressing.functional_id, addressing.extended)


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
    """

    def __init__(
        self,
        hub: BusPort,
        address: IsoTpAddress,
        settings: IsoTp,
        on_pdu: PduListener,
        *,
        on_receive_error: Callable[[IsoTpError], None] | None = None,
    ) -> None:
        """Raises ValueError when ``settings`` ask for CAN FD on a classic bus."""
        if settings.fd and not hub.config.fd:
            raise ValueError(f"isotp.fd is true, but CAN bus {hub.name!r} is classic; set fd: true on the bus")
        self.stats = IsoTpStats()
        self._hub = hub
        self._address = address
        self._fd = settings.fd
        self._switch = self._fd and settings.bitrate_switch
        self._padding = settings.padding
        self._frame_length = settings.frame_length if self._fd else 8
        self._on_pdu = on_pdu
        self._on_receive_error = on_receive_error
        self._loop = asyncio.get_running_loop()
        self._frames: deque[isotp.CanMessage] = deque()
        self._finished: list[tuple[_Request, bool]] = []
        self._send_error: str | None = None
        self._bus_error: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._logic = self._make_logic(settings)
        self._inbox: Inbox[can.Message] = Inbox(self._loop, self._take)
        flag = EXTENDED_FLAG if address.extended else 0
        ids = {address.receive_id | flag}
        if address.functional_id is not None:
            ids.add(address.functional_id | flag)
        self._subscription = hub.subscribe(self._inbox.put, ids=ids)

    async def send(self, pdu: bytes, *, timeout_s: float = 30.0) -> None:
        """Returns when the driver has taken the last frame. Raises IsoTpError."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._start(pdu, done)
        if done.done():
            return done.result()
        handle = self._loop.call_later(timeout_s, self._give_up, done, timeout_s)
        try:
            await done
        except asyncio.CancelledError:
            # Whoever sends next must not find half a PDU in the way.
            self._logic.clear_tx_queue()
            self._logic.stop_sending()
            self._finished.clear()
            raise
        finally:
            handle.cancel()

    def post(self, pdu: bytes) -> None:
        """Sends without waiting; a failure is counted and logged. PDUs keep their order."""
        self._start(pdu, None)

    def send_functional(self, pdu: bytes, functional_id: int) -> None:
        """Sends a single frame to the functional address. Raises IsoTpError, also when ``pdu`` does not fit one."""
        frame = single_frame(pdu, self._frame_length, self._padding)
        if frame is None:
            raise IsoTpError(f"functional requests fit one frame; {len(pdu)} bytes do not")
        try:
            self._put(functional_id, frame)
        except BusError as error:
            raise IsoTpError(str(error)) from error

    def poll(self) -> None:
        """Takes what the reader thread has left here already: call it before concluding that nothing came."""
        self._inbox.drain()

    def close(self) -> None:
        """Forgets what was in work. Closing twice does nothing."""
        self._closed = True
        self._subscription.close()
        self._inbox.close()
        if self._timer is not None:
            self._timer.cancel()
        self._logic.reset()
        self._settle()

    def _start(self, pdu: bytes, done: "asyncio.Future[None] | None") -> None:
        if self._closed:
            raise IsoTpError("the ISO-TP endpoint is closed")
        if not pdu:
            raise IsoTpError("an empty PDU cannot be sent")
        if not self._logic.transmitting():
            frame = single_frame(pdu, self._frame_length, self._padding)
            if frame is not None:
                self._send_single(frame, done)
                return
        request = _Request(pdu, isotp.TargetAddressType.Physical)
        request.bind(done, self._finished)
        self._logic.tx_queue.put(request)
        self._process()

    def _send_single(self, frame: bytes, done: "asyncio.Future[None] | None") -> None:
        try:
            self._put(self._address.send_id, frame)
        except BusError as error:
            self._fail(done, str(error))
        else:
            self.stats.sent += 1
            if done is not None:
                done.set_result(None)

    def _fail(self, done: "asyncio.Future[None] | None", reason: str) -> None:
        self.stats.send_errors += 1
        if done is None:
            _log.warning("ISO-TP send failed", bus=self._hub.name, id=f"0x{self._address.send_id:X}", reason=reason)
        elif not done.done():
            done.set_exception(IsoTpError(reason))

    def _give_up(self, done: "asyncio.Future[None]", timeout_s: float) -> None:
        if not done.done():
            self._logic.stop_sending()
            self._settle()
        if not done.done():
            done.set_exception(IsoTpError(f"the PDU was not sent within {timeout_s:g} s"))

    def _take(self, message: can.Message) -> None:
        if self._closed or message.is_remote_frame or not message.is_rx:
            return
        data = bytes(message.data)
        if message.arbitration_id != self._address.receive_id:
            pdu = parse_single_frame(data)
            if pdu is None:
                self.stats.ignored += 1
            else:
                self.stats.received += 1
                self._on_pdu(pdu, True)
            return
        if data and data[0] < 0x10 and not self._logic.is_rx_active():
            pdu = parse_single_frame(data)
            if pdu is None:
                self.stats.ignored += 1
            else:
                self.stats.received += 1
                self._on_pdu(pdu, False)
            return
        self._frames.append(
            isotp.CanMessage(
                arbitration_id=message.arbitration_id,
                dlc=message.dlc,
                data=data,
                extended_id=message.is_extended_id,
                is_fd=message.is_fd,
                bitrate_switch=message.bitrate_switch,
            )
        )
        self._process()

    def _process(self) -> None:
        """Lets the state machine act on frames, queue and timers, then reports what came of it."""
        self._logic.budget = _FRAMES_PER_TURN
        self._logic.process()
        if self._bus_error is not None:
            self._logic.stop_sending()
        self._settle()
        while (pdu := self._logic.recv()) is not None:
            self.stats.received += 1
            self._on_pdu(bytes(pdu), False)
        self._arm()

    def _settle(self) -> None:
        """Tells senders how their PDUs fared; after `process`, because the library reports success and then errors."""
        finished, self._finished[:] = self._finished[:], []
        for request, success in finished:
            if success and self._bus_error is None:
                self.stats.sent += 1
                if request.done is not None and not request.done.done():
                    request.done.set_result(None)
            else:
                self._fail(request.done, self._bus_error or self._send_error or "the transmission was stopped")
        if finished:
            self._send_error = None
        self._bus_error = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed:
            return
        logic = self._logic
        delays = [
            max(0.0, timer.timeout / 1e9 - timer.elapsed())
            for timer in (logic.timer_rx_fc, logic.timer_rx_cf)
            if timer.start_time is not None
        ]
        cf_delay = logic.next_cf_delay()
        if cf_delay is not None:
            delays.append(cf_delay)
        elif not logic.tx_queue.empty() and logic.tx_state == logic.TxState.IDLE:
            delays.append(0.0)
        if delays:
            delay = min(delays)
            self._timer = self._loop.call_later(delay + _LOOP_SLACK_S if delay > 0 else 0, self._process)

    def _put(self, arbitration_id: int, data: bytes) -> None:
        message = can.Message(
            arbitration_id=arbitration_id,
            is_extended_id=self._address.extended,
            data=data,
            is_fd=self._fd,
            bitrate_switch=self._switch,
        )
        self._hub.send(message, _SEND_TIMEOUT_S)

    def _send_frame(self, frame: isotp.CanMessage) -> None:
        if self._bus_error is not None:
            return
        try:
            self._put(frame.arbitration_id, frame.data)
        except BusError as error:
            self._bus_error = str(error)

    def _next_frame(self, _timeout_s: float) -> isotp.CanMessage | None:
        return self._frames.popleft() if self._frames else None

    def _on_library_error(self, error: Exception) -> None:
        if isinstance(error, _SEND_ERRORS):
            self._send_error = str(error)
        elif isinstance(error, _RECEIVE_ERRORS):
            self.stats.receive_errors += 1
            if self._on_receive_error is not None:
                self._on_receive_error(IsoTpError(str(error)))
        else:
            self.stats.ignored += 1

    def _make_logic(self, settings: IsoTp) -> "_Logic":
        address = isotp.Address(
            isotp.AddressingMode.Normal_29bits if self._address.extended else isotp.AddressingMode.Normal_11bits,
            txid=self._address.send_id,
            rxid=self._address.receive_id,
        )
        parameters: dict[str, Any] = {
            "stmin": settings.stmin_byte,
            "blocksize": settings.block_size,
            "tx_padding": settings.padding,
            "tx_data_length": self._frame_length,
            # On FD the library pads only up from 8 bytes; ISO 15765-2 wants short frames padded too.
            "tx_data_min_length": 8 if self._fd and settings.padding is not None else None,
            "wftmax": settings.wait_frames,
            "max_frame_size": settings.max_pdu,
            "can_fd": self._fd,
            "bitrate_switch": self._switch,
            "logger_name": _LIBRARY_LOG.name,
            "wait_func": lambda _seconds: None,
        }
        return _Logic(
            rxfn=self._next_frame,
            txfn=self._send_frame,
            address=address,
            error_handler=self._on_library_error,
            params=parameters,
        )


class _Request(isotp.TransportLayerLogic.SendRequest):
    """A PDU to send that says when the state machine is done with it."""

    done: "asyncio.Future[None] | None" = None
    _finished: "list[tuple[_Request, bool]] | None" = None

    def bind(self, done: "asyncio.Future[None] | None", finished: "list[tuple[_Request, bool]]") -> None:
        self.done = done
        self._finished = finished

    def complete(self, success: bool) -> None:
        super().complete(success)
        if self._finished is not None:
            self._finished.append((self, success))


class _Logic(isotp.TransportLayerLogic):
    """The state machine with a limit on frames per call: with STmin 0 it would send 585 frames in a row."""

    budget = _FRAMES_PER_TURN

    def _process_tx(self) -> isotp.TransportLayerLogic.ProcessTxReport:
        if self.budget <= 0 and not self.pending_flow_control_tx:
            return self.ProcessTxReport(msg=None, immediate_rx_required=False)
        report = super()._process_tx()
        if report.msg is not None:
            self.budget -= 1
        return report


_SEND_ERRORS = (
    isotp.errors.FlowControlTimeoutError,
    isotp.errors.OverflowError,
    isotp.errors.UnsupportedWaitFrameError,
    isotp.errors.MaximumWaitFrameReachedError,
    isotp.errors.BadGeneratorError,
)
_RECEIVE_ERRORS = (
    isotp.errors.ConsecutiveFrameTimeoutError,
    isotp.errors.WrongSequenceNumberError,
    isotp.errors.FrameTooLongError,
    isotp.errors.ChangingInvalidRXDLError,
    isotp.errors.InvalidCanFdFirstFrameRXDL,
)
"""Not InvalidCanDataError: frames of no known type are ignored (ISO 15765-2, unexpected arrival of N_PDU)."""


def single_frame(pdu: bytes, frame_length: int, padding: int | None) -> bytes | None:
    """The data of a single frame (ISO 15765-2, 9.6.2), or None when ``pdu`` does not fit ``frame_length`` bytes."""
    length = len(pdu)
    if length <= 7:
        data = bytes((length,)) + pdu
        return data if padding is None else data.ljust(8, bytes((padding,)))
    if length > frame_length - 2:
        return None
    # Beyond 8 bytes only some lengths exist, so that padding is a must; CC is the standard's default.
    target = next(size for size in (12, 16, 20, 24, 32, 48, 64) if size >= length + 2)
    return (bytes((0, length)) + pdu).ljust(target, bytes((0xCC if padding is None else padding,)))


def parse_single_frame(data: bytes) -> bytes | None:
    """The PDU of a single frame, or None when ``data`` is no valid one."""
    if not data or data[0] > 0x0F:
        return None
    if length := data[0]:
        # The short form is for frames of up to 8 bytes (ISO 15765-2, 9.6.2.1).
        return data[1 : 1 + length] if length <= len(data) - 1 and len(data) <= 8 else None
    if len(data) <= 8 or not 0 < data[1] <= len(data) - 2:
        return None
    return data[2 : 2 + data[1]]
