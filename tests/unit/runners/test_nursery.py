"""Runners that a nursery forks: told apart from those that are started one by one by nothing but their start."""

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import structlog

from runners import launch
from runners.keeper import RunnerKeeper
from runners.nursery import Nursery
from runners.status import Alive, Exited, StartError

DEADLINE_S = 60.0
NURSERY = """
import os, sys
from runners.nursery_process import serve

def run():
    exec(os.environ["DO"], {})
    return 0

sys.exit(serve(run))
"""
COMMAND = (sys.executable, "-c", NURSERY)
PLAIN = (sys.executable, "-c", 'import os, sys; exec(os.environ["DO"], {})')


class Keeper(RunnerKeeper):
    """Tells the test of each death, and of its nursery."""

    def __init__(self, directory: Path, *, nursery: tuple[str, ...] = COMMAND, restart_s: float = 0.0) -> None:
        super().__init__(directory, keeper="labd", command=PLAIN, stop_grace_s=5.0)
        self._nursery = Nursery(nursery, launch.environment(), answer_s=1.0, restart_s=restart_s)
        self._warmed = 0
        self.deaths: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.on_change(self.deaths.put)

    def warm_up(self) -> int:
        """The number of a nursery that is ready."""
        ends = time.monotonic() + DEADLINE_S
        while time.monotonic() < ends:
            self._warmed += 1
            run_id = f"warm-{self._warmed}"
            self.run(
                run_id,
                """
            status = open("/proc/self/stat").read()
            print("forked" if "labd-runner" in status else "started by itself")
            """,
            )
            if "forked" in self.death(run_id):
                return next(pid for pid in children() if name_of(pid) == "labd-nursery")
        raise AssertionError("the nursery has not become ready")

    def run(self, run_id: str, program: str, variables: Mapping[str, str] | None = None) -> None:
        self.start(run_id, {"DO": textwrap.dedent(program), **(variables or {})})

    def death(self, run_id: str) -> str:
        assert self.deaths.get(timeout=DEADLINE_S) == run_id
        status = self.status(run_id)
        assert isinstance(status, Exited)
        return status.reason


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def keeper(runs: Path) -> Iterator[Keeper]:
    one = Keeper(runs)
    yield one
    one.close()


def children() -> set[int]:
    """Of this process, corpses among them."""
    threads = Path("/proc/self/task").iterdir()
    return {int(pid) for thread in threads for pid in (thread / "children").read_text().split()}


def name_of(pid: int) -> str:
    """Empty once it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def gone(pid: int) -> bool:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([fd], [], [], DEADLINE_S)[0])
    finally:
        os.close(fd)


def test_the_first_runner_does_not_wait_for_the_nursery_and_later_ones_come_from_it(keeper: Keeper) -> None:
    program = 'print(open("/proc/self/comm").read())'
    keeper.run("r-1", program)
    assert "labd-runner" not in keeper.death("r-1")
    keeper.warm_up()
    keeper.run("r-2", program)
    assert keeper.death("r-2") == "the runner exited with code 0; it wrote: labd-runner"


def test_a_runner_gets_what_one_that_is_started_by_itself_gets(
    keeper: Keeper, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
    import os, resource, signal, sys
    print(os.getcwd(), os.getsid(0) == os.getpgrp() == os.getpid(), os.getppid(), sorted(os.environ.items()))
    print(os.readlink("/proc/self/fd/0"), os.path.samefile("/proc/self/fd/1", "/proc/self/fd/2"))
    print([fd for fd in range(3, 100) if os.path.exists(f"/proc/self/fd/{fd}")], os.umask(0o22))
    print(sys.path[-1:], sys.stdin.read(), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGPIPE))
    """
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    texts = []
    for forked in (False, True):
        if forked:
            keeper.warm_up()
        keeper.run("r-1", program, {"LABD_RUN_TOKEN": "secret", "OF": "this run"})
        texts.append(keeper.death("r-1"))
        keeper.forget("r-1")
    assert texts[0] == texts[1]
    assert f"{runs / 'r-1'} True {os.getpid()} " in texts[0]
    assert "('OF', 'this run')" in texts[0]
    assert "hunter2" not in texts[0]


def test_the_nursery_never_holds_a_secret_of_a_run(keeper: Keeper) -> None:
    pid = keeper.warm_up()
    secret = "correct-horse-battery"
    for number in range(3):
        keeper.run(
            f"r-{number}",
            f'import os; assert os.environ["LABD_RUN_TOKEN"] == {secret!r}',
            {"LABD_RUN_TOKEN": secret, "OTHER": str(number)},
        )
        assert keeper.death(f"r-{number}") == "the runner exited with code 0"
    assert b"serve" in memory_of(pid)
    assert secret.encode() not in memory_of(pid)


def memory_of(pid: int) -> bytes:
    """All that the process may have written to."""
    parts = []
    folder = Path(f"/proc/{pid}")
    with (folder / "maps").open() as maps, (folder / "mem").open("rb", 0) as memory:
        for line in maps:
            begin, end = (int(at, 16) for at in line.split()[0].split("-"))
            if " rw" in line and "[v" not in line:
                memory.seek(begin)
                parts.append(memory.read(end - begin))
    return b"".join(parts)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_how_a_forked_runner_ended_is_known(keeper: Keeper, number: signal.Signals) -> None:
    keeper.warm_up()
    keeper.run("r-1", "raise SystemExit(7)")
    assert keeper.death("r-1").startswith("the runner exited with code 7")
    keeper.run("r-2", f"import os; os.write(2, b'last words'); os.kill(os.getpid(), {int(number)})")
    assert keeper.death("r-2") == f"the runner was killed by {number.name}; it wrote: last words"


def test_runners_of_a_nursery_that_is_killed_go_on_and_their_ends_are_known(keeper: Keeper, tmp_path: Path) -> None:
    pid = keeper.warm_up()
    up, go = tmp_path / "up", tmp_path / "go"
    os.mkfifo(up)
    os.mkfifo(go)
    program = f"open({str(up)!r}, 'w').write('up'); open({str(go)!r}).read(); raise SystemExit(5)"
    keeper.run("r-1", program)
    assert up.read_text() == "up"
    os.kill(pid, signal.SIGKILL)
    with structlog.testing.capture_logs() as log:
        keeper.run("r-2", "")  # started by itself
        assert keeper.death("r-2") == "the runner exited with code 0"
    assert [one["reason"] for one in log if one["log_level"] == "warning"] == ["was killed by SIGKILL"]
    assert keeper.warm_up() != pid
    keeper.run("r-3", 'assert open("/proc/self/comm").read() == "labd-runner\\n"')
    assert keeper.death("r-3") == "the runner exited with code 0"
    assert isinstance(keeper.status("r-1"), Alive)
    go.write_text("now")
    assert keeper.death("r-1") == "the runner exited with code 5"


def test_runners_outlive_a_keeper_that_is_killed_and_its_nursery_does_not(
    keeper: Keeper, runs: Path, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    os.mkfifo(up)
    program = f"""
import os, pathlib, signal
from tests.unit.runners.test_nursery import Keeper
keeper = Keeper(pathlib.Path({str(runs)!r}))
nursery = keeper.warm_up()
keeper.run("r-1", "import time; open({str(up)!r}, 'w').write('up'); time.sleep(600)")
open({str(up)!r}).read()
print("nursery", nursery)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-u", "-c", program], capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert gone(int(done.stdout.rpartition("nursery ")[2]))
    keeper.recover({"r-1"})
    assert isinstance(keeper.status("r-1"), Alive)
    keeper.stop("r-1")
    assert keeper.death("r-1").startswith("the runner ended (with a status unknown to labd")


def test_a_nursery_that_hangs_starts_no_runner_twice(keeper: Keeper, tmp_path: Path) -> None:
    pid = keeper.warm_up()
    started = tmp_path / "started"
    os.kill(pid, signal.SIGSTOP)
    keeper.run("r-1", f"open({str(started)!r}, 'a').write('x')")
    assert keeper.death("r-1") == "the runner exited with code 0"
    assert gone(pid)
    assert started.read_text() == "x"


def test_a_nursery_that_cannot_be_is_told_once_and_runs_start_without_it(runs: Path) -> None:
    broken = (sys.executable, "-c", "raise SystemExit('no such module')")
    keeper = Keeper(runs, nursery=broken, restart_s=600.0)
    with structlog.testing.capture_logs() as log:
        for number in range(3):
            keeper.run(f"r-{number}", "raise SystemExit(3)")
            assert keeper.death(f"r-{number}").startswith("the runner exited with code 3")
    keeper.close()
    warnings = [one["reason"] for one in log if one["log_level"] == "warning"]
    assert warnings in ([], ["exited with code 1: no such module"])


def test_nothing_is_forked_where_a_module_has_started_a_thread(runs: Path) -> None:
    threaded = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    done = subprocess.run(
        [sys.executable, "-c", f"{threaded}\n{NURSERY}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert "one of the modules that runners need has started 1 threads" in done.stderr


def test_the_real_nursery_forks_the_real_runner(runs: Path) -> None:
    keeper = Keeper(runs, nursery=launch.NURSERY)
    ends, number, text = time.monotonic() + DEADLINE_S, 0, ""
    while "a run needs these in its environment" not in text and time.monotonic() < ends:
        number += 1
        keeper.run(f"r-{number}", "")  # the real one finds no labd in its environment; one started by itself does ""
        text = keeper.death(f"r-{number}")
    assert text.startswith("the runner exited with code 2; it wrote: ")
    assert "LABD_RUN_TOKEN" in text
    keeper.close()


def test_a_runner_that_cannot_be_set_up_is_an_error(keeper: Keeper, tmp_path: Path) -> None:
    keeper.warm_up()
    assert keeper._nursery is not None
    with (tmp_path / "output").open("wb") as output, pytest.raises(StartError, match="no-such-folder"):
        keeper._nursery.start(tmp_path / "no-such-folder", {}, output)
    keeper.run("r-1", "")
    assert keeper.death("r-1") == "the runner exited with code 0"


def test_twenty_at_once_and_what_they_leave_behind_is_cleared(keeper: Keeper) -> None:
    before = children()
    keeper.warm_up()
    names = [f"r-{number}" for number in range(20)]
    for number, name in enumerate(names):
        keeper.run(
            name,
            f"""
        import os, time
        if not os.fork():
            time.sleep(600)
        raise SystemExit({number} + 1)
        """,
        )
    ended = {keeper.deaths.get(timeout=DEADLINE_S) for _ in names}
    assert ended == set(names)
    for number, name in enumerate(names):
        assert keeper.status(name) == Exited(f"the runner exited with code {number + 1}")
    ends = time.monotonic() + DEADLINE_S
    while corpses := [pid for pid in children() - before if name_of(pid) != "labd-nursery"]:
        assert time.monotonic() < ends, f"nobody waits for {corpses}"
        time.sleep(0.01)
