"""ISO-TP (ISO 15765-2): pure frame coding and state machines, and the endpoint that runs them on a bus."""

from ecu_adapters.isotp.addressing import IsoTpAddress
from ecu_adapters.isotp.endpoint import IsoTpEndpoint, IsoTpStats
from ecu_adapters.isotp.errors import IsoTpError
from ecu_adapters.isotp.frame_output import FrameFilter
from ecu_adapters.isotp.receiver import FlowControlPolicy
from ecu_adapters.transport import PduListener

__all__ = [
    "FlowControlPolicy",
    "FrameFilter",
    "IsoTpAddress",
    "IsoTpEndpoint",
    "IsoTpError",
    "IsoTpStats",
    "PduListener",
]
