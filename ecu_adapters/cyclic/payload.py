"""What a cyclic message carries: signals, an alive counter, a checksum, and on demand something wrong.

All of it is worked out when values change: a message is a cycle of payloads, one for each state of its counter. Sending
is then no more than taking the next one, whoever does it, our scheduler or the kernel.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import can

from ecu_adapters.bus import FD_LENGTHS
from ecu_adapters.cyclic.bits import Bits
from ecu_adapters.cyclic.e2e import Checksum
from ecu_adapters.dbc import Database, SignalValue

MOST_STATES = 65_536
"""Counter states that a message can have."""


_PROFILES = {
    "e2e_p02": (Bits(0, 8), Bits(8, 4), 16),
    "e2e_p05": (Bits(0, 16), Bits(16, 8), 256),
}
"""Where the AUTOSAR profiles keep checksum and counter, and how many values the counter has."""


@dataclass(frozen=True, slots=True)
class Counter:
    """An alive counter: a signal, some bits, or (for payloads that somebody else makes) nowhere at all."""

    signal: str = ""
    bits: Bits | None = None
    modulo: int | None = None
    """How many values it takes; None: as many as its bits have."""
    first: int = 0
    """The lowest value; after the highest it goes on with this one."""
    step: int = 1

    def check(self) -> None:
        """Raises ValueError that names the field which makes no sense."""
        if self.signal and self.bits is not None:
            raise ValueError("a counter is a signal or some bits, not both")
        if self.modulo is not None and not 1 <= self.modulo <= MOST_STATES:
            raise ValueError(f"counter modulo is {self.modulo}; it must be 1 .. {MOST_STATES}")
        if self.first < 0:
            raise ValueError(f"counter first is {self.first}; it cannot be negative")
        if self.step < 1:
            raise ValueError(f"counter step is {self.step}; it must be at least 1")
        if self.bits is not None and (self.bits.start < 0 or not 1 <= self.bits.length <= 16):
            raise ValueError(f"counter bits {self.bits.start}, length {self.bits.length}: it has 1 .. 16 bits")


@dataclass(frozen=True, slots=True)
class Corruption:
    """What is wrong on purpose with what is sent. The default is nothing."""

    checksum_xor: int = 0
    data_xor: bytes = b""
    """XORed with the payload from its first byte on, after the checksum was made."""
    length: int | None = None
    """Bytes sent instead of the message's own length: cut off, or zeros added."""

    def apply(self, frame: can.Message) -> can.Message:
        """A frame with other data and length; the checksum's part is done where the checksum is made."""
        data = bytearray(frame.data)
        if len(self.data_xor) > len(data):
            raise ValueError(f"data_xor has {len(self.data_xor)} bytes; the message has {len(data)}")
        for index, mask in enumerate(self.data_xor):
            data[index] ^= mask
        if self.length is not None:
            _check_length(self.length, fd=frame.is_fd)
            data = data[: self.length].ljust(self.length, b"\0")
        return _with_data(frame, data)


SOUND = Corruption()


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the payloads of one message are made. Immutable; a change is a new recipe (`changed`)."""

    frame: can.Message
    """ID and kind of frame; for a raw frame also its data."""
    database: Database | None = None
    """Of a message of a database; None for a raw frame."""
    message: str = ""
    signals: Mapping[str, SignalValue] = field(default_factory=dict)
    counter: Counter | None = None
    checksum: Checksum | None = None
    payloads: tuple[bytes, ...] = ()
    """Made elsewhere, one for each counter state; they replace everything but the counter's number of states."""
    force: bool = False
    """Whether signals may be outside the database's bounds, as far as their bits go."""

    @classmethod
    def of_message(
        cls,
        database: Database,
        name: str,
        signals: Mapping[str, SignalValue],
        counter: Counter | None = None,
        checksum: Checksum | None = None,
        *,
        force: bool = False,
    ) -> "Recipe":
        """A message of a database. Raises DatabaseError or ValueError that says what is wrong."""
        checksum = _with_data_ids(checksum, database, name)
        new = cls(can.Message(), database, name, dict(signals), counter, checksum, force=force)
        return replace(new, frame=new._encoded())._checked()

    @classmethod
    def of_frame(cls, frame: can.Message, counter: Counter | None = None, checksum: Checksum | None = None) -> "Recipe":
        """A raw frame. Raises ValueError that says what is wrong."""
        return cls(frame, counter=counter, checksum=checksum)._checked()

    def changed(
        self,
        signals: Mapping[str, SignalValue] | None = None,
        data: bytes | None = None,
        payloads: tuple[bytes, ...] = (),
        *,
        force: bool | None = None,
    ) -> "Recipe":
        """With other values. Raises DatabaseError or ValueError that says what is wrong."""
        new = replace(self, payloads=payloads, force=self.force if force is None else force)
        if signals:
            if self.database is None:
                raise ValueError("a raw frame has no signals; give data")
            new = replace(new, signals={**self.signals, **signals})
            new = replace(new, frame=new._encoded())
        if data is not None:
            if self.database is not None:
                raise ValueError(f"{self.message} is made of signals; give signals instead of data")
            _check_length(len(data), fd=self.frame.is_fd)
            new = replace(new, frame=_with_data(self.frame, data))
        return new._checked()

    @property
    def states(self) -> list[int]:
        """The counter's values, in the order in which they are sent; a single 0 without a counter."""
        counter, place = self._counter()
        if counter is None:
            return [0]
        modulo = counter.modulo or (1 << place.length if place else 256)
        count = modulo // math.gcd(modulo, counter.step)
        return [counter.first + index * counter.step % modulo for index in range(count)]

    def frames(self, corruption: Corruption = SOUND) -> tuple[can.Message, ...]:
        """What goes on the bus, one frame for each counter state. Raises ValueError that says what is wrong."""
        self.check(corruption)
        return tuple(self._frame(index, state, corruption) for index, state in enumerate(self.states))

    def check(self, corruption: Corruption) -> None:
        """Raises ValueError when this message cannot be spoilt in that way."""
        if corruption.checksum_xor:
            if self.checksum is None or self.payloads:
                raise ValueError("the agent makes no checksum for this message, so it cannot spoil it; use data_xor")
            highest = (1 << self.checksum.algorithm_of.bits) - 1
            if not 0 < corruption.checksum_xor <= highest:
                raise ValueError(f"checksum_xor is 0x{corruption.checksum_xor:X}; it must be 1 .. 0x{highest:X}")
        self._frame(0, self.states[0], corruption)

    def _encoded(self) -> can.Message:
        """The frame with the signals, on the page that holds counter and checksum too."""
        if self.database is None:
            return self.frame
        made = [made.signal for made in (self.counter, self.checksum) if made is not None and made.signal]
        at_least: dict[str, SignalValue] = {}
        for name in made:
            if name in self.signals:
                raise ValueError(f"{self.message}.{name} is made by the agent; it cannot be set as well")
            at_least[name] = self.database.signal(self.message, name).minimum or 0
        return self.database.encode(self.message, {**self.signals, **at_least}, force=self.force)

    def _frame(self, index: int, state: int, corruption: Corruption) -> can.Message:
        """The frame of one counter state."""
        data = bytearray(self.payloads[index] if self.payloads else self.frame.data)
        if not self.payloads:
            _, counter_at = self._counter()
            if counter_at is not None:
                counter_at.put(data, state)
            checksum_at = self._checksum_bits()
            if self.checksum is not None and checksum_at is not None:
                checksum_at.put(data, 0)
                value = self.checksum.compute(bytes(data), state, tuple(checksum_at.bytes()))
                checksum_at.put(data, value ^ corruption.checksum_xor)
        return corruption.apply(_with_data(self.frame, data))

    def _counter(self) -> tuple[Counter | None, Bits | None]:
        profile = _PROFILES.get(self.checksum.algorithm) if self.checksum is not None else None
        counter = self.counter
        if profile is not None:
            return counter or Counter(modulo=profile[2]), profile[1]
        if counter is None or not counter.signal:
            return counter, counter.bits if counter is not None else None
        return counter, self._bits(counter.signal, "counter")

    def _checksum_bits(self) -> Bits | None:
        if self.checksum is None:
            return None
        profile = _PROFILES.get(self.checksum.algorithm)
        if profile is not None:
            return profile[0]
        return self.checksum.bits or self._bits(self.checksum.signal, "checksum")

    def _bits(self, signal: str, what: str) -> Bits:
        if self.database is None:
            raise ValueError(f"the {what} names signal {signal!r}, but a raw frame has no signals")
        found = self.database.signal(self.message, signal)
        if found.is_float:
            raise ValueError(f"{self.message}.{signal} cannot be a {what}: it is a floating-point signal")
        return Bits(found.start, found.length, big_endian=found.byte_order == "big_endian")

    def _checked(self) -> "Recipe":
        _check_length(len(self.frame.data), fd=self.frame.is_fd)
        if self.counter is not None:
            self.counter.check()
        if self.checksum is not None:
            self.checksum.check()
            at, bits = self._checksum_bits(), self.checksum.algorithm_of.bits
            if at is not None and at.length < bits:
                raise ValueError(f"{self.checksum.algorithm} has {bits} bits; {self.checksum.signal} has {at.length}")
        counter, place = self._counter()
        if counter is not None and place is not None:
            highest = counter.first + (counter.modulo or 1 << place.length) - 1
            if highest >= 1 << place.length:
                if counter.modulo is None:
                    raise ValueError(f"a counter that begins with {counter.first} needs a modulo")
                most = (1 << place.length) - 1
                raise ValueError(f"the counter goes up to {highest}; its {place.length} bits hold {most}")
        if self.payloads:
            if len(self.payloads) != len(self.states):
                raise ValueError(f"{len(self.payloads)} payloads given; the counter has {len(self.states)} states")
            for data in self.payloads:
                _check_length(len(data), fd=self.frame.is_fd)
        self.check(SOUND)
        return self


def _with_data(frame: can.Message, data: bytes | bytearray) -> can.Message:
    return can.Message(
        arbitration_id=frame.arbitration_id,
        is_extended_id=frame.is_extended_id,
        is_fd=frame.is_fd,
        bitrate_switch=frame.bitrate_switch,
        error_state_indicator=frame.error_state_indicator,
        is_rx=False,
        data=bytes(data),
    )


def _with_data_ids(checksum: Checksum | None, database: Database, name: str) -> Checksum | None:
    """With the data IDs that an AUTOSAR database gives the message, where none are given."""
    if checksum is None or checksum.data_ids or checksum.algorithm not in _PROFILES:
        return checksum
    autosar = database.message(name).autosar
    e2e = autosar.e2e if autosar is not None else None
    return replace(checksum, data_ids=tuple(e2e.data_ids or ())) if e2e is not None else checksum


def _check_length(length: int, *, fd: bool) -> None:
    if fd and length not in FD_LENGTHS:
        raise ValueError(f"a length of {length} bytes does not exist on CAN FD; it takes one of {sorted(FD_LENGTHS)}")
    if not fd and not 0 <= length <= 8:
        raise ValueError(f"a length of {length} bytes does not exist on classic CAN; it takes 0 .. 8")
