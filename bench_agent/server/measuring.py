"""What the agent measures, interval by interval: its buses, its ECUs, its power channels, itself."""

import asyncio
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import structlog

from bench_agent.protocol import lab_pb2
from bench_agent.protocol.process_use import CpuMeter, memory_bytes
from bench_agent.server.agent_bus import AgentBus
from bench_agent.server.bench import Bench
from bench_agent.server.bus_watch import Totals
from bench_agent.server.point_spool import PointSpool
from bench_agent.server.uds_meter import UdsInterval

Value = float | int | bool | str
_log = structlog.get_logger()


class Way:
    """How far labd is, as the last batch of points has found."""

    round_trip_s: float | None = None
    """From a message to its answer."""
    offset_s: float | None = None
    """labd's clock less this machine's."""


class Measuring:
    """Used on one asyncio loop; the disk is written to in threads."""

    def __init__(
        self,
        benches: Mapping[str, Bench],
        spool: PointSpool,
        way: Way,
        data: Path,
        now: Callable[[], float],
        interval_s: float,
    ) -> None:
        """``now``: labd's time (s since the Unix epoch). ``data`` is on the disk whose room is told."""
        self.on_points: Callable[[list[lab_pb2.Point]], None] = lambda _points: None
        """Called with the points of each interval."""
        self.on_put: Callable[[], None] = lambda: None
        """Called when the spool has more."""
        self._benches = benches
        self._spool = spool
        self._way = way
        self._data = data
        self._now = now
        self._interval_s = interval_s
        self._cpu = CpuMeter()
        self._totals: dict[tuple[str, str], Totals] = {}
        self._powered: dict[tuple[str, str], int] = {}
        """When the last reading was taken that was told of (ns)."""

    async def run(self) -> None:
        """Measures until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self._interval_s, loop.time())
            await asyncio.sleep(due - loop.time())
            await self.finish()

    async def finish(self) -> None:
        """As `measure`, but never raises: also what came last is measured."""
        try:
            await self.measure()
        except Exception:
            _log.exception("what is measured has a gap")

    async def measure(self) -> None:
        """Puts what came since the last time into the spool."""
        points = list(self._points(self._now()))
        free = await asyncio.to_thread(self._free_bytes)
        agent = next(point for point in points if point.measurement == "agent")
        agent.fields["disk_free_bytes"].integer = free
        self.on_points(points)
        await asyncio.to_thread(self._spool.put, points)
        self.on_put()

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._data).free

    def _points(self, now: float) -> Iterator[lab_pb2.Point]:
        yield point("agent", {}, self._of_agent(), now)
        for cause, dropped in sorted(self._spool.dropped().items()):
            yield point("points_dropped", {"cause": cause}, {"points": dropped}, now)
        for bench in self._benches.values():
            for bus in bench.buses.values():
                yield from self._of_bus(bench.name, bus, now)
            for ecu, meter in bench.uds_meters.items():
                interval = meter.take()
                if interval is not None:
                    yield from _of_ecu({"bench": bench.name, "ecu": ecu}, interval, now)
            yield from self._of_power(bench, now)

    def _of_agent(self) -> dict[str, Value]:
        fields: dict[str, Value] = {
            "cpu_percent": self._cpu.percent(),
            "memory_bytes": memory_bytes(),
            "spooled_bytes": self._spool.bytes,
        }
        if self._way.round_trip_s is not None:
            fields["round_trip_ms"] = self._way.round_trip_s * 1000
        if self._way.offset_s is not None:
            fields["clock_offset_ms"] = self._way.offset_s * 1000
        return fields

    def _of_bus(self, bench: str, bus: AgentBus, now: float) -> Iterator[lab_pb2.Point]:
        tags = {"bench": bench, "bus": bus.name}
        totals = bus.watch.totals
        seen = totals - self._totals.get((bench, bus.name), Totals())
        self._totals[bench, bus.name] = totals
        fields: dict[str, Value] = {
            "frames_in": seen.received,
            "frames_out": seen.sent,
            "send_failed": seen.send_failed,
            "error_frames": seen.error_frames,
            "bus_off": seen.bus_offs,
            "open": bus.hub is not None,
            "state": bus.watch.state.value,
        }
        busy = bus.watch.meter.take() if bus.watch.meter is not None else None
        if busy is not None:
            fields["load_percent"] = busy.typical * 100
            fields["load_worst_percent"] = busy.worst * 100
            fields["load_peak_percent"] = busy.peak * 100
        yield point("can_bus", tags, fields, now)
        drops = bus.watch.drops.take()
        if seen.lost:
            drops["driver"] = seen.lost
        if seen.late:
            drops["protocol"] = seen.late
        for cause, dropped in sorted(drops.items()):
            yield point("can_bus_drops", {**tags, "cause": cause}, {"dropped": dropped}, now)

    def _of_power(self, bench: Bench, now: float) -> Iterator[lab_pb2.Point]:
        for name, channel in bench.power.channels.items():
            fields: dict[str, Value] = {}
            last = channel.history[-1] if channel.history else None
            # Not told twice: a supply that does not answer any more has no voltage that anybody knows.
            if last is not None and last.time_ns != self._powered.get((bench.name, name)):
                self._powered[bench.name, name] = last.time_ns
                if last.reading.voltage is not None:
                    fields["voltage_v"] = last.reading.voltage
                if last.reading.current is not None:
                    fields["current_a"] = last.reading.current
            if channel.on is not None:
                fields["on"] = channel.on
            if fields:
                yield point("power", {"bench": bench.name, "channel": name}, fields, now)


def _of_ecu(tags: dict[str, str], seen: UdsInterval, now: float) -> Iterator[lab_pb2.Point]:
    fields: dict[str, Value] = {
        "requests": seen.requests,
        "responses": 0,
        "negative": sum(seen.nrcs.values()),
        "timeouts": seen.timeouts,
        "failed": seen.failed,
        "pending": seen.pending,
        "p2_ms": seen.p2_s * 1000,
        "p2_star_ms": seen.p2_star_s * 1000,
    }
    if seen.latency is not None:
        fields["responses"] = seen.latency.count
        fields["latency_mean_ms"] = seen.latency.mean * 1000
        fields["latency_p50_ms"] = seen.latency.p50 * 1000
        fields["latency_p95_ms"] = seen.latency.p95 * 1000
        fields["latency_max_ms"] = seen.latency.max * 1000
    if seen.p2_used_s is not None:
        fields["p2_used_ms"] = seen.p2_used_s * 1000
    if seen.p2_star_used_s is not None:
        fields["p2_star_used_ms"] = seen.p2_star_used_s * 1000
    yield point("ecu_uds", tags, fields, now)
    for code, count in sorted(seen.nrcs.items()):
        yield point("ecu_nrc", {**tags, "nrc": f"{code:02X}"}, {"responses": count}, now)


def point(measurement: str, tags: Mapping[str, str], fields: Mapping[str, Value], now: float) -> lab_pb2.Point:
    """For the wire; ``now`` in s since the Unix epoch."""
    made = lab_pb2.Point(measurement=measurement, tags=tags, time_us=round(now * 1e6))
    for name, value in fields.items():
        field = made.fields[name]
        match value:
            case bool():
                field.boolean = value
            case int():
                field.integer = value
            case str():
                field.text = value
            case _:
                field.number = value
    return made
