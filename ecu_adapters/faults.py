"""Faults on the way of a frame: dropped, delayed, sent twice, changed. Pure, and the same again for the same seed."""

import random
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import can

from ecu_adapters.bus import EXTENDED_FLAG


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to some frames."""

    can_id: int = 0
    mask: int = 0
    """Frames with (ID & mask) == (can_id & mask), in SocketCAN form (bit 31: 29 bits); mask 0: all."""
    probability: float = 1.0
    """Of a frame that matches, 0 .. 1."""
    seed: int = 0
    drop: bool = False
    delay_s: float = 0.0
    copies: int = 0
    """So many times more than once."""
    flip: bytes = b""
    """XORed with the data, from the first byte on; what goes beyond the data is left out."""
    new_id: int | None = None
    """In SocketCAN form."""
    length: int | None = None
    """Data cut, or filled up with zeros, to so many bytes."""


class Onward(NamedTuple):
    """A frame that goes on."""

    delay_s: float
    message: can.Message


class FaultyWay:
    """Frames of one direction. Every fault draws from its own seed, once for each frame that it matches."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        # No secret: a test that failed must fail the same way again.
        self._faults = [(fault, random.Random(fault.seed)) for fault in faults]  # noqa: S311
        self.struck = [0] * len(self._faults)
        """How many frames each fault has struck."""

    def pass_on(self, message: can.Message) -> list[Onward]:
        """What becomes of a frame, which itself is left as it is. Faults apply in their order."""
        can_id = message.arbitration_id | (EXTENDED_FLAG if message.is_extended_id else 0)
        delay_s, copies = 0.0, 1
        for index, (fault, draw) in enumerate(self._faults):
            if can_id & fault.mask != fault.can_id & fault.mask or draw.random() >= fault.probability:
                continue
            self.struck[index] += 1
            if fault.drop:
                return []
            delay_s += fault.delay_s
            copies += fault.copies
            message = _changed(message, fault)
        return [Onward(delay_s, message)] * copies


def _changed(message: can.Message, fault: Fault) -> can.Message:
    if not fault.flip and fault.new_id is None and fault.length is None:
        return message
    changed = copy(message)
    data = bytearray(message.data or b"")
    if fault.length is not None:
        data = data[: fault.length].ljust(fault.length, b"\0")
    for place, bits in enumerate(fault.flip[: len(data)]):
        data[place] ^= bits
    changed.data = data
    changed.dlc = len(data)
    if fault.new_id is not None:
        changed.is_extended_id = bool(fault.new_id & EXTENDED_FLAG)
        changed.arbitration_id = fault.new_id & ~EXTENDED_FLAG
    return changed
