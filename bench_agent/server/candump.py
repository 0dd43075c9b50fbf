"""Frames as lines of candump's log format (``candump -L``), with the direction at the end as ``candump -x`` has it.

(1699999999.123456) powertrain 123#1122 R
"""

from collections.abc import Iterable

from bench_agent.protocol import frames
from bench_agent.protocol.frames import Frame


def line(frame: Frame, bus: str) -> str:
    """One line, with its end; times in µs."""
    seconds, ns = divmod(frame.timestamp_ns, 1_000_000_000)
    # An error frame's class is in the bits of its identifier, and its mark among them.
    what = f"{frame.can_id:08X}#{frame.data.hex().upper()}" if frame.can_id & frames.ERROR else str(frame)
    return f"({seconds}.{ns // 1000:06d}) {bus} {what} {'T' if frame.flags & frames.OWN else 'R'}\n"


def encode(records: Iterable[bytes], bus: str) -> bytes:
    """Packed records as lines."""
    return "".join(line(frames.unpack(record), bus) for record in records).encode()


def decode(lines: bytes) -> list[Frame]:
    """The frames of whole lines. Raises ValueError, with the line, for one that is none."""
    return [_parse(text) for text in lines.decode("ascii", "backslashreplace").splitlines()]


def _parse(text: str) -> Frame:
    try:
        stamp, _, what, direction = text.split()
        seconds, _, fraction = stamp.strip("()").partition(".")
        time_ns = int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0"))
        identifier, _, payload = what.partition("#")
        can_id = int(identifier, 16)
        if len(identifier) == 8 and not can_id & frames.ERROR:
            can_id |= frames.EXTENDED
        flags = frames.OWN if direction == "T" else 0
        if payload.startswith("#"):
            flags |= frames.FD | int(payload[1], 16)
            payload = payload[2:]
        elif payload.startswith("R"):
            can_id, payload = can_id | frames.REMOTE, ""
        return Frame(time_ns, can_id, flags, bytes.fromhex(payload))
    except (ValueError, IndexError) as error:
        raise ValueError(f"no line of a candump log: {text!r}") from error
