"""SecurityAccess (0x27): odd sub-functions ask for a seed, the even ones after them send the key."""

from collections.abc import Mapping

from ecu_adapters.simulator.rules import Call, Refused, Rule, Service, SubFunction
from ecu_adapters.simulator.state import EcuState


def _subfunctions(state: EcuState) -> Mapping[int, SubFunction]:
    return {sub: SubFunction() for level in state.ecu.security for sub in (level, level + 1)}


def _is_key(call: Call) -> bool:
    return call.sub % 2 == 0


def _level(call: Call) -> int:
    return call.sub - 1 if _is_key(call) else call.sub


def _wrong_length(call: Call) -> bool:
    expected = 2 + (call.state.seeds.key_length(_level(call)) if _is_key(call) else 0)
    return len(call.pdu) != expected


def _act(call: Call) -> bytes:
    level = _level(call)
    if not _is_key(call):
        return bytes((call.sub,)) + call.state.new_seed(level)
    right, too_many = call.state.try_key(level, call.pdu[2:])
    if not right:
        # exceedNumberOfAttempts for the attempt that reaches the limit, invalidKey for those before.
        raise Refused(0x36 if too_many else 0x35)
    return bytes((call.sub,))


SERVICE = Service(
    0x27,
    _act,
    subfunctions=_subfunctions,
    outside_default=True,
    rules=(
        Rule(
            0x24,
            "a key comes without a seed of its level before it",
            "ISO 14229-1:2020, 10.4",
            lambda call: _is_key(call) and not call.state.seeds.awaits_key(_level(call)),
        ),
        Rule(0x13, "the length is not that of a seed request or of the key", "ISO 14229-1:2020, 10.4", _wrong_length),
        Rule(
            0x37,
            "the delay after too many wrong keys is running",
            "ISO 14229-1:2020, 10.4",
            lambda call: not _is_key(call) and call.state.seeds.is_locked_out(_level(call)),
        ),
    ),
)
