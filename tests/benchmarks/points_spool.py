"""50,000 points a minute through the spool into a real time-series server: what it costs, and whether any is lost."""

import resource
import time
from pathlib import Path

from labd.model.point import Point
from labd.telemetry.influx import InfluxSettings
from labd.telemetry.lines import line
from labd.telemetry.writer import Writer
from tests.benchmarks.figures import Figure
from tests.victoria import victoria

POINTS_PER_MIN = 50_000
SECONDS = 30
_BENCHES = 50
_PATIENCE_S = 60.0


def points(second: int, count: int, now: float) -> list[Point]:
    """Of a lab's buses, as agents send them: of each series one in ten seconds."""
    return [
        Point(
            "can_bus",
            {"agent": f"rack-{number % 10}", "bench": f"hil-{number % _BENCHES}", "bus": f"can{number // _BENCHES}"},
            {
                "load_percent": 31.5 + number % 7, "frames_in": 4000 + number, "frames_out": second, "send_failed": 0,
                "error_frames": 0, "bus_off": 0, "open": True, "state": "error-active",
            },
            now,
        )
        for number in range(count)
    ]  # fmt: skip


def measure(folder: Path) -> list[Figure]:
    """CPU of the writer alone: of this process, which does nothing else. The server is another process.

    The baseline is what the client library takes to word the same points.
    """
    rate = POINTS_PER_MIN // 60 + 1
    with victoria(folder / "victoria") as server:
        writer = Writer(folder / "points", InfluxSettings(server.url, "lab", "labd"))
        writer.start()
        writer.write(points(0, 1, time.time() - 60))  # the client library is imported with the first point
        _until(writer, 1)
        before, begun, epoch = _cpu_s(), time.monotonic(), time.time()
        for second in range(SECONDS):
            writer.write(points(second, rate, epoch + second))
            time.sleep(max(0.0, begun + second + 1 - time.monotonic()))
        _until(writer, 1 + rate * SECONDS)
        share = 100 * (_cpu_s() - before) / (time.monotonic() - begun)
        writer.stop()
        found = sum(len(values) for values in server.values("can_bus_frames_out").values()) - 1
    sent = rate * SECONDS
    wording = [_wording(points(0, rate, epoch)) for _ in range(5)]
    return [
        Figure(
            "50,000 points a minute into the time-series server",
            "% of a core",
            [share],
            "wording them only",
            wording,
            of="value",
            sense="at most",
            target=50,
        ),
        Figure("points found there", "points", [found], "points sent", [sent], of="ratio", sense="at least", target=1),
    ]


def _wording(of_a_second: list[Point]) -> float:
    before = _cpu_s()
    for point in of_a_second:
        line(point, 1)
    return 100 * (_cpu_s() - before)


def _until(writer: Writer, written: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while writer.counters.written < written and time.monotonic() < deadline:
        time.sleep(0.05)


def _cpu_s() -> float:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime
