"""A real labd process, and a bench agent reduced to its stream, for tests of the daemon."""

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import grpc

from bench_agent.protocol import bench_pb2, lab_pb2, lab_pb2_grpc
from labd.client import LabClient

DEADLINE_S = 90.0
Found = TypeVar("Found")


def until(look: Callable[[], Found | None], what: str) -> Found:
    """Looks again and again at another process; fails after the deadline."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what}: not within {DEADLINE_S:g} s")


class Daemon:
    """``labd serve`` on a data directory, with addresses that stay the same over restarts."""

    def __init__(
        self,
        data: Path,
        *options: str,
        runner: str | None = None,
        host: str = "127.0.0.1",
        prefix: tuple[str, ...] = (),
    ) -> None:
        """``prefix`` is a command in front of labd's."""
        self.data = data
        self._options = options
        self._prefix = prefix
        self.http = self.agents = f"{host}:0"
        self._runner = runner
        self.process: subprocess.Popen[str]
        self.client: LabClient

    def __enter__(self) -> "Daemon":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        """Returns once it is ready."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Returns at once."""
        (self.data / "labd.json").unlink(missing_ok=True)
        self.process = self.popen()

    def wait(self) -> None:
        """Returns once it is ready."""
        until(lambda: (self.data / "labd.json").exists() or self.process.poll() is not None, "labd serves")
        if self.process.poll() is not None:
            raise AssertionError(f"labd did not start: {self.process.communicate()}")
        addresses = json.loads((self.data / "labd.json").read_text("utf-8"))
        self.http, self.agents = addresses["http"].removeprefix("http://"), addresses["agents"]
        self.client = LabClient(addresses["http"])

    def popen(self) -> subprocess.Popen[str]:
        command = [*self._prefix, sys.executable, "-m", "labd.daemon", "serve", "--data", str(self.data)]
        command += ["--log-level", "warning"]
        command += ["--http", self.http, "--agents", self.agents, "--insecure", *self._options]
        if self._runner is not None:
            command += ["--runner", self._runner]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def kill(self) -> None:
        """With -9; runners live on."""
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)
        self.client.close()

    def terminate(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Returns exit code, standard output and standard error."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=DEADLINE_S)
        self.client.close()
        return self.process.returncode, out, err


class StreamAgent:
    """Attaches benches to labd, confirms every fence, and comes back when labd does, or to the next of several."""

    def __init__(self, address: str, *benches: str, name: str = "stream-agent") -> None:
        self._addresses = address.split(",")
        self._name = name
        self._fenced = dict.fromkeys(benches, 0)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> "StreamAgent":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stopping.set()
        self._call.cancel()
        self._thread.join(timeout=DEADLINE_S)

    def _live(self) -> None:
        while not self._stopping.is_set():
            address = self._addresses[0]
            with grpc.insecure_channel(address) as channel, contextlib.suppress(grpc.RpcError):
                self._attach(lab_pb2_grpc.LabStub(channel))
            self._addresses = [*self._addresses[1:], address]
            self._stopping.wait(0.05)

    def _attach(self, lab: lab_pb2_grpc.LabStub) -> None:
        outbox: queue.SimpleQueue[lab_pb2.AgentMessage] = queue.SimpleQueue()
        hello = lab_pb2.Hello(agent=self._name, address="127.0.0.1:1", benches=map(self._report, self._fenced))
        outbox.put(lab_pb2.AgentMessage(hello=hello))

        def requests() -> Iterator[lab_pb2.AgentMessage]:
            while call is None or call.is_active():
                with contextlib.suppress(queue.Empty):
                    yield outbox.get(timeout=1.0)

        call = None
        self._call = call = lab.Attach(requests(), wait_for_ready=len(self._addresses) == 1, timeout=600)
        for message in call:
            for fence in [*message.welcome.fences, message.fence]:
                if fence.bench:
                    self._fenced[fence.bench] = max(self._fenced[fence.bench], fence.epoch)
                    outbox.put(lab_pb2.AgentMessage(fenced=lab_pb2.Fenced(bench=fence.bench, epoch=fence.epoch)))
            if message.HasField("tick"):
                for name in self._fenced:
                    outbox.put(lab_pb2.AgentMessage(report=self._report(name)))

    def _report(self, name: str) -> lab_pb2.BenchReport:
        description = bench_pb2.BenchDescription(name=name, health=bench_pb2.HEALTHY, labels={"platform": "meb"})
        return lab_pb2.BenchReport(description=description, fenced_epoch=self._fenced[name])
