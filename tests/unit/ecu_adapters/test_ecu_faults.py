"""Faults on the way of a frame."""

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.faults import Fault, FaultyWay


def frame(can_id: int = 0x123, data: bytes = b"\x01\x02\x03\x04", *, extended: bool = False) -> can.Message:
    return can.Message(arbitration_id=can_id, is_extended_id=extended, data=data)


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(0, 300))
def test_the_same_seed_strikes_the_same_frames(seed: int, probability: float, count: int) -> None:
    ways = [FaultyWay([Fault(probability=probability, seed=seed, drop=True)]) for _ in range(2)]
    fates = [[bool(way.pass_on(frame())) for _ in range(count)] for way in ways]
    assert fates[0] == fates[1]
    assert ways[0].struck == [fates[0].count(False)]


@given(st.integers(0, 2**32), st.lists(st.sampled_from([0x123, 0x456])))
def test_frames_that_do_not_match_change_nothing_for_those_that_do(seed: int, others: list[int]) -> None:
    fault = Fault(can_id=0x123, mask=0x7FF, probability=0.5, seed=seed, drop=True)
    alone, mixed = FaultyWay([fault]), FaultyWay([fault])
    wanted = [bool(alone.pass_on(frame())) for _ in range(sum(can_id == 0x123 for can_id in others))]
    fates = [(can_id, bool(mixed.pass_on(frame(can_id)))) for can_id in others]
    assert [fate for can_id, fate in fates if can_id == 0x123] == wanted
    assert all(fate for can_id, fate in fates if can_id != 0x123)


def test_never_and_always() -> None:
    assert all(FaultyWay([Fault(probability=0, drop=True)]).pass_on(frame()) for _ in range(1000))
    assert not any(FaultyWay([Fault(probability=1, drop=True)]).pass_on(frame()) for _ in range(1000))


@pytest.mark.parametrize(
    ("fault", "data", "can_id"),
    [
        (Fault(flip=b"\xff\x00\x01"), b"\xfe\x02\x02\x04", 0x123),
        (Fault(flip=b"\0" * 4 + b"\xff"), b"\x01\x02\x03\x04", 0x123),
        (Fault(length=2), b"\x01\x02", 0x123),
        (Fault(length=6), b"\x01\x02\x03\x04\0\0", 0x123),
        (Fault(new_id=0x124), b"\x01\x02\x03\x04", 0x124),
        (Fault(length=0, flip=b"\xff"), b"", 0x123),
    ],
)
def test_a_frame_is_changed_and_the_original_is_not(fault: Fault, data: bytes, can_id: int) -> None:
    original = frame()
    [(delay_s, changed)] = FaultyWay([fault]).pass_on(original)
    assert (bytes(changed.data), changed.dlc, changed.arbitration_id, delay_s) == (data, len(data), can_id, 0)
    assert (bytes(original.data), original.arbitration_id) == (b"\x01\x02\x03\x04", 0x123)


def test_a_standard_id_does_not_match_a_29_bit_one() -> None:
    way = FaultyWay([Fault(can_id=0x123, mask=0x8000_07FF, drop=True)])
    assert not way.pass_on(frame())
    assert way.pass_on(frame(extended=True))
    [(_, changed)] = FaultyWay([Fault(new_id=0x8000_0123)]).pass_on(frame())
    assert (changed.arbitration_id, changed.is_extended_id) == (0x123, True)


def test_faults_add_up_in_their_order() -> None:
    way = FaultyWay([Fault(delay_s=0.1), Fault(delay_s=0.2, copies=2), Fault(can_id=0x456, mask=0x7FF, drop=True)])
    assert [onward.delay_s for onward in way.pass_on(frame())] == pytest.approx([0.3] * 3)
    assert way.pass_on(frame(0x456)) == []
    assert way.struck == [2, 2, 1]
