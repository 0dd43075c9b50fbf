"""DoIP (ISO 13400-2): the framing that both ends share, and the tester's end of a connection."""

from ecu_adapters.doip.endpoint import DoIpEndpoint
from ecu_adapters.doip.gateway import Gateways

__all__ = ["DoIpEndpoint", "Gateways"]
