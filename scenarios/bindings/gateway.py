"""Gateways in the module bench: two of its buses joined, with faults on the way."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from scenarios import durations
from scenarios.bindings.context import Context
from scenarios.bindings.frames import socketcan_id
from scenarios.sandbox import Function
from scenarios.values import from_hex, from_json

if TYPE_CHECKING:
    from bench_agent.client import BusFaultRule, GatewayClient, GatewayState

_FIELDS = ("from", "to", "one_way", "faults")
_FAULT_FIELDS = (
    "id", "mask", "extended", "probability", "seed", "drop", "delay", "copies", "flip", "new_id", "length",
)  # fmt: skip


class GatewayBindings:
    """Functions of the module bench that join buses."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._gateways: list[GatewayClient] = []

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.gateway_start, self.gateway_state, self.gateway_stop)

    def gateway_start(self, encoded: str) -> int:
        """Joins two buses. Returns the gateway's number."""
        given = dict(from_json(encoded) or {})
        _known(given, _FIELDS, "a gateway")
        for field in ("from", "to"):
            if not isinstance(given.get(field), str):
                raise ValueError(f"{field} is {given.get(field)!r}; it must be the name of a bus")
        one_way = _switch(given, "one_way", "one_way")
        # An empty Lua table has no type; it comes as a mapping.
        listed = given.get("faults") or []
        if not isinstance(listed, list):
            raise ValueError("faults must be a list of tables such as { { id = 0x123, drop = true } }")
        faults = [_fault(one, f"faults[{number}]") for number, one in enumerate(listed, 1)]
        with self._context.bench_faults():
            gateway = self._context.opened().gateway(given["from"], given["to"], faults, one_way=one_way).start()
        self._context.record.step(
            f"gateway {given['from']} {'->' if one_way else '<->'} {given['to']}, {len(faults)} faults"
        )
        self._gateways.append(gateway)
        return len(self._gateways) - 1

    def gateway_state(self, number: int) -> dict[str, object]:
        """What has passed until now."""
        with self._context.bench_faults():
            return _state(self._gateways[number].state())

    def gateway_stop(self, number: int) -> dict[str, object]:
        """Parts the buses. Returns what has passed."""
        with self._context.bench_faults():
            self._gateways[number].close()
            return _state(self._gateways[number].state())


def _fault(given: object, place: str) -> "BusFaultRule":
    from bench_agent.client import BusFaultRule

    if not isinstance(given, dict):
        raise ValueError(f"{place} is {given!r}; it must be a table such as {{ id = 0x123, drop = true }}")
    _known(given, _FAULT_FIELDS, place)
    switches = {"extended": _switch(given, "extended", f"{place}.extended")} if "extended" in given else {}
    if "mask" in given and "id" not in given:
        raise ValueError(f"{place} has a mask but no id; without both, the fault strikes all frames")
    # Bit 31 tells 29-bit IDs from 11-bit ones: it always counts.
    can_id = socketcan_id(_whole(given, "id", place), switches) if "id" in given else 0
    mask = _whole(given, "mask", place, 0x1FFF_FFFF) if "mask" in given else 0x1FFF_FFFF
    probability = given.get("probability", 1)
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise ValueError(f"{place}.probability is {probability!r}; it must be a number, 0 .. 1")
    return BusFaultRule(
        can_id=can_id,
        mask=mask | 0x8000_0000 if "id" in given else 0,
        probability=float(probability),
        seed=_whole(given, "seed", place),
        drop=_switch(given, "drop", f"{place}.drop"),
        delay_s=durations.parse(given.get("delay", 0), f"{place}.delay"),
        copies=_whole(given, "copies", place),
        flip=from_hex(str(given.get("flip", "")), f"{place}.flip"),
        new_id=socketcan_id(_whole(given, "new_id", place), switches) if "new_id" in given else None,
        length=_whole(given, "length", place) if "length" in given else None,
    )


def _known(given: Mapping[str, Any], fields: tuple[str, ...], what: str) -> None:
    for field in given:
        if field not in fields:
            raise ValueError(f"{what} has an unknown field {field!r}; it takes {', '.join(fields)}")


def _whole(given: Mapping[str, Any], field: str, place: str, most: int = 2**63 - 1) -> int:
    value = given.get(field, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{place}.{field} is {value!r}; it must be a whole number, 0 .. {most}")
    return value


def _switch(given: Mapping[str, Any], field: str, place: str) -> bool:
    value = given.get(field, False)
    if not isinstance(value, bool):
        raise ValueError(f"{place} is {value!r}; it must be true or false")
    return value


def _state(state: "GatewayState") -> dict[str, object]:
    return {
        "forwarded": state.forwarded,
        "back": state.back,
        "refused": state.refused,
        "error": state.error or None,
        "overflowed": state.overflowed,
        "struck": list(state.struck),
    }
