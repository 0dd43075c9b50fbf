"""A bench's console as a port of pyserial: ``labd://BENCH/CONSOLE``.

The lease must be held already; it is kept alive as long as the port is open. After ``?``, joined by ``&``: ``url=`` of
labd, ``lease=``, ``holder=`` (without them LABD_URL, LABD_LEASE and LABD_HOLDER, as labctl has it), and ``watch`` for a
port that only reads and leaves writing to others.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from serial.serialutil import PortNotOpenError, SerialBase, SerialException, SerialTimeoutException, Timeout

from bench_agent.client import BenchClient, BenchError, ConsoleStream, NotTaken
from bench_agent.client.console_stream import ModemLines
from labd.client import LabError, held_bench

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FORM = "labd://BENCH/CONSOLE[?url=http://LABD:8470&lease=ID&holder=WHO&watch]"
_OPTIONS = ("url", "lease", "holder", "watch")
_BITS_PER_BYTE = 12
"""Of the slowest format: start, eight data, parity and two stop bits."""
_ANSWER_S = 10.0
"""How long the agent may take beyond what the line needs."""


class Serial(SerialBase):
    """One thread may read, any may write. Speed, parity and the like are the bench's own and are ignored here."""

    _stream: ConsoleStream | None = None
    _cleanup: contextlib.ExitStack
    _bit_rate = 9600
    _cancelled = False

    def open(self) -> None:
        """Takes the console for writing, alone, unless it is to be watched only.

        Raises SerialException for a URL that is none, when there is no such lease or console, and, naming who has it,
        when somebody else writes already.
        """
        if self.is_open:
            raise SerialException("Port is already open.")
        if self.port is None:
            raise SerialException("Port must be configured before it can be used.")
        bench, console, options = _parts(self.port)
        held = held_bench(bench, url=options.get("url"), lease_id=options.get("lease"), holder=options.get("holder"))
        with contextlib.ExitStack() as opening:
            with _as_serial(f"{self.port} cannot be opened: "):
                address, token, tls = opening.enter_context(held)
                client = opening.enter_context(BenchClient(address, bench, token, tls=tls))
                door = client.console(console)
                self._bit_rate = next(one.baudrate for one in client.describe().consoles if one.name == console)
                stream = opening.enter_context(door.watch() if "watch" in options else door.stream())
                if not (self.dtr and self.rts):  # the agent has opened the port with both
                    stream.control(dtr=self.dtr, rts=self.rts)
            self._cleanup = opening.pop_all()
        self._stream, self.is_open, self._cancelled = stream, True, False

    def close(self) -> None:
        """Lets others write, and leaves the lease as it is. May be called twice; from any thread."""
        self.is_open, stream, self._stream = False, self._stream, None
        if stream is not None:
            stream.close()
            self._cleanup.close()

    @property
    def in_waiting(self) -> int:
        """Bytes that `read` returns without waiting."""
        return self._opened().waiting

    def read(self, size: int = 1, /) -> bytes:
        """Up to ``size`` bytes: fewer when ``timeout`` or ``inter_byte_timeout`` (s) is over, or after `cancel_read`.

        Raises SerialException once the lease has ended, or the port is unplugged, and all output before is read.
        """
        stream, whole, data = self._opened(), _timeout(self.timeout), bytearray()
        while len(data) < size:
            if stream.fault and not stream.waiting:
                if data:
                    break
                raise SerialException(stream.fault)
            with _as_serial():
                output = stream.read(self._wait_s(whole, bool(data)), size - len(data))
            if output is not None:
                data += output.data
            elif self._cancelled or not self.is_open:
                self._cancelled = False
                break
            elif whole.expired() or (data and self.inter_byte_timeout is not None):
                break
        return bytes(data)

    def cancel_read(self) -> None:
        """Has a `read` of another thread return what it has."""
        self._cancelled = True
        self._opened().stir()

    def write(self, data: "ReadableBuffer", /) -> int:
        """Returns when the bench's driver has taken all.

        Raises SerialTimeoutException after ``write_timeout`` (s), or with None or 0 when the line should long be
        through with it; SerialException when the lease has ended, or the port is unplugged.
        """
        stream, sent = self._opened(), bytes(data)
        line_s = len(sent) * _BITS_PER_BYTE / self._bit_rate
        with _as_serial():
            stream.write(sent, self.write_timeout or line_s + _ANSWER_S)
        return len(sent)

    def flush(self) -> None:
        """Nothing: `write` has waited already."""
        self._opened()

    def reset_input_buffer(self) -> None:
        """Forgets what came and was not read."""
        stream = self._opened()
        with _as_serial():
            while stream.read(0) is not None:
                pass

    def reset_output_buffer(self) -> None:
        """Nothing: what was written is with the bench's driver."""
        self._opened()

    @property
    def out_waiting(self) -> int:
        """Always 0: `write` has waited already."""
        self._opened()
        return 0

    def send_break(self, duration: float = 0.25) -> None:
        """Holds the line in the break condition for ``duration`` (s). The agent keeps the time."""
        stream = self._opened()
        with _as_serial():
            stream.send_break(duration)

    @property
    def cts(self) -> bool:
        """Clear to send. Raises SerialException where the port has no modem lines, as the others do."""
        return self._lines().cts

    @property
    def dsr(self) -> bool:
        """Data set ready."""
        return self._lines().dsr

    @property
    def ri(self) -> bool:
        """Ring indicator."""
        return self._lines().ri

    @property
    def cd(self) -> bool:
        """Carrier detect."""
        return self._lines().cd

    def _wait_s(self, whole: Timeout, begun: bool) -> float | None:
        left = cast("float | None", whole.time_left())
        if not begun or self.inter_byte_timeout is None:
            return left
        return self.inter_byte_timeout if left is None else min(left, self.inter_byte_timeout)

    def _opened(self) -> ConsoleStream:
        if self._stream is None:
            raise PortNotOpenError
        return self._stream

    def _lines(self) -> ModemLines:
        stream = self._opened()
        with _as_serial():
            return stream.lines()

    # What SerialBase calls when a setting is changed

    def _reconfigure_port(self) -> None:
        """Nothing: the bench's agent keeps the settings of its ports."""

    def _update_rts_state(self) -> None:
        with _as_serial():
            self._opened().control(rts=self.rts)

    def _update_dtr_state(self) -> None:
        with _as_serial():
            self._opened().control(dtr=self.dtr)

    def _update_break_state(self) -> None:
        if self.break_condition:
            raise SerialException("a break has a duration here, which the agent keeps: call send_break(duration)")


def _timeout(duration_s: float | None) -> Timeout:
    return Timeout(cast(float, duration_s))  # None is for ever, which its type stub does not know


def _parts(url: str) -> tuple[str, str, dict[str, str]]:
    parts = urlsplit(url)
    console = parts.path.strip("/")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = [name for name in options if name not in _OPTIONS]
    if parts.scheme != "labd" or not parts.netloc or not console or "/" in console or unknown:
        why = f"there is no option {unknown[0]!r}; " if unknown else ""
        raise SerialException(f"{why}port is {url!r}; it must be {_FORM}")
    return unquote(parts.netloc), unquote(console), options


@contextlib.contextmanager
def _as_serial(context: str = "") -> Iterator[None]:
    """Errors as pyserial has them."""
    try:
        yield
    except NotTaken as error:
        raise SerialTimeoutException(f"{context}{error}") from error
    except (BenchError, LabError) as error:
        raise SerialException(f"{context}{error}") from error
