"""What holds for every command: help, usage, unreachable labd, completion, start-up."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from labd.cli.exits import MEANING
from labd.cli.main import main
from tests.unit.cli.conftest import Labctl
from tests.unit.client.fake_labd import FakeLabd


def test_help_lists_commands_and_every_exit_code(labctl: Labctl) -> None:
    text = labctl("--help").stdout
    for command in ("bench", "lease", "run", "uds", "can", "flash", "console", "power", "trace", "completion"):
        assert f"\n  {command} " in text
    for code, meaning in MEANING.items():
        assert f"{code:>3}  {meaning}" in text


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["benches"], "No such command 'benches'"),
        (["bench", "ls", "--out", "json"], "--output"),
        (["bench", "show"], "Missing argument 'BENCH'"),
        (["bench", "ls", "-o", "yaml"], "'table', 'json'"),
        (["lease", "acquire", "--duration", "soon"], "'soon' is no duration; write 30m, 1h30m, 45s, 250ms or seconds"),
        (["lease", "acquire", "--duration", "0s"], "must be above 0"),
        (["lease", "acquire", "--hold", "--no-wait"], "does not go with --no-wait"),
        (["lease", "acquire", "--timeout", "1s", "--no-wait"], "does not go with --no-wait"),
        (["lease", "release"], "Missing argument 'ID...'"),
        (["run", "nix.lua"], "'nix.lua' is no file, nor a command (again, cancel, logs, ls, show)"),
        (["uds", "bench-1", "ECM", "22F19"], "odd number of digits"),
        (["uds", "bench-1", "ECM"], "write ECU and REQUEST: labctl uds BENCH ECM 22F190"),
        (["power", "bench-1", "kl30", "onn"], "'onn' is no action; there are on, off, cycle"),
        (["console", "bench-1"], "Missing argument 'NAME'"),
        (["can", "dump", "bench-1", "powertrain", "--filter", "xyz"], "'xyz' is no CAN filter"),
        (["can", "dump", "bench-1", "powertrain", "--filter", "18DAF11"], "eight digits: 018DAF11"),
        (["can", "dump", "bench-1", "powertrain", "--count", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_ends_with_64_and_says_what_would_be_right(
    labctl: Labctl, labd: FakeLabd, arguments: list[str], hint: str
) -> None:
    result = labctl(*arguments)
    assert result.exit_code == 64
    assert hint in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert labd.requests == []


def test_an_unreachable_labd_is_one_line_with_the_url_and_how_to_start_it() -> None:
    result = CliRunner().invoke(main, ["--labd", "http://127.0.0.1:9", "bench", "ls"])
    assert result.exit_code == 69
    assert result.stderr.count("\n") == 1
    assert "labd at http://127.0.0.1:9 cannot be reached" in result.stderr
    assert "labd serve" in result.stderr


def test_a_url_of_something_else_is_one_line(labctl: Labctl, labd: FakeLabd) -> None:
    labd.canned["GET", "/benches"] = (200, "text/html", b"<html>\n\x1b[31mrouter</html>")
    result = labctl("bench", "ls")
    assert (result.exit_code, result.stderr.count("\n")) == (69, 1)
    assert "does not answer as labd does" in result.stderr
    assert "\x1b" not in result.stderr


def test_a_bad_url_is_refused() -> None:
    result = CliRunner().invoke(main, ["bench", "ls"], env={"LABD_URL": "localhost:8470"})
    assert result.exit_code == 69
    assert "http://127.0.0.1:8470" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(labctl: Labctl, shell: str) -> None:
    script = labctl("completion", shell).stdout
    assert f"_LABCTL_COMPLETE={shell}_complete" in script


def completions(labd: FakeLabd, line: str) -> list[str]:
    words = line.split(" ")
    environment = {"_LABCTL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = CliRunner().invoke(main, [], prog_name="labctl", env={**environment, "LABD_URL": labd.url})
    return [entry.partition(",")[2] or entry for entry in result.stdout.splitlines()]


def test_completion_offers_names_that_labd_knows(labd: FakeLabd) -> None:
    labd.grant(labd.add_lease())
    labd.add_run()
    assert completions(labd, "labctl bench show b") == ["bench-1"]
    assert completions(labd, "labctl uds bench-1 ") == ["ECM"]
    assert completions(labd, "labctl can dump bench-1 ") == ["powertrain"]
    assert completions(labd, "labctl lease release ") == ["lease-1"]
    assert completions(labd, "labctl run logs ") == ["run-1"]


def test_completion_of_run_offers_commands_files_and_options(labd: FakeLabd) -> None:
    assert completions(labd, "labctl run l") == ["logs", "ls", "l"]
    assert "--selector" in completions(labd, "labctl run --s")
    assert "--wait" in completions(labd, "labctl run x.lua --w")


def test_completion_without_labd_is_silent() -> None:
    environment = {"_LABCTL_COMPLETE": "bash_complete", "COMP_WORDS": "labctl bench show ", "COMP_CWORD": "3"}
    result = CliRunner().invoke(main, [], prog_name="labctl", env={**environment, "LABD_URL": "http://127.0.0.1:9"})
    assert (result.stdout.strip(), result.stderr, result.exit_code) == ("", "", 0)


def test_listing_benches_into_a_pipe_loads_neither_grpc_nor_rich(labd: FakeLabd) -> None:
    code = (
        "import sys\nfrom labd.cli.main import main\nmain(['bench', 'ls', '-o', 'json'], standalone_mode=False)\n"
        "heavy = ('grpc', 'rich', 'pydantic', 'fastapi', 'google.protobuf', 'asyncio', 'bench_agent.client')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LABD_URL": labd.url},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert json.loads(process.stdout)[0]["name"] == "bench-1"
    assert process.stderr == "[]\n"


def test_a_command_that_is_mistyped_is_told_with_the_one_that_was_meant(labctl: Labctl) -> None:
    result = labctl("benhc", "ls")
    assert result.exit_code == 64
    assert "No such command 'benhc'. Did you mean 'bench'?" in result.stderr


@pytest.mark.parametrize("fingerprint", ["xyz", "ab" * 31, "ab" * 33])
def test_what_is_no_fingerprint_is_refused_before_anybody_is_asked(labctl: Labctl, fingerprint: str) -> None:
    result = labctl("login", "https://127.0.0.1:9", "--fingerprint", fingerprint, "--token", "t")
    assert result.exit_code != 0
    assert f"{fingerprint!r} is no fingerprint: it has 64 hexadecimal digits" in result.stderr
