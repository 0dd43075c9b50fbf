"""labctl as a process against a real labd with the demo's agent: what a tester types, from nothing to a verdict."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deploy.demo.lab import DEMO_AGENT, Lab, running_lab

DEADLINE_S = 90


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_lab(tmp_path_factory.mktemp("lab"), DEMO_AGENT) as running:
        running.wait_for_benches("bench-1", "bench-2")
        yield running


def environment(lab: Lab) -> dict[str, str]:
    return {**os.environ, "LABD_URL": lab.http, "LABD_HOLDER": "tester", "PYTHONUNBUFFERED": "1"}


def labctl(lab: Lab, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "labd.cli", *arguments],
        check=False,
        env=environment(lab),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def start(lab: Lab, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "labd.cli", *arguments],
        env=environment(lab),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def scenario(folder: Path, *lines: str) -> str:
    script = folder / "scenario.lua"
    script.write_text("\n".join(('local test, log = require("test"), require("log")', *lines)))
    return str(script)


def listed(lab: Lab, arguments: Sequence[str] = ("lease", "ls")) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(labctl(lab, *arguments, "-o", "json").stdout)
    return found


def test_benches_are_there(lab: Lab) -> None:
    assert [bench["name"] for bench in listed(lab, ("bench", "ls"))] == ["bench-1", "bench-2"]
    assert "bench-1" in labctl(lab, "bench", "ls", "--selector", "platform=meb").stdout
    assert "VIN" in labctl(lab, "bench", "show", "bench-1").stdout
    assert "bench-1" in labctl(lab, "bench", "show", "nix", code=65).stderr


def test_the_ecu_is_asked_and_the_bench_is_free_again(lab: Lab) -> None:
    shown = labctl(lab, "uds", "bench-1", "ECM", "22F190").stdout
    assert "VIN       WVWZZZ1KZ6W000001" in shown
    refused = json.loads(labctl(lab, "uds", "bench-1", "ECM", "22", "FF", "FF", "-o", "json", code=1).stdout)
    assert refused["negative"] == {
        "service": 0x22,
        "service_name": "ReadDataByIdentifier",
        "nrc": 0x31,
        "nrc_name": "requestOutOfRange",
        "meaning": "a parameter, such as the data identifier, is unknown or out of range",
    }
    assert listed(lab) == []


def test_a_session_lives_as_long_as_the_lease(lab: Lab) -> None:
    lease = json.loads(labctl(lab, "lease", "acquire", "-l", "name=bench-1", "-o", "json").stdout)["id"]
    held = ("--lease", lease)
    assert "session extended" in labctl(lab, "uds", "bench-1", "ECM", "10", "03", *held).stdout
    assert "seed" in labctl(lab, "uds", "bench-1", "ECM", "27", "01", *held).stdout
    assert "ACTIVE" in labctl(lab, "lease", "renew", lease).stdout
    taken = labctl(lab, "uds", "bench-1", "ECM", "22F190", "--timeout", "200ms", code=75)
    assert "did not come free" in taken.stderr
    labctl(lab, "lease", "release", lease)
    assert "conditionsNotCorrect" not in labctl(lab, "uds", "bench-1", "ECM", "22F190").stdout
    assert "serviceNotSupportedInActiveSession" in labctl(lab, "uds", "bench-1", "ECM", "27", "01", code=1).stdout


def test_frames_are_dumped(lab: Lab) -> None:
    dumped = labctl(lab, "can", "dump", "bench-1", "powertrain", "--count", "5", "--filter", "200")
    assert len(dumped.stdout.splitlines()) == 5
    assert all(line.split()[1] == "powertrain" for line in dumped.stdout.splitlines())
    assert dumped.stderr.endswith("5 frames, 0 dropped\n")


def test_a_run_passes_and_its_results_are_saved(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "words.lua").write_text('return { vin = "VIN" }')
    script = scenario(
        tmp_path,
        'local uds, words = require("uds"), require("lib.words")',
        'test.case("the ECU names itself", function()',
        '  log.info("asking for the " .. words.vin)',
        '  test.equal(uds.ecu("ECM"):read(words.vin), "WVWZZZ1KZ6W000001")',
        "end)",
    )
    junit, result = tmp_path / "junit.xml", tmp_path / "result.json"
    options = ("-l", "name=bench-1", "--wait", "--junit", str(junit), "--result", str(result))
    shown = labctl(lab, "run", script, *options).stdout
    assert "asking for the VIN" in shown
    assert shown.splitlines()[-1].startswith("PASSED  scenario.lua on bench-1 in ")
    assert "the ECU names itself" in junit.read_text()
    saved = json.loads(result.read_text())
    assert saved["result"]["cases"][0]["verdict"] == "passed"
    run_id = saved["run"]["id"]
    assert "asking for the VIN" in labctl(lab, "run", "logs", run_id).stdout
    assert "the ECU names itself" in labctl(lab, "run", "show", run_id).stdout
    assert run_id in labctl(lab, "run", "ls", "--state", "passed").stdout


def test_a_check_that_does_not_hold_is_1_and_a_broken_script_is_2(lab: Lab, tmp_path: Path) -> None:
    failing = scenario(tmp_path, 'test.case("sums", function() test.equal(1 + 1, 3) end)')
    assert "scenario.lua:2" in labctl(lab, "run", failing, "--wait", code=1).stdout
    broken = scenario(tmp_path, "this is no Lua")
    assert "scenario.lua:2" in labctl(lab, "run", broken, "--wait", code=2).stdout


def test_ctrl_c_cancels_the_run_and_frees_the_bench(lab: Lab, tmp_path: Path) -> None:
    endless = scenario(tmp_path, 'log.info("off it goes")', "while true do end")
    with start(lab, "run", endless, "-l", "name=bench-1", "--wait") as process:
        assert process.stdout is not None
        assert "off it goes" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130
    newest = listed(lab, ("run", "ls", "--limit", "1"))[0]
    assert newest["state"] == "CANCELLED"
    assert "VIN" in labctl(lab, "uds", "bench-1", "ECM", "22F190", "--timeout", "30s").stdout


def test_hold_until_ctrl_c(lab: Lab) -> None:
    with start(lab, "lease", "acquire", "-l", "name=bench-2", "--hold") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "held until Ctrl-C\n"
        assert [lease["bench"] for lease in listed(lab)] == ["bench-2"]
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    assert listed(lab) == []


def test_bad_input_is_refused_in_one_line(lab: Lab, tmp_path: Path) -> None:
    script = scenario(tmp_path, "")
    for arguments, hint in (
        (("lease", "acquire", "-l", "platform in (meb"), "column"),
        (("lease", "acquire", "-l", "platform=nix"), "platform=nix"),
        (("run", script, "-l", "name=nix", "--wait"), "name=nix"),
        (("run", "logs", "nix"), "nix"),
        (("lease", "renew", "nix"), "nix"),
    ):
        refused = labctl(lab, *arguments, code=65)
        assert hint in refused.stderr
        assert refused.stderr.count("\n") == 1
