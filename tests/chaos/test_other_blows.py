"""What else happens to labs: agents stop, cables are pulled, disks fill up, clocks jump. In short, of `make chaos`."""

import os
from pathlib import Path

import pytest

from tests.chaos.blows import FAKETIME, fill_disk, pause_process, restart_server, step_clock
from tests.chaos.storm import storm, weather
from tests.disks import small_disk
from tests.island import Island
from tests.postgresql import PostgresServer

pytestmark = pytest.mark.timeout(900)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to mount and to make network namespaces")


def test_a_stopped_agent_lets_no_old_holder_act(tmp_path: Path) -> None:
    with storm(tmp_path, agents=6, fleets=2) as one:
        # Longer than a TTL: what the stopped agents' holders held has ended by the time that they go on.
        blow = pause_process(one, ("fleet-1", "fleet-2"), 8.0)
        outcome = weather(one, blow, blows=2, holders=12, rate=40, calm_s=(0.5, 2.0))
    assert outcome.violations == []
    assert outcome.calls > 20


@needs_root
def test_an_agent_behind_a_cut_cable_lets_no_old_holder_act(tmp_path: Path) -> None:
    with Island() as island, storm(tmp_path, agents=3, agents_host=island.here) as one:
        one.add_fleet("island", range(4, 7), listen=island.there, prefix=island.prefix)
        one.wait_for_benches(6)
        outcome = weather(one, island.cut_off(8.0), blows=2, holders=12, rate=40, calm_s=(0.5, 2.0))
    assert outcome.violations == []
    assert outcome.calls > 20


@needs_root
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, storm(tmp_path, agents=6, data=disk / "labd") as one:
        outcome = weather(one, fill_disk(disk, 3.0), blows=2, holders=12, rate=40, calm_s=(1.0, 2.0))
    assert outcome.violations == []
    assert outcome.unanswered > 0  # it was full


@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed (Debian: faketime)")
def test_a_clock_that_jumps_by_an_hour_frees_and_prolongs_nothing(tmp_path: Path) -> None:
    with storm(tmp_path, agents=6) as one:
        outcome = weather(one, step_clock(one), blows=3, holders=12, rate=40, calm_s=(1.0, 2.0))
    assert outcome.violations == []


def test_labd_on_postgresql_survives_kill_9(tmp_path: Path) -> None:
    with PostgresServer() as server, storm(tmp_path, agents=6, options=["--database", server.new_database()]) as one:
        outcome = weather(one, one.kill, blows=3, holders=12, rate=40, calm_s=(0.5, 2.0))
    assert outcome.violations == []
    assert outcome.calls > 10


def test_a_restart_of_postgresql_loses_nothing(tmp_path: Path) -> None:
    with PostgresServer() as server, storm(tmp_path, agents=6, options=["--database", server.new_database()]) as one:
        outcome = weather(one, restart_server(server, 2.0), blows=2, holders=12, rate=40, calm_s=(1.0, 3.0))
    assert outcome.violations == []
    assert outcome.unanswered > 0
