"""`bench-agent health`: what container engines ask."""

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from bench_agent.main import main
from tests.unit.bench_agent.harness import AgentFile, RunningAgent


def test_an_agent_that_serves_is_healthy(running: RunningAgent) -> None:
    done = CliRunner().invoke(main, ["health", str(running.file.write())])
    assert (done.exit_code, done.output) == (0, "agent agent-1 serves\n")


def test_without_an_agent_nothing_is(agent_file: AgentFile) -> None:
    done = CliRunner().invoke(main, ["health", str(agent_file.write())])
    assert done.exit_code == 1
    assert f"no agent answers in {agent_file.data}: UNAVAILABLE" in done.output


def test_a_file_that_is_no_configuration_is_named(agent_file: AgentFile) -> None:
    path = agent_file.write()
    path.write_text("agent: 7\n")
    done = CliRunner().invoke(main, ["health", str(path)])
    assert done.exit_code == 1
    assert str(path) in done.output


def asked(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """As container engines do it."""
    command = [sys.executable, "-P", "-m", "bench_agent.server.health_check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd)


def test_container_engines_need_the_data_directory_only(running: RunningAgent, tmp_path: Path) -> None:
    assert asked(str(running.file.data)).returncode == 0
    nobody = asked("elsewhere", cwd=tmp_path)  # the whole path may be too long for a unix socket
    assert (nobody.returncode, nobody.stderr) == (1, "health_check: no agent answers in elsewhere: UNAVAILABLE\n")
    assert asked().returncode == 2
