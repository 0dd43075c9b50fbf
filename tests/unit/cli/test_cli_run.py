import json
import os
import pty
import signal
import threading
from base64 import b64decode
from pathlib import Path

import pytest

from labd.cli import files
from tests.unit.cli.conftest import Labctl, Process
from tests.unit.client.fake_labd import FakeLabd, make_result


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "speed.lua"
    file.write_bytes(b"-- Lua\r\n")
    return file


def test_submitting_prints_the_run_and_how_to_follow_it(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    labd.free = False
    result = labctl("run", str(script), "--selector", "platform=meb", "--timeout", "90s", "--priority", "high")
    assert (result.exit_code, result.stdout) == (0, "run-1 PENDING, position 2 in the queue\n")
    assert "labctl run logs -f run-1" in result.stderr
    asked = labd.asked("POST", "/runs")[0]
    assert asked["holder"].count("@") == 1
    assert {**asked, "holder": ""} == {
        "script": "-- Lua\r\n",
        "name": "speed.lua",
        "files": {},
        "selector": "platform=meb",
        "holder": "",
        "priority": "high",
        "timeout_s": 90.0,
    }


def test_several_selectors_ask_for_several_benches_at_once(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    assert labctl("run", str(script), "-l", "role=sender", "-l", "3*role=receiver", "--same-site").exit_code == 0
    asked = labd.asked("POST", "/runs")[0]
    assert asked["benches"] == [{"selector": "role=sender", "count": 1}, {"selector": "role=receiver", "count": 3}]
    assert asked["same_site"] is True
    assert "selector" not in asked


def test_options_may_come_before_the_script(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    assert labctl("run", "--name", "nightly", str(script)).exit_code == 0
    assert labd.asked("POST", "/runs")[0]["name"] == "nightly"


def test_a_file_with_the_name_of_a_command_is_given_with_a_path(
    labctl: Labctl, labd: FakeLabd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ls").write_text("-- Lua")
    assert labctl("run", "ls").exit_code == 0
    assert labd.asked("POST", "/runs") == []
    assert labctl("run", "./ls").exit_code == 0
    assert labd.asked("POST", "/runs")[0]["name"] == "ls"


@pytest.mark.parametrize(("state", "code"), [("PASSED", 0), ("FAILED", 1), ("ERROR", 2), ("CANCELLED", 3)])
def test_the_exit_code_is_the_verdict(labctl: Labctl, labd: FakeLabd, script: Path, state: str, code: int) -> None:
    labd.instant_end = state
    result = labctl("run", str(script), "--wait")
    assert result.exit_code == code
    lines = result.stdout.splitlines()
    assert lines[:2] == ["09:30:00.125 one", "09:30:00.125 two"]
    assert "CASE" in result.stdout
    assert "speed.lua:7: expected 1500, got 812" in result.stdout
    assert lines[-1].startswith(f"{state}  speed.lua on bench-1 in ")


def test_a_run_without_result_says_why(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    labd.free = False

    def fail() -> None:
        labd.wait_for(lambda: labd.asked("GET", "/runs/run-1"))
        with labd.changed:
            labd.start_run(labd.runs["run-1"])
            labd.end_run(labd.runs["run-1"], "ERROR", "the runner was killed by SIGKILL")

    failing = threading.Thread(target=fail)
    failing.start()
    result = labctl("run", str(script), "--wait")
    failing.join()
    assert result.exit_code == 2
    assert "run run-1 waits for any bench: position 2 in the queue" in result.stderr
    assert result.stdout.splitlines()[-1] == "  the runner was killed by SIGKILL"


def test_json_keeps_the_log_off_stdout(labctl: Labctl, script: Path) -> None:
    result = labctl("run", str(script), "--wait", "-o", "json")
    document = json.loads(result.stdout)
    assert (document["run"]["state"], document["result"]["version"]) == ("PASSED", 1)
    assert "09:30:00.125 one\n" in result.stderr


def test_results_are_saved(labctl: Labctl, script: Path, tmp_path: Path) -> None:
    junit, saved = tmp_path / "junit.xml", tmp_path / "result.json"
    assert labctl("run", str(script), "--junit", str(junit), "--result", str(saved)).exit_code == 0
    assert junit.read_text() == "<testsuites/>"
    assert json.loads(saved.read_text())["result"]["cases"][0]["name"] == "names itself"


def test_a_folder_that_does_not_exist_is_told_before_the_run(
    labctl: Labctl, labd: FakeLabd, script: Path, tmp_path: Path
) -> None:
    result = labctl("run", str(script), "--junit", str(tmp_path / "nix" / "junit.xml"))
    assert result.exit_code == 64
    assert "does not exist" in result.stderr
    assert labd.requests == []


def test_a_result_that_cannot_be_saved_is_no_success_but_hides_no_verdict(
    labctl: Labctl, labd: FakeLabd, script: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").mkdir()
    result = labctl("run", str(script), "--junit", str(tmp_path / "taken"))
    assert result.exit_code == 74
    assert "PASSED" in result.stdout
    assert "taken cannot be written: Is a directory" in result.stderr
    labd.instant_end = "FAILED"
    assert labctl("run", str(script), "--junit", str(tmp_path / "taken")).exit_code == 1


def test_lua_files_beside_the_script_go_up_with_it(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    for name in ("helper.lua", "lib/deep/can.lua", ".git/hook.lua", "readme.md"):
        file = script.parent / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"-- {name}")
    (script.parent / "loop").symlink_to(script.parent, target_is_directory=True)
    labctl("run", str(script))
    labctl("run", str(script), "--no-files")
    first, second = labd.asked("POST", "/runs")
    assert first["files"] == {"helper.lua": "-- helper.lua", "lib/deep/can.lua": "-- lib/deep/can.lua"}
    assert second["files"] == {}


def test_named_files_go_up_under_the_name_that_the_script_uses(
    labctl: Labctl, labd: FakeLabd, script: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    beside, elsewhere = script.parent / "logs" / "trip.blf", tmp_path_factory.mktemp("elsewhere") / "app.bin"
    beside.parent.mkdir()
    for file in (beside, elsewhere):
        file.write_bytes(bytes(range(256)))
    labctl("run", str(script), "--file", str(beside), "--file", str(elsewhere))
    sent = labd.asked("POST", "/runs")[0]["data_files"]
    assert {name: b64decode(content) for name, content in sent.items()} == {
        "logs/trip.blf": bytes(range(256)),
        "app.bin": bytes(range(256)),
    }


def test_named_files_that_cannot_go_up_are_refused(
    labctl: Labctl,
    labd: FakeLabd,
    script: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = (tmp_path_factory.mktemp("folder") / "x.blf" for _ in range(2))
    for file in (one, other):
        file.write_bytes(b"12345")
    same = labctl("run", str(script), "--file", str(one), "--file", str(other))
    assert (same.exit_code, "two files are called 'x.blf'" in same.stderr) == (64, True)
    missing = labctl("run", str(script), "--file", str(script.parent / "nix.blf"))
    assert (missing.exit_code, "nix.blf' does not exist" in missing.stderr) == (64, True)
    monkeypatch.setattr(files, "MAX_DATA_BYTES", 4)
    large = labctl("run", str(script), "--file", str(one))
    assert (large.exit_code, "the most that a run takes" in large.stderr) == (64, True)
    assert labd.requests == []


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda folder: [(folder / f"{n}.lua").touch() for n in range(257)], "more than 256 *.lua files"),
        (lambda folder: (folder / "big.lua").write_bytes(b"-" * 1024 * 1024), "more than 1024 KiB, with"),
        (lambda folder: (folder / "latin.lua").write_bytes(b"-- \xe9"), "latin.lua is not UTF-8 text: byte 0xE9"),
    ],
)
def test_too_much_or_unreadable_beside_the_script_is_refused(
    labctl: Labctl, labd: FakeLabd, script: Path, make: object, hint: str
) -> None:
    assert callable(make)
    make(script.parent)
    result = labctl("run", str(script))
    assert result.exit_code == 64
    assert hint in result.stderr
    assert labd.requests == []
    assert labctl("run", str(script), "--no-files").exit_code == 0


def test_a_script_in_a_huge_tree_does_not_read_the_whole_disk(
    labctl: Labctl, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_ENTRIES", 10)
    for number in range(11):
        (script.parent / f"{number}.txt").touch()
    result = labctl("run", str(script))
    assert (result.exit_code, "--no-files" in result.stderr) == (64, True)


def test_a_script_that_is_too_large_is_refused(labctl: Labctl, script: Path) -> None:
    script.write_bytes(b"-" * (1024 * 1024 + 1))
    assert labctl("run", str(script)).exit_code == 64


def test_a_refused_run_is_one_line(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    labd.refuse("POST", "/runs", 422, "this can never be granted: no bench has platform=mib")
    result = labctl("run", str(script), "-l", "platform=mib", "--wait")
    assert (result.exit_code, result.stderr.count("\n")) == (65, 1)


def test_ls_and_show(labctl: Labctl, labd: FakeLabd) -> None:
    run = labd.add_run()
    labd.add_run(selector="platform=meb")
    labd.start_run(run)
    labd.end_run(run, "FAILED", "1 of 2 cases failed")
    labd.results[run["id"]] = result = make_result()
    result["cases"][1]["frames"] = [{"bus": "powertrain", "time": 1699999999.123456, "frame": "123#1122"}]
    listed = labctl("run", "ls").stdout.splitlines()
    assert listed[1].split()[:3] == ["run-1", "FAILED", "speed.lua"]
    assert "1 passed, 1 failed" in listed[1]
    assert listed[2].endswith("position 2 in the queue")
    assert [one["id"] for one in json.loads(labctl("run", "ls", "--state", "failed", "-o", "json").stdout)] == ["run-1"]
    shown = labctl("run", "show", "run-1").stdout
    assert "1 of 2 cases failed" in shown
    assert "speed.lua:7: expected 1500, got 812" in shown
    assert "(1699999999.123456) powertrain 123#1122" in shown
    assert json.loads(labctl("run", "show", "run-2", "-o", "json").stdout)["result"] is None


def test_logs(labctl: Labctl, labd: FakeLabd) -> None:
    run = labd.add_run()
    labd.say(run, "one", "\x1b[2Jtwo")
    labd.say(run, "bad", level="error")
    assert labctl("run", "logs", "run-1", "--after", "1").stdout.splitlines() == [
        "09:30:00.125 \\x1b[2Jtwo",
        "09:30:00.125 error: bad",
    ]
    labd.end_run(run)
    followed = labctl("run", "logs", "-f", "run-1", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in followed] == [1, 2, 3]
    assert labctl("run", "logs", "nix").exit_code == 65


def test_cancel(labctl: Labctl, labd: FakeLabd) -> None:
    labd.add_run()
    assert labctl("run", "cancel", "run-1").stdout == "run-1 speed.lua: CANCELLED\n"
    assert labd.runs["run-1"]["state"] == "CANCELLED"


@pytest.mark.parametrize(
    ("options", "number", "code", "state"),
    [
        ([], signal.SIGINT, 130, "CANCELLED"),
        ([], signal.SIGTERM, 143, "CANCELLED"),
        (["--detach"], signal.SIGINT, 130, "RUNNING"),
    ],
)
def test_an_interrupt_while_waiting_cancels_the_run_unless_detached(
    labd: FakeLabd,
    labctl_process: Process,
    script: Path,
    options: list[str],
    number: signal.Signals,
    code: int,
    state: str,
) -> None:
    labd.instant_end = ""
    with labctl_process("run", str(script), "--wait", *options) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().endswith("one\n")
        process.send_signal(number)
        assert process.wait(15) == code
        said = process.stderr.read()
    assert labd.runs["run-1"]["state"] == state
    assert ("run run-1 CANCELLED" in said) == (state == "CANCELLED")
    assert ("labctl run logs -f run-1" in said) == (state == "RUNNING")
    assert "Traceback" not in said


def test_on_a_terminal_the_log_passes_above_the_live_line(
    labd: FakeLabd, labctl_process: Process, script: Path
) -> None:
    labd.instant_end = ""
    master, slave = pty.openpty()
    with (
        os.fdopen(master, "rb", buffering=0) as screen,
        labctl_process("run", str(script), "--wait", stdout=slave, stderr=slave, stdin=slave) as process,
    ):
        os.close(slave)
        shown = b""
        while b"09:30:00.125 two\r\n" not in shown or b"run run-1 on bench-1  " not in shown:
            shown += screen.read(4096)
        with labd.changed:
            labd.end_run(labd.runs["run-1"])
            labd.changed.notify_all()
        while b"(run run-1)" not in shown:
            shown += screen.read(4096)
        assert process.wait(10) == 0


def test_a_labd_that_restarts_does_not_lose_the_log(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    labd.cut_log_after = [1]
    result = labctl("run", str(script), "--wait")
    assert [line.split()[-1] for line in result.stdout.splitlines()[:2]] == ["one", "two"]
    assert result.exit_code == 0


def test_a_run_in_a_cluster_names_it_and_shows_its_attempts(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    assert labctl("run", str(script), "--on", "kubernetes", "--cluster", "lab-a").exit_code == 0
    asked = labd.asked("POST", "/runs")[0]
    assert (asked["executor"], asked["cluster"]) == ("kubernetes", "lab-a")
    lost = {"number": 1, "lease_id": "l-1", "benches": ["bench-1"], "started_at": "2026-11-21T09:30:00Z"}
    lost |= {"ended_at": "2026-11-21T09:30:07Z", "cause": "Evicted", "reason": "node-3 is drained"}
    present = lost | {"number": 2, "lease_id": "l-2", "started_at": None, "ended_at": None, "cause": None, "reason": ""}
    run = labd.add_run(executor="kubernetes", cluster="lab-a", attempts=[lost, present])
    shown = labctl("run", "show", run["id"]).stdout
    assert "kubernetes, cluster lab-a" in shown
    assert "Evicted: node-3 is drained" in shown
    assert shown.count("bench-1") == 2


def test_a_script_from_git_is_named_instead_of_a_file(labctl: Labctl, labd: FakeLabd, script: Path) -> None:
    url = "https://git.example.com/tests.git"
    assert labctl("run", "--git", url, "--git-path", "smoke.lua", "--on", "kubernetes").exit_code == 0
    asked = labd.asked("POST", "/runs")[0]
    assert asked["git"] == {"url": url, "path": "smoke.lua", "revision": "HEAD"}
    assert "script" not in asked
    for wrong, message in (
        (("run", "--git", url), "needs --git-path"),
        (("run", str(script), "--git", url, "--git-path", "a.lua"), "not both"),
        (("run", str(script), "--git-revision", "main"), "go with --git URL"),
        (("run", "--selector", "a=b"), "Missing SCRIPT"),
    ):
        result = labctl(*wrong)
        assert (result.exit_code, message in result.stderr) == (64, True), result.stderr
    run = labd.add_run(git=asked["git"], commit="2f4c0a9d5b1e7788a3c6f0de91b2a4c5d6e7f801")
    assert f"{url} smoke.lua at HEAD, commit 2f4c0a9d" in labctl("run", "show", run["id"]).stdout
