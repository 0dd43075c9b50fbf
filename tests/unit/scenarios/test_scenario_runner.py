"""``python -m scenarios`` as labd starts it, against a small labd: it always reports, and it always ends."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest

from labd.client.types import Assignment, Result
from tests.running_time import running_time
from tests.unit.scenarios.conftest import assignment

TOKEN = "run-token"
FOREVER = "string.find(('a'):rep(40), ('a?'):rep(40) .. ('a'):rep(40) .. 'b')"
"""One C call that takes longer than anybody waits, and that no hook interrupts."""


class FakeLabd:
    """The routes that a runner uses. ``status`` other than 0 is what every request gets."""

    def __init__(self, run: Assignment) -> None:
        self.run = run
        self.status = 0
        self.lease_state = "GRANTED"
        self.lines: list[dict[str, str]] = []
        self.commits: list[str] = []
        self.results: list[tuple[Result, str]] = []
        self.refused = 0
        self.cases_max = 10_000
        """Of a result; one with more is too large."""
        self.changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"null")
                with outer.changed:
                    status, answer = outer.answer(self.command, self.path, self.headers.get("authorization"), body)
                    outer.changed.notify_all()
                raw = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json" if status < 300 else "application/problem+json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = _handle

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, method: str, path: str, authorization: str | None, body: Any) -> tuple[int, object]:
        if self.status:
            self.refused += 1
            return self.status, {"title": "no", "status": self.status, "detail": "not now"}
        if authorization != f"Bearer {TOKEN}":
            return 401, {"title": "no", "status": 401, "detail": f"token {authorization}"}
        match method, path.removeprefix("/api/v1"):
            case "GET", "/runs/run-1/assignment":
                return 200, self.run
            case "POST", "/leases/lease-1/heartbeat":
                return 200, {"state": self.lease_state, "end_reason": "expired"}
            case "POST", "/runs/run-1/log":
                for number, line in enumerate(body["lines"], body["first_seq"]):
                    assert number <= len(self.lines) + 1
                    if number == len(self.lines) + 1:
                        self.lines.append(line)
                return 200, {"acknowledged": len(self.lines)}
            case "PUT", "/runs/run-1/commit":
                self.commits.append(body["commit"])
                return 200, {}
            case "PUT", "/runs/run-1/result" if len(body["document"]["cases"]) > self.cases_max:
                return 413, {"title": "no", "status": 413, "detail": "at most 16777216 bytes; this one has 50000000"}
            case "PUT", "/runs/run-1/result":
                self.results.append((body["document"], body["junit"]))
                return 200, {}
        return 404, {"title": "no", "status": 404, "detail": path}

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, 30), self.text

    @property
    def text(self) -> list[str]:
        return [line["text"] for line in self.lines]

    @property
    def result(self) -> Result:
        ((result, _),) = self.results
        return result


class Started:
    """A runner process and its labd."""

    def __init__(self, labd: FakeLabd) -> None:
        self.labd = labd
        self.began = running_time()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "scenarios"],
            env={
                "LABD_URL": labd.url,
                "LABD_RUN_ID": "run-1",
                "LABD_RUN_TOKEN": TOKEN,
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> int:
        """The exit code."""
        self.output, _ = self.process.communicate(timeout=60)
        return self.process.returncode


Start = Callable[..., Started]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Started] = []

    def start_runner(script: str, *, status: int = 0, ttl_s: float = 30.0, **how: Any) -> Started:
        run = assignment(script, **how)
        run["ttl_s"] = ttl_s
        labd = FakeLabd(run)
        labd.status = status
        started.append(Started(labd))
        return started[-1]

    yield start_runner
    for each in started:
        each.process.kill()
        each.process.communicate()
        each.labd.server.shutdown()
        each.labd.server.server_close()


@pytest.mark.parametrize(
    ("script", "code", "verdict"),
    [
        ("require('test').case('c', function() print('hello') end)", 0, "passed"),
        ("require('test').case('c', function() require('test').fail('no') end)", 1, "failed"),
        ("require('test').case('c', function() nothing() end)", 2, "error"),
        ("x = = 1", 2, "error"),
    ],
)
def test_verdict_and_exit_code(start: Start, script: str, code: int, verdict: str) -> None:
    run = start(script)
    assert run.end() == code, run.output
    assert run.labd.result["verdict"] == verdict
    assert run.labd.result["log_lines"] == len(run.labd.lines)
    assert run.labd.result["log_lines_dropped"] == 0
    assert run.labd.results[0][1].startswith("<?xml")
    assert run.output == ""


def test_the_result_has_the_whole_log_before_it(start: Start) -> None:
    run = start("for i = 1, 2000 do print(i) end require('test').is_true(1)")
    assert run.end() == 0, run.output
    assert run.labd.text == [str(number) for number in range(1, 2001)]


def test_a_script_that_nothing_interrupts_is_left_behind(start: Start) -> None:
    run = start(
        f"local test = require('test')\ntest.case('matches', function()\n test.step('go')\n {FOREVER} end)",
        timeout_s=3.0,
    )
    assert run.end() == 1
    assert run.labd.result["reason"].endswith("ran longer than 3 s")
    (case,) = run.labd.result["cases"]
    assert (case["name"], case["verdict"]) == ("matches", "failed")
    assert [step["text"] for step in case["steps"]] == ["go"]
    assert case["failure"] is not None
    assert case["failure"]["file"] == "s.lua"
    assert case["failure"]["line"] == 3  # the last place that is known
    assert running_time() - run.began < 15


def test_a_script_that_loops_is_stopped_with_its_traceback(start: Start) -> None:
    run = start("local function spin()\n while true do end\nend\nspin()", timeout_s=3)
    assert run.end() == 1
    failure = run.labd.result["failure"]
    assert failure is not None
    assert (failure["file"], failure["line"]) == ("s.lua", 2)
    assert "s.lua:4: in main chunk" in failure["traceback"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_posts_what_there_is(start: Start, number: signal.Signals) -> None:
    run = start(
        "local test = require('test') test.case('a', function() end)"
        " test.case('b', function() print('waiting') require('time').sleep('1h') end)",
        timeout_s=3600,
    )
    run.labd.wait_for(lambda: "waiting" in run.labd.text)
    run.process.send_signal(number)
    sent = running_time()
    assert run.end() == 2
    assert running_time() - sent < 3
    assert [case["verdict"] for case in run.labd.result["cases"]] == ["passed", "error"]
    assert run.labd.result["reason"].endswith(f"was told to stop ({number.name})")
    assert any(text.startswith("error: ") for text in run.labd.text)


def test_a_signal_ends_a_script_that_nothing_interrupts(start: Start) -> None:
    run = start(f"print('go') {FOREVER}", timeout_s=3600)
    run.labd.wait_for(lambda: "go" in run.labd.text)
    run.process.terminate()
    assert run.end() == 2
    assert run.labd.result["reason"].endswith("was told to stop (SIGTERM)")


def test_a_lost_lease_ends_the_run(start: Start) -> None:
    run = start("print('go') require('time').sleep('1h')", timeout_s=3600, ttl_s=0.3)
    run.labd.wait_for(lambda: "go" in run.labd.text)
    run.labd.lease_state = "ENDED"
    assert run.end() == 2
    assert run.labd.result["reason"].endswith("the lease of the bench was lost: expired")


def test_a_restart_of_labd_loses_nothing(start: Start) -> None:
    run = start("print('before') require('time').sleep('300ms') print('after') require('test').is_true(1)")
    run.labd.wait_for(lambda: "before" in run.labd.text)
    run.labd.status = 503
    run.labd.wait_for(lambda: run.labd.refused >= 3)
    run.labd.status = 0
    assert run.end() == 0, run.output
    assert run.labd.text == ["before", "after"]
    assert run.labd.result["verdict"] == "passed"


def test_a_labd_that_starts_late_is_waited_for(start: Start) -> None:
    run = start("require('test').is_true(1)", status=503)
    run.labd.wait_for(lambda: run.labd.refused >= 2)
    run.labd.status = 0
    assert run.end() == 0, run.output


def test_a_run_that_labd_disowns_ends(start: Start) -> None:
    run = start("while true do print('x') require('time').sleep('10ms') end", timeout_s=3600, output_bytes=10**9)
    run.labd.wait_for(lambda: len(run.labd.lines) > 0)
    run.labd.status = 409
    assert run.end() == 2
    assert "cannot be exchanged with labd" in run.output
    assert TOKEN not in run.output


def test_a_result_that_is_too_large_is_an_error_that_says_so(start: Start) -> None:
    run = start("for i = 1, 3 do require('test').case('c' .. i, function() print(i) end) end")
    run.labd.cases_max = 2
    assert run.end() == 2, run.output
    result = run.labd.result
    assert (result["verdict"], result["cases"], result["log_lines"]) == ("error", [], len(run.labd.lines))
    assert "(passed, 3 cases) is larger than labd takes" in result["reason"]
    assert "at most 16777216 bytes; this one has 50000000" in result["reason"]
    assert 'errors="1"' in run.labd.results[0][1]


def test_an_assignment_that_labd_refuses_is_said_on_standard_error(start: Start) -> None:
    run = start("", status=404)
    assert run.end() == 2
    assert "not now" in run.output


def test_endless_allocation_is_a_failure_of_the_run(start: Start) -> None:
    run = start("local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", memory_bytes=64 * 2**20)
    assert run.end() == 1
    assert run.labd.result["reason"].endswith("used more than 64 MiB of memory")


def test_endless_output_is_an_error_of_the_run(start: Start) -> None:
    run = start("while true do print(('x'):rep(1000)) end", output_bytes=200_000)
    assert run.end() == 2
    assert run.labd.result["reason"].endswith("wrote more than 200000 bytes of log")
    assert sum(len(text) for text in run.labd.text) < 220_000


def test_a_bench_that_cannot_be_reached_is_an_error_with_a_line(start: Start) -> None:
    run = start("require('test').case('c', function()\n require('uds').ecu('ECM') end)")
    assert run.end() == 2
    (case,) = run.labd.result["cases"]
    assert case["verdict"] == "error"
    assert case["failure"] is not None
    assert case["failure"]["line"] == 2
    assert "bench b1 at 127.0.0.1:1" in case["failure"]["message"]


@pytest.mark.parametrize("missing", ["LABD_URL", "LABD_RUN_ID", "LABD_RUN_TOKEN"])
def test_a_missing_variable_is_named(missing: str) -> None:
    environment = {"LABD_URL": "http://127.0.0.1:1", "LABD_RUN_ID": "r", "LABD_RUN_TOKEN": "t"}
    environment.pop(missing)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "scenarios"],
        env=cast(dict[str, str], {**environment, "PYTHONPATH": path}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert missing in done.stderr
