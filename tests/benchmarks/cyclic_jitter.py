"""Twenty cyclic messages of 10 ms from one thread, beside python-can's ``send_periodic`` with a thread for each."""

import itertools
import statistics
import threading
import time
from pathlib import Path

import can

from ecu_adapters.bus import BusHub, CanConfig
from ecu_adapters.cyclic.transmission import Transmission
from ecu_adapters.cyclic.transmitter import Transmitter
from tests.benchmarks.figures import Figure, interleave

ROUNDS = 10
MESSAGES = 20
PERIOD_S = 0.010
SAMPLE_S = 2.0
SENDS = 2_500
_channels = itertools.count()


class _Arrivals:
    """When each message was put on the bus, as the other end of the virtual bus has it."""

    def __init__(self, channel: str) -> None:
        self._bus = can.Bus(interface="virtual", channel=channel)

    def jitter_p99_ms(self) -> float:
        """How far the worst hundredth of all intervals is from the period at least, in ms."""
        last: dict[int, float] = {}
        jitter: list[float] = []
        while (frame := self._bus.recv(0)) is not None:
            before = last.get(frame.arbitration_id)
            if before is not None:
                jitter.append(abs(frame.timestamp - before - PERIOD_S) * 1000)
            last[frame.arbitration_id] = frame.timestamp
        self._bus.shutdown()
        if len(last) < MESSAGES or len(jitter) < MESSAGES:
            raise RuntimeError(f"only {len(last)} of {MESSAGES} cyclic messages were seen")
        return statistics.quantiles(jitter, n=100)[98]


def _message(number: int) -> can.Message:
    return can.Message(arbitration_id=0x100 + number, is_extended_id=False, data=bytes(8))


def ours() -> list[float]:
    """One sample of the p99 jitter, in ms."""
    channel = f"cyclic-{next(_channels)}"
    arrivals, transmitter = _Arrivals(channel), Transmitter()
    with BusHub.open("bus", CanConfig(interface="virtual", channel=channel)) as hub:
        before = threading.active_count()
        sending = [Transmission(f"m{number}", hub, [_message(number)], PERIOD_S) for number in range(MESSAGES)]
        for one in sending:
            transmitter.add(one)
        if threading.active_count() != before + 1:
            raise RuntimeError(f"{threading.active_count() - before} threads send the messages; it must be one")
        time.sleep(SAMPLE_S)
        for one in sending:
            transmitter.remove(one)
    return [arrivals.jitter_p99_ms()]


def python_can() -> list[float]:
    """The same with a thread for each message."""
    channel = f"cyclic-{next(_channels)}"
    arrivals = _Arrivals(channel)
    with can.Bus(interface="virtual", channel=channel) as bus:
        tasks = [bus.send_periodic(_message(number), PERIOD_S) for number in range(MESSAGES)]
        time.sleep(SAMPLE_S)
        for task in tasks:
            task.stop()
        time.sleep(2 * PERIOD_S)  # the threads look at whether they are to stop after a period
    return [arrivals.jitter_p99_ms()]


def send_ours() -> list[float]:
    """What one cyclic frame costs, in µs: taken from its cycle, handed to the bus and shared out."""
    with BusHub.open("bus", CanConfig(interface="virtual", channel=f"cyclic-{next(_channels)}")) as hub:
        message = _message(1)
        started = time.perf_counter()
        for _ in range(SENDS):
            hub.send(message, 0.0005)
        return [(time.perf_counter() - started) / SENDS * 1e6]


def send_python_can() -> list[float]:
    """What python-can's own send costs, in µs."""
    with can.Bus(interface="virtual", channel=f"cyclic-{next(_channels)}") as bus:
        message = _message(1)
        started = time.perf_counter()
        for _ in range(SENDS):
            bus.send(message)
        return [(time.perf_counter() - started) / SENDS * 1e6]


def measure(folder: Path) -> list[Figure]:
    """Jitter, and the cost of a send."""
    mine, theirs = interleave(ROUNDS, ours, python_can)
    cost, plain = interleave(ROUNDS, send_ours, send_python_can)
    return [
        Figure("20 cyclic messages, jitter p99", "ms", mine, "python-can, 20 threads", theirs, "ratio", "at most", 1.0),
        Figure("cyclic frame, time per send", "µs", cost, "python-can's send", plain, "value", "at most", 200),
    ]
