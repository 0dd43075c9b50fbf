"""The generic DoIP header (ISO 13400-2, 7.1): messages to bytes, and bytes to messages. Pure.

The payloads are coded by doipclient's message classes; its parser is not used, because it neither bounds a message nor
tells its caller what was wrong with a header.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from doipclient import messages

HEADER = struct.Struct("!BBHI")
ANY_VERSION = 0xFF
"""The version of a vehicle identification request whose sender does not know the entity's."""
VERSIONS = frozenset((1, 2, 3, 4, ANY_VERSION))

WRONG_PATTERN, UNKNOWN_TYPE, TOO_LARGE, OUT_OF_MEMORY, WRONG_LENGTH = range(5)
"""Header negative acknowledge codes."""
_DEADLY = frozenset((WRONG_PATTERN, WRONG_LENGTH))
"""After these the stream cannot be read on: who received it closes the socket."""

_FOREVER = range(5, 1 << 32)
"""Lengths of a diagnostic message: two addresses and at least one byte."""
Lengths = Mapping[int, range | frozenset[int]]
TO_ENTITY: Lengths = {
    0x0005: frozenset((7, 11)),
    0x0007: frozenset((0,)),
    0x0008: frozenset((2,)),
    0x8001: _FOREVER,
}
TO_TESTER: Lengths = {
    0x0000: frozenset((1,)),
    0x0006: frozenset((9, 13)),
    0x0007: frozenset((0,)),
    0x0008: frozenset((2,)),
    0x8001: _FOREVER,
    0x8002: _FOREVER,
    0x8003: _FOREVER,
}
UDP_TO_ENTITY: Lengths = {
    0x0001: frozenset((0,)),
    0x0002: frozenset((6,)),
    0x0003: frozenset((17,)),
    0x4001: frozenset((0,)),
    0x4003: frozenset((0,)),
}
UDP_TO_TESTER: Lengths = {
    0x0000: frozenset((1,)),
    0x0004: frozenset((32, 33)),
    0x4002: frozenset((3, 7)),
    0x4004: frozenset((1,)),
}


class Payload(Protocol):
    """One of doipclient's messages, which are not typed."""

    payload_type: int

    @classmethod
    def unpack(cls, payload_bytes: bytes, payload_length: int) -> "Payload":
        """From bytes, without the header."""

    def pack(self) -> bytes:
        """To bytes, without the header."""


_CLASSES = cast(Mapping[int, type[Payload]], messages.payload_type_to_message)


@dataclass(frozen=True, slots=True)
class Message:
    """One that was received."""

    version: int
    payload_type: int
    payload: bytes

    def unpack(self) -> Payload:
        """As doipclient's class for its type. The type and the length have been checked."""
        return _CLASSES[self.payload_type].unpack(self.payload, len(self.payload))

    def __str__(self) -> str:
        return shown(encode_raw(self.version, self.payload_type, self.payload))


@dataclass(frozen=True, slots=True)
class Refused:
    """A header that its receiver does not take."""

    code: int
    header: bytes

    @property
    def deadly(self) -> bool:
        """Whether nothing after it can be read."""
        return self.code in _DEADLY


Admit = Callable[[int, int], int | None]
"""Takes payload type and length; gives a header NACK code, or None when the message is welcome."""


def shown(data: bytes) -> str:
    """A message in hex, cut after what people can read."""
    text = data[:64].hex().upper()
    return text if len(data) <= 64 else f"{text}... ({len(data)} bytes)"


def encode_raw(version: int, payload_type: int, payload: bytes) -> bytes:
    """A message with its header."""
    return HEADER.pack(version, version ^ 0xFF, payload_type, len(payload)) + payload


def encode(version: int, message: Payload) -> bytes:
    """The same of one of doipclient's messages."""
    return encode_raw(version, message.payload_type, bytes(message.pack()))


def admits(lengths: Lengths, longest: int) -> Admit:
    """Takes the payload types of a table, up to ``longest`` bytes."""

    def admit(payload_type: int, length: int) -> int | None:
        known = lengths.get(payload_type)
        if known is None:
            return UNKNOWN_TYPE
        if length > longest:
            return TOO_LARGE
        return None if length in known else WRONG_LENGTH

    return admit


def check(header: bytes, admit: Admit) -> tuple[int, int, int] | Refused:
    """Version, payload type and length of a header, judged in the order of the header handler of ISO 13400-2."""
    version, inverse, payload_type, length = HEADER.unpack_from(header)
    if version ^ inverse != 0xFF or version not in VERSIONS:
        return Refused(WRONG_PATTERN, header[: HEADER.size])
    code = admit(payload_type, length)
    return (version, payload_type, length) if code is None else Refused(code, header[: HEADER.size])


def decode_datagram(data: bytes, lengths: Lengths) -> Message | Refused | None:
    """The one message of a datagram; None when it is too short for a header."""
    if len(data) < HEADER.size:
        return None
    checked = check(data, admits(lengths, len(data) - HEADER.size))
    if isinstance(checked, Refused):
        return checked if checked.code != TOO_LARGE else Refused(WRONG_LENGTH, checked.header)
    version, payload_type, length = checked
    if length != len(data) - HEADER.size:
        return Refused(WRONG_LENGTH, data[: HEADER.size])
    return Message(version, payload_type, data[HEADER.size :])


class StreamReader:
    """Cuts a TCP stream into messages. Keeps no more than one message and what arrived with it."""

    def __init__(self, admit: Admit) -> None:
        self.pending = 0
        """Bytes of the payload that the message in reception has announced."""
        self._admit = admit
        self._buffer = bytearray()
        self._expected: tuple[int, int, int] | None = None
        self._skip = 0
        self._dead = False

    def feed(self, data: bytes) -> Iterator[Message | Refused]:
        """What is complete now. After a deadly refusal nothing comes any more."""
        self._buffer += data
        while not self._dead:
            if self._skip:
                gone = min(self._skip, len(self._buffer))
                del self._buffer[:gone]
                self._skip -= gone
                if self._skip:
                    return
            if self._expected is None:
                if len(self._buffer) < HEADER.size:
                    return
                header = bytes(self._buffer[: HEADER.size])
                del self._buffer[: HEADER.size]
                checked = check(header, self._admit)
                if isinstance(checked, Refused):
                    self._dead = checked.deadly
                    self._skip = HEADER.unpack(header)[3]
                    yield checked
                    continue
                self._expected, self.pending = checked, checked[2]
            version, payload_type, length = self._expected
            if len(self._buffer) < length:
                return
            payload = bytes(memoryview(self._buffer)[:length])
            del self._buffer[:length]
            self._expected, self.pending = None, 0
            yield Message(version, payload_type, payload)
        self._buffer.clear()
