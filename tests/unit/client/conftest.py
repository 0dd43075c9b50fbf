from collections.abc import Iterator

import pytest

from labd.client import LabClient
from tests.unit.client.fake_labd import FakeLabd


@pytest.fixture
def labd() -> Iterator[FakeLabd]:
    with FakeLabd() as fake:
        yield fake


@pytest.fixture
def client(labd: FakeLabd) -> Iterator[LabClient]:
    with LabClient(labd.url, timeout_s=5) as lab:
        yield lab
