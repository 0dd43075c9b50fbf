"""A bench's bus as a bus of python-can: ``can.Bus(interface="labd", channel="BENCH/BUS")``.

Whatever is made for python-can (its logger, player and viewer, can-isotp, udsoncan, cantools) then works on a leased
bench, unchanged. The lease must be held already; it is kept alive as long as the bus is open.
"""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import can
from can.typechecking import AutoDetectedConfig, CanFilters

from bench_agent.client import BenchClient, BenchError, BusFault, Frame, FrameFilter, FrameStream, InvalidRequest
from bench_agent.protocol.frames import (
    BITRATE_SWITCH,
    ERROR,
    ERROR_STATE,
    EXTENDED,
    FD,
    ID_MASK,
    OWN,
    REMOTE,
)
from labd.client import HELD, LabClient, LabError, held_bench

_WAIT_S = 1.0
"""How long a read without a timeout waits at a time; python-can asks again."""
_LOOK_S = 1.0
"""How long looking for buses may take when python-can asks every driver what there is."""


class LabdBus(can.BusABC):
    """A CAN bus of a leased bench. One thread may receive, any may send."""

    def __init__(
        self,
        channel: str,
        can_filters: CanFilters | None = None,
        *,
        url: str | None = None,
        lease: str | None = None,
        holder: str | None = None,
        address: str | None = None,
        token: str | None = None,
        receive_own_messages: bool = False,
        **_others: object,
    ) -> None:
        """Opens BUS of BENCH: ``channel`` is ``BENCH/BUS``.

        The lease is the one named by ``lease`` (or LABD_LEASE), else the one that ``holder`` (or LABD_HOLDER, or
        user@host) holds, asked from the labd at ``url`` (or LABD_URL). With ``address`` (host:port of the agent) and
        ``token`` of the lease, no labd is asked, and there is no TLS. ``receive_own_messages``: also what the agent
        itself sends, as frames with ``is_rx`` False. Filters work on the agent. Bit rates and the like are the bench's
        own and are ignored.

        Raises ValueError for a channel that is none, CanInitializationError when there is no such lease or bus.
        """
        bench, slash, bus = str(channel).partition("/")
        if not (bench and slash and bus):
            raise ValueError(f"channel is {channel!r}; it must be BENCH/BUS, for example bench-1/powertrain")
        self._channel = str(channel)
        self._own = receive_own_messages
        self._received: deque[Frame] = deque()
        self._after_ns = 0
        self._sending = threading.Lock()
        self._stream: FrameStream | None = None
        self._cleanup = contextlib.ExitStack()
        try:
            with self._cleanup as opening:
                tls = None
                if address is None or token is None:
                    held = held_bench(bench, url=url, lease_id=lease, holder=holder)
                    address, token, tls = opening.enter_context(held)
                client = opening.enter_context(BenchClient(address, bench, token, tls=tls))
                self._bus = client.bus(bus)
                [described] = [one for one in client.describe().buses if one.name == bus]
                self._can_protocol = can.CanProtocol.CAN_FD if described.fd else can.CanProtocol.CAN_20
                self.channel_info = f"labd {bench}/{bus} ({described.interface} {described.channel})"
                super().__init__(channel=channel, can_filters=can_filters)
                self._cleanup = opening.pop_all()
        except (LabError, BenchError, can.CanOperationError) as error:
            raise can.CanInitializationError(f"labd {channel}: {error}") from error

    def _apply_filters(self, filters: CanFilters | None) -> None:
        # The new subscription first: no frame may be lost between the two, and none told twice.
        stream = self._bus.stream([_filter(one) for one in filters or ()], own_frames=self._own)
        try:
            stream.__enter__()
        except BenchError as error:
            raise can.CanOperationError(f"{self._bus.name}: filters are refused: {error}") from error
        former, self._stream = self._stream, stream
        if former is not None:
            while (block := former.read(0)) is not None:
                self._received += block
            former.close()
            self._received = deque(frame for frame in self._received if self._matches_filters(to_message(frame)))
            self._after_ns = max((frame.timestamp_ns for frame in self._received), default=0)

    def _recv_internal(self, timeout: float | None) -> tuple[can.Message | None, bool]:
        stream = self._stream
        if stream is None:
            raise can.CanOperationError("the bus is closed")
        if not self._received:
            try:
                block = stream.read(_WAIT_S if timeout is None else max(timeout, 0))
            except BenchError as error:
                self._state = can.BusState.ERROR
                raise can.CanOperationError(f"{self.channel_info}: {error}") from error
            if block is None:
                return None, True
            self._received += (frame for frame in block if frame.timestamp_ns > self._after_ns)
            if not self._received:
                return None, True
        return to_message(self._received.popleft(), self._channel), True

    def send(self, msg: can.Message, timeout: float | None = None) -> None:
        """Returns when the bench's bus driver has taken the frame; ``timeout`` is the agent's own.

        Raises CanOperationError when it did not.
        """
        frame = to_frame(msg)
        try:
            with self._sending:
                if self._stream is None:
                    raise can.CanOperationError("the bus is closed")
                self._bus.send(frame)
        except (BusFault, InvalidRequest) as error:
            raise can.CanOperationError(str(error)) from error
        except BenchError as error:
            raise can.CanOperationError(f"{self.channel_info}: {error}") from error

    @property
    def state(self) -> can.BusState:
        """ERROR once nothing is received any more: the bus, the agent or the lease is gone."""
        return self._state

    @state.setter
    def state(self, new_state: can.BusState) -> None:
        raise NotImplementedError("the bench's agent keeps the state of its buses")

    _state = can.BusState.ACTIVE

    def shutdown(self) -> None:
        """Closes the bus and leaves the lease as it is. May be called twice."""
        super().shutdown()
        # A periodic task that was told to stop may still be sending.
        with self._sending:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        self._cleanup.close()

    @staticmethod
    def _detect_available_configs() -> Sequence[AutoDetectedConfig]:
        """The buses of the benches that are leased, if LABD_URL says where to ask."""
        url = os.environ.get("LABD_URL")
        if not url:
            return []
        try:
            with LabClient(url, timeout_s=_LOOK_S) as lab:
                held = {one["name"] for lease in lab.leases(*HELD) for one in lease["benches"]}
                return [
                    {"interface": "labd", "channel": f"{bench['name']}/{bus['name']}"}
                    for bench in lab.benches()
                    if bench["name"] in held
                    for bus in bench["buses"]
                ]
        except LabError:
            return []


def _filter(wanted: Any) -> FrameFilter:
    can_id, mask = wanted["can_id"], wanted["can_mask"] & ID_MASK
    if "extended" in wanted:
        mask |= EXTENDED
        can_id |= EXTENDED if wanted["extended"] else 0
    return FrameFilter(can_id & mask, mask)


def to_message(frame: Frame, channel: str | None = None) -> can.Message:
    """A frame as python-can has it."""
    can_id, flags = frame.can_id, frame.flags
    return can.Message(
        timestamp=frame.timestamp_ns / 1e9,
        arbitration_id=can_id & ID_MASK,
        is_extended_id=bool(can_id & EXTENDED),
        is_remote_frame=bool(can_id & REMOTE),
        is_error_frame=bool(can_id & ERROR),
        is_fd=bool(flags & FD),
        bitrate_switch=bool(flags & BITRATE_SWITCH),
        error_state_indicator=bool(flags & ERROR_STATE),
        is_rx=not flags & OWN,
        data=frame.data,
        channel=channel,
    )


def to_frame(message: can.Message) -> Frame:
    """A message as the bench takes it. Raises CanOperationError for an error frame."""
    can_id, flags = message.arbitration_id, 0
    if message.is_extended_id:
        can_id |= EXTENDED
    if message.is_remote_frame:
        can_id |= REMOTE
    if message.is_error_frame:
        raise can.CanOperationError("an error frame cannot be sent")
    if message.is_fd:
        flags = FD | (BITRATE_SWITCH if message.bitrate_switch else 0)
        flags |= ERROR_STATE if message.error_state_indicator else 0
    data = b"" if message.is_remote_frame else bytes(message.data or b"")
    return Frame(round((message.timestamp or time.time()) * 1e9), can_id, flags, data)
