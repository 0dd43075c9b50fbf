"""Who talks to whom: arbitration IDs and the address byte of one end (ISO 15765-2, 10.3)."""

from dataclasses import dataclass
from typing import Self

from ecu_adapters.addressing import Addressing


@dataclass(frozen=True, slots=True)
class IsoTpAddress:
    """One end of a connection. With an address byte in front of the data, the mode is extended or mixed."""

    send_id: int
    receive_id: int
    functional_id: int | None = None
    """Where a tester sends, and an ECU also receives, single frames for all ECUs."""
    extended: bool = False
    """Arbitration IDs of 29 bits."""
    send_prefix: bytes = b""
    """The address byte of sent frames: the target address (extended) or the address extension (mixed)."""
    receive_prefix: bytes = b""
    functional_prefix: bytes = b""

    @classmethod
    def tester(cls, addressing: Addressing) -> Self:
        """The tester's end."""
        return cls(
            addressing.request_id,
            addressing.response_id,
            addressing.functional_id,
            addressing.extended,
            addressing.request_prefix,
            addressing.response_prefix,
            addressing.functional_prefix,
        )

    @classmethod
    def ecu(cls, addressing: Addressing) -> Self:
        """The ECU's end."""
        return cls(
            addressing.response_id,
            addressing.request_id,
            addressing.functional_id,
            addressing.extended,
            addressing.response_prefix,
            addressing.request_prefix,
            addressing.functional_prefix,
        )
