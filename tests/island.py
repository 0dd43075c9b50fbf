"""A network namespace with cables to this machine, each of which can be pulled. Needs the right to make one (root)."""

import itertools
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

_made = itertools.count()


@dataclass(frozen=True)
class NetworkCable:
    """A pair of connected network devices; pulled, nothing gets through, and nobody is told."""

    device: str
    here: str
    """IP address at this machine's end."""
    there: str
    """At the island's."""

    def pull(self) -> None:
        """What is under way is lost."""
        _run("ip", "link", "set", self.device, "down")

    def plug_in(self) -> None:
        """Connections from before go on, where nobody has given them up."""
        _run("ip", "link", "set", self.device, "up")


class Island:
    """Lasts as long as the block; its name and addresses are this process' own."""

    def __init__(self, cables: int = 1) -> None:
        # Each has names of its own: the kernel takes its time to remove those of the last one.
        count = next(_made)
        place = os.getpid() + 64 * 64 * count
        net = f"10.{64 + place % 64}.{place // 64 % 256}"
        self.name = f"labd-{os.getpid()}-{count}"
        self.cables = [
            NetworkCable(f"l{os.getpid()}n{count}h{number}", f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}")
            for number in range(cables)
        ]

    def __enter__(self) -> "Island":
        _run("ip", "netns", "add", self.name)
        try:
            _run("ip", "-n", self.name, "link", "set", "lo", "up")
            for cable in self.cables:
                there = cable.device.replace("h", "t")
                _run("ip", "link", "add", cable.device, "type", "veth", "peer", "name", there, "netns", self.name)
                _run("ip", "address", "add", f"{cable.here}/30", "dev", cable.device)
                _run("ip", "link", "set", cable.device, "up")
                _run("ip", "-n", self.name, "address", "add", f"{cable.there}/30", "dev", there)
                _run("ip", "-n", self.name, "link", "set", there, "up")
        except BaseException:
            _run("ip", "netns", "del", self.name)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _run("ip", "netns", "del", self.name)

    @property
    def here(self) -> str:
        """IP address of this machine at the first cable."""
        return self.cables[0].here

    @property
    def there(self) -> str:
        """IP address of the island at the first cable."""
        return self.cables[0].there

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command in front of what runs on the island."""
        return ("ip", "netns", "exec", self.name)

    def cut_off(self, seconds: float) -> Callable[[], None]:
        """A blow that pulls the first cable for so long (s)."""

        def blow() -> None:
            self.cables[0].pull()
            time.sleep(seconds)
            self.cables[0].plug_in()

        return blow


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=10)
