"""A real time-series server for tests: Debian's victoria-metrics takes InfluxDB's v2 write API."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

_READY_S = 60


class Victoria:
    """A server that can be stopped and started again, with its data."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it serves."""
        with (self._folder / "victoria.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    f"-httpListenAddr=127.0.0.1:{self.port}",
                    f"-storageDataPath={self._folder / 'data'}",
                    "-retentionPeriod=10y",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            with suppress(urllib3.exceptions.HTTPError):
                if urllib3.request("GET", f"{self.url}/health", timeout=5, retries=False).status == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"victoria-metrics does not serve: {(self._folder / 'victoria.log').read_text()}")

    def stop(self) -> None:
        """Returns when it has stopped."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_READY_S)
            self._process = None

    def values(self, name: str) -> dict[str, list[float]]:
        """Of each series of the metric (``measurement_field``): by its labels, what was written, in order of time."""
        found: dict[str, list[tuple[float, float]]] = {}
        for series in self._export(name):
            labels = ",".join(f"{key}={value}" for key, value in sorted(series["metric"].items()) if key[0] != "_")
            found.setdefault(labels, []).extend(zip(series["timestamps"], series["values"], strict=True))
        return {labels: [value for _, value in sorted(pairs)] for labels, pairs in found.items()}

    def moments(self, name: str) -> list[float]:
        """The times (ms since the Unix epoch) of what was written, of all series of the metric."""
        return [moment for series in self._export(name) for moment in series["timestamps"]]

    def _export(self, name: str) -> list[dict[str, Any]]:
        urllib3.request("GET", f"{self.url}/internal/force_flush", timeout=_READY_S)
        query = {"match[]": f'{{__name__="{name}"}}', "start": "0", "reduce_mem_usage": "1"}
        answer = urllib3.request("GET", f"{self.url}/api/v1/export", fields=query, timeout=_READY_S)
        assert answer.status == 200, answer.data
        return [json.loads(line) for line in answer.data.splitlines()]


@contextmanager
def victoria(folder: Path) -> Iterator[Victoria]:
    """One that serves. Skips the test where the program is missing, but fails it in CI."""
    program = shutil.which("victoria-metrics")
    if program is None:
        reason = "there is no victoria-metrics: apt-get install victoria-metrics"
        if os.environ.get("LABD_REQUIRE_VICTORIA"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder.mkdir(parents=True, exist_ok=True)
    server = Victoria(folder, program)
    server.start()
    try:
        yield server
    finally:
        server.stop()
