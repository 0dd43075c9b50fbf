"""The serial console of a simulated ECU: boot log, prompt, and a few commands."""

from ecu_adapters.simulation import SerialConsole
from ecu_adapters.simulator.clock import Clock, Timer
from ecu_adapters.simulator.pty_port import PtyPort
from ecu_adapters.simulator.server import UdsServer
from ecu_adapters.simulator.shell import Shell, lines
from ecu_adapters.uds import dtc as dtc_code


class Console:
    """Prints on ``port`` and answers what is typed there, from `boot` until `stop`."""

    def __init__(self, settings: SerialConsole, clock: Clock, port: PtyPort, server: UdsServer) -> None:
        self._settings = settings
        self._clock = clock
        self._port = port
        self._server = server
        self._timer: Timer | None = None
        commands = {"version": self._version, "dtc": self._dtcs, "reset": self._reset}
        commands["help"] = lambda: ", ".join(sorted(commands))
        self._shell = Shell(commands, settings.prompt, echo=settings.echo)
        self._resetting = False

    def boot(self) -> None:
        """Prints the boot log from its beginning, then the prompt. Nothing is read meanwhile."""
        self.stop()
        self._shell.forget()
        self._print(0)

    def stop(self) -> None:
        """No power: nothing is printed or read."""
        if self._timer is not None:
            self._timer.cancel()
        self._port.on_data = None

    def _print(self, index: int) -> None:
        boot = self._settings.boot
        if index == len(boot):
            self._port.write(self._shell.prompt)
            self._port.on_data = self._take
            return

        def show() -> None:
            self._port.write(lines(boot[index].text))
            self._print(index + 1)

        self._timer = self._clock.call_later(boot[index].after_ms / 1000, show)

    def _take(self, data: bytes) -> None:
        answer = self._shell.feed(data)
        if answer:
            self._port.write(answer)
        if self._resetting:
            self._resetting = False
            self._server.reset()

    def _version(self) -> str:
        return self._settings.version or self._server.ecu.name

    def _dtcs(self) -> str:
        statuses = self._server.state.dtcs.statuses()
        shown = [f"{dtc_code.text(number)} {status:02X}" for number, status in statuses.items() if status & 0x0F]
        return "\n".join(shown) or "none"

    def _reset(self) -> str:
        self._resetting = True
        return "resetting"
