import json
import signal
from pathlib import Path

import pytest

from bench_agent.protocol import frames
from bench_agent.protocol.frames import EXTENDED, Frame
from tests.unit.cli.conftest import Labctl, Process
from tests.unit.cli.fake_agent import FakeAgent
from tests.unit.client.fake_labd import FakeLabd

SEND = ("can", "send", "bench-1", "powertrain")
REST = ("can", "restbus", "bench-1", "powertrain")


def test_a_frame_is_sent_once(labctl: Labctl, labd: FakeLabd, agent: FakeAgent) -> None:
    result = labctl(*SEND, "18DAF110#0102")
    (sent,) = agent.sends
    assert list(frames.unbatch(sent.frames)) == [Frame(0, 0x18DAF110 | EXTENDED, 0, b"\x01\x02")]
    assert (result.stdout, result.exit_code) == ("(1699999999.000000) powertrain 18DAF110#0102\n", 0)
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_a_message_is_sent_with_its_signals(labctl: Labctl, agent: FakeAgent) -> None:
    result = labctl(*SEND, "EngineControl", "TargetSpeed=1500", "Torque=-1.5", "Mask=0x1F", "Gear=Drive", "--force")
    (sent,) = agent.sends
    assert (sent.message.name, sent.message.force) == ("EngineControl", True)
    values = sent.message.signals
    assert (values["TargetSpeed"].integer, values["Torque"].number, values["Mask"].integer) == (1500, -1.5, 31)
    assert values["Gear"].text == "Drive"
    assert result.stdout == "(1699999999.000000) powertrain 100#0102\n"


def test_a_cyclic_message_goes_on_for_a_time(labctl: Labctl, labd: FakeLabd, agent: FakeAgent) -> None:
    result = labctl(*SEND, "EngineControl", "TargetSpeed=1500", "--cyclic", "10ms", "--for", "100ms")
    (started,) = agent.traffic.started
    assert (started.period_us, started.message.name) == (10_000, "EngineControl")
    assert not agent.traffic.running
    assert "EngineControl every 10 ms, for 0.1 s" in result.stderr
    assert " 0 refused, 0 left out as late" in result.stderr
    assert (result.exit_code, labd.leases["lease-1"]["state"]) == (0, "ENDED")


def test_refused_frames_are_a_failure(labctl: Labctl, agent: FakeAgent) -> None:
    agent.traffic.message.failed, agent.traffic.message.error = 3, "bus off"
    result = labctl(*SEND, "123#11", "--cyclic", "10ms", "--for", "10ms")
    assert (result.exit_code, "the bus did not take 3 frames: bus off" in result.stderr) == (1, True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", [(*SEND, "123#11", "--cyclic", "10ms"), REST])
def test_a_signal_stops_the_agent_and_releases_the_bench(
    labd: FakeLabd,
    agent: FakeAgent,
    labctl_process: Process,
    command: tuple[str, ...],
    number: signal.Signals,
    code: int,
) -> None:
    with labctl_process(*command) as process:
        assert process.stderr is not None
        assert process.stderr.readline().endswith("until Ctrl-C\n")
        process.send_signal(number)
        assert process.wait(10) == code
        assert "frames sent, 0 refused" in process.stderr.read()
    assert not agent.traffic.running
    assert labd.leases["lease-1"]["state"] == "ENDED"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("123#1",), "'123#1' is no frame"),
        (("1234#11",), "'1234#11' is no frame"),
        (("123#11", "Speed=1"), "123#11 is a frame; signals and --force go with a message"),
        (("EngineControl", "Speed"), "'Speed' is no signal; write NAME=VALUE"),
        (("EngineControl", "--for", "1s"), "--for goes with --cyclic"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_leased(
    labctl: Labctl, labd: FakeLabd, arguments: tuple[str, ...], message: str
) -> None:
    result = labctl(*SEND, *arguments)
    assert (result.exit_code, message in result.stderr) == (64, True)
    assert labd.leases == {}


def test_a_rest_bus_lists_what_it_sends_and_what_not(labctl: Labctl, agent: FakeAgent, tmp_path: Path) -> None:
    other = tmp_path / "vehicle.dbc"
    other.write_text('VERSION ""')
    result = labctl(
        *REST, "--dbc", str(other), "--except", "TCU", "--except", "BCM", "--include", "ECM",
        "--except-message", "Odometer", "--for", "10ms",
    )  # fmt: skip
    (asked,) = agent.traffic.rest
    assert (asked.database, asked.database_name) == (b'VERSION ""', "vehicle.dbc")
    assert (list(asked.absent), list(asked.include), list(asked.except_messages)) == (
        ["TCU", "BCM"],
        ["ECM"],
        ["Odometer"],
    )
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["EngineControl", "100", "10", "ms", "-"] in lines
    assert ["Gear", "18DAF110", "-", "yes"] in lines
    assert ["EngineStatus", "ECM", "sends", "it"] in lines
    assert (result.exit_code, agent.traffic.running) == (0, False)


def test_a_rest_bus_as_json(labctl: Labctl, agent: FakeAgent) -> None:
    listed = json.loads(labctl(*REST, "--for", "10ms", "-o", "json").stdout)
    assert listed["messages"][0] == {
        "name": "EngineControl", "id": 0x100, "extended": False, "period_s": 0.01, "on_change": False,
    }  # fmt: skip
    assert listed["left_out"] == [{"name": "EngineStatus", "reason": "ECM sends it"}]
