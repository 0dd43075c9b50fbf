"""The module monitor: the state, the load and the losses of a bus."""

from typing import TYPE_CHECKING

from scenarios import durations
from scenarios.bindings.context import Context, wait
from scenarios.sandbox import Function, ScenarioFault

if TYPE_CHECKING:
    from bench_agent.client import BusStats


class MonitorBindings:
    """Functions of the module monitor."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.monitor_stats, self.monitor_expect_state, self.monitor_recover)

    def monitor_stats(self, number: int) -> dict[str, object]:
        """How a bus does now."""
        with self._context.bench_faults():
            return _table(self._context.buses[number].stats())

    def monitor_expect_state(self, number: int, state: str, timeout: object) -> None:
        """Waits until the bus is in a state."""
        bus, timeout_s = self._context.buses[number], wait(timeout)
        with self._context.bench_faults():
            met = bus.expect_state(state, self._context.bounded(timeout_s))
            now = state if met else bus.stats().state
        self._context.record.check()
        if met:
            self._context.record.step(f"{bus.name} is {state}")
            return
        self._context.look_at_clock()
        why = f"{bus.name} was not {state} within {durations.show(timeout_s)}; it is {now}"
        self._context.record.step(why)
        raise ScenarioFault("check", why, state=now)

    def monitor_recover(self, number: int) -> dict[str, object]:
        """Brings the controller back from bus-off."""
        bus = self._context.buses[number]
        with self._context.bench_faults():
            stats = bus.recover()
        self._context.record.step(f"{bus.name} is brought back from bus-off: {stats.state}")
        return _table(stats)


def _table(stats: "BusStats") -> dict[str, object]:
    return {
        "state": stats.state,
        "fault": stats.fault or None,
        "tx_errors": stats.tx_errors,
        "rx_errors": stats.rx_errors,
        "frames_per_s": stats.frames_per_s,
        "load_typical": stats.load_typical,
        "load_worst": stats.load_worst,
        "bitrate": stats.bitrate,
        "data_bitrate": stats.data_bitrate,
        "received": stats.received,
        "sent": stats.sent,
        "send_failed": stats.send_failed,
        "lost": stats.lost,
        "error_frames": stats.error_frames,
        "bus_offs": stats.bus_offs,
        "recoveries": stats.recoveries,
        "errors": stats.errors,
        "last_error": stats.last_errors[-1].detail if stats.last_errors else None,
    }
