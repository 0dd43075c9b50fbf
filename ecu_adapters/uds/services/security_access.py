"""SecurityAccess (0x27): a seed, the key for it, or both in one call with the description's algorithm."""

import asyncio

from udsoncan.services.SecurityAccess import SecurityAccess

from ecu_adapters.security_levels import Security
from ecu_adapters.uds.key_command import key_from
from ecu_adapters.uds.services import arguments
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid


async def _seed(use: Call, level: Plain, data: Plain = b"") -> Outcome:
    request = SecurityAccess.make_request(
        _level(level), SecurityAccess.Mode.RequestSeed, arguments.octets(data, "data")
    )
    response, exchange = await use.exchange(request)
    answer = SecurityAccess.interpret_response(response, SecurityAccess.Mode.RequestSeed).service_data
    return Outcome(answer.seed or b"", exchange)


async def _key(use: Call, level: Plain, key: Plain) -> Outcome:
    request = SecurityAccess.make_request(
        _level(level), SecurityAccess.Mode.SendKey, arguments.octets(key, "key", least=1)
    )
    _, exchange = await use.exchange(request)
    return Outcome(None, exchange)


async def _unlock(use: Call, level: Plain, data: Plain = b"") -> Outcome:
    number = _level(level)
    security = _security(use, number)
    outcome = await _seed(use, number, data)
    seed = outcome.result
    if not isinstance(seed, bytes) or not any(seed):
        # ISO 14229-1, SecurityAccess: an all-zero seed says that the level is unlocked already.
        return Outcome(None, outcome.exchange)
    try:
        if security.command is not None:
            timeout_s = min(security.command_timeout_s, use.timeout_s)
            key = await key_from(security.command, seed, number, timeout_s)
        else:
            # In a thread: an algorithm of somebody else's may take its time.
            key = await asyncio.to_thread(security.key_for, seed, number)
    except ValueError as error:
        raise UdsInvalid(f"key for level {number}: {error}", outcome.exchange) from error
    return await _key(use, number, key)


def _security(use: Call, level: int) -> Security:
    security = use.ecu.security.get(level)
    if security is None:
        levels = ", ".join(map(str, sorted(use.ecu.security))) or "none"
        raise UdsInvalid(
            f"security level {level} of {use.ecu.name} is not described (levels: {levels}); "
            "use seed and key to compute the key yourself"
        )
    return security


def _level(level: Plain) -> int:
    number = arguments.integer(level, "level", 0x7D)
    if number % 2 == 0:
        raise UdsInvalid(f"level is {number}; it must be odd: the sub-function that asks for the seed")
    return number


SERVICES = {
    "seed": Service(_seed, ("level",), ("data",)),
    "key": Service(_key, ("level", "key")),
    "unlock": Service(_unlock, ("level",), ("data",), exchanges=2),
}
