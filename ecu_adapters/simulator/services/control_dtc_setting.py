"""ControlDTCSetting (0x85): freezes the status of all trouble codes, and lets it go again."""

from collections.abc import Mapping

from ecu_adapters.simulator.dtc_engine import ALL_GROUPS
from ecu_adapters.simulator.rules import Call, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState

_SOURCE = "ISO 14229-1:2020, 10.8"
_ON, _OFF = 0x01, 0x02
_SUBFUNCTIONS = {_ON: SubFunction(), _OFF: SubFunction()}
_ALL = ALL_GROUPS.to_bytes(3, "big")
"""The one option record that the ECU knows: it may be left out."""


def _subfunctions(_state: EcuState) -> Mapping[int, SubFunction]:
    return _SUBFUNCTIONS


def _act(call: Call) -> bytes:
    call.state.dtcs.frozen = call.sub == _OFF
    return bytes((call.sub,))


SERVICE = Service(
    0x85,
    _act,
    subfunctions=_subfunctions,
    outside_default=True,
    rules=(
        Rule(0x13, "the length is neither 2 nor 5", _SOURCE, lambda call: len(call.pdu) not in (2, 5)),
        Rule(0x31, "the option record is not FFFFFF", _SOURCE, lambda call: call.pdu[2:] not in (b"", _ALL)),
    ),
)
