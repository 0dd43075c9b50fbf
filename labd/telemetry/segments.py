"""The form of a segment, a file of the spool: records one after the other, each with its length and checksums.

A record that was being written when labd was killed, or the machine lost power, is recognised by them.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAGIC = b"labdspl1"
"""At the beginning of each segment: the form, and its version."""
_HEADER = struct.Struct("<III")
_CHECKSUM = struct.Struct("<I")
HEADER_SIZE = _HEADER.size + _CHECKSUM.size
PAYLOAD_MAX = 16 * 2**20
"""Bytes; a length beyond is damage."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where a record is in its segment."""

    offset: int
    end: int
    points: int
    """How many lines it holds."""
    payload: bytes | None
    """None: damaged, though its header is sound."""


def record(payload: bytes, points: int) -> bytes:
    """As it is written: the length of the payload, how many points, the payload's CRC-32, the header's CRC-32."""
    header = _HEADER.pack(len(payload), points, zlib.crc32(payload))
    return header + _CHECKSUM.pack(zlib.crc32(header)) + payload


def records(file: BinaryIO, offset: int, *, payloads: bool) -> Iterator[Record]:
    """The sound and damaged records from ``offset`` on, up to the first whose header is not whole.

    Without ``payloads`` only headers are read: a payload counts as sound (an empty one stands for it) if it is long
    enough.
    """
    size = file.seek(0, 2)
    while True:
        file.seek(offset)
        head = file.read(HEADER_SIZE)
        if len(head) < HEADER_SIZE or _CHECKSUM.unpack_from(head, _HEADER.size)[0] != zlib.crc32(head[: _HEADER.size]):
            return
        length, points, checksum = _HEADER.unpack_from(head)
        end = offset + HEADER_SIZE + length
        if end > size or length > PAYLOAD_MAX:
            yield Record(offset, min(end, size), points, None)
            return
        payload: bytes | None = b""
        if payloads:
            payload = file.read(length)
            if zlib.crc32(payload) != checksum:
                payload = None
        yield Record(offset, end, points, payload)
        offset = end


def is_segment(path: Path) -> bool:
    """Whether the file begins as one of ours."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
