"""Images and the plans made of them: what is read, what is refused, and with which line."""

import bincopy  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu_adapters.flash.image import ImageError, Segment, read
from ecu_adapters.flash.plan import PlanError, blocks, make
from ecu_adapters.memory_map import MemoryMap

MEMORY = MemoryMap.model_validate(
    {
        "regions": {
            "boot": {"address": 0x0, "size": 0x1000, "write": False},
            "app": {"address": 0x8000, "size": 0x4000},
            "data": {"address": 0xC000, "size": 0x1000},
            "ram": {"address": 0x2000_0000, "size": 0x100, "kind": "ram"},
        }
    }
)


def _image(*segments: Segment) -> bincopy.BinFile:
    image = bincopy.BinFile()
    for segment in segments:
        image.add_binary(segment.data, segment.address)
    return image


RAW = st.binary(min_size=1, max_size=300).filter(lambda data: not data.startswith(b"\x7fELF"))


@given(RAW, st.integers(0, 0xFFFF_0000))
def test_every_format_gives_the_same_bytes(data: bytes, address: int) -> None:
    image = _image(Segment(address, data))
    expected = [Segment(address, data)]
    assert read(image.as_ihex().encode(), "app.hex") == expected
    assert read(image.as_srec(address_length_bits=32).encode(), "app.s37") == expected
    assert read(data, "app.bin", address) == expected
    assert read(image.as_ihex().encode(), "download") == expected  # known by how it begins


def test_holes_make_segments() -> None:
    image = _image(Segment(0x8000, b"abc"), Segment(0x9000, b"de"))
    assert read(image.as_ihex().encode(), "x.hex") == [Segment(0x8000, b"abc"), Segment(0x9000, b"de")]


HEX = _image(Segment(0x8000, bytes(64))).as_ihex().splitlines()
SREC = _image(Segment(0x8000, bytes(64))).as_srec().splitlines()


@pytest.mark.parametrize(
    ("content", "name", "mistake"),
    [
        ("\n".join(HEX[:-1]), "a.hex", r"a\.hex:2: the end record \(:00000001FF\) is missing: the file is truncated"),
        ("\n".join(HEX[:-1])[:-4], "a.hex", r"a\.hex:2: record .* has wrong size"),
        ("\n".join([HEX[0], HEX[1][:-2] + "00", *HEX[2:]]), "a.hex", r"a\.hex:2: expected crc"),
        ("\n".join([*HEX, HEX[0]]), "a.hex", r"a\.hex:4: a record after the end record"),
        ("\n".join([HEX[0], "hello", *HEX[1:]]), "a.hex", r"a\.hex:2: "),
        (":0000000AF6\n:00000001FF", "a.hex", r"a\.hex:1: unknown record type 10"),
        (":00000001FF", "a.hex", "holds no data"),
        ("\n".join([HEX[0], HEX[0], HEX[-1]]), "a.hex", "overlap"),
        ("\n".join([*HEX[:-1]])[:-3], "a.hex", r"a\.hex:2: "),
        ("\n".join(SREC[:-1]), "a.s19", r"a\.s19:\d: the end record \(S7, S8 or S9\) is missing"),
        ("\n".join([SREC[0], SREC[1][:-2] + "00", *SREC[2:]]), "a.s19", r"a\.s19:2: expected crc"),
        ("S1", "a.s19", r"a\.s19:1: "),
        ("", "a.hex", "truncated"),
        ("\n\x80", "a.hex", r"a\.hex:2: byte 0xC2 is not text"),
        ("", "a.bin", "empty"),
        ("\x7fELF", "a.elf", "no sound ELF"),
    ],
)
def test_broken_files_are_refused_with_the_line(content: str, name: str, mistake: str) -> None:
    with pytest.raises(ImageError, match=mistake):
        read(content.encode(), name, 0x8000 if name.endswith("bin") else None)


def test_an_address_goes_with_binaries_only() -> None:
    with pytest.raises(ImageError, match="give an address"):
        read(b"x", "a.bin")
    with pytest.raises(ImageError, match="carries its own addresses"):
        read("\n".join(HEX).encode(), "a.hex", 0x8000)


def test_a_plan_is_cut_at_regions() -> None:
    plan = make([Segment(0xBFFE, b"abcd"), Segment(0x8000, b"x")], MEMORY, "ECM")
    assert [(part.region, part.address, part.data) for part in plan.parts] == [
        ("app", 0x8000, b"x"),
        ("app", 0xBFFE, b"ab"),
        ("data", 0xC000, b"cd"),
    ]
    assert plan.total == 5
    assert [part.data for part in plan.after(0xBFFF)] == [b"b", b"cd"]
    with pytest.raises(PlanError, match="nothing of the image is left"):
        plan.after(0xC002)
    assert plan.content("data", MEMORY.regions["data"])[:3] == b"cd\xff"


@pytest.mark.parametrize("segment", [Segment(0x7FFF, b"ab"), Segment(0xCFFF, b"ab"), Segment(0x10, b"a")])
def test_an_image_outside_of_the_memory_is_refused(segment: Segment) -> None:
    with pytest.raises(PlanError, match=r"outside the memory of ECM: app 0x8000 \.\. 0xBFFF, data 0xC000"):
        make([segment], MEMORY, "ECM")


def test_an_ecu_without_memory_cannot_be_flashed() -> None:
    with pytest.raises(PlanError, match=r"names no memory that can be written \(memory\.regions\)"):
        make([Segment(0, b"a")], MemoryMap(), "ECM")


@given(st.integers(1, 0x4000), st.integers(1, 0x1000))
def test_blocks_cover_a_part_without_gaps(size: int, payload: int) -> None:
    (part,) = make([Segment(0x8000, bytes(n & 0xFF for n in range(size)))], MEMORY, "ECM").parts
    made = list(blocks(part, payload))
    assert b"".join(block.data for block in made) == part.data
    assert [block.number for block in made] == list(range(1, len(made) + 1))
    assert all(block.counter == block.number % 256 for block in made)
    assert all(block.address == part.address + (block.number - 1) * payload for block in made)
