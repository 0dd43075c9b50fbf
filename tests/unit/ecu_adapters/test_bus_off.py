"""Bus-off and the way back: the policy's decisions, and a hub that is restarted."""

import queue
from collections.abc import Iterator

import can
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.bus import BusError, BusHub, CanConfig, FrameError
from ecu_adapters.bus_off import STEADY_S, BusOffPolicy, Restarts
from ecu_adapters.bus_state import BusEvent, StateChange
from ecu_adapters.error_frames import BusState
from ecu_adapters.frame_records import CLASSIC

WAIT_S = 30.0
BUS_OFF = 0x40


@given(most=st.integers(1, 5), on_bus=st.lists(st.floats(0, 2 * STEADY_S), min_size=1, max_size=20))
def test_attempts_in_a_row_are_bounded(most: int, on_bus: list[float]) -> None:
    restarts, now = Restarts(BusOffPolicy(max_attempts=most)), 0.0
    in_a_row = 0
    restarts.bus_off(now)
    for steady_s in on_bus:
        due = restarts.due_s()
        assert (due is None) == (in_a_row >= most)
        if due is None:
            assert f"{most} attempts" in restarts.why_not()
            return
        now += due
        in_a_row = restarts.tried()
        restarts.back(now)
        back_at, now = now, now + steady_s
        restarts.bus_off(now)
        in_a_row = 0 if now - back_at >= STEADY_S else in_a_row
        assert restarts.attempts == in_a_row


@pytest.mark.parametrize(("recover", "why"), [("manual", "waits for somebody"), ("never", "never")])
def test_other_policies_do_nothing_by_themselves_and_say_why(recover: str, why: str) -> None:
    restarts = Restarts(BusOffPolicy.model_validate({"recover": recover}))
    restarts.bus_off(0.0)
    assert restarts.due_s() is None
    assert why in restarts.why_not()


@pytest.fixture
def hub() -> Iterator[BusHub]:
    with BusHub.open("b", CanConfig(interface="virtual", channel="bus-off")) as opened:
        yield opened


def test_a_python_can_bus_is_opened_anew_and_goes_on(hub: BusHub) -> None:
    frames: queue.Queue[can.Message] = queue.Queue()
    changes: queue.Queue[BusEvent] = queue.Queue()
    hub.subscribe(frames.put, ids={0x123})
    hub.monitor.on_event = lambda event: changes.put(event) if isinstance(event, StateChange) else None
    with can.Bus(interface="virtual", channel="bus-off") as other:
        other.send(can.Message(arbitration_id=BUS_OFF, is_error_frame=True, data=bytes(8), is_extended_id=False))
        off = changes.get(timeout=WAIT_S)
        hub.restart()
        on = changes.get(timeout=WAIT_S)
        assert isinstance(off, StateChange)
        assert isinstance(on, StateChange)
        assert (off.state, on.state) == (BusState.BUS_OFF, BusState.ERROR_ACTIVE)
        other.send(can.Message(arbitration_id=0x123, is_extended_id=False))
        frames.get(timeout=WAIT_S)
        hub.send(can.Message(arbitration_id=0x321, is_extended_id=False))
        got = other.recv(WAIT_S)
        assert got is not None
        assert got.arbitration_id == 0x321
    assert hub.error is None


def test_a_bus_that_does_not_open_again_ends_the_hub_with_the_reason(
    hub: BusHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: queue.Queue[str] = queue.Queue()
    hub.on_error = failed.put

    def gone(*_: object, **__: object) -> can.BusABC:
        raise can.CanInitializationError("adapter unplugged")

    monkeypatch.setattr(can, "Bus", gone)
    with pytest.raises(BusError, match="cannot be restarted: adapter unplugged"):
        hub.restart()
    assert "adapter unplugged" in failed.get(timeout=WAIT_S)


def test_nothing_is_sent_on_a_bus_that_is_only_listened_to() -> None:
    config = CanConfig(interface="virtual", channel="silent", listen_only=True)
    with BusHub.open("b", config) as hub, can.Bus(interface="virtual", channel="silent") as other:
        with pytest.raises(FrameError, match=r"CAN bus 'b' \(virtual silent\) is only listened to \(listen_only\)"):
            hub.send(can.Message(arbitration_id=0x1))
        with pytest.raises(FrameError, match="only listened to"):
            hub.node("ECU").send(can.Message(arbitration_id=0x1))
        taken = hub.send_records(np.zeros(3, CLASSIC))
        assert len(taken.records) == 0
        assert isinstance(taken.error, FrameError)
        frames: queue.Queue[can.Message] = queue.Queue()
        hub.subscribe(frames.put, ids={0x7})
        other.send(can.Message(arbitration_id=0x7, is_extended_id=False))
        assert frames.get(timeout=WAIT_S).arbitration_id == 0x7
        assert other.recv(0) is None
