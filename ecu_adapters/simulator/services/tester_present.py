"""TesterPresent (0x3E): does nothing, which restarts the S3 timer."""

from collections.abc import Mapping

from ecu_adapters.simulator.rules import Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_ZERO = {0x00: SubFunction()}


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _ZERO


SERVICE = Service(
    0x3E,
    lambda call: bytes((call.sub,)),
    subfunctions=_subfunctions,
    rules=(Rule(0x13, "the length is not 2", "ISO 14229-1:2020, 10.7", lambda call: len(call.pdu) != 2),),
)
