"""Flash memory of the simulated ECU: erase, download, check, upload, and everything that must be refused on the way."""

import binascii
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.description import load_ecu
from ecu_adapters.memory_map import MemoryMap, Region
from ecu_adapters.simulator import UdsServer, VirtualClock
from ecu_adapters.simulator.memory import Memory, MemoryFault, Range
from ecu_adapters.yaml_file import ConfigError

ECU = (
    """\
name: ECM
addressing: {request_id: 0x7E0, response_id: 0x7E8}
timing: {p2_ms: 50, p2_star_ms: 500}
memory:
  regions:
    boot: {address: 0x0800_0000, size: 0x100, content: "B007", fill: 0x55, write: false}
    application: {address: 0x0802_0000, size: 0x4000, write: {session: [programming], security: 1}}
    ram: {address: 0x2000_0000, size: 0x100, kind: ram, fill: 0}
  max_block: 0x82
routines:
  erase:
    id: 0xFF00
    action: erase
    duration_ms: 1200
    access: {session: [programming], security: 1}
    start: {options: &range [
      {name: format, type: uint, length: 1, min: 0x44, max: 0x44},
      {name: address, type: uint, length: 4}, {name: size, type: uint, length: 4}]}
  check:
    id: 0x0202
    action: check
    access: {session: [programming]}
    start: {options: [{name: crc, type: uint, length: 4}], status: [{name: result, type: uint, length: 1}]}
  sum:
    id: 0x0203
    action: checksum
    crc: crc16
    start: {options: *range, status: [{name: crc, type: uint, length: 2}]}
  self_test:
    id: 0x0300
    duration_ms: 5000
    background: true
    start: {options: [{name: depth, type: uint, length: 1}], status: [{name: s, type: hex, length: 1, value: "01"}]}
    stop: {status: [{name: s, type: hex, length: 1, value: "02"}]}
    results: {status: [{name: s, type: hex, length: 2, value: "00FF"}]}
security: {1: {algorithm: xor, key: A5A5A5A5}}
""".replace("0x0800_0000", "0x08000000")
    .replace("0x0802_0000", "0x08020000")
    .replace("0x2000_0000", "0x20000000")
)


class Ecu:
    """A server in the programming session, unlocked, and its clock."""

    def __init__(self, path: Path, **memory: Any) -> None:
        ecu = load_ecu(path)
        if memory:
            ecu = ecu.model_copy(update={"memory": ecu.memory.model_copy(update=memory)})
        self.clock = VirtualClock()
        self.said: list[bytes] = []
        self.server = UdsServer(ecu, self.clock, self.said.append, random_bytes=lambda n: bytes(range(1, n + 1)))

    def ask(self, request: bytes | str, *, wait_s: float = 0) -> str:
        """The last of the answers within ``wait_s``."""
        self.said.clear()
        self.server.receive(bytes.fromhex(request) if isinstance(request, str) else request)
        self.clock.advance(wait_s)
        return self.said[-1].hex(" ").upper()

    def program(self) -> None:
        assert self.ask("10 02").startswith("50 02")
        self.ask("27 01")
        assert self.ask("27 02 A4 A7 A6 A1") == "67 02"

    def erase(self, size: int = 0x4000) -> str:
        return self.ask(b"\x31\x01\xff\x00\x44\x08\x02\x00\x00" + size.to_bytes(4, "big"), wait_s=2)

    def download(self, size: int) -> str:
        return self.ask(b"\x34\x00\x44\x08\x02\x00\x00" + size.to_bytes(4, "big"))

    def application(self, size: int) -> bytes:
        return self.server.state.memory.read(Range(0x08020000, size))


@pytest.fixture
def make(write: Callable[[str], Path]) -> Callable[..., Ecu]:
    def build(**memory: Any) -> Ecu:
        ecu = Ecu(write(ECU), **memory)
        ecu.program()
        return ecu

    return build


@pytest.fixture
def ecu(make: Callable[..., Ecu]) -> Ecu:
    return make()


def test_an_image_is_flashed_byte_by_byte_and_checked(ecu: Ecu) -> None:
    image = bytes(range(256)) * 40
    assert ecu.erase() == "71 01 FF 00"
    assert ecu.download(len(image)) == "74 20 00 82"
    counter = 0
    for at in range(0, len(image), 0x80):
        counter = (counter + 1) & 0xFF
        answer = ecu.ask(bytes((0x36, counter)) + image[at : at + 0x80])
        assert answer == f"76 {counter:02X}"
    assert ecu.ask("37") == "77"
    assert ecu.application(len(image)) == image
    assert ecu.ask(b"\x31\x01\x02\x02" + zlib.crc32(image).to_bytes(4, "big")) == "71 01 02 02 00"
    assert ecu.ask("31 01 02 02 00 00 00 00") == "71 01 02 02 01"
    where = b"\x44\x08\x02\x00\x00" + len(image).to_bytes(4, "big")
    expected = binascii.crc_hqx(image, 0xFFFF).to_bytes(2, "big").hex(" ").upper()
    assert ecu.ask(b"\x31\x01\x02\x03" + where) == f"71 01 02 03 {expected}"


def test_the_counter_wraps_to_zero(ecu: Ecu) -> None:
    ecu.download(300)
    counters = []
    for index in range(1, 301):
        ecu.ask(bytes((0x36, index & 0xFF, index & 0xFF)))
        counters.append(ecu.said[-1][1])
    assert counters[253:258] == [0xFE, 0xFF, 0x00, 0x01, 0x02]
    assert ecu.application(300) == bytes(index & 0xFF for index in range(1, 301))


def test_a_repeated_block_is_answered_but_not_written_twice(ecu: Ecu) -> None:
    ecu.download(4)
    assert ecu.ask("36 01 AA BB") == "76 01"
    assert ecu.ask("36 01 AA BB") == "76 01"
    assert ecu.ask("36 02 CC DD") == "76 02"
    assert ecu.ask("36 02 CC DD") == "76 02"
    assert ecu.ask("37") == "77"
    assert ecu.application(5) == bytes.fromhex("AABBCCDDFF")


@pytest.mark.parametrize(
    ("request_hex", "answer"),
    [
        ("36 02 AA", "7F 36 73"),
        ("36 00 AA", "7F 36 73"),
        ("36 01", "7F 36 13"),
        ("36 01" + "00" * 129, "7F 36 13"),
        ("36 01 AA BB CC DD EE", "7F 36 71"),
        ("36", "7F 36 13"),
        ("37", "7F 37 24"),
        ("34 00 44 08 02 00 00 00 00 00 04", "7F 34 22"),
    ],
)
def test_what_a_download_of_four_bytes_refuses(ecu: Ecu, request_hex: str, answer: str) -> None:
    assert ecu.download(4) == "74 20 00 82"
    assert ecu.ask(request_hex) == answer
    assert ecu.application(4) == b"\xff" * 4


@pytest.mark.parametrize(
    ("request_hex", "answer"),
    [
        ("34 00 44", "7F 34 13"),
        ("34 11 44 08 02 00 00 00 00 00 04", "7F 34 31"),
        ("34 00 40 08 02 00 00 00 00 00 04", "7F 34 31"),
        ("34 00 44 08 02 00 00 00 00 00", "7F 34 13"),
        ("34 00 44 08 02 00 00 00 00 00 00", "7F 34 31"),
        ("34 00 44 08 02 00 00 00 00 40 01", "7F 34 31"),
        ("34 00 44 08 00 00 00 00 00 00 04", "7F 34 31"),
        ("34 00 24 08 02 00 00 40 00", "74 20 00 82"),
        ("36 01 AA", "7F 36 24"),
        ("37", "7F 37 24"),
        ("31 01 FF", "7F 31 13"),
        ("31 01 FF 77", "7F 31 31"),
        ("31 02 FF 00", "7F 31 12"),
        ("31 04 FF 00", "7F 31 12"),
        ("31 01 FF 00 44 08 02", "7F 31 13"),
        ("31 01 FF 00 44 08 00 00 00 00 00 01 00", "7F 31 31"),
        ("31 01 02 02 00 00 00 00", "7F 31 22"),
        ("31 03 03 00", "7F 31 24"),
        ("31 02 03 00", "7F 31 24"),
    ],
)
def test_what_is_refused_and_what_not(ecu: Ecu, request_hex: str, answer: str) -> None:
    assert ecu.ask(request_hex) == answer


def test_flash_that_is_not_erased_takes_no_download(ecu: Ecu) -> None:
    ecu.download(2)
    ecu.ask("36 01 AA BB")
    ecu.ask("37")
    assert ecu.download(2) == "7F 34 70"
    assert ecu.erase(1) == "71 01 FF 00"
    assert ecu.application(2) == b"\xff\xbb"
    assert ecu.download(1) == "74 20 00 82"


def test_security_and_session_guard_the_flash(ecu: Ecu) -> None:
    ecu.ask("10 02")
    assert ecu.download(4) == "7F 34 33"
    assert ecu.erase() == "7F 31 33"
    ecu.ask("10 03")
    assert ecu.download(4) == "7F 34 31"
    assert ecu.erase() == "7F 31 31"
    ecu.ask("10 01")
    assert ecu.download(4) == "7F 34 7F"
    assert ecu.ask("36 01 00") == "7F 36 7F"


def test_a_session_change_ends_the_transfer(ecu: Ecu) -> None:
    ecu.download(4)
    ecu.program()
    assert ecu.ask("36 01 AA") == "7F 36 24"


def test_erasing_takes_its_time_with_0x78(ecu: Ecu) -> None:
    assert ecu.erase() == "71 01 FF 00"
    assert [pdu.hex() for pdu in ecu.said[:-1]] == ["7f3178"] * 4


def test_an_upload_gives_back_what_is_there(ecu: Ecu) -> None:
    assert ecu.ask("35 00 44 08 00 00 00 00 00 01 00") == "74 20 00 82".replace("74", "75")
    first = ecu.ask("36 01")
    assert first == "76 01 B0 07" + " 55" * 126
    assert ecu.ask("36 01") == first
    assert ecu.ask("37") == "7F 37 24"
    assert ecu.ask("36 02 00") == "7F 36 13"
    assert ecu.ask("36 02") == "76 02" + " 55" * 128
    assert ecu.ask("36 03") == "7F 36 71"
    assert ecu.ask("37") == "77"


def test_a_crc_at_the_end_must_match(make: Callable[..., Ecu]) -> None:
    ecu = make(exit_crc=True)
    ecu.download(2)
    ecu.ask("36 01 AA BB")
    assert ecu.ask("37") == "7F 37 31"
    assert ecu.ask("37 00 00 00 00") == "7F 37 72"
    assert ecu.ask(b"\x37" + zlib.crc32(b"\xaa\xbb").to_bytes(4, "big")) == "77"


def test_flash_is_written_at_the_right_voltage_only(make: Callable[..., Ecu]) -> None:
    ecu = make(programming_v=(10.0, 15.0))
    ecu.download(1)
    for volts, answer in ((9.9, "7F 36 93"), (15.1, "7F 36 92"), (12.0, "76 01")):
        ecu.server.state.supply_v = volts
        assert ecu.ask("36 01 AA") == answer


def test_a_routine_in_the_background_is_started_stopped_and_asked(ecu: Ecu) -> None:
    assert ecu.ask("31 01 03 00") == "7F 31 13"
    assert ecu.ask("31 01 03 00 07") == "71 01 03 00 01"
    assert ecu.ask("31 01 03 00 07") == "7F 31 22"
    assert ecu.ask("31 03 03 00") == "7F 31 21"
    ecu.ask("3E 00", wait_s=3)
    ecu.ask("3E 00", wait_s=3)
    assert ecu.ask("31 03 03 00") == "71 03 03 00 00 FF"
    assert ecu.ask("31 02 03 00") == "7F 31 24"
    assert ecu.ask("31 01 03 00 07") == "71 01 03 00 01"
    assert ecu.ask("31 02 03 00") == "71 02 03 00 02"
    ecu.said.clear()
    ecu.server.receive(bytes.fromhex("31 81 03 00 07"))
    assert ecu.said == [], "the sub-function has a suppress bit"


def test_a_reset_keeps_flash_and_forgets_ram(ecu: Ecu) -> None:
    memory = ecu.server.state.memory
    memory.write(0x20000000, b"\x01")
    ecu.download(1)
    ecu.ask("36 01 AA")
    ecu.ask("11 01", wait_s=1)
    assert memory.read(Range(0x20000000, 1)) == b"\x00"
    assert ecu.application(1) == b"\xaa"


LAYOUT = MemoryMap(
    regions={"flash": Region(address=100, size=50, erased=0xEE), "ram": Region(address=150, size=50, kind="ram")}
)


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(90, 210), st.integers(0, 60), st.integers(0, 255)),
        max_size=30,
    )
)
def test_memory_agrees_with_a_plain_model(steps: list[tuple[bool, int, int, int]]) -> None:
    memory = Memory(LAYOUT)
    model = dict.fromkeys(range(100, 150), 0xEE) | dict.fromkeys(range(150, 200), 0xFF)
    for erase, address, size, value in steps:
        cells = range(address, address + size)
        inside = size > 0 and ((address >= 100 and cells[-1] < 150) or (address >= 150 and cells[-1] < 200))
        writable = inside and (address >= 150 or all(model[cell] == 0xEE for cell in cells))
        try:
            if erase:
                memory.erase(Range(address, size))
            else:
                memory.write(address, bytes((value,)) * size)
        except MemoryFault:
            assert not (inside if erase else writable)
        else:
            assert inside if erase else writable
            new = (0xEE if address < 150 else 0xFF) if erase else value
            model.update(dict.fromkeys(cells, new))
        assert memory.read(Range(100, 50)) + memory.read(Range(150, 50)) == bytes(model.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memory: {regions: {a: {address: 0, size: 16}, b: {address: 8, size: 1}}}", "0x8 lies within region a"),
        ("memory: {regions: {a: {address: 0, size: 1, content: AABB}}}", "has 2 bytes; the region has 1"),
        ("memory: {formats: [0x22]}", "must have 0x44"),
        ("memory: {formats: [0x07, 0x44]}", "must be 0xSA"),
        ("memory: {regions: {a: {address: 0, size: 99}}, max_block: 5000}", "more than isotp.max_pdu"),
        ("memory: {regions: {a: {address: 0, size: 9, write: {security: 3}}}}", "level 3 is not described"),
        ("routines: {a: {id: 1, access: {session: [extnded]}}}", "did you mean extended"),
        ("routines: {a: {id: 1, action: erase}}", "erase needs memory.regions"),
        ("routines: {a: {id: 1}, b: {id: 1}}", "0x0001 is the identifier of a too"),
        ("routines: {a: {id: 1, region: a}}", "is for the actions"),
        ("memory: {regions: {a: {address: 0, size: 9}}}\nroutines: {a: {id: 1, action: check}}", "an option crc"),
        (
            "memory: {regions: {a: {address: 0, size: 9}}}\nroutines: {a: {id: 1, action: erase, region: b}}",
            "region 'b'",
        ),
        ("routines: {a: {id: 1, background: true}}", "needs results"),
        ("services: {0x34: {session: [programing]}}", "did you mean programming"),
    ],
)
def test_mistakes_in_the_description_are_named(write: Callable[[str], Path], text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_ecu(write(f"name: ECM\naddressing: {{request_id: 1, response_id: 2}}\n{text}\n"))
