"""Bus load against the frame lengths of ISO 11898-1."""

import can
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters import frame_records as packed
from ecu_adapters.burst import Burst
from ecu_adapters.bus_load import LoadMeter, durations
from ecu_adapters.frame_records import FD_LENGTHS


def message(length: int = 8, *, extended: bool = False, fd: bool = False, brs: bool = False) -> can.Message:
    return can.Message(
        arbitration_id=0x123, is_extended_id=extended, is_fd=fd, bitrate_switch=brs, data=bytes(length), timestamp=1.0
    )


def seconds(frame: can.Message, bitrate: int, data_bitrate: int | None = None) -> tuple[float, float]:
    typical, worst = durations(packed.pack([frame]), bitrate, data_bitrate)
    return float(typical[0]), float(worst[0])


@pytest.mark.parametrize(
    ("frame", "rates", "plain_bits_s", "worst_s"),
    [
        # Classic frames with 8 bytes: 111 and 131 bits, at most 24 and 29 stuff bits.
        (message(), (500_000, None), 111 / 500e3, 135 / 500e3),
        (message(extended=True), (500_000, None), 131 / 500e3, 160 / 500e3),
        (message(0), (1_000_000, None), 47 / 1e6, 55 / 1e6),
        # CAN FD with 64 bytes: 29 slow bits (at most 4 more), 550 fast ones (at most 129 more).
        (message(64, fd=True, brs=True), (500_000, 2_000_000), 29 / 500e3 + 550 / 2e6, 33 / 500e3 + 679 / 2e6),
        (message(64, fd=True), (500_000, 2_000_000), 579 / 500e3, 712 / 500e3),
        (message(8, fd=True, brs=True), (1_000_000, 8_000_000), 29 / 1e6 + 97 / 8e6, 33 / 1e6 + 114 / 8e6),
    ],
)
def test_frames_take_as_long_as_the_standard_says(
    frame: can.Message, rates: tuple[int, int | None], plain_bits_s: float, worst_s: float
) -> None:
    typical, worst = seconds(frame, *rates)
    assert worst == pytest.approx(worst_s)
    assert plain_bits_s < typical < plain_bits_s * 31 / 30 + 1e-12


def test_remote_frames_have_no_data_and_error_frames_no_known_length() -> None:
    remote = can.Message(arbitration_id=0x1, is_extended_id=False, is_remote_frame=True, dlc=8)
    assert seconds(remote, 500_000) == seconds(message(0), 500_000)
    error = can.Message(arbitration_id=0x20, is_extended_id=False, is_error_frame=True, data=bytes(8))
    assert seconds(error, 500_000) == (0.0, 0.0)


@given(
    lengths=st.lists(st.sampled_from(sorted(FD_LENGTHS)), min_size=1, max_size=20),
    extended=st.booleans(),
    brs=st.booleans(),
)
def test_more_data_takes_longer_and_worst_is_never_below_typical(lengths: list[int], extended: bool, brs: bool) -> None:
    frames = [message(length, extended=extended, fd=True, brs=brs) for length in sorted(lengths)]
    typical, worst = durations(packed.pack(frames), 500_000, 2_000_000)
    assert (np.diff(typical) >= 0).all()
    assert (worst * 1.02 >= typical).all()


def test_the_meter_tells_of_the_last_second() -> None:
    now = [100.0]
    meter = LoadMeter((500_000, None), clock=lambda: now[0])
    assert meter.load().frames_per_s == 0
    for _ in range(200):  # two seconds, 100 frames of 222 µs and more each
        meter.put(Burst.of(message()))
        now[0] += 0.01
    load = meter.load()
    assert load.frames_per_s == pytest.approx(100, rel=0.1)
    assert load.typical == pytest.approx(100 * 114.4 / 500e3, rel=0.1)
    assert load.worst == pytest.approx(100 * 135 / 500e3, rel=0.1)
    now[0] += 0.5
    assert meter.load().frames_per_s == pytest.approx(50, rel=0.2)
    now[0] += 100
    assert meter.load().frames_per_s == 0


FRAMES = st.builds(message, st.sampled_from(range(9)), extended=st.booleans()) | st.builds(
    message, st.sampled_from(sorted(FD_LENGTHS)), extended=st.booleans(), fd=st.just(True), brs=st.booleans()
)


@given(frames=st.lists(FRAMES, max_size=30), split=st.integers(0, 30))
def test_the_meter_adds_up_what_each_frame_takes(frames: list[can.Message], split: int) -> None:
    now = [0.0]
    meter = LoadMeter((500_000, 2_000_000), clock=lambda: now[0])
    meter.put(Burst(messages=frames[:split]))
    if frames[split:]:
        meter.put(Burst(records=packed.pack(frames[split:])))
    now[0] += 0.1001
    load = meter.load()
    typical, worst = durations(packed.pack(frames), 500_000, 2_000_000)
    assert load.frames_per_s == pytest.approx(len(frames) * 10)
    assert load.typical == pytest.approx(typical.sum() * 10)
    assert load.worst == pytest.approx(worst.sum() * 10)


def test_a_burst_counts_at_once_and_rates_that_are_unknown_are_left_out() -> None:
    now = [5.0]
    meter = LoadMeter((None, None), clock=lambda: now[0])
    meter.put(Burst(messages=[message()] * 20_000))
    now[0] += 0.11
    load = meter.load()
    assert load.frames_per_s == pytest.approx(200_000)
    assert (load.typical, load.worst) == (None, None)


def test_the_load_of_an_interval_is_of_all_of_it_and_its_peak_of_the_busiest_second() -> None:
    now = [0.0]
    meter = LoadMeter((500_000, None), clock=lambda: now[0])
    for second in range(10):
        if second == 3:
            meter.put(Burst(messages=[message()] * 1000))
        now[0] += 1.0
        meter.load()
    busy = meter.take()
    assert busy is not None
    one, _ = seconds(message(), 500_000)
    assert busy.typical == pytest.approx(1000 * one / 10, rel=0.02)
    assert busy.peak == pytest.approx(1000 * one, rel=0.02)
    assert busy.worst > busy.typical
    assert meter.take() is None  # no time has passed
    now[0] += 1.0
    again = meter.take()
    assert again is not None and again.typical == 0.0
