"""A terminal that passes every key on, and is as it was before when that is over."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from labd.cli.exits import Interrupted

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

SUPPORTED = termios is not None


@contextmanager
def raw(terminal: int, *, new_lines: bool = False) -> Iterator[None]:
    """Within the context, each key comes at once and as it is, Ctrl-C and Ctrl-Z included, and nothing is echoed.

    ``new_lines``: a line feed that is written also returns to the left margin. At the end, also by an exception or one
    of the signals that labctl ends by (SIGQUIT is made one of them), the terminal is as before. For the main thread.
    """
    former = termios.tcgetattr(terminal)
    changed = termios.tcgetattr(terminal)
    changed[0] &= ~(
        termios.BRKINT | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.INPCK | termios.ISTRIP | termios.IXON
    )
    if not new_lines:
        changed[1] &= ~termios.OPOST
    changed[2] = changed[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    changed[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.IEXTEN | termios.ISIG)
    changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    former_handler = signal.signal(signal.SIGQUIT, _unwind)
    try:
        termios.tcsetattr(terminal, termios.TCSANOW, changed)
        yield
    finally:
        # At once: to wait until all is written could take for ever on a terminal that was stopped.
        termios.tcsetattr(terminal, termios.TCSANOW, former)
        signal.signal(signal.SIGQUIT, former_handler)


def _unwind(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)
