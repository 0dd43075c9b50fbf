"""What holds for every history of voltages, and for every order of timers on a virtual clock."""

from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.simulation import Power
from ecu_adapters.simulator import VirtualClock
from ecu_adapters.simulator.power_input import PowerSwitch

VOLTS = st.floats(0, 60, allow_nan=False)


@given(st.lists(VOLTS, max_size=50), VOLTS, VOLTS)
def test_power_follows_the_last_voltage_that_decides(history: list[float], one: float, other: float) -> None:
    brown_out, on = sorted((one, other))
    told: list[bool] = []
    switch = PowerSwitch(Power(brown_out_v=brown_out, on_v=on), told.append, told.append)
    for volts in history:
        switch.set_voltage("kl30", volts)
    expected = True
    for volts in history:
        expected = volts >= on or (expected and volts >= brown_out)
    assert switch.powered == expected
    assert told == [index % 2 == 1 for index in range(len(told))], "changes alternate, and off comes first"
    assert len(told) % 2 == (not expected)


@given(st.lists(VOLTS, max_size=20))
def test_where_both_thresholds_are_one_only_the_present_counts(history: list[float]) -> None:
    switch = PowerSwitch(Power(brown_out_v=7, on_v=7), lambda on: None, lambda on: None)
    for volts in history:
        switch.set_voltage("kl30", volts)
        assert switch.powered == (volts >= 7)


@given(
    st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=30),
    st.lists(st.integers(1, 60), min_size=1, max_size=10),
)
def test_calls_come_once_in_their_order_at_their_time(timers: list[tuple[int, bool]], steps: list[int]) -> None:
    clock = VirtualClock()
    made: list[tuple[float, int]] = []
    for number, (due, cancelled) in enumerate(timers):
        timer = clock.call_later(due, lambda number=number: made.append((clock.now(), number)))  # type: ignore[misc]
        if cancelled:
            timer.cancel()
    for step in steps:
        clock.advance(step)
    due_now = [(float(due), number) for number, (due, gone) in enumerate(timers) if not gone and due <= sum(steps)]
    assert made == sorted(due_now)
    assert clock.now() == sum(steps)
