"""The shell on a simulated ECU's serial console: bytes in, bytes out. Pure."""

from collections.abc import Callable, Mapping

_MOST_LINE = 256
"""Characters of a line; more are dropped, as on a small ECU."""
_BACKSPACES = (0x08, 0x7F)


class Shell:
    """Reads lines and answers them. A command returns its output, lines separated by newlines."""

    def __init__(self, commands: Mapping[str, Callable[[], str]], prompt: str, *, echo: bool) -> None:
        self._commands = dict(commands)
        self._prompt = prompt
        self._echo = echo
        self._line = bytearray()

    @property
    def prompt(self) -> bytes:
        """What invites a command."""
        return self._prompt.encode()

    def feed(self, data: bytes) -> bytes:
        """What the console prints to these bytes."""
        answer = bytearray()
        for byte in data:
            if byte in (0x0A, 0x0D):
                answer += b"\r\n" if self._echo else b""
                answer += self._answer()
            elif byte in _BACKSPACES:
                if self._line:
                    self._line.pop()
                    answer += b"\b \b" if self._echo else b""
            elif len(self._line) < _MOST_LINE:
                self._line.append(byte)
                answer += bytes((byte,)) if self._echo else b""
        return bytes(answer)

    def forget(self) -> None:
        """A reset: what was typed is gone."""
        self._line.clear()

    def _answer(self) -> bytes:
        name = self._line.decode("utf-8", "replace").strip()
        self._line.clear()
        if not name:
            return self.prompt
        command = self._commands.get(name)
        known = ", ".join(sorted(self._commands))
        text = command() if command is not None else f"unknown command {name!r}; known: {known}"
        return lines(text) + self.prompt


def lines(text: str) -> bytes:
    """Text as a serial console prints it."""
    return "".join(f"{line}\r\n" for line in text.split("\n") if line).encode()
