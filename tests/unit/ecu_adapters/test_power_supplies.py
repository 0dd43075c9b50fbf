import itertools
import os
import pty
import sys
import threading
import tty
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ecu_adapters.power import NonsenseError, PowerError, Reading, Supply, UnsupportedError, open_supply
from ecu_adapters.power.config import AnySupply
from ecu_adapters.power.profile import BUILT_IN, Point, play, profile, steps
from tests.unit.scpi_supply import FakeScpiSupply

ADAPTER: TypeAdapter[AnySupply] = TypeAdapter(AnySupply)


@pytest.fixture
def fake() -> Iterator[FakeScpiSupply]:
    supply = FakeScpiSupply()
    yield supply
    supply.close()


@pytest.fixture
def scpi(fake: FakeScpiSupply) -> Iterator[Supply]:
    supply = open_supply(
        ADAPTER.validate_python(
            {
                "name": "main",
                "driver": "scpi",
                "port": fake.port,
                "dialect": "nsel",
                "timeout_s": 3,
                "channels": {"kl30": {"output": 1, "max_voltage": 40}, "kl15": {"output": 2}},
            }
        )
    )
    yield supply
    supply.close()


def test_channels_are_switched_set_and_measured(scpi: Supply, fake: FakeScpiSupply) -> None:
    scpi.set("kl30", voltage=13.5, current=5)
    scpi.switch("kl30", True)
    assert (fake.outputs[1].voltage, fake.outputs[1].current, fake.outputs[1].on) == (13.5, 5.0, True)
    assert scpi.measure("kl30") == Reading(13.5, 0.25)
    assert scpi.is_on("kl30") and not scpi.is_on("kl15")


def test_an_error_of_the_device_is_told(scpi: Supply) -> None:
    with pytest.raises(PowerError, match=r"refuses 'VOLT 36.0000': Data out of range \(-222\)"):
        scpi.set("kl30", voltage=36)


@pytest.mark.parametrize(
    ("query", "answer", "text"),
    [
        ("MEAS:VOLT?", b"twelve\n", "answered 'MEAS:VOLT\\?' with 'twelve'; expected a number"),
        ("MEAS:VOLT?", b"9.91E37\n", "expected a plausible number"),
        ("MEAS:VOLT?", b"\xff\xfe\n", "expected ASCII text"),
        ("OUTP?", b"maybe\n", "expected 0, 1, ON or OFF"),
        ("SYST:ERR?", b"fine\n", "expected a number and a text in quotes"),
        ("SYST:ERR?", b'-100,"again"\n', "expected an end of the errors"),
        ("*IDN?", b"hello\n", "expected maker, model, serial number and version"),
        ("MEAS:VOLT?", b"x" * 5000, "more than 4096 bytes"),
    ],
)
def test_nonsense_is_named(scpi: Supply, fake: FakeScpiSupply, query: str, answer: bytes, text: str) -> None:
    fake.nonsense[query] = answer
    with pytest.raises(NonsenseError, match=text):
        scpi.switch("kl30", True)
        scpi.measure("kl30")
        scpi.is_on("kl30")
    fake.nonsense.clear()
    assert scpi.measure("kl30").current is not None


def test_silence_ends_and_a_late_answer_is_not_taken_for_another(scpi: Supply, fake: FakeScpiSupply) -> None:
    fake.nonsense["MEAS:VOLT?"] = None
    with pytest.raises(PowerError, match=r"did not answer 'MEAS:VOLT\?' within 3 s"):
        scpi.measure("kl30")
    fake.nonsense.clear()
    assert scpi.measure("kl30") == Reading(0.0, 0.0)


def test_a_supply_that_hung_up_is_called_again(scpi: Supply, fake: FakeScpiSupply) -> None:
    scpi.switch("kl30", True)
    fake.unplug()
    with pytest.raises(PowerError, match="main at socket"):
        scpi.measure("kl30")
        scpi.measure("kl30")
    assert scpi.is_on("kl30")


def test_a_supply_over_a_serial_line() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    config = {"name": "m", "driver": "scpi", "port": os.ttyname(slave), "timeout_s": 5, "channels": {"kl30": {}}}
    supply = open_supply(ADAPTER.validate_python(config))

    def device() -> None:
        with os.fdopen(os.dup(master), "r+b", buffering=0) as line:
            for question, answer in ((b"*CLS", b""), (b"*IDN?", b"a,b,c,d\n"), (b"MEAS:VOLT?", b"1.35E+01\r\n")):
                assert line.readline().strip() == question
                line.write(answer)
            assert line.readline().strip() == b"MEAS:CURR?"
            line.write(b"0.5\n")

    thread = threading.Thread(target=device)
    thread.start()
    assert supply.measure("kl30") == Reading(13.5, 0.5)
    thread.join(10)
    supply.close()
    os.close(master)
    os.close(slave)


def test_a_relay_board_gets_its_bytes_and_must_answer() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    tty.setraw(master)
    relay = {"on": "\xa0\x01\x01\xa2", "off": "\xa0\x01\x00\xa1", "answer": "ok"}
    config = {"name": "r", "driver": "relay", "port": os.ttyname(slave), "timeout_s": 0.2, "channels": {"kl15": relay}}
    supply = open_supply(ADAPTER.validate_python(config))

    def board() -> None:
        assert os.read(master, 4) == b"\xa0\x01\x01\xa2"
        os.write(master, b"ok")

    thread = threading.Thread(target=board)
    thread.start()
    supply.switch("kl15", True)
    thread.join(10)
    with pytest.raises(PowerError, match=r"did not answer within 0\.2 s"):
        supply.switch("kl15", False)
    with pytest.raises(UnsupportedError, match="sets neither voltage nor current"):
        supply.set("kl15", voltage=12)
    supply.close()
    os.close(master)
    os.close(slave)


def command(code: str, **more: object) -> Supply:
    config = {
        "name": "pdu",
        "driver": "command",
        "switch": [sys.executable, "-c", code, "{channel}", "{state}"],
        "channels": {"kl30": {}},
        "timeout_s": 10,
        **more,
    }
    return open_supply(ADAPTER.validate_python(config))


def test_a_command_switches() -> None:
    command("import sys; sys.exit(sys.argv[1:] != ['kl30', 'on'])").switch("kl30", True)
    with pytest.raises(PowerError, match="ended with 1: no such outlet"):
        command("import sys; sys.exit('no such outlet')").switch("kl30", True)
    with pytest.raises(PowerError, match=r"longer than 0\.3 s and was killed"):
        command("import time; time.sleep(60)", timeout_s=0.3).switch("kl30", True)
    printing = [sys.executable, "-c", "print('12.1 0.8')"]
    assert command("", measure=printing).measure("kl30") == Reading(12.1, 0.8)
    with pytest.raises(NonsenseError, match="printed 'lots"):
        command("", measure=[sys.executable, "-c", "print('lots')"]).measure("kl30")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"safe_state": {"kl31": "off"}}, "unknown channel 'kl31'; did you mean kl30"),
        ({"dialect": "rigo"}, "unknown dialect 'rigo'; did you mean rigol"),
        ({"channels": {"kl30": {"voltage": 14, "max_voltage": 12}}}, "14 V is above max_voltage, 12 V"),
    ],
)
def test_mistakes_in_the_configuration(change: dict[str, object], text: str) -> None:
    config = {"name": "m", "driver": "scpi", "port": "socket://h:1", "channels": {"kl30": {}}, **change}
    with pytest.raises(ValidationError, match=text):
        ADAPTER.validate_python(config)
    with pytest.raises(ValidationError, match="unknown placeholder"):
        command("", set=["x", "{volt}"])


def test_cranking_has_the_standards_corners() -> None:
    wanted = BUILT_IN["iso16750_cranking_II"]
    corners = [(round(point.at_s * 1000), point.voltage) for point in wanted.points]
    assert corners == [(0, 12), (100, 12), (105, 4.5), (120, 4.5), (170, 6.5), (10170, 6.5), (10270, 12)]
    assert "4.6.3" in wanted.source


class Clock:
    """Virtual: time passes by waiting, and by what a supply takes."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_delays_do_not_add_up() -> None:
    clock, heard = Clock(), []

    def slow(voltage: float) -> None:
        clock.wait(0.004)
        heard.append(voltage)

    planned = steps(profile("p", [(0, 0), (100, 10)]), 0.01)
    played = play(planned, slow, threading.Event(), clock=clock, wait=clock.wait)
    assert heard == pytest.approx([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert played.worst_s == pytest.approx(0.004)


def test_a_supply_that_is_too_slow_skips_steps_and_ends_in_time() -> None:
    clock, heard = Clock(), []

    def slow(voltage: float) -> None:
        clock.wait(0.025)
        heard.append(voltage)

    played = play(steps(profile("p", [(0, 0), (100, 10)]), 0.01), slow, threading.Event(), clock=clock, wait=clock.wait)
    assert heard[-1] == 10
    assert played.skipped == 11 - len(heard)
    assert clock.now - 100 < 0.16


def test_an_aborted_profile_sets_nothing_more() -> None:
    stop, heard = threading.Event(), list[float]()

    def set_voltage(voltage: float) -> None:
        heard.append(voltage)
        stop.set()

    assert play(steps(BUILT_IN["iso16750_reset"], 0.01), set_voltage, stop).aborted
    assert heard == [9.0]


@given(
    st.lists(st.tuples(st.integers(1, 500), st.floats(0, 24)), min_size=1, max_size=6),
    st.sampled_from([0.001, 0.01, 0.02, 0.3]),
)
def test_steps_follow_the_points(spans: list[tuple[int, float]], step_s: float) -> None:
    points, at = [(0.0, 12.0)], 0.0
    for span, voltage in spans:
        at += span
        points.append((at, voltage))
    planned = steps(profile("p", points), step_s)
    assert all(later.at_s > earlier.at_s for earlier, later in itertools.pairwise(planned))
    assert {(point.at_s, point.voltage) for point in planned} >= {(at / 1000, voltage) for at, voltage in points}
    low, high = min(v for _, v in points), max(v for _, v in points)
    assert all(low - 1e-9 <= point.voltage <= high + 1e-9 for point in planned)
    assert isinstance(planned[0], Point)


@pytest.mark.parametrize(
    ("points", "text"),
    [
        ([(0, 12)], "1 points"),
        ([(5, 12), (10, 12)], "first point must be at 0 ms"),
        ([(0, 12), (10, 6), (10, 12)], "point 3 of profile p is at 10 ms, not after"),
        ([(0, 12), (10, -1)], "point 2 of profile p has -1 V"),
    ],
)
def test_points_that_make_no_profile(points: list[tuple[float, float]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        profile("p", points)
