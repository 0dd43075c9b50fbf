"""Time-outs and limits of the transport protocol."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one node; the values of J1939-21, 5.10.3 and 5.12. Raises ValueError, naming the field."""

    bam_spacing_s: float = 0.05
    """Between the packets of a broadcast: 50 to 200 ms."""
    packet_spacing_s: float = 0.0
    """Least time between the data packets of a connection."""
    packets_per_cts: int = 16
    """Packets that a receiver here asks for at once: 1 .. 255."""
    holds: int = 0
    """CTS for no packets that a receiver here sends before each block: how a busy node holds a connection open."""
    retransmissions: int = 2
    """How often in a row packets may be asked for again, either way."""
    t1_s: float = 0.75
    """Receiver: between two data packets."""
    t2_s: float = 1.25
    """Receiver: from CTS to the first data packet."""
    t3_s: float = 1.25
    """Sender: from the last data packet, or RTS, to CTS or acknowledgement."""
    t4_s: float = 1.05
    """Sender: from a CTS for no packets to the next one."""
    hold_s: float = 0.5
    """Receiver: between two CTS for no packets (Th)."""
    sessions: int = 64
    """Messages that are received at once."""
    queue: int = 64
    """Messages that wait to be sent."""

    def __post_init__(self) -> None:
        if not 0.05 <= self.bam_spacing_s <= 0.2:
            raise ValueError(f"bam_spacing_s is {self.bam_spacing_s:g}; it must be 0.05 .. 0.2")
        if not 0 <= self.packet_spacing_s <= 0.2:
            raise ValueError(f"packet_spacing_s is {self.packet_spacing_s:g}; it must be 0 .. 0.2")
        if not 1 <= self.packets_per_cts <= 255:
            raise ValueError(f"packets_per_cts is {self.packets_per_cts}; it must be 1 .. 255")
