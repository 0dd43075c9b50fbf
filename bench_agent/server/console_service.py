"""Serial consoles over gRPC."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from bench_agent.protocol import console_pb2, console_pb2_grpc
from bench_agent.protocol.claims import Scope
from bench_agent.server.agent_console import AgentConsole
from bench_agent.server.door import Context, current_call
from bench_agent.server.errors import CallError, invalid, unavailable
from bench_agent.server.leased import Leased
from bench_agent.server.pattern_search import Match, PatternError, PatternSearch, check
from ecu_adapters.serial_port import PortError

LONGEST_WAIT_S = 86_400.0
LONGEST_INPUT = 1 << 20
"""Bytes in one request."""
LONGEST_BREAK_S = 10.0

_CHUNK = 64 * 1024
_WINDOW = 32 * 1024
"""Bytes that a pattern is searched in at once; a match of up to half of it is found wherever it lies."""
_LAST_LINES = 20
_LAST_BYTES = 4096
_LONGEST_WHO = 200
_LOG_FLUSH_S = 5.0

_log = structlog.get_logger()


class ConsoleServicer(Leased, console_pb2_grpc.ConsoleServicer):
    """Methods as in console.proto. The door has admitted the caller before any of them runs."""

    async def Stream(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request_iterator: AsyncIterator[console_pb2.ConsoleRequest], context: Context
    ) -> None:
        """Output and input of one console."""
        incoming = aiter(request_iterator)
        first = await anext(incoming, None)
        if first is None or first.WhichOneof("request") != "open":
            raise invalid("the first request of a console stream must be 'open'")
        if first.open.write:
            current_call().require(Scope.CO_DRIVER, "writing to a console")
        console = self.bench().consoles.get(first.open.console)
        who = first.open.who[:_LONGEST_WHO] or "somebody without a name"
        async with console.claimed(who) if first.open.write else contextlib.nullcontext():
            await _Session(console, first.open, context).run(incoming)

    async def Expect(
        self, request: console_pb2.ConsoleExpectRequest, context: Context
    ) -> console_pb2.ConsoleExpectReply:
        """Waits for output that matches."""
        consoles = self.bench().consoles
        console = consoles.get(request.console)
        if not 1 <= request.timeout_ms <= LONGEST_WAIT_S * 1000:
            raise invalid(f"timeout_ms is {request.timeout_ms}; it must be 1 .. {LONGEST_WAIT_S * 1000:.0f}")
        try:
            check(request.patterns)
            return await _Expectation(console, request, consoles.patterns).run()
        except PatternError as error:
            raise invalid(str(error)) from error

    async def Send(self, request: console_pb2.ConsoleSendRequest, context: Context) -> console_pb2.ConsoleSendReply:
        """Writes without a stream."""
        console = self.bench().consoles.get(request.console)
        console.require_free()
        try:
            await console.write(_checked(request.data))
        except PortError as error:
            raise unavailable(str(error)) from error
        return console_pb2.ConsoleSendReply()

    async def Log(  # type: ignore[override]
        self, request: console_pb2.ConsoleLogRequest, context: Context
    ) -> None:
        """The log of this lease up to now."""
        log = self.bench().consoles.get(request.console).log
        if log is None:
            raise unavailable(f"console {request.console} has no log of this lease: see the agent's own log")
        if not await asyncio.to_thread(log.flush, _LOG_FLUSH_S):
            raise unavailable("the disk is too slow for the log of the console")
        await context.write(console_pb2.ConsoleLogPart(dropped=log.dropped))
        offset = 0
        while part := await asyncio.to_thread(_part, log.path, offset):
            offset += len(part)
            await context.write(console_pb2.ConsoleLogPart(data=part))


class _Session:
    """One stream from its opening to its end."""

    def __init__(self, console: AgentConsole, request: console_pb2.ConsoleOpen, context: Context) -> None:
        self._console = console
        self._request = request
        self._context = context
        self._lock = asyncio.Lock()  # gRPC takes one message at a time
        self._done = 0

    async def run(self, incoming: AsyncIterator[console_pb2.ConsoleRequest]) -> None:
        """Both ways, until the caller ends its half."""
        console, fault = self._console, self._console.fault
        offset = self._request.from_offset if self._request.HasField("from_offset") else console.end
        opened = console_pb2.ConsoleOpened(
            offset=offset,
            newline=console.config.newline,
            encoding=console.config.encoding,
            state=console_pb2.ConsoleState(fault=fault or ""),
        )
        await self._write(console_pb2.ConsoleEvent(opened=opened))
        reader = asyncio.create_task(self._forward(offset, fault), name=f"console-out-{console.name}")
        writer = asyncio.create_task(self._take(incoming), name=f"console-in-{console.name}")
        try:
            await asyncio.wait([reader, writer], return_when=asyncio.FIRST_COMPLETED)
            for task in (writer, reader):
                if task.done():
                    task.result()
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _forward(self, offset: int, fault: str | None) -> None:
        console, dropped = self._console, 0
        while True:
            news = console.news
            first, data = (offset, b"") if self._request.mute else console.read(offset, _CHUNK)
            if data:
                # What was before the lease was never this reader's to lose.
                dropped += first - max(offset, min(console.since, first))
                offset = first + len(data)
                output = console_pb2.ConsoleOutput(offset=first, data=data, dropped=dropped)
                await self._write(console_pb2.ConsoleEvent(output=output))
            elif console.fault != fault:  # told after the last words
                fault = console.fault
                state = console_pb2.ConsoleState(fault=fault or "")
                await self._write(console_pb2.ConsoleEvent(state=state))
            else:
                await news.wait()

    async def _take(self, incoming: AsyncIterator[console_pb2.ConsoleRequest]) -> None:
        async for request in incoming:
            what = request.WhichOneof("request")
            if what == "ask_lines":
                await self._lines()
            elif not self._request.write:
                raise invalid("this stream only watches; open the console with 'write' to send")
            else:
                await self._carry_out(what or "", request)

    async def _lines(self) -> None:
        try:
            lines = await self._console.lines()
        except PortError as error:
            raise unavailable(str(error)) from error
        answer = console_pb2.ModemLines(cts=lines.cts, dsr=lines.dsr, ri=lines.ri, cd=lines.cd)
        await self._write(console_pb2.ConsoleEvent(lines=answer))

    async def _carry_out(self, what: str, request: console_pb2.ConsoleRequest) -> None:
        error = ""
        try:
            match what:
                case "data":
                    await self._console.write(_checked(request.data))
                case "break_ms":
                    await self._console.send_break(_break_s(request.break_ms))
                case "control":
                    control = request.control
                    await self._console.set_lines(
                        dtr=control.dtr if control.HasField("dtr") else None,
                        rts=control.rts if control.HasField("rts") else None,
                    )
                case _:
                    raise invalid(f"after 'open', a console stream does not take {what or 'an empty request'!r}")
        except (PortError, CallError) as failure:
            error = str(failure)
        self._done += 1
        sent = console_pb2.ConsoleSent(requests=self._done, error=error)
        await self._write(console_pb2.ConsoleEvent(sent=sent))

    async def _write(self, event: console_pb2.ConsoleEvent) -> None:
        async with self._lock:
            await self._context.write(event)


class _Expectation:
    """One wait for a pattern."""

    def __init__(self, console: AgentConsole, request: console_pb2.ConsoleExpectRequest, search: PatternSearch) -> None:
        self._console = console
        self._request = request
        self._search = search
        self._patterns = list(request.patterns)
        self._encoding = console.config.encoding
        self._start = max(request.from_offset if request.HasField("from_offset") else console.end, console.since)
        self._dropped = 0
        self._first = self._start
        self._seen = b""

    async def run(self) -> console_pb2.ConsoleExpectReply:
        """Raises PatternError or CallError."""
        if not self._request.literal:
            await self._search.search(self._patterns, "")  # a bad pattern is told at once
        try:
            async with asyncio.timeout(self._request.timeout_ms / 1000):
                return await self._found()
        except TimeoutError:
            return self._missed()

    async def _found(self) -> console_pb2.ConsoleExpectReply:
        console, offset, looked_at = self._console, self._start, -1
        while True:
            news = console.news
            first, data = console.read(offset, _WINDOW)
            self._dropped += first - offset
            offset, self._first, self._seen = first, first, data
            if data and first + len(data) != looked_at:
                looked_at = first + len(data)
                text = data.decode(self._encoding, "surrogateescape")
                match = await self._match(text)
                if match is not None:
                    return self._met(first, text, match)
                if len(data) == _WINDOW:
                    offset = first + _WINDOW // 2
                    continue
            await news.wait()

    async def _match(self, text: str) -> Match | None:
        if not self._request.literal:
            return await self._search.search(self._patterns, text)
        found = [(text.find(wanted), index) for index, wanted in enumerate(self._patterns)]
        at, index = min((entry for entry in found if entry[0] >= 0), default=(-1, 0))
        return Match(index, at, at + len(self._patterns[index]), (), {}) if at >= 0 else None

    def _met(self, first: int, text: str, match: Match) -> console_pb2.ConsoleExpectReply:
        return console_pb2.ConsoleExpectReply(
            met=True,
            index=match.index,
            match=self._plain(text[match.start : match.end]),
            before=self._plain(text[: match.start]),
            groups=[
                console_pb2.ConsoleGroup(text=None if group is None else self._plain(group)) for group in match.groups
            ]
            + [
                console_pb2.ConsoleGroup(name=name, text=None if group is None else self._plain(group))
                for name, group in match.named.items()
            ],
            end_offset=first + self._length(text[: match.end]),
            dropped=self._dropped,
        )

    def _missed(self) -> console_pb2.ConsoleExpectReply:
        end = self._first + len(self._seen)
        _, last = self._console.read(max(self._console.end - _LAST_BYTES, 0), _LAST_BYTES)
        text = self._plain(last.decode(self._encoding, "surrogateescape"))
        return console_pb2.ConsoleExpectReply(
            end_offset=end,
            last_lines=[line.rstrip("\r") for line in text.splitlines()][-_LAST_LINES:],
            fault=self._console.fault or "",
            dropped=self._dropped,
        )

    def _length(self, text: str) -> int:
        return len(text.encode(self._encoding, "surrogateescape"))

    def _plain(self, text: str) -> str:
        r"""Text without the stand-ins for bytes that are none: those as ``\xNN``."""
        return text.encode(self._encoding, "surrogateescape").decode(self._encoding, "backslashreplace")


def _checked(data: bytes) -> bytes:
    if not 1 <= len(data) <= LONGEST_INPUT:
        raise invalid(f"data has {len(data)} bytes; it must have 1 .. {LONGEST_INPUT}")
    return data


def _break_s(duration_ms: int) -> float:
    if not 1 <= duration_ms <= LONGEST_BREAK_S * 1000:
        raise invalid(f"break_ms is {duration_ms}; it must be 1 .. {LONGEST_BREAK_S * 1000:.0f}")
    return duration_ms / 1000


def _part(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(_CHUNK)
