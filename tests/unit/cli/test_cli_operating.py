"""labctl in an operator's hands, against a labd that is served: what it prints, and with which exit code it ends."""

import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from labd.cli.main import main
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, FakeExecutor, attach, open_lab, report, settle
from tests.unit.labd.serving import serving

Operate = Callable[..., Result]
REFUSED, USAGE, FAILED = 65, 64, 1
PASSPHRASE = "correct horse battery"


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture
def lab(tmp_path: Path, executor: FakeExecutor) -> Iterator[Lab]:
    clock = FakeClock()
    clock.time = time.time()
    (tmp_path / "labd").mkdir()
    lab = open_lab(tmp_path / "labd", clock, executor)
    attach(lab, report("bench-1", {"site": "a"}), report("bench-2", {"site": "b"}))
    yield lab
    lab.core.store.close()


@pytest.fixture
def labctl(lab: Lab) -> Iterator[Operate]:
    # What labd logs, in this process, is no output of labctl.
    with serving(lab) as (host, port), structlog.testing.capture_logs():

        def call(*arguments: str, **options: Any) -> Result:
            command = ["--labd", f"http://{host}:{port}", *arguments]
            result = CliRunner().invoke(main, command, prog_name="labctl", **options)
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            return result

        yield call


def answered(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refusal(result: Result, code: int = REFUSED) -> str:
    assert (result.exit_code, result.stdout) == (code, "")
    return result.stderr


def test_drain_keeps_leases_away_until_undrain(labctl: Operate) -> None:
    drained = answered(labctl("bench", "drain", "bench-1", "--reason", "new cables"))
    assert drained == "bench-1 is drained, and gets no new lease (new cables)\n"
    assert "bench-1  drained" in answered(labctl("bench", "ls"))
    waiting = answered(labctl("lease", "acquire", "-l", "name=bench-1", "--no-wait"))
    assert "bench-1 is drained (new cables)" in waiting
    assert answered(labctl("bench", "undrain", "bench-1")) == "bench-1 is leased\n", "to who waited"
    assert "there is no bench 'rig'; the lab knows bench-1, bench-2" in refusal(labctl("bench", "drain", "rig"))


def test_a_bench_that_is_drained_while_it_is_leased_says_so(labctl: Operate) -> None:
    answered(labctl("lease", "acquire", "-l", "name=bench-1", "--no-wait"))
    answered(labctl("bench", "drain", "bench-1", "--reason", "new cables"))
    assert re.search(r"^bench-1 +leased .*draining: new cables$", answered(labctl("bench", "ls")), re.MULTILINE)
    assert re.search(r"^state +leased, draining: new cables$", answered(labctl("bench", "show", "bench-1")), re.M)


def test_what_was_released_is_told_although_a_later_one_is_refused(labctl: Operate) -> None:
    mine = json.loads(answered(labctl("lease", "acquire", "-l", "name=bench-1", "--no-wait", "-o", "json")))["id"]
    released = labctl("lease", "release", mine, "l-000000000000")
    assert (released.exit_code, released.stdout) == (REFUSED, f"{mine} bench-1: it was released\n")


def test_runs_and_leases_are_for_the_team_that_is_named(labctl: Operate, tmp_path: Path) -> None:
    script = tmp_path / "one.lua"
    script.write_text("return 1")
    for team in ("default", "blue"):
        run = json.loads(answered(labctl("run", str(script), "--team", team, "--affinity", "fw-1", "-o", "json")))
        lease = json.loads(answered(labctl("lease", "show", run["lease_id"], "-o", "json")))
        assert (run["team"], lease["affinity"]) == (team, "fw-1")
    assert re.search(r"^team +blue$", answered(labctl("run", "show", run["id"])), re.MULTILINE)


def test_an_agent_is_drained_with_all_its_benches(labctl: Operate) -> None:
    drained = answered(labctl("agent", "drain", "agent-1", "--reason", "moving"))
    assert drained == "agent agent-1 is drained: bench-1, bench-2 get no new lease\n"
    assert "unproved, draining" in answered(labctl("agent", "ls"))
    assert re.search("draining +moving", answered(labctl("agent", "show", "agent-1")))
    still = answered(labctl("bench", "undrain", "bench-1"))
    assert still == "bench-1 is drained, and gets no new lease (its agent agent-1 is drained: moving)\n"
    assert answered(labctl("agent", "undrain", "agent-1")) == "agent agent-1 is not drained any more\n"
    assert answered(labctl("bench", "drain", "bench-2")) == "bench-2 is drained, and gets no new lease\n"
    assert "there is no agent 'agent-9'; the lab knows agent-1" in refusal(labctl("agent", "drain", "agent-9"))


def test_a_bench_without_quarantine_has_none_to_clear(labctl: Operate) -> None:
    assert "bench bench-1 is in no quarantine; it is healthy" in refusal(labctl("bench", "clear", "bench-1"))


def test_a_booking_is_in_the_calendar_and_in_the_way_of_the_next(labctl: Operate) -> None:
    empty = labctl("bench", "calendar", "bench-1", "--for", "30m")
    assert empty.stderr == "nobody has bench-1, and nobody has booked it\n"
    assert re.fullmatch(r"free for 30 min 00 s: from \S+ \((now|\d+\.\d s ago)\)\n", answered(empty))
    one = json.loads(
        answered(labctl("lease", "book", "-l", "name=bench-1", "--from", "+2h", "--for", "1h", "-o", "json"))
    )
    assert (one["state"], one["held"], one["reserved"]) == ("QUEUED", True, ["bench-1"])
    listed = answered(labctl("bench", "calendar", "bench-1", "--for", "3h")).splitlines()
    assert listed[0].split() == ["FROM", "UNTIL", "TAKEN", "HOLDER", "LEASE"]
    assert listed[1].split()[2::2] == ["booked", one["id"]]
    assert "in 3 h" in listed[2], "after the booking: 3 h do not fit before"
    shown = answered(labctl("lease", "show", one["id"]))
    assert re.search(r"booked +bench-1 from \S+ \(in (2 h 00|1 h 59) min\) for 1 h 00 min", shown)
    conflict = refusal(labctl("lease", "book", "-l", "name=bench-1", "--from", "+150m", "--for", "1h"))
    assert f"this cannot be booked: lease {one['id']} has bench-1 from" in conflict
    assert "the next free slot starts at" in conflict
    far = refusal(labctl("lease", "book", "--from", "+15d", "--for", "1h"))
    assert "starts_at" in far
    assert "a booking starts between now and 14 days from now" in far


def test_several_such_benches_are_leased_or_refused_at_once(labctl: Operate) -> None:
    pair = answered(labctl("lease", "acquire", "-l", "2*site in (a,b)"))
    assert "bench-1 at agent-1.test:8472" in pair
    assert "bench-2 at agent-1.test:8472" in pair
    assert "3 are wanted, the lab has 2 such benches" in refusal(labctl("lease", "acquire", "-l", "3*"))


def test_a_share_is_taken_back(labctl: Operate) -> None:
    held = json.loads(answered(labctl("lease", "acquire", "-l", "name=bench-1", "-o", "json")))["id"]
    answered(labctl("lease", "share", held, "--with", "bob"))
    assert re.search(r"shared +with bob \(observer\)", answered(labctl("lease", "show", held)))
    assert answered(labctl("lease", "unshare", held, "bob")) == f"{held} is not shared with bob any more\n"
    nobody = refusal(labctl("lease", "unshare", held, "bob"))
    assert f"lease {held} is not shared with 'bob': it is shared with nobody" in nobody


def test_a_run_that_broke_is_run_again_elsewhere(
    labctl: Operate, lab: Lab, executor: FakeExecutor, tmp_path: Path
) -> None:
    script = tmp_path / "x.lua"
    script.write_text("return 1")
    run = answered(labctl("run", str(script))).split()[0]
    settle(lab)
    assert "it can be run again once it is over" in refusal(labctl("run", "again", run))
    executor.die(run, "the bench caught fire")
    settle(lab)
    again = labctl("run", "again", run)
    second = answered(again).split()[0]
    assert again.stderr == f"follow it with: labctl run logs -f {second}\n"
    settle(lab)
    benches = [lab.running.get(one).benches for one in (run, second)]
    assert benches[0] != benches[1]


def test_audit_lists_exports_and_verifies(labctl: Operate, lab: Lab, tmp_path: Path) -> None:
    answered(labctl("bench", "drain", "bench-1", "--reason", "new cables"))
    heading, entry = answered(labctl("audit", "ls", "--action", "bench")).splitlines()
    assert heading.split() == ["SEQ", "TIME", "ACTOR", "ACTION", "SUBJECT", "WHAT", "WHY"]
    for text in ("anonymous", "bench.drained", "bench/bench-1", "draining: false → true", "new cables"):
        assert text in entry
    nothing = labctl("audit", "ls", "--actor", "eve")
    assert (answered(nothing), nothing.stderr) == ("", "nothing like that is on record\n")
    assert labctl("audit", "ls", "--since", "noon").exit_code == USAGE
    exported = tmp_path / "audit.jsonl"
    answered(labctl("audit", "export", "--file", str(exported)))
    lines = [json.loads(line) for line in exported.read_text().splitlines()]
    answered(labctl("lease", "acquire", "-l", "name=bench-2"))
    granted = answered(labctl("audit", "ls", "--action", "lease.granted"))
    assert re.search(r"expires_at: null → 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", granted)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    sound = answered(labctl("audit", "verify"))
    head = sound.split()[-1]
    checked = int(head.split(":")[0])
    assert sound == f"{checked} entries are sound; the log ends at {head}\n"
    assert checked > len(lines)
    assert answered(labctl("audit", "verify", "--expect", head)) == sound
    other = refusal(labctl("audit", "verify", "--expect", f"{checked}:{'0' * 64}"), FAILED)
    assert "the audit log was tampered with" in other


def test_secrets_go_in_by_stdin_or_file_and_never_come_out(labctl: Operate, tmp_path: Path) -> None:
    assert answered(labctl("secret", "set", "db", input="hunter2-hunter2\n")) == "secret db of team default is set\n"
    binary = tmp_path / "key"
    binary.write_bytes(b"\xff\xfe")
    no_text = refusal(labctl("secret", "set", "key", "--from-file", str(binary)), USAGE)
    assert f"{binary} is not UTF-8 text" in no_text
    listed = labctl("secret", "ls")
    assert "default" in answered(listed)
    assert "db" in listed.stdout
    assert "hunter2" not in listed.stdout + answered(labctl("secret", "ls", "-o", "json"))
    answered(labctl("env", "set", "staging", "HOST=db.test", "--secret", "PASSWORD=db"))
    in_use = refusal(labctl("secret", "rm", "db"))
    assert "staging" in in_use
    answered(labctl("env", "rm", "staging"))
    assert answered(labctl("secret", "rm", "db")) == "secret db is gone\n"
    gone = labctl("secret", "ls")
    assert (answered(gone), gone.stderr) == ("", "there are no secrets\n")
    assert "HOST: write NAME=VALUE" in refusal(labctl("env", "set", "staging", "HOST"), USAGE).replace("'", "")


def test_retention_is_shown_tried_set_and_swept(labctl: Operate, tmp_path: Path) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"default": {"runs_days": 30}, "audit_days": 400}))
    nothing = "0 runs, 0 leases, 0 logs (0.0 MB) of other runs, 0 files, 0 audit entries\n"
    assert answered(labctl("retention", "apply", str(rules), "--dry-run")) == f"would be removed: {nothing}"
    assert json.loads(answered(labctl("retention", "show")))["audit_days"] is None, "a dry run changes nothing"
    assert answered(labctl("retention", "apply", str(rules))) == "the rules are set\n"
    shown = json.loads(answered(labctl("retention", "show")))
    assert (shown["default"]["runs_days"], shown["audit_days"]) == (30, 400)
    assert answered(labctl("retention", "sweep")) == f"removed: {nothing}"
    rules.write_text(json.dumps({"default": {"runs_days": -1}}))
    wrong = refusal(labctl("retention", "apply", str(rules)))
    assert "runs_days" in wrong
    assert "-1" in wrong
    rules.write_text("{")
    assert "rules.json" in refusal(labctl("retention", "apply", str(rules)), USAGE)


def test_a_policy_is_refused_with_all_its_mistakes(labctl: Operate, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(
        json.dumps({"idle_release_s": 600, "idle_notice_s": 900, "teams": [{"name": "a", "classes": ["nromal"]}]})
    )
    wrong = refusal(labctl("policy", "apply", str(file)))
    assert "idle_notice_s" in wrong
    assert "it must be below idle_release_s (600)" in wrong
    assert "did you mean 'normal'" in wrong or "normal" in wrong
    file.write_text(json.dumps({"idle_release_s": 600, "idle_notice_s": 60}))
    assert answered(labctl("policy", "apply", str(file))) == "the policy holds from now on\n"
    assert "10 min 00 s without use, told 1 min 00 s before" in answered(labctl("policy", "show"))


def labd(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "labd.daemon", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))


def test_a_backup_is_made_verified_and_restored(labctl: Operate, lab: Lab, tmp_path: Path) -> None:
    answered(labctl("lease", "acquire", "-l", "name=bench-1"))
    file, passphrase = tmp_path / "lab.backup", tmp_path / "passphrase"
    passphrase.write_text(f"{PASSPHRASE}\n")
    made = answered(labctl("backup", "make", str(file), "--passphrase-file", str(passphrase)))
    assert re.fullmatch(rf"{file}: \d+ rows, schema \d{{4}}, of \S+Z, keys sealed in it\n", made)
    assert file.stat().st_mode & 0o077 == 0, "it is for its owner's eyes"
    assert f"{file} exists; choose another name, or --force" in refusal(labctl("backup", "make", str(file)), USAGE)
    assert answered(labctl("backup", "make", str(tmp_path / "bare.backup"))).endswith(", without keys\n")
    assert answered(labctl("backup", "verify", str(file))).startswith(f"{file}: ")

    restored = labd("restore", str(file), "--data", str(tmp_path / "new"), "--passphrase-file", str(passphrase))
    assert restored.returncode == 0, restored.stderr
    assert "1 live leases ended (restored), 0 wait as before" in restored.stdout
    assert "keys are restored into" in restored.stdout
    twice = labd("restore", str(file), "--data", str(tmp_path / "new"))
    assert twice.returncode == 1
    assert "exists already: restore into an empty directory" in twice.stderr

    with zipfile.ZipFile(file) as archive:
        member = max(archive.infolist(), key=lambda one: one.compress_size)
    content = bytearray(file.read_bytes())
    content[member.header_offset + 60 + len(member.filename) + member.compress_size // 2] ^= 1
    file.write_bytes(content)
    assert member.filename in refusal(labctl("backup", "verify", str(file)), FAILED)
    damaged = labd("restore", str(file), "--data", str(tmp_path / "other"))
    assert damaged.returncode == 1
    assert damaged.stderr.startswith("labd: cannot restore: ")
    assert not (tmp_path / "other" / "labd.sqlite3").exists(), "it works as a whole or not at all"


def test_teams_come_and_go(labctl: Operate) -> None:
    answered(labctl("team", "create", "chassis"))
    assert "chassis" in answered(labctl("team", "ls"))
    assert "chassis" in refusal(labctl("team", "create", "chassis"))
    answered(labctl("team", "remove", "chassis", "--reason", "it was dissolved"))
    assert "chassis" not in answered(labctl("team", "ls"))
