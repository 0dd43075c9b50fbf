import json
import signal

import pytest

from bench_agent.protocol.frames import BITRATE_SWITCH, EXTENDED, FD, Frame
from labd.cli.options import can_filter
from tests.unit.cli.conftest import Labctl, Process
from tests.unit.cli.fake_agent import FakeAgent
from tests.unit.client.fake_labd import FakeLabd

NS = 1_699_999_999_123_456_789
FRAMES = [
    Frame(NS, 0x123, 0, bytes.fromhex("1122")),
    Frame(NS + 1_000_000, 0x456, FD | BITRATE_SWITCH, bytes(12)),
    Frame(NS + 2_000_000, 0x18DAF110 | EXTENDED, 0, b""),
]
DUMP = ("can", "dump", "bench-1", "powertrain")


def test_frames_are_printed_as_candump_does_and_the_bench_released(
    labctl: Labctl, labd: FakeLabd, agent: FakeAgent
) -> None:
    agent.deliver(FRAMES, dropped=7)
    result = labctl(*DUMP, "--count", "3")
    assert result.stdout.splitlines() == [
        "(1699999999.123456) powertrain 123#1122",
        "(1699999999.124456) powertrain 456##1000000000000000000000000",
        "(1699999999.125456) powertrain 18DAF110#",
    ]
    assert (result.stderr, result.exit_code) == ("3 frames, 7 dropped\n", 0)
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_count_stops_inside_a_batch(labctl: Labctl, agent: FakeAgent) -> None:
    agent.deliver(FRAMES)
    assert len(labctl(*DUMP, "-n", "2").stdout.splitlines()) == 2


def test_a_quiet_bus_ends_after_the_duration(labctl: Labctl, agent: FakeAgent) -> None:
    result = labctl(*DUMP, "--duration", "100ms")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "0 frames, 0 dropped\n", 0)


def test_filters_go_to_the_agent(labctl: Labctl, agent: FakeAgent) -> None:
    labctl(*DUMP, "--duration", "10ms", "--filter", "7E8", "--filter", "18DAF110:1FFFFF00", "--no-own")
    assert [(one.id, one.mask) for one in agent.opened[0].filters] == [
        (0x7E8, 0x8000_07FF),
        (0x98DAF110, 0x9FFFFF00),
    ]
    assert not agent.opened[0].own_frames


def test_json_lines(labctl: Labctl, agent: FakeAgent) -> None:
    agent.deliver(FRAMES)
    first, _, third = map(json.loads, labctl(*DUMP, "-n", "3", "-o", "json").stdout.splitlines())
    assert (first["time_ns"], first["id"], first["data"], first["fd"]) == (NS, 0x123, "1122", False)
    assert (third["id"], third["extended"]) == (0x18DAF110, True)


def test_an_unknown_bus_is_told_before_anything_is_leased(labctl: Labctl, labd: FakeLabd) -> None:
    result = labctl("can", "dump", "bench-1", "chassis")
    assert (result.exit_code, result.stderr) == (65, "Error: bench bench-1 has no bus 'chassis'; it has powertrain\n")
    assert labd.leases == {}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_ctrl_c_ends_it_well_and_a_signal_does_not(
    labd: FakeLabd, agent: FakeAgent, labctl_process: Process, number: signal.Signals, code: int
) -> None:
    agent.deliver(FRAMES)
    with labctl_process(*DUMP) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().endswith("123#1122\n")
        process.send_signal(number)
        assert process.wait(10) == code
        assert process.stderr.read().strip() == "3 frames, 0 dropped"
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_a_reader_that_has_enough_ends_it(labd: FakeLabd, agent: FakeAgent, labctl_process: Process) -> None:
    agent.deliver(FRAMES)
    with labctl_process(*DUMP) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        agent.deliver(FRAMES)
        assert process.wait(10) == 0
        assert "Traceback" not in process.stderr.read()
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_filters_are_read_as_candump_reads_ids() -> None:
    assert can_filter("123") == (0x123, 0x8000_07FF)
    assert can_filter("00000123") == (0x8000_0123, 0x9FFF_FFFF)
    assert can_filter("7E0:7F0") == (0x7E0, 0x8000_07F0)
