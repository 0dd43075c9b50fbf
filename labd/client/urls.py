"""The URLs of a lab: with commas between them, several labds on one database are one lab."""

import random
import socket
import threading

from labd.client.errors import LabError

CONNECT_S = 2.0
"""How long one of several labds may take to accept a connection before the next one is asked."""
SILENT_S = 4
"""A labd that is silent for this long, its kernel too, is gone."""


def split(url: str) -> list[str]:
    """Each URL, without a slash at its end. Raises LabError when one is given twice, or only some have TLS."""
    urls = [one.strip().rstrip("/") for one in url.split(",")]
    for number, one in enumerate(urls):
        if one in urls[:number]:
            raise LabError(f"{one} is given twice in {url!r}")
    if len({one.lower().startswith("https:") for one in urls}) > 1:
        raise LabError(f"of {url!r}, some begin with https:// and some do not: the labds of one lab are alike")
    return urls


def key(url: str) -> str:
    """The same text for the same labds, in whatever order."""
    return ",".join(sorted(one.strip().rstrip("/") for one in url.split(",")))


def alike(url: str, other: str) -> bool:
    """Whether a labd is in both, which makes them the same lab."""
    return not set(key(url).split(",")).isdisjoint(key(other).split(","))


def silence_options(within_s: int = SILENT_S) -> list[tuple[int, int, int]]:
    """Options of sockets by which a machine that has vanished without a word is noticed ``within_s`` (tcp(7)).

    Who takes their time is not mistaken for one, as their kernel answers; unless they read nothing for as long.
    """
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    idle_s, probe_s = max(1, within_s // 2), max(1, within_s // 4)
    timing = {"TCP_KEEPIDLE": idle_s, "TCP_KEEPINTVL": probe_s, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": within_s * 1000}
    for name, value in timing.items():
        if hasattr(socket, name):  # not on every system
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


class Urls:
    """Which labd to ask: a random one, so that clients spread, and the same one for as long as it answers.

    ``in_order``: the first one. Threads share it.
    """

    def __init__(self, url: str, *, in_order: bool = False) -> None:
        self.all = split(url)
        self._lock = threading.Lock()
        self._current = self.all[0] if in_order else random.choice(self.all)  # noqa: S311 - spreads clients, no secret

    @property
    def current(self) -> str:
        """The labd to ask."""
        return self._current

    def leave(self, url: str) -> None:
        """That labd has not answered: the next one is asked from now on, if another thread has not seen to it."""
        with self._lock:
            if self._current == url:
                self._current = self.all[(self.all.index(url) + 1) % len(self.all)]
