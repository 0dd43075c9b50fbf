"""The module traffic: messages that the agent sends by itself, alone or as a rest-bus."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from scenarios import durations
from scenarios.bindings.context import Context
from scenarios.bindings.frames import frame_of
from scenarios.sandbox import Function
from scenarios.values import from_hex, from_json, to_hex

if TYPE_CHECKING:
    from bench_agent.client import (
        AliveCounter,
        CyclicClient,
        CyclicState,
        PayloadBits,
        PayloadChecksum,
        Prepared,
        RestBusClient,
    )

_SHORTEST_S = 0.001


class TrafficBindings:
    """Functions of the module traffic."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._handles: dict[int, CyclicClient | RestBusClient] = {}
        self._prepared: dict[int, Callable[[list[bytes]], object]] = {}
        self._number = 0

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (
            self.traffic_start,
            self.traffic_prepare,
            self.traffic_carry_out,
            self.traffic_update,
            self.traffic_restbus,
            self.traffic_restbus_stop,
        )

    def traffic_start(self, bus: int, what: object, values: object, encoded: str, prepare: bool) -> dict[str, object]:
        """Starts a cyclic message; with ``prepare``, only gives its payloads, for a script's function to work on."""
        client, options = self._context.buses[bus], dict(from_json(encoded) or {})
        period_s = _period(options["period"]) if "period" in options else None
        counter, checksum = _counter(options.get("counter")), _checksum(options.get("checksum"))
        force = bool(options.get("force", False))
        target = frame_of(what, values, options) if isinstance(what, int) else str(what)
        signals = {} if isinstance(what, int) else dict(from_json(str(values)) or {})
        number = self._next()
        self._context.record.step(f"{client.name}: {target} is sent {_shown(period_s)}")
        with self._context.bench_faults():
            if prepare:
                prepared = client.prepare_cyclic(target, signals, period_s=period_s, counter=counter, force=force)

                def start(payloads: list[bytes]) -> None:
                    self._handles[number] = prepared.start(payloads)

                self._prepared[number] = start
                return {"number": number, "states": _states(prepared)}
            self._handles[number] = client.cyclic(
                target, signals, period_s=period_s, counter=counter, checksum=checksum, force=force
            )
        return {"number": number}

    def traffic_prepare(self, number: int, message: str, encoded: str) -> list[list[object]]:
        """The payloads that a change of values would bring."""
        change = dict(from_json(encoded) or {})
        data = from_hex(str(change["data"]), "data") if "data" in change else None
        with self._context.bench_faults():
            prepared = self._message(number, message).prepare(
                change.get("signals"), data, force=bool(change.get("force", False))
            )
        self._prepared[number] = prepared.carry_out
        return _states(prepared)

    def traffic_carry_out(self, number: int, encoded: str) -> None:
        """Starts or changes a message with the payloads that the script's function has made."""
        payloads = [from_hex(str(payload), "the payload function's result") for payload in from_json(encoded)]
        with self._context.bench_faults():
            self._prepared.pop(number)(payloads)

    def traffic_update(self, number: int, message: str, encoded: str) -> dict[str, object]:
        """Changes a message; an empty change only asks how it is."""
        change = dict(from_json(encoded) or {})
        with self._context.bench_faults():
            client = self._message(number, message)
            if "signals" in change:
                client.set(change["signals"], force=bool(change.get("force", False)))
            if "data" in change:
                client.set_data(from_hex(str(change["data"]), "data"))
            if "period" in change:
                client.set_period(_period(change["period"]))
            if "skip" in change:
                client.skip_counter(_whole(change["skip"], "count", 1))
            if change.get("freeze"):
                client.freeze_counter()
            if change.get("freeze") is False:
                client.heal()
            elif "corruption" in change:
                client.corrupt(**_corruption(change["corruption"]))
            if "running" in change:
                return _state(client.resume() if change["running"] else client.stop())
            return _state(client.state)

    def traffic_restbus(self, bus: int, encoded: str) -> dict[str, object]:
        """Starts a rest-bus."""
        client, options = self._context.buses[bus], dict(from_json(encoded) or {})
        protect = {
            str(name): (_counter(fields.get("counter")), _checksum(fields.get("checksum")))
            for name, fields in dict(options.get("protect") or {}).items()
        }
        database = self._context.files.path(options["dbc"]) if "dbc" in options else None
        with self._context.bench_faults():
            rest = client.restbus(
                _names(options, "except"),
                include=_names(options, "include"),
                except_messages=_names(options, "except_messages"),
                protect=protect,
                database=database,
            )
        number = self._next()
        self._handles[number] = rest
        self._context.record.step(f"{client.name}: rest-bus of {len(rest.messages)} messages")
        left_out = [{"message": message, "reason": reason} for message, reason in rest.left_out]
        return {"number": number, "messages": list(rest.messages), "left_out": left_out}

    def traffic_restbus_stop(self, number: int) -> None:
        """Ends a rest-bus."""
        with self._context.bench_faults():
            self._rest_bus(number).stop()

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _message(self, number: int, message: str) -> "CyclicClient":
        from bench_agent.client import CyclicClient

        handle = self._handles[number]
        return handle if isinstance(handle, CyclicClient) else self._rest_bus(number).message(message)

    def _rest_bus(self, number: int) -> "RestBusClient":
        from bench_agent.client import RestBusClient

        handle = self._handles[number]
        if not isinstance(handle, RestBusClient):
            raise ValueError("this is a cyclic message, no rest-bus")
        return handle


def _states(prepared: "Prepared") -> list[list[object]]:
    return [[to_hex(data), counter] for data, counter in prepared.states]


def _state(state: "CyclicState") -> dict[str, object]:
    return {
        "message": state.message,
        "period": state.period_s,
        "on_change": state.on_change,
        "running": state.running,
        "counter_frozen": state.counter_frozen,
        "corrupted": state.corrupted,
        "in_kernel": state.in_kernel,
        "sent": state.sent,
        "failed": state.failed,
        "late": state.late,
        "error": state.error,
    }


def _period(value: object) -> float:
    seconds = durations.parse(value, "period")
    if seconds < _SHORTEST_S:
        raise ValueError(f"period is {value!r}; it must be at least 1 ms")
    return seconds


def _shown(period_s: float | None) -> str:
    return "with the DBC's cycle time" if period_s is None else f"every {durations.show(period_s)}"


def _whole(value: object, what: str, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} is {value!r}; it must be a whole number of at least {least}")
    return value


def _bits(fields: Mapping[str, Any], what: str) -> "PayloadBits | None":
    from bench_agent.client import PayloadBits

    if "start" not in fields and "length" not in fields:
        return None
    start, length = (_whole(fields.get(name), f"{what} {name}") for name in ("start", "length"))
    return PayloadBits(start, length, bool(fields.get("big_endian", False)))


def _counter(fields: Mapping[str, Any] | None) -> "AliveCounter | None":
    from bench_agent.client import AliveCounter

    if fields is None:
        return None
    return AliveCounter(
        signal=str(fields.get("signal", "")),
        bits=_bits(fields, "counter"),
        modulo=_whole(fields.get("modulo", 0), "counter modulo"),
        first=_whole(fields.get("first", 0), "counter first"),
        step=_whole(fields.get("step", 1), "counter step", 1),
    )


def _checksum(fields: Mapping[str, Any] | None) -> "PayloadChecksum | None":
    from bench_agent.client import PayloadChecksum

    if fields is None:
        return None
    data_id = fields.get("data_id", [])
    data_ids = data_id if isinstance(data_id, list) else [data_id]
    return PayloadChecksum(
        algorithm=str(fields.get("algorithm", "")),
        signal=str(fields.get("signal", "")),
        bits=_bits(fields, "checksum"),
        first=_whole(fields.get("first", 0), "checksum first"),
        last=_whole(fields["last"], "checksum last") if "last" in fields else None,
        initial=_whole(fields["initial"], "checksum initial") if "initial" in fields else None,
        xor_out=_whole(fields.get("xor_out", 0), "checksum xor_out"),
        data_ids=tuple(_whole(number, "checksum data_id") for number in data_ids),
    )


def _corruption(fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "checksum_xor" in fields:
        found["checksum_xor"] = _whole(fields["checksum_xor"], "checksum_xor")
    if "data_xor" in fields:
        found["data_xor"] = from_hex(str(fields["data_xor"]), "data_xor")
    if "length" in fields:
        found["length"] = _whole(fields["length"], "length")
    return found


def _names(options: Mapping[str, Any], field: str) -> list[str]:
    # An empty Lua table has no type; it comes as a mapping.
    names = options.get(field) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{field} is {names!r}; it must be a list of names such as {{ "ECM" }}')
    return names
