import json
import re

from tests.unit.cli.conftest import Labctl
from tests.unit.client.fake_labd import FakeLabd, make_bench


def test_a_pipe_gets_plain_columns(labctl: Labctl, labd: FakeLabd) -> None:
    reason = "can0: no such device"
    labd.benches["rig-2"] = make_bench("rig-2", state="unavailable", health="unhealthy", health_reason=reason)
    heading, first, second = labctl("bench", "ls").stdout.splitlines()
    assert heading.split() == ["BENCH", "STATE", "HEALTH", "HOLDER", "ECUS", "LABELS", "REASON"]
    assert first.split() == ["bench-1", "available", "healthy", "-", "ECM", "name=bench-1,platform=meb", "-"]
    assert second.endswith(reason)


def test_json_is_what_labd_says(labctl: Labctl, labd: FakeLabd) -> None:
    assert json.loads(labctl("bench", "ls", "-o", "json").stdout) == list(labd.benches.values())
    shown = json.loads(labctl("bench", "show", "bench-1", "-o", "json").stdout)
    assert shown.pop("etag")
    assert shown == labd.benches["bench-1"]


def test_no_bench_leaves_stdout_empty(labctl: Labctl, labd: FakeLabd) -> None:
    labd.benches.clear()
    result = labctl("bench", "ls", "--selector", "a=b")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "no bench matches 'a=b'\n", 0)
    assert labd.asked("GET", "/benches") == [{"selector": "a=b", "limit": "1000"}]


def test_a_selector_that_is_none_is_one_line(labctl: Labctl, labd: FakeLabd) -> None:
    labd.refuse("GET", "/benches", 422, "selector 'a in (', column 7: expected a value")
    result = labctl("bench", "ls", "-l", "a in (")
    assert (result.exit_code, result.stderr) == (65, "Error: selector 'a in (', column 7: expected a value\n")


def test_show_tells_buses_ecus_and_dids(labctl: Labctl, labd: FakeLabd) -> None:
    ecus = labd.benches["bench-1"]["ecus"]
    ecus[0]["dids"].append({"name": "Voltage", "did": 0xD001, "type": "uint", "unit": "V"})
    ecus.append({**ecus[0], "name": "GW", "request_id": 0x98DA10F1, "response_id": 0x98DAF110, "simulated": False})
    shown = labctl("bench", "show", "bench-1").stdout
    assert "powertrain: virtual pt, error-active, messages EngineStatus" in shown
    assert "ECM: on powertrain, request 7E0, response 7E8, simulated" in shown
    assert "GW: on powertrain, request 18DA10F1, response 18DAF110\n" in shown
    assert "F190  VIN  ascii\n" in shown
    assert "D001  Voltage  uint in V\n" in shown


def test_show_tells_consoles_power_and_adapters(labctl: Labctl) -> None:
    shown = labctl("bench", "show", "bench-1").stdout
    assert "linux: /dev/ttyUSB0, 115200 bit/s\n" in shown
    assert re.search(r"battery: terminal 30, main \(scpi\), on, 13\.5 V 0\.25 A \d+\.\d s ago\n", shown)
    assert "camera: pdu (command), unknown\n" in shown
    assert "door: servo, methods close, open\n" in shown


def test_show_tells_how_the_last_lease_was_cleaned_up(labctl: Labctl, labd: FakeLabd) -> None:
    labd.benches["bench-1"] |= {
        "health": "quarantined",
        "health_reason": "the supply does not answer",
        "last_clean_up": [
            {"name": "close the diagnostic sessions", "elapsed_ms": 3, "fault": None},
            {"name": "power to the safe state", "elapsed_ms": 5000, "fault": "the supply does not answer"},
        ],
    }
    shown = labctl("bench", "show", "bench-1").stdout
    assert "quarantined: the supply does not answer" in shown
    assert "close the diagnostic sessions: done (3 ms)" in shown
    assert "power to the safe state: the supply does not answer (5000 ms)" in shown


def test_clear_waits_until_the_quarantine_has_ended(labctl: Labctl, labd: FakeLabd) -> None:
    labd.benches["bench-1"] |= {"health": "quarantined", "health_reason": "hook failed"}
    result = labctl("bench", "clear", "bench-1", "--reason", "a fuse")
    assert (result.stdout, result.exit_code) == ("bench-1 is healthy\n", 0)
    assert labd.asked("POST", "/benches/bench-1/clear-quarantine") == [{"reason": "a fuse"}]
    labd.refuse("POST", "/benches/bench-1/clear-quarantine", 409, "bench bench-1 is in no quarantine; it is healthy")
    assert labctl("bench", "clear", "bench-1").exit_code == 65


def test_an_unknown_bench_is_refused(labctl: Labctl) -> None:
    result = labctl("bench", "show", "nix")
    assert (result.exit_code, result.stderr.count("\n")) == (65, 1)


def test_names_cannot_drive_the_terminal(labctl: Labctl, labd: FakeLabd) -> None:
    labd.benches["bench-1"]["health_reason"] = "\x1b]0;owned\x07\nreason"
    for command in (("bench", "ls"), ("bench", "show", "bench-1")):
        shown = labctl(*command).stdout
        assert "\x1b" not in shown
        assert "\\x1b]0;owned\\x07" in shown
