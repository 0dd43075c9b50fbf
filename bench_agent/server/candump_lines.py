"""Packed frames as lines of candump's log format, thousands at a time; see `bench_agent.protocol.candump`."""

import numpy as np
import numpy.typing as npt

from bench_agent.protocol import candump, frames
from ecu_adapters.frame_records import Records

_HEX_OF_NIBBLE = np.frombuffer(b"0123456789ABCDEF", "u1")
_HEX = _HEX_OF_NIBBLE[np.arange(256)[:, None] >> np.array([4, 0]) & 15]


def encode(records: Records, bus: str) -> bytes:
    """Packed records as lines."""
    if np.any(records["id"] & (frames.ERROR | frames.REMOTE)) or np.any(records["flags"] & frames.FD):
        listed = frames.iter_records(records.tobytes(), records.dtype.itemsize)
        return "".join(candump.line(frame, bus) for frame in listed).encode()
    return _encode_plain(records, bus.encode())


def _encode_plain(records: Records, bus: bytes) -> bytes:
    """Classic data frames, all at once: each line is a row of characters, in which NUL is what the line leaves out."""
    extended = (records["id"] & frames.EXTENDED) != 0
    identifiers = _HEX[(records["id"] & frames.ID_MASK).astype(">u4").view("u1").reshape(-1, 4)].reshape(-1, 8)
    identifiers[~extended, :5] = 0
    data = _HEX[records["data"][:, :8]]
    data[np.arange(8) >= records["length"][:, None]] = 0
    us = records["stamp"] // 1000
    parts = (
        b"(", _digits(us // 1_000_000, 10), b".", _digits(us % 1_000_000, 6), b") " + bus + b" ",
        identifiers, b"#", data.reshape(-1, 16), b" ",
        np.where(records["flags"] & frames.OWN, ord("T"), ord("R")).astype("u1")[:, None], b"\n",
    )  # fmt: skip
    count = len(records)
    lines = np.hstack(
        [
            np.broadcast_to(np.frombuffer(part, "u1"), (count, len(part))) if isinstance(part, bytes) else part
            for part in parts
        ]
    )
    text: bytes = lines[lines != 0].tobytes()
    return text


def _digits(numbers: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint8]:
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return (numbers[:, None] // powers % 10 + ord("0")).astype("u1")
