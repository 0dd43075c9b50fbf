"""What a bus hub needs of a CAN driver, and python-can's drivers as one."""

import errno
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import can
from can.interfaces.virtual import VirtualBus

from ecu_adapters.burst import Burst

_ECHO_S = 1.0
"""How long an own frame is awaited back on interfaces that echo."""
_ECHOING = frozenset({"udp_multicast"})
"""Interfaces that hand a node its own frames back and cannot be told not to."""
_EPOCH_S = 1_000_000_000.0
"""Smaller timestamps are not seconds since the Unix epoch but since the driver's start."""
_RESTART_S = 5.0
"""How long the reader may take to open the bus anew."""
_BURST = 256
"""Frames that are read before they are shared out, if so many wait."""

_AT_ONCE_S = 0.0005
"""How long frames are sent that count as sent at the same time."""

_WAKE_UP = can.Message()
"""Ends a reader's wait on a bus that closes; it was never on the bus."""


class Driver(Protocol):
    """An open bus. `receive` is called by one thread, `send` by one at a time; both raise what they like."""

    lost: int
    """Frames that were on the bus but did not reach us, as far as the driver knows."""

    def receive(self, timeout_s: float) -> Burst | None:
        """Waits for a frame and returns it with those that have come meanwhile; None when none came."""

    def send(self, frames: Burst, start: int, timeout_s: float) -> int:
        """Puts frames from number ``start`` on on the bus, and returns how many: at least one, or it raises."""

    def wake(self) -> None:
        """Lets `receive` return early, where that is possible."""

    def restart(self) -> bool:
        """Brings a controller back that is bus-off, while the other thread receives; nothing is sent meanwhile.

        Returns whether it is error-active now; otherwise an error frame will tell.
        """

    def close(self) -> None:
        """Closes the bus; both threads are done with it."""


class PythonCan:
    """A bus of python-can."""

    def __init__(self, bus: can.BusABC, interface: str, reopen: Callable[[], can.BusABC] | None = None) -> None:
        """``reopen`` opens the same bus anew once it is closed; without it, there is no restart."""
        self.bus = bus
        self.lost = 0
        self._reopen = reopen
        self._restart: _Restart | None = None
        self._echoes = _Echoes() if interface in _ECHOING else None
        self._failure: Exception | None = None

    def receive(self, timeout_s: float) -> Burst | None:
        """Frames of a driver that does not tell the time of day are stamped here. Raises what the driver raises."""
        if self._failure is not None:
            raise self._failure
        if self._restart is not None:
            self._carry_out(self._restart)
        receive, echoes = self.bus.recv, self._echoes
        burst: list[can.Message] = []
        message = receive(timeout_s)
        while message is not None:
            if message is _WAKE_UP:
                break
            if echoes is None or not echoes.is_echo(message):
                if message.timestamp < _EPOCH_S:
                    message.timestamp = time.time()
                message.is_rx = True
                burst.append(message)
            try:
                message = receive(0) if len(burst) < _BURST else None
            except Exception as error:
                self._failure = error  # after what has come before it
                break
        return Burst(messages=burst) if burst else None

    def send(self, frames: Burst, start: int, timeout_s: float) -> int:
        """As many as go within a moment, so that their common time stamp is right. Raises what the driver raises."""
        send, echoes = self.bus.send, self._echoes
        until = time.monotonic() + _AT_ONCE_S
        for number in range(start, len(frames)):
            message = frames[number]
            if echoes is not None:
                echoes.expect(message)
            try:
                send(message, timeout=timeout_s)
            except Exception:
                if number == start:
                    raise
                return number - start  # the next call meets it again
            if time.monotonic() > until:
                return number - start + 1
        return len(frames) - start

    def wake(self) -> None:
        """Only the virtual bus can; other drivers are waited for until their read returns by itself."""
        if isinstance(self.bus, VirtualBus):
            with suppress(queue.Full):
                self.bus.queue.put_nowait(_WAKE_UP)

    def restart(self) -> bool:
        """Closes the bus and opens it anew: drivers have no other way in common. Raises what the driver raises."""
        if self._reopen is None:
            raise OSError(errno.EOPNOTSUPP, "this bus cannot be opened anew")
        wish = self._restart = _Restart()
        self.wake()
        if not wish.done.wait(_RESTART_S):
            raise TimeoutError(f"the driver has not returned from its read within {_RESTART_S:g} s")
        if wish.failure is not None:
            raise wish.failure
        return True

    def close(self) -> None:
        """Raises what the driver raises."""
        self.bus.shutdown()

    def _carry_out(self, wish: "_Restart") -> None:
        """On the reader's thread, so that nobody reads from a bus that is being closed."""
        self._restart = None
        try:
            if self._reopen is not None:
                self.bus.shutdown()
                self.bus = self._reopen()
        except Exception as error:
            self._failure = wish.failure = error  # there is no bus any more
            raise
        finally:
            wish.done.set()


class _Restart:
    """Somebody waits for the bus to be opened anew."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.failure: Exception | None = None


class _Echoes:
    """Own frames that an echoing interface will hand back, so that each is dropped once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: deque[tuple[float, tuple[object, ...]]] = deque()

    def expect(self, message: can.Message) -> None:
        with self._lock:
            self._awaited.append((time.monotonic() + _ECHO_S, self._key(message)))

    def is_echo(self, message: can.Message) -> bool:
        key = self._key(message)
        now = time.monotonic()
        with self._lock:
            # UDP may lose an echo: forget it in time, or it would swallow somebody else's equal frame.
            while self._awaited and self._awaited[0][0] < now:
                self._awaited.popleft()
            for index, (_, awaited) in enumerate(self._awaited):
                if awaited == key:
                    del self._awaited[index]
                    return True
            return False

    @staticmethod
    def _key(message: can.Message) -> tuple[object, ...]:
        return (message.arbitration_id, message.is_extended_id, message.is_fd, message.dlc, bytes(message.data))


def error_code(error: Exception) -> int | None:
    """The operating system's number of what a driver raised; None when it has none."""
    return error.error_code if isinstance(error, can.CanError) else getattr(error, "errno", None)


def reason_of(error: BaseException) -> str:
    """The driver's words, with the operating system's where they lie underneath."""
    text = str(error) or type(error).__name__
    if isinstance(error, KeyError | NameError | TypeError):
        text = f"{type(error).__name__}: {text}"
    cause = error.__cause__
    return f"{text} ({cause})" if cause is not None and str(cause) and str(cause) not in text else text
