"""``labctl can bridge``: a bench's bus joined with one of this machine."""

import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labd.cli.completion import complete_benches, complete_buses
from labd.cli.exits import ExitCode, Failure, Interrupted
from labd.cli.leasing import open_bench, using
from labd.cli.options import can_filter, duration, lease_options
from labd.cli.session import Session, pass_session

if TYPE_CHECKING:
    import can

    from bench_agent.client import Frame, FrameStream
    from labd.client import Heartbeats

_TICK_S = 0.2
"""How often quiet buses are left to look at the clock and the lease."""
_ECHO_S = 2.0
"""How long a frame that was put on the bench's bus is awaited back."""
_BURST = 256
_ECHOING = ("udp_multicast",)
"""Interfaces that hand a node its own frames back."""


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("bus_name", metavar="BUS", shell_complete=complete_buses)
@click.argument("channel", metavar="CHANNEL")
@click.option(
    "--interface", default="socketcan", show_default=True, metavar="NAME", help="Of CHANNEL: any of python-can's."
)
@click.option(
    "--filter",
    "filters",
    type=can_filter,
    multiple=True,
    metavar="ID[:MASK]",
    help="Only these of the bench's frames, hexadecimal; eight digits mean a 29-bit ID. May be repeated.",
)
@click.option("--listen-only", is_flag=True, help="From the bench only: nothing of CHANNEL reaches the bench.")
@click.option("--duration", "duration_s", type=duration, metavar="TIME", help="Stop after this time: 10s.")
@lease_options
@pass_session
def bridge(
    session: Session,
    bench_name: str,
    bus_name: str,
    channel: str,
    interface: str,
    filters: tuple[tuple[int, int], ...],
    listen_only: bool,
    duration_s: float | None,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
) -> None:
    """Join a bus of a bench with a CAN interface of this machine, until Ctrl-C.

    \b
      sudo ip link add dev vcan0 type vcan
      sudo ip link set dev vcan0 mtu 72 up
      labctl can bridge bench-1 powertrain vcan0
      candump vcan0                                  in another terminal; or cansend, cangen, SavvyCAN, ...

    Every frame of the bench's bus appears on CHANNEL, and the other way round; none comes back to where it was from.
    At the end, stderr tells how many went each way. Leases the bench and releases it at the end; with --lease, a lease
    that you hold is used. Ctrl-C is the usual way to end it, and ends with 0.
    """
    if interface == "socketcan":
        _must_exist(channel)
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with holding as (lease, heartbeats):
        from bench_agent.client import FrameFilter

        with open_bench(lab, lease, bench_name) as bench:
            fd = next((bus.fd for bus in bench.describe().buses if bus.name == bus_name), False)
            passing = [FrameFilter(identifier, mask) for identifier, mask in filters]
            with (
                bench.bus(bus_name).stream(passing, own_frames=True) as stream,
                _opened(interface, channel, fd=fd) as local,
            ):
                click.echo(
                    f"{bench_name}/{bus_name} and {interface} {channel} are one bus now; Ctrl-C ends it", err=True
                )
                _Bridge(stream, local, heartbeats, interface in _ECHOING).run(duration_s, listen_only=listen_only)


class _Bridge:
    """Frames both ways, until it is told to end."""

    def __init__(self, stream: "FrameStream", local: "can.BusABC", heartbeats: "Heartbeats", echoing: bool) -> None:
        self._stream = stream
        self._local = local
        self._heartbeats = heartbeats
        self._to_bench = _Echoes()
        self._to_local = _Echoes() if echoing else None
        self._ending = threading.Event()
        self._fault: Exception | None = None
        self._counts = {"from the bench": 0, "refused here": 0}
        self._last_refusal = ""

    def run(self, duration_s: float | None, *, listen_only: bool) -> None:
        """Until Ctrl-C or ``duration_s``. Raises Failure when the lease, and BenchError when the stream is lost."""
        end = time.monotonic() + duration_s if duration_s is not None else None
        sender = threading.Thread(target=self._forward_local, name="bridge", daemon=True)
        if not listen_only:
            sender.start()
        try:
            while (end is None or time.monotonic() < end) and self._fault is None:
                if self._heartbeats.lost.is_set():
                    raise Failure(f"the lease is lost: {self._heartbeats.reason}", ExitCode.REFUSED)
                self._forward_bench()
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Interrupted):
                raise
        finally:
            self._ending.set()
            if not listen_only:
                sender.join(5)
            self._tell()
        if self._fault is not None:
            raise Failure(f"frames from {self._local.channel_info} are lost: {self._fault}", ExitCode.ERROR)

    def _forward_bench(self) -> None:
        import can

        from bench_agent.protocol.frames import ERROR, OWN
        from labd.python_can import to_message

        for frame in self._stream.read(_TICK_S) or ():
            if frame.can_id & ERROR or (frame.flags & OWN and self._to_bench.is_echo(frame)):
                continue
            if self._to_local is not None:
                self._to_local.expect(frame)
            try:
                self._local.send(to_message(frame), timeout=1.0)
                self._counts["from the bench"] += 1
            except can.CanError as error:
                self._counts["refused here"] += 1
                self._last_refusal = str(error)

    def _forward_local(self) -> None:
        from labd.python_can import to_frame

        try:
            while not self._ending.is_set():
                burst: list[Frame] = []
                message = self._local.recv(_TICK_S)
                while message is not None:
                    if not message.is_error_frame:
                        frame = to_frame(message)
                        if self._to_local is None or not self._to_local.is_echo(frame):
                            burst.append(frame)
                    message = self._local.recv(0) if len(burst) < _BURST else None
                for frame in burst:
                    self._to_bench.expect(frame)
                if burst:
                    self._stream.send(burst)
        except Exception as error:
            # A driver raises what it likes; the other direction ends with it, and the reason is told.
            self._fault = error

    def _tell(self) -> None:
        sent, refused = self._stream.progress
        told = {"to the bench": sent, "refused there": refused, **self._counts, "dropped": self._stream.dropped}
        always = ("to the bench", "from the bench")
        text = ", ".join(f"{count} {what}" for what, count in told.items() if count or what in always)
        click.echo(text + (f" ({self._last_refusal})" if self._last_refusal else ""), err=True)


class _Echoes:
    """Frames that were put on a bus and will be heard there; each is then told apart from somebody else's once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: deque[tuple[float, tuple[int, int, bytes]]] = deque()

    def expect(self, frame: "Frame") -> None:
        with self._lock:
            self._awaited.append((time.monotonic() + _ECHO_S, _key(frame)))

    def is_echo(self, frame: "Frame") -> bool:
        key, now = _key(frame), time.monotonic()
        with self._lock:
            while self._awaited and self._awaited[0][0] < now:
                self._awaited.popleft()
            for index, (_, awaited) in enumerate(self._awaited):
                if awaited == key:
                    del self._awaited[index]
                    return True
            return False


def _key(frame: "Frame") -> tuple[int, int, bytes]:
    from bench_agent.protocol.frames import BITRATE_SWITCH, FD

    return (frame.can_id, frame.flags & (FD | BITRATE_SWITCH), frame.data)


def _opened(interface: str, channel: str, *, fd: bool) -> "can.BusABC":
    """Raises Failure with the driver's reason."""
    import can

    # Classic buses are opened without a word of FD: some drivers know no such argument.
    options: dict[str, Any] = {"fd": True} if fd else {"fd": False} if interface in _ECHOING else {}
    try:
        return can.Bus(interface=interface, channel=channel, ignore_config=True, **options)
    except Exception as error:
        raise Failure(f"{interface} {channel} cannot be opened: {error}", ExitCode.ERROR) from error


def _must_exist(channel: str) -> None:
    """Raises Failure, with the command that makes it, when there is no network interface of this name."""
    if Path("/sys/class/net", channel).exists():
        return
    how = f"sudo ip link add dev {channel} type vcan && sudo ip link set dev {channel} mtu 72 up"
    raise Failure(f"there is no CAN interface {channel} here. A virtual one is made with: {how}", ExitCode.ERROR)
