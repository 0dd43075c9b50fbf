"""python-can's messages to and from the protocol's frames."""

import can
import numpy as np

from bench_agent.protocol import bench_pb2, frames
from bench_agent.protocol.frames import Frame
from ecu_adapters.frame_records import CLASSIC, FD, Records, to_ns

_EXTENDED = frames.EXTENDED
_OWN = frames.OWN


def timestamp_ns(message: can.Message) -> int:
    """Nanoseconds since the Unix epoch, in whole µs, as the hub stamps its records: a float carries about 0.2 µs."""
    return to_ns(message.timestamp)


def can_id(message: can.Message) -> int:
    """The arbitration ID as in SocketCAN, with its flag bits."""
    value = message.arbitration_id
    if message.is_extended_id:
        value |= frames.EXTENDED
    if message.is_remote_frame:
        value |= frames.REMOTE
    if message.is_error_frame:
        value |= frames.ERROR
    return value


def flags(message: can.Message) -> int:
    """The frame's flags byte."""
    value = 0 if message.is_rx else frames.OWN
    if message.is_fd:
        value |= frames.FD
        if message.bitrate_switch:
            value |= frames.BITRATE_SWITCH
        if message.error_state_indicator:
            value |= frames.ERROR_STATE
    return value


def to_frame(message: can.Message) -> Frame:
    """The protocol's frame for a message that a hub delivered."""
    return Frame(timestamp_ns(message), can_id(message), flags(message), bytes(message.data or b""))


def pack(message: can.Message) -> bytes:
    """The packed record of a message: 24 bytes for a classic frame, 80 for CAN FD."""
    if message.is_fd or message.is_remote_frame or message.is_error_frame:
        packer = frames.pack_fd if message.is_fd else frames.pack_classic
        return packer(timestamp_ns(message), can_id(message), flags(message), message.data or b"")
    # The common case without the calls: this runs for every frame of every bus.
    return frames.pack_classic(
        to_ns(message.timestamp),
        message.arbitration_id | _EXTENDED if message.is_extended_id else message.arbitration_id,
        0 if message.is_rx else _OWN,
        message.data,
    )


def logged(frame: Frame) -> can.Message:
    """The message that a frame was, for python-can's log writers."""
    return can.Message(
        timestamp=frame.timestamp_ns / 1e9,
        arbitration_id=frame.arbitration_id,
        is_extended_id=bool(frame.can_id & frames.EXTENDED),
        is_remote_frame=bool(frame.can_id & frames.REMOTE),
        is_error_frame=bool(frame.can_id & frames.ERROR),
        is_fd=bool(frame.flags & frames.FD),
        bitrate_switch=bool(frame.flags & frames.BITRATE_SWITCH),
        error_state_indicator=bool(frame.flags & frames.ERROR_STATE),
        is_rx=not frame.flags & frames.OWN,
        data=frame.data,
    )


def to_records(batch: bench_pb2.FrameBatch) -> Records:
    """Frames as they came over the wire. Raises ValueError, naming the field, when they are no records."""
    frames.check_records(batch.records, batch.record_size)
    return np.frombuffer(batch.records, FD if batch.record_size == frames.FD_SIZE else CLASSIC)


def to_batch(records: Records) -> bench_pb2.FrameBatch:
    """Frames as they go over the wire."""
    return bench_pb2.FrameBatch(records=records.tobytes(), record_size=records.dtype.itemsize)


def to_message(frame: Frame) -> can.Message:
    """A message to be sent. Raises ValueError, naming the field, when it cannot be put on a CAN bus."""
    frames.check(frame)
    if frame.can_id & frames.ERROR:
        raise ValueError("an error frame cannot be sent")
    fd = bool(frame.flags & frames.FD)
    if fd and frame.can_id & frames.REMOTE:
        raise ValueError("CAN FD knows no remote frames")
    return can.Message(
        arbitration_id=frame.arbitration_id,
        is_extended_id=bool(frame.can_id & frames.EXTENDED),
        is_remote_frame=bool(frame.can_id & frames.REMOTE),
        is_fd=fd,
        bitrate_switch=fd and bool(frame.flags & frames.BITRATE_SWITCH),
        error_state_indicator=fd and bool(frame.flags & frames.ERROR_STATE),
        data=b"" if frame.can_id & frames.REMOTE else frame.data,
        dlc=len(frame.data) if frame.can_id & frames.REMOTE else None,
        is_rx=False,
    )
