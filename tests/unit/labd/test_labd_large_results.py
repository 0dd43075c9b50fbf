"""A result that is larger than labd takes is refused at the door: not read into memory, and not waited for."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from labd.api.limits import Limits
from labd.client import LabClient, ProblemError
from labd.model.run import RunState
from labd.services.lab import Lab
from tests.unit.labd.fakes import RESULT, FakeClock, FakeExecutor, attach, open_lab, report, settle
from tests.unit.labd.serving import serving

MIB = 2**20
SCRIPT = "for number = 1, 50 do require('test').case('case ' .. number, function() end) end"


class Served:
    """A lab at its real door, with a run whose runner is the test."""

    def __init__(self, lab: Lab, executor: FakeExecutor, address: tuple[str, int]) -> None:
        self.lab = lab
        self.address = address
        self.url = f"http://{address[0]}:{address[1]}"
        with LabClient(self.url) as client:
            self.run_id = client.create_run(script=SCRIPT, holder="ada")["id"]
        settle(lab)
        self.token = executor.jobs[-1].token

    @property
    def path(self) -> str:
        return f"/api/v1/runs/{self.run_id}/result"

    def state(self) -> tuple[RunState, str]:
        run = self.lab.running.get(self.run_id).run
        return run.state, run.reason


@pytest.fixture(params=[Limits().result_bytes])
def served(
    tmp_path: Path, clock: FakeClock, executor: FakeExecutor, request: pytest.FixtureRequest
) -> Iterator[Served]:
    lab = open_lab(tmp_path, clock, executor)
    attach(lab, report("bench-1"))
    with serving(lab, Limits(result_bytes=request.param)) as address:
        yield Served(lab, executor, address)
    lab.core.store.close()


def test_a_result_of_50_mb_is_refused(served: Served) -> None:
    document: Any = {**RESULT, "reason": "x" * 50_000_000}
    with LabClient(served.url, token=served.token) as client, pytest.raises(ProblemError) as refusal:
        client.put_result(served.run_id, document, "<testsuites/>")
    assert refusal.value.status == 413
    assert f"at most {16 * MIB} bytes; this one has 500" in str(refusal.value)
    assert served.state() == (RunState.RUNNING, "")


def test_an_announced_one_is_refused_before_it_is_sent(served: Served) -> None:
    head = (
        f"PUT {served.path} HTTP/1.1\r\nHost: labd\r\nAuthorization: Bearer {served.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 50000000\r\n\r\n"
    )
    with socket.create_connection(served.address, timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_one_that_announces_nothing_is_read_to_the_bound_only(served: Served) -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while given < 200 * MIB:
            given += MIB
            yield b" " * MIB

    headers = {"Authorization": f"Bearer {served.token}", "Content-Type": "application/json"}
    with urllib3.PoolManager(retries=False) as pool:
        try:
            answer = pool.request("PUT", served.url + served.path, body=endless(), headers=headers, timeout=20)
            assert answer.status == 413
        except urllib3.exceptions.HTTPError:
            assert given < 200 * MIB, "cut off while it was sending"
    assert served.state() == (RunState.RUNNING, "")


@pytest.mark.parametrize("served", [5000], indirect=True)
def test_a_runner_with_too_large_a_result_ends_its_run_as_an_error(served: Served, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "scenarios"],
        env={
            "LABD_URL": served.url,
            "LABD_RUN_ID": served.run_id,
            "LABD_RUN_TOKEN": served.token,
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        },
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (2, b"")
    state, reason = served.state()
    assert state is RunState.ERROR
    assert reason.startswith("the script's result (passed, 50 cases) is larger than labd takes, and is left out: ")
    assert "at most 5000 bytes; this one has " in reason
