"""``labctl console``: a terminal on a serial console of a bench."""

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from labd.cli.completion import complete_benches, complete_consoles
from labd.cli.exits import ExitCode, Failure, Interrupted
from labd.cli.leasing import open_bench, using
from labd.cli.options import duration, lease_options
from labd.cli.raw_terminal import SUPPORTED, raw
from labd.cli.session import Session, pass_session
from labd.client import Console, Heartbeats

if TYPE_CHECKING:
    from bench_agent.client import BenchError, ConsoleStream

_STDIN = 0
_LEAVE = b"\x1d"
"""Ctrl-], as in telnet, virsh and pyserial's miniterm."""
_BREAK = b"\x1c"
"""Ctrl-\\ ."""
_TICK_S = 0.2
"""How often a quiet console is left to look at the clock, the port and the lease."""
_INPUT_BYTES = 1024
_ANSWER_S = 10.0
"""How long the agent may take beyond what the line needs."""
_BITS_PER_BYTE = 12
"""Of the slowest format: start, eight data, parity and two stop bits."""


@click.command()
@click.argument("bench_name", metavar="BENCH", shell_complete=complete_benches)
@click.argument("console_name", metavar="NAME", shell_complete=complete_consoles)
@click.option(
    "--log",
    "log_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Append the output to FILE, as it comes.",
)
@click.option("--watch", is_flag=True, help="Only look on; whoever has the console goes on writing.")
@click.option("--from-start", is_flag=True, help="Begin with what it has said in this lease before.")
@click.option("--stay", is_flag=True, help="When the port is unplugged, wait for it; without it, end.")
@click.option("--crlf", is_flag=True, help="For a device that ends lines without a carriage return.")
@click.option("--duration", "duration_s", type=duration, metavar="TIME", help="Stop after this time: 10s.")
@lease_options
@pass_session
def console(
    session: Session,
    bench_name: str,
    console_name: str,
    log_path: Path | None,
    watch: bool,
    from_start: bool,
    stay: bool,
    crlf: bool,
    duration_s: float | None,
    lease_id: str | None,
    timeout_s: float | None,
    holder: str,
    priority: str,
) -> None:
    """Talk to a serial console of a bench.

    \b
      labctl console bench-1 linux
      labctl console bench-1 linux --log boot.log
      printf 'version\\r' | labctl console bench-1 linux --duration 2s

    On a terminal, every key goes to the console, Ctrl-C too; Enter sends what ends a line there. Ctrl-] leaves,
    Ctrl-\\ sends a break. Where the input is a pipe or a file, it is sent as it is, and after its end the output goes
    on until Ctrl-C or --duration.

    Leases the bench and releases it at the end; with --lease, a lease that you hold is used. Ends with 0 when you
    leave, 65 when the lease ends or somebody else writes already, and 69 when the port is unplugged.
    """
    if not SUPPORTED:
        raise Failure("labctl console needs a POSIX terminal, which this system does not have", ExitCode.USAGE)
    found = _find(session, bench_name, console_name)
    lab = session.lab
    holding = using(lab, bench_name, lease_id=lease_id, holder=holder, priority=priority, timeout_s=timeout_s)
    with (
        log_path.open("ab") if log_path else contextlib.nullcontext() as log,
        holding as (lease, heartbeats),
        open_bench(lab, lease, bench_name) as bench,
    ):
        client = bench.console(console_name, f"labctl console of {holder}")
        with client.watch(from_start=from_start) if watch else client.stream(from_start=from_start) as stream:
            _Conversation(stream, heartbeats, found, log, stay=stay, watch=watch, crlf=crlf).run(duration_s)
        if stream.dropped:
            click.echo(f"{stream.dropped} bytes of output are lost: this end was too slow", err=True)


def _find(session: Session, bench_name: str, console_name: str) -> Console:
    """The console's description, looked up before the bench is leased for nothing."""
    consoles = {one["name"]: one for one in session.lab.bench(bench_name)["equipment"]["consoles"]}
    if console_name not in consoles:
        raise Failure(
            f"bench {bench_name} has no console {console_name!r}; it has {', '.join(consoles) or 'none'}",
            ExitCode.REFUSED,
        )
    return consoles[console_name]


class _Conversation:
    """Output to stdout and the log, input from stdin, until one side ends it."""

    def __init__(
        self,
        stream: "ConsoleStream",
        heartbeats: Heartbeats,
        described: Console,
        log: IO[bytes] | None,
        *,
        stay: bool,
        watch: bool,
        crlf: bool,
    ) -> None:
        self._stream = stream
        self._heartbeats = heartbeats
        self._described = described
        self._log = log
        self._stay = stay
        self._watch = watch
        self._crlf = crlf
        self._told = ""
        self._left = threading.Event()
        self._failure: BenchError | OSError | None = None

    def run(self, duration_s: float | None) -> None:
        """Until somebody leaves, or ``duration_s``. Raises Failure or a BenchError for any other end."""
        end = time.monotonic() + duration_s if duration_s is not None else None
        typed = os.isatty(_STDIN) and not self._watch
        what = f"{self._described['name']} at {self._described['baudrate']} bit/s"
        hint = "Ctrl-C leaves" if not typed else "Ctrl-] leaves, Ctrl-\\ sends a break"
        click.echo(f"{what}; {hint}", err=True)
        try:
            with contextlib.ExitStack() as stack:
                if typed:
                    stack.enter_context(raw(_STDIN, new_lines=self._crlf))
                if not self._watch:
                    stack.enter_context(self._input(typed))
                while not self._left.is_set() and (end is None or time.monotonic() < end):
                    wait = _TICK_S if end is None else min(_TICK_S, max(0.0, end - time.monotonic()))
                    if (output := self._stream.read(wait)) is not None:
                        self._show(output.data)
                    self._look("\r\n" if typed else "")
        except KeyboardInterrupt as interrupt:
            if isinstance(interrupt, Interrupted):
                raise
        finally:
            if typed:
                click.echo(err=True)

    def _look(self, margin: str) -> None:
        """Raises what ends the conversation. ``margin`` begins and ends a line on this terminal."""
        if self._heartbeats.lost.is_set():
            raise Failure(f"the lease is lost: {self._heartbeats.reason}", ExitCode.REFUSED)
        fault = self._stream.fault
        if fault and not self._stay and not self._stream.waiting:
            raise Failure(fault, ExitCode.UNAVAILABLE)
        if fault != self._told and self._stay:
            self._told = fault
            text = f"waiting: {fault}" if fault else "it is there again"
            click.echo(f"{margin}{text}{margin or chr(10)}", err=True, nl=False)
        if self._failure is not None:
            raise self._failure

    def _show(self, data: bytes) -> None:
        if self._log is not None:
            self._log.write(data)
            self._log.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    @contextlib.contextmanager
    def _input(self, typed: bool) -> Iterator[None]:
        """Passes on what is typed or piped in, in a thread of its own, within the context."""
        stop, stopping = os.pipe()
        thread = threading.Thread(target=self._pass_on, args=(stop, typed), name="console-input", daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.close(stopping)
            thread.join(_TICK_S)  # not longer: it may wait for a port that takes nothing; the stream's end lets it go

    def _pass_on(self, stop: int, typed: bool) -> None:
        try:
            while stop not in select.select([_STDIN, stop], [], [])[0]:
                data = os.read(_STDIN, _INPUT_BYTES)
                if typed and (not data or self._type(data)):
                    self._left.set()
                    self._stream.stir()
                    return
                if not data:
                    return
                if not typed:
                    self._send(data)
        except OSError as error:
            self._failure = error
        finally:
            os.close(stop)

    def _type(self, keys: bytes) -> bool:
        """Whether the key that leaves was among them."""
        keys, leave, _ = keys.partition(_LEAVE)
        for number, part in enumerate(keys.split(_BREAK)):
            if number:
                self._send(None)
            if part:
                self._send(part.replace(b"\r", self._stream.newline.encode()))
        return bool(leave)

    def _send(self, data: bytes | None) -> None:
        """``data``, or a break."""
        from bench_agent.client import BenchError, BenchUnavailable

        try:
            if data is None:
                self._stream.send_break()
            else:
                self._stream.write(data, _ANSWER_S + len(data) * _BITS_PER_BYTE / self._described["baudrate"])
        except BenchUnavailable as error:
            self._failure = self._failure if self._stay else error
        except BenchError as error:
            self._failure = error
