"""`bench-agent health`: what container engines ask."""

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
