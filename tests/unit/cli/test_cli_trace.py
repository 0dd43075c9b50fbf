from pathlib import Path

import pytest

from tests.unit.cli.conftest import Labctl
from tests.unit.cli.fake_agent import FakeAgent
from tests.unit.client.fake_labd import FakeLabd

NS = 1_000_000_000
BEGAN = 1_700_000_000 * NS


@pytest.fixture(autouse=True)
def lease(labd: FakeLabd, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABD_HOLDER", "ada")
    monkeypatch.delenv("LABD_LEASE", raising=False)
    labd.grant(labd.add_lease(id="lease-7", holder="ada"))


def fetch(labctl: Labctl, path: Path, *arguments: str) -> int:
    return labctl("trace", "fetch", "bench-1", "powertrain", "-o", str(path), *arguments).exit_code


def test_the_traces_of_the_lease_are_listed(labctl: Labctl, agent: FakeAgent) -> None:
    [one] = agent.traces.described
    one.frames, one.first_ns, one.last_ns, one.bytes = 1234, BEGAN, BEGAN + 60 * NS, 2_500_000
    one.overwritten, one.fault = 99, "No space left on device"
    result = labctl("trace", "ls", "bench-1")
    assert result.exit_code == 0
    assert "1234" in result.stdout
    assert "2.5 MB" in result.stdout
    assert "99 made room; No space left on device" in result.stdout


def test_a_trace_is_fetched_into_a_file(labctl: Labctl, agent: FakeAgent, tmp_path: Path) -> None:
    agent.traces.content = b"LOGG and more"
    result = labctl("trace", "fetch", "bench-1", "powertrain", "-o", str(tmp_path / "t.blf"))
    assert (tmp_path / "t.blf").read_bytes() == b"LOGG and more"
    assert result.stderr == f"{tmp_path / 't.blf'}: 7 frames, 13 bytes\n"
    assert agent.traces.requests[0].format == "blf"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), (0, 0)),
        (("--from", "+10s"), (BEGAN + 10 * NS, 0)),
        (("--from", "-10s"), (BEGAN + 50 * NS, 0)),
        (("--to", "1700000005.25"), (0, BEGAN + 5_250_000_000)),
        (("--from", "2023-11-14T22:13:20+00:00", "--to", "-10s"), (BEGAN, BEGAN + 50 * NS)),
    ],
)
def test_times_are_absolute_or_count_from_either_end(
    labctl: Labctl, agent: FakeAgent, tmp_path: Path, arguments: tuple[str, ...], wanted: tuple[int, int]
) -> None:
    [one] = agent.traces.described
    one.first_ns, one.last_ns = BEGAN, BEGAN + 60 * NS
    assert fetch(labctl, tmp_path / "t.log", *arguments) == 0
    [asked] = agent.traces.requests
    assert (asked.from_ns, asked.to_ns) == wanted


def test_what_is_no_time_or_no_format_is_named(labctl: Labctl, agent: FakeAgent, tmp_path: Path) -> None:
    result = labctl("trace", "fetch", "bench-1", "powertrain", "-o", str(tmp_path / "t.log"), "--from", "noon")
    assert result.exit_code == 64
    assert "'noon' is no time" in result.stderr
    result = labctl("trace", "fetch", "bench-1", "powertrain", "-o", str(tmp_path / "t.txt"))
    assert result.exit_code == 64
    assert "t.txt: its suffix means no format" in result.stderr


def test_somebody_elses_lease_is_not_used(labctl: Labctl, agent: FakeAgent, tmp_path: Path) -> None:
    result = labctl("trace", "ls", "bench-1", "--holder", "bob")
    assert result.exit_code == 65
    assert "you (bob) hold no lease of bench bench-1: it is leased by ada" in result.stderr


def test_a_lease_that_is_named_is_used_whoever_holds_it(
    labctl: Labctl, labd: FakeLabd, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert labctl("trace", "ls", "bench-1", "--holder", "bob", "--lease", "lease-7").exit_code == 0
    monkeypatch.setenv("LABD_LEASE", "lease-7")
    assert labctl("trace", "ls", "bench-1", "--holder", "bob").exit_code == 0
    result = labctl("trace", "ls", "bench-2")
    assert result.exit_code == 65
    assert "lease lease-7 is of bench bench-1, not of bench-2" in result.stderr
