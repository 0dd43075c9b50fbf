"""What leads from the agent to an ECU: one of the bench's CAN buses, or the IP network that its gateways are in."""

from bench_agent.server.agent_bus import AgentBus
from ecu_adapters.doip import Gateways


class DoIpLink:
    """The way to a DoIP entity. Whether somebody listens there shows when the ECU is spoken to."""

    def __init__(self, place: str, gateways: Gateways) -> None:
        self.name = f"doip://{place}"
        self._gateways = gateways

    def require(self) -> Gateways:
        """The connections of the bench; they are made when they are needed."""
        return self._gateways


EcuLink = AgentBus | DoIpLink
