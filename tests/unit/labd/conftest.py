from collections.abc import Iterator
from pathlib import Path

import pytest

from labd.services.lab import Lab
from tests.postgresql import PostgresServer
from tests.unit.labd.fakes import FakeClock, FakeExecutor, open_lab


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
