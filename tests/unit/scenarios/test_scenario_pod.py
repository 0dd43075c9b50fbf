"""``python -m scenarios pod`` as a test pod starts it: with the pod's own token in a file, and the run's in memory."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scenarios.pod import PodError, run_token
from tests.unit.scenarios.conftest import assignment
from tests.unit.scenarios.test_scenario_runner import TOKEN, FakeLabd

OWN = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"
"""A service account's token is a JWT."""
SLEEP = "print('waiting') require('time').sleep('1h')"


class Labd(FakeLabd):
    """Gives the run's token to the pod with its own."""

    exchanges: list[tuple[str | None, Any]]
    own = OWN

    def answer(self, method: str, path: str, authorization: str | None, body: Any) -> tuple[int, object]:
        if self.status or (method, path) != ("POST", "/api/v1/runs/run-1/runner-token"):
            return super().answer(method, path, authorization, body)
        self.exchanges.append((authorization, body))
        if authorization != f"Bearer {self.own}":
            return 403, {"title": "Forbidden", "status": 403, "detail": "the token is of the pod labd-run-2-1"}
        return 200, {"token": TOKEN}


class Pod:
    """A process as the pod's container has it: scratch volume, token file, and no secret in its environment."""

    def __init__(self, script: str, folder: Path, **changes: str) -> None:
        self.labd = Labd(assignment(script, timeout_s=3600))
        self.labd.exchanges = []
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text(f"{OWN}\n")
        self.environment = {
            "LABD_URL": self.labd.url,
            "LABD_RUN_ID": "run-1",
            "LABD_ATTEMPT": "2",
            "LABD_TOKEN_FILE": str(self.token),
            "TMPDIR": str(folder / "scratch" / "tmp"),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        } | changes
        (folder / "scratch").mkdir()

    def start(self) -> "Pod":
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "scenarios", "pod"],
            env=self.environment,
            cwd=self.folder / "scratch",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self

    def end(self) -> int:
        self.output, _ = self.process.communicate(timeout=60)
        assert TOKEN not in self.output
        assert OWN not in self.output
        return self.process.returncode


Make = Callable[..., Pod]


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Make]:
    made: list[Pod] = []

    def make(script: str = "require('test').is_true(1)", **changes: str) -> Pod:
        made.append(Pod(script, tmp_path, **changes))
        return made[-1]

    yield make
    for each in made:
        if hasattr(each, "process"):
            each.process.kill()
            each.process.communicate()
        each.labd.server.shutdown()
        each.labd.server.server_close()


def test_a_pod_proves_itself_and_executes_its_run(pod: Make) -> None:
    one = pod("print('hello') require('test').is_true(1)").start()
    assert one.end() == 0, one.output
    assert one.labd.exchanges == [(f"Bearer {OWN}", {"attempt": 2})]
    assert one.labd.text == ["hello"]
    assert one.labd.result["verdict"] == "passed"
    assert (one.folder / "scratch" / "tmp").is_dir()


def test_the_runs_token_is_in_memory_alone(pod: Make) -> None:
    one = pod(SLEEP).start()
    one.labd.wait_for(lambda: "waiting" in one.labd.text)
    assert TOKEN.encode() not in Path(f"/proc/{one.process.pid}/environ").read_bytes()
    assert not [file for file in one.folder.rglob("*") if file.is_file() and TOKEN in file.read_text("latin-1")]
    one.process.terminate()
    assert one.end() == 2
    assert one.labd.result["reason"].endswith("was told to stop (SIGTERM)"), "reported within the pod's grace"


def test_a_file_with_the_runs_token_needs_no_exchange(pod: Make) -> None:
    one = pod()
    one.token.write_text(TOKEN)
    assert one.start().end() == 0, one.output
    assert one.labd.exchanges == []


def test_labd_may_be_away_and_the_token_replaced_meanwhile(pod: Make) -> None:
    one = pod()
    one.labd.status = 503
    one.token.write_text(f"{OWN}-stale")
    one.start()
    one.labd.wait_for(lambda: one.labd.refused >= 2)
    one.token.write_text(OWN)
    seen = one.labd.refused
    one.labd.wait_for(lambda: one.labd.refused >= seen + 2)
    one.labd.status = 0
    assert one.end() == 0, one.output
    assert one.labd.exchanges == [(f"Bearer {OWN}", {"attempt": 2})]


def test_a_refusal_ends_the_pod_with_its_reason(pod: Make) -> None:
    one = pod()
    one.labd.own = "another"
    assert one.start().end() == 2
    assert one.output.startswith("labd does not take the pod for attempt 2 of run run-1: ")
    assert "the token is of the pod labd-run-2-1" in one.output
    assert len(one.labd.exchanges) == 1


def test_a_labd_that_stays_away_is_given_up(tmp_path: Path) -> None:
    from labd.client import LabUnreachable

    (tmp_path / "token").write_text(OWN)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(LabUnreachable):
        run_token(f"http://127.0.0.1:{port}", "run-1", 1, tmp_path / "token", patience_s=0.5)


def test_a_pod_that_is_told_to_stop_before_it_has_begun_says_so(pod: Make) -> None:
    one = pod()
    one.labd.status = 503
    one.start()
    one.labd.wait_for(lambda: one.labd.refused >= 1)
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 2
    assert one.output == "the pod was told to stop (SIGTERM) before its run had begun\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"LABD_URL": ""}, "a test pod needs LABD_URL in its environment"),
        ({"LABD_RUN_ID": "", "LABD_ATTEMPT": ""}, "a test pod needs LABD_RUN_ID, LABD_ATTEMPT in its environment"),
        ({"LABD_ATTEMPT": "one"}, "LABD_ATTEMPT is 'one': expected a number"),
        ({"LABD_TOKEN_FILE": "/nowhere/token"}, "the pod's token /nowhere/token cannot be read"),
        ({"TMPDIR": "/proc/tmp"}, "TMPDIR is /proc/tmp, which cannot be made"),
    ],
)
def test_what_the_pod_lacks_is_named(pod: Make, changes: dict[str, str], said: str) -> None:
    one = pod(**changes).start()
    assert one.end() == 2
    assert one.output.startswith(said), one.output


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"a" * 20_000], ids=["empty", "blank", "bytes", "long"])
def test_a_token_file_with_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(PodError, match="the pod's token"):
        run_token("http://127.0.0.1:1", "run-1", 1, tmp_path / "token")
