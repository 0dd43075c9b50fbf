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

import can
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

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Load:
    """Of the last second."""

    frames_per_s: float
    typical: float | None
    """Share of the time that the bus was busy, 0 .. 1; None where the bit rate is not known."""
    worst: float | None


@dataclass(frozen=True, slots=True)
class Busy:
    """Of the time since the last look, in whole tenths of a second; shares as in `Load`."""

    typical: float
    worst: float
    peak: float
    """Of the busiest second, typical."""


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
    """Adds up what passes in the last second. `put` is a tap of a bus hub; any thread may call the rest.

    Frames are sorted by what their length on the wire depends on, ten times a second: a frame costs about a µs.
    """

    def __init__(
        self,
        bitrates: tuple[int | None, int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``bitrates`` as of `BusHub.bitrates`."""
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: deque[Burst] = deque()
        # Frames, and seconds on the wire, of each finished tenth of a second.
        self._buckets: deque[tuple[int, float, float]] = deque(maxlen=_BUCKETS)
        self._closes_at = clock() + _BUCKET_S
        # Since `take`: tenths of a second, seconds on the wire (typical, worst), and the busiest second.
        self._passed, self._typical, self._worst, self._peak = 0, 0.0, 0.0, 0.0
        bitrate, data_bitrate = bitrates
        self._times = durations(_samples(), bitrate, data_bitrate) if bitrate is not None else None

    def put(self, burst: Burst) -> None:
        """Costs next to nothing."""
        if self._clock() >= self._closes_at:
            with self._lock:
                self._turn()
        self._waiting.append(burst)

    def load(self) -> Load:
        """Of the last ten whole tenths of a second, as far as there are so many."""
        with self._lock:
            self._turn()
            window = len(self._buckets) * _BUCKET_S
            frames, typical, worst = (
                (sum(column) for column in zip(*self._buckets, strict=True)) if window else (0, 0, 0)
            )
        window = window or 1.0
        if self._times is None:
            return Load(frames / window, None, None)
        return Load(frames / window, typical / window, worst / window)

    def take(self) -> Busy | None:
        """Since the last call; None where the bit rate is not known, or no tenth of a second has passed."""
        with self._lock:
            self._turn()
            passed, typical, worst, peak = self._passed * _BUCKET_S, self._typical, self._worst, self._peak
            self._passed, self._typical, self._worst, self._peak = 0, 0.0, 0.0, 0.0
        if self._times is None or not passed:
            return None
        return Busy(typical / passed, worst / passed, peak)

    def _turn(self) -> None:
        """Closes the buckets whose time is over."""
        passed = int((self._clock() - self._closes_at) / _BUCKET_S + 1)
        if passed <= 0:
            return
        frames, typical, worst = self._add_up()
        self._buckets.append((frames, typical, worst))
        self._passed += passed
        self._typical += typical
        self._worst += worst
        self._peak = max(self._peak, sum(bucket[1] for bucket in self._buckets) / (_BUCKETS * _BUCKET_S))
        self._buckets.extend([(0, 0.0, 0.0)] * min(passed - 1, _BUCKETS))
        self._closes_at += passed * _BUCKET_S

    def _add_up(self) -> tuple[int, float, float]:
        parts: list[Records] = []
        forms: list[int] = []
        # No other thread takes any out, and what is put in meanwhile may count here or later.
        for burst in [self._waiting.popleft() for _ in range(len(self._waiting))]:
            if burst.is_packed:
                parts.append(burst.records)
            else:
                forms += map(_form, burst)
        counts = np.bincount(forms, minlength=_FORMS) if forms else np.zeros(_FORMS, np.int64)
        if parts:
            counts += np.bincount(_forms(packed.join(parts)), minlength=_FORMS)
        typical, worst = (float(counts @ times) for times in self._times) if self._times is not None else (0.0, 0.0)
        return int(counts.sum()), typical, worst


_EXTENDED, _FD, _BRS, _ERROR = 1 << 7, 1 << 8, 1 << 9, 1 << 10
_FORMS = 1 << 11
"""A frame's form is its number of data bytes with these bits: all that its length on the wire depends on."""


def _form(message: can.Message) -> int:
    return (
        (0 if message.is_remote_frame else message.dlc)
        | (_EXTENDED if message.is_extended_id else 0)
        | (_FD if message.is_fd else 0)
        | (_BRS if message.is_fd and message.bitrate_switch else 0)
        | (_ERROR if message.is_error_frame else 0)
    )


def _forms(records: Records) -> npt.NDArray[np.int64]:
    ids, flags = records["id"], records["flags"]
    forms = np.where(ids & packed.REMOTE, 0, records["length"]).astype(np.int64)
    for bits, wanted, form in (
        (ids, packed.EXTENDED, _EXTENDED),
        (flags, packed.FD_FRAME, _FD),
        (flags, packed.BITRATE_SWITCH, _BRS),
        (ids, packed.ERROR, _ERROR),
    ):
        forms += np.where(bits & wanted, form, 0)
    return forms


def _samples() -> Records:
    """One frame of each form."""
    forms = np.arange(_FORMS)
    records: Records = np.zeros(_FORMS, packed.FD)
    records["length"] = forms % _EXTENDED
    records["id"] = np.where(forms & _EXTENDED, packed.EXTENDED, 0) | np.where(forms & _ERROR, packed.ERROR, 0)
    records["flags"] = np.where(forms & _FD, packed.FD_FRAME, 0) | np.where(forms & _BRS, packed.BITRATE_SWITCH, 0)
    return records
