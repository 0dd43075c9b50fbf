"""Packed frames as Vector's Binary Logging File, in containers that each can be read by itself.

python-can's writer builds one object at a time, lets objects run from one container into the next, and writes the
start time only at the end: after a crash every timestamp is wrong, and nothing can be read from the middle. Here a row
of records becomes one container at once, and the header is right after every container. python-can's reader reads both.
"""

import io
import zlib
from collections.abc import Iterator

import can
import numpy as np
from can.io import blf as layout

from bench_agent.protocol import frames
from bench_agent.protocol.frames import Frame
from bench_agent.server import convert
from ecu_adapters.frame_records import Records

HEADER_SIZE = layout.FILE_HEADER_SIZE
MOST_RECORDS = 1024
"""In one container: 64-byte frames then just fit into the 128 KiB that readers expect at most."""

_MS = 1_000_000
_COMPRESSION = 1
"""Traces are written all the time and read rarely: zlib's fastest level still halves them."""
_CHANNEL = 1
_OBJECT = [
    ("signature", "S4"),
    ("header_size", "<u2"),
    ("header_version", "<u2"),
    ("size", "<u4"),
    ("type", "<u4"),
    ("time_flags", "<u4"),
    ("client", "<u2"),
    ("version", "<u2"),
    ("time", "<u8"),
    ("channel", "<u2"),
    ("flags", "u1"),
    ("dlc", "u1"),
    ("id", "<u4"),
]
_CLASSIC = np.dtype([*_OBJECT, ("data", "V8")])
_FD = np.dtype(
    [*_OBJECT, ("frame_length", "<u4"), ("bits", "u1"), ("fd", "u1"), ("valid", "u1"), ("pad", "V5"), ("data", "V64")]
)
_OBJECT_HEADER = layout.OBJ_HEADER_BASE_STRUCT.size + layout.OBJ_HEADER_V1_STRUCT.size
_DLC = np.array([can.util.len2dlc(length) for length in range(65)], dtype="u1")


def whole_ms(time_ns: int) -> int:
    """The start time of a file that a header can express: not after ``time_ns``."""
    return time_ns // _MS * _MS


def header(start_ns: int, stop_ns: int, *, file_size: int, uncompressed: int, objects: int) -> bytes:
    """The header of a file that starts at ``start_ns`` (of `whole_ms`); ``file_size`` in bytes, itself included."""
    times = (*layout.timestamp_to_systemtime(start_ns / 1e9), *layout.timestamp_to_systemtime(stop_ns / 1e9))
    packed = layout.FILE_HEADER_STRUCT.pack(
        b"LOGG", HEADER_SIZE, 5, 0, 0, 0, 2, 6, 8, 1, file_size, uncompressed + HEADER_SIZE, objects, 0, *times
    )
    return packed.ljust(HEADER_SIZE, b"\0")


def container(records: Records, start_ns: int) -> tuple[bytes, int]:
    """Records as one container, and its size before compression. At most `MOST_RECORDS`."""
    data = b"".join(
        _errors(row, start_ns) if row["id"][0] & frames.ERROR else _objects(row, start_ns) for row in _runs(records)
    )
    packed = zlib.compress(data, _COMPRESSION)
    head = layout.OBJ_HEADER_BASE_STRUCT.size + layout.LOG_CONTAINER_STRUCT.size
    size = head + len(packed)
    whole = b"".join(
        (
            layout.OBJ_HEADER_BASE_STRUCT.pack(
                b"LOBJ", layout.OBJ_HEADER_BASE_STRUCT.size, 1, size, layout.LOG_CONTAINER
            ),
            layout.LOG_CONTAINER_STRUCT.pack(layout.ZLIB_DEFLATE, len(data)),
            packed,
            bytes(size % 4),
        )
    )
    return whole, head + len(data)


def read(containers: bytes, start_ns: int) -> Iterator[Frame]:
    """The frames of whole containers. Raises ValueError when they are damaged."""
    head = header(start_ns, start_ns, file_size=0, uncompressed=0, objects=0)
    try:
        yield from map(convert.to_frame, can.BLFReader(io.BytesIO(head + containers)))
    except (layout.BLFParseError, zlib.error) as error:
        raise ValueError(f"BLF container is damaged: {str(error) or type(error).__name__}") from error


def _runs(records: Records) -> list[Records]:
    """The records in rows of error frames and rows of others."""
    is_error = (records["id"] & frames.ERROR) != 0
    return np.split(records, np.flatnonzero(is_error[1:] != is_error[:-1]) + 1)


def _objects(rows: Records, start_ns: int) -> bytes:
    fd = rows.dtype.itemsize == frames.FD_SIZE
    # A classic frame among FD frames becomes an object of theirs, which tells the two apart by a flag.
    objects = np.zeros(len(rows), dtype=_FD if fd else _CLASSIC)
    objects["signature"] = b"LOBJ"
    objects["header_size"] = _OBJECT_HEADER
    objects["header_version"] = 1
    objects["size"] = objects.dtype.itemsize
    objects["type"] = layout.CAN_FD_MESSAGE if fd else layout.CAN_MESSAGE
    objects["time_flags"] = layout.TIME_ONE_NANS
    objects["time"] = np.maximum(rows["stamp"] - start_ns, 0)
    objects["channel"] = _CHANNEL
    own, remote = rows["flags"] & frames.OWN != 0, rows["id"] & frames.REMOTE != 0
    objects["flags"] = own * layout.DIR + remote * layout.REMOTE_FLAG
    objects["dlc"] = _DLC[rows["length"]]
    objects["id"] = rows["id"] & (frames.ID_MASK | frames.EXTENDED)
    objects["data"] = rows["data"].copy().view(objects.dtype["data"]).ravel()
    if fd:
        flags = rows["flags"]
        objects["fd"] = (
            (flags & frames.FD != 0) * layout.EDL
            + (flags & frames.BITRATE_SWITCH != 0) * layout.BRS
            + (flags & frames.ERROR_STATE != 0) * layout.ESI
        )
        objects["valid"] = rows["length"]
    return objects.tobytes()


def _errors(records: Records, start_ns: int) -> bytes:
    objects = []
    for frame in frames.iter_records(records.tobytes(), records.dtype.itemsize):
        body = layout.CAN_ERROR_EXT_STRUCT.pack(
            _CHANNEL, 0, 0, 0, 0, len(frame.data), 0, frame.arbitration_id, 0, frame.data
        )
        size = _OBJECT_HEADER + len(body)
        objects += [
            layout.OBJ_HEADER_BASE_STRUCT.pack(b"LOBJ", _OBJECT_HEADER, 1, size, layout.CAN_ERROR_EXT),
            layout.OBJ_HEADER_V1_STRUCT.pack(layout.TIME_ONE_NANS, 0, 0, max(frame.timestamp_ns - start_ns, 0)),
            body,
        ]
    return b"".join(objects)
