import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from click.testing import CliRunner, Result

from labd.cli.main import main
from tests.unit.cli.fake_agent import FakeAgent
from tests.unit.cli.terminal import Terminal
from tests.unit.client.fake_labd import FakeLabd, make_bench

Labctl = Callable[..., Result]
Process = Callable[..., AbstractContextManager["subprocess.Popen[str]"]]


@pytest.fixture
def labd() -> Iterator[FakeLabd]:
    with FakeLabd() as fake:
        yield fake


@pytest.fixture
def agent(labd: FakeLabd) -> Iterator[FakeAgent]:
    """The agent of the fake labd's bench-1."""
    with FakeAgent(token=labd.token) as fake:
        labd.benches["bench-1"] = make_bench(address=fake.address)
        yield fake


@pytest.fixture
def labctl(labd: FakeLabd) -> Labctl:
    """labctl in this process, against the fake labd."""

    def call(*arguments: str, **options: Any) -> Result:
        result = CliRunner().invoke(main, ["--labd", labd.url, *arguments], prog_name="labctl", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    opened = Terminal()
    yield opened
    opened.close()


@pytest.fixture
def labctl_process(labd: FakeLabd) -> Process:
    """labctl as a process of its own, for signals and terminals."""

    @contextmanager
    def start(*arguments: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen(
            [sys.executable, "-m", "labd.cli", *arguments],
            env={**os.environ, "LABD_URL": labd.url, "PYTHONUNBUFFERED": "1", "TERM": "xterm", "COLUMNS": "100"},
            text=True,
            **streams,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    return start
