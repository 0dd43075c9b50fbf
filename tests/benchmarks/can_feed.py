"""The far end of several unix-socket buses: a process that feeds an agent with frames, and swallows what it sends.

Arguments: the sockets' paths, one a bus. Each line on stdin is one order in JSON, answered with one line of JSON:

``{"send": N, "buses": B, "per_s": R}`` sends N frames on each of the first B buses, R a second on each (0: as fast as
they are taken); the answer tells when it began. Each frame holds the time it was sent, in ns since the Unix epoch.
``{"take": N}`` answers once N frames have come in on the first bus, with the time of the last one.
"""

import json
import socket
import sys
import time
from contextlib import suppress

import numpy as np

from ecu_adapters.burst import Burst
from ecu_adapters.frame_records import CLASSIC
from ecu_adapters.raw_socket import RawSocket

_CHUNK = 128
_TICK_S = 0.0002
_SILENCE_S = 20.0


def send(buses: list[RawSocket], count: int, per_s: float) -> float:
    """The time of the first frame, in s since the Unix epoch."""
    records = np.zeros(_CHUNK, CLASSIC)
    records["id"], records["length"] = 0x123, 8
    started, sent = time.time(), 0
    while sent < count:
        due = min(int((time.time() - started) * per_s) + 1, count) if per_s else count
        if sent >= due:
            time.sleep(_TICK_S)
            continue
        part = records[: min(due - sent, _CHUNK)]
        for bus in buses:
            part["data"] = np.frombuffer(time.time_ns().to_bytes(8, "little"), np.uint8)
            burst, done = Burst(records=part), 0
            while done < len(part):
                with suppress(BlockingIOError):
                    done += bus.send(burst, done, 1.0)
        sent += len(part)
    return started


def take(bus: RawSocket, count: int) -> float:
    """The time of the last frame, in s since the Unix epoch; 0 when too few came."""
    heard = time.monotonic()
    while count > 0:
        burst = bus.receive(0.1)
        if burst is not None:
            count -= len(burst)
            heard = time.monotonic()
        elif time.monotonic() - heard > _SILENCE_S:
            return 0.0
    return time.time()


def main() -> None:
    """Waits for the agent on every path, then obeys until stdin ends."""
    listeners = []
    for path in sys.argv[1:]:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen()
        listeners.append(listener)
    print("listening", flush=True)
    buses = []
    for path, listener in zip(sys.argv[1:], listeners, strict=True):
        link, _ = listener.accept()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        buses.append(RawSocket(link, fd=False, channel=path))
    for line in sys.stdin:
        order = json.loads(line)
        if "send" in order:
            answer = send(buses[: order["buses"]], order["send"], order["per_s"])
        else:
            answer = take(buses[0], order["take"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
