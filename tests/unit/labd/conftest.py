from collections.abc import Iterator
from pathlib import Path

import pytest

from labd.services.lab import Lab
from labd.store import postgresql as pg
from tests.postgresql import PostgresServer
from tests.unit.labd.fakes import FakeClock, FakeExecutor, open_lab


@pytest.fixture(scope="session", autouse=True)
def patient_database() -> Iterator[None]:
    """A machine that stands still within a transaction loses it in production; here that would be any test's end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pg, "IDLE_TIMEOUT_S", 60.0)
        yield


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def executor() -> FakeExecutor:
    return FakeExecutor()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """Every test of the use cases runs on both databases. None: SQLite, in the data directory."""
    if request.param == "sqlite":
        return None
    server: PostgresServer = request.getfixturevalue("postgresql")
    return server.fresh_labd_database()


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, executor: FakeExecutor, database: str | None) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, executor, database=database)
    yield lab
    lab.core.store.close()
