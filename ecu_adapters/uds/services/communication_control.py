"""CommunicationControl (0x28)."""

from udsoncan.common.CommunicationType import CommunicationType
from udsoncan.services.CommunicationControl import CommunicationControl

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid

CONTROLS = {
    "enable": 0x00,
    "enable_rx_disable_tx": 0x01,
    "disable_rx_enable_tx": 0x02,
    "disable": 0x03,
    "enable_rx_disable_tx_of_node": 0x04,
    "enable_of_node": 0x05,
}
"""Control types by name (ISO 14229-1:2020, 10.5)."""
MESSAGES = {"normal": 1, "network_management": 2, "all": 3}
"""Message types by name (ISO 14229-1:2020, annex B.1)."""
_OF_NODE = (0x04, 0x05)


async def _communication_control(
    use: Call, control: Plain, messages: Plain = "normal", subnet: Plain = 0, node: Plain = None
) -> Outcome:
    number = arguments.named(control, CONTROLS, "control", 0x7F)
    kind = arguments.named(messages, MESSAGES, "messages", 3)
    if kind == 0:
        raise UdsInvalid("messages is 0; it must be 1 (normal), 2 (network_management) or 3 (all)")
    which = CommunicationType(arguments.integer(subnet, "subnet", 0xF), bool(kind & 1), bool(kind & 2))
    if (node is not None) != (number in _OF_NODE):
        raise UdsInvalid("node goes with the controls enable_rx_disable_tx_of_node and enable_of_node, and only them")
    identifier = None if node is None else arguments.integer(node, "node", 0xFFFF)
    _, exchange = await use.exchange(CommunicationControl.make_request(number, which, identifier))
    return Outcome(None, exchange)


SERVICES = {"communication_control": Service(_communication_control, ("control",), ("messages", "subnet", "node"))}
