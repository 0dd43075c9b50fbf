"""The agent's YAML file and the command that checks it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench_agent.main import main
from bench_agent.server import config
from tests.unit.bench_agent.harness import ECU, ROOT

GOOD = f"""
agent: {{name: agent-1, data_dir: data}}
benches:
  - name: bench-1
    can: [{{name: powertrain, interface: virtual, channel: c1, dbc: {ROOT}/dbc/powertrain.dbc}}]
    ecus: [{{file: ecm.yaml, bus: powertrain}}]
"""


@pytest.fixture
def agent_yaml(tmp_path: Path) -> Path:
    (tmp_path / "ecm.yaml").write_text(ECU)
    path = tmp_path / "agent.yaml"
    path.write_text(GOOD)
    return path


def check(path: Path) -> tuple[int, list[str]]:
    result = CliRunner().invoke(main, ["check", str(path)])
    return result.exit_code, [line.removeprefix(f"{path}:") for line in result.output.splitlines()]


def test_a_good_file_has_no_mistakes(agent_yaml: Path) -> None:
    code, lines = check(agent_yaml)
    assert code == 0
    assert lines == [" 1 benches, no mistakes"]


def test_paths_are_relative_to_the_file(agent_yaml: Path) -> None:
    loaded = config.load(agent_yaml)
    assert loaded.agent.data_dir == agent_yaml.parent / "data"
    assert loaded.benches[0].ecus[0].file == agent_yaml.parent / "ecm.yaml"


def test_the_demos_file_has_no_mistakes() -> None:
    assert check(ROOT / "deploy/demo/agent.yaml")[0] == 0


def test_all_mistakes_are_named_at_once_with_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        """\
agent:
  name: agent one
  listen: localhost
  labd: 127.0.0.1:0
  data_dirr: data
benches:
  - name: bench-1
    labels: {name: x, "bad key": y, good: "bad value!"}
    can:
      - {name: powertrain, interface: virtual, chanel: c1}
      - {name: powertrain, interface: virtual, channel: c2, bitrate: -5}
    ecus:
      - {file: ecm.yaml, bus: powertrain, simulated: perhaps}
  - name: bench-2
    can: []
"""
    )
    code, lines = check(path)
    assert code == 1
    named = {line.split(": ")[0] + " " + line.split(": ")[1] for line in lines}
    assert named == {
        "2 agent.name",
        "3 agent.listen",
        "4 agent.labd",
        "5 agent.data_dirr",
        "1 agent.data_dir",
        "10 benches.0.can.0.chanel",
        "10 benches.0.can.0.channel",
        "11 benches.0.can.1.bitrate",
        "13 benches.0.ecus.0.simulated",
        "15 benches.1.can",
    }
    assert any("expected host:port" in line for line in lines)
    assert any("did you mean channel" in line for line in lines)


def test_fields_are_checked_against_each_other(agent_yaml: Path) -> None:
    agent_yaml.write_text(
        """\
agent: {name: agent-1, data_dir: data}
benches:
  - name: bench-1
    labels: {name: x, "bad key": y, good: "bad value!"}
    can:
      - {name: powertrain, interface: virtual, channel: c1}
      - {name: powertrain, interface: virtual, channel: c2}
    ecus:
      - {file: ecm.yaml, bus: powertrian}
"""
    )
    code, lines = check(agent_yaml)
    assert code == 1
    assert [line.split(": ")[:2] for line in lines] == [
        ["4", "benches.0.labels.name"],
        ["4", "benches.0.labels.bad key"],
        ["4", "benches.0.labels.good"],
        ["7", "benches.0.can.1.name"],
        ["9", "benches.0.ecus.0.bus"],
    ]
    assert "did you mean powertrain?" in lines[-1]


def test_benches_must_differ_in_name(agent_yaml: Path) -> None:
    bench = "  - {name: b, can: [{name: c, interface: virtual, channel: x}]}\n"
    agent_yaml.write_text("agent: {name: a, data_dir: d}\nbenches:\n" + bench * 2)
    assert check(agent_yaml) == (1, ["4: benches.1.name: 'b' is given twice; names must differ"])


def test_the_files_that_it_names_are_checked_too(agent_yaml: Path) -> None:
    (agent_yaml.parent / "broken.dbc").write_text("BO_ what?")
    (agent_yaml.parent / "bad.yaml").write_text("name: X\naddressing: {request_id: 0x7E0}\n")
    agent_yaml.write_text(
        """\
agent: {name: agent-1, data_dir: data}
benches:
  - name: bench-1
    can:
      - {name: powertrain, interface: virtual, channel: c1, dbc: broken.dbc}
      - {name: chassis, interface: virtual, channel: c1, dbc: missing.dbc}
    ecus:
      - {file: bad.yaml, bus: powertrain}
      - {file: missing.yaml, bus: powertrain}
      - {file: ecm.yaml, bus: powertrain}
      - {file: ecm.yaml, bus: chassis}
"""
    )
    code, lines = check(agent_yaml)
    assert code == 1
    text = "\n".join(lines)
    assert "5: benches.0.can.0.dbc: " in text
    assert "broken.dbc: does not load" in text
    assert "6: benches.0.can.1.dbc: " in text
    assert "bad.yaml:2: addressing.response_id: is missing" in text
    assert "missing.yaml: cannot be read: No such file or directory" in text
    assert "11: benches.0.ecus.3.file: ECU ECM is there already (ecus.2)" in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty"),
        ("a: [", "not YAML"),
        ("- 1", "expected a mapping with the fields agent, benches"),
    ],
)
def test_what_is_no_configuration_is_said(agent_yaml: Path, content: str, says: str) -> None:
    agent_yaml.write_text(content)
    code, lines = check(agent_yaml)
    assert code == 1
    assert says in lines[0]


def test_serve_refuses_a_file_with_mistakes(agent_yaml: Path) -> None:
    agent_yaml.write_text("agent: {nam: x}\nbenches: []\n")
    result = CliRunner().invoke(main, ["serve", str(agent_yaml)])
    assert result.exit_code == 1
    assert f"{agent_yaml}:1: agent.name: is missing" in result.output
    assert f"{agent_yaml}:2: benches: " in result.output


@pytest.mark.parametrize("address", ["localhost", ":80", "host:", "host:99999", "a:b:1", "host:-1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        config.split_address(address)


def test_addresses() -> None:
    assert config.split_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert config.split_address("[::1]:80") == ("[::1]", 80)


def test_a_label_value_has_no_line_break(agent_yaml: Path) -> None:
    agent_yaml.write_text(GOOD.replace("    can:", '    labels: {site: "here\\n"}\n    can:'))
    code, [line] = check(agent_yaml)
    assert code == 1
    assert "benches.0.labels.site" in line


def test_the_settings_of_a_bus_are_checked_with_their_lines(agent_yaml: Path) -> None:
    agent_yaml.write_text(
        """\
agent: {name: agent-1, data_dir: data}
benches:
  - name: bench-1
    can:
      - {name: silent, interface: virtual, channel: c1, listen_only: true}
      - name: fast
        interface: socketcan
        channel: can0
        data_bitrate: 2000000
        bus_off: {recover: sometimes, after_ms: 1}
      - name: own
        interface: socketcan
        channel: can1
        bitrate: 500000
        restart_ms: 100
        bus_off: {recover: auto}
    ecus: [{file: ecm.yaml, bus: silent, simulated: true}]
"""
    )
    code, lines = check(agent_yaml)
    assert code == 1
    text = "\n".join(lines)
    assert "10: benches.0.can.1.bus_off.recover: input should be 'auto', 'manual' or 'never'" in text
    assert "10: benches.0.can.1.bus_off.after_ms: " in text
    assert "15: benches.0.can.2.restart_ms: and bus_off are both given" in text
    agent_yaml.write_text(agent_yaml.read_text().replace("        restart_ms: 100\n", ""))
    agent_yaml.write_text(agent_yaml.read_text().replace("{recover: sometimes, after_ms: 1}", "{recover: never}"))
    assert "9: benches.0.can.1.data_bitrate: is of CAN FD; set fd: true" in "\n".join(check(agent_yaml)[1])
    agent_yaml.write_text(agent_yaml.read_text().replace("        data_bitrate: 2000000\n", ""))
    assert check(agent_yaml)[1] == [
        "15: benches.0.ecus.0.bus: bus silent is only listened to; a simulated ECU could not answer on it"
    ]
