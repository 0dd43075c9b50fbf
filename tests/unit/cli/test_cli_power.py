"""labctl power against a real agent with a supply behind a TCP port."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.unit.bench_agent.conftest import signer, start_agent  # noqa: F401 - fixtures
from tests.unit.bench_agent.harness import AgentFile, Signer, StartAgent, bench_entry
from tests.unit.cli.conftest import Labctl
from tests.unit.client.fake_labd import FakeLabd, make_bench
from tests.unit.scpi_supply import FakeScpiSupply

KL30 = {"name": "battery", "supply": "main", "driver": "scpi", "terminal": "kl30"}
KL15 = {"name": "kl15", "supply": "main", "driver": "scpi", "terminal": "kl15"}

CAMERA = {"name": "camera", "supply": "pdu", "driver": "command", "terminal": ""}


@pytest.fixture
def supply() -> Iterator[FakeScpiSupply]:
    fake = FakeScpiSupply()
    yield fake
    fake.close()


@pytest.fixture
def agent_file(tmp_path: Path, supply: FakeScpiSupply) -> AgentFile:
    entry = bench_entry("bench-1", ecus=False)
    channels = {
        "battery": {"output": 1, "terminal": "kl30", "voltage": 13.5, "max_voltage": 16, "current_limit": 5},
        "kl15": {"output": 2, "voltage": 13.5},
    }
    main = {"name": "main", "driver": "scpi", "port": supply.port, "dialect": "nsel", "poll_s": 60}
    pdu = {"name": "pdu", "driver": "command", "switch": ["true", "{channel}", "{state}"], "channels": {"camera": {}}}
    entry["power"] = [main | {"timeout_s": 2, "channels": channels}, pdu]
    return AgentFile(tmp_path, [entry])


@pytest.fixture(autouse=True)
def agent(labd: FakeLabd, start_agent: StartAgent, signer: Signer) -> Iterator[None]:  # noqa: F811
    address, labd.token = start_agent().address, signer.token()
    equipment = {"consoles": [], "power": [KL30, KL15, CAMERA], "adapters": []}
    labd.benches["bench-1"] = make_bench(address=address, equipment=equipment)
    with structlog.testing.capture_logs():  # the agent's, which runs in this process, are no output of labctl
        yield


def test_on_and_off_by_name_and_terminal(labctl: Labctl, labd: FakeLabd, supply: FakeScpiSupply) -> None:
    result = labctl("power", "bench-1", "kl30", "on")
    assert result.exit_code == 0
    heading, row = result.stdout.splitlines()
    assert heading.split("  ")[0] == "CHANNEL"
    assert row.split()[:6] == ["battery", "kl30", "main", "on", "13.5", "V"]
    assert supply.outputs[1].on and not supply.outputs[2].on
    assert labd.leases["lease-1"]["state"] == "ENDED"
    assert "goes to its safe state now" in result.stderr
    off = labctl("power", "bench-1", "battery", "off")
    assert (supply.outputs[1].on, off.stderr) == (False, "")


def test_without_a_channel_it_is_for_all(labctl: Labctl, supply: FakeScpiSupply) -> None:
    labctl("power", "bench-1", "on")
    assert supply.outputs[1].on and supply.outputs[2].on
    shown = json.loads(labctl("power", "bench-1", "measure", "-o", "json").stdout)
    assert [(one["name"], one["state"], (one["reading"] or {}).get("voltage")) for one in shown["channels"]] == [
        ("battery", "on", 13.5),
        ("kl15", "on", 13.5),
        ("camera", "on", None),
    ]
    listed = labctl("power", "bench-1").stdout.splitlines()[1:]
    assert [line.split()[0] for line in listed] == ["battery", "kl15", "camera"]
    assert "13.5 V 0.25 A" in listed[0]
    assert labctl("power", "bench-1", "camera").stdout.splitlines()[1].split()[:3] == ["camera", "-", "pdu"]


def test_one_supply_that_fails_does_not_keep_the_others_on(labctl: Labctl, supply: FakeScpiSupply) -> None:
    labctl("power", "bench-1", "on")
    supply.close()
    result = labctl("power", "bench-1", "off", "-o", "json")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: supply main")
    assert [one["state"] for one in json.loads(result.stdout)["channels"]] == ["unknown", "unknown", "off"]


def test_what_a_supply_does_not_measure_is_said_when_it_is_asked_for(labctl: Labctl) -> None:
    result = labctl("power", "bench-1", "camera", "measure")
    assert result.exit_code == 65
    assert "measure" in result.stderr


def test_a_lease_that_is_held_is_used_and_left(labctl: Labctl, labd: FakeLabd, supply: FakeScpiSupply) -> None:
    labctl("lease", "acquire", "-l", "name=bench-1", "-o", "json")
    result = labctl("power", "bench-1", "kl30", "on", "--lease", "lease-1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert labd.leases["lease-1"]["state"] == "GRANTED"


def test_set_and_measure(labctl: Labctl, supply: FakeScpiSupply) -> None:
    labctl("power", "bench-1", "kl30", "on")
    labctl("power", "bench-1", "kl30", "set", "--voltage", "9", "--current", "2")
    assert (supply.outputs[1].voltage, supply.outputs[1].current) == (9, 2)
    assert "9 V 0.25 A" in labctl("power", "bench-1", "kl30", "measure").stdout


def test_cycle(labctl: Labctl, supply: FakeScpiSupply) -> None:
    supply.outputs[1].history.clear()
    labctl("power", "bench-1", "kl30", "cycle", "--off-time", "10ms")
    assert supply.outputs[1].history == ["off", "on"]


def test_profiles_from_a_file_and_built_in(labctl: Labctl, supply: FakeScpiSupply, tmp_path: Path) -> None:
    file = tmp_path / "dip.csv"
    file.write_text("# ms, V\n0, 12\n900,6   # the dip\n\n1800, 12\n")
    supply.outputs[1].history.clear()
    shown = labctl("power", "bench-1", "kl30", "profile", str(file), "--step", "900ms").stdout
    assert supply.outputs[1].history == ["12", "6", "12", "13.5"]
    assert "profile      dip\n" in shown
    assert "steps        3 set, 0 skipped\n" in shown
    played = json.loads(
        labctl("power", "bench-1", "battery", "profile", "iso16750_momentary_drop", "-o", "json").stdout
    )
    assert (played["name"], played["channel"]) == ("iso16750_momentary_drop", "battery")
    assert played["steps"][0]["planned_ms"] == 0
    assert "ISO 16750-2" in played["source"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["kl31", "on"], 65, "bench bench-1 has no power channel 'kl31'; it has battery, kl15, camera"),
        (["kl30", "onn"], 64, "'onn' is no action; there are on, off, cycle, set, measure, profile"),
        (["kl30", "on", "now"], 64, "'now' is too much: on takes no more words"),
        (["kl30", "set"], 64, "set needs --voltage, --current, or both"),
        (["kl30", "on", "--voltage", "9"], 64, "--voltage goes with set, not with on"),
        (["kl30", "set", "--voltage", "17"], 65, "voltage is 17 V; channel battery is limited to 16 V"),
        (["kl30", "set", "--voltage", "nan"], 65, "voltage is nan V; it must be 0 or more"),
        (
            ["set", "--voltage", "9"],
            65,
            "name the channel to set: bench bench-1 has power channels battery, kl15, camera",
        ),
        (["kl30", "profile"], 64, "profile needs a file, or the name of a built-in one"),
        (["kl30", "profile", "missing.csv"], 64, "profile missing.csv cannot be read: No such file or directory"),
        (["kl30", "profile", "iso16750_rest"], 65, "no power profile 'iso16750_rest'; did you mean iso16750_reset"),
    ],
)
def test_what_cannot_be_done_is_named(
    labctl: Labctl, supply: FakeScpiSupply, words: list[str], code: int, message: str
) -> None:
    result = labctl("power", "bench-1", *words)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert not supply.outputs[1].on


def test_a_bad_line_of_a_profile_is_named_before_the_bench_is_leased(
    labctl: Labctl, labd: FakeLabd, tmp_path: Path
) -> None:
    file = tmp_path / "dip.csv"
    file.write_text("0,12\n10;6\n")
    result = labctl("power", "bench-1", "kl30", "profile", str(file))
    assert result.exit_code == 64
    assert "dip.csv, line 2 is '10;6'; it must be milliseconds and volts: 100, 4.5" in result.stderr
    assert not labd.leases


def test_a_supply_that_answers_nonsense_ends_with_2(labctl: Labctl, supply: FakeScpiSupply) -> None:
    supply.nonsense["MEAS:VOLT?"] = b"???\n"
    result = labctl("power", "bench-1", "kl30", "measure")
    assert result.exit_code == 2
    assert "answered 'MEAS:VOLT?' with '???'; expected a number" in result.stderr
