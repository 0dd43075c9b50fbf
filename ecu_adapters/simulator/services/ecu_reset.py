"""ECUReset (0x11): the answer comes before the reset, then the ECU is silent while it boots."""

from collections.abc import Mapping

from ecu_adapters.simulator.rules import Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_KINDS = {0x01: SubFunction(), 0x02: SubFunction(), 0x03: SubFunction()}
"""hardReset, keyOffOnReset, softReset."""


def _kinds(_state: EcuState) -> Mapping[int, SubFunction]:
    return _KINDS


SERVICE = Service(
    0x11,
    lambda call: bytes((call.sub,)),
    subfunctions=_kinds,
    rules=(Rule(0x13, "the length is not 2", "ISO 14229-1:2020, 10.3", lambda call: len(call.pdu) != 2),),
    resets=True,
)
