"""The module serial: conversations with the bench's serial consoles."""

from typing import TYPE_CHECKING

from scenarios import durations
from scenarios.bindings.context import Context, options, wait
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_hex, from_json

if TYPE_CHECKING:
    from bench_agent.client import ConsoleClient

_SHOWN = 80


class SerialBindings:
    """Functions of the module serial."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._consoles: list[ConsoleClient] = []

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (
            self.serial_console,
            self.serial_send,
            self.serial_send_bytes,
            self.serial_break,
            self.serial_expect,
            self.serial_read_until,
            self.serial_close,
        )

    def serial_console(self, name: object, switches: str) -> int:
        """Opens a console; without a name, the only one. Returns its number."""
        chosen = options(switches)
        with self._context.bench_faults():
            bench = self._context.opened()
            if name is None:
                name = self._context.only("console", "serial.console", bench.describe().consoles)
            client = bench.console(str(name), f"run {self._context.assignment['run_id']}")
            client.open(from_start=chosen.get("from_start", False))
        self._consoles.append(client)
        return len(self._consoles) - 1

    def serial_send(self, number: int, text: object, ended: bool) -> None:
        """Writes text, or a line when ``ended``."""
        console = self._consoles[number]
        with self._context.bench_faults():
            (console.send_line if ended else console.send)(str(text))
        self._context.record.step(f"{console.name} <- {_shown(str(text))}")

    def serial_send_bytes(self, number: int, data: object) -> None:
        """Writes bytes, given as hexadecimal digits."""
        console, payload = self._consoles[number], from_hex(str(data), "data")
        with self._context.bench_faults():
            console.send(payload)
        self._context.record.step(f"{console.name} <- {payload.hex(' ').upper()}")

    def serial_break(self, number: int, duration: object) -> None:
        """Holds the line in the break condition."""
        console, seconds = self._consoles[number], wait(duration)
        with self._context.bench_faults():
            console.send_break(seconds)
        self._context.record.step(f"{console.name} <- break of {durations.show(seconds)}")

    def serial_expect(self, number: int, patterns: str, timeout: object) -> dict[str, object]:
        """Waits for output that matches one of the patterns."""
        listed = from_json(patterns)
        wanted = [str(one) for one in (listed if isinstance(listed, list) else [listed])]
        return self._awaited(number, wanted, timeout, literal=False)

    def serial_read_until(self, number: int, text: object, timeout: object) -> str:
        """The output up to and with a text."""
        found = self._awaited(number, [str(text)], timeout, literal=True)
        return f"{found['before']}{found['text']}"

    def serial_close(self, number: int) -> None:
        """Lets others write."""
        self._consoles[number].close()

    def _awaited(self, number: int, wanted: list[str], timeout: object, *, literal: bool) -> dict[str, object]:
        from bench_agent.client import ConsoleTimeout

        console, timeout_s = self._consoles[number], wait(timeout)
        bounded_s = self._context.bounded(timeout_s)
        try:
            with self._context.bench_faults():
                found = console.wait_for(wanted, bounded_s, literal=literal)
        except ScenarioFault as fault:
            missed = fault.__cause__
            if not isinstance(missed, ConsoleTimeout):
                raise
            self._context.record.check()
            self._context.look_at_clock()
            self._context.record.step(str(missed).partition("\n")[0])
            raise ScenarioFault("check", str(missed), last_lines=list(missed.last_lines)) from missed
        self._context.record.check()
        self._context.record.step(f"{console.name} -> {_shown(found.text)}")
        captures: dict[int | str, object] = dict(enumerate(found.groups, 1))
        return {
            "text": found.text,
            "before": found.before,
            "captures": captures | dict(found.named),
            "index": found.index + 1,
        }


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…")
