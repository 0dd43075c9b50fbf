"""LinkControl (0x87): a change of the bit rate, verified first and then made."""

from udsoncan.common.Baudrate import Baudrate
from udsoncan.services.LinkControl import LinkControl

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid

ACTIONS = {"verify_fixed": 0x01, "verify_specific": 0x02, "transition": 0x03}
"""Control types by name (ISO 14229-1:2020, 10.10)."""


async def _link_control(use: Call, action: Plain, bitrate: Plain = None) -> Outcome:
    number = arguments.named(action, ACTIONS, "action", 0x7F)
    if (bitrate is not None) != (number in (0x01, 0x02)):
        raise UdsInvalid("bitrate goes with the actions verify_fixed and verify_specific, and only with them")
    speed = None
    if bitrate is not None:
        value = arguments.integer(bitrate, "bitrate", 0xFFFFFF, least=1)
        if number == ACTIONS["verify_fixed"] and value not in Baudrate.baudrate_map:
            known = ", ".join(map(str, Baudrate.baudrate_map))
            raise UdsInvalid(f"bitrate is {value} bit/s; fixed ones are {known} (ISO 14229-1, annex B.3)")
        fixed = number == ACTIONS["verify_fixed"]
        speed = Baudrate(value, Baudrate.Type.Fixed if fixed else Baudrate.Type.Specific)
    _, exchange = await use.exchange(LinkControl.make_request(number, speed))
    return Outcome(None, exchange)


SERVICES = {"link_control": Service(_link_control, ("action",), ("bitrate",))}
