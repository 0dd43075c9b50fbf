"""The module power: the supplies of the bench."""

from typing import TYPE_CHECKING

from scenarios import durations
from scenarios.bindings.context import Context, wait
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_json

if TYPE_CHECKING:
    from bench_agent.client import PowerChannelClient, PowerChannelState

_SETTINGS = {"voltage": "voltage", "current": "current_limit"}


class PowerBindings:
    """Functions of the module power."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (
            self.power_channels,
            self.power_switch,
            self.power_cycle,
            self.power_set,
            self.power_measure,
            self.power_profile,
        )

    def power_channels(self) -> list[dict[str, object]]:
        """All channels, as they were last heard of."""
        with self._context.bench_faults():
            return [_state(one) for one in self._context.opened().power.channels()]

    def power_switch(self, name: str, on: bool) -> dict[str, object]:
        """On or off."""
        with self._context.bench_faults():
            channel = self._channel(name)
            state = channel.on() if on else channel.off()
        self._context.record.step(f"power {name} {'on' if on else 'off'}")
        return _state(state)

    def power_cycle(self, name: str, off: object) -> dict[str, object]:
        """Off, a pause, and on."""
        off_s = wait(off)
        with self._context.bench_faults():
            state = self._channel(name).cycle(self._context.bounded(off_s))
        self._context.record.step(f"power {name} off for {durations.show(off_s)}, on")
        return _state(state)

    def power_set(self, name: str, settings: str) -> dict[str, object]:
        """Voltage and current limit."""
        given = dict(from_json(settings) or {})
        for key, value in given.items():
            if key not in _SETTINGS:
                raise ValueError(f"unknown setting {key!r}; there are voltage and current")
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{key} is {value!r}; it must be a number")
        with self._context.bench_faults():
            state = self._channel(name).set(**{_SETTINGS[key]: float(value) for key, value in given.items()})
        self._context.record.step(f"power {name} " + ", ".join(f"{key} {value:g}" for key, value in given.items()))
        return _state(state)

    def power_measure(self, name: str) -> dict[str, object]:
        """What a channel delivers now."""
        with self._context.bench_faults():
            reading = self._channel(name).measure()
        self._context.record.step(
            f"power {name} measured: {_shown(reading.voltage, 'V')}, {_shown(reading.current, 'A')}"
        )
        return {"voltage": reading.voltage, "current": reading.current, "time": reading.time_ns / 1e9}

    def power_profile(self, name: str, profile: object, points: str, step: object) -> dict[str, object]:
        """Plays voltage over time, and waits for its end."""
        listed = [_point(point) for point in from_json(points) or []]
        step_ms = round(wait(step) * 1000) if step is not None else 0
        with self._context.bench_faults():
            played = self._channel(name).profile(str(profile or "points of the script"), listed, step_ms=step_ms)
        self._context.record.step(
            f"power {name} played {played.name}: {len(played.steps)} steps, at most {played.worst_ms:.1f} ms late"
        )
        return {
            "steps": len(played.steps),
            "skipped": played.skipped,
            "worst_ms": played.worst_ms,
            "source": played.source,
        }

    def _channel(self, name: str) -> "PowerChannelClient":
        return self._context.opened().power.channel(name)


def _point(point: object) -> tuple[float, float]:
    match point:
        case [int() | float() as at_ms, int() | float() as voltage]:
            return float(at_ms), float(voltage)
    raise ScenarioFault("invalid", f"a point is {point!r}; it must be {{ms, V}}, for example {{ 100, 6.5 }}")


def _shown(value: float | None, unit: str) -> str:
    return f"{value:.4g} {unit}" if value is not None else f"no {unit}"


def _state(state: "PowerChannelState") -> dict[str, object]:
    return {
        "name": state.name,
        "terminal": state.terminal,
        "state": state.state,
        "voltage": state.voltage,
        "current_limit": state.current_limit,
        "fault": state.fault or None,
    }
