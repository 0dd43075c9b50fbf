"""Power switched by a command of the lab's own, such as the tool of a PDU or of a programmable strip."""

import subprocess
from collections.abc import Sequence

from ecu_adapters.power.config import CommandConfig
from ecu_adapters.power.supply import NonsenseError, PowerError, Reading, Supply, UnsupportedError

_SHOWN = 300


class CommandSupply(Supply):
    """Starts the command with each call, without a shell, and with a deadline."""

    step_s = 0.5

    def __init__(self, config: CommandConfig) -> None:
        self._config = config
        self.settable = config.set is not None

    def switch(self, channel: str, on: bool) -> None:
        """Exit code 0 means that it is done."""
        self._run(self._config.switch, channel=channel, state="on" if on else "off")

    def set(self, channel: str, *, voltage: float | None = None, current: float | None = None) -> None:
        """A value that is not to be changed is filled in as nothing."""
        if self._config.set is None:
            raise UnsupportedError(f"supply {self._config.name} has no command 'set'")
        texts = {"voltage": voltage, "current": current}
        self._run(self._config.set, channel=channel, **{k: "" if v is None else f"{v:g}" for k, v in texts.items()})

    def measure(self, channel: str) -> Reading:
        """What the command prints: V and A."""
        if self._config.measure is None:
            raise UnsupportedError(f"supply {self._config.name} has no command 'measure'")
        printed = self._run(self._config.measure, channel=channel)
        try:
            voltage, current = (float(word) for word in printed.split())
        except ValueError:
            raise NonsenseError(
                f"the command 'measure' of supply {self._config.name} printed {printed[:_SHOWN]!r}; expected V and A"
            ) from None
        return Reading(voltage, current)

    def _run(self, words: Sequence[str], **filled: str) -> str:
        command = [word.format(**filled) for word in words]
        title = f"command {command[0]} of supply {self._config.name}"
        try:
            # S603: the words come from the agent's configuration, and no shell reads them.
            done = subprocess.run(  # noqa: S603
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=self._config.timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise PowerError(f"{title} took longer than {self._config.timeout_s:g} s and was killed") from None
        except OSError as error:
            raise PowerError(f"{title} cannot be started: {error.strerror}") from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="backslashreplace").strip()[-_SHOWN:]
            raise PowerError(f"{title} ended with {done.returncode}: {said or 'it said nothing'}")
        return done.stdout.decode(errors="backslashreplace")
