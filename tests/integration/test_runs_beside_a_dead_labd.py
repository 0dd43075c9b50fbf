"""Runs of the process executor, whose labd is killed with -9 while they go on: real labds, real runners."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from labd.client import LabClient
from labd.client.types import Run
from tests.integration.labd_support import Daemon, StreamAgent, until
from tests.postgresql import PostgresServer

SCRIPT = """
local test, time = require("test"), require("time")
test.case("counts", function()
  for number = 1, {lines} do
    print("number " .. number)
    time.sleep("100ms")
  end
end)
"""
HEARTBEAT_S = 10.0
"""The longest time between two of a runner's."""


@pytest.fixture
def database(postgresql: PostgresServer) -> Iterator[str]:
    url = postgresql.new_labd_database()
    yield url
    postgresql.drop(url)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class _Two:
    """Two labds; a run lives beside the first, the agent can attach to either."""

    def __init__(self, stack: ExitStack, folder: Path, database: str) -> None:
        options = ("--database", database, "--keys", str(folder / "keys"))
        self.mine, self.other = (Daemon(folder / name, *options) for name in ("mine", "other"))
        for daemon in (self.mine, self.other):
            daemon.launch()
            stack.callback(daemon.process.kill)
        for daemon in (self.mine, self.other):
            daemon.wait()
            stack.callback(daemon.kill)
        stack.enter_context(StreamAgent(f"{self.other.agents},{self.mine.agents}", "bench-1"))
        for daemon in (self.mine, self.other):
            until(lambda d=daemon: _is_free(d.client), "both see the bench")  # type: ignore[misc]

    def start_run(self, lines: int) -> Run:
        """One that has written its first line."""
        run = self.mine.client.create_run(script=SCRIPT.format(lines=lines), name="count.lua", holder="ci")
        next(line for line in self.other.client.follow_log(run["id"]) if line["text"] == "number 1")
        return run


def _is_free(client: LabClient) -> bool:
    return [bench["state"] for bench in client.benches()] == ["available"]


def _ended(client: LabClient, run: Run) -> Run:
    until(lambda: client.run(run["id"])["ended_at"] is not None, "the end of the run")
    return client.run(run["id"])


def _runners(daemon: Daemon) -> list[int]:
    """Processes that work in the daemon's folder for runs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(daemon.data / "runs"):
                found.append(int(process.name))
        except OSError:
            continue  # it has just ended
    return found


def test_a_run_ends_well_through_another_labd(stack: ExitStack, tmp_path: Path, database: str) -> None:
    two = _Two(stack, tmp_path, database)
    run = two.start_run(lines=20)
    two.mine.kill()
    ended = _ended(two.other.client, run)
    assert (ended["state"], ended["reason"]) == ("PASSED", "")
    texts = [line["text"] for line in two.other.client.follow_log(run["id"]) if line["text"].startswith("number")]
    assert texts == [f"number {number}" for number in range(1, 21)]
    until(lambda: not _runners(two.mine), "the runner is gone")
    until(lambda: _is_free(two.other.client), "the bench is free")
    # Its own labd finds nothing to do, but what the runner has left in its folder.
    two.mine.start()
    until(lambda: not list((two.mine.data / "runs").iterdir()), "the folder is cleared up")
    assert two.mine.client.run(run["id"]) == ended


def test_a_labd_that_comes_back_takes_its_run_over_and_starts_none_twice(
    stack: ExitStack, tmp_path: Path, database: str
) -> None:
    two = _Two(stack, tmp_path, database)
    run = two.start_run(lines=10_000)
    (runner,) = _runners(two.mine)
    two.mine.kill()
    so_far = sum(1 for _ in two.other.client.log(run["id"]))
    next(line for line in two.other.client.follow_log(run["id"], after=so_far + 3))  # it goes on meanwhile
    two.mine.start()
    assert _runners(two.mine) == [runner]
    assert two.mine.client.run(run["id"])["state"] == "RUNNING"
    two.mine.client.cancel_run(run["id"])
    until(lambda: not _runners(two.mine), "its runner is ended")


def test_a_run_that_is_cancelled_while_its_labd_is_dead_ends_by_itself(
    stack: ExitStack, tmp_path: Path, database: str
) -> None:
    two = _Two(stack, tmp_path, database)
    run = two.start_run(lines=10_000)
    two.mine.kill()
    cancelled = time.monotonic()
    two.other.client.cancel_run(run["id"])
    until(lambda: _is_free(two.other.client), "the bench is free")
    until(lambda: not _runners(two.mine), "the runner has heard of it")
    assert time.monotonic() - cancelled < 2 * HEARTBEAT_S
    assert two.other.client.run(run["id"])["state"] == "CANCELLED"
