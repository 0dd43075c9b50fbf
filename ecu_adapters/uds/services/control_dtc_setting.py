"""ControlDTCSetting (0x85): whether the ECU updates the status of its trouble codes."""

from udsoncan.services.ControlDTCSetting import ControlDTCSetting

from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service

SETTINGS = {"on": 0x01, "off": 0x02}
"""Settings by name (ISO 14229-1:2020, 10.8)."""


async def _control_dtc_setting(use: Call, setting: Plain, record: Plain = b"") -> Outcome:
    number = arguments.named(setting, SETTINGS, "setting", 0x7F)
    _, exchange = await use.exchange(ControlDTCSetting.make_request(number, arguments.octets(record, "record")))
    return Outcome(None, exchange)


SERVICES = {"control_dtc_setting": Service(_control_dtc_setting, ("setting",), ("record",))}
