from collections.abc import Iterator
from pathlib import Path

import pytest

from labd.services.lab import Lab
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


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, executor: FakeExecutor) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, executor)
    yield lab
    lab.core.store.close()
