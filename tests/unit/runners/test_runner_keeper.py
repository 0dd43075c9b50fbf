import os
import queue
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from runners import keeper as keeper_module
from runners.keeper import OUTPUT_TAIL_BYTES, RunnerKeeper
from runners.processes import identify
from runners.status import Alive, Exited, StartError

DEADLINE_S = 60.0


class Watched(RunnerKeeper):
    """Tells the test of each death."""

    def __init__(self, directory: Path, script: str, *, stop_grace_s: float = 5.0) -> None:
        command: Sequence[str] = (sys.executable, "-S", "-c", textwrap.dedent(script))
        super().__init__(directory, keeper="labd", command=command, stop_grace_s=stop_grace_s)
        self.deaths: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.on_change(self.deaths.put)

    def death(self, run_id: str) -> str:
        assert self.deaths.get(timeout=DEADLINE_S) == run_id
        status = self.status(run_id)
        assert isinstance(status, Exited)
        return status.reason


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A FIFO on which a runner says that it has come so far; HOME is among what runners inherit."""
    path = tmp_path / "ready"
    os.mkfifo(path)
    monkeypatch.setenv("HOME", str(path))
    yield path


READY = "import os, signal, sys, time; say = lambda word: open(os.environ['HOME'], 'w').write(word)\n"


def test_a_runner_gets_its_run_and_nothing_of_its_keepers_environment(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    keeper = Watched(
        runs,
        """
        import os, sys
        print(os.getcwd(), os.getsid(0) == os.getpid(), os.environ.get("DATABASE_PASSWORD"))
        print(os.environ["LABD_URL"], os.environ["LABD_RUN_ID"])
        sys.exit(3)
        """,
    )
    keeper.start("r-1", {"LABD_URL": "http://127.0.0.1:1", "LABD_RUN_ID": "r-1"})
    reason = keeper.death("r-1")
    assert reason.startswith("the runner exited with code 3; it wrote: ")
    assert f"{runs / 'r-1'} True None\nhttp://127.0.0.1:1 r-1" in reason
    with pytest.raises(StartError):
        keeper.start("r-1", {})
    keeper.forget("r-1")
    assert keeper.status("r-1") is None
    assert list(runs.iterdir()) == []
    keeper.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_the_death_of_a_runner_is_noticed_and_named(runs: Path, number: signal.Signals) -> None:
    keeper = Watched(runs, f"import os; os.write(2, b'last words'); os.kill(os.getpid(), {int(number)})")
    keeper.start("r-1", {})
    assert keeper.death("r-1") == f"the runner was killed by {number.name}; it wrote: last words"
    keeper.close()


def test_only_the_end_of_a_chatty_runners_output_is_kept(runs: Path) -> None:
    keeper = Watched(runs, "print('x' * 1_000_000); print('the end')")
    keeper.start("r-1", {})
    reason = keeper.death("r-1")
    assert reason.endswith("x\nthe end")
    assert len(reason) < OUTPUT_TAIL_BYTES + 100
    keeper.close()


def test_a_runner_that_ignores_sigterm_is_killed_with_all_its_children(runs: Path, ready: Path) -> None:
    keeper = Watched(
        runs,
        READY
        + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    say(str(child))
time.sleep(600)
""",
        stop_grace_s=0.2,
    )
    keeper.start("r-1", {})
    child = int(ready.read_text())
    fd = os.pidfd_open(child)
    assert isinstance(keeper.status("r-1"), Alive)
    keeper.stop("r-1")
    assert keeper.death("r-1") == "the runner was killed by SIGKILL"
    assert _gone(fd)
    os.close(fd)
    keeper.close()


def _gone(fd: int) -> bool:
    return bool(select.select([fd], [], [], DEADLINE_S)[0])


def test_a_child_that_outlives_its_runner_is_killed(runs: Path, ready: Path) -> None:
    keeper = Watched(runs, READY + "child = os.fork()\nif child: say(str(child)); sys.exit(0)\ntime.sleep(600)")
    keeper.start("r-1", {})
    fd = os.pidfd_open(int(ready.read_text()))
    assert keeper.death("r-1") == "the runner exited with code 0"
    assert _gone(fd)
    os.close(fd)
    keeper.close()


def test_closing_ends_every_runner(runs: Path) -> None:
    keeper = Watched(runs, "import time; time.sleep(600)")
    for run_id in ("r-1", "r-2"):
        keeper.start(run_id, {})
    keeper.close()
    assert list(runs.iterdir()) == []
    with pytest.raises(StartError):
        keeper.start("r-3", {})


def test_a_command_that_does_not_exist_is_an_error(runs: Path) -> None:
    keeper = RunnerKeeper(runs, keeper="labd", command=["/no/such/python"])
    with pytest.raises(StartError, match="/no/such/python"):
        keeper.start("r-1", {})
    keeper.close()


def _abandon(runs: Path, script: str, *run_ids: str) -> None:
    """Starts runners under a labd that is then killed with -9."""
    program = f"""
import os, pathlib, signal, sys
from runners.keeper import RunnerKeeper
keeper = RunnerKeeper(pathlib.Path({str(runs)!r}), keeper="labd", command=[sys.executable, "-S", "-c", {script!r}])
for run_id in {run_ids!r}:
    keeper.start(run_id, {{}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_runners_outlive_labd_and_are_adopted_by_the_next(runs: Path, ready: Path) -> None:
    _abandon(runs, READY + "say('up'); time.sleep(600)", "r-1")
    assert ready.read_text() == "up"
    keeper = Watched(runs, "")
    keeper.recover({"r-1"})
    assert isinstance(keeper.status("r-1"), Alive)
    keeper.stop("r-1")
    assert keeper.death("r-1").startswith("the runner ended")
    keeper.close()


def test_a_runner_whose_identity_was_not_written_yet_is_found_by_its_directory(runs: Path, ready: Path) -> None:
    _abandon(runs, READY + "say('up'); time.sleep(600)", "r-1")
    assert ready.read_text() == "up"
    (runs / "r-1" / "process.json").unlink()
    keeper = Watched(runs, "")
    keeper.recover({"r-1"})
    assert isinstance(keeper.status("r-1"), Alive)
    keeper.close()


def test_runners_of_runs_that_are_over_are_ended_and_leavings_cleared(runs: Path, ready: Path) -> None:
    _abandon(runs, READY + "say('up'); time.sleep(600)", "r-over")
    assert ready.read_text() == "up"
    (runs / "r-old").mkdir()
    keeper = Watched(runs, "")
    keeper.recover(set())
    keeper.death("r-over")
    keeper.forget("r-over")
    assert list(runs.iterdir()) == []
    keeper.close()


def test_a_runner_that_ended_while_labd_was_down_is_told_with_its_last_words(runs: Path) -> None:
    _abandon(runs, "print('last words')", "r-1")
    keeper = Watched(runs, "")
    keeper.recover({"r-1", "r-never-started"})
    if isinstance(keeper.status("r-1"), Alive):
        keeper.deaths.get(timeout=DEADLINE_S)  # it was still on its way out
    status = keeper.status("r-1")
    assert isinstance(status, Exited)
    assert "ended" in status.reason
    assert "last words" in status.reason
    assert keeper.status("r-never-started") is None
    keeper.close()


def test_a_stranger_with_the_number_of_a_dead_runner_is_left_alone(runs: Path) -> None:
    directory = runs / "r-1"
    directory.mkdir(parents=True)
    me = identify(os.getpid())
    assert me is not None
    (directory / "process.json").write_text(
        f'{{"pid": {me.pid}, "started": {me.started - 1}, "boot": "{me.boot}"}}', "utf-8"
    )
    keeper = Watched(runs, "")
    keeper.recover({"r-1"})
    assert isinstance(keeper.status("r-1"), Exited)
    keeper.recover(set())
    keeper.close()


def test_a_runner_whose_identity_cannot_be_written_is_watched_even_so(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper_module, "_write_identity", full)
    keeper = Watched(runs, "raise SystemExit(4)")
    keeper.start("r-1", {})
    assert keeper.death("r-1") == "the runner exited with code 4"
    keeper.close()


def test_what_does_not_belong_among_the_runs_stops_no_labd(runs: Path) -> None:
    keeper = Watched(runs, "")
    (runs / "notes.txt").write_text("do not touch")
    keeper.recover([])
    keeper.close()
