"""A console's output as it comes, and input to it, over one open stream."""

import queue
import threading
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Protocol

import grpc

from bench_agent.client.connection import Connection
from bench_agent.client.errors import BenchError, BenchUnavailable, from_rpc
from bench_agent.protocol import console_pb2

KEPT_BYTES = 4 << 20
"""Output that waits for its reader; beyond it, the oldest is dropped and counted."""
_INPUT_BYTES = 64 * 1024


class NotTaken(BenchUnavailable):
    """The port has not taken the input yet; it may still do so."""


class _Call(Protocol):
    def __iter__(self) -> Iterator[console_pb2.ConsoleEvent]: ...
    def cancel(self) -> bool: ...


class Output(NamedTuple):
    """Some bytes in a row."""

    offset: int
    """Of the first byte, counted over everything that the console has said."""
    data: bytes


class ModemLines(NamedTuple):
    """The lines that the other end of the port drives."""

    cts: bool
    dsr: bool
    ri: bool
    cd: bool


class ConsoleStream:
    """An open console. Opens on entering the context, and with ``write`` keeps all others from writing until its end.

    One thread may read, any may write.
    """

    def __init__(
        self,
        connection: Connection,
        console: str,
        *,
        write: bool,
        who: str,
        from_offset: int | None = None,
        mute: bool = False,
    ) -> None:
        self._connection = connection
        self._open = console_pb2.ConsoleOpen(console=console, write=write, who=who, from_offset=from_offset, mute=mute)
        self._requests: queue.SimpleQueue[console_pb2.ConsoleRequest | None] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._changed = threading.Condition()
        self._outputs: deque[Output] = deque()
        self._kept = 0
        self._dropped_here = self._dropped_there = 0
        self._sent = console_pb2.ConsoleSent()
        self._errors: dict[int, str] = {}
        self._asked = 0
        self._lines: console_pb2.ModemLines | None = None
        self._ended: BenchError | None = None
        self._opened = False
        self._closing = False
        self._stirred = False
        self._call: _Call | None = None
        self._reader: threading.Thread | None = None
        self.name = console
        self.fault = ""
        """Why the port is not open; empty when it is."""
        self.offset = 0
        """Where the stream began."""
        self.newline = "\n"
        self.encoding = "utf-8"

    def __enter__(self) -> "ConsoleStream":
        """Raises InUse, naming who writes already, or another BenchError."""
        self._requests.put(console_pb2.ConsoleRequest(open=self._open))
        stub = self._connection.consoles
        self._call = stub.Stream(iter(self._requests.get, None), metadata=self._connection.metadata)
        self._reader = threading.Thread(target=self._read, args=(self._call,), name="console-stream", daemon=True)
        self._reader.start()
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._ended, self._connection.timeout_s)
            if self._opened:
                return self
        failure = self._ended
        self.close()
        raise failure or BenchUnavailable(f"{self._connection.target} did not open console {self.name} in time")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dropped(self) -> int:
        """Bytes of output lost so far because they were not read fast enough."""
        return self._dropped_here + self._dropped_there

    def read(self, timeout_s: float | None, limit: int | None = None) -> Output | None:
        """The next output, at most ``limit`` bytes; None when there was none within ``timeout_s`` (None: for ever).

        It is also None, at once, when the port was unplugged or is there again (see `fault`), and after `stir`. Raises
        the BenchError that ended the stream, once all output before it is read.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._outputs or self._ended or self._stirred, timeout_s)
            if not self._outputs:
                self._stirred = False
                if self._ended is not None and not self._closing:
                    raise self._ended
                return None
            output = self._outputs.popleft()
            if limit is not None and len(output.data) > limit:
                self._outputs.appendleft(Output(output.offset + limit, output.data[limit:]))
                output = Output(output.offset, output.data[:limit])
            self._kept -= len(output.data)
            return output

    @property
    def waiting(self) -> int:
        """Bytes that `read` would return without waiting."""
        return self._kept

    def stir(self) -> None:
        """Has a `read` that waits, or the next one that would, return None."""
        with self._changed:
            self._stirred = True
            self._changed.notify_all()

    def write(self, data: bytes, timeout_s: float | None = None) -> None:
        """Returns when the port's driver has taken all of it.

        Raises NotTaken when it has not within ``timeout_s`` (None: within what the agent may take to answer) for each
        64 KiB; or another BenchError.
        """
        for start in range(0, len(data), _INPUT_BYTES):
            self._ask(console_pb2.ConsoleRequest(data=data[start : start + _INPUT_BYTES]), timeout_s)

    def send_break(self, duration_s: float = 0.25) -> None:
        """Holds the line in the break condition. Raises a BenchError."""
        self._ask(
            console_pb2.ConsoleRequest(break_ms=round(duration_s * 1000)), duration_s + self._connection.timeout_s
        )

    def control(self, *, dtr: bool | None = None, rts: bool | None = None) -> None:
        """Drives modem lines; None leaves one as it is. Raises a BenchError."""
        self._ask(console_pb2.ConsoleRequest(control=console_pb2.ModemControl(dtr=dtr, rts=rts)))

    def lines(self) -> ModemLines:
        """The modem lines as they are now. Raises a BenchError where the port has none."""
        with self._sending:
            with self._changed:
                self._lines = None
            self._requests.put(console_pb2.ConsoleRequest(ask_lines=True))
            with self._changed:
                self._wait(lambda: self._lines is not None)
                found = self._lines
        if found is None:
            raise BenchUnavailable(f"{self._connection.target} did not answer in time")
        return ModemLines(found.cts, found.dsr, found.ri, found.cd)

    def close(self) -> None:
        """Ends the stream; others may write again. May be called twice."""
        self._closing = True
        self._requests.put(None)
        if self._call is not None:
            self._call.cancel()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join(self._connection.timeout_s)

    def _ask(self, request: console_pb2.ConsoleRequest, timeout_s: float | None = None) -> None:
        with self._sending:
            with self._changed:
                if self._ended is not None:
                    raise self._ended
                self._asked += 1
                number = self._asked
            self._requests.put(request)
            with self._changed:
                self._wait(lambda: self._sent.requests >= number, timeout_s)
                error = self._errors.pop(number, "")
        if error:
            raise BenchUnavailable(error)

    def _wait(self, done: "_Condition", timeout_s: float | None = None) -> None:
        within_s = self._connection.timeout_s if timeout_s is None else timeout_s
        self._changed.wait_for(lambda: done() or self._ended, within_s)
        if not done():
            raise self._ended or NotTaken(f"{self._connection.target} did not take the input in time")

    def _read(self, call: _Call) -> None:
        failure: BenchError
        try:
            for event in call:
                self._take(event)
            failure = BenchUnavailable(f"{self._connection.target} has ended the stream of console {self.name}")
        except grpc.RpcError as error:
            failure = from_rpc(error, self._connection.target)
        with self._changed:
            self._ended = failure
            self._changed.notify_all()
        self._requests.put(None)  # lets gRPC's request thread end

    def _take(self, event: console_pb2.ConsoleEvent) -> None:
        with self._changed:
            match event.WhichOneof("event"):
                case "output":
                    self._keep(event.output)
                case "sent":
                    self._sent = event.sent
                    if event.sent.error:
                        self._errors[event.sent.requests] = event.sent.error
                case "state":
                    self.fault = event.state.fault
                    self._stirred = True
                case "lines":
                    self._lines = event.lines
                case "opened":
                    opened = event.opened
                    self.offset, self.newline, self.encoding = opened.offset, opened.newline, opened.encoding
                    self.fault = opened.state.fault
                    self._opened = True
            self._changed.notify_all()

    def _keep(self, output: console_pb2.ConsoleOutput) -> None:
        self._dropped_there = output.dropped
        self._outputs.append(Output(output.offset, output.data))
        self._kept += len(output.data)
        while self._kept > KEPT_BYTES and len(self._outputs) > 1:
            lost = self._outputs.popleft()
            self._kept -= len(lost.data)
            self._dropped_here += len(lost.data)


class _Condition(Protocol):
    def __call__(self) -> bool: ...
