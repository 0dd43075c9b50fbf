"""For all tests."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgresql import PostgresServer

# Properties are searched, not timed; how fast things are is what tests/benchmarks is for.
settings.register_profile("labd", deadline=None)
settings.load_profile("labd")

# A shell that starts the tests in the background has them ignore Ctrl-C, and every process that they start inherits
# that: those that a test ends with Ctrl-C would go on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def nobodys_sign_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever runs the tests may be signed in to a lab: the tests are not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """One server for all tests that leave it running; each takes a database of its own."""
    with PostgresServer() as server:
        yield server
