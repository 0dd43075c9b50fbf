"""Showing that something is under way: a live line on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click

from labd.cli.output import clean, duration, one_line, style

if TYPE_CHECKING:
    from rich.status import Status
    from rich.text import Text

REMIND_S = 30.0
"""Without a terminal, an unchanged state is printed again this often, so that CI does not take silence for death."""


class Progress:
    """What a command is doing, and the lines it has to say meanwhile.

    On a terminal, `state` is a live line with the time elapsed, and `line` prints above it. Elsewhere, `state` prints
    to stderr when it changes. ``stdout_is_data``: stdout carries JSON, so everything goes to stderr.
    """

    def __init__(self, *, stdout_is_data: bool = False) -> None:
        self._out: TextIO = sys.stderr if stdout_is_data else sys.stdout
        self._terminal = next((stream for stream in (self._out, sys.stderr) if stream.isatty()), None)
        self._live: _Live | None = None
        self._started = time.monotonic()
        self._said: tuple[str, float] | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done()

    def state(self, text: str) -> None:
        """What is going on now."""
        text = one_line(text)
        if self._terminal is not None:
            if self._live is None:
                self._live = _Live(self._terminal, self._started)
            self._live.say(text)
            return
        now = time.monotonic()
        if self._said is None or self._said[0] != text:
            click.echo(text, err=True)
        elif now - self._said[1] >= REMIND_S:
            click.echo(f"{text} ({duration(round(now - self._started))})", err=True)
        else:
            return
        self._said = (text, now)

    def line(self, text: str, word: str = "") -> None:
        """A line that stays, in the style of ``word`` (a state, verdict or log level)."""
        text = clean(text)
        if self._live is not None and self._out is self._terminal:
            self._live.print(text, style(word))
        elif self._out.isatty():
            click.echo(click.style(text, fg=_COLOURS.get(word)), file=self._out)
        else:
            click.echo(text, file=self._out)

    def done(self) -> None:
        """Takes the live line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


_COLOURS = {"warning": "yellow", "error": "red", "debug": "bright_black"}


class _Live:
    """rich's spinner with our text and the time elapsed; imported only where there is a terminal."""

    def __init__(self, stream: TextIO, started: float) -> None:
        from rich.console import Console

        self._console: Console = Console(file=stream, highlight=False)
        self._started = started
        self._text = ""
        self._status: Status = self._console.status(self, spinner="line")
        self._status.start()

    def __rich__(self) -> "Text":
        from rich.text import Text

        return Text(f"{self._text}  {duration(round(time.monotonic() - self._started))}", style="dim")

    def say(self, text: str) -> None:
        self._text = text

    def print(self, text: str, text_style: str) -> None:
        self._console.print(text, style=text_style, markup=False, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self._status.stop()
