"""A small ECU and a virtual bus with two nodes, for all tests of the adapters."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.description import EcuDescription, load_ecu

ECU = """\
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8, functional_id: 0x7DF}
timing: {p2_ms: 50, p2_star_ms: 500, s3_ms: 5000, transit_ms: 200}
session_entry: {programming: [extended]}
dids:
  VIN: {did: 0xF190, type: ascii, length: 17, value: WVWZZZ1KZ6W000001}
  RepairShopCode: {did: 0xF198, type: ascii, length: 6, value: abc, write: {session: [extended], security: 1}}
  IdleSpeed: {did: 0x0200, type: uint, length: 2, min: 600, max: 1200, value: 800, write: {session: [extended]}}
  Secret: {did: 0x0300, type: hex, length: 4, value: DEADBEEF, read: {session: [extended], security: 1}}
  Gear: {did: 0x0201, type: uint, length: 1, choices: {0: Neutral, 3: Park}, value: Park}
  Block: {did: 0x0400, type: hex, length: 600}
dtcs: [{code: P0301, status: 0x2F}, {code: U0100, status: 0x28}, {code: P0420, status: 0x00}]
dtc_status_availability: 0x2F
security:
  1: {algorithm: xor, key: A5A5A5A5, seed_length: 4, attempts: 3, delay_s: 10}
  3: {algorithm: aes-cmac, key: 2B7E151628AED2A6ABF7158809CF4F3C, seed_length: 16}
simulation: {reset_ms: 100}
"""

_numbers = count()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a YAML file and returns its path."""

    def write_file(text: str) -> Path:
        path = tmp_path / f"file{next(_numbers)}.yaml"
        path.write_text(text)
        return path

    return write_file


@pytest.fixture
def ecu(write: Callable[[str], Path]) -> EcuDescription:
    return load_ecu(write(ECU))


@pytest.fixture
def hubs() -> Iterator[tuple[BusHub, BusHub]]:
    """Two nodes of one classic bus: the tester's and the ECU's."""
    config = CanConfig(interface="virtual", channel=f"adapters-{next(_numbers)}")
    with BusHub.open("tester", config) as tester, BusHub.open("ecu", config) as ecu:
        yield tester, ecu


@pytest.fixture
def fd_hubs() -> Iterator[tuple[BusHub, BusHub]]:
    """Two nodes of one CAN FD bus."""
    config = CanConfig(interface="virtual", channel=f"adapters-{next(_numbers)}", fd=True)
    with BusHub.open("tester", config) as tester, BusHub.open("ecu", config) as ecu:
        yield tester, ecu
