"""Images: Intel HEX, Motorola S-records, ELF and raw binary, through bincopy."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import bincopy  # type: ignore[import-untyped]

Format = Literal["hex", "srec", "elf", "binary"]

_SUFFIXES: dict[str, Format] = {
    ".hex": "hex", ".ihex": "hex", ".ihx": "hex", ".h86": "hex",
    ".s19": "srec", ".s28": "srec", ".s37": "srec", ".srec": "srec", ".mot": "srec", ".sx": "srec", ".s": "srec",
    ".elf": "elf", ".axf": "elf",
    ".bin": "binary", ".img": "binary", ".raw": "binary",
}  # fmt: skip
_HEX_KNOWN = range(6)
_CLOSING = {"hex": ("1",), "srec": ("7", "8", "9")}
"""Types of the record that ends a file."""
_COUNTS: dict[str, tuple[str, ...]] = {"hex": (), "srec": ("5", "6")}


class ImageError(ValueError):
    """The image cannot be read. Names file, line and mistake."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes in a row."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + len(self.data)


def read(content: bytes, name: str, address: int | None = None) -> list[Segment]:
    """The segments of an image file, by address.

    ``address`` is where a raw binary belongs; the other formats carry their own. Raises ImageError.
    """
    kind = _format(content, name)
    if kind == "binary":
        if address is None:
            raise ImageError(f"{name} is a raw binary: it does not say where it belongs; give an address")
        if not content:
            raise ImageError(f"{name} is empty")
        return [Segment(address, content)]
    if address is not None:
        raise ImageError(f"{name} carries its own addresses; 0x{address:X} goes with raw binaries only")
    import bincopy  # which brings all of pyelftools, which only those need who flash

    image = bincopy.BinFile()
    if kind == "elf":
        try:
            image.add_elf(content)
        except Exception as error:
            # pyelftools raises what it likes on a broken file.
            raise ImageError(f"{name} is no sound ELF file: {error}") from error
    else:
        _add_records(image, content, name, kind)
    segments = [Segment(segment.address, bytes(segment.data)) for segment in image.segments]
    if not segments:
        raise ImageError(f"{name} holds no data")
    return segments


def _format(content: bytes, name: str) -> Format:
    """By the file's beginning, which does not lie, then by its name."""
    if content.startswith(b"\x7fELF"):
        return "elf"
    suffix = _SUFFIXES.get(PurePath(name).suffix.lower())
    if suffix is not None:
        return suffix
    start = content.lstrip()[:2]
    if start[:1] == b":":
        return "hex"
    return "srec" if start[:1] == b"S" and start[1:].isdigit() else "binary"


def _add_records(image: "bincopy.BinFile", content: bytes, name: str, kind: Format) -> None:
    import bincopy

    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ImageError(f"{name}:{line}: byte 0x{content[error.start]:02X} is not text") from None
    last, code = 0, ""
    for number, record in enumerate(map(str.strip, text.splitlines()), start=1):
        if not record:
            continue
        if code in _CLOSING[kind]:
            raise ImageError(f"{name}:{number}: a record after the end record")
        last, code = number, _record_type(record, name, number, kind)
    # S-records may end with their count (S5, S6) alone.
    if code not in (*_CLOSING[kind], *_COUNTS[kind]):
        end = ":00000001FF" if kind == "hex" else "S7, S8 or S9"
        raise ImageError(f"{name}:{last}: the end record ({end}) is missing: the file is truncated")
    try:
        if kind == "hex":
            image.add_ihex(text)
        else:
            image.add_srec(text)
    except bincopy.Error as error:
        # Each record by itself is sound: they overlap.
        raise ImageError(f"{name}: {error}") from error


def _record_type(record: str, name: str, number: int, kind: Format) -> str:
    """Checks one record by itself."""
    import bincopy

    try:
        if kind == "srec":
            return str(bincopy.unpack_srec(record)[0])
        code = bincopy.unpack_ihex(record)[0]
    except (bincopy.Error, ValueError, IndexError) as error:
        raise ImageError(f"{name}:{number}: {error}") from error
    if code not in _HEX_KNOWN:
        raise ImageError(f"{name}:{number}: unknown record type {code}")
    return str(code)
