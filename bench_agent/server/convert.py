"""python-can's messages to and from the protocol's frames."""

from collections.abc import Iterable

import can
import numpy as np

from bench_agent.protocol import bench_pb2, frames
from bench_agent.protocol.frames import Frame
from ecu_adapters import frame_records
from ecu_adapters.frame_records import CLASSIC, FD, Records, can_id, to_ns


def timestamp_ns(message: can.Message) -> int:
    """Nanoseconds since the Unix epoch, in whole µs, as the hub stamps its records: a float carries about 0.2 µs."""
    return to_ns(message.timestamp)


def to_frame(message: can.Message) -> Frame:
    """The protocol's frame for a message that a hub delivered."""
    return Frame(timestamp_ns(message), can_id(message), frame_records.flags(message), bytes(message.data or b""))


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


def packed(listed: Iterable[Frame]) -> Records:
    """Frames as records."""
    return to_records(frames.batch(listed))


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
