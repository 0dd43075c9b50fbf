"""Who gets which frames of a bus."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecu_adapters import frame_records as packed
from ecu_adapters.burst import Burst
from ecu_adapters.bus_port import Owner, Subscription

_FEW = 128
"""Frames whose IDs are looked up one by one; more are first sifted as an array."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Frames on their way to the listeners, and who has sent them; None: somebody else on the bus."""

    burst: Burst
    sender: Owner | None


class Routes:
    """Who wants which arbitration ID."""

    def __init__(self, by_id: dict[int, tuple[Subscription, ...]]) -> None:
        self._by_id = by_id
        self._wanted = np.fromiter(by_id, np.uint32, len(by_id))

    def sift(self, burst: Burst) -> tuple[list[int], list[tuple[int, tuple[Subscription, ...]]]]:
        """The numbers of the error frames, and those of the frames that somebody wants."""
        if burst.is_packed and (len(burst) > _FEW or not self._by_id):
            ids = burst.records["id"]
            any_bit = int(np.bitwise_or.reduce(ids))
            errors: list[int] = np.flatnonzero(ids & packed.ERROR).tolist() if any_bit & packed.ERROR else []
            if not self._by_id:
                return errors, []
            ids = ids & ~np.uint32(packed.REMOTE)
            numbers = np.flatnonzero(np.isin(ids, self._wanted))
            return errors, [(number, self._by_id[int(ids[number])]) for number in numbers.tolist()]
        errors, hits = [], []
        for number, can_id in enumerate(burst.ids()):
            if can_id & packed.ERROR:
                errors.append(number)
            elif subscriptions := self._by_id.get(can_id & ~packed.REMOTE):
                hits.append((number, subscriptions))
        return errors, hits


def parted(burst: Burst) -> Sequence[Burst]:
    """Received frames apart from own ones that the kernel has sent by itself, in order."""
    if not burst.is_packed:
        return (burst,)
    flags = burst.records["flags"]
    if not np.bitwise_or.reduce(flags) & packed.OWN:
        return (burst,)
    own = flags & packed.OWN
    rows = np.split(burst.records, np.flatnonzero(np.diff(own)) + 1)
    return [Burst(records=row, own=bool(row["flags"][0] & packed.OWN), channel=burst.channel) for row in rows]
