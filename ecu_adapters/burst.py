"""Frames that travel together, as packed records or as python-can's messages, whichever somebody asks for."""

from collections.abc import Iterator, Sequence
from copy import copy
from itertools import chain, groupby
from typing import Self, overload

import can

from ecu_adapters import frame_records as packed
from ecu_adapters.frame_records import Records


class Burst(Sequence[can.Message]):
    """A row of frames: a sequence of messages, each made when it is first looked at, and `records` of all.

    All have been sent by ourselves (``own``), or none. Whoever receives a burst must not change it: others get it too.
    """

    def __init__(
        self,
        *,
        records: Records | None = None,
        messages: Sequence[can.Message] = (),
        own: bool = False,
        channel: str | None = None,
    ) -> None:
        """Either ``records`` or ``messages``, whose flags and ``is_rx`` must agree with ``own``."""
        self.own = own
        self._records = records
        self.channel = channel
        self._messages: list[can.Message | None] = [None] * len(records) if records is not None else list(messages)
        self._other: Burst | None = None

    @property
    def records(self) -> Records:
        """Packed; see `ecu_adapters.frame_records`."""
        if self._records is None:
            self._records = packed.pack(list(self))
        return self._records

    @property
    def is_packed(self) -> bool:
        """Whether the records are there already."""
        return self._records is not None

    @classmethod
    def of(cls, message: can.Message) -> Self:
        """A burst of one received or own message."""
        return cls(messages=(message,), own=not message.is_rx)

    def ids(self) -> list[int]:
        """The arbitration IDs with their flag bits, as in SocketCAN."""
        if self._records is not None:
            ids: list[int] = self._records["id"].tolist()
            return ids
        return [packed.can_id(message) for message in self]

    def seen(self, *, own: bool) -> "Burst":
        """The same frames, as received or as own ones."""
        if own is self.own:
            return self
        if self._other is None:
            self._other = self._mirrored(own)
        return self._other

    def _mirrored(self, own: bool) -> "Burst":
        if self._records is not None and None in self._messages:
            records = self._records.copy()
            records["flags"] ^= packed.OWN
            return Burst(records=records, own=own, channel=self.channel)
        messages = [copy(message) for message in self]
        for message in messages:
            message.is_rx = not own
        return Burst(messages=messages, own=own, channel=self.channel)

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, index: int) -> can.Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[can.Message]: ...
    def __getitem__(self, index: int | slice) -> can.Message | list[can.Message]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        message = self._messages[index]
        if message is None:
            if self._records is None:
                raise IndexError(index)
            message = self._messages[index] = packed.unpack(self._records[index], self.channel)
        return message

    def __iter__(self) -> Iterator[can.Message]:
        for position in range(len(self._messages)):
            yield self[position]


def records_of(bursts: Sequence[Burst]) -> Records:
    """The records of several bursts (one or more), in order; those that are messages so far are packed together."""
    parts: list[Records] = []
    for is_packed, together in groupby(bursts, key=lambda burst: burst.is_packed):
        row = list(together)
        parts += [burst.records for burst in row] if is_packed else [packed.pack(list(chain.from_iterable(row)))]
    return packed.join(parts)
