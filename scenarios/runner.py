"""Executes one run: fetches its assignment, runs the script under a watchdog, and hands over log and result.

The script has a thread of its own. This module's main thread waits for it with a deadline, and if the script cannot be
stopped (one long pattern match is a single C call) it reports without it: the process ends whatever Lua does.
"""

import faulthandler
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from bench_agent.protocol import tracing
from bench_agent.protocol.identity import AgentTls
from labd.client import LabError, ProblemError, RevokeNotice
from labd.client.types import Assignment, Failure, Result
from runners.git_source import SourceError
from runners.launch import ADDRESS_VARIABLE, STOP_REASON_FILE
from scenarios.bindings import Bindings, Context, too_long
from scenarios.data_files import DataFiles
from scenarios.given_source import with_given_source
from scenarios.lease import Heartbeat, LeaseKeeper
from scenarios.record import Record, without_details
from scenarios.revocation import Revocation
from scenarios.sandbox import Sandbox
from scenarios.shipping import LogShipper, LogTarget, is_passing, retry_delays
from scenarios.stop import Stop

if TYPE_CHECKING:
    from bench_agent.client import BenchClient

Answer = TypeVar("Answer")
PASSED, FAILED, ERROR = 0, 1, 2
_EXIT_CODES = {"passed": PASSED, "failed": FAILED, "error": ERROR}

SOFT_STOP_S = 1.0
"""How long a script that was told to stop may take to get there; its traceback is worth that much."""
DELIVERY_S = 60.0
"""How long log and result may take to reach labd, a restart of labd included."""
HURRIED_DELIVERY_S = 2.0
"""The same after SIGTERM: SIGKILL is on its way."""
DATA_FOLDER = "data-files"
"""In the runner's scratch directory, which goes when the run is over: the files that came with the run."""
HEADROOM_BYTES = 2**30
"""Address space for this process beyond what it has at start and the script's memory: threads, buffers, libraries."""


class Lab(LogTarget, LeaseKeeper, Protocol):
    """The part of LabClient that a runner needs."""

    def assignment(self, run_id: str) -> Assignment:
        """What to execute."""
        ...

    def data_file(self, run_id: str, path: str) -> bytes:
        """What is in a file that came with the run."""
        ...

    def record_commit(self, run_id: str, commit: str) -> object:
        """Says which commit of a Git repository runs."""
        ...

    def agent_tls(self, lease_id: str, bench: str) -> AgentTls | None:
        """What it takes to reach the bench's agent over TLS."""
        ...

    def put_result(self, run_id: str, document: Result | Mapping[str, Any], junit: str) -> None:
        """Hands over the result."""
        ...


@dataclass(frozen=True, slots=True)
class _Event:
    kind: Literal["ended", "stop", "late", "signal"]
    reason: str = ""


class Runner:
    """One run. ``open_bench`` is for tests; None connects to the assignment's bench of that number, from 0."""

    def __init__(
        self,
        lab: Lab,
        run_id: str,
        *,
        open_bench: "Callable[[int], BenchClient] | None" = None,
        delivery_s: float = DELIVERY_S,
        may_test_nothing: bool = False,
    ) -> None:
        self._lab = lab
        self._run_id = run_id
        self._open_bench = open_bench
        self._delivery_s = delivery_s
        self._may_test_nothing = may_test_nothing
        self._deliver_by: float | None = None
        self._started = time.monotonic()
        self._inbox: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._shipper: LogShipper | None = None

    def terminate(self, reason: str) -> None:
        """Ends the run with what there is, as an error, and hurries. Safe in a signal handler."""
        self._hurry()
        self._inbox.put(_Event("signal", reason))

    def execute(self) -> int:
        """The whole run. Returns the exit code. Raises LabError when the assignment cannot be had."""
        assignment = self._fetch()
        benches = [bench["name"] for bench in assignment["benches"]]
        lease, where = assignment["lease_id"], ",".join(benches)
        with tracing.span(f"run {assignment['name']}", run=self._run_id, lease=lease, bench=where) as span:
            tracing.adopt(span.traceparent)
            code = self._carry_out(assignment, benches)
            if code != PASSED:
                span.failed("failed" if code == FAILED else "error")
        return code

    def _carry_out(self, assignment: Assignment, benches: list[str]) -> int:
        self._watch_from_outside(assignment)
        fault, repository = "", None
        try:
            assignment, repository = with_given_source(assignment)
            if repository is not None:
                commit = repository.commit
                self._patiently(lambda: self._lab.record_commit(self._run_id, commit))
        except (SourceError, LabError) as error:
            fault = str(error)
        stop, record = Stop(), Record(assignment["name"], benches, may_test_nothing=self._may_test_nothing)
        shipper = LogShipper(
            self._lab,
            self._run_id,
            refused=lambda reason: self._tell_stop(f"labd does not take this run's log any more: {reason}"),
            stored=assignment.get("log_lines", 0),
        )
        self._shipper = shipper
        revocation = Revocation(stop)
        context = Context(
            assignment,
            record,
            shipper,
            stop,
            deadline=self._started + assignment["limits"]["timeout_s"],
            open_bench=self._open_bench or _opener(self._lab, assignment),
            files=DataFiles(
                assignment["data_files"],
                self._fetch_file if repository is None else repository.read,
                Path(DATA_FOLDER).absolute(),
            ),
            revocation=revocation,
        )
        bindings = Bindings(context)

        def noticed(notice: RevokeNotice) -> None:
            shipper.write("warning", str(notice))
            revocation.tell(notice)

        heartbeat = Heartbeat(self._lab, assignment["lease_id"], assignment["ttl_s"], self._tell_stop, noticed)
        shipper.start()
        heartbeat.start()
        if fault:
            record.finish("error", _failure(fault))
        elif assignment["benches"]:
            thread = threading.Thread(target=self._run_script, args=(assignment, bindings, stop, record), daemon=True)
            thread.start()
            self._watch(assignment, stop)
        else:
            record.finish("error", _failure("the run was assigned no bench"))
        if record.finish(stop.verdict, bindings.failure(stop.reason or "the script ended without telling how")):
            shipper.write("error", f"{stop.verdict}: {stop.reason}; it was at {bindings.position or 'its start'}")
        code = self._deliver(record, shipper)
        heartbeat.close()
        return code

    def _fetch(self) -> Assignment:
        return self._patiently(lambda: self._lab.assignment(self._run_id))

    def _fetch_file(self, path: str) -> bytes:
        return self._patiently(lambda: self._lab.data_file(self._run_id, path))

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """What labd answers, once it does. Raises LabError when it refuses, or is away for longer than a restart."""
        give_up_at, delays = time.monotonic() + self._delivery_s, retry_delays()
        while True:
            try:
                return ask()
            except LabError as error:
                if not is_passing(error) or time.monotonic() >= (self._deliver_by or give_up_at):
                    raise
            time.sleep(next(delays))

    def _run_script(self, assignment: Assignment, bindings: Bindings, stop: Stop, record: Record) -> None:
        try:
            sandbox = Sandbox(bindings.functions(), memory_bytes=assignment["limits"]["memory_bytes"], stop=stop)
            sandbox.run()
            if sandbox.internal_error:
                record.finish("error", bindings.failure(sandbox.internal_error))
        except Exception as error:
            record.finish("error", bindings.failure(f"the Lua runtime failed: {type(error).__name__}: {error}"))
        finally:
            self._inbox.put(_Event("ended"))
            bindings.close()  # beside the delivery: a bench that hangs does not hold up the result

    def _watch(self, assignment: Assignment, stop: Stop) -> None:
        """Returns when the script has ended, or is to be left behind."""
        deadline = self._started + assignment["limits"]["timeout_s"]
        try:
            event = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            event = _Event("late", too_long(assignment))
        if event.kind == "ended":
            return
        stop.set(event.reason, "failed" if event.kind == "late" else "error")
        leave_at = time.monotonic() + (0.2 if event.kind == "signal" else SOFT_STOP_S)
        while True:
            try:
                if self._inbox.get(timeout=max(0.0, leave_at - time.monotonic())).kind == "ended":
                    return
            except queue.Empty:
                return

    def _deliver(self, record: Record, shipper: LogShipper) -> int:
        self._deliver_by = min(time.monotonic() + self._delivery_s, self._deliver_by or float("inf"))
        shipper.close(max(0.0, self._deliver_by - time.monotonic()))
        result = record.result(shipper.accepted, shipper.dropped)
        try:
            self._report(result, self._deliver_by)
        except ProblemError as error:
            if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise
            whole = f"the script's result ({result['verdict']}, {len(result['cases'])} cases)"
            result = without_details(result, f"{whole} is larger than labd takes, and is left out: {error}")
            self._report(result, self._deliver_by)
        return _EXIT_CODES[result["verdict"]]

    def _report(self, result: Result, deliver_by: float) -> None:
        from scenarios.junit import render

        report, delays = render(result), retry_delays()
        while True:
            try:
                self._lab.put_result(self._run_id, result, report)
            except LabError as error:
                if not is_passing(error) or time.monotonic() >= deliver_by:
                    raise
            else:
                return
            time.sleep(next(delays))

    def _tell_stop(self, reason: str) -> None:
        self._inbox.put(_Event("stop", reason))

    def _hurry(self) -> None:
        self._deliver_by = min(time.monotonic() + HURRIED_DELIVERY_S, self._deliver_by or float("inf"))
        if self._shipper is not None:
            self._shipper.hurry(HURRIED_DELIVERY_S)

    def _watch_from_outside(self, assignment: Assignment) -> None:
        """Bounds that hold even if this interpreter hangs or is eaten alive."""
        latest = assignment["limits"]["timeout_s"] + SOFT_STOP_S + self._delivery_s + 10
        faulthandler.dump_traceback_later(latest, exit=True)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = size + assignment["limits"]["memory_bytes"] + HEADROOM_BYTES
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or limit < hard:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _opener(lab: Lab, assignment: Assignment) -> "Callable[[int], BenchClient]":
    def open_bench(number: int) -> "BenchClient":
        from bench_agent.client import BenchClient

        bench = assignment["benches"][number]
        # A runner at the bench, the first one, reaches its agent by the unix socket, which takes no certificate.
        local = os.environ.get(ADDRESS_VARIABLE) if number == 0 else None
        tls = None if local else lab.agent_tls(assignment["lease_id"], bench["name"])
        return BenchClient(local or bench["address"], bench["name"], bench["token"], tls=tls)

    return open_bench


def _failure(message: str) -> Failure:
    return Failure(message=message, file=None, line=None, traceback="")


def main() -> int:
    """Executes the run that the environment names (LABD_URL, LABD_RUN_ID, LABD_RUN_TOKEN). Returns the exit code."""
    missing = [name for name in ("LABD_URL", "LABD_RUN_ID", "LABD_RUN_TOKEN") if not os.environ.get(name)]
    if missing:
        _complain("a run needs these in its environment; labd sets them", missing=missing)
        return ERROR
    # The token is for us alone: nothing that this process might start or print should find it.
    token = os.environ.pop("LABD_RUN_TOKEN")
    return run(os.environ["LABD_URL"], os.environ["LABD_RUN_ID"], token)


def run(url: str, run_id: str, token: str) -> int:
    """Executes a run of the labd at ``url``, by the run's token, and ends it in order when told to. Returns the exit
    code.
    """
    from labd.client import LabClient

    tracing.adopt_environment()
    tracing.set_up("labd-runner")
    try:
        with LabClient(url, token=token, in_order=True) as lab:
            runner = Runner(lab, run_id)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda n, _: runner.terminate(_told_to_stop(n)))
            return runner.execute()
    except LabError as error:
        _complain("the run's assignment or result cannot be exchanged with labd", error=str(error))
        return ERROR
    finally:
        tracing.close()


def _told_to_stop(number: int) -> str:
    """Whoever started the runner leaves the reason in its directory."""
    try:
        reason = Path(STOP_REASON_FILE).read_text("utf-8")
    except OSError:
        reason = signal.Signals(number).name
    return f"was told to stop ({reason})"


def _complain(event: str, **details: object) -> None:
    """Into standard error, which labd shows when a run ends without a result."""
    import structlog

    structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
    structlog.get_logger().error(event, **details)
