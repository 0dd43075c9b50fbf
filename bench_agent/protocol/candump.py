"""Lines of candump's log format (``candump -L``), with the direction at the end as ``candump -x`` has it.

(1699999999.123456) powertrain 123#1122 R
"""

from typing import NamedTuple

from bench_agent.protocol import frames
from bench_agent.protocol.frames import Frame


class LoggedFrame(NamedTuple):
    """A frame and the channel that the log has it on."""

    channel: str
    frame: Frame


def line(frame: Frame, bus: str) -> str:
    """One line, with its end; times in µs."""
    seconds, ns = divmod(frame.timestamp_ns, 1_000_000_000)
    # An error frame's class is in the bits of its identifier, and its mark among them.
    what = f"{frame.can_id:08X}#{frame.data.hex().upper()}" if frame.can_id & frames.ERROR else str(frame)
    return f"({seconds}.{ns // 1000:06d}) {bus} {what} {'T' if frame.flags & frames.OWN else 'R'}\n"


def decode(lines: bytes) -> list[Frame]:
    """The frames of whole lines. Raises ValueError, with the line, for one that is none."""
    return [parse(text).frame for text in lines.decode("ascii", "backslashreplace").splitlines()]


def parse(text: str) -> LoggedFrame:
    """The frame of one line, with or without a direction. Raises ValueError, with the line, when it is none."""
    try:
        stamp, channel, what, *direction = text.split()
        seconds, _, fraction = stamp.removeprefix("(").removesuffix(")").partition(".")
        time_ns = int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
        identifier, mark, payload = what.partition("#")
        can_id = int(identifier, 16)
        if len(identifier) == 8 and not can_id & frames.ERROR:
            can_id |= frames.EXTENDED
        flags = frames.OWN if direction == ["T"] else 0
        if payload.startswith("#"):
            flags |= frames.FD | int(payload[1], 16)
            payload = payload[2:]
        elif payload.startswith("R"):
            can_id, payload = can_id | frames.REMOTE, ""
        frame = Frame(time_ns, can_id, flags, bytes.fromhex(payload))
    except (ValueError, IndexError):
        mark = ""
    if not mark or len(direction) > 1:
        raise ValueError(f"no line of a candump log: {text!r}")
    if not frame.can_id & frames.ERROR:
        try:
            frames.check(frame)
        except ValueError as error:
            raise ValueError(f"no frame: {text!r}: {error}") from None
    return LoggedFrame(channel, frame)
