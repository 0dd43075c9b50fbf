"""Points on their whole way: taken without a wait, kept on the disk, and found again in a real time-series server."""

import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labd.model.check import CheckState
from labd.model.point import Point
from labd.services.authority import Authority
from labd.telemetry import writer as module
from labd.telemetry.admission import Admission
from labd.telemetry.counters import Counters
from labd.telemetry.influx import Answer, InfluxSettings, Meaning
from labd.telemetry.lines import line
from labd.telemetry.writer import Writer
from tests.tls_proxy import tls_proxy
from tests.victoria import Victoria, victoria

PATIENCE_S = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victoria]:
    with victoria(tmp_path_factory.mktemp("victoria")) as running:
        yield running


def drops(number: int, *, bench: str = "hil-1", time: float = 1.6e9) -> Point:
    tags = {"agent": "rack-1", "bench": bench, "bus": "powertrain", "cause": "stream"}
    return Point("can_bus_drops", tags, {"dropped": number}, time + number)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_points_are_found_in_the_database_each_once_and_in_order(tmp_path: Path, server: Victoria) -> None:
    writer = Writer(tmp_path, InfluxSettings(server.url, "lab", "labd"))
    writer.start()
    for start in range(0, 3000, 100):
        writer.write(drops(number, bench=f"there-{number % 3}") for number in range(start, start + 100))
    until(lambda: writer.counters.written == 3000)
    writer.stop()
    found = server.values("can_bus_drops_dropped")
    for third in range(3):
        [values] = [values for labels, values in found.items() if f"bench=there-{third}" in labels]
        assert values == list(range(third, 3000, 3))
    assert writer.counters.losses() == {}
    assert [check.state for check in writer.checks()] == [CheckState.OK]


def test_points_go_by_https_to_a_server_of_ones_own_authority_and_to_no_other(tmp_path: Path, server: Victoria) -> None:
    own, another = Authority(tmp_path / "own"), Authority(tmp_path / "another")
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    credentials = own.server_credentials(["127.0.0.1"])
    (tmp_path / "proxy.pem").write_bytes(credentials.key + credentials.chain)
    shown.load_cert_chain(tmp_path / "proxy.pem")
    with tls_proxy(shown, ("127.0.0.1", server.port)) as (host, port):
        url = f"https://{host}:{port}"
        stranger = Writer(tmp_path, InfluxSettings(url, "lab", "labd", ca_file=another.trust_file))
        stranger.start()
        stranger.write(drops(number, bench="https") for number in range(100))
        until(lambda: CheckState.ERROR in {check.state for check in stranger.checks()})
        stranger.stop()
        [check] = stranger.checks()
        assert "certificate" in check.message.lower()
        assert "--influx-ca" in check.remedy
        writer = Writer(tmp_path, InfluxSettings(url, "lab", "labd", ca_file=own.trust_file))
        writer.start()
        until(lambda: writer.counters.written == 100)
        writer.stop()
    [values] = [values for labels, values in server.values("can_bus_drops_dropped").items() if "bench=https" in labels]
    assert values == list(range(100))


def test_points_of_an_outage_and_of_a_restart_arrive(tmp_path: Path, server: Victoria) -> None:
    server.stop()
    settings = InfluxSettings(server.url, "lab", "labd")
    first = Writer(tmp_path, settings)
    first.start()
    first.write(drops(number, bench="outage") for number in range(500))
    until(lambda: CheckState.ERROR in {check.state for check in first.checks()})
    assert first.counters.requests
    first.stop()
    server.start()
    second = Writer(tmp_path, settings)
    second.start()
    second.write(drops(number, bench="outage") for number in range(500, 600))
    until(lambda: second.counters.written == 600)
    second.stop()
    [values] = [values for labels, values in server.values("can_bus_drops_dropped").items() if "bench=outage" in labels]
    assert values == list(range(600))


WRITES = """
import sys
import time
from pathlib import Path
from labd.model.point import Point
from labd.telemetry.influx import InfluxSettings
from labd.telemetry.writer import Writer

writer = Writer(Path(sys.argv[1]), InfluxSettings(sys.argv[2], "lab", "labd"))
before = writer.counters.spooled
writer.start()
tags = {"agent": "rack-1", "bench": "killed", "bus": "powertrain", "cause": "stream"}
number = 0
while True:
    writer.write(Point("can_bus_drops", tags, {"dropped": number + one}, 1.6e9 + number + one) for one in range(50))
    number += 50
    while writer.counters.spooled - before < number:
        time.sleep(0.001)
    print("on the disk:", number, flush=True)
"""


def test_what_is_on_the_disk_survives_a_kill_at_any_moment(tmp_path: Path, server: Victoria) -> None:
    command = [sys.executable, "-c", WRITES, str(tmp_path), "http://127.0.0.1:9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = (line for line in process.stdout if line.startswith("on the disk:"))
        told = [int(next(said).split()[-1]) for _ in range(20)][-1]
        os.kill(process.pid, signal.SIGKILL)
    writer = Writer(tmp_path, InfluxSettings(server.url, "lab", "labd"))
    assert writer.counters.spooled >= told
    writer.start()
    until(lambda: writer.counters.spooled == 0)
    writer.stop()
    [values] = [values for labels, values in server.values("can_bus_drops_dropped").items() if "bench=killed" in labels]
    assert set(range(told)) <= set(values)


class Stuck:
    """A database that never answers."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def send(self, lines: list[bytes]) -> Answer:
        self.free.wait()
        return Answer(Meaning.WRITTEN)


def test_who_writes_waits_neither_for_the_database_nor_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 1000)
    stuck, disk = Stuck(), threading.Event()
    writer = Writer(tmp_path, InfluxSettings("http://127.0.0.1:9", "lab", "labd"), target=stuck)
    assert writer._spool is not None
    append = writer._spool.append

    def slow(lines: list[bytes]) -> None:
        disk.wait()
        append(lines)

    monkeypatch.setattr(writer._spool, "append", slow)
    writer.start()
    writer.write([drops(0)])
    until(lambda: writer.counters.queued == 0)
    writer.write(drops(number) for number in range(1, 1501))  # returns, though nothing moves
    assert writer.counters.losses() == {"queue_full": 500}
    disk.set()
    until(lambda: writer.counters.spooled == 1001)
    stuck.free.set()
    until(lambda: writer.counters.written == 1001)
    writer.stop()


def test_a_full_disk_is_told_once_costs_the_points_of_that_time_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck()
    writer = Writer(tmp_path, InfluxSettings("http://127.0.0.1:9", "lab", "labd"), target=stuck)
    assert writer._spool is not None

    def full(lines: list[bytes]) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer._spool, "append", full)
        writer.start()
        for number in range(3):
            writer.write([drops(number)])
            until(lambda number=number: writer.counters.losses() == {"disk": number + 1})  # type: ignore[misc]
        errors = [check for check in writer.checks() if check.state is CheckState.ERROR]
        assert [check.name for check in errors] == ["spool"]
        assert "No space left" in errors[0].message
    writer.write([drops(4)])
    until(lambda: writer.counters.spooled == 1)
    assert not [check for check in writer.checks() if check.state is CheckState.ERROR]
    stuck.free.set()
    writer.stop()


def test_without_a_database_nothing_is_spooled_and_doctor_says_so(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.start()
    writer.write([drops(1)])
    writer.stop()
    assert not (tmp_path / "spool").exists()
    [check] = writer.checks()
    assert (check.name, check.state) == ("InfluxDB", CheckState.OK)
    assert "not configured" in check.message


def test_a_new_line_and_an_unknown_tag_do_not_get_through(tmp_path: Path) -> None:
    counters = Counters()
    bad = [drops(1, bench="a\nb v=1"), Point("can_bus_drops", {"holder": "anna"}, {"dropped": 1}, 1.6e9)]
    [one] = Admission(counters).admit([*bad, drops(2)])
    assert one.point == drops(2)
    assert counters.losses() == {"invalid": 2}


def test_a_tag_without_a_bound_costs_its_own_measurement_only(tmp_path: Path) -> None:
    admission = Admission(counters := Counters(), series_max=10)
    taken = admission.admit(drops(number, bench=f"b-{number}") for number in range(100))
    assert len(taken) == 10
    assert counters.losses() == {"too_many_series": 90}
    power = Point("power", {"agent": "a", "bench": "b", "channel": "kl30"}, {"voltage_v": 12}, 1.6e9)
    assert len(admission.admit([power, drops(3, bench="b-3")])) == 2
    later = drops(5, bench="new", time=1.6e9 + 2 * 86_400)
    assert len(admission.admit([later])) == 1  # the others have not been heard of for a day


def test_two_events_of_one_moment_stay_two() -> None:
    event = Point("grant", {"priority": "normal", "team": "default"}, {"latency_s": 1.0, "benches": 1}, 1.6e9)
    times = [one.time_ns for one in Admission(Counters()).admit([event] * 3)]
    assert times == [1_600_000_000_000_000_000 + number for number in range(3)]


def test_a_sample_that_an_agent_sends_again_stays_one() -> None:
    first, second = Admission(Counters()).admit([drops(1), drops(1)])
    assert first.time_ns == second.time_ns


def test_a_field_keeps_its_type_and_what_is_special_is_escaped() -> None:
    tags = {"agent": "rack 1,x=y\\", "bench": 'a"b', "channel": "kl30"}
    made = line(Point("power", tags, {"voltage_v": 12, "on": True}, 1.0), 5)
    assert made == b'power,agent=rack\\ 1\\,x\\=y\\ ,bench=a"b,channel=kl30 on=true,voltage_v=12 5'
    counted = line(drops(7), 5)
    assert counted.endswith(b" dropped=7i 5")
