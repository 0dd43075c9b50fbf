"""The way of one end's frames to the bus: one by one or many at a time, through a filter that may play faults."""

import asyncio
from collections.abc import Callable, Iterable

import can

from ecu_adapters import frame_records
from ecu_adapters.bus import BusError, BusPort
from ecu_adapters.description import IsoTp
from ecu_adapters.isotp.addressing import IsoTpAddress
from ecu_adapters.isotp.errors import IsoTpError, frame_text
from ecu_adapters.transport import Fault

_FEW = 4
"""Frames that cost less one by one than as an array."""

FrameFilter = Callable[[bytes], Iterable[tuple[float, bytes]]]
"""What becomes of an outgoing frame: any number of frames, each after a delay in s. Nothing: the frame is dropped."""


class FrameOutput:
    """Puts frames on a bus port, addressed to the peer. What it raises, IsoTpError, names the frame that failed."""

    def __init__(
        self, port: BusPort, address: IsoTpAddress, settings: IsoTp, on_late_failure: Callable[[IsoTpError], None]
    ) -> None:
        """``on_late_failure`` is told of frames that the filter has delayed. To be made on the asyncio loop."""
        self.filter: FrameFilter | None = None
        self._port = port
        self._address = address
        self._fd = settings.fd
        self._switch = settings.fd and settings.bitrate_switch
        self._can_id = address.send_id | (frame_records.EXTENDED if address.extended else 0)
        self._flags = frame_records.FD_FRAME if self._fd else 0
        if self._switch:
            self._flags |= frame_records.BITRATE_SWITCH
        self._n_as_s = settings.n_as_ms / 1000
        self._on_late_failure = on_late_failure
        self._loop = asyncio.get_running_loop()
        self._last = b""
        self._delayed: set[asyncio.TimerHandle] = set()

    @property
    def last(self) -> str:
        """The last frame to the peer alone, as candump writes it; empty before the first."""
        return self.text(self._address.send_id, self._last) if self._last else ""

    def send(self, data: bytes) -> None:
        """One frame to the peer. Raises IsoTpError."""
        self._last = data
        if self.filter is None:
            self._put(self._address.send_id, data)
            return
        for delay_s, altered in self.filter(data):
            if delay_s <= 0:
                self._put(self._address.send_id, altered)
            else:
                self._put_later(delay_s, altered)

    def send_all(self, frames: list[bytes]) -> None:
        """The same with several: of many frames, each costs a fraction of one by one."""
        if self.filter is not None or len(frames) <= _FEW:
            for frame in frames:
                self.send(frame)
            return
        taken = self._port.send_records(frame_records.row(self._can_id, self._flags, frames), self._n_as_s)
        if taken.error is not None:
            text = self.text(self._address.send_id, frames[len(taken.records)])
            raise IsoTpError(str(taken.error), Fault.BUS, text) from taken.error
        self._last = frames[-1]

    def send_functional(self, functional_id: int, data: bytes) -> None:
        """One frame to all ECUs, past the filter. Raises IsoTpError."""
        self._put(functional_id, data)

    def close(self) -> None:
        """Forgets what the filter has delayed."""
        for handle in self._delayed:
            handle.cancel()
        self._delayed.clear()

    def text(self, can_id: int, data: bytes) -> str:
        """A frame of this connection, sent or received, as candump writes it."""
        return frame_text(can_id, self._address.extended, data, self._fd or len(data) > 8)

    def _put_later(self, delay_s: float, data: bytes) -> None:
        def put() -> None:
            self._delayed.discard(handle)
            try:
                self._put(self._address.send_id, data)
            except IsoTpError as error:
                self._on_late_failure(error)

        handle = self._loop.call_later(delay_s, put)
        self._delayed.add(handle)

    def _put(self, arbitration_id: int, data: bytes) -> None:
        message = can.Message(
            arbitration_id=arbitration_id,
            is_extended_id=self._address.extended,
            data=data,
            is_fd=self._fd,
            bitrate_switch=self._switch,
        )
        try:
            self._port.send(message, self._n_as_s)
        except BusError as error:
            raise IsoTpError(str(error), Fault.BUS, self.text(arbitration_id, data)) from error
