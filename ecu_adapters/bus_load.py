"""How busy a bus is: frames/s, and the share of its bit rate that they take.

Frame lengths are those of ISO 11898-1, the three bits between two frames included. How many stuff bits a frame has
depends on its data, so that there are two figures: *typical*, as for random data (one in 30 bits: the mean distance of
two stuff bits), and *worst*, one for every four bits. Error frames are counted as frames, but take no time: how long
they were is not known.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecu_adapters import frame_records as packed
from ecu_adapters.burst import Burst
from ecu_adapters.frame_records import Records

_TYPICAL_BITS = 30
"""Bits from one stuff bit to the next in random data."""
_BUCKET_S = 0.1
_BUCKETS = 10
"""So many make the window of a second."""
_MANY = 8192
"""Frames that wait to be added up at most."""

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """Of the last second."""

    frames_per_s: float
    typical: float | None
    """Share of the time that the bus was busy, 0 .. 1; None where the bit rate is not known."""
    worst: float | None


def durations(records: Records, bitrate: int, data_bitrate: int | None = None) -> tuple[Seconds, Seconds]:
    """How long each frame is on the wire, in s: with typical, and with the most stuff bits.

    Bit rates in bit/s; without ``data_bitrate``, CAN FD frames are as fast in their data phase.
    """
    is_fd = (records["flags"] & packed.FD_FRAME) != 0
    extended = (records["id"] & packed.EXTENDED) != 0
    bits = np.where(records["id"] & packed.REMOTE, 0, records["length"].astype(np.int64)) * 8
    # Classic: start of frame to CRC is stuffed; CRC delimiter, ACK, end of frame and the gap are not.
    stuffed = np.where(extended, 54, 34) + bits
    plain = np.full(len(records), 13)
    fast_stuffed = fast_plain = np.zeros(len(records), np.int64)
    if is_fd.any():
        # The CRC field has stuff bits at fixed places, and begins with a stuff count of four bits.
        crc = np.where(bits > 128, 4 + 21 + 7, 4 + 17 + 6) + 1
        stuffed = np.where(is_fd, np.where(extended, 36, 17), stuffed)
        plain = np.where(is_fd, 12, plain)
        fast_stuffed = np.where(is_fd, 5 + bits, 0)
        fast_plain = np.where(is_fd, crc, 0)
    fast_rate = np.where(records["flags"] & packed.BITRATE_SWITCH, data_bitrate or bitrate, bitrate)
    sound = (records["id"] & packed.ERROR) == 0

    def total(per_bit: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]]) -> Seconds:
        slow = (stuffed + plain + per_bit(stuffed)) / bitrate
        fast = (fast_stuffed + fast_plain + per_bit(fast_stuffed)) / fast_rate
        return np.where(sound, slow + fast, 0.0)

    return total(lambda n: n / _TYPICAL_BITS), total(lambda n: np.maximum(n - 1, 0) // 4 * 1.0)


class LoadMeter:
    """Adds up what passes in the last second. `put` is a tap of a bus hub; any thread may call the rest."""

    def __init__(
        self,
        bitrates: tuple[int | None, int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``bitrates`` as of `BusHub.bitrates`."""
        self._bitrate, self._data_bitrate = bitrates
        self._clock = clock
        self._lock = threading.Lock()
        self._began = self._bucket_at = clock()
        self._waiting: list[Burst] = []
        self._count = 0
        # Frames, and seconds on the wire, of each finished tenth of a second.
        self._buckets: deque[tuple[int, float, float]] = deque(maxlen=_BUCKETS)
        self._open = (0, 0.0, 0.0)

    def put(self, burst: Burst) -> None:
        """Costs next to nothing; frames are added up ten times a second."""
        with self._lock:
            self._turn()
            self._waiting.append(burst)
            self._count += len(burst)
            if self._count >= _MANY:
                self._add_up()

    def load(self) -> Load:
        """Of the last whole tenths of a second, as far as there are any."""
        with self._lock:
            self._turn()
            window = min(len(self._buckets), _BUCKETS) * _BUCKET_S
            frames, typical, worst = (
                (sum(column) for column in zip(*self._buckets, strict=True)) if window else (0, 0, 0)
            )
        window = window or 1.0
        if self._bitrate is None:
            return Load(frames / window, None, None)
        return Load(frames / window, typical / window, worst / window)

    def _turn(self) -> None:
        """Closes the buckets whose time is over."""
        passed = int((self._clock() - self._bucket_at) / _BUCKET_S)
        if passed <= 0:
            return
        self._add_up()
        self._buckets.append(self._open)
        self._buckets.extend([(0, 0.0, 0.0)] * min(passed - 1, _BUCKETS))
        self._open = (0, 0.0, 0.0)
        self._bucket_at += passed * _BUCKET_S

    def _add_up(self) -> None:
        if not self._waiting:
            return
        frames, typical, worst = self._open
        frames += self._count
        if self._bitrate is not None:
            times = durations(packed.join([b.records for b in self._waiting]), self._bitrate, self._data_bitrate)
            typical, worst = typical + float(times[0].sum()), worst + float(times[1].sum())
        self._open = frames, typical, worst
        self._waiting.clear()
        self._count = 0
