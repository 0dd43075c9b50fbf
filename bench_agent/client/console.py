"""A serial console of a leased bench."""

import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import grpc

from bench_agent.client.connection import Connection, to_ms
from bench_agent.client.console_stream import ConsoleStream
from bench_agent.client.errors import BenchError, from_rpc
from bench_agent.protocol import console_pb2


@dataclass(frozen=True, slots=True)
class ConsoleMatch:
    """Output that an expectation met."""

    text: str
    before: str
    """What came before it, as far as it was searched in."""
    groups: tuple[str | None, ...] = ()
    named: dict[str, str | None] = field(default_factory=dict)
    index: int = 0
    """Which of the patterns it was."""


class ConsoleTimeout(BenchError):
    """The expected output did not come; ``last_lines`` were the last seen."""

    def __init__(self, message: str, last_lines: tuple[str, ...]) -> None:
        super().__init__(message)
        self.last_lines = last_lines


class ConsoleClient:
    """One console, with a place in its output: each expectation goes on where the last one was met.

    The place is the output's present end when the object is opened, which its first use does if nobody else did.
    While it is open, it alone can write. Use it as a context manager, or `close` it. For one thread.
    """

    def __init__(self, connection: Connection, name: str, who: str | None = None) -> None:
        self._connection = connection
        self._who = who or f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
        self._stream: ConsoleStream | None = None
        self._position = 0
        self.name = name

    def __enter__(self) -> "ConsoleClient":
        """Raises InUse, naming who writes already, or another BenchError."""
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def open(self, *, from_start: bool = False) -> "ConsoleClient":
        """Takes the console for writing. ``from_start``: expectations begin with this lease's first output."""
        self._opened()
        if from_start:
            self._position = 0
        return self

    def send(self, data: str | bytes) -> None:
        """Writes text in the console's encoding, or bytes as they are. Raises a BenchError."""
        stream = self._opened()
        stream.write(data.encode(stream.encoding, "backslashreplace") if isinstance(data, str) else data)

    def send_line(self, text: str = "") -> None:
        """Writes text and what ends a line on this console. Raises a BenchError."""
        self.send(text + self._opened().newline)

    def send_break(self, duration_s: float = 0.25) -> None:
        """Holds the line in the break condition. Raises a BenchError."""
        self._opened().send_break(duration_s)

    def expect(self, pattern: str | Sequence[str], timeout_s: float = 10.0) -> ConsoleMatch:
        """Waits for output that matches a regular expression (Python's, multi-line), or one of several.

        Matched on the agent. Raises ConsoleTimeout with the last lines seen, or another BenchError.
        """
        return self.wait_for([pattern] if isinstance(pattern, str) else pattern, timeout_s, literal=False)

    def read_until(self, text: str, timeout_s: float = 10.0) -> str:
        """The output up to and with ``text``, which is taken as it is. Raises as `expect` does."""
        found = self.wait_for([text], timeout_s, literal=True)
        return found.before + found.text

    def watch(self, *, from_start: bool = False) -> ConsoleStream:
        """A stream of the output that leaves writing to others, to be used as a context manager."""
        return ConsoleStream(
            self._connection, self.name, write=False, who=self._who, from_offset=0 if from_start else None
        )

    def stream(self, *, from_start: bool = False) -> ConsoleStream:
        """A stream of output and input, to be used as a context manager. Raises as `open` does when it is entered."""
        return ConsoleStream(
            self._connection, self.name, write=True, who=self._who, from_offset=0 if from_start else None
        )

    def log(self) -> Iterator[bytes]:
        """The log of this lease so far, in parts: a line for each line in either direction. Raises a BenchError."""
        request = console_pb2.ConsoleLogRequest(console=self.name)
        try:
            for part in self._connection.consoles.Log(request, metadata=self._connection.metadata):
                yield part.data
        except grpc.RpcError as error:
            raise from_rpc(error, self._connection.target) from None

    def close(self) -> None:
        """Lets others write. May be called twice."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _opened(self) -> ConsoleStream:
        if self._stream is None:
            stream = ConsoleStream(self._connection, self.name, write=True, who=self._who, mute=True).__enter__()
            self._stream, self._position = stream, stream.offset
        return self._stream

    def wait_for(self, patterns: Sequence[str], timeout_s: float, *, literal: bool) -> ConsoleMatch:
        """As `expect`; with ``literal``, the patterns are text that is taken as it is."""
        self._opened()
        request = console_pb2.ConsoleExpectRequest(
            console=self.name,
            patterns=patterns,
            literal=literal,
            timeout_ms=to_ms(timeout_s),
            from_offset=self._position,
        )
        reply = self._connection.ask(self._connection.consoles.Expect, request, timeout_s)
        if not reply.met:
            raise ConsoleTimeout(_missed(self.name, patterns, timeout_s, reply), tuple(reply.last_lines))
        self._position = reply.end_offset
        return ConsoleMatch(
            reply.match,
            reply.before,
            tuple(_text(group) for group in reply.groups if not group.name),
            {group.name: _text(group) for group in reply.groups if group.name},
            reply.index,
        )


def _text(group: console_pb2.ConsoleGroup) -> str | None:
    return group.text if group.HasField("text") else None


def _missed(name: str, patterns: Sequence[str], timeout_s: float, reply: console_pb2.ConsoleExpectReply) -> str:
    wanted = " or ".join(repr(pattern) for pattern in patterns)
    message = f"console {name}: {wanted} did not come within {timeout_s:g} s"
    if reply.fault:
        message += f" ({reply.fault})"
    if reply.dropped:
        message += f"; {reply.dropped} bytes came faster than they were looked at"
    if not reply.last_lines:
        return f"{message}; nothing was said in this lease"
    return f"{message}; the last lines:\n" + "\n".join(f"  {line}" for line in reply.last_lines)
