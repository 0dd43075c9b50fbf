"""Claiming an address, and defending it (J1939-81, 4.4), as a pure state machine: frames in, frames out."""

from ecu_adapters.j1939.codec import ADDRESS_CLAIMED
from ecu_adapters.j1939.errors import Failure, Fault
from ecu_adapters.j1939.identifier import GLOBAL, NULL, Identifier
from ecu_adapters.j1939.name import Name
from ecu_adapters.j1939.session import Frame

CONTEST_S = 0.25
"""How long others may contest a claim before the address is used."""


class AddressClaim:
    """The claim of one node to one address. The lower NAME wins."""

    def __init__(self, address: int, name: Name) -> None:
        self.made = False
        """Whether the claim has been put forward: others' claims are contested from then on."""
        self.failure: Failure | None = None
        """Why the address is lost; None while it is not."""
        self._address = address
        self._name = int(name)

    def frame(self) -> Frame:
        """The claim, or, once it is lost, "cannot claim"."""
        source = self._address if self.failure is None else NULL
        return Frame(Identifier(ADDRESS_CLAIMED, source, GLOBAL, 6), self._name.to_bytes(8, "little"))

    def take(self, frame: Frame) -> Frame | None:
        """Another node has claimed an address: what is to be said, if it is ours."""
        if not self.made or self.failure is not None:
            return None
        if frame.identifier.source != self._address or len(frame.data) != 8:
            return None
        other = int.from_bytes(frame.data, "little")
        # Of two equal NAMEs neither wins; to give in ends a quarrel that would never end.
        if other <= self._name:
            reason = (
                f"address 0x{self._address:02X} is taken by NAME {other:016X}, "
                f"which wins over {self._name:016X}; the lower one does"
            )
            self.failure = Failure(Fault.ADDRESS, reason, str(frame))
        return self.frame()
