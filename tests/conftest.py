"""For all tests."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from tests.postgresql import PostgresServer

# Properties are searched, not timed; how fast things are is what tests/benchmarks is for. The same examples each time,
# so that a run says something of the change at hand; `make explore` looks for new ones (docs/decisions/0027).
settings.register_profile("labd", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("LABD_HYPOTHESIS", "labd"))

# Tests fork, to be another user or to have a terminal, and execute something else at once. gRPC's handlers of forks are
# no use then, and crash the child now and then while other threads call into gRPC.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# structlog's own choice shows all variables of a traceback: an expected failure of a request costs half a minute so.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        structlog.dev.set_exc_info,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process that they start inherits
# that: those that a test ends with Ctrl-C would go on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# No test cuts the power: a file in memory survives a killed process as one on a disk does, and nobody waits for a slow
# disk. Tests run programs that they write, which some containers do not allow there.
MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
ROOM = 2 * 2**30


def _usable(folder: Path) -> bool:
    return (
        os.access(folder, os.W_OK)
        and shutil.disk_usage(folder).free >= ROOM
        and not os.statvfs(folder).f_flag & os.ST_NOEXEC
    )


if "TMPDIR" not in os.environ and _usable(MEMORY):
    tempfile.tempdir = os.environ["TMPDIR"] = str(MEMORY)


@pytest.fixture(scope="session", autouse=True)
def nobodys_sign_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests may be signed in to a lab: the tests are not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_logger_is_cached() -> Iterator[None]:
    """A program that a test runs in this process configures logging; its loggers would keep that for all tests."""
    configure = structlog.configure

    def configure_uncached(*values: Any, **options: Any) -> None:
        configure(*values, **{**options, "cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", configure_uncached)
        yield


@pytest.fixture(autouse=True)
def logging_is_as_before() -> Iterator[None]:
    """After each test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """One server for all tests that leave it running; each takes a database of its own."""
    with PostgresServer() as server:
        yield server
