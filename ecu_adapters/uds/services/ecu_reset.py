"""ECUReset (0x11)."""

from udsoncan.services.ECUReset import ECUReset

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service

RESETS = {"hard": 0x01, "key_off_on": 0x02, "soft": 0x03, "enable_rapid_shutdown": 0x04, "disable_rapid_shutdown": 0x05}
"""Kinds of reset by name (ISO 14229-1:2020, 10.3)."""


async def _reset(use: Call, kind: Plain = "hard") -> Outcome:
    number = arguments.named(kind, RESETS, "kind", 0x7F)
    response, exchange = await use.exchange(ECUReset.make_request(number))
    data = ECUReset.interpret_response(response).service_data
    # 0xFF: the ECU does not know how long it will stay powered.
    time = data.powerdown_time
    return Outcome(None if time is None or time == 0xFF else {"power_down_s": time}, exchange)


SERVICES = {"reset": Service(_reset, optional=("kind",))}
