"""Checksums over a message: plain XOR and sum, CRC-8 and CRC-16, and the end-to-end profiles 2 and 5 of AUTOSAR."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cantools.autosar.end_to_end import compute_profile2_crc, compute_profile5_crc
from crccheck.crc import Crc8Autosar, Crc8SaeJ1850, Crc8Smbus, Crc16Ibm3740  # type: ignore[import-untyped]

from ecu_adapters.cyclic.bits import Bits
from ecu_adapters.yaml_file import nearest

Profile = Callable[[bytes, int], int | None]


def _xor(data: bytes, initial: int) -> int:
    for byte in data:
        initial ^= byte
    return initial


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A way from bytes and a start value to a number of ``bits`` bits."""

    bits: int
    initial: int
    compute: Callable[[bytes, int], int]
    profile: Profile | None = None
    """Of an end-to-end profile, which says itself what is covered: from the whole payload and the data ID."""


def _crc(kind: type) -> Algorithm:
    # crccheck is untyped; calc() begins with the start value as it stands in the register.
    def compute(data: bytes, initial: int) -> int:
        return int(kind.calc(data, initvalue=initial))  # type: ignore[attr-defined]

    return Algorithm(kind.width(), kind.initvalue(), compute)  # type: ignore[attr-defined]


ALGORITHMS: dict[str, Algorithm] = {
    "xor8": Algorithm(8, 0, _xor),
    "sum8": Algorithm(8, 0, lambda data, initial: (initial + sum(data)) & 0xFF),
    "crc8": _crc(Crc8Smbus),
    "crc8_j1850": _crc(Crc8SaeJ1850),
    "crc8_8h2f": _crc(Crc8Autosar),
    "crc16_ccitt": _crc(Crc16Ibm3740),
    "e2e_p02": Algorithm(8, 0, _xor, compute_profile2_crc),
    "e2e_p05": Algorithm(16, 0, _xor, compute_profile5_crc),
}
"""By name. ``crc8`` has polynomial 0x07; ``crc8_j1850`` is SAE J1850 (0x1D), ``crc8_8h2f`` AUTOSAR's CRC8H2F (0x2F),
``crc16_ccitt`` CRC-16/CCITT-FALSE (0x1021, start 0xFFFF). ``e2e_p02`` and ``e2e_p05`` are AUTOSAR's profiles."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """How the checksum of a message is made. Field names are those that a person gives."""

    algorithm: str
    signal: str = ""
    """The signal that carries it; empty where bits or the profile say the place."""
    bits: Bits | None = None
    first: int = 0
    """The first byte that it covers."""
    last: int | None = None
    """The last byte that it covers; None is the last of the message. Bytes of the checksum itself are left out."""
    initial: int | None = None
    """Start value; None is the algorithm's own."""
    xor_out: int = 0
    """The result is XORed with it, beyond what the algorithm itself does."""
    data_ids: tuple[int, ...] = ()
    """One, or one for each counter value. Follows the covered bytes, low byte first, in as few bytes as it takes."""

    def check(self) -> None:
        """Raises ValueError that names the field which makes no sense."""
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"unknown checksum algorithm {self.algorithm!r}; {nearest(self.algorithm, ALGORITHMS)}")
        algorithm = ALGORITHMS[self.algorithm]
        highest = (1 << algorithm.bits) - 1
        for name, value in (("initial", self.initial or 0), ("xor_out", self.xor_out)):
            if not 0 <= value <= highest:
                raise ValueError(f"checksum {name} is {value}; {self.algorithm} takes 0 .. {highest}")
        for data_id in self.data_ids:
            if not 0 <= data_id <= 0xFFFF:
                raise ValueError(f"checksum data ID is {data_id}; it must be 0 .. 65535")
        if algorithm.profile is not None:
            if not self.data_ids:
                raise ValueError(f"{self.algorithm} needs a data ID (profile 2: one, or sixteen by counter value)")
            given = (self.signal, self.bits, self.first, self.last, self.initial, self.xor_out)
            if given != ("", None, 0, None, None, 0):
                raise ValueError(f"{self.algorithm} takes a data ID only: the profile says what it covers and how")
        elif bool(self.signal) == (self.bits is not None):
            raise ValueError(f"checksum {self.algorithm} needs a signal, or else bits, that carry it")
        elif self.first < 0 or (self.last is not None and self.last < self.first):
            raise ValueError(f"checksum covers bytes {self.first} .. {self.last}: there are none")

    @property
    def algorithm_of(self) -> Algorithm:
        """The algorithm itself."""
        return ALGORITHMS[self.algorithm]

    def compute(self, data: bytes, counter: int, own: Sequence[int] = ()) -> int:
        """The checksum of a payload with this counter value; ``own`` are the bytes that will carry it.

        Raises ValueError when the payload is too short for it.
        """
        algorithm = self.algorithm_of
        data_id = self.data_ids[counter % len(self.data_ids)] if self.data_ids else None
        if algorithm.profile is not None:
            found = algorithm.profile(data, data_id or 0)
            if found is None:
                raise ValueError(f"{len(data)} bytes are too few for {self.algorithm}")
            return found
        last = len(data) - 1 if self.last is None else self.last
        if last >= len(data):
            raise ValueError(f"checksum covers byte {last}, but the message has {len(data)} bytes")
        covered = bytes(data[index] for index in range(self.first, last + 1) if index not in own)
        if data_id is not None:
            covered += data_id.to_bytes(2 if data_id > 0xFF else 1, "little")
        return algorithm.compute(covered, algorithm.initial if self.initial is None else self.initial) ^ self.xor_out
