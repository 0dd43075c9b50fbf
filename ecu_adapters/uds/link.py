"""What leads to an ECU: a CAN bus with ISO-TP on it, or the DoIP gateways of a bench."""

from collections.abc import Callable

from ecu_adapters.bus import BusPort
from ecu_adapters.description import EcuDescription
from ecu_adapters.doip import DoIpEndpoint, Gateways
from ecu_adapters.isotp import IsoTpAddress, IsoTpEndpoint
from ecu_adapters.transport import PduListener, Transport, TransportError

Link = BusPort | Gateways


def tester_endpoint(
    link: Link, ecu: EcuDescription, on_pdu: PduListener, on_receive_error: Callable[[TransportError], None]
) -> Transport:
    """The tester's end of the way that the description names.

    Raises ValueError when the link does not lead there: CAN FD on a classic bus, an ECU that has a tester already.
    """
    if isinstance(link, Gateways):
        if ecu.doip is None:
            raise ValueError(f"the description of {ecu.name} has no section doip")
        return DoIpEndpoint(link, ecu.doip, on_pdu, on_receive_error=on_receive_error)
    address = IsoTpAddress.tester(ecu.addressing)
    return IsoTpEndpoint(link, address, ecu.isotp, on_pdu, on_receive_error=on_receive_error)
